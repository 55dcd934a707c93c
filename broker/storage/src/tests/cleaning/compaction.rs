//! Compaction against a naive model: what may go, what must stay, and what every reader sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use wire::{
    Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs,
    batch::{
        BatchBuilder, BatchView, ControlMarker, Marker, NewRecord, RecordLimits, control_marker,
        records,
    },
};

use super::lab::Lab;
use crate::{
    Append, AppendError, Isolation, PartitionId, ReadLimit,
    cleaner::Cleaner,
    read::Reading,
    segment_file::{base_of, partition_dir},
    tests::{
        sim::{Crash, Dice},
        support::{
            LONG, answer, append, create, directory, open, partition, read_all, transactional,
        },
    },
};

type Content = (Vec<u8>, Option<Vec<u8>>);

/// A record as it was appended.
#[derive(Clone, Debug)]
struct Sent {
    content: Content,
    /// The transaction that it is part of.
    transaction: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Committed,
    Aborted,
}

#[derive(Debug)]
struct Producer {
    id: i64,
    next_sequence: i32,
    transactional: bool,
    transaction: Option<usize>,
    /// What it sent last, to be sent again.
    last: Option<Bytes>,
}

struct Model {
    dice: Dice,
    sent: BTreeMap<i64, Sent>,
    ends: Vec<End>,
    producers: Vec<Producer>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let producer = |id: i64| Producer {
            id,
            next_sequence: 0,
            transactional: id % 2 == 0,
            transaction: None,
            last: None,
        };
        let producers = (1..=4).map(producer).collect();
        Self { dice: Dice::new(seed), sent: BTreeMap::new(), ends: Vec::new(), producers }
    }

    fn contents(&mut self) -> Vec<Content> {
        let count = 1 + self.dice.below(4);
        (0..count)
            .map(|_| {
                let key = format!("key {}", self.dice.below(9)).into_bytes();
                let length = 20 + self.dice.below_len(200);
                let value = vec![u8::try_from(self.dice.below(256)).unwrap(); length];
                (key, (!self.dice.one_in(5)).then_some(value))
            })
            .collect()
    }

    fn append(&mut self, lab: &mut Lab, p: PartitionId) {
        let contents = self.contents();
        let mut builder = BatchBuilder::new();
        let index = self.dice.below_len(self.producers.len() * 2);
        if let Some(producer) = self.producers.get_mut(index) {
            let sequence = Sequence(producer.next_sequence);
            builder = builder.producer(ProducerId(producer.id), ProducerEpoch(0), sequence);
            producer.next_sequence += i32::try_from(contents.len()).unwrap();
            if producer.transactional {
                builder = builder.transactional();
                if producer.transaction.is_none() {
                    self.ends.push(End::Open);
                    producer.transaction = Some(self.ends.len() - 1);
                }
            }
        }
        for (key, value) in &contents {
            let headers: &[(&[u8], Option<&[u8]>)] =
                &[(b"same", Some(b"1")), (b"same", Some(b"2"))];
            builder.push(NewRecord {
                timestamp: lab.now(),
                key: Some(key),
                value: value.as_deref(),
                headers,
            });
        }
        let batch = builder.build();
        let transaction = self.producers.get(index).and_then(|producer| producer.transaction);
        if let Some(producer) = self.producers.get_mut(index) {
            producer.last = Some(batch.clone());
        }
        let base = lab.append(p, batch).unwrap().unwrap().base_offset.0;
        for (index, content) in (0..).zip(contents) {
            self.sent.insert(base + index, Sent { content, transaction });
        }
    }

    fn end_transaction(&mut self, lab: &mut Lab, p: PartitionId) {
        let index = self.dice.below_len(self.producers.len());
        let commit = self.dice.one_in(2);
        let producer = &mut self.producers[index];
        let Some(transaction) = producer.transaction.take() else { return };
        let (marker, end) =
            if commit { (Marker::Commit, End::Committed) } else { (Marker::Abort, End::Aborted) };
        self.ends[transaction] = end;
        lab.mark(
            p,
            &ControlMarker {
                producer_id: ProducerId(producer.id),
                producer_epoch: ProducerEpoch(0),
                marker,
                coordinator_epoch: 0,
                timestamp: lab.now(),
            },
        );
    }

    fn end_of(&self, sent: &Sent) -> Option<End> {
        sent.transaction.map(|transaction| self.ends[transaction])
    }

    /// What a reader of committed records knows of each key in the end.
    fn newest(&self, upto: Offset) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut newest = BTreeMap::new();
        for (_, sent) in self.sent.range(..upto.0) {
            if self.end_of(sent) == Some(End::Aborted) {
                continue;
            }
            let (key, value) = sent.content.clone();
            match value {
                Some(value) => drop(newest.insert(key, value)),
                None => drop(newest.remove(&key)),
            }
        }
        newest
    }

    /// Everything that is there is what was sent; what is not there may be gone.
    fn verify(&self, lab: &mut Lab, p: PartitionId) {
        let mut found = BTreeMap::new();
        for batch in lab.read(p) {
            let view = BatchView::parse(&batch).unwrap();
            if view.header.is_control() {
                continue;
            }
            let mut all = records(&view, RecordLimits::default()).unwrap();
            while let Some(record) = all.next_record() {
                let record = record.unwrap();
                assert_eq!(record.headers().count(), 2);
                let content = (record.key.unwrap().to_vec(), record.value.map(<[u8]>::to_vec));
                let sent = self.sent.get(&record.offset.0).map(|sent| &sent.content);
                assert_eq!(sent, Some(&content), "at {}", record.offset);
                assert!(found.insert(record.offset.0, content).is_none());
            }
        }
        let mut newer = BTreeSet::new();
        for (offset, sent) in self.sent.iter().rev() {
            let aborted = self.end_of(sent) == Some(End::Aborted);
            let superseded = newer.contains(&sent.content.0);
            let may_go = aborted || superseded || sent.content.1.is_none();
            assert!(may_go || found.contains_key(offset), "{offset} is lost");
            if !aborted && self.end_of(sent) != Some(End::Open) {
                newer.insert(sent.content.0.clone());
            }
        }
        let log = lab.engine().shared.partition(p).unwrap();
        let (cleaned_to, pending) = {
            let published = log.published();
            (published.cleaned_to, published.pending_swaps)
        };
        let mut keys = BTreeMap::new();
        for (offset, (key, _)) in found.range(..cleaned_to.0).filter(|_| pending == 0) {
            let before = keys.insert(key.clone(), *offset);
            assert_eq!(before, None, "{key:?} is also at {offset} in front of {cleaned_to}");
            let end = self.end_of(&self.sent[offset]);
            assert!(end.is_none() || end == Some(End::Committed), "{offset} was aborted");
        }
        let stable = lab.offsets(p).last_stable_offset;
        assert_eq!(committed(lab, p), self.newest(stable));
    }

    /// What each producer sent last is known.
    fn verify_producers(&self, lab: &mut Lab, p: PartitionId) {
        for producer in &self.producers {
            let Some(last) = &producer.last else { continue };
            let again = lab.append(p, last.clone()).unwrap();
            assert_eq!(again.map(|again| again.duplicate), Ok(true), "{producer:?}");
            let open = producer.transaction.is_some();
            let plain = BatchBuilder::new().producer(
                ProducerId(producer.id),
                ProducerEpoch(0),
                Sequence(producer.next_sequence + 1),
            );
            let mut plain = plain;
            plain.push(NewRecord {
                timestamp: TimestampMs(5),
                key: Some(b"gap"),
                value: None,
                headers: &[],
            });
            let gap = lab.append(p, plain.build()).unwrap();
            assert_eq!(gap.err(), Some(AppendError::OutOfOrderSequence), "{open}");
        }
    }
}

