//! What a worker reads, and what becomes of it if it can never be processed.

use std::{
    cell::Cell,
    panic::{catch_unwind, set_hook, take_hook},
    sync::Once,
};

use rdkafka::{
    Message,
    message::{BorrowedHeaders, BorrowedMessage, Headers},
};

use crate::{Outgoing, http::trace, tx::Cause};

/// Headers of a record beyond these are not read.
const HEADERS: usize = 1000;
/// Bytes of key, value and headers of a record that is processed. No event of ours has a quarter of that, and what is
/// made of a record has to fit into one again.
const RECORD_BYTES: usize = 256 * 1024;
/// Characters of the reason that a dead letter states.
const REASON_CHARACTERS: usize = 1000;

/// A consumed record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The first header of that name, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }

    /// Why it is not even looked at.
    pub(super) fn too_large(&self) -> Option<String> {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        let size = length(&self.key) + length(&self.value) + headers.sum::<usize>();
        (size > RECORD_BYTES)
            .then(|| format!("the record has {size} bytes, {RECORD_BYTES} are the most"))
    }

    /// What its headers say that it comes from, made where they are missing or malformed.
    pub fn cause(&self) -> Cause {
        trace::cause(self.header("correlation-id"), self.header("traceparent"))
    }

    /// The record as it was, with where it comes from and why it is here. Of a record that is too large only these two:
    /// the broker might refuse its copy, and then nothing behind it would be read.
    pub(super) fn dead_letter(&self, reason: &str, group: &str) -> Outgoing {
        let (key, value, mut headers) = match self.too_large() {
            None => (self.key.clone(), self.value.clone(), self.headers.clone()),
            Some(_) => (None, None, Vec::new()),
        };
        for (name, value) in [
            ("x-original-topic", self.topic.clone()),
            ("x-original-partition", self.partition.to_string()),
            ("x-original-offset", self.offset.to_string()),
            ("x-group", group.to_owned()),
            ("reason", reason.chars().take(REASON_CHARACTERS).collect()),
        ] {
            headers.push((name.to_owned(), value.into_bytes()));
        }
        Outgoing { topic: format!("{}.dlq", self.topic), key, value, headers }
    }
}

impl From<&BorrowedMessage<'_>> for Record {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(read).unwrap_or_default(),
        }
    }
}

/// The headers whose names are text: any client may give them others, and rdkafka panics at those.
fn read(headers: &BorrowedHeaders) -> Vec<(String, Vec<u8>)> {
    let readable = |index| quietly(|| headers.try_get(index)).flatten();
    (0..headers.count().min(HEADERS))
        .filter_map(readable)
        .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
        .collect()
}

thread_local! {
    static PANIC_IS_EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// What `work` gives; `None` if it panics, of which no line is written.
fn quietly<T>(work: impl FnOnce() -> T + std::panic::UnwindSafe) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            if !PANIC_IS_EXPECTED.get() {
                usual(panic);
            }
        }));
    });
    PANIC_IS_EXPECTED.set(true);
    let done = catch_unwind(work).ok();
    PANIC_IS_EXPECTED.set(false);
    done
}
