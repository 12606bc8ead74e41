//! Reads event times out of columns, writes them into columns, and makes equal values equal in bits.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::error::ArrowError;

use crate::data::schema::TIMESTAMP;

/// Times in the units of event time: microseconds, or the plain value of a logical time.
pub fn event_times(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    let micros = match column.data_type() {
        // Any unit but microseconds would change the number.
        DataType::Timestamp(_, zone) => {
            cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?
        }
        DataType::Date32 | DataType::Date64 => cast(column, &TIMESTAMP)?,
        _ => Arc::clone(column),
    };
    Ok(cast(&micros, &DataType::Int64)?.as_primitive().clone())
}

/// Times in the units of event time as a column of the given type.
pub fn time_column(times: Int64Array, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    let zone = match data_type {
        DataType::Null => return Ok(new_null_array(data_type, times.len())),
        DataType::Timestamp(_, zone) => zone.clone(),
        DataType::Date32 => None,
        _ => return cast(&times, data_type),
    };
    cast(&cast(&times, &DataType::Timestamp(TimeUnit::Microsecond, zone))?, data_type)
}

/// The edge of a window as a column shows it: the ends of time have no name.
pub fn named_edge(edge: i64) -> Option<i64> {
    Some(edge).filter(|edge| *edge != i64::MIN && *edge != i64::MAX)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Date32Array, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn times_come_back_as_they_were() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(TimestampMicrosecondArray::from(vec![Some(i64::MIN), None, Some(i64::MAX)])),
            Arc::new(TimestampMicrosecondArray::from(vec![-1, 0]).with_timezone("UTC")),
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(-1)])),
            Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000)])),
        ];
        for column in columns {
            let times = event_times(&column).unwrap();
            assert_eq!(&time_column(times, column.data_type()).unwrap(), &column);
        }
    }
}
