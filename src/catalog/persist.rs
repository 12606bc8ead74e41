//! Keeps the catalog durable: one record per object, each with the statement that made it.
//!
//! The statements are the definitions: at startup they are parsed and planned again, so the plan of
//! a query always fits the program that runs it. redb makes each change atomic and durable.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::error::{Report, SqlState};
use crate::fault;
use crate::sql::statement::ObjectKind;

const OBJECTS: TableDefinition<u64, &[u8]> = TableDefinition::new("objects");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const FORMAT: u64 = 1;

/// Why the catalog cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The store failed.
    #[error("catalog cannot be read or written: {0}")]
    Store(String),
    /// A record is damaged or of another version.
    #[error("catalog record {id} is damaged")]
    Damaged {
        /// The object.
        id: u64,
        /// What does not fit.
        detail: String,
    },
    /// The catalog is of another version of the program.
    #[error("catalog has format {found}, and this program reads format {FORMAT}")]
    Format {
        /// The format found.
        found: u64,
    },
}

impl Report for CatalogError {
    fn code(&self) -> SqlState {
        match self {
            CatalogError::Store(_) => SqlState::IO,
            CatalogError::Damaged { .. } => SqlState::CORRUPT,
            CatalogError::Format { .. } => SqlState::NOT_SUPPORTED,
        }
    }
    fn detail(&self) -> Option<String> {
        match self {
            CatalogError::Damaged { detail, .. } => Some(detail.clone()),
            CatalogError::Store(_) | CatalogError::Format { .. } => None,
        }
    }
}

/// One object of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Never used twice; names the object's directory.
    #[serde(skip)]
    pub id: u64,
    /// Kind of object.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// The statement that made it, in canonical form.
    pub sql: String,
    /// Whether the query or sink is paused.
    #[serde(default)]
    pub paused: bool,
    /// Minted at CREATE SINK: the key of its progress mark in the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink_id: Option<String>,
    /// Where the query began to read each input when it was created: frame, offset. Of a stream, where
    /// `weir.dead_letters` and `weir.shed` ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub start: Vec<(u64, u64)>,
    /// Up to where the query's changelog is given, and not regenerated on recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// How often the query's plan was swapped.
    #[serde(default)]
    pub swaps: u64,
    /// Where the result stands that stands for the removed part of the changelog: the frame and the
    /// offset behind that part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<(u64, u64)>,
    /// Whether the changelog has weights and arrivals; `None`: as the plan wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<(bool, bool)>,
    /// Why a sink stays stopped, code and message, until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<(String, String)>,
}

/// A frame of a changelog up to which everything is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Index of the last frame that is given.
    pub frame: u64,
    /// How far the inputs had been read then: frame and offset of each.
    pub frontier: Vec<(u64, u64)>,
}

impl Record {
    /// A new object.
    pub fn new(id: u64, kind: Kind, name: &str, sql: String) -> Record {
        Record {
            id,
            kind,
            name: name.into(),
            sql,
            paused: false,
            sink_id: None,
            start: vec![],
            base: None,
            swaps: 0,
            kept: None,
            layout: None,
            failure: None,
        }
    }
}

/// Kinds of objects, as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A stream.
    Stream,
    /// A table.
    Table,
    /// A continuous query.
    Query,
    /// A sink.
    Sink,
}

impl From<ObjectKind> for Kind {
    fn from(kind: ObjectKind) -> Kind {
        match kind {
            ObjectKind::Stream => Kind::Stream,
            ObjectKind::Table => Kind::Table,
            ObjectKind::Query => Kind::Query,
            ObjectKind::Sink => Kind::Sink,
        }
    }
}

impl Kind {
    /// As messages name it.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Stream => "stream",
            Kind::Table => "table",
            Kind::Query => "continuous query",
            Kind::Sink => "sink",
        }
    }
}

/// The durable catalog.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

fn store(error: impl std::fmt::Display) -> CatalogError {
    CatalogError::Store(error.to_string())
}

fn commit(transaction: redb::WriteTransaction) -> Result<(), CatalogError> {
    fault::at("catalog.commit", "");
    fault::io("catalog.write", "").map_err(store)?;
    transaction.commit().map_err(store)?;
    fault::at("catalog.committed", "");
    Ok(())
}

