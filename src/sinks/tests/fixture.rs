//! Databases for tests, and changes written as text.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rusqlite::types::ValueRef;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::{mariadb, pg};
use crate::sinks::ddl::TableName;
use crate::sinks::mysql::MysqlTarget;
use crate::sinks::mysql_url::MysqlUrl;
use crate::sinks::mysql_wire::Connection;
use crate::sinks::postgres::PostgresTarget;
use crate::sinks::sink::{Refused, SinkBatch, SinkError, SinkMode, SinkPlan, SinkTarget};
use crate::sinks::sqlite::SqliteTarget;

/// A database that nobody else uses.
pub(super) trait Database {
    /// A new writer.
    fn target(&self) -> Box<dyn SinkTarget>;
    /// Runs statements; answers the rows of the last SELECT, fields joined by `|`, NULL as `∅`.
    fn sql(&self, sql: &str) -> Vec<String>;
    /// The widest character that a column's name may have.
    fn wide(&self) -> char {
        '\u{1F4A7}'
    }
    /// Takes away what sinks left.
    fn clear(&self) {
        self.sql("DROP TABLE IF EXISTS t");
        self.sql("DROP TABLE IF EXISTS weir_progress");
    }
}

/// A SQLite file in a temporary directory.
pub(super) struct Sqlite {
    directory: tempfile::TempDir,
}

impl Sqlite {
    pub(super) fn new() -> Sqlite {
        Sqlite { directory: tempfile::tempdir().unwrap() }
    }
}

impl Database for Sqlite {
    fn target(&self) -> Box<dyn SinkTarget> {
        Box::new(SqliteTarget::new(self.directory.path().join("sink.db")))
    }

    fn sql(&self, sql: &str) -> Vec<String> {
        let connection = rusqlite::Connection::open(self.directory.path().join("sink.db")).unwrap();
        if !sql.starts_with("SELECT") {
            connection.execute_batch(sql).unwrap();
            return Vec::new();
        }
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut lines = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let fields: Vec<String> = (0..columns)
                .map(|column| match row.get_ref(column).unwrap() {
                    ValueRef::Null => "∅".into(),
                    ValueRef::Integer(value) => value.to_string(),
                    ValueRef::Real(value) => format!("{value:?}"),
                    ValueRef::Text(value) => String::from_utf8_lossy(value).into_owned(),
                    ValueRef::Blob(value) => format!("{value:02x?}"),
                })
                .collect();
            lines.push(fields.join("|"));
        }
        lines
    }
}

/// A schema in a PostgreSQL database.
pub(super) struct Postgres {
    pub(super) url: String,
    /// The server's certificate, if it can encrypt.
    pub(super) certificate: Option<PathBuf>,
}

impl Postgres {
    /// `None`, after a line that says why, when there is no server.
    pub(super) fn new() -> Option<Postgres> {
        let server = match pg::postgres() {
            Ok(server) => server,
            Err(reason) => {
                println!("{reason}");
                return None;
            }
        };
        let schema = server.fresh_schema();
        let database =
            Postgres { url: server.url_in(&schema), certificate: server.certificate.clone() };
        database.sql(&format!("CREATE SCHEMA {schema}"));
        Some(database)
    }
}

impl Database for Postgres {
    fn target(&self) -> Box<dyn SinkTarget> {
        Box::new(PostgresTarget::new(self.url.clone(), None))
    }

    fn sql(&self, sql: &str) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let messages = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
            let driver = tokio::spawn(connection);
            let messages = client.simple_query(sql).await.unwrap();
            drop(client);
            driver.await.unwrap().unwrap();
            messages
        });
        let mut lines = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                let fields: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("∅")).collect();
                lines.push(fields.join("|"));
            }
        }
        lines
    }
}

/// A database of a MariaDB or MySQL server.
pub(super) struct MariaDb {
    pub(super) url: MysqlUrl,
    /// The server's certificate, if it can encrypt.
    pub(super) certificate: Option<PathBuf>,
}

