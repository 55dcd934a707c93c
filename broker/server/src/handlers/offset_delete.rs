//! `OffsetDelete` v0.

use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{ApiKey, OffsetDeleteRequest, OffsetDeleteResponse, TopicName};
use wire::{ErrorCode, PartitionIndex};

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::handlers::group_topics::{TopicErrors, access};
use crate::once::once;

pub(crate) const API: Api = Api {
    key: ApiKey::OffsetDelete,
    accepted: (0, 0),
    advertised: (0, 0),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: OffsetDeleteRequest = request.decode()?;
    if !ctx.broker.authorizer.allows(ctx.principal, &asked.group_id) {
        return request.reply(&refusal(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    }
    let mut errors = TopicErrors::default();
    let mut partitions = Vec::new();
    for topic in &asked.topics {
        let partition_count = access(ctx, &topic.name);
        for partition in &topic.partitions {
            let index = PartitionIndex(partition.partition_index);
            if errors.check(&topic.name, index, partition_count).is_none() {
                partitions.push((topic.name.to_string(), index));
            }
        }
    }
    let partitions = once(partitions, Clone::clone);
    let group_id = asked.group_id.to_string();
    let deleted = partitions.clone();
    let plan = ctx
        .broker
        .coordinator
        .call(move |groups, _, _| groups.delete_offsets(&group_id, &partitions));
    Ok(plan.await.reply(request.version, move |outcome| {
        match outcome.and_then(|outcome| outcome) {
            Err(error) => refusal(error),
            Ok(each) => {
                errors.fill(deleted, Ok(each));
                respond(errors)
            }
        }
    }))
}

fn respond(errors: TopicErrors) -> OffsetDeleteResponse {
    let topics = errors.into_topics().into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, error)| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(index.0)
                .with_error_code(error.0)
        });
        OffsetDeleteResponseTopic::default()
            .with_name(TopicName(name))
            .with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}

fn refusal(error: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse::default().with_error_code(error.0)
}
