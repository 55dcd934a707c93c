//! The newest offset of each key, in bounded memory.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use wire::{Offset, TimestampMs, batch::Record};

/// As many keys as a table of 2^19 places takes before it grows: 24 bytes and a tag for each place
/// are 13 MiB. A log with more keys takes several passes.
pub(crate) const MOST_KEYS: usize = (1 << 19) / 8 * 7;

/// Half of a SHA-256: nobody makes two keys that share it.
type Fingerprint = [u8; 16];

#[derive(Debug)]
pub(super) struct Keys {
    newest: HashMap<Fingerprint, Offset>,
    most: usize,
    /// Everything in front of it is known.
    pub(super) upto: Offset,
}

impl Keys {
    pub(super) fn new(most: usize) -> Self {
        Self { newest: HashMap::with_capacity(most), most, upto: Offset(0) }
    }

    /// Takes note of a key; `false` if there is no room for it.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let fingerprint = fingerprint(key);
        if self.newest.len() >= self.most && !self.newest.contains_key(&fingerprint) {
            return false;
        }
        self.newest.insert(fingerprint, offset);
        true
    }

    /// Whether a record stays: nothing newer has its key, and it is not a tombstone whose time is
    /// over.
    pub(super) fn keeps(&self, record: &Record<'_>, tombstones: bool) -> bool {
        if record.offset >= self.upto {
            return true;
        }
        let Some(key) = record.key else { return false };
        let newest = self.newest.get(&fingerprint(key));
        newest.is_none_or(|newest| *newest <= record.offset)
            && (record.value.is_some() || tombstones)
    }
}

fn fingerprint(key: &[u8]) -> Fingerprint {
    let digest: [u8; 32] = Sha256::digest(key).into();
    digest.first_chunk().copied().unwrap_or_default()
}

/// Whether the time up to which tombstones and markers stay is over.
pub(super) fn is_over(horizon: Option<TimestampMs>, now: TimestampMs) -> bool {
    horizon.is_some_and(|horizon| now >= horizon)
}
