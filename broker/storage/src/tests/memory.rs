//! Memory depends neither on the size of the logs nor on how many batches are in them.

use std::time::Duration;

use super::support::{LONG, answer, batch, close, config, create, directory, open, partition};
use crate::{
    Append, Config, Durability, Host, PartitionId, Storage,
    simulation::process::{alone, resident_bytes},
};

const MIB: usize = 1 << 20;

/// `rounds` of so many batches of `bytes` each.
fn write(storage: &Storage, to: PartitionId, (rounds, count): (usize, usize), bytes: usize) {
    let sent = batch(1, &vec![b'x'; bytes], 5);
    for _ in 0..rounds {
        let batches = (0..count).map(|_| Append { partition: to, batch: sent.clone() }).collect();
        let (done, told) = answer();
        storage.append(batches, Durability::Synced, LONG, done);
        assert!(told.recv_timeout(LONG).unwrap().iter().all(Result::is_ok));
    }
}

#[test]
fn memory_does_not_grow_with_the_logs() {
    alone("tests::memory::memory_does_not_grow_with_the_logs", || {
        let dir = directory();
        let quick = Config { clean_every: Duration::from_millis(50), ..config(dir.path()) };
        let storage = Storage::open(quick, Host::real()).unwrap().0;
        let of =
            |name: &str| partition(create(&storage, name, 1, &[("segment.bytes", "16777216")]), 0);
        let (large, small) = (of("large"), of("small"));
        // What is taken once: buffers, the cache of the map.
        write(&storage, large, (48, 64), 16 << 10);
        write(&storage, small, (40, 500), 100);
        let before = resident_bytes();
        write(&storage, large, (224, 64), 16 << 10);
        write(&storage, small, (120, 500), 100);
        let grown = resident_bytes().saturating_sub(before);
        eprintln!("{grown} bytes for 224 MiB in 14,336 batches and 60,000 small ones");
        assert!(grown < 32 * MIB, "{grown}");
        close(storage, dir.path());

        // A start needs no more for more.
        let storage = open(dir.path());
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 48 * MIB, "{grown}");
        close(storage, dir.path());
    });
}
