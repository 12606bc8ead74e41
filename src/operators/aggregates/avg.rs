//! Averages floats: their sum in the order they come, over their number.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array};
use arrow::datatypes::DataType;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::operators::aggregates::accumulator::GroupedAggregate;
use crate::operators::aggregates::sum::{Answers, Cell, Summed};
use crate::operators::operator::EvalError;

/// avg(x) with a double as its result; integers are summed as doubles, as the batch engine does.
pub(super) struct Avg;

impl Avg {
    /// The accumulator for the function's result type; `None` where there is none of our own.
    pub(super) fn for_result(
        function: &AggregateFunctionExpr,
    ) -> Option<Box<dyn GroupedAggregate>> {
        match function.field().data_type() {
            DataType::Float64 => Some(Summed::boxed(Avg)),
            _ => None,
        }
    }
}

impl Answers<f64> for Avg {
    const CAN_OVERFLOW: bool = false;

    fn answers(&self, cells: &[Cell<f64>], _: bool) -> Result<ArrayRef, EvalError> {
        let average = |cell: &Cell<f64>| (cell.count != 0).then(|| cell.sum / cell.count as f64);
        Ok(Arc::new(cells.iter().map(average).collect::<Float64Array>()))
    }
}
