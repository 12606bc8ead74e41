//! Sums changes up for a subscriber that wants their net effect.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result, SqlState};
use crate::views::changelog::Entry;

/// The sign of each weight; changelogs hold no others than +1 and −1.
pub(super) fn signs(weights: &Int64Array) -> Vec<i8> {
    weights.values().iter().map(|weight| weight.signum() as i8).collect()
}

/// Adds the weights of equal rows up, repeating rows whose sum is above one; rows stand in the order of their first appearance,
/// retractions first.
pub(super) fn net_effect(
    schema: &SchemaRef,
    entries: &[Entry],
) -> Result<(RecordBatch, Int64Array)> {
    let broken = |error: arrow::error::ArrowError| {
        Error::new(SqlState::INTERNAL, format!("changes cannot be conflated: {error}"))
    };
    let Some(first) = entries.first() else {
        return Ok((
            RecordBatch::new_empty(Arc::clone(schema)),
            Int64Array::from(Vec::<i64>::new()),
        ));
    };
    let batches = entries.iter().map(|entry| &entry.batch);
    let all = arrow::compute::concat_batches(first.batch.schema_ref(), batches).map_err(broken)?;
    let schema = all.schema();
    let fields =
        schema.fields().iter().map(|field| arrow::row::SortField::new(field.data_type().clone()));
    let converter = arrow::row::RowConverter::new(fields.collect()).map_err(broken)?;
    let rows = converter.convert_columns(all.columns()).map_err(broken)?;
    let weights = entries.iter().flat_map(|entry| {
        (0..entry.batch.num_rows()).map(|row| entry.weights.as_ref().map_or(1, |w| w.value(row)))
    });
    let mut places = hashbrown::HashMap::new();
    let mut sums: Vec<(u32, i64)> = Vec::new();
    for (row, weight) in weights.enumerate() {
        let place = *places.entry(rows.row(row)).or_insert_with(|| {
            sums.push((row as u32, 0));
            sums.len() - 1
        });
        sums[place].1 += weight;
    }
    let (retracted, inserted): (Vec<_>, Vec<_>) =
        sums.into_iter().filter(|(_, weight)| *weight != 0).partition(|(_, weight)| *weight < 0);
    let net: Vec<(u32, i64)> = retracted
        .into_iter()
        .chain(inserted)
        .flat_map(|(row, weight): (u32, i64)| {
            std::iter::repeat_n((row, weight.signum()), weight.unsigned_abs() as usize)
        })
        .collect();
    let indices = arrow::array::UInt32Array::from_iter_values(net.iter().map(|(row, _)| *row));
    let batch = arrow::compute::take_record_batch(&all, &indices).map_err(broken)?;
    Ok((batch, Int64Array::from_iter_values(net.iter().map(|(_, weight)| *weight))))
}
