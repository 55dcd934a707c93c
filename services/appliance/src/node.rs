//! The broker of this process, and the storage under it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use config::{ReplicationFactor, Settings};
use server::{Broker, StartError, Traffic};
use storage::{Host, OpenError, Storage};

use crate::host::taken;
use crate::log::Voice;
use crate::{Failure, key};

/// Topics, groups and transactional ids that begin so belong to the services.
const CLOSED_PREFIXES: &[&str] = &["__auth.", "__task.", "__notification."];

/// A recovery that took longer is worth a sentence.
const LONG_RECOVERY: Duration = Duration::from_millis(500);

pub(crate) struct Node {
    broker: Broker,
    storage: Storage,
    pub service_key: String,
}

impl Node {
    /// Storage, then the key, then the broker.
    pub(crate) async fn start(settings: &Settings, voice: Voice) -> Result<Self, Failure> {
        let opened = {
            let config = storage_config(settings);
            tokio::task::spawn_blocking(move || Storage::open(config, Host::real())).await
        };
        let (storage, report) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(refused(&settings.data_dir, &error)),
            Err(error) => return Err(Failure::Failed(format!("storage did not start: {error}"))),
        };
        if report.cycles_replayed > 0 || report.torn_tail {
            tracing::info!(
                cycles = report.cycles_replayed,
                bytes = report.bytes_replayed,
                torn_tail = report.torn_tail,
                took_ms = report.took.as_millis(),
                "storage recovered from the journal"
            );
        }
        if report.took > LONG_RECOVERY {
            voice.say(&format!(
                "Restored {} bytes from the journal in {} ms.",
                report.bytes_replayed,
                report.took.as_millis()
            ));
        }
        let service_key = key::of_services(settings)?;
        let broker =
            match Broker::start(broker_config(settings, &service_key), storage.clone()).await {
                Ok(broker) => broker,
                Err(error) => {
                    storage.shutdown();
                    return Err(not_started(&error));
                }
            };
        Ok(Self { broker, storage, service_key })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.broker.local_addr()
    }

    /// Where clients connect that speak TLS.
    pub(crate) fn ssl_address(&self) -> Option<SocketAddr> {
        self.broker.ssl_addr()
    }

    /// What the broker stores in.
    pub(crate) fn storage(&self) -> Storage {
        self.storage.clone()
    }

    /// What goes over its connections.
    pub(crate) fn traffic(&self) -> Arc<Traffic> {
        self.broker.traffic()
    }

    /// Ends the connections, then writes what the next start would have to replay.
    pub(crate) async fn stop(self) {
        self.broker.shutdown().await;
        let storage = self.storage;
        if let Err(error) = tokio::task::spawn_blocking(move || storage.shutdown()).await {
            tracing::error!(%error, "storage did not stop cleanly, the next start replays the journal");
        }
    }
}

/// What the configuration says of the storage.
pub(crate) fn storage_config(settings: &Settings) -> storage::Config {
    let journal = &settings.storage.journal_dir;
    let shipped = storage::Config::new(settings.data_dir.clone());
    storage::Config {
        journal_dir: if journal.as_os_str().is_empty() {
            None
        } else {
            Some(PathBuf::from(journal))
        },
        segment_bytes: settings.broker.log_segment_bytes.unsigned_abs(),
        broker_configs: server::in_milliseconds(&settings.broker.static_configs()),
        journal_segment_bytes: wish("OTTLA_JOURNAL_SEGMENT_BYTES")
            .unwrap_or(shipped.journal_segment_bytes),
        clean_every: wish("OTTLA_CLEAN_EVERY_MS")
            .map_or(shipped.clean_every, Duration::from_millis),
        ..shipped
    }
}

#[cfg(not(feature = "failpoints"))]
const fn wish(_variable: &str) -> Option<u64> {
    None
}

