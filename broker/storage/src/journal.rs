//! The journal: a ring of recycled segments that holds cycles, and the checkpoints beside them.

pub(crate) mod checkpoint;
pub(crate) mod cycle;
pub(crate) mod ring;
pub(crate) mod scan;
