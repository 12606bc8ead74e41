//! Inserts rows by SQL, and makes punctuations.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, SchemaRef};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::scalar::ScalarValue;
use datafusion::sql::planner::PlannerContext;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Query};

use crate::catalog::record::Kind;
use crate::data::floats::canonical_batch;
use crate::data::punctuation::{Pattern, Punctuation};
use crate::decode::Decoded;
use crate::engine::assign::assign;
use crate::engine::exact_numbers;
use crate::engine::ingest::{IngestOrigin, StreamHandle};
use crate::engine::registry::wrong_kind;
use crate::engine::state::Engine;
use crate::engine::{IngestReceipt, StatementResult};
use crate::error::{Error, Result, SqlState};
use crate::planner::error::from_datafusion;
use crate::planner::{bind, constants};

impl Engine {
    /// INSERT INTO a stream or a table.
    pub(super) async fn insert(
        self: &Arc<Engine>,
        target: &str,
        columns: &[String],
        source: &Query,
    ) -> Result<StatementResult> {
        let schema = self.insert_schema(target)?;
        let mut source = source.clone();
        exact_numbers::in_rows(&mut source, &schema, &places(columns, &schema))?;
        let answer = self.select(&source).await?;
        let order = column_order(target, columns, &schema, answer.schema.fields().len())?;
        let batch = to_schema(&answer, &schema, &order)?;
        let rows = batch.num_rows();
        let mut stored = rows as u64;
        if self.registry.read().tables.contains_key(target) {
            let table = self.table_state(target)?;
            let _writing = table.writing.lock().await;
            table.apply(canonical_batch(batch), vec![1; rows])?;
        } else {
            check_not_null(target, &schema, &batch)?;
            let receipt = self.insert_rows(target, batch).await?;
            stored = receipt.accepted;
            if let Some((_, code, message)) = receipt.errors.first() {
                let error = Error::new(*code, message.clone());
                return Err(error.with_detail(what_became(target, rows, &receipt)));
            }
        }
        Ok(StatementResult::command(format!("INSERT 0 {stored}")))
    }

    fn insert_schema(&self, target: &str) -> Result<SchemaRef> {
        let registry = self.registry.read();
        if let Some(stream) = registry.streams.get(target) {
            Ok(Arc::clone(&stream.definition.schema))
        } else if let Some(table) = registry.tables.get(target) {
            Ok(Arc::clone(&table.definition.schema))
        } else {
            Err(wrong_kind(&registry, target, Kind::Stream))
        }
    }

    async fn insert_rows(
        self: &Arc<Engine>,
        name: &str,
        batch: RecordBatch,
    ) -> Result<IngestReceipt> {
        self.stream(name)?.ingest(Decoded::good(batch), None, IngestOrigin::default()).await
    }

    /// PUNCTUATE.
    pub(super) async fn punctuate(
        self: &Arc<Engine>,
        name: &str,
        predicate: &SqlExpr,
    ) -> Result<StatementResult> {
        let handle: StreamHandle = self.stream(name)?;
        let schema = Arc::clone(&handle.stream.definition.schema);
        let names = DFSchema::try_from_qualified_schema(name, &schema)
            .map_err(|e| Error::from(from_datafusion(e)))?;
        let expr = self.planning(|lookup| {
            bind::expression(predicate, &names, lookup, &mut PlannerContext::new())
        })?;
        let punctuation = patterns(expr, &schema, predicate)?;
        let empty = RecordBatch::new_empty(schema);
        let decoded = Decoded { punctuations: vec![(0, punctuation)], ..Decoded::good(empty) };
        handle.ingest(decoded, None, IngestOrigin::default()).await?;
        Ok(StatementResult::command("PUNCTUATE"))
    }
}

/// What became of the rows of an INSERT of which some are bad.
fn what_became(target: &str, rows: usize, receipt: &IngestReceipt) -> String {
    let bad = receipt.rejected;
    if receipt.refused {
        return format!(
            "{bad} of {rows} rows cannot be stored. Stream \"{target}\" has on_error = 'reject', so nothing of the statement is."
        );
    }
    let others = if bad < rows as u64 { "; the others were stored" } else { "" };
    format!("{bad} of {rows} rows were refused and are in weir.dead_letters{others}.")
}

/// For each value of a row the column that takes it, as far as the names are known.
pub(super) fn places(columns: &[String], schema: &SchemaRef) -> Vec<usize> {
    if columns.is_empty() {
        return (0..schema.fields().len()).collect();
    }
    columns.iter().map_while(|name| schema.index_of(name).ok()).collect()
}

/// For each column of the target the column of the source, or none.
pub(super) fn column_order(
    target: &str,
    columns: &[String],
    schema: &SchemaRef,
    given: usize,
) -> Result<Vec<Option<usize>>> {
    let wanted = if columns.is_empty() { schema.fields().len() } else { columns.len() };
    if given > wanted || (!columns.is_empty() && given < wanted) {
        let which = if given > wanted {
            "more expressions than target columns"
        } else {
            "more target columns than expressions"
        };
        return Err(Error::new(SqlState::SYNTAX, format!("INSERT into \"{target}\" has {which}")));
    }
    if columns.is_empty() {
        return Ok((0..schema.fields().len()).map(|c| (c < given).then_some(c)).collect());
    }
    let mut order = vec![None; schema.fields().len()];
    for (index, name) in columns.iter().enumerate() {
        let column = schema.index_of(name).map_err(|_| {
            Error::new(
                SqlState::UNDEFINED_COLUMN,
                format!("column \"{name}\" of \"{target}\" does not exist"),
            )
        })?;
        if order[column].replace(index).is_some() {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" specified more than once"),
            ));
        }
    }
    Ok(order)
}

