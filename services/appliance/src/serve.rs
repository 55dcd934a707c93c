//! `ottla serve`: everything in one process, started and stopped in order.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use config::{Service, Settings};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::board::{Board, all_ready, summary};
use crate::cli::ServiceName;
use crate::host::{self, Signals};
use crate::http::{self, Front, Proxy, Serving, Slot};
use crate::log::{self, Voice};
use crate::metrics::Metrics;
use crate::node::Node;
use crate::services::{self, Common};
use crate::supervise::Supervised;
use crate::{Failure, key, notify, watchdog};

/// How long services may take to say good-bye to the broker.
const SERVICES_STOP: Duration = Duration::from_millis(800);

/// How long the runtime waits for work that blocks, after all else has ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// The exit code of a program that ends at a second Ctrl-C.
const INTERRUPTED: i32 = 130;

/// The part of the board that stands for the broker of this process.
const BROKER: &str = "broker";

/// Runs everything, or one service `alone`, until a signal.
pub(crate) fn serve(settings: &Settings, alone: Option<ServiceName>) -> Result<(), Failure> {
    let voice = log::start(&settings.log)?;
    host::raise_open_files();
    let runtime = host::runtime()?;
    let result = runtime.block_on(run(settings, alone, voice));
    runtime.shutdown_timeout(LAST_WORDS);
    result
}

async fn run(settings: &Settings, alone: Option<ServiceName>, voice: Voice) -> Result<(), Failure> {
    let began = host::now();
    let mut signals = Signals::new()?;
    let listener = host::listen(settings.http.listen, "http.listen", "--http").await?;
    let mut appliance = Appliance::new(settings, alone, voice, listener)?;
    notify::status("starting");
    let started = tokio::select! {
        started = appliance.start(settings, alone) => started,
        () = signals.next() => return Ok(()),
    };
    started?;
    tokio::select! {
        () = appliance.tell(settings, began) => {}
        () = signals.next() => {}
    }
    voice.say("Stopping.");
    notify::stopping();
    tokio::select! {
        () = appliance.stop() => Ok(()),
        () = signals.next() => std::process::exit(INTERRUPTED),
    }
}

struct Appliance {
    voice: Voice,
    board: Board,
    stop: CancellationToken,
    slots: Vec<Slot>,
    places: Vec<(ServiceName, watch::Sender<Option<Serving>>)>,
    servers: Vec<http::Server>,
    node: Option<Node>,
    metrics: Metrics,
    services: JoinSet<()>,
}

impl Appliance {
    /// HTTP answers from here on: that nothing is ready yet.
    fn new(
        settings: &Settings,
        alone: Option<ServiceName>,
        voice: Voice,
        listener: TcpListener,
    ) -> Result<Self, Failure> {
        let mut slots = Vec::new();
        let mut places = Vec::new();
        for (service_name, service) in named(settings) {
            if alone.is_some_and(|alone| alone != service_name) {
                continue;
            }
            let name = service_name.as_str();
            if !service.url.is_empty() {
                let proxy = Proxy::new(&service.url).map_err(|error| {
                    Failure::Failed(format!("cannot start the HTTP client: {error}"))
                })?;
                slots.push(Slot::Elsewhere { name, proxy });
            } else if service.enabled {
                let (place, serving) = watch::channel(None);
                slots.push(Slot::Here { name, serving });
                places.push((service_name, place));
            }
        }
        let broker_here = settings.services.brokers.is_empty();
        let mut parts: Vec<&'static str> = if broker_here { vec![BROKER] } else { Vec::new() };
        parts.extend(places.iter().map(|(name, _)| name.as_str()));
        let board = Board::new(&parts);
        let metrics = Metrics::default();
        let front = match (alone, slots.first()) {
            (Some(_), Some(slot)) => http::own_port(slot.clone(), board.clone()),
            _ => http::front(Front {
                board: board.clone(),
                slots: slots.clone(),
                metrics: metrics.clone(),
            }),
        };
        let servers = vec![http::Server::start(listener, front)];
        let stop = CancellationToken::new();
        Ok(Self {
            voice,
            board,
            stop,
            slots,
            places,
            servers,
            node: None,
            metrics,
            services: JoinSet::new(),
        })
    }

