//! What compaction may take from a log, and what it has to leave: the newest value of each key,
//! and everything of a transaction that has not ended.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use wire::{
    Offset, TimestampMs,
    batch::{BatchView, RecordLimits, records},
};

use super::{
    Check, Kind, Model, check,
    cleaning::{DELETE_RETENTION_MS, MIN_COMPACTION_LAG_MS},
    committed::Fate,
    model::{Log, Seeing, unreadable},
};
use crate::PartitionId;

/// The header that says which record it is.
pub(super) const NAME: &[u8] = b"name";

/// A record, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tests) struct Kept {
    /// Within its batch, as it was sent.
    index: i64,
    timestamp: TimestampMs,
    key: Option<Bytes>,
    value: Option<Bytes>,
    name: Bytes,
}

impl Kept {
    /// Within its batch.
    pub(super) fn index(&self) -> i64 {
        self.index
    }

    pub(super) fn timestamp(&self) -> TimestampMs {
        self.timestamp
    }

    pub(super) fn name(&self) -> Bytes {
        self.name.clone()
    }
}

/// The records of a batch.
pub(super) fn kept(bytes: &[u8]) -> Result<Vec<Kept>, String> {
    let view = BatchView::parse(bytes).map_err(|error| unreadable(&error))?;
    let mut found = Vec::new();
    let mut all = records(&view, RecordLimits::default()).map_err(|error| unreadable(&error))?;
    while let Some(record) = all.next_record() {
        let record = record.map_err(|error| unreadable(&error))?;
        let name = record.headers().find(|header| header.key == NAME);
        found.push(Kept {
            index: record.offset.0 - view.header.base_offset.0,
            timestamp: record.timestamp,
            key: record.key.map(Bytes::copy_from_slice),
            value: record.value.map(Bytes::copy_from_slice),
            name: Bytes::copy_from_slice(name.and_then(|it| it.value).unwrap_or_default()),
        });
    }
    Ok(found)
}

/// The newest record of a key that counts.
struct Newest {
    offset: Offset,
    tombstone: bool,
    sent_at: TimestampMs,
    /// Records of the key that it supersedes.
    older: Vec<Offset>,
}

impl Model {
    /// Which of the batches that were sent this is, rewritten or not; none if nothing is left in
    /// it but its header.
    pub(super) fn identify(&self, id: PartitionId, bytes: &Bytes) -> Result<Option<usize>, String> {
        let sent = self.by_content.get(&super::model::content(bytes)).copied();
        if let Some(sent) = sent.filter(|sent| self.sent[*sent].partition == id) {
            return Ok(Some(sent));
        }
        let view = BatchView::parse(bytes).map_err(|error| unreadable(&error))?;
        let mut found = None;
        for record in kept(bytes)? {
            let sent = if view.header.is_control() {
                self.by_marker.get(&(id, view.header.producer_id, record.timestamp)).copied()
            } else {
                let named = self.by_name.get(&record.name);
                named.filter(|(_, original)| *original == record).map(|(sent, _)| *sent)
            };
            let one = sent.is_some_and(|sent| found.is_none_or(|found| found == sent));
            let base = view.header.base_offset;
            check(one, || format!("nobody sent what is at {base} of {id:?}: {record:?}"))?;
            found = sent;
        }
        Ok(found)
    }

    /// Every batch that is known to have been in a log, by its offset.
    pub(super) fn known(
        &self,
        id: PartitionId,
        log: &Log,
        seeing: &Seeing<'_>,
    ) -> Result<BTreeMap<Offset, usize>, String> {
        let end = log.last_key_value().map_or(Offset(0), |(_, last)| {
            BatchView::parse(last).map_or(Offset(0), |view| view.header.next_offset())
        });
        let of = |places: &BTreeMap<(PartitionId, Offset), usize>| -> Vec<(Offset, usize)> {
            let range = (id, Offset(0))..=(id, Offset(i64::MAX));
            places.range(range).map(|(key, sent)| (key.1, *sent)).collect()
        };
        let mut known: BTreeMap<Offset, usize> = of(&self.written).into_iter().collect();
        // A power cut may have taken a suffix of what was only written.
        known.retain(|offset, _| seeing.is_kill() || *offset < end);
        known.extend(of(&self.synced));
        known.extend(of(&self.known));
        for (base, bytes) in log {
            let Some(sent) = self.identify(id, bytes)? else { continue };
            let other = known.insert(*base, sent);
            let own = other.is_none_or(|other| other == sent);
            check(own, || format!("{base} of {id:?} holds another batch"))?;
        }
        Ok(known)
    }

