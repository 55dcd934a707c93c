use wire::{ErrorCode, PartitionIndex, ProducerEpoch, ProducerId, TimestampMs};

use super::*;

struct Bench {
    machine: TransactionCoordinator,
    log: Vec<TransactionRecord>,
    markers: Vec<Marker>,
    now_ms: i64,
}

impl Bench {
    fn new() -> Self {
        let machine = TransactionCoordinator::new(Config::default());
        let mut bench = Self { machine, log: Vec::new(), markers: Vec::new(), now_ms: 1_000 };
        bench.restart();
        bench
    }

    fn now(&self) -> Now {
        Now { timestamp: TimestampMs(self.now_ms), monotonic_ms: 0 }
    }

    fn take<R>(&mut self, result: TransactionResult<R>) -> R {
        for record in result.records {
            self.machine.replay(&record);
            self.log.push(record);
        }
        self.markers.extend(result.markers);
        let rebuilt = self.rebuilt();
        assert_eq!(rebuilt.state, self.machine.state);
        assert_eq!(rebuilt.next_deadline(), self.machine.next_deadline());
        result.response
    }

    fn rebuilt(&self) -> TransactionCoordinator {
        let mut machine = TransactionCoordinator::new(Config::default());
        for record in &self.log {
            let (key, value) = record.encode();
            machine.replay(&TransactionRecord::decode(&key, value.as_deref()).unwrap());
        }
        machine
    }

    fn restart(&mut self) {
        self.machine = self.rebuilt();
        self.machine.loaded(self.now());
    }

    fn init(&mut self, producer: Option<Producer>) -> Result<Producer, ErrorCode> {
        let request = InitProducerIdRequest {
            transactional_id: Some(ID.to_owned()),
            timeout_ms: 60_000,
            producer,
        };
        let result = self.machine.init_producer_id(self.now(), &request);
        self.take(result)
    }

    fn add(&mut self, producer: Producer, partitions: &[i32]) -> Result<(), ErrorCode> {
        let partitions: Vec<TopicPartition> = partitions.iter().copied().map(partition).collect();
        let result = self.machine.add_partitions(self.now(), &of(producer), &partitions);
        self.take(result)
    }

    fn end(&mut self, producer: Producer, committed: bool) -> Result<Producer, ErrorCode> {
        let result = self.machine.end_transaction(self.now(), &of(producer), committed, false);
        self.take(result)
    }

    fn end_v5(&mut self, producer: Producer, committed: bool) -> Result<Producer, ErrorCode> {
        let result = self.machine.end_transaction(self.now(), &of(producer), committed, true);
        self.take(result)
    }

    fn advance(&mut self, ms: i64) {
        self.now_ms += ms;
        while let Some(result) = self.machine.expire(self.now()) {
            self.take(result);
        }
    }

    fn metadata(&self) -> TransactionMetadata {
        self.machine.state.get(ID).unwrap().clone()
    }
}

const ID: &str = "tx";

fn partition(index: i32) -> TopicPartition {
    ("topic".to_owned(), PartitionIndex(index))
}

fn of(producer: Producer) -> TransactionOf {
    TransactionOf { transactional_id: ID.to_owned(), producer }
}

fn producer(id: i64, epoch: i16) -> Producer {
    Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) }
}

fn marker(index: i32, of: Producer, committed: bool) -> Marker {
    Marker { partition: partition(index), producer_id: of.id, producer_epoch: of.epoch, committed }
}

#[test]
fn producer_ids_are_never_given_twice_across_restarts() {
    let mut bench = Bench::new();
    let request = InitProducerIdRequest { transactional_id: None, timeout_ms: 0, producer: None };
    let mut given = std::collections::BTreeSet::new();
    for round in 0..5 {
        for _ in 0..700 {
            let result = bench.machine.init_producer_id(bench.now(), &request);
            let producer = bench.take(result).unwrap();
            assert_eq!(producer.epoch, ProducerEpoch(0));
            assert!(given.insert(producer.id), "{} in round {round}", producer.id);
        }
        bench.restart();
    }
    assert!(bench.log.len() < 10, "one record sets a thousand aside");
}

