use std::collections::BTreeSet;

use bytes::Bytes;

use super::{JoinGroupRequest, JoinedMember, Ticket};
use crate::{
    codec::Reader,
    record::{MemberMetadata, RecordError},
};

/// A member of a live group.
#[derive(Clone, Debug)]
#[expect(clippy::struct_field_names, reason = "member_id is Kafka's word")]
pub(super) struct Member {
    pub(super) member_id: String,
    pub(super) group_instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) assignment: Bytes,
    pub(super) awaiting_join: Option<Ticket>,
    pub(super) awaiting_sync: Option<Ticket>,
    /// Has never been answered: its client may have given up.
    pub(super) is_new: bool,
}

impl Member {
    pub(super) fn new(request: &JoinGroupRequest, member_id: &str) -> Self {
        Self {
            member_id: member_id.to_owned(),
            group_instance_id: request.group_instance_id.clone(),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            protocols: request.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: true,
        }
    }

    pub(super) fn restore(metadata: &MemberMetadata, protocol: &str) -> Self {
        Self {
            member_id: metadata.member_id.clone(),
            group_instance_id: metadata.group_instance_id.clone(),
            client_id: metadata.client_id.clone(),
            client_host: metadata.client_host.clone(),
            session_timeout_ms: metadata.session_timeout_ms,
            rebalance_timeout_ms: metadata.rebalance_timeout_ms,
            protocols: vec![(protocol.to_owned(), metadata.subscription.clone())],
            assignment: metadata.assignment.clone(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
        }
    }

    /// What the member makes its group's record longer by, at most.
    pub(super) fn size_in_bytes(&self) -> usize {
        let protocols = self.protocols.iter().map(|(name, metadata)| name.len() + metadata.len());
        let instance = self.group_instance_id.as_ref().map_or(0, String::len);
        self.client_id.len() + self.client_host.len() + instance + protocols.sum::<usize>()
    }

    /// Takes over what a join request says anew.
    pub(super) fn update(&mut self, request: &JoinGroupRequest) {
        self.client_id.clone_from(&request.client_id);
        self.client_host.clone_from(&request.client_host);
        self.session_timeout_ms = request.session_timeout_ms;
        self.rebalance_timeout_ms = request.rebalance_timeout_ms;
        self.protocols.clone_from(&request.protocols);
    }

    /// The member's metadata for one protocol; empty where it does not support it.
    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| Some(name.as_str()) == protocol)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    pub(super) fn protocol_names(&self) -> BTreeSet<&str> {
        self.protocols.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The topics of the subscription, if it is a consumer's.
    pub(super) fn topics(&self, protocol: Option<&str>) -> BTreeSet<String> {
        subscribed_topics(&self.metadata(protocol)).unwrap_or_default()
    }

    pub(super) fn to_joined(&self, protocol: Option<&str>) -> JoinedMember {
        JoinedMember {
            member_id: self.member_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            metadata: self.metadata(protocol),
        }
    }

    pub(super) fn to_metadata(&self, protocol: Option<&str>) -> MemberMetadata {
        MemberMetadata {
            member_id: self.member_id.clone(),
            group_instance_id: self.group_instance_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }
}

/// The topics in a `ConsumerProtocolSubscription`.
pub fn subscribed_topics(metadata: &[u8]) -> Result<BTreeSet<String>, RecordError> {
    let mut reader = Reader::new(metadata);
    reader.i16()?;
    let mut topics = BTreeSet::new();
    for _ in 0..reader.count()? {
        topics.insert(reader.string()?);
    }
    Ok(topics)
}
