//! `CreateTopics` v0-7. v1: check only; v2: throttle time; v5: flexible, and what was created;
//! v7: topic id. Versions 0 and 1 are those of kafka-go up to 0.4.47 and old sarama.

use std::collections::{BTreeMap, HashSet};

use kafka_protocol::messages::ApiKey;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreateTopicsRequest};
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse,
};
use kafka_protocol::protocol::StrBytes;
use storage::Catalogue;
use wire::{ErrorCode, legacy};

use crate::config::ReplicationFactor;
use crate::configs::{Source, TOPIC_CONFIGS, TopicConfig};
use crate::context::Context;
use crate::dispatch::{Api, Body, Failure, Piece, Reply, Request};
use crate::refusal::Refusal;
use crate::topics;

pub(crate) const API: Api = Api {
    key: ApiKey::CreateTopics,
    accepted: (0, 7),
    advertised: (0, 7),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

/// The first version that `kafka-protocol` reads.
const LEGACY_BEFORE: i16 = 2;
const DETAILS_VERSION: i16 = 5;
const ID_VERSION: i16 = 7;

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let version = request.version;
    let asked: CreateTopicsRequest = if version < LEGACY_BEFORE {
        legacy::create_topics_request(version, &request.body).ok_or(Failure::Malformed)?
    } else {
        request.decode()?
    };
    let mut seen = HashSet::new();
    let repeated: HashSet<_> =
        asked.topics.iter().map(|topic| &topic.name).filter(|name| !seen.insert(*name)).collect();
    let mut response = CreateTopicsResponse::default();
    for topic in &asked.topics {
        let outcome = if repeated.contains(&topic.name) {
            Err(Refusal::new(ErrorCode::INVALID_REQUEST, "the topic is in the request twice"))
        } else {
            create(ctx, topic, asked.validate_only).await
        };
        response.topics.push(result(ctx, version, topic, outcome));
    }
    if version < LEGACY_BEFORE {
        let body = legacy::create_topics_response(version, &response);
        return Ok(Reply::Now(Body(vec![Piece::Bytes(body.ok_or(Failure::Unencodable)?)])));
    }
    request.reply(&response)
}

/// What a topic is to be, once everything about it has been checked.
struct Wanted {
    partitions: i32,
    configs: BTreeMap<String, String>,
}

async fn create(
    ctx: &Context,
    topic: &CreatableTopic,
    validate_only: bool,
) -> Result<(Wanted, uuid::Uuid), Refusal> {
    let wanted = check(ctx, &ctx.broker.storage.catalogue(), topic)?;
    if validate_only {
        return Ok((wanted, uuid::Uuid::nil()));
    }
    let configs = wanted.configs.clone();
    let id = topics::create(&ctx.broker, &topic.name, wanted.partitions, configs).await?;
    if topic.replication_factor > 1 {
        tracing::info!(
            topic = topic.name.as_str(),
            asked = topic.replication_factor,
            "one node keeps one replica"
        );
    }
    Ok((wanted, id.0))
}

fn check(ctx: &Context, catalogue: &Catalogue, topic: &CreatableTopic) -> Result<Wanted, Refusal> {
    if !ctx.may(&topic.name) {
        return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED.into());
    }
    if catalogue.by_name.contains_key(topic.name.as_str()) && !topics::is_hidden(&topic.name) {
        return Err(Refusal::new(ErrorCode::TOPIC_ALREADY_EXISTS, "a topic of this name exists"));
    }
    if let Some(fault) = topics::name_fault(catalogue, &topic.name) {
        return Err(Refusal::new(ErrorCode::INVALID_TOPIC_EXCEPTION, fault));
    }
    let partitions = partitions(ctx, topic)?;
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let value = checked_value(&config.name, config.value.as_deref())?;
        configs.insert(config.name.to_string(), value);
    }
    Ok(Wanted { partitions, configs })
}

