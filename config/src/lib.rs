//! The typed configuration of the appliance.
//!
//! Three sources, later ones win: a file in TOML, the environment (`OTTLA__SECTION__KEY`), flags of the command line.
//! `config/ottla.toml` in the repository holds every key with its default; a test keeps the two equal.
//!
//! Invariants: nothing is bound, created or opened before the whole configuration was found to be valid; every
//! refusal is one sentence that names the key and says what to do; no other crate reads files or the environment
//! for its settings.
//!
//! Absent on purpose: reloading while running, and settings per topic (those are Kafka's topic configs).

mod check;
mod keystore;
mod leaves;
mod listeners;
mod load;
mod settings;
mod show;

pub use check::{ConfigError, Origin};
pub use listeners::{AdvertisedListeners, Listeners, ListenersError};
pub use load::{Flags, Sources, load};
pub use settings::{
    Auth, Broker, Http, Log, LogFormat, Mail, Notification, Registration, ReplicationFactor,
    Service, Services, Settings, Storage,
};
pub use show::show;

/// The file as it is shipped, with every key, its default and its unit.
pub const DEFAULT_FILE: &str = include_str!("../ottla.toml");
