//! Inserts rows into a table of which some have a key that is there already: INSERT … ON CONFLICT.
//!
//! As in PostgreSQL: DO NOTHING leaves the row that is there, or that came first; DO UPDATE changes it, with the new one's
//! columns as those of `excluded`. One query finds for each new row the one that is there and what it becomes:
//!
//! ```text
//!   SELECT what was given …, the row that is there …, what it becomes …, whether it does
//!   FROM (SELECT *, CAST(__given_0 AS type) AS column, … FROM (source) AS given (__given_0, …)) AS excluded
//!   LEFT JOIN table ON table.key = excluded.key
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, is_not_null, not};
use arrow::datatypes::{DataType, Field};
use datafusion::sql::sqlparser::ast::Query;

use crate::data::floats::canonical_batch;
use crate::data::schema::is_json;
use crate::encode::type_name::sql_type_name;
use crate::engine::StatementResult;
use crate::engine::exact_numbers;
use crate::engine::insert::{column_order, places, to_schema};
use crate::engine::state::Engine;
use crate::engine::table::{TableState, parse_query};
use crate::error::{Error, Result, SqlState};
use crate::sql::print::quote_name as quote;
use crate::sql::statement::{ConflictUpdate, OnConflict};

impl Engine {
    /// INSERT … ON CONFLICT.
    pub(super) async fn upsert(
        self: &Arc<Engine>,
        target: &str,
        columns: &[String],
        source: &Query,
        on_conflict: &OnConflict,
    ) -> Result<StatementResult> {
        let table = self.table_state(target)?;
        check_key(&table, &on_conflict.columns)?;
        let schema = &table.definition.schema;
        let mut source = source.clone();
        exact_numbers::in_rows(&mut source, schema, &places(columns, schema))?;
        let _writing = table.writing.lock().await;
        let (batch, weights, rows) = match &on_conflict.update {
            None => {
                let answer = self.select(&source).await?;
                let order = column_order(target, columns, schema, answer.schema.fields().len())?;
                let given = canonical_batch(to_schema(&answer, schema, &order)?);
                let new = BooleanArray::from(table.new_keys(&given)?);
                let new = filter_record_batch(&given, &new).map_err(internal)?;
                let rows = new.num_rows();
                (new, vec![1; rows], rows)
            }
            Some(update) => self.updated(&table, columns, &source, update).await?,
        };
        if batch.num_rows() > 0 {
            table.apply(batch, weights)?;
        }
        Ok(StatementResult::command(format!("INSERT 0 {rows}")))
    }

    /// The change of DO UPDATE with its weights, and how many rows it inserts or updates.
    async fn updated(
        self: &Arc<Engine>,
        table: &TableState,
        columns: &[String],
        source: &Query,
        update: &ConflictUpdate,
    ) -> Result<(RecordBatch, Vec<i64>, usize)> {
        let schema = &table.definition.schema;
        let width = self.bind_once(source)?.0.schema().fields().len();
        let order = column_order(&table.definition.name, columns, schema, width)?;
        let query = parse_query(&joined(table, source, width, &order, update)?)?;
        let answer = self.select(&query).await?;
        let from = |first: usize| (first..first + schema.fields().len()).map(Some).collect();
        let part = |order: Vec<Option<usize>>| {
            Ok::<_, Error>(canonical_batch(to_schema(&answer, schema, &order)?))
        };
        let (given, old) = (part(order)?, part(from(width))?);
        let becomes = part(from(width + schema.fields().len()))?;
        let key = table.definition.primary_key.first().map(|column| old.column(*column));
        let Some(key) = key else { unreachable!("the columns of ON CONFLICT are a key") };
        let is_there = is_not_null(key).map_err(internal)?;
        let is_new = not(&is_there).map_err(internal)?;
        check_once(table, &given)?;
        let all = concat_batches(&answer.schema, &answer.batches).map_err(internal)?;
        let changes = all.columns().last().map(|column| column.as_boolean().clone());
        let changes = changes.map_or_else(|| is_there.clone(), |changes| only_true(&changes));
        let kept = |batch: &RecordBatch, mask| filter_record_batch(batch, mask).map_err(internal);
        let (old, becomes) = (kept(&old, &changes)?, kept(&becomes, &changes)?);
        let new = kept(&given, &is_new)?;
        let (updated, inserted) = (old.num_rows(), new.num_rows());
        let batch = concat_batches(&old.schema(), [&old, &becomes, &new]).map_err(internal)?;
        let weights = [vec![-1; updated], vec![1; updated + inserted]].concat();
        Ok((batch, weights, updated + inserted))
    }
}

