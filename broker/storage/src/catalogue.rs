//! The catalogue: topics and settings, and the records of `__cluster_metadata` that make it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;
use wire::{
    Offset, PartitionIndex, TimestampMs, TopicId,
    batch::{BatchBuilder, BatchView, NewRecord, RecordLimits, records},
};

use crate::{
    api::{Catalogue, CatalogueChange, CatalogueError, PartitionId, Topic},
    codec::{Reader, Writer},
};

/// The partition that holds the catalogue's own records.
pub(crate) const METADATA: PartitionId =
    PartitionId { topic: TopicId(Uuid::from_u128(1)), partition: PartitionIndex(0) };

const VERSION: u8 = 1;
const PRODUCER_ID_EXPIRATION_MS: i64 = 24 * 60 * 60 * 1000;

/// The catalogue is recorded once more in parts that end with the topic that reaches this.
pub(crate) const PART_BYTES: usize = EXISTING_TOPIC_BYTES;
/// They have no more records than this.
pub(crate) const PART_RECORDS: usize = 256;
/// A record beside its strings.
const RECORD_BYTES: usize = 130;
/// More than a topic's own name and configurations are; what made them sees to that.
pub(crate) const EXISTING_TOPIC_BYTES: usize = 64 << 10;

/// A change as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Topic {
        id: TopicId,
        name: String,
        partitions: i32,
        configs: BTreeMap<String, String>,
    },
    Deleted {
        id: TopicId,
    },
    BrokerConfigs {
        configs: BTreeMap<String, String>,
    },
    /// Records in front of `offset` are no more.
    LogStart {
        partition: PartitionId,
        offset: Offset,
    },
    /// The files from `base` up to `end` are replaced by one that was written anew.
    Swapped {
        partition: PartitionId,
        base: Offset,
        end: Offset,
        generation: u64,
    },
    /// Producers that were silent since `before` are forgotten, so that a state that is built again
    /// equals the one that was lost.
    ProducersExpired {
        before: TimestampMs,
    },
}

impl Record {
    /// A topic as it is.
    pub(crate) fn of_topic(topic: &Topic) -> Self {
        let Topic { id, name, partitions, configs } = topic.clone();
        Self::Topic { id, name, partitions, configs }
    }

    pub(crate) fn topic(&self) -> TopicId {
        match self {
            Self::Topic { id, .. } | Self::Deleted { id } => *id,
            Self::BrokerConfigs { .. } | Self::ProducersExpired { .. } => TopicId(Uuid::nil()),
            Self::LogStart { partition, .. } | Self::Swapped { partition, .. } => partition.topic,
        }
    }

    /// The record as a batch for `__cluster_metadata`.
    pub(crate) fn to_batch(&self, now: TimestampMs) -> Bytes {
        let mut value = Writer::default();
        value.u8(VERSION);
        match self {
            Self::Topic { id, name, partitions, configs } => {
                value.u8(1).bytes(id.0.as_bytes()).string(name).i32(*partitions);
                write_configs(&mut value, configs);
            }
            Self::Deleted { id } => {
                value.u8(2).bytes(id.0.as_bytes());
            }
            Self::BrokerConfigs { configs } => {
                value.u8(3);
                write_configs(&mut value, configs);
            }
            Self::LogStart { partition, offset } => {
                value.u8(4).partition(*partition).i64(offset.0);
            }
            Self::Swapped { partition, base, end, generation } => {
                value.u8(5).partition(*partition).i64(base.0).i64(end.0).u64(*generation);
            }
            Self::ProducersExpired { before } => {
                value.u8(6).i64(before.0);
            }
        }
        let mut builder = BatchBuilder::new();
        let record = NewRecord { timestamp: now, key: None, value: Some(&value.0), headers: &[] };
        builder.push(record);
        builder.build()
    }

    fn decode(value: &[u8]) -> Option<Self> {
        let mut reader = Reader(value);
        if reader.u8()? != VERSION {
            return None;
        }
        match reader.u8()? {
            1 => Some(Self::Topic {
                id: TopicId(reader.uuid()?),
                name: reader.string()?,
                partitions: reader.i32()?,
                configs: read_configs(&mut reader)?,
            }),
            2 => Some(Self::Deleted { id: TopicId(reader.uuid()?) }),
            3 => Some(Self::BrokerConfigs { configs: read_configs(&mut reader)? }),
            4 => Some(Self::LogStart { partition: reader.partition()?, offset: reader.offset()? }),
            5 => Some(Self::Swapped {
                partition: reader.partition()?,
                base: reader.offset()?,
                end: reader.offset()?,
                generation: reader.u64()?,
            }),
            6 => Some(Self::ProducersExpired { before: TimestampMs(reader.i64()?) }),
            _ => None,
        }
    }
}

fn write_configs(writer: &mut Writer, configs: &BTreeMap<String, String>) {
    writer.count(configs.len());
    for (key, value) in configs {
        writer.string(key).string(value);
    }
}

fn read_configs(reader: &mut Reader<'_>) -> Option<BTreeMap<String, String>> {
    Some(reader.list(|reader| Some((reader.string()?, reader.string()?)))?.into_iter().collect())
}

