//! Sums integers and decimals exactly, and floats in the order they come.
//!
//! An integer sum is kept as a machine word that wraps and a count of its wraps, so the hot loop is
//! one addition and one predictable branch, and yet the true value is known: `word + carry · 2^bits`.
//! It fits the word exactly when the carry is 0. Overflow is judged when a group is evaluated, not
//! while it is summed: values that cancel out later are no error.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, UInt64Array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::data::sql_words::type_in_sql_words;
use crate::operators::aggregates::accumulator::{GroupedAggregate, Rows};
use crate::operators::aggregates::word::Word;
use crate::operators::operator::EvalError;

/// A group's running sum.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cell<W> {
    /// The sum, less its carry.
    pub(super) sum: W,
    /// Net number of values in it; 0 means the sum is null.
    pub(super) count: i64,
}

/// Running sums of all groups.
struct Sums<W> {
    cells: Vec<Cell<W>>,
    /// How often a group's word wrapped; groups that never did are absent.
    carries: BTreeMap<usize, i64>,
}

impl<W: Word> Sums<W> {
    fn new() -> Sums<W> {
        Sums { cells: Vec::new(), carries: BTreeMap::new() }
    }

    fn grow(&mut self, group_count: usize) {
        if self.cells.len() < group_count {
            self.cells.resize(group_count, Cell::default());
        }
    }

    #[cold]
    fn carry(carries: &mut BTreeMap<usize, i64>, group: usize, by: i64) {
        let carry = carries.entry(group).or_insert(0);
        *carry += by;
        if *carry == 0 {
            carries.remove(&group);
        }
    }

    fn update(&mut self, column: &ArrayRef, rows: &Rows<'_>) -> Result<(), EvalError> {
        self.grow(rows.group_count);
        let values = W::values(column)?;
        let nulls = column.logical_nulls();
        let (cells, carries) = (self.cells.as_mut_slice(), &mut self.carries);
        if rows.plain(nulls.as_ref()) {
            for (&group, &value) in rows.groups.iter().zip(values.iter()) {
                let cell = &mut cells[group as usize];
                let (sum, wraps) = cell.sum.add(value);
                *cell = Cell { sum, count: cell.count + 1 };
                if wraps != 0 {
                    Self::carry(carries, group as usize, wraps);
                }
            }
            return Ok(());
        }
        rows.for_each(nulls.as_ref(), |row, group, weight| {
            let (value, value_wraps) =
                if weight == 1 { (values[row], 0) } else { values[row].times(weight) };
            let cell = &mut cells[group];
            let (sum, wraps) = cell.sum.add(value);
            *cell = Cell { sum, count: cell.count + weight };
            if cell.count == 0 && !W::EXACT {
                cell.sum = W::default();
            }
            if wraps + value_wraps != 0 {
                Self::carry(carries, group, wraps + value_wraps);
            }
        });
        Ok(())
    }

    /// Merges partial sums, or with `out` takes them out.
    fn merge(&mut self, state: &[ArrayRef], groups: &[u32], out: bool) {
        let sums = state[0].as_primitive::<W::Type>().values();
        let carried = state[1].as_primitive::<Int64Type>().values();
        let counts = state[2].as_primitive::<Int64Type>().values();
        for (row, group) in groups.iter().map(|&group| group as usize).enumerate() {
            let cell = &mut self.cells[group];
            let (sum, wraps) = if out { cell.sum.sub(sums[row]) } else { cell.sum.add(sums[row]) };
            cell.sum = sum;
            cell.count += if out { -counts[row] } else { counts[row] };
            let by = wraps + if out { -carried[row] } else { carried[row] };
            if by != 0 {
                Self::carry(&mut self.carries, group, by);
            }
        }
    }

    fn state(&self, groups: Option<&[u32]>) -> Vec<ArrayRef> {
        let (cells, carries): (Vec<Cell<W>>, Vec<i64>) = match groups {
            None => {
                let mut carries = vec![0; self.cells.len()];
                for (&group, &carry) in &self.carries {
                    carries[group] = carry;
                }
                (self.cells.clone(), carries)
            }
            Some(groups) => {
                groups.iter().map(|&g| (self.cells[g as usize], self.carry_of(g))).unzip()
            }
        };
        let sums = PrimitiveArray::<W::Type>::from_iter_values(cells.iter().map(|c| c.sum));
        let counts = PrimitiveArray::<Int64Type>::from_iter_values(cells.iter().map(|c| c.count));
        vec![Arc::new(sums), Arc::new(PrimitiveArray::<Int64Type>::from(carries)), Arc::new(counts)]
    }

    fn carry_of(&self, group: u32) -> i64 {
        self.carries.get(&(group as usize)).copied().unwrap_or(0)
    }

    fn clear(&mut self) {
        *self = Sums::new();
    }

    fn size(&self) -> usize {
        mem::size_of::<Sums<W>>()
            + self.cells.capacity() * mem::size_of::<Cell<W>>()
            + self.carries.len() * 32
    }
}

/// What is answered of running sums.
pub(super) trait Answers<W>: Send {
    /// Whether a sum may have no answer.
    const CAN_OVERFLOW: bool;
    /// The column of `cells`; `exact`: every cell's carry is 0.
    fn answers(&self, cells: &[Cell<W>], exact: bool) -> Result<ArrayRef, EvalError>;
}

