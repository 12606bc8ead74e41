//! Keeps the state of a running query in files, so that a restart replays minutes and not months.
//!
//! A snapshot is the state of all operators between two steps, with the place in every log that it
//! belongs to: how far each input had been read, and how long the changelog was. A query that starts
//! from it reads its inputs from there, and regenerates only the entries of the changelog behind it.
//!
//! ```text
//!      0          8         12        16
//!      ┌──────────┬─────────┬─────────┬─────────┬─────────┬─ … ─┬─────┐
//!      │ WEIRSNAP │ version │ crc     │ section │ section │     │ end │
//!      └──────────┴─────────┴─────────┴─────────┴─────────┴─ … ─┴─────┘
//!      section   node, crc of the body, length, crc of these 16 bytes, body
//!                the first: plan, frontier, changelog position, …; others: state of one operator
//!      end       a section without a node that says how many there are
//! ```
//! Little-endian; checksums are CRC-32C. An operator's sections stand in the order in which it wrote
//! them. The parts of bodies are written as [`crate::operators::state`] says.
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
use std::sync::mpsc::sync_channel;

use crate::error::Result as Outcome;
use crate::fault;
use crate::log::frame::Position;
use crate::log::log::Log;
use crate::log::storage::{Storage, StorageFile};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};
use crate::pipeline::drive::{QueryRun, misfit as no_fit};
use crate::pipeline::graph_state::Section;
use crate::pipeline::snapshot_head::Head;

const MAGIC: &[u8; 8] = b"WEIRSNAP";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 16;
const SECTION_BYTES: usize = 20;
/// Stand where a section has its operator.
const HEAD: u32 = u32::MAX;
const END: u32 = u32::MAX - 1;
/// Snapshots that are kept of a query.
pub const KEPT: usize = 2;
const SUFFIX: &str = ".snapshot";
/// Sections that are read and checked before the operators come to them.
const READ_AHEAD: usize = 4;
/// Bytes after which a file is synced while it is written, so that no sync holds up those of the logs.
const SYNC_BYTES: u64 = 32 << 20;

impl QueryRun {
    /// Begins to write the state between two steps, which belongs to `plan`; the rest is
    /// [`Graph::save_more`](crate::pipeline::graph::Graph::save_more).
    ///
    /// # Errors
    /// XX000 when an operator cannot write its state, which is a broken invariant.
    pub fn snapshot(
        &mut self,
        plan: &str,
        counts: (u64, u64, u64),
    ) -> Outcome<(Head, Vec<Section>)> {
        assert!(!self.replaying(), "the changelog is ahead of the operators");
        let mut shared = StateWriter::default();
        let sections = self.graph.save_begin(&mut shared)?;
        let head = Head {
            plan: plan.to_owned(),
            frontier: self.frontier(),
            changelog: self.changelog.log().visible(),
            written_watermark: self.written_watermark,
            counts,
            late_rows: self.late_rows,
            signed: self.changelog.is_signed(),
            level: self.shedding.level,
            shed: self.shedding.shed.iter().map(|shed| (shed.first, shed.rows)).collect(),
            graph: shared.finish(),
        };
        Ok((head, sections))
    }

    /// Goes on from a snapshot of the same plan. After an error the operators are of no use.
    ///
    /// # Errors
    /// WR006 when the snapshot does not fit the plan or the logs, or is damaged.
    pub fn restore(&mut self, snapshot: &SnapshotFile) -> Outcome<()> {
        let head = &snapshot.head;
        let fits = |log: &Log, at: Position| {
            log.start().frame <= at.frame && at.frame <= log.visible().frame
        };
        let inputs = self.inputs.iter().zip(&head.frontier);
        if head.frontier.len() != self.inputs.len()
            || !inputs.clone().all(|(input, at)| fits(input.source.log(), *at))
            || head.changelog.frame > self.changelog.log().visible().frame
        {
            return Err(no_fit("a log is not there up to the place of the snapshot"));
        }
        let mut from = StateReader::new(&head.graph);
        self.graph.restore(&mut from)?;
        from.end()?;
        let graph = &mut self.graph;
        snapshot.sections(|section| graph.restore_section(section.node, &section.state))?;
        self.graph.restored()?;
        self.begins = false;
        for (input, at) in self.inputs.iter_mut().zip(&head.frontier) {
            input.position = *at;
        }
        self.written_watermark = head.written_watermark;
        self.late_rows = head.late_rows;
        self.shedding.restore(head.level, &head.shed)?;
        if self.shedding.is_active() {
            self.changelog.note_level(head.level);
        }
        Ok(())
    }
}

