//! The thread of a writer: commands while the table is ours, opening and waiting in between.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, watch},
};
use tokio_util::sync::CancellationToken;

use super::{Status, owner::Ownership};
use crate::{
    View,
    commit::{NotOpen, Open, Submitted, Writer},
    kafka::KafkaLog,
};

/// Commands that share one transaction at most.
const COMMANDS_PER_TRANSACTION: usize = 256;
/// Between two attempts to open the log.
const PAUSE: Duration = Duration::from_millis(200);

pub(super) struct Thread {
    pub(super) writer: Writer<KafkaLog>,
    pub(super) view: View,
    /// The file that says that the view is whole.
    pub(super) seal: PathBuf,
    pub(super) commands: mpsc::Receiver<Submitted>,
    pub(super) ownership: watch::Receiver<Ownership>,
    pub(super) rejoin: Arc<Notify>,
    pub(super) status: watch::Sender<Status>,
    pub(super) stop: CancellationToken,
    /// The assignment during which another producer took over. It counts no longer; the group has to give a new one.
    pub(super) fenced: Option<Ownership>,
}

/// What wakes the thread.
enum Event {
    Stop,
    Ownership,
    Commands(Vec<Submitted>),
}

impl Thread {
    /// Until the service stops, or its state cannot be used.
    pub(super) fn run(mut self, runtime: &Handle) {
        let mut guard = Guard { status: self.status.clone(), armed: true };
        let mut serves = false;
        loop {
            let pause = if self.wants_to_open(serves) { Some(PAUSE) } else { None };
            match runtime.block_on(self.next(pause)) {
                Some(Event::Stop) => break,
                Some(Event::Ownership) => serves = false,
                Some(Event::Commands(commands)) if serves => serves = self.step(commands),
                Some(Event::Commands(commands)) => refuse(commands),
                None => {}
            }
            if self.wants_to_open(serves) {
                serves = self.open();
            }
            if matches!(*self.status.borrow(), Status::Failed(_)) {
                break;
            }
        }
        self.commands.close();
        self.refuse_waiting();
        self.writer.close();
        if !matches!(*self.status.borrow(), Status::Failed(_))
            && let Err(error) = self.view.0.seal(&self.seal)
        {
            tracing::info!(%error, "the view is not sealed, the next start rebuilds it");
        }
        guard.armed = false;
    }

    fn wants_to_open(&self, serves: bool) -> bool {
        let ownership = *self.ownership.borrow();
        !serves && matches!(ownership, Ownership::Ours(_)) && self.fenced != Some(ownership)
    }

    async fn next(&mut self, pause: Option<Duration>) -> Option<Event> {
        let mut commands = Vec::new();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Some(Event::Stop),
            changed = self.ownership.changed() => {
                if changed.is_err() {
                    return Some(Event::Stop);
                }
                self.disowned();
                Some(Event::Ownership)
            }
            received = self.commands.recv_many(&mut commands, COMMANDS_PER_TRANSACTION) => {
                Some(if received == 0 { Event::Stop } else { Event::Commands(commands) })
            }
            () = sleep(pause) => None,
        }
    }

    /// The last assignment counts no longer; a new one may be there already.
    fn disowned(&mut self) {
        self.writer.close();
        let ownership = *self.ownership.borrow_and_update();
        let answered = self.status.borrow().answers_reads();
        self.status.send_replace(match ownership {
            Ownership::Others => Status::Standby,
            // Nobody else can have changed anything while the coordinator is gone for everyone.
            Ownership::Unknown | Ownership::Ours(_) if answered => Status::Disconnected,
            Ownership::Unknown => Status::Starting("connecting"),
            Ownership::Ours(_) => Status::Starting("restoring"),
        });
    }

    fn step(&mut self, commands: Vec<Submitted>) -> bool {
        match self.writer.step(commands) {
            Open::Yes => true,
            Open::No => {
                self.status.send_replace(Status::Disconnected);
                self.refuse_waiting();
                false
            }
            Open::Fenced => {
                tracing::warn!("another instance took the table over");
                self.status.send_replace(Status::Standby);
                self.refuse_waiting();
                self.fenced = Some(*self.ownership.borrow());
                self.rejoin.notify_one();
                false
            }
        }
    }

    fn refuse_waiting(&mut self) {
        let mut waiting = Vec::new();
        while let Ok(command) = self.commands.try_recv() {
            waiting.push(command);
        }
        refuse(waiting);
    }

    fn open(&mut self) -> bool {
        match self.writer.open() {
            Ok(()) => {
                self.status.send_replace(Status::Serving);
                true
            }
            Err(NotOpen::Unreachable) => false,
            Err(NotOpen::Unusable(reason)) => {
                self.status.send_replace(Status::Failed(reason));
                false
            }
        }
    }
}

async fn sleep(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

fn refuse(commands: Vec<Submitted>) {
    for command in commands {
        command.refuse();
    }
}

/// Tells of a panic of the thread that holds it.
struct Guard {
    status: watch::Sender<Status>,
    armed: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            self.status.send_replace(Status::Failed("the writer panicked".to_owned()));
        }
    }
}
