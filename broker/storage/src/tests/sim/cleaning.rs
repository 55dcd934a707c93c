//! Topics of which something goes by itself, and the cleaner at work on them.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::{Offset, TimestampMs, batch::BatchView};

use super::{Check, Dice, Event, World, model::Log};
use crate::PartitionId;

pub(super) const SEGMENT_BYTES: usize = 2500;
const SEGMENT_MS: i64 = 5000;
/// How long a tombstone stays at least.
pub(super) const DELETE_RETENTION_MS: i64 = 3000;
pub(super) const MIN_COMPACTION_LAG_MS: i64 = 12_000;
const MAX_COMPACTION_LAG_MS: i64 = 16_000;
const RETENTION_BYTES: usize = 6000;
const RETENTION_MS: i64 = 20_000;
const BOTH: &str = "compact,delete";
/// The clock goes on while the cleaner looks.
const LOOK_MS: i64 = 1000;

/// What a topic's settings make of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::tests) enum Kind {
    /// Everything stays.
    #[default]
    Plain,
    /// What is old or too much goes.
    Retained,
    /// The newest of each key stays.
    Compacted,
    /// The same, and everything else for a time.
    Lagging,
    /// What is old or too much goes, of many records by the age of their file.
    Timeless,
    /// The newest of each key stays until it is old or too much.
    Both,
}

impl Kind {
    pub(super) fn some(dice: &mut Dice) -> Self {
        let all = [
            Self::Plain,
            Self::Plain,
            Self::Retained,
            Self::Compacted,
            Self::Lagging,
            Self::Timeless,
            Self::Both,
            Self::Both,
        ];
        all[dice.below_len(all.len())]
    }

    pub(super) fn is_compacted(self) -> bool {
        matches!(self, Self::Compacted | Self::Lagging | Self::Both)
    }

    pub(super) fn is_retained(self) -> bool {
        matches!(self, Self::Retained | Self::Timeless | Self::Both)
    }

    /// Whether the times of its records, if they have any, are those at which they are sent.
    pub(super) fn has_present_times(self) -> bool {
        self.is_retained() || self == Self::Lagging
    }

    /// Whether a batch has no times.
    pub(super) fn leaves_times_out(self, dice: &mut Dice) -> bool {
        match self {
            Self::Retained | Self::Lagging => false,
            Self::Plain | Self::Compacted => dice.one_in(8),
            Self::Timeless | Self::Both => dice.one_in(2),
        }
    }

    /// How much younger than the first a batch in a file may be.
    pub(super) fn segment_ms(self) -> Option<i64> {
        match self {
            Self::Plain | Self::Compacted => None,
            Self::Retained | Self::Timeless | Self::Both => Some(SEGMENT_MS),
            Self::Lagging => Some(MAX_COMPACTION_LAG_MS),
        }
    }

    pub(super) fn configs(self) -> BTreeMap<String, String> {
        let retained = [
            ("segment.ms", SEGMENT_MS.to_string()),
            ("retention.bytes", RETENTION_BYTES.to_string()),
            ("retention.ms", RETENTION_MS.to_string()),
        ];
        let compacted = [
            ("cleanup.policy", if self == Self::Both { BOTH } else { "compact" }.to_owned()),
            ("min.cleanable.dirty.ratio", "0.1".to_owned()),
            ("delete.retention.ms", DELETE_RETENTION_MS.to_string()),
        ];
        let lagging = [
            ("min.compaction.lag.ms", MIN_COMPACTION_LAG_MS.to_string()),
            ("max.compaction.lag.ms", MAX_COMPACTION_LAG_MS.to_string()),
        ];
        let mut configs = Vec::new();
        if self != Self::Plain {
            configs.push(("segment.bytes", SEGMENT_BYTES.to_string()));
        }
        if self.is_retained() {
            configs.extend(retained);
        }
        if self == Self::Timeless {
            configs.push(("message.timestamp.type", "CreateTime".to_owned()));
        }
        if self.is_compacted() {
            configs.extend(compacted);
        }
        if self == Self::Lagging {
            configs.extend(lagging);
        }
        configs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The kind that has these settings.
    pub(super) fn of(configs: &BTreeMap<String, String>) -> Self {
        if configs.contains_key("min.compaction.lag.ms") {
            Self::Lagging
        } else if configs.get("cleanup.policy").is_some_and(|policy| policy == BOTH) {
            Self::Both
        } else if configs.contains_key("cleanup.policy") {
            Self::Compacted
        } else if configs.contains_key("message.timestamp.type") {
            Self::Timeless
        } else if configs.contains_key("retention.bytes") {
            Self::Retained
        } else {
            Self::Plain
        }
    }
}

impl World {
    /// The kind of the present topic.
    pub(super) fn present_kind(&self) -> Kind {
        self.model.topic.map(|(id, _)| self.model.kind(id)).unwrap_or_default()
    }

