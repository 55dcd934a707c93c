use super::*;
use crate::record::CommittedOffset;

#[test]
fn a_dynamic_member_of_v4_is_told_its_id_first() {
    let mut bench = Bench::new(0);
    let request = JoinGroupRequest { requires_known_member_id: true, ..old_join("a") };
    let ticket = bench.join(&request);
    let first = bench.joined(ticket).clone();
    assert_eq!(
        (first.error, first.member_id.as_str()),
        (ErrorCode::MEMBER_ID_REQUIRED, "client-a")
    );
    let ticket = bench.join(&JoinGroupRequest { member_id: first.member_id, ..request });
    let second = bench.joined(ticket);
    assert_eq!((second.error, second.generation_id), (ErrorCode::NONE, 1));
    assert_eq!((second.leader.as_str(), second.members.len()), ("client-a", 1));
}

#[test]
fn an_id_that_never_joins_is_forgotten_with_its_group() {
    let mut bench = Bench::new(0);
    bench.join(&JoinGroupRequest { requires_known_member_id: true, ..old_join("a") });
    bench.advance(10_000);
    assert_eq!(bench.groups.describe_group(GROUP), None);
    assert_eq!(bench.groups.next_deadline(), None);
}

#[test]
fn the_first_rebalance_waits_for_more_members() {
    let mut bench = Bench::new(3_000);
    let first = bench.join(&old_join("a"));
    bench.advance(2_000);
    let second = bench.join(&old_join("b"));
    bench.advance(1_000);
    assert!(bench.answers.is_empty(), "a later member extends the wait");
    bench.advance(3_000);
    assert_eq!(bench.joined(first).generation_id, 1);
    assert_eq!(bench.joined(first).members.len(), 2);
    assert!(bench.joined(second).members.is_empty(), "only the leader sees the members");
}

