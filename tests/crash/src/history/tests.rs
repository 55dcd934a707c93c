//! Hand-made histories: a good one that passes, and bad ones of which each is refused for its own reason.

use super::{
    Ack, Acks, Cleanup, Fault, FinalLog, GroupAction, GroupStep, History, Id, Isolation, Made,
    Outcome, PRODUCER_SHIFT, Read, Refusal, Send, Slot, Topic, Violation, check,
};

const PLAIN: u64 = 1 << PRODUCER_SHIFT;
const ONCE: u64 = 2 << PRODUCER_SHIFT;
const TRANSACTIONAL: u64 = 3 << PRODUCER_SHIFT;

fn slot(topic: usize) -> Slot {
    Slot { topic, partition: 0 }
}

/// Ten records of acks=1, ten of acks=all, ten idempotent ones, three transactions; each producer in a topic of its own.
fn good(fault: Fault) -> History {
    let topics = ["leader", "all", "once", "transactions"].map(|name| Topic {
        name: name.to_owned(),
        partitions: 1,
        cleanup: Cleanup::Never,
    });
    let mut history = History::new(fault, topics.to_vec());
    history.last_life = 3;
    for number in 0..10_u8 {
        let life = u32::from(number / 4);
        send(&mut history, PLAIN + Id::from(number), 0, Acks::Leader, life);
        send(&mut history, PLAIN + 100 + Id::from(number), 1, Acks::All, life);
        send(&mut history, ONCE + Id::from(number), 2, Acks::All, life);
    }
    for number in 0..6 {
        send(&mut history, TRANSACTIONAL + number, 3, Acks::All, 0);
        transaction(&mut history, TRANSACTIONAL + number, number / 2);
    }
    history.transactions.extend([
        (0, Outcome::Committed),
        (1, Outcome::Aborted),
        (2, Outcome::Unknown),
    ]);
    let log = history.logs.get_mut(&slot(3)).unwrap();
    log.committed.retain(|offset, _| *offset < 2);
    for what in [
        GroupAction::Fetched(-1),
        GroupAction::Tried(4),
        GroupAction::Committed(4),
        GroupAction::Tried(6),
        GroupAction::Fetched(4),
        GroupAction::Fetched(6),
    ] {
        history.group_steps.push(GroupStep { group: 0, slot: slot(1), what, life: 0 });
    }
    history
}

/// Sends, acknowledges, reads and keeps one record, at the next offset.
fn send(history: &mut History, id: Id, topic: usize, acks: Acks, life: u32) {
    let (slot, log) = (slot(topic), history.logs.entry(slot(topic)).or_default());
    let offset = log.uncommitted.last_key_value().map_or(0, |(last, _)| last + 1);
    log.uncommitted.insert(offset, Some(id));
    log.committed.insert(offset, Some(id));
    let once = id >= ONCE;
    history.sends.insert(id, Send { slot, key: 0, acks, once, transaction: None });
    history.acks.push(Ack { id, offset, life });
    let isolation = Isolation::Uncommitted;
    history.reads.push(Read { slot, offset, id: Some(id), isolation, life });
}

fn transaction(history: &mut History, id: Id, transaction: u64) {
    history.sends.get_mut(&id).unwrap().transaction = Some(transaction);
}

/// Takes a record out of the final log; what consumers saw of it is forgotten too.
fn lose(history: &mut History, topic: usize, offset: i64) -> Id {
    let log = history.logs.get_mut(&slot(topic)).unwrap();
    log.committed.remove(&offset);
    let id = log.uncommitted.remove(&offset).flatten().unwrap();
    history.reads.retain(|read| read.id != Some(id));
    id
}

fn keep(history: &mut History, topic: usize, offset: i64, id: Id) {
    let log: &mut FinalLog = history.logs.get_mut(&slot(topic)).unwrap();
    log.uncommitted.insert(offset, Some(id));
    log.committed.insert(offset, Some(id));
}

