//! Keeps what is computed where nobody reads its column, and it is needed all the same: OVER by event time drops rows
//! that come late, so which rows there are depends on it; an aggregate without groups is one row over the rows of a
//! stream, `SELECT 'open' FROM (SELECT count(*) FROM s)`.
//!
//! DataFusion leaves out what is computed in vain. Where it has, it is asked again with a node of ours above each of
//! these, which reads the last column; then the nodes are taken out.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, Result};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    EmptyRelation, Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore,
};

/// Whether one of them has been left out.
pub(super) fn is_missing(before: &LogicalPlan, after: &LogicalPlan) -> Result<bool> {
    let (before, after) = (Counts::of(before)?, Counts::of(after)?);
    Ok(after.windows < before.windows || after.rows_of_nothing > before.rows_of_nothing)
}

#[derive(Default)]
struct Counts {
    windows: usize,
    /// Rows that stand where a total was.
    rows_of_nothing: usize,
}

impl Counts {
    fn of(plan: &LogicalPlan) -> Result<Counts> {
        let mut counts = Counts::default();
        plan.apply_with_subqueries(|node| {
            match node {
                LogicalPlan::Window(_) => counts.windows += 1,
                LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: true, .. }) => {
                    counts.rows_of_nothing += 1;
                }
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(counts)
    }
}

/// Puts a node above each of them, but for totals in subqueries, which DataFusion takes apart where they are correlated.
pub(super) fn hold(plan: LogicalPlan) -> Result<LogicalPlan> {
    let held = plan.transform_up(|node| match &node {
        LogicalPlan::Aggregate(aggregate) if aggregate.group_expr.is_empty() => Reader::of(node),
        _ => Ok(Transformed::no(node)),
    })?;
    let held = held.data.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Window(_) => Reader::of(node),
        node => Ok(Transformed::no(node)),
    })?;
    Ok(held.data)
}

/// Takes the nodes out again.
pub(super) fn release(plan: LogicalPlan) -> Result<LogicalPlan> {
    let released = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
        Ok(match extension.node.as_any().downcast_ref::<Reader>() {
            Some(reader) => Transformed::yes(reader.input.clone()),
            None => Transformed::no(node),
        })
    })?;
    Ok(released.data)
}

/// Reads the last column: that of OVER or of the aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
struct Reader {
    input: LogicalPlan,
}

impl Reader {
    fn of(input: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        let node = Arc::new(Reader { input });
        Ok(Transformed::yes(LogicalPlan::Extension(Extension { node })))
    }
}

impl UserDefinedLogicalNodeCore for Reader {
    fn name(&self) -> &str {
        "Reader"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    /// Conditions move through it.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("Reader")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.pop() {
            Some(input) if inputs.is_empty() => Ok(Reader { input }),
            _ => Err(DataFusionError::Internal("one relation is read".into())),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mut columns = output_columns.to_vec();
        let last = self.schema().fields().len().checked_sub(1);
        columns.extend(last.filter(|last| !output_columns.contains(last)));
        Some(vec![columns])
    }
}
