//! Abstracts the disk, so that faults can be injected and power loss simulated.
//!
//! Paths are relative to the storage's root. All calls are synchronous.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;

mod disk;
mod simulated;

pub use disk::DiskStorage;
pub use simulated::{Fault, MemoryStorage};

/// An open file.
pub trait StorageFile: Send + Sync + Debug {
    /// Writes all of `bytes` at `position`.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// Reads up to `length` bytes at `position`; fewer only at the end of the file.
    fn read_at(&self, position: u64, length: usize) -> io::Result<Vec<u8>>;
    /// Makes what was written durable (fdatasync).
    fn sync(&self) -> io::Result<()>;
    /// Cuts or extends the file.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A directory tree of files.
pub trait Storage: Send + Sync + Debug {
    /// Opens a file for reading and writing, creating it if it is missing.
    fn open(&self, path: &str) -> io::Result<Arc<dyn StorageFile>>;
    /// Names of the files directly in a directory, sorted; empty if the directory is missing.
    fn list(&self, directory: &str) -> io::Result<Vec<String>>;
    /// Creates a directory and its parents.
    fn create_dir(&self, directory: &str) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, directory: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Removes a directory with all its files; nothing happens if it is missing.
    fn remove_dir(&self, directory: &str) -> io::Result<()>;
    /// Renames a file, replacing the target.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Names the run of the machine: what was written and not synced may be gone in another one.
    fn boot(&self) -> String;
}