/// What a consumer of committed records makes of the log.
fn committed(lab: &mut Lab, p: PartitionId) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let shared = std::sync::Arc::clone(&lab.engine().shared);
    let log = shared.partition(p).unwrap();
    let (mut from, mut newest) = (Offset(0), BTreeMap::new());
    loop {
        let isolation = Isolation::ReadCommitted;
        let limit = ReadLimit { max_bytes: 1500, isolation, at_least_one_batch: true };
        let read = Reading::of(&shared).read(&log, from, limit).unwrap();
        let Some(slice) = read.slices.first() else { return newest };
        let bytes = slice.load().unwrap();
        let mut aborted = read.aborted.iter().peekable();
        let mut aborting = BTreeSet::new();
        for view in wire::batch::batches(&bytes) {
            let header = view.header;
            from = header.next_offset();
            while let Some(one) = aborted.next_if(|one| one.first_offset <= header.last_offset()) {
                aborting.insert(one.producer_id);
            }
            if header.is_control() {
                if wire::batch::marker(&view).unwrap().is_some_and(|it| it.0 == Marker::Abort) {
                    aborting.remove(&header.producer_id);
                }
                continue;
            }
            if header.is_transactional() && aborting.contains(&header.producer_id) {
                continue;
            }
            let mut all = records(&view, RecordLimits::default()).unwrap();
            while let Some(record) = all.next_record() {
                let record = record.unwrap();
                let key = record.key.unwrap().to_vec();
                match record.value {
                    Some(value) => drop(newest.insert(key, value.to_vec())),
                    None => drop(newest.remove(&key)),
                }
            }
        }
    }
}

