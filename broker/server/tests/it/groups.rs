use std::time::Duration;

use ::wire::ErrorCode;
use bytes::Bytes;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteTopicsRequest, DescribeGroupsRequest, FindCoordinatorRequest,
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use server::Config;

use crate::wire::{Client, DEADLINE, House, TOPIC, text};

const ASSIGNMENT: &[u8] = b"all of it";

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

async fn join(client: &mut Client, version: i16, name: &str) -> JoinGroupResponse {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"subscription"));
    let mut request = JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(10_000)
        .with_protocol_type(text("test"))
        .with_protocols(vec![protocol]);
    if version >= 1 {
        request.rebalance_timeout_ms = 10_000;
    }
    let joined = client.call(version, &request).await;
    if version < 4 {
        return joined;
    }
    assert_eq!(joined.error_code, ErrorCode::MEMBER_ID_REQUIRED.0);
    client.call(version, &request.with_member_id(joined.member_id)).await
}

async fn sync(client: &mut Client, version: i16, name: &str, joined: &JoinGroupResponse) {
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(ASSIGNMENT));
    let mut request = SyncGroupRequest::default()
        .with_group_id(group(name))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![assignment]);
    if version >= 5 {
        request.protocol_type = Some(text("test"));
        request.protocol_name = Some(text("range"));
    }
    let synced = client.call(version, &request).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, ASSIGNMENT), "v{version}");
}

async fn heartbeat(
    client: &mut Client,
    version: i16,
    name: &str,
    joined: &JoinGroupResponse,
) -> i16 {
    let request = HeartbeatRequest::default()
        .with_group_id(group(name))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone());
    client.call(version, &request).await.error_code
}

async fn commit(
    client: &mut Client,
    version: i16,
    name: &str,
    (generation_id, member_id): (i32, &StrBytes),
) -> i16 {
    let mut partition = OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(42)
        .with_committed_metadata(Some(text("note")));
    if version >= 6 {
        partition.committed_leader_epoch = 0;
    }
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text(TOPIC)))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_generation_id_or_member_epoch(generation_id)
        .with_member_id(member_id.clone())
        .with_topics(vec![topic]);
    client.call(version, &request).await.topics[0].partitions[0].error_code
}

/// Offset and metadata of the partition that [`commit`] commits.
async fn fetch(client: &mut Client, version: i16, name: &str) -> (i64, String) {
    let mut request = OffsetFetchRequest::default();
    if version < 8 {
        request.group_id = group(name);
        let topic = OffsetFetchRequestTopic::default()
            .with_name(TopicName(text(TOPIC)))
            .with_partition_indexes(vec![1]);
        request.topics = Some(vec![topic]);
        let found = client.call(version, &request).await;
        assert_eq!(found.error_code, 0);
        let partition = found.topics[0].partitions[0].clone();
        return (partition.committed_offset, partition.metadata.unwrap().to_string());
    }
    let topic = OffsetFetchRequestTopics::default()
        .with_name(TopicName(text(TOPIC)))
        .with_partition_indexes(vec![1]);
    let wanted = OffsetFetchRequestGroup::default()
        .with_group_id(group(name))
        .with_topics(Some(vec![topic]));
    let found = client.call(version, &request.with_groups(vec![wanted])).await;
    assert_eq!(found.groups[0].error_code, 0);
    let partition = found.groups[0].topics[0].partitions[0].clone();
    (partition.committed_offset, partition.metadata.unwrap().to_string())
}

async fn leave(client: &mut Client, version: i16, name: &str, joined: &JoinGroupResponse) {
    let mut request = LeaveGroupRequest::default().with_group_id(group(name));
    if version < 3 {
        request.member_id = joined.member_id.clone();
    } else {
        let member = MemberIdentity::default().with_member_id(joined.member_id.clone());
        request.members = vec![member];
    }
    let left = client.call(version, &request).await;
    assert_eq!(left.error_code, 0);
    assert!(left.members.iter().all(|member| member.error_code == 0));
}

#[tokio::test]
async fn every_version_of_the_group_protocol_goes_from_join_to_leave() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    for version in 0..=9 {
        let name = format!("group-{version}");
        let joined = join(&mut client, version, &name).await;
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "v{version}");
        assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        sync(&mut client, version.min(5), &name, &joined).await;
        assert_eq!(heartbeat(&mut client, version.min(4), &name, &joined).await, 0);
        let member = (joined.generation_id, &joined.member_id);
        assert_eq!(commit(&mut client, version.max(2), &name, member).await, 0);
        let found = fetch(&mut client, version.max(1), &name).await;
        assert_eq!(found, (42, "note".to_owned()), "v{version}");
        leave(&mut client, version.min(5), &name, &joined).await;
        assert_eq!(
            heartbeat(&mut client, version.min(4), &name, &joined).await,
            ErrorCode::UNKNOWN_MEMBER_ID.0
        );
    }
    house.stop().await;
}

