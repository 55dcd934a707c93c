//! What becomes of those who commit once they are answered, or once nobody will answer them any more.

use coordinator::transactions::Producer;
use storage::{AppendError, Appended};
use tokio::sync::oneshot::{self, error::TryRecvError};
use wire::ErrorCode;

use super::{Committing, Outcome, Pending, Stage, World};

impl World {
    /// What has been answered meanwhile.
    pub(in super::super) fn take_answers(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            if let Some(pending) = self.take_answer(pending) {
                self.pending.push(pending);
            }
        }
    }

    /// The same, if there is none yet.
    fn take_answer(&mut self, pending: Pending) -> Option<Pending> {
        /// The answer; none if it was lost.
        fn told<T>(answer: &mut oneshot::Receiver<T>) -> Result<Option<T>, ()> {
            match answer.try_recv() {
                Ok(answer) => Ok(Some(answer)),
                Err(TryRecvError::Empty) => Err(()),
                Err(TryRecvError::Closed) => Ok(None),
            }
        }
        match pending {
            Pending::Commit(of, mut answer) => match told(&mut answer) {
                Ok(outcome) => self.take_committed(of, outcome),
                Err(()) => return Some(Pending::Commit(of, answer)),
            },
            Pending::Joined(mut answer) => match told(&mut answer) {
                Ok(Some(joined)) => self.take_joined(joined),
                Ok(None) => self.member.is_waiting = false,
                Err(()) => return Some(Pending::Joined(answer)),
            },
            Pending::Synced(mut answer) => match told(&mut answer) {
                Ok(synced) => {
                    self.member.is_waiting = false;
                    self.member.is_stable = synced.is_some_and(|it| it.error == ErrorCode::NONE);
                }
                Err(()) => return Some(Pending::Synced(answer)),
            },
            Pending::Begun(index, mut answer) => match told(&mut answer) {
                Ok(begun) => self.take_begun(index, begun.and_then(Result::ok)),
                Err(()) => return Some(Pending::Begun(index, answer)),
            },
            Pending::Added(index, mut answer) => match told(&mut answer) {
                Ok(added) => self.step_done(index, added.is_some_and(|it| it.is_ok()), Stage::Open),
                Err(()) => return Some(Pending::Added(index, answer)),
            },
            Pending::Written(index, mut answer) => match told(&mut answer) {
                Ok(results) => self.take_written(index, results),
                Err(()) => return Some(Pending::Written(index, answer)),
            },
            Pending::Offsets(index, mut answer) => match told(&mut answer) {
                Ok(outcome) => {
                    let committed = outcome.is_some_and(|it| it == Ok(vec![ErrorCode::NONE]));
                    self.transactional[index].transaction().has_offset |= committed;
                    self.step_done(index, committed, Stage::Written);
                }
                Err(()) => return Some(Pending::Offsets(index, answer)),
            },
            Pending::Ended(index, mut answer) => match told(&mut answer) {
                Ok(ended) => self.take_ended(index, ended),
                Err(()) => return Some(Pending::Ended(index, answer)),
            },
        }
        None
    }

    fn take_committed(&mut self, of: Committing, outcome: Option<Outcome>) {
        if outcome.is_some_and(|outcome| outcome == Ok(vec![ErrorCode::NONE])) {
            let commits = self.commits.entry(of.key).or_default();
            commits.answered = commits.answered.max(of.index);
            self.note(of.note);
        }
    }

    fn take_written(&mut self, index: usize, results: Option<Vec<Result<Appended, AppendError>>>) {
        let written = results.is_some_and(|all| all.iter().all(Result::is_ok));
        if !written {
            self.note("produce refused, the disk is full");
        }
        self.step_done(index, written, Stage::Written);
    }

    /// What could not be done is left to the next epoch, which aborts the transaction.
    fn step_done(&mut self, index: usize, done: bool, next: Stage) {
        let one = &mut self.transactional[index];
        one.is_waiting = false;
        one.stage = if done { next } else { Stage::New };
    }

    fn take_begun(&mut self, index: usize, begun: Option<Producer>) {
        let one = &mut self.transactional[index];
        one.is_waiting = false;
        let Some(producer) = begun else { return };
        (one.producer, one.stage, one.sequences) = (Some(producer), Stage::Ready, [0; 2]);
        one.number += 1;
    }

    fn take_ended(&mut self, index: usize, ended: Option<Result<Producer, ErrorCode>>) {
        let one = &mut self.transactional[index];
        one.is_waiting = false;
        // An answer that was lost is asked for again.
        let (Some(ended), Stage::Ending(commits)) = (ended, one.stage) else { return };
        let Ok(producer) = ended else {
            one.stage = Stage::New;
            return;
        };
        one.transaction().answered = true;
        if one.producer != Some(producer) {
            one.sequences = [0; 2];
        }
        (one.producer, one.stage) = (Some(producer), Stage::Ready);
        one.number += 1;
        self.note(if commits { "transaction committed" } else { "transaction aborted" });
    }

    /// Nobody hears any more what was not answered.
    pub(in super::super) fn forget_unanswered(&mut self) {
        self.pending.clear();
        self.member.is_waiting = false;
        self.member.has_crashed = self.member.is_stable;
        for index in 0..self.transactional.len() {
            let asks_again = self.dice.one_in(2);
            let one = &mut self.transactional[index];
            one.is_waiting = false;
            match one.stage {
                Stage::Ending(_) => {
                    one.transaction().was_unanswered = true;
                    if !asks_again {
                        one.stage = Stage::New;
                    }
                }
                Stage::Open | Stage::Written => {
                    one.stage = Stage::New;
                    self.note("transaction open at a crash");
                }
                Stage::New | Stage::Ready => one.stage = Stage::New,
            }
        }
    }
}
