//! A directory and the disk under it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use storage::{Host, SyncLatency, sync_latency};

use crate::table::row;

/// A disk that is faster than this either protects its cache against a power loss or ignores flushes.
const SUSPICIOUS: Duration = Duration::from_micros(20);

/// What was found out about a directory.
#[derive(Debug)]
pub(super) struct Place {
    pub role: &'static str,
    pub dir: PathBuf,
    free: u64,
    latency: SyncLatency,
    mount: Option<Mount>,
    /// Whether the device says that it has a volatile cache.
    volatile_cache: Option<bool>,
}

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    point: PathBuf,
    kind: String,
    source: String,
    options: String,
}

impl Place {
    pub(super) fn look(role: &'static str, dir: &Path) -> io::Result<Self> {
        let dir = fs::canonicalize(dir)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mount = mount_of(&mounts, &dir);
        Ok(Self {
            role,
            free: Host::real().disk.free_bytes(&dir)?,
            latency: sync_latency(&dir)?,
            volatile_cache: volatile_cache(fs::metadata(&dir)?.dev()),
            mount,
            dir,
        })
    }

    /// Rows of two cells.
    pub(super) fn facts(&self) -> Vec<Vec<String>> {
        let unknown = "unknown".to_owned();
        let (system, options) = match &self.mount {
            Some(mount) => (format!("{} on {}", mount.kind, mount.source), mount.options.clone()),
            None => (unknown.clone(), unknown.clone()),
        };
        let sync = format!(
            "{} median, {} p99 for 4 KiB",
            milliseconds(self.latency.median),
            milliseconds(self.latency.p99)
        );
        let cache = match self.volatile_cache {
            Some(true) => "write back (the device has to be told to flush it)".to_owned(),
            Some(false) => "write through".to_owned(),
            None => unknown,
        };
        let direct =
            if self.latency.is_direct { "yes" } else { "no; the journal uses the page cache" };
        vec![
            row(["  file system", &system]),
            row(["  mounted with", &options]),
            row(["  free", &format!("{} MiB", self.free >> 20)]),
            row(["  sync", &sync]),
            row(["  O_DIRECT", direct]),
            row(["  write cache", &cache]),
        ]
    }

    fn kind(&self) -> &str {
        self.mount.as_ref().map_or("", |mount| mount.kind.as_str())
    }

    fn is_memory(&self) -> bool {
        matches!(self.kind(), "tmpfs" | "ramfs")
    }

    fn is_elsewhere(&self) -> bool {
        let kind = self.kind();
        kind.starts_with("nfs")
            || kind.starts_with("fuse")
            || matches!(kind, "" | "cifs" | "smb3" | "9p" | "virtiofs" | "overlay" | "ceph")
    }

    fn has_no_barriers(&self) -> bool {
        self.mount.as_ref().is_some_and(|mount| {
            mount.options.split(',').any(|option| option == "nobarrier" || option == "barrier=0")
        })
    }

    /// Sentences about what a sync does not do here.
    pub(super) fn cautions(&self) -> Vec<String> {
        let dir = self.dir.display();
        let mut found = Vec::new();
        if self.is_memory() {
            found.push(format!("{dir} is memory: it is gone with the power, and with a reboot.\n"));
        } else if self.latency.median < SUSPICIOUS {
            found.push(format!(
                "{dir}: a sync takes {}, which no disk does; its cache is protected against a power loss, or it \
                 ignores flushes.\n",
                milliseconds(self.latency.median)
            ));
        }
        if self.has_no_barriers() {
            found.push(format!(
                "{dir} is mounted without barriers: a sync does not reach the device. Mount it without that option.\n"
            ));
        }
        if self.is_elsewhere() {
            let kind = self.kind();
            found.push(format!(
                "{dir}: what a sync does on \"{kind}\" is decided by what is under it; put the data on a local disk.\n"
            ));
        }
        found
    }
}

