//! Is a table: rows that INSERT, UPDATE and DELETE change, each change an entry of its changelog.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Query};
use hashbrown::HashSet;
use parking_lot::Mutex;

use crate::catalog::definition::TableDefinition;
use crate::catalog::record::{Kind, Record};
use crate::data::change::{Change, Marks, Origin};
use crate::data::floats::canonical_batch;
use crate::engine::StatementResult;
use crate::engine::exact_numbers;
use crate::engine::registry::wrong_kind;
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::planner::relations::{RelationInfo, RelationKind};
use crate::sql::print::quote_name as quote;
use crate::views::changelog::Changelog;
use crate::views::entry_meta::EntryMeta;
use crate::views::result_view::ResultView;

/// A column and its new value.
pub(super) type Assignment = (String, SqlExpr);

/// A table that runs.
pub(super) struct TableState {
    pub record: Record,
    pub definition: TableDefinition,
    pub changelog: Arc<Changelog>,
    pub view: ResultView,
    /// Held while a statement reads the table and writes what follows from it.
    pub writing: tokio::sync::Mutex<()>,
    /// Keys of the rows, in arrow's row form; made when first needed.
    keys: Mutex<Option<HashSet<Box<[u8]>>>>,
}

impl TableState {
    pub(super) fn new(
        record: Record,
        definition: TableDefinition,
        changelog: Arc<Changelog>,
        view: ResultView,
    ) -> TableState {
        let (writing, keys) = (tokio::sync::Mutex::new(()), Mutex::new(None));
        TableState { record, definition, changelog, view, writing, keys }
    }

    pub(super) fn info(&self) -> RelationInfo {
        table_info(&self.definition)
    }

    /// Applies rows with weights as one entry: all or nothing.
    ///
    /// # Errors
    /// 23502 for a null in a NOT NULL column, 23505 for a key that is there already.
    pub(super) fn apply(&self, batch: RecordBatch, weights: Vec<i64>) -> Result<()> {
        self.check_nulls(&batch, &weights)?;
        let mut keys = self.keys.lock();
        let after = self.keys_after(&mut keys, &batch, &weights)?;
        let origin = Origin {
            relation: Arc::clone(&self.definition.name),
            first_offset: 0,
            ingest_time: 0,
            arrival: Marks::All(i64::MIN),
            progress: Marks::All(i64::MIN),
            derived: false,
        };
        let change = Change {
            batch,
            weights: Some(Int64Array::from(weights)),
            origin: Arc::new(origin),
            rows: None,
        };
        let meta = EntryMeta::new(i64::MIN, vec![]);
        let frame = self.changelog.frame(&[change], i64::MIN, &meta)?;
        self.changelog.append(vec![frame], true)?;
        *keys = after;
        Ok(())
    }

