//! `ottla dump`: what lies in the files of the storage, for people.

use config::Settings;
use storage::{CheckpointRow, CycleRow, Host, Inspection};
use wire::batch::{BatchView, RecordLimits, records};
use wire::{Offset, TimestampMs};

use crate::Failure;
use crate::cli::DumpPartition;
use crate::client::print;
use crate::node::{refused, storage_config};
use crate::table::{row, table};

/// The longest part of a key or value that is shown.
const SHOWN_BYTES: usize = 200;

fn open(settings: &Settings) -> Result<Inspection, Failure> {
    let config = storage_config(settings);
    if !config.data_dir.is_dir() {
        return Err(Failure::Refused(format!(
            "there is no data directory at {}; say which one with --data-dir",
            config.data_dir.display()
        )));
    }
    Inspection::open(&config, &Host::real()).map_err(|error| refused(&config.data_dir, &error))
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::Failed(format!("the files cannot be read: {error}"))
}

/// Keeps the first failure to print and then asks for nothing more.
struct Printer(Result<bool, Failure>);

impl Printer {
    fn print(&mut self, text: &str) -> bool {
        if matches!(self.0, Ok(true)) {
            self.0 = print(text);
        }
        matches!(self.0, Ok(true))
    }
}

pub(crate) fn journal(settings: &Settings) -> Result<(), Failure> {
    let inspection = open(settings)?;
    let mut printer = Printer(Ok(true));
    printer.print("One line for each cycle, below it the places that its bytes go to.\n");
    let visited = inspection.cycles(&mut |row| printer.print(&cycle(row)));
    visited.map_err(|error| unreadable(&error))?;
    printer.0.map(drop)
}

fn cycle(row: &CycleRow) -> String {
    let whole = if row.is_whole { "" } else { "  NOT WHOLE, or of an earlier journal" };
    let mut lines = vec![format!(
        "segment-{} at {}: cycle {}  start {}  {} bytes  synced up to {}  checkpoint {}{whole}\n",
        row.segment, row.position, row.number, row.start, row.bytes, row.synced, row.checkpoint
    )];
    lines.extend(row.places.iter().map(|place| {
        format!(
            "    {}  {:020}.log at {}  {} bytes\n",
            place.partition, place.file.0, place.position, place.bytes
        )
    }));
    lines.concat()
}

pub(crate) fn checkpoint(settings: &Settings) -> Result<(), Failure> {
    let checkpoints = open(settings)?.checkpoints().map_err(|error| unreadable(&error))?;
    for (path, checkpoint) in &checkpoints {
        let path = path.display();
        let text = match checkpoint {
            Some(checkpoint) => format!("{path}\n{}\n", one_checkpoint(checkpoint)),
            None => format!("{path}\n  missing or not whole\n\n"),
        };
        if !print(&text)? {
            break;
        }
    }
    Ok(())
}

fn one_checkpoint(row: &CheckpointRow) -> String {
    let mut text = format!(
        "  number {}  cycle {}  goes on in segment-{} at {}  start {}  leader epoch {}{}\n",
        row.number,
        row.cycle,
        row.segment,
        row.position,
        row.start,
        row.leader_epoch,
        if row.is_clean { "  of a clean stop" } else { "" }
    );
    let mut rows = vec![crate::table::row(["  PARTITION", "START", "NEXT", "FILE", "BYTES"])];
    for log in &row.logs {
        rows.push(vec![
            format!("  {}", log.partition),
            log.log_start_offset.to_string(),
            log.next_offset.to_string(),
            log.file.to_string(),
            log.bytes.to_string(),
        ]);
    }
    text.push_str(&table(&rows));
    text
}

pub(crate) fn partition(settings: &Settings, command: &DumpPartition) -> Result<(), Failure> {
    let inspection = open(settings)?;
    let Some(id) = inspection.find(&command.topic, command.partition) else {
        return Err(Failure::Failed(format!("no topic is called {}", command.topic)));
    };
    let mut printer = Printer(Ok(true));
    let mut shown = 0;
    let mut file = None;
    let stopped = inspection
        .batches(id, Offset(command.from_offset), &mut |path, position, view| {
            if command.max_batches.is_some_and(|most| shown >= most) {
                return;
            }
            shown += 1;
            if file.as_deref() != Some(path) {
                file = Some(path.to_path_buf());
                printer.print(&format!("{}\n", path.display()));
            }
            printer.print(&batch(position, view));
            if command.records {
                printer.print(&records_of(view));
            }
        })
        .map_err(|error| unreadable(&error))?;
    match stopped {
        // A running broker may be writing it.
        Some(damage) if printer.print(&format!("{damage}\n")) => Ok(()),
        _ => printer.0.map(drop),
    }
}

fn batch(position: u64, view: &BatchView<'_>) -> String {
    let header = &view.header;
    let codec = header.compression().map_or("unknown".to_owned(), |codec| format!("{codec:?}"));
    let mut parts = vec![format!(
        "  at {position}: offsets {} to {}  {} records  {} bytes  {}  times {} to {}  leader epoch {}",
        header.base_offset,
        header.last_offset(),
        header.record_count,
        view.bytes().len(),
        codec.to_lowercase(),
        time(header.base_timestamp),
        time(header.max_timestamp),
        header.partition_leader_epoch
    )];
    if header.has_producer_id() {
        parts.push(format!(
            "  producer {} epoch {} sequence {}",
            header.producer_id, header.producer_epoch, header.base_sequence
        ));
    }
    if header.is_transactional() {
        parts.push("  transactional".to_owned());
    }
    if let Ok(Some((marker, _))) = wire::batch::marker(view) {
        parts.push(format!("  marker {}", format!("{marker:?}").to_lowercase()));
    }
    parts.push("\n".to_owned());
    parts.concat()
}

fn time(timestamp: TimestampMs) -> String {
    timestamp.to_string()
}

fn records_of(view: &BatchView<'_>) -> String {
    let unreadable = |error| format!("      the records cannot be read: {error}\n");
    let mut found = match records(view, RecordLimits::default()) {
        Ok(found) => found,
        Err(error) => return unreadable(error),
    };
    let mut rows = Vec::new();
    while let Some(record) = found.next_record() {
        match record {
            Ok(record) => rows.push(row([
                "     ",
                &record.offset.to_string(),
                &time(record.timestamp),
                &shown(record.key),
                &shown(record.value),
            ])),
            Err(error) => return unreadable(error),
        }
    }
    table(&rows)
}

/// Text as it is, other bytes escaped; long ones cut.
fn shown(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    let front = bytes.get(..SHOWN_BYTES).unwrap_or(bytes);
    let text = match std::str::from_utf8(front) {
        Ok(text) => text.escape_debug().to_string(),
        Err(_other) => front.escape_ascii().to_string(),
    };
    let more = if front.len() < bytes.len() {
        format!("… {} bytes", bytes.len())
    } else {
        String::new()
    };
    format!("{text}{more}")
}