const CONFIGS: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("min.cleanable.dirty.ratio", "0"),
    ("delete.retention.ms", "30000"),
];

fn live(seed: u64) -> u64 {
    let mut lab = Lab::new(1500);
    lab.most_keys(if seed.is_multiple_of(2) { 4 } else { 1000 });
    lab.start().unwrap();
    let p = lab.create(&CONFIGS).unwrap();
    let mut model = Model::new(seed);
    let mut swaps = 0;
    for _ in 0..140 {
        match model.dice.below(12) {
            0..=6 => model.append(&mut lab, p),
            7 => model.end_transaction(&mut lab, p),
            8 => lab.checkpoint(),
            9 => {
                let before = lab.files(p);
                lab.checkpoint();
                lab.clean();
                swaps += u64::from(lab.files(p) != before);
                model.verify(&mut lab, p);
            }
            10 => lab.pass(i64::try_from(model.dice.below(40_000)).unwrap()),
            _ => {
                let how = if model.dice.one_in(2) { Crash::Kill } else { Crash::Power };
                lab.engine = None;
                lab.disk.crash(how, &mut model.dice);
                lab.start().unwrap();
                model.verify(&mut lab, p);
            }
        }
    }
    model.verify_producers(&mut lab, p);
    for _ in 0..6 {
        lab.checkpoint();
        lab.clean();
        lab.pass(60_000);
    }
    model.verify(&mut lab, p);
    // The files alone, without what is written beside them, say the same.
    lab.checkpoint();
    let dir = partition_dir(std::path::Path::new("/data/topics"), p);
    for name in lab.files(p) {
        assert!(!name.contains("cleaned"), "{name}");
        if crate::segment_file::base_of(&name, "meta").is_some() {
            lab.remove(&dir.join(name));
        }
    }
    lab.start().unwrap();
    model.verify(&mut lab, p);
    model.verify_producers(&mut lab, p);
    swaps
}

#[test]
fn compaction_agrees_with_a_naive_model_in_thirty_lives() {
    let swaps: u64 = (1..=30).map(live).sum();
    assert!(swaps > 30, "{swaps} files were written anew");
}

fn keyed(key: u8, value: u8) -> Bytes {
    keyed_value(key, &[value; 150])
}

fn keyed_value(key: u8, value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new();
    let (timestamp, key) = (TimestampMs(1_000_000), Some([key]));
    let key = key.as_ref().map(<[u8; 1]>::as_slice);
    builder.push(NewRecord { timestamp, key, value: Some(value), headers: &[] });
    builder.build()
}

