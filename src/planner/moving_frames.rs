//! Lets every aggregate be asked of frames that move.
//!
//! DataFusion asks an aggregate of such a frame to take back the rows that leave it, and refuses those that
//! cannot: `string_agg`, `bool_or`, most summaries. Here they fold what the frame holds anew
//! ([`super::once_moving`]), as OVER by event time does. The frame of a SELECT and that of OVER in any
//! other order of a continuous query are both DataFusion's business, so both get their aggregates from here.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, LogicalPlan, ReversedUDAF, SetMonotonicity,
    WindowFunctionDefinition,
};

use crate::planner::aggregate_within::as_theirs;
use crate::planner::expressions::rewrite_named;
use crate::planner::once_aggregates;
use crate::planner::once_moving::{Afresh, Moving, Recipe};

/// A SELECT whose aggregates can be asked of moving frames.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Window(_) => rewrite_named(node, |expr| expr.transform(over)),
        node => Ok(Transformed::no(node)),
    })?;
    Ok(rewritten.data)
}

fn over(expr: Expr) -> Result<Transformed<Expr>> {
    Ok(match expr {
        Expr::WindowFunction(mut call) if moves(&call) => {
            call.fun = movable(call.fun);
            Transformed::yes(Expr::WindowFunction(call))
        }
        expr => Transformed::no(expr),
    })
}

/// Whether rows leave the frame.
fn moves(call: &WindowFunction) -> bool {
    !call.params.window_frame.is_ever_expanding()
}

/// The function of OVER in a continuous query as a SELECT has it, for frames of any kind.
pub(super) fn as_once(function: &WindowFunctionDefinition) -> WindowFunctionDefinition {
    let ours = match function {
        WindowFunctionDefinition::AggregateUDF(theirs) => once_aggregates::replaced(theirs),
        WindowFunctionDefinition::WindowUDF(_) => None,
    };
    movable(ours.map_or_else(|| function.clone(), WindowFunctionDefinition::AggregateUDF))
}

fn movable(function: WindowFunctionDefinition) -> WindowFunctionDefinition {
    match function {
        WindowFunctionDefinition::AggregateUDF(theirs) => {
            let ours = Arc::new(AggregateUDF::from(Movable { theirs }));
            WindowFunctionDefinition::AggregateUDF(ours)
        }
        other => other,
    }
}

/// An aggregate that rows may leave.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Movable {
    theirs: Arc<AggregateUDF>,
}

impl Movable {
    /// Whether results of some rows and of others give that of all of them exactly, in any order. (DataFusion's
    /// `bit_xor` could take rows back, but of no values it would be 0.)
    fn merges_exactly(&self) -> bool {
        matches!(self.theirs.name(), "bool_and" | "bool_or" | "bit_and" | "bit_or" | "bit_xor")
    }
}

impl AggregateUDFImpl for Movable {
    as_theirs!();

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.theirs.accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let recipe = Recipe::new(Arc::clone(self.theirs.inner()), &args);
        if self.merges_exactly() {
            return Ok(Box::new(Moving::new(recipe)?));
        }
        match self.theirs.create_sliding_accumulator(args) {
            Ok(takes_back) if takes_back.supports_retract_batch() => Ok(takes_back),
            _ => Ok(Box::new(Afresh::new(recipe)?)),
        }
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.theirs.order_sensitivity()
    }

    fn with_beneficial_ordering(
        self: Arc<Self>,
        beneficial: bool,
    ) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let theirs = Arc::unwrap_or_clone(Arc::clone(&self.theirs));
        let theirs = theirs.with_beneficial_ordering(beneficial)?;
        Ok(theirs.map(|theirs| Arc::new(Movable { theirs: Arc::new(theirs) }) as _))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        match self.theirs.reverse_udf() {
            ReversedUDAF::Reversed(theirs) => {
                ReversedUDAF::Reversed(Arc::new(AggregateUDF::from(Movable { theirs })))
            }
            other => other,
        }
    }

    fn is_descending(&self) -> Option<bool> {
        self.theirs.is_descending()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.theirs.inner().set_monotonicity(data_type)
    }
}