    /// A compacted log holds of what was in it the newest of each key, and nothing that nobody
    /// sent.
    pub(super) fn verify_compacted(
        &self,
        (id, start): (PartitionId, Offset),
        log: &Log,
        seeing: &Seeing<'_>,
        present: &mut BTreeSet<usize>,
    ) -> Check {
        let known = self.known(id, log, seeing)?;
        let mut held = BTreeSet::new();
        for (base, bytes) in log {
            let Some(sent) = self.identify(id, bytes)? else { continue };
            check(present.insert(sent), || format!("{base} of {id:?} is there twice"))?;
            check(!self.refused.contains(&sent), || format!("{base} of {id:?} was refused"))?;
            held.extend(kept(bytes)?.iter().map(|record| base.plus(record.index)));
        }
        let youngest = self.youngest_gone(id, seeing);
        let fates = self.transactions(&known).fates;
        let mut newest: HashMap<Bytes, Newest> = HashMap::new();
        for (base, fate) in &fates {
            let sent = &self.sent[known[base]];
            for record in kept(&sent.batch)? {
                let offset = base.plus(record.index);
                let Some(key) = record.key.clone().filter(|_| offset >= start) else { continue };
                check(held.contains(&offset) || record.timestamp <= youngest, || {
                    format!("{offset} of {id:?}, which is gone, is too young for that")
                })?;
                if *fate == Fate::Counts {
                    let (tombstone, sent_at) = (record.value.is_none(), sent.at);
                    let mut older = Vec::new();
                    if let Some(before) = newest.remove(&key) {
                        older = before.older;
                        older.push(before.offset);
                    }
                    newest.insert(key, Newest { offset, tombstone, sent_at, older });
                } else if !held.contains(&offset) {
                    let aborted = *fate == Fate::Aborted;
                    check(aborted, || format!("{offset} of {id:?}, which is open, is gone"))?;
                    seeing.tally.note("compaction dropped an aborted record");
                }
            }
        }
        newest.into_values().try_for_each(|newest| newest.verify(id, &held, seeing))
    }

    /// Of when a record is at most that is compacted away.
    fn youngest_gone(&self, id: PartitionId, seeing: &Seeing<'_>) -> TimestampMs {
        if self.kind(id.topic) == Kind::Lagging {
            TimestampMs(seeing.now.0 - MIN_COMPACTION_LAG_MS)
        } else {
            TimestampMs(i64::MAX)
        }
    }
}

impl Newest {
    fn verify(&self, id: PartitionId, held: &BTreeSet<Offset>, seeing: &Seeing<'_>) -> Check {
        let offset = self.offset;
        let older = self.older.iter().filter(|older| held.contains(older)).count();
        if older < self.older.len() {
            seeing.tally.note("compaction dropped a superseded record");
        }
        if held.contains(&offset) {
            return Ok(());
        }
        check(self.tombstone, || format!("the newest of a key, {offset} of {id:?}, is gone"))?;
        let age = seeing.now.0 - self.sent_at.0;
        check(age >= DELETE_RETENTION_MS, || {
            format!("a tombstone, {offset} of {id:?}, is gone after {age} ms")
        })?;
        check(older == 0, || format!("what {offset} of {id:?} deleted is there again"))?;
        seeing.tally.note("compaction dropped a tombstone");
        Ok(())
    }
}
