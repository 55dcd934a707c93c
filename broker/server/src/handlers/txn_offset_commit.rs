//! `TxnOffsetCommit` v0-5. v2: leader epoch; v3: members name themselves, flexible; v5: the
//! group's offsets join the transaction by being committed (KIP-890).

use coordinator::groups::{Commit, CommitPartition, MemberIdentity};
use coordinator::transactions::TransactionOf;
use coordinator::{CONSUMER_OFFSETS, group_partition};
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, TopicName, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use wire::{ErrorCode, LeaderEpoch, Offset, PartitionIndex};

use crate::context::Context;
use crate::coordinator_task::{Plan, verdict};
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::handlers::group_topics::{TopicErrors, access};
use crate::handlers::transactional::{of, producer};

pub(crate) const API: Api = Api {
    key: ApiKey::TxnOffsetCommit,
    accepted: (0, 5),
    advertised: (0, 5),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

const FIRST_WITH_MEMBERS: i16 = 3;
const FIRST_THAT_ADDS_OFFSETS: i16 = 5;

type Outcome = Result<Vec<ErrorCode>, ErrorCode>;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: TxnOffsetCommitRequest = request.decode()?;
    let version = request.version;
    let of = of(&asked.transactional_id, producer(asked.producer_id, asked.producer_epoch));
    let denied = denied(ctx, &asked);
    let mut errors = TopicErrors::default();
    let mut partitions = Vec::new();
    for topic in &asked.topics {
        let partition_count = match denied {
            Some(error) => Err(error),
            None => access(ctx, &topic.name),
        };
        collect(topic, partition_count, &mut errors, &mut partitions);
    }
    if partitions.is_empty() {
        return request.reply(&respond(errors));
    }
    let has_member = version >= FIRST_WITH_MEMBERS;
    let commit = Commit {
        group_id: asked.group_id.to_string(),
        generation_id: if has_member { asked.generation_id } else { -1 },
        member: MemberIdentity {
            member_id: asked.member_id.to_string(),
            group_instance_id: asked.group_instance_id.map(|id| id.to_string()),
        },
        transactional: true,
        retention_time_ms: None,
        knows_group_id_not_found: false,
        partitions,
    };
    let committed: Vec<_> = commit.partitions.iter().map(|p| p.partition.clone()).collect();
    let adds = version >= FIRST_THAT_ADDS_OFFSETS;
    let held = ctx
        .broker
        .coordinator
        .call(move |groups, transactions, now| -> Plan<Outcome> {
            let partition = (CONSUMER_OFFSETS.to_owned(), group_partition(&commit.group_id));
            let begun = if adds {
                let added = transactions.add_partitions(now, &of, &[partition]);
                if added.response.is_ok() { Ok(Some(added)) } else { added.response.map(|()| None) }
            } else {
                transactions.verify(&of, &partition).map(|()| None)
            };
            match begun {
                Err(error) => Plan::only(Err(verdict(0, error))),
                Ok(added) => {
                    let TransactionOf { producer, .. } = of;
                    let plan = Plan::from(groups.commit_offsets(now, &commit));
                    let plan = plan.in_transaction_of(producer);
                    match added {
                        Some(added) => plan.after(added),
                        None => plan,
                    }
                }
            }
        })
        .await;
    Ok(held.reply(version, move |outcome| {
        errors.fill(committed, outcome.and_then(|outcome| outcome));
        respond(errors)
    }))
}

fn denied(ctx: &Context, asked: &TxnOffsetCommitRequest) -> Option<ErrorCode> {
    let authorizer = &ctx.broker.authorizer;
    if !authorizer.allows(ctx.principal, &asked.transactional_id) {
        Some(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
    } else if !authorizer.allows(ctx.principal, &asked.group_id) {
        Some(ErrorCode::GROUP_AUTHORIZATION_FAILED)
    } else if asked.group_id.is_empty() {
        Some(ErrorCode::INVALID_GROUP_ID)
    } else {
        None
    }
}

fn collect(
    topic: &TxnOffsetCommitRequestTopic,
    partition_count: Result<i32, ErrorCode>,
    errors: &mut TopicErrors,
    partitions: &mut Vec<CommitPartition>,
) {
    for partition in &topic.partitions {
        let index = PartitionIndex(partition.partition_index);
        if errors.check(&topic.name, index, partition_count).is_none() {
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

fn respond(errors: TopicErrors) -> TxnOffsetCommitResponse {
    let topics = errors.into_topics().into_iter().map(|(name, partitions)| {
        let partitions = partitions.into_iter().map(|(index, error)| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(index.0)
                .with_error_code(error.0)
        });
        TxnOffsetCommitResponseTopic::default()
            .with_name(TopicName(name))
            .with_partitions(partitions.collect())
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}
