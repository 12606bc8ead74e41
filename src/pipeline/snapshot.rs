//! Keeps the state of a running query in files, so that a restart replays minutes and not months.
//!
//! A snapshot is the state of all operators between two steps, with the place in every log that it
//! belongs to: how far each input had been read, and how long the changelog was. A query that starts
//! from it reads its inputs from there, and regenerates only the entries of the changelog behind it.
//!
//! ```text
//!      0          8         12   16            24         28           32
//!      ┌──────────┬─────────┬────┬─────────────┬──────────┬────────────┬──────┐
//!      │ WEIRSNAP │ version │ 0  │ body length │ body crc │ header crc │ body │
//!      └──────────┴─────────┴────┴─────────────┴──────────┴────────────┴──────┘
//!      body: plan, frontier, changelog position, written watermark, counts, late rows, operators
//! ```
//! Little-endian; both checksums are CRC-32C, the header's over its first 28 bytes. The parts of the
//! body are written as [`crate::operators::state`] says.
//!
//! A file is written under another name, synced and renamed: it is there whole or not at all. The two
//! newest are kept, so that one may turn out damaged.
//!
//! # Invariants
//!
//! 1. A snapshot never runs ahead of a log: one that does (power loss took rows that were only
//!    written) is refused and removed when the query is opened, before anything is appended.
//! 2. Retention keeps the inputs from the older of the two snapshots on.

use std::io;
use std::sync::Arc;

use crate::error::Result as Outcome;
use crate::fault;
use crate::log::frame::Position;
use crate::log::log::Log;
use crate::log::storage::Storage;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};
use crate::pipeline::drive::{QueryRun, misfit as no_fit};
use crate::views::changelog::Frontier;

const MAGIC: &[u8; 8] = b"WEIRSNAP";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 32;
/// Snapshots that are kept of a query.
pub const KEPT: usize = 2;
const SUFFIX: &str = ".snapshot";

/// The state of a query at one point of all its logs.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The plan that the state belongs to, in words.
    pub plan: String,
    /// How far each input had been read.
    pub frontier: Frontier,
    /// The end of the changelog.
    pub changelog: Position,
    /// The watermark as last written to the changelog.
    pub written_watermark: i64,
    /// Rows taken, rows that were too late, rows refused: since the query was created.
    pub counts: (u64, u64, u64),
    /// Late rows that were numbered for LATE ROWS TO.
    pub late_rows: u64,
    /// What [`Graph::save`](crate::pipeline::graph::Graph::save) wrote.
    pub operators: Vec<u8>,
}

impl Snapshot {
    /// The bytes of a file.
    pub fn encode(&self) -> Result<Vec<u8>, EvalError> {
        let mut body = StateWriter::default();
        body.put(&self.plan)?;
        let frontier: Vec<(u64, u64)> = self.frontier.iter().map(|p| (p.frame, p.offset)).collect();
        body.put(&frontier)?;
        body.put(&(self.changelog.frame, self.changelog.offset))?;
        body.put(&self.written_watermark)?;
        body.put(&self.counts)?;
        body.put(&self.late_rows)?;
        body.raw(&self.operators);
        let body = body.finish();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend((body.len() as u64).to_le_bytes());
        bytes.extend(crc32c::crc32c(&body).to_le_bytes());
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes.extend(body);
        Ok(bytes)
    }

    /// Reads the bytes of a file, trusting none of them.
    pub fn decode(bytes: &[u8]) -> Result<Snapshot, EvalError> {
        let (header, body) =
            bytes.split_at_checked(HEADER_BYTES).ok_or_else(|| misfit("the header is cut off"))?;
        let word = |at: usize| {
            u32::from_le_bytes(header[at..at + 4].try_into().expect("the header is longer"))
        };
        if &header[..8] != MAGIC || word(28) != crc32c::crc32c(&header[..28]) {
            return Err(misfit("the header is damaged"));
        }
        if word(8) != VERSION {
            return Err(misfit("it is of another version of the program"));
        }
        let length = u64::from(word(16)) | u64::from(word(20)) << 32;
        if length != body.len() as u64 || word(24) != crc32c::crc32c(body) {
            return Err(misfit("the body is damaged"));
        }
        let mut from = StateReader::new(body);
        let plan = from.get()?;
        let position = |(frame, offset)| Position { frame, offset };
        let frontier = from.get::<Vec<(u64, u64)>>()?.into_iter().map(position).collect();
        let changelog = position(from.get()?);
        let written_watermark = from.get()?;
        let (counts, late_rows) = from.get()?;
        let operators = from.raw()?.to_vec();
        from.end()?;
        Ok(Snapshot { plan, frontier, changelog, written_watermark, counts, late_rows, operators })
    }
}

impl QueryRun {
    /// The state between two steps, which belongs to `plan`.
    ///
    /// # Errors
    /// XX000 when an operator cannot write its state, which is a broken invariant.
    pub fn snapshot(&mut self, plan: &str, counts: (u64, u64, u64)) -> Outcome<Snapshot> {
        assert!(!self.replaying(), "the changelog is ahead of the operators");
        let mut operators = StateWriter::default();
        self.graph.save(&mut operators)?;
        Ok(Snapshot {
            plan: plan.to_owned(),
            frontier: self.frontier(),
            changelog: self.changelog.log().visible(),
            written_watermark: self.written_watermark,
            counts,
            late_rows: self.late_rows,
            operators: operators.finish(),
        })
    }