/// A test may have the journal go round, and compaction happen, within seconds.
#[cfg(feature = "failpoints")]
fn wish(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn broker_config(settings: &Settings, service_key: &str) -> server::Config {
    let broker = &settings.broker;
    let advertised = &broker.advertised_listeners;
    let ssl = broker.listeners.ssl.zip(broker.ssl_keystore.clone());
    let ms = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    server::Config {
        kafka: broker.listeners.plaintext,
        advertised: advertised.plaintext.clone(),
        ssl: ssl.map(|(address, keystore)| server::SslListener {
            address,
            advertised: advertised.ssl.clone(),
            keystore,
        }),
        node_id: broker.node_id,
        auto_create_topics: broker.auto_create_topics_enable,
        num_partitions: broker.num_partitions,
        replication_factor: match broker.replication_factor {
            ReplicationFactor::Clamp => server::ReplicationFactor::Clamp,
            ReplicationFactor::Strict => server::ReplicationFactor::Strict,
        },
        seed_topics: events::topics::TOPICS.iter().map(seed_topic).collect(),
        limits: server::Limits {
            connections: usize::try_from(broker.max_connections).unwrap_or(usize::MAX),
            ..server::Limits::default()
        },
        service_key: Some(service_key.as_bytes().to_vec()),
        closed_prefixes: CLOSED_PREFIXES.iter().map(|prefix| (*prefix).to_owned()).collect(),
        group_initial_rebalance_delay: Duration::from_millis(
            broker.group_initial_rebalance_delay_ms.into(),
        ),
        offsets_retention: Duration::from_mins(broker.offsets_retention_minutes.unsigned_abs()),
        offsets_check_interval: ms(broker.offsets_retention_check_interval_ms),
        transactional_id_expiration: ms(broker.transactional_id_expiration_ms),
        static_configs: broker.static_configs(),
    }
}

fn seed_topic(topic: &events::topics::Topic) -> server::SeedTopic {
    server::SeedTopic {
        name: topic.name.to_owned(),
        partitions: topic.partitions,
        configs: [("retention.ms".to_owned(), topic.retention_ms.to_string())].into(),
    }
}

/// The sentence about a storage that does not open.
pub(crate) fn refused(data_dir: &Path, error: &OpenError) -> Failure {
    let path = data_dir.display();
    match error {
        OpenError::InUse(path) => Failure::Refused(format!(
            "{} is in use by another Ottla; stop that one, or choose another directory with --data-dir",
            path.display()
        )),
        OpenError::Foreign(path) => Failure::Refused(format!(
            "{} holds files that are not Ottla's; choose an empty or a new directory with --data-dir",
            path.display()
        )),
        OpenError::Damaged(what) => Failure::Failed(format!(
            "the data in {path} is damaged ({what}); nothing was changed; restore a backup of the directory, or run \
             `ottla doctor --repair --data-dir {path}`, which keeps what is whole and says what is lost"
        )),
        OpenError::OtherJournal { .. } | OpenError::MapAhead { .. } => {
            Failure::Failed(error.to_string())
        }
        OpenError::Format { format, .. } => Failure::Refused(format!(
            "the data in {path} has format {format}, which this version of Ottla does not read; use a newer \
             version, or choose another directory with --data-dir"
        )),
        OpenError::File { path, source } => Failure::Refused(format!(
            "cannot store in {} ({source}); check who owns it and whether the disk is full, \
             or choose another directory with --data-dir",
            path.display()
        )),
    }
}

fn not_started(error: &StartError) -> Failure {
    match error {
        StartError::Listen { address, source } => {
            taken(*address, "broker.listeners", "--kafka", source)
        }
        StartError::Advertised(text) => Failure::Refused(format!(
            "`broker.advertised.listeners` has \"{text}\", which is not host:port as a client could connect to; correct it"
        )),
        StartError::Seed { .. } => Failure::Failed(format!("the broker did not start: {error}")),
        StartError::Coordinator(cause) => Failure::Failed(format!(
            "groups and transactions cannot be loaded ({cause}); restore a backup of the data directory"
        )),
    }
}
