//! Planning: offsets, sequences, epochs and catalogue changes, in the order of calls.

use std::sync::Arc;

use wire::{Offset, PartitionIndex, TimestampMs, TopicId, batch::BatchHeader};

use super::{Answer, Checked, Committer, Entry, Planned, answers, is_whole};
use crate::{
    api::{
        Append, AppendError, Appended, CatalogueChange, CatalogueError, DeleteRecordsError, Done,
        PartitionId,
    },
    catalogue::{METADATA, PART_BYTES, PART_RECORDS, Record, partitions_of},
    journal::cycle::payload_start,
    keeper::{Clean, Swap},
    log_scan::marker_of,
    partition::{Partition, Published},
    producer::{SeenBatch, Verdict},
    queue::{AppendRequest, Chain, DeleteRecords, Request},
    segment_file::partition_dir,
    settings::TopicSettings,
};

/// With less than this left, produce is refused.
const LEAST_FREE_BYTES: u64 = 128 << 20;
/// With less than this left, coordinators are refused too.
const LEAST_FREE_FOR_PLANS: u64 = 64 << 20;

impl Committer {
    /// Plans the first `count` batches of the backlog.
    pub(super) fn plan(&mut self, mut count: usize) {
        let now = self.shared.host.clock.monotonic();
        while count > 0 || self.backlog.front().is_some_and(|request| request.size().0 == 0) {
            let Some(request) = self.backlog.pop_front() else { break };
            let (batches, _) = request.size();
            match request {
                Request::Append(mut request) => {
                    count -= self.plan_append(&mut request, count, now);
                    if is_whole(&request) {
                        let AppendRequest { results, durability, done, .. } = request;
                        answers(&mut self.draft, durability).push(Answer::Append(done, results));
                    } else {
                        self.backlog.push_front(Request::Append(request));
                        break;
                    }
                }
                Request::Atomic { chain, batches, done } => {
                    count = count.saturating_sub(batches.len());
                    let result = self.plan_atomic(&chain, &batches);
                    self.draft.synced.push(Answer::Atomic(done, result));
                }
                Request::Probe { done } => self.draft.synced.push(Answer::Probe(done)),
                Request::Catalogue { change, done } => {
                    count -= 1;
                    self.plan_catalogue(change, done);
                }
                Request::Clean(clean) => {
                    count = count.saturating_sub(batches);
                    self.plan_clean(clean);
                }
                Request::DeleteRecords(DeleteRecords { partition, before, done }) => {
                    count -= 1;
                    let result = self.plan_log_start(partition, before);
                    self.draft.synced.push(Answer::DeleteRecords(done, result));
                }
            }
        }
    }

    /// Plans up to `count` of the batches that are left. Answers how many.
    fn plan_append(
        &mut self,
        request: &mut AppendRequest,
        count: usize,
        now: std::time::Duration,
    ) -> usize {
        let left = request.batches.len() - request.results.len();
        if request.results.is_empty() && request.deadline < now {
            request.results.resize(request.batches.len(), Err(AppendError::TimedOut));
            return left.min(count);
        }
        let planned = left.min(count);
        let is_broken = request.chain.as_ref().is_some_and(Chain::is_broken);
        for _ in 0..planned {
            let Some(append) = request.batches.get(request.results.len()) else { break };
            let result = match (is_broken, self.full) {
                (true, _) => Err(AppendError::ChainBroken),
                (false, true) => Err(AppendError::DiskFull),
                (false, false) => self.plan_batch(append),
            };
            request.results.push(result);
        }
        planned
    }

    fn plan_batch(&mut self, append: &Append) -> Result<Appended, AppendError> {
        let header = header_of(append)?;
        let entry = self.entries.get(&append.partition).ok_or(AppendError::UnknownPartition)?;
        match entry.log.producers.check(&header)? {
            Verdict::Append => self.append(append, header),
            Verdict::Duplicate(seen) => Ok(duplicate(entry, &seen)),
        }
    }

    /// Appends all or nothing, and after nothing no more of what stands on it.
    fn plan_atomic(
        &mut self,
        chain: &Chain,
        batches: &[Append],
    ) -> Result<Vec<Appended>, AppendError> {
        if chain.is_broken() {
            return Err(AppendError::ChainBroken);
        }
        self.append_all(batches).inspect_err(|_refused| chain.end())
    }

