use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::Keystore;

/// What the broker is told at its start. Keys that Kafka has keep Kafka's names in the file.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where Kafka clients connect.
    pub kafka: SocketAddr,
    /// The `host:port` that clients are told to connect to; the listener's own address if none.
    pub advertised: Option<String>,
    /// Where Kafka clients connect that speak TLS.
    pub ssl: Option<SslListener>,
    /// `node.id`: who this broker says it is, the same at every start.
    pub node_id: i32,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `num.partitions`: of a topic that is created without a number.
    pub num_partitions: i32,
    /// What happens to a replication factor over 1.
    pub replication_factor: ReplicationFactor,
    /// Topics created at the first start.
    pub seed_topics: Vec<SeedTopic>,
    /// Bounds of connections and requests.
    pub limits: Limits,
    /// The password of the SASL PLAIN user `service`; without it nobody is that user.
    pub service_key: Option<Vec<u8>>,
    /// Topics, groups and transactional ids that begin so are for the user `service` alone.
    pub closed_prefixes: Vec<String>,
    /// `group.initial.rebalance.delay.ms`: how long the first join of an empty group waits for
    /// more members. One node's clients are few, and each would notice the wait at its start.
    pub group_initial_rebalance_delay: Duration,
    /// `offsets.retention.minutes`: how long committed offsets outlive their group's last member.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_check_interval: Duration,
    /// `transactional.id.expiration.ms`: how long an unused transactional id is remembered.
    pub transactional_id_expiration: Duration,
    /// What is given otherwise than Kafka's default of the configurations that the storage follows,
    /// as it was written. The storage is told by [`crate::in_milliseconds`].
    pub static_configs: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kafka: SocketAddr::from((Ipv4Addr::LOCALHOST, 9092)),
            advertised: None,
            ssl: None,
            node_id: 1,
            auto_create_topics: true,
            num_partitions: 1,
            replication_factor: ReplicationFactor::Clamp,
            seed_topics: Vec::new(),
            limits: Limits::default(),
            service_key: None,
            closed_prefixes: Vec::new(),
            group_initial_rebalance_delay: Duration::ZERO,
            offsets_retention: Duration::from_hours(168),
            offsets_check_interval: Duration::from_mins(10),
            transactional_id_expiration: Duration::from_hours(168),
            static_configs: BTreeMap::new(),
        }
    }
}

/// A listener of Kafka's security protocol `SSL`.
#[derive(Clone, Debug)]
pub struct SslListener {
    /// Where it listens.
    pub address: SocketAddr,
    /// The `host:port` that its clients are told to connect to; its own address if none.
    pub advertised: Option<String>,
    /// What it shows them.
    pub keystore: Keystore,
}

/// `replication.factor`: what a request for more than one replica gets from one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationFactor {
    /// One replica, and success.
    Clamp,
    /// `INVALID_REPLICATION_FACTOR`.
    Strict,
}

/// A topic created at the first start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeedTopic {
    /// The topic's name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// Its settings, by Kafka's names.
    pub configs: BTreeMap<String, String>,
}

/// Bounds of connections and requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `socket.request.max.bytes`: the longest frame of a Produce request.
    pub produce_request_max_bytes: usize,
    /// The longest frame of any other request.
    pub request_max_bytes: usize,
    /// `queued.max.request.bytes`: all requests over 64 KiB that are read or handled at a time.
    pub in_flight_bytes: usize,
    /// `max.connections`.
    pub connections: usize,
    /// `max.connections.per.ip`; loopback is not counted.
    pub connections_per_ip: usize,
    /// How long a new connection may stay silent.
    pub first_byte: Duration,
    /// How long a request may take to arrive once its first byte has.
    pub frame: Duration,
    /// `connections.max.idle.ms`.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            produce_request_max_bytes: 100 << 20,
            request_max_bytes: 4 << 20,
            in_flight_bytes: 24 << 20,
            connections: 2000,
            connections_per_ip: 256,
            first_byte: Duration::from_secs(10),
            frame: Duration::from_secs(30),
            idle: Duration::from_mins(10),
        }
    }
}
