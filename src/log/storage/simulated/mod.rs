//! Simulates a disk in memory: what was synced survives power loss, the rest may be dropped or torn.
//!
//! ```text
//!   write_at ──▶ current (what readers see) ──sync──▶ durable (what power loss leaves)
//!                └─ pending edits ─── crash(seed): each is kept, dropped or torn
//! ```
//! Names are treated alike: a file that was created, removed or renamed is so for certain only
//! after `sync_dir`; without it power loss keeps, in each directory, some prefix of the changes of names.
//! After a failed sync the edits it was to carry are never made durable by a later sync, as on
//! Linux, where the kernel marks the pages clean: only a crash decides what became of them.
//!
//! Every call that changes something has a number, so that a run can be ended, or let fail, at each of
//! them ([`MemoryStorage::fail_call`]).

mod content;
mod faults;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use self::content::{Content, Dice, Edit};
use self::faults::Call;
pub use self::faults::Fault;
use self::faults::Faults;
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
    /// Bytes that all files may hold together.
    capacity: Option<u64>,
    /// How often the power has gone.
    boots: u64,
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(String, Inode),
    Unlink(String),
    Rename(String, String),
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

    fn directory(&self) -> &str {
        match self {
            NameChange::Link(path, _) | NameChange::Unlink(path) | NameChange::Rename(path, _) => {
                parent(path)
            }
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl Disk {
    /// Notes a call that changes something.
    fn note(&mut self, call: Call, path: &str, detail: (u64, &[u8])) -> io::Result<()> {
        match self.faults.note(call, path, detail) {
            None => Ok(()),
            Some(fault) => Err(faults::error(fault)),
        }
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.renames.push(change);
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| inode.lock().current.len() as u64).sum()
    }

    /// Whether a file of `length` bytes that is to hold `wanted` has no room for it.
    fn is_full(&self, length: u64, wanted: u64) -> bool {
        self.capacity.is_some_and(|all| wanted > length && self.used() + wanted - length > all)
    }
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
        let mut directories: BTreeMap<&str, Vec<&NameChange>> = BTreeMap::new();
        for change in &disk.renames {
            directories.entry(change.directory()).or_default().push(change);
        }
        for changes in directories.values() {
            let kept = dice.roll(changes.len() as u64 + 1) as usize;
            changes[..kept].iter().for_each(|change| change.apply(&mut names));
        }
        let after = rebuilt(&names, |content| content.after_power_loss(&mut dice));
        after.disk.lock().boots = disk.boots + 1;
        after
    }

    /// The disk after the process was killed: everything that was written is there.
    pub fn kill(&self) -> MemoryStorage {
        let disk = self.disk.lock();
        let after = rebuilt(&disk.names, |content| content.current.clone());
        after.disk.lock().boots = disk.boots;
        after
    }

    /// How many calls have changed something.
    pub fn calls(&self) -> u64 {
        self.disk.lock().faults.calls
    }

    /// A hash over all calls that have changed something, with what they wrote.
    pub fn trace(&self) -> u64 {
        self.disk.lock().faults.trace
    }

    /// Lets the call with this number, from 1 over all calls of this disk, fail.
    pub fn fail_call(&self, number: u64, fault: Fault) {
        self.disk.lock().faults.planned.insert(number, fault);
    }

    /// Lets no call fail any more that was to.
    pub fn forget_faults(&self) {
        let faults = &mut self.disk.lock().faults;
        faults.planned.clear();
        faults.reads_until_failure = None;
    }

    /// Ends the process: nothing it does from now on has an effect.
    pub fn end(&self) {
        self.disk.lock().faults.ended = true;
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        self.disk.lock().faults.ended
    }

    /// How many calls have failed.
    pub fn failures(&self) -> u64 {
        self.disk.lock().faults.failures
    }

    /// Lets the `n`-th write from now on fail (1: the next), with half of its bytes written.
    pub fn fail_write(&self, n: u64) {
        self.disk.lock().faults.writes_until_failure = Some(n);
    }

    /// Lets the `n`-th sync of a file from now on fail (1: the next).
    pub fn fail_sync(&self, n: u64) {
        self.disk.lock().faults.syncs_until_failure = Some(n);
    }

    /// Lets the `n`-th read from now on fail (1: the next).
    pub fn fail_read(&self, n: u64) {
        self.disk.lock().faults.reads_until_failure = Some(n);
    }

    /// Lets writes fail with "no space" where all files together would become longer than this;
    /// `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk.lock().capacity = bytes;
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        self.disk.lock().used()
    }

    /// The paths of all files.
    pub fn paths(&self) -> Vec<String> {
        self.disk.lock().names.keys().cloned().collect()
    }

    /// Turns over a bit of a file, on the disk and in the page cache.
    pub fn flip(&self, path: &str, position: usize, bit: u8) {
        if let Some(inode) = self.disk.lock().names.get(path) {
            inode.lock().flip(position, bit);
        }
    }

    /// The bytes of a file as readers see them; `None` if it is missing.
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        self.disk.lock().names.get(path).map(|inode| inode.lock().current.clone())
    }

    /// Puts a durable file in place, whatever was there.
    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        let inode = Arc::new(Mutex::new(Content::durable(bytes)));
        let mut disk = self.disk.lock();
        disk.names.insert(path.to_owned(), Arc::clone(&inode));
        disk.durable_names.insert(path.to_owned(), inode);
    }
}

fn rebuilt(names: &Names, mut bytes: impl FnMut(&Content) -> Vec<u8>) -> MemoryStorage {
    let storage = MemoryStorage::new();
    for (path, inode) in names {
        storage.put(path, bytes(&inode.lock()));
    }
    storage
}

fn no_such_file() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file")
}

