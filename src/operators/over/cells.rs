//! Reads columns into cells that are kept one by one, and writes cells back into columns.
//!
//! A cell has the order of the values that it stands for. Numbers, times and truth values are words
//! of 64 bits; everything else is the row format of Arrow, which costs an allocation per value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::row::{RowConverter, SortField};

use crate::operators::operator::EvalError;
use crate::operators::state::Stored;

/// How values of one type become cells.
pub(super) trait Codec: Send {
    /// A value that is not null.
    type Cell: Cell;
    /// The cells of a column; nulls have none.
    fn read(&self, column: &ArrayRef) -> Result<Vec<Option<Self::Cell>>, EvalError>;
    /// The column of some cells.
    fn write(&self, cells: Vec<Option<Self::Cell>>) -> Result<ArrayRef, EvalError>;
}

/// What a codec makes of a value.
pub(super) trait Cell: Clone + Ord + Stored + Send {
    /// Bytes beside the cell itself.
    fn heap(&self) -> usize;
}

impl Cell for i64 {
    fn heap(&self) -> usize {
        0
    }
}

impl Cell for Box<[u8]> {
    fn heap(&self) -> usize {
        self.len()
    }
}

/// Values of at most 64 bits.
pub(super) struct Words(DataType);

impl Words {
    /// The codec of a type, if its values fit.
    pub(super) fn of(data_type: &DataType) -> Option<Words> {
        use DataType::{
            Boolean, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16, UInt32,
        };
        match data_type {
            Boolean | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | Timestamp(..)
            | Float32 | Float64 => Some(Words(data_type.clone())),
            _ => None,
        }
    }

    fn is_float(&self) -> bool {
        matches!(self.0, DataType::Float32 | DataType::Float64)
    }
}

/// Maps floats to integers with the same total order, and back.
fn ordered(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

impl Codec for Words {
    type Cell = i64;

    fn read(&self, column: &ArrayRef) -> Result<Vec<Option<i64>>, EvalError> {
        if self.is_float() {
            let floats = cast(column, &DataType::Float64)?;
            let floats = floats.as_primitive::<Float64Type>();
            return Ok(floats.iter().map(|v| v.map(|v| ordered(v.to_bits() as i64))).collect());
        }
        let words = cast(column, &DataType::Int64)?;
        Ok(words.as_primitive::<Int64Type>().iter().collect())
    }

    fn write(&self, cells: Vec<Option<i64>>) -> Result<ArrayRef, EvalError> {
        let words: ArrayRef = if self.is_float() {
            let floats = cells.into_iter().map(|c| c.map(|c| f64::from_bits(ordered(c) as u64)));
            Arc::new(floats.collect::<Float64Array>())
        } else {
            Arc::new(Int64Array::from(cells))
        };
        Ok(cast(&words, &self.0)?)
    }
}

/// Values of any type that can be sorted.
pub(super) struct Encoded(RowConverter, DataType);

impl Encoded {
    /// The codec of a type.
    pub(super) fn of(data_type: &DataType) -> Result<Encoded, EvalError> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        Ok(Encoded(converter, data_type.clone()))
    }
}

impl Codec for Encoded {
    type Cell = Box<[u8]>;

    fn read(&self, column: &ArrayRef) -> Result<Vec<Option<Box<[u8]>>>, EvalError> {
        let rows = self.0.convert_columns(std::slice::from_ref(column))?;
        let nulls = column.logical_nulls();
        let is_value = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let cell = |row: usize| is_value(row).then(|| Box::from(rows.row(row).as_ref()));
        Ok((0..column.len()).map(cell).collect())
    }

    fn write(&self, cells: Vec<Option<Box<[u8]>>>) -> Result<ArrayRef, EvalError> {
        let null = arrow::array::new_null_array(&self.1, 1);
        let null = self.0.convert_columns(&[null])?;
        let null: Box<[u8]> = null.row(0).as_ref().into();
        let parser = self.0.parser();
        let rows = cells.iter().map(|cell| parser.parse(cell.as_deref().unwrap_or(&null)));
        Ok(Arc::clone(&self.0.convert_rows(rows)?[0]))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Decimal128Array, StringViewArray, TimestampMicrosecondArray};

    use super::*;

    fn check<C: Codec>(codec: &C, column: ArrayRef) {
        let cells = codec.read(&column).unwrap();
        let sorted: Vec<&C::Cell> = cells.iter().flatten().collect();
        assert!(sorted.is_sorted(), "cells have the order of the values");
        assert_eq!(&codec.write(cells).unwrap(), &column);
    }

    #[test]
    fn values_come_back_and_keep_their_order() {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![
            Some(f64::NEG_INFINITY),
            Some(-1.5),
            Some(0.0),
            None,
            Some(f64::MAX),
            Some(f64::NAN),
        ]));
        check(&Words::of(floats.data_type()).unwrap(), floats);
        let times: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![Some(i64::MIN), None, Some(5)]));
        check(&Words::of(times.data_type()).unwrap(), times);
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some(""), None, Some("a text")]));
        assert!(Words::of(texts.data_type()).is_none());
        check(&Encoded::of(texts.data_type()).unwrap(), texts);
        let decimals: ArrayRef = Arc::new(Decimal128Array::from(vec![Some(-5), None, Some(7)]));
        check(&Encoded::of(decimals.data_type()).unwrap(), decimals);
    }
}
