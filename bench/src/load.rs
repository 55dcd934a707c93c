//! The Kafka loads: the same librdkafka client for every broker.

use std::{
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{
        BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer,
    },
};

use crate::{
    raw::topic,
    report,
    time::{Latencies, Stopwatch},
};

/// Bytes of one record's value where nothing else is said.
pub(crate) const RECORD_BYTES: usize = 1024;
/// How long one record may take before the run is given up.
const RECORD_DEADLINE: Duration = Duration::from_secs(30);
/// How long records are sent one at a time to a peer that is too slow for all of them.
const LATENCY_LIMIT: Duration = Duration::from_secs(15);
/// So many records go to one partition before the next has its turn, as a client's sticky partitioner does.
const RECORDS_IN_A_ROW: u64 = 256;
/// They go to as many partitions.
const RECORDS_PER_TRANSACTION: i32 = 10;

/// What is written or read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partitions: i32,
    /// Of a record's value.
    pub(crate) record_bytes: usize,
    pub(crate) acks: &'a str,
}

/// What a throughput run moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Throughput {
    pub(crate) megabytes: f64,
    pub(crate) seconds: f64,
}

impl Throughput {
    pub(crate) fn megabytes_per_second(self) -> f64 {
        self.megabytes / self.seconds
    }
}

/// Produces as fast as the client can for `seconds`; counts what was acknowledged.
pub(crate) fn produce(brokers: &str, shape: &Shape<'_>, seconds: f64) -> io::Result<Throughput> {
    let tuned = [
        ("linger.ms", "5"),
        ("batch.size", "262144"),
        ("batch.num.messages", "100000"),
        ("queue.buffering.max.kbytes", "65536"),
        ("queue.buffering.max.messages", "500000"),
    ];
    let producer: BaseProducer<Deliveries> = settings(brokers, shape.acks, &tuned)
        .create_with_context(Deliveries::default())
        .map_err(io::Error::other)?;
    let payload = topic::payload(shape.record_bytes);
    let partitions = u64::try_from(shape.partitions).map_err(io::Error::other)?;
    let started = Stopwatch::start();
    let mut sent: u64 = 0;
    while started.elapsed().as_secs_f64() < seconds {
        let partition = i32::try_from(sent / RECORDS_IN_A_ROW % partitions).unwrap_or_default();
        let record = BaseRecord::<(), [u8]>::to(shape.topic).partition(partition).payload(&payload);
        match producer.send(record) {
            Ok(()) => sent += 1,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(Duration::from_millis(1));
            }
            Err((error, _)) => return Err(io::Error::other(error)),
        }
        if sent.is_multiple_of(1024) {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(RECORD_DEADLINE).map_err(io::Error::other)?;
    let seconds = started.elapsed().as_secs_f64();
    producer.context().all_delivered(sent)?;
    Ok(Throughput { megabytes: megabytes_of(sent, shape.record_bytes), seconds })
}

/// Reads the topic from its beginning until `seconds` have passed or its end is reached.
pub(crate) fn consume(brokers: &str, shape: &Shape<'_>, seconds: f64) -> io::Result<Throughput> {
    read(brokers, shape, seconds, shape.partitions)
}

/// Reads what is written to the topic for `seconds`.
pub(crate) fn consume_tail(
    brokers: &str,
    shape: &Shape<'_>,
    seconds: f64,
) -> io::Result<Throughput> {
    read(brokers, shape, seconds, i32::MAX)
}

/// Until so many ends are reached, at most.
fn read(brokers: &str, shape: &Shape<'_>, seconds: f64, ends: i32) -> io::Result<Throughput> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench-consume")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.message.max.bytes", "1048576")
        .set("queued.max.messages.kbytes", "65536")
        .set("queued.min.messages", "100000")
        .set("check.crcs", "false")
        .create()
        .map_err(io::Error::other)?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..shape.partitions {
        assignment
            .add_partition_offset(shape.topic, partition, Offset::Beginning)
            .map_err(io::Error::other)?;
    }
    consumer.assign(&assignment).map_err(io::Error::other)?;
    let (mut records, mut ended) = (0, 0);
    let started = Stopwatch::start();
    while ended < ends && started.elapsed().as_secs_f64() < seconds {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(_)) => records += 1,
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(io::Error::other(error)),
            None => {}
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Throughput { megabytes: megabytes_of(records, shape.record_bytes), seconds })
}

/// One record in flight, acks=all: the time from send to acknowledgement.
pub(crate) fn one_in_flight(brokers: &str, topic: &str, records: u64) -> io::Result<Latencies> {
    let producer = threaded(brokers)?;
    let payload = topic::payload(RECORD_BYTES);
    let mut latencies = Latencies::default();
    let began = Stopwatch::start();
    while latencies.count() < records && began.elapsed() < LATENCY_LIMIT {
        let started = Stopwatch::start();
        send_and_wait(&producer, topic, &payload)?;
        latencies.push(started.elapsed());
    }
    Ok(latencies.warm())
}

