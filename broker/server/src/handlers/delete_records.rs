//! `DeleteRecords` v0-2. v2: flexible.

use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{ApiKey, DeleteRecordsRequest, DeleteRecordsResponse, TopicName};
use storage::{DeleteRecordsError, PartitionId};
use tokio::sync::oneshot;
use wire::{ErrorCode, Offset};

use crate::configs;
use crate::context::{Broker, Context};
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::topics;

pub(crate) const API: Api = Api {
    key: ApiKey::DeleteRecords,
    accepted: (0, 2),
    advertised: (0, 2),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

/// An offset that stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;
const NO_LOW_WATERMARK: i64 = -1;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: DeleteRecordsRequest = request.decode()?;
    let mut response = DeleteRecordsResponse::default();
    for topic in &asked.topics {
        let mut result = DeleteRecordsTopicResult::default().with_name(topic.name.clone());
        for wanted in &topic.partitions {
            let outcome = match find(ctx, &topic.name, wanted) {
                Ok(partition) => delete(&ctx.broker, partition, wanted.offset).await,
                Err(code) => Err(code),
            };
            let (low_watermark, code) = match outcome {
                Ok(offset) => (offset.0, ErrorCode::NONE),
                Err(code) => (NO_LOW_WATERMARK, code),
            };
            let answer = DeleteRecordsPartitionResult::default()
                .with_partition_index(wanted.partition_index)
                .with_low_watermark(low_watermark)
                .with_error_code(code.0);
            result.partitions.push(answer);
        }
        response.topics.push(result);
    }
    request.reply(&response)
}

/// The partition, if its records may be deleted.
fn find(
    ctx: &Context,
    name: &TopicName,
    wanted: &DeleteRecordsPartition,
) -> Result<PartitionId, ErrorCode> {
    let catalogue = ctx.broker.storage.catalogue();
    let topic = ctx.topic_named(&catalogue, name)?;
    if topics::is_internal(&topic.name) {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let partition = topics::partition(&topic, wanted.partition_index)?;
    if configs::is_deleted_by_age(&catalogue, &topic) {
        Ok(partition)
    } else {
        Err(ErrorCode::POLICY_VIOLATION)
    }
}

async fn delete(broker: &Broker, partition: PartitionId, offset: i64) -> Result<Offset, ErrorCode> {
    let before = (offset != HIGH_WATERMARK).then_some(Offset(offset));
    let (done, result) = oneshot::channel();
    // Nobody waits for the result any more when the connection is gone.
    let answer = move |outcome| {
        done.send(outcome).ok();
    };
    broker.storage.delete_records(partition, before, Box::new(answer));
    let outcome = result.await.unwrap_or(Err(DeleteRecordsError::ShuttingDown));
    outcome.map_err(|error| match error {
        DeleteRecordsError::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        DeleteRecordsError::OffsetOutOfRange => ErrorCode::OFFSET_OUT_OF_RANGE,
        DeleteRecordsError::ShuttingDown => ErrorCode::BROKER_NOT_AVAILABLE,
    })
}
