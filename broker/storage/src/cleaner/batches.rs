//! The whole batches of a log file, one after another.

use std::{io, path::PathBuf, sync::Arc};

use wire::{
    Offset,
    batch::{BatchHeader, BatchView, HEADER_BYTES},
};

use super::compaction::Failure;
use crate::{
    codec::{in_memory, position},
    host::{DiskFile, read_exact},
    partition::Segment,
    shared::Shared,
};

const CHUNK_BYTES: u64 = 1 << 20;

pub(super) struct Batches {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    at: u64,
    end: u64,
    /// What the next offset is not in front of.
    next: Offset,
    /// The first offset behind the file.
    behind: Offset,
    chunk: Vec<u8>,
    chunk_at: u64,
}

impl Batches {
    /// Those of a file behind which this offset lies.
    pub(super) fn of(shared: &Shared, segment: &Segment, behind: Offset) -> io::Result<Self> {
        Ok(Self {
            file: segment.file.for_reading(shared.host.disk.as_ref(), &shared.open_files)?,
            path: segment.file.path(),
            at: 0,
            end: segment.length,
            next: segment.file.base,
            behind,
            chunk: Vec::new(),
            chunk_at: 0,
        })
    }

    pub(super) fn damaged(&self) -> Failure {
        Failure::Damaged { path: self.path.clone(), position: self.at }
    }

    /// The next batch, its checksum verified, and its offsets, which that does not cover.
    pub(super) fn next_batch(&mut self) -> Result<Option<BatchView<'_>>, Failure> {
        if self.at >= self.end {
            return Ok(None);
        }
        self.fill(HEADER_BYTES)?;
        let header = BatchHeader::parse(self.front()).map_err(|_error| self.damaged())?;
        self.fill(header.size_in_bytes())?;
        let whole = BatchView::parse(self.front()).is_ok_and(|view| view.verify_crc().is_ok());
        let fits = header.base_offset >= self.next && header.next_offset() <= self.behind;
        if !whole || !fits {
            return Err(self.damaged());
        }
        self.next = header.next_offset();
        let from = in_memory(self.at - self.chunk_at);
        self.at += position(header.size_in_bytes());
        let front = self.chunk.get(from..).unwrap_or_default();
        Ok(BatchView::parse(front).ok())
    }

    fn front(&self) -> &[u8] {
        self.chunk.get(in_memory(self.at - self.chunk_at)..).unwrap_or_default()
    }

    /// Sees to it that so many bytes are in memory.
    fn fill(&mut self, wanted: usize) -> Result<(), Failure> {
        if self.front().len() >= wanted {
            return Ok(());
        }
        let wanted = position(wanted);
        if wanted > self.end - self.at {
            return Err(self.damaged());
        }
        self.chunk.resize(in_memory(CHUNK_BYTES.max(wanted).min(self.end - self.at)), 0);
        self.chunk_at = self.at;
        Ok(read_exact(self.file.as_ref(), &mut self.chunk, self.at)?)
    }
}