fn read(history: &mut History, topic: usize, offset: i64, id: Option<Id>, isolation: Isolation) {
    history.reads.push(Read { slot: slot(topic), offset, id, isolation, life: 0 });
}

#[test]
fn a_good_history_is_accepted() {
    assert_eq!(check(&good(Fault::Kill)), []);
    assert_eq!(check(&good(Fault::PowerCut)), []);
}

#[test]
fn a_lost_record_of_acks_all_is_refused() {
    let mut history = good(Fault::PowerCut);
    let id = lose(&mut history, 1, 3);
    assert_eq!(check(&history), [Violation::Lost { id, slot: slot(1), offset: 3 }]);
}

#[test]
fn a_kill_may_not_lose_a_record_of_acks_1() {
    let mut history = good(Fault::Kill);
    let id = lose(&mut history, 0, 9);
    assert_eq!(check(&history), [Violation::Lost { id, slot: slot(0), offset: 9 }]);
}

#[test]
fn a_power_cut_may_lose_a_suffix_of_acks_1() {
    let mut history = good(Fault::PowerCut);
    history.acks.retain(|ack| ack.life < 2);
    for offset in 6..10 {
        lose(&mut history, 0, offset);
    }
    assert_eq!(check(&history), []);
    // What comes after the cut takes the offsets that nobody saw.
    send(&mut history, PLAIN + 50, 0, Acks::Leader, 2);
    assert_eq!(check(&history), []);
}

#[test]
fn a_power_cut_may_not_lose_from_the_middle() {
    let mut history = good(Fault::PowerCut);
    let id = lose(&mut history, 0, 5);
    let expected = Violation::LostInTheMiddle { id, slot: slot(0), offset: 5, survivor: 7 };
    assert_eq!(check(&history), [expected]);
}

#[test]
fn what_a_consumer_saw_behind_it_is_no_suffix() {
    let mut history = good(Fault::PowerCut);
    history.acks.retain(|ack| ack.life == 0);
    let id = lose(&mut history, 0, 3);
    let seen = PLAIN + 4;
    read(&mut history, 0, 4, Some(seen), Isolation::Uncommitted);
    let expected = Violation::LostInTheMiddle { id, slot: slot(0), offset: 3, survivor: 4 };
    assert_eq!(check(&history), [expected]);
}

#[test]
fn the_last_life_may_lose_nothing() {
    let mut history = good(Fault::PowerCut);
    history.last_life = 2;
    let id = lose(&mut history, 0, 9);
    assert_eq!(check(&history), [Violation::Lost { id, slot: slot(0), offset: 9 }]);
}

#[test]
fn a_record_that_a_consumer_saw_may_not_vanish() {
    let mut history = good(Fault::PowerCut);
    let id = lose(&mut history, 0, 9);
    history.acks.retain(|ack| ack.id != id);
    read(&mut history, 0, 9, Some(id), Isolation::Uncommitted);
    assert_eq!(check(&history), [Violation::Vanished { id, slot: slot(0), offset: 9 }]);
}

#[test]
fn an_offset_that_a_consumer_saw_may_not_hold_another_record() {
    let mut history = good(Fault::PowerCut);
    let first = lose(&mut history, 0, 9);
    history.acks.retain(|ack| ack.id != first);
    read(&mut history, 0, 9, Some(first), Isolation::Uncommitted);
    let then = PLAIN + 70;
    history.sends.insert(then, history.sends[&first]);
    keep(&mut history, 0, 9, then);
    let expected = Violation::OffsetReused { slot: slot(0), offset: 9, first, then };
    assert_eq!(check(&history), [expected]);
}

#[test]
fn an_offset_of_acks_all_may_not_hold_another_record() {
    let mut history = good(Fault::PowerCut);
    let first = lose(&mut history, 1, 9);
    let then = PLAIN + 170;
    history.sends.insert(then, history.sends[&first]);
    keep(&mut history, 1, 9, then);
    let expected = Violation::OffsetReused { slot: slot(1), offset: 9, first, then };
    assert_eq!(check(&history), [expected]);
}

