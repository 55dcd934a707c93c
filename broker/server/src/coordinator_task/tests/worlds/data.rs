//! What a reader sees of the topic that transactions write to.

use std::collections::BTreeMap;

use wire::{
    Offset, ProducerId,
    batch::{self, BatchView, Marker, RecordLimits},
};

use super::{
    super::super::{Unreadable, load},
    world::{DATA_PARTITIONS, World},
};

/// What was written and is not decided, and what was committed.
#[derive(Default)]
struct Seen {
    open: BTreeMap<ProducerId, Vec<String>>,
    committed: Vec<String>,
}

impl Seen {
    fn take(&mut self, view: &BatchView<'_>) -> Result<(), Unreadable> {
        let producer = view.header.producer_id;
        if let Some((end, _)) = batch::marker(view)? {
            let ended = self.open.remove(&producer).unwrap_or_default();
            self.committed.extend(ended.into_iter().filter(|_| end == Marker::Commit));
            return Ok(());
        }
        let mut records = batch::records(view, RecordLimits::default())?;
        while let Some(record) = records.next_record() {
            let value = record?.value.unwrap().to_vec();
            self.open.entry(producer).or_default().push(String::from_utf8(value).unwrap());
        }
        Ok(())
    }
}

impl World {
    /// What of each partition was committed, by value.
    pub(super) fn committed_values(&self) -> Result<Vec<Vec<String>>, Unreadable> {
        (0..DATA_PARTITIONS).map(|index| self.committed_in(index)).collect()
    }

    fn committed_in(&self, index: i32) -> Result<Vec<String>, Unreadable> {
        let mut seen = Seen::default();
        let Some(id) = self.data_partition(index) else { return Ok(seen.committed) };
        let storage = self.machine.storage();
        let (mut next, mut before) = (Offset(0), None);
        while before != Some(next) {
            before = Some(next);
            load::read_on(&storage, id, &mut next, &mut |view| seen.take(view))?;
        }
        Ok(seen.committed)
    }
}
