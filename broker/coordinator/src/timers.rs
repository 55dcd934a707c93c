use std::collections::{BTreeMap, BTreeSet};

/// Deadlines by key; setting a key again moves its deadline.
#[derive(Clone, Debug)]
pub(crate) struct Timers<K> {
    by_time: BTreeSet<(u64, K)>,
    by_key: BTreeMap<K, u64>,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { by_time: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<K: Clone + Ord> Timers<K> {
    pub(crate) fn set(&mut self, key: K, at: u64) {
        self.cancel(&key);
        self.by_time.insert((at, key.clone()));
        self.by_key.insert(key, at);
    }

    pub(crate) fn cancel(&mut self, key: &K) {
        if let Some(at) = self.by_key.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }

    pub(crate) fn next(&self) -> Option<u64> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out one key whose deadline has passed.
    pub(crate) fn pop_expired(&mut self, now: u64) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::Timers;

    #[test]
    fn a_key_set_again_expires_once_at_its_new_deadline() {
        let mut timers = Timers::default();
        timers.set("a", 10);
        timers.set("b", 15);
        timers.set("a", 20);
        assert_eq!(timers.next(), Some(15));
        assert_eq!(timers.pop_expired(19), Some("b"));
        assert_eq!(timers.pop_expired(19), None);
        assert_eq!(timers.pop_expired(20), Some("a"));
        assert_eq!(timers.next(), None);
    }
}