#[test]
fn an_idempotent_record_may_not_be_there_twice() {
    let mut history = good(Fault::Kill);
    let id = ONCE + 9;
    keep(&mut history, 2, 10, id);
    let expected = Violation::Duplicate { id, slot: slot(2), offsets: (9, 10) };
    assert_eq!(check(&history), [expected]);
    // Another producer's record may be.
    let mut history = good(Fault::Kill);
    keep(&mut history, 0, 10, PLAIN + 9);
    assert_eq!(check(&history), []);
}

#[test]
fn an_idempotent_record_may_not_be_seen_at_two_offsets() {
    let mut history = good(Fault::Kill);
    history.topics[2].cleanup = Cleanup::Delete;
    history.logs.get_mut(&slot(2)).unwrap().start = 20;
    history.requested.insert(slot(2), 20);
    let id = ONCE + 9;
    read(&mut history, 2, 15, Some(id), Isolation::Uncommitted);
    let expected = Violation::Duplicate { id, slot: slot(2), offsets: (9, 15) };
    assert_eq!(check(&history), [expected]);
}

#[test]
fn idempotent_records_may_not_change_places() {
    let mut history = good(Fault::Kill);
    let late = ONCE + 20;
    history.sends.insert(late, history.sends[&(ONCE + 1)]);
    let id = ONCE + 15;
    history.sends.insert(id, history.sends[&(ONCE + 1)]);
    keep(&mut history, 2, 10, late);
    keep(&mut history, 2, 11, id);
    let expected = Violation::OutOfOrder { slot: slot(2), offset: 11, before: late, after: id };
    assert_eq!(check(&history), [expected]);
}

#[test]
fn bytes_that_nobody_sent_are_refused() {
    let mut history = good(Fault::Kill);
    history.logs.get_mut(&slot(0)).unwrap().uncommitted.insert(10, None);
    assert_eq!(check(&history), [Violation::NeverSent { slot: slot(0), offset: 10 }]);
    let mut history = good(Fault::Kill);
    history.logs.get_mut(&slot(0)).unwrap().uncommitted.insert(10, Some(ONCE + 1));
    assert_eq!(check(&history), [Violation::NeverSent { slot: slot(0), offset: 10 }]);
    let mut history = good(Fault::Kill);
    read(&mut history, 0, 4, None, Isolation::Uncommitted);
    assert_eq!(check(&history), [Violation::NeverSent { slot: slot(0), offset: 4 }]);
}

#[test]
fn an_aborted_transaction_may_not_be_visible() {
    let mut history = good(Fault::Kill);
    for (offset, number) in [(2, 2), (3, 3)] {
        keep(&mut history, 3, offset, TRANSACTIONAL + number);
    }
    let expected = |number: u64, offset| Violation::AbortedVisible {
        transaction: 1,
        id: TRANSACTIONAL + number,
        slot: slot(3),
        offset,
    };
    assert_eq!(check(&history), [expected(2, 2), expected(3, 3)]);
}

#[test]
fn an_aborted_transaction_may_not_have_been_visible_for_a_while() {
    let mut history = good(Fault::Kill);
    let id = TRANSACTIONAL + 2;
    read(&mut history, 3, 2, Some(id), Isolation::Committed);
    let aborted = Violation::AbortedVisible { transaction: 1, id, slot: slot(3), offset: 2 };
    assert!(check(&history).contains(&aborted));
}

#[test]
fn a_transaction_of_unknown_outcome_is_there_whole_or_not_at_all() {
    let mut history = good(Fault::Kill);
    keep(&mut history, 3, 4, TRANSACTIONAL + 4);
    let missing = TRANSACTIONAL + 5;
    assert_eq!(check(&history), [Violation::Torn { transaction: 2, missing, slot: slot(3) }]);
    keep(&mut history, 3, 5, TRANSACTIONAL + 5);
    assert_eq!(check(&history), []);
}

