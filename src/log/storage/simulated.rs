//! Simulates a disk in memory: what was synced survives power loss, the rest may be dropped or torn.
//!
//! ```text
//!   write_at ──▶ current (what readers see) ──sync──▶ durable (what power loss leaves)
//!                └─ pending edits ─── crash(seed): each is kept, dropped or torn
//! ```
//! Names are treated alike: a file that was created, removed or renamed is so for certain only
//! after `sync_dir`; without it power loss keeps some prefix of the changes of names.
//! After a failed sync the edits it was to carry are never made durable by a later sync, as on
//! Linux, where the kernel marks the pages clean: only a crash decides what became of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Storage, StorageFile};

/// A simulated disk; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
}

type Inode = Arc<Mutex<Content>>;
type Names = BTreeMap<String, Inode>;

#[derive(Debug, Default)]
struct Disk {
    /// Names as programs see them.
    names: Names,
    /// Names that power loss leaves.
    durable_names: Names,
    /// Changes of names since, in order.
    renames: Vec<NameChange>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Faults {
    writes_until_failure: Option<u64>,
    syncs_until_failure: Option<u64>,
    capacity: Option<u64>,
    used: u64,
}

#[derive(Debug, Default, Clone)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Made since the last sync; the next one makes them durable.
    pending: Vec<Edit>,
    /// Caught in a failed sync; only a crash decides about them.
    doubtful: Vec<Edit>,
}

#[derive(Debug, Clone)]
enum Edit {
    Write { position: u64, bytes: Vec<u8> },
    Length(u64),
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(String, Inode),
    Unlink(String),
    Rename(String, String),
}

/// A small generator (splitmix64), so that one seed decides a crash.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }
}

impl Edit {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Edit::Write { position, bytes } => {
                let start = usize::try_from(*position).expect("simulated files are small");
                if to.len() < start + bytes.len() {
                    to.resize(start + bytes.len(), 0);
                }
                to[start..start + bytes.len()].copy_from_slice(bytes);
            }
            Edit::Length(length) => {
                to.resize(usize::try_from(*length).expect("simulated files are small"), 0);
            }
        }
    }

    /// What power loss makes of an edit that was not synced.
    fn survive(&self, to: &mut Vec<u8>, dice: &mut Dice) {
        let fate = dice.roll(4);
        match self {
            Edit::Length(_) if fate < 2 => self.apply(to),
            Edit::Write { .. } if fate == 0 => self.apply(to),
            Edit::Write { position, bytes } if fate < 3 && !bytes.is_empty() => {
                let cut = dice.roll(bytes.len() as u64) as usize;
                let (position, bytes) = if fate == 1 {
                    (*position, bytes[..cut].to_vec())
                } else {
                    // The device may also write the later part first.
                    (*position + cut as u64, bytes[cut..].to_vec())
                };
                Edit::Write { position, bytes }.apply(to);
            }
            Edit::Length(_) | Edit::Write { .. } => {}
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            NameChange::Link(path, inode) => {
                names.insert(path.clone(), Arc::clone(inode));
            }
            NameChange::Unlink(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
        }
    }

    fn touches(&self, directory: &str) -> bool {
        match self {
            NameChange::Link(path, _) | NameChange::Unlink(path) => parent(path) == directory,
            NameChange::Rename(from, to) => parent(from) == directory || parent(to) == directory,
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn injected(what: &str) -> io::Error {
    io::Error::other(format!("injected failure of {what}"))
}

impl MemoryStorage {
    /// An empty disk.
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }

    /// The disk after power loss: what was not synced is kept, dropped or torn as `seed` decides.
    pub fn crash(&self, seed: u64) -> MemoryStorage {
        let disk = self.disk.lock();
        let mut dice = Dice(seed);
        let mut names = disk.durable_names.clone();
        let kept = dice.roll(disk.renames.len() as u64 + 1) as usize;
        for change in &disk.renames[..kept] {
            change.apply(&mut names);
        }
        rebuilt(&names, |content| {
            let mut bytes = content.durable.clone();
            for edit in content.doubtful.iter().chain(&content.pending) {
                edit.survive(&mut bytes, &mut dice);
            }
            bytes
        })
    }

    /// The disk after the process was killed: everything that was written is there.
    pub fn kill(&self) -> MemoryStorage {
        rebuilt(&self.disk.lock().names, |content| content.current.clone())
    }

    /// Lets the `n`-th write from now on fail (1: the next), with half of its bytes written.
    pub fn fail_write(&self, n: u64) {
        self.disk.lock().faults.writes_until_failure = Some(n);
    }

    /// Lets the `n`-th sync of a file from now on fail (1: the next).
    pub fn fail_sync(&self, n: u64) {
        self.disk.lock().faults.syncs_until_failure = Some(n);
    }

    /// Lets writes fail with "no space" once this many bytes were written; `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk.lock().faults.capacity = bytes;
    }

    /// The bytes of a file as readers see them; `None` if it is missing.
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        self.disk.lock().names.get(path).map(|inode| inode.lock().current.clone())
    }

    /// Puts a durable file in place, whatever was there.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        let content = Content { current: bytes.clone(), durable: bytes, ..Content::default() };
        let inode = Arc::new(Mutex::new(content));
        let mut disk = self.disk.lock();
        disk.names.insert(path.to_owned(), Arc::clone(&inode));
        disk.durable_names.insert(path.to_owned(), inode);
    }

    fn change_name(&self, change: NameChange) {
        let mut disk = self.disk.lock();
        change.apply(&mut disk.names);
        disk.renames.push(change);
    }
}

