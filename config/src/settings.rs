use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use server::Keystore;

use crate::listeners::{AdvertisedListeners, Listeners};

/// Every setting. What each key means stands in `config/ottla.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub broker: Broker,
    pub storage: Storage,
    pub http: Http,
    pub services: Services,
    pub auth: Auth,
    pub notification: Notification,
    pub mail: Mail,
    pub log: Log,
}

/// The Kafka side; the keys are Kafka's own names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broker {
    pub listeners: Listeners,
    #[serde(rename = "advertised.listeners")]
    pub advertised_listeners: AdvertisedListeners,
    #[serde(rename = "ssl.keystore.location")]
    pub ssl_keystore_location: PathBuf,
    /// What lies there, if there is an SSL listener.
    #[serde(skip)]
    pub ssl_keystore: Option<Keystore>,
    #[serde(rename = "node.id")]
    pub node_id: i32,
    #[serde(rename = "auto.create.topics.enable")]
    pub auto_create_topics_enable: bool,
    #[serde(rename = "num.partitions")]
    pub num_partitions: i32,
    #[serde(rename = "replication.factor")]
    pub replication_factor: ReplicationFactor,
    #[serde(rename = "max.connections")]
    pub max_connections: u32,
    #[serde(rename = "group.initial.rebalance.delay.ms")]
    pub group_initial_rebalance_delay_ms: u32,
    #[serde(rename = "log.retention.hours")]
    pub log_retention_hours: i64,
    /// 0 is none: the hours hold.
    #[serde(rename = "log.retention.ms")]
    pub log_retention_ms: i64,
    #[serde(rename = "log.retention.bytes")]
    pub log_retention_bytes: i64,
    #[serde(rename = "log.segment.bytes")]
    pub log_segment_bytes: i64,
    #[serde(rename = "log.roll.hours")]
    pub log_roll_hours: i64,
    /// 0 is none: the hours hold.
    #[serde(rename = "log.roll.ms")]
    pub log_roll_ms: i64,
    #[serde(rename = "log.cleanup.policy")]
    pub log_cleanup_policy: String,
    #[serde(rename = "log.cleaner.delete.retention.ms")]
    pub log_cleaner_delete_retention_ms: i64,
    /// 0 is no limit.
    #[serde(rename = "log.cleaner.io.max.bytes.per.second")]
    pub log_cleaner_io_max_bytes_per_second: i64,
    #[serde(rename = "offsets.retention.minutes")]
    pub offsets_retention_minutes: i64,
    #[serde(rename = "offsets.retention.check.interval.ms")]
    pub offsets_retention_check_interval_ms: i64,
    #[serde(rename = "transactional.id.expiration.ms")]
    pub transactional_id_expiration_ms: i64,
    #[serde(rename = "producer.id.expiration.ms")]
    pub producer_id_expiration_ms: i64,
}

impl Broker {
    /// What the storage is to follow otherwise than by default, by Kafka's names.
    pub fn static_configs(&self) -> BTreeMap<String, String> {
        let shipped = Self::default();
        let numbers = [
            ("log.retention.hours", self.log_retention_hours, shipped.log_retention_hours),
            ("log.retention.ms", self.log_retention_ms, shipped.log_retention_ms),
            ("log.retention.bytes", self.log_retention_bytes, shipped.log_retention_bytes),
            ("log.segment.bytes", self.log_segment_bytes, shipped.log_segment_bytes),
            ("log.roll.hours", self.log_roll_hours, shipped.log_roll_hours),
            ("log.roll.ms", self.log_roll_ms, shipped.log_roll_ms),
            (
                "log.cleaner.delete.retention.ms",
                self.log_cleaner_delete_retention_ms,
                shipped.log_cleaner_delete_retention_ms,
            ),
            (
                "log.cleaner.io.max.bytes.per.second",
                self.log_cleaner_io_max_bytes_per_second,
                shipped.log_cleaner_io_max_bytes_per_second,
            ),
            (
                "producer.id.expiration.ms",
                self.producer_id_expiration_ms,
                shipped.producer_id_expiration_ms,
            ),
        ];
        let set = numbers.into_iter().filter(|(_, value, default)| value != default);
        let mut configs: BTreeMap<String, String> =
            set.map(|(name, value, _)| (name.to_owned(), value.to_string())).collect();
        if self.log_cleanup_policy != shipped.log_cleanup_policy {
            configs.insert("log.cleanup.policy".to_owned(), self.log_cleanup_policy.clone());
        }
        configs
    }
}

/// What a wish for more than one replica gets on a single node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicationFactor {
    Clamp,
    Strict,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    pub journal_dir: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub listen: SocketAddr,
    pub public_url: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Services {
    pub brokers: String,
    pub sasl: bool,
    pub key_file: PathBuf,
    pub auth: Service,
    pub task: Service,
    pub notification: Service,
}

/// Where one service runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub enabled: bool,
    pub port: u16,
    pub url: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub registration: Registration,
    pub password_min_chars: u32,
    pub session_idle_days: u32,
    pub session_longest_days: u32,
}

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Registration {
    Open,
    Invite,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notification {
    pub group: String,
    pub kept_entries: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    pub url: String,
    pub url_file: PathBuf,
    pub from: String,
    pub timeout_seconds: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

/// `Auto` is for people on a terminal and JSON otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Auto,
    Human,
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./ottla-data"),
            broker: Broker::default(),
            storage: Storage { journal_dir: PathBuf::new() },
            http: Http { listen: loopback(8080), public_url: "http://127.0.0.1:8080".to_owned() },
            services: Services {
                brokers: String::new(),
                sasl: false,
                key_file: PathBuf::new(),
                auth: Service { enabled: true, port: 8084, url: String::new() },
                task: Service { enabled: true, port: 8001, url: String::new() },
                notification: Service { enabled: true, port: 8002, url: String::new() },
            },
            auth: Auth {
                registration: Registration::Open,
                password_min_chars: 0,
                session_idle_days: 30,
                session_longest_days: 180,
            },
            notification: Notification {
                group: "notification-service".to_owned(),
                kept_entries: 1000,
            },
            mail: Mail {
                url: String::new(),
                url_file: PathBuf::new(),
                from: "Ottla <ottla@localhost>".to_owned(),
                timeout_seconds: 30,
            },
            log: Log { level: "info".to_owned(), format: LogFormat::Auto },
        }
    }
}

impl Default for Broker {
    fn default() -> Self {
        Self {
            listeners: Listeners { plaintext: loopback(9092), ssl: None },
            advertised_listeners: AdvertisedListeners::default(),
            ssl_keystore_location: PathBuf::new(),
            ssl_keystore: None,
            node_id: 1,
            auto_create_topics_enable: true,
            num_partitions: 1,
            replication_factor: ReplicationFactor::Clamp,
            max_connections: 4096,
            group_initial_rebalance_delay_ms: 0,
            log_retention_hours: 168,
            log_retention_ms: 0,
            log_retention_bytes: -1,
            log_segment_bytes: 1 << 30,
            log_roll_hours: 168,
            log_roll_ms: 0,
            log_cleanup_policy: "delete".to_owned(),
            log_cleaner_delete_retention_ms: 86_400_000,
            log_cleaner_io_max_bytes_per_second: 0,
            offsets_retention_minutes: 10_080,
            offsets_retention_check_interval_ms: 600_000,
            transactional_id_expiration_ms: 604_800_000,
            producer_id_expiration_ms: 86_400_000,
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
