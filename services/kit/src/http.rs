//! HTTP as every service speaks it: errors, bodies, pages, preconditions, idempotent writes, trace context, health.

mod body;
mod error;
mod etag;
pub mod health;
pub mod idempotency;
mod page;
mod patch;
#[cfg(test)]
mod tests;
pub mod trace;

pub use body::{Json, Path, Query};
pub use error::ApiError;
pub use etag::{ETag, IfMatch};
pub use idempotency::IdempotencyKey;
pub use page::{Page, PageQuery};
pub use patch::Patch;
