//! Who is told about what, and what becomes of a mail: pure functions, time is an argument.

pub(crate) mod audience;
pub(crate) mod breaker;
pub(crate) mod happening;
pub(crate) mod letter;
pub(crate) mod mail;
pub(crate) mod preferences;
