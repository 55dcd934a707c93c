//! Transactions of which something may be lost.

use std::collections::{BTreeMap, HashSet};

use wire::{
    Offset, ProducerId,
    batch::{BatchHeader, Marker},
};

use crate::{
    log_state::LogState,
    producer::{Aborted, Producers},
};

/// Follows the producers of a log across what is lost of it.
#[derive(Debug, Default)]
pub(super) struct Follower {
    pub(super) producers: Producers,
    /// As what is left of the log makes them: what is written beside a file knows of lost batches too.
    left: Producers,
    /// What the file that is followed aborts.
    pub(super) aborted: Vec<Aborted>,
    /// Who was heard of since something was lost; none if nothing was.
    heard: Option<HashSet<ProducerId>>,
    torn: BTreeMap<Offset, ProducerId>,
}

impl Follower {
    /// Goes on from what is known of the producers in front of everything that is left.
    pub(super) fn begin(&mut self, producers: Producers) {
        self.left.clone_from(&producers);
        self.producers = producers;
    }

    /// Something is lost here.
    pub(super) fn lost(&mut self) {
        self.torn.extend(self.left.open());
        self.heard = Some(HashSet::new());
    }

    /// Whether something was lost in front of here.
    pub(super) fn has_lost(&self) -> bool {
        self.heard.is_some()
    }

    /// The state behind a file that is whole, which says so itself.
    pub(super) fn take(&mut self, state: &LogState) {
        self.producers.clone_from(&state.producers);
        self.aborted.clone_from(&state.segment_aborted);
        if !self.has_lost() {
            self.left.clone_from(&state.producers);
        }
    }

    pub(super) fn batch(&mut self, header: &BatchHeader, marker: Option<Marker>) {
        if let Some(heard) = &mut self.heard
            && header.has_producer_id()
            && heard.insert(header.producer_id)
            && header.is_transactional()
            && !header.is_control()
            && !self.left.continues(header)
        {
            self.torn.insert(header.base_offset, header.producer_id);
        }
        self.left.apply(header, marker);
        self.aborted.extend(self.producers.apply(header, marker));
    }

    /// The first offset that is left of each, and whose it is.
    pub(super) fn torn(&self) -> Vec<(Offset, ProducerId)> {
        self.torn.iter().map(|(first, producer)| (*first, *producer)).collect()
    }
}