#[test]
fn a_commit_is_decision_markers_and_completion_in_one_plan() {
    let mut bench = Bench::new();
    let me = bench.init(None).unwrap();
    bench.add(me, &[0, 1]).unwrap();
    bench.now_ms += 5;
    let result = bench.machine.end_transaction(bench.now(), &of(me), true, false);
    let statuses: Vec<TransactionStatus> =
        result.records.iter().map(|record| record.value.as_ref().unwrap().status).collect();
    assert_eq!(statuses, [TransactionStatus::PrepareCommit, TransactionStatus::CompleteCommit]);
    assert_eq!(result.markers, [marker(0, me, true), marker(1, me, true)]);
    assert_eq!(bench.take(result), Ok(me));
    assert!(bench.metadata().partitions.is_empty());

    assert_eq!(bench.end(me, true), Ok(me), "a repeated commit is answered again");
    assert_eq!(bench.end(me, false), Err(ErrorCode::INVALID_TXN_STATE));
}

#[test]
fn a_newcomer_aborts_what_its_predecessor_left_open_and_fences_it() {
    let mut bench = Bench::new();
    let old = bench.init(None).unwrap();
    bench.add(old, &[0]).unwrap();
    let new = bench.init(None).unwrap();
    assert_eq!(bench.markers, [marker(0, producer(old.id.0, 1), false)]);
    assert_eq!(new, producer(old.id.0, 2));
    assert_eq!(bench.metadata().status, TransactionStatus::Empty);
    assert_eq!(bench.add(old, &[0]), Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(bench.end(old, true), Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(bench.machine.verify(&of(old), &partition(0)), Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(bench.add(new, &[0]), Ok(()));
}

#[test]
fn a_transaction_from_a_clock_that_was_ahead_lasts_no_longer_than_others() {
    let mut bench = Bench::new();
    bench.now_ms = 1_000_000_000;
    let begun = bench.init(None).unwrap();
    bench.add(begun, &[0]).unwrap();
    bench.now_ms = 1_000;
    bench.restart();
    assert_eq!(bench.machine.next_deadline(), Some(TimestampMs(61_000)));
    bench.add(begun, &[1]).unwrap();
    assert_eq!(bench.machine.next_deadline(), Some(TimestampMs(61_000)));
    bench.advance(60_000);
    assert_eq!(bench.metadata().status, TransactionStatus::CompleteAbort);
}

#[test]
fn a_transaction_past_its_timeout_is_aborted_and_its_producer_fenced() {
    let mut bench = Bench::new();
    let me = bench.init(None).unwrap();
    bench.add(me, &[3]).unwrap();
    bench.restart();
    bench.advance(59_999);
    assert_eq!(bench.metadata().status, TransactionStatus::Ongoing);
    bench.advance(1);
    assert_eq!(bench.metadata().status, TransactionStatus::CompleteAbort);
    assert_eq!(bench.markers, [marker(3, producer(me.id.0, 1), false)]);
    assert_eq!(bench.end(me, true), Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(bench.init(Some(me)), Err(ErrorCode::PRODUCER_FENCED));
}

#[test]
fn a_producer_may_ask_for_its_next_epoch_and_ask_again() {
    let mut bench = Bench::new();
    let first = bench.init(None).unwrap();
    let second = bench.init(Some(first)).unwrap();
    assert_eq!(second, producer(first.id.0, 1));
    assert_eq!(bench.init(Some(first)), Ok(second), "the answer was lost");
    let third = bench.init(Some(second)).unwrap();
    assert_eq!(bench.init(Some(first)), Err(ErrorCode::PRODUCER_FENCED));
    bench.add(third, &[0]).unwrap();
    let fourth = bench.init(Some(third)).unwrap();
    assert_eq!(fourth, producer(first.id.0, 4), "the abort took an epoch");
    assert_eq!(bench.init(Some(third)), Ok(fourth));
}

#[test]
fn an_exhausted_epoch_gives_a_new_producer_id() {
    let mut bench = Bench::new();
    let mut me = bench.init(None).unwrap();
    me.epoch = ProducerEpoch(i16::MAX - 1);
    let record = TransactionRecord {
        transactional_id: ID.to_owned(),
        value: Some(TransactionMetadata { producer_epoch: me.epoch, ..bench.metadata() }),
    };
    bench.take(TransactionResult { records: vec![record], markers: Vec::new(), response: () });
    bench.add(me, &[0]).unwrap();
    let next = bench.init(Some(me)).unwrap();
    assert_eq!(bench.markers, [marker(0, producer(me.id.0, i16::MAX), false)]);
    assert_eq!(next, producer(me.id.0 + 1, 0));
    assert_eq!(bench.metadata().previous_producer_id, me.id);
    assert_eq!(bench.init(Some(me)), Ok(next), "the answer was lost");
}

#[test]
fn refusals_have_kafkas_codes() {
    let mut bench = Bench::new();
    let stranger = producer(77, 0);
    assert_eq!(bench.add(stranger, &[0]), Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING));
    let me = bench.init(None).unwrap();
    assert_eq!(bench.add(stranger, &[0]), Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING));
    assert_eq!(bench.end(me, true), Err(ErrorCode::INVALID_TXN_STATE));
    assert_eq!(bench.machine.verify(&of(me), &partition(0)), Err(ErrorCode::INVALID_TXN_STATE));
    bench.add(me, &[0]).unwrap();
    assert_eq!(bench.machine.verify(&of(me), &partition(0)), Ok(()));
    assert_eq!(bench.machine.verify(&of(me), &partition(1)), Err(ErrorCode::INVALID_TXN_STATE));
    for timeout_ms in [0, 900_001] {
        let request = InitProducerIdRequest {
            transactional_id: Some(ID.to_owned()),
            timeout_ms,
            producer: None,
        };
        let result = bench.machine.init_producer_id(bench.now(), &request);
        assert_eq!(bench.take(result), Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT));
    }
    let request = InitProducerIdRequest {
        transactional_id: Some(PRODUCER_IDS.to_owned()),
        timeout_ms: 1,
        producer: None,
    };
    let result = bench.machine.init_producer_id(bench.now(), &request);
    assert_eq!(bench.take(result), Err(ErrorCode::INVALID_REQUEST));
}

#[test]
fn adding_what_is_there_already_writes_nothing() {
    let mut bench = Bench::new();
    let me = bench.init(None).unwrap();
    bench.add(me, &[0, 1]).unwrap();
    let records = bench.log.len();
    bench.add(me, &[1]).unwrap();
    assert_eq!(bench.log.len(), records);
}

#[test]
fn with_kip_890_every_end_raises_the_epoch_and_can_be_repeated() {
    let mut bench = Bench::new();
    let me = bench.init(None).unwrap();
    bench.add(me, &[0]).unwrap();
    let next = bench.end_v5(me, true).unwrap();
    assert_eq!(next, producer(me.id.0, 1));
    assert_eq!(bench.markers, [marker(0, next, true)]);
    assert_eq!(bench.end_v5(me, true), Ok(next));
    assert_eq!(bench.end_v5(me, false), Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(bench.end_v5(next, true), Err(ErrorCode::INVALID_TXN_STATE));
    let after = bench.end_v5(next, false).unwrap();
    assert_eq!(after, producer(me.id.0, 2), "an abort without a transaction is legal");
}

#[test]
fn an_unused_transactional_id_is_forgotten_after_a_week() {
    let mut bench = Bench::new();
    bench.init(None).unwrap();
    bench.advance(604_800_000 - 1);
    assert!(bench.machine.state.get(ID).is_some());
    bench.advance(1);
    assert!(bench.machine.state.get(ID).is_none());
    assert_eq!(bench.machine.next_deadline(), None);
}

/// A small generator: the sequence of a seed never changes.
fn below(seed: &mut u64, bound: u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % bound
}

#[test]
fn random_histories_replay_to_the_same_state_and_leave_nothing_open() {
    for seed in 1..=200_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut bench = Bench::new();
        let mut producers = vec![bench.init(None).unwrap()];
        for _ in 0..80 {
            let newest = producers.len() - 1;
            let index = if below(&mut random, 4) == 0 {
                usize::try_from(below(&mut random, u64::try_from(producers.len()).unwrap()))
                    .unwrap()
            } else {
                newest
            };
            let me = producers[index];
            let is_newest = me == *producers.last().unwrap();
            match below(&mut random, 7) {
                0 => producers.push(bench.init(None).unwrap()),
                1 => producers.extend(bench.init(Some(me))),
                2 | 3 => {
                    let added = bench.add(me, &[i32::try_from(below(&mut random, 3)).unwrap()]);
                    assert!(is_newest || added.is_err(), "seed {seed}: a zombie got through");
                }
                4 => producers.extend(bench.end(me, true)),
                5 => producers.extend(bench.end_v5(me, below(&mut random, 2) == 0)),
                _ => {
                    let ms = i64::try_from(below(&mut random, 40_000)).unwrap();
                    bench.advance(ms);
                    if below(&mut random, 4) == 0 {
                        bench.restart();
                    }
                }
            }
        }
        bench.advance(60_000);
        assert_ne!(bench.metadata().status, TransactionStatus::Ongoing, "seed {seed}");
    }
}
