//! Writes the pieces of a cycle to the partition logs, beside the journal's sync.

use std::{
    fmt, io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use crate::{
    aligned::AlignedBuffer,
    host::{Disk, Host, Running, naming},
    reserve::Reserve,
    segment_file::SegmentFile,
};

/// Below this, waking another thread takes longer than the writes.
const INLINE_BYTES: usize = 64 << 10;
const INLINE_PIECES: usize = 8;

/// One write.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) file: Arc<SegmentFile>,
    pub(crate) position: u64,
    pub(crate) range: Range<usize>,
}

/// All writes of a cycle. Whoever has time takes the next.
#[derive(Debug)]
pub(crate) struct Job {
    buffer: Arc<AlignedBuffer>,
    pieces: Vec<Piece>,
    reserve: Arc<Reserve>,
    next: AtomicUsize,
}

impl Job {
    pub(crate) fn new(
        buffer: Arc<AlignedBuffer>,
        pieces: Vec<Piece>,
        reserve: Arc<Reserve>,
    ) -> Self {
        Self { buffer, pieces, reserve, next: AtomicUsize::new(0) }
    }

    /// Writes what nobody has begun to write.
    fn run(&self, disk: &dyn Disk) -> io::Result<()> {
        let bytes = self.buffer.bytes();
        while let Some(piece) = self.pieces.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let bytes = bytes.get(piece.range.clone()).unwrap_or_default();
            let write = || piece.file.for_writing(disk)?.write_at(bytes, piece.position);
            naming(&piece.file.path(), self.reserve.write(write))?;
        }
        Ok(())
    }

    fn is_small(&self) -> bool {
        let bytes: usize = self.pieces.iter().map(|piece| piece.range.len()).sum();
        bytes <= INLINE_BYTES && self.pieces.len() <= INLINE_PIECES
    }
}

/// Where the writes are done.
pub(crate) struct LogWriter {
    disk: Arc<dyn Disk>,
    thread: Option<Thread>,
    /// What was begun, and whether the thread has been told of it.
    job: Option<(Arc<Job>, bool)>,
}

struct Thread {
    jobs: SyncSender<Arc<Job>>,
    outcomes: Receiver<io::Result<()>>,
    running: Box<dyn Running>,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter")
            .field("threaded", &self.thread.is_some())
            .finish_non_exhaustive()
    }
}

impl LogWriter {
    /// Writes in the caller's thread.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn inline(disk: Arc<dyn Disk>) -> Self {
        Self { disk, thread: None, job: None }
    }

    /// Writes in a thread of its own, which the caller helps once it waits for it.
    pub(crate) fn threaded(host: &Host) -> io::Result<Self> {
        let (jobs, taken) = sync_channel::<Arc<Job>>(1);
        let (tell, outcomes) = sync_channel(1);
        let disk = Arc::clone(&host.disk);
        let body = move || {
            while let Ok(job) = taken.recv() {
                let outcome = job.run(disk.as_ref());
                // The buffer goes back to the committer, which reuses it.
                drop(job);
                if tell.send(outcome).is_err() {
                    return;
                }
            }
        };
        let running = host.threads.spawn("ottla-log", Box::new(body))?;
        let disk = Arc::clone(&host.disk);
        Ok(Self { disk, thread: Some(Thread { jobs, outcomes, running }), job: None })
    }

    /// Begins a job; it has ended when [`LogWriter::finish`] returns.
    pub(crate) fn start(&mut self, job: Job) -> io::Result<()> {
        let job = Arc::new(job);
        let thread = self.thread.as_ref().filter(|_| !job.is_small());
        if let Some(thread) = thread {
            let sent = thread.jobs.send(Arc::clone(&job));
            sent.map_err(|_ended| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        self.job = Some((job, thread.is_some()));
        Ok(())
    }

    /// Writes what is left and waits for what the thread is writing.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let Some((job, is_shared)) = self.job.take() else { return Ok(()) };
        let own = job.run(self.disk.as_ref());
        drop(job);
        if let Some(thread) = self.thread.as_ref().filter(|_| is_shared) {
            let other = thread.outcomes.recv();
            other.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        }
        own
    }

    pub(crate) fn stop(self) {
        if let Some(Thread { jobs, outcomes, running }) = self.thread {
            drop((jobs, outcomes));
            running.join();
        }
    }
}
