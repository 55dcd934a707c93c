//! A request of every API in every version, asking for something that exists.

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, AlterConfigsRequest, ApiKey,
    ApiVersionsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, DescribeTopicPartitionsRequest, EndTxnRequest,
    FetchRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
    ProduceRequest, ProducerId, RequestKind, SaslAuthenticateRequest, SaslHandshakeRequest,
    SyncGroupRequest, TopicName, TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;
use wire::TimestampMs;
use wire::batch::{BatchBuilder, NewRecord};

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// One batch of these values, with their index as key and the given time.
pub(crate) fn batch(timestamp: i64, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (index, value) in values.iter().enumerate() {
        builder.push(NewRecord {
            timestamp: TimestampMs(timestamp),
            key: Some(index.to_string().as_bytes()),
            value: Some(value.as_bytes()),
            headers: &[(b"h", Some(b"1")), (b"h", Some(b"2"))],
        });
    }
    builder.build()
}

pub(crate) fn produce(version: i16, topic: (&str, Uuid), acks: i16, records: Bytes) -> RequestKind {
    let data = TopicProduceData::default()
        .with_partition_data(vec![PartitionProduceData::default().with_records(Some(records))]);
    let data = if version >= 13 {
        data.with_topic_id(topic.1)
    } else {
        data.with_name(topic_name(topic.0))
    };
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000);
    RequestKind::Produce(request.with_topic_data(vec![data]))
}

/// Asks for partition 0 from an offset on: least bytes, most bytes, longest wait.
pub(crate) fn fetch(
    version: i16,
    topic: (&str, Uuid),
    offset: i64,
    (min_bytes, max_bytes, max_wait_ms): (i32, i32, i32),
) -> RequestKind {
    let partition =
        FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(max_bytes);
    let wanted = FetchTopic::default().with_partitions(vec![partition]);
    let wanted = if version >= 13 {
        wanted.with_topic_id(topic.1)
    } else {
        wanted.with_topic(topic_name(topic.0))
    };
    let request = FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(min_bytes)
        .with_max_bytes(1 << 20)
        .with_isolation_level(i8::from(version % 2 == 0))
        .with_topics(vec![wanted]);
    let request = if version < 15 { request.with_replica_id(BrokerId(-1)) } else { request };
    RequestKind::Fetch(if version >= 7 { request.with_session_epoch(-1) } else { request })
}

/// Deletes what is in front of an offset of partition 0.
pub(crate) fn delete_records(topic: &str, offset: i64) -> RequestKind {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let topic =
        DeleteRecordsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
    RequestKind::DeleteRecords(request.with_timeout_ms(10_000))
}

/// A request of this API and version about the topic `t`.
pub(crate) fn about(key: ApiKey, version: i16, topic: (&str, Uuid)) -> Option<RequestKind> {
    data(key, version, topic)
        .or_else(|| admin(key, version, topic))
        .or_else(|| group(key, version, topic))
}

fn data(key: ApiKey, version: i16, topic: (&str, Uuid)) -> Option<RequestKind> {
    let name = topic_name(topic.0);
    Some(match key {
        ApiKey::Produce => produce(version, topic, -1, batch(5, &["a", "b"])),
        ApiKey::Fetch => fetch(version, topic, 0, (1, 1 << 20, 100)),
        ApiKey::ListOffsets => {
            let partition =
                ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
            let topic =
                ListOffsetsTopic::default().with_name(name).with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_isolation_level(i8::from(version >= 2))
                .with_topics(vec![topic]);
            RequestKind::ListOffsets(request)
        }
        ApiKey::Metadata => {
            let request = MetadataRequest::default()
                .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name))]))
                .with_allow_auto_topic_creation(true)
                .with_include_topic_authorized_operations(version >= 8)
                .with_include_cluster_authorized_operations((8..=10).contains(&version));
            RequestKind::Metadata(request)
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(-1);
            let topic =
                OffsetForLeaderTopic::default().with_topic(name).with_partitions(vec![partition]);
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            let request =
                if version >= 3 { request.with_replica_id(BrokerId(-1)) } else { request };
            RequestKind::OffsetForLeaderEpoch(request)
        }
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest::default();
            RequestKind::ApiVersions(if version >= 3 {
                request
                    .with_client_software_name(text("a"))
                    .with_client_software_version(text("1.0"))
            } else {
                request
            })
        }
        ApiKey::DescribeCluster => RequestKind::DescribeCluster(
            DescribeClusterRequest::default().with_include_cluster_authorized_operations(true),
        ),
        ApiKey::DescribeTopicPartitions => RequestKind::DescribeTopicPartitions(
            DescribeTopicPartitionsRequest::default()
                .with_topics(vec![TopicRequest::default().with_name(name)])
                .with_response_partition_limit(100),
        ),
        ApiKey::ListPartitionReassignments => {
            RequestKind::ListPartitionReassignments(ListPartitionReassignmentsRequest::default())
        }
        _ => return None,
    })
}

