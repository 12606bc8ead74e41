//! Puts emissions together: window columns, key columns, aggregate columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, new_null_array};
use arrow::compute;
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};

use super::WindowKey;
use crate::data::change::{Change, Marks, Origin};
use crate::operators::operator::EvalError;
use crate::windows::columns::named_edge;

/// What a window puts out at a time, in the order of keys.
pub(super) struct Answer {
    pub(super) window: WindowKey,
    /// The watermark under which it goes on: at the close the last one before the window's end.
    pub(super) mark: i64,
    pub(super) rows: usize,
    pub(super) keys: Vec<ArrayRef>,
    /// The aggregates.
    pub(super) columns: Vec<ArrayRef>,
    pub(super) weights: Option<Int64Array>,
}

/// Keys that a window cannot show.
pub(super) struct Failure {
    pub(super) window: WindowKey,
    /// What is wrong with the first of them.
    pub(super) error: EvalError,
    /// That key, in columns of one row.
    pub(super) first: Vec<ArrayRef>,
    /// How many there are.
    pub(super) keys: usize,
}

/// What a shard would put out, for whoever puts the shards' answers together.
#[derive(Default)]
pub(super) struct Outbox {
    pub(super) answers: Vec<Answer>,
    pub(super) failures: Vec<Failure>,
}

impl Answer {
    pub(super) fn into_change(
        self,
        schema: &SchemaRef,
        cause: &Origin,
    ) -> Result<Change, EvalError> {
        let edges = (self.window.start, self.window.end);
        let columns = self.keys.into_iter().chain(self.columns);
        let batch = batch(schema, edges, columns, self.rows)?;
        Ok(Change::due(batch, self.weights, cause, Marks::All(self.mark)))
    }
}

/// Rows of one window.
fn batch(
    schema: &SchemaRef,
    (start, end): (i64, i64),
    columns: impl IntoIterator<Item = ArrayRef>,
    rows: usize,
) -> Result<RecordBatch, EvalError> {
    let mut all =
        vec![edge_column(schema.field(0), start, rows)?, edge_column(schema.field(1), end, rows)?];
    for (column, field) in columns.into_iter().zip(&schema.fields()[2..]) {
        if column.data_type() == field.data_type() {
            all.push(column);
        } else {
            all.push(compute::cast(&column, field.data_type())?);
        }
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), all)?)
}

/// A column of one edge of a window; an edge without a name is null where the column allows it.
fn edge_column(field: &Field, edge: i64, rows: usize) -> Result<ArrayRef, EvalError> {
    if field.is_nullable() && named_edge(edge).is_none() {
        return Ok(new_null_array(field.data_type(), rows));
    }
    match field.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let edges = TimestampMicrosecondArray::from_value(edge, rows);
            Ok(Arc::new(edges.with_timezone_opt(zone.clone())))
        }
        other => Ok(compute::cast(&Int64Array::from_value(edge, rows), other)?),
    }
}
