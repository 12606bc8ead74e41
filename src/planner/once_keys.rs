//! Computes what OVER and an aggregate's ORDER BY sort by, in a SELECT, below the node that sorts.
//!
//! ```text
//!   count(*) OVER (PARTITION BY abs(k) > 2)
//!   count(*) OVER (PARTITION BY __key_0)      over      SELECT *, abs(k) > 2 AS __key_0
//! ```
//!
//! DataFusion asks whether rows are in the order of an expression by the ranges of its parts. Of functions and CASE it
//! knows none, compares that with a number's, and refuses its own plan.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::{Aggregate, Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use crate::planner::expressions::rewrite_named;

/// Rewrites windows and aggregates whose keys are no columns.
#[derive(Debug)]
pub(super) struct OnceKeys;

impl OptimizerRule for OnceKeys {
    fn name(&self) -> &str {
        "once_keys"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        _config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        let input = match &plan {
            LogicalPlan::Window(window) => Arc::clone(&window.input),
            LogicalPlan::Aggregate(aggregate) => Arc::clone(&aggregate.input),
            _ => return Ok(Transformed::no(plan)),
        };
        let columns = plan.schema().columns();
        let mut keys = Keys(vec![]);
        let rewritten = rewrite_named(plan, |call| call.transform(|part| keys.name(part)))?;
        if keys.0.is_empty() {
            return Ok(rewritten);
        }
        let named = keys.0.into_iter().enumerate().map(|(place, key)| key.alias(name_of(place)));
        let all = input.schema().columns().into_iter().map(Expr::Column).chain(named);
        let input = LogicalPlanBuilder::from(Arc::unwrap_or_clone(input)).project(all)?.build()?;
        let plan = match rewritten.data {
            LogicalPlan::Window(window) => LogicalPlanBuilder::from(input)
                .window(window.window_expr)?
                .project(columns.into_iter().map(Expr::Column))?
                .build()?,
            LogicalPlan::Aggregate(aggregate) => LogicalPlan::Aggregate(Aggregate::try_new(
                Arc::new(input),
                aggregate.group_expr,
                aggregate.aggr_expr,
            )?),
            plan => plan,
        };
        Ok(Transformed::yes(plan))
    }
}

/// What is computed below the node.
struct Keys(Vec<Expr>);

fn name_of(place: usize) -> String {
    format!("__key_{place}")
}

impl Keys {
    /// Puts columns in the place of a call's keys.
    fn name(&mut self, part: Expr) -> Result<Transformed<Expr>> {
        let before = self.0.len();
        let call = match part {
            Expr::WindowFunction(mut call) => {
                call.params.partition_by.iter_mut().for_each(|key| self.column(key));
                call.params.order_by.iter_mut().for_each(|key| self.column(&mut key.expr));
                Expr::WindowFunction(call)
            }
            Expr::AggregateFunction(mut call) => {
                // DISTINCT takes only the order of its argument, as which it knows the same column.
                let keys = &call.params.order_by;
                let is_key = |arg: &&mut Expr| keys.iter().any(|key| key.expr == **arg);
                call.params.args.iter_mut().filter(is_key).for_each(|arg| self.column(arg));
                call.params.order_by.iter_mut().for_each(|key| self.column(&mut key.expr));
                Expr::AggregateFunction(call)
            }
            other => return Ok(Transformed::no(other)),
        };
        Ok(if self.0.len() > before { Transformed::yes(call) } else { Transformed::no(call) })
    }

    fn column(&mut self, key: &mut Expr) {
        if matches!(key, Expr::Column(_) | Expr::Literal(..)) {
            return;
        }
        let known = self.0.iter().position(|other| other == key && !key.is_volatile());
        let place = known.unwrap_or(self.0.len());
        let column = Expr::Column(Column::new_unqualified(name_of(place)));
        let key = std::mem::replace(key, column);
        if known.is_none() {
            self.0.push(key);
        }
    }
}
