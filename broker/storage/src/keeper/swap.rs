//! A file written anew takes the place of those it was made of.

use std::io;

use wire::{Offset, TimestampMs};

use crate::{
    api::PartitionId,
    log_state::Row,
    partition::Segment,
    segment_file::{put_in_place, remove_cleaned},
    shared::Shared,
};

/// What is known of a file that was written anew.
#[derive(Clone, Debug)]
pub(crate) struct Swap {
    pub(crate) partition: PartitionId,
    /// The files from here on go,
    pub(crate) base: Offset,
    /// up to here.
    pub(crate) end: Offset,
    pub(crate) generation: u64,
    pub(crate) segment: Segment,
    pub(crate) rows: Vec<Row>,
    /// Markers of aborted transactions that are no more.
    pub(crate) dropped_markers: Vec<Offset>,
}

/// What the cleaner asks of the committer.
#[derive(Debug)]
pub(crate) enum Clean {
    Swap(Box<Swap>),
    /// Everything in front of the offset is clean.
    CleanedTo(PartitionId, Offset),
    /// The catalogue is to be recorded once more, behind this partition, so that what was recorded
    /// in front of `from` may go.
    RecordCatalogue {
        from: Option<Offset>,
        after: Option<PartitionId>,
    },
    /// Producers that have been silent since are to be forgotten.
    ExpireProducers {
        before: TimestampMs,
    },
}

/// Before the checkpoint: the record of the swap lies in the ring until that is synced, and a
/// start that finds it there does the same.
pub(crate) fn swap_files(shared: &Shared, swaps: &[Swap]) -> io::Result<()> {
    if swaps.is_empty() {
        return Ok(());
    }
    for swap in swaps {
        // Positions in the map are those of the old files: until they are replaced nobody may
        // believe them, nor the next start.
        shared.map.forget(swap.partition, swap.base, swap.end)?;
        // A marker that the new file does not have would hide what its producer wrote afterwards.
        for marker in &swap.dropped_markers {
            shared.map.remove_aborted(swap.partition, *marker)?;
        }
    }
    shared.map.flush()?;
    let disk = shared.host.disk.as_ref();
    for swap in swaps {
        let Some(partition) = shared.partition(swap.partition) else { continue };
        let replaced = partition.published().swap(swap);
        if replaced.is_empty() {
            // They were deleted meanwhile.
            remove_cleaned(disk, &partition.dir, |base, generation| {
                (base, generation) == (swap.base, swap.generation)
            })?;
            continue;
        }
        let files = shared.leftovers.retire(disk, &replaced);
        let moved = swap
            .segment
            .file
            .settle(|| put_in_place(disk, &partition.dir, swap.base..swap.end, swap.generation));
        super::unless_gone(moved)?;
        shared.leftovers.add_files(files);
    }
    Ok(())
}

/// Afterwards: the map learns the new positions with the partition's other rows.
pub(crate) fn finish_swaps(shared: &Shared, swaps: &[Swap]) {
    for swap in swaps {
        if let Some(partition) = shared.partition(swap.partition) {
            let mut published = partition.published();
            published.pending_swaps = published.pending_swaps.saturating_sub(1);
        }
    }
}

/// What the map has of aborted transactions, now that some are gone.
pub(crate) fn update_map(shared: &Shared, swaps: &[Swap]) -> io::Result<()> {
    for swap in swaps {
        let last = shared.map.last_aborted(swap.partition)?;
        if let Some(partition) = shared.partition(swap.partition) {
            partition.published().mapped_aborted = last;
        }
    }
    Ok(())
}
