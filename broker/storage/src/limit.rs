//! What this machine can do at best, to hold the broker's figures against.

use std::{
    fmt, fs, io,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use bytes::Bytes;
use wire::{
    PartitionIndex, TimestampMs, TopicId,
    batch::{BatchBuilder, NewRecord},
};

use crate::{
    Append, AppendError, Appended, CatalogueChange, Config, Durability, Host, PartitionId, Storage,
    aligned::AlignedBuffer,
    codec::position,
    host::{DiskFile, Open},
    journal::ring::{MAX_SEGMENTS, RingFiles},
};

const CYCLE_BYTES: usize = 4 << 20;
const SEGMENT_BYTES: u64 = 64 << 20;
const IN_FLIGHT: usize = 64;
const TIMEOUT: Duration = Duration::from_mins(1);

/// What is written.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// In all, of 2^20 bytes each.
    pub megabytes: u32,
    /// Over how many partitions.
    pub partitions: u32,
    /// Of each batch.
    pub batch_bytes: u32,
}

/// What came out.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// All of it.
    pub bytes: u64,
    /// From the first to the last.
    pub took: Duration,
}

impl Speed {
    /// Decimal megabytes per second.
    pub fn megabytes_per_second(&self) -> u128 {
        u128::from(self.bytes) / self.took.as_micros().max(1)
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MB/s", self.megabytes_per_second())
    }
}

/// A limit that cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// The engine does not open.
    #[error(transparent)]
    Open(#[from] crate::OpenError),
    /// The disk fails.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The engine refuses.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The engine has no answer.
    #[error("the storage did not answer")]
    Silent,
}

fn batch(bytes: u32) -> io::Result<Bytes> {
    let mut builder = BatchBuilder::new();
    let mut value = vec![0; 1024];
    Host::real().random.fill(&mut value)?;
    let target = usize::try_from(bytes).unwrap_or(usize::MAX);
    loop {
        let value = Some(value.as_slice());
        builder.push(NewRecord { timestamp: TimestampMs(1), key: None, value, headers: &[] });
        if builder.size_in_bytes() + 1024 > target {
            return Ok(builder.build());
        }
    }
}

/// The same bytes journalled in cycles of 4 MiB and synced, beside that written to partition files, and
/// those synced as by checkpoints: one after the other, a ring's length behind at most.
pub fn raw(dir: &Path, load: &Load) -> Result<Speed, LimitError> {
    let host = Host::real();
    fs::create_dir_all(dir)?;
    let ring = RingFiles {
        disk: Arc::clone(&host.disk),
        dir: dir.to_path_buf(),
        data_id: uuid::Uuid::nil(),
        segment_bytes: SEGMENT_BYTES,
    };
    let mut segments = Vec::new();
    for number in 0..MAX_SEGMENTS {
        ring.make(number)?;
        segments.push(ring.open(number, Open::Direct)?);
    }
    let files = log_files(&host, dir, load)?;
    let (jobs, taken) = sync_channel(1);
    let (tell, told) = sync_channel(1);
    let (wanted, checkpoints) = sync_channel(1);
    let (tell_covered, covered) = sync_channel(1);
    let logs = files.clone();
    let log_thread =
        host.threads.spawn("limit-log", Box::new(move || write_logs(&logs, &taken, &tell)))?;
    let keeper = host
        .threads
        .spawn("limit-keeper", Box::new(move || sync_logs(&files, &checkpoints, &tell_covered)))?;
    let buffer = Arc::new(noise(&host, CYCLE_BYTES)?);
    let total = u64::from(load.megabytes) << 20;
    let began = host.clock.monotonic();
    let (mut written, mut synced, mut at) = (0, 0, 0);
    let mut current = segments.iter().cycle();
    let mut segment = current.next().ok_or(LimitError::Silent)?;
    while written < total {
        if at + position(CYCLE_BYTES) > SEGMENT_BYTES {
            // One that is running is not waited for.
            wanted.try_send(written).unwrap_or_default();
            while written - synced > SEGMENT_BYTES * u64::from(MAX_SEGMENTS - 1) {
                synced = covered.recv().map_err(|_closed| LimitError::Silent)??;
            }
            segment = current.next().ok_or(LimitError::Silent)?;
            at = 0;
        }
        jobs.send(Arc::clone(&buffer)).map_err(|_closed| LimitError::Silent)?;
        segment.write_at(buffer.bytes(), at)?;
        segment.sync()?;
        told.recv().map_err(|_closed| LimitError::Silent)??;
        at += position(CYCLE_BYTES);
        written += position(CYCLE_BYTES);
    }
    let took = host.clock.monotonic().saturating_sub(began);
    drop((jobs, wanted, covered));
    log_thread.join();
    keeper.join();
    fs::remove_dir_all(dir)?;
    Ok(Speed { bytes: written, took })
}

/// What no disk makes less of.
fn noise(host: &Host, length: usize) -> io::Result<AlignedBuffer> {
    let mut buffer = AlignedBuffer::zeroed(length);
    host.random.fill(buffer.bytes_mut())?;
    Ok(buffer)
}

type LogFiles = Vec<Arc<dyn DiskFile>>;

fn log_files(host: &Host, dir: &Path, load: &Load) -> io::Result<LogFiles> {
    let open = |partition| host.disk.open(&dir.join(format!("{partition}.log")), Open::Write);
    (0..load.partitions.max(1)).map(open).collect()
}