#[tokio::test]
async fn the_coordinator_is_this_broker_in_every_version() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    for version in 0..=6 {
        for key in ["mine", "__auth.owner"] {
            let mut request = FindCoordinatorRequest::default();
            if version < 4 {
                request.key = text(key);
            } else {
                request.coordinator_keys = vec![text(key)];
            }
            let mut found = client.call(version, &request).await;
            let (error, port) = match found.coordinators.pop() {
                Some(found) => (found.error_code, found.port),
                None => (found.error_code, found.port),
            };
            if key == "mine" {
                assert_eq!(error, 0);
                assert!(port > 0);
            } else {
                assert_eq!((error, port), (ErrorCode::GROUP_AUTHORIZATION_FAILED.0, -1));
            }
        }
    }
    house.stop().await;
}

#[tokio::test]
async fn tools_see_groups_and_delete_them_in_every_version() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    let joined = join(&mut client, 9, "seen").await;
    sync(&mut client, 5, "seen", &joined).await;
    commit(&mut client, 9, "simple", (-1, &StrBytes::default())).await;
    for version in 0..=6 {
        let request = DescribeGroupsRequest::default().with_groups(vec![
            group("seen"),
            group("simple"),
            group("nobody"),
        ]);
        let described = client.call(version, &request).await.groups;
        let states: Vec<&str> = described.iter().map(|group| group.group_state.as_str()).collect();
        assert_eq!(states, ["Stable", "Empty", "Dead"]);
        assert_eq!(described[0].members[0].client_host.as_str(), "/127.0.0.1");
        assert_eq!(&described[0].members[0].member_assignment[..], ASSIGNMENT);
        let unknown = if version < 6 { 0 } else { ErrorCode::GROUP_ID_NOT_FOUND.0 };
        assert_eq!(described[2].error_code, unknown);
    }
    for version in 0..=5 {
        let listed = client.call(version, &ListGroupsRequest::default()).await.groups;
        let names: Vec<&str> = listed.iter().map(|group| group.group_id.as_str()).collect();
        assert_eq!(names, ["seen", "simple"]);
        if version >= 4 {
            let request = ListGroupsRequest::default().with_states_filter(vec![text("empty")]);
            assert_eq!(client.call(version, &request).await.groups.len(), 1);
        }
    }
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(TopicName(text(TOPIC)))
        .with_partitions(vec![OffsetDeleteRequestPartition::default().with_partition_index(1)]);
    let request =
        OffsetDeleteRequest::default().with_group_id(group("simple")).with_topics(vec![topic]);
    let deleted = client.call(0, &request).await;
    assert_eq!((deleted.error_code, deleted.topics[0].partitions[0].error_code), (0, 0));
    assert_eq!(fetch(&mut client, 9, "simple").await.0, -1);
    for version in 0..=2 {
        commit(&mut client, 9, "simple", (-1, &StrBytes::default())).await;
        let names = vec![group("seen"), group("simple"), group("nobody")];
        let request = DeleteGroupsRequest::default().with_groups_names(names);
        let errors: Vec<i16> =
            client.call(version, &request).await.results.iter().map(|r| r.error_code).collect();
        let expected = [ErrorCode::NON_EMPTY_GROUP, ErrorCode::NONE, ErrorCode::GROUP_ID_NOT_FOUND];
        assert_eq!(errors, expected.map(|code| code.0));
    }
    house.stop().await;
}

#[tokio::test]
async fn a_group_and_its_offsets_outlive_the_broker() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    let joined = join(&mut client, 9, "kept").await;
    sync(&mut client, 5, "kept", &joined).await;
    let member = (joined.generation_id, &joined.member_id);
    assert_eq!(commit(&mut client, 9, "kept", member).await, 0);
    house.restart().await;
    let mut client = house.client().await;
    assert_eq!(heartbeat(&mut client, 4, "kept", &joined).await, 0);
    assert_eq!(fetch(&mut client, 9, "kept").await, (42, "note".to_owned()));
    house.stop().await;
}

