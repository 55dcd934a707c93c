//! A partition as the committer knows it: ahead of what is published by one cycle.

use std::{io, sync::Arc};

use wire::{
    Offset, TimestampMs,
    batch::{BatchHeader, Marker},
};

use crate::{
    codec::position,
    db::Map,
    host::Clock,
    journal::checkpoint::LogEnd,
    keeper::{Meta, Rolled},
    log_state::{LogState, Row},
    partition::{Partition, Segment},
    producer::Aborted,
    segment_file::SegmentFile,
    settings::TopicSettings,
};

/// What a cycle adds to what is published.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    rows: Vec<Row>,
    aborted: Vec<Aborted>,
    segments: Vec<Segment>,
    /// Final length and largest timestamp of what was the last file.
    closed: Option<(u64, TimestampMs)>,
}

/// A partition that is written to.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) partition: Arc<Partition>,
    pub(crate) settings: TopicSettings,
    pub(crate) log: LogState,
    /// Records in front of it are no more; ahead of what is published as all the rest.
    pub(crate) log_start: Offset,
    /// Keys in front of it are there once.
    pub(crate) cleaned_to: Offset,
    /// The file that is written to; none before the first batch.
    pub(crate) file: Option<Arc<SegmentFile>>,
    /// When its first batch came if that has no timestamp, at the latest when the broker started.
    began: TimestampMs,
    pub(crate) fresh: Fresh,
}

/// Where a batch goes.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) file: Arc<SegmentFile>,
    pub(crate) position: u64,
    /// The file is new.
    pub(crate) created: bool,
    /// The file before was filled.
    pub(crate) rolled: Option<Rolled>,
}

impl Entry {
    pub(crate) fn new(
        partition: Arc<Partition>,
        settings: TopicSettings,
        began: TimestampMs,
    ) -> Self {
        let (log, fresh) = (LogState::default(), Fresh::default());
        let log_start = partition.published().offsets.log_start_offset;
        let cleaned_to = Offset(0);
        Self { partition, settings, log, log_start, cleaned_to, file: None, began, fresh }
    }

    /// Whether the batch begins a new file.
    fn must_roll(&self, header: &BatchHeader, clock: &dyn Clock) -> bool {
        let longer = self.log.position + position(header.size_in_bytes());
        let span =
            self.log.next_offset.0 - self.log.segment.0 + i64::from(header.last_offset_delta);
        self.log.position > 0
            && (longer > self.settings.segment_bytes
                || span > i64::from(i32::MAX)
                || self.is_old(header.max_timestamp, clock))
    }

    /// Whether the file began longer ago than `segment.ms`: by the records' own time, or by the
    /// clock if the first has none.
    fn is_old(&self, newest: TimestampMs, clock: &dyn Clock) -> bool {
        let began = self.log.first_timestamp;
        let waited = if began.0 >= 0 {
            newest.0.saturating_sub(began.0)
        } else {
            clock.now().0.saturating_sub(self.began.0)
        };
        waited > self.settings.segment_ms
    }

    /// Appends a batch, whose header has its final offset and timestamp.
    pub(crate) fn append(
        &mut self,
        header: &BatchHeader,
        marker: Option<Marker>,
        clock: &dyn Clock,
    ) -> Place {
        assert!(self.log.producers.is_next(header), "a producer's sequences have no gap");
        let rolled = if self.must_roll(header, clock) { self.roll() } else { None };
        let position = self.log.position;
        if position == 0 && header.max_timestamp.0 < 0 {
            self.began = clock.now();
        }
        let file = self.file();
        self.apply(header, marker);
        Place { file, position, created: position == 0, rolled }
    }

    /// Takes note of a batch at the end of the file.
    pub(crate) fn apply(&mut self, header: &BatchHeader, marker: Option<Marker>) {
        let effects = self.log.apply(header, marker);
        self.fresh.rows.extend(effects.row);
        self.fresh.aborted.extend(effects.aborted);
    }

    /// The file that is written to.
    pub(crate) fn file(&mut self) -> Arc<SegmentFile> {
        if let Some(file) = &self.file {
            return Arc::clone(file);
        }
        let file = SegmentFile::new(self.partition.dir.clone(), self.log.segment);
        let max_timestamp = TimestampMs::NONE;
        self.fresh.segments.push(Segment { file: Arc::clone(&file), max_timestamp, length: 0 });
        self.file = Some(Arc::clone(&file));
        file
    }

