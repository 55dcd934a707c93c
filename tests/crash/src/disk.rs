//! A disk in memory that knows what was synced. When the power goes, of the rest it keeps what chance wants: nothing, all,
//! older changes only, or here a page and there half a page. Names are changes of their directory, and are lost
//! likewise: a file that was synced is gone if its directory was not. The journal lies on a mirror whose halves may
//! differ in what was not synced: what one boot did not find, a later one may. A disk may also fail once without losing
//! its power, and be slow.

mod file;
mod mount;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::time::Duration;

pub(crate) use mount::Mounted;

use crate::random::Random;
use file::{File, Mercy};

/// A file's or directory's number.
pub(crate) type Node = u64;

pub(crate) const ROOT: Node = 1;

/// Where a segment of the journal has its first cycle.
const FIRST_CYCLE: u64 = 4096;

/// What a fault waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Anything that changes the disk, or a sync.
    Anything,
    Checkpoint,
    /// A log goes on in a new file, or what is known about a full one is written beside it.
    Seal,
    /// A file of a log goes.
    Clean,
    /// Compaction writes a file anew.
    Compact,
    /// What compaction wrote takes the place of a log's file.
    Swap,
    /// The journal is synced.
    Sync,
    /// The journal is synced, and what is synced is the first cycle in one of its segments.
    Turn,
}

/// What comes so many operations after the sign.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fuse {
    sign: Sign,
    after: u64,
    lit: bool,
    fails: bool,
}

impl Fuse {
    /// The power goes.
    pub(crate) fn new(sign: Sign, after: u64) -> Self {
        Self { sign, after, lit: sign == Sign::Anything, fails: false }
    }

    /// The operation that gives the sign fails, and no other.
    pub(crate) fn failure(sign: Sign) -> Self {
        Self { fails: true, ..Self::new(sign, 0) }
    }
}

/// What a power cut does to the journal's mirror.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mirror {
    #[default]
    Chance,
    /// Nothing that was not synced is there at the next boot.
    Hides,
    /// All that was ever lost is there again.
    Shows,
}

#[derive(Debug, Default)]
struct Directory {
    live: BTreeMap<OsString, Node>,
    synced: BTreeMap<OsString, Node>,
    /// Each is one or two names, which change together or not at all.
    unsynced: Vec<Vec<(OsString, Option<Node>)>>,
}

impl Directory {
    fn change(&mut self, names: Vec<(OsString, Option<Node>)>) {
        apply(&mut self.live, &names);
        self.unsynced.push(names);
    }

    fn sync(&mut self) {
        for names in self.unsynced.drain(..) {
            apply(&mut self.synced, &names);
        }
    }
}

fn apply(entries: &mut BTreeMap<OsString, Node>, names: &[(OsString, Option<Node>)]) {
    for (name, node) in names {
        match node {
            Some(node) => entries.insert(name.clone(), *node),
            None => entries.remove(name),
        };
    }
}

#[derive(Debug)]
enum Kind {
    File(File),
    Directory(Directory),
}

#[derive(Debug)]
struct Entry {
    /// The last name it had; what a fault waits for is told by names.
    name: OsString,
    kind: Kind,
}

/// What a power cut took, and what was going on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Loss {
    pub(crate) files: u64,
    pub(crate) torn_files: u64,
    pub(crate) names: u64,
    /// Of the journal's segments, how many had changes that were not synced.
    pub(crate) unsynced_journal: u64,
    pub(crate) torn_journal: u64,
    pub(crate) unsynced_checkpoint: u64,
    /// Segments of the journal in which something came back that had been lost.
    pub(crate) resurfaced: u64,
}

