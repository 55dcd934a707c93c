//! The judge of a history.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::excuse::is_excused;
use super::{
    Ack, Acks, Cleanup, Fault, GroupAction, History, Id, Isolation, Made, Outcome, PRODUCER_SHIFT,
    Send, Slot, Violation,
};

/// What is at an offset at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    /// Bytes that nobody sent; [`Judge::logs`] says so.
    Garbage,
    Record(Id),
}

/// Everything that is wrong with a history; nothing if all is well.
pub(crate) fn check(history: &History) -> Vec<Violation> {
    let judge = Judge::new(history);
    let mut found = Vec::new();
    judge.acknowledged(&mut found);
    judge.seen(&mut found);
    judge.logs(&mut found);
    judge.once(&mut found);
    judge.aborted(&mut found);
    judge.whole(&mut found);
    judge.groups(&mut found);
    judge.offset(&mut found);
    judge.topics(&mut found);
    judge.refusals(&mut found);
    found
}

struct Judge<'a> {
    history: &'a History,
    /// The newest offset of each key of compacted partitions.
    newest: HashMap<(Slot, u32), i64>,
    acked_at: HashMap<Id, i64>,
}

impl<'a> Judge<'a> {
    fn new(history: &'a History) -> Self {
        let mut newest = HashMap::new();
        for (slot, log) in &history.logs {
            if history.cleanup(*slot) != Cleanup::Compact {
                continue;
            }
            for (offset, id) in &log.uncommitted {
                if let Some(send) = id.and_then(|id| history.sends.get(&id)) {
                    newest.insert((*slot, send.key), *offset);
                }
            }
        }
        let acked_at = history.acks.iter().map(|ack| (ack.id, ack.offset)).collect();
        Self { history, newest, acked_at }
    }

    fn at(&self, slot: Slot, offset: i64) -> There {
        let log = self.history.logs.get(&slot);
        log.and_then(|log| log.uncommitted.get(&offset))
            .map_or(There::Nothing, |id| id.map_or(There::Garbage, There::Record))
    }

    /// Whether cleaning explains that nothing is at this offset any more.
    fn cleaned(&self, slot: Slot, offset: i64, send: &Send) -> bool {
        match self.history.cleanup(slot) {
            Cleanup::Never => false,
            Cleanup::Delete => self.history.logs.get(&slot).is_some_and(|log| offset < log.start),
            Cleanup::Compact => {
                let newest = self.newest.get(&(slot, send.key));
                newest.is_some_and(|newest| *newest > offset) || self.is_aborted(send)
            }
        }
    }

    fn is_aborted(&self, send: &Send) -> bool {
        send.transaction.is_some_and(|transaction| {
            self.history.transactions.get(&transaction) != Some(&Outcome::Committed)
        })
    }

    /// Acknowledged records are where the broker said; of acks=1 a power cut may take the newest.
    fn acknowledged(&self, found: &mut Vec<Violation>) {
        let mut lost: Vec<(&Ack, Slot)> = Vec::new();
        for ack in &self.history.acks {
            let Some(send) = self.history.sends.get(&ack.id) else { continue };
            let there = self.at(send.slot, ack.offset);
            if there == There::Record(ack.id) {
                self.shown(ack, send, found);
                continue;
            }
            let may_be_lost = self.history.fault == Fault::PowerCut && send.acks == Acks::Leader;
            match there {
                _ if may_be_lost => lost.push((ack, send.slot)),
                There::Record(then) => found.push(Violation::OffsetReused {
                    slot: send.slot,
                    offset: ack.offset,
                    first: ack.id,
                    then,
                }),
                _ if self.cleaned(send.slot, ack.offset, send) => {}
                _ => {
                    found.push(Violation::Lost { id: ack.id, slot: send.slot, offset: ack.offset });
                }
            }
        }
        self.suffix(&lost, found);
    }

    /// Outside of transactions `read_committed` shows what there is: no transaction stays open at the end.
    fn shown(&self, ack: &Ack, send: &Send, found: &mut Vec<Violation>) {
        let (id, slot, offset) = (ack.id, send.slot, ack.offset);
        let log = self.history.logs.get(&slot);
        let is_shown = log.is_some_and(|log| log.committed.get(&offset) == Some(&Some(id)));
        if !is_shown && send.transaction.is_none() && !self.cleaned(slot, offset, send) {
            found.push(Violation::Withheld { id, slot, offset });
        }
    }

