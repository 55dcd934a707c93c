//! The physical limit, with no broker around it: `limit DIR [MB] [PARTITIONS] [BATCH_KB]`.
//!
//! Prints the storage engine itself, and the same bytes journalled, synced and written to
//! partition files by nothing but the calls.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().unwrap_or_else(|| "limit-data".to_owned()));
    let mut number = |default: u32| {
        arguments.next().and_then(|argument| argument.parse().ok()).unwrap_or(default)
    };
    let load = storage::limit::Load {
        megabytes: number(2048),
        partitions: number(16),
        batch_bytes: number(16) << 10,
    };
    std::fs::create_dir_all(&dir)?;
    let raw = storage::limit::raw(&dir.join("raw"), &load)?;
    println!("raw      {raw}");
    let engine = storage::limit::engine(&dir.join("engine"), &load)?;
    println!("engine   {engine}");
    let alone = storage::limit::one_in_flight(&dir.join("alone"), 2000)?;
    println!("one acks=all append of 1 KiB in flight: p50 {:?}, p99 {:?}", alone.0, alone.1);
    let sync = storage::limit::raw_one_in_flight(&dir.join("sync"), 2000)?;
    println!("one write and sync of 4 KiB by itself:  p50 {:?}, p99 {:?}", sync.0, sync.1);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
