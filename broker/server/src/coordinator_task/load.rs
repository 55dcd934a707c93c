//! Reading both machines back from their topics.

use std::collections::BTreeMap;

use coordinator::groups::GroupCoordinator;
use coordinator::record::{GroupRecord, RecordError, TransactionRecord};
use coordinator::transactions::TransactionCoordinator;
use coordinator::{CONSUMER_OFFSETS, PARTITION_COUNT, TRANSACTION_STATE};
use storage::{
    CatalogueChange, CatalogueError, Isolation, PartitionId, ReadError, ReadLimit, Storage,
};
use tokio::sync::oneshot;
use wire::PartitionIndex;
use wire::batch::{self, BatchError, BatchView, RecordLimits};

/// Bytes that are read at a time.
const READ_BYTES: usize = 4 << 20;

/// Why groups and transactions could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// They are not there and cannot be created.
    #[error("the internal topics cannot be created: {0}")]
    Create(#[from] CatalogueError),
    /// The storage does not give them.
    #[error("an internal topic cannot be read: {0}")]
    Read(#[from] ReadError),
    /// The disk does not give them.
    #[error("an internal topic cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// A batch is not what was written.
    #[error("a batch of an internal topic is damaged: {0}")]
    Batch(#[from] BatchError),
    /// A record is not what was written.
    #[error("a record of an internal topic is damaged: {0}")]
    Record(#[from] RecordError),
    /// The storage ends.
    #[error("the storage is shutting down")]
    ShuttingDown,
    /// The loading failed in a way that was not thought of.
    #[error("the loading task panicked")]
    Panicked,
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

/// Replays every record of both topics.
pub(super) fn load(
    storage: &Storage,
    groups: &mut GroupCoordinator,
    transactions: &mut TransactionCoordinator,
) -> Result<(), LoadError> {
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
    })
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
    topic: &str,
    mut each: impl FnMut(PartitionIndex, &BatchView<'_>) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let catalogue = storage.catalogue();
    let Some(topic) = catalogue.by_name.get(topic) else { return Ok(()) };
    for index in 0..topic.partitions {
        let partition = PartitionId { topic: topic.id, partition: PartitionIndex(index) };
        let Some(offsets) = storage.offsets(partition) else { continue };
        let mut next = offsets.log_start_offset;
        while next < offsets.log_end_offset {
            let limit = ReadLimit {
                max_bytes: READ_BYTES,
                isolation: Isolation::ReadUncommitted,
                at_least_one_batch: true,
            };
            let before = next;
            for slice in storage.read(partition, next, limit)?.slices {
                let bytes = slice.load()?;
                for batch in batch::batches(&bytes) {
                    batch.verify_crc()?;
                    each(partition.partition, &batch)?;
                    next = batch.header.next_offset();
                }
            }
            if next == before {
                break;
            }
        }
    }
    Ok(())
}

fn for_each_record(
    batch: &BatchView<'_>,
    mut each: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), LoadError>,
) -> Result<(), LoadError> {
    let mut records = batch::records(batch, RecordLimits::default())?;
    while let Some(record) = records.next_record() {
        let record = record?;
        if let Some(key) = record.key {
            each(key, record.value)?;
        }
    }
    Ok(())
}
