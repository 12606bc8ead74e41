//! Sums the values of a frame: sum, avg.
//!
//! Integers and decimals add what enters and subtract what leaves, in numbers wide enough for any
//! frame. Floats must not: what is subtracted leaves its rounding behind, and an infinity stays for
//! ever. They use two stacks: what entered since the last turn is summed as it comes, the older part
//! of the frame holds its sums from each row to the turn. When the older part is empty the newer one
//! turns. So a value is added at most twice, and the answer depends on the partition's rows alone.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Decimal128Type, DecimalType, Float64Type, Int64Type, i256};

use super::framed::{FrameFunction, FramedCall, Values};
use super::frames::{Frame, Gather};
use crate::data::sql_words::type_in_sql_words;
use crate::error::SqlState;
use crate::operators::aggregates::fold::Evaluated;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// A sum with the number of its values.
pub(super) trait Total: Gather<Answer = (Self::Sum, u64)> + Send {
    /// What the values add up to.
    type Sum: Copy + Default;
    /// The values of a column.
    fn values(column: &ArrayRef) -> Vec<Option<Self::Value>>;
}

/// A sum of numbers that can be taken back exactly.
#[derive(Debug)]
pub(super) struct ExactSum<V, S> {
    sum: S,
    count: u64,
    rows: VecDeque<(i64, V)>,
}

impl<V, S: Default> Default for ExactSum<V, S> {
    fn default() -> Self {
        ExactSum { sum: S::default(), count: 0, rows: VecDeque::new() }
    }
}

impl<V: Stored, S: Stored> Stored for ExactSum<V, S> {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.sum.store(out)?;
        self.count.store(out)?;
        self.rows.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(ExactSum { sum: from.get()?, count: from.get()?, rows: from.get()? })
    }
}

/// Sums of integers.
pub(super) type IntegerSum = ExactSum<i64, i128>;
/// Sums of decimals, in numbers that no frame can fill.
pub(super) type DecimalSum = ExactSum<i128, i256>;

macro_rules! exact_sum {
    ($value:ty, $sum:ty, $wide:expr, $add:ident, $subtract:ident) => {
        impl Gather for ExactSum<$value, $sum> {
            type Value = $value;
            type Answer = ($sum, u64);

            fn enter(&mut self, position: i64, value: $value, bounded: bool) {
                self.sum = self.sum.$add($wide(value));
                self.count += 1;
                if bounded {
                    self.rows.push_back((position, value));
                }
            }

            fn leave(&mut self, below: i64) {
                while let Some(&(at, value)) = self.rows.front()
                    && at < below
                {
                    self.rows.pop_front();
                    self.sum = self.sum.$subtract($wide(value));
                    self.count -= 1;
                }
            }

            fn read(&self) -> ($sum, u64) {
                (self.sum, self.count)
            }

            fn held(&self) -> usize {
                self.rows.len() * size_of::<(i64, $value)>()
            }
        }
    };
}

exact_sum!(i64, i128, i128::from, wrapping_add, wrapping_sub);
exact_sum!(i128, i256, i256::from_i128, wrapping_add, wrapping_sub);

impl Total for IntegerSum {
    type Sum = i128;
    fn values(column: &ArrayRef) -> Vec<Option<i64>> {
        column.as_primitive::<Int64Type>().iter().collect()
    }
}

impl Total for DecimalSum {
    type Sum = i256;
    fn values(column: &ArrayRef) -> Vec<Option<i128>> {
        column.as_primitive::<Decimal128Type>().iter().collect()
    }
}

/// A sum of floats over two stacks.
#[derive(Debug, Default)]
pub(super) struct FloatSum {
    /// What entered since the last turn, and its sum in the order of entering.
    newer: VecDeque<(i64, f64)>,
    newer_sum: f64,
    newer_count: u64,
    /// The older rows, the oldest last: the sum of each with all that entered behind it before the
    /// turn.
    older: Vec<(i64, f64)>,
}

impl FloatSum {
    fn turn(&mut self) {
        let mut sum = 0.0;
        while let Some((position, value)) = self.newer.pop_back() {
            sum += value;
            self.older.push((position, sum));
        }
        (self.newer_sum, self.newer_count) = (0.0, 0);
    }
}

impl Stored for FloatSum {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.newer.store(out)?;
        self.newer_sum.store(out)?;
        self.newer_count.store(out)?;
        self.older.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(FloatSum {
            newer: from.get()?,
            newer_sum: from.get()?,
            newer_count: from.get()?,
            older: from.get()?,
        })
    }
}

impl Gather for FloatSum {
    type Value = f64;
    type Answer = (f64, u64);

    fn enter(&mut self, position: i64, value: f64, bounded: bool) {
        self.newer_sum += value;
        self.newer_count += 1;
        if bounded {
            self.newer.push_back((position, value));
        }
    }

