//! `Fetch` v4-18. v5: log start offset; v7: sessions (refused honestly: the session id is always
//! 0, which tells the client to send the whole list each time); v9: leader epoch; v11: rack; v12:
//! flexible; v13: topic ids; v15: replica state; v17: replica directory; v18: high watermark.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest};
use storage::{
    Catalogue, Isolation, LogOffsetSnapshot, PartitionId, ReadError, ReadLimit, ReadResult,
    Storage, Topic,
};
use tokio::time::{Instant, timeout_at};
use wire::{ErrorCode, LeaderEpoch, Offset};

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::fetch_response::{FetchAnswer, PartitionAnswer, TopicAnswer};
use crate::tasks;
use crate::topics;

pub(crate) const API: Api = Api {
    key: ApiKey::Fetch,
    accepted: (4, 18),
    advertised: (4, 18),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

/// `fetch.max.bytes`, as Kafka ships it. Records are not held in memory.
pub(crate) const MAX_BYTES: i32 = 55 << 20;
/// The longest a fetch is parked, whatever it asks for.
const MAX_WAIT: Duration = Duration::from_mins(5);
const TOPIC_ID_VERSION: i16 = 13;
const REPLICA_STATE_VERSION: i16 = 15;
const READ_COMMITTED: i8 = 1;
const NO_SESSION: i32 = 0;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let version = request.version;
    let asked: FetchRequest = request.decode()?;
    drop(request);
    if asked.session_id != NO_SESSION && asked.session_epoch > 0 {
        let error_code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        let answer = FetchAnswer { error_code, ..FetchAnswer::default() };
        return Ok(Reply::Now(answer.encode(version)));
    }
    let plan = Arc::new(Plan::new(ctx, version, asked));
    let mut answer = read(ctx, &plan).await?;
    if !plan.is_enough(&answer) {
        let waiter = ctx.broker.purgatory.wait_for(plan.partitions());
        answer = read(ctx, &plan).await?;
        while !plan.is_enough(&answer) {
            let changed = async {
                tokio::select! {
                    () = waiter.changed() => true,
                    () = ctx.closed.cancelled() => false,
                }
            };
            if !timeout_at(plan.deadline, changed).await.unwrap_or(false) {
                break;
            }
            answer = read(ctx, &plan).await?;
        }
    }
    Ok(Reply::Now(answer.encode(version)))
}

/// Looks up what there is; in a thread of its own if that has to wait for the disk.
async fn read(ctx: &Context, plan: &Arc<Plan>) -> Result<FetchAnswer, Failure> {
    if let Some(answer) = plan.read(&ctx.broker.storage, Storage::try_read) {
        return Ok(answer);
    }
    let (storage, plan) = (ctx.broker.storage.clone(), Arc::clone(plan));
    let read = move || plan.read(&storage, Storage::read);
    let answer =
        tasks::waiting_for_disk(false, read).await.map_err(|_panicked| Failure::Unanswerable)?;
    answer.ok_or(Failure::Unanswerable)
}

/// A fetch with its topics found.
struct Plan {
    topics: Vec<(FetchTopic, Result<Arc<Topic>, ErrorCode>)>,
    isolation: Isolation,
    max_bytes: usize,
    min_bytes: usize,
    deadline: Instant,
}

impl Plan {
    fn new(ctx: &Context, version: i16, asked: FetchRequest) -> Self {
        let replica = if version < REPLICA_STATE_VERSION {
            asked.replica_id
        } else {
            asked.replica_state.replica_id
        };
        let catalogue: Arc<Catalogue> = ctx.broker.storage.catalogue();
        let find = |topic: &FetchTopic| {
            if replica.0 >= 0 {
                // There are no followers.
                return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
            }
            let by_id = version >= TOPIC_ID_VERSION;
            ctx.topic(&catalogue, by_id, (&topic.topic, topic.topic_id))
        };
        let max_bytes = asked.max_bytes.clamp(0, MAX_BYTES);
        let wait = Duration::from_millis(u64::try_from(asked.max_wait_ms).unwrap_or(0));
        let mut topics: Vec<_> =
            asked.topics.into_iter().map(|topic| (find(&topic), topic)).collect();
        let mut seen = HashSet::new();
        for (found, topic) in &mut topics {
            let Ok(found) = found else { continue };
            // A partition that is named again is read once.
            topic.partitions.retain(|one| {
                topics::partition(found, one.partition).map_or(true, |id| seen.insert(id))
            });
        }
        Self {
            topics: topics.into_iter().map(|(found, topic)| (topic, found)).collect(),
            isolation: if asked.isolation_level == READ_COMMITTED {
                Isolation::ReadCommitted
            } else {
                Isolation::ReadUncommitted
            },
            max_bytes: bytes(max_bytes),
            min_bytes: bytes(asked.min_bytes.min(max_bytes)),
            deadline: Instant::now() + wait.min(MAX_WAIT),
        }
    }

