//! Transactions: rows, events and consumed offsets of one batch, all or nothing.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use super::{Cluster, Quiet, restore::Restore};
use crate::{
    Outgoing, Row, Tables, View,
    clock::monotonic,
    commit::{Batch, Broken, Log, NotOpen, Patience},
    failpoint,
    row::Counter,
};

/// The header that names the command of a record.
pub(super) const COMMAND_ID: &str = "command-id";
/// From the first record to the broker's word that all are there.
const DELIVERY: Duration = Duration::from_secs(2);
/// The broker's decision after that.
const DECISION: Duration = Duration::from_millis(1200);
/// Opening again while callers wait. The three together stay below five seconds.
const OPENING_WITH_CALLERS: Duration = Duration::from_millis(1500);
/// Opening while nobody waits, and then reading what may be much.
const OPENING: Duration = Duration::from_secs(5);
const READING: Duration = Duration::from_mins(10);
/// Between two looks whether librdkafka let go of what was delivered.
const LET_GO: Duration = Duration::from_micros(20);
/// How often the poller looks whether it is still wanted.
const POLL: Duration = Duration::from_millis(20);

/// The writer's log in Kafka.
pub(crate) struct KafkaLog {
    cluster: Cluster,
    tables: Tables,
    view: View,
    live: Option<Live>,
}

impl KafkaLog {
    pub(crate) fn new(cluster: Cluster, tables: Tables, view: View) -> Self {
        Self { cluster, tables, view, live: None }
    }

    /// Produces everything; whether the broker has it all.
    fn deliver(&self, live: &Live, batch: &Batch) -> Result<HashMap<String, i64>, Trouble> {
        live.producer.context().lock().begin();
        for (id, changes) in &batch.planned {
            if changes.is_empty() {
                continue;
            }
            for ((table, key), stored) in &changes.rows {
                let value = stored.as_ref().map(|stored| stored.value.as_slice());
                self.row(live, id, (table, key, value))?;
            }
            if changes.rows.is_empty() {
                // So that the tables alone tell of every command: a deletion of nothing.
                self.row(live, id, (Counter::TABLE, "\0command", None))?;
            }
            for record in &changes.records {
                live.send(&record.topic, None, record, id)?;
            }
        }
        failpoint::hit("produce");
        live.delivered(monotonic() + DELIVERY)
    }

    fn row(&self, live: &Live, id: &str, row: (&str, &str, Option<&[u8]>)) -> Result<(), Trouble> {
        let (table, key, value) = row;
        let topic = self.cluster.table_topic(table);
        let record = Outgoing {
            topic: String::new(),
            key: Some(key.as_bytes().to_vec()),
            value: value.map(<[u8]>::to_vec),
            headers: Vec::new(),
        };
        live.send(&topic, Some(0), &record, id)
    }

    fn transact(&self, live: &Live, batch: &Batch) -> Result<HashMap<String, i64>, Trouble> {
        let began = monotonic();
        live.producer.begin_transaction().map_err(Trouble::Kafka)?;
        let positions = self.deliver(live, batch)?;
        let delivered = began.elapsed();
        for consumed in &batch.consumed {
            let mut offsets = TopicPartitionList::new();
            for (topic, partition, next) in &consumed.next {
                offsets
                    .add_partition_offset(topic, *partition, Offset::Offset(*next))
                    .map_err(Trouble::Kafka)?;
            }
            live.producer
                .send_offsets_to_transaction(&offsets, &consumed.group, DECISION)
                .map_err(Trouble::Kafka)?;
        }
        failpoint::hit("commit");
        live.wait_for_empty_queue();
        live.producer.commit_transaction(DECISION).map_err(Trouble::Decision)?;
        tracing::trace!(
            commands = batch.planned.len(),
            ?delivered,
            committed = ?began.elapsed(),
            "transaction"
        );
        Ok(positions)
    }

    /// What a failure leaves behind, after an abort where one is possible.
    fn broken(live: &Live, trouble: &Trouble) -> Broken {
        match trouble {
            Trouble::Kafka(error) | Trouble::Decision(error) if is_fenced(error) => Broken::Fenced,
            Trouble::Decision(error) if !requires_abort(error) => Broken::Unknown,
            Trouble::Late => Broken::Closed,
            Trouble::Kafka(_) | Trouble::Decision(_) => {
                match live.producer.abort_transaction(DECISION) {
                    Ok(()) => Broken::Aborted,
                    Err(error) if is_fenced(&error) => Broken::Fenced,
                    Err(error) => {
                        tracing::debug!(%error, "abort failed");
                        Broken::Closed
                    }
                }
            }
        }
    }
}

impl Log for KafkaLog {
    fn commit(&mut self, batch: &Batch) -> Result<Vec<(String, i64)>, Broken> {
        let Some(live) = &self.live else { return Err(Broken::Closed) };
        let trouble = match self.transact(live, batch) {
            Ok(positions) => return Ok(self.positions(positions)),
            Err(trouble) => trouble,
        };
        let broken = Self::broken(live, &trouble);
        tracing::info!(?trouble, ?broken, "transaction not committed");
        if broken != Broken::Aborted {
            self.live = None;
        }
        Err(broken)
    }

    fn open(
        &mut self,
        asked: &HashSet<String>,
        patience: Patience,
    ) -> Result<HashSet<String>, NotOpen> {
        let now = monotonic();
        let (opening, reading) = match patience {
            Patience::Callers => (OPENING_WITH_CALLERS, now + OPENING_WITH_CALLERS),
            Patience::Nobody => (OPENING, now + READING),
        };
        self.live = None;
        let live = Live::open(&self.cluster, opening)?;
        let restore = Restore {
            cluster: &self.cluster,
            tables: &self.tables,
            view: &self.view,
            asked,
            deadline: reading,
        };
        let found = restore.run()?;
        self.live = Some(live);
        Ok(found)
    }

