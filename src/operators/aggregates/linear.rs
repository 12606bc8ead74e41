//! Folds counts, sums and averages per group: whatever a negative weight takes back exactly.
//!
//! Integers are totalled in 128 bits and decimals in 256, so no order of rows can overflow them; the
//! result is checked against its type when it is read.

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, DecimalType, Float64Type, i256,
};

use super::exact_sum::ExactSum;
use super::fold::{Evaluated, Fold, FoldRows, out_of_range};
use crate::operators::operator::EvalError;
use crate::operators::portions::Chosen;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// count(*) and count(x).
pub struct CountFold {
    counts: Vec<i64>,
    /// Rows whose argument is null do not count.
    of_values: bool,
}

impl CountFold {
    /// count(*).
    pub fn of_rows() -> CountFold {
        CountFold { counts: Vec::new(), of_values: false }
    }
    /// count(x).
    pub fn of_values() -> CountFold {
        CountFold { counts: Vec::new(), of_values: true }
    }
}

impl Fold for CountFold {
    fn resize(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, rows: &FoldRows<'_>) -> Result<(), EvalError> {
        let nulls = match rows.arguments {
            [argument, ..] if self.of_values => argument.logical_nulls(),
            _ => None,
        };
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        if nulls.is_none() && rows.included.is_none() && rows.weights.is_none() {
            rows.groups.iter().for_each(|group| self.counts[*group] += 1);
            return Ok(());
        }
        for (row, &group) in rows.groups.iter().enumerate() {
            if nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                self.counts[group] += rows.weight(row);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, groups: &[usize]) -> Result<Evaluated, EvalError> {
        let counts = Int64Array::from_iter_values(groups.iter().map(|g| self.counts[*g]));
        Ok(Evaluated::all(Arc::new(counts)))
    }

    fn is_empty(&self, group: usize) -> bool {
        self.counts[group] == 0
    }

    fn clear(&mut self, group: usize) {
        self.counts[group] = 0;
    }

    fn keep(&mut self, groups: &[usize]) {
        self.counts = groups.iter().map(|g| self.counts[*g]).collect();
    }

    fn bytes(&self) -> usize {
        self.counts.capacity() * size_of::<i64>()
    }

    fn save(&mut self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError> {
        chosen.put(&self.counts, out)
    }

    fn restore(&mut self, chosen: &Chosen, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        chosen.get(&mut self.counts, from)
    }
}

/// How a sum is read.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// As the sum, in this type.
    Sum(DataType),
    /// Divided by the number of values.
    Average,
}

/// A running total of one group.
pub trait Total: Default + Send + Stored {
    /// Type of what is added.
    type Input: ArrowPrimitiveType;
    /// Adds `value` `weight` times.
    fn add(&mut self, value: <Self::Input as ArrowPrimitiveType>::Native, weight: i64);
    /// Whether everything was taken back.
    fn is_zero(&self) -> bool;
    /// The total as a double, for averages.
    fn approximate(&self) -> f64;
    /// The total in the type of the result; `None` when that cannot hold it.
    fn exact(&self, result: &DataType) -> Option<<Self::Input as ArrowPrimitiveType>::Native>;
    /// Bytes held beside the struct itself.
    fn bytes(&self) -> usize {
        0
    }
}

/// A total of integers.
#[derive(Debug)]
pub struct IntegerTotal<T>(i128, PhantomData<fn() -> T>);

impl<T> Default for IntegerTotal<T> {
    fn default() -> Self {
        IntegerTotal(0, PhantomData)
    }
}

impl<T: ArrowPrimitiveType> Total for IntegerTotal<T>
where
    T::Native: Into<i128> + TryFrom<i128>,
{
    type Input = T;
    fn add(&mut self, value: T::Native, weight: i64) {
        // A product has less than 128 bits; 2^64 of them would have to follow each other to wrap.
        self.0 = self.0.wrapping_add(value.into() * i128::from(weight));
    }
    fn is_zero(&self) -> bool {
        self.0 == 0
    }
    fn approximate(&self) -> f64 {
        self.0 as f64
    }
    fn exact(&self, _result: &DataType) -> Option<T::Native> {
        T::Native::try_from(self.0).ok()
    }
}

impl<T> Stored for IntegerTotal<T> {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.0.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(IntegerTotal(from.get()?, PhantomData))
    }
}

/// A total of decimals.
#[derive(Debug, Clone, Default)]
pub struct DecimalTotal(i256);

impl Total for DecimalTotal {
    type Input = Decimal128Type;
    fn add(&mut self, value: i128, weight: i64) {
        let product = i256::from_i128(value).wrapping_mul(i256::from_i128(i128::from(weight)));
        self.0 = self.0.wrapping_add(product);
    }
    fn is_zero(&self) -> bool {
        self.0 == i256::ZERO
    }
    fn approximate(&self) -> f64 {
        self.0.to_i128().map_or(f64::NAN, |total| total as f64)
    }
    fn exact(&self, result: &DataType) -> Option<i128> {
        let DataType::Decimal128(precision, _) = result else { return None };
        let total = self.0.to_i128()?;
        Decimal128Type::is_valid_decimal_precision(total, *precision).then_some(total)
    }
}

