//! What runs beside the API: the reader of events and the sender of mails.

pub(crate) mod reader;
pub(crate) mod sender;
