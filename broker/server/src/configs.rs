//! Every configuration that a topic or the broker shows, with its type, its default and what it
//! accepts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use storage::{Catalogue, Topic};

use crate::config::{Config, SslListener};

/// A configuration's type, as `DescribeConfigs` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfigType {
    Boolean,
    String,
    Int,
    Long,
    Double,
    List,
}

impl ConfigType {
    pub(crate) fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }
}

/// Where a value comes from, as `DescribeConfigs` numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Topic,
    DynamicDefaultBroker,
    StaticBroker,
    Default,
}

impl Source {
    pub(crate) fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::DynamicDefaultBroker => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// One configuration of a topic.
#[derive(Debug)]
pub(crate) struct TopicConfig {
    pub(crate) name: &'static str,
    pub(crate) kind: ConfigType,
    pub(crate) default: &'static str,
    /// The broker's configuration that gives topics their default.
    pub(crate) synonym: Option<&'static str>,
    accepts: Accepts,
}

#[derive(Debug)]
enum Accepts {
    Between(i64, i64),
    Ratio,
    Boolean,
    OneOf(&'static [&'static str]),
    /// A comma-separated list of these, not empty.
    AnyOf(&'static [&'static str]),
    /// Nothing but the default: the broker does not do what another value asks for.
    OnlyDefault,
}

/// The largest batch that one commit cycle takes.
const MAX_MESSAGE_BYTES: i64 = 16 << 20;
const MAX_INT: i64 = 2_147_483_647;

const fn row(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    synonym: Option<&'static str>,
    accepts: Accepts,
) -> TopicConfig {
    TopicConfig { name, kind, default, synonym, accepts }
}

use Accepts::{AnyOf, Between, OneOf, OnlyDefault, Ratio};
use ConfigType::{Boolean, Double, Int, List, Long, String as Text};

/// The seeds' own scripts ask for a codec. Batches stay as their producer compressed them, which
/// every reader can read; what is asked for is stored and shown.
const CODECS: &[&str] = &["gzip", "lz4", "producer", "snappy", "uncompressed", "zstd"];

/// Every configuration of a topic, by name.
#[rustfmt::skip]
pub(crate) const TOPIC_CONFIGS: &[TopicConfig] = &[
    row("cleanup.policy", List, "delete", Some("log.cleanup.policy"), AnyOf(&["compact", "delete"])),
    row("compression.gzip.level", Int, "-1", Some("compression.gzip.level"), Between(-1, 9)),
    row("compression.lz4.level", Int, "9", Some("compression.lz4.level"), Between(1, 17)),
    row("compression.type", Text, "producer", Some("compression.type"), OneOf(CODECS)),
    row("compression.zstd.level", Int, "3", Some("compression.zstd.level"), Between(-131_072, 22)),
    row("delete.retention.ms", Long, "86400000", Some("log.cleaner.delete.retention.ms"), Between(0, i64::MAX)),
    row("file.delete.delay.ms", Long, "60000", Some("log.segment.delete.delay.ms"), Between(0, i64::MAX)),
    row("flush.messages", Long, "9223372036854775807", Some("log.flush.interval.messages"), Between(1, i64::MAX)),
    row("flush.ms", Long, "9223372036854775807", Some("log.flush.interval.ms"), Between(0, i64::MAX)),
    row("follower.replication.throttled.replicas", List, "", None, OnlyDefault),
    row("index.interval.bytes", Int, "4096", Some("log.index.interval.bytes"), Between(0, MAX_INT)),
    row("leader.replication.throttled.replicas", List, "", None, OnlyDefault),
    row("local.retention.bytes", Long, "-2", Some("log.local.retention.bytes"), Between(-2, i64::MAX)),
    row("local.retention.ms", Long, "-2", Some("log.local.retention.ms"), Between(-2, i64::MAX)),
    row("max.compaction.lag.ms", Long, "9223372036854775807", Some("log.cleaner.max.compaction.lag.ms"), Between(1, i64::MAX)),
    row("max.message.bytes", Int, "1048588", Some("message.max.bytes"), Between(0, MAX_MESSAGE_BYTES)),
    row("message.timestamp.after.max.ms", Long, "3600000", Some("log.message.timestamp.after.max.ms"), Between(0, i64::MAX)),
    row("message.timestamp.before.max.ms", Long, "9223372036854775807", Some("log.message.timestamp.before.max.ms"), Between(0, i64::MAX)),
    row("message.timestamp.type", Text, "CreateTime", Some("log.message.timestamp.type"), OneOf(&["CreateTime", "LogAppendTime"])),
    row("min.cleanable.dirty.ratio", Double, "0.5", Some("log.cleaner.min.cleanable.ratio"), Ratio),
    row("min.compaction.lag.ms", Long, "0", Some("log.cleaner.min.compaction.lag.ms"), Between(0, i64::MAX)),
    row("min.insync.replicas", Int, "1", Some("min.insync.replicas"), Between(1, MAX_INT)),
    row("preallocate", Boolean, "false", Some("log.preallocate"), Accepts::Boolean),
    row("remote.log.copy.disable", Boolean, "false", None, OnlyDefault),
    row("remote.log.delete.on.disable", Boolean, "false", None, OnlyDefault),
    row("remote.storage.enable", Boolean, "false", None, OnlyDefault),
    row("retention.bytes", Long, "-1", Some("log.retention.bytes"), Between(-1, i64::MAX)),
    row("retention.ms", Long, "604800000", Some("log.retention.ms"), Between(-1, i64::MAX)),
    row("segment.bytes", Int, "1073741824", Some("log.segment.bytes"), Between(1 << 20, MAX_INT)),
    row("segment.index.bytes", Int, "10485760", Some("log.index.size.max.bytes"), Between(4, MAX_INT)),
    row("segment.jitter.ms", Long, "0", Some("log.roll.jitter.ms"), Between(0, i64::MAX)),
    row("segment.ms", Long, "604800000", Some("log.roll.ms"), Between(1, i64::MAX)),
    row("unclean.leader.election.enable", Boolean, "false", Some("unclean.leader.election.enable"), Accepts::Boolean),
];

