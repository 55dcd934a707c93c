//! The `FetchResponse`, written by hand so that records go from the files to the socket without
//! passing through an encoder. A test holds every version equal to `kafka-protocol`'s bytes.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::TopicName;
use storage::{AbortedTransaction, FileSlice};
use uuid::Uuid;
use wire::ErrorCode;

use crate::dispatch::{Body, Piece};

/// The first flexible version.
const FLEXIBLE: i16 = 12;
const SESSIONS: i16 = 7;
const LOG_START: i16 = 5;
const READ_REPLICA: i16 = 11;
const TOPIC_IDS: i16 = 13;

/// The answer to a fetch.
#[derive(Debug, Default)]
pub(crate) struct FetchAnswer {
    pub(crate) error_code: ErrorCode,
    pub(crate) session_id: i32,
    pub(crate) topics: Vec<TopicAnswer>,
}

/// A topic by the name or the id that it was asked by.
#[derive(Debug)]
pub(crate) struct TopicAnswer {
    pub(crate) name: TopicName,
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<PartitionAnswer>,
}

/// What one partition has to give.
#[derive(Debug)]
pub(crate) struct PartitionAnswer {
    pub(crate) index: i32,
    pub(crate) error_code: ErrorCode,
    pub(crate) high_watermark: i64,
    pub(crate) last_stable_offset: i64,
    pub(crate) log_start_offset: i64,
    /// None for a reader of uncommitted records.
    pub(crate) aborted: Option<Vec<AbortedTransaction>>,
    pub(crate) records: Vec<FileSlice>,
}

impl PartitionAnswer {
    /// The answer of a partition that cannot be read.
    pub(crate) fn refused(index: i32, error_code: ErrorCode) -> Self {
        Self {
            index,
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted: None,
            records: Vec::new(),
        }
    }

    /// The bytes of the records.
    pub(crate) fn len(&self) -> usize {
        self.records.iter().map(|slice| slice.length).sum()
    }
}

impl FetchAnswer {
    /// The response's body at `version`.
    pub(crate) fn encode(self, version: i16) -> Body {
        let mut out = Writer { version, pieces: Vec::new(), buffer: BytesMut::with_capacity(256) };
        out.buffer.put_i32(0);
        if version >= SESSIONS {
            out.buffer.put_i16(self.error_code.0);
            out.buffer.put_i32(self.session_id);
        }
        out.length(self.topics.len());
        for topic in self.topics {
            out.topic(topic);
        }
        out.no_tagged_fields();
        out.finish()
    }
}

struct Writer {
    version: i16,
    pieces: Vec<Piece>,
    buffer: BytesMut,
}

impl Writer {
    fn topic(&mut self, topic: TopicAnswer) {
        if self.version >= TOPIC_IDS {
            self.buffer.put_slice(topic.id.as_bytes());
        } else if self.version >= FLEXIBLE {
            self.length(topic.name.len());
            self.buffer.put_slice(topic.name.as_bytes());
        } else {
            self.buffer.put_i16(i16::try_from(topic.name.len()).unwrap_or(i16::MAX));
            self.buffer.put_slice(topic.name.as_bytes());
        }
        self.length(topic.partitions.len());
        for partition in topic.partitions {
            self.partition(partition);
        }
        self.no_tagged_fields();
    }

    fn partition(&mut self, partition: PartitionAnswer) {
        let length = partition.len();
        self.buffer.put_i32(partition.index);
        self.buffer.put_i16(partition.error_code.0);
        self.buffer.put_i64(partition.high_watermark);
        self.buffer.put_i64(partition.last_stable_offset);
        if self.version >= LOG_START {
            self.buffer.put_i64(partition.log_start_offset);
        }
        match &partition.aborted {
            Some(aborted) => {
                self.length(aborted.len());
                for transaction in aborted {
                    self.buffer.put_i64(transaction.producer_id.0);
                    self.buffer.put_i64(transaction.first_offset.0);
                    self.no_tagged_fields();
                }
            }
            None => self.null(),
        }
        if self.version >= READ_REPLICA {
            self.buffer.put_i32(-1);
        }
        self.length(length);
        if length > 0 {
            self.cut();
            self.pieces.extend(partition.records.into_iter().map(Piece::File));
        }
        self.no_tagged_fields();
    }

    /// The length of an array, of bytes or of a compact string.
    fn length(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if self.version >= FLEXIBLE {
            self.unsigned_varint(length.saturating_add(1));
        } else {
            self.buffer.put_u32(length);
        }
    }

    fn null(&mut self) {
        if self.version >= FLEXIBLE { self.buffer.put_u8(0) } else { self.buffer.put_i32(-1) }
    }

    fn no_tagged_fields(&mut self) {
        if self.version >= FLEXIBLE {
            self.buffer.put_u8(0);
        }
    }

    fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(u8::try_from(value).unwrap_or(0));
    }

    /// Ends the current piece of encoded bytes.
    fn cut(&mut self) {
        let bytes: Bytes = self.buffer.split().freeze();
        if !bytes.is_empty() {
            self.pieces.push(Piece::Bytes(bytes));
        }
    }

    fn finish(mut self) -> Body {
        self.cut();
        Body(self.pieces)
    }
}