#[derive(Debug)]
struct MemoryFile {
    path: String,
    disk: Arc<Mutex<Disk>>,
    inode: Inode,
}

impl StorageFile for MemoryFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let length = self.inode.lock().current.len() as u64;
        let full = disk.is_full(length, position + bytes.len() as u64);
        let ended = disk.faults.ended;
        let fault = disk.faults.note(Call::Write, &self.path, (position, bytes));
        let fault = fault.or(full.then_some(Fault::NoSpace));
        let written = match fault {
            None => bytes,
            Some(Fault::Short | Fault::End) if !ended => &bytes[..bytes.len() / 2],
            Some(_) => &[],
        };
        if !written.is_empty() {
            self.inode.lock().edit(Edit::Write { position, bytes: written.to_vec() });
        }
        fault.map_or(Ok(()), |fault| Err(faults::error(fault)))
    }

    fn read_at(&self, position: u64, length: usize) -> io::Result<Vec<u8>> {
        if self.disk.lock().faults.read_fails() {
            return Err(faults::error(Fault::Error));
        }
        let content = self.inode.lock();
        let start = usize::try_from(position).unwrap_or(usize::MAX).min(content.current.len());
        let end = start.saturating_add(length).min(content.current.len());
        Ok(content.current[start..end].to_vec())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let ended = disk.faults.ended;
        let noted = disk.note(Call::Sync, &self.path, (0, &[]));
        if !ended {
            self.inode.lock().sync(noted.is_err());
        }
        noted
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let now = self.inode.lock().current.len() as u64;
        let full = disk.is_full(now, length);
        disk.note(Call::SetLen, &self.path, (length, &[]))?;
        if full {
            return Err(faults::error(Fault::NoSpace));
        }
        self.inode.lock().edit(Edit::Length(length));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inode.lock().current.len() as u64)
    }
}

impl Storage for MemoryStorage {
    fn open(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.disk.lock();
        let inode = match disk.names.get(path) {
            Some(inode) => Arc::clone(inode),
            None => {
                disk.note(Call::Create, path, (0, &[]))?;
                let inode = Inode::default();
                disk.change_name(NameChange::Link(path.to_owned(), Arc::clone(&inode)));
                inode
            }
        };
        Ok(Arc::new(MemoryFile { path: path.to_owned(), disk: Arc::clone(&self.disk), inode }))
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
        disk.note(Call::SyncDir, directory, (0, &[]))?;
        let (now, later) = std::mem::take(&mut disk.renames)
            .into_iter()
            .partition(|change: &NameChange| change.directory() == directory);
        disk.renames = later;
        for change in now {
            change.apply(&mut disk.durable_names);
        }
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        if !disk.names.contains_key(path) {
            return Err(no_such_file());
        }
        disk.note(Call::Remove, path, (0, &[]))?;
        disk.change_name(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, directory: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let inside = format!("{directory}/");
        let paths: Vec<String> =
            disk.names.keys().filter(|path| path.starts_with(&inside)).cloned().collect();
        if paths.is_empty() {
            return Ok(());
        }
        disk.note(Call::RemoveDir, directory, (0, &[]))?;
        for path in paths {
            disk.change_name(NameChange::Unlink(path));
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk.lock();
        if !disk.names.contains_key(from) {
            return Err(no_such_file());
        }
        debug_assert_eq!(parent(from), parent(to), "files stay in their directory");
        disk.note(Call::Rename, from, (0, to.as_bytes()))?;
        disk.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn boot(&self) -> String {
        self.disk.lock().boots.to_string()
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

    #[test]
    fn a_call_fails_by_its_number_and_after_the_end_nothing_has_an_effect() {
        let run = |fault: Option<(u64, Fault)>| {
            let storage = MemoryStorage::new();
            if let Some((number, fault)) = fault {
                storage.fail_call(number, fault);
            }
            let file = storage.open("f")?;
            file.write_at(b"abcd", 0).and_then(|()| file.sync())?;
            storage.sync_dir("")?;
            storage.rename("f", "g")?;
            io::Result::Ok(storage)
        };
        let whole = run(None).unwrap();
        assert_eq!(whole.calls(), 5);
        assert_eq!(whole.trace(), run(None).unwrap().trace());
        for number in 1..=5 {
            for fault in [Fault::Error, Fault::NoSpace, Fault::Short, Fault::End] {
                assert!(run(Some((number, fault))).is_err(), "{number} {fault:?}");
            }
        }
        let storage = MemoryStorage::new();
        let file = storage.open("f").unwrap();
        storage.fail_call(2, Fault::End);
        assert!(file.write_at(b"abcd", 0).is_err());
        assert!(file.write_at(b"abcd", 0).is_err());
        assert!(storage.has_ended() && file.read_at(0, 1).is_err());
        assert_eq!(storage.contents("f").unwrap(), b"ab");
    }

    #[test]
    fn a_full_disk_takes_no_longer_files_but_lets_others_be_overwritten() {
        let storage = MemoryStorage::new();
        let file = storage.open("f").unwrap();
        file.write_at(b"abcd", 0).unwrap();
        storage.set_capacity(Some(4));
        file.write_at(b"efgh", 0).unwrap();
        let error = file.write_at(b"i", 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        storage.set_capacity(None);
        file.write_at(b"i", 4).unwrap();
        assert_eq!(storage.contents("f").unwrap(), b"efghi");
    }

    #[test]
    fn a_flipped_bit_is_on_the_disk_and_in_the_page_cache() {
        let storage = MemoryStorage::new();
        storage.put("f", vec![0, 0]);
        storage.flip("f", 1, 3);
        assert_eq!(storage.contents("f").unwrap(), [0, 8]);
        assert_eq!(storage.crash(1).contents("f").unwrap(), [0, 8]);
    }
}