    /// Checks all before it appends any. A log that is gone needs no marker.
    fn append_all(&mut self, batches: &[Append]) -> Result<Vec<Appended>, AppendError> {
        let bytes: usize = batches.iter().map(|append| append.batch.len()).sum();
        if payload_start(batches.len()) + bytes > self.longest_cycle() {
            return Err(AppendError::TooLarge);
        }
        if self.full && self.free_bytes() < LEAST_FREE_FOR_PLANS {
            return Err(AppendError::DiskFull);
        }
        let mut checked: Vec<Checked<'_>> = Vec::with_capacity(batches.len());
        for append in batches {
            let header = header_of(append)?;
            let Some(entry) = self.entries.get(&append.partition) else {
                if header.is_control() {
                    continue;
                }
                return Err(AppendError::UnknownPartition);
            };
            if let Verdict::Duplicate(_) = entry.log.producers.check(&header)? {
                return Err(AppendError::OutOfOrderSequence);
            }
            checked.push((append, header));
        }
        checked.into_iter().map(|(append, header)| self.append(append, header)).collect()
    }

    /// Gives a checked batch its offset and place.
    fn append(
        &mut self,
        append: &Append,
        mut header: BatchHeader,
    ) -> Result<Appended, AppendError> {
        let entry = self.entries.get_mut(&append.partition).ok_or(AppendError::UnknownPartition)?;
        let append_time = entry.settings.log_append_time.then(|| self.shared.host.clock.now());
        header.base_offset = entry.log.next_offset;
        if let Some(time) = append_time {
            header.max_timestamp = time;
        }
        let clock = self.shared.host.clock.as_ref();
        let place = entry.append(&header, marker_of(&header, &append.batch), clock);
        let log_start_offset = entry.log_start;
        if place.created {
            self.uncovered.dirs.insert(place.file.dir.clone());
            self.uncovered.dirs.extend(place.file.dir.parent().map(Into::into));
            self.uncovered.dirs.insert(self.shared.paths.topics.clone());
        }
        self.uncovered.rolled.extend(place.rolled);
        self.draft.planned.push(Planned {
            partition: append.partition,
            file: place.file,
            position: place.position,
            base_offset: header.base_offset,
            append_time,
            batch: append.batch.clone(),
        });
        Ok(Appended {
            base_offset: header.base_offset,
            log_append_time: append_time,
            log_start_offset,
            duplicate: false,
        })
    }

    fn plan_catalogue(
        &mut self,
        change: CatalogueChange,
        done: Done<Result<TopicId, CatalogueError>>,
    ) {
        let result = if self.full && !self.may_pass(&change) {
            Err(CatalogueError::DiskFull)
        } else {
            self.new_topic_id().and_then(|id| self.catalogue.plan(change, id))
        };
        let result = result.and_then(|record| self.change_catalogue(record));
        self.draft.synced.push(Answer::Catalogue(done, result));
    }

    /// What makes space is never refused, and configurations may be what makes it.
    fn may_pass(&self, change: &CatalogueChange) -> bool {
        match change {
            CatalogueChange::DeleteTopic { .. } => true,
            CatalogueChange::SetConfigs { .. } | CatalogueChange::SetBrokerConfigs { .. } => {
                self.free_bytes() >= LEAST_FREE_FOR_PLANS
            }
            CatalogueChange::CreateTopic { .. } | CatalogueChange::AddPartitions { .. } => false,
        }
    }

    fn new_topic_id(&self) -> Result<TopicId, CatalogueError> {
        let mut bytes = [0; 16];
        let random = self.shared.host.random.fill(&mut bytes);
        random.map_err(|_error| CatalogueError::ShuttingDown)?;
        Ok(TopicId(uuid::Builder::from_random_bytes(bytes).into_uuid()))
    }

    /// Appends a record to `__cluster_metadata`.
    fn record(&mut self, record: &Record) -> Result<(), AppendError> {
        let batch = record.to_batch(self.shared.host.clock.now());
        let append = Append { partition: METADATA, batch };
        let header = header_of(&append)?;
        self.append(&append, header).map(|_appended| ())
    }

