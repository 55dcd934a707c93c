//! The Kafka loads: the same librdkafka client for every broker.

use std::{
    io,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{
        BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer,
    },
};

use crate::time::{Latencies, Stopwatch};

/// Partitions of the topic that the throughput loads use.
pub(crate) const PARTITIONS: i32 = 16;
/// Bytes of one record's value.
pub(crate) const RECORD_BYTES: usize = 1024;
/// How long one record may take before the run is given up.
const RECORD_DEADLINE: Duration = Duration::from_secs(30);

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

/// Waits until the broker acknowledges a first record.
pub(crate) fn first_record(brokers: &str, deadline: Duration) -> io::Result<()> {
    let producer = producer(
        brokers,
        "all",
        &[
            ("reconnect.backoff.ms", "10"),
            ("reconnect.backoff.max.ms", "20"),
            ("topic.metadata.refresh.fast.interval.ms", "10"),
        ],
    )?;
    let sent = Stopwatch::start();
    while sent.elapsed() < deadline {
        let before = producer.context().delivered();
        let record = BaseRecord::<(), [u8]>::to("bench-first").payload(b"first");
        if producer.send(record).is_ok() {
            let waiting = Stopwatch::start();
            while waiting.elapsed() < Duration::from_secs(5) {
                producer.poll(Duration::from_millis(1));
                if producer.context().delivered() > before {
                    return Ok(());
                }
            }
        }
    }
    Err(io::Error::other("the broker accepted no record within its start-up time"))
}

/// Creates `topic`, with one replica.
pub(crate) fn create_topic(
    runtime: &tokio::runtime::Runtime,
    brokers: &str,
    topic: &str,
    partitions: i32,
) -> io::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().map_err(io::Error::other)?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    runtime
        .block_on(admin.create_topics([&new], &AdminOptions::new()))
        .map_err(io::Error::other)?
        .into_iter()
        .try_for_each(|result| result.map(drop))
        .map_err(|(topic, code)| io::Error::other(format!("create {topic}: {code}")))
}

/// Produces as fast as the client can for `seconds`; counts what was acknowledged.
pub(crate) fn produce(
    brokers: &str,
    topic: &str,
    acks: &str,
    seconds: f64,
) -> io::Result<Throughput> {
    let tuned = [
        ("linger.ms", "5"),
        ("batch.size", "262144"),
        ("batch.num.messages", "100000"),
        ("queue.buffering.max.kbytes", "65536"),
        ("queue.buffering.max.messages", "100000"),
    ];
    let producer = producer(brokers, acks, &tuned)?;
    let payload = payload();
    let started = Stopwatch::start();
    let mut sent: u64 = 0;
    while started.elapsed().as_secs_f64() < seconds {
        let partition = i32::try_from(sent / 256 % 16).unwrap_or_default();
        let record = BaseRecord::<(), [u8]>::to(topic).partition(partition).payload(&payload);
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
    Ok(Throughput { megabytes: megabytes(sent), seconds })
}

/// Reads `topic` from its beginning until `seconds` have passed or its end is reached.
pub(crate) fn consume(brokers: &str, topic: &str, seconds: f64) -> io::Result<Throughput> {
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
    for partition in 0..PARTITIONS {
        assignment
            .add_partition_offset(topic, partition, Offset::Beginning)
            .map_err(io::Error::other)?;
    }
    consumer.assign(&assignment).map_err(io::Error::other)?;
    let (mut bytes, mut ended) = (0_usize, 0);
    let started = Stopwatch::start();
    while ended < PARTITIONS && started.elapsed().as_secs_f64() < seconds {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => bytes += message.payload_len(),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(io::Error::other(error)),
            None => {}
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Throughput {
        megabytes: megabytes(u64::try_from(bytes / RECORD_BYTES).unwrap_or(0)),
        seconds,
    })
}

/// One record in flight, acks=all: the time from send to acknowledgement.
pub(crate) fn one_in_flight(brokers: &str, topic: &str, records: u64) -> io::Result<Latencies> {
    let producer = threaded(brokers)?;
    let payload = payload();
    let mut latencies = Latencies::default();
    for number in 0..records + 200 {
        let started = Stopwatch::start();
        send_and_wait(&producer, topic, &payload)?;
        if number >= 200 {
            latencies.push(started.elapsed());
        }
    }
    Ok(latencies)
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
    let payload = payload();
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
    for number in 0..records + 200 {
        let started = Stopwatch::start();
        let record = BaseRecord::<(), [u8]>::to(topic).partition(0).payload(&payload);
        producer.send(record).map_err(|(error, _)| io::Error::other(error))?;
        match consumer.poll(RECORD_DEADLINE) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(io::Error::other(error)),
            None => return Err(io::Error::other("a record did not arrive")),
        }
        if number >= 200 {
            latencies.push(started.elapsed());
        }
    }
    Ok(latencies)
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

fn producer(
    brokers: &str,
    acks: &str,
    tuned: &[(&str, &str)],
) -> io::Result<BaseProducer<Deliveries>> {
    settings(brokers, acks, tuned)
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

/// Bytes that no codec and no file system makes smaller.
fn payload() -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        u8::try_from(state & 0xff).unwrap_or_default()
    };
    (0..RECORD_BYTES).map(|_| next()).collect()
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "megabytes for a table")]
pub(crate) fn megabytes(records: u64) -> f64 {
    records as f64 * 1024.0 / 1e6
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