fn internal(error: arrow::error::ArrowError) -> Error {
    Error::new(SqlState::INTERNAL, error.to_string())
}

/// Null is not true.
fn only_true(mask: &BooleanArray) -> BooleanArray {
    mask.iter().map(|value| Some(value == Some(true))).collect()
}

/// ON CONFLICT is about the primary key.
fn check_key(table: &TableState, columns: &[String]) -> Result<()> {
    let schema = &table.definition.schema;
    let key = table.definition.primary_key.iter().map(|column| schema.field(*column).name());
    let key: BTreeSet<&String> = key.collect();
    if columns.is_empty() || columns.iter().collect::<BTreeSet<_>>() == key {
        return Ok(());
    }
    let text = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
    let error = Error::new(SqlState::INVALID_COLUMN_REFERENCE, text);
    Err(match key.is_empty() {
        true => error.with_hint(format!("Table \"{}\" has no primary key.", table.definition.name)),
        false => {
            let key: Vec<String> = key.into_iter().map(|name| quote(name)).collect();
            error.with_hint(format!("Write ON CONFLICT ({}).", key.join(", ")))
        }
    })
}

/// A row is changed once: which of several new ones would come last?
fn check_once(table: &TableState, given: &RecordBatch) -> Result<()> {
    let rows = table.key_rows(given)?;
    let different: BTreeSet<&[u8]> = rows.iter().map(AsRef::as_ref).collect();
    if different.len() == rows.len() {
        return Ok(());
    }
    let text = "ON CONFLICT DO UPDATE command cannot affect row a second time";
    let hint = "Insert one row of each key.";
    Err(Error::new(SqlState::CARDINALITY, text).with_hint(hint))
}

/// The text of the query that finds what there is for each new row.
fn joined(
    table: &TableState,
    source: &Query,
    width: usize,
    order: &[Option<usize>],
    update: &ConflictUpdate,
) -> Result<String> {
    let schema = &table.definition.schema;
    let name = quote(&table.definition.name);
    let assignments = table.definition.checked(&update.assignments)?;
    let given: Vec<String> = (0..width).map(|place| format!("__given_{place}")).collect();
    let typed = schema.fields().iter().zip(order).map(|(field, place)| {
        let value = place.map_or("NULL", |place| given[place].as_str());
        format!("{} AS {}", as_column(value, field), quote(field.name()))
    });
    let typed: Vec<String> = typed.collect();
    let of = |relation: &str, field: &Field| format!("{relation}.{}", quote(field.name()));
    let key: Vec<&Field> =
        table.definition.primary_key.iter().map(|column| schema.field(*column)).collect();
    let equal = key.iter().map(|field| format!("{} = {}", of(&name, field), of("excluded", field)));
    let is_there = key.first().map_or("FALSE".into(), |f| format!("{} IS NOT NULL", of(&name, f)));
    let old = schema.fields().iter().map(|field| of(&name, field));
    let becomes = schema.fields().iter().map(|field| {
        let assigned = assignments.iter().find(|(column, _)| column == field.name());
        let value = assigned.map_or_else(|| of(&name, field), |(_, value)| value.to_string());
        format!("CASE WHEN {is_there} THEN {value} END")
    });
    let condition = update.predicate.as_ref().map_or("TRUE".to_owned(), ToString::to_string);
    let items = given.iter().cloned().chain(old).chain(becomes);
    let items: Vec<String> =
        items.enumerate().map(|(n, item)| format!("{item} AS __{n}")).collect();
    Ok(format!(
        "SELECT {}, CASE WHEN {is_there} THEN {condition} ELSE FALSE END AS __changes \
         FROM (SELECT {}, {} FROM ({source}) AS __given ({})) AS excluded LEFT JOIN {name} ON {}",
        items.join(", "),
        given.join(", "),
        typed.join(", "),
        given.join(", "),
        equal.collect::<Vec<_>>().join(" AND "),
    ))
}

/// A value as one of a column, where SQL has a cast to its type.
fn as_column(value: &str, field: &Field) -> String {
    match field.data_type() {
        DataType::List(_) | DataType::Struct(_) | DataType::Binary | DataType::BinaryView => {
            value.to_owned()
        }
        _ if is_json(field) => value.to_owned(),
        _ => format!("CAST({value} AS {})", sql_type_name(field)),
    }
}
