//! A command on its way through the writer.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use tokio::sync::oneshot;

use super::{Consumed, batch::Failure};
use crate::{
    CommitError,
    tx::{Cause, Tx},
};

/// A command whose types are forgotten.
pub(crate) struct Submitted {
    /// In the headers of all its records.
    pub(crate) id: String,
    pub(crate) cause: Cause,
    pub(crate) consumed: Option<Consumed>,
    command: Box<dyn AnyCommand>,
}

impl fmt::Debug for Submitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submitted").field("id", &self.id).finish_non_exhaustive()
    }
}

trait AnyCommand: Send {
    /// Runs the plan and keeps its outcome; whether it was accepted.
    fn plan(&mut self, tx: &mut Tx<'_>) -> bool;
    fn answer(self: Box<Self>, id: String, outcome: Result<(), Failure>);
}

struct Typed<R, E, F> {
    plan: F,
    planned: Option<Result<R, E>>,
    answer: oneshot::Sender<Result<R, CommitError<E>>>,
}

impl Submitted {
    pub(crate) fn new<R, E, F>(
        plan: F,
        consumed: Option<Consumed>,
        cause: Cause,
    ) -> (Self, oneshot::Receiver<Result<R, CommitError<E>>>)
    where
        R: Send + 'static,
        E: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<R, E> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let command = Box::new(Typed { plan, planned: None, answer });
        (Self { id: crate::http::trace::uuid(), cause, consumed, command }, answered)
    }

    /// Plans the command; whether it was accepted.
    pub(crate) fn plan(&mut self, tx: &mut Tx<'_>) -> bool {
        self.command.plan(tx)
    }

    /// Tells the caller that nothing happened.
    pub(crate) fn refuse(self) {
        self.answer(Err(Failure::NotCommitted));
    }

    /// Tells the caller: its own outcome, or why there is none.
    pub(crate) fn answer(self, outcome: Result<(), Failure>) {
        self.command.answer(self.id, outcome);
    }
}

impl<R, E, F> AnyCommand for Typed<R, E, F>
where
    R: Send + 'static,
    E: Send + 'static,
    F: FnMut(&mut Tx<'_>) -> Result<R, E> + Send + 'static,
{
    fn plan(&mut self, tx: &mut Tx<'_>) -> bool {
        // The panic hook has told of it; it must not take the neighbours along.
        let planned = catch_unwind(AssertUnwindSafe(|| (self.plan)(tx))).ok();
        let accepted = matches!(planned, Some(Ok(_)));
        self.planned = planned;
        accepted
    }

    fn answer(self: Box<Self>, id: String, outcome: Result<(), Failure>) {
        let answer = match (outcome, self.planned) {
            (Ok(()), Some(planned)) => planned.map_err(CommitError::Refused),
            (Err(Failure::Unknown), _) => Err(CommitError::Unknown { command_id: id }),
            (Err(Failure::NotCommitted), _) | (Ok(()), None) => Err(CommitError::Unavailable),
        };
        // A caller that hung up needs no answer.
        drop(self.answer.send(answer));
    }
}
