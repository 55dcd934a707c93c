//! What producers, administrators and readers do, one thing at a time.

use bytes::Bytes;
use wire::{
    ProducerEpoch, ProducerId, Sequence, TimestampMs,
    batch::{BatchBuilder, BatchView, ControlMarker, Marker, NewRecord, control_marker},
};

use super::{Check, Kind, World, compacted::NAME, world::PARTITIONS};
use crate::{Append, CatalogueChange, Durability, PartitionId};

/// How many keys there are in a compacted log.
const KEYS: u64 = 7;

/// A producer with sequences in one partition, and perhaps an open transaction.
#[derive(Clone, Debug)]
pub(in crate::tests) struct SimProducer {
    id: i64,
    partition: PartitionId,
    next_sequence: i32,
    /// Handed over and not answered, and in which life.
    pub(super) unanswered: Option<(usize, u64)>,
    transactional: bool,
    /// Whether anything is in its transaction.
    open: bool,
}

impl World {
    /// Up to four records, each different from all others.
    pub(super) fn records(&mut self, mut builder: BatchBuilder, longest: u64) -> Bytes {
        let number = self.model.sent.len();
        let kind = self.present_kind();
        let is_timeless = kind.leaves_times_out(&mut self.dice);
        for index in 0..=self.dice.below(3) {
            let mut value = format!("{number}-{index} ").into_bytes();
            let length = usize::try_from(self.dice.below(longest)).unwrap();
            value.resize(value.len() + length, b'x');
            let timestamp = if is_timeless {
                TimestampMs::NONE
            } else if kind.has_present_times() {
                self.machine.now()
            } else {
                TimestampMs(i64::try_from(self.dice.below(10_000)).unwrap())
            };
            // With `longest`, the batches of a group differ too.
            let name = format!("{number}-{index}-{longest}");
            let key = [b'k', u8::try_from(self.dice.below(KEYS)).unwrap()];
            let keyed = kind.is_compacted();
            let tombstone = keyed && self.dice.one_in(4);
            let headers = [(NAME, Some(name.as_bytes()))];
            builder.push(NewRecord {
                timestamp,
                key: keyed.then_some(&key),
                value: Some(&*value).filter(|_| !tombstone),
                headers: if keyed { &headers } else { &[] },
            });
        }
        builder.build()
    }

    /// A batch for some partition.
    pub(in crate::tests) fn append(&mut self, longest: u64, durability: Durability) -> Check {
        let Some(partition) = self.some_partition() else { return Ok(()) };
        let batch = self.records(BatchBuilder::new(), longest);
        self.send(Append { partition, batch }, durability).map(drop)
    }

    /// One acks=all append that nothing waits with.
    pub(in crate::tests) fn append_alone(&mut self) {
        self.append(1500, Durability::Synced).unwrap();
        let answered = self.model.synced();
        self.settle().unwrap();
        assert_eq!(self.model.synced(), answered + 1);
    }

    /// Batches for several partitions that are all or nothing.
    pub(in crate::tests) fn append_group(&mut self) -> Check {
        let mut batches = Vec::new();
        for index in 0..3 {
            let Some(partition) = self.some_partition() else { return Ok(()) };
            let longest = 700 + index;
            // Sent numbers make records different, and these are sent together.
            let name = format!("group {index} ").into_bytes();
            let mut builder = BatchBuilder::new();
            let at = self.machine.now();
            builder.push(NewRecord {
                timestamp: at,
                key: Some(&name),
                value: None,
                headers: &[(NAME, Some(format!("{}-{longest}", self.model.sent.len()).as_bytes()))],
            });
            batches.push(Append { partition, batch: self.records(builder, longest) });
        }
        self.send_group(batches)
    }

    fn new_producer(&mut self, transactional: bool) -> Option<usize> {
        let partition = self.some_partition()?;
        self.last_producer += 1;
        self.producers.push(SimProducer {
            id: self.last_producer,
            partition,
            next_sequence: 0,
            unanswered: None,
            transactional,
            open: false,
        });
        Some(self.producers.len() - 1)
    }

