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
        self.run_some(disk, usize::MAX)
    }

    /// The same, but no more than so many pieces.
    fn run_some(&self, disk: &dyn Disk, most: usize) -> io::Result<()> {
        let bytes = self.buffer.bytes();
        for _ in 0..most {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = self.pieces.get(next) else { break };
            let bytes = bytes.get(piece.range.clone()).unwrap_or_default();
            let write = || piece.file.append(disk, bytes, piece.position);
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
    beside: Beside,
    /// What was begun, and whether the thread has been told of it.
    job: Option<(Arc<Job>, bool)>,
}

/// Who writes beside the caller.
enum Beside {
    Thread(Thread),
    /// The caller does in front of the journal what a thread might have done by then.
    #[cfg(any(test, feature = "simulation"))]
    Nobody(Ahead),
}

struct Thread {
    jobs: SyncSender<Arc<Job>>,
    outcomes: Receiver<io::Result<()>>,
    running: Box<dyn Running>,
}

/// How many of these pieces are written in front of the journal.
#[cfg(any(test, feature = "simulation"))]
pub(crate) type HowMany = Box<dyn FnMut(&[Piece]) -> usize + Send>;

#[cfg(any(test, feature = "simulation"))]
struct Ahead {
    how_many: HowMany,
    /// What came of it; a thread tells that at the end.
    outcome: io::Result<()>,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter")
            .field("threaded", &matches!(self.beside, Beside::Thread(_)))
            .finish_non_exhaustive()
    }
}

impl LogWriter {
    /// Writes in the caller's thread.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn inline(disk: Arc<dyn Disk>, how_many: HowMany) -> Self {
        Self { disk, beside: Beside::Nobody(Ahead { how_many, outcome: Ok(()) }), job: None }
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
        Ok(Self { disk, beside: Beside::Thread(Thread { jobs, outcomes, running }), job: None })
    }

    /// Begins a job; it has ended when [`LogWriter::finish`] returns.
    pub(crate) fn start(&mut self, job: Job) -> io::Result<()> {
        let job = Arc::new(job);
        let is_shared = match &mut self.beside {
            Beside::Thread(thread) if !job.is_small() => {
                let sent = thread.jobs.send(Arc::clone(&job));
                sent.map_err(|_ended| io::Error::from(io::ErrorKind::BrokenPipe))?;
                true
            }
            Beside::Thread(_) => false,
            #[cfg(any(test, feature = "simulation"))]
            Beside::Nobody(ahead) => {
                let most = (ahead.how_many)(&job.pieces);
                ahead.outcome = job.run_some(self.disk.as_ref(), most);
                false
            }
        };
        self.job = Some((job, is_shared));
        Ok(())
    }

    /// Writes what is left and waits for what the thread is writing.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let Some((job, is_shared)) = self.job.take() else { return Ok(()) };
        let own = job.run(self.disk.as_ref());
        drop(job);
        match &mut self.beside {
            Beside::Thread(thread) if is_shared => {
                let other = thread.outcomes.recv();
                other.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
            }
            Beside::Thread(_) => {}
            #[cfg(any(test, feature = "simulation"))]
            Beside::Nobody(ahead) => std::mem::replace(&mut ahead.outcome, Ok(()))?,
        }
        own
    }

    pub(crate) fn stop(self) {
        match self.beside {
            Beside::Thread(Thread { jobs, outcomes, running }) => {
                drop((jobs, outcomes));
                running.join();
            }
            #[cfg(any(test, feature = "simulation"))]
            Beside::Nobody(_) => {}
        }
    }
}
