//! Keeps the rows of functions that want them sorted, such as `nth_value(x, 2 ORDER BY y)`, and
//! sorts when a result is asked for.
//!
//! Rows that the ORDER BY calls equal stay in the order they came.

use std::mem;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, StructArray, UInt32Array, new_empty_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{self, SortColumn};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::operators::aggregates::accumulator::{GroupedAggregate, Rows, cannot_retract};
use crate::operators::aggregates::datafusion::accumulator;
use crate::operators::operator::EvalError;

/// All rows of all groups, in the order they came.
pub(super) struct Ordered {
    function: Arc<AggregateFunctionExpr>,
    /// Arguments, then order columns; one element per update.
    chunks: Vec<Vec<ArrayRef>>,
    /// The group of each row of all chunks.
    groups: Vec<u32>,
    group_count: usize,
}

impl Ordered {
    pub(super) fn new(function: Arc<AggregateFunctionExpr>) -> Ordered {
        Ordered { function, chunks: Vec::new(), groups: Vec::new(), group_count: 0 }
    }

    /// Makes one chunk of all.
    fn join_chunks(&mut self) -> Result<(), EvalError> {
        if self.chunks.len() < 2 {
            return Ok(());
        }
        let chunks = mem::take(&mut self.chunks);
        let joined = (0..chunks[0].len())
            .map(|column| {
                let parts: Vec<&dyn Array> =
                    chunks.iter().map(|chunk| chunk[column].as_ref()).collect();
                compute::concat(&parts)
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.chunks = vec![joined];
        Ok(())
    }

    /// Row numbers sorted by the function's ORDER BY, ties by arrival.
    fn sorted(&self) -> Result<Vec<u32>, EvalError> {
        let Some(columns) = self.chunks.first() else { return Ok(Vec::new()) };
        let orders = self.function.order_bys();
        let arguments = columns.len() - orders.len();
        let mut by: Vec<SortColumn> = columns[arguments..]
            .iter()
            .zip(orders)
            .map(|(values, order)| SortColumn {
                values: Arc::clone(values),
                options: Some(order.options),
            })
            .collect();
        let arrival = UInt32Array::from_iter_values(0..self.groups.len() as u32);
        by.push(SortColumn { values: Arc::new(arrival), options: None });
        Ok(compute::lexsort_to_indices(&by, None)?.values().to_vec())
    }

    /// Results of the groups whose new number `renumber` knows.
    fn results(
        &mut self,
        count: usize,
        renumber: impl Fn(u32) -> Option<usize>,
    ) -> Result<ArrayRef, EvalError> {
        if count == 0 {
            return Ok(new_empty_array(self.function.field().data_type()));
        }
        self.join_chunks()?;
        let mut rows = self.sorted()?;
        rows.retain(|&row| renumber(self.groups[row as usize]).is_some());
        let groups: Vec<usize> =
            rows.iter().filter_map(|&row| renumber(self.groups[row as usize])).collect();
        let mut sorted = accumulator(&self.function)?;
        if let Some(columns) = self.chunks.first() {
            let values = compute::take_arrays(columns, &UInt32Array::from(rows), None)?;
            sorted.update_batch(&values, &groups, None, count)?;
        }
        Ok(sorted.evaluate(EmitTo::All)?)
    }
}

impl GroupedAggregate for Ordered {
    fn update(&mut self, values: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError> {
        self.group_count = self.group_count.max(rows.group_count);
        let mut indices = Vec::with_capacity(rows.groups.len());
        let mut retracted = false;
        rows.for_each(None, |row, _, weight| {
            retracted |= weight < 0;
            indices.extend((0..weight).map(|_| row as u32));
        });
        if retracted {
            return Err(cannot_retract(self.function.name()));
        }
        if indices.is_empty() {
            return Ok(());
        }
        self.groups.extend(indices.iter().map(|&row| rows.groups[row as usize]));
        self.chunks.push(compute::take_arrays(values, &UInt32Array::from(indices), None)?);
        Ok(())
    }

    fn merge(
        &mut self,
        state: &[ArrayRef],
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), EvalError> {
        self.group_count = self.group_count.max(group_count);
        let lists = state[0].as_list::<i32>();
        for (row, &group) in groups.iter().enumerate() {
            let rows = lists.value(row);
            let columns = rows.as_struct();
            if columns.num_columns() == 0 || columns.is_empty() {
                continue;
            }
            self.groups.extend(std::iter::repeat_n(group, columns.len()));
            self.chunks.push(columns.columns().to_vec());
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        self.join_chunks()?;
        let Some(columns) = self.chunks.first() else {
            let empty = StructArray::new_empty_fields(0, None);
            let item = Arc::new(Field::new("item", empty.data_type().clone(), true));
            let lengths = OffsetBuffer::from_lengths(vec![0; self.group_count]);
            return Ok(vec![Arc::new(ListArray::new(item, lengths, Arc::new(empty), None))]);
        };
        let mut rows: Vec<u32> = (0..self.groups.len() as u32).collect();
        rows.sort_by_key(|&row| self.groups[row as usize]);
        let mut lengths = vec![0; self.group_count];
        for &group in &self.groups {
            lengths[group as usize] += 1;
        }
        let fields: Fields = columns
            .iter()
            .enumerate()
            .map(|(i, column)| Field::new(format!("c{i}"), column.data_type().clone(), true))
            .collect();
        let taken = compute::take_arrays(columns, &UInt32Array::from(rows), None)?;
        let items = StructArray::new(fields.clone(), taken, None);
        let item = Arc::new(Field::new("item", DataType::Struct(fields), true));
        let lengths = OffsetBuffer::from_lengths(lengths);
        Ok(vec![Arc::new(ListArray::new(item, lengths, Arc::new(items), None))])
    }

    fn take_state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        let state = self.state()?;
        *self = Ordered::new(Arc::clone(&self.function));
        Ok(state)
    }

    fn evaluate(&mut self) -> Result<ArrayRef, EvalError> {
        let results = self.results(self.group_count, |group| Some(group as usize))?;
        *self = Ordered::new(Arc::clone(&self.function));
        Ok(results)
    }

    fn evaluate_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        let mut numbers = vec![None; self.group_count];
        for (number, &group) in groups.iter().enumerate() {
            numbers[group as usize] = Some(number);
        }
        self.results(groups.len(), |group| numbers[group as usize])
    }

    fn group_count(&self) -> usize {
        self.group_count
    }

    fn size(&self) -> usize {
        let columns = self.chunks.iter().flatten();
        columns.map(|column| column.get_array_memory_size()).sum::<usize>()
            + self.groups.capacity() * mem::size_of::<u32>()
    }
}
