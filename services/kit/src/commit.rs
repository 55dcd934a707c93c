//! The only writer of a service: commands in, one Kafka transaction for those that arrive together, answers out.

mod batch;
mod command;
#[cfg(test)]
mod tests;
mod writer;

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::{mpsc, watch};

pub(crate) use batch::{Batch, Broken, Consumed, Log, NotOpen, Patience};
pub(crate) use command::Submitted;
pub(crate) use writer::{Open, Writer, indexes_of};

use crate::{Status, clock::Clock, tx::Cause, tx::Tx, view::View};

/// Commands that may wait; more are answered [`CommitError::Unavailable`].
const QUEUE: usize = 1024;

/// How long a stop waits for commits that are held for.
const LAST_WORDS: Duration = Duration::from_millis(500);

tokio::task_local! {
    /// What caused the commands of the task at hand; set per request by [`crate::http::trace`].
    pub(crate) static CAUSE: Cause;
}

/// Why a command had no effect, or may have had one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError<E> {
    /// The command's own rules refused it.
    #[error("refused")]
    Refused(E),
    /// Nothing happened: the broker cannot be reached, or another instance is active.
    #[error("the broker cannot be reached")]
    Unavailable,
    /// The broker went away while it decided, or the writer ended before it answered. The command's id is in the headers
    /// of its records, if it took effect.
    #[error("nobody said whether it took effect")]
    Unknown { command_id: String },
}

/// A handle to a service's writer.
#[derive(Clone, Debug)]
pub struct Commit {
    queue: mpsc::Sender<Submitted>,
    view: View,
    status: watch::Receiver<Status>,
    holds: watch::Sender<usize>,
}

/// Made by [`Commit::hold`].
#[derive(Debug)]
pub struct Hold(watch::Sender<usize>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.send_modify(|holds| *holds -= 1);
    }
}

impl Commit {
    /// The handle, and what the writer reads from.
    pub(crate) fn new(
        view: View,
        status: watch::Receiver<Status>,
    ) -> (Self, mpsc::Receiver<Submitted>) {
        let (queue, commands) = mpsc::channel(QUEUE);
        (Self { queue, view, status, holds: watch::Sender::new(0) }, commands)
    }

    /// While it lives, a service that stops goes on committing, for [`LAST_WORDS`] at most: for what was done outside
    /// and is not written down yet.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.holds.send_modify(|holds| *holds += 1);
        Hold(self.holds.clone())
    }

    /// Waits for the last [`Hold`] to be gone.
    pub(crate) async fn released(&self) {
        let mut holds = self.holds.subscribe();
        // The sender is ours, so the wait ends by the condition only.
        drop(tokio::time::timeout(LAST_WORDS, holds.wait_for(|holds| *holds == 0)).await);
    }

    /// How the service is.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// What the service knows; for everything that only reads.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Plans `command` against the view and the neighbours' uncommitted changes, commits what it planned and answers.
    ///
    /// The command may run twice (after an abort it is planned once more, alone), so it must be repeatable. A refused
    /// command adds no record. One that changes nothing is answered without a transaction.
    pub fn run<R, E, F>(
        &self,
        command: F,
    ) -> impl Future<Output = Result<R, CommitError<E>>> + Send + use<R, E, F>
    where
        R: Send + 'static,
        E: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<R, E> + Send + 'static,
    {
        self.submit(command, None)
    }

    /// Like [`Commit::run`], for consumed records whose offsets are committed in the same transaction.
    pub(crate) fn submit<R, E, F>(
        &self,
        command: F,
        consumed: Option<Consumed>,
    ) -> impl Future<Output = Result<R, CommitError<E>>> + Send + use<R, E, F>
    where
        R: Send + 'static,
        E: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<R, E> + Send + 'static,
    {
        let cause = CAUSE.try_with(Clone::clone).unwrap_or_else(|_| crate::http::trace::fresh());
        let (submitted, answer) = Submitted::new(command, consumed, cause);
        let command_id = submitted.id.clone();
        let serving = self.status.borrow().is_ready();
        let sent = if serving { self.queue.try_send(submitted).is_ok() } else { false };
        async move {
            if sent {
                answer.await.unwrap_or(Err(CommitError::Unknown { command_id }))
            } else {
                Err(CommitError::Unavailable)
            }
        }
    }
}

/// What a writer needs beside its log.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    pub(crate) view: View,
    pub(crate) clock: Arc<dyn Clock>,
    /// Index keys of a stored row, by table.
    pub(crate) tables: crate::Tables,
}