/// Writes and compacts until the machine stops. Answers the newest value of each key, and whether
/// it did not stop.
fn write_and_compact(lab: &mut Lab, newest: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Option<()> {
    lab.start().ok()?;
    let p = lab.create(&CONFIGS)?;
    for round in 0..3_u8 {
        for index in 0..12_u8 {
            let (key, value) = (index % 5, round * 12 + index);
            lab.append(p, keyed(key, value))?.ok()?;
            newest.insert(vec![key], vec![value; 150]);
        }
        lab.checkpoint();
        lab.clean();
        lab.clean();
    }
    lab.append(p, keyed(1, 200))?.ok()?;
    newest.insert(vec![1], vec![200; 150]);
    lab.checkpoint();
    (!lab.engine().shared.has_ended()).then_some(())
}

/// Where nothing of a producer has a sequence, as in the offsets of transactions, every marker of its
/// epoch stays, at last without its record.
#[test]
fn what_a_producer_committed_counts_though_the_marker_of_its_abort_lost_its_record() {
    let mut lab = Lab::new(1000);
    lab.start().unwrap();
    let p = lab.create(&CONFIGS).unwrap();
    let of = (ProducerId(5), ProducerEpoch(0));
    for (key, marker) in [(b"aborted", Marker::Abort), (b"settled", Marker::Commit)] {
        let mut builder = BatchBuilder::new().producer(of.0, of.1, Sequence::NONE).transactional();
        let (timestamp, key, value) = (lab.now(), Some(&key[..]), Some(&b"value"[..]));
        builder.push(NewRecord { timestamp, key, value, headers: &[] });
        lab.append(p, builder.build()).unwrap().unwrap();
        let (producer_id, producer_epoch) = of;
        let coordinator_epoch = 0;
        let end =
            ControlMarker { producer_id, producer_epoch, marker, coordinator_epoch, timestamp };
        lab.mark(p, &end);
    }
    let records_of_marker = |lab: &mut Lab| {
        let read = lab.read(p);
        let headers = read.iter().map(|bytes| BatchView::parse(bytes).unwrap().header);
        headers.into_iter().find(|it| it.base_offset == Offset(1)).map(|it| it.record_count)
    };
    let mut passes = 0;
    while records_of_marker(&mut lab) != Some(0) {
        assert!(passes < 6, "it keeps its record");
        passes += 1;
        for index in 0..3 {
            let filler = keyed_value(100 + index, &[7; 800]);
            lab.append(p, filler).unwrap().unwrap();
        }
        lab.checkpoint();
        lab.clean();
        lab.checkpoint();
        lab.pass(40_000);
    }
    for _ in 0..2 {
        assert!(committed(&mut lab, p).contains_key(&b"settled"[..]));
        assert!(!committed(&mut lab, p).contains_key(&b"aborted"[..]));
        // And with what is written beside the file.
        lab.start().unwrap();
    }
}

#[test]
fn a_crash_at_any_moment_of_compaction_loses_nothing() {
    let (mut stop, mut completed) = (0, false);
    while !completed {
        for how in [Crash::Kill, Crash::Power] {
            let (mut lab, mut newest) = (Lab::new(700), BTreeMap::new());
            lab.disk.stop_after_writes(Some(stop));
            completed = write_and_compact(&mut lab, &mut newest).is_some();
            lab.engine = None;
            lab.disk.crash(how, &mut Dice::new(stop + 1));
            if newest.is_empty() {
                continue;
            }
            lab.start().unwrap();
            let topic = lab.engine().shared.catalogue().by_name["t"].id;
            let p = crate::tests::support::partition(topic, 0);
            for _ in 0..3 {
                let found = committed(&mut lab, p);
                for (key, value) in &newest {
                    // The record after the last that was answered may have got through.
                    let at_least = |found: &Vec<u8>| found[0] >= value[0];
                    assert!(
                        found.get(key).is_some_and(at_least),
                        "{key:?}, {stop} writes, {how:?}"
                    );
                }
                let states = lab.engine().committer.states();
                lab.start().unwrap();
                assert_eq!(lab.engine().committer.states(), states);
                lab.checkpoint();
                lab.clean();
            }
            assert!(lab.files(p).iter().all(|name| !name.contains("cleaned")));
        }
        stop += 1;
    }
    assert!(stop > 100, "{stop} writes");
}

/// No checksum covers the offset of a batch.
#[test]
fn a_log_with_a_batch_where_it_cannot_be_is_not_compacted() {
    let mut lab = Lab::new(700);
    lab.start().unwrap();
    let p = lab.create(&CONFIGS).unwrap();
    for value in 0..8 {
        lab.append(p, keyed(1, value)).unwrap().unwrap();
    }
    lab.checkpoint();
    let first = Path::new("/data/topics").join(format!("{}/0/{:020}.log", p.topic.0, 0));
    let before = lab.disk.contents(&first).unwrap();
    let last = before.len() - BatchView::parse(&before).unwrap().bytes().len();
    lab.disk.flip(&first, last + 7, 4);
    let before = (lab.logs(p), lab.disk.contents(&first));
    for _ in 0..3 {
        lab.clean();
        lab.checkpoint();
    }
    assert_eq!((lab.logs(p), lab.disk.contents(&first)), before);
}

#[test]
fn dirt_has_to_be_worth_it_or_old() {
    let mut lab = Lab::new(700);
    lab.start().unwrap();
    let configs = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.6"),
        ("max.compaction.lag.ms", "100000"),
        ("min.compaction.lag.ms", "100"),
    ];
    let p = lab.create(&configs).unwrap();
    let fill = |lab: &mut Lab, keys: std::ops::Range<u8>| {
        for key in keys {
            lab.append(p, keyed(key, 1)).unwrap().unwrap();
        }
        lab.checkpoint();
    };
    let count = |lab: &mut Lab| lab.read(p).len();
    for _ in 0..4 {
        fill(&mut lab, 0..3);
    }
    lab.clean();
    let cleaned = count(&mut lab);
    assert!(cleaned < 12, "all of it was dirty: {cleaned}");
    assert_eq!(lab.engine().shared.cleaning.status_at(Duration::ZERO).due, 1);
    fill(&mut lab, 0..3);
    let before = count(&mut lab);
    lab.clean();
    assert_eq!(count(&mut lab), before, "less than 60 percent");
    assert_eq!(lab.engine().shared.cleaning.status_at(Duration::ZERO).due, 0);
    lab.pass(60_000);
    lab.clean();
    assert!(count(&mut lab) < before, "it has waited long enough");
}

