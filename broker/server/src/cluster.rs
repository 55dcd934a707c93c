//! What the one node says of itself as a cluster.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kafka_protocol::protocol::StrBytes;

use crate::context::Broker;

/// Authorized operations that nobody asked for.
pub(crate) const NOT_ASKED: i32 = i32::MIN;
/// Read, write, create, delete, alter, describe, describe and alter configs, as bits.
pub(crate) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Create, alter, describe, describe and alter configs, idempotent write, as bits.
pub(crate) const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11 | 1 << 12;

/// The cluster's id as Kafka writes it: 22 characters of base64.
pub(crate) fn id(broker: &Broker) -> StrBytes {
    StrBytes::from_string(URL_SAFE_NO_PAD.encode(broker.storage.cluster_id().as_bytes()))
}
