//! Folds min and max per group where nothing is ever taken back: the best value so far.
//!
//! Values are compared in the total order of `arrow::row`: NaN is the greatest float.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{
    ArrowNativeTypeOp, ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Float32Type,
    Float64Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType, UInt64Type,
};
use arrow::row::{RowConverter, SortField};

use super::fold::{Evaluated, Fold, FoldRows, is_value};
use crate::operators::operator::EvalError;
use crate::operators::portions::Chosen;
use crate::operators::state::{StateReader, StateWriter, misfit};

/// The fold for values of a type; `None` when they have no order.
pub fn extreme_fold(data_type: &DataType, max: bool) -> Option<Box<dyn Fold>> {
    Some(match data_type {
        DataType::Int16 => primitive::<Int16Type>(data_type, max),
        DataType::Int32 => primitive::<Int32Type>(data_type, max),
        DataType::Int64 => primitive::<Int64Type>(data_type, max),
        DataType::UInt64 => primitive::<UInt64Type>(data_type, max),
        DataType::Float32 => primitive::<Float32Type>(data_type, max),
        DataType::Float64 => primitive::<Float64Type>(data_type, max),
        DataType::Decimal128(..) => primitive::<Decimal128Type>(data_type, max),
        DataType::Date32 => primitive::<Date32Type>(data_type, max),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            primitive::<TimestampMicrosecondType>(data_type, max)
        }
        other => {
            let converter = RowConverter::new(vec![SortField::new(other.clone())]).ok()?;
            Box::new(RowExtreme { best: Vec::new(), best_bytes: 0, converter, max })
        }
    })
}

fn primitive<T: ArrowPrimitiveType>(data_type: &DataType, max: bool) -> Box<dyn Fold> {
    Box::new(PrimitiveExtreme::<T> { best: Vec::new(), data_type: data_type.clone(), max })
}

/// Values of a fixed width.
struct PrimitiveExtreme<T: ArrowPrimitiveType> {
    best: Vec<Option<T::Native>>,
    data_type: DataType,
    max: bool,
}

impl<T: ArrowPrimitiveType> Fold for PrimitiveExtreme<T> {
    fn resize(&mut self, groups: usize) {
        self.best.resize(groups, None);
    }

    fn update(&mut self, rows: &FoldRows<'_>) -> Result<(), EvalError> {
        let argument = rows.arguments[0].as_primitive::<T>();
        for (row, &group) in rows.groups.iter().enumerate() {
            if argument.is_null(row) || !insertion(rows.weight(row))? {
                continue;
            }
            let (value, best) = (argument.value(row), &mut self.best[group]);
            let better = best
                .is_none_or(|best| if self.max { value.is_gt(best) } else { value.is_lt(best) });
            if better {
                *best = Some(value);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, groups: &[usize]) -> Result<Evaluated, EvalError> {
        let values: PrimitiveArray<T> = groups.iter().map(|group| self.best[*group]).collect();
        Ok(Evaluated::all(Arc::new(values.with_data_type(self.data_type.clone()))))
    }

    fn is_empty(&self, group: usize) -> bool {
        self.best[group].is_none()
    }

    fn clear(&mut self, group: usize) {
        self.best[group] = None;
    }

    fn keep(&mut self, groups: &[usize]) {
        self.best = groups.iter().map(|g| self.best[*g]).collect();
    }

    fn bytes(&self) -> usize {
        self.best.capacity() * size_of::<Option<T::Native>>()
    }

    fn save(&mut self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError> {
        out.columns(&[self.evaluate(&chosen.to_vec())?.values])
    }

    fn restore(&mut self, chosen: &Chosen, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let best = from.get::<ArrayRef>()?;
        let best =
            best.as_primitive_opt::<T>().ok_or_else(|| misfit("an extreme has another type"))?;
        if best.len() != chosen.len() {
            return Err(misfit("an extreme is missing"));
        }
        chosen
            .to_vec()
            .into_iter()
            .zip(best.iter())
            .for_each(|(group, value)| self.best[group] = value);
        Ok(())
    }
}

/// Values of any other type, as rows of bytes that compare like them.
struct RowExtreme {
    best: Vec<Option<Box<[u8]>>>,
    /// Bytes of all of them.
    best_bytes: usize,
    converter: RowConverter,
    max: bool,
}

impl Fold for RowExtreme {
    fn resize(&mut self, groups: usize) {
        self.best.resize(groups, None);
    }

    fn update(&mut self, rows: &FoldRows<'_>) -> Result<(), EvalError> {
        let argument = &rows.arguments[0];
        let values = self.converter.convert_columns(std::slice::from_ref(argument))?;
        let is_value = is_value(argument);
        for (row, &group) in rows.groups.iter().enumerate() {
            if !is_value(row) || !insertion(rows.weight(row))? {
                continue;
            }
            let (value, best) = (values.row(row), &mut self.best[group]);
            let better = best.as_ref().is_none_or(|best| {
                if self.max { value.as_ref() > &best[..] } else { value.as_ref() < &best[..] }
            });
            if better {
                self.best_bytes += value.as_ref().len();
                let old = best.replace(Box::from(value.as_ref()));
                self.best_bytes -= old.map_or(0, |old| old.len());
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, groups: &[usize]) -> Result<Evaluated, EvalError> {
        let best: Vec<Option<&[u8]>> = groups.iter().map(|g| self.best[*g].as_deref()).collect();
        Ok(Evaluated::all(column_of(&self.converter, &best)?))
    }

    fn is_empty(&self, group: usize) -> bool {
        self.best[group].is_none()
    }

    fn clear(&mut self, group: usize) {
        self.best_bytes -= self.best[group].take().map_or(0, |best| best.len());
    }

    fn keep(&mut self, groups: &[usize]) {
        self.best = groups.iter().map(|g| self.best[*g].take()).collect();
        self.best_bytes = self.best.iter().flatten().map(|best| best.len()).sum();
    }

    fn bytes(&self) -> usize {
        self.best.capacity() * size_of::<Option<Box<[u8]>>>() + self.best_bytes
    }

    fn save(&mut self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError> {
        chosen.put(&self.best, out)
    }

    fn restore(&mut self, chosen: &Chosen, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let groups = chosen.to_vec();
        groups.iter().for_each(|&group| self.clear(group));
        chosen.get(&mut self.best, from)?;
        let held = |group: usize| self.best[group].as_ref().map_or(0, |best| best.len());
        self.best_bytes += groups.into_iter().map(held).sum::<usize>();
        Ok(())
    }
}

/// Whether a row counts here: not one that FILTER keeps out, and never a retraction.
pub(super) fn insertion(weight: i64) -> Result<bool, EvalError> {
    if weight < 0 {
        return Err(EvalError::Broken("a retraction on an append-only input".to_owned()));
    }
    Ok(weight > 0)
}

/// Rows of one column as values; `None` becomes null.
pub(super) fn column_of(
    converter: &RowConverter,
    rows: &[Option<&[u8]>],
) -> Result<ArrayRef, EvalError> {
    let parser = converter.parser();
    let present = converter.convert_rows(rows.iter().flatten().map(|row| parser.parse(row)))?;
    let mut next = 0u32;
    let indices: arrow::array::UInt32Array = rows
        .iter()
        .map(|row| {
            row.map(|_| {
                next += 1;
                next - 1
            })
        })
        .collect();
    Ok(arrow::compute::take(&present[0], &indices, None)?)
}