    /// What is lost of one life of the broker is behind everything that is left of it.
    fn suffix(&self, lost: &[(&Ack, Slot)], found: &mut Vec<Violation>) {
        if lost.is_empty() {
            return;
        }
        let mut furthest: HashMap<(Slot, u32), i64> = HashMap::new();
        let mut survives = |slot: Slot, life: u32, offset: i64, id: Option<Id>| {
            if id.is_some_and(|id| self.at(slot, offset) == There::Record(id)) {
                let entry = furthest.entry((slot, life)).or_insert(offset);
                *entry = offset.max(*entry);
            }
        };
        for ack in &self.history.acks {
            if let Some(send) = self.history.sends.get(&ack.id) {
                survives(send.slot, ack.life, ack.offset, Some(ack.id));
            }
        }
        for read in &self.history.reads {
            survives(read.slot, read.life, read.offset, read.id);
        }
        for (ack, slot) in lost {
            match furthest.get(&(*slot, ack.life)) {
                Some(survivor) if *survivor > ack.offset => {
                    found.push(Violation::LostInTheMiddle {
                        id: ack.id,
                        slot: *slot,
                        offset: ack.offset,
                        survivor: *survivor,
                    });
                }
                // The last life is not cut short.
                _ if ack.life == self.history.last_life => {
                    found.push(Violation::Lost { id: ack.id, slot: *slot, offset: ack.offset });
                }
                _ => {}
            }
        }
    }

    /// What a consumer saw stays.
    fn seen(&self, found: &mut Vec<Violation>) {
        for read in &self.history.reads {
            let send = read.id.and_then(|id| self.history.sends.get(&id));
            let (Some(id), Some(send)) = (read.id, send) else {
                found.push(Violation::NeverSent { slot: read.slot, offset: read.offset });
                continue;
            };
            match self.at(read.slot, read.offset) {
                There::Record(then) if then == id => {}
                There::Record(then) => found.push(Violation::OffsetReused {
                    slot: read.slot,
                    offset: read.offset,
                    first: id,
                    then,
                }),
                _ if self.cleaned(read.slot, read.offset, send) => {}
                _ => found.push(Violation::Vanished { id, slot: read.slot, offset: read.offset }),
            }
        }
    }

    /// The logs hold what was sent to them and nothing else.
    fn logs(&self, found: &mut Vec<Violation>) {
        for (slot, log) in &self.history.logs {
            let known = self.history.starts.get(slot).copied().unwrap_or_default();
            if log.start < known {
                let (slot, from, to) = (*slot, known, log.start);
                found.push(Violation::StartWentBack { slot, from, to });
            }
            let requested = self.history.requested.get(slot).copied().unwrap_or_default();
            if log.start > requested {
                found.push(Violation::StartTooFar { slot: *slot, requested, start: log.start });
            }
            for (offset, id) in log.uncommitted.iter().chain(&log.committed) {
                let send = id.and_then(|id| self.history.sends.get(&id));
                if send.is_none_or(|send| send.slot != *slot) {
                    found.push(Violation::NeverSent { slot: *slot, offset: *offset });
                }
            }
        }
    }

    /// An idempotent producer's records are there once, in the order in which they were sent.
    fn once(&self, found: &mut Vec<Violation>) {
        for (slot, log) in &self.history.logs {
            let mut offset_of: HashMap<Id, i64> = HashMap::new();
            let mut last_of: HashMap<u64, Id> = HashMap::new();
            for (offset, id) in &log.uncommitted {
                let Some(id) = *id else { continue };
                if self.history.sends.get(&id).is_none_or(|send| !send.once) {
                    continue;
                }
                if let Some(first) = offset_of.insert(id, *offset) {
                    let offsets = (first, *offset);
                    found.push(Violation::Duplicate { id, slot: *slot, offsets });
                    continue;
                }
                if let Some(before) = last_of.insert(History::producer(id), id)
                    && before > id
                {
                    let (slot, offset) = (*slot, *offset);
                    found.push(Violation::OutOfOrder { slot, offset, before, after: id });
                }
            }
        }
        let mut seen_at: HashMap<Id, (Slot, i64)> = HashMap::new();
        for read in &self.history.reads {
            let Some(id) = read.id else { continue };
            if self.history.sends.get(&id).is_none_or(|send| !send.once) {
                continue;
            }
            let (slot, offset) = *seen_at.entry(id).or_insert((read.slot, read.offset));
            if (slot, offset) != (read.slot, read.offset) {
                found.push(Violation::Duplicate { id, slot, offsets: (offset, read.offset) });
            }
        }
    }