impl Store {
    /// Opens the catalog in `path`, creating it if it is missing.
    pub fn open(path: &Path) -> Result<Store, CatalogError> {
        const CACHE_BYTES: usize = 1 << 20;
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(store)?;
        let transaction = database.begin_write().map_err(store)?;
        {
            transaction.open_table(OBJECTS).map_err(store)?;
            let mut meta = transaction.open_table(META).map_err(store)?;
            let found = meta.get("format").map_err(store)?.map(|value| value.value());
            match found {
                None => {
                    meta.insert("format", FORMAT).map_err(store)?;
                }
                Some(FORMAT) => {}
                Some(found) => return Err(CatalogError::Format { found }),
            }
        }
        transaction.commit().map_err(store)?;
        Ok(Store { database })
    }

    /// All objects in the order of their creation.
    pub fn load(&self) -> Result<Vec<Record>, CatalogError> {
        let transaction = self.database.begin_read().map_err(store)?;
        let objects = transaction.open_table(OBJECTS).map_err(store)?;
        let mut records = Vec::new();
        for entry in objects.iter().map_err(store)? {
            let (id, value) = entry.map_err(store)?;
            let id = id.value();
            let mut record: Record = serde_json::from_slice(value.value())
                .map_err(|e| CatalogError::Damaged { id, detail: e.to_string() })?;
            record.id = id;
            records.push(record);
        }
        Ok(records)
    }

    /// An id that no object ever had.
    pub fn next_id(&self) -> Result<u64, CatalogError> {
        let transaction = self.database.begin_write().map_err(store)?;
        let id = {
            let mut meta = transaction.open_table(META).map_err(store)?;
            let id = meta.get("next_id").map_err(store)?.map_or(1, |value| value.value());
            meta.insert("next_id", id + 1).map_err(store)?;
            id
        };
        commit(transaction)?;
        Ok(id)
    }

    /// Writes an object, new or changed.
    pub fn put(&self, record: &Record) -> Result<(), CatalogError> {
        let bytes = serde_json::to_vec(record).map_err(store)?;
        let transaction = self.database.begin_write().map_err(store)?;
        transaction
            .open_table(OBJECTS)
            .map_err(store)?
            .insert(record.id, bytes.as_slice())
            .map_err(store)?;
        commit(transaction)
    }

    /// Writes some objects and removes others, all or none.
    pub fn exchange(&self, written: &[Record], removed: &[u64]) -> Result<(), CatalogError> {
        let transaction = self.database.begin_write().map_err(store)?;
        {
            let mut objects = transaction.open_table(OBJECTS).map_err(store)?;
            for id in removed {
                objects.remove(id).map_err(store)?;
            }
            for record in written {
                let bytes = serde_json::to_vec(record).map_err(store)?;
                objects.insert(record.id, bytes.as_slice()).map_err(store)?;
            }
        }
        commit(transaction)
    }

    /// Removes objects, all or none.
    pub fn remove(&self, ids: &[u64]) -> Result<(), CatalogError> {
        let transaction = self.database.begin_write().map_err(store)?;
        {
            let mut objects = transaction.open_table(OBJECTS).map_err(store)?;
            for id in ids {
                objects.remove(id).map_err(store)?;
            }
        }
        commit(transaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64, name: &str) -> Record {
        Record::new(id, Kind::Stream, name, format!("CREATE STREAM {name} (a BIGINT)"))
    }

    #[test]
    fn what_was_put_is_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("catalog.redb");
        let first = Store::open(&path).unwrap();
        let (a, b) = (first.next_id().unwrap(), first.next_id().unwrap());
        assert!(b > a);
        first.put(&record(a, "clicks")).unwrap();
        first.put(&record(b, "bids")).unwrap();
        first.remove(&[a]).unwrap();
        drop(first);
        let second = Store::open(&path).unwrap();
        assert_eq!(second.load().unwrap(), vec![record(b, "bids")]);
        assert!(second.next_id().unwrap() > b);
    }
}
