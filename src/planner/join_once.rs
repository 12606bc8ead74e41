//! Stands for ASOF JOIN in the plan of a one-off SELECT: a node with two inputs, whose rows are all there.
//!
//! A continuous query gives such a join an operator that waits for watermarks ([`super::join_newest`]).
//! Here the marked join ([`super::join_as_of`]) becomes a node of ours before DataFusion optimises: it
//! would pair every row with every earlier one.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, DFSchemaRef, JoinType, Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::logical_plan::builder::build_join_schema;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Extension, Join, LogicalPlan, Operator,
    UserDefinedLogicalNodeCore,
};

use crate::planner::error::PlanError;
use crate::planner::join_as_of::{AsOf, take_marker};
use crate::planner::match_cells::coerced;

/// Joins each row with the newest row of the other side that is not after it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AsofNode {
    /// The rows, each of which comes out at most once, and those that they are joined with.
    pub sides: [LogicalPlan; 2],
    /// The times, of one type.
    pub times: [Expr; 2],
    /// What must be equal, in pairs of one type.
    pub keys: Vec<[Expr; 2]>,
    /// Whether a row of the same time is too late to be taken.
    pub strict: bool,
    /// Whether left rows come out that find none.
    pub keeps_left: bool,
    schema: DFSchemaRef,
}

/// Puts nodes in the place of marked joins.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => {
            let conjuncts = join.filter.iter().flat_map(split_conjunction);
            let mut conditions: Vec<Expr> = conjuncts.cloned().collect();
            match take_marker(&mut conditions) {
                Some((as_of, first, second)) if as_of != AsOf::Now => {
                    let strict = as_of == AsOf::Above;
                    let node = AsofNode::of(join, [first, second], strict, conditions)?;
                    let node = LogicalPlan::Extension(Extension { node: Arc::new(node) });
                    Ok(Transformed::yes(node))
                }
                _ => Ok(Transformed::no(LogicalPlan::Join(join))),
            }
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(plan.data)
}

fn refused(what: &str, hint: &str) -> DataFusionError {
    PlanError::unsupported_once(what, hint).into()
}

/// Whether all columns of an expression are of a schema.
fn is_of(expr: &Expr, schema: &DFSchema) -> bool {
    expr.column_refs().iter().all(|column| schema.has_column(column))
}

impl AsofNode {
    fn of(join: Join, times: [Expr; 2], strict: bool, conditions: Vec<Expr>) -> Result<AsofNode> {
        let keeps_left = match join.join_type {
            JoinType::Inner => false,
            JoinType::Left => true,
            _ => return Err(refused("an outer ASOF JOIN", "Write ASOF JOIN or ASOF LEFT JOIN.")),
        };
        let (left, right) = (join.left.schema(), join.right.schema());
        let [first, second] = &times;
        let are_columns = matches!((first, second), (Expr::Column(_), Expr::Column(_)));
        if !are_columns || !is_of(first, left) || !is_of(second, right) {
            return Err(refused(
                "an ASOF JOIN with a row that comes after",
                "Write MATCH_CONDITION (l.at >= r.at), with the column of the left side first.",
            ));
        }
        let types = [first.get_type(left)?, second.get_type(right)?];
        let is_time =
            matches!(types[0], DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32)
                || types[0].is_integer();
        if types[0] != types[1] || !is_time {
            return Err(refused(
                "an ASOF JOIN of two kinds of time",
                "Cast both columns to TIMESTAMP in a subquery.",
            ));
        }
        let is_always = |condition: &&Expr| {
            !matches!(condition, Expr::Literal(ScalarValue::Boolean(Some(true)), _))
        };
        let both = join.schema.as_ref();
        let keys =
            conditions.iter().filter(is_always).map(|condition| key(condition, both, left, right));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let sides = [Arc::unwrap_or_clone(join.left), Arc::unwrap_or_clone(join.right)];
        AsofNode::new(sides, times, keys, (strict, keeps_left))
    }

    fn new(
        sides: [LogicalPlan; 2],
        times: [Expr; 2],
        keys: Vec<[Expr; 2]>,
        (strict, keeps_left): (bool, bool),
    ) -> Result<AsofNode> {
        let kind = if keeps_left { JoinType::Left } else { JoinType::Inner };
        let schema = build_join_schema(sides[0].schema(), sides[1].schema(), &kind)?;
        Ok(AsofNode { sides, times, keys, strict, keeps_left, schema: Arc::new(schema) })
    }
}

/// The two sides of a comparison for equality, that of the left side first.
fn key(condition: &Expr, both: &DFSchema, left: &DFSchema, right: &DFSchema) -> Result<[Expr; 2]> {
    let odd = || {
        refused(
            "an ASOF JOIN with more than equal columns in ON",
            "Compare columns for equality in ON, and filter in a subquery.",
        )
    };
    match coerced(condition.clone(), both)? {
        Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }) => {
            match (is_of(&a, left) && is_of(&b, right), is_of(&b, left) && is_of(&a, right)) {
                (true, _) => Ok([*a, *b]),
                (_, true) => Ok([*b, *a]),
                _ => Err(odd()),
            }
        }
        _ => Err(odd()),
    }
}

impl UserDefinedLogicalNodeCore for AsofNode {
    fn name(&self) -> &str {
        "ASOF JOIN"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.sides.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.times.iter().chain(self.keys.iter().flatten()).cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let sign = if self.strict { ">" } else { ">=" };
        write!(f, "ASOF JOIN: {} {sign} {}", self.times[0], self.times[1])
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let wrong = |_| DataFusionError::Internal("ASOF JOIN has two sides".into());
        let sides: [LogicalPlan; 2] = inputs.try_into().map_err(wrong)?;
        let mut exprs = exprs.into_iter();
        let mut pair = || match (exprs.next(), exprs.next()) {
            (Some(left), Some(right)) => Ok([left, right]),
            _ => Err(DataFusionError::Internal("ASOF JOIN compares pairs".into())),
        };
        let times = pair()?;
        let keys = (0..self.keys.len()).map(|_| pair()).collect::<Result<Vec<_>>>()?;
        AsofNode::new(sides, times, keys, (self.strict, self.keeps_left))
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.sides[0].schema().fields().len();
        let (left, right): (Vec<usize>, Vec<usize>) =
            output_columns.iter().partition(|column| **column < width);
        Some(vec![left, right.into_iter().map(|column| column - width).collect()])
    }
}

impl PartialOrd for AsofNode {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.sides[0].partial_cmp(&other.sides[0])
    }
}