#[tokio::test]
async fn a_partition_that_is_not_there_cannot_be_committed() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    let partition = |index| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_metadata(Some(text(&"x".repeat(if index == 1 { 4_097 } else { 1 }))))
    };
    let topic = |name, partitions: Vec<i32>| {
        OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(name)))
            .with_partitions(partitions.into_iter().map(partition).collect())
    };
    let request = OffsetCommitRequest::default().with_group_id(group("g")).with_topics(vec![
        topic("nothing", vec![0]),
        topic("__auth.users", vec![0]),
        topic(TOPIC, vec![0, 1, 2]),
    ]);
    let answer = client.call(9, &request).await;
    let errors: Vec<i16> =
        answer.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    let expected = [
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::NONE,
        ErrorCode::OFFSET_METADATA_TOO_LARGE,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ];
    assert_eq!(errors, expected.map(|code| code.0));
    house.stop().await;
}

#[tokio::test]
async fn who_waits_in_a_rebalance_is_answered_when_the_broker_stops() {
    let mut house = House::start().await;
    let (mut first, mut second) = (house.client().await, house.client().await);
    let joined = join(&mut first, 3, "waits").await;
    sync(&mut first, 3, "waits", &joined).await;
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let request = JoinGroupRequest::default()
        .with_group_id(group("waits"))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("test"))
        .with_protocols(vec![protocol]);
    second.send(3, &request).await;
    let rebalancing = ErrorCode::REBALANCE_IN_PROGRESS.0;
    while heartbeat(&mut first, 3, "waits", &joined).await != rebalancing {}
    house.stop().await;
    if second.receive_frame().await.is_some() {
        assert!(second.receive_frame().await.is_none());
    }
}

async fn states(client: &mut Client, names: &[&str]) -> Vec<String> {
    let groups = names.iter().map(|name| group(name)).collect();
    let request = DescribeGroupsRequest::default().with_groups(groups);
    let described = client.call(6, &request).await.groups;
    described.iter().map(|group| group.group_state.to_string()).collect()
}

fn forgetful(config: Config) -> Config {
    Config {
        offsets_retention: Duration::from_millis(1),
        offsets_check_interval: Duration::from_millis(20),
        ..config
    }
}

#[tokio::test]
async fn offsets_expire_with_their_groups_unless_there_are_members() {
    const NAMES: &[&str] = &["left", "simple", "stays"];
    let mut house = House::start().await;
    let mut client = house.client().await;
    let mut members = Vec::new();
    for name in ["left", "stays"] {
        let joined = join(&mut client, 9, name).await;
        sync(&mut client, 5, name, &joined).await;
        let member = (joined.generation_id, &joined.member_id);
        assert_eq!(commit(&mut client, 9, name, member).await, 0);
        members.push(joined);
    }
    leave(&mut client, 5, "left", &members[0]).await;
    assert_eq!(commit(&mut client, 9, "simple", (-1, &StrBytes::default())).await, 0);
    house.restart().await;
    let mut client = house.client().await;
    assert_eq!(states(&mut client, NAMES).await, ["Empty", "Empty", "Stable"]);

    house.restart_with(forgetful).await;
    let mut client = house.client().await;
    let expired = async {
        while states(&mut client, NAMES).await != ["Dead", "Dead", "Stable"] {
            assert_eq!(heartbeat(&mut client, 4, "stays", &members[1]).await, 0);
        }
    };
    tokio::time::timeout(DEADLINE, expired).await.unwrap();

    house.restart_with(|config| config).await;
    let mut client = house.client().await;
    assert_eq!(states(&mut client, NAMES).await, ["Dead", "Dead", "Stable"]);
    for name in ["left", "simple"] {
        assert_eq!(fetch(&mut client, 9, name).await.0, -1, "{name}");
    }
    assert_eq!(fetch(&mut client, 9, "stays").await.0, 42);
    house.stop().await;
}

#[tokio::test]
async fn a_topic_takes_the_offsets_of_all_groups_along() {
    let mut house = House::start().await;
    let mut client = house.client().await;
    for name in ["one", "other"] {
        assert_eq!(commit(&mut client, 9, name, (-1, &StrBytes::default())).await, 0);
    }
    let topic = DeleteTopicState::default().with_name(Some(TopicName(text(TOPIC))));
    let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    assert_eq!(client.call(6, &request).await.responses[0].error_code, 0);
    assert_eq!(states(&mut client, &["one", "other"]).await, ["Dead", "Dead"]);
    house.restart().await;
    let mut client = house.client().await;
    assert_eq!(states(&mut client, &["one", "other"]).await, ["Dead", "Dead"]);
    house.stop().await;
}