    fn close(&mut self) {
        self.live = None;
    }
}

impl KafkaLog {
    /// Of each table, the position behind the last row.
    fn positions(&self, topics: HashMap<String, i64>) -> Vec<(String, i64)> {
        let prefix = self.cluster.table_topic("");
        topics
            .into_iter()
            .filter_map(|(topic, next)| {
                let table = topic.strip_prefix(&prefix)?;
                self.tables.find(table).map(|table| (table.name.to_owned(), next))
            })
            .collect()
    }
}

/// Why a transaction was not committed.
#[derive(Debug)]
enum Trouble {
    /// Before the decision was asked for.
    Kafka(KafkaError),
    /// The broker did not take all records in time.
    Late,
    /// While the broker decided.
    Decision(KafkaError),
}

fn is_fenced(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(
            RDKafkaErrorCode::Fenced
                | RDKafkaErrorCode::ProducerFenced
                | RDKafkaErrorCode::InvalidProducerEpoch
        )
    )
}

fn requires_abort(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(error) if error.txn_requires_abort())
}

fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::Transaction(error) => Some(error.code()),
        other => other.rdkafka_error_code(),
    }
}

/// A producer with a transactional id that nobody else has taken since.
struct Live {
    producer: Arc<BaseProducer<Deliveries>>,
    poller: Option<JoinHandle<()>>,
}

impl Live {
    fn open(cluster: &Cluster, within: Duration) -> Result<Self, NotOpen> {
        let unreachable = |error: KafkaError| {
            tracing::debug!(%error, "transactions cannot be initialised yet");
            NotOpen::Unreachable
        };
        let context = Deliveries::default();
        let producer: BaseProducer<Deliveries> =
            cluster.producer().create_with_context(context).map_err(unreachable)?;
        let producer = Arc::new(producer);
        // So that neither the search for the coordinator nor the first record for a topic waits for a timer's tick.
        producer.client().fetch_metadata(None, within).map_err(unreachable)?;
        producer.init_transactions(within).map_err(unreachable)?;
        let for_poller = Arc::clone(&producer);
        let poller = std::thread::Builder::new()
            .name(format!("{}-poll", cluster.service()))
            .spawn(move || poll(&for_poller))
            .map_err(|error| NotOpen::Unusable(format!("no thread: {error}")))?;
        Ok(Self { producer, poller: Some(poller) })
    }

    fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: &Outgoing,
        id: &str,
    ) -> Result<(), Trouble> {
        let mut headers =
            OwnedHeaders::new().insert(Header { key: COMMAND_ID, value: Some(id.as_bytes()) });
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut outgoing: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).headers(headers);
        if let Some(partition) = partition {
            outgoing = outgoing.partition(partition);
        }
        if let Some(key) = &record.key {
            outgoing = outgoing.key(key);
        }
        if let Some(value) = &record.value {
            outgoing = outgoing.payload(value);
        }
        let context = self.producer.context();
        context.lock().pending += 1;
        context.changed.notify_all();
        self.producer.send(outgoing).map_err(|(error, _)| {
            context.lock().pending -= 1;
            Trouble::Kafka(error)
        })
    }

    /// Waits for the broker's word on every record; gives, per topic, the offset behind the last.
    fn delivered(&self, deadline: Instant) -> Result<HashMap<String, i64>, Trouble> {
        let context = self.producer.context();
        let mut state = context.lock();
        while state.pending > 0 && state.failed.is_none() {
            let left = deadline.saturating_duration_since(monotonic());
            if left.is_zero() {
                return Err(Trouble::Late);
            }
            let waited = context.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        match state.failed.take() {
            Some(error) => Err(Trouble::Kafka(error)),
            None => Ok(std::mem::take(&mut state.next)),
        }
    }
}

impl Live {
    /// A report is counted a moment before librdkafka lets go of its message, and rdkafka's commit, if it comes in
    /// between, sleeps for a tenth of a second.
    fn wait_for_empty_queue(&self) {
        let until = monotonic() + POLL;
        while self.producer.in_flight_count() > 0 && monotonic() < until {
            std::thread::sleep(LET_GO);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let context = self.producer.context();
        context.lock().ended = true;
        context.changed.notify_all();
        if let Some(poller) = self.poller.take()
            && poller.join().is_err()
        {
            tracing::error!("the poller of a producer panicked");
        }
    }
}

/// Serves delivery reports as they come, and sleeps between transactions.
fn poll(producer: &BaseProducer<Deliveries>) {
    let context = producer.context();
    loop {
        {
            let mut state = context.lock();
            while state.pending == 0 && !state.ended {
                state = context.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.ended {
                return;
            }
        }
        producer.poll(POLL);
    }
}

/// What became of the records of the transaction at hand.
#[derive(Debug, Default)]
struct Deliveries {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: usize,
    failed: Option<KafkaError>,
    next: HashMap<String, i64>,
    ended: bool,
}

impl State {
    fn begin(&mut self) {
        self.pending = 0;
        self.failed = None;
        self.next.clear();
    }
}

impl Deliveries {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Quiet.error(error, reason);
    }

    fn stats(&self, _: Statistics) {}
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        let mut state = self.lock();
        state.pending = state.pending.saturating_sub(1);
        match delivery {
            Ok(message) => {
                let next = message.offset() + 1;
                match state.next.get_mut(message.topic()) {
                    Some(known) => *known = next.max(*known),
                    None => {
                        state.next.insert(message.topic().to_owned(), next);
                    }
                }
            }
            Err((error, _)) => state.failed = Some(error.clone()),
        }
        if state.pending == 0 || state.failed.is_some() {
            self.changed.notify_all();
        }
    }
}
