//! The rules of accounts and teams: pure, without clock, store or network.

pub(crate) mod account;
pub(crate) mod team;
pub(crate) mod throttle;
pub(crate) mod token;

/// Why a value that a person sent is not accepted; it becomes a 422 that names the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    /// The JSON name of the field.
    pub field: &'static str,
    /// A stable word for programs.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl Invalid {
    pub(crate) fn new(
        field: &'static str,
        code: &'static str,
        message: impl Into<String>,
    ) -> Invalid {
        Invalid { field, code, message: message.into() }
    }
}
