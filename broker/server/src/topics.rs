//! Finding topics for a client, and changing the catalogue.

use std::collections::BTreeMap;
use std::sync::Arc;

use storage::{Catalogue, CatalogueChange, CatalogueError, PartitionId, Storage, Topic};
use tokio::sync::oneshot;
use uuid::Uuid;
use wire::{ErrorCode, LeaderEpoch, PartitionIndex, TopicId};

use crate::context::{Broker, Context};

/// The topics that coordinators write; nobody else does.
pub(crate) const INTERNAL_TOPICS: &[&str] = &["__consumer_offsets", "__transaction_state"];
/// The storage's own records; no client sees them.
const HIDDEN_TOPIC: &str = "__cluster_metadata";
const MAX_NAME_BYTES: usize = 249;
/// More partitions than this in one topic are refused.
pub(crate) const MAX_PARTITIONS: i32 = 10_000;
/// More than this in all topics together are refused, however they come to be.
const MAX_PARTITIONS_OF_ALL: i64 = 50_000;

/// Whether the topic is one of the coordinators'.
pub(crate) fn is_internal(name: &str) -> bool {
    INTERNAL_TOPICS.contains(&name)
}

/// Whether the topic is no business of any client.
pub(crate) fn is_hidden(name: &str) -> bool {
    name == HIDDEN_TOPIC
}

impl Context {
    /// Whether the client may know of, read, write and change what has this name.
    pub(crate) fn may(&self, name: &str) -> bool {
        self.broker.authorizer.allows(self.principal, name)
    }

    /// The topic of this name, if the client may have it.
    pub(crate) fn topic_named(
        &self,
        catalogue: &Catalogue,
        name: &str,
    ) -> Result<Arc<Topic>, ErrorCode> {
        if !self.may(name) {
            return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        }
        let found = catalogue.by_name.get(name).filter(|_| !is_hidden(name));
        found.cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }

    /// The topic of this id, if the client may have it. A closed topic's id is as unknown as any
    /// other that does not exist.
    pub(crate) fn topic_with_id(
        &self,
        catalogue: &Catalogue,
        id: Uuid,
    ) -> Result<Arc<Topic>, ErrorCode> {
        let found = catalogue.by_id.get(&TopicId(id));
        let visible = found.filter(|topic| !is_hidden(&topic.name) && self.may(&topic.name));
        visible.cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    }

    /// The topic that a request means: by id in versions that have ids, else by name.
    pub(crate) fn topic(
        &self,
        catalogue: &Catalogue,
        by_id: bool,
        (name, id): (&str, Uuid),
    ) -> Result<Arc<Topic>, ErrorCode> {
        if by_id { self.topic_with_id(catalogue, id) } else { self.topic_named(catalogue, name) }
    }
}

/// The partition of a topic, if the topic has one of this index.
pub(crate) fn partition(topic: &Topic, index: i32) -> Result<PartitionId, ErrorCode> {
    if (0..topic.partitions).contains(&index) {
        Ok(PartitionId { topic: topic.id, partition: PartitionIndex(index) })
    } else {
        Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }
}

/// Compares the leader epoch that a client believes in; -1 believes in none.
pub(crate) fn check_leader_epoch(leader_epoch: LeaderEpoch, current: i32) -> Result<(), ErrorCode> {
    match current {
        -1 => Ok(()),
        epoch if epoch < leader_epoch.0 => Err(ErrorCode::FENCED_LEADER_EPOCH),
        epoch if epoch > leader_epoch.0 => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

/// Begins to change the catalogue; the future waits until the change is durable.
pub(crate) fn change(
    storage: &Storage,
    change: CatalogueChange,
) -> impl Future<Output = Result<TopicId, CatalogueError>> + Send + use<> {
    let (done, result) = oneshot::channel();
    // Nobody waits for the result any more when the connection is gone.
    let answer = move |outcome| {
        done.send(outcome).ok();
    };
    storage.change_catalogue(change, Box::new(answer));
    async { result.await.unwrap_or(Err(CatalogueError::ShuttingDown)) }
}

/// Creates a topic whose name, number and settings have been checked.
pub(crate) async fn create(
    broker: &Broker,
    name: &str,
    partitions: i32,
    configs: BTreeMap<String, String>,
) -> Result<TopicId, ErrorCode> {
    if !has_room(&broker.storage.catalogue(), partitions) {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let create = CatalogueChange::CreateTopic { name: name.to_owned(), partitions, configs };
    change(&broker.storage, create).await.map_err(error_code)
}

/// Whether so many partitions more are still to be had.
pub(crate) fn has_room(catalogue: &Catalogue, more: i32) -> bool {
    let all: i64 = catalogue.by_name.values().map(|topic| i64::from(topic.partitions)).sum();
    all + i64::from(more) <= MAX_PARTITIONS_OF_ALL
}

/// The answer to a failed change of the catalogue.
pub(crate) fn error_code(error: CatalogueError) -> ErrorCode {
    match error {
        CatalogueError::Exists => ErrorCode::TOPIC_ALREADY_EXISTS,
        CatalogueError::Unknown => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        CatalogueError::FewerPartitions => ErrorCode::INVALID_PARTITIONS,
        CatalogueError::DiskFull => ErrorCode::KAFKA_STORAGE_ERROR,
        CatalogueError::ShuttingDown => ErrorCode::BROKER_NOT_AVAILABLE,
    }
}

/// Why a name is not a topic's, or none if it may be.
pub(crate) fn name_fault(catalogue: &Catalogue, name: &str) -> Option<&'static str> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > MAX_NAME_BYTES {
        return Some("a topic's name has 1 to 249 characters");
    }
    if name == "." || name == ".." || !name.bytes().all(is_legal) {
        return Some(
            "a topic's name is made of letters, digits, '.', '_' and '-', and is not '.' or '..'",
        );
    }
    if is_hidden(name) {
        return Some("the name is taken by the broker");
    }
    let collides = name.contains(['.', '_'])
        && catalogue.by_name.keys().any(|other| other != name && is_alike(other, name));
    collides.then_some("the name differs from another topic's only in '.' and '_'")
}

/// Whether the two are the same where '.' and '_' are, as in the names of Kafka's metrics.
fn is_alike(one: &str, other: &str) -> bool {
    let is_joint = |byte| matches!(byte, b'.' | b'_');
    let same = |(a, b): (u8, u8)| a == b || (is_joint(a) && is_joint(b));
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(same)
}
