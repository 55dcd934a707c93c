use std::{
    io::{self, Read},
    os::{fd::AsFd, unix::net::UnixStream},
    sync::Arc,
    time::Duration,
};

use wire::{
    Offset,
    batch::{BatchView, Marker},
};

use super::faults::Faults;
use super::support::{
    append, batch, close, config, create, directory, end, open, partition, read_all, transactional,
};
use crate::{
    Host, Isolation, PartitionId, ReadError, ReadLimit, Storage,
    host::Open,
    keeper::{Swap, swap::swap_files},
    partition::{Partition, Segment},
    producer::Aborted,
    segment_file::SegmentFile,
};

const ALL: Isolation = Isolation::ReadUncommitted;

fn limit(max_bytes: usize) -> ReadLimit {
    ReadLimit { max_bytes, isolation: ALL, at_least_one_batch: true }
}

/// Batches of one record and of many, small and larger than what the index skips, in several files.
fn fill(storage: &Storage, to: PartitionId) {
    for index in 0..300_usize {
        let bytes = match index % 29 {
            7 => 150_000,
            11 | 12 => 20_000,
            rest => rest * 100,
        };
        append(storage, to, batch(1 + index % 3, &vec![b'x'; bytes], 5)).unwrap();
    }
}

/// Whatever the limit, a read ends at the last batch that fits.
fn every_limit_is_kept(storage: &Storage, from: PartitionId, batches: &[(Offset, usize)]) {
    for (index, (offset, first)) in batches.iter().enumerate().step_by(7) {
        for max_bytes in [1, 1000, 30_000, 65_536, 200_000, 1 << 20] {
            let read = storage.read(from, *offset, limit(max_bytes)).unwrap();
            let bytes = read.slices[0].load().unwrap();
            assert_eq!(bytes.len(), read.slices[0].length);
            assert!(bytes.len() <= max_bytes || bytes.len() == *first);
            let mut at = 0;
            for (offset, length) in &batches[index..] {
                if at == bytes.len() {
                    // A read is out of one file.
                    let next = storage.read(from, *offset, limit(1)).unwrap();
                    let same_file = next.slices[0].position > read.slices[0].position;
                    assert!(at + length > max_bytes || !same_file, "{offset:?} fits");
                    break;
                }
                let view = BatchView::parse(&bytes[at..]).unwrap();
                assert_eq!(view.header.base_offset, *offset);
                at += length;
            }
            assert_eq!(at, bytes.len());
        }
    }
}

#[test]
fn a_read_ends_at_the_last_whole_batch_that_fits_wherever_the_index_is() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[("segment.bytes", "1000000")]), 0);
    fill(&storage, p);
    let found = read_all(&storage, p, ALL);
    assert_eq!(found.len(), 300);
    let batches: Vec<_> = found.iter().map(|(offset, bytes)| (*offset, bytes.len())).collect();
    every_limit_is_kept(&storage, p, &batches);
    storage.shutdown();
    drop(storage);
    // Now the index is in the map.
    let storage = open(dir.path());
    every_limit_is_kept(&storage, p, &batches);
    storage.shutdown();
}