    fn partitions(&self) -> Vec<PartitionId> {
        let found =
            self.topics.iter().filter_map(|(asked, topic)| Some((asked, topic.as_ref().ok()?)));
        found
            .flat_map(|(asked, topic)| {
                asked
                    .partitions
                    .iter()
                    .filter_map(|one| topics::partition(topic, one.partition).ok())
            })
            .collect()
    }

    /// Whether the answer goes out now: enough bytes, an error, nothing to wait for, or no time.
    fn is_enough(&self, answer: &FetchAnswer) -> bool {
        let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions).peekable();
        if partitions.peek().is_none() || self.deadline <= Instant::now() {
            return true;
        }
        let mut total = 0;
        partitions.any(|partition| {
            total += partition.len();
            !partition.error_code.is_none() || total >= self.min_bytes
        })
    }

    /// None if `reads` would have had to wait for the disk.
    fn read(&self, storage: &Storage, reads: Reads) -> Option<FetchAnswer> {
        let mut left = self.max_bytes;
        let mut is_first = true;
        let mut topics = Vec::with_capacity(self.topics.len());
        for (asked, topic) in &self.topics {
            let mut partitions = Vec::with_capacity(asked.partitions.len());
            for wanted in &asked.partitions {
                let limit = ReadLimit {
                    max_bytes: bytes(wanted.partition_max_bytes).min(left),
                    isolation: self.isolation,
                    // Whatever the limits say, the first partition that has anything gives a
                    // batch, so that a reader always gets on.
                    at_least_one_batch: is_first,
                };
                let answer = match topic {
                    Ok(topic) => {
                        let read = |at, from| reads(storage, at, from, limit);
                        let leader_epoch = storage.leader_epoch();
                        read_partition(topic, wanted, leader_epoch, limit.isolation, read)
                    }
                    Err(code) => Err(Refusal::Code(*code)),
                };
                let answer = match answer {
                    Ok(answer) => answer,
                    Err(Refusal::WouldBlock) => return None,
                    Err(Refusal::Code(code)) => PartitionAnswer::refused(wanted.partition, code),
                };
                let length = answer.len();
                left = left.saturating_sub(length);
                is_first &= length == 0;
                partitions.push(answer);
            }
            topics.push(TopicAnswer { name: asked.topic.clone(), id: asked.topic_id, partitions });
        }
        Some(FetchAnswer { error_code: ErrorCode::NONE, session_id: NO_SESSION, topics })
    }
}

/// One of the storage's two ways to read.
type Reads = fn(&Storage, PartitionId, Offset, ReadLimit) -> Result<ReadResult, ReadError>;

/// Why a partition gives nothing.
enum Refusal {
    Code(ErrorCode),
    WouldBlock,
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

fn read_partition(
    topic: &Topic,
    wanted: &FetchPartition,
    leader_epoch: LeaderEpoch,
    isolation: Isolation,
    read: impl FnOnce(PartitionId, Offset) -> Result<ReadResult, ReadError>,
) -> Result<PartitionAnswer, Refusal> {
    let partition = topics::partition(topic, wanted.partition)?;
    topics::check_leader_epoch(leader_epoch, wanted.current_leader_epoch)?;
    let read = read(partition, Offset(wanted.fetch_offset)).map_err(|error| match error {
        ReadError::UnknownPartition => Refusal::Code(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ReadError::OffsetOutOfRange(_) => Refusal::Code(ErrorCode::OFFSET_OUT_OF_RANGE),
        ReadError::Io(error) if error.kind() == io::ErrorKind::WouldBlock => Refusal::WouldBlock,
        error @ (ReadError::Io(_) | ReadError::Damaged { .. }) => {
            tracing::error!(topic = topic.name, partition = wanted.partition, %error, "the log cannot be read");
            Refusal::Code(ErrorCode::KAFKA_STORAGE_ERROR)
        }
    })?;
    let LogOffsetSnapshot { log_start_offset, high_watermark, last_stable_offset, .. } =
        read.snapshot;
    Ok(PartitionAnswer {
        index: wanted.partition,
        error_code: ErrorCode::NONE,
        high_watermark: high_watermark.0,
        last_stable_offset: last_stable_offset.0,
        log_start_offset: log_start_offset.0,
        aborted: (isolation == Isolation::ReadCommitted).then_some(read.aborted),
        records: read.slices,
    })
}

fn bytes(count: i32) -> usize {
    usize::try_from(count).unwrap_or(0)
}