    /// Moves the start of a log, which never goes back. Answers where it is then.
    fn plan_log_start(
        &mut self,
        id: PartitionId,
        before: Option<Offset>,
    ) -> Result<Offset, DeleteRecordsError> {
        let entry = self.entries.get_mut(&id).ok_or(DeleteRecordsError::UnknownPartition)?;
        let high_watermark = entry.partition.published().offsets.high_watermark;
        let offset = before.unwrap_or(high_watermark);
        if offset < Offset(0) || offset > high_watermark {
            return Err(DeleteRecordsError::OffsetOutOfRange);
        }
        if offset <= entry.log_start {
            return Ok(entry.log_start);
        }
        entry.log_start = offset;
        self.draft.partitions.push(id);
        let recorded = self.record(&Record::LogStart { partition: id, offset });
        recorded.map(|()| offset).map_err(|_refused| DeleteRecordsError::UnknownPartition)
    }

    /// Takes in what the cleaner has done, unless the partition is gone.
    fn plan_clean(&mut self, clean: Clean) {
        match clean {
            Clean::Swap(swap) if self.entries.contains_key(&swap.partition) => {
                let Swap { partition, base, end, generation, .. } = *swap;
                let record = Record::Swapped { partition, base, end, generation };
                if self.record(&record).is_ok() {
                    self.draft.partitions.push(partition);
                    self.draft.swaps.push(*swap);
                }
            }
            Clean::CleanedTo(partition, offset) => {
                if let Some(entry) = self.entries.get_mut(&partition) {
                    entry.cleaned_to = offset;
                    entry.partition.published().cleaned_to = offset;
                    self.draft.partitions.push(partition);
                }
            }
            Clean::ExpireProducers { before } => self.plan_expiry(before),
            Clean::RecordCatalogue { from, after } => self.plan_catalogue_again(from, after),
            Clean::Swap(_) => {}
        }
    }

    /// Records a part of the catalogue as it is now, the first in a file of its own; the next follows
    /// in another cycle. Behind the last, the files in front go as those of deleted records do.
    fn plan_catalogue_again(&mut self, from: Option<Offset>, after: Option<PartitionId>) {
        if self.full {
            return;
        }
        let Some(entry) = self.entries.get_mut(&METADATA) else { return };
        if from.is_none() && entry.log.position > 0 {
            self.uncovered.rolled.extend(entry.roll());
        }
        let from = from.unwrap_or(entry.log.next_offset);
        let (records, last) = self.part_of_catalogue(after);
        if records.iter().any(|record| self.record(record).is_err()) {
            return;
        }
        self.shared.queue.push(match last {
            Some(_) => Request::Clean(Clean::RecordCatalogue { from: Some(from), after: last }),
            None => Request::DeleteRecords(DeleteRecords {
                partition: METADATA,
                before: Some(from),
                done: Box::new(drop),
            }),
        });
    }

    /// The records of what comes behind a partition, and the last partition in them if there are
    /// more.
    fn part_of_catalogue(&self, after: Option<PartitionId>) -> (Vec<Record>, Option<PartitionId>) {
        let mut records = Vec::new();
        if after.is_none() {
            let configs = self.catalogue.broker_configs.clone();
            records.push(Record::BrokerConfigs { configs });
            let expired = self.catalogue.producers_expired_before;
            records.extend(expired.map(|before| Record::ProducersExpired { before }));
        }
        let mut bytes = 0;
        let known = |id: &PartitionId| after.is_some_and(|after| *id <= after);
        for (id, topic) in self.catalogue.partitions().skip_while(|(id, _)| known(id)) {
            let Some(topic) = topic else { continue };
            if id.partition == PartitionIndex(0) {
                bytes += topic.recorded_bytes();
                records.push(Record::of_topic(topic));
            }
            let offset = self.entries.get(&id).map_or(Offset(0), |entry| entry.log_start);
            if offset > Offset(0) {
                records.push(Record::LogStart { partition: id, offset });
            }
            // One partition adds two records at most.
            if bytes >= PART_BYTES || records.len() + 2 > PART_RECORDS {
                return (records, Some(id));
            }
        }
        (records, None)
    }

