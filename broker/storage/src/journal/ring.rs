//! The segments of the ring: made once, zeroed, and used again and again.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

use super::checkpoint::RingPosition;
use crate::{
    aligned::{ALIGNMENT, AlignedBuffer},
    codec::{Reader, Writer, position},
    host::{Disk, DiskFile, Open, is_unreadable},
    mutant::{self, Mutant},
};

/// How many segments there are at first.
pub(crate) const FIRST_SEGMENTS: u32 = 2;
/// How many there are at most.
pub(crate) const MAX_SEGMENTS: u32 = 8;
/// Where the first cycle of a segment lies: behind the segment's own header.
pub(crate) const FIRST_CYCLE: u64 = 4096;

const MAGIC: [u8; 8] = *b"ottlajs1";
const ZEROED_AT_A_TIME: usize = 4 << 20;

/// The directory of the ring and what all of its segments have in common.
#[derive(Clone, Debug)]
pub(crate) struct RingFiles {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) data_id: Uuid,
    pub(crate) segment_bytes: u64,
}

impl RingFiles {
    fn path(&self, segment: u32) -> PathBuf {
        self.dir.join(format!("segment-{segment}"))
    }

    pub(crate) fn open(&self, segment: u32, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.open(&self.path(segment), how)
    }

    /// The segments that there are. One whose making was cut short is none: its header is last.
    pub(crate) fn existing(&self) -> io::Result<Vec<u32>> {
        self.numbers(|number| self.is_ours(number))
    }

    /// All that there are, whatever is in them.
    pub(crate) fn all(&self) -> io::Result<Vec<u32>> {
        self.numbers(|_| Ok(true))
    }