    fn check_nulls(&self, batch: &RecordBatch, weights: &[i64]) -> Result<()> {
        for (field, column) in self.definition.schema.fields().iter().zip(batch.columns()) {
            let bad = (0..batch.num_rows()).any(|row| weights[row] > 0 && column.is_null(row));
            if !field.is_nullable() && bad {
                return Err(Error::new(
                    SqlState::NOT_NULL_VIOLATION,
                    format!(
                        "null value in column \"{}\" of table \"{}\" violates its NOT NULL constraint",
                        field.name(),
                        self.definition.name
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Which rows have a key that is neither there nor one of a row before.
    pub(super) fn new_keys(&self, batch: &RecordBatch) -> Result<Vec<bool>> {
        if self.definition.primary_key.is_empty() {
            return Ok(vec![true; batch.num_rows()]);
        }
        let mut keys = self.keys.lock();
        let known = self.known_keys(&mut keys)?;
        let mut seen = HashSet::new();
        let rows = self.key_rows(batch)?;
        let new = rows.into_iter().map(|row| !known.contains(&row) && seen.insert(row)).collect();
        *keys = Some(known);
        Ok(new)
    }

    fn known_keys(&self, keys: &mut Option<HashSet<Box<[u8]>>>) -> Result<HashSet<Box<[u8]>>> {
        if let Some(keys) = keys.take() {
            return Ok(keys);
        }
        let mut found = HashSet::new();
        for batch in self.view.snapshot()?.0 {
            found.extend(self.key_rows(&batch)?);
        }
        Ok(found)
    }

    /// The keys once the change is applied; `None` for tables without a primary key.
    fn keys_after(
        &self,
        keys: &mut Option<HashSet<Box<[u8]>>>,
        batch: &RecordBatch,
        weights: &[i64],
    ) -> Result<Option<HashSet<Box<[u8]>>>> {
        if self.definition.primary_key.is_empty() {
            return Ok(None);
        }
        let mut after = self.known_keys(keys)?;
        let rows = self.key_rows(batch)?;
        let mut applied: Vec<(usize, bool)> = Vec::new();
        let mut duplicate = None;
        // Retractions first: an UPDATE may give one row the key that another one leaves.
        let order = (0..rows.len())
            .filter(|r| weights[*r] < 0)
            .chain((0..rows.len()).filter(|r| weights[*r] > 0));
        for row in order {
            let insert = weights[row] > 0;
            let changed =
                if insert { after.insert(rows[row].clone()) } else { after.remove(&rows[row]) };
            if insert && !changed {
                duplicate = Some(row);
                break;
            }
            applied.push((row, insert));
        }
        let Some(row) = duplicate else { return Ok(Some(after)) };
        for (row, insert) in applied.into_iter().rev() {
            if insert {
                after.remove(&rows[row]);
            } else {
                after.insert(rows[row].clone());
            }
        }
        *keys = Some(after);
        Err(self.duplicate(batch, row))
    }

    fn duplicate(&self, batch: &RecordBatch, row: usize) -> Error {
        let mut names = Vec::new();
        let mut values = Vec::new();
        for &column in &self.definition.primary_key {
            names.push(self.definition.schema.field(column).name().clone());
            values.push(crate::encode::text::display(
                batch.column(column),
                row,
                self.definition.schema.field(column),
            ));
        }
        Error::new(
            SqlState::UNIQUE_VIOLATION,
            format!(
                "duplicate key value violates the primary key of table \"{}\"",
                self.definition.name
            ),
        )
        .with_detail(format!(
            "Key ({})=({}) already exists.",
            names.join(", "),
            values.join(", ")
        ))
    }

    pub(super) fn key_rows(&self, batch: &RecordBatch) -> Result<Vec<Box<[u8]>>> {
        let broken = |error: arrow::error::ArrowError| {
            Error::new(SqlState::INTERNAL, format!("keys cannot be compared: {error}"))
        };
        let key = &self.definition.primary_key;
        let columns: Vec<_> = key.iter().map(|column| one_zero(batch.column(*column))).collect();
        let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(broken)?;
        let rows = converter.convert_columns(&columns).map_err(broken)?;
        Ok(rows.iter().map(|row| row.as_ref().into()).collect())
    }
}

/// A float is equal to another one as SQL says, not bit by bit: -0 is 0, and NaN is NaN.
fn one_zero(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float64 => {
            Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(|value| {
                if value.is_nan() { f64::NAN } else { value + 0.0 }
            }))
        }
        DataType::Float32 => {
            Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|value| {
                if value.is_nan() { f32::NAN } else { value + 0.0 }
            }))
        }
        _ => Arc::clone(array),
    }
}

impl TableDefinition {
    /// Assignments to columns, with numbers as their columns take them.
    ///
    /// # Errors
    /// 42601 for a column that is assigned twice, 42703 for one that is not there, 22003 for a number that its column
    /// cannot hold.
    pub(super) fn checked(&self, assignments: &[(String, SqlExpr)]) -> Result<Vec<Assignment>> {
        let mut checked = assignments.to_vec();
        let mut assigned = std::collections::BTreeSet::new();
        for (column, value) in &mut checked {
            if !assigned.insert(column.clone()) {
                let message = format!("multiple assignments to same column \"{column}\"");
                return Err(Error::new(SqlState::SYNTAX, message));
            }
            let Ok(field) = self.schema.field_with_name(column) else {
                return Err(Error::new(
                    SqlState::UNDEFINED_COLUMN,
                    format!("column \"{column}\" of table \"{}\" does not exist", self.name),
                ));
            };
            exact_numbers::in_value(value, field)?;
        }
        Ok(checked)
    }
}

/// What the planner needs to know of a table.
pub(super) fn table_info(definition: &TableDefinition) -> RelationInfo {
    let key = &definition.primary_key;
    RelationInfo {
        name: Arc::clone(&definition.name),
        kind: RelationKind::Table,
        schema: Arc::clone(&definition.schema),
        append_only: false,
        event_times: vec![],
        processing_time: false,
        unique_keys: if key.is_empty() { vec![] } else { vec![key.clone()] },
    }
}

impl Engine {
    pub(super) fn table_state(&self, name: &str) -> Result<Arc<TableState>> {
        let registry = self.registry.read();
        match registry.tables.get(name) {
            Some(table) => Ok(Arc::clone(table)),
            None if registry.streams.contains_key(name) => Err(Error::new(
                SqlState::WRONG_OBJECT,
                format!("\"{name}\" is a stream: its rows cannot be changed"),
            )
            .with_hint("Streams only grow; keep what changes in a table.")),
            None => Err(wrong_kind(&registry, name, Kind::Table)),
        }
    }

    /// DELETE.
    pub(super) async fn delete(
        self: &Arc<Engine>,
        name: &str,
        predicate: Option<&SqlExpr>,
    ) -> Result<StatementResult> {
        let table = self.table_state(name)?;
        let _writing = table.writing.lock().await;
        let old = self.rows_of(&table, &[], predicate).await?;
        let rows = old.num_rows();
        if rows > 0 {
            table.apply(old, vec![-1; rows])?;
        }
        Ok(StatementResult::command(format!("DELETE {rows}")))
    }

    /// UPDATE.
    pub(super) async fn update(
        self: &Arc<Engine>,
        name: &str,
        assignments: &[(String, SqlExpr)],
        predicate: Option<&SqlExpr>,
    ) -> Result<StatementResult> {
        let table = self.table_state(name)?;
        let assignments = table.definition.checked(assignments)?;
        let _writing = table.writing.lock().await;
        let old = self.rows_of(&table, &[], predicate).await?;
        let new = self.rows_of(&table, &assignments, predicate).await?;
        let new = canonical_batch(new);
        let rows = old.num_rows();
        if rows > 0 {
            let both = concat_batches(&old.schema(), [&old, &new])
                .map_err(|e| Error::new(SqlState::INTERNAL, e.to_string()))?;
            let weights = [vec![-1; rows], vec![1; rows]].concat();
            table.apply(both, weights)?;
        }
        Ok(StatementResult::command(format!("UPDATE {rows}")))
    }

    /// The rows that a predicate finds, with assignments applied.
    async fn rows_of(
        self: &Arc<Engine>,
        table: &TableState,
        assignments: &[(String, SqlExpr)],
        predicate: Option<&SqlExpr>,
    ) -> Result<RecordBatch> {
        let schema = &table.definition.schema;
        let items: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| {
                let assigned = assignments.iter().find(|(name, _)| name == field.name());
                assigned.map_or_else(|| quote(field.name()), |(_, expr)| expr.to_string())
            })
            .collect();
        let condition = predicate.map(|p| format!(" WHERE {p}")).unwrap_or_default();
        let sql = format!(
            "SELECT {} FROM {}{condition}",
            items.join(", "),
            quote(&table.definition.name)
        );
        let query = parse_query(&sql)?;
        let answer = self.select(&query).await?;
        super::insert::to_schema(&answer, schema, &(0..items.len()).map(Some).collect::<Vec<_>>())
    }
}

pub(super) fn parse_query(sql: &str) -> Result<Query> {
    match crate::sql::parse::parse_statement(sql)? {
        crate::sql::statement::Statement::Query(query) => Ok(*query),
        _ => Err(Error::new(SqlState::INTERNAL, "statement did not come out as a query")),
    }
}