    /// Forgets producers, and records that, unless there are none to forget.
    fn plan_expiry(&mut self, before: TimestampMs) {
        let longest_ms = self.catalogue.producer_id_expiration_ms();
        let has_expired = |entry: &Entry| entry.log.producers.has_expired(before, longest_ms);
        let expired: Vec<PartitionId> = self
            .entries
            .iter()
            .filter(|(_, entry)| has_expired(entry))
            .map(|(id, _)| *id)
            .collect();
        let record = Record::ProducersExpired { before };
        if expired.is_empty() || self.record(&record).is_err() {
            return;
        }
        Arc::make_mut(&mut self.catalogue).replay(record);
        self.draft.catalogue_changed = true;
        for id in expired {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.log.producers.expire(before, longest_ms);
                self.draft.partitions.push(id);
            }
        }
    }

    fn change_catalogue(&mut self, record: Record) -> Result<TopicId, CatalogueError> {
        let id = record.topic();
        self.record(&record).map_err(|_refused| CatalogueError::Unknown)?;
        if let Record::Deleted { id } = &record {
            self.forget_topic(*id);
        }
        let of_all = matches!(record, Record::BrokerConfigs { .. });
        Arc::make_mut(&mut self.catalogue).replay(record);
        self.draft.catalogue_changed = true;
        if of_all {
            self.settle_settings();
        }
        if let Some(topic) = self.catalogue.by_id.get(&id).cloned() {
            let default = self.shared.default_segment_bytes;
            let settings = TopicSettings::of(&self.catalogue, Some(&topic), default);
            for partition in partitions_of(id, 0..topic.partitions) {
                if let Some(entry) = self.entries.get_mut(&partition) {
                    entry.settings = settings;
                    continue;
                }
                let dir = partition_dir(&self.shared.paths.topics, partition);
                let empty = Partition::new(partition, dir, Published::default());
                let now = self.shared.host.clock.now();
                self.entries.insert(partition, Entry::new(empty, settings, now));
                self.draft.created.push(partition);
            }
        }
        Ok(id)
    }

    /// The broker's settings are every topic's defaults.
    fn settle_settings(&mut self) {
        for (id, topic) in self.catalogue.partitions() {
            if let Some(entry) = self.entries.get_mut(&id) {
                let default = self.shared.default_segment_bytes;
                entry.settings = TopicSettings::of(&self.catalogue, topic, default);
            }
        }
    }

    fn forget_topic(&mut self, id: TopicId) {
        let Some(topic) = self.catalogue.by_id.get(&id) else { return };
        let partitions: Vec<PartitionId> = partitions_of(id, 0..topic.partitions).collect();
        for partition in &partitions {
            self.entries.remove(partition);
        }
        self.draft.deleted.push((id, partitions));
    }

    /// Refuses produce while there is too little space, or the reserve was used up.
    pub(super) fn look_for_space(&mut self) {
        let free = self.free_bytes();
        let full = free < LEAST_FREE_BYTES || !self.shared.reserve.is_held();
        if !self.shared.reserve.is_held() {
            let reserve = self.shared.reserve.bytes(self.shared.segments.count());
            if free > reserve + LEAST_FREE_BYTES {
                self.shared.jobs.make_reserve();
            }
        }
        if full != self.full {
            self.full = full;
            self.shared.counters.refuse_produce(full);
            if full {
                tracing::error!(free, "the disk is full; produce is refused until there is space");
            } else {
                tracing::info!(free, "there is space again; produce is accepted");
            }
        }
    }

    fn free_bytes(&self) -> u64 {
        self.shared.host.disk.free_bytes(&self.shared.paths.data).unwrap_or(u64::MAX)
    }
}

fn header_of(append: &Append) -> Result<BatchHeader, AppendError> {
    BatchHeader::parse(&append.batch)
        .ok()
        .filter(|header| header.size_in_bytes() == append.batch.len())
        .filter(|header| header.last_offset_delta >= 0)
        .ok_or(AppendError::InvalidBatch)
}

fn duplicate(entry: &Entry, seen: &SeenBatch) -> Appended {
    let log_append_time: Option<TimestampMs> =
        entry.settings.log_append_time.then_some(seen.timestamp);
    Appended {
        base_offset: seen.base_offset,
        log_append_time,
        log_start_offset: entry.log_start,
        duplicate: true,
    }
}