/// The snapshots of one query, in a directory of their own.
#[derive(Debug)]
pub struct SnapshotFiles {
    storage: Arc<dyn Storage>,
    directory: String,
}

/// A snapshot that is being written.
#[derive(Debug)]
pub struct Draft {
    file: Arc<dyn StorageFile>,
    length: u64,
    synced: u64,
    sections: u64,
}

/// A snapshot that can be read; its first section is read and checked.
#[derive(Debug)]
pub struct SnapshotFile {
    file: Arc<dyn StorageFile>,
    /// What it says of itself.
    pub head: Head,
    /// Where the sections of the operators begin.
    begin: u64,
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

    /// The file of a snapshot.
    pub fn path(&self, number: u64) -> String {
        format!("{}/{number:020}{SUFFIX}", self.directory)
    }

    fn draft(&self) -> String {
        format!("{}/draft", self.directory)
    }

    /// Begins a snapshot; one that was begun before is given up.
    pub fn begin(&self, head: &Head) -> io::Result<Draft> {
        self.storage.create_dir(&self.directory)?;
        let file = self.storage.open(&self.draft())?;
        file.set_len(0)?;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend(MAGIC);
        header.extend(VERSION.to_le_bytes());
        header.extend(crc32c::crc32c(&header).to_le_bytes());
        file.write_at(&header, 0)?;
        let mut draft = Draft { file, length: HEADER_BYTES as u64, synced: 0, sections: 0 };
        let state = head.encode().map_err(io::Error::other)?;
        draft.section(&Section { node: HEAD, state })?;
        Ok(draft)
    }

    /// Makes a snapshot durable under its own name, and removes those that are too many.
    pub fn finish(&self, mut draft: Draft) -> io::Result<u64> {
        let numbers = self.numbers()?;
        let path = self.path(numbers.last().map_or(0, |last| last + 1));
        let half = draft.length / 2;
        fault::after("snapshot.torn", &path, || drop(draft.file.set_len(half)));
        fault::io("snapshot.write", &path)?;
        let state = draft.sections.to_le_bytes().to_vec();
        draft.section(&Section { node: END, state })?;
        draft.file.sync()?;
        fault::at("snapshot.drafted", &path);
        self.storage.rename(&self.draft(), &path)?;
        fault::at("snapshot.renamed", &path);
        self.storage.sync_dir(&self.directory)?;
        fault::at("snapshot.written", &path);
        let extra = (numbers.len() + 1).saturating_sub(KEPT);
        numbers[..extra].iter().try_for_each(|number| self.storage.remove(&self.path(*number)))?;
        Ok(draft.length)
    }

    /// All snapshots, newest first, each with its number or why it cannot be used.
    pub fn read(&self) -> io::Result<Vec<(u64, Result<SnapshotFile, EvalError>)>> {
        let numbers = self.numbers()?.into_iter().rev();
        let open = |number| {
            let file = self.storage.open(&self.path(number)).and_then(SnapshotFile::open);
            let file = file.map_err(|error| misfit(&format!("it cannot be read: {error}")));
            (number, file.and_then(|file| file))
        };
        Ok(numbers.map(open).collect())
    }

