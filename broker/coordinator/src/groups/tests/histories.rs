use super::*;
use crate::record::GroupMetadata;

/// A small generator: the sequence of a seed never changes.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap())).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }
}

fn random_step(bench: &mut Bench, random: &mut Random) {
    let members: Vec<String> = bench
        .groups
        .live
        .groups
        .get(GROUP)
        .map(|group| group.members.keys().chain(&group.pending_joins).cloned().collect())
        .unwrap_or_default();
    let someone =
        if members.is_empty() { "nobody".to_owned() } else { random.pick(&members).clone() };
    let generation = bench.groups.live.groups.get(GROUP).map_or(0, |group| group.generation_id);
    let producer = ProducerId(i64::try_from(random.below(3)).unwrap());
    let fresh = format!("{}", bench.tickets);
    match random.below(14) {
        0 => _ = bench.join(&old_join(&fresh)),
        1 => {
            let request = JoinGroupRequest { requires_known_member_id: true, ..old_join(&fresh) };
            _ = bench.join(&request);
        }
        2 | 3 => {
            let instance = ["one", "two"][usize::try_from(random.below(2)).unwrap()];
            _ = bench.join(&static_join(instance, &fresh));
        }
        4 | 5 => _ = bench.join(&JoinGroupRequest { member_id: someone, ..old_join(&fresh) }),
        6 | 7 => {
            let mut request = sync_of(&someone, generation);
            request.assignments =
                members.iter().map(|id| (id.clone(), Bytes::from(fresh.clone()))).collect();
            _ = bench.sync(&request);
        }
        8 => _ = bench.heartbeat(&someone, generation),
        9 => drop(bench.leave(vec![member(&someone, None)])),
        10 => drop(bench.commit(None, &commit_of(&someone, generation, 1))),
        11 => {
            let commit = Commit { transactional: true, ..commit_of("", -1, 2) };
            drop(bench.commit(Some(producer), &commit));
        }
        12 => bench.marker(GROUP, producer, random.below(2) == 0),
        _ => {
            let delete = random.below(8) == 0;
            if delete {
                let result = bench.groups.delete_group(GROUP);
                bench.take(None, result);
            } else {
                let ms = random.below(30_000);
                bench.advance(ms);
            }
        }
    }
}

/// What a settled group says of itself is what its last record says.
fn assert_settled_groups_are_recorded(bench: &Bench) {
    let Some(group) = bench.groups.live.groups.get(GROUP) else { return };
    let settled = matches!(group.phase, Phase::Stable | Phase::Empty) && group.generation_id > 0;
    if settled {
        let GroupRecord::Group { value, .. } = group.record(GROUP) else { panic!() };
        let without_time = |mut metadata: GroupMetadata| {
            metadata.current_state_timestamp = TimestampMs(0);
            metadata
        };
        assert_eq!(
            bench.groups.state.group(GROUP).cloned().map(without_time),
            value.map(without_time)
        );
    }
}

#[test]
fn replayed_state_equals_live_state_after_every_step_of_random_histories() {
    for seed in 1..=50 {
        let mut bench = Bench::new(if seed % 2 == 0 { 0 } else { 3_000 });
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        for step in 0..120 {
            random_step(&mut bench, &mut random);
            assert_settled_groups_are_recorded(&bench);
            if step == 60 {
                bench.restart();
                assert_settled_groups_are_recorded(&bench);
                let lost = bench.tickets;
                bench.answers.retain(|ticket, _| ticket.0 > lost);
            }
        }
        let waiting_since_restart = |bench: &Bench| bench.groups.next_deadline().is_some();
        for _ in 0..50 {
            bench.advance(400_000);
        }
        assert!(!waiting_since_restart(&bench), "seed {seed}: a timer never ends");
        if let Some(group) = bench.groups.live.groups.get(GROUP) {
            assert_eq!(group.phase, Phase::Empty, "seed {seed}");
        }
    }
}

#[test]
fn every_request_is_answered_once_and_nobody_waits_for_ever() {
    for seed in 1..=50 {
        let mut bench = Bench::new(0);
        let mut random = Random(0x2545_f491_4f6c_dd1d_u64.wrapping_mul(seed));
        for _ in 0..100 {
            random_step(&mut bench, &mut random);
        }
        for _ in 0..50 {
            bench.advance(400_000);
        }
        let answered: Vec<u64> = bench.answers.keys().map(|ticket| ticket.0).collect();
        assert_eq!(answered, (1..=bench.tickets).collect::<Vec<u64>>(), "seed {seed}");
    }
}
