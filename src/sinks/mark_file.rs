//! Keeps the mark of a sink whose target cannot hold one, in a small file that is replaced as a whole.
//!
//! The file is a line of JSON and a line with its CRC-32C. Who changes it holds the lock of its
//! directory (`flock`), which the system frees when the process ends, however it ends.

use std::fs::File;
use std::io::{Error, ErrorKind, Result, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What this program writes and reads.
const VERSION: u32 = 1;

/// How far a sink has come, and which writer owns it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Of the form of the file.
    pub(crate) version: u32,
    /// Id of the sink.
    pub(crate) sink: String,
    /// What the offset counts in.
    pub(crate) changelog: String,
    /// Grows with every claim.
    pub(crate) fence: i64,
    /// Everything below is delivered.
    pub(crate) offset: u64,
    /// In which past the offset, or the one that a delivery reaches, counts: as the words of
    /// [`crate::sinks::history`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) counted: Option<String>,
    /// What is being delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<Pending>,
}

/// What a mark says first, whatever else it holds.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// A delivery that was begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// The offset that it reaches.
    pub(crate) to: u64,
    /// The file that is renamed by it; empty where there is none.
    #[serde(default)]
    pub(crate) temporary: String,
}

impl Mark {
    /// The first mark of a sink.
    pub(crate) fn new(sink: &str, changelog: &str) -> Mark {
        let (sink, changelog) = (sink.into(), changelog.into());
        Mark {
            version: VERSION,
            sink,
            changelog,
            fence: 0,
            offset: 0,
            counted: None,
            pending: None,
        }
    }

    /// What it says beside its offset.
    pub(crate) fn counted(&self) -> &str {
        self.counted.as_deref().unwrap_or(&self.changelog)
    }

    /// The same writer's mark at another offset.
    pub(crate) fn at(&self, offset: u64, pending: Option<Pending>) -> Mark {
        Mark { offset, pending, ..self.clone() }
    }
}

/// Waits for the lock of a directory; it lasts as long as the answer.
pub(crate) fn lock(directory: &Path) -> Result<File> {
    let handle = File::open(directory)?;
    handle.lock()?;
    Ok(handle)
}

/// Makes a directory's entries durable.
pub(crate) fn sync(directory: &Path) -> Result<()> {
    step()?;
    File::open(directory)?.sync_all()
}

/// The mark in a file; `None`: there is no file. `InvalidData`: what is there is no mark.
pub(crate) fn read(path: &Path) -> Result<Option<Mark>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let damaged = |why: &str| {
        let file = path.display();
        Error::new(ErrorKind::InvalidData, format!("{why} in file \"{file}\": {text:?}"))
    };
    let (json, sum) = text.split_once('\n').ok_or_else(|| damaged("no line end"))?;
    if sum.trim_end() != format!("{:08x}", crc32c::crc32c(json.as_bytes())) {
        return Err(damaged("wrong checksum"));
    }
    let Version { version } =
        serde_json::from_str(json).map_err(|error| damaged(&error.to_string()))?;
    if version != VERSION {
        return Err(damaged(&format!("version {version}, and this program reads {VERSION},")));
    }
    serde_json::from_str(json).map(Some).map_err(|error| damaged(&error.to_string()))
}

/// Replaces the mark, durably: after a crash either the old or the new one is there.
pub(crate) fn write(path: &Path, mark: &Mark) -> Result<()> {
    let json = serde_json::to_string(mark).expect("a mark is always JSON");
    let text = format!("{json}\n{:08x}\n", crc32c::crc32c(json.as_bytes()));
    let temporary = path.with_extension("new");
    step()?;
    let mut file = File::create(&temporary)?;
    step()?;
    file.write_all(text.as_bytes())?;
    step()?;
    file.sync_all()?;
    step()?;
    std::fs::rename(&temporary, path)?;
    sync(path.parent().expect("a mark's file has a directory"))
}

/// Removes the mark of a sink, where it is there and the sink's own.
pub(crate) fn forget(path: &Path, sink: &str) -> Result<()> {
    let directory = path.parent().expect("a mark's file has a directory");
    if !directory.exists() {
        return Ok(());
    }
    let _lock = lock(directory)?;
    if read(path)?.is_some_and(|mark| mark.sink == sink) {
        std::fs::remove_file(path)?;
        sync(directory)?;
    }
    Ok(())
}

/// Stands before every call that changes the disk, so that tests can end the program there.
#[cfg(not(test))]
pub(crate) fn step() -> Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use failing::step;

/// Fails from a chosen call on, as if the program had ended there.
#[cfg(test)]
pub(crate) mod failing {
    use std::cell::Cell;

    thread_local! {
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// How many calls still go well on this thread; `None`: all.
    pub(crate) fn after(calls: Option<u32>) {
        LEFT.set(calls);
    }

    pub(crate) fn step() -> std::io::Result<()> {
        match LEFT.get() {
            Some(0) => Err(std::io::Error::other("the program ended here")),
            left => {
                LEFT.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_a_flipped_bit_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weir_progress.json");
        assert_eq!(read(&path).unwrap(), None);
        let pending = Pending { to: 9, temporary: "x".into() };
        let mark = Mark::new("id", "q").at(7, Some(pending));
        write(&path, &mark).unwrap();
        assert_eq!(read(&path).unwrap(), Some(mark));
        let bytes = std::fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &damaged).unwrap();
            match read(&path) {
                Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidData),
                // Only the last line end may be another blank.
                Ok(_) => assert!(bit / 8 == bytes.len() - 1, "bit {bit}"),
            }
        }
    }
}