#[test]
fn a_committed_transaction_is_visible_at_read_committed() {
    let mut history = good(Fault::Kill);
    history.logs.get_mut(&slot(3)).unwrap().committed.remove(&1);
    let missing = TRANSACTIONAL + 1;
    assert_eq!(check(&history), [Violation::Torn { transaction: 0, missing, slot: slot(3) }]);
}

#[test]
fn a_committed_group_offset_may_not_go_back() {
    let mut history = good(Fault::Kill);
    let what = GroupAction::Fetched(4);
    history.group_steps.push(GroupStep { group: 0, slot: slot(1), what, life: 0 });
    let expected = Violation::GroupOffsetBack { group: 0, slot: slot(1), from: 6, to: 4 };
    assert_eq!(check(&history), [expected]);
    history.group_steps.retain(|step| step.what != GroupAction::Fetched(6));
    assert_eq!(check(&history), [], "the commit of 6 was never answered");
    history.group_steps.retain(|step| step.what != GroupAction::Fetched(4));
    let what = GroupAction::Fetched(-1);
    history.group_steps.push(GroupStep { group: 0, slot: slot(1), what, life: 0 });
    let expected = Violation::GroupOffsetBack { group: 0, slot: slot(1), from: 4, to: -1 };
    assert_eq!(check(&history), [expected]);
}

#[test]
fn a_group_offset_may_not_be_invented() {
    let mut history = good(Fault::Kill);
    let what = GroupAction::Fetched(7);
    history.group_steps.push(GroupStep { group: 0, slot: slot(1), what, life: 0 });
    let expected = Violation::GroupOffsetInvented { group: 0, slot: slot(1), offset: 7 };
    assert_eq!(check(&history), [expected]);
}

#[test]
fn cleaning_explains_what_it_may_take_and_nothing_else() {
    let mut history = good(Fault::Kill);
    for offset in 0..4 {
        history.logs.get_mut(&slot(1)).unwrap().uncommitted.remove(&offset);
        history.logs.get_mut(&slot(1)).unwrap().committed.remove(&offset);
    }
    history.topics[1].cleanup = Cleanup::Delete;
    history.requested.insert(slot(1), 4);
    history.logs.get_mut(&slot(1)).unwrap().start = 4;
    assert_eq!(check(&history), []);
    history.logs.get_mut(&slot(1)).unwrap().start = 3;
    let at_three = |found: &Violation| {
        matches!(found, Violation::Lost { offset: 3, .. } | Violation::Vanished { offset: 3, .. })
    };
    let found = check(&history);
    assert!(found.len() == 2 && found.iter().all(at_three), "{found:?}");
    history.topics[1].cleanup = Cleanup::Compact;
    assert_eq!(check(&history), [], "a later record has the key");
    let id = *history.logs[&slot(1)].uncommitted.values().last().unwrap();
    history.sends.get_mut(&id.unwrap()).unwrap().key = 1;
    lose(&mut history, 1, 9);
    assert_eq!(
        check(&history),
        [Violation::Lost { id: id.unwrap(), slot: slot(1), offset: 9 }],
        "the newest of its key"
    );
}

#[test]
fn deleted_records_may_not_come_back() {
    let mut history = good(Fault::Kill);
    history.starts.insert(slot(1), 0);
    assert_eq!(check(&history), []);
    history.starts.insert(slot(1), 2);
    let expected = Violation::StartWentBack { slot: slot(1), from: 2, to: 0 };
    assert_eq!(check(&history), [expected]);
}

