//! The data directory: whose it is, who uses it, and its first start.

use std::{io, path::Path};

use uuid::Uuid;
use wire::LeaderEpoch;

use crate::{
    api::Config,
    damage::{Damage, OpenError},
    host::{Disk, Host, Lock, Open, is_unreadable, read_all},
    journal::{
        checkpoint::{Checkpoint, RingPosition},
        cycle::Secret,
        ring::{FIRST_CYCLE, FIRST_SEGMENTS, RingFiles},
    },
    reserve::Reserve,
    shared::Paths,
};

/// The data format that this code reads and writes.
const FORMAT: &str = "1";
pub(crate) const VERSION_FILE: &str = "version";
/// What else may lie in a data directory before the storage has seen it.
const KNOWN_NAMES: [&str; 9] = [
    "journal",
    "topics",
    "map",
    "services",
    "outbox",
    "service.key",
    "lock",
    "reserve",
    "version.new",
];

/// A directory that is ours and locked.
#[derive(Debug)]
pub(crate) struct DataDir {
    pub(crate) data_id: Uuid,
    pub(crate) paths: Paths,
    pub(crate) lock: Box<dyn Lock>,
}

pub(crate) fn paths(config: &Config) -> Paths {
    let data = config.data_dir.clone();
    Paths {
        topics: data.join("topics"),
        journal: config.journal_dir.clone().unwrap_or_else(|| data.join("journal")),
        map: data.join("map"),
        reserve: data.join("reserve"),
        data,
    }
}

impl Paths {
    /// The journal is not that of the data.
    pub(crate) fn other_journal(&self) -> OpenError {
        let (journal, version) = (self.journal.clone(), self.data.join(VERSION_FILE));
        OpenError::OtherJournal { journal, version }
    }
}

/// Opens the directory, or makes it at the first start.
pub(crate) fn open(config: &Config, host: &Host) -> Result<DataDir, OpenError> {
    let paths = paths(config);
    let disk = host.disk.as_ref();
    let data = &paths.data;
    at(data, disk.create_dir_all(data))?;
    let version = read_version(disk, data)?;
    if version.is_none() {
        let names = at(data, disk.list(data))?;
        let foreign =
            |name: &&String| !KNOWN_NAMES.contains(&name.as_str()) && name.as_str() != "lost+found";
        if names.iter().any(|name| foreign(&name)) {
            return Err(OpenError::Foreign(data.clone()));
        }
    }
    let lock = disk.lock(&data.join("lock")).map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            OpenError::InUse(data.clone())
        } else {
            OpenError::File { path: data.join("lock"), source: error }
        }
    })?;
    let data_id = match version {
        Some(data_id) => data_id,
        None => first_start(config, host, &paths)?,
    };
    Ok(DataDir { data_id, paths, lock })
}

/// Names the path that an error is about.
pub(crate) fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, OpenError> {
    result.map_err(|source| OpenError::File { path: path.to_path_buf(), source })
}

/// The same for what is read: where the disk fails, that is damage.
pub(crate) fn reading<T>(path: &Path, result: io::Result<T>) -> Result<T, OpenError> {
    match result {
        Err(error) if is_unreadable(&error) => {
            tracing::warn!(%error, path = %path.display(), "the disk fails");
            Err(Damage::Unreadable { path: path.to_path_buf(), records: None }.into())
        }
        result => at(path, result),
    }
}

pub(crate) fn read_version(disk: &dyn Disk, data: &Path) -> Result<Option<Uuid>, OpenError> {
    let path = data.join(VERSION_FILE);
    if !disk.exists(&path) {
        return Ok(None);
    }
    let bytes = reading(&path, read_all(disk, &path))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut lines = text.lines();
    let format = lines.next().and_then(|line| line.strip_prefix("ottla data format "));
    let Some(format) = format else { return Err(OpenError::Foreign(data.to_path_buf())) };
    if format != FORMAT {
        return Err(OpenError::Format { path: data.to_path_buf(), format: format.to_owned() });
    }
    let id = lines.next().and_then(|line| Uuid::parse_str(line).ok());
    id.map(Some).ok_or_else(|| OpenError::Foreign(data.to_path_buf()))
}

