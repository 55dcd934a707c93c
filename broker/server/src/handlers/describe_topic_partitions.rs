//! `DescribeTopicPartitions` v0: topics in the order of their names, in pages of partitions.

use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use storage::Topic;
use wire::ErrorCode;

use crate::cluster;
use crate::context::Context;
use crate::dispatch::{Api, Failure, Reply, Request};
use crate::topics;

pub(crate) const API: Api = Api {
    key: ApiKey::DescribeTopicPartitions,
    accepted: (0, 0),
    advertised: (0, 0),
    handle: |ctx, request| Box::pin(async move { handle(ctx, &request) }),
};

/// `max.request.partition.size.limit`.
const MAX_PARTITIONS_PER_RESPONSE: i32 = 2000;

fn handle(ctx: &mut Context, request: &Request) -> Result<Reply, Failure> {
    let asked: DescribeTopicPartitionsRequest = request.decode()?;
    let catalogue = ctx.broker.storage.catalogue();
    let visible = |name: &str| !topics::is_hidden(name) && ctx.may(name);
    let mut names: Vec<String> = if asked.topics.is_empty() {
        catalogue.by_name.keys().filter(|name| visible(name)).cloned().collect()
    } else {
        asked.topics.iter().map(|topic| topic.name.to_string()).collect()
    };
    names.sort_unstable();
    names.dedup();
    let (first_name, mut first_partition) =
        asked.cursor.map_or((None, 0), |cursor| (Some(cursor.topic_name), cursor.partition_index));
    let mut left = asked.response_partition_limit.clamp(1, MAX_PARTITIONS_PER_RESPONSE);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        if first_name.as_ref().is_some_and(|first| name.as_str() < first.as_str()) {
            continue;
        }
        if first_name.as_ref().is_none_or(|first| name.as_str() != first.as_str()) {
            first_partition = 0;
        }
        if left == 0 {
            response.next_cursor = Some(cursor(&name, 0));
            break;
        }
        let topic = match ctx.topic_named(&catalogue, &name) {
            Ok(topic) => topic,
            Err(code) => {
                response.topics.push(refused(&name, code));
                continue;
            }
        };
        let first = first_partition.max(0);
        let end = topic.partitions.min(first.saturating_add(left));
        response.topics.push(describe(ctx, &topic, first..end));
        left -= (end - first).max(0);
        if end < topic.partitions {
            response.next_cursor = Some(cursor(&name, end));
            break;
        }
    }
    request.reply(&response)
}

fn cursor(name: &str, partition_index: i32) -> Cursor {
    Cursor::default().with_topic_name(topic_name(name)).with_partition_index(partition_index)
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

fn refused(name: &str, code: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(name)))
        .with_error_code(code.0)
        .with_topic_authorized_operations(cluster::NOT_ASKED)
}

fn describe(
    ctx: &Context,
    topic: &Topic,
    partitions: std::ops::Range<i32>,
) -> DescribeTopicPartitionsResponseTopic {
    let node = BrokerId(ctx.broker.config.node_id);
    let leader_epoch = ctx.broker.storage.leader_epoch();
    let partition = |index| {
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(node)
            .with_leader_epoch(leader_epoch.0)
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id.0)
        .with_is_internal(topics::is_internal(&topic.name))
        .with_partitions(partitions.map(partition).collect())
        .with_topic_authorized_operations(cluster::TOPIC_OPERATIONS)
}