#[test]
fn what_is_written_beside_a_file_and_cannot_be_read_is_made_again() {
    let mut lab = Lab::new(700);
    lab.start().unwrap();
    let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.1")];
    let p = lab.create(&configs).unwrap();
    for _ in 0..6 {
        for key in 0..3 {
            lab.append(p, keyed(key, 1)).unwrap().unwrap();
        }
        lab.checkpoint();
    }
    let dir = partition_dir(std::path::Path::new("/data/topics"), p);
    let metas: Vec<_> =
        lab.files(p).into_iter().filter(|name| base_of(name, "meta").is_some()).collect();
    assert!(metas.len() > 2, "{metas:?}");
    for name in metas {
        lab.disk.flip(&dir.join(name), 20, 3);
    }
    let before = lab.read(p).len();
    lab.clean();
    let after = lab.read(p).len();
    assert!(after < before, "{after} of {before}");
}

#[test]
fn a_map_that_was_deleted_is_built_again_after_compaction() {
    let dir = directory();
    let storage = open(dir.path());
    let configs = [&CONFIGS[..], &[("segment.bytes", "200000"), ("retention.ms", "-1")]].concat();
    let p = partition(create(&storage, "t", 1, &configs), 0);
    let abort = ControlMarker {
        producer_id: ProducerId(5),
        producer_epoch: ProducerEpoch(0),
        marker: Marker::Abort,
        coordinator_epoch: 0,
        timestamp: TimestampMs(1_000_000),
    };
    for round in 0..60_u8 {
        let big = keyed_value(round % 7, &vec![round; 30_000]);
        append(&storage, p, big).unwrap();
        append(&storage, p, transactional(5, i32::from(round), 1)).unwrap();
        let (done, told) = answer();
        storage
            .chain()
            .append_atomic(vec![Append { partition: p, batch: control_marker(&abort) }], done);
        told.recv_timeout(LONG).unwrap().unwrap();
    }
    storage.shutdown();
    drop(storage);
    // The checkpoint of the stop covers all full files.
    let storage = open(dir.path());
    let before = read_all(&storage, p, Isolation::ReadUncommitted).len();
    Cleaner::new(1000).step(storage.shared());
    let log = storage.shared().partition(p).unwrap();
    assert!(log.published().pending_swaps > 0);
    while log.published().pending_swaps > 0 {
        // A read in the midst of it finds the old files or the new ones.
        read_all(&storage, p, Isolation::ReadCommitted);
    }
    let cleaned = read_all(&storage, p, Isolation::ReadUncommitted);
    assert!(cleaned.len() < before, "{} of {before}", cleaned.len());
    let committed = read_all(&storage, p, Isolation::ReadCommitted);
    storage.shutdown();
    let live = storage.map_rows();
    drop((storage, log));
    std::fs::remove_dir_all(dir.path().join("map")).unwrap();
    let storage = open(dir.path());
    assert_eq!(storage.map_rows(), live);
    assert_eq!(read_all(&storage, p, Isolation::ReadUncommitted), cleaned);
    assert_eq!(read_all(&storage, p, Isolation::ReadCommitted), committed);
    storage.shutdown();
}
