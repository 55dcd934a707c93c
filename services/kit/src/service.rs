//! A service from the outside: where it finds things, how it is, how it ends.

mod engine;
mod owner;
mod writer;

use std::{fmt, path::PathBuf, sync::Arc};

use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use crate::{Clock, DbError, Secret};

pub use engine::Engine;

/// What the appliance, or `ottla worker`, gives a service to live with.
#[derive(Clone, Debug)]
pub struct ServiceContext {
    /// `auth`, `task`, ...; the names of tables, groups and transactional ids begin with it.
    pub service: &'static str,
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// Proves the service to auth over HTTP, and to our own broker.
    pub service_key: Secret,
    /// Whether the broker takes the service key (SASL PLAIN). Someone else's broker does not.
    pub broker_takes_key: bool,
    /// `services/<name>/`; the view lies in `view/`, the instance's id in `instance`.
    pub data_dir: PathBuf,
    /// What stands before `/internal/...` of auth, such as `http://127.0.0.1:8080/api`.
    pub auth_url: String,
    pub clock: Arc<dyn Clock>,
    /// Cancelled when the service has to stop.
    pub stop: CancellationToken,
}

/// How a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not yet; what it is doing.
    Starting(&'static str),
    /// Active: restored, reads and writes are answered.
    Serving,
    /// Reads are answered, writes wait for the broker to come back.
    Disconnected,
    /// Another instance is active.
    Standby,
    /// Ended for a reason that a person has to look at.
    Failed(String),
}

impl Status {
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Serving)
    }

    /// Whether what the view says may be shown.
    pub fn answers_reads(&self) -> bool {
        matches!(self, Self::Serving | Self::Disconnected)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting(what) => f.write_str(what),
            Self::Serving => f.write_str("serving"),
            Self::Disconnected => {
                f.write_str("the broker cannot be reached; reads are answered, writes are not")
            }
            Self::Standby => f.write_str("standby: another instance is active"),
            Self::Failed(why) => write!(f, "failed: {why}"),
        }
    }
}

/// A service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    View(#[from] DbError),
    #[error("{path}: {cause}")]
    Io { path: String, cause: std::io::Error },
    #[error("the Kafka client cannot be made: {0}")]
    Kafka(#[from] rdkafka::error::KafkaError),
    #[error("the HTTP client cannot be made: {0}")]
    Http(#[from] reqwest::Error),
    #[error("{0}")]
    Other(String),
}

/// A started service.
#[expect(missing_debug_implementations, reason = "a router has none")]
pub struct Service {
    pub name: &'static str,
    /// Paths without `/api`. Answers 503 until the service is restored.
    pub router: OpenApiRouter,
    pub status: watch::Receiver<Status>,
    /// Ends when the service's token is cancelled or one of its tasks fails.
    pub tasks: JoinSet<()>,
}
