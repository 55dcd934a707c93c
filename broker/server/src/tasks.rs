use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{Id, JoinSet};

/// The only place where tasks start: named, and joined when their owner ends.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    set: JoinSet<()>,
}

impl Tasks {
    /// Starts a task whose panic ends that task alone; it is logged when the task is reaped.
    pub(crate) fn start(&mut self, task: impl Future<Output = ()> + Send + 'static) -> Id {
        self.set.spawn(task).id()
    }

    /// Starts a task that everything depends on: its panic ends the process, and the next start
    /// replays the log.
    pub(crate) fn start_vital(
        &mut self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> Id {
        self.start(async move {
            let guard = Vital(name);
            task.await;
            drop(guard);
        })
    }

    /// Waits for the next task that ends, and tells which one; never, if none is running.
    pub(crate) async fn reap(&mut self) -> Id {
        match self.set.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => {
                if error.is_panic() {
                    tracing::error!(%error, "a task panicked");
                }
                error.id()
            }
            None => std::future::pending().await,
        }
    }

    /// Waits for all tasks to end by themselves and drops those that have not within `grace`.
    pub(crate) async fn join(mut self, grace: Duration) {
        let all = async { while self.set.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all).await.is_err() {
            self.set.shutdown().await;
        }
    }
}

/// How many reads wait for the disk at a time. They compete with the journal for it, so a reader of
/// old records gets its share and no more.
static DISK_WAITS: Semaphore = Semaphore::const_new(2);

/// After a read beside the journal the disk is left alone for so many times as long as it took.
const RESTS: u32 = 2;
const LONGEST_REST: Duration = Duration::from_millis(20);

/// Does something that may wait for the disk in a thread where nothing else waits for it; alone, if
/// somebody waits for the journal.
pub(crate) async fn waiting_for_disk<T: Send + 'static>(
    alone: bool,
    read: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let permits = if alone { 2 } else { 1 };
    let permit = DISK_WAITS.acquire_many(permits).await.map_err(io::Error::other)?;
    let read = move || {
        let began = tokio::time::Instant::now();
        let outcome = read();
        if alone {
            std::thread::sleep((began.elapsed() * RESTS).min(LONGEST_REST));
        }
        outcome
    };
    let outcome = tokio::task::spawn_blocking(read).await.map_err(io::Error::other);
    drop(permit);
    outcome
}

struct Vital(&'static str);

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.0, "a vital task panicked, the process ends");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tasks;

    #[tokio::test]
    async fn a_task_that_panics_is_reaped_and_the_others_go_on() {
        let mut tasks = Tasks::default();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let patient = tasks.start(async { drop(wait.await) });
        let failing = tasks.start(async { panic!("on purpose") });
        assert_eq!(tasks.reap().await, failing);
        drop(go);
        assert_eq!(tasks.reap().await, patient);
    }
}