    /// Whether a newer program wrote it, which may want it back.
    pub fn is_newer(&self, number: u64) -> io::Result<bool> {
        let header = self.storage.open(&self.path(number))?.read_at(0, HEADER_BYTES)?;
        let sound = header.len() == HEADER_BYTES
            && &header[..8] == MAGIC
            && word(&header, 12) == crc32c::crc32c(&header[..12]);
        Ok(sound && word(&header, 8) > VERSION)
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

impl Draft {
    /// Writes a section.
    pub fn section(&mut self, section: &Section) -> io::Result<()> {
        let mut header = Vec::with_capacity(SECTION_BYTES);
        header.extend(section.node.to_le_bytes());
        header.extend(crc32c::crc32c(&section.state).to_le_bytes());
        header.extend((section.state.len() as u64).to_le_bytes());
        header.extend(crc32c::crc32c(&header).to_le_bytes());
        self.file.write_at(&header, self.length)?;
        self.file.write_at(&section.state, self.length + SECTION_BYTES as u64)?;
        self.length += (SECTION_BYTES + section.state.len()) as u64;
        self.sections += 1;
        if self.length - self.synced >= SYNC_BYTES {
            self.file.sync()?;
            self.synced = self.length;
        }
        Ok(())
    }
}

impl SnapshotFile {
    /// Opens a file and reads its first section, trusting no byte.
    fn open(file: Arc<dyn StorageFile>) -> io::Result<Result<SnapshotFile, EvalError>> {
        let header = file.read_at(0, HEADER_BYTES)?;
        Ok(check_header(&header).and_then(|()| read_section(&*file, HEADER_BYTES as u64)).and_then(
            |(section, begin)| match section.node {
                HEAD => Ok(SnapshotFile { head: Head::decode(&section.state)?, file, begin }),
                _ => Err(misfit("the first section is not the head")),
            },
        ))
    }

    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.file.len().unwrap_or_default()
    }

    /// Hands every section of an operator to `each`, in order, while the next ones are read and checked
    /// on a thread of their own.
    ///
    /// # Errors
    /// Where the file is damaged, and those of `each`.
    pub fn sections(
        &self,
        mut each: impl FnMut(Section) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        std::thread::scope(|scope| {
            let (send, sections) = sync_channel(READ_AHEAD);
            let read = move || {
                let (mut position, mut count) = (self.begin, 1);
                loop {
                    let next = read_section(&*self.file, position).and_then(|(section, next)| {
                        position = next;
                        match section.node {
                            END => self.check_end(&section, next, count).map(|()| None),
                            HEAD => Err(misfit("there are two heads")),
                            _ => Ok(Some(section)),
                        }
                    });
                    count += 1;
                    let more = matches!(next, Ok(Some(_)));
                    // Whoever takes no more has met an error.
                    if send.send(next).is_err() || !more {
                        return;
                    }
                }
            };
            let reader = std::thread::Builder::new().name("snapshot-reader".into());
            reader.spawn_scoped(scope, read).map_err(|e| misfit(&format!("no thread: {e}")))?;
            while let Some(section) = sections.recv().map_err(|_| misfit("it ends"))?? {
                each(section)?;
            }
            Ok(())
        })
    }

    fn check_end(&self, end: &Section, position: u64, count: u64) -> Result<(), EvalError> {
        if end.state != count.to_le_bytes() {
            return Err(misfit("sections are missing"));
        }
        match self.file.len() {
            Ok(length) if length == position => Ok(()),
            _ => Err(misfit("bytes are left behind the end")),
        }
    }
}

fn check_header(header: &[u8]) -> Result<(), EvalError> {
    if header.len() < HEADER_BYTES {
        return Err(misfit("the header is cut off"));
    }
    if &header[..8] != MAGIC || word(header, 12) != crc32c::crc32c(&header[..12]) {
        return Err(misfit("the header is damaged"));
    }
    match word(header, 8) {
        VERSION => Ok(()),
        found => Err(misfit(&format!(
            "it has version {found}, and this program reads version {VERSION}"
        ))),
    }
}

/// The section at a place in a file, and the place behind it.
fn read_section(file: &dyn StorageFile, at: u64) -> Result<(Section, u64), EvalError> {
    let damaged = |what: &str| misfit(&format!("{what} at byte {at}"));
    let unreadable = |error: io::Error| damaged(&format!("{error}, in the section"));
    let header = file.read_at(at, SECTION_BYTES).map_err(unreadable)?;
    if header.len() < SECTION_BYTES || word(&header, 16) != crc32c::crc32c(&header[..16]) {
        return Err(damaged("the header of the section is damaged"));
    }
    let length = u64::from(word(&header, 8)) | u64::from(word(&header, 12)) << 32;
    let begin = at + SECTION_BYTES as u64;
    let left = file.len().map_err(unreadable)?.saturating_sub(begin);
    let state = match usize::try_from(length) {
        Ok(length) if length as u64 <= left => file.read_at(begin, length).map_err(unreadable)?,
        _ => return Err(damaged("the file ends within the section")),
    };
    if word(&header, 4) != crc32c::crc32c(&state) {
        return Err(damaged("the body of the section is damaged"));
    }
    Ok((Section { node: word(&header, 0), state }, begin + length))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the header is longer"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::storage::MemoryStorage;

    fn head(frame: u64) -> Head {
        Head {
            plan: "Source s".into(),
            frontier: vec![Position { frame, offset: frame * 10 }],
            changelog: Position { frame: 1, offset: 2 },
            written_watermark: -7,
            counts: (1, 2, 3),
            late_rows: 4,
            signed: true,
            level: 0,
            shed: vec![],
            graph: vec![1, 2, 3],
        }
    }

    #[test]
    fn what_was_shed_is_read_back() {
        for (level, shed) in [(3, vec![(5, 6), (0, 0)]), (0, vec![(5, 6)]), (16, vec![])] {
            let head = Head { level, shed, ..head(1) };
            assert_eq!(Head::decode(&head.encode().unwrap()).unwrap(), head);
        }
    }

    fn sections() -> Vec<Section> {
        vec![
            Section { node: 0, state: vec![4, 5] },
            Section { node: 1, state: vec![] },
            Section { node: 0, state: vec![6] },
        ]
    }

    fn write(files: &SnapshotFiles, frame: u64) {
        let mut draft = files.begin(&head(frame)).unwrap();
        sections().iter().for_each(|section| draft.section(section).unwrap());
        files.finish(draft).unwrap();
    }

    /// What the bytes of a file hold.
    fn read(bytes: &[u8]) -> Result<(Head, Vec<Section>), EvalError> {
        let storage = MemoryStorage::new();
        let file = storage.open("f").unwrap();
        file.write_at(bytes, 0).unwrap();
        let snapshot = SnapshotFile::open(file).unwrap()?;
        let mut sections = Vec::new();
        snapshot.sections(|section| {
            sections.push(section);
            Ok(())
        })?;
        Ok((snapshot.head, sections))
    }

    fn bytes() -> Vec<u8> {
        let storage = Arc::new(MemoryStorage::new());
        let files = SnapshotFiles::new(Arc::clone(&storage) as Arc<dyn Storage>, "s".into());
        write(&files, 5);
        let file = storage.open(&files.path(0)).unwrap();
        file.read_at(0, file.len().unwrap() as usize).unwrap()
    }

    #[test]
    fn a_snapshot_comes_back_and_every_flipped_bit_is_noticed() {
        let bytes = bytes();
        assert_eq!(read(&bytes).unwrap(), (head(5), sections()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(read(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn a_file_of_today_is_the_golden_one() {
        let hex: String = bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        expect_test::expect!["57454952534e4150020000006309ce69ffffffff551d242e6c00000000000000fb94f16e0800000000000000536f75726365207301000000000000000500000000000000320000000000000001000000000000000200000000000000f9ffffffffffffff01000000000000000200000000000000030000000000000004000000000000000103000000000000000102030000000012021a8a02000000000000001018682b04050100000000000000000000000000000014977cb000000000b9b4dc7401000000000000002a669b3e06feffffffe73035ad08000000000000004ccb62050400000000000000"].assert_eq(&hex);
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let mut bytes = bytes();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let error = read(&bytes).unwrap_err().to_string();
        let at = last + 1 - 8 - SECTION_BYTES;
        assert!(error.contains(&format!("the section is damaged at byte {at}")), "{error}");
    }

    #[test]
    fn the_two_newest_are_kept_and_read_newest_first() {
        let files = SnapshotFiles::new(Arc::new(MemoryStorage::new()), "snapshots/1".into());
        assert!(files.read().unwrap().is_empty());
        (0..4).for_each(|frame| write(&files, frame));
        let found = files.read().unwrap();
        let frames: Vec<u64> =
            found.iter().map(|(_, s)| s.as_ref().unwrap().head.frontier[0].frame).collect();
        assert_eq!(frames, [3, 2]);
        files.remove(found[0].0).unwrap();
        assert_eq!(files.read().unwrap().len(), 1);
        files.clear().unwrap();
        assert!(files.read().unwrap().is_empty());
    }
}
