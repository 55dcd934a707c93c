//! The rows that more than one place names.

pub(crate) const IDLE: &str = "memory idle, MB";
pub(crate) const PEAK: &str = "memory at its peak, MB";
pub(crate) const PRODUCE: &str = "produce acks=all, MB/s";
pub(crate) const PRODUCE_CPU: &str = "broker CPU, produce acks=all, s/GB";
pub(crate) const CONSUME: &str = "consume, MB/s";
pub(crate) const CONSUME_CPU: &str = "broker CPU, consume, s/GB";
pub(crate) const ONE_P50: &str = "one in flight acks=all p50, ms";
pub(crate) const ONE_P99: &str = "one in flight acks=all p99, ms";
pub(crate) const END_TO_END_P50: &str = "end to end p50, ms";
pub(crate) const END_TO_END_P99: &str = "end to end p99, ms";
pub(crate) const PRODUCERS_64: &str = "64 producers, 100 B, one in flight, rec/s";
pub(crate) const PRODUCERS_512: &str = "512 producers, 100 B, one in flight, rec/s";
pub(crate) const RAW: &str = "raw produce, 16 KiB batches, MB/s";
pub(crate) const CLEAN_START: &str = "ready after a clean stop, ms";
pub(crate) const KILLED_START: &str = "ready after a kill, ms";
pub(crate) const ALONE_P99: &str = "4 producers, one in flight, p99 ms";
pub(crate) const BESIDE_READER_P99: &str = "4 producers beside a cold reader, p99 ms";
pub(crate) const BESIDE_FEW_P99: &str =
    "4 producers beside 15,000 records/s on 16 partitions, p99 ms";
pub(crate) const BESIDE_MANY_P99: &str =
    "4 producers beside 15,000 records/s on 1,000 partitions, p99 ms";