#[test]
fn the_leaders_assignment_reaches_everyone_and_is_recorded() {
    let mut bench = Bench::new(10);
    bench.join(&old_join("a"));
    bench.join(&old_join("b"));
    bench.advance(10);
    bench.advance(10);
    let tickets = bench.assign(1, &["b", "a"]);
    for (ticket, name) in tickets.iter().zip(["b", "a"]) {
        assert_eq!(bench.synced(*ticket).assignment, name);
    }
    let Some(Entry::Record(None, GroupRecord::Group { value: Some(group), .. })) = bench.log.last()
    else {
        panic!("{:?}", bench.log)
    };
    assert_eq!((group.generation_id, group.protocol.as_deref()), (1, Some("range")));
    assert_eq!(group.members.len(), 2);
    assert_eq!(bench.log.len(), 1, "a rebalance is one record");
    assert_eq!(bench.heartbeat("client-a", 1), ErrorCode::NONE);
    assert_eq!(bench.heartbeat("client-a", 0), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(bench.heartbeat("client-z", 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn members_go_on_with_heartbeats_after_a_restart() {
    let mut bench = Bench::new(0);
    let generation = bench.stable(&["a"]);
    bench.restart();
    assert_eq!(bench.phase(), Phase::Stable);
    assert_eq!(bench.heartbeat("client-a", generation), ErrorCode::NONE);
    let ticket = bench.sync(&sync_of("client-a", generation));
    assert_eq!(bench.synced(ticket).assignment, "a");
    bench.advance(10_000);
    assert_eq!(bench.phase(), Phase::Empty);
}

#[test]
fn a_member_that_falls_silent_is_removed_and_the_rest_rebalance() {
    let mut bench = Bench::new(10);
    bench.join(&old_join("a"));
    bench.join(&old_join("b"));
    bench.advance(10);
    bench.advance(10);
    bench.assign(1, &["a", "b"]);
    bench.advance(6_000);
    assert_eq!(bench.heartbeat("client-a", 1), ErrorCode::NONE);
    bench.advance(6_000);
    assert_eq!(bench.heartbeat("client-a", 1), ErrorCode::REBALANCE_IN_PROGRESS);
    let request = JoinGroupRequest { member_id: id("a"), ..old_join("a") };
    let ticket = bench.join(&request);
    let joined = bench.joined(ticket);
    assert_eq!((joined.generation_id, joined.members.len()), (2, 1));
}

#[test]
fn a_newcomer_makes_the_others_join_again() {
    let mut bench = Bench::new(0);
    let generation = bench.stable(&["a"]);
    let newcomer = bench.join(&old_join("b"));
    assert_eq!(bench.heartbeat("client-a", generation), ErrorCode::REBALANCE_IN_PROGRESS);
    let ticket = bench.sync(&sync_of("client-a", generation));
    assert_eq!(bench.synced(ticket).error, ErrorCode::REBALANCE_IN_PROGRESS);
    let again = bench.join(&JoinGroupRequest { member_id: id("a"), ..old_join("a") });
    assert_eq!(bench.joined(again).generation_id, generation + 1);
    assert_eq!(bench.joined(newcomer).leader, "client-a");
    assert_eq!(bench.heartbeat("client-b", generation + 1), ErrorCode::NONE);
}

#[test]
fn whoever_does_not_join_again_in_time_is_out() {
    let mut bench = Bench::new(0);
    let generation = bench.stable(&["a"]);
    let newcomer = bench.join(&old_join("b"));
    for _ in 0..7 {
        bench.advance(9_000);
        bench.heartbeat("client-a", generation);
    }
    let joined = bench.joined(newcomer);
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("client-b", 1));
}

#[test]
fn a_member_that_never_synchronises_is_out() {
    let mut bench = Bench::new(10);
    bench.join(&old_join("a"));
    bench.join(&old_join("b"));
    bench.advance(10);
    bench.advance(10);
    bench.sync(&SyncGroupRequest { assignments: Vec::new(), ..sync_of("client-a", 1) });
    for _ in 0..7 {
        bench.advance(9_000);
        for name in ["client-a", "client-b"] {
            bench.heartbeat(name, 1);
        }
    }
    assert_eq!(bench.heartbeat("client-b", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(bench.heartbeat("client-a", 1), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn a_returning_static_member_keeps_its_assignment_without_a_rebalance() {
    let mut bench = Bench::new(0);
    let ticket = bench.join(&static_join("one", "x"));
    let member_id = bench.joined(ticket).member_id.clone();
    assert_eq!(member_id, "one-x");
    let mut request = sync_of(&member_id, 1);
    request.assignments = vec![(member_id, Bytes::from_static(b"mine"))];
    bench.sync(&request);

    bench.restart();
    let ticket = bench.join(&static_join("one", "y"));
    let joined = bench.joined(ticket).clone();
    assert_eq!((joined.error, joined.generation_id), (ErrorCode::NONE, 1));
    assert_eq!((joined.member_id.as_str(), joined.leader.as_str()), ("one-y", "one-y"));
    assert!(joined.skip_assignment);
    assert_eq!(bench.phase(), Phase::Stable);
    let ticket = bench.sync(&sync_of("one-y", 1));
    assert_eq!(bench.synced(ticket).assignment, "mine");

    let mut old = sync_of("one-x", 1);
    old.member.group_instance_id = Some("one".to_owned());
    let ticket = bench.sync(&old);
    assert_eq!(bench.synced(ticket).error, ErrorCode::FENCED_INSTANCE_ID);
}

#[test]
fn a_static_member_that_returns_with_other_topics_rebalances() {
    let mut bench = Bench::new(0);
    let ticket = bench.join(&static_join("one", "x"));
    let member_id = bench.joined(ticket).member_id.clone();
    bench.sync(&sync_of(&member_id, 1));
    let mut request = static_join("one", "y");
    request.protocols = vec![("range".to_owned(), subscription(&["topic", "other"]))];
    let ticket = bench.join(&request);
    assert_eq!(bench.joined(ticket).generation_id, 2);
    assert!(!bench.joined(ticket).skip_assignment);
}

#[test]
fn a_static_member_that_was_given_a_new_id_is_known_by_it_after_a_kill() {
    let mut bench = Bench::new(10);
    let ticket = bench.join(&static_join("one", "x"));
    bench.advance(10);
    let first = bench.joined(ticket).clone();
    bench.sync(&sync_of(&first.member_id, first.generation_id));
    let mut request = static_join("one", "y");
    request.protocols = vec![("range".to_owned(), subscription(&["other"]))];
    let ticket = bench.join(&request);
    let second = bench.joined(ticket).clone();
    assert_ne!(second.member_id, first.member_id);
    bench.restart();
    request.member_id.clone_from(&second.member_id);
    let ticket = bench.join(&request);
    assert_eq!(bench.joined(ticket).error, ErrorCode::NONE);
}

#[test]
fn a_static_member_leaves_by_its_instance_id() {
    let mut bench = Bench::new(0);
    let ticket = bench.join(&static_join("one", "x"));
    let member_id = bench.joined(ticket).member_id.clone();
    bench.sync(&sync_of(&member_id, 1));
    let left = bench.leave(vec![member("", Some("two")), member("", Some("one"))]).unwrap();
    let errors: Vec<ErrorCode> = left.iter().map(|left| left.error).collect();
    assert_eq!(errors, [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::NONE]);
    assert_eq!(bench.phase(), Phase::Empty);
}

#[test]
fn a_leave_completes_the_rebalance_that_waited_for_it() {
    let mut bench = Bench::new(0);
    bench.stable(&["a"]);
    let newcomer = bench.join(&old_join("b"));
    bench.leave(vec![member("client-a", None)]).unwrap();
    assert_eq!(bench.joined(newcomer).members.len(), 1);
}

#[test]
fn members_vote_for_the_protocol_among_those_all_support() {
    let mut bench = Bench::new(10);
    let with = |name: &str, protocols: &[&str]| JoinGroupRequest {
        protocols: protocols.iter().map(|p| ((*p).to_owned(), Bytes::new())).collect(),
        ..old_join(name)
    };
    let ticket = bench.join(&with("a", &["range", "sticky", "only-a"]));
    bench.join(&with("b", &["sticky", "range"]));
    bench.join(&with("c", &["other", "sticky", "range"]));
    let refused = bench.join(&with("d", &["other"]));
    assert_eq!(bench.joined(refused).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    bench.advance(10);
    bench.advance(10);
    assert_eq!(bench.joined(ticket).protocol_name.as_deref(), Some("sticky"));
}

#[test]
fn groups_share_a_bounded_memory_and_who_is_in_stays_in() {
    let mut bench = Bench::new(10);
    let with = |group: usize, member_id: &str| JoinGroupRequest {
        group_id: format!("group-{group}"),
        member_id: member_id.to_owned(),
        protocols: vec![("range".to_owned(), Bytes::from(vec![0; 4_000_000]))],
        ..old_join("a")
    };
    let tickets: Vec<_> = (0..16).map(|group| bench.join(&with(group, ""))).collect();
    assert_eq!(bench.joined(tickets[15]).error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    bench.advance(10);
    bench.advance(10);
    let first = bench.joined(tickets[0]).clone();
    assert_eq!(first.error, ErrorCode::NONE);
    let synced = bench.sync(&SyncGroupRequest {
        group_id: "group-0".to_owned(),
        assignments: vec![(first.member_id.clone(), Bytes::from(vec![0; 1 << 20]))],
        ..sync_of(&first.member_id, first.generation_id)
    });
    assert_eq!(bench.synced(synced).error, ErrorCode::NONE);
    let again = bench.join(&with(0, &first.member_id));
    assert_eq!(bench.joined(again).error, ErrorCode::NONE);
    // With the sessions of the others their room is free again.
    bench.advance(1_800_000);
    let ticket = bench.join(&with(15, ""));
    bench.advance(10);
    bench.advance(10);
    assert_eq!(bench.joined(ticket).error, ErrorCode::NONE);
}

#[test]
fn a_group_whose_record_would_grow_too_large_takes_nobody_else() {
    let mut bench = Bench::new(10);
    let with = |name: &str, length: usize| JoinGroupRequest {
        protocols: vec![("range".to_owned(), Bytes::from(vec![0; length]))],
        ..old_join(name)
    };
    bench.join(&with("a", 3 << 20));
    let refused = bench.join(&with("b", 1 << 20));
    assert_eq!(bench.joined(refused).error, ErrorCode::GROUP_MAX_SIZE_REACHED);
    bench.join(&with("c", 1 << 19));
    bench.advance(10);
    bench.advance(10);
    assert_eq!(bench.groups.describe_group(GROUP).unwrap().members.len(), 2);
}

#[test]
fn a_session_timeout_out_of_bounds_is_refused() {
    let mut bench = Bench::new(0);
    for session_timeout_ms in [5_999, 1_800_001] {
        let ticket = bench.join(&JoinGroupRequest { session_timeout_ms, ..old_join("a") });
        assert_eq!(bench.joined(ticket).error, ErrorCode::INVALID_SESSION_TIMEOUT);
    }
}

#[test]
fn committed_offsets_come_back_with_their_metadata() {
    let mut bench = Bench::new(0);
    let generation = bench.stable(&["a"]);
    bench.commit(None, &commit_of("client-a", generation, 7)).unwrap();
    bench.restart();
    let fetched = bench.groups.fetch_offsets(GROUP, None, true);
    assert_eq!(fetched.len(), 1);
    assert_eq!((fetched[0].offset, fetched[0].metadata.as_str()), (Offset(7), "note"));
    let unknown = [("other".to_owned(), PartitionIndex(0))];
    let fetched = bench.groups.fetch_offsets(GROUP, Some(&unknown), true);
    assert_eq!((fetched[0].offset, fetched[0].error), (Offset(-1), ErrorCode::NONE));
}

#[test]
fn who_may_commit_follows_the_group() {
    let mut bench = Bench::new(0);
    assert_eq!(bench.commit(None, &commit_of("x", 1, 1)), Err(ErrorCode::ILLEGAL_GENERATION));
    let v9 = Commit { knows_group_id_not_found: true, ..commit_of("x", 1, 1) };
    assert_eq!(bench.commit(None, &v9), Err(ErrorCode::GROUP_ID_NOT_FOUND));
    assert_eq!(bench.commit(None, &commit_of("", -1, 1)), Ok(vec![ErrorCode::NONE]));

    let generation = bench.stable(&["a"]);
    assert_eq!(bench.commit(None, &commit_of("", -1, 1)), Err(ErrorCode::UNKNOWN_MEMBER_ID));
    let stale = commit_of("client-a", generation - 1, 1);
    assert_eq!(bench.commit(None, &stale), Err(ErrorCode::ILLEGAL_GENERATION));
    let mut long = commit_of("client-a", generation, 1);
    long.partitions[0].metadata = "x".repeat(4_097);
    assert_eq!(bench.commit(None, &long), Ok(vec![ErrorCode::OFFSET_METADATA_TOO_LARGE]));

    bench.join(&JoinGroupRequest { member_id: id("a"), ..old_join("a") });
    let completing = commit_of("client-a", generation + 1, 1);
    assert_eq!(bench.commit(None, &completing), Err(ErrorCode::REBALANCE_IN_PROGRESS));
}

#[test]
fn transactional_offsets_appear_with_their_marker() {
    let mut bench = Bench::new(0);
    let producer = ProducerId(5);
    let commit = Commit { transactional: true, ..commit_of("", -1, 7) };
    bench.commit(Some(producer), &commit).unwrap();
    let partition = [("topic".to_owned(), PartitionIndex(0))];
    let fetch = |bench: &Bench, stable| {
        bench.groups.fetch_offsets(GROUP, Some(&partition), stable)[0].clone()
    };
    assert_eq!(fetch(&bench, true).error, ErrorCode::UNSTABLE_OFFSET_COMMIT);
    assert_eq!(fetch(&bench, false).offset, Offset(-1));
    bench.marker(GROUP, producer, false);
    assert_eq!(fetch(&bench, true).offset, Offset(-1));

    bench.commit(Some(producer), &commit).unwrap();
    bench.restart();
    assert_eq!(fetch(&bench, true).error, ErrorCode::UNSTABLE_OFFSET_COMMIT);
    bench.marker(GROUP, producer, true);
    assert_eq!(fetch(&bench, true).offset, Offset(7));
}

#[test]
fn a_plain_commit_after_a_transactional_one_wins_over_its_marker() {
    let mut bench = Bench::new(0);
    let producer = ProducerId(5);
    let transactional = Commit { transactional: true, ..commit_of("", -1, 7) };
    bench.commit(Some(producer), &transactional).unwrap();
    bench.commit(None, &commit_of("", -1, 3)).unwrap();
    bench.marker(GROUP, producer, true);
    assert_eq!(bench.groups.fetch_offsets(GROUP, None, true)[0].offset, Offset(3));
}

#[test]
fn a_group_is_deleted_only_when_empty_and_with_all_it_had() {
    let mut bench = Bench::new(0);
    let generation = bench.stable(&["a"]);
    bench.commit(None, &commit_of("client-a", generation, 7)).unwrap();
    let partition = [("topic".to_owned(), PartitionIndex(0))];
    let result = bench.groups.delete_offsets(GROUP, &partition);
    assert_eq!(bench.take(None, result), Ok(vec![ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC]));
    let result = bench.groups.delete_group(GROUP);
    assert_eq!(bench.take(None, result), ErrorCode::NON_EMPTY_GROUP);
    bench.leave(vec![member("client-a", None)]).unwrap();
    let result = bench.groups.delete_group(GROUP);
    assert_eq!(bench.take(None, result), ErrorCode::NONE);
    assert!(!bench.groups.state.contains(GROUP));
    assert!(bench.groups.list_groups().is_empty());
    let result = bench.groups.delete_group(GROUP);
    assert_eq!(bench.take(None, result), ErrorCode::GROUP_ID_NOT_FOUND);
}

#[test]
fn a_simple_group_is_listed_and_described_as_empty() {
    let mut bench = Bench::new(0);
    bench.commit(None, &commit_of("", -1, 7)).unwrap();
    let listed = bench.groups.list_groups();
    assert_eq!((listed[0].group_id.as_str(), listed[0].phase), (GROUP, Phase::Empty));
    assert_eq!(bench.groups.describe_group(GROUP).unwrap().protocol_type, "");
}

#[test]
fn an_offset_committed_with_a_retention_keeps_it() {
    let mut bench = Bench::new(0);
    let commit = Commit { retention_time_ms: Some(5), ..commit_of("", -1, 7) };
    bench.commit(None, &commit).unwrap();
    let Some(Entry::Record(None, GroupRecord::Offset { value: Some(value), .. })) =
        bench.log.last()
    else {
        panic!("{:?}", bench.log)
    };
    let expected = CommittedOffset {
        offset: Offset(7),
        leader_epoch: LeaderEpoch(-1),
        metadata: "note".to_owned(),
        commit_timestamp: TimestampMs(1_000),
        expire_timestamp: Some(TimestampMs(1_005)),
    };
    assert_eq!(*value, expected);
}

#[test]
fn nobody_waits_for_ever_in_no_time() {
    let mut bench = Bench::new(0);
    let ticket = bench.join(&static_join("one", "x"));
    let member_id = bench.joined(ticket).member_id.clone();
    bench.sync(&sync_of(&member_id, 1));
    // Back without a rebalance, and from now on it gives others no time.
    bench.join(&JoinGroupRequest { rebalance_timeout_ms: 0, ..static_join("one", "y") });
    bench.join(&JoinGroupRequest { rebalance_timeout_ms: 5_000, ..old_join("b") });
    bench.leave(vec![member("client-b", None)]).unwrap();
    // The generation cannot be completed by the one who is away.
    bench.advance(5_000);
    assert_eq!(bench.phase(), Phase::PreparingRebalance);
}

#[test]
fn the_end_of_an_id_that_has_not_joined_disturbs_nobody() {
    let mut bench = Bench::new(0);
    let generation = bench.stable(&["a"]);
    let asks = JoinGroupRequest { requires_known_member_id: true, ..old_join("b") };
    bench.join(&asks);
    bench.leave(vec![member("client-b", None)]).unwrap();
    assert_eq!(bench.heartbeat("client-a", generation), ErrorCode::NONE);
    bench.join(&asks);
    for _ in 0..4 {
        bench.advance(3_000);
        assert_eq!(bench.heartbeat("client-a", generation), ErrorCode::NONE);
    }
    assert_eq!(bench.phase(), Phase::Stable);
}

#[test]
fn a_member_without_a_group_commits_also_by_its_name() {
    let mut bench = Bench::new(0);
    let mut named = commit_of("", -1, 1);
    named.member.group_instance_id = Some("one".to_owned());
    assert_eq!(bench.commit(None, &named), Ok(vec![ErrorCode::NONE]));
}

#[test]
fn what_would_cost_others_dearly_is_refused() {
    let mut bench = Bench::new(0);
    let many = (0..101).map(|number| (number.to_string(), Bytes::new())).collect();
    let ticket = bench.join(&JoinGroupRequest { protocols: many, ..old_join("a") });
    assert_eq!(bench.joined(ticket).error, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let mut commit = commit_of("", -1, 1);
    commit.group_id = "g".repeat(30_000);
    commit.partitions = vec![commit.partitions[0].clone(); 1_000];
    assert_eq!(bench.commit(None, &commit), Err(ErrorCode::INVALID_COMMIT_OFFSET_SIZE));
}

#[test]
fn an_id_has_no_more_of_its_clients_name_than_a_record_can_hold() {
    let mut bench = Bench::new(0);
    let client_id = "\u{e9}".repeat(16_000);
    let ticket = bench.join(&JoinGroupRequest { client_id, ..old_join("a") });
    assert_eq!(bench.joined(ticket).member_id.len(), 1_000 + "-a".len());
}