#[derive(Debug)]
pub(crate) struct Disk {
    nodes: BTreeMap<Node, Entry>,
    next: Node,
    fuse: Option<Fuse>,
    /// Without power nothing changes any more.
    pub(crate) has_power: bool,
    /// An operation failed as it was told to.
    pub(crate) has_failed: bool,
    /// By how much files may still grow, if that is not as they like.
    pub(crate) room: Option<u64>,
    /// How long a sync takes, but for the journal's.
    pub(crate) sync_takes: Duration,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let root = Entry { name: OsString::new(), kind: Kind::Directory(Directory::default()) };
        let nodes = BTreeMap::from([(ROOT, root)]);
        Self {
            nodes,
            next: ROOT + 1,
            fuse: None,
            has_power: true,
            has_failed: false,
            room: None,
            sync_takes: Duration::ZERO,
        }
    }

    pub(crate) fn arm(&mut self, fuse: Option<Fuse>) {
        self.fuse = fuse;
    }

    /// Everything that changes the disk passes here; `false` if the power is gone or the disk fails, and then it must
    /// not happen.
    fn pass(&mut self, sign: Sign) -> bool {
        let Some(fuse) = &mut self.fuse else { return self.has_power };
        fuse.lit |= fuse.sign == sign || fuse.sign == Sign::Sync && sign == Sign::Turn;
        if !fuse.lit {
            return self.has_power;
        }
        if fuse.after > 0 {
            fuse.after -= 1;
            return self.has_power;
        }
        if fuse.fails {
            self.has_failed = true;
        } else {
            self.has_power = false;
        }
        self.fuse = None;
        false
    }

    /// Takes the room that a file needs to be so long; `false` if there is not enough.
    fn grow(&mut self, node: Node, length: u64) -> bool {
        let had = self.file(node).map_or(0, |file| file.length());
        match self.room.map(|room| (room + had).checked_sub(length)) {
            Some(None) => false,
            Some(left) => {
                self.room = left;
                true
            }
            None => true,
        }
    }

    /// What a sync of this file tells.
    fn sign_of_sync(&mut self, node: Node, otherwise: Sign) -> Sign {
        let is_journal =
            self.nodes.get(&node).is_some_and(|entry| is_journal(&entry.name.to_string_lossy()));
        match self.file(node).filter(|_| is_journal) {
            Some(file) if file.has_unsynced_bytes_at(FIRST_CYCLE) => Sign::Turn,
            Some(_) => Sign::Sync,
            None => otherwise,
        }
    }

    fn directory(&mut self, node: Node) -> Option<&mut Directory> {
        match &mut self.nodes.get_mut(&node)?.kind {
            Kind::Directory(directory) => Some(directory),
            Kind::File(_) => None,
        }
    }

    fn file(&mut self, node: Node) -> Option<&mut File> {
        match &mut self.nodes.get_mut(&node)?.kind {
            Kind::File(file) => Some(file),
            Kind::Directory(_) => None,
        }
    }

    fn find(&self, parent: Node, name: &OsStr) -> Option<Node> {
        match &self.nodes.get(&parent)?.kind {
            Kind::Directory(directory) => directory.live.get(name).copied(),
            Kind::File(_) => None,
        }
    }

    fn add(&mut self, parent: Node, name: &OsStr, kind: Kind) -> Option<Node> {
        let node = self.next;
        self.directory(parent)?.change(vec![(name.to_owned(), Some(node))]);
        self.next += 1;
        self.nodes.insert(node, Entry { name: name.to_owned(), kind });
        Some(node)
    }

    /// A directory that no power cut takes.
    pub(crate) fn make_directory(&mut self, parent: Node, name: &OsStr) {
        self.add(parent, name, Kind::Directory(Directory::default()));
        self.sync(parent);
    }

    fn sync(&mut self, node: Node) {
        match self.nodes.get_mut(&node).map(|entry| &mut entry.kind) {
            Some(Kind::File(file)) => file.sync(),
            Some(Kind::Directory(directory)) => directory.sync(),
            None => {}
        }
    }

    /// The power is gone and comes back: what was not synced is partly lost. The directories below the root are given new
    /// numbers, as after a boot.
    pub(crate) fn cut(&mut self, mirror: Mirror, random: &mut Random) -> Loss {
        let mut loss = Loss::default();
        for entry in self.nodes.values_mut() {
            match &mut entry.kind {
                Kind::File(file) => {
                    cut_file((&entry.name, file), mirror, random, &mut loss);
                }
                Kind::Directory(directory) => {
                    let count = u64::try_from(directory.unsynced.len()).unwrap();
                    let kept = random.below(count + 1);
                    loss.names += count - kept;
                    directory.unsynced.truncate(usize::try_from(kept).unwrap());
                    directory.sync();
                    directory.live = directory.synced.clone();
                }
            }
        }
        self.forget_unreachable();
        self.renumber();
        self.fuse = None;
        (self.has_power, self.has_failed) = (true, false);
        loss
    }

    fn forget_unreachable(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(node) = open.pop() {
            if let Some(directory) = self.directory(node) {
                let below: Vec<Node> = directory.live.values().copied().collect();
                open.extend(below.iter().copied().filter(|node| reached.insert(*node)));
            }
        }
        self.nodes.retain(|node, _| reached.contains(node));
    }

    fn renumber(&mut self) {
        let Some(root) = self.directory(ROOT) else { return };
        let old: Vec<(OsString, Node)> = root.live.clone().into_iter().collect();
        for (name, node) in old {
            let Some(entry) = self.nodes.remove(&node) else { continue };
            let new = self.next;
            self.next += 1;
            self.nodes.insert(new, entry);
            if let Some(root) = self.directory(ROOT) {
                root.change(vec![(name, Some(new))]);
                root.sync();
            }
        }
    }
}

fn is_journal(name: &str) -> bool {
    name.starts_with("segment-")
}

