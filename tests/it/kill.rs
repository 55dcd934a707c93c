//! SIGKILL under load, many times: what was acknowledged is there, with the same offset and bytes.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseProducer, BaseRecord, Producer, ProducerContext},
};

use crate::harness::{Appliance, now};

/// How many times the process is killed.
const KILLS: usize = 100;
const PARTITIONS: i32 = 4;
const DEADLINE: Duration = Duration::from_mins(1);

/// An acknowledged record: where it was said to be, and what it was.
#[derive(Debug, Default)]
struct Acknowledged {
    records: Mutex<Vec<(i32, i64, Vec<u8>)>>,
    count: AtomicU64,
    failed: Mutex<Vec<String>>,
}

#[derive(Clone)]
struct Deliveries(Arc<Acknowledged>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(message) => {
                let value = message.payload().unwrap_or_default().to_vec();
                self.0.records.lock().unwrap().push((message.partition(), message.offset(), value));
                self.0.count.fetch_add(1, Ordering::AcqRel);
            }
            Err((error, _)) => self.0.failed.lock().unwrap().push(error.to_string()),
        }
    }
}

/// One producer that goes on through every kill, on a topic of its own.
struct Load {
    topic: &'static str,
    idempotent: bool,
    acknowledged: Arc<Acknowledged>,
}

impl Load {
    fn new(topic: &'static str, idempotent: bool) -> Self {
        Self { topic, idempotent, acknowledged: Arc::default() }
    }

    fn count(&self) -> u64 {
        self.acknowledged.count.load(Ordering::Acquire)
    }

    fn produce(&self, brokers: &str, acks: &str, stop: &AtomicBool) {
        let producer: BaseProducer<Deliveries> = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("acks", acks)
            .set("enable.idempotence", if self.idempotent { "true" } else { "false" })
            .set("linger.ms", "1")
            .set("reconnect.backoff.ms", "10")
            .set("reconnect.backoff.max.ms", "50")
            .set("retry.backoff.ms", "10")
            .set("retry.backoff.max.ms", "50")
            .set("message.timeout.ms", "120000")
            .set("queue.buffering.max.messages", "1000")
            .create_with_context(Deliveries(Arc::clone(&self.acknowledged)))
            .unwrap();
        let mut number: u64 = 0;
        while !stop.load(Ordering::Acquire) {
            let value = format!(
                "{}-{number}-{}",
                self.topic,
                "x".repeat(usize::try_from(number % 700).unwrap())
            );
            let partition = i32::try_from(number % 4).unwrap();
            match producer
                .send(BaseRecord::<(), str>::to(self.topic).partition(partition).payload(&value))
            {
                Ok(()) => number += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    producer.poll(Duration::from_millis(2));
                }
                Err((error, _)) => panic!("{}: {error}", self.topic),
            }
            producer.poll(Duration::ZERO);
        }
        producer.flush(DEADLINE).unwrap();
    }

    /// Every acknowledged record is where it was said to be; no offset was given twice; an idempotent producer left no duplicate.
    fn check(&self, brokers: &str) {
        let failed = self.acknowledged.failed.lock().unwrap();
        assert!(failed.is_empty(), "{}: not delivered: {failed:?}", self.topic);
        let log = read_all(brokers, self.topic);
        let mut given: HashMap<(i32, i64), Vec<u8>> = HashMap::new();
        for (partition, offset, value) in self.acknowledged.records.lock().unwrap().drain(..) {
            assert_eq!(
                log.get(&(partition, offset)).map(|found| String::from_utf8_lossy(found)),
                Some(String::from_utf8_lossy(&value)),
                "{} {partition} at {offset}: acknowledged, but not there",
                self.topic
            );
            let before = given.insert((partition, offset), value);
            assert!(
                before.is_none(),
                "{} {partition}: offset {offset} was given twice",
                self.topic
            );
        }
        if self.idempotent {
            let distinct: HashSet<&Vec<u8>> = log.values().collect();
            assert_eq!(
                distinct.len(),
                log.len(),
                "{}: duplicates of an idempotent producer",
                self.topic
            );
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_hundred_kills() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut ottla = runtime.block_on(Appliance::start());
    let brokers = ottla.brokers();
    let loads = [
        (Load::new("kill-acks-1", false), "1"),
        (Load::new("kill-acks-all", false), "all"),
        (Load::new("kill-idempotent", true), "all"),
    ];
    for (load, _) in &loads {
        runtime.block_on(create_topic(&brokers, load.topic));
    }
    let stop = AtomicBool::new(false);
    let mut random = 7_u64;
    let mut ready_after = Vec::new();
    thread::scope(|scope| {
        for (load, acks) in &loads {
            scope.spawn(|| load.produce(&brokers, acks, &stop));
        }
        for _ in 0..KILLS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let more = (random >> 33) % 400 + 20;
            let targets: Vec<u64> = loads.iter().map(|(load, _)| load.count() + more).collect();
            let waiting = now();
            while loads.iter().zip(&targets).any(|((load, _), target)| load.count() < *target) {
                assert!(waiting.elapsed() < DEADLINE, "the producers got no further");
                thread::yield_now();
            }
            ottla.kill();
            let started = now();
            runtime.block_on(ottla.restart());
            ready_after.push(started.elapsed());
        }
        stop.store(true, Ordering::Release);
    });
    for (load, _) in &loads {
        load.check(&brokers);
    }
    ready_after.sort();
    eprintln!(
        "ready after a kill: median {:?}, slowest {:?}",
        ready_after[KILLS / 2],
        ready_after[KILLS - 1]
    );
}

async fn create_topic(brokers: &str, topic: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
    let created = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
    assert_eq!(created, [Ok(topic.to_owned())]);
}

/// The whole topic by partition and offset.
fn read_all(brokers: &str, topic: &str) -> BTreeMap<(i32, i64), Vec<u8>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "kill-check")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let (mut log, mut ended) = (BTreeMap::new(), 0);
    let started = now();
    while ended < PARTITIONS {
        assert!(started.elapsed() < DEADLINE, "{topic} has no end");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let value = message.payload().unwrap().to_vec();
                let before = log.insert((message.partition(), message.offset()), value);
                assert!(before.is_none(), "{topic}: an offset was read twice");
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => panic!("{topic}: {error}"),
            None => {}
        }
    }
    log
}
