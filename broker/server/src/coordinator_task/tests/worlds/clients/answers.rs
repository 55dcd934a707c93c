//! What becomes of those who commit once they are answered, or once nobody will answer them any more.

use std::task::{Context, Poll, Waker};

use coordinator::transactions::Producer;
use storage::{AppendError, Appended};
use wire::ErrorCode;

use super::{Answer, Check, Committing, Outcome, Pending, Stage, World};
use crate::handlers::produce::error_code;

impl World {
    /// What has been answered meanwhile.
    pub(in super::super) fn take_answers(&mut self) -> Check {
        for pending in std::mem::take(&mut self.pending) {
            if let Some(pending) = self.take_answer(pending)? {
                self.pending.push(pending);
            }
        }
        Ok(())
    }

    /// The same, if there is none yet.
    fn take_answer(&mut self, pending: Pending) -> Result<Option<Pending>, String> {
        match pending {
            Pending::Commit(of, mut answer) => match self.told(&mut answer)? {
                Poll::Ready(outcome) => self.take_committed(of, outcome),
                Poll::Pending => return Ok(Some(Pending::Commit(of, answer))),
            },
            Pending::Joined(mut answer) => match self.told(&mut answer)? {
                Poll::Ready(Some(joined)) => self.take_joined(joined),
                Poll::Ready(None) => self.member.is_waiting = false,
                Poll::Pending => return Ok(Some(Pending::Joined(answer))),
            },
            Pending::Synced(mut answer) => match self.told(&mut answer)? {
                Poll::Ready(synced) => {
                    self.member.is_waiting = false;
                    self.member.is_stable = synced.is_some_and(|it| it.error == ErrorCode::NONE);
                }
                Poll::Pending => return Ok(Some(Pending::Synced(answer))),
            },
            Pending::Begun(index, mut answer) => match self.told(&mut answer)? {
                Poll::Ready(begun) => self.take_begun(index, begun.and_then(Result::ok)),
                Poll::Pending => return Ok(Some(Pending::Begun(index, answer))),
            },
            Pending::Added(index, mut answer) => match self.told(&mut answer)? {
                Poll::Ready(added) => {
                    self.step_done(index, added.is_some_and(|it| it.is_ok()), Stage::Open);
                }
                Poll::Pending => return Ok(Some(Pending::Added(index, answer))),
            },
            Pending::Written(index, mut answer) => match self.told(&mut answer)? {
                Poll::Ready(results) => self.take_written(index, results)?,
                Poll::Pending => return Ok(Some(Pending::Written(index, answer))),
            },
            Pending::Offsets(index, mut answer) => match self.told(&mut answer)? {
                Poll::Ready(outcome) => {
                    let committed = outcome.is_some_and(|it| it == Ok(vec![ErrorCode::NONE]));
                    self.transactional[index].transaction().has_offset |= committed;
                    self.step_done(index, committed, Stage::Written);
                }
                Poll::Pending => return Ok(Some(Pending::Offsets(index, answer))),
            },
            Pending::Ended(index, mut answer) => match self.told(&mut answer)? {
                Poll::Ready(ended) => self.take_ended(index, ended),
                Poll::Pending => return Ok(Some(Pending::Ended(index, answer))),
            },
        }
        Ok(None)
    }

    /// What came, if it did: an answer, or none because the request was refused.
    fn told<R>(&mut self, answer: &mut Answer<R>) -> Result<Poll<Option<R>>, String> {
        let mut context = Context::from_waker(Waker::noop());
        match answer.as_mut().poll(&mut context) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(Ok(answer)) => Ok(Poll::Ready(Some(answer))),
            Poll::Ready(Err(error)) => self.take_refusal(error).map(|()| Poll::Ready(None)),
        }
    }

    fn take_committed(&mut self, of: Committing, outcome: Option<Outcome>) {
        if outcome.is_some_and(|outcome| outcome == Ok(vec![ErrorCode::NONE])) {
            let commits = self.commits.entry(of.key).or_default();
            commits.answered = commits.answered.max(of.index);
            self.note(of.note);
        }
    }

    fn take_written(
        &mut self,
        index: usize,
        results: Option<Vec<Result<Appended, AppendError>>>,
    ) -> Check {
        let results = results.ok_or("a batch was not answered")?;
        let refused = results.iter().find_map(|one| one.err());
        self.step_done(index, refused.is_none(), Stage::Written);
        let Some(error) = refused else {
            self.lost.clear();
            return Ok(());
        };
        if error == AppendError::DiskFull {
            self.note("produce refused, the disk is full");
        }
        self.take_refusal(error_code(error))
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