fn admin(key: ApiKey, version: i16, topic: (&str, Uuid)) -> Option<RequestKind> {
    let name = topic_name(topic.0);
    let gone = topic_name(&format!("gone-{version}"));
    Some(match key {
        ApiKey::CreateTopics => {
            let config = CreatableTopicConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("5")));
            let topic = |name| {
                CreatableTopic::default()
                    .with_name(name)
                    .with_num_partitions(2)
                    .with_replication_factor(1)
                    .with_configs(vec![config.clone()])
            };
            RequestKind::CreateTopics(
                CreateTopicsRequest::default().with_topics(vec![topic(gone), topic(name)]),
            )
        }
        ApiKey::DeleteRecords => delete_records(topic.0, -1),
        ApiKey::DeleteTopics if version >= 6 => {
            let by_name = |name| DeleteTopicState::default().with_name(Some(name));
            let by_id = DeleteTopicState::default().with_topic_id(Uuid::from_u128(7));
            RequestKind::DeleteTopics(
                DeleteTopicsRequest::default().with_topics(vec![by_name(gone), by_id]),
            )
        }
        ApiKey::DeleteTopics => RequestKind::DeleteTopics(
            DeleteTopicsRequest::default().with_topic_names(vec![gone, topic_name("never")]),
        ),
        ApiKey::CreatePartitions => {
            let topic =
                |count| CreatePartitionsTopic::default().with_name(name.clone()).with_count(count);
            RequestKind::CreatePartitions(
                CreatePartitionsRequest::default()
                    .with_topics(vec![topic(1)])
                    .with_validate_only(true),
            )
        }
        ApiKey::SaslHandshake => RequestKind::SaslHandshake(
            SaslHandshakeRequest::default().with_mechanism(text("OTHER")),
        ),
        ApiKey::SaslAuthenticate => RequestKind::SaslAuthenticate(
            SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(b"\0a\0b")),
        ),
        _ => return configs(key, topic),
    })
}

fn configs(key: ApiKey, topic: (&str, Uuid)) -> Option<RequestKind> {
    Some(match key {
        ApiKey::DescribeConfigs => {
            let resource = |kind, name: &str| {
                DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(None)
            };
            let resources = vec![resource(2, topic.0), resource(4, "1"), resource(2, "never")];
            RequestKind::DescribeConfigs(
                DescribeConfigsRequest::default()
                    .with_resources(resources)
                    .with_include_synonyms(true),
            )
        }
        ApiKey::AlterConfigs => {
            let config = AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("604800001")));
            let resource = AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(topic.0))
                .with_configs(vec![config]);
            RequestKind::AlterConfigs(AlterConfigsRequest::default().with_resources(vec![resource]))
        }
        ApiKey::IncrementalAlterConfigs => {
            let config = incremental::AlterableConfig::default()
                .with_name(text("cleanup.policy"))
                .with_config_operation(2)
                .with_value(Some(text("compact")));
            let resource = incremental::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(topic.0))
                .with_configs(vec![config]);
            RequestKind::IncrementalAlterConfigs(
                IncrementalAlterConfigsRequest::default()
                    .with_resources(vec![resource])
                    .with_validate_only(true),
            )
        }
        _ => return None,
    })
}

fn group(key: ApiKey, version: i16, topic: (&str, Uuid)) -> Option<RequestKind> {
    let id = GroupId(text("g"));
    Some(match key {
        ApiKey::FindCoordinator if version >= 4 => RequestKind::FindCoordinator(
            FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g"), text("h")]),
        ),
        ApiKey::FindCoordinator => {
            RequestKind::FindCoordinator(FindCoordinatorRequest::default().with_key(text("g")))
        }
        ApiKey::JoinGroup => {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata(Bytes::from_static(b"m"));
            let request = JoinGroupRequest::default()
                .with_group_id(GroupId(text(&format!("join-{version}"))))
                .with_session_timeout_ms(10_000)
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol]);
            RequestKind::JoinGroup(if version >= 1 {
                request.with_rebalance_timeout_ms(1000)
            } else {
                request
            })
        }
        ApiKey::SyncGroup => RequestKind::SyncGroup(
            SyncGroupRequest::default().with_group_id(id).with_member_id(text("m")),
        ),
        ApiKey::Heartbeat => RequestKind::Heartbeat(
            HeartbeatRequest::default().with_group_id(id).with_member_id(text("m")),
        ),
        ApiKey::LeaveGroup => {
            let request = LeaveGroupRequest::default().with_group_id(id);
            RequestKind::LeaveGroup(if version >= 3 {
                request.with_members(vec![MemberIdentity::default().with_member_id(text("m"))])
            } else {
                request.with_member_id(text("m"))
            })
        }
        ApiKey::DescribeGroups => RequestKind::DescribeGroups(
            DescribeGroupsRequest::default().with_groups(vec![id, GroupId(text("never"))]),
        ),
        ApiKey::ListGroups => RequestKind::ListGroups(ListGroupsRequest::default()),
        ApiKey::DeleteGroups => RequestKind::DeleteGroups(
            DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("never"))]),
        ),
        _ => return offsets(key, version, topic),
    })
}

