//! Keeps files in a directory of the machine's own file system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Storage, StorageFile};

/// Files below one root directory.
#[derive(Debug, Clone)]
pub struct DiskStorage {
    root: PathBuf,
}

impl DiskStorage {
    /// Files below `root`, which is created when it is first needed.
    pub fn new(root: impl Into<PathBuf>) -> DiskStorage {
        DiskStorage { root: root.into() }
    }

    fn path(&self, relative: &str) -> PathBuf {
        debug_assert!(!relative.split('/').any(|part| part == ".."), "{relative}");
        if relative.is_empty() { self.root.clone() } else { self.root.join(relative) }
    }
}

#[derive(Debug)]
struct DiskFile(File);

impl StorageFile for DiskFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn read_at(&self, position: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.0.read_at(&mut bytes[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// A missing file or directory is no error for whoever wants it gone or empty.
fn unless_missing<T: Default>(result: io::Result<T>) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        other => other,
    }
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file()
            && let Ok(name) = entry.file_name().into_string()
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

impl Storage for DiskStorage {
    fn open(&self, path: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        Ok(Arc::new(DiskFile(options.open(self.path(path))?)))
    }

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        unless_missing(names(&self.path(directory)))
    }

    fn create_dir(&self, directory: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(directory))
    }

    fn sync_dir(&self, directory: &str) -> io::Result<()> {
        File::open(self.path(directory))?.sync_all()
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn remove_dir(&self, directory: &str) -> io::Result<()> {
        unless_missing(fs::remove_dir_all(self.path(directory)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn boot(&self) -> String {
        // Where the system does not tell, each process counts as a run of its own.
        static BOOT: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
            let told = fs::read_to_string("/proc/sys/kernel/random/boot_id");
            told.map(|id| id.trim().to_owned()).unwrap_or_else(|_| {
                let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
                format!("{} {:?}", std::process::id(), since.unwrap_or_default())
            })
        });
        BOOT.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_what_was_written_and_reads_short_only_at_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let storage = DiskStorage::new(directory.path());
        storage.create_dir("a/b").unwrap();
        let file = storage.open("a/b/f").unwrap();
        assert!(file.is_empty().unwrap());
        file.write_at(b"hello", 3).unwrap();
        file.sync().unwrap();
        storage.sync_dir("a/b").unwrap();
        assert_eq!(file.read_at(0, 100).unwrap(), b"\0\0\0hello");
        assert_eq!(file.read_at(50, 4).unwrap(), b"");
        assert_eq!(storage.list("a/b").unwrap(), ["f"]);
        storage.rename("a/b/f", "a/b/g").unwrap();
        file.set_len(4).unwrap();
        assert_eq!(storage.open("a/b/g").unwrap().len().unwrap(), 4);
        storage.remove("a/b/g").unwrap();
        assert!(storage.list("a/b").unwrap().is_empty());
        storage.remove_dir("a").unwrap();
        storage.remove_dir("a").unwrap();
        assert!(storage.list("a").unwrap().is_empty());
    }
}