/// One record in flight, acks=all: the time from send until a waiting consumer has it.
pub(crate) fn end_to_end(brokers: &str, topic: &str, records: u64) -> io::Result<Latencies> {
    let producer = threaded(brokers)?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "bench-end-to-end")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "500")
        .create()
        .map_err(io::Error::other)?;
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::End).map_err(io::Error::other)?;
    consumer.assign(&assignment).map_err(io::Error::other)?;
    // The first records only bring the consumer to the end of the log.
    let payload = topic::payload(RECORD_BYTES);
    let mut latencies = Latencies::default();
    let warmed = Stopwatch::start();
    loop {
        send_and_wait(&producer, topic, &payload)?;
        if consumer.poll(Duration::from_millis(200)).is_some() {
            break;
        }
        if warmed.elapsed() > RECORD_DEADLINE {
            return Err(io::Error::other("the consumer saw no record"));
        }
    }
    while consumer.poll(Duration::from_millis(200)).is_some() {}
    let began = Stopwatch::start();
    while latencies.count() < records && began.elapsed() < LATENCY_LIMIT {
        let started = Stopwatch::start();
        let record = BaseRecord::<(), [u8]>::to(topic).partition(0).payload(&payload);
        producer.send(record).map_err(|(error, _)| io::Error::other(error))?;
        match consumer.poll(RECORD_DEADLINE) {
            Some(Ok(_)) => latencies.push(started.elapsed()),
            Some(Err(error)) => return Err(io::Error::other(error)),
            None => return Err(io::Error::other("a record did not arrive")),
        }
    }
    Ok(latencies.warm())
}

/// Transactions of so many producers, of each one after the other: the time from a begin to its commit.
pub(crate) fn transactions(
    brokers: &str,
    shape: &Shape<'_>,
    producers: usize,
    seconds: f64,
) -> io::Result<(Latencies, Duration)> {
    thread::scope(|scope| {
        let running: Vec<_> = (0..producers)
            .map(|number| scope.spawn(move || transactions_of(number, brokers, shape, seconds)))
            .collect();
        let (mut all, mut longest) = (Latencies::default(), Duration::ZERO);
        for one in running {
            let (latencies, took) =
                one.join().map_err(|_panic| io::Error::other("a producer panicked"))??;
            all.extend(latencies);
            longest = longest.max(took);
        }
        Ok((all, longest))
    })
}

fn transactions_of(
    number: usize,
    brokers: &str,
    shape: &Shape<'_>,
    seconds: f64,
) -> io::Result<(Latencies, Duration)> {
    let id = format!("bench-{number}");
    let tuned = [("linger.ms", "0"), ("transactional.id", id.as_str())];
    let producer: ThreadedProducer<Deliveries> = settings(brokers, "all", &tuned)
        .create_with_context(Deliveries::default())
        .map_err(io::Error::other)?;
    let payload = topic::payload(shape.record_bytes);
    let mut latencies = Latencies::default();
    producer.init_transactions(RECORD_DEADLINE).map_err(io::Error::other)?;
    let started = Stopwatch::start();
    while started.elapsed().as_secs_f64() < seconds {
        let began = Stopwatch::start();
        producer.begin_transaction().map_err(io::Error::other)?;
        for number in 0..RECORDS_PER_TRANSACTION {
            let record = BaseRecord::<(), [u8]>::to(shape.topic)
                .partition(number % shape.partitions)
                .payload(&payload);
            producer.send(record).map_err(|(error, _)| io::Error::other(error))?;
        }
        producer.commit_transaction(RECORD_DEADLINE).map_err(io::Error::other)?;
        latencies.push(began.elapsed());
    }
    Ok((latencies, started.elapsed()))
}

fn send_and_wait(
    producer: &ThreadedProducer<Deliveries>,
    topic: &str,
    payload: &[u8],
) -> io::Result<()> {
    let before = producer.context().delivered();
    let record = BaseRecord::<(), [u8]>::to(topic).partition(0).payload(payload);
    producer.send(record).map_err(|(error, _)| io::Error::other(error))?;
    producer.context().wait_beyond(before)
}

/// A producer whose reports are served by a thread of its own, so that waiting for one costs no polling.
fn threaded(brokers: &str) -> io::Result<ThreadedProducer<Deliveries>> {
    settings(brokers, "all", &[("linger.ms", "0")])
        .create_with_context(Deliveries::default())
        .map_err(io::Error::other)
}

fn settings(brokers: &str, acks: &str, tuned: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("acks", acks)
        .set("socket.nagle.disable", "true")
        .set("topic.metadata.refresh.interval.ms", "-1");
    for (key, value) in tuned {
        config.set(*key, *value);
    }
    config
}

fn megabytes_of(records: u64, record_bytes: usize) -> f64 {
    report::megabytes(records * u64::try_from(record_bytes).unwrap_or_default())
}

/// Counts delivery reports.
#[derive(Debug, Default)]
struct Deliveries {
    counts: Mutex<Counts>,
    arrived: Condvar,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    delivered: u64,
    failed: u64,
}

impl Deliveries {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delivered(&self) -> u64 {
        self.counts().delivered
    }

    /// Until more than `before` records are delivered.
    fn wait_beyond(&self, before: u64) -> io::Result<()> {
        let waiting = |counts: &mut Counts| counts.delivered <= before && counts.failed == 0;
        let waited = self.arrived.wait_timeout_while(self.counts(), RECORD_DEADLINE, waiting);
        let counts = *waited.unwrap_or_else(PoisonError::into_inner).0;
        if counts.delivered > before {
            return Ok(());
        }
        Err(io::Error::other("a record was not acknowledged"))
    }

    fn all_delivered(&self, sent: u64) -> io::Result<()> {
        let Counts { delivered, failed } = *self.counts();
        if failed == 0 && delivered == sent {
            return Ok(());
        }
        Err(io::Error::other(format!("{failed} of {sent} records failed")))
    }
}

impl rdkafka::ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut counts = self.counts();
        match result {
            Ok(_) => counts.delivered += 1,
            Err(_) => counts.failed += 1,
        }
        self.arrived.notify_one();
    }
}