/// Makes everything, the version last. Until then the next start begins from nothing.
fn first_start(config: &Config, host: &Host, paths: &Paths) -> Result<Uuid, OpenError> {
    let disk = host.disk.as_ref();
    if holds_records(disk, &paths.topics) {
        return Err(OpenError::Damaged(Damage::Missing(paths.data.join(VERSION_FILE))));
    }
    // One whose first start was cut short has none of these yet.
    let journal = reading(&paths.journal, Checkpoint::load(disk, &paths.journal))?;
    if journal
        .is_some_and(|(found, _)| found.start > 0 || found.cycle > 0 || !found.logs.is_empty())
    {
        return Err(OpenError::Damaged(Damage::Foreign(paths.journal.clone())));
    }
    for dir in [&paths.topics, &paths.map] {
        if disk.exists(dir) {
            at(dir, disk.remove_dir_all(dir))?;
        }
    }
    for dir in [&paths.journal, &paths.topics] {
        at(dir, disk.create_dir_all(dir))?;
    }
    for name in at(&paths.journal, disk.list(&paths.journal))? {
        if name.starts_with("segment-") || name.starts_with("checkpoint-") {
            at(&paths.journal, disk.remove_file(&paths.journal.join(name)))?;
        }
    }
    let mut random = [0; 48];
    at(&paths.data, host.random.fill(&mut random))?;
    let (id, secret) = random.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    let data_id = uuid::Builder::from_random_bytes(*id).into_uuid();
    let ring = RingFiles {
        disk: std::sync::Arc::clone(&host.disk),
        dir: paths.journal.clone(),
        data_id,
        segment_bytes: config.journal_segment_bytes,
    };
    // With one alone, a disk that is full before there is another could never go on.
    for segment in 0..FIRST_SEGMENTS {
        at(&paths.journal, ring.make(segment))?;
    }
    let mut checkpoint = Checkpoint {
        number: 1,
        data_id,
        secret: Secret(secret.first_chunk().copied().unwrap_or_default()),
        cycle: 0,
        cycle_start: 0,
        ring: RingPosition { segment: 0, position: FIRST_CYCLE },
        start: 0,
        leader_epoch: LeaderEpoch(0),
        clean: true,
        identity: None,
        logs: std::collections::BTreeMap::new(),
    };
    for number in 1..=2 {
        checkpoint.number = number;
        at(&paths.journal, checkpoint.store(disk, &paths.journal))?;
    }
    at(&paths.journal, disk.sync_dir(&paths.journal))?;
    let (disk_of, path) = (std::sync::Arc::clone(&host.disk), paths.reserve.clone());
    let reserve = Reserve::find(disk_of, path, config.journal_segment_bytes, FIRST_SEGMENTS);
    at(&paths.reserve, reserve.make(FIRST_SEGMENTS))?;
    at(&paths.data, disk.sync_dir(&paths.data))?;
    write_version(disk, &paths.data, data_id)?;
    Ok(data_id)
}

/// Without it a start refuses what the directory holds.
pub(crate) fn remove_version(disk: &dyn Disk, data: &Path) -> Result<(), OpenError> {
    let path = data.join(VERSION_FILE);
    if disk.exists(&path) {
        at(&path, disk.remove_file(&path))?;
    }
    at(data, disk.sync_dir(data))
}

pub(crate) fn write_version(disk: &dyn Disk, data: &Path, data_id: Uuid) -> Result<(), OpenError> {
    let (new, path) = (data.join("version.new"), data.join(VERSION_FILE));
    let text = format!("ottla data format {FORMAT}\n{data_id}\n");
    let write = || {
        let file = disk.open(&new, Open::Write)?;
        file.set_len(0)?;
        file.write_at(text.as_bytes(), 0)?;
        file.sync()?;
        disk.rename(&new, &path)?;
        disk.sync_dir(data)
    };
    at(&path, write())
}

/// Whether any partition has bytes in its log.
pub(crate) fn holds_records(disk: &dyn Disk, topics: &Path) -> bool {
    let list = |path: &Path| disk.list(path).unwrap_or_default();
    let is_log =
        |name: &str| Path::new(name).extension().is_some_and(|extension| extension == "log");
    list(topics).iter().any(|topic| {
        let topic = topics.join(topic);
        list(&topic)
            .iter()
            .any(|partition| list(&topic.join(partition)).iter().any(|name| is_log(name)))
    })
}
