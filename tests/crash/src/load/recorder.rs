//! Where all clients write down what they saw.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::history::{
    Ack, GroupAction, GroupStep, History, Id, Isolation, Made, Outcome, PRODUCER_SHIFT, Read,
    Refusal, Send, Slot,
};

#[derive(Debug)]
pub(crate) struct Recorder {
    history: Mutex<History>,
    life: AtomicU32,
    acks: AtomicU64,
    /// How many records each producer may have sent by now; raised with every life, so that the history stays small.
    budget: AtomicU64,
    /// How many records were in transactions that are committed or aborted, of librdkafka's.
    decided: AtomicU64,
    /// How many transactions are being committed or aborted.
    ending: AtomicU64,
    /// How many members of groups gave themselves up.
    replaced: AtomicU64,
    stopping: AtomicBool,
    stopping_readers: AtomicBool,
}

impl Recorder {
    pub(crate) fn new(history: History) -> Self {
        Self {
            history: Mutex::new(history),
            life: AtomicU32::new(0),
            acks: AtomicU64::new(0),
            budget: AtomicU64::new(0),
            decided: AtomicU64::new(0),
            ending: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            stopping_readers: AtomicBool::new(false),
        }
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn life(&self) -> u32 {
        self.life.load(Ordering::Acquire)
    }

    /// The broker lives again, and every producer may send so many more records.
    pub(crate) fn next_life(&self, records: u64) {
        self.history().last_life = self.life.fetch_add(1, Ordering::AcqRel) + 1;
        self.budget.fetch_add(records, Ordering::AcqRel);
    }

    /// Whether a producer that has sent so many may send one more.
    pub(crate) fn may_send(&self, sent: u64) -> bool {
        sent < self.budget()
    }

    pub(crate) fn budget(&self) -> u64 {
        self.budget.load(Ordering::Acquire)
    }

    pub(crate) fn sent(&self, id: Id, send: Send) {
        self.history().sends.insert(id, send);
    }

    pub(crate) fn acked(&self, id: Id, offset: i64) {
        let life = self.life();
        self.history().acks.push(Ack { id, offset, life });
        self.acks.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn acks(&self) -> u64 {
        self.acks.load(Ordering::Acquire)
    }

    pub(crate) fn transaction(&self, transaction: u64, outcome: Outcome) {
        let life = self.life();
        let mut history = self.history();
        history.transactions.insert(transaction, outcome);
        if outcome != Outcome::Unknown {
            history.decided.insert(transaction >> PRODUCER_SHIFT, life);
        }
    }

    /// A producer was told that something failed, or gave itself up for that.
    pub(crate) fn refused(&self, producer: u64, error: &str, fatal: bool) {
        let refusal = Refusal { producer, error: error.to_owned(), fatal };
        *self.history().refusals.entry(refusal).or_default() += 1;
    }

    /// So many more records are in a transaction that is committed or aborted.
    pub(crate) fn decided(&self, records: u64) {
        self.decided.fetch_add(records, Ordering::AcqRel);
    }

    pub(crate) fn decided_records(&self) -> u64 {
        self.decided.load(Ordering::Acquire)
    }

    /// Around a client's commit or abort.
    pub(crate) fn while_ending<T>(&self, end: impl FnOnce() -> T) -> T {
        self.ending.fetch_add(1, Ordering::AcqRel);
        let result = end();
        self.ending.fetch_sub(1, Ordering::AcqRel);
        result
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire) > 0
    }

    pub(crate) fn read(&self, slot: Slot, offset: i64, id: Option<Id>, isolation: Isolation) {
        let life = self.life();
        self.history().reads.push(Read { slot, offset, id, isolation, life });
    }

    pub(crate) fn made(&self, topic: &str, made: Made) {
        self.history().made.insert(topic.to_owned(), made);
    }

    /// Somebody is about to ask that a log begin here.
    pub(crate) fn requested(&self, slot: Slot, before: i64) {
        let mut history = self.history();
        let known = history.requested.entry(slot).or_default();
        *known = before.max(*known);
    }

    /// The broker said that a log begins here now.
    pub(crate) fn deleted(&self, slot: Slot, start: i64) {
        let mut history = self.history();
        let known = history.starts.entry(slot).or_default();
        *known = start.max(*known);
    }

    pub(crate) fn group(&self, group: usize, slot: Slot, what: GroupAction) {
        let life = self.life();
        self.history().group_steps.push(GroupStep { group, slot, what, life });
    }

    pub(crate) fn member_replaced(&self) {
        self.replaced.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn members_replaced(&self) -> u64 {
        self.replaced.load(Ordering::Acquire)
    }

    pub(crate) fn group_steps(&self) -> usize {
        self.history().group_steps.len()
    }

    /// Producers end first, readers when everything is written.
    pub(crate) fn stop_producers(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn stop_readers(&self) {
        self.stopping_readers.store(true, Ordering::Release);
    }

    pub(crate) fn producers_stop(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn readers_stop(&self) -> bool {
        self.stopping_readers.load(Ordering::Acquire)
    }
}