impl MariaDb {
    /// `None`, after a line that says why, when there is no server.
    pub(super) fn new() -> Option<MariaDb> {
        let server = match mariadb::mariadb() {
            Ok(server) => server,
            Err(reason) => {
                println!("{reason}");
                return None;
            }
        };
        let name = server.fresh_database();
        let url = |database: &str| MysqlUrl::parse(&format!("{}/{database}", server.url)).unwrap();
        let create =
            format!("CREATE DATABASE {name} CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin");
        Connection::open(&url("mysql"), None).unwrap().query(create.as_bytes()).unwrap();
        Some(MariaDb { url: url(&name), certificate: server.certificate.clone() })
    }
}

impl Database for MariaDb {
    fn target(&self) -> Box<dyn SinkTarget> {
        Box::new(MysqlTarget::new(self.url.clone(), None))
    }

    /// As in the standard names are in double quotes; keys of text have a length.
    fn sql(&self, sql: &str) -> Vec<String> {
        let mut connection = Connection::open(&self.url, None).unwrap();
        connection.query(b"SET NAMES utf8mb4").unwrap();
        connection.query(b"SET SESSION sql_mode = 'ANSI_QUOTES,STRICT_ALL_TABLES'").unwrap();
        let answer = connection.query(sql.replace(" TEXT", " VARCHAR(200)").as_bytes()).unwrap();
        let line = |row: &Vec<Option<String>>| {
            let fields = row.iter().map(|field| field.clone().unwrap_or("∅".into()));
            fields.collect::<Vec<String>>().join("|")
        };
        answer.rows.iter().map(line).collect()
    }

    fn wide(&self) -> char {
        '\u{20AC}'
    }
}

/// Columns `k TEXT, n BIGINT`; the key of upsert is `k`.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Utf8View, true),
        Field::new("n", DataType::Int64, true),
    ]))
}

/// The plan of sink `id` into table `t`.
pub(super) fn plan(id: &str, mode: SinkMode) -> SinkPlan {
    SinkPlan {
        id: id.into(),
        name: "s".into(),
        changelog: "q".into(),
        schema: schema(),
        table: TableName::plain("t"),
        mode,
        key: if mode == SinkMode::Upsert { vec![0] } else { vec![] },
        adopt: false,
        add_columns: false,
        history: None,
    }
}

/// `+a1 -b22`: sign, key (`_` is null), number. All `+`: without weights, as append-only edges are.
pub(super) fn changes(first_offset: u64, text: &str) -> SinkBatch {
    let words: Vec<&str> = text.split_whitespace().collect();
    let keys =
        StringViewArray::from_iter(words.iter().map(|w| Some(&w[1..2]).filter(|k| *k != "_")));
    let numbers = Int64Array::from_iter_values(words.iter().map(|w| w[2..].parse().unwrap()));
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(numbers)]).unwrap();
    let weight = |w: &&str| if w.starts_with('-') { -1 } else { 1 };
    let weights = words
        .iter()
        .any(|w| w.starts_with('-'))
        .then(|| Int64Array::from_iter_values(words.iter().map(weight)));
    SinkBatch { batch, weights, first_offset }
}

/// A writer that has prepared a plan.
pub(super) struct Writer {
    target: Box<dyn SinkTarget>,
    /// The offset up to which it has committed.
    pub(super) offset: u64,
    /// What was refused.
    pub(super) refused: Vec<Refused>,
}

impl Writer {
    pub(super) fn new(database: &dyn Database, plan: &SinkPlan) -> Result<Writer, SinkError> {
        let mut target = database.target();
        let offset = target.prepare(plan)?;
        Ok(Writer { target, offset, refused: Vec::new() })
    }

    /// Commits a batch that starts at the writer's offset.
    pub(super) fn commit(&mut self, batch: &SinkBatch) -> Result<u64, SinkError> {
        let to = self.offset + batch.batch.num_rows() as u64;
        let refused = &mut self.refused;
        let mut refuse = |rows: &[Refused]| {
            refused.extend_from_slice(rows);
            Ok(())
        };
        let written = self.target.commit(batch, self.offset, to, &mut refuse)?;
        self.offset = to;
        Ok(written)
    }

    /// Commits changes written as text.
    pub(super) fn write(&mut self, text: &str) -> Result<u64, SinkError> {
        let batch = changes(self.offset, text);
        self.commit(&batch)
    }
}

/// A writer of the plan that must be accepted.
pub(super) fn writer(database: &dyn Database, plan: &SinkPlan) -> Writer {
    Writer::new(database, plan).unwrap()
}
