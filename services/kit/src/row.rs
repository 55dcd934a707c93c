//! What a table holds.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// A row of a table; its topic is `__<service>.<TABLE>`.
pub trait Row: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// Lower case letters and `-`.
    const TABLE: &'static str;
    /// The version of the row's shape, kept beside each row.
    const VERSION: u16;

    /// Unique within the table; tables are ordered by it.
    fn key(&self) -> String;

    /// Names of indexes and this row's key in each. Derived, never in the log. Neither holds a NUL.
    fn indexes(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Reads a row that an older version wrote.
    fn upgrade(_version: u16, row: serde_json::Value) -> Result<Self, serde_json::Error> {
        serde_json::from_value(row)
    }
}

/// A row as it stands in the log and in the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) value: Vec<u8>,
    pub(crate) indexes: Vec<(&'static str, String)>,
}

#[derive(Serialize)]
struct Written<'a, T> {
    v: u16,
    row: &'a T,
}

#[derive(Deserialize)]
struct Read {
    v: u16,
    row: serde_json::Value,
}

pub(crate) fn store<T: Row>(row: &T) -> Stored {
    Stored {
        value: serde_json::to_vec(&Written { v: T::VERSION, row }).unwrap_or_default(),
        indexes: row.indexes(),
    }
}

pub(crate) fn load<T: Row>(value: &[u8]) -> Result<T, serde_json::Error> {
    let read: Read = serde_json::from_slice(value)?;
    if read.v == T::VERSION {
        serde_json::from_value(read.row)
    } else {
        T::upgrade(read.v, read.row)
    }
}

/// How a value found in the log is made ready for the view.
type Restore = fn(&[u8]) -> Result<Stored, serde_json::Error>;

/// The tables of one service.
#[derive(Clone, Debug, Default)]
pub struct Tables(Vec<Table>);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) version: u16,
    pub(crate) restore: Restore,
}

impl Tables {
    /// Every service has its counters and its idempotency keys.
    pub fn new() -> Self {
        Self::default().with::<Counter>().with::<crate::http::idempotency::Answer>()
    }

    /// Adds the table of `T`.
    #[must_use]
    pub fn with<T: Row>(mut self) -> Self {
        self.0.push(Table {
            name: T::TABLE,
            version: T::VERSION,
            restore: |value| {
                let row: T = load(value)?;
                Ok(Stored { value: value.to_vec(), indexes: row.indexes() })
            },
        });
        self
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Table> {
        self.0.iter()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Table> {
        self.0.iter().find(|table| table.name == name)
    }
}

/// The last id that a counter gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) name: String,
    pub(crate) last: i64,
}

impl Row for Counter {
    const TABLE: &'static str = "counters";
    const VERSION: u16 = 1;

    fn key(&self) -> String {
        self.name.clone()
    }
}
