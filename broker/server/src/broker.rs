use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use security::Authorizer;
use storage::{CatalogueChange, CatalogueError, Storage};
use tokio::task::Id;
use tokio_util::sync::CancellationToken;

use crate::buffers::Buffers;
use crate::coordinator_task::{self, Coordinator, LoadError};
use crate::frame::RequestMemory;
use crate::listener::{Listener, Listeners};
use crate::purgatory::Purgatory;
use crate::seldom::Seldom;
use crate::tasks::Tasks;
use crate::topics;
use crate::traffic::Traffic;
use crate::{Config, SeedTopic, connection, context};

/// How long connections get to write their last answers.
const GRACE: Duration = Duration::from_millis(500);
/// How long the listener rests when the system refuses it another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The advertised address is no `host:port`, or one that no client can connect to.
    #[error("`{0}` is not an address that clients can connect to")]
    Advertised(String),
    /// A topic of the configuration cannot be created.
    #[error("cannot create the topic {name}: {source}")]
    Seed {
        /// The topic's name.
        name: String,
        /// What the storage says.
        source: CatalogueError,
    },
    /// Groups and transactions cannot be read back.
    #[error("groups and transactions cannot be loaded: {0}")]
    Coordinator(#[from] LoadError),
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    local_addr: SocketAddr,
    ssl_addr: Option<SocketAddr>,
    stop: CancellationToken,
    listener: Tasks,
    traffic: Arc<Traffic>,
}

impl Broker {
    /// Listens and serves until [`Broker::shutdown`].
    pub async fn start(config: Config, storage: Storage) -> Result<Self, StartError> {
        let listeners = Listeners::bind(&config)?;
        let local_addr = listeners.plaintext.address();
        let ssl_addr = listeners.ssl.as_ref().map(Listener::address);
        let stop = CancellationToken::new();
        let purgatory = Arc::new(Purgatory::default());
        let waiting = Arc::clone(&purgatory);
        storage.set_observer(Box::new(move |partitions| waiting.wake(partitions)));
        let authorizer = Authorizer::new(config.closed_prefixes.clone());
        let mut tasks = Tasks::default();
        seed(&config, &storage).await?;
        let settings = coordinator_settings(&config);
        let coordinator =
            Coordinator::start(storage.clone(), settings, &mut tasks, stop.clone()).await?;
        let traffic = Arc::new(Traffic::default());
        let shared = Arc::new(context::Broker {
            config,
            storage,
            authorizer,
            coordinator,
            purgatory,
            traffic: Arc::clone(&traffic),
            buffers: Buffers::default(),
            stop: stop.clone(),
        });
        tasks.start_vital("kafka listener", accept(listeners, shared));
        Ok(Self { local_addr, ssl_addr, stop, listener: tasks, traffic })
    }

    /// Where the broker listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where it listens for clients that speak TLS.
    pub fn ssl_addr(&self) -> Option<SocketAddr> {
        self.ssl_addr
    }

    /// What goes over the connections.
    pub fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Stops accepting, lets requests at hand be answered, and closes the connections.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.listener.join(GRACE * 2).await;
    }
}

/// Creates the topics of the configuration at the first start, which is the one that does not
/// find the coordinators' topics; those are created last.
async fn seed(config: &Config, storage: &Storage) -> Result<(), StartError> {
    let catalogue = storage.catalogue();
    if topics::INTERNAL_TOPICS.iter().all(|name| catalogue.by_name.contains_key(*name)) {
        return Ok(());
    }
    // All begin before the first is waited for, so that they share syncs.
    let create = |topic: &SeedTopic| {
        let SeedTopic { name, partitions, configs } = topic.clone();
        topics::change(storage, CatalogueChange::CreateTopic { name, partitions, configs })
    };
    let created: Vec<_> = config.seed_topics.iter().map(create).collect();
    for (topic, created) in config.seed_topics.iter().zip(created) {
        match created.await {
            Ok(_) | Err(CatalogueError::Exists) => {}
            Err(source) => return Err(StartError::Seed { name: topic.name.clone(), source }),
        }
    }
    Ok(())
}

fn coordinator_settings(config: &Config) -> coordinator_task::Settings {
    let delay = config.group_initial_rebalance_delay.as_millis();
    let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    coordinator_task::Settings {
        groups: coordinator::groups::Config {
            initial_rebalance_delay_ms: u64::try_from(delay).unwrap_or(u64::MAX),
            offsets_retention_ms: ms(config.offsets_retention),
            ..coordinator::groups::Config::default()
        },
        transactions: coordinator::transactions::Config {
            transactional_id_expiration_ms: ms(config.transactional_id_expiration),
            ..coordinator::transactions::Config::default()
        },
        offsets_check_interval: config.offsets_check_interval,
        clock: context::Broker::now,
    }
}

async fn accept(listeners: Listeners, broker: Arc<context::Broker>) {
    let memory = RequestMemory::new(broker.config.limits.in_flight_bytes);
    let mut connections = Tasks::default();
    let mut open = Open::default();
    let refusals = Seldom::default();
    loop {
        tokio::select! {
            () = broker.stop.cancelled() => break,
            id = connections.reap() => {
                open.remove(id);
                broker.traffic.closed();
            }
            accepted = listeners.accept() => match accepted {
                Ok(accepted) => {
                    let peer = accepted.peer;
                    if !open.has_room(peer.ip(), &broker.config.limits) {
                        if refusals.now() {
                            tracing::warn!(%peer, "connection refused, there are too many");
                        } else {
                            tracing::debug!(%peer, "connection refused, there are too many");
                        }
                        continue;
                    }
                    if let Err(error) = accepted.stream.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "connection lost before it was served");
                        continue;
                    }
                    let serve = connection::serve(accepted, Arc::clone(&broker), memory.clone());
                    let id = connections.start(serve);
                    open.add(id, peer.ip());
                    broker.traffic.opened();
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listeners);
    connections.join(GRACE).await;
}

/// The open connections, counted by their address.
#[derive(Debug, Default)]
struct Open {
    tasks: HashMap<Id, IpAddr>,
    per_ip: HashMap<IpAddr, usize>,
}

impl Open {
    fn has_room(&self, ip: IpAddr, limits: &crate::Limits) -> bool {
        let of_ip = self.per_ip.get(&ip).copied().unwrap_or(0);
        self.tasks.len() < limits.connections
            && (ip.is_loopback() || of_ip < limits.connections_per_ip)
    }

    fn add(&mut self, id: Id, ip: IpAddr) {
        self.tasks.insert(id, ip);
        *self.per_ip.entry(ip).or_default() += 1;
    }

    fn remove(&mut self, id: Id) {
        let Some(ip) = self.tasks.remove(&id) else { return };
        if let Some(count) = self.per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&ip);
            }
        }
    }
}