    fn numbers(&self, wanted: impl Fn(u32) -> io::Result<bool>) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        for name in self.disk.list(&self.dir)? {
            let number = name.strip_prefix("segment-").and_then(|number| number.parse().ok());
            if let Some(number) = number
                && wanted(number)?
            {
                found.push(number);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn is_ours(&self, segment: u32) -> io::Result<bool> {
        Ok(self.header_of(segment)?.is_some_and(|found| found == self.header(segment)))
    }

    /// A segment with a header that is not its own. One whose making was cut short has none yet, and one
    /// sector is written whole or not at all.
    pub(crate) fn spoilt(&self) -> io::Result<Option<PathBuf>> {
        for segment in 0..MAX_SEGMENTS {
            if self.exists(segment)
                && let Some(found) = self.header_of(segment)?
                && found != self.header(segment)
                && found.iter().any(|byte| *byte != 0)
            {
                return Ok(Some(self.path(segment)));
            }
        }
        Ok(None)
    }

    /// What stands where its header is; none if the file has not its length.
    fn header_of(&self, segment: u32) -> io::Result<Option<Vec<u8>>> {
        let file = self.open(segment, Open::Read)?;
        let mut found = self.header(segment);
        let is_whole =
            file.len()? == self.segment_bytes && file.read_at(&mut found, 0)? == found.len();
        Ok(is_whole.then_some(found))
    }

    fn header(&self, segment: u32) -> Vec<u8> {
        let mut header = Writer::default();
        header.bytes(&MAGIC).bytes(self.data_id.as_bytes()).u32(segment).u64(self.segment_bytes);
        header.sealed()
    }

    /// Makes a segment, or leaves nothing of it.
    pub(crate) fn make(&self, segment: u32) -> io::Result<()> {
        let made = self.make_whole(segment);
        if made.is_err() && self.exists(segment) {
            self.disk.remove_file(&self.path(segment))?;
        }
        made
    }

    /// Zeroes and syncs a segment, and only then writes its header.
    fn make_whole(&self, segment: u32) -> io::Result<()> {
        let file = self.open(segment, Open::Direct)?;
        let zeroes = AlignedBuffer::zeroed(ZEROED_AT_A_TIME);
        file.allocate(self.segment_bytes)?;
        let mut written = 0;
        while written < self.segment_bytes {
            let left = usize::try_from(self.segment_bytes - written).unwrap_or(usize::MAX);
            let piece = zeroes.bytes().get(..left).unwrap_or(zeroes.bytes());
            file.write_at(piece, written)?;
            written += position(piece.len());
        }
        file.sync()?;
        let mut first = AlignedBuffer::zeroed(ALIGNMENT);
        let header = self.header(segment);
        if let Some(target) = first.bytes_mut().get_mut(..header.len()) {
            target.copy_from_slice(&header);
        }
        file.write_at(first.bytes(), 0)?;
        file.sync()?;
        self.disk.sync_dir(&self.dir)
    }

    /// Whether bytes at the start of a file are those of a segment of another data directory.
    pub(crate) fn is_foreign(&self, segment: u32) -> io::Result<bool> {
        let mut found = [0; 36];
        let file = self.open(segment, Open::Read)?;
        if file.read_at(&mut found, 0)? < found.len() {
            return Ok(false);
        }
        let mut reader = Reader(&found);
        Ok(reader.array::<8>() == Some(MAGIC) && reader.uuid() != Some(self.data_id))
    }

    /// Whether a segment has a whole header that names another data directory.
    pub(crate) fn are_of_another(&self) -> io::Result<bool> {
        let names_another = |number| {
            let found = match self.header_of(number) {
                Err(error) if is_unreadable(&error) => None,
                found => found?,
            };
            let mut header = found.as_deref().and_then(Reader::unsealed);
            let magic = header.as_mut().and_then(Reader::array::<8>);
            let named = header.and_then(|mut header| header.uuid());
            Ok(magic == Some(MAGIC) && named != Some(self.data_id))
        };
        match self.numbers(names_another) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            found => Ok(!found?.is_empty()),
        }
    }

    pub(crate) fn exists(&self, segment: u32) -> bool {
        self.open(segment, Open::Read).is_ok()
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Which segments may be overwritten; shared by who writes cycles and who frees segments.
#[derive(Debug)]
pub(crate) struct Segments {
    state: Mutex<SegmentState>,
    freed: Condvar,
}

#[derive(Debug)]
struct SegmentState {
    count: u32,
    free: VecDeque<u32>,
    /// Full segments and the last cycle in each.
    used: Vec<(u32, u64)>,
    stopping: bool,
}

impl Segments {
    pub(crate) fn new(count: u32, free: VecDeque<u32>, used: Vec<(u32, u64)>) -> Self {
        let state = Mutex::new(SegmentState { count, free, used, stopping: false });
        Self { state, freed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, SegmentState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_free(&self) -> bool {
        !self.lock().free.is_empty()
    }

    pub(crate) fn count(&self) -> u32 {
        self.lock().count
    }

    /// The number of the segment to make next, if there is need and room for one more.
    pub(crate) fn wanted(&self) -> Option<u32> {
        let state = self.lock();
        let wanted = state.count < FIRST_SEGMENTS || state.free.is_empty();
        (wanted && state.count < MAX_SEGMENTS).then_some(state.count)
    }

    pub(crate) fn add(&self, segment: u32) {
        let mut state = self.lock();
        state.count = state.count.max(segment + 1);
        state.free.push_back(segment);
        self.freed.notify_all();
    }

    /// The segment to write to now that `full` is, whose last cycle is `last_cycle`.
    fn exchange(&self, full: u32, last_cycle: u64) -> Option<u32> {
        let mut state = self.lock();
        if mutant::is(Mutant::EarlyReuse) {
            state.free.push_back(full);
            return state.free.pop_front();
        }
        let next = state.free.pop_front()?;
        state.used.push((full, last_cycle));
        Some(next)
    }

    /// Everything up to `cycle` is in a synced checkpoint.
    pub(crate) fn free_up_to(&self, cycle: u64) {
        let mut state = self.lock();
        let (free, used): (Vec<_>, Vec<_>) =
            state.used.drain(..).partition(|(_, last_cycle)| *last_cycle <= cycle);
        state.used = used;
        state.free.extend(free.into_iter().map(|(segment, _)| segment));
        self.freed.notify_all();
    }

    /// Waits until a segment is free or a checkpoint has ended.
    pub(crate) fn wait_for_free(&self) {
        let state = self.lock();
        if state.free.is_empty() && !state.stopping {
            drop(
                self.freed
                    .wait_timeout(state, std::time::Duration::from_millis(100))
                    .unwrap_or_else(PoisonError::into_inner),
            );
        }
    }
}

/// The writing end of the ring.
#[derive(Debug)]
pub(crate) struct Ring {
    files: RingFiles,
    pub(crate) segments: Arc<Segments>,
    segment: u32,
    file: Arc<dyn DiskFile>,
    position: u64,
    last_cycle: u64,
    is_synced: bool,
}

impl Ring {
    pub(crate) fn open(
        files: RingFiles,
        segments: Arc<Segments>,
        at: RingPosition,
        last_cycle: u64,
    ) -> io::Result<Self> {
        let file = files.open(at.segment, Open::Direct)?;
        let (segment, position) = (at.segment, at.position);
        Ok(Self { files, segments, segment, file, position, last_cycle, is_synced: true })
    }

    /// Where the next cycle goes if it fits.
    pub(crate) fn at(&self) -> RingPosition {
        RingPosition { segment: self.segment, position: self.position }
    }

    pub(crate) fn has_room(&self, length: usize) -> bool {
        self.position.saturating_add(position(length)) <= self.files.segment_bytes
    }

    /// Goes on to a free segment. `false` if there is none.
    pub(crate) fn advance(&mut self) -> io::Result<bool> {
        let Some(next) = self.segments.exchange(self.segment, self.last_cycle) else {
            return Ok(false);
        };
        self.file = self.files.open(next, Open::Direct)?;
        self.segment = next;
        self.position = FIRST_CYCLE;
        Ok(true)
    }

    /// Writes a cycle, which is durable after [`Ring::sync`].
    pub(crate) fn write(&mut self, cycle: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(self.has_room(bytes.len()), "a cycle lies in one segment");
        assert_eq!(cycle, self.last_cycle + 1, "cycles have consecutive numbers");
        assert!(self.is_synced, "one cycle at most is not synced");
        self.is_synced = false;
        self.file.write_at(bytes, self.position)?;
        self.position += position(bytes.len());
        self.last_cycle = cycle;
        Ok(())
    }

    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if !mutant::is(Mutant::SkipSync) {
            self.file.sync()?;
        }
        self.is_synced = true;
        Ok(())
    }

    /// Whether everything that was written is synced.
    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced
    }
}