    /// Ends the file. The next batch begins another.
    pub(crate) fn roll(&mut self) -> Option<Rolled> {
        let end = (self.log.position, self.log.max_timestamp);
        match self.fresh.segments.last_mut() {
            Some(last) => (last.length, last.max_timestamp) = end,
            None => self.fresh.closed = Some(end),
        }
        let rolled = self.file.take().map(|file| Rolled { file, state: self.log.clone() });
        self.log.roll();
        rolled
    }

    /// Ends the file if the log's start is its end: then the whole file can go.
    pub(crate) fn roll_if_emptied(&mut self) -> Option<Rolled> {
        let emptied = self.log.position > 0 && self.log_start == self.log.next_offset;
        if emptied { self.roll() } else { None }
    }

    /// Shows readers what the cycle added. Answers who waited for it.
    pub(crate) fn publish(&mut self) -> Vec<crate::api::Done<()>> {
        let mut published = self.partition.published();
        let fresh = &mut self.fresh;
        if let (Some(last), Some((length, max_timestamp))) =
            (published.segments.last_mut(), fresh.closed.take())
        {
            (last.length, last.max_timestamp) = (length, max_timestamp);
        }
        published.segments.append(&mut fresh.segments);
        if let Some(last) = published.segments.last_mut()
            && last.file.base == self.log.segment
        {
            (last.length, last.max_timestamp) = (self.log.position, self.log.max_timestamp);
        }
        published.rows.append(&mut fresh.rows);
        published.aborted.append(&mut fresh.aborted);
        let first = published.segments.first().map(|first| first.file.base);
        assert!(
            first.is_none_or(|first| first <= self.log_start),
            "a log has all from its start on"
        );
        let offsets = &mut published.offsets;
        // A transaction may have begun with records that were deleted.
        let stable = self.log.last_stable_offset().max(self.log_start);
        assert!(offsets.log_start_offset <= self.log_start, "a log's start never goes back");
        assert!(offsets.high_watermark <= self.log.next_offset, "the high watermark never falls");
        assert!(offsets.last_stable_offset <= stable, "the last stable offset never falls");
        assert!(stable <= self.log.next_offset, "log start and last stable offset are in the log");
        offsets.log_start_offset = self.log_start;
        offsets.high_watermark = self.log.next_offset;
        offsets.last_stable_offset = stable;
        offsets.log_end_offset = self.log.next_offset;
        published.woken()
    }

    /// What a checkpoint says of the log.
    pub(crate) fn end(&self) -> LogEnd {
        LogEnd {
            log_start_offset: self.log_start,
            segment: self.log.segment,
            length: self.log.position,
            next_offset: self.log.next_offset,
            cleaned_to: self.cleaned_to,
        }
    }

    /// A log that begins at `base` and whose files are still to be read. What was in front of it
    /// ended in the state `before`.
    pub(crate) fn begin_at(&mut self, base: Offset, before: Option<LogState>) {
        self.log = before.unwrap_or_default();
        self.log.next_offset = base;
        self.log.roll();
        self.file();
    }

    /// A log whose state is known, and whose index rows are in the map.
    pub(crate) fn begin(
        &mut self,
        state: LogState,
        full: &[(Offset, u64, TimestampMs)],
        mapped_aborted: Option<Offset>,
    ) {
        for (base, length, max_timestamp) in full {
            let file = SegmentFile::new(self.partition.dir.clone(), *base);
            let segment = Segment { file, max_timestamp: *max_timestamp, length: *length };
            self.fresh.segments.push(segment);
        }
        self.log = state;
        self.file();
        self.partition.published().mapped_aborted = mapped_aborted;
    }

    /// Takes in a full file by what is written beside it.
    pub(crate) fn take_meta(&mut self, meta: Meta) {
        self.fresh.rows.extend(meta.rows);
        self.fresh.aborted.extend(meta.state.segment_aborted.iter().copied());
        self.log = meta.state;
    }

    /// Moves index rows to the map, all but the newest. Answers the last aborted transaction that
    /// the map then has.
    pub(crate) fn drain_to(&mut self, map: &Map) -> io::Result<Option<Offset>> {
        let id = self.partition.id;
        for row in &self.fresh.rows {
            map.put_row(id, row)?;
        }
        for aborted in &self.fresh.aborted {
            map.put_aborted(id, aborted)?;
        }
        let newest = self.fresh.rows.len().saturating_sub(1);
        self.fresh.rows.drain(..newest);
        let mut published = self.partition.published();
        if let Some(last) = self.fresh.aborted.drain(..).next_back() {
            published.mapped_aborted = Some(last.last_offset);
        }
        Ok(published.mapped_aborted)
    }
}
