//! The raw generator: requests that were encoded beforehand, over plain TCP, so that the broker is the limit and not the
//! client. One thread drives all connections.

pub(crate) mod connection;
pub(crate) mod fetch;
pub(crate) mod produce;
pub(crate) mod topic;

use std::{io, time::Duration};

use tokio::runtime::{Builder, Runtime};

/// How long one answer may take before the run is given up.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// The one thread of the generator.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