    fn leave(&mut self, below: i64) {
        loop {
            while self.older.last().is_some_and(|(at, _)| *at < below) {
                self.older.pop();
            }
            let is_due = self.older.is_empty();
            if !is_due || self.newer.front().is_none_or(|(at, _)| *at >= below) {
                return;
            }
            self.turn();
        }
    }

    fn read(&self) -> (f64, u64) {
        let count = self.newer_count + self.older.len() as u64;
        match self.older.last() {
            Some((_, older)) => (older + self.newer_sum, count),
            None => (self.newer_sum, count),
        }
    }

    fn held(&self) -> usize {
        (self.newer.len() + self.older.len()) * size_of::<(i64, f64)>()
    }
}

impl Total for FloatSum {
    type Sum = f64;
    fn values(column: &ArrayRef) -> Vec<Option<f64>> {
        column.as_primitive::<Float64Type>().iter().collect()
    }
}

/// Results in a column, and the rows whose result its type cannot hold.
type Written<S> = fn(Vec<(S, u64)>, &DataType) -> Evaluated;

/// Sums, or averages.
pub(super) struct TotalFunction<T: Total> {
    argument: usize,
    result: DataType,
    write: Written<T::Sum>,
}

impl TotalFunction<IntegerSum> {
    pub(super) fn over(argument: usize, frame: Frame, result: &DataType) -> FramedCall<Self> {
        let write: Written<i128> = match result {
            DataType::Float64 => |sums, _| {
                let mean = |(sum, n): (i128, u64)| (n > 0).then(|| sum as f64 / n as f64);
                Evaluated::all(Arc::new(sums.into_iter().map(mean).collect::<Float64Array>()))
            },
            _ => |sums, result| {
                write_exact(
                    &sums,
                    result,
                    |sum| i64::try_from(sum).ok(),
                    |sums: Vec<_>| Arc::new(Int64Array::from(sums)),
                )
            },
        };
        FramedCall::new(TotalFunction { argument, result: result.clone(), write }, frame)
    }
}

impl TotalFunction<DecimalSum> {
    pub(super) fn over(argument: usize, frame: Frame, result: &DataType) -> FramedCall<Self> {
        let write: Written<i256> = |sums, result| {
            let DataType::Decimal128(precision, scale) = *result else {
                unreachable!("chosen for decimals only")
            };
            let fits = |sum: i256| {
                let sum = sum.to_i128()?;
                Decimal128Type::is_valid_decimal_precision(sum, precision).then_some(sum)
            };
            write_exact(&sums, result, fits, |sums: Vec<_>| {
                let decimals =
                    Decimal128Array::from(sums).with_precision_and_scale(precision, scale);
                Arc::new(decimals.expect("the type is one of the plan's"))
            })
        };
        FramedCall::new(TotalFunction { argument, result: result.clone(), write }, frame)
    }
}

impl TotalFunction<FloatSum> {
    pub(super) fn of_floats(argument: usize, frame: Frame, average: bool) -> FramedCall<Self> {
        let write: Written<f64> = match average {
            true => |sums, _| {
                let mean = |(sum, n): (f64, u64)| (n > 0).then(|| sum / n as f64);
                Evaluated::all(Arc::new(sums.into_iter().map(mean).collect::<Float64Array>()))
            },
            false => |sums, _| {
                let sum = |(sum, n): (f64, u64)| (n > 0).then_some(sum);
                Evaluated::all(Arc::new(sums.into_iter().map(sum).collect::<Float64Array>()))
            },
        };
        FramedCall::new(TotalFunction { argument, result: DataType::Float64, write }, frame)
    }
}

/// Sums of no values are null; those out of range fail.
fn write_exact<S: Copy, N>(
    sums: &[(S, u64)],
    result: &DataType,
    fits: impl Fn(S) -> Option<N>,
    column: impl Fn(Vec<Option<N>>) -> ArrayRef,
) -> Evaluated {
    let mut failed = Vec::new();
    let mut values = Vec::with_capacity(sums.len());
    for (row, &(sum, count)) in sums.iter().enumerate() {
        let value = if count > 0 { fits(sum) } else { None };
        if count > 0 && value.is_none() {
            let data_type = type_in_sql_words(result);
            let reason = format!("sum is out of range for type {data_type}");
            failed.push((row, SqlState::NUMERIC_RANGE, reason));
        }
        values.push(value);
    }
    Evaluated { values: column(values), failed }
}

impl<T: Total> FrameFunction for TotalFunction<T> {
    type State = T;

    fn values(&self, columns: &[ArrayRef], _: usize) -> Result<Values<T>, EvalError> {
        Ok(T::values(&columns[self.argument]))
    }

    fn write(&self, answers: Vec<(T::Sum, u64)>) -> Result<Evaluated, EvalError> {
        Ok((self.write)(answers, &self.result))
    }
}
