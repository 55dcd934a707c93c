//! Kafka, as the writer and the workers use it: small clients with names of their own.

mod log;
mod restore;
mod topics;

use std::{fs, io, path::Path, time::Duration};

use rdkafka::{
    ClientConfig, ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext,
    error::KafkaError,
};

pub(crate) use log::KafkaLog;

use crate::{Secret, ServiceContext};

/// Between attempts to reach a broker.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// After so long without a heartbeat another instance is active. The least that Kafka allows by default.
const SESSION_TIMEOUT_MS: &str = "6000";
const HEARTBEAT_INTERVAL_MS: &str = "1000";
/// What a client keeps in memory of what it fetched.
const FETCHED_KBYTES: &str = "1024";

/// Where the brokers are and who this instance is.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    brokers: String,
    key: Option<Secret>,
    service: &'static str,
    instance: String,
}

impl Cluster {
    /// Reads the instance's id from the data directory, or makes one.
    pub(crate) fn new(context: &ServiceContext) -> io::Result<Self> {
        Ok(Self {
            brokers: context.brokers.clone(),
            key: context.broker_takes_key.then(|| context.service_key.clone()),
            service: context.service,
            instance: instance(&context.data_dir)?,
        })
    }

    pub(crate) fn service(&self) -> &'static str {
        self.service
    }

    pub(crate) fn table_topic(&self, table: &str) -> String {
        format!("__{}.{table}", self.service)
    }

    /// The one transactional producer.
    fn producer(&self) -> ClientConfig {
        let mut config = self.client("writer");
        config
            .set("transactional.id", format!("__{}.writer", self.service))
            .set("transaction.timeout.ms", "10000")
            .set("message.timeout.ms", "5000")
            .set("linger.ms", "0")
            .set("retry.backoff.ms", "5")
            .set("retry.backoff.max.ms", "200")
            .set("queue.buffering.max.messages", "20000")
            .set("queue.buffering.max.kbytes", "32768")
            // The partition that Java's clients choose for the same key.
            .set("partitioner", "murmur2_random");
        config
    }

    /// A member of the group that says who is active.
    pub(crate) fn owner(&self) -> ClientConfig {
        let mut config = self.member(&format!("__{}.owner", self.service));
        config.set("partition.assignment.strategy", "cooperative-sticky");
        config
    }

    /// A member of `group`: static, so that a restart does not rebalance.
    pub(crate) fn member(&self, group: &str) -> ClientConfig {
        let mut config = self.consumer(group);
        config
            .set("group.instance.id", format!("{}-{}", self.service, self.instance))
            .set("session.timeout.ms", SESSION_TIMEOUT_MS)
            .set("heartbeat.interval.ms", HEARTBEAT_INTERVAL_MS)
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "5000");
        config
    }

    /// A consumer that reads tables from where it is told.
    fn reader(&self) -> ClientConfig {
        let mut config = self.consumer(&format!("__{}.restore", self.service));
        config
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "10");
        config
    }

    fn consumer(&self, group: &str) -> ClientConfig {
        let mut config = self.client("reader");
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", FETCHED_KBYTES)
            .set("fetch.message.max.bytes", "1048576")
            .set("fetch.max.bytes", "4194304");
        config
    }

    fn client(&self, role: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", format!("ottla-{}-{role}", self.service))
            .set("socket.timeout.ms", "6000")
            .set("socket.connection.setup.timeout.ms", "3000")
            .set("socket.nagle.disable", "true")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            // Once every broker is down, librdkafka (seen in 2.16) gives up its brokers and begins anew, and
            // what a transaction had yet to ask a group's coordinator is lost with them: the call
            // waits for ever, beyond its timeout.
            .set("metadata.recovery.strategy", "none")
            .set("allow.auto.create.topics", "false")
            .set_log_level(RDKafkaLogLevel::Notice);
        if let Some(key) = &self.key {
            config
                .set("security.protocol", "sasl_plaintext")
                .set("sasl.mechanism", "PLAIN")
                .set("sasl.username", "service")
                .set("sasl.password", key.expose());
        }
        config
    }
}

fn instance(directory: &Path) -> io::Result<String> {
    let path = directory.join("instance");
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = crate::http::trace::uuid();
    let beside = directory.join("instance.new");
    fs::write(&beside, format!("{id}\n"))?;
    fs::rename(&beside, &path)?;
    Ok(id)
}

/// What librdkafka says of its connections is for whoever debugs them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(facility, message, "librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "librdkafka");
    }

    fn stats(&self, _: Statistics) {}
}

impl ConsumerContext for Quiet {}