/// An answer's rows with the types and the order of a relation's columns.
pub(super) fn to_schema(
    answer: &StatementResult,
    schema: &SchemaRef,
    order: &[Option<usize>],
) -> Result<RecordBatch> {
    let internal =
        |error: arrow::error::ArrowError| Error::new(SqlState::INTERNAL, error.to_string());
    let all = concat_batches(&answer.schema, &answer.batches).map_err(internal)?;
    let rows = all.num_rows();
    let columns = schema
        .fields()
        .iter()
        .zip(order)
        .map(|(field, source)| -> Result<ArrayRef> {
            let Some(source) = source else { return Ok(new_null_array(field.data_type(), rows)) };
            assign(all.column(*source), answer.schema.field(*source), field)
        })
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let fields: Vec<_> =
        schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let loose = Arc::new(arrow::datatypes::Schema::new(fields));
    RecordBatch::try_new_with_options(loose, columns, &options).map_err(internal)
}

fn check_not_null(target: &str, schema: &SchemaRef, batch: &RecordBatch) -> Result<()> {
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(Error::new(
                SqlState::NOT_NULL_VIOLATION,
                format!(
                    "null value in column \"{}\" of stream \"{target}\" violates its NOT NULL constraint",
                    field.name()
                ),
            ));
        }
    }
    Ok(())
}

/// Reads a conjunction of comparisons of columns with constants.
fn patterns(expr: Expr, schema: &SchemaRef, written: &SqlExpr) -> Result<Punctuation> {
    let mut columns: Vec<(String, Pattern)> = Vec::new();
    for conjunct in split_conjunction_owned(expr) {
        let (name, pattern) = pattern(conjunct, schema)?.ok_or_else(|| {
            Error::new(SqlState::INVALID_PARAMETER, format!("punctuation cannot hold {written}"))
                .with_hint(
                    "Compare columns with constants: =, IN, <, <=, >, >=, BETWEEN, joined by AND.",
                )
        })?;
        match columns.iter_mut().find(|(other, _)| *other == name) {
            None => columns.push((name, pattern)),
            Some((_, existing)) => {
                *existing = existing.and(&pattern).unwrap_or(Pattern::OneOf(vec![]));
            }
        }
    }
    Ok(Punctuation { columns })
}

fn pattern(expr: Expr, schema: &SchemaRef) -> Result<Option<(String, Pattern)>> {
    let constant = |expr: Expr, name: &str| -> Result<Option<ScalarValue>> {
        let Some(value) = constants::fold(expr).map_err(from_datafusion)? else { return Ok(None) };
        match schema.field_with_name(name) {
            Ok(field) => of_column(&value, field).map(Some),
            Err(_) => Ok(None),
        }
    };
    Ok(match expr {
        Expr::BinaryExpr(binary) => {
            let (column, value, op) = match (*binary.left, *binary.right) {
                (Expr::Column(column), value) => (column, value, Some(binary.op)),
                (value, Expr::Column(column)) => (column, value, binary.op.swap()),
                _ => return Ok(None),
            };
            let Some(value) = constant(value, &column.name)? else { return Ok(None) };
            let range = |low, high| Pattern::Range { low, high };
            let pattern = match op {
                Some(Operator::Eq) => Pattern::OneOf(vec![value]),
                Some(Operator::Lt) => range(None, Some((value, false))),
                Some(Operator::LtEq) => range(None, Some((value, true))),
                Some(Operator::Gt) => range(Some((value, false)), None),
                Some(Operator::GtEq) => range(Some((value, true)), None),
                _ => return Ok(None),
            };
            Some((column.name, pattern))
        }
        Expr::InList(list) if !list.negated => {
            let Expr::Column(column) = *list.expr else { return Ok(None) };
            let mut values = Vec::new();
            for item in list.list {
                let Some(value) = constant(item, &column.name)? else { return Ok(None) };
                values.push(value);
            }
            Some((column.name, Pattern::OneOf(values)))
        }
        Expr::Between(between) if !between.negated => {
            let Expr::Column(column) = *between.expr else { return Ok(None) };
            let low = constant(*between.low, &column.name)?;
            let high = constant(*between.high, &column.name)?;
            let (Some(low), Some(high)) = (low, high) else { return Ok(None) };
            Some((column.name, Pattern::Range { low: Some((low, true)), high: Some((high, true)) }))
        }
        _ => None,
    })
}

/// A constant as a value of a column that it is compared with.
///
/// # Errors
/// 22023 for null, which no value equals; 22P02 for what the column cannot hold: to promise the value next to it would
/// refuse rows that nobody promised away. A float is the nearest of its column, as in INSERT.
fn of_column(constant: &ScalarValue, field: &Field) -> Result<ScalarValue> {
    let name = field.name();
    let internal =
        |error: DataFusionError| Error::new(SqlState::INTERNAL, format!("punctuation: {error}"));
    if constant.is_null() {
        let text = format!("punctuation compares column \"{name}\" with null");
        let hint = "No row compares with null, so there is nothing to promise: name a value.";
        return Err(Error::new(SqlState::INVALID_PARAMETER, text).with_hint(hint));
    }
    let from = Field::new(name, constant.data_type(), true);
    let value = assign(&constant.to_array().map_err(internal)?, &from, field)?;
    let value = ScalarValue::try_from_array(&value, 0).map_err(internal)?;
    let is_exact = field.data_type().is_floating()
        || constant.try_as_str().is_some()
        || value.cast_to(&constant.data_type()).is_ok_and(|back| back == *constant);
    match is_exact {
        true => Ok(value),
        false => {
            let text = format!("column \"{name}\" cannot be {constant}");
            let hint = "Compare it with a value of its type.";
            Err(Error::new(SqlState::INVALID_TEXT, text).with_hint(hint))
        }
    }
}
