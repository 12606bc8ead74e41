//! Averages floats: their sum in the order they come, over their number.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::operators::aggregates::accumulator::{GroupedAggregate, Rows};
use crate::operators::aggregates::sum::{Cell, Sums};
use crate::operators::operator::EvalError;

/// avg(x) with a double as its result; integers are summed as doubles, as the batch engine does.
pub(super) struct Avg {
    sums: Sums<f64>,
}

impl Avg {
    /// The accumulator for the function's result type; `None` where there is none of our own.
    pub(super) fn for_result(
        function: &AggregateFunctionExpr,
    ) -> Option<Box<dyn GroupedAggregate>> {
        match function.field().data_type() {
            DataType::Float64 => Some(Box::new(Avg { sums: Sums::new() })),
            _ => None,
        }
    }
}

fn average(cell: &Cell<f64>) -> Option<f64> {
    (cell.count != 0).then(|| cell.sum / cell.count as f64)
}

impl GroupedAggregate for Avg {
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
        let averages: Float64Array = self.sums.cells().iter().map(average).collect();
        self.sums.clear();
        Ok(Arc::new(averages))
    }

    fn take_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        let some = self.evaluate_of(groups);
        self.sums.clear();
        some
    }

    fn evaluate_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        let cells = self.sums.cells();
        let averages: Float64Array =
            groups.iter().map(|&group| average(&cells[group as usize])).collect();
        Ok(Arc::new(averages))
    }

    fn group_count(&self) -> usize {
        self.sums.cells().len()
    }

    fn size(&self) -> usize {
        self.sums.size()
    }
}