/// Running sums with what is answered of them: sum(x), avg(x).
pub(super) struct Summed<W, A> {
    sums: Sums<W>,
    answers: A,
}

impl<W: Word, A: Answers<W> + 'static> Summed<W, A> {
    pub(super) fn boxed(answers: A) -> Box<dyn GroupedAggregate> {
        Box::new(Summed { sums: Sums::<W>::new(), answers })
    }
}

/// sum(x)
pub(super) struct Sum {
    result: DataType,
    function: String,
}

impl Sum {
    /// The accumulator for the function's result type; `None` where there is none of our own.
    pub(super) fn for_result(
        function: &AggregateFunctionExpr,
    ) -> Option<Box<dyn GroupedAggregate>> {
        let result = function.field().data_type().clone();
        let sum = Sum { result: result.clone(), function: function.name().to_owned() };
        match result {
            DataType::Int64 => Some(Summed::<i64, _>::boxed(sum)),
            DataType::UInt64 | DataType::Decimal128(..) => Some(Summed::<i128, _>::boxed(sum)),
            DataType::Float64 => Some(Summed::<f64, _>::boxed(sum)),
            _ => None,
        }
    }
}

/// Puts sums into a column of the result type, or says which do not fit.
trait Finish: Word {
    /// The column of `cells`; every cell's carry is 0.
    fn finish(cells: &[Cell<Self>], result: &DataType) -> Option<ArrayRef>;
}

fn validity<W>(cells: &[Cell<W>]) -> Option<NullBuffer> {
    let all = cells.iter().all(|cell| cell.count != 0);
    (!all).then(|| cells.iter().map(|cell| cell.count != 0).collect())
}

fn words<W: Word>(cells: &[Cell<W>]) -> PrimitiveArray<W::Type> {
    PrimitiveArray::new(cells.iter().map(|cell| cell.sum).collect(), validity(cells))
}

impl Finish for i64 {
    fn finish(cells: &[Cell<i64>], _: &DataType) -> Option<ArrayRef> {
        Some(Arc::new(words(cells)))
    }
}

impl Finish for f64 {
    fn finish(cells: &[Cell<f64>], _: &DataType) -> Option<ArrayRef> {
        Some(Arc::new(words(cells)))
    }
}

impl Finish for i128 {
    fn finish(cells: &[Cell<i128>], result: &DataType) -> Option<ArrayRef> {
        if let DataType::Decimal128(precision, _) = result {
            let limit = 10_i128.checked_pow(u32::from(*precision))?;
            let fits = cells.iter().all(|c| c.count == 0 || (-limit < c.sum && c.sum < limit));
            return fits.then(|| Arc::new(words(cells).with_data_type(result.clone())) as ArrayRef);
        }
        let values = cells
            .iter()
            .map(|cell| if cell.count == 0 { Some(0) } else { u64::try_from(cell.sum).ok() })
            .collect::<Option<ScalarBuffer<u64>>>()?;
        Some(Arc::new(UInt64Array::new(values, validity(cells))))
    }
}

impl<W: Word, A: Answers<W>> GroupedAggregate for Summed<W, A> {
    fn update(&mut self, values: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError> {
        self.sums.update(&values[0], rows)
    }

    fn merge(
        &mut self,
        state: &[ArrayRef],
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), EvalError> {
        self.sums.grow(group_count);
        self.sums.merge(state, groups, false);
        Ok(())
    }

    fn unmerge(&mut self, state: &[ArrayRef], groups: &[u32]) -> Result<(), EvalError> {
        self.sums.merge(state, groups, true);
        Ok(())
    }

    fn is_invertible(&self) -> bool {
        W::EXACT
    }

    fn can_overflow(&self) -> bool {
        A::CAN_OVERFLOW
    }

    fn is_retractable(&self) -> bool {
        true
    }

    fn is_dense(&self) -> bool {
        true
    }

    fn reads_groups(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        Ok(self.sums.state(None))
    }

    fn state_of(&mut self, groups: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
        Ok(self.sums.state(Some(groups)))
    }

    fn take_state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        let state = self.sums.state(None);
        self.sums.clear();
        Ok(state)
    }

    fn evaluate(&mut self) -> Result<ArrayRef, EvalError> {
        let all = self.answers.answers(&self.sums.cells, self.sums.carries.is_empty());
        self.sums.clear();
        all
    }

    fn take_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        let some = self.evaluate_of(groups);
        self.sums.clear();
        some
    }

    fn evaluate_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        let sums = &self.sums;
        let cells: Vec<Cell<W>> = groups.iter().map(|&group| sums.cells[group as usize]).collect();
        let exact = sums.carries.is_empty() || groups.iter().all(|&g| sums.carry_of(g) == 0);
        self.answers.answers(&cells, exact)
    }

    fn group_count(&self) -> usize {
        self.sums.cells.len()
    }

    fn size(&self) -> usize {
        self.sums.size()
    }
}

impl<W: Finish> Answers<W> for Sum {
    const CAN_OVERFLOW: bool = true;

    fn answers(&self, cells: &[Cell<W>], exact: bool) -> Result<ArrayRef, EvalError> {
        let fits = if exact { W::finish(cells, &self.result) } else { None };
        fits.ok_or_else(|| EvalError::Overflow {
            function: self.function.clone(),
            data_type: type_in_sql_words(&self.result),
        })
    }
}
