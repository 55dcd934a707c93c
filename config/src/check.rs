use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use notification::SmtpServer;

use crate::settings::{Broker, Settings};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    File(PathBuf),
    Environment(String),
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Environment(name) => write!(f, "(from {name})"),
            Self::Flag(name) => write!(f, "(from {name})"),
        }
    }
}

/// Why a configuration is refused; the text is one sentence for the person who wrote it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {cause}; check the path after --config", path = .path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("{path} is not valid TOML at line {line}: {message}; correct that line", path = .path.display())]
    Syntax { path: PathBuf, line: usize, message: String },
    #[error("unknown key `{key}` {origin}; {hint}")]
    UnknownKey { key: String, origin: Origin, hint: String },
    #[error(
        "`{key}` {origin} is {found}, but must be {expected}; correct it or remove it to use the default"
    )]
    WrongType { key: String, origin: Origin, found: String, expected: String },
    #[error("`{key}` is {found}; {advice}")]
    Refused { key: &'static str, found: String, advice: String },
}

/// The smallest segment that is worth a file of its own.
const SEGMENT_BYTES_LEAST: i64 = 1024 * 1024;

/// The rules that one value alone, or one beside another, must keep.
pub(crate) fn check(settings: &Settings) -> Result<(), ConfigError> {
    let broker = &settings.broker;
    for address in broker.listeners.addresses() {
        listener("broker.listeners", address, "Ottla asks Kafka clients for no password yet")?;
    }
    listener("http.listen", settings.http.listen, "Ottla's HTTP has no TLS yet")?;
    if broker.listeners.ssl == Some(broker.listeners.plaintext) {
        return refused(
            "broker.listeners",
            broker.listeners.to_string(),
            "each listener needs an address of its own, so give one of them another port",
        );
    }
    let advertised = &broker.advertised_listeners;
    for address in advertised.plaintext.iter().chain(&advertised.ssl) {
        if !server::is_advertisable(address) {
            return refused(
                "broker.advertised.listeners",
                format!("`{address}`"),
                "write host:port as a client could connect to, an IPv6 address in brackets",
            );
        }
    }
    if broker.advertised_listeners.ssl.is_some() && broker.listeners.ssl.is_none() {
        return refused(
            "broker.advertised.listeners",
            String::from(broker.advertised_listeners.clone()),
            "broker.listeners has no SSL listener, so add one or take SSL:// out here",
        );
    }
    let positive = [
        ("broker.num.partitions", i64::from(broker.num_partitions)),
        ("broker.max.connections", i64::from(broker.max_connections)),
        ("broker.node.id", i64::from(broker.node_id)),
    ];
    for (key, value) in positive {
        if value < 1 {
            return refused(key, value, "write a number of 1 or more");
        }
    }
    times_and_sizes(broker)?;
    if settings.notification.group.is_empty() || settings.notification.group.starts_with("__") {
        return refused(
            "notification.group",
            format!("`{}`", settings.notification.group),
            "write the name of a consumer group that does not begin with two underscores",
        );
    }
    let positive = [
        ("auth.session_idle_days", settings.auth.session_idle_days),
        ("auth.session_longest_days", settings.auth.session_longest_days),
        ("notification.kept_entries", settings.notification.kept_entries),
        ("mail.timeout_seconds", settings.mail.timeout_seconds),
    ];
    for (key, value) in positive {
        if value == 0 {
            return refused(key, value, "write a number of 1 or more");
        }
    }
    if !notification::is_sender(&settings.mail.from) {
        let found = format!("`{}`", settings.mail.from);
        return refused("mail.from", found, "write an address such as Ottla <ottla@example.com>");
    }
    if !settings.mail.url.is_empty() {
        mail_url(&settings.mail.url)?;
    }
    Ok(())
}

/// The largest of what Kafka calls an int.
const MAX_INT: i64 = 2_147_483_647;
const POSITIVE: &str = "write a number of 1 or more";
const FOREVER: &str = "write a number of 1 or more, or -1 for no limit";

/// A key, its value, the least and the most that it may be, and what to write instead.
type Bound = (&'static str, fn(&Broker) -> i64, i64, i64, &'static str);

#[rustfmt::skip]
const BOUNDS: &[Bound] = &[
    ("broker.log.retention.hours", |it| it.log_retention_hours, -1, MAX_INT, FOREVER),
    ("broker.log.retention.ms", |it| it.log_retention_ms, -1, i64::MAX, "write a number of 1 or more, -1 for no limit, or 0 to leave it to the hours"),
    ("broker.log.retention.bytes", |it| it.log_retention_bytes, -1, i64::MAX, "write a number of bytes, or -1 for no limit"),
    ("broker.log.segment.bytes", |it| it.log_segment_bytes, SEGMENT_BYTES_LEAST, MAX_INT, "write a number from 1048576 to 2147483647"),
    ("broker.log.roll.hours", |it| it.log_roll_hours, 1, MAX_INT, POSITIVE),
    ("broker.log.roll.ms", |it| it.log_roll_ms, 0, i64::MAX, "write a number of 1 or more, or 0 to leave it to the hours"),
    ("broker.log.cleaner.delete.retention.ms", |it| it.log_cleaner_delete_retention_ms, 0, i64::MAX, "write a number of 0 or more"),
    ("broker.log.cleaner.io.max.bytes.per.second", |it| it.log_cleaner_io_max_bytes_per_second, 0, i64::MAX, "write a number of bytes, or 0 for no limit"),
    ("broker.offsets.retention.minutes", |it| it.offsets_retention_minutes, 1, MAX_INT, POSITIVE),
    ("broker.offsets.retention.check.interval.ms", |it| it.offsets_retention_check_interval_ms, 1, i64::MAX, POSITIVE),
    ("broker.transactional.id.expiration.ms", |it| it.transactional_id_expiration_ms, 1, MAX_INT, POSITIVE),
    ("broker.producer.id.expiration.ms", |it| it.producer_id_expiration_ms, 1, MAX_INT, POSITIVE),
];

/// Of records, offsets and producers, as Kafka bounds them.
fn times_and_sizes(broker: &Broker) -> Result<(), ConfigError> {
    if broker.log_retention_hours == 0 {
        return refused("broker.log.retention.hours", 0, FOREVER);
    }
    for (key, value, least, most, advice) in BOUNDS {
        let value = value(broker);
        if !(*least..=*most).contains(&value) {
            return refused(key, value, advice);
        }
    }
    let policy = &broker.log_cleanup_policy;
    if !policy.split(',').all(|part| ["compact", "delete"].contains(&part.trim())) {
        return refused(
            "broker.log.cleanup.policy",
            format!("`{policy}`"),
            "write delete, compact, or both with a comma between them",
        );
    }
    Ok(())
}

fn listener(key: &'static str, address: SocketAddr, why: &str) -> Result<(), ConfigError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    let advice = format!(
        "{why} and listens on loopback only, so write an address such as 127.0.0.1 and put a proxy \
         or a tunnel in front of it"
    );
    refused(key, address, &advice)
}

/// The URL itself is a secret and is not repeated in the refusal.
pub(crate) fn mail_url(url: &str) -> Result<(), ConfigError> {
    match SmtpServer::parse(url) {
        Ok(_) => Ok(()),
        Err(error) => refused("mail.url", "not the URL of a mail server", &error.to_string()),
    }
}

fn refused(key: &'static str, found: impl fmt::Display, advice: &str) -> Result<(), ConfigError> {
    Err(ConfigError::Refused { key, found: found.to_string(), advice: advice.to_owned() })
}
