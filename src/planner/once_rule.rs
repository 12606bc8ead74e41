//! Gives a rewriting of a SELECT's physical plan to DataFusion as a rule.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

/// A plan of ours in the place of DataFusion's.
type Rewrite = fn(Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>>;

/// A rule that asks for no settings, and keeps the plan's columns.
#[derive(Debug)]
pub(super) struct OnceRule {
    /// What DataFusion calls it in its messages.
    pub name: &'static str,
    /// Rewrites a whole plan.
    pub rewrite: Rewrite,
}

impl PhysicalOptimizerRule for OnceRule {
    fn name(&self) -> &str {
        self.name
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        (self.rewrite)(plan)
    }
}
