//! The engine as its callers see it, on this machine's disk.

mod basics;
mod cleaning;
mod crashes;
mod damage;
mod faults;
mod images;
mod map;
mod memory;
mod reading;
mod repair;
mod sim;
mod support;
mod worlds;
