//! Starts on a full data directory: after a clean stop and after a kill.

use std::io;

use super::{CONNECTIONS, Turn, saturating};
use crate::{
    peer::Ending,
    process,
    raw::{
        produce::{self, Until},
        topic,
    },
    row,
    time::milliseconds,
};

const PARTITIONS: i32 = 1000;
const BATCH_BYTES: usize = 16 << 10;
/// Written between the clean stop and the kill, so that there is something to recover.
const LAST_BYTES: u64 = 256 << 20;

pub(super) fn run(turn: &mut Turn<'_>) -> io::Result<()> {
    turn.with_topic("bench-start", PARTITIONS, |turn| {
        write(turn, turn.options.start_gib << 30)?;
        turn.see_peak()?;
        turn.peer.restart(Ending::Clean)?;
        turn.figures.set(row::CLEAN_START, milliseconds(turn.peer.ready_after));
        // The first record went to another topic; a peer may still be about this one's partitions.
        topic::wait_writable(&turn.peer.brokers, "bench-start", PARTITIONS)?;
        write(turn, LAST_BYTES)?;
        turn.see_peak()?;
        turn.peer.restart(Ending::Kill)?;
        turn.figures.set(row::KILLED_START, milliseconds(turn.peer.ready_after));
        turn.figures.set("memory after a kill, MB", process::resident_mb(turn.peer.pid())?);
        Ok(())
    })
}

fn write(turn: &Turn<'_>, bytes: u64) -> io::Result<()> {
    let load = saturating("bench-start", PARTITIONS, BATCH_BYTES, CONNECTIONS, Until::Sent(bytes));
    produce::run(&turn.peer.brokers, &load).map(drop)
}
