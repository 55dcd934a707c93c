//! `ottla doctor`: what this machine promises, and whether what is stored is whole.

mod place;

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};

use config::Settings;
use rustix::process::{Resource, getrlimit};
use storage::{Host, Inspection, OpenError, RepairReport};

use crate::Failure;
use crate::client::print;
use crate::node::{refused, storage_config};
use crate::table::{row, table};
use place::Place;

/// Fewer open files than this are not enough for a broker with many partitions and clients.
const OPEN_FILES: u64 = 8192;

/// Looks at everything and changes nothing, unless asked to repair.
pub(crate) fn doctor(settings: &Settings, repair: bool) -> Result<(), Failure> {
    let config = storage_config(settings);
    if !config.data_dir.is_dir() {
        return Err(Failure::Refused(format!(
            "there is no data directory at {}; say which one with --data-dir",
            config.data_dir.display()
        )));
    }
    let host = Host::real();
    if repair {
        let report = storage::repair(&config, &host, &mut progress("reading"))
            .map_err(|error| refused(&config.data_dir, &error))?;
        return print(&repaired(&report)).map(drop);
    }
    let mut places = vec![look("data", &config.data_dir)?];
    if let Some(journal) = config.journal_dir.as_deref().filter(|journal| journal.is_dir()) {
        places.push(look("journal", journal)?);
    }
    print(&report(&places))?;
    match Inspection::open(&config, &host) {
        Ok(inspection) if inspection.is_in_use() => print(
            "\nA broker is using the data directory, so its files were not read through; stop it for that.\n",
        )
        .map(drop),
        Ok(inspection) => read_through(&inspection, &config.data_dir),
        Err(OpenError::Foreign(_)) => print("\nNothing is stored here yet.\n").map(drop),
        Err(error) => Err(refused(&config.data_dir, &error)),
    }
}

fn look(role: &'static str, dir: &Path) -> Result<Place, Failure> {
    Place::look(role, dir)
        .map_err(|error| Failure::Failed(format!("cannot measure in {}: {error}", dir.display())))
}

fn read_through(inspection: &Inspection, data_dir: &Path) -> Result<(), Failure> {
    let damages =
        inspection.damages(&mut progress("reading")).map_err(|error| refused(data_dir, &error))?;
    if damages.is_empty() {
        return print("\nEverything that is stored is whole.\n").map(drop);
    }
    let lines: Vec<String> = damages.iter().map(|damage| format!("  {damage}\n")).collect();
    print(&format!("\nDamaged:\n{}", lines.concat()))?;
    Err(Failure::Failed(format!(
        "the data in {} is damaged; restore a backup, or keep what is whole with `ottla doctor --repair`",
        data_dir.display()
    )))
}

/// Tells a person who waits how far it has got.
fn progress(what: &'static str) -> impl FnMut(u64, u64) {
    let mut told = 0;
    let tells = stderr().is_terminal();
    move |done, all| {
        let percent = done.saturating_mul(100) / all.max(1);
        if tells && percent > told {
            told = percent;
            // Whoever waits sees it at the next percent.
            write!(stderr(), "\r{what} {percent} %{}", if done >= all { "\n" } else { "" })
                .unwrap_or_default();
        }
    }
}

fn report(places: &[Place]) -> String {
    let mut rows = Vec::new();
    for place in places {
        rows.push(row([place.role, &place.dir.display().to_string()]));
        rows.extend(place.facts());
    }
    rows.push(row(["process", ""]));
    let files = open_files();
    let few = files.is_some_and(|files| files < OPEN_FILES);
    let files = files.map_or("no limit".to_owned(), |files| files.to_string());
    let advice = if few { ", which is few: `LimitNOFILE=65536` in the unit" } else { "" };
    rows.push(row(["  open files", &format!("{files}{advice}")]));
    let power_loss = place::power_loss(places);
    let written = if power_loss.starts_with("yes") {
        "may lose the newest, as a suffix"
    } else {
        &power_loss
    };
    let held = table(&[
        row(["ACKS", "ANSWERED WHEN", "SURVIVES KILL -9", "SURVIVES POWER LOSS"]),
        row(["0", "never", "no promise", "no promise"]),
        row(["1", "the journal's write returned", "yes", written]),
        row(["all", "the journal's sync returned", "yes", &power_loss]),
    ]);
    let cautions: String = places.iter().flat_map(Place::cautions).collect();
    format!("{}\n{held}{cautions}", table(&rows))
}

/// What `serve` would raise its limit to here; a service's own is in its unit. No limit if none.
fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

fn repaired(report: &RepairReport) -> String {
    let mut text = format!(
        "Repaired. {} partitions lost nothing; {} cycles of the journal were written again; the leader epoch is {}.\n",
        report.untouched, report.cycles, report.leader_epoch
    );
    if report.is_again {
        text.push_str(
            "The file `version` was missing, as after a repair that was cut short: what such a one took out is in \
             `*.damaged*` beside the logs, and what it found lost is not said here again.\n",
        );
    }
    if !report.partitions.is_empty() {
        let mut rows = vec![row(["PARTITION", "KEPT", "LOST", "SET ASIDE"])];
        for one in &report.partitions {
            let range = |range: &std::ops::Range<_>| format!("{} to {}", range.start, range.end);
            let lost: Vec<String> = one.lost.iter().map(range).collect();
            let lost = if lost.is_empty() { "nothing known".to_owned() } else { lost.join(", ") };
            let name = |path: &PathBuf| path.display().to_string();
            let files: Vec<String> = one.damaged.iter().map(name).collect();
            rows.push(vec![one.partition.to_string(), range(&one.kept), lost, files.join(" ")]);
        }
        text.push_str(&table(&rows));
        text.push_str("The second offset of each range is the first that is not in it.\n");
    }
    for one in &report.partitions {
        let partition = &one.partition;
        let torn = one.transactions.iter().map(|(first, producer)| {
            format!(
                "{partition}: the transaction of producer {producer} from offset {first} on may be there in part.\n"
            )
        });
        text.extend(torn);
    }
    let unknown = |dir: &PathBuf| {
        let dir = dir.display();
        format!("{dir}: of a topic that nothing is known of any more; left as it is\n")
    };
    text.push_str(&report.unknown.iter().map(unknown).collect::<Vec<_>>().concat());
    text
}