/// All values of a topic together have to fit into the storage's record of it.
const MAX_VALUE_BYTES: usize = 1 << 10;

/// The broker's configurations that may be changed while it runs. They are read where a request
/// is handled.
pub(crate) const DYNAMIC_BROKER_CONFIGS: &[&str] = &[
    "log.cleaner.delete.retention.ms",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleanup.policy",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.retention.bytes",
    "log.retention.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "message.max.bytes",
];

impl TopicConfig {
    pub(crate) fn find(name: &str) -> Option<&'static Self> {
        TOPIC_CONFIGS.iter().find(|config| config.name == name)
    }

    /// The configuration whose default this broker configuration is.
    pub(crate) fn of_synonym(synonym: &str) -> Option<&'static Self> {
        TOPIC_CONFIGS.iter().find(|config| config.synonym == Some(synonym))
    }

    /// Whether the value is one that the broker takes and acts by.
    pub(crate) fn accepts(&self, value: &str) -> bool {
        if value.len() > MAX_VALUE_BYTES {
            return false;
        }
        match &self.accepts {
            Accepts::Between(least, most) => {
                value.trim().parse::<i64>().is_ok_and(|value| (*least..=*most).contains(&value))
            }
            Accepts::Ratio => {
                value.trim().parse::<f64>().is_ok_and(|value| (0.0..=1.0).contains(&value))
            }
            Accepts::Boolean => matches!(value, "true" | "false"),
            Accepts::OneOf(values) => values.contains(&value),
            Accepts::AnyOf(values) => value.split(',').all(|part| values.contains(&part.trim())),
            Accepts::OnlyDefault => value == self.default,
        }
    }

    /// The value that holds for topics without one of their own, and where it comes from, and all
    /// that it hides. What was written in hours is shown so.
    pub(crate) fn of_broker(
        &self,
        catalogue: &Catalogue,
        written: &BTreeMap<String, String>,
    ) -> (String, Vec<Shown>) {
        let Some(synonym) = self.synonym else {
            let default = self.default.to_owned();
            return (default.clone(), vec![(self.name, default, Source::Default)]);
        };
        let mut values = Vec::with_capacity(3);
        if let Some(value) = catalogue.broker_configs.get(synonym) {
            values.push((synonym, value.clone(), Source::DynamicDefaultBroker));
        }
        let hours = IN_HOURS.iter().find(|(ms, _)| *ms == synonym).map(|(_, hours)| *hours);
        for name in std::iter::once(synonym).chain(hours) {
            if let Some(value) = written.get(name) {
                values.push((name, value.clone(), Source::StaticBroker));
            }
        }
        values.push((synonym, self.default.to_owned(), Source::Default));
        let holds = catalogue.broker_config(synonym).map_or(self.default, String::as_str);
        (holds.to_owned(), values)
    }

    /// Like [`Self::of_broker`], for a topic.
    pub(crate) fn of_topic(
        &self,
        catalogue: &Catalogue,
        written: &BTreeMap<String, String>,
        topic: &BTreeMap<String, String>,
    ) -> (String, Vec<Shown>) {
        let (mut holds, mut values) = self.of_broker(catalogue, written);
        if let Some(value) = topic.get(self.name) {
            holds.clone_from(value);
            values.insert(0, (self.name, value.clone(), Source::Topic));
        }
        (holds, values)
    }
}

