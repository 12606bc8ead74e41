//! Hashes the values of a column, equal ones alike and whatever type holds them.
//!
//! Integers, dates and times of any width hash as 64 bits, texts and bytes as their bytes; anything else
//! as the bytes that `arrow::row` compares, behind a number of the type's kind. Nulls have no hash.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;

use crate::sketches::hash;
use crate::sketches::quantile::from_float;

/// One hash for each row; `None` for null.
pub(super) fn hashes(values: &ArrayRef) -> Result<Vec<Option<u64>>> {
    use DataType as T;
    let rows = 0..values.len();
    Ok(match values.data_type() {
        T::Null => vec![None; values.len()],
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => {
            words(&cast(values, &T::Int64)?)
        }
        T::Boolean => words(&cast(values, &T::Int64)?),
        T::Date32 => words(&cast(&cast(values, &T::Int32)?, &T::Int64)?),
        T::Date64 | T::Timestamp(..) | T::Time64(_) | T::Duration(_) => {
            words(&cast(values, &T::Int64)?)
        }
        T::Float16 | T::Float32 | T::Float64 => {
            let floats = cast(values, &T::Float64)?;
            let floats = floats.as_primitive::<Float64Type>();
            let hash = |number| hash::of_word(from_float(number) as u64);
            floats.iter().map(|number| number.map(hash)).collect()
        }
        T::Utf8 | T::LargeUtf8 | T::Utf8View => {
            let texts = cast(values, &T::Utf8View)?;
            let texts = texts.as_string_view();
            texts.iter().map(|text| text.map(|text| hash::of_bytes(text.as_bytes()))).collect()
        }
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => {
            let texts = cast(values, &T::BinaryView)?;
            texts.as_binary_view().iter().map(|text| text.map(hash::of_bytes)).collect()
        }
        other => {
            let converter = RowConverter::new(vec![SortField::new(other.clone())])?;
            let keys = converter.convert_columns(std::slice::from_ref(values))?;
            let nulls = values.logical_nulls();
            let is_value = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
            rows.map(|row| is_value(row).then(|| hash::of_bytes(keys.row(row).as_ref()))).collect()
        }
    })
}

fn words(values: &ArrayRef) -> Vec<Option<u64>> {
    let values = values.as_primitive::<Int64Type>();
    values.iter().map(|value| value.map(|value| hash::of_word(value as u64))).collect()
}

/// Whether values of a type can be told apart by hashes.
pub(super) fn is_hashable(data_type: &DataType) -> bool {
    *data_type == DataType::Null
        || RowConverter::supports_fields(&[SortField::new(data_type.clone())])
}
