//! Folds `first_value(x ORDER BY y)` and `last_value(x ORDER BY y)`: of rows that y calls equal the first in log
//! order, and the last.
//!
//! Per group the best row so far, its y as bytes that compare like it. Why not DataFusion's accumulators: of equal
//! rows they take the last within a batch, but keep the first across batches, or keep the first always.
//!
//! # State
//! Per group one value with what it is ordered by.

use std::mem;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, UInt32Array};
use arrow::compute::{self, SortOptions};
use arrow::row::{RowConverter, SortField};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use super::accumulator::{GroupedAggregate, Rows, cannot_retract};
use super::extreme::{column_of, insertion};
use super::fold::{Evaluated, Fold, FoldRows, is_value};
use crate::operators::operator::EvalError;
use crate::operators::portions::Chosen;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// No row.
const NONE: u32 = u32::MAX;

/// The row of a group that is before all others, or behind them.
struct Best {
    order: Box<[u8]>,
    value: Box<[u8]>,
}

impl Best {
    fn bytes(&self) -> usize {
        self.order.len() + self.value.len()
    }
}

impl Stored for Best {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.order.store(out)?;
        self.value.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Best { order: from.get()?, value: from.get()? })
    }
}

/// One of the two over all groups.
pub(super) struct FirstLastFold {
    last: bool,
    skips_nulls: bool,
    options: Vec<SortOptions>,
    /// Of the types of the first batch.
    orders: Option<RowConverter>,
    values: RowConverter,
    groups: Vec<Option<Best>>,
    held: usize,
    /// Per group its best row in the batch at hand; between two batches there is none.
    bests: Vec<u32>,
}

impl FirstLastFold {
    /// The function, if it is one of the two and says of what order.
    pub(super) fn of(function: &AggregateFunctionExpr) -> Option<FirstLastFold> {
        let last = match function.fun().name() {
            "first_value" => false,
            "last_value" => true,
            _ => return None,
        };
        let options: Vec<SortOptions> = function.order_bys().iter().map(|by| by.options).collect();
        if options.is_empty() {
            return None;
        }
        let value = SortField::new(function.field().data_type().clone());
        Some(FirstLastFold {
            last,
            skips_nulls: function.ignore_nulls(),
            options,
            orders: None,
            values: RowConverter::new(vec![value]).ok()?,
            groups: Vec::new(),
            held: 0,
            bests: Vec::new(),
        })
    }

    /// Takes the rows that `weight` lets in. Says whether one of them was a retraction.
    fn add(
        &mut self,
        arguments: &[ArrayRef],
        rows: usize,
        group_of: impl Fn(usize) -> usize,
        weight: impl Fn(usize) -> i64,
    ) -> Result<bool, EvalError> {
        let (value, by) = (&arguments[0], &arguments[1..]);
        let converter = match &mut self.orders {
            Some(converter) => converter,
            empty => {
                let fields = by.iter().zip(&self.options).map(|(column, options)| {
                    SortField::new_with_options(column.data_type().clone(), *options)
                });
                empty.insert(RowConverter::new(fields.collect())?)
            }
        };
        let orders = converter.convert_columns(by)?;
        let (is_value, mut retracted) = (is_value(value), false);
        let mut bests = mem::take(&mut self.bests);
        bests.resize(self.groups.len(), NONE);
        let mut touched: Vec<usize> = Vec::new();
        for row in 0..rows {
            let times = weight(row);
            retracted |= times < 0;
            if times <= 0 || (self.skips_nulls && !is_value(row)) {
                continue;
            }
            let best = &mut bests[group_of(row)];
            if *best == NONE {
                touched.push(group_of(row));
            }
            let held = (*best != NONE).then(|| orders.row(*best as usize));
            if held.is_none_or(|held| self.wins(orders.row(row).as_ref(), held.as_ref())) {
                *best = row as u32;
            }
        }
        let indices = UInt32Array::from_iter_values(touched.iter().map(|&g| bests[g]));
        let values = compute::take(value, &indices, None)?;
        let values = self.values.convert_columns(&[values])?;
        for (place, &group) in touched.iter().enumerate() {
            let order = orders.row(bests[group] as usize);
            self.offer(group, order.as_ref(), values.row(place).as_ref());
            bests[group] = NONE;
        }
        self.bests = bests;
        Ok(retracted)
    }

    /// Whether a row stands where the answer is, seen from one that came before it.
    fn wins(&self, order: &[u8], held: &[u8]) -> bool {
        if self.last { order >= held } else { order < held }
    }

