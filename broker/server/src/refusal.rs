use kafka_protocol::protocol::StrBytes;
use wire::ErrorCode;

/// An error code with a sentence for the person who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    text: Option<String>,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, text: Some(text.into()) }
    }

    /// The sentence as responses carry it.
    pub(crate) fn message(self) -> Option<StrBytes> {
        self.text.map(StrBytes::from_string)
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, text: None }
    }
}