    /// `read_committed` shows nothing of an aborted transaction.
    fn aborted(&self, found: &mut Vec<Violation>) {
        let live = self.history.reads.iter().filter(|read| read.isolation == Isolation::Committed);
        let live = live.map(|read| (read.slot, read.offset, read.id));
        let last =
            self.history.logs.iter().flat_map(|(slot, log)| {
                log.committed.iter().map(|(offset, id)| (*slot, *offset, *id))
            });
        for (slot, offset, id) in live.chain(last) {
            let Some(id) = id else { continue };
            let Some(transaction) = self.transaction_of(id) else { continue };
            if self.history.transactions.get(&transaction) == Some(&Outcome::Aborted) {
                found.push(Violation::AbortedVisible { transaction, id, slot, offset });
            }
        }
    }

    fn transaction_of(&self, id: Id) -> Option<u64> {
        self.history.sends.get(&id)?.transaction
    }

    /// A transaction that is committed, or of which anything was visible, is visible whole.
    fn whole(&self, found: &mut Vec<Violation>) {
        let logs = self.history.logs.values();
        let at_the_end: HashSet<Id> =
            logs.flat_map(|log| log.committed.values().copied().flatten()).collect();
        let live = self.history.reads.iter().filter(|read| read.isolation == Isolation::Committed);
        let visible: BTreeSet<u64> = live
            .filter_map(|read| read.id)
            .chain(at_the_end.iter().copied())
            .filter_map(|id| self.transaction_of(id))
            .collect();
        for (id, send) in &self.history.sends {
            let Some(transaction) = send.transaction else { continue };
            let committed =
                self.history.transactions.get(&transaction) == Some(&Outcome::Committed);
            if at_the_end.contains(id) || !(committed || visible.contains(&transaction)) {
                continue;
            }
            let excused = match self.acked_at.get(id) {
                Some(offset) => self.cleaned(send.slot, *offset, send),
                // Where it was is not known, nor therefore what cleaning did to it.
                None => self.history.cleanup(send.slot) != Cleanup::Never,
            };
            if !excused {
                found.push(Violation::Torn { transaction, missing: *id, slot: send.slot });
            }
        }
    }

    /// The offset that a producer's transactions commit is the number of its last one that is visible.
    fn offset(&self, found: &mut Vec<Violation>) {
        let Some((producer, offset)) = self.history.offset_of else { return };
        let visible = self.history.logs.values().flat_map(|log| log.committed.values().flatten());
        let last = visible
            .filter(|id| History::producer(**id) == producer)
            .filter_map(|id| self.transaction_of(*id))
            .map(|transaction| transaction - (producer << PRODUCER_SHIFT))
            .max();
        let last_visible = last.map_or(-1, |last| i64::try_from(last).unwrap_or(i64::MAX));
        if offset != last_visible {
            found.push(Violation::OffsetAstray { producer, last_visible, offset });
        }
    }

    /// Topics are there once their creation was answered, and gone once their deletion was.
    fn topics(&self, found: &mut Vec<Violation>) {
        for (name, made) in &self.history.made {
            let (name, listed) = (name.clone(), self.history.listed.contains(name));
            match made {
                Made::Created if !listed => found.push(Violation::TopicLost { name }),
                Made::Deleted if listed => found.push(Violation::TopicBack { name }),
                _ => {}
            }
        }
    }

    /// Whatever was refused has a fault for a reason.
    fn refusals(&self, found: &mut Vec<Violation>) {
        for (refusal, times) in &self.history.refusals {
            if !is_excused(self.history, refusal) {
                found.push(Violation::Refused { refusal: refusal.clone(), times: *times });
            }
        }
    }

    /// A committed offset is one that was committed, and never an earlier one than before.
    fn groups(&self, found: &mut Vec<Violation>) {
        let mut known: HashMap<(usize, Slot), i64> = HashMap::new();
        let mut tried: HashSet<(usize, Slot, i64)> = HashSet::new();
        for step in &self.history.group_steps {
            let (group, slot) = (step.group, step.slot);
            let known = known.entry((group, slot)).or_insert(-1);
            match step.what {
                GroupAction::Tried(offset) => {
                    tried.insert((group, slot, offset));
                }
                GroupAction::Committed(offset) => *known = offset.max(*known),
                GroupAction::Fetched(offset) => {
                    if offset < *known {
                        let from = *known;
                        found.push(Violation::GroupOffsetBack { group, slot, from, to: offset });
                    } else if offset >= 0 && !tried.contains(&(group, slot, offset)) {
                        found.push(Violation::GroupOffsetInvented { group, slot, offset });
                    }
                    *known = offset.max(*known);
                }
            }
        }
    }
}
