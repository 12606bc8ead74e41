//! Gives the parts of a UNION the names of its columns before DataFusion puts unions into each other.
//!
//! Columns of a union go by their places, and its parts may call them otherwise. DataFusion moves what is computed of
//! an inner union's columns into its parts, under the union's names: `SELECT k AS a, v AS b … UNION ALL SELECT
//! DISTINCT k AS b, v AS a …` below EXCEPT had its columns exchanged.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Union};
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

use crate::planner::around_rule::AroundRule;

/// DataFusion's rule, of unions whose parts have the names of their columns.
pub(super) fn rule() -> impl OptimizerRule {
    AroundRule { rule: OptimizeUnions::new(), rewrite }
}

fn rewrite(
    rule: &OptimizeUnions,
    plan: LogicalPlan,
    config: &dyn OptimizerConfig,
) -> Result<Transformed<LogicalPlan>> {
    let plan = match plan {
        LogicalPlan::Union(Union { inputs, schema }) => {
            let named = inputs.into_iter().map(|part| named(part, &schema));
            LogicalPlan::Union(Union { inputs: named.collect::<Result<_>>()?, schema })
        }
        other => other,
    };
    rule.rewrite(plan, config)
}

/// The part under the names of the union's columns.
fn named(part: Arc<LogicalPlan>, schema: &DFSchema) -> Result<Arc<LogicalPlan>> {
    let columns = part.schema().columns();
    if columns == schema.columns() {
        return Ok(part);
    }
    let named = columns.into_iter().zip(schema.iter()).map(|(column, (relation, field))| {
        Expr::Column(column).alias_qualified(relation.cloned(), field.name())
    });
    let part = LogicalPlanBuilder::from(Arc::unwrap_or_clone(part)).project(named)?.build()?;
    Ok(Arc::new(part))
}
