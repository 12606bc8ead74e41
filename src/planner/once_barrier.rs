//! Hides from GROUPING SETS, UNION and outer joins of a SELECT what is known of the order of their inputs, and
//! from what is above OFFSET the sort below it.
//!
//! A column that is one value below (`WHERE x = 1`, or an aggregate's only row) is that value or null above
//! ROLLUP, CUBE and GROUPING SETS, and above an outer join; one that is one value in each part of a union is
//! several in all. DataFusion goes on to take it for one value, and leaves out the sort that ORDER BY asks for.
//! And where an operator wants an order with more columns than the sort below OFFSET and LIMIT has, DataFusion
//! makes that sort anew, with a limit that forgets the rows which OFFSET skips.
//!
//! `WHERE abs(x) = y` would have it sort by `abs(x)` where `y` is asked for, and then not know that order again.
//!
//! Nor does a window or a sort know of the order of a sort or a window below it: DataFusion would do with a finer
//! order or a reverse one, in which rows that are equal stand otherwise than they came ([`super::once_ties`]).

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, split_conjunction};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateOutputMode};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec};
use datafusion::physical_plan::limit::GlobalLimitExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::planner::once_rule::OnceRule;
use crate::planner::once_ties::{calls_over, keeps_rows};

/// Puts a [`Barrier`] below each aggregate over sets of groups, part of a union and side of an outer join, above
/// each OFFSET, condition that equates what is computed and total, and below what sorts anew what was sorted.
pub(super) const ONCE_BARRIERS: OnceRule =
    OnceRule { name: "once_barriers", rewrite: with_barriers };

fn with_barriers(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let hides = makes_other_values(&*node) || wants_other_order(&node);
        node.map_children(|child| {
            let skips = child.downcast_ref::<GlobalLimitExec>().is_some_and(|l| l.skip() > 0);
            let hides = hides || equates_computed(&*child) || is_total(&*child);
            if !hides && !skips {
                return Ok(Transformed::no(child));
            }
            Ok(Transformed::yes(Arc::new(Barrier::new(child, hides)) as _))
        })
    })
    .data()
}

/// Whether a node is an aggregate without groups. A join hands down the wish for an order without the columns of its
/// only row, which are one value, and then does not know that order again.
fn is_total(node: &dyn ExecutionPlan) -> bool {
    let Some(aggregate) = node.downcast_ref::<AggregateExec>() else { return false };
    let is_final = aggregate.mode().output_mode() == AggregateOutputMode::Final;
    is_final && aggregate.group_expr().is_empty()
}

/// Whether a node's condition makes a column equal to what is computed.
fn equates_computed(node: &dyn ExecutionPlan) -> bool {
    let Some(filter) = node.downcast_ref::<FilterExec>() else { return false };
    split_conjunction(filter.predicate()).into_iter().any(|condition| {
        condition.downcast_ref::<BinaryExpr>().is_some_and(|equal| {
            let sides = [equal.left(), equal.right()];
            let is_computed = |side: &&Arc<dyn PhysicalExpr>| !side.is::<Column>();
            *equal.op() == Operator::Eq
                && sides.iter().any(is_computed)
                && !sides.iter().any(|side| side.is::<Literal>())
        })
    })
}

/// Whether a column that is one value in an input may be several in the output.
fn makes_other_values(node: &dyn ExecutionPlan) -> bool {
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        return aggregate.group_expr().has_grouping_set();
    }
    let join = node.downcast_ref::<HashJoinExec>().map(HashJoinExec::join_type);
    let join =
        join.or(node.downcast_ref::<NestedLoopJoinExec>().map(NestedLoopJoinExec::join_type));
    match join {
        Some(join) => matches!(join, JoinType::Left | JoinType::Right | JoinType::Full),
        None => node.is::<UnionExec>(),
    }
}

/// Whether the node sorts what another order was made for below it.
fn wants_other_order(node: &Arc<dyn ExecutionPlan>) -> bool {
    let Some(wanted) = order_of(&**node) else { return false };
    let mut below = node.children()[0];
    let mut renamed = false;
    loop {
        if let Some(made) = order_of(&**below) {
            return renamed || made != wanted;
        }
        if !keeps_rows(&**below) {
            return false;
        }
        renamed |= below.is::<ProjectionExec>();
        below = below.children()[0];
    }
}

/// The order in which a node wants its rows, as text; `None` if it wants none.
fn order_of(node: &dyn ExecutionPlan) -> Option<String> {
    if let Some(window) = calls_over(node).and_then(<[_]>::first) {
        return Some(format!("{:?} {:?}", window.partition_by(), window.order_by()));
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        let mut orders = aggregate.aggr_expr().iter().map(|call| call.order_bys());
        return orders.find(|order| !order.is_empty()).map(|order| format!("[] {order:?}"));
    }
    node.downcast_ref::<SortExec>().map(|sort| format!("[] {:?}", sort.expr().to_vec()))
}

/// Hands its input on, and no wish for an order down to it.
#[derive(Debug)]
pub(super) struct Barrier {
    input: Arc<dyn ExecutionPlan>,
    /// Says nothing of the input's order, either.
    hides: bool,
    properties: Arc<PlanProperties>,
}

impl Barrier {
    fn new(input: Arc<dyn ExecutionPlan>, hides: bool) -> Barrier {
        let known = input.properties();
        if !hides {
            let properties = Arc::clone(known);
            return Barrier { input, hides, properties };
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(input.schema()),
            known.partitioning.clone(),
            known.emission_type,
            known.boundedness,
        );
        Barrier { input, hides, properties: Arc::new(properties) }
    }
}

impl DisplayAs for Barrier {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Barrier")
    }
}

impl ExecutionPlan for Barrier {
    fn name(&self) -> &'static str {
        "Barrier"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Barrier::new(input, self.hides)))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.input.execute(partition, context)
    }
}
