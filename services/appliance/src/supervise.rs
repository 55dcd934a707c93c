//! Keeps a service running: started, watched, started again after a pause that doubles.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use kit::{Service, StartError, Status};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::host::now;
use crate::http::Serving;

/// The pause after a first failure, and the longest one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A service that ran this long had recovered; its next failure is a first one again.
const RECOVERED: Duration = Duration::from_mins(1);

/// How long the other tasks of a service may take to end when one has failed, or when it is stopped.
const LAST_TASKS: Duration = Duration::from_secs(2);

/// Starts the service once; the token ends it.
pub(crate) type Starter = Box<dyn Fn(CancellationToken) -> Starting + Send + Sync>;

pub(crate) type Starting = Pin<Box<dyn Future<Output = Result<Service, StartError>> + Send>>;

/// One service and everything that supervision tells others about it.
pub(crate) struct Supervised {
    pub name: &'static str,
    pub start: Starter,
    pub serving: watch::Sender<Option<Serving>>,
    pub board: Board,
    pub stop: CancellationToken,
}

impl Supervised {
    /// Runs until `stop`; the service has ended then.
    pub(crate) async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.board.set(self.name, false, "starting");
            let began = now();
            let outcome = self.once().await;
            self.serving.send_replace(None);
            if self.stop.is_cancelled() {
                return;
            }
            if began.elapsed() >= RECOVERED {
                pause = FIRST_PAUSE;
            }
            let reason = outcome.err().unwrap_or_else(|| "it ended".to_owned());
            tracing::warn!(
                service = self.name,
                reason,
                pause_ms = pause.as_millis(),
                "service failed, starts again"
            );
            self.board.set(self.name, false, &format!("failed ({reason}), starts again"));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// From a start to an end, with what went wrong.
    async fn once(&self) -> Result<(), String> {
        let stop = self.stop.child_token();
        let mut service = tokio::select! {
            started = (self.start)(stop.clone()) => started.map_err(|error| error.to_string())?,
            () = stop.cancelled() => return Ok(()),
        };
        let (router, openapi) = service.router.split_for_parts();
        self.serving.send_replace(Some(Serving { router, openapi }));
        let ended = loop {
            let status = service.status.borrow_and_update().clone();
            self.board.set(self.name, status.is_ready(), &status.to_string());
            tokio::select! {
                ended = service.tasks.join_next() => break ended,
                changed = service.status.changed() => {
                    if changed.is_err() {
                        break service.tasks.join_next().await;
                    }
                }
            }
        };
        stop.cancel();
        let rest = async { while service.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_TASKS, rest).await.is_err() {
            service.tasks.shutdown().await;
        }
        let status = service.status.borrow().clone();
        match (ended, status) {
            (Some(Err(error)), _) => Err(error.to_string()),
            (_, Status::Failed(reason)) => Err(reason),
            (_, Status::Starting(_) | Status::Serving | Status::Disconnected | Status::Standby) => {
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_service_that_fails_is_started_again_until_it_is_stopped() {
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = starts.clone();
        let stop = CancellationToken::new();
        let board = Board::new(&["task"]);
        let supervised = Supervised {
            name: "task",
            start: Box::new(move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
                Box::pin(async { Err(StartError::Other("no broker".to_owned())) })
            }),
            serving: watch::Sender::new(None),
            board: board.clone(),
            stop: stop.clone(),
        };
        let run = tokio::task::JoinSet::from_iter([supervised.run()]);
        while starts.load(Ordering::SeqCst) < 5 {
            tokio::time::advance(FIRST_PAUSE).await;
        }
        assert!(board.parts()[0].status.starts_with("failed (no broker)"));
        stop.cancel();
        run.join_all().await;
    }
}
