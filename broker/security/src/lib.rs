//! Who a client is, and what it may touch.
//!
//! Invariants:
//! - A connection that shows nothing is [`Principal::Anonymous`]; only a completed SASL exchange
//!   makes it more, and a failed one makes it nobody: [`Sasl::is_refused`].
//! - Names that begin with a closed prefix are for [`Principal::Service`] alone, for topics,
//!   groups and transactional ids alike.
//! - Secrets are compared in constant time and never shown by `Debug`.
//!
//! Absent: TLS, SCRAM, access control lists and quotas; users other than the services. Pure: no
//! clock, no randomness, no IO.

mod authorizer;
mod sasl;

pub use authorizer::{Authorizer, Principal};
pub use sasl::{AuthenticationError, MECHANISMS, Sasl};
