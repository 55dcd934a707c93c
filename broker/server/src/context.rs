use std::net::SocketAddr;
use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;
use security::{Authorizer, Principal, Sasl};
use storage::Storage;

use tokio_util::sync::CancellationToken;
use wire::TimestampMs;

use crate::Config;
use crate::buffers::Buffers;
use crate::coordinator_task::Coordinator;
use crate::purgatory::Purgatory;
use crate::traffic::Traffic;

/// What all connections share.
pub(crate) struct Broker {
    pub(crate) config: Config,
    pub(crate) storage: Storage,
    /// Which names are open to whom.
    pub(crate) authorizer: Authorizer,
    /// The task of groups and transactions.
    pub(crate) coordinator: Coordinator,
    /// Fetches that wait for something to read.
    pub(crate) purgatory: Arc<Purgatory>,
    pub(crate) traffic: Arc<Traffic>,
    /// Memory for records on their way to clients with TLS.
    pub(crate) buffers: Buffers,
    /// Cancelled when the broker stops.
    pub(crate) stop: CancellationToken,
}

impl Broker {
    /// The time of day, for timestamps and deadlines that are written down.
    #[expect(
        clippy::disallowed_methods,
        reason = "the server's only look at the clock on the wall; everything below gets it as an argument"
    )]
    pub(crate) fn now() -> TimestampMs {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        TimestampMs(since.ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0))
    }
}

/// One connection, as its handlers see it. A handler has it for itself while it runs.
pub(crate) struct Context {
    pub(crate) broker: Arc<Broker>,
    /// Who the client has shown to be.
    pub(crate) principal: Principal,
    /// How far its authentication has come.
    pub(crate) sasl: Sasl,
    /// Where the client is.
    pub(crate) peer: SocketAddr,
    /// The host and port that clients of its listener are told.
    pub(crate) advertised: (StrBytes, i32),
    /// What the client calls itself in the request at hand.
    pub(crate) client_id: Option<StrBytes>,
    /// Cancelled when the client has hung up or the broker stops: nobody waits any more.
    pub(crate) closed: CancellationToken,
}

impl Context {
    pub(crate) fn new(
        broker: Arc<Broker>,
        peer: SocketAddr,
        advertised: (StrBytes, i32),
        closed: CancellationToken,
    ) -> Self {
        Self {
            broker,
            principal: Principal::Anonymous,
            sasl: Sasl::default(),
            peer,
            advertised,
            client_id: None,
            closed,
        }
    }
}