#[test]
fn what_is_not_in_memory_is_read_only_by_who_may_wait() {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    let sent = batch(1, &vec![b'x'; 300_000], 5);
    append(&storage, p, sent.clone()).unwrap();
    let slice = storage.try_read(p, Offset(0), limit(1 << 20)).unwrap().slices.remove(0);
    assert!(slice.is_cached(0, slice.length));
    storage.shutdown();
    drop(storage);

    let storage = open(dir.path());
    let topic = dir.path().join("topics").join(p.topic.0.to_string());
    let log = std::fs::File::open(topic.join("0/00000000000000000000.log")).unwrap();
    rustix::fs::fsync(&log).unwrap();
    let clock = Host::real().clock;
    let begun = clock.monotonic();
    loop {
        rustix::fs::fadvise(&log, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        match storage.try_read(p, Offset(0), limit(1 << 20)) {
            Err(ReadError::Io(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                break;
            }
            // A file system that is memory forgets nothing.
            Ok(_) if clock.monotonic().saturating_sub(begun) > Duration::from_secs(2) => return,
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let read = storage.read(p, Offset(0), limit(1 << 20)).unwrap();
    assert_eq!(read.slices[0].load().unwrap()[16..], sent[16..]);
    storage.shutdown();
}

/// What this thread had read from the disk so far, in bytes.
fn bytes_from_disk() -> u64 {
    let counts = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    counts.lines().find_map(|line| line.strip_prefix("read_bytes: ")).unwrap().parse().unwrap()
}

#[test]
fn reading_ahead_ends_when_it_is_no_longer_wanted() {
    const PIECE: u64 = 64 << 10;
    const PIECES: u64 = 1 << 10;
    let dir = directory();
    let path = dir.path().join("old");
    std::fs::write(&path, vec![1; usize::try_from(PIECES * PIECE).unwrap()]).unwrap();
    let host = Host::real();
    let file = host.disk.open(&path, Open::Read).unwrap();
    file.sync().unwrap();
    let same = std::fs::File::open(&path).unwrap();
    rustix::fs::fadvise(&same, 0, None, rustix::fs::Advice::DontNeed).unwrap();

    let mut buffer = vec![0; usize::try_from(PIECE).unwrap()];
    let (to, mut from) = UnixStream::pair().unwrap();
    let mut read = |piece: u64, ahead: bool| {
        let before = bytes_from_disk();
        file.set_read_ahead(ahead, piece * PIECE);
        let sent = file.send_to(to.as_fd(), piece * PIECE, buffer.len());
        from.read_exact(&mut buffer[..sent.unwrap()]).unwrap();
        bytes_from_disk() - before
    };
    let first = read(0, true);
    if first == 0 {
        // A file system that is memory forgets nothing.
        return;
    }
    let ahead: u64 = (1..16).map(|piece| read(piece, true)).sum();
    assert!(first + ahead > 16 * PIECE, "nothing was read ahead");
    let mut alone = 0;
    for piece in 16..PIECES {
        let by_itself = 1..=PIECE;
        alone = if by_itself.contains(&read(piece, false)) { alone + 1 } else { 0 };
        if alone == 16 {
            return;
        }
    }
    panic!("reading ahead went on to the end");
}

/// A log with an aborted transaction of offsets 0 and 1, whose file nobody has open, and who knows what of it.
fn with_an_aborted_transaction(
    test: impl FnOnce(&Storage, &Faults, PartitionId, Arc<Partition>, Aborted),
) {
    let dir = directory();
    let storage = open(dir.path());
    let p = partition(create(&storage, "t", 1, &[]), 0);
    append(&storage, p, transactional(7, 0, 2)).unwrap();
    end(&storage, p, 7, Marker::Abort);
    append(&storage, p, batch(1, b"behind it", 5)).unwrap();
    close(storage, dir.path());
    let faults = Faults::none();
    let (storage, _) = Storage::open(config(dir.path()), faults.host()).unwrap();
    let log = storage.shared().partition(p).unwrap();
    let aborted = storage.shared().map.aborted(p, Offset(0), Offset(9)).unwrap()[0];
    test(&storage, &faults, p, log, aborted);
    storage.shutdown();
}

const COMMITTED: ReadLimit =
    ReadLimit { max_bytes: 1 << 20, isolation: Isolation::ReadCommitted, at_least_one_batch: true };

#[test]
fn an_aborted_transaction_is_told_of_also_while_it_moves_to_the_map() {
    with_an_aborted_transaction(|storage, faults, p, log, aborted| {
        let in_memory = || {
            storage.shared().map.remove_aborted(p, aborted.last_offset).unwrap();
            let mut published = log.published();
            published.aborted = vec![aborted];
            published.mapped_aborted = None;
        };
        in_memory();
        let (keeper, moved) = (storage.clone(), Arc::clone(&log));
        faults.meanwhile("00.log", move || {
            keeper.shared().map.put_aborted(p, &aborted).unwrap();
            let mut published = moved.published();
            published.aborted.clear();
            published.mapped_aborted = Some(aborted.last_offset);
        });
        let read = storage.read(p, Offset(0), COMMITTED).unwrap();
        assert_eq!(read.aborted.len(), 1, "it was in the memory, and then in the map");
    });
}

#[test]
fn a_file_whose_place_was_taken_while_it_was_read_is_not_what_a_read_answers() {
    with_an_aborted_transaction(|storage, faults, p, log, aborted| {
        let published = log.published();
        let old = published.segments[0].clone();
        drop(published);
        // The cleaner would have removed the records of the transaction from it, and the marker.
        let segment = Segment { file: SegmentFile::new(log.dir.clone(), Offset(0)), ..old };
        let (base, end) = (Offset(0), log.published().offsets.log_end_offset);
        let dropped_markers = vec![aborted.last_offset];
        let new = segment.file.clone();
        let swap =
            Swap { partition: p, base, end, generation: 1, segment, rows: vec![], dropped_markers };
        let keeper = storage.clone();
        faults.meanwhile("00.log", move || {
            log.published().swap(&swap);
            log.published().mapped_aborted = None;
            keeper.shared().map.remove_aborted(p, aborted.last_offset).unwrap();
        });
        let read = storage.read(p, Offset(0), COMMITTED).unwrap();
        assert!(read.aborted.is_empty() && old.file.is_retired());
        let shared = storage.shared();
        let newest = new.for_reading(shared.host.disk.as_ref(), &shared.open_files).unwrap();
        assert!(Arc::ptr_eq(&read.slices[0].file, &newest), "the old file says nothing of it");
    });
}

#[test]
fn a_marker_that_is_gone_hides_nothing_also_before_the_checkpoint() {
    with_an_aborted_transaction(|storage, _, p, log, aborted| {
        let old = log.published().segments[0].clone();
        // The cleaner has removed the marker, of whose transaction nothing was left.
        let segment = Segment { file: SegmentFile::new(log.dir.clone(), Offset(0)), ..old };
        let (base, end) = (Offset(0), log.published().offsets.log_end_offset);
        let dropped_markers = vec![aborted.last_offset];
        let swap =
            Swap { partition: p, base, end, generation: 1, segment, rows: vec![], dropped_markers };
        swap_files(storage.shared(), &[swap]).unwrap();
        assert_eq!(storage.read(p, Offset(0), COMMITTED).unwrap().aborted.len(), 0);
    });
}
