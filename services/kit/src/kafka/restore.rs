//! From the tables' topics into the view.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers},
};

use super::{Cluster, Quiet, log::COMMAND_ID};
use crate::{
    DbError, Tables, View,
    clock::monotonic,
    commit::NotOpen,
    db::RowChange,
    row::{Stored, Table},
};

/// Rows that are applied at once.
const AT_ONCE: usize = 2000;
const POLL: Duration = Duration::from_millis(100);
const CLOSING_POLL: Duration = Duration::from_millis(2);

impl From<DbError> for NotOpen {
    fn from(error: DbError) -> Self {
        Self::Unusable(format!("{error} ({:?})", std::error::Error::source(&error)))
    }
}

/// Reads the tables to their ends.
pub(super) struct Restore<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) tables: &'a Tables,
    pub(super) view: &'a View,
    /// The commands whose fate is asked for.
    pub(super) asked: &'a HashSet<String>,
    pub(super) deadline: Instant,
}

impl Restore<'_> {
    /// Gives those of the asked commands that were found.
    pub(super) fn run(&self) -> Result<HashSet<String>, NotOpen> {
        let config = self.cluster.reader();
        let consumer: BaseConsumer<Quiet> =
            config.create_with_context(Quiet).map_err(unreachable)?;
        // Without it librdkafka learns of the tables one by one, at the next tick of its second-long timer.
        consumer.fetch_metadata(None, self.remaining()).map_err(unreachable)?;
        self.check_origin(&consumer)?;
        let behind = self.behind(&consumer)?;
        if behind.count() == 0 {
            return Ok(HashSet::new());
        }
        consumer.assign(&behind).map_err(unreachable)?;
        let found = self.read(&consumer, behind.count());
        close(&consumer);
        found
    }

    /// The view of another cluster is of no use.
    fn check_origin(&self, consumer: &BaseConsumer<Quiet>) -> Result<(), NotOpen> {
        let Some(cluster) = consumer.client().fetch_cluster_id(self.remaining()) else {
            return Err(NotOpen::Unreachable);
        };
        let shape = |table: &Table| format!("{}={}", table.name, table.version);
        let shapes: Vec<String> = self.tables.iter().map(shape).collect();
        let origin = format!("{cluster} {}", shapes.join(" "));
        let db = &self.view.0;
        match db.origin()? {
            Some(known) if known == origin.as_bytes() => Ok(()),
            known => {
                if known.is_some() {
                    tracing::info!("the view is of another cluster or version and is rebuilt");
                }
                db.clear()?;
                Ok(db.set_origin(origin.as_bytes())?)
            }
        }
    }

    /// The tables that hold more than the view has seen, from there on.
    fn behind(&self, consumer: &BaseConsumer<Quiet>) -> Result<TopicPartitionList, NotOpen> {
        let ends = self
            .tables
            .iter()
            .map(|table| {
                let topic = self.cluster.table_topic(table.name);
                let (_, end) =
                    consumer.fetch_watermarks(&topic, 0, self.remaining()).map_err(unreachable)?;
                Ok((table.name, topic, end))
            })
            .collect::<Result<Vec<_>, NotOpen>>()?;
        let db = &self.view.0;
        for (table, topic, end) in &ends {
            if db.applied_upto(table)? > *end {
                tracing::warn!(topic, "the view is ahead of its table and is rebuilt");
                let origin = db.origin()?;
                db.clear()?;
                origin.map_or(Ok(()), |origin| db.set_origin(&origin))?;
                break;
            }
        }
        let mut behind = TopicPartitionList::new();
        for (table, topic, end) in &ends {
            let applied = db.applied_upto(table)?;
            if applied < *end {
                behind
                    .add_partition_offset(topic, 0, Offset::Offset(applied))
                    .map_err(unreachable)?;
            }
        }
        Ok(behind)
    }

    /// A table is read to its end when librdkafka says so: its last offset is a transaction's marker, not a record.
    fn read(
        &self,
        consumer: &BaseConsumer<Quiet>,
        tables: usize,
    ) -> Result<HashSet<String>, NotOpen> {
        let (mut found, mut ended) = (HashSet::new(), 0);
        let mut read = Chunk::default();
        while ended < tables {
            match consumer.poll(POLL) {
                Some(Ok(message)) => {
                    if let Some(id) = command_id(&message).filter(|id| self.asked.contains(*id)) {
                        found.insert(id.to_owned());
                    }
                    self.take(&message, &mut read)?;
                    if read.rows.len() >= AT_ONCE {
                        self.apply(&mut read)?;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) => tracing::debug!(%error, "while tables are read"),
                None => {}
            }
            if monotonic() > self.deadline {
                return Err(NotOpen::Unreachable);
            }
        }
        self.apply(&mut read)?;
        Ok(found)
    }

    fn take(&self, message: &BorrowedMessage<'_>, read: &mut Chunk) -> Result<(), NotOpen> {
        let name = message.topic().split_once('.').map_or("", |(_, table)| table);
        let Some(table) = self.tables.find(name) else { return Ok(()) };
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        let change = match message.payload() {
            Some(value) => Some(restored(table, &key, value)?),
            None => None,
        };
        read.rows.push((table.name, key, change));
        let next = message.offset() + 1;
        match read.positions.iter_mut().find(|(table, _)| table == name) {
            Some(position) => position.1 = next,
            None => read.positions.push((name.to_owned(), next)),
        }
        Ok(())
    }

    fn apply(&self, read: &mut Chunk) -> Result<(), NotOpen> {
        let Chunk { rows, positions } = std::mem::take(read);
        let indexes =
            |table: &str, value: &[u8]| crate::commit::indexes_of(self.tables, table, value);
        Ok(self.view.0.apply(rows, positions, indexes)?)
    }

    fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(monotonic()).max(Duration::from_millis(1))
    }
}

/// Does in milliseconds what a drop does in steps of a hundred.
fn close(consumer: &BaseConsumer<Quiet>) {
    let until = monotonic() + POLL;
    if let Err(error) = consumer.close_queue() {
        tracing::debug!(%error, "reader not closed");
    }
    while !consumer.closed() && monotonic() < until {
        drop(consumer.poll(CLOSING_POLL));
    }
}

/// Rows that were read and are not in the view yet, and the positions behind them.
#[derive(Default)]
struct Chunk {
    rows: Vec<RowChange>,
    positions: Vec<(String, i64)>,
}

fn restored(table: &Table, key: &str, value: &[u8]) -> Result<Stored, NotOpen> {
    (table.restore)(value).map_err(|error| {
        NotOpen::Unusable(format!("row {key} of table {} cannot be read: {error}", table.name))
    })
}

fn command_id<'a>(message: &'a BorrowedMessage<'_>) -> Option<&'a str> {
    let headers = message.headers()?;
    let header = headers.iter().find(|header| header.key == COMMAND_ID)?;
    std::str::from_utf8(header.value?).ok()
}

#[expect(clippy::needless_pass_by_value, reason = "fits map_err")]
fn unreachable(error: KafkaError) -> NotOpen {
    tracing::debug!(%error, "tables cannot be read yet");
    NotOpen::Unreachable
}
