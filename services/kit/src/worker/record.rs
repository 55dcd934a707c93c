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

    pub(super) fn cause(&self) -> Cause {
        trace::cause(self.header("correlation-id"), self.header("traceparent"))
    }

    /// The record as it was, with where it comes from and why it is here.
    pub(super) fn dead_letter(&self, reason: &str, group: &str) -> Outgoing {
        let mut headers = self.headers.clone();
        for (name, value) in [
            ("x-original-topic", self.topic.clone()),
            ("x-original-partition", self.partition.to_string()),
            ("x-original-offset", self.offset.to_string()),
            ("x-group", group.to_owned()),
            ("reason", reason.to_owned()),
        ] {
            headers.push((name.to_owned(), value.into_bytes()));
        }
        Outgoing {
            topic: format!("{}.dlq", self.topic),
            key: self.key.clone(),
            value: self.value.clone(),
            headers,
        }
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
