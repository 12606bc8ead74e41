//! Keeps the catalog durable: one record per object, each with the statement that made it.
//!
//! The statements are the definitions: at startup they are parsed and planned again, so the plan of
//! a query always fits the program that runs it.
//!
//! The catalog is a log like any other: each frame is a change, synced before anybody acts on it, and
//! what holds is the sum of all. When the log has become much longer than that, a frame with all records
//! stands for what came before, which goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::catalog::error::CatalogError;
use crate::catalog::record::Record;
use crate::fault;
use crate::log::error::LogError;
use crate::log::frame::{FrameKind, NewFrame, Position};
use crate::log::log::{Log, LogOptions};
use crate::log::retention::RetentionRequest;
use crate::log::sequence::Sequencer;
use crate::log::storage::Storage;
use crate::time::VirtualClock;

/// The form of its changes.
pub(super) const FORMAT: u64 = 2;
/// The catalog's directory.
pub(super) const DIRECTORY: &str = "catalog";
/// The file that was the catalog in format 1.
const OLD_FILE: &str = "catalog.redb";
/// There once an engine has run: then there was a catalog.
const TRACES: &str = "system/dead_letters";
/// Bytes of a segment of the log.
const SEGMENT_BYTES: u64 = 256 << 10;
/// Below this the log is never shortened.
const SHORT_BYTES: u64 = 1 << 20;

/// One change of the catalog, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Change {
    format: u64,
    /// The next number, where it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_id: Option<u64>,
    /// Everything before is forgotten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    whole: bool,
    /// Objects that go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    removed: Vec<u64>,
    /// Objects that are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    written: Vec<(u64, Record)>,
    /// Of queries: the first offset that nobody can have seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shown: Vec<(u64, u64)>,
    /// The server's run, where one begins or ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<Run>,
}

/// A run of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The run of the machine that it belongs to.
    pub boot: String,
    /// It came to an orderly end: what was written is on the disk.
    #[serde(default)]
    pub ended: bool,
}

/// What a change says first, whatever else it holds.
#[derive(Deserialize)]
struct Format {
    format: u64,
}

impl Default for Change {
    fn default() -> Change {
        let (removed, written, shown) = (vec![], vec![], vec![]);
        Change { format: FORMAT, next_id: None, whole: false, removed, written, shown, run: None }
    }
}

/// The durable catalog.
#[derive(Debug)]
pub struct Store {
    log: Log,
    known: Mutex<Known>,
}

/// What the changes come to.
#[derive(Debug, Default)]
struct Known {
    records: BTreeMap<u64, Record>,
    /// The last number given, 0 if none was.
    last_id: u64,
    shown: BTreeMap<u64, u64>,
    run: Option<Run>,
    /// Bytes of the log that a frame with all records would take, about.
    whole_bytes: u64,
}

impl Known {
    fn apply(&mut self, change: Change) {
        if change.whole {
            self.records.clear();
            self.shown.clear();
        }
        if let Some(next) = change.next_id {
            self.last_id = next - 1;
        }
        for id in change.removed {
            self.records.remove(&id);
            self.shown.remove(&id);
        }
        self.shown.extend(change.shown);
        self.run = change.run.or(self.run.take());
        for (id, record) in change.written {
            self.records.insert(id, Record { id, ..record });
        }
    }

    fn whole(&self) -> Change {
        let written = self.records.iter().map(|(id, record)| (*id, record.clone())).collect();
        let next_id = Some(self.last_id + 1);
        let there = |(id, _): &(&u64, &u64)| self.records.contains_key(*id);
        let shown = self.shown.iter().filter(there).map(|(id, offset)| (*id, *offset)).collect();
        Change { next_id, whole: true, written, shown, run: self.run.clone(), ..Change::default() }
    }
}

impl Store {
    /// Opens the catalog, creating it if nothing was ever kept here.
    ///
    /// # Errors
    /// XX001 for damage, 0A000 for another format, the log's.
    pub fn open(storage: &Arc<dyn Storage>) -> Result<Store, CatalogError> {
        let names = |directory: &str| {
            let listed = storage.list(directory);
            listed.map_err(|error| LogError::io("open", directory, &error))
        };
        if names("")?.iter().any(|name| name == OLD_FILE) {
            return Err(CatalogError::Format { found: 1 });
        }
        if names(DIRECTORY)?.is_empty() && !names(TRACES)?.is_empty() {
            return Err(CatalogError::Missing);
        }
        // The order of its changes says nothing of other logs, and nobody asks for their times.
        let sequencer = Arc::new(Sequencer::new(Arc::new(VirtualClock::new(0)), 0, 0));
        let options =
            LogOptions { segment_bytes: SEGMENT_BYTES, tail_bytes: 0, ..LogOptions::default() };
        let schema = Arc::new(Schema::empty());
        let log = Log::open(Arc::clone(storage), DIRECTORY, schema, options, sequencer)?;
        let mut known = Known::default();
        let mut position = log.start();
        while position < log.visible() {
            for frame in log.read(position, 1)? {
                let damaged = |detail: String| CatalogError::Damaged { id: frame.index, detail };
                // A newer format may mean something else by the same names.
                let Format { format } = serde_json::from_slice(&frame.meta)
                    .map_err(|error| damaged(error.to_string()))?;
                if format != FORMAT {
                    return Err(CatalogError::Format { found: format });
                }
                let change: Change = serde_json::from_slice(&frame.meta)
                    .map_err(|error| damaged(error.to_string()))?;
                known.apply(change);
                position = Position { frame: frame.index + 1, offset: 0 };
            }
        }
        known.whole_bytes = bytes(&known.whole()).len() as u64;
        Ok(Store { log, known: Mutex::new(known) })
    }

