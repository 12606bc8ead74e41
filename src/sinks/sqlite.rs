//! Writes a changelog into a SQLite file.
//!
//! A row is refused alone: SQLite undoes the failed statement and keeps the transaction. An upsert
//! is UPDATE … WHERE key IS …, and INSERT where that met nothing, so null keys are keys like others
//! and columns that the user added to the table stay. SQLite has no NaN: a row with one is refused (22023).

use std::path::PathBuf;
use std::time::Duration;

use arrow::datatypes::DataType;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Statement, params};

use crate::error::SqlState;
use crate::sinks::ddl::{self, quote};
use crate::sinks::failure::Failure;
use crate::sinks::net_effect::{Item, Operation, net_effect};
use crate::sinks::progress::{self, PROGRESS};
use crate::sinks::sink::{Refuse, Refused, SinkBatch, SinkError, SinkMode, SinkPlan, SinkTarget};
use crate::sinks::sqlite_table;
use crate::sinks::sqlite_value::stored;
use crate::sinks::values::{self, Column, Value};

/// How long a statement waits for another process' lock before the sink backs off.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A table in a SQLite file.
#[derive(Debug)]
pub struct SqliteTarget {
    path: PathBuf,
    connection: Option<Connection>,
    claim: Option<Claim>,
}

/// What [`SinkTarget::prepare`] found and claimed.
#[derive(Debug)]
struct Claim {
    plan: SinkPlan,
    fence: i64,
    insert: String,
    update: String,
    delete: String,
}

impl SqliteTarget {
    /// A target that opens the file at [`SinkTarget::prepare`].
    pub fn new(path: PathBuf) -> SqliteTarget {
        SqliteTarget { path, connection: None, claim: None }
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        // What is committed must be on the disk: the changelog forgets what the mark has passed.
        connection.execute_batch("PRAGMA synchronous = FULL")?;
        Ok(connection)
    }

    /// Takes the connection out; whoever succeeds puts it back, so that an error drops it and with
    /// it any open transaction.
    fn take_connection(&mut self, sink: &str) -> Result<Connection, SinkError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => self.open().map_err(|error| lost(sink, &error)),
        }
    }
}

impl SinkTarget for SqliteTarget {
    fn forget(&mut self, plan: &SinkPlan) -> Result<(), SinkError> {
        if !self.path.exists() {
            return Ok(());
        }
        let connection = self.take_connection(&plan.name)?;
        sqlite_table::forget_mark(&connection, plan)
    }

    fn prepare(&mut self, plan: &SinkPlan) -> Result<u64, SinkError> {
        let mut connection = self.take_connection(&plan.name)?;
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .map_err(|error| lost(&plan.name, &error))?;
        sqlite_table::create_or_check(&transaction, plan)?;
        let marked = sqlite_table::claim_mark(&transaction, plan)?;
        transaction.commit().map_err(|error| lost(&plan.name, &error))?;
        self.connection = Some(connection);
        self.claim = Some(Claim::new(plan, marked.fence));
        Ok(marked.offset())
    }

    fn commit(
        &mut self,
        batch: &SinkBatch,
        from: u64,
        to: u64,
        refuse: Refuse<'_>,
    ) -> Result<u64, SinkError> {
        assert!(from < to, "a transaction moves the mark forward: {from} to {to}");
        let claim = self.claim.take().expect("prepare comes before commit");
        let result = self.take_connection(&claim.plan.name).and_then(|mut connection| {
            let rows = claim.write(&mut connection, batch, (from, to), refuse)?;
            self.connection = Some(connection);
            Ok(rows)
        });
        self.claim = Some(claim);
        result
    }
}

impl Claim {
    fn new(plan: &SinkPlan, fence: i64) -> Claim {
        let columns = ddl::column_names(plan);
        let table = plan.table.sql();
        let places: Vec<String> = (1..=columns.len()).map(|n| format!("?{n}")).collect();
        let sets: Vec<String> =
            columns.iter().zip(&places).map(|(name, p)| format!("{} = {p}", quote(name))).collect();
        let quoted: Vec<String> = columns.iter().map(|name| quote(name)).collect();
        let keys = ddl::names(&plan.schema, &plan.key);
        let condition = |place: &dyn Fn(usize) -> usize| {
            let terms = keys.iter().enumerate().map(|(i, key)| format!("{key} IS ?{}", place(i)));
            terms.collect::<Vec<_>>().join(" AND ")
        };
        Claim {
            fence,
            insert: format!(
                "INSERT INTO {table} ({}) VALUES ({})",
                quoted.join(", "),
                places.join(", ")
            ),
            update: format!(
                "UPDATE {table} SET {} WHERE {}",
                sets.join(", "),
                condition(&|i| plan.key[i] + 1)
            ),
            delete: format!("DELETE FROM {table} WHERE {}", condition(&|i| i + 1)),
            plan: plan.clone(),
        }
    }

