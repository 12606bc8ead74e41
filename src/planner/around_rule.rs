//! A rule of DataFusion in its place and under its name, with a rewriting of ours about it.

use datafusion::common::Result;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// What is done at each node that the rule is given; it may ask the rule, or leave the node.
type Rewrite<R> = fn(&R, LogicalPlan, &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>>;

#[derive(Debug)]
pub(super) struct AroundRule<R> {
    pub(super) rule: R,
    pub(super) rewrite: Rewrite<R>,
}

impl<R: OptimizerRule> OptimizerRule for AroundRule<R> {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.rule.apply_order()
    }

    fn rewrite(
        &self,
        plan: LogicalPlan,
        config: &dyn OptimizerConfig,
    ) -> Result<Transformed<LogicalPlan>> {
        (self.rewrite)(&self.rule, plan, config)
    }
}
