//! Everyone who talks to an engine on the simulated machine, and what it promised them.

mod cleaning;
mod committed;
mod compacted;
mod files;
mod load;
mod model;
mod times;
mod world;

pub(super) use crate::simulation::{Crash, Dice, Faults, SimDisk, Sizes, Tally};
pub(super) use cleaning::Kind;
pub(super) use model::{Check, Event, Model, UNREADABLE, check};
pub(super) use world::World;
