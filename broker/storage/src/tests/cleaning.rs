//! Records that are deleted: which, when their space is back, and what a crash leaves.

mod crashes;
mod deletion;
mod lab;
mod retention;