    /// The cleaner looks once. What was there before is remembered: the model has to know what
    /// may be gone afterwards.
    pub(in crate::tests) fn clean(&mut self) -> Check {
        if self.present_kind() == Kind::Both
            && let Some(id) = self.machine.in_the_midst_of()
            && self.dice.one_in(3)
        {
            self.delete_records_of(id)?;
            self.step()?;
        }
        if self.present_kind() == Kind::Plain {
            // Its records are not watched for what may be gone.
            self.machine.free();
        } else if !self.has_ended() && self.look_through()? {
            // Much may come between the steps of the one, and little between those of the other.
            let whole = if self.present_kind() == Kind::Both { 4 } else { 2 };
            if self.dice.one_in(whole) {
                self.machine.clean();
            } else {
                self.machine.clean_a_little();
            }
        }
        Ok(())
    }

    /// And all that follows from it.
    pub(in crate::tests) fn clean_up(&mut self) -> Check {
        self.clean()?;
        self.settle()?;
        self.keep();
        self.take_answers()
    }

    /// Where a log begins, and how far its start may move by itself.
    pub(super) fn see_start(&mut self, id: PartitionId, start: Offset, log: &Log) -> Check {
        if !self.present_kind().is_retained() {
            return Ok(());
        }
        if start > self.model.start_moved(id) {
            self.note("records deleted by retention");
            self.tell(Event::StartMoved(id, start))?;
        }
        let newest = TimestampMs(self.machine.now().0 + LOOK_MS - RETENTION_MS);
        let engine = self.machine.engine.as_ref().unwrap();
        let Some(partition) = engine.shared.partition(id) else { return Ok(()) };
        let bases: Vec<Offset> =
            partition.published().segments.iter().map(|segment| segment.file.base).collect();
        let mut left: usize = log.values().map(Bytes::len).sum();
        let mut may_start = start;
        let nexts = bases.iter().skip(1).copied().chain([Offset(i64::MAX)]);
        for (base, next) in bases.iter().zip(nexts) {
            let file = log.range(*base..next);
            let Some((last, _)) = file.clone().next_back() else { continue };
            left -= file.clone().map(|(_, bytes)| bytes.len()).sum::<usize>();
            if self.newest_of(id, (*base, start), file)? >= newest && left < RETENTION_BYTES {
                break;
            }
            may_start = BatchView::parse(&log[last]).unwrap().header.next_offset();
        }
        self.tell(Event::StartAsked(id, may_start))
    }

    /// When the newest record of a file came at the earliest: without a time, when it was sent.
    fn newest_of<'a>(
        &self,
        id: PartitionId,
        (base, start): (Offset, Offset),
        file: impl Iterator<Item = (&'a Offset, &'a Bytes)>,
    ) -> Result<TimestampMs, String> {
        let (mut newest, mut written) = (TimestampMs::NONE, TimestampMs::NONE);
        for (_, bytes) in file {
            let time = BatchView::parse(bytes).unwrap().header.max_timestamp;
            newest = newest.max(time);
            if time.0 < 0
                && let Some(sent) = self.model.identify(id, bytes)?
            {
                written = written.max(self.model.sent[sent].at);
            }
        }
        // A record that was deleted may have had a time.
        Ok(if newest.0 < 0 && base >= start { written } else { newest })
    }
}
