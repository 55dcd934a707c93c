//! Which instance of a service is the active one: the member of `__<service>.owner` that has the table's partition.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientContext, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance, StreamConsumer},
    error::KafkaError,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Row, Tables,
    kafka::{Cluster, Quiet, RETRY_PAUSE},
    row::Counter,
};

/// What the group last said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Nothing yet, or nothing that still counts: the group's coordinator is out of reach.
    Unknown,
    /// The table is ours; the number tells one assignment from the next.
    Ours(u64),
    /// Another instance has it.
    Others,
}

/// A member of the owners' group.
#[derive(Debug)]
pub(crate) struct Owner {
    cluster: Cluster,
    tables: Tables,
    ownership: Arc<watch::Sender<Ownership>>,
    rejoin: Arc<Notify>,
    stop: CancellationToken,
}

impl Owner {
    pub(crate) fn new(
        cluster: Cluster,
        tables: Tables,
        stop: CancellationToken,
    ) -> (Self, watch::Receiver<Ownership>) {
        let (ownership, watching) = watch::channel(Ownership::Unknown);
        let rejoin = Arc::default();
        (Self { cluster, tables, ownership: Arc::new(ownership), rejoin, stop }, watching)
    }

    /// Notified by a writer that was fenced: it waits to be assigned again.
    pub(crate) fn rejoin(&self) -> Arc<Notify> {
        Arc::clone(&self.rejoin)
    }

    /// Creates the tables, then is a member of the group until the service stops.
    pub(crate) async fn run(self) {
        let work = async {
            while let Err(error) = self.cluster.create_tables(&self.tables).await {
                tracing::debug!(%error, "tables cannot be created yet");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            loop {
                if let Err(error) = self.be_member().await {
                    tracing::debug!(%error, "the owners' group cannot be joined");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                self.ownership.send_replace(Ownership::Unknown);
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = work => {}
        }
    }

    async fn be_member(&self) -> Result<(), KafkaError> {
        let context = Membership {
            ownership: Arc::clone(&self.ownership),
            service: self.cluster.service(),
            stop: self.stop.clone(),
        };
        let consumer: StreamConsumer<Membership> =
            self.cluster.owner().create_with_context(context)?;
        consumer.subscribe(&[&self.cluster.table_topic(Counter::TABLE)])?;
        let stale = stays_unknown(self.ownership.subscribe());
        tokio::pin!(stale);
        loop {
            tokio::select! {
                () = self.rejoin.notified() => return Ok(()),
                () = &mut stale => return Ok(()),
                // The partition is paused: what comes here are errors, and librdkafka recovers from most.
                received = consumer.recv() => match received {
                    Err(error @ KafkaError::MessageConsumptionFatal(_)) => return Err(error),
                    Ok(_) | Err(_) => tokio::task::yield_now().await,
                }
            }
        }
    }
}

/// A membership that leads to nothing for this long is begun anew.
const UNKNOWN_AT_MOST: Duration = Duration::from_secs(10);

async fn stays_unknown(mut ownership: watch::Receiver<Ownership>) {
    loop {
        if *ownership.borrow_and_update() == Ownership::Unknown {
            let known = ownership.wait_for(|ownership| *ownership != Ownership::Unknown);
            if tokio::time::timeout(UNKNOWN_AT_MOST, known).await.is_err() {
                return;
            }
        }
        if ownership.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Hears of assignments.
struct Membership {
    ownership: Arc<watch::Sender<Ownership>>,
    service: &'static str,
    stop: CancellationToken,
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }

    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for Membership {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(partitions) if partitions.count() > 0 => {
                let lost = consumer.assignment_lost();
                if !self.stop.is_cancelled() {
                    tracing::info!(service = self.service, lost, "the table is not ours any more");
                }
                let ownership = if lost { Ownership::Unknown } else { Ownership::Others };
                self.ownership.send_replace(ownership);
            }
            Rebalance::Revoke(_) | Rebalance::Assign(_) | Rebalance::Error(_) => {}
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(partitions) = rebalance else { return };
        if partitions.count() > 0 {
            self.assigned(consumer, partitions);
        } else {
            // Nothing new: either another instance has the table, or it stays ours.
            self.ownership.send_if_modified(|ownership| {
                let others = *ownership == Ownership::Unknown;
                if others {
                    *ownership = Ownership::Others;
                }
                others
            });
        }
    }
}

impl Membership {
    fn assigned(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        // Only the assignment is of interest; the writer reads the tables itself.
        if let Err(error) = consumer.pause(partitions) {
            tracing::debug!(%error, "the owners' partition is not paused");
        }
        tracing::debug!(service = self.service, "the table is ours");
        self.ownership.send_modify(|ownership| {
            *ownership = Ownership::Ours(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        });
    }
}

static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
