//! `ottla worker`: one service in a process of its own, as a standby of another or in its place.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use config::Flags;

use crate::cli::{ServiceName, Worker};
use crate::serve::serve;
use crate::{Failure, load};

const DATA_DIR: &str = "./ottla-worker";

/// Where an appliance on the same machine serves auth.
const AUTH_URL: &str = "http://127.0.0.1:8080/api";

pub(crate) fn worker(command: &Worker) -> Result<(), Failure> {
    let flags = Flags {
        data_dir: Some(command.data_dir.clone().unwrap_or_else(|| PathBuf::from(DATA_DIR))),
        brokers: command.brokers.clone(),
        auth_url: command.auth_url.clone(),
        http: command.http,
        sasl: command.sasl,
        service_key: command.service_key.clone(),
        ..Flags::default()
    };
    let mut settings = load(command.config.clone(), flags)?;
    if settings.services.brokers.is_empty() {
        return Err(Failure::Refused(
            "a worker needs a Kafka cluster: name it with --brokers HOST:PORT or KAFKA_BROKERS"
                .to_owned(),
        ));
    }
    let services = &mut settings.services;
    if services.auth.url.is_empty() {
        AUTH_URL.clone_into(&mut services.auth.url);
    }
    let service = match command.service {
        ServiceName::Auth => &mut services.auth,
        ServiceName::Task => &mut services.task,
        ServiceName::Notification => &mut services.notification,
    };
    service.enabled = true;
    service.url.clear();
    if command.http.is_none() {
        settings.http.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, service.port));
    }
    serve(&settings, Some(command.service))
}
