//! `Metadata` v0-13. v1: null is all topics; v4: automatic creation may be declined; v8:
//! authorized operations; v9: flexible; v10: topic ids in the answer; v12: and in the request;
//! v13: an error code at the top.

use std::sync::Arc;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiKey, BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use storage::{Catalogue, Topic};
use uuid::Uuid;
use wire::ErrorCode;

use crate::cluster;
use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::once::once;
use crate::topics;

pub(crate) const API: Api = Api {
    key: ApiKey::Metadata,
    accepted: (0, 13),
    advertised: (0, 13),
    handle: |ctx, request| Box::pin(handle(ctx, request)),
};

async fn handle(ctx: &mut Context, request: Request) -> Result<Reply, Failure> {
    let version = request.version;
    let asked: MetadataRequest = request.decode()?;
    let with_operations = version >= 8 && asked.include_topic_authorized_operations;
    let may_create = version < 4 || asked.allow_auto_topic_creation;
    let all = match &asked.topics {
        None => true,
        Some(topics) => version == 0 && topics.is_empty(),
    };
    let mut topics = Vec::new();
    if all {
        let catalogue = ctx.broker.storage.catalogue();
        let visible = |name: &str| !topics::is_hidden(name) && ctx.may(name);
        let listed = catalogue.by_name.values().filter(|topic| visible(&topic.name));
        topics.extend(listed.map(|topic| describe(ctx, topic)));
    } else {
        let wanted = asked.topics.unwrap_or_default();
        for wanted in once(wanted, |topic| (topic.name.clone(), topic.topic_id)) {
            topics.push(one(ctx, version, may_create, wanted).await);
            // Others have their turn between names that nobody has.
            tokio::task::consume_budget().await;
        }
    }
    for topic in &mut topics {
        topic.topic_authorized_operations = operations(with_operations, topic.error_code);
        if version < 10 {
            topic.topic_id = Uuid::nil();
        }
    }
    let (host, port) = ctx.advertised.clone();
    let mut response = MetadataResponse::default()
        .with_brokers(vec![
            MetadataResponseBroker::default()
                .with_node_id(node(ctx))
                .with_host(host)
                .with_port(port),
        ])
        .with_cluster_id(Some(cluster::id(&ctx.broker)))
        .with_controller_id(node(ctx))
        .with_topics(topics);
    if (8..=10).contains(&version) && asked.include_cluster_authorized_operations {
        response.cluster_authorized_operations = cluster::CLUSTER_OPERATIONS;
    }
    request.reply(&response)
}

async fn one(
    ctx: &Context,
    version: i16,
    may_create: bool,
    wanted: MetadataRequestTopic,
) -> MetadataResponseTopic {
    let catalogue = ctx.broker.storage.catalogue();
    let Some(name) = wanted.name else {
        let found = if version < 12 {
            Err(ErrorCode::INVALID_REQUEST)
        } else {
            ctx.topic_with_id(&catalogue, wanted.topic_id)
        };
        return match found {
            Ok(topic) => describe(ctx, &topic),
            Err(code) => refused(None, code).with_topic_id(wanted.topic_id),
        };
    };
    let found = match ctx.topic_named(&catalogue, &name) {
        Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
            if may_create && ctx.broker.config.auto_create_topics =>
        {
            create(ctx, &catalogue, &name).await
        }
        found => found,
    };
    match found {
        Ok(topic) => describe(ctx, &topic),
        Err(code) => refused(Some(name), code),
    }
}

/// Creates the topic and returns it with its leader, so that the client need not ask again.
async fn create(ctx: &Context, catalogue: &Catalogue, name: &str) -> Result<Arc<Topic>, ErrorCode> {
    if topics::name_fault(catalogue, name).is_some() {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let partitions = ctx.broker.config.num_partitions;
    match topics::create(&ctx.broker, name, partitions, std::collections::BTreeMap::new()).await {
        Ok(_) => tracing::info!(topic = name, partitions, "topic created at a client's first use"),
        Err(ErrorCode::TOPIC_ALREADY_EXISTS) => {}
        Err(code) => return Err(code),
    }
    ctx.topic_named(&ctx.broker.storage.catalogue(), name)
}

fn refused(name: Option<TopicName>, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_name(name).with_error_code(code.0)
}

fn describe(ctx: &Context, topic: &Topic) -> MetadataResponseTopic {
    let node = node(ctx);
    let leader_epoch = ctx.broker.storage.leader_epoch();
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_leader_epoch(leader_epoch.0)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.clone()))))
        .with_topic_id(topic.id.0)
        .with_is_internal(topics::is_internal(&topic.name))
        .with_partitions((0..topic.partitions).map(partition).collect())
}

fn operations(wanted: bool, error_code: i16) -> i32 {
    if wanted && error_code == 0 { cluster::TOPIC_OPERATIONS } else { cluster::NOT_ASKED }
}

fn node(ctx: &Context) -> BrokerId {
    BrokerId(ctx.broker.config.node_id)
}