fn offsets(key: ApiKey, version: i16, topic: (&str, Uuid)) -> Option<RequestKind> {
    let name = topic_name(topic.0);
    let id = GroupId(text("g"));
    Some(match key {
        ApiKey::OffsetCommit => {
            let partition = OffsetCommitRequestPartition::default()
                .with_committed_offset(1)
                .with_committed_metadata(Some(text("note")));
            let topic = OffsetCommitRequestTopic::default()
                .with_name(name)
                .with_partitions(vec![partition]);
            let request = OffsetCommitRequest::default()
                .with_group_id(id)
                .with_generation_id_or_member_epoch(-1)
                .with_topics(vec![topic]);
            RequestKind::OffsetCommit(request)
        }
        ApiKey::OffsetFetch if version >= 8 => {
            let topic = OffsetFetchRequestTopics::default()
                .with_name(name)
                .with_partition_indexes(vec![0, 1]);
            let group =
                OffsetFetchRequestGroup::default().with_group_id(id).with_topics(Some(vec![topic]));
            RequestKind::OffsetFetch(OffsetFetchRequest::default().with_groups(vec![group]))
        }
        ApiKey::OffsetFetch => {
            let topic = OffsetFetchRequestTopic::default()
                .with_name(name)
                .with_partition_indexes(vec![0, 1]);
            RequestKind::OffsetFetch(
                OffsetFetchRequest::default().with_group_id(id).with_topics(Some(vec![topic])),
            )
        }
        ApiKey::OffsetDelete => {
            let topic = OffsetDeleteRequestTopic::default()
                .with_name(name)
                .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
            RequestKind::OffsetDelete(
                OffsetDeleteRequest::default().with_group_id(id).with_topics(vec![topic]),
            )
        }
        _ => return transaction(key, version, topic),
    })
}

fn transaction(key: ApiKey, version: i16, topic: (&str, Uuid)) -> Option<RequestKind> {
    let name = topic_name(topic.0);
    let id = TransactionalId(text("never begun"));
    Some(match key {
        ApiKey::InitProducerId => {
            let request = InitProducerIdRequest::default().with_transaction_timeout_ms(1000);
            RequestKind::InitProducerId(request.with_transactional_id(None))
        }
        ApiKey::AddPartitionsToTxn => {
            let topic = AddPartitionsToTxnTopic::default().with_name(name).with_partitions(vec![0]);
            RequestKind::AddPartitionsToTxn(if version >= 4 {
                let transaction = AddPartitionsToTxnTransaction::default()
                    .with_transactional_id(id)
                    .with_producer_id(ProducerId(5))
                    .with_topics(vec![topic]);
                AddPartitionsToTxnRequest::default().with_transactions(vec![transaction])
            } else {
                AddPartitionsToTxnRequest::default()
                    .with_v3_and_below_transactional_id(id)
                    .with_v3_and_below_producer_id(ProducerId(5))
                    .with_v3_and_below_topics(vec![topic])
            })
        }
        ApiKey::AddOffsetsToTxn => RequestKind::AddOffsetsToTxn(
            AddOffsetsToTxnRequest::default()
                .with_transactional_id(id)
                .with_group_id(GroupId(text("g"))),
        ),
        ApiKey::EndTxn => RequestKind::EndTxn(EndTxnRequest::default().with_transactional_id(id)),
        ApiKey::TxnOffsetCommit => {
            let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(1);
            let topic = TxnOffsetCommitRequestTopic::default()
                .with_name(name)
                .with_partitions(vec![partition]);
            RequestKind::TxnOffsetCommit(
                TxnOffsetCommitRequest::default()
                    .with_transactional_id(id)
                    .with_group_id(GroupId(text("g")))
                    .with_topics(vec![topic]),
            )
        }
        _ => return None,
    })
}
