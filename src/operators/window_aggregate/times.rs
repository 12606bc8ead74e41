//! Reads the time column of a batch.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};

use crate::operators::operator::EvalError;

/// The least and the greatest time.
pub(super) fn span(times: &[i64]) -> (i64, i64) {
    // Four chains of comparisons side by side: a single one would wait for itself.
    let mut ends = [(i64::MAX, i64::MIN); 4];
    let (chunks, rest) = times.as_chunks::<4>();
    let mut widen = |end: usize, time: i64| {
        let (least, greatest) = ends[end];
        ends[end] = (least.min(time), greatest.max(time));
    };
    for chunk in chunks {
        (0..4).for_each(|i| widen(i, chunk[i]));
    }
    rest.iter().for_each(|&time| widen(0, time));
    let least = ends.iter().map(|end| end.0).min().unwrap_or(i64::MAX);
    (least, ends.iter().map(|end| end.1).max().unwrap_or(i64::MIN))
}

/// The values of a time column; `null` stands for null.
pub(super) fn numbers(column: &ArrayRef, null: i64) -> Result<ScalarBuffer<i64>, EvalError> {
    let plain = match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            column.as_primitive::<TimestampMicrosecondType>().values().clone()
        }
        DataType::Int64 => column.as_primitive::<Int64Type>().values().clone(),
        _ => {
            let cast = compute::cast(column, &DataType::Int64)?;
            cast.as_primitive::<Int64Type>().values().clone()
        }
    };
    match column.nulls() {
        Some(nulls) if nulls.null_count() > 0 => {
            let values = plain.iter().zip(nulls.iter());
            Ok(values.map(|(&value, valid)| if valid { value } else { null }).collect())
        }
        _ => Ok(plain),
    }
}