/// A value with its name and source.
pub(crate) type Shown = (&'static str, String, Source);

/// Times that may be written in hours; where both are, milliseconds hold.
const IN_HOURS: &[(&str, &str)] =
    &[("log.retention.ms", "log.retention.hours"), ("log.roll.ms", "log.roll.hours")];
const HOUR_MS: i64 = 60 * 60 * 1000;

/// The configurations as the storage reads them: of times only those in milliseconds.
pub fn in_milliseconds(written: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut configs = written.clone();
    for (ms, hours) in IN_HOURS {
        let hours: Option<i64> = configs.remove(*hours).and_then(|hours| hours.parse().ok());
        if let Some(hours) = hours.filter(|_| !written.contains_key(*ms)) {
            let value = if hours < 0 { -1 } else { hours.saturating_mul(HOUR_MS) };
            configs.insert((*ms).to_owned(), value.to_string());
        }
    }
    configs
}

/// The value that holds for a topic.
pub(crate) fn effective<'a>(catalogue: &'a Catalogue, topic: &'a Topic, name: &str) -> &'a str {
    if let Some(value) = topic.configs.get(name) {
        return value;
    }
    let Some(config) = TopicConfig::find(name) else { return "" };
    let of_broker = config.synonym.and_then(|synonym| catalogue.broker_config(synonym));
    of_broker.map_or(config.default, String::as_str)
}

/// A number that holds for a topic.
pub(crate) fn effective_number(catalogue: &Catalogue, topic: &Topic, name: &str) -> i64 {
    effective(catalogue, topic, name).trim().parse().unwrap_or(0)
}

/// Whether the topic's records need keys.
pub(crate) fn is_compacted(catalogue: &Catalogue, topic: &Topic) -> bool {
    has_policy(catalogue, topic, "compact")
}

/// Whether records may be deleted that nothing has replaced.
pub(crate) fn is_deleted_by_age(catalogue: &Catalogue, topic: &Topic) -> bool {
    has_policy(catalogue, topic, "delete")
}

fn has_policy(catalogue: &Catalogue, topic: &Topic, wanted: &str) -> bool {
    effective(catalogue, topic, "cleanup.policy").split(',').any(|policy| policy.trim() == wanted)
}

/// What the broker itself is set to, beside the defaults that it gives to topics: name, type,
/// value, and whether it was set when the broker started.
pub(crate) fn broker_configs(config: &Config) -> Vec<(&'static str, ConfigType, String, Source)> {
    let limits = &config.limits;
    let fixed = |name, kind, value: &str| (name, kind, value.to_owned(), Source::Default);
    let set = |name, kind, value: String| (name, kind, value, Source::StaticBroker);
    let written = |name: &'static str, kind, default: &str| match config.static_configs.get(name) {
        Some(value) => (name, kind, value.clone(), Source::StaticBroker),
        None => (name, kind, default.to_owned(), Source::Default),
    };
    let mut rows = vec![
        set("advertised.listeners", List, advertised_listeners(config)),
        set("auto.create.topics.enable", Boolean, config.auto_create_topics.to_string()),
        set("broker.id", Int, config.node_id.to_string()),
        set("connections.max.idle.ms", Long, limits.idle.as_millis().to_string()),
        fixed("default.replication.factor", Int, "1"),
        fixed("delete.topic.enable", Boolean, "true"),
        set(
            "group.initial.rebalance.delay.ms",
            Int,
            config.group_initial_rebalance_delay.as_millis().to_string(),
        ),
        fixed("fetch.max.bytes", Int, &crate::handlers::fetch::MAX_BYTES.to_string()),
        fixed("group.max.session.timeout.ms", Int, "1800000"),
        fixed("group.min.session.timeout.ms", Int, "6000"),
        set("listeners", List, listeners(config)),
        written("log.cleaner.io.max.bytes.per.second", Double, "1.7976931348623157E308"),
        written("log.retention.hours", Int, "168"),
        written("log.roll.hours", Int, "168"),
        set("max.connections", Int, limits.connections.to_string()),
        set("max.connections.per.ip", Int, limits.connections_per_ip.to_string()),
        set("node.id", Int, config.node_id.to_string()),
        set("num.partitions", Int, config.num_partitions.to_string()),
        fixed("offsets.topic.num.partitions", Int, "50"),
        fixed("offsets.topic.replication.factor", Int, "1"),
        fixed("process.roles", List, "broker,controller"),
        written("producer.id.expiration.ms", Int, "86400000"),
        set("queued.max.request.bytes", Long, limits.in_flight_bytes.to_string()),
        set("socket.request.max.bytes", Int, limits.produce_request_max_bytes.to_string()),
        fixed("transaction.max.timeout.ms", Int, "900000"),
        fixed("transaction.state.log.min.isr", Int, "1"),
        fixed("transaction.state.log.num.partitions", Int, "50"),
        fixed("transaction.state.log.replication.factor", Int, "1"),
    ];
    rows.extend(times(config));
    rows
}

