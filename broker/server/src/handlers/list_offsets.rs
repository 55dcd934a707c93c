//! `ListOffsets` v1-10. v2: isolation; v4: leader epoch; v6: flexible; v7: -3, the largest
//! timestamp; v8: -4, the earliest local offset; v9: -5, the latest tiered one; v10: a time limit.

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ApiKey, ListOffsetsRequest, ListOffsetsResponse};
use storage::{LogOffsetSnapshot, PartitionId, ReadError, Storage};
use tokio::sync::oneshot;
use wire::{ErrorCode, LeaderEpoch, Offset, TimestampMs};

use crate::alter::repeated;
use crate::context::{Broker, Context};
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::tasks;
use crate::topics;

pub(crate) const API: Api = Api {
    key: ApiKey::ListOffsets,
    accepted: (1, 10),
    advertised: (1, 10),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const READ_COMMITTED: i8 = 1;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let version = request.version;
    let asked: ListOffsetsRequest = request.decode()?;
    let repeated = repeated(asked.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|wanted| (topic.name.as_str(), wanted.partition_index))
    }));
    let catalogue = ctx.broker.storage.catalogue();
    let committed = asked.isolation_level == READ_COMMITTED;
    let mut response = ListOffsetsResponse::default();
    for topic in &asked.topics {
        let found = if asked.replica_id.0 >= 0 {
            Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED)
        } else {
            ctx.topic_named(&catalogue, &topic.name)
        };
        let name = topic.name.as_str();
        let mut answers = Vec::with_capacity(topic.partitions.len());
        let leader_epoch = ctx.broker.storage.leader_epoch();
        for wanted in &topic.partitions {
            let partition = found.as_ref().map_err(|code| *code).and_then(|topic| {
                if repeated.contains(&(name, wanted.partition_index)) {
                    return Err(ErrorCode::INVALID_REQUEST);
                }
                topics::check_leader_epoch(leader_epoch, wanted.current_leader_epoch)?;
                topics::partition(topic, wanted.partition_index)
            });
            let outcome = match partition {
                Ok(partition) => find(&ctx.broker, version, partition, (wanted, committed)).await,
                Err(code) => Err(code),
            };
            answers.push(answer((version, leader_epoch), wanted.partition_index, outcome));
        }
        let answered = ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(answers);
        response.topics.push(answered);
    }
    request.reply(&response)
}

/// The offset that a timestamp stands for, and the timestamp of its record; none if there is no
/// such record.
async fn find(
    broker: &Broker,
    version: i16,
    partition: PartitionId,
    (wanted, committed): (&ListOffsetsPartition, bool),
) -> Result<Option<(Offset, TimestampMs)>, ErrorCode> {
    let offsets = offsets(broker, partition)?;
    match wanted.timestamp {
        LATEST => {
            settle(broker, partition, offsets.log_end_offset).await;
            Ok(Some((readable(broker, partition, committed)?, TimestampMs::NONE)))
        }
        EARLIEST => Ok(Some((offsets.log_start_offset, TimestampMs::NONE))),
        MAX_TIMESTAMP if version >= 7 => {
            settle(broker, partition, offsets.log_end_offset).await;
            let end = readable(broker, partition, committed)?;
            let found = search(broker, move |storage| storage.max_timestamp(partition)).await?;
            Ok(found.filter(|(offset, _)| *offset < end))
        }
        EARLIEST_LOCAL if version >= 8 => Ok(Some((offsets.log_start_offset, TimestampMs::NONE))),
        LATEST_TIERED if version >= 9 => Ok(None),
        timestamp if timestamp >= 0 => {
            settle(broker, partition, offsets.log_end_offset).await;
            let end = readable(broker, partition, committed)?;
            let time = TimestampMs(timestamp);
            let by_time = move |storage: &Storage| storage.offset_for_timestamp(partition, time);
            Ok(search(broker, by_time).await?.filter(|(offset, _)| *offset < end))
        }
        _ => Err(ErrorCode::UNSUPPORTED_VERSION),
    }
}

type Found = Option<(Offset, TimestampMs)>;

/// Looks for a record by its time, which may have to read from the disk.
async fn search(
    broker: &Broker,
    look: impl FnOnce(&Storage) -> Result<Found, ReadError> + Send + 'static,
) -> Result<Found, ErrorCode> {
    let storage = broker.storage.clone();
    let looked = tasks::waiting_for_disk(false, move || look(&storage)).await;
    looked.map_err(|_panicked| ErrorCode::KAFKA_STORAGE_ERROR)?.map_err(read_error)
}

/// Waits until what had been appended when the request came is durable, so that whoever asks
/// after an acknowledged write sees it.
async fn settle(broker: &Broker, partition: PartitionId, log_end_offset: Offset) {
    let (done, settled) = oneshot::channel();
    let wait = Box::new(move |()| {
        done.send(()).ok();
    });
    broker.storage.when_durable(partition, log_end_offset, wait);
    // Dropped unanswered when the storage stops; what is readable then is the answer.
    drop(settled.await);
}

fn offsets(broker: &Broker, partition: PartitionId) -> Result<LogOffsetSnapshot, ErrorCode> {
    broker.storage.offsets(partition).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

fn readable(broker: &Broker, partition: PartitionId, committed: bool) -> Result<Offset, ErrorCode> {
    let offsets = offsets(broker, partition)?;
    Ok(if committed { offsets.last_stable_offset } else { offsets.high_watermark })
}

fn read_error(error: ReadError) -> ErrorCode {
    match error {
        ReadError::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ReadError::OffsetOutOfRange(_) => ErrorCode::OFFSET_OUT_OF_RANGE,
        error @ (ReadError::Io(_) | ReadError::Damaged { .. }) => {
            tracing::error!(%error, "the log cannot be read");
            ErrorCode::KAFKA_STORAGE_ERROR
        }
    }
}

fn answer(
    (version, leader_epoch): (i16, LeaderEpoch),
    index: i32,
    outcome: Result<Option<(Offset, TimestampMs)>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let mut answer = ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_offset(-1)
        .with_timestamp(-1);
    match outcome {
        Ok(Some((offset, timestamp))) => {
            answer.offset = offset.0;
            answer.timestamp = timestamp.0;
            if version >= 4 {
                answer.leader_epoch = leader_epoch.0;
            }
        }
        Ok(None) => {}
        Err(code) => answer.error_code = code.0,
    }
    answer
}
