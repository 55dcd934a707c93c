use wire::TimestampMs;

/// The moment of an operation on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock: what records carry and what must survive a restart.
    pub timestamp: TimestampMs,
    /// A clock that never jumps, for sessions and rebalances; its origin is the caller's.
    pub monotonic_ms: u64,
}
