//! `OffsetCommit` v2-9. Up to v4: retention time; v6: leader epoch; v7: static members; v8:
//! flexible; v9: an unknown group has an error of its own.

use coordinator::groups::{Commit, CommitPartition, MemberIdentity};
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{ApiKey, OffsetCommitRequest, OffsetCommitResponse, TopicName};
use wire::{ErrorCode, LeaderEpoch, Offset, PartitionIndex};

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::handlers::group_topics::{TopicErrors, access};

pub(crate) const API: Api = Api {
    key: ApiKey::OffsetCommit,
    accepted: (2, 9),
    advertised: (2, 9),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const LAST_WITH_RETENTION: i16 = 4;
const FIRST_WITH_GROUP_ID_NOT_FOUND: i16 = 9;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: OffsetCommitRequest = request.decode()?;
    let version = request.version;
    let mut errors = TopicErrors::default();
    let mut partitions = Vec::new();
    let allowed = ctx.broker.authorizer.allows(ctx.principal, &asked.group_id);
    for topic in &asked.topics {
        let denied = if allowed {
            access(ctx, &topic.name)
        } else {
            Err(ErrorCode::GROUP_AUTHORIZATION_FAILED)
        };
        collect(topic, denied, &mut errors, &mut partitions);
    }
    if partitions.is_empty() {
        return request.reply(&respond(errors));
    }
    let commit = Commit {
        group_id: asked.group_id.to_string(),
        generation_id: asked.generation_id_or_member_epoch,
        member: MemberIdentity {
            member_id: asked.member_id.to_string(),
            group_instance_id: asked.group_instance_id.map(|id| id.to_string()),
        },
        transactional: false,
        retention_time_ms: Some(asked.retention_time_ms)
            .filter(|retention| version <= LAST_WITH_RETENTION && *retention >= 0),
        knows_group_id_not_found: version >= FIRST_WITH_GROUP_ID_NOT_FOUND,
        partitions,
    };
    let committed: Vec<_> = commit.partitions.iter().map(|p| p.partition.clone()).collect();
    let plan =
        ctx.broker.coordinator.call(move |groups, _, now| groups.commit_offsets(now, &commit));
    Ok(plan.await.reply(version, move |outcome| {
        errors.fill(committed, outcome.and_then(|outcome| outcome));
        respond(errors)
    }))
}

fn collect(
    topic: &OffsetCommitRequestTopic,
    partition_count: Result<i32, ErrorCode>,
    errors: &mut TopicErrors,
    partitions: &mut Vec<CommitPartition>,
) {
    for partition in &topic.partitions {
        let index = PartitionIndex(partition.partition_index);
        let error = errors.check(&topic.name, index, partition_count);
        if error.is_none() {
            partitions.push(CommitPartition {
                partition: (topic.name.to_string(), index),
                offset: Offset(partition.committed_offset),
                leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
                metadata: partition
                    .committed_metadata
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            });
        }
    }
}

fn respond(errors: TopicErrors) -> OffsetCommitResponse {
    let topics = errors.into_topics().into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, error)| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(index.0)
                .with_error_code(error.0)
        });
        OffsetCommitResponseTopic::default()
            .with_name(TopicName(name))
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}
