//! `CreatePartitions` v0-3. v2: flexible.

use std::collections::HashSet;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{ApiKey, CreatePartitionsRequest, CreatePartitionsResponse};
use storage::CatalogueChange;
use wire::ErrorCode;

use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::refusal::Refusal;
use crate::topics;

pub(crate) const API: Api = Api {
    key: ApiKey::CreatePartitions,
    accepted: (0, 3),
    advertised: (0, 3),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let asked: CreatePartitionsRequest = request.decode()?;
    let mut seen = HashSet::new();
    let repeated: HashSet<_> =
        asked.topics.iter().map(|topic| &topic.name).filter(|name| !seen.insert(*name)).collect();
    let mut response = CreatePartitionsResponse::default();
    for topic in &asked.topics {
        let outcome = if repeated.contains(&topic.name) {
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, "the topic is in the request twice"))
        } else {
            add(ctx, topic, asked.validate_only).await
        };
        let mut result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        if let Err(refusal) = outcome {
            result.error_code = refusal.code.0;
            result.error_message = refusal.message();
        }
        response.results.push(result);
    }
    request.reply(&response)
}

async fn add(
    ctx: &Context,
    wanted: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Refusal> {
    let catalogue = ctx.broker.storage.catalogue();
    let topic = ctx.topic_named(&catalogue, &wanted.name)?;
    if topics::is_internal(&topic.name) {
        let text = "the number of this topic's partitions decides where a group is kept";
        return Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, text));
    }
    if wanted.count <= topic.partitions {
        let text = format!("the topic has {} partitions and can only get more", topic.partitions);
        return Err(Refusal::new(ErrorCode::INVALID_PARTITIONS, text));
    }
    if wanted.count > topics::MAX_PARTITIONS {
        let text = "a topic has 1 to 10000 partitions";
        return Err(Refusal::new(ErrorCode::INVALID_PARTITIONS, text));
    }
    if let Some(assignments) = &wanted.assignments {
        let more = usize::try_from(wanted.count - topic.partitions).unwrap_or(0);
        let node = ctx.broker.config.node_id;
        let is_ours = assignments.iter().all(|one| one.broker_ids.iter().any(|id| id.0 == node));
        if assignments.len() != more || !is_ours {
            let text = "each new partition is assigned once, and to this node";
            return Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text));
        }
    }
    if !topics::has_room(&catalogue, wanted.count - topic.partitions) {
        return Err(Refusal::new(ErrorCode::POLICY_VIOLATION, "the broker has partitions enough"));
    }
    if !validate_only {
        let add = CatalogueChange::AddPartitions { id: topic.id, count: wanted.count };
        topics::change(&ctx.broker.storage, add).await.map_err(topics::error_code)?;
    }
    Ok(())
}