    async fn start(
        &mut self,
        settings: &Settings,
        alone: Option<ServiceName>,
    ) -> Result<(), Failure> {
        let common = if settings.services.brokers.is_empty() {
            self.board.set(BROKER, false, "restoring");
            let node = Node::start(settings, self.voice).await?;
            self.board.set(BROKER, true, "ready");
            self.metrics.set(node.storage(), node.traffic());
            let common = Common {
                brokers: node.address().to_string(),
                sasl: true,
                service_key: node.service_key.clone(),
                auth_url: auth_url(settings),
            };
            self.node = Some(node);
            common
        } else {
            make_directory(&settings.data_dir)?;
            Common {
                brokers: settings.services.brokers.clone(),
                sasl: settings.services.sasl,
                service_key: key::of_services(settings)?,
                auth_url: auth_url(settings),
            }
        };
        if alone.is_none() {
            self.listen_for_services(settings).await;
        }
        for (name, serving) in self.places.drain(..) {
            let supervised = Supervised {
                name: name.as_str(),
                start: services::starter(name, settings, &common),
                serving,
                board: self.board.clone(),
                stop: self.stop.clone(),
            };
            self.services.spawn(supervised.run());
        }
        if let Some(limit) = notify::watchdog() {
            let broker = self.node.as_ref().map(|node| (node.address(), node.storage()));
            self.services.spawn(watchdog::run(
                limit,
                settings.http.listen,
                broker,
                self.stop.clone(),
            ));
        }
        Ok(())
    }

    /// The services' own ports; one that is taken is the business of whoever took it.
    async fn listen_for_services(&mut self, settings: &Settings) {
        for (name, service) in named(settings) {
            let name = name.as_str();
            let Some(slot) = self.slots.iter().find(|slot| slot.name() == name).cloned() else {
                continue;
            };
            if service.port == 0 {
                continue;
            }
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, service.port));
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    let router = http::own_port(slot, self.board.clone());
                    self.servers.push(http::Server::start(listener, router));
                }
                Err(error) => {
                    tracing::warn!(service = name, %address, %error, "the service's own port is taken, it answers under /api only");
                }
            }
        }
    }

    /// Says where everything is, and later whatever changes; never returns.
    async fn tell(&self, settings: &Settings, began: Instant) {
        self.voice.say(&introduction(settings, self.node.as_ref()));
        let mut board = self.board.watch();
        let mut told = false;
        loop {
            let parts = board.borrow_and_update().clone();
            notify::status(&summary(&parts));
            if all_ready(&parts) && !told {
                told = true;
                notify::ready("ready");
                let after = began.elapsed().as_millis();
                self.voice.say(&format!("Ready after {after} ms. Ctrl-C stops it."));
            }
            if board.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// HTTP, the services, the broker, storage.
    async fn stop(mut self) {
        let servers: JoinSet<()> = self.servers.into_iter().map(http::Server::stop).collect();
        servers.join_all().await;
        self.stop.cancel();
        let services = async { while self.services.join_next().await.is_some() {} };
        if tokio::time::timeout(SERVICES_STOP, services).await.is_err() {
            tracing::warn!("services did not end in time");
        }
        if let Some(node) = self.node {
            node.stop().await;
        }
    }
}

fn named(settings: &Settings) -> [(ServiceName, &Service); 3] {
    let services = &settings.services;
    [
        (ServiceName::Auth, &services.auth),
        (ServiceName::Task, &services.task),
        (ServiceName::Notification, &services.notification),
    ]
}

fn auth_url(settings: &Settings) -> String {
    let url = &settings.services.auth.url;
    if url.is_empty() {
        format!("http://{}/api", settings.http.listen)
    } else {
        url.trim_end_matches('/').to_owned()
    }
}

fn make_directory(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path).map_err(|error| {
        let path = path.display();
        Failure::Refused(format!(
            "cannot make the directory {path} ({error}); choose another with --data-dir"
        ))
    })
}

fn introduction(settings: &Settings, node: Option<&Node>) -> String {
    let mut text = format!(
        "Ottla {} stores its data in {}.",
        env!("CARGO_PKG_VERSION"),
        settings.data_dir.display()
    );
    let kafka = match node {
        Some(node) => {
            let ssl = node.ssl_address();
            let ssl = ssl.map(|ssl| format!(", with TLS to {ssl}")).unwrap_or_default();
            format!("\nKafka clients connect to {}{ssl}.", node.address())
        }
        None => format!(
            "\nThe services use the Kafka cluster at {}; no broker runs here.",
            settings.services.brokers
        ),
    };
    text.push_str(&kafka);
    let http = settings.http.listen;
    // Writing to a string cannot fail.
    write!(text, "\nHTTP is at http://{http}/api, described at http://{http}/api/openapi.json.")
        .unwrap_or_default();
    let mail = if settings.mail.url.is_empty() {
        format!("written to {}", settings.data_dir.join("outbox").display())
    } else {
        "sent by the server in mail.url".to_owned()
    };
    write!(text, "\nMails are {mail}.").unwrap_or_default();
    text
}