/// The records of a batch of `__cluster_metadata`; `None` if it is none.
pub(crate) fn records_of(view: &BatchView<'_>) -> Option<Vec<Record>> {
    view.verify_crc().ok()?;
    let mut found = Vec::new();
    let mut records = records(view, RecordLimits::default()).ok()?;
    while let Some(record) = records.next_record() {
        found.push(Record::decode(record.ok()?.value?)?);
    }
    Some(found)
}

impl Topic {
    /// About what its record takes.
    pub(crate) fn recorded_bytes(&self) -> usize {
        let configs = self.configs.iter().map(|(key, value)| key.len() + value.len() + 8);
        RECORD_BYTES + self.name.len() + configs.sum::<usize>()
    }
}

impl Catalogue {
    /// About what it takes to record all of it.
    pub(crate) fn recorded_bytes(&self) -> usize {
        let topics = self.by_id.values().map(|topic| {
            topic.recorded_bytes() + usize::try_from(topic.partitions).unwrap_or(0) * RECORD_BYTES
        });
        topics.sum()
    }

    /// What a change is recorded as, if it is allowed. `new_id` is for a topic that is made.
    pub(crate) fn plan(
        &self,
        change: CatalogueChange,
        new_id: TopicId,
    ) -> Result<Record, CatalogueError> {
        let known = |id| self.by_id.get(&id).ok_or(CatalogueError::Unknown);
        match change {
            CatalogueChange::CreateTopic { name, partitions, configs } => {
                if self.by_name.contains_key(&name) {
                    return Err(CatalogueError::Exists);
                }
                Ok(Record::Topic { id: new_id, name, partitions, configs })
            }
            CatalogueChange::DeleteTopic { id } => known(id).map(|_| Record::Deleted { id }),
            CatalogueChange::AddPartitions { id, count } => {
                let topic = known(id)?;
                if count < topic.partitions {
                    return Err(CatalogueError::FewerPartitions);
                }
                let (name, configs) = (topic.name.clone(), topic.configs.clone());
                Ok(Record::Topic { id, name, partitions: count, configs })
            }
            CatalogueChange::SetConfigs { id, configs } => {
                let topic = known(id)?;
                let (name, partitions) = (topic.name.clone(), topic.partitions);
                Ok(Record::Topic { id, name, partitions, configs })
            }
            CatalogueChange::SetBrokerConfigs { configs } => Ok(Record::BrokerConfigs { configs }),
        }
    }

    /// Takes a recorded change in.
    pub(crate) fn replay(&mut self, record: Record) {
        match record {
            Record::Topic { id, name, partitions, configs } => {
                let topic = Arc::new(Topic { id, name: name.clone(), partitions, configs });
                let before = self.by_name.insert(name, Arc::clone(&topic));
                // A repair may have lost that this one was deleted.
                if let Some(before) = before.filter(|before| before.id != id) {
                    self.by_id.remove(&before.id);
                }
                self.by_id.insert(id, topic);
            }
            Record::Deleted { id } => {
                if let Some(topic) = self.by_id.remove(&id) {
                    self.by_name.remove(&topic.name);
                }
            }
            Record::BrokerConfigs { configs } => self.broker_configs = configs,
            Record::ProducersExpired { before } => {
                self.producers_expired_before = self.producers_expired_before.max(Some(before));
            }
            // Of the logs, not of the topics.
            Record::LogStart { .. } | Record::Swapped { .. } => {}
        }
    }

    /// A configuration of the broker that is not the default.
    pub fn broker_config(&self, name: &str) -> Option<&String> {
        self.broker_configs.get(name).or_else(|| self.static_configs.get(name))
    }

    /// Since when the producers were silent that are forgotten. What a clock wrote that was far
    /// ahead would have every later start forget them all.
    pub(crate) fn silent_since(&self, now: TimestampMs) -> Option<TimestampMs> {
        let before = self.producers_expired_before?;
        let is_possible = before <= now;
        let longest_ms = self.producer_id_expiration_ms();
        Some(if is_possible { before } else { TimestampMs(now.0.saturating_sub(longest_ms)) })
    }

    /// How long a silent producer is remembered, in milliseconds.
    pub(crate) fn producer_id_expiration_ms(&self) -> i64 {
        let set = self.broker_config("producer.id.expiration.ms");
        set.and_then(|value| value.parse().ok()).unwrap_or(PRODUCER_ID_EXPIRATION_MS)
    }

    /// All partitions of all topics, the catalogue's own among them.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (PartitionId, Option<&Arc<Topic>>)> {
        let of_topics = self.by_id.values().flat_map(|topic| {
            partitions_of(topic.id, 0..topic.partitions).map(move |id| (id, Some(topic)))
        });
        std::iter::once((METADATA, None)).chain(of_topics)
    }
}

/// Partitions of a topic by their indexes.
pub(crate) fn partitions_of(
    topic: TopicId,
    indexes: std::ops::Range<i32>,
) -> impl Iterator<Item = PartitionId> {
    indexes.map(move |index| PartitionId { topic, partition: PartitionIndex(index) })
}