fn cut_file(
    (name, file): (&OsStr, &mut File),
    mirror: Mirror,
    random: &mut Random,
    taken: &mut Loss,
) {
    let name = name.to_string_lossy();
    let (journal, checkpoint) = (is_journal(&name), name.starts_with("checkpoint-"));
    if journal && (mirror == Mirror::Shows || mirror == Mirror::Chance && random.one_in(2)) {
        taken.resurfaced += u64::from(file.surface());
    }
    if !file.has_unsynced() {
        return;
    }
    let mercy = match random.below(5) {
        _ if journal && mirror == Mirror::Hides => Mercy::Nothing,
        0 => Mercy::Nothing,
        1 => Mercy::Everything,
        2 => Mercy::Scattered,
        _ => Mercy::Prefix,
    };
    let (lost, torn) = file.cut(mercy, random);
    if !journal {
        file.has_no_mirror();
    }
    taken.files += u64::from(lost);
    taken.torn_files += u64::from(torn);
    taken.unsynced_journal += u64::from(journal);
    taken.torn_journal += u64::from(journal && torn);
    taken.unsynced_checkpoint += u64::from(checkpoint);
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{Directory, Disk, FIRST_CYCLE, File, Fuse, Kind, Mirror, ROOT, Sign};
    use crate::random::Random;

    #[test]
    fn a_name_is_lost_unless_its_directory_was_synced() {
        let mut lost = 0;
        for seed in 0..50 {
            let mut disk = Disk::new();
            let name = OsStr::new("kept");
            disk.add(ROOT, name, Kind::File(File::default())).unwrap();
            disk.sync(ROOT);
            let unsynced = OsStr::new("not");
            let node = disk.add(ROOT, unsynced, Kind::File(File::default())).unwrap();
            disk.sync(node);
            disk.cut(Mirror::Chance, &mut Random::new(seed));
            assert!(disk.find(ROOT, name).is_some());
            lost += u32::from(disk.find(ROOT, unsynced).is_none());
        }
        assert!(lost > 10 && lost < 40, "{lost}");
    }

    #[test]
    fn a_directory_below_the_root_has_another_number_after_a_cut() {
        let mut disk = Disk::new();
        let name = OsStr::new("data");
        let before = disk.add(ROOT, name, Kind::Directory(Directory::default())).unwrap();
        disk.sync(ROOT);
        disk.add(before, OsStr::new("below"), Kind::File(File::default())).unwrap();
        disk.sync(before);
        disk.cut(Mirror::Chance, &mut Random::new(1));
        let after = disk.find(ROOT, name).unwrap();
        assert_ne!(before, after);
        assert!(disk.find(after, OsStr::new("below")).is_some());
    }

    #[test]
    fn the_power_goes_when_the_sign_was_seen() {
        let mut disk = Disk::new();
        disk.arm(Some(Fuse::new(Sign::Seal, 1)));
        assert!(disk.pass(Sign::Anything) && disk.pass(Sign::Checkpoint));
        assert!(disk.pass(Sign::Seal));
        assert!(!disk.pass(Sign::Anything) && !disk.has_power);
    }

    #[test]
    fn one_operation_fails_and_the_power_stays() {
        let mut disk = Disk::new();
        disk.arm(Some(Fuse::failure(Sign::Sync)));
        assert!(disk.pass(Sign::Anything));
        assert!(!disk.pass(Sign::Sync));
        assert!(disk.pass(Sign::Sync) && disk.has_power && disk.has_failed);
    }

    #[test]
    fn files_grow_by_the_room_there_is() {
        let mut disk = Disk::new();
        let node = disk.add(ROOT, OsStr::new("file"), Kind::File(File::default())).unwrap();
        assert!(disk.grow(node, 1 << 40));
        disk.room = Some(100);
        assert!(disk.grow(node, 90) && !disk.grow(node, 11));
        disk.file(node).unwrap().set_length(90);
        assert!(disk.grow(node, 100) && disk.room == Some(0));
        disk.file(node).unwrap().set_length(100);
        assert!(disk.grow(node, 60) && disk.room == Some(40));
    }

    #[test]
    fn a_lost_first_cycle_comes_back_when_the_mirror_shows_it() {
        let mut disk = Disk::new();
        let node = disk.add(ROOT, OsStr::new("segment-0"), Kind::File(File::default())).unwrap();
        disk.file(node).unwrap().write(0, &[0; 12_288]);
        assert_eq!(disk.sign_of_sync(node, Sign::Anything), Sign::Sync, "zeroes are no cycle");
        disk.sync(node);
        disk.sync(ROOT);
        disk.file(node).unwrap().write(FIRST_CYCLE, &[1; 4096]);
        assert_eq!(disk.sign_of_sync(node, Sign::Anything), Sign::Turn);
        let first = |disk: &mut Disk| {
            let node = disk.find(ROOT, OsStr::new("segment-0")).unwrap();
            disk.file(node).unwrap().read(FIRST_CYCLE, 1)
        };
        disk.cut(Mirror::Hides, &mut Random::new(1));
        assert_eq!(first(&mut disk), [0]);
        assert_eq!(disk.cut(Mirror::Shows, &mut Random::new(1)).resurfaced, 1);
        assert_eq!(first(&mut disk), [1]);
    }
}
