//! Keeps conditions that stand above ASOF JOIN above it, while DataFusion moves conditions towards the rows.
//!
//! Which row is the newest is asked first, whether a condition likes it afterwards: `WHERE q.p < 10` has no row where
//! the newest quote is 99, not the one before it. To DataFusion a marked join ([`super::join_as_of`]) is any join,
//! and a condition on one side may be asked of that side's rows. So while its rules run, a node of ours stands above
//! each such join; it lets conditions on the left side through, whose rows come out one by one. What ON says of the
//! right side stands below the node and moves as ever: it chooses among which rows the newest is.
//!
//! # Not here
//! FOR SYSTEM_TIME AS OF: it joins every row that the table has, so a condition means the same before and after.

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DFSchemaRef, Result};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Extension, Filter, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::planner::fallible::may_fail;
use crate::planner::join_as_of::{AsOf, marker};

/// Stands above an ASOF JOIN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Held {
    join: LogicalPlan,
    /// The columns of its left side, of which some may be gone by now.
    left: DFSchemaRef,
}

/// Puts a node above each ASOF JOIN.
pub(super) fn hold(plan: LogicalPlan) -> Result<LogicalPlan> {
    let held = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Join(join) = &node else { return Ok(Transformed::no(node)) };
        let conditions = join.filter.iter().flat_map(split_conjunction);
        let mut markers = conditions.filter_map(marker);
        if !markers.any(|as_of| matches!(as_of, AsOf::AtLeast | AsOf::Above)) {
            return Ok(Transformed::no(node));
        }
        let left = Arc::clone(join.left.schema());
        Ok(Transformed::yes(Held { join: node, left }.plan()))
    })?;
    Ok(held.data)
}

/// Takes the nodes out again.
pub(super) fn release(plan: LogicalPlan) -> Result<LogicalPlan> {
    let released = plan.transform_up_with_subqueries(|node| match held(&node) {
        Some(held) => Ok(Transformed::yes(held.join.clone())),
        None => Ok(Transformed::no(node)),
    })?;
    Ok(released.data)
}

/// A condition above such a node without what asks about the left side alone, which is now below the node.
/// What may fail stays: it is asked only of rows that find a partner.
pub(super) fn let_through(node: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::Filter(filter) = node else { return Ok(node) };
    let Some(held) = held(&filter.input) else { return Ok(LogicalPlan::Filter(filter)) };
    let conditions = split_conjunction_owned(filter.predicate.clone());
    let (below, above): (Vec<Expr>, Vec<Expr>) =
        conditions.into_iter().partition(|condition| held.lets_through(condition));
    let Some(below) = conjunction(below) else { return Ok(LogicalPlan::Filter(filter)) };
    let below = Filter::try_new(below, Arc::new(held.join.clone()))?;
    let left = Arc::clone(&held.left);
    let node = Held { join: LogicalPlan::Filter(below), left }.plan();
    match conjunction(above) {
        None => Ok(node),
        Some(above) => Ok(LogicalPlan::Filter(Filter::try_new(above, Arc::new(node))?)),
    }
}

fn held(node: &LogicalPlan) -> Option<&Held> {
    let LogicalPlan::Extension(extension) = node else { return None };
    extension.node.as_any().downcast_ref::<Held>()
}

fn is_of(condition: &Expr, schema: &DFSchema) -> bool {
    let columns = condition.column_refs();
    !columns.is_empty() && columns.iter().all(|column| schema.has_column(column))
}

impl Held {
    fn plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    fn lets_through(&self, condition: &Expr) -> bool {
        is_of(condition, &self.left) && !condition.is_volatile() && !may_fail(condition)
    }
}

impl UserDefinedLogicalNodeCore for Held {
    fn name(&self) -> &str {
        "Held"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.join]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.join.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Held")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.pop() {
            Some(join) if inputs.is_empty() => Ok(Held { join, left: Arc::clone(&self.left) }),
            _ => Err(DataFusionError::Internal("one ASOF JOIN is held".into())),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.join.partial_cmp(&other.join)
    }
}