/// The second thread: an equal part of each cycle to each partition's file.
fn write_logs(
    files: &LogFiles,
    cycles: &Receiver<Arc<AlignedBuffer>>,
    tell: &SyncSender<io::Result<()>>,
) {
    let mut at = 0;
    for buffer in cycles {
        let part = buffer.len() / files.len();
        let pieces = files.iter().zip(buffer.bytes().chunks(part));
        let result = pieces.into_iter().try_for_each(|(file, piece)| file.write_at(piece, at));
        at += position(part);
        if tell.send(result).is_err() {
            return;
        }
    }
}

/// The third: everything that was written so far, once more durable.
fn sync_logs(files: &LogFiles, checkpoints: &Receiver<u64>, tell: &SyncSender<io::Result<u64>>) {
    for written in checkpoints {
        let result = files.iter().try_for_each(|file| file.sync());
        if tell.send(result.map(|()| written)).is_err() {
            return;
        }
    }
}

fn engine_with_topic(dir: &Path, partitions: u32) -> Result<(Storage, TopicId), LimitError> {
    let (storage, _) = Storage::open(Config::new(dir.to_path_buf()), Host::real())?;
    let (tell, told) = sync_channel(1);
    let change = CatalogueChange::CreateTopic {
        name: "limit".to_owned(),
        partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
        configs: std::collections::BTreeMap::new(),
    };
    storage.change_catalogue(
        change,
        Box::new(move |result| {
            let told = tell.send(result);
            assert!(told.is_ok(), "the caller waits for the answer");
        }),
    );
    let topic = told.recv().map_err(|_closed| LimitError::Silent)?;
    Ok((storage, topic.map_err(|_refused| LimitError::Silent)?))
}

type Answers = Vec<Result<Appended, AppendError>>;

fn send(storage: &Storage, partition: PartitionId, batch: Bytes, tell: &SyncSender<Answers>) {
    let tell = tell.clone();
    let done = Box::new(move |answers| drop(tell.send(answers)));
    storage.append(vec![Append { partition, batch }], Durability::Synced, TIMEOUT, done);
}

/// Batches through the engine, acks=all, with so many in flight as 16 producers would have.
pub fn engine(dir: &Path, load: &Load) -> Result<Speed, LimitError> {
    let (storage, topic) = engine_with_topic(dir, load.partitions.max(1))?;
    let batch = batch(load.batch_bytes)?;
    let in_flight = IN_FLIGHT.max((2 * CYCLE_BYTES) / batch.len());
    let (tell, told) = sync_channel(in_flight + 1);
    let clock = Host::real().clock;
    let total = u64::from(load.megabytes) << 20;
    let began = clock.monotonic();
    let (mut sent, mut waiting, mut partition) = (0, 0, 0);
    while sent < total || waiting > 0 {
        while sent < total && waiting < in_flight {
            let to = PartitionId { topic, partition: PartitionIndex(partition) };
            partition = (partition + 1) % i32::try_from(load.partitions.max(1)).unwrap_or(1);
            send(&storage, to, batch.clone(), &tell);
            sent += position(batch.len());
            waiting += 1;
        }
        let answers = told.recv().map_err(|_closed| LimitError::Silent)?;
        answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        waiting -= 1;
    }
    let took = clock.monotonic().saturating_sub(began);
    storage.shutdown();
    drop(storage);
    fs::remove_dir_all(dir)?;
    Ok(Speed { bytes: sent, took })
}

/// The median and the 99th of a hundred.
fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 100).copied().unwrap_or_default();
    (at(50), at(99))
}

/// One append of 1 KiB with acks=all after another: median and 99th percentile.
pub fn one_in_flight(dir: &Path, count: usize) -> Result<(Duration, Duration), LimitError> {
    let (storage, topic) = engine_with_topic(dir, 1)?;
    let to = PartitionId { topic, partition: PartitionIndex(0) };
    let (tell, told) = sync_channel(1);
    let (batch, clock) = (batch(1024)?, Host::real().clock);
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = clock.monotonic();
        send(&storage, to, batch.clone(), &tell);
        told.recv().map_err(|_closed| LimitError::Silent)?;
        times.push(clock.monotonic().saturating_sub(began));
    }
    storage.shutdown();
    drop(storage);
    fs::remove_dir_all(dir)?;
    Ok(percentiles(times))
}

/// One write of 4 KiB into a zeroed file and its sync after another.
pub fn raw_one_in_flight(dir: &Path, count: usize) -> Result<(Duration, Duration), LimitError> {
    let host = Host::real();
    fs::create_dir_all(dir)?;
    let ring = RingFiles {
        disk: Arc::clone(&host.disk),
        dir: dir.to_path_buf(),
        data_id: uuid::Uuid::nil(),
        segment_bytes: SEGMENT_BYTES,
    };
    ring.make(0)?;
    let file = ring.open(0, Open::Direct)?;
    let buffer = noise(&host, 4096)?;
    let mut times = Vec::with_capacity(count);
    for index in 0..count {
        let began = host.clock.monotonic();
        file.write_at(buffer.bytes(), position(index % 10_000 * 4096))?;
        file.sync()?;
        times.push(host.clock.monotonic().saturating_sub(began));
    }
    fs::remove_dir_all(dir)?;
    Ok(percentiles(times))
}
