//! Reads back what the sink wrote into SQLite.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::answer::Answer;
use crate::error::{Error, Result, SqlState};

/// The answer of a SELECT in a SQLite file.
pub(super) fn ask(path: &Path, sql: &str) -> Result<Answer> {
    read(path, sql).map_err(|error| {
        let message = format!("database \"{}\" cannot be read", path.display());
        Error::new(SqlState::IO, message).with_detail(error.to_string())
    })
}

fn read(path: &Path, sql: &str) -> rusqlite::Result<Answer> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut statement = connection.prepare(sql)?;
    let columns: Vec<String> = statement.column_names().into_iter().map(String::from).collect();
    let width = columns.len();
    let rows = statement.query_map([], |row| {
        (0..width)
            .map(|column| {
                Ok(match row.get_ref(column)? {
                    ValueRef::Null => String::new(),
                    ValueRef::Integer(value) => value.to_string(),
                    ValueRef::Real(value) => value.to_string(),
                    ValueRef::Text(value) | ValueRef::Blob(value) => {
                        String::from_utf8_lossy(value).into_owned()
                    }
                })
            })
            .collect::<rusqlite::Result<Vec<String>>>()
    })?;
    Ok(Answer { columns, rows: rows.collect::<rusqlite::Result<_>>()? })
}
