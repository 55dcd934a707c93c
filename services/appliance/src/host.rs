//! What the process gets from the system: its runtime, its signals, its addresses, the time.

use std::net::SocketAddr;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::Failure;

/// One node for a small team: two threads carry all sockets, what blocks has threads of its own.
const WORKER_THREADS: usize = 2;

/// The most threads for work that blocks, such as hashing and files; each is gone after ten idle seconds.
const BLOCKING_THREADS: usize = 16;

pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("ottla")
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))
}

/// Lets this process have as many files and sockets open as it may raise its own limit to. Shells
/// give 1,024, which a thousand partitions use up.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Binds a listener that has to be there.
pub(crate) async fn listen(
    address: SocketAddr,
    key: &str,
    flag: &str,
) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| taken(address, key, flag, &error))
}

/// The sentence about a listener that could not be bound.
pub(crate) fn taken(address: SocketAddr, key: &str, flag: &str, error: &std::io::Error) -> Failure {
    let advice = format!("choose another address with {flag} ADDR or `{key}` in the configuration");
    Failure::Refused(if error.kind() == std::io::ErrorKind::AddrInUse {
        format!("{address} is in use by another program; stop that one, or {advice}")
    } else {
        format!("cannot listen on {address} ({error}); {advice}")
    })
}

/// Ctrl-C or SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> Result<Self, Failure> {
        let failed =
            |error: std::io::Error| Failure::Failed(format!("cannot wait for signals: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
