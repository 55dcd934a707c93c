use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
    pub listeners: SocketAddr,
    #[serde(rename = "advertised.listeners")]
    pub advertised_listeners: String,
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
    pub segment_bytes: u64,
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
            storage: Storage { journal_dir: PathBuf::new(), segment_bytes: 1 << 30 },
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
            listeners: loopback(9092),
            advertised_listeners: String::new(),
            node_id: 1,
            auto_create_topics_enable: true,
            num_partitions: 1,
            replication_factor: ReplicationFactor::Clamp,
            max_connections: 4096,
            group_initial_rebalance_delay_ms: 0,
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
