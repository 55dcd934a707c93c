use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::PartitionId;
use tokio::sync::Notify;

/// Fetches that wait until one of their partitions has something new.
#[derive(Debug, Default)]
pub(crate) struct Purgatory {
    waiting: Mutex<HashMap<PartitionId, Vec<Arc<Notify>>>>,
}

/// One fetch's place in the purgatory; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Waiter<'a> {
    purgatory: &'a Purgatory,
    partitions: Vec<PartitionId>,
    notify: Arc<Notify>,
}

impl Purgatory {
    /// From now on, each change of these partitions wakes the waiter.
    pub(crate) fn wait_for(&self, partitions: Vec<PartitionId>) -> Waiter<'_> {
        let notify = Arc::new(Notify::new());
        let mut waiting = self.lock();
        for partition in &partitions {
            waiting.entry(*partition).or_default().push(Arc::clone(&notify));
        }
        drop(waiting);
        Waiter { purgatory: self, partitions, notify }
    }

    /// Wakes whoever waits for one of these. Called from a storage thread.
    pub(crate) fn wake(&self, partitions: &[PartitionId]) {
        let waiting = self.lock();
        for partition in partitions {
            for notify in waiting.get(partition).into_iter().flatten() {
                notify.notify_one();
            }
        }
    }

    /// The map is whole after every step, so a panic elsewhere has not harmed it.
    fn lock(&self) -> MutexGuard<'_, HashMap<PartitionId, Vec<Arc<Notify>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// Returns when something has changed since the last call.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.purgatory.lock();
        for partition in &self.partitions {
            if let Some(waiters) = waiting.get_mut(partition) {
                waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.notify));
                if waiters.is_empty() {
                    waiting.remove(partition);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Purgatory;
    use storage::PartitionId;
    use wire::{PartitionIndex, TopicId};

    fn partition(index: i32) -> PartitionId {
        PartitionId { topic: TopicId::default(), partition: PartitionIndex(index) }
    }

    #[tokio::test]
    async fn a_waiter_is_woken_by_its_partitions_alone_and_leaves_nothing_behind() {
        let purgatory = Purgatory::default();
        let one = purgatory.wait_for(vec![partition(1), partition(2)]);
        let other = purgatory.wait_for(vec![partition(3)]);
        purgatory.wake(&[partition(2)]);
        one.changed().await;
        let nothing = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(nothing, other.changed()).await.is_err());
        drop(one);
        drop(other);
        assert!(purgatory.lock().is_empty());
    }
}