/// How long unused things are remembered.
fn times(config: &Config) -> [(&'static str, ConfigType, String, Source); 3] {
    let shipped = Config::default();
    let row = |name, kind, (value, default): (Duration, Duration), unit: Duration| {
        let source = if value == default { Source::Default } else { Source::StaticBroker };
        (name, kind, (value.as_millis() / unit.as_millis()).to_string(), source)
    };
    let (minute, ms) = (Duration::from_mins(1), Duration::from_millis(1));
    let interval = (config.offsets_check_interval, shipped.offsets_check_interval);
    let retention = (config.offsets_retention, shipped.offsets_retention);
    let unused = (config.transactional_id_expiration, shipped.transactional_id_expiration);
    [
        row("offsets.retention.check.interval.ms", Long, interval, ms),
        row("offsets.retention.minutes", Int, retention, minute),
        row("transactional.id.expiration.ms", Int, unused, ms),
    ]
}

fn listeners(config: &Config) -> String {
    let ssl = config.ssl.as_ref().map(|ssl| format!(",SSL://{}", ssl.address));
    format!("PLAINTEXT://{}{}", config.kafka, ssl.unwrap_or_default())
}

fn advertised_listeners(config: &Config) -> String {
    let or_own = |text: &Option<String>, own: SocketAddr| match text {
        Some(text) => text.clone(),
        None => own.to_string(),
    };
    let ssl = |ssl: &SslListener| format!(",SSL://{}", or_own(&ssl.advertised, ssl.address));
    let plaintext = or_own(&config.advertised, config.kafka);
    format!("PLAINTEXT://{plaintext}{}", config.ssl.as_ref().map(ssl).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{DYNAMIC_BROKER_CONFIGS, TOPIC_CONFIGS, TopicConfig, in_milliseconds};

    #[test]
    fn every_default_is_accepted_and_the_names_are_sorted() {
        for config in TOPIC_CONFIGS {
            assert!(config.accepts(config.default), "{}", config.name);
        }
        assert!(TOPIC_CONFIGS.is_sorted_by(|one, other| one.name < other.name));
        assert!(DYNAMIC_BROKER_CONFIGS.iter().all(|name| TopicConfig::of_synonym(name).is_some()));
    }

    #[test]
    fn milliseconds_hold_before_hours() {
        let configs = |rows: &[(&str, &str)]| -> BTreeMap<String, String> {
            rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let written =
            [("log.retention.hours", "24"), ("log.roll.hours", "2"), ("log.roll.ms", "5")];
        let read = [("log.retention.ms", "86400000"), ("log.roll.ms", "5")];
        assert_eq!(in_milliseconds(&configs(&written)), configs(&read));
        let forever = in_milliseconds(&configs(&[("log.retention.hours", "-1")]));
        assert_eq!(forever, configs(&[("log.retention.ms", "-1")]));
    }

    #[test]
    fn values_that_the_broker_does_not_act_by_are_refused() {
        let padded = " ".repeat(2_000) + "1000";
        for (name, value) in [
            ("retention.ms", padded.as_str()),
            ("cleanup.policy", "compress"),
            ("cleanup.policy", ""),
            ("compression.type", "brotli"),
            ("max.message.bytes", "16777217"),
            ("max.message.bytes", "many"),
            ("message.timestamp.type", "createtime"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("remote.storage.enable", "true"),
            ("retention.ms", "-2"),
            ("segment.bytes", "1024"),
        ] {
            assert!(!TopicConfig::find(name).unwrap().accepts(value), "{name}={value}");
        }
        assert!(TopicConfig::find("cleanup.policy").unwrap().accepts("compact, delete"));
        assert!(TopicConfig::find("retention.minutes").is_none());
    }
}
