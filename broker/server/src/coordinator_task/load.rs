//! Reading both machines back from their topics.

use std::collections::BTreeMap;

use coordinator::groups::GroupCoordinator;
use coordinator::record::{GroupRecord, RecordError, TransactionRecord};
use coordinator::transactions::TransactionCoordinator;
use coordinator::{CONSUMER_OFFSETS, PARTITION_COUNT, TRANSACTION_STATE};
use storage::{
    CatalogueChange, CatalogueError, Isolation, PartitionId, ReadError, ReadLimit, Storage, Topic,
};
use tokio::sync::oneshot;
use wire::batch::{self, BatchError, BatchView, RecordLimits};
use wire::{Offset, PartitionIndex};

use super::Settings;

/// Bytes that are read at a time.
const READ_BYTES: usize = 4 << 20;

/// Why groups and transactions could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// They are not there and cannot be created.
    #[error("the internal topics cannot be created: {0}")]
    Create(#[from] CatalogueError),
    /// What one of their partitions holds from an offset on.
    #[error("{topic}-{partition} from offset {offset} on: {cause}")]
    Unreadable {
        /// The internal topic.
        topic: &'static str,
        /// Which of its partitions.
        partition: PartitionIndex,
        /// Everything in front of it was read.
        offset: Offset,
        /// What is wrong.
        cause: Unreadable,
    },
    /// The storage ends.
    #[error("the storage is shutting down")]
    ShuttingDown,
    /// The loading failed in a way that was not thought of.
    #[error("the loading task panicked")]
    Panicked,
}

/// Why records of an internal topic could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// The storage does not give them.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// The disk does not give them.
    #[error("the log cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A batch is not what was written.
    #[error("a batch is damaged: {0}")]
    Batch(#[from] BatchError),
    /// No checksum covers its offset, which cannot be what was written.
    #[error("a batch says that it begins at offset {0}, where it cannot be")]
    Misplaced(Offset),
    /// A record is not what was written.
    #[error("a record is damaged: {0}")]
    Record(#[from] RecordError),
}

/// Creates what is missing of `__consumer_offsets` and `__transaction_state`, at the first start.
pub(super) async fn create_internal_topics(storage: &Storage) -> Result<(), LoadError> {
    for name in [CONSUMER_OFFSETS, TRANSACTION_STATE] {
        if storage.catalogue().by_name.contains_key(name) {
            continue;
        }
        let (report, created) = oneshot::channel();
        let change = CatalogueChange::CreateTopic {
            name: name.to_owned(),
            partitions: PARTITION_COUNT,
            configs: BTreeMap::from([
                ("cleanup.policy".to_owned(), "compact".to_owned()),
                ("compression.type".to_owned(), "producer".to_owned()),
                ("segment.bytes".to_owned(), "104857600".to_owned()),
            ]),
        };
        let done = Box::new(move |result| {
            // Whoever waited has gone with the start.
            _ = report.send(result);
        });
        storage.change_catalogue(change, done);
        match created.await.map_err(|_lost| LoadError::ShuttingDown)? {
            Ok(_) | Err(CatalogueError::Exists) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Both machines.
pub(super) type Machines = (GroupCoordinator, TransactionCoordinator);

/// Both machines, with every record of both topics.
pub(super) fn load(storage: &Storage, settings: &Settings) -> Result<Machines, LoadError> {
    let mut groups = GroupCoordinator::new(settings.groups.clone());
    let mut transactions = TransactionCoordinator::new(settings.transactions.clone());
    for_each_batch(storage, CONSUMER_OFFSETS, |partition, batch| {
        let producer_id = batch.header.producer_id;
        if let Some((marker, _)) = batch::marker(batch)? {
            let committed = marker == batch::Marker::Commit;
            groups.replay_marker(partition, producer_id, committed);
            return Ok(());
        }
        let producer = batch.header.is_transactional().then_some(producer_id);
        for_each_record(batch, |key, value| {
            if let Some(record) = known(GroupRecord::decode(key, value))? {
                groups.replay(producer, &record);
            }
            Ok(())
        })
    })?;
    for_each_batch(storage, TRANSACTION_STATE, |_, batch| {
        // No transaction may lie here; one that once did is not in anybody's way.
        if batch.header.is_control() {
            return Ok(());
        }
        for_each_record(batch, |key, value| {
            if let Some(record) = known(TransactionRecord::decode(key, value))? {
                transactions.replay(&record);
            }
            Ok(())
        })
    })?;
    Ok((groups, transactions))
}

/// A record of a kind that a later version writes is passed over, and one whose text is none, which
/// nobody can name; a damaged one is not.
fn known<T>(decoded: Result<T, RecordError>) -> Result<Option<T>, RecordError> {
    match decoded {
        Ok(record) => Ok(Some(record)),
        Err(
            error @ (RecordError::UnknownKey(_)
            | RecordError::UnknownValue(_)
            | RecordError::NotUtf8),
        ) => {
            tracing::warn!(%error, "a record of an internal topic is passed over");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn for_each_batch(
    storage: &Storage,
    topic: &'static str,
    mut each: impl FnMut(PartitionIndex, &BatchView<'_>) -> Result<(), Unreadable>,
) -> Result<(), LoadError> {
    let catalogue = storage.catalogue();
    let Some(Topic { id, partitions, .. }) = catalogue.by_name.get(topic).map(AsRef::as_ref) else {
        return Ok(());
    };
    for partition in (0..*partitions).map(PartitionIndex) {
        let of = PartitionId { topic: *id, partition };
        let Some(offsets) = storage.offsets(of) else { continue };
        let mut next = offsets.log_start_offset;
        while next < offsets.log_end_offset {
            let before = next;
            read_on(storage, of, &mut next, &mut |batch| each(partition, batch))
                .map_err(|cause| LoadError::Unreadable { topic, partition, offset: next, cause })?;
            // What is left out here would be forgotten: nothing is in flight, so that all of it can be read.
            assert!(next > before, "{topic}-{partition} gives nothing at offset {before}");
        }
    }
    Ok(())
}

/// Reads a piece from `next` on, which is then behind it. The last of a file's batches may seem to
/// lie behind the file, and what begins the next one then be passed over: so each has to be where
/// it can be.
pub(super) fn read_on(
    storage: &Storage,
    partition: PartitionId,
    next: &mut Offset,
    each: &mut impl FnMut(&BatchView<'_>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let limit = ReadLimit {
        max_bytes: READ_BYTES,
        isolation: Isolation::ReadUncommitted,
        at_least_one_batch: true,
    };
    let read = storage.read(partition, *next, limit)?;
    for slice in read.slices {
        let bytes = slice.load()?;
        let mut rest = bytes.as_ref();
        while !rest.is_empty() {
            let batch = BatchView::parse(rest)?;
            batch.verify_crc()?;
            let header = batch.header;
            if header.last_offset() < *next || header.next_offset() > read.next_offset {
                return Err(Unreadable::Misplaced(header.base_offset));
            }
            each(&batch)?;
            *next = header.next_offset();
            rest = rest.get(batch.bytes().len()..).unwrap_or_default();
        }
    }
    Ok(())
}

fn for_each_record(
    batch: &BatchView<'_>,
    mut each: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), Unreadable>,
) -> Result<(), Unreadable> {
    let mut records = batch::records(batch, RecordLimits::default())?;
    while let Some(record) = records.next_record() {
        let record = record?;
        if let Some(key) = record.key {
            each(key, record.value)?;
        }
    }
    Ok(())
}
