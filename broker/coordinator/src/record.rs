//! The records of `__consumer_offsets` and `__transaction_state`, in Kafka's own schemas.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wire::{LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, TimestampMs};

use crate::codec::{Reader, Writer};

const OFFSET_KEY: i16 = 1;
const GROUP_KEY: i16 = 2;
const TRANSACTION_KEY: i16 = 0;
const OFFSET_VALUE_WITH_EXPIRY: i16 = 1;
const OFFSET_VALUE: i16 = 3;
const GROUP_VALUE: i16 = 3;
const TRANSACTION_VALUE: i16 = 1;
const PREVIOUS_PRODUCER_ID_TAG: u32 = 0;
const CLIENT_TRANSACTION_VERSION_TAG: u32 = 2;

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record ends before its fields do")]
    Truncated,
    #[error("a string of the record is not UTF-8")]
    NotUtf8,
    #[error("key version {0} is unknown")]
    UnknownKey(i16),
    #[error("value version {0} is unknown")]
    UnknownValue(i16),
    #[error("transaction status {0} is unknown")]
    UnknownStatus(i8),
}

/// A record's key and value; no value is a tombstone.
pub type Encoded = (Bytes, Option<Bytes>);

/// A record of `__consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    Offset {
        group_id: String,
        topic: String,
        partition: PartitionIndex,
        value: Option<CommittedOffset>,
    },
    Group {
        group_id: String,
        value: Option<GroupMetadata>,
    },
}

/// A committed offset with what the committer said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: Offset,
    /// -1 where the committer named none.
    pub leader_epoch: LeaderEpoch,
    pub metadata: String,
    pub commit_timestamp: TimestampMs,
    /// When clients older than `OffsetCommit` v5 said that it expires.
    pub expire_timestamp: Option<TimestampMs>,
}

/// A group as of its last completed rebalance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    pub protocol_type: String,
    pub generation_id: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    pub current_state_timestamp: TimestampMs,
    pub members: Vec<MemberMetadata>,
}

