//! Keeps the least or greatest values of a one-off SELECT where DataFusion's order is another one than ours.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, BooleanArray, PrimitiveArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Float16Type, Float32Type, Float64Type};
use arrow::row::{OwnedRow, RowConverter, SortField};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

/// The extremes of groups of floats; `None` for other types.
pub(super) fn of_floats(data_type: &DataType, max: bool) -> Option<Box<dyn GroupsAccumulator>> {
    Some(match data_type {
        DataType::Float16 => Box::new(FloatExtremes::<Float16Type> { best: vec![], max }),
        DataType::Float32 => Box::new(FloatExtremes::<Float32Type> { best: vec![], max }),
        DataType::Float64 => Box::new(FloatExtremes::<Float64Type> { best: vec![], max }),
        _ => return None,
    })
}

/// The least or greatest of each group in the total order, in which NaN is the greatest.
struct FloatExtremes<T: ArrowPrimitiveType> {
    best: Vec<Option<T::Native>>,
    max: bool,
}

impl<T: ArrowPrimitiveType> GroupsAccumulator for FloatExtremes<T> {
    fn update_batch(
        &mut self,
        arguments: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        self.best.resize(group_count, None);
        let counts = |row: usize| filter.is_none_or(|mask| mask.is_valid(row) && mask.value(row));
        for (row, value) in arguments[0].as_primitive::<T>().iter().enumerate() {
            let Some(value) = value.filter(|_| counts(row)) else { continue };
            let best = &mut self.best[groups[row]];
            let better = |best: T::Native| match self.max {
                true => value.is_gt(best),
                false => value.is_lt(best),
            };
            if best.is_none_or(better) {
                *best = Some(value);
            }
        }
        Ok(())
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        group_count: usize,
    ) -> Result<()> {
        self.update_batch(states, groups, None, group_count)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let best: PrimitiveArray<T> = emit_to.take_needed(&mut self.best).into_iter().collect();
        Ok(Arc::new(best))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.evaluate(emit_to)?])
    }

    fn convert_to_state(
        &self,
        arguments: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let Some(mask) = filter else { return Ok(vec![Arc::clone(&arguments[0])]) };
        let kept = |row: usize| mask.is_valid(row) && mask.value(row);
        let values = arguments[0].as_primitive::<T>().iter().enumerate();
        let values: PrimitiveArray<T> =
            values.map(|(row, value)| value.filter(|_| kept(row))).collect();
        Ok(vec![Arc::new(values)])
    }

    fn size(&self) -> usize {
        self.best.capacity() * size_of::<Option<T::Native>>()
    }
}

/// Whether values of the type are lists or structs, which are compared here.
pub(super) fn is_ours(data_type: &DataType) -> bool {
    data_type.is_nested() && RowConverter::supports_fields(&[SortField::new(data_type.clone())])
}

/// Values as bytes that compare as PostgreSQL compares lists and rows: item by item, null above all others.
#[derive(Debug)]
struct Order {
    converter: RowConverter,
    data_type: DataType,
}

impl Order {
    fn new(data_type: &DataType) -> Result<Order> {
        let nulls_last = SortOptions { descending: false, nulls_first: false };
        let field = SortField::new_with_options(data_type.clone(), nulls_last);
        Ok(Order { converter: RowConverter::new(vec![field])?, data_type: data_type.clone() })
    }

    /// The values of a column, `None` for null.
    fn rows(&self, column: &ArrayRef) -> Result<Vec<Option<OwnedRow>>> {
        let rows = self.converter.convert_columns(std::slice::from_ref(column))?;
        let value = |row: usize| column.is_valid(row).then(|| rows.row(row).owned());
        Ok((0..column.len()).map(value).collect())
    }

    fn value(&self, row: Option<&OwnedRow>) -> Result<ScalarValue> {
        let Some(row) = row else { return ScalarValue::try_from(&self.data_type) };
        ScalarValue::try_from_array(&self.converter.convert_rows([row.row()])?[0], 0)
    }
}

/// The least or greatest list or struct of one group.
#[derive(Debug)]
pub(super) struct Extreme {
    order: Order,
    best: Option<OwnedRow>,
    max: bool,
}

impl Extreme {
    pub(super) fn new(data_type: &DataType, max: bool) -> Result<Extreme> {
        Ok(Extreme { order: Order::new(data_type)?, best: None, max })
    }
}

impl Accumulator for Extreme {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        for value in self.order.rows(&arguments[0])?.into_iter().flatten() {
            let better = |best: &OwnedRow| if self.max { value > *best } else { value < *best };
            if self.best.as_ref().is_none_or(better) {
                self.best = Some(value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.order.value(self.best.as_ref())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn size(&self) -> usize {
        let best = self.best.as_ref().map_or(0, |best| best.as_ref().len());
        size_of_val(self) + self.order.converter.size() + best
    }
}

/// The least or greatest list or struct of a moving frame.
#[derive(Debug)]
pub(super) struct MovingExtreme {
    order: Order,
    /// The values that may still become the best, each better than those behind it, with their numbers.
    hopeful: VecDeque<(usize, OwnedRow)>,
    entered: usize,
    left: usize,
    max: bool,
}

impl MovingExtreme {
    pub(super) fn new(data_type: &DataType, max: bool) -> Result<MovingExtreme> {
        let (order, hopeful) = (Order::new(data_type)?, VecDeque::new());
        Ok(MovingExtreme { order, hopeful, entered: 0, left: 0, max })
    }
}

impl Accumulator for MovingExtreme {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        for value in self.order.rows(&arguments[0])? {
            if let Some(value) = value {
                let beaten = |old: &OwnedRow| if self.max { *old < value } else { *old > value };
                while self.hopeful.back().is_some_and(|(_, old)| beaten(old)) {
                    self.hopeful.pop_back();
                }
                self.hopeful.push_back((self.entered, value));
            }
            self.entered += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        self.left += arguments[0].len();
        while self.hopeful.front().is_some_and(|(number, _)| *number < self.left) {
            self.hopeful.pop_front();
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.order.value(self.hopeful.front().map(|(_, value)| value))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn size(&self) -> usize {
        let values = self.hopeful.iter().map(|(_, value)| value.as_ref().len()).sum::<usize>();
        let places = self.hopeful.capacity() * size_of::<(usize, OwnedRow)>();
        size_of_val(self) + self.order.converter.size() + places + values
    }
}
