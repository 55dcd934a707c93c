use std::future::Future;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable};
use storage::FileSlice;

use crate::context::Context;
use crate::handlers;

/// One API that this broker serves.
pub(crate) struct Api {
    pub(crate) key: ApiKey,
    /// The versions that are answered.
    pub(crate) accepted: (i16, i16),
    /// The versions that `ApiVersions` lists; they may begin lower (see `handlers::produce`).
    pub(crate) advertised: (i16, i16),
    pub(crate) handle: Handle,
}

impl Api {
    /// The key as it stands on the wire.
    #[expect(clippy::as_conversions, reason = "the enum's values are the keys, as i16")]
    pub(crate) fn number(&self) -> i16 {
        self.key as i16
    }
}

/// Every API this broker serves; dispatch and `ApiVersions` both read it, nothing else lists APIs.
pub(crate) const APIS: &[Api] = &[
    handlers::produce::API,
    handlers::fetch::API,
    handlers::list_offsets::API,
    handlers::offset_commit::API,
    handlers::offset_fetch::API,
    handlers::find_coordinator::API,
    handlers::join_group::API,
    handlers::heartbeat::API,
    handlers::leave_group::API,
    handlers::sync_group::API,
    handlers::describe_groups::API,
    handlers::list_groups::API,
    handlers::sasl_handshake::API,
    handlers::init_producer_id::API,
    handlers::add_partitions_to_txn::API,
    handlers::add_offsets_to_txn::API,
    handlers::end_txn::API,
    handlers::txn_offset_commit::API,
    handlers::sasl_authenticate::API,
    handlers::delete_groups::API,
    handlers::offset_delete::API,
    handlers::metadata::API,
    handlers::api_versions::API,
    handlers::create_topics::API,
    handlers::delete_topics::API,
    handlers::delete_records::API,
    handlers::offset_for_leader_epoch::API,
    handlers::describe_configs::API,
    handlers::alter_configs::API,
    handlers::create_partitions::API,
    handlers::incremental_alter_configs::API,
    handlers::list_partition_reassignments::API,
    handlers::describe_cluster::API,
    handlers::describe_topic_partitions::API,
];

/// More than everything there is to tell of 50,000 partitions.
const MAX_ENCODED_BYTES: usize = 256 << 20;

pub(crate) type Handle =
    for<'a> fn(
        &'a mut Context,
        Request,
    ) -> Pin<Box<dyn Future<Output = Result<Reply, Failure>> + Send + 'a>>;

/// A request whose header is read and whose body is bounded.
pub(crate) struct Request {
    pub(crate) version: i16,
    pub(crate) body: Bytes,
}

impl Request {
    /// The body as `kafka-protocol` reads it. Bytes left over are let be, as `wire::bound` does.
    pub(crate) fn decode<T: Decodable>(&self) -> Result<T, Failure> {
        let mut body = self.body.clone();
        T::decode(&mut body, self.version).map_err(|_error| Failure::Malformed)
    }

    /// The answer at the request's version.
    pub(crate) fn reply<T: Encodable>(&self, response: &T) -> Result<Reply, Failure> {
        encode(response, self.version).map(Reply::Now)
    }
}

/// Encodes a response body at `version`, without the records that go beside it.
pub(crate) fn encode<T: Encodable>(response: &T, version: i16) -> Result<Body, Failure> {
    let size = response.compute_size(version).map_err(|_error| Failure::Unencodable)?;
    if size > MAX_ENCODED_BYTES {
        return Err(Failure::TooLarge);
    }
    let mut buffer = BytesMut::with_capacity(size);
    response.encode(&mut buffer, version).map_err(|_error| Failure::Unencodable)?;
    Ok(Body(vec![Piece::Bytes(buffer.freeze())]))
}

/// A response's body in pieces that are written one after the other.
#[derive(Debug, Default)]
pub(crate) struct Body(pub(crate) Vec<Piece>);

/// A part of a response.
#[derive(Debug)]
pub(crate) enum Piece {
    Bytes(Bytes),
    /// Record batches that are read from their file when they are written to the socket.
    File(FileSlice),
}

impl Piece {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::File(slice) => slice.length,
        }
    }
}

impl Body {
    /// The bytes of all pieces.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(Piece::len).sum()
    }

    /// Those of them that are held in memory until they are sent.
    pub(crate) fn bytes_in_memory(&self) -> usize {
        let in_memory = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::File(_) => 0,
        };
        self.0.iter().map(in_memory).sum()
    }
}

/// What a handler has to say.
pub(crate) enum Reply {
    /// The response.
    Now(Body),
    /// The response, or that there is none, once something has happened; meanwhile the next
    /// request is handled.
    Later(Pin<Box<dyn Future<Output = Result<Option<Body>, Failure>> + Send>>),
}

/// Why a connection is closed instead of answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The bytes are no request.
    #[error("the request is malformed")]
    Malformed,
    /// The answer does not fit the version of the request.
    #[error("the response cannot be encoded in the version asked for")]
    Unencodable,
    /// The answer would be larger than any.
    #[error("the response would be too large")]
    TooLarge,
    /// A request without an answer failed.
    #[error("an unanswered request failed")]
    Unanswerable,
    /// The batch decompresses to more than is allowed.
    #[error("a record batch decompresses to more than is allowed")]
    Bomb,
    /// A client that sends bare SASL tokens has no frame to be refused in.
    #[error("authentication failed")]
    Unauthenticated,
}