    fn write(
        &self,
        connection: &mut Connection,
        batch: &SinkBatch,
        (from, to): (u64, u64),
        refuse: Refuse<'_>,
    ) -> Result<u64, SinkError> {
        let sink = &self.plan.name;
        let canonical = values::canonical_batch(&batch.batch).map_err(|error| {
            SinkError::Conversion { sink: sink.clone(), cause: error.to_string() }
        })?;
        let batch = SinkBatch { batch: canonical, ..batch.clone() };
        let items = net_effect(&self.plan, &batch)?;
        // A trigger or ON CONFLICT ROLLBACK may end the transaction: then it runs again without
        // the row that did it, which is at most once per row.
        let mut excluded: Vec<(usize, Failure)> = Vec::new();
        loop {
            let transaction = connection
                .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
                .map_err(|error| lost(sink, &error))?;
            if !self.advance(&transaction, from, to)? {
                return Ok(items.len() as u64);
            }
            let mut refused = Vec::new();
            let ended = self.apply(&transaction, &batch, &items, (&excluded, &mut refused))?;
            if let Some(ended) = ended {
                excluded.push(ended);
                continue;
            }
            if !refused.is_empty() {
                refuse(&refused).map_err(SinkError::Record)?;
            }
            transaction.commit().map_err(|error| lost(sink, &error))?;
            return Ok((items.len() - refused.len()) as u64);
        }
    }

