//! `OffsetForLeaderEpoch` v2-4. v3: replica id; v4: flexible.

use std::collections::HashSet;

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{ApiKey, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use storage::{ReadError, Topic};
use wire::{ErrorCode, LeaderEpoch, Offset};

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::topics;

pub(crate) const API: Api = Api {
    key: ApiKey::OffsetForLeaderEpoch,
    accepted: (2, 4),
    advertised: (2, 4),
    handle: |ctx, request| Box::pin(async move { handle(ctx, &request) }),
};

fn handle(ctx: &mut Context, request: &Request) -> Result<Reply, Failure> {
    let mut asked: OffsetForLeaderEpochRequest = request.decode()?;
    let mut seen = HashSet::new();
    for topic in &mut asked.topics {
        let name = &topic.topic;
        topic.partitions.retain(|wanted| seen.insert((name.clone(), wanted.partition)));
    }
    asked.topics.retain(|topic| !topic.partitions.is_empty());
    let catalogue = ctx.broker.storage.catalogue();
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in &asked.topics {
        let found = if request.version >= 3 && asked.replica_id.0 >= 0 {
            Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED)
        } else {
            ctx.topic_named(&catalogue, &topic.topic)
        };
        let answer = |wanted: &OffsetForLeaderPartition| {
            let end =
                found.as_ref().map_err(|code| *code).and_then(|topic| end(ctx, topic, wanted));
            let answer = EpochEndOffset::default().with_partition(wanted.partition);
            match end {
                Ok(Some((epoch, end))) => answer.with_leader_epoch(epoch.0).with_end_offset(end.0),
                Ok(None) => answer.with_leader_epoch(-1).with_end_offset(-1),
                Err(code) => {
                    answer.with_error_code(code.0).with_leader_epoch(-1).with_end_offset(-1)
                }
            }
        };
        response.topics.push(
            OffsetForLeaderTopicResult::default()
                .with_topic(topic.topic.clone())
                .with_partitions(topic.partitions.iter().map(answer).collect()),
        );
    }
    request.reply(&response)
}

/// Where the newest epoch that is not newer than the wanted one ends; nothing for one that is yet to come.
fn end(
    ctx: &Context,
    topic: &Topic,
    wanted: &OffsetForLeaderPartition,
) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    let storage = &ctx.broker.storage;
    topics::check_leader_epoch(storage.leader_epoch(), wanted.current_leader_epoch)?;
    let partition = topics::partition(topic, wanted.partition)?;
    storage.epoch_end(partition, LeaderEpoch(wanted.leader_epoch)).map_err(|error| match error {
        ReadError::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ReadError::OffsetOutOfRange(_) => ErrorCode::OFFSET_OUT_OF_RANGE,
        error @ (ReadError::Io(_) | ReadError::Damaged { .. }) => {
            tracing::error!(topic = topic.name, partition = wanted.partition, %error, "the log cannot be read");
            ErrorCode::KAFKA_STORAGE_ERROR
        }
    })
}