/// Whether what was answered with acks=all is there after a power cut.
pub(super) fn power_loss(places: &[Place]) -> String {
    let any = |is: fn(&Place) -> bool| places.iter().any(is);
    if any(Place::is_memory) {
        "no: this is memory"
    } else if any(Place::has_no_barriers) {
        "no: mounted without barriers"
    } else if any(Place::is_elsewhere) {
        "cannot be told on this file system"
    } else if places.iter().all(|place| place.volatile_cache == Some(false)) {
        "yes: the device says that it has no volatile cache"
    } else {
        "yes, if the device honours flushes"
    }
    .to_owned()
}

fn milliseconds(time: Duration) -> String {
    format!("{}.{:03} ms", time.as_millis(), time.as_micros() % 1000)
}

/// The mount that a directory lies on: the last of those with the longest path.
fn mount_of(mounts: &str, dir: &Path) -> Option<Mount> {
    let on = mounts.lines().filter_map(parse_mount).filter(|mount| dir.starts_with(&mount.point));
    on.max_by_key(|mount| mount.point.components().count())
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (before, behind) = line.split_once(" - ")?;
    let mut before = before.split(' ');
    let mut behind = behind.split(' ');
    let device = before.nth(2)?.to_owned();
    let point = PathBuf::from(before.nth(1)?.replace("\\040", " "));
    let own = before.next()?;
    let (kind, source) = (behind.next()?.to_owned(), behind.next()?.to_owned());
    let options = format!("{own},{}", behind.next()?);
    Some(Mount { device, point, kind, source, options })
}

/// Asks the block device, which for a partition is the disk above it.
fn volatile_cache(dev: u64) -> Option<bool> {
    let (major, minor) = ((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff_ff00));
    let device = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    let read = |path: &str| fs::read_to_string(device.join(path)).ok();
    let cache = read("queue/write_cache").or_else(|| read("../queue/write_cache"))?;
    Some(cache.trim() == "write back")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
36 27 8:17 / /srv/two\\040words rw,noatime shared:1 - xfs /dev/sdb1 rw,nobarrier
40 27 0:25 / /srv rw - tmpfs tmpfs rw,size=1k";

    fn place(dir: &str, micros: u64, volatile_cache: Option<bool>) -> Place {
        let median = Duration::from_micros(micros);
        Place {
            role: "data",
            dir: dir.into(),
            free: 0,
            latency: SyncLatency { median, p99: median, is_direct: true },
            mount: mount_of(MOUNTS, Path::new(dir)),
            volatile_cache,
        }
    }

    #[test]
    fn the_longest_mount_point_holds_the_directory() {
        let kind = |dir| mount_of(MOUNTS, Path::new(dir)).unwrap().kind;
        assert_eq!(kind("/var/lib/ottla"), "ext4");
        assert_eq!(kind("/srv/two words/ottla"), "xfs");
        assert_eq!(kind("/srv/ottla"), "tmpfs");
        let options = mount_of(MOUNTS, Path::new("/srv/two words")).unwrap().options;
        assert_eq!(options, "rw,noatime,rw,nobarrier");
    }

    #[test]
    fn what_a_sync_promises_depends_on_what_is_under_it() {
        let of = |place: Place| (power_loss(&[place]), ());
        assert_eq!(of(place("/var", 200, Some(true))).0, "yes, if the device honours flushes");
        assert!(of(place("/var", 200, Some(false))).0.starts_with("yes: the device says"));
        assert_eq!(of(place("/srv/x", 2, None)).0, "no: this is memory");
        assert!(of(place("/srv/two words", 200, None)).0.starts_with("no: mounted without"));
        assert_eq!(place("/var", 200, None).cautions(), Vec::<String>::new());
        assert!(place("/var", 3, None).cautions()[0].contains("0.003 ms"));
        assert_eq!(place("/srv/x", 2, None).cautions().len(), 1);
    }
}
