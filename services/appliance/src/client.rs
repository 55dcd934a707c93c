//! The commands that are clients of a running appliance, or of any Kafka cluster.

mod consume;
mod groups;
mod health;

use std::io::{ErrorKind, Write};
use std::time::Duration;

use rdkafka::ClientConfig;

pub(crate) use consume::consume;
pub(crate) use groups::groups;
pub(crate) use health::healthcheck;

use crate::Failure;

/// How long a broker may take to answer one question.
const ANSWER: Duration = Duration::from_secs(5);

/// How long one wait for records lasts before a loop looks around.
const POLL: Duration = Duration::from_millis(100);

fn client_config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("client.id", "ottla")
        .set("socket.timeout.ms", "10000")
        .set("log_level", "0");
    config
}

fn unreachable(brokers: &str, cause: &impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("no answer from a broker at {brokers} ({cause}); is it running?"))
}

/// Prints to standard output; false once nobody reads it any more (`ottla consume … | head -1`).
pub(crate) fn print(text: &str) -> Result<bool, Failure> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Failed(format!("cannot write to standard output: {error}"))),
    }
}