/// A member with what it was assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    pub member_id: String,
    pub group_instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A record of `__transaction_state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionRecord {
    pub transactional_id: String,
    pub value: Option<TransactionMetadata>,
}

/// A transactional id with its producer and its last transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionMetadata {
    pub producer_id: ProducerId,
    pub previous_producer_id: ProducerId,
    pub producer_epoch: ProducerEpoch,
    pub timeout_ms: i32,
    pub status: TransactionStatus,
    pub partitions: BTreeSet<TopicPartition>,
    pub last_update_timestamp: TimestampMs,
    /// -1 while no transaction was begun.
    pub start_timestamp: TimestampMs,
    /// 2 where the client bumps its epoch with every transaction (KIP-890), else 0.
    pub client_transaction_version: i16,
}

/// A partition by its topic's name.
pub type TopicPartition = (String, PartitionIndex);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
    Dead,
    PrepareEpochFence,
}

impl GroupRecord {
    /// The group the record is about; its hash is the record's partition.
    #[must_use]
    pub fn group_id(&self) -> &str {
        match self {
            Self::Offset { group_id, .. } | Self::Group { group_id, .. } => group_id,
        }
    }

    #[must_use]
    pub fn encode(&self) -> Encoded {
        match self {
            Self::Offset { group_id, topic, partition, value } => {
                let mut key = Writer::with_version(OFFSET_KEY);
                key.string(group_id);
                key.string(topic);
                key.i32(partition.0);
                (key.finish(), value.as_ref().map(CommittedOffset::encode))
            }
            Self::Group { group_id, value } => {
                let mut key = Writer::with_version(GROUP_KEY);
                key.string(group_id);
                (key.finish(), value.as_ref().map(GroupMetadata::encode))
            }
        }
    }

    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        let mut key = Reader::new(key);
        match key.i16()? {
            0 | OFFSET_KEY => Ok(Self::Offset {
                group_id: key.string()?,
                topic: key.string()?,
                partition: PartitionIndex(key.i32()?),
                value: value.map(CommittedOffset::decode).transpose()?,
            }),
            GROUP_KEY => Ok(Self::Group {
                group_id: key.string()?,
                value: value.map(GroupMetadata::decode).transpose()?,
            }),
            other => Err(RecordError::UnknownKey(other)),
        }
    }
}

impl CommittedOffset {
    fn encode(&self) -> Bytes {
        let version =
            if self.expire_timestamp.is_some() { OFFSET_VALUE_WITH_EXPIRY } else { OFFSET_VALUE };
        let mut value = Writer::with_version(version);
        value.i64(self.offset.0);
        if self.expire_timestamp.is_none() {
            value.i32(self.leader_epoch.0);
        }
        value.string(&self.metadata);
        value.i64(self.commit_timestamp.0);
        if let Some(expire) = self.expire_timestamp {
            value.i64(expire.0);
        }
        value.finish()
    }

    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let mut value = Reader::new(value);
        let version = value.i16()?;
        if version != OFFSET_VALUE && version != OFFSET_VALUE_WITH_EXPIRY {
            return Err(RecordError::UnknownValue(version));
        }
        Ok(Self {
            offset: Offset(value.i64()?),
            leader_epoch: LeaderEpoch(if version == OFFSET_VALUE { value.i32()? } else { -1 }),
            metadata: value.string()?,
            commit_timestamp: TimestampMs(value.i64()?),
            expire_timestamp: if version == OFFSET_VALUE_WITH_EXPIRY {
                Some(TimestampMs(value.i64()?))
            } else {
                None
            },
        })
    }
}

impl GroupMetadata {
    fn encode(&self) -> Bytes {
        let mut value = Writer::with_version(GROUP_VALUE);
        value.string(&self.protocol_type);
        value.i32(self.generation_id);
        value.nullable_string(self.protocol.as_deref());
        value.nullable_string(self.leader.as_deref());
        value.i64(self.current_state_timestamp.0);
        value.count(self.members.len());
        for member in &self.members {
            value.string(&member.member_id);
            value.nullable_string(member.group_instance_id.as_deref());
            value.string(&member.client_id);
            value.string(&member.client_host);
            value.i32(member.rebalance_timeout_ms);
            value.i32(member.session_timeout_ms);
            value.bytes(&member.subscription);
            value.bytes(&member.assignment);
        }
        value.finish()
    }

    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let mut value = Reader::new(value);
        let version = value.i16()?;
        if version != GROUP_VALUE {
            return Err(RecordError::UnknownValue(version));
        }
        let mut group = Self {
            protocol_type: value.string()?,
            generation_id: value.i32()?,
            protocol: value.nullable_string()?,
            leader: value.nullable_string()?,
            current_state_timestamp: TimestampMs(value.i64()?),
            members: Vec::new(),
        };
        for _ in 0..value.count()? {
            group.members.push(MemberMetadata {
                member_id: value.string()?,
                group_instance_id: value.nullable_string()?,
                client_id: value.string()?,
                client_host: value.string()?,
                rebalance_timeout_ms: value.i32()?,
                session_timeout_ms: value.i32()?,
                subscription: value.bytes()?,
                assignment: value.bytes()?,
            });
        }
        Ok(group)
    }
}

impl TransactionRecord {
    #[must_use]
    pub fn encode(&self) -> Encoded {
        let mut key = Writer::with_version(TRANSACTION_KEY);
        key.string(&self.transactional_id);
        (key.finish(), self.value.as_ref().map(TransactionMetadata::encode))
    }

    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, RecordError> {
        let mut key = Reader::new(key);
        match key.i16()? {
            TRANSACTION_KEY => Ok(Self {
                transactional_id: key.string()?,
                value: value.map(TransactionMetadata::decode).transpose()?,
            }),
            other => Err(RecordError::UnknownKey(other)),
        }
    }
}

impl TransactionMetadata {
    fn encode(&self) -> Bytes {
        let mut value = Writer::with_version(TRANSACTION_VALUE);
        value.i64(self.producer_id.0);
        value.i16(self.producer_epoch.0);
        value.i32(self.timeout_ms);
        value.i8(self.status.code());
        self.encode_partitions(&mut value);
        value.i64(self.last_update_timestamp.0);
        value.i64(self.start_timestamp.0);
        let previous = self.previous_producer_id != ProducerId::NONE;
        let version = self.client_transaction_version != 0;
        value.unsigned_varint(u32::from(previous) + u32::from(version));
        if previous {
            value.unsigned_varint(PREVIOUS_PRODUCER_ID_TAG);
            value.unsigned_varint(8);
            value.i64(self.previous_producer_id.0);
        }
        if version {
            value.unsigned_varint(CLIENT_TRANSACTION_VERSION_TAG);
            value.unsigned_varint(2);
            value.i16(self.client_transaction_version);
        }
        value.finish()
    }

    /// Partitions grouped by topic; null while there is no transaction, as Kafka writes it.
    fn encode_partitions(&self, value: &mut Writer) {
        if self.status == TransactionStatus::Empty {
            value.unsigned_varint(0);
            return;
        }
        let mut topics: BTreeMap<&str, Vec<PartitionIndex>> = BTreeMap::new();
        for (topic, partition) in &self.partitions {
            topics.entry(topic).or_default().push(*partition);
        }
        value.compact_count(topics.len());
        for (topic, partitions) in topics {
            value.compact_string(topic);
            value.compact_count(partitions.len());
            for partition in partitions {
                value.i32(partition.0);
            }
            value.unsigned_varint(0);
        }
    }

    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let mut value = Reader::new(value);
        let version = value.i16()?;
        if version != TRANSACTION_VALUE {
            return Err(RecordError::UnknownValue(version));
        }
        let mut metadata = Self {
            producer_id: ProducerId(value.i64()?),
            previous_producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(value.i16()?),
            timeout_ms: value.i32()?,
            status: TransactionStatus::from_code(value.i8()?)?,
            partitions: BTreeSet::new(),
            last_update_timestamp: TimestampMs(0),
            start_timestamp: TimestampMs(0),
            client_transaction_version: 0,
        };
        for _ in 0..value.compact_count()?.unwrap_or(0) {
            let topic = value.compact_string()?;
            for _ in 0..value.compact_count()?.unwrap_or(0) {
                metadata.partitions.insert((topic.clone(), PartitionIndex(value.i32()?)));
            }
            value.tagged_fields(|_, _| Ok(()))?;
        }
        metadata.last_update_timestamp = TimestampMs(value.i64()?);
        metadata.start_timestamp = TimestampMs(value.i64()?);
        value.tagged_fields(|tag, field| {
            match tag {
                PREVIOUS_PRODUCER_ID_TAG => {
                    metadata.previous_producer_id = ProducerId(field.i64()?);
                }
                CLIENT_TRANSACTION_VERSION_TAG => {
                    metadata.client_transaction_version = field.i16()?;
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(metadata)
    }
}

impl TransactionStatus {
    fn code(self) -> i8 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::PrepareCommit => 2,
            Self::PrepareAbort => 3,
            Self::CompleteCommit => 4,
            Self::CompleteAbort => 5,
            Self::Dead => 6,
            Self::PrepareEpochFence => 7,
        }
    }

    fn from_code(code: i8) -> Result<Self, RecordError> {
        Ok(match code {
            0 => Self::Empty,
            1 => Self::Ongoing,
            2 => Self::PrepareCommit,
            3 => Self::PrepareAbort,
            4 => Self::CompleteCommit,
            5 => Self::CompleteAbort,
            6 => Self::Dead,
            7 => Self::PrepareEpochFence,
            other => return Err(RecordError::UnknownStatus(other)),
        })
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