    /// A row that came after those which the group has seen.
    fn offer(&mut self, group: usize, order: &[u8], value: &[u8]) {
        if self.groups[group].as_ref().is_none_or(|held| self.wins(order, &held.order)) {
            self.put(group, Some(Best { order: Box::from(order), value: Box::from(value) }));
        }
    }

    fn put(&mut self, group: usize, best: Option<Best>) {
        self.held += best.as_ref().map_or(0, Best::bytes);
        let old = mem::replace(&mut self.groups[group], best);
        self.held -= old.map_or(0, |old| old.bytes());
    }

    fn grow(&mut self, groups: usize) {
        if self.groups.len() < groups {
            self.groups.resize_with(groups, || None);
        }
    }

    fn results(&self, groups: impl Iterator<Item = usize>) -> Result<ArrayRef, EvalError> {
        let bests = groups.map(|group| self.groups[group].as_ref());
        let values: Vec<Option<&[u8]>> =
            bests.map(|best| best.map(|best| &best.value[..])).collect();
        column_of(&self.values, &values)
    }

    fn columns(&self, groups: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
        let groups = || groups.iter().map(|&group| group as usize);
        let orders = groups().map(|group| self.groups[group].as_ref().map(|best| &best.order[..]));
        Ok(vec![Arc::new(orders.collect::<BinaryArray>()), self.results(groups())?])
    }

    fn all(&self) -> Vec<u32> {
        (0..self.groups.len() as u32).collect()
    }

    fn empty(&mut self) {
        (self.groups, self.held) = (Vec::new(), 0);
    }
}

impl Fold for FirstLastFold {
    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, || None);
    }

    fn update(&mut self, rows: &FoldRows<'_>) -> Result<(), EvalError> {
        let weight = |row| rows.weight(row);
        match self.add(rows.arguments, rows.groups.len(), |row| rows.groups[row], weight)? {
            true => insertion(-1).map(|_| ()),
            false => Ok(()),
        }
    }

    fn evaluate(&mut self, groups: &[usize]) -> Result<Evaluated, EvalError> {
        Ok(Evaluated::all(self.results(groups.iter().copied())?))
    }

    fn is_empty(&self, group: usize) -> bool {
        self.groups[group].is_none()
    }

    fn clear(&mut self, group: usize) {
        self.put(group, None);
    }

    fn keep(&mut self, groups: &[usize]) {
        self.groups = groups.iter().map(|&group| self.groups[group].take()).collect();
        self.held = self.groups.iter().flatten().map(Best::bytes).sum();
    }

    fn bytes(&self) -> usize {
        let room = self.groups.capacity() * size_of::<Option<Best>>();
        room + self.bests.capacity() * size_of::<u32>() + self.held
    }

    fn save(&mut self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError> {
        chosen.put(&self.groups, out)
    }

    fn restore(&mut self, chosen: &Chosen, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let groups = chosen.to_vec();
        groups.iter().for_each(|&group| self.put(group, None));
        chosen.get(&mut self.groups, from)?;
        let held = |group: usize| self.groups[group].as_ref().map_or(0, Best::bytes);
        self.held += groups.into_iter().map(held).sum::<usize>();
        Ok(())
    }
}

impl GroupedAggregate for FirstLastFold {
    fn update(&mut self, values: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError> {
        self.grow(rows.group_count);
        let weight = |row| rows.weight(row);
        match self.add(values, rows.groups.len(), |row| rows.groups[row] as usize, weight)? {
            true => Err(cannot_retract("first_value or last_value")),
            false => Ok(()),
        }
    }

    fn merge(
        &mut self,
        state: &[ArrayRef],
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), EvalError> {
        self.grow(group_count);
        let orders = state[0].as_binary::<i32>();
        let values = self.values.convert_columns(&state[1..])?;
        for (row, &group) in groups.iter().enumerate() {
            if orders.is_valid(row) {
                self.offer(group as usize, orders.value(row), values.row(row).as_ref());
            }
        }
        Ok(())
    }

    fn reads_groups(&self) -> bool {
        true
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        self.columns(&self.all())
    }

    fn state_of(&mut self, groups: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
        self.columns(groups)
    }

    fn take_state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        let state = self.columns(&self.all())?;
        self.empty();
        Ok(state)
    }

    fn evaluate(&mut self) -> Result<ArrayRef, EvalError> {
        let results = self.results(0..self.groups.len())?;
        self.empty();
        Ok(results)
    }

    fn evaluate_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        self.results(groups.iter().map(|&group| group as usize))
    }

    fn group_count(&self) -> usize {
        self.groups.len()
    }

    fn size(&self) -> usize {
        size_of::<FirstLastFold>() + self.bytes()
    }
}