    /// Goes on from a snapshot of the same plan. After an error the operators are of no use.
    ///
    /// # Errors
    /// WR006 when the snapshot does not fit the plan or the logs.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Outcome<()> {
        let fits = |log: &Log, at: Position| {
            log.start().frame <= at.frame && at.frame <= log.visible().frame
        };
        let inputs = self.inputs.iter().zip(&snapshot.frontier);
        if snapshot.frontier.len() != self.inputs.len()
            || !inputs.clone().all(|(input, at)| fits(input.source.log(), *at))
            || snapshot.changelog.frame > self.changelog.log().visible().frame
        {
            return Err(no_fit("a log is not there up to the place of the snapshot"));
        }
        let mut from = StateReader::new(&snapshot.operators);
        self.graph.restore(&mut from)?;
        from.end()?;
        for (input, at) in self.inputs.iter_mut().zip(&snapshot.frontier) {
            input.position = *at;
        }
        self.written_watermark = snapshot.written_watermark;
        self.late_rows = snapshot.late_rows;
        Ok(())
    }
}

/// The snapshots of one query, in a directory of their own.
#[derive(Debug)]
pub struct SnapshotFiles {
    storage: Arc<dyn Storage>,
    directory: String,
}

impl SnapshotFiles {
    /// The files in `directory`, which need not exist.
    pub fn new(storage: Arc<dyn Storage>, directory: String) -> SnapshotFiles {
        SnapshotFiles { storage, directory }
    }

    /// Numbers of the snapshots that are there, ascending.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let names = self.storage.list(&self.directory)?;
        let number = |name: &String| name.strip_suffix(SUFFIX)?.parse().ok();
        Ok(names.iter().filter_map(number).collect())
    }

    fn path(&self, number: u64) -> String {
        format!("{}/{number:020}{SUFFIX}", self.directory)
    }

    /// Writes a snapshot durably and removes those that are too many.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.storage.create_dir(&self.directory)?;
        let numbers = self.numbers()?;
        let path = self.path(numbers.last().map_or(0, |last| last + 1));
        let draft = format!("{}/draft", self.directory);
        let file = self.storage.open(&draft)?;
        file.set_len(0)?;
        fault::after("snapshot.torn", &path, || drop(file.write_at(&bytes[..bytes.len() / 2], 0)));
        fault::io("snapshot.write", &path)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        fault::at("snapshot.drafted", &path);
        self.storage.rename(&draft, &path)?;
        fault::at("snapshot.renamed", &path);
        self.storage.sync_dir(&self.directory)?;
        fault::at("snapshot.written", &path);
        let extra = (numbers.len() + 1).saturating_sub(KEPT);
        numbers[..extra].iter().try_for_each(|number| self.storage.remove(&self.path(*number)))
    }

    /// All snapshots, newest first, each with its number or why it cannot be used.
    pub fn read(&self) -> io::Result<Vec<(u64, Result<Snapshot, EvalError>)>> {
        let mut snapshots = Vec::new();
        for number in self.numbers()?.into_iter().rev() {
            let file = self.storage.open(&self.path(number))?;
            let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
            snapshots.push((number, Snapshot::decode(&file.read_at(0, length)?)));
        }
        Ok(snapshots)
    }

    /// Removes a snapshot for good.
    pub fn remove(&self, number: u64) -> io::Result<()> {
        self.storage.remove(&self.path(number))?;
        self.storage.sync_dir(&self.directory)
    }

    /// Removes all of them.
    pub fn clear(&self) -> io::Result<()> {
        self.storage.remove_dir(&self.directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::storage::MemoryStorage;

    fn snapshot(frame: u64) -> Snapshot {
        Snapshot {
            plan: "Source s".into(),
            frontier: vec![Position { frame, offset: frame * 10 }],
            changelog: Position { frame: 1, offset: 2 },
            written_watermark: -7,
            counts: (1, 2, 3),
            late_rows: 4,
            operators: vec![1, 2, 3],
        }
    }

    #[test]
    fn a_snapshot_comes_back_and_every_flipped_bit_is_noticed() {
        let bytes = snapshot(5).encode().unwrap();
        assert_eq!(Snapshot::decode(&bytes).unwrap(), snapshot(5));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Snapshot::decode(&flipped).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(Snapshot::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn the_two_newest_are_kept_and_read_newest_first() {
        let files = SnapshotFiles::new(Arc::new(MemoryStorage::new()), "snapshots/1".into());
        assert!(files.read().unwrap().is_empty());
        for frame in 0..4 {
            files.write(&snapshot(frame).encode().unwrap()).unwrap();
        }
        let found = files.read().unwrap();
        let frames: Vec<u64> =
            found.iter().map(|(_, s)| s.as_ref().unwrap().frontier[0].frame).collect();
        assert_eq!(frames, [3, 2]);
        files.remove(found[0].0).unwrap();
        assert_eq!(files.read().unwrap().len(), 1);
        files.clear().unwrap();
        assert!(files.read().unwrap().is_empty());
    }
}
