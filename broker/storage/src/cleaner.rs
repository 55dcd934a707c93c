//! The cleaner: one thread that looks after what may go. It decides and reads; what changes a log
//! goes through the committer's queue, and files are removed by the checkpoint that knows of it.

mod retention;

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    catalogue::METADATA,
    queue::{DeleteRecords, Request},
    settings::TopicSettings,
    shared::Shared,
};

/// How often the logs are looked at: space is back within seconds of becoming free. Kafka's
/// `log.retention.check.interval.ms` is five minutes, because it opens files to know their age.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The first look waits until a start is over, as Kafka's waits for
/// `log.initial.task.delay.ms`.
const FIRST_LOOK_AFTER: Duration = Duration::from_secs(5);

/// Tells the cleaner to stop.
#[derive(Debug, Default)]
pub(crate) struct Cleaning {
    stopping: Mutex<bool>,
    changed: Condvar,
}

impl Cleaning {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stop(&self) {
        *self.lock() = true;
        self.changed.notify_all();
    }

    fn is_stopping(&self) -> bool {
        *self.lock()
    }

    /// Waits so long; `false` once it is to stop.
    fn wait(&self, time: Duration) -> bool {
        let stopping = self.lock();
        let waited = self.changed.wait_timeout_while(stopping, time, |stopping| !*stopping);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Looks after the logs until told to stop.
pub(crate) fn run(shared: &Shared) {
    let mut pause = FIRST_LOOK_AFTER;
    while shared.cleaning.wait(pause) && !shared.has_ended() {
        step(shared);
        pause = LOOK_EVERY;
    }
}

/// One look at every log.
pub(crate) fn step(shared: &Shared) {
    let catalogue = shared.catalogue();
    let now = shared.host.clock.now();
    for (id, topic) in catalogue.partitions().filter(|(id, _)| *id != METADATA) {
        if shared.cleaning.is_stopping() {
            return;
        }
        let Some(partition) = shared.partition(id) else { continue };
        let settings = TopicSettings::of(&catalogue, topic, shared.default_segment_bytes);
        let start = retention::log_start(&partition.published(), &settings, now);
        if start.is_some() {
            // Whether it worked shows at the next look.
            let done = Box::new(drop);
            let request = DeleteRecords { partition: id, before: start, done };
            shared.queue.push(Request::DeleteRecords(request));
        }
    }
}
