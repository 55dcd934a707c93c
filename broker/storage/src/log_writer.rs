//! Writes the pieces of a cycle to the partition logs, beside the journal's sync.

use std::{
    fmt, io,
    ops::Range,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use crate::{
    aligned::AlignedBuffer,
    host::{Disk, Host, Running},
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

/// All writes of a cycle.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) buffer: Arc<AlignedBuffer>,
    pub(crate) pieces: Vec<Piece>,
}

impl Job {
    fn run(&self, disk: &dyn Disk) -> io::Result<()> {
        let bytes = self.buffer.bytes();
        for piece in &self.pieces {
            let file = piece.file.for_writing(disk)?;
            file.write_at(bytes.get(piece.range.clone()).unwrap_or_default(), piece.position)?;
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
    /// The outcome of a small job, or that the thread has one to tell.
    outcome: Option<io::Result<()>>,
}

struct Thread {
    jobs: SyncSender<Job>,
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
    #[cfg(test)]
    pub(crate) fn inline(disk: Arc<dyn Disk>) -> Self {
        Self { disk, thread: None, outcome: None }
    }

    /// Writes in a thread of its own.
    pub(crate) fn threaded(host: &Host) -> io::Result<Self> {
        let (jobs, taken) = sync_channel::<Job>(1);
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
        Ok(Self { disk, thread: Some(Thread { jobs, outcomes, running }), outcome: None })
    }

    /// Begins a job; it has ended when [`LogWriter::finish`] returns.
    pub(crate) fn start(&mut self, job: Job) {
        match &self.thread {
            Some(thread) if !job.is_small() => {
                if thread.jobs.send(job).is_err() {
                    self.outcome = Some(Err(io::ErrorKind::BrokenPipe.into()));
                }
            }
            _ => self.outcome = Some(job.run(self.disk.as_ref())),
        }
    }

    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match (self.outcome.take(), &self.thread) {
            (Some(outcome), _) => outcome,
            (None, Some(thread)) => {
                thread.outcomes.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
            }
            (None, None) => Ok(()),
        }
    }

    pub(crate) fn stop(self) {
        if let Some(Thread { jobs, outcomes, running }) = self.thread {
            drop((jobs, outcomes));
            running.join();
        }
    }
}
