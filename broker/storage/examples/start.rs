//! How long a start takes: after a clean stop, after a kill, and when the map has to be built again.
//!
//! `cargo run --release -p storage --example start -- DIRECTORY GIBIBYTES PARTITIONS`
//!
//! Makes the data in the directory, which must not exist, and removes it at the end. Each start is a
//! process of its own; "cold" ones come after the page cache was emptied, if this user may do that.
#![expect(clippy::print_stdout, clippy::expect_used, reason = "a program for the terminal")]

use std::{
    collections::BTreeMap,
    error::Error,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::sync_channel,
    time::Duration,
};

use bytes::Bytes;
use storage::{Append, CatalogueChange, Config, Durability, Host, PartitionId, Storage};
use wire::{
    PartitionIndex, TimestampMs,
    batch::{BatchBuilder, NewRecord},
};

const BATCH_BYTES: usize = 16 << 10;
const AT_ONCE: usize = 64;
/// What is not yet in a checkpoint when the process is killed.
const LAST_BATCHES: usize = 2000;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts[..] {
        ["start", dir, end] => start(Path::new(dir), end),
        // In a process of its own: its last checkpoint may outlast the handle, and keeps the directory.
        ["fill", dir, gibibytes, partitions] => {
            fill(Path::new(dir), gibibytes.parse()?, partitions.parse()?)
        }
        [dir, gibibytes, partitions] => measure(dir, gibibytes, partitions),
        _ => Err("say: DIRECTORY GIBIBYTES PARTITIONS".into()),
    }
}

fn measure(dir: &str, gibibytes: &str, partitions: &str) -> Outcome<()> {
    let path = PathBuf::from(dir);
    std::fs::create_dir(&path)?;
    run(&["fill", dir, gibibytes, partitions])?;
    println!("{gibibytes} GiB in {partitions} partitions, ready after:");
    for (what, before, cold) in [
        ("a clean stop", "stop", false),
        ("a clean stop, cold", "stop", true),
        ("a kill", "kill", false),
        ("a kill, cold", "kill", true),
        ("a lost map", "lose", false),
        ("a lost map, cold", "lose", true),
    ] {
        let end = if before == "kill" { "kill" } else { "stop" };
        run(&["start", dir, end])?;
        if before == "lose" {
            std::fs::remove_dir_all(path.join("map"))?;
        }
        if cold && !empty_page_cache() {
            continue;
        }
        let took = run(&["start", dir, "stop"])?;
        println!("  {what}: {took}");
    }
    std::fs::remove_dir_all(&path)?;
    Ok(())
}

fn empty_page_cache() -> bool {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// Does this in a process of its own; answers what it prints.
fn run(arguments: &[&str]) -> Outcome<String> {
    let program = std::env::current_exe()?;
    let child = Command::new(program).args(arguments).stderr(Stdio::inherit()).output()?;
    Ok(String::from_utf8(child.stdout)?.trim().to_owned())
}

fn start(dir: &Path, end: &str) -> Outcome<()> {
    let host = Host::real();
    let began = host.clock.monotonic();
    let (storage, report) = Storage::open(Config::new(dir.to_path_buf()), host.clone())?;
    let took = host.clock.monotonic().saturating_sub(began);
    println!("{} ms ({} MiB replayed)", took.as_millis(), report.bytes_replayed >> 20);
    if end == "kill" {
        let catalogue = storage.catalogue();
        let topic = catalogue.by_name.get("t").ok_or("no topic")?;
        append(&storage, topic.id, topic.partitions, LAST_BATCHES)?;
        std::process::abort();
    }
    storage.shutdown();
    Ok(())
}

fn fill(dir: &Path, gibibytes: usize, partitions: i32) -> Outcome<()> {
    let (storage, _) = Storage::open(Config::new(dir.to_path_buf()), Host::real())?;
    let (done, told) = sync_channel(1);
    let change =
        CatalogueChange::CreateTopic { name: "t".to_owned(), partitions, configs: BTreeMap::new() };
    storage.change_catalogue(change, Box::new(move |made| done.send(made).expect("it waits")));
    let topic = told.recv()??;
    append(&storage, topic, partitions, (gibibytes << 30) / BATCH_BYTES)?;
    storage.shutdown();
    Ok(())
}

fn append(storage: &Storage, topic: wire::TopicId, partitions: i32, batches: usize) -> Outcome<()> {
    let batch = batch();
    let (done, told) = sync_channel(AT_ONCE);
    let mut sent = 0;
    let mut next = 0;
    while sent < batches {
        let count = AT_ONCE.min(batches - sent);
        let appends = (0..count)
            .map(|_| {
                next = (next + 1) % partitions;
                let partition = PartitionId { topic, partition: PartitionIndex(next) };
                Append { partition, batch: batch.clone() }
            })
            .collect();
        let done = done.clone();
        let answer = Box::new(move |results: Vec<_>| done.send(results).expect("it waits"));
        storage.append(appends, Durability::Synced, Duration::from_mins(1), answer);
        sent += count;
        for result in told.recv()? {
            result?;
        }
    }
    Ok(())
}

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new();
    let value = vec![b'x'; 1000];
    while builder.size_in_bytes() + 1010 < BATCH_BYTES {
        let value = Some(value.as_slice());
        builder.push(NewRecord { timestamp: TimestampMs(1), key: None, value, headers: &[] });
    }
    builder.build()
}
