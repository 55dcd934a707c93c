//! The machine stops after each of its writes; what was answered holds after the next start.

use bytes::Bytes;
use wire::Offset;

use super::lab::Lab;
use crate::{
    PartitionId,
    tests::{
        sim::{Crash, Dice},
        support::{batch, produced},
    },
};

/// What was answered before the machine stopped.
#[derive(Default)]
struct Promised {
    partition: Option<PartitionId>,
    appended: Vec<(Offset, Bytes)>,
    log_start: Offset,
    /// The greatest log start that was asked for.
    asked: Offset,
    last_sequence: Option<i32>,
}

fn append(lab: &mut Lab, promised: &mut Promised, batch: Bytes) -> Option<()> {
    let appended = lab.append(promised.partition?, batch.clone())?.ok()?;
    promised.appended.push((appended.base_offset, batch));
    Some(())
}

fn delete(lab: &mut Lab, promised: &mut Promised, before: i64) -> Option<()> {
    promised.asked = promised.asked.max(Offset(before));
    promised.log_start = lab.delete(promised.partition?, Some(before))?.ok()?;
    lab.settle();
    Some(())
}

/// Appends and deletes, until the machine stops.
fn live(lab: &mut Lab, promised: &mut Promised) -> Option<()> {
    lab.start().ok()?;
    promised.partition = Some(lab.create(&[])?);
    for (round, before) in [5, 9, 0, 24].into_iter().enumerate() {
        for index in 0..3 {
            let sequence = i32::try_from(round).unwrap() * 3 + index;
            append(lab, promised, produced(7, 0, sequence, 1))?;
            promised.last_sequence = Some(sequence);
            append(lab, promised, batch(1, &[7; 150], 5))?;
        }
        delete(lab, promised, before)?;
    }
    append(lab, promised, batch(1, &[8; 150], 5))?;
    lab.checkpoint();
    (!lab.engine().shared.has_ended()).then_some(())
}

fn verify(lab: &mut Lab, promised: &Promised) {
    let Some(partition) = promised.partition else { return };
    let log_start = lab.offsets(partition).log_start_offset;
    assert!(log_start >= promised.log_start, "{log_start} < {}", promised.log_start);
    assert!(log_start <= promised.asked, "{log_start} > {}", promised.asked);
    let found = lab.read(partition);
    for (offset, batch) in promised.appended.iter().filter(|(offset, _)| *offset >= log_start) {
        let same =
            |found: &&Bytes| found[..8] == offset.0.to_be_bytes() && found[16..] == batch[16..];
        assert!(found.iter().any(|found| same(&found)), "{offset} is lost");
    }
    if let Some(last) = promised.last_sequence {
        let again = lab.append(partition, produced(7, 0, last, 1)).unwrap().unwrap();
        assert!(again.duplicate);
    }
}

fn check(lab: &mut Lab, promised: &Promised) {
    lab.start().unwrap();
    verify(lab, promised);
    let states = lab.engine().committer.states();
    lab.start().unwrap();
    assert_eq!(lab.engine().committer.states(), states, "a second start finds the same");
    let Some(partition) = promised.partition else { return };
    let log_start = lab.offsets(partition).log_start_offset;
    lab.append(partition, batch(1, b"after", 5)).unwrap().unwrap();
    lab.checkpoint();
    let bases = lab.logs(partition);
    let dead = bases.windows(2).filter(|pair| pair[1] <= log_start.0).count();
    assert_eq!(dead, 0, "{bases:?} with the log's start at {log_start}");
    lab.start().unwrap();
    verify(lab, promised);
}

#[test]
fn a_log_start_that_was_answered_outlives_a_crash_at_any_moment() {
    let (mut stop, mut completed) = (0, false);
    while !completed {
        for how in [Crash::Kill, Crash::Power] {
            let mut lab = Lab::new(700);
            let mut promised = Promised::default();
            lab.disk.stop_after_writes(Some(stop));
            completed = live(&mut lab, &mut promised).is_some();
            lab.engine = None;
            lab.disk.crash(how, &mut Dice::new(stop + 1));
            if promised.partition.is_some() {
                check(&mut lab, &promised);
            }
        }
        stop += 1;
    }
    assert!(stop > 80, "{stop} writes");
}
