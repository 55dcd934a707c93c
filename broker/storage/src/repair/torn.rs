//! Transactions of which something may be lost.

use std::collections::{BTreeMap, HashSet};

use wire::{
    Offset, ProducerId,
    batch::{BatchHeader, Marker},
};

use crate::producer::{Aborted, Producers};

/// Follows the producers of a log across what is lost of it.
#[derive(Debug, Default)]
pub(super) struct Follower {
    pub(super) producers: Producers,
    /// What the file that is followed aborts.
    pub(super) aborted: Vec<Aborted>,
    /// Who was heard of since something was lost; none if nothing was.
    heard: Option<HashSet<ProducerId>>,
    torn: BTreeMap<Offset, ProducerId>,
}

impl Follower {
    /// Something is lost here.
    pub(super) fn lost(&mut self) {
        self.torn.extend(self.producers.open());
        self.heard = Some(HashSet::new());
    }

    pub(super) fn batch(&mut self, header: &BatchHeader, marker: Option<Marker>) {
        if let Some(heard) = &mut self.heard
            && header.has_producer_id()
            && heard.insert(header.producer_id)
            && header.is_transactional()
            && !header.is_control()
            && !self.producers.continues(header)
        {
            self.torn.insert(header.base_offset, header.producer_id);
        }
        self.aborted.extend(self.producers.apply(header, marker));
    }

    /// The first offset that is left of each, and whose it is.
    pub(super) fn torn(&self) -> Vec<(Offset, ProducerId)> {
        self.torn.iter().map(|(first, producer)| (*first, *producer)).collect()
    }
}