fn rebuilt(names: &Names, mut bytes: impl FnMut(&Content) -> Vec<u8>) -> MemoryStorage {
    let storage = MemoryStorage::new();
    for (path, inode) in names {
        storage.put(path, bytes(&inode.lock()));
    }
    storage
}

/// Counts down to a failure; true when it is due.
fn due(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(n) if *n <= 1 => {
            *countdown = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

#[derive(Debug)]
struct MemoryFile {
    disk: Arc<Mutex<Disk>>,
    inode: Inode,
}

impl MemoryFile {
    fn edit(&self, edit: Edit) {
        let mut content = self.inode.lock();
        edit.apply(&mut content.current);
        content.pending.push(edit);
    }
}

impl StorageFile for MemoryFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let failure = {
            let mut disk = self.disk.lock();
            let full =
                disk.faults.capacity.is_some_and(|c| disk.faults.used + bytes.len() as u64 > c);
            disk.faults.used += bytes.len() as u64;
            if due(&mut disk.faults.writes_until_failure) {
                Some(injected("a write"))
            } else if full {
                Some(io::Error::new(io::ErrorKind::StorageFull, "no space left on device"))
            } else {
                None
            }
        };
        let written = if failure.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
        self.edit(Edit::Write { position, bytes: written.to_vec() });
        failure.map_or(Ok(()), Err)
    }

    fn read_at(&self, position: u64, length: usize) -> io::Result<Vec<u8>> {
        let content = self.inode.lock();
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(content.current.len());
        let end = start.saturating_add(length).min(content.current.len());
        Ok(content.current[start..end].to_vec())
    }

    fn sync(&self) -> io::Result<()> {
        let fails = due(&mut self.disk.lock().faults.syncs_until_failure);
        let mut content = self.inode.lock();
        let pending = std::mem::take(&mut content.pending);
        if fails {
            content.doubtful.extend(pending);
            return Err(injected("a sync"));
        }
        for edit in pending {
            edit.apply(&mut content.durable);
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.edit(Edit::Length(length));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inode.lock().current.len() as u64)
    }
}

impl Storage for MemoryStorage {
    fn open(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        let found = self.disk.lock().names.get(path).map(Arc::clone);
        let inode = match found {
            Some(inode) => inode,
            None => {
                let inode = Inode::default();
                self.change_name(NameChange::Link(path.to_owned(), Arc::clone(&inode)));
                inode
            }
        };
        Ok(Arc::new(MemoryFile { disk: Arc::clone(&self.disk), inode }))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        let disk = self.disk.lock();
        let inside = disk.names.keys().filter(|path| parent(path) == directory);
        Ok(inside.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect())
    }

    fn create_dir(&self, _directory: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let (now, later) = std::mem::take(&mut disk.renames)
            .into_iter()
            .partition(|change: &NameChange| change.touches(directory));
        disk.renames = later;
        for change in now {
            change.apply(&mut disk.durable_names);
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        if !self.disk.lock().names.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such file"));
        }
        self.change_name(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, directory: &str) -> io::Result<()> {
        let inside = format!("{directory}/");
        let paths: Vec<String> = {
            let disk = self.disk.lock();
            disk.names.keys().filter(|path| path.starts_with(&inside)).cloned().collect()
        };
        for path in paths {
            self.change_name(NameChange::Unlink(path));
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if !self.disk.lock().names.contains_key(from) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such file"));
        }
        self.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_loss_keeps_what_was_synced_and_nothing_else_for_certain() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let storage = MemoryStorage::new();
            let file = storage.open("d/f").unwrap();
            file.write_at(b"kept", 0).unwrap();
            file.sync().unwrap();
            storage.sync_dir("d").unwrap();
            file.write_at(b"maybe", 4).unwrap();
            assert_eq!(storage.kill().contents("d/f").unwrap(), b"keptmaybe");
            let after = storage.crash(seed).contents("d/f").unwrap();
            assert_eq!(&after[..4], b"kept");
            outcomes.insert(after);
        }
        assert!(outcomes.len() > 4, "{outcomes:?}");
    }

    #[test]
    fn a_name_is_durable_only_after_its_directory_was_synced() {
        let storage = MemoryStorage::new();
        storage.open("d/f").unwrap().sync().unwrap();
        let kept = (0..32).filter(|&seed| storage.crash(seed).contents("d/f").is_some()).count();
        assert!(0 < kept && kept < 32);
        storage.sync_dir("d").unwrap();
        assert!((0..32).all(|seed| storage.crash(seed).contents("d/f").is_some()));
    }

    #[test]
    fn a_sync_after_a_failed_one_does_not_make_the_lost_bytes_durable() {
        let storage = MemoryStorage::new();
        let file = storage.open("f").unwrap();
        storage.sync_dir("").unwrap();
        file.write_at(b"lost", 0).unwrap();
        storage.fail_sync(1);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert!((0..32).any(|seed| storage.crash(seed).contents("f").unwrap() != b"lost"));
    }
}
