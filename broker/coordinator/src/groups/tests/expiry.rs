use super::*;

const RETENTION_MS: u64 = 604_800_000;

impl Bench {
    /// One look at all groups.
    fn expire_offsets(&mut self) {
        let mut from = Some(String::new());
        while let Some(group_id) = from {
            let result = self.groups.expire_offsets(self.now(), &group_id);
            from = self.take(None, result);
        }
    }

    /// Like [`Bench::advance`], with members that go on with heartbeats.
    fn pass(&mut self, ms: u64, member_id: &str, generation: i32) {
        let step = 9_000;
        for _ in 0..ms / step {
            self.advance(step);
            assert_eq!(self.heartbeat(member_id, generation), ErrorCode::NONE);
        }
    }

    fn offsets(&self) -> Vec<String> {
        let fetched = self.groups.fetch_offsets(GROUP, None, false);
        fetched.into_iter().map(|one| one.partition.0).collect()
    }
}

fn commit_to(topic: &str, member_id: &str, generation_id: i32) -> Commit {
    let mut commit = commit_of(member_id, generation_id, 7);
    topic.clone_into(&mut commit.partitions[0].partition.0);
    commit
}

#[test]
fn offsets_of_a_simple_group_expire_by_their_commit_and_the_group_with_the_last() {
    let mut bench = Bench::new(0);
    bench.commit(None, &commit_to("early", "", -1)).unwrap();
    bench.advance(10);
    bench.commit(None, &commit_to("late", "", -1)).unwrap();
    bench.advance(RETENTION_MS - 11);
    bench.expire_offsets();
    assert_eq!(bench.offsets(), ["early", "late"]);
    bench.advance(1);
    bench.expire_offsets();
    assert_eq!(bench.offsets(), ["late"]);
    bench.advance(10);
    bench.expire_offsets();
    assert!(bench.offsets().is_empty());
    assert_eq!(bench.groups.describe_group(GROUP), None, "it is dead");
    let records = bench.log.len();
    bench.expire_offsets();
    assert_eq!(bench.log.len(), records, "nothing is forgotten twice");
}

#[test]
fn offsets_of_a_group_with_members_expire_only_for_topics_that_nobody_subscribes_to() {
    let mut bench = Bench::new(0);
    let generation = bench.stable(&["a"]);
    for topic in ["topic", "left"] {
        bench.commit(None, &commit_to(topic, "client-a", generation)).unwrap();
    }
    bench.pass(2 * RETENTION_MS, "client-a", generation);
    bench.expire_offsets();
    assert_eq!(bench.offsets(), ["topic"]);
    assert_eq!(bench.phase(), Phase::Stable);
}

#[test]
fn offsets_of_a_group_that_is_no_consumers_stay_while_it_has_members() {
    let mut bench = Bench::new(0);
    let request = JoinGroupRequest { protocol_type: "connect".to_owned(), ..old_join("a") };
    let ticket = bench.join(&request);
    let generation = bench.joined(ticket).generation_id;
    bench.assign(generation, &["a"]);
    bench.commit(None, &commit_to("left", "client-a", generation)).unwrap();
    bench.pass(2 * RETENTION_MS, "client-a", generation);
    bench.expire_offsets();
    assert_eq!(bench.offsets(), ["left"]);
}

#[test]
fn offsets_of_a_group_expire_after_it_became_empty_also_across_a_restart() {
    let mut bench = Bench::new(0);
    let generation = bench.stable(&["a"]);
    bench.commit(None, &commit_to("topic", "client-a", generation)).unwrap();
    bench.pass(2 * RETENTION_MS, "client-a", generation);
    bench.leave(vec![member("client-a", None)]).unwrap();
    assert_eq!(bench.phase(), Phase::Empty);
    bench.advance(RETENTION_MS - 1);
    bench.restart();
    bench.expire_offsets();
    assert_eq!(bench.offsets(), ["topic"]);
    bench.advance(1);
    bench.expire_offsets();
    assert!(bench.offsets().is_empty());
    assert_eq!(bench.groups.describe_group(GROUP), None);
    bench.restart();
    assert_eq!(bench.groups.describe_group(GROUP), None, "its record is gone too");
}

#[test]
fn a_group_in_a_rebalance_and_one_about_to_be_joined_stay() {
    let mut bench = Bench::new(10);
    bench.join(&old_join("a"));
    bench.commit(None, &Commit { transactional: true, ..commit_to("topic", "", -1) }).unwrap();
    bench.now_ms += 2 * RETENTION_MS;
    bench.expire_offsets();
    assert_eq!(bench.offsets(), ["topic"], "nobody is taken for gone while members join");

    let mut bench = Bench::new(0);
    bench.commit(None, &commit_to("topic", "", -1)).unwrap();
    bench.now_ms += 2 * RETENTION_MS;
    bench.join(&JoinGroupRequest { requires_known_member_id: true, ..old_join("a") });
    bench.expire_offsets();
    assert!(bench.offsets().is_empty());
    let known = JoinGroupRequest { member_id: id("a"), ..old_join("a") };
    let ticket = bench.join(&known);
    assert_eq!(bench.joined(ticket).error, ErrorCode::NONE);
}

#[test]
fn what_the_committer_asked_for_counts_before_the_brokers_retention() {
    let mut bench = Bench::new(0);
    let commit =
        |topic: &str, ms| Commit { retention_time_ms: Some(ms), ..commit_to(topic, "", -1) };
    bench.commit(None, &commit("short", 500)).unwrap();
    let long = i64::try_from(2 * RETENTION_MS).unwrap();
    bench.commit(None, &commit("long", long)).unwrap();
    bench.advance(500);
    bench.expire_offsets();
    assert_eq!(bench.offsets(), ["long"]);
    bench.advance(RETENTION_MS);
    bench.expire_offsets();
    assert_eq!(bench.offsets(), ["long"]);
    bench.advance(RETENTION_MS);
    bench.expire_offsets();
    assert!(bench.offsets().is_empty());
}

#[test]
fn an_offset_that_a_transaction_is_about_to_commit_stays_and_so_does_its_group() {
    let mut bench = Bench::new(0);
    bench.commit(None, &commit_to("topic", "", -1)).unwrap();
    let producer = ProducerId(3);
    let pending = Commit { transactional: true, ..commit_to("topic", "", -1) };
    bench.commit(Some(producer), &pending).unwrap();
    bench.advance(2 * RETENTION_MS);
    bench.expire_offsets();
    assert_eq!(bench.offsets(), ["topic"]);
    bench.marker(GROUP, producer, false);
    bench.expire_offsets();
    assert!(bench.offsets().is_empty());
}

#[test]
fn many_groups_are_looked_at_in_steps() {
    let mut bench = Bench::new(0);
    for index in 0..2_500 {
        let commit = Commit { group_id: format!("group-{index}"), ..commit_to("topic", "", -1) };
        let result = bench.groups.commit_offsets(bench.now(), &commit);
        for record in result.records {
            bench.groups.replay(None, &record);
        }
    }
    bench.now_ms += RETENTION_MS;
    let (mut from, mut steps, mut records) = (Some(String::new()), 0, 0);
    while let Some(group_id) = from {
        let result = bench.groups.expire_offsets(bench.now(), &group_id);
        assert!(result.records.len() <= 1_000);
        records += result.records.len();
        steps += 1;
        result.records.iter().for_each(|record| bench.groups.replay(None, record));
        from = result.response;
    }
    assert_eq!((steps, records), (3, 2_500));
    assert!(bench.groups.topics_with_offsets().is_empty());
}
