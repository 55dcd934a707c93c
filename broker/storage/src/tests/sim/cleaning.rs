//! Topics of which something goes by itself, and the cleaner at work on them.

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::{Offset, TimestampMs, batch::BatchView};

use super::{Check, Dice, Event, World, compacted::DELETE_RETENTION_MS};
use crate::PartitionId;

const RETENTION_BYTES: usize = 6000;
const RETENTION_MS: i64 = 20_000;
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
}

impl Kind {
    pub(super) fn some(dice: &mut Dice) -> Self {
        [Self::Plain, Self::Plain, Self::Retained, Self::Compacted, Self::Compacted]
            [dice.below_len(5)]
    }

    pub(super) fn configs(self) -> BTreeMap<String, String> {
        let (bytes, age) = (RETENTION_BYTES.to_string(), RETENTION_MS.to_string());
        let horizon = DELETE_RETENTION_MS.to_string();
        let configs: &[(&str, &str)] = match self {
            Self::Plain => &[],
            Self::Retained => {
                &[("segment.bytes", "2500"), ("retention.bytes", &bytes), ("retention.ms", &age)]
            }
            Self::Compacted => &[
                ("segment.bytes", "2500"),
                ("cleanup.policy", "compact"),
                ("min.cleanable.dirty.ratio", "0.1"),
                ("delete.retention.ms", &horizon),
            ],
        };
        configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// The kind that has these settings.
    pub(super) fn of(configs: &BTreeMap<String, String>) -> Self {
        if configs.contains_key("cleanup.policy") {
            Self::Compacted
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
        if self.present_kind() == Kind::Plain {
            // Its records are not watched for what may be gone.
            self.machine.free();
        } else if !self.has_ended() && self.look_through()? {
            self.machine.clean();
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
    pub(super) fn see_start(
        &mut self,
        id: PartitionId,
        start: Offset,
        log: &BTreeMap<Offset, Bytes>,
    ) -> Check {
        if self.present_kind() != Kind::Retained {
            return Ok(());
        }
        if start > self.model.start_moved(id) {
            self.note("records deleted by retention");
            self.tell(Event::StartMoved(id, start))?;
        }
        let newest = TimestampMs(self.machine.now().0 + LOOK_MS - RETENTION_MS);
        let mut left: usize = log.values().map(Bytes::len).sum();
        let mut may_start = start;
        for bytes in log.values() {
            let header = BatchView::parse(bytes).unwrap().header;
            left -= bytes.len();
            if header.max_timestamp >= newest && left < RETENTION_BYTES {
                break;
            }
            may_start = header.next_offset();
        }
        self.tell(Event::StartAsked(id, may_start))
    }
}