#[test]
fn what_was_refused_needs_a_fault_that_explains_it() {
    let refused = |fault, error: &str| {
        let mut history = good(fault);
        let refusal = Refusal { producer: 2, error: error.to_owned(), fatal: false };
        history.refusals.insert(refusal.clone(), 3);
        let expected = [Violation::Refused { refusal, times: 3 }];
        let found = check(&history);
        assert!(found.is_empty() || found == expected, "{found:?}");
        !found.is_empty()
    };
    assert!(!refused(Fault::Kill, "RequestTimedOut"));
    assert!(refused(Fault::Kill, "OutOfOrderSequenceNumber"));
    assert!(refused(Fault::PowerCut, "InvalidTransactionalState"));
    assert!(refused(Fault::Kill, "KafkaStorageError"));
    assert!(!refused(Fault::PowerCut, "KafkaStorageError"));
    assert!(refused(Fault::Kill, "InvalidProducerEpoch"));
    let mut history = good(Fault::Kill);
    for (error, fatal) in [("OperationTimedOut", true), ("InvalidProducerEpoch", false)] {
        let refusal = Refusal { producer: 2, error: error.to_owned(), fatal };
        history.refusals.insert(refusal, 1);
    }
    assert_eq!(check(&history), [], "another had taken its place");
}

#[test]
fn nothing_may_go_that_nobody_asked_to_delete() {
    let mut history = good(Fault::Kill);
    history.topics[1].cleanup = Cleanup::Delete;
    for offset in 0..4 {
        lose(&mut history, 1, offset);
    }
    history.logs.get_mut(&slot(1)).unwrap().start = 4;
    history.requested.insert(slot(1), 4);
    assert_eq!(check(&history), []);
    history.requested.insert(slot(1), 3);
    let expected = Violation::StartTooFar { slot: slot(1), requested: 3, start: 4 };
    assert_eq!(check(&history), [expected]);
}

#[test]
fn compaction_gives_no_offset_to_another_record() {
    let mut history = good(Fault::PowerCut);
    history.topics[1].cleanup = Cleanup::Compact;
    let first = lose(&mut history, 1, 4);
    assert_eq!(check(&history), [], "a later record has the key");
    let then = PLAIN + 170;
    history.sends.insert(then, history.sends[&first]);
    keep(&mut history, 1, 4, then);
    let expected = Violation::OffsetReused { slot: slot(1), offset: 4, first, then };
    assert_eq!(check(&history), [expected]);
}

#[test]
fn read_committed_shows_what_is_in_no_transaction() {
    let mut history = good(Fault::PowerCut);
    let log = history.logs.get_mut(&slot(1)).unwrap();
    let id = log.committed.remove(&9).flatten().unwrap();
    assert_eq!(check(&history), [Violation::Withheld { id, slot: slot(1), offset: 9 }]);
}

#[test]
fn a_transactions_offset_goes_with_its_records() {
    let mut history = good(Fault::Kill);
    let producer = TRANSACTIONAL >> PRODUCER_SHIFT;
    for number in 0..6 {
        transaction(&mut history, TRANSACTIONAL + number, TRANSACTIONAL + number / 2);
    }
    history.transactions = [(0, Outcome::Committed), (1, Outcome::Aborted), (2, Outcome::Unknown)]
        .map(|(number, outcome)| (TRANSACTIONAL + number, outcome))
        .into();
    history.offset_of = Some((producer, 0));
    assert_eq!(check(&history), []);
    for offset in [-1, 1, 2] {
        history.offset_of = Some((producer, offset));
        let expected = Violation::OffsetAstray { producer, last_visible: 0, offset };
        assert_eq!(check(&history), [expected]);
    }
    keep(&mut history, 3, 4, TRANSACTIONAL + 4);
    keep(&mut history, 3, 5, TRANSACTIONAL + 5);
    assert_eq!(check(&history), [], "the one of unknown outcome was committed");
}

#[test]
fn answered_topics_and_deletions_are_kept() {
    let mut history = good(Fault::PowerCut);
    let all = [Made::Creating, Made::Created, Made::Deleting, Made::Deleted];
    history.made = all.map(|made| (format!("{made:?}"), made)).into();
    history.listed.insert("Created".to_owned());
    assert_eq!(check(&history), []);
    history.listed = history.made.keys().cloned().collect();
    assert_eq!(check(&history), [Violation::TopicBack { name: "Deleted".to_owned() }]);
    history.listed.clear();
    assert_eq!(check(&history), [Violation::TopicLost { name: "Created".to_owned() }]);
}