impl Stored for DecimalTotal {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.0.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(DecimalTotal(from.get()?))
    }
}

/// A total of doubles in the order in which they came; takes nothing back.
#[derive(Debug, Clone, Default)]
pub struct FloatTotal(f64);

impl Total for FloatTotal {
    type Input = Float64Type;
    fn add(&mut self, value: f64, weight: i64) {
        self.0 += if weight == 1 { value } else { value * weight as f64 };
    }
    fn is_zero(&self) -> bool {
        self.0 == 0.0
    }
    fn approximate(&self) -> f64 {
        self.0
    }
    fn exact(&self, _result: &DataType) -> Option<f64> {
        Some(self.0)
    }
}

impl Stored for FloatTotal {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.0.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(FloatTotal(from.get()?))
    }
}

/// A total of doubles from which any of them can be taken back.
#[derive(Debug, Clone, Default)]
pub struct ExactTotal(ExactSum);

impl Total for ExactTotal {
    type Input = Float64Type;
    fn add(&mut self, value: f64, weight: i64) {
        self.0.add(value, weight);
    }
    fn is_zero(&self) -> bool {
        self.0.is_zero()
    }
    fn approximate(&self) -> f64 {
        self.0.value()
    }
    fn exact(&self, _result: &DataType) -> Option<f64> {
        Some(self.0.value())
    }
    fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

impl Stored for ExactTotal {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.0.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(ExactTotal(from.get()?))
    }
}

/// sum(x) and avg(x).
pub struct SumFold<T: Total> {
    totals: Vec<T>,
    /// Values that are not null; without any the result is null.
    counts: Vec<i64>,
    reading: Reading,
}

impl<T: Total> SumFold<T> {
    /// A fold whose totals are read so.
    pub fn new(reading: Reading) -> SumFold<T> {
        SumFold { totals: Vec::new(), counts: Vec::new(), reading }
    }

    fn sums(&self, groups: &[usize], result: &DataType) -> Evaluated {
        let mut failed = Vec::new();
        let values: PrimitiveArray<T::Input> = groups
            .iter()
            .enumerate()
            .map(|(i, group)| {
                if self.counts[*group] == 0 {
                    return None;
                }
                let total = self.totals[*group].exact(result);
                if total.is_none() {
                    failed.push(out_of_range(i, result));
                }
                total
            })
            .collect();
        Evaluated { values: Arc::new(values.with_data_type(result.clone())), failed }
    }

    fn averages(&self, groups: &[usize]) -> ArrayRef {
        let counted = groups.iter().map(|group| self.counts[*group] != 0);
        let nulls: NullBuffer = counted.collect();
        let averages =
            groups.iter().map(|g| self.totals[*g].approximate() / self.counts[*g] as f64);
        Arc::new(Float64Array::new(averages.collect(), Some(nulls)))
    }
}

impl<T: Total> Fold for SumFold<T> {
    fn resize(&mut self, groups: usize) {
        self.totals.resize_with(groups, T::default);
        self.counts.resize(groups, 0);
    }

    fn update(&mut self, rows: &FoldRows<'_>) -> Result<(), EvalError> {
        let argument = rows.arguments[0].as_primitive::<T::Input>();
        if argument.null_count() == 0 && rows.included.is_none() && rows.weights.is_none() {
            for (&group, &value) in rows.groups.iter().zip(argument.values()) {
                self.totals[group].add(value, 1);
                self.counts[group] += 1;
            }
            return Ok(());
        }
        for (row, &group) in rows.groups.iter().enumerate() {
            let weight = rows.weight(row);
            if weight != 0 && argument.is_valid(row) {
                self.totals[group].add(argument.value(row), weight);
                self.counts[group] += weight;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, groups: &[usize]) -> Result<Evaluated, EvalError> {
        Ok(match &self.reading {
            Reading::Sum(result) => self.sums(groups, result),
            Reading::Average => Evaluated::all(self.averages(groups)),
        })
    }

    fn is_empty(&self, group: usize) -> bool {
        self.counts[group] == 0 && self.totals[group].is_zero()
    }

    fn clear(&mut self, group: usize) {
        self.totals[group] = T::default();
        self.counts[group] = 0;
    }

    fn keep(&mut self, groups: &[usize]) {
        self.totals = groups.iter().map(|g| std::mem::take(&mut self.totals[*g])).collect();
        self.counts = groups.iter().map(|g| self.counts[*g]).collect();
    }

    fn bytes(&self) -> usize {
        self.totals.capacity() * size_of::<T>()
            + self.counts.capacity() * size_of::<i64>()
            + self.totals.iter().map(T::bytes).sum::<usize>()
    }

    fn save(&mut self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError> {
        chosen.put(&self.totals, out)?;
        chosen.put(&self.counts, out)
    }

    fn restore(&mut self, chosen: &Chosen, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        chosen.get(&mut self.totals, from)?;
        chosen.get(&mut self.counts, from)
    }
}
