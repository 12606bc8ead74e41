//! Remembers durably up to where a log was synced: the mark.
//!
//! ```text
//!   slot 0 at byte 0, slot 1 at byte 4096:
//!   ┌──────────┬─────────┬───┬────────────┬─────────┬──────────┬────────────┬─────────────┬───┬─────┐
//!   │ WEIRMARK │ version │ 0 │ generation │ segment │ position │ next frame │ next offset │ 0 │ crc │
//!   └──────────┴─────────┴───┴────────────┴─────────┴──────────┴────────────┴─────────────┴───┴─────┘
//!   0          8         12  16           24        32         40           48            56  60    64
//! ```
//! # Why
//!
//! After power loss a log ends in bytes that may be torn. Without the mark nobody could tell a torn
//! tail, which must be cut, from damage in rows that were acknowledged, which must be reported: both
//! are a frame with a wrong checksum. So before an acknowledgement
//!
//! 1. the frames are written and synced,
//! 2. the mark is written behind them and synced as well.
//!
//! Below the mark damage is corruption, wherever it is; above it everything up to the first bad byte
//! is kept and the rest is cut. The second sync is of one small file whose size never changes.
//! (A mark inside the next group's frames would cost no sync, but would not cover the last group.)
//!
//! The slots are written in turn, a generation each, on different pages: a torn write harms the slot
//! that nobody was told about, and the other one still holds.

use std::sync::Arc;

use crate::log::error::LogError;
use crate::log::frame::Position;
use crate::log::frame_bytes::{u32_at, u64_at};
use crate::log::storage::{Storage, StorageFile};

const MAGIC: &[u8; 8] = b"WEIRMARK";
const VERSION: u32 = 1;
const SLOT_BYTES: usize = 64;
const SLOT_DISTANCE: u64 = 4096;

/// Up to where a log is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Number of the segment (index of its first frame).
    pub(crate) segment: u64,
    /// Bytes of that segment that are durable.
    pub(crate) position: u64,
    /// The frame and row after the last durable ones.
    pub(crate) next: Position,
}

/// The file that holds the mark.
#[derive(Debug)]
pub(crate) struct MarkFile {
    path: String,
    file: Arc<dyn StorageFile>,
    generation: u64,
}

impl MarkFile {
    /// Opens or creates the file and reads the newest mark.
    pub(crate) fn open(
        storage: &dyn Storage,
        path: String,
    ) -> Result<(MarkFile, Option<Mark>), LogError> {
        let file = storage.open(&path).map_err(|error| LogError::io("open", &path, &error))?;
        let mut newest: Option<(u64, Mark)> = None;
        for slot in 0..2 {
            let bytes = file
                .read_at(slot * SLOT_DISTANCE, SLOT_BYTES)
                .map_err(|error| LogError::io("read", &path, &error))?;
            if let Some(found) = newer(&bytes) {
                return Err(LogError::Version { path, found, known: VERSION });
            }
            if let Some((generation, mark)) = parse(&bytes)
                && newest.is_none_or(|(known, _)| generation > known)
            {
                newest = Some((generation, mark));
            }
        }
        let generation = newest.map_or(0, |(generation, _)| generation);
        Ok((MarkFile { path, file, generation }, newest.map(|(_, mark)| mark)))
    }

    /// Makes the mark durable; on failure the one before still holds.
    pub(crate) fn write(&mut self, mark: Mark) -> Result<(), LogError> {
        self.generation += 1;
        let slot = (self.generation % 2) * SLOT_DISTANCE;
        let mut bytes = to_bytes(self.generation, mark).to_vec();
        let at = match self.generation {
            // The first one takes the room of both slots, so that later ones need none.
            1 => {
                bytes.splice(0..0, std::iter::repeat_n(0, SLOT_DISTANCE as usize));
                0
            }
            _ => slot,
        };
        self.file
            .write_at(&bytes, at)
            // What it is to cover is written already: this is part of making that durable.
            .map_err(|error| LogError::io("sync", &self.path, &error))?;
        self.file.sync().map_err(|error| LogError::io("sync", &self.path, &error))
    }
}

fn to_bytes(generation: u64, mark: Mark) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[0..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&generation.to_le_bytes());
    bytes[24..32].copy_from_slice(&mark.segment.to_le_bytes());
    bytes[32..40].copy_from_slice(&mark.position.to_le_bytes());
    bytes[40..48].copy_from_slice(&mark.next.frame.to_le_bytes());
    bytes[48..56].copy_from_slice(&mark.next.offset.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Option<(u64, Mark)> {
    let sound = bytes.len() == SLOT_BYTES
        && &bytes[..8] == MAGIC
        && u32_at(bytes, 8) == VERSION
        && u32_at(bytes, 60) == crc32c::crc32c(&bytes[..60]);
    sound.then(|| {
        let next = Position { frame: u64_at(bytes, 40), offset: u64_at(bytes, 48) };
        let mark = Mark { segment: u64_at(bytes, 24), position: u64_at(bytes, 32), next };
        (u64_at(bytes, 16), mark)
    })
}

/// The version of a slot that a newer program wrote; a version that is merely damaged is none. Without this
/// an older mark would hold, and what the newer program has written behind it would be cut.
fn newer(bytes: &[u8]) -> Option<u32> {
    if bytes.len() < SLOT_BYTES || &bytes[..8] != MAGIC || u32_at(bytes, 8) <= VERSION {
        return None;
    }
    let mut mended = bytes.to_vec();
    mended[8..12].copy_from_slice(&VERSION.to_le_bytes());
    parse(&mended).is_none().then(|| u32_at(bytes, 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::storage::MemoryStorage;

    fn mark(n: u64) -> Mark {
        Mark { segment: 0, position: 100 * n, next: Position { frame: n, offset: 10 * n } }
    }

    fn read(storage: &MemoryStorage) -> Option<Mark> {
        MarkFile::open(storage, "mark".to_owned()).unwrap().1
    }

    #[test]
    fn the_newest_mark_is_found_again() {
        let storage = MemoryStorage::new();
        assert_eq!(read(&storage), None);
        for n in 1..6 {
            let (mut file, before) = MarkFile::open(&storage, "mark".to_owned()).unwrap();
            assert_eq!(before, (n > 1).then(|| mark(n - 1)));
            file.write(mark(n)).unwrap();
        }
        assert_eq!(read(&storage), Some(mark(5)));
    }

    #[test]
    fn a_torn_mark_leaves_the_one_before() {
        for seed in 0..200 {
            let storage = MemoryStorage::new();
            let (mut file, _) = MarkFile::open(&storage, "mark".to_owned()).unwrap();
            storage.sync_dir("").unwrap();
            file.write(mark(1)).unwrap();
            file.write(mark(2)).unwrap();
            storage.fail_sync(1);
            assert!(file.write(mark(3)).is_err());
            let found = read(&storage.crash(seed)).unwrap();
            assert!(found == mark(2) || found == mark(3), "{found:?}");
        }
    }

    #[test]
    fn a_flipped_bit_in_a_slot_makes_the_slot_void() {
        for bit in 0..SLOT_BYTES * 8 {
            let mut bytes = to_bytes(4, mark(9));
            assert_eq!(parse(&bytes), Some((4, mark(9))));
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&bytes), None, "bit {bit}");
        }
    }
}