    /// All objects in the order of their creation.
    pub fn load(&self) -> Vec<Record> {
        self.known.lock().records.values().cloned().collect()
    }

    /// An id that no object ever had.
    ///
    /// # Errors
    /// The log's.
    pub fn next_id(&self) -> Result<u64, CatalogError> {
        let mut known = self.known.lock();
        let id = known.last_id + 1;
        self.change(&mut known, Change { next_id: Some(id + 1), ..Change::default() })?;
        Ok(id)
    }

    /// Writes an object, new or changed.
    ///
    /// # Errors
    /// The log's.
    pub fn put(&self, record: &Record) -> Result<(), CatalogError> {
        self.exchange(std::slice::from_ref(record), &[])
    }

    /// Writes some objects and removes others, all or none.
    ///
    /// # Errors
    /// The log's.
    pub fn exchange(&self, written: &[Record], removed: &[u64]) -> Result<(), CatalogError> {
        let written = written.iter().map(|record| (record.id, record.clone())).collect();
        let change = Change { written, removed: removed.to_vec(), ..Change::default() };
        self.change(&mut self.known.lock(), change)
    }

    /// Removes objects, all or none.
    ///
    /// # Errors
    /// The log's.
    pub fn remove(&self, ids: &[u64]) -> Result<(), CatalogError> {
        self.exchange(&[], ids)
    }

    /// The first offset of a query's changelog that nobody can have seen, if that was ever said.
    pub fn shown(&self, id: u64) -> Option<u64> {
        self.known.lock().shown.get(&id).copied()
    }

    /// Says that offsets of a query's changelog below this one may be seen.
    ///
    /// # Errors
    /// The log's.
    pub fn show(&self, id: u64, below: u64) -> Result<(), CatalogError> {
        let change = Change { shown: vec![(id, below)], ..Change::default() };
        self.change(&mut self.known.lock(), change)
    }

    /// The last run of a server.
    pub fn last_run(&self) -> Option<Run> {
        self.known.lock().run.clone()
    }

    /// Notes that a run begins or ends; and with the end, how far changelogs were seen.
    ///
    /// # Errors
    /// The log's.
    pub fn note_run(&self, run: Run, shown: Vec<(u64, u64)>) -> Result<(), CatalogError> {
        let change = Change { run: Some(run), shown, ..Change::default() };
        self.change(&mut self.known.lock(), change)
    }

    fn change(&self, known: &mut Known, change: Change) -> Result<(), CatalogError> {
        self.append(&change)?;
        known.apply(change);
        if self.log.bytes() > SHORT_BYTES.max(8 * known.whole_bytes) {
            self.shorten(known);
        }
        Ok(())
    }

    fn append(&self, change: &Change) -> Result<Position, CatalogError> {
        fault::at("catalog.commit", "");
        let frame = NewFrame::control(FrameKind::Progress, i64::MIN, bytes(change));
        let place = self.log.append(vec![frame], true)?.first;
        fault::at("catalog.committed", "");
        Ok(place)
    }

    /// Lets a frame with all records stand for the frames before it.
    fn shorten(&self, known: &mut Known) {
        let whole = known.whole();
        known.whole_bytes = bytes(&whole).len() as u64;
        let shortened = self.append(&whole).and_then(|place| {
            let request = RetentionRequest {
                older_than_ingest_time: Some(i64::MAX),
                needed_from: Some(place),
                ..RetentionRequest::default()
            };
            Ok(self.log.retain(request)?)
        });
        if let Err(error) = shortened {
            // The change that led here is durable; the next one will tell of the failure.
            tracing::warn!("catalog stays long: {error}");
        }
    }
}

