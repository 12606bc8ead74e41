//! Puts emissions together: window columns, key columns, aggregate columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, new_null_array};
use arrow::compute;
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};

use crate::operators::operator::EvalError;
use crate::windows::columns::named_edge;

/// Rows of one window.
pub(super) fn batch(
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
