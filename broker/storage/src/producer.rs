//! What a partition remembers of its producers: Kafka's rules of sequences, epochs and transactions.

use std::collections::{BTreeMap, HashMap, VecDeque};

use wire::{
    Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs,
    batch::{BatchHeader, Marker},
};

use crate::{
    api::{AppendError, Catalogue},
    codec::{Reader, Writer},
};

/// How many batches of a producer are remembered, to know a duplicate.
const REMEMBERED_BATCHES: usize = 5;

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeenBatch {
    pub(crate) first_sequence: Sequence,
    pub(crate) last_sequence: Sequence,
    pub(crate) base_offset: Offset,
    pub(crate) timestamp: TimestampMs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: ProducerEpoch,
    pub(crate) last_timestamp: TimestampMs,
    /// The first offset of its open transaction.
    pub(crate) first_offset: Option<Offset>,
    pub(crate) batches: VecDeque<SeenBatch>,
}

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: ProducerId,
    pub(crate) first_offset: Offset,
    /// The offset of the marker.
    pub(crate) last_offset: Offset,
    /// The last stable offset once the marker was there.
    pub(crate) last_stable_offset: Offset,
}

/// What has to stay in the log so that a producer's state can be found in it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newest {
    /// The batch with its newest sequence.
    Batch(Offset),
    /// A marker, which alone knows the epoch.
    Marker(ProducerEpoch),
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// It is there already.
    Duplicate(SeenBatch),
}

/// Which producers were forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// Those that were silent since; nobody if none.
    before: Option<TimestampMs>,
    /// How long they may be silent.
    longest_ms: i64,
}

impl Forgotten {
    pub(crate) fn of(catalogue: &Catalogue, now: TimestampMs) -> Self {
        let longest_ms = catalogue.producer_id_expiration_ms();
        Self { before: catalogue.silent_since(now), longest_ms }
    }
}

/// All producers of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: HashMap<ProducerId, Producer>,
    /// First offsets of open transactions.
    open: BTreeMap<Offset, ProducerId>,
}

