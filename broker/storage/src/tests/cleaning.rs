//! Records that are deleted: which, when their space is back, and what a crash leaves.

mod compaction;
mod crashes;
mod deletion;
mod lab;
mod lags;
mod producers;
mod retention;
mod status;