    /// Moves the mark; `false`: this very transaction counted already.
    fn advance(&self, connection: &Connection, from: u64, to: u64) -> Result<bool, SinkError> {
        let lost = |error| lost(&self.plan.name, &error);
        let counted = self.plan.counted(to);
        let (id, from, to) = (&self.plan.id, progress::signed(from), progress::signed(to));
        let moved = connection
            .prepare_cached(&progress::advance_progress(PROGRESS))
            .and_then(|mut advance| advance.execute(params![to, counted, id, from, self.fence]))
            .map_err(lost)?;
        if moved == 1 {
            return Ok(true);
        }
        let read = format!("SELECT \"offset\", fence FROM {} WHERE sink = ?1", PROGRESS);
        let found: Option<(i64, i64)> = connection
            .query_row(&read, params![id], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(lost)?;
        match found {
            Some((offset, fence)) if offset == to && fence == self.fence => Ok(false),
            _ => Err(progress::fenced(&self.plan, (from, self.fence), found)),
        }
    }

    /// Applies the items; `Some`: this one ended the transaction.
    fn apply(
        &self,
        connection: &Connection,
        batch: &SinkBatch,
        items: &[Item],
        (excluded, refused): (&[(usize, Failure)], &mut Vec<Refused>),
    ) -> Result<Option<(usize, Failure)>, SinkError> {
        let lost = |error| lost(&self.plan.name, &error);
        let columns = Column::of_batch(&batch.batch);
        let upsert = self.plan.mode == SinkMode::Upsert;
        let mut insert = connection.prepare_cached(&self.insert).map_err(lost)?;
        let update = upsert.then(|| connection.prepare_cached(&self.update));
        let delete = upsert.then(|| connection.prepare_cached(&self.delete));
        let mut update = update.transpose().map_err(lost)?;
        let mut delete = delete.transpose().map_err(lost)?;
        for (position, item) in items.iter().enumerate() {
            let before = excluded.iter().find(|(excluded, _)| *excluded == position);
            let outcome = match (before, item.operation, &mut update, &mut delete) {
                (Some((_, Failure::Row(code, reason))), ..) => {
                    Err(Failure::Row(code.clone(), reason.clone()))
                }
                (_, Operation::Delete, _, Some(delete)) => {
                    self.remove(delete, &columns, item.row).map(drop)
                }
                (_, Operation::Put, Some(update), _) => {
                    self.put(update, &mut insert, &columns, item.row)
                }
                _ => self.append(&mut insert, &columns, batch, item),
            };
            let (code, mut reason) = match outcome {
                Ok(()) => continue,
                Err(Failure::Row(code, reason)) => (code, reason),
                Err(Failure::Sink(error)) => return Err(error),
            };
            if connection.is_autocommit() {
                return Ok(Some((position, Failure::Row(code, reason))));
            }
            if let (Operation::Put, Some(delete)) = (item.operation, &mut delete) {
                match self.remove(delete, &columns, item.row) {
                    Ok(_) => {}
                    Err(Failure::Row(_, why)) => {
                        reason = format!("{reason}; its key's previous row stays: {why}");
                    }
                    Err(Failure::Sink(error)) => return Err(error),
                }
                if connection.is_autocommit() {
                    let message = "a trigger ends the transaction that deletes a row".into();
                    return Err(SinkError::Target {
                        sink: self.plan.name.clone(),
                        code: "40000".into(),
                        message,
                    });
                }
            }
            let row = values::row_as_json(&batch.batch, &columns, item.row);
            refused.push(Refused { offset: batch.offset(item.row), code, reason, row });
        }
        Ok(None)
    }

    fn append(
        &self,
        insert: &mut Statement<'_>,
        columns: &[Column],
        batch: &SinkBatch,
        item: &Item,
    ) -> Result<(), Failure> {
        self.bind(insert, columns, 0..columns.len(), item.row)?;
        if let Operation::Log(sign) = item.operation {
            let places = [progress::signed(batch.offset(item.row)), sign.into()];
            for (place, value) in (columns.len() + 1..).zip(places) {
                insert.raw_bind_parameter(place, value).map_err(|error| self.judge(&error))?;
            }
        }
        insert.raw_execute().map(drop).map_err(|error| self.judge(&error))
    }

    fn put(
        &self,
        update: &mut Statement<'_>,
        insert: &mut Statement<'_>,
        columns: &[Column],
        row: usize,
    ) -> Result<(), Failure> {
        self.bind(update, columns, 0..columns.len(), row)?;
        if update.raw_execute().map_err(|error| self.judge(&error))? > 0 {
            return Ok(());
        }
        self.bind(insert, columns, 0..columns.len(), row)?;
        insert.raw_execute().map(drop).map_err(|error| self.judge(&error))
    }

    fn remove(
        &self,
        delete: &mut Statement<'_>,
        columns: &[Column],
        row: usize,
    ) -> Result<usize, Failure> {
        // A row whose key cannot be stored has no previous version either.
        let storable = |&key: &usize| self.check(key, &columns[key].value(row)).is_ok();
        if !self.plan.key.iter().all(storable) {
            return Ok(0);
        }
        self.bind(delete, columns, self.plan.key.iter().copied(), row)?;
        delete.raw_execute().map_err(|error| self.judge(&error))
    }

    /// Whether SQLite can store a value of the column without turning it into another one.
    fn check(&self, column: usize, value: &Value<'_>) -> Result<(), Failure> {
        let field = self.plan.schema.field(column);
        let name = field.name();
        let (code, reason) = match value {
            // It would be stored as NULL.
            Value::Float(v, _) if v.is_nan() => (
                SqlState::INVALID_PARAMETER,
                format!("NaN in column \"{name}\" has no form in SQLite"),
            ),
            // It would be rounded to a REAL.
            Value::Decimal(v, _)
                if *field.data_type() == DataType::UInt64 && *v > i64::MAX.into() =>
            {
                (
                    SqlState::NUMERIC_RANGE,
                    format!("{v} in column \"{name}\" exceeds SQLite's integers"),
                )
            }
            _ => return Ok(()),
        };
        Err(Failure::Row(code.0.into(), reason))
    }

    /// Binds the row's values of some columns to ?1, ?2, ….
    fn bind(
        &self,
        statement: &mut Statement<'_>,
        columns: &[Column],
        wanted: impl Iterator<Item = usize>,
        row: usize,
    ) -> Result<(), Failure> {
        for (place, index) in (1..).zip(wanted) {
            let value = columns[index].value(row);
            self.check(index, &value)?;
            let bound = statement.raw_bind_parameter(place, stored(&value));
            bound.map_err(|error| self.judge(&error))?;
        }
        Ok(())
    }

    /// Whether the row is at fault.
    fn judge(&self, error: &rusqlite::Error) -> Failure {
        let code = match error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::ConstraintViolation => constraint_code(failure.extended_code),
                ErrorCode::TypeMismatch => SqlState::TYPE_MISMATCH.0,
                ErrorCode::TooBig => SqlState::PROGRAM_LIMIT.0,
                _ => return Failure::Sink(lost(&self.plan.name, error)),
            },
            _ => return Failure::Sink(lost(&self.plan.name, error)),
        };
        Failure::Row(code.into(), error.to_string())
    }
}

fn constraint_code(extended: i32) -> &'static str {
    use rusqlite::ffi;
    match extended {
        ffi::SQLITE_CONSTRAINT_NOTNULL => SqlState::NOT_NULL_VIOLATION.0,
        ffi::SQLITE_CONSTRAINT_UNIQUE
        | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
        | ffi::SQLITE_CONSTRAINT_ROWID => SqlState::UNIQUE_VIOLATION.0,
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "23503",
        ffi::SQLITE_CONSTRAINT_CHECK => "23514",
        _ => "23000",
    }
}

/// An error that lies in no row: the file is away, busy or full, or a statement does not fit.
pub(crate) fn lost(sink: &str, error: &rusqlite::Error) -> SinkError {
    let sink = sink.into();
    match error {
        rusqlite::Error::SqliteFailure(failure, _) if failure.code == ErrorCode::Unknown => {
            let message = error.to_string();
            // SQLite has no code of its own for it.
            let code = match message.contains("no such table") {
                true => SqlState::UNDEFINED_RELATION.0,
                false => "HY000",
            };
            SinkError::Target { sink, code: code.into(), message }
        }
        _ => SinkError::Unavailable { sink, cause: error.to_string() },
    }
}