impl Producers {
    /// Whether the batch may be appended; changes nothing.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Verdict, AppendError> {
        if !header.has_producer_id() {
            return Ok(Verdict::Append);
        }
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            return Ok(Verdict::Append);
        };
        // Only the coordinator writes markers, whatever epoch a client has claimed here.
        if header.is_control() {
            return Ok(Verdict::Append);
        }
        if header.producer_epoch < producer.epoch {
            return Err(AppendError::InvalidProducerEpoch);
        }
        if header.base_sequence.0 >= 0 {
            if let Some(seen) = producer.duplicate_of(header) {
                return Ok(Verdict::Duplicate(seen));
            }
            if !producer.is_next(header) {
                return Err(AppendError::OutOfOrderSequence);
            }
        }
        if producer.first_offset.is_some() && !header.is_transactional() {
            return Err(AppendError::InvalidTxnState);
        }
        Ok(Verdict::Append)
    }

    /// Whether a batch of a producer that is known follows its last one, as [`Self::check`] sees to.
    pub(crate) fn is_next(&self, header: &BatchHeader) -> bool {
        let numbered = header.has_producer_id() && header.base_sequence.0 >= 0;
        let producer = self.by_id.get(&header.producer_id).filter(|_| numbered);
        producer.is_none_or(|producer| producer.is_next(header))
    }

    /// Takes note of an appended batch; the header has its final offset and timestamp. Answers
    /// the transaction that it aborts.
    pub(crate) fn apply(
        &mut self,
        header: &BatchHeader,
        marker: Option<Marker>,
    ) -> Option<Aborted> {
        if !header.has_producer_id() {
            return None;
        }
        let producer = self.by_id.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            last_timestamp: header.max_timestamp,
            first_offset: None,
            batches: VecDeque::new(),
        });
        let is_gap = header.base_sequence.0 >= 0 && !producer.is_next(header);
        if producer.epoch != header.producer_epoch || is_gap {
            // Behind a gap it was unknown and began anew: older sequences are no duplicates.
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        producer.last_timestamp = header.max_timestamp;
        if header.is_control() {
            let first_offset = producer.first_offset.take()?;
            self.open.remove(&first_offset);
            return (marker == Some(Marker::Abort)).then(|| Aborted {
                producer_id: header.producer_id,
                first_offset,
                last_offset: header.last_offset(),
                last_stable_offset: self.first_open().unwrap_or(header.next_offset()),
            });
        }
        if header.base_sequence.0 >= 0 {
            if producer.batches.len() == REMEMBERED_BATCHES {
                producer.batches.pop_front();
            }
            producer.batches.push_back(SeenBatch {
                first_sequence: header.base_sequence,
                last_sequence: header.last_sequence(),
                base_offset: header.base_offset,
                timestamp: header.max_timestamp,
            });
        }
        if header.is_transactional() && producer.first_offset.is_none() {
            producer.first_offset = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
        None
    }

    /// Whether [`Self::expire`] would change anything.
    pub(crate) fn has_expired(&self, before: TimestampMs, longest_ms: i64) -> bool {
        let expired = |one: &Producer| one.is_over(before) || one.silence(before, longest_ms) > 0;
        self.by_id.values().any(expired)
    }

    /// Forgets producers that have been silent since `before`, and of the others what lies in
    /// front of a silence of `longest_ms` or more: if they came back after they were forgotten, a
    /// state that is built again from the log remembers no more than this one.
    pub(crate) fn expire(&mut self, before: TimestampMs, longest_ms: i64) {
        self.by_id.retain(|_, producer| !producer.is_over(before));
        for producer in self.by_id.values_mut() {
            let forgotten = producer.silence(before, longest_ms);
            producer.batches.drain(..forgotten);
        }
        self.by_id.shrink_to_fit();
    }

    /// Forgets what was forgotten before the log was read again. Answers whether that was anything.
    pub(crate) fn expire_again(&mut self, forgotten: Forgotten) -> bool {
        let Forgotten { before, longest_ms } = forgotten;
        let Some(before) = before.filter(|before| self.has_expired(*before, longest_ms)) else {
            return false;
        };
        self.expire(before, longest_ms);
        true
    }

    /// The first offset of each open transaction, and whose it is.
    pub(crate) fn open(&self) -> impl Iterator<Item = (Offset, ProducerId)> {
        self.open.iter().map(|(first, producer)| (*first, *producer))
    }

    /// The transaction that begins there is over, though its marker is not there.
    pub(crate) fn close(&mut self, first_offset: Offset) {
        let id = self.open.remove(&first_offset);
        if let Some(producer) = id.and_then(|id| self.by_id.get_mut(&id)) {
            producer.first_offset = None;
        }
    }

    /// What the last batch of a producer had.
    pub(crate) fn epoch_of(&self, id: ProducerId) -> ProducerEpoch {
        self.by_id.get(&id).map_or(ProducerEpoch::NONE, |producer| producer.epoch)
    }

    /// Whether a batch goes on where its producer's last ended, or begins.
    pub(crate) fn continues(&self, header: &BatchHeader) -> bool {
        let known = self.by_id.get(&header.producer_id);
        known.map_or(header.base_sequence == Sequence(0), |producer| producer.is_next(header))
    }

    /// The first offset of the oldest open transaction.
    pub(crate) fn first_open(&self) -> Option<Offset> {
        self.open.first_key_value().map(|(offset, _)| *offset)
    }

    /// What tells most of each producer that has not been silent since `before`.
    pub(crate) fn newest(&self, before: Option<TimestampMs>) -> HashMap<ProducerId, Newest> {
        let newest = |producer: &Producer| match producer.batches.back() {
            Some(batch) => Newest::Batch(batch.base_offset),
            None => Newest::Marker(producer.epoch),
        };
        let is_over = |producer: &Producer| before.is_some_and(|before| producer.is_over(before));
        let known = self.by_id.iter().filter(|(_, producer)| !is_over(producer));
        known.map(|(id, producer)| (*id, newest(producer))).collect()
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        let mut ids: Vec<_> = self.by_id.iter().collect();
        ids.sort_unstable_by_key(|(id, _)| **id);
        writer.count(ids.len());
        for (id, producer) in ids {
            writer.i64(id.0).i16(producer.epoch.0).i64(producer.last_timestamp.0);
            writer.i64(producer.first_offset.map_or(-1, |offset| offset.0));
            writer.count(producer.batches.len());
            for batch in &producer.batches {
                writer.i32(batch.first_sequence.0).i32(batch.last_sequence.0);
                writer.i64(batch.base_offset.0).i64(batch.timestamp.0);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let by_id: HashMap<_, _> = reader.list(producer)?.into_iter().collect();
        let open =
            by_id.iter().filter_map(|(id, producer)| Some((producer.first_offset?, *id))).collect();
        Some(Self { by_id, open })
    }
}

impl Producer {
    /// Whether it has been silent since `before`, and nothing waits for it.
    fn is_over(&self, before: TimestampMs) -> bool {
        self.first_offset.is_none() && self.last_timestamp < before
    }

    /// How many of its batches lie in front of its last long silence that was over by then.
    fn silence(&self, before: TimestampMs, longest_ms: i64) -> usize {
        let pairs = self.batches.iter().zip(self.batches.iter().skip(1));
        let long = |(batch, next): (&SeenBatch, &SeenBatch)| {
            batch.timestamp < before
                && next.timestamp.0.saturating_sub(batch.timestamp.0) >= longest_ms
        };
        pairs.map(long).rposition(|is_long| is_long).map_or(0, |index| index + 1)
    }

    fn duplicate_of(&self, header: &BatchHeader) -> Option<SeenBatch> {
        let same = |seen: &&SeenBatch| {
            seen.first_sequence == header.base_sequence
                && seen.last_sequence == header.last_sequence()
        };
        self.batches.iter().find(same).filter(|_| self.epoch == header.producer_epoch).copied()
    }

    fn is_next(&self, header: &BatchHeader) -> bool {
        if header.producer_epoch != self.epoch {
            return header.base_sequence == Sequence(0);
        }
        match self.batches.back() {
            Some(last) => last.last_sequence.plus(1) == header.base_sequence,
            None => header.base_sequence == Sequence(0),
        }
    }
}

fn producer(reader: &mut Reader<'_>) -> Option<(ProducerId, Producer)> {
    let id = ProducerId(reader.i64()?);
    let epoch = ProducerEpoch(reader.i16()?);
    let last_timestamp = TimestampMs(reader.i64()?);
    let first_offset = Some(reader.offset()?).filter(|offset| offset.0 >= 0);
    let batches = reader.list(|reader| {
        Some(SeenBatch {
            first_sequence: Sequence(reader.i32()?),
            last_sequence: Sequence(reader.i32()?),
            base_offset: reader.offset()?,
            timestamp: TimestampMs(reader.i64()?),
        })
    })?;
    Some((id, Producer { epoch, last_timestamp, first_offset, batches: batches.into() }))
}