    /// An idempotent producer sends on, or again what was not answered.
    pub(in crate::tests) fn produce(&mut self, durability: Durability) -> Check {
        let index = if self.producers.len() < 4 {
            let transactional = self.dice.one_in(2);
            self.new_producer(transactional)
        } else {
            Some(self.dice.below_len(self.producers.len()))
        };
        let Some(index) = index else { return Ok(()) };
        if let Some((number, _)) = self.producers[index].unanswered {
            self.send_again(number, durability);
            return Ok(());
        }
        let producer = self.producers[index].clone();
        let mut builder = BatchBuilder::new().producer(
            ProducerId(producer.id),
            ProducerEpoch(0),
            Sequence(producer.next_sequence),
        );
        if producer.transactional {
            builder = builder.transactional();
        }
        let batch = self.records(builder, 1500);
        let count = BatchView::parse(&batch).unwrap().header.record_count;
        let number = self.send(Append { partition: producer.partition, batch }, durability)?;
        let life = self.life;
        let producer = &mut self.producers[index];
        producer.next_sequence += count;
        producer.unanswered = Some((number, life));
        producer.open = producer.transactional;
        Ok(())
    }

    /// Ends an open transaction, as the coordinator does.
    pub(in crate::tests) fn end_transaction(&mut self, marker: Marker) -> Check {
        let ended = self.producers.iter_mut().find(|one| one.open && one.unanswered.is_none());
        let Some(producer) = ended else { return Ok(()) };
        producer.open = false;
        let (partition, id) = (producer.partition, ProducerId(producer.id));
        // It makes the marker different from the producer's others.
        let timestamp = if self.present_kind().has_present_times() {
            self.machine.now()
        } else {
            TimestampMs(i64::try_from(self.model.sent.len()).unwrap())
        };
        let end = ControlMarker {
            producer_id: id,
            producer_epoch: ProducerEpoch(0),
            marker,
            coordinator_epoch: 0,
            timestamp,
        };
        self.note(match marker {
            Marker::Abort => "transaction aborted",
            Marker::Commit => "transaction committed",
        });
        self.send_group(vec![Append { partition, batch: control_marker(&end) }])
    }

    pub(in crate::tests) fn add_partition(&mut self) -> Check {
        let Some((id, count)) = self.model.topic else { return Ok(()) };
        self.change(CatalogueChange::AddPartitions { id, count: count + 1 })?;
        self.settle()
    }

    pub(in crate::tests) fn delete_topic(&mut self) -> Check {
        let Some((id, _)) = self.model.topic else { return Ok(()) };
        self.change(CatalogueChange::DeleteTopic { id })?;
        self.settle()
    }

    fn change_topic(&mut self) -> Check {
        match self.dice.below(3) {
            0 if self.model.topic.is_some_and(|(_, count)| count < PARTITIONS + 3) => {
                self.add_partition()
            }
            1 => {
                self.delete_topic()?;
                self.create_topic()
            }
            _ => Ok(()),
        }
    }

    /// One thing that happens.
    pub(in crate::tests) fn act(&mut self) -> Check {
        self.pass(1);
        let durability = if self.dice.one_in(2) { Durability::Synced } else { Durability::Written };
        match self.dice.below(24) {
            0..=4 => {
                let longest = if self.dice.one_in(8) { 9000 } else { 1500 };
                self.append(longest, durability)?;
            }
            5..=8 => self.produce(durability)?,
            9 => {
                let marker = if self.dice.one_in(2) { Marker::Abort } else { Marker::Commit };
                self.end_transaction(marker)?;
            }
            10 => self.append_group()?,
            11..=14 => self.step()?,
            15 => self.keep(),
            16 => {
                self.settle()?;
                self.idle(1500);
            }
            17 => {
                self.settle()?;
                self.idle(7000);
                if self.dice.one_in(4) {
                    self.change_topic()?;
                }
            }
            18 if self.dice.one_in(8) => self.delete_records()?,
            18 if self.dice.one_in(2) => {
                // The floor is 128 MiB.
                let free = if self.dice.one_in(4) { Some(100 << 20) } else { None };
                self.disk.faults(|faults| faults.free = free);
            }
            20 => self.clean()?,
            21 if self.present_kind() != Kind::Plain => self.clean()?,
            22..=23 if self.present_kind() != Kind::Plain => self.clean_up()?,
            _ => {
                self.take_answers()?;
                return self.look();
            }
        }
        self.take_answers()
    }
}
