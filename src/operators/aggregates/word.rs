//! Adds machine words that may wrap, and counts how often they did; floats never do.

use arrow::array::{ArrayRef, AsArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute;
use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, DataType, Decimal128Type, Float64Type, Int64Type,
    UInt64Type, i256,
};

use crate::operators::operator::EvalError;

/// A number that can be summed: the word, and how often it wrapped.
pub(super) trait Word: ArrowNativeType {
    /// The array that holds such words in a state.
    type Type: ArrowPrimitiveType<Native = Self>;
    /// Whether taking a value out again leaves exactly what was there before.
    const EXACT: bool;
    /// The sum, and by how much the carry changes.
    fn add(self, other: Self) -> (Self, i64);
    /// The difference, and by how much the carry changes.
    fn sub(self, other: Self) -> (Self, i64);
    /// The product with a weight, and its carry.
    fn times(self, weight: i64) -> (Self, i64);
    /// The values of a column.
    fn values(column: &ArrayRef) -> Result<ScalarBuffer<Self>, EvalError>;
}

impl Word for i64 {
    type Type = Int64Type;
    const EXACT: bool = true;
    #[inline]
    fn add(self, other: i64) -> (i64, i64) {
        let (sum, wrapped) = self.overflowing_add(other);
        (sum, if wrapped { other.signum() } else { 0 })
    }
    #[inline]
    fn sub(self, other: i64) -> (i64, i64) {
        let (difference, wrapped) = self.overflowing_sub(other);
        (difference, if wrapped { -other.signum() } else { 0 })
    }
    fn times(self, weight: i64) -> (i64, i64) {
        let product = i128::from(self) * i128::from(weight);
        let word = product as i64;
        (word, ((product - i128::from(word)) >> 64) as i64)
    }
    fn values(column: &ArrayRef) -> Result<ScalarBuffer<i64>, EvalError> {
        if let Some(values) = column.as_primitive_opt::<Int64Type>() {
            return Ok(values.values().clone());
        }
        let cast = compute::cast(column, &DataType::Int64)?;
        Ok(cast.as_primitive::<Int64Type>().values().clone())
    }
}

impl Word for i128 {
    type Type = Decimal128Type;
    const EXACT: bool = true;
    #[inline]
    fn add(self, other: i128) -> (i128, i64) {
        let (sum, wrapped) = self.overflowing_add(other);
        (sum, if wrapped { other.signum() as i64 } else { 0 })
    }
    #[inline]
    fn sub(self, other: i128) -> (i128, i64) {
        let (difference, wrapped) = self.overflowing_sub(other);
        (difference, if wrapped { -(other.signum() as i64) } else { 0 })
    }
    fn times(self, weight: i64) -> (i128, i64) {
        let product = i256::from_i128(self).wrapping_mul(i256::from_i128(i128::from(weight)));
        let (low, high) = product.to_parts();
        let word = low as i128;
        (word, (high - (word >> 127)) as i64)
    }
    fn values(column: &ArrayRef) -> Result<ScalarBuffer<i128>, EvalError> {
        if let Some(values) = column.as_primitive_opt::<Decimal128Type>() {
            return Ok(values.values().clone());
        }
        let cast = compute::cast(column, &DataType::UInt64)?;
        let values = cast.as_primitive::<UInt64Type>().values();
        Ok(values.iter().map(|&value| i128::from(value)).collect())
    }
}

impl Word for f64 {
    type Type = Float64Type;
    const EXACT: bool = false;
    #[inline]
    fn add(self, other: f64) -> (f64, i64) {
        (self + other, 0)
    }
    #[inline]
    fn sub(self, other: f64) -> (f64, i64) {
        (self - other, 0)
    }
    fn times(self, weight: i64) -> (f64, i64) {
        (self * weight as f64, 0)
    }
    fn values(column: &ArrayRef) -> Result<ScalarBuffer<f64>, EvalError> {
        if let Some(values) = column.as_primitive_opt::<Float64Type>() {
            return Ok(values.values().clone());
        }
        let cast = compute::cast(column, &DataType::Float64)?;
        Ok(cast.as_primitive::<Float64Type>().values().clone())
    }
}
