//! The file that a group of files becomes, beside them until it takes their place.

use std::{io, path::Path, sync::Arc};

use wire::{Offset, batch::BatchHeader};

use crate::{
    codec::position,
    host::{Disk, DiskFile, Open},
    keeper::Meta,
    log_state::{LogState, Row},
    partition::Segment,
    producer::{Aborted, Producers},
    segment_file::{SegmentFile, cleaned_name},
};

const BUFFER_BYTES: usize = 1 << 20;

pub(crate) struct Output<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    generation: u64,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    written: u64,
    state: LogState,
    rows: Vec<Row>,
}

impl<'a> Output<'a> {
    pub(crate) fn create(
        disk: &'a dyn Disk,
        dir: &'a Path,
        base: Offset,
        generation: u64,
    ) -> io::Result<Self> {
        let file = disk.open(&dir.join(cleaned_name(base, generation, "log")), Open::Write)?;
        let mut state = LogState::default();
        state.next_offset = base;
        state.roll();
        let (buffer, rows) = (Vec::new(), Vec::new());
        Ok(Self { disk, dir, generation, file, buffer, written: 0, state, rows })
    }

    pub(crate) fn push(&mut self, batch: &[u8]) -> io::Result<()> {
        let header = BatchHeader::parse(batch)
            .map_err(|_error| io::Error::from(io::ErrorKind::InvalidData))?;
        self.rows.extend(self.state.apply(&header, None).row);
        self.buffer.extend_from_slice(batch);
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += position(self.buffer.len());
        self.buffer.clear();
        Ok(())
    }

    /// Makes the file and its `.meta` durable, names included.
    pub(crate) fn finish(
        mut self,
        producers: Producers,
        segment_aborted: Vec<Aborted>,
    ) -> io::Result<(Segment, Vec<Row>)> {
        self.flush()?;
        self.file.sync()?;
        self.state.producers = producers;
        self.state.segment_aborted = segment_aborted;
        let base = self.state.segment;
        let (length, max_timestamp) = (self.state.position, self.state.max_timestamp);
        let meta = Meta { state: self.state, rows: self.rows };
        let name = cleaned_name(base, self.generation, "meta");
        let file = self.disk.open(&self.dir.join(name), Open::Write)?;
        file.write_at(&meta.encode(), 0)?;
        file.sync()?;
        self.disk.sync_dir(self.dir)?;
        let file = SegmentFile::cleaned(self.dir.to_path_buf(), base, self.generation);
        Ok((Segment { file, max_timestamp, length }, meta.rows))
    }
}
