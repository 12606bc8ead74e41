//! Names an aggregate as the planner found it: function, arguments, filter, result.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::operators::aggregates::mining::miner_of;

/// One aggregate of a GROUP BY.
#[derive(Clone)]
pub struct AggregateSpec {
    /// DataFusion's lowered form: arguments, distinctness, order, accumulators, result field.
    pub function: Arc<AggregateFunctionExpr>,
    /// FILTER (WHERE …), boolean, over the input's columns.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// The hand-tuned accumulator that computes it, if there is one.
    pub native: Option<NativeFunction>,
    /// Result column.
    pub output: FieldRef,
}

/// Aggregates that have accumulators of our own. Arguments are `function.expressions()`; they are
/// never DISTINCT and never ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NativeFunction {
    /// count(*) or count of a constant.
    CountRows,
    /// count(x): rows where x is not null.
    Count,
    /// sum over an integer (128-bit inside, 22003 when the result does not fit), a float or a decimal.
    Sum,
    /// avg over integers and floats: sum and count.
    Avg,
    /// min over any type with an order.
    Min,
    /// max over any type with an order.
    Max,
}

impl fmt::Debug for AggregateSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for AggregateSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match miner_of(&self.function) {
            Some(miner) => write!(f, "{}({})", miner.name(), miner.describe()),
            None => f.write_str(self.function.name()),
        }
    }
}
