//! Consumed records as commands: their offsets are committed with what they caused.

mod record;

use std::{
    collections::BTreeMap, convert::Infallible, error::Error, future::Future, sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, StreamExt};
use rdkafka::{
    consumer::{Consumer, ConsumerGroupMetadata, StreamConsumer},
    error::KafkaError,
};
use tokio::task::JoinSet;

pub use record::Record;

use crate::{
    Commit, ServiceContext, StartError, Status,
    commit::Consumed,
    http::trace,
    kafka::{Cluster, Quiet, RETRY_PAUSE},
    tx::Tx,
};

/// Records that share one transaction at most.
const RECORDS_AT_ONCE: usize = 64;
/// Between attempts to prepare a record.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a record could not be prepared.
#[derive(Debug)]
pub enum Trouble {
    /// Something outside is not there: tried again with backoff, as long as it takes.
    Retry(Box<dyn Error + Send + Sync>),
    /// It can never be processed: goes to `<topic>.dlq` with this reason in the header `reason`.
    Poison(String),
}

/// What a service does with the records of its topics.
pub trait Handler: Send + Sync + 'static {
    /// What `prepare` found out.
    type Prepared: Send + Sync + 'static;

    /// Outside the transaction: decoding, and questions to other services.
    fn prepare(
        &self,
        record: &Record,
    ) -> impl Future<Output = Result<Self::Prepared, Trouble>> + Send;

    /// Inside the transaction that commits the record's offset. May run twice.
    fn apply(&self, tx: &mut Tx<'_>, record: &Record, prepared: &Self::Prepared);

    /// What records were applied stands in the view now.
    fn committed(&self) {}
}

/// A group's subscription.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub group: String,
    pub topics: Vec<&'static str>,
}

/// Consumes while the service is serving, until `context.stop`. Makes the dead-letter topics first.
pub fn spawn<H: Handler>(
    tasks: &mut JoinSet<()>,
    context: &ServiceContext,
    commit: Commit,
    subscription: Subscription,
    handler: Arc<H>,
) -> Result<(), StartError> {
    let cluster = Cluster::new(context)
        .map_err(|cause| StartError::Io { path: context.data_dir.display().to_string(), cause })?;
    let worker = Worker { cluster, commit, subscription, handler };
    let stop = context.stop.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = worker.run() => {}
        }
    });
    Ok(())
}

struct Worker<H> {
    cluster: Cluster,
    commit: Commit,
    subscription: Subscription,
    handler: Arc<H>,
}

/// Why consuming stopped and has to begin again from the committed offsets.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("the service is not the active one")]
    NotServing,
    #[error("the offsets were not committed")]
    NotCommitted,
}

impl<H: Handler> Worker<H> {
    /// Never returns; a new consumer after each interruption.
    async fn run(self) {
        while let Err(error) = self.cluster.create_dead_letters(&self.subscription.topics).await {
            tracing::debug!(%error, "dead-letter topics cannot be created yet");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        let mut status = self.commit.status();
        loop {
            if status.wait_for(Status::is_ready).await.is_err() {
                return std::future::pending().await;
            }
            let Err(error) = self.consume().await;
            tracing::debug!(%error, group = self.subscription.group, "consumes again");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn consume(&self) -> Result<Infallible, Interrupted> {
        let config = self.cluster.member(&self.subscription.group);
        let consumer: StreamConsumer<Quiet> = config.create_with_context(Quiet)?;
        consumer.subscribe(&self.subscription.topics)?;
        let mut status = self.commit.status();
        let mut stream = consumer.stream();
        loop {
            let first = tokio::select! {
                next = stream.next() => match next {
                    Some(Ok(message)) => Record::from(&message),
                    Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                        return Err(KafkaError::MessageConsumptionFatal(code).into());
                    }
                    // librdkafka recovers from the others by itself.
                    Some(Err(_)) | None => continue,
                },
                changed = status.wait_for(|status| !status.is_ready()) => {
                    drop(changed);
                    return Err(Interrupted::NotServing);
                }
            };
            // As of the first record: a rebalance after it makes the broker refuse these offsets.
            let group = Arc::new(consumer.group_metadata().ok_or(Interrupted::NotCommitted)?);
            let mut records = vec![first];
            while records.len() < RECORDS_AT_ONCE
                && let Some(Some(Ok(message))) = stream.next().now_or_never()
            {
                records.push(Record::from(&message));
            }
            self.process(records, &group).await?;
        }
    }

    /// Prepares record after record; those that are ready are committed before one that has to wait.
    async fn process(
        &self,
        records: Vec<Record>,
        group: &Arc<ConsumerGroupMetadata>,
    ) -> Result<(), Interrupted> {
        let mut ready = Vec::new();
        for record in records {
            if let Some(reason) = record.too_large() {
                ready.push((record, Err(reason)));
                continue;
            }
            let mut pause = FIRST_PAUSE;
            loop {
                let cause = record.cause();
                match trace::caused_by(cause, self.handler.prepare(&record)).await {
                    Ok(prepared) => break ready.push((record, Ok(prepared))),
                    Err(Trouble::Poison(reason)) => break ready.push((record, Err(reason))),
                    Err(Trouble::Retry(error)) => {
                        let (topic, offset) = (&record.topic, record.offset);
                        if pause < LONGEST_PAUSE {
                            tracing::debug!(%error, topic, offset, "tried again");
                        } else {
                            tracing::warn!(%error, topic, offset, "a record waits for a long time");
                        }
                        self.commit(std::mem::take(&mut ready), group).await?;
                        self.wait(pause).await?;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            }
        }
        self.commit(ready, group).await
    }

    /// A pause that ends early when the service is not serving any more.
    async fn wait(&self, pause: Duration) -> Result<(), Interrupted> {
        let mut status = self.commit.status();
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            _ = status.wait_for(|status| !status.is_ready()) => Err(Interrupted::NotServing),
        }
    }

    /// One command for all of them: what they cause and their offsets.
    async fn commit(
        &self,
        ready: Vec<(Record, Result<H::Prepared, String>)>,
        group: &Arc<ConsumerGroupMetadata>,
    ) -> Result<(), Interrupted> {
        if ready.is_empty() {
            return Ok(());
        }
        let consumed = Consumed { group: Arc::clone(group), next: positions(&ready) };
        let (handler, dead_by) = (Arc::clone(&self.handler), self.subscription.group.clone());
        let command = move |tx: &mut Tx<'_>| {
            for (record, prepared) in &ready {
                tx.caused_by(record.cause());
                match prepared {
                    Ok(prepared) => handler.apply(tx, record, prepared),
                    Err(reason) => tx.push(record.dead_letter(reason, &dead_by)),
                }
            }
            Ok::<_, Infallible>(())
        };
        match self.commit.submit(command, Some(consumed)).await {
            Ok(()) => {
                self.handler.committed();
                Ok(())
            }
            Err(_) => Err(Interrupted::NotCommitted),
        }
    }
}

/// Of each partition, the offset behind its last record.
fn positions<P>(ready: &[(Record, P)]) -> Vec<(String, i32, i64)> {
    let mut next = BTreeMap::new();
    for (record, _) in ready {
        next.insert((record.topic.clone(), record.partition), record.offset + 1);
    }
    next.into_iter().map(|((topic, partition), next)| (topic, partition, next)).collect()
}
