use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use notification::SmtpServer;

use crate::settings::Settings;

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
const SEGMENT_BYTES_LEAST: u64 = 1024 * 1024;

/// The rules that one value alone, or one beside another, must keep.
pub(crate) fn check(settings: &Settings) -> Result<(), ConfigError> {
    listener("broker.listeners", settings.broker.listeners)?;
    listener("http.listen", settings.http.listen)?;
    let broker = &settings.broker;
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
    if settings.storage.segment_bytes < SEGMENT_BYTES_LEAST {
        return refused(
            "storage.segment_bytes",
            settings.storage.segment_bytes,
            "write 1048576 or more",
        );
    }
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

fn listener(key: &'static str, address: SocketAddr) -> Result<(), ConfigError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    refused(
        key,
        address,
        "Ottla has no TLS yet and listens on loopback only, so write an address such as 127.0.0.1 \
         and put a proxy or a tunnel in front of it",
    )
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