fn bytes(change: &Change) -> Vec<u8> {
    serde_json::to_vec(change).expect("records have texts and numbers only")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::record::Kind;
    use crate::error::{Report, SqlState};
    use crate::log::storage::MemoryStorage;

    fn record(id: u64, name: &str) -> Record {
        Record::new(id, Kind::Stream, name, format!("CREATE STREAM {name} (a BIGINT)"))
    }

    fn open(storage: &MemoryStorage) -> Result<Store, CatalogError> {
        Store::open(&(Arc::new(storage.clone()) as Arc<dyn Storage>))
    }

    #[test]
    fn what_was_put_is_there_after_reopening() {
        let storage = MemoryStorage::new();
        let first = open(&storage).unwrap();
        let (a, b) = (first.next_id().unwrap(), first.next_id().unwrap());
        assert!(b > a);
        first.put(&record(a, "clicks")).unwrap();
        first.put(&record(b, "bids")).unwrap();
        first.remove(&[a]).unwrap();
        drop(first);
        let second = open(&storage.crash(1)).unwrap();
        assert_eq!(second.load(), vec![record(b, "bids")]);
        assert!(second.next_id().unwrap() > b);
    }

    #[test]
    fn a_catalog_that_changes_for_ever_stays_short_and_whole() {
        let storage = MemoryStorage::new();
        let store = open(&storage).unwrap();
        let ids: Vec<u64> = (0..20).map(|_| store.next_id().unwrap()).collect();
        ids.iter().for_each(|id| store.put(&record(*id, "s")).unwrap());
        let text = "x".repeat(2_000);
        for n in 0..2_000 {
            store.put(&Record { swaps: n, ..record(7, &text) }).unwrap();
            assert!(store.log.bytes() < 2 * SHORT_BYTES, "after {n} changes");
        }
        let expected = store.load();
        assert_eq!(expected.len(), 20);
        drop(store);
        let store = open(&storage.crash(5)).unwrap();
        assert!(store.log.start().frame > 0);
        assert_eq!(store.load(), expected);
        assert_eq!(store.next_id().unwrap(), 21);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_damage_and_a_missing_catalog_too() {
        let storage = MemoryStorage::new();
        let store = open(&storage).unwrap();
        for _ in 0..3 {
            let id = store.next_id().unwrap();
            store.put(&record(id, "clicks")).unwrap();
        }
        drop(store);
        let path = storage.paths().into_iter().find(|path| !path.ends_with("mark")).unwrap();
        for position in 0..storage.contents(&path).unwrap().len() {
            let damaged = storage.kill();
            damaged.flip(&path, position, (position % 8) as u8);
            let error = open(&damaged).err().unwrap_or_else(|| panic!("byte {position}"));
            assert_eq!(error.code(), SqlState::CORRUPT, "{error}");
        }
        let gone = MemoryStorage::new();
        gone.put("system/dead_letters/mark", vec![]);
        assert!(matches!(open(&gone), Err(CatalogError::Missing)));
        let old = MemoryStorage::new();
        old.put("catalog.redb", vec![]);
        assert!(matches!(open(&old), Err(CatalogError::Format { found: 1 })));
    }

    #[test]
    fn a_catalog_of_a_newer_program_is_refused_whatever_it_means_by_its_words() {
        let storage = MemoryStorage::new();
        let store = open(&storage).unwrap();
        let id = store.next_id().unwrap();
        store.put(&record(id, "clicks")).unwrap();
        let meta = br#"{"format":3,"written":{"in another":"form"}}"#.to_vec();
        let change = NewFrame::control(FrameKind::Progress, i64::MIN, meta);
        store.log.append(vec![change], true).unwrap();
        drop(store);
        let newest = |disk: &MemoryStorage| disk.contents("catalog/00000000000000000000.seg");
        let before = newest(&storage);
        let error = open(&storage).unwrap_err();
        assert_eq!(error.code(), SqlState::NOT_SUPPORTED);
        let said = "catalog \"catalog\" has format 3, and this program reads format 2";
        assert_eq!(error.to_string(), said);
        assert_eq!(newest(&storage), before);
    }

    #[test]
    fn runs_and_what_was_seen_are_there_after_reopening() {
        let storage = MemoryStorage::new();
        let store = open(&storage).unwrap();
        assert_eq!((store.last_run(), store.shown(1)), (None, None));
        let id = store.next_id().unwrap();
        store.put(&record(id, "q")).unwrap();
        store.show(id, 500).unwrap();
        let run = Run { boot: "7".into(), ended: false };
        store.note_run(run.clone(), vec![]).unwrap();
        drop(store);
        let storage = storage.crash(1);
        let store = open(&storage).unwrap();
        assert_eq!((store.last_run(), store.shown(id)), (Some(run.clone()), Some(500)));
        let ended = Run { ended: true, ..run };
        store.note_run(ended.clone(), vec![(id, 20)]).unwrap();
        let whole = store.known.lock().whole();
        drop(store);
        let storage = storage.crash(1);
        let store = open(&storage).unwrap();
        assert_eq!((store.last_run(), store.shown(id)), (Some(ended.clone()), Some(20)));
        assert_eq!((whole.run, whole.shown), (Some(ended), vec![(id, 20)]));
        store.remove(&[id]).unwrap();
        assert_eq!(store.shown(id), None);
    }
}