/// The value of a topic's configuration, if the topic may have it.
pub(crate) fn checked_value(name: &str, value: Option<&str>) -> Result<String, Refusal> {
    let Some(config) = TopicConfig::find(name) else {
        return Err(Refusal::new(ErrorCode::INVALID_CONFIG, format!("`{name}` is not known")));
    };
    match value {
        Some(value) if config.accepts(value) => Ok(value.to_owned()),
        Some(value) => {
            let text = format!("`{value}` is not a value that `{name}` can have here");
            Err(Refusal::new(ErrorCode::INVALID_CONFIG, text))
        }
        None => Err(Refusal::new(ErrorCode::INVALID_CONFIG, format!("`{name}` needs a value"))),
    }
}

fn partitions(ctx: &Context, topic: &CreatableTopic) -> Result<i32, Refusal> {
    let strict = ctx.broker.config.replication_factor == ReplicationFactor::Strict;
    if !topic.assignments.is_empty() {
        return assigned(ctx, topic, strict);
    }
    match topic.replication_factor {
        -1 | 1 => {}
        factor if factor > 1 && !strict => {}
        _ => {
            let text = "this is one node, which keeps one replica";
            return Err(Refusal::new(ErrorCode::INVALID_REPLICATION_FACTOR, text));
        }
    }
    match topic.num_partitions {
        -1 => Ok(ctx.broker.config.num_partitions),
        count if (1..=topics::MAX_PARTITIONS).contains(&count) => Ok(count),
        _ => Err(Refusal::new(ErrorCode::INVALID_PARTITIONS, "a topic has 1 to 10000 partitions")),
    }
}

fn assigned(ctx: &Context, topic: &CreatableTopic, strict: bool) -> Result<i32, Refusal> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let text = "an assignment stands instead of partitions and replication factor";
        return Err(Refusal::new(ErrorCode::INVALID_REQUEST, text));
    }
    let node = ctx.broker.config.node_id;
    let mut indexes: Vec<_> = topic.assignments.iter().map(|one| one.partition_index).collect();
    indexes.sort_unstable();
    let count = i32::try_from(indexes.len()).unwrap_or(i32::MAX);
    let is_whole = count <= topics::MAX_PARTITIONS && (0..count).eq(indexes);
    let is_ours = topic.assignments.iter().all(|one| {
        one.broker_ids.iter().any(|id| id.0 == node) && (!strict || one.broker_ids.len() == 1)
    });
    if is_whole && is_ours {
        Ok(count)
    } else {
        let text = "the assignment does not number the partitions from 0, or not to this node";
        Err(Refusal::new(ErrorCode::INVALID_REPLICA_ASSIGNMENT, text))
    }
}

fn result(
    ctx: &Context,
    version: i16,
    topic: &CreatableTopic,
    outcome: Result<(Wanted, uuid::Uuid), Refusal>,
) -> CreatableTopicResult {
    let result =
        CreatableTopicResult::default().with_name(topic.name.clone()).with_error_message(None);
    let (wanted, id) = match outcome {
        Ok(created) => created,
        Err(refusal) => {
            return result
                .with_error_code(refusal.code.0)
                .with_error_message(refusal.message())
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_configs((version >= DETAILS_VERSION).then(Vec::new));
        }
    };
    if version < DETAILS_VERSION {
        return result;
    }
    let catalogue = ctx.broker.storage.catalogue();
    let config = |config: &TopicConfig| {
        let written = &ctx.broker.config.static_configs;
        let (value, values) = config.of_topic(&catalogue, written, &wanted.configs);
        let source = values.first().map_or(Source::Default, |(_, _, source)| *source);
        CreatableTopicConfigs::default()
            .with_name(StrBytes::from_static_str(config.name))
            .with_value(Some(StrBytes::from_string(value)))
            .with_config_source(source.code())
    };
    let result = result
        .with_num_partitions(wanted.partitions)
        .with_replication_factor(1)
        .with_configs(Some(TOPIC_CONFIGS.iter().map(config).collect()));
    if version >= ID_VERSION { result.with_topic_id(id) } else { result }
}
