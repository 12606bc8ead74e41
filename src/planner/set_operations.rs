//! Gives INTERSECT and EXCEPT the meaning that SQL gives them: counts per row and side.
//!
//! ```text
//!   A EXCEPT ALL B  =  of each row of A and B, count in A less count in B, as often as that is above 0
//! ```
//!
//! Both sides become one relation with a mark for its side, grouped by all columns; so it is kept
//! current by operators that exist. Why not the semi and anti joins that DataFusion makes of them:
//! under ALL those keep or drop every copy of a row at once.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{
    Column, DataFusionError, JoinType, NullEquality, NullHandling, Result, UnnestOptions,
};
use datafusion::logical_expr::expr::{AggregateFunction, ScalarFunction};
use datafusion::logical_expr::type_coercion::binary::type_union_resolution;
use datafusion::logical_expr::{
    Distinct, Expr, Join, LogicalPlan, LogicalPlanBuilder, cast, lit, when,
};

use crate::planner::before_coercion::typed_union;
use crate::planner::common_types::{common_type, type_of_column};
use crate::planner::error::PlanError;
use crate::planner::functions;

/// Marks and counts of the sides.
const LEFT: &str = "__in_left";
const RIGHT: &str = "__in_right";
/// One element for each copy of a row.
const COPIES: &str = "__copies";

/// Rewrites every INTERSECT and EXCEPT of a plan that was just bound, and gives the unions below them their types.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut retyped = false;
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Union(union) => {
            let union = typed_union(union)?;
            retyped |= union.transformed;
            Ok(union.update_data(LogicalPlan::Union))
        }
        LogicalPlan::Join(join) if is_set_operation(&join) => {
            retyped = true;
            Ok(Transformed::yes(counted(&join)?))
        }
        other if retyped => Ok(Transformed::yes(other.recompute_schema()?)),
        other => Ok(Transformed::no(other)),
    });
    Ok(rewritten?.data)
}

/// Joins of this kind come of nothing else: subqueries are not joins yet, and ON never equates nulls.
fn is_set_operation(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && join.filter.is_none()
        && join.on.len() == join.left.schema().fields().len()
}

fn column(name: impl Into<String>) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}

fn name_of(index: usize) -> String {
    format!("__set_{index}")
}

fn counted(join: &Join) -> Result<LogicalPlan> {
    let (left, all) = match join.left.as_ref() {
        LogicalPlan::Distinct(Distinct::All(input)) => (input.as_ref(), false),
        left => (left, true),
    };
    let right = join.right.as_ref();
    let intersects = join.join_type == JoinType::LeftSemi;
    let width = left.schema().fields().len();
    let marked = |side: &LogicalPlan, is_left: bool| -> Result<LogicalPlan> {
        let mut exprs = Vec::with_capacity(width + 2);
        for (index, own) in side.schema().columns().into_iter().enumerate() {
            let types = [left, right].map(|side| side.schema().field(index).data_type().clone());
            let columns = [left, right].map(|side| type_of_column(side, index));
            let common = columns.into_iter().collect::<Option<Vec<_>>>();
            let common = common.and_then(|types| common_type(&types));
            let common = common.or_else(|| type_union_resolution(&types));
            let common = common.ok_or_else(|| mismatch(&types))?;
            let is_common = *side.schema().field(index).data_type() == common;
            let value = Expr::Column(own);
            let value = if is_common { value } else { cast(value, common) };
            exprs.push(value.alias(name_of(index)));
        }
        exprs.push(lit(i64::from(is_left)).alias(LEFT));
        exprs.push(lit(i64::from(!is_left)).alias(RIGHT));
        LogicalPlanBuilder::from(side.clone()).project(exprs)?.build()
    };
    let keys: Vec<Expr> = (0..width).map(|index| column(name_of(index))).collect();
    let counts = [sum(LEFT)?.alias(LEFT), sum(RIGHT)?.alias(RIGHT)];
    let both = LogicalPlanBuilder::from(marked(left, true)?).union(marked(right, false)?)?;
    let mut counted = both.aggregate(keys.clone(), counts)?;
    let (in_left, in_right) = (column(LEFT), column(RIGHT));
    if all {
        let copies = match intersects {
            true => when(in_left.clone().lt(in_right.clone()), in_left).otherwise(in_right)?,
            false => in_left - in_right,
        };
        let with_copies = keys.iter().cloned().chain([copies.alias(COPIES)]);
        counted = counted.project(with_copies)?.filter(column(COPIES).gt(lit(0_i64)))?;
        let list = repeated(column(COPIES))?.alias(COPIES);
        counted = counted.project(keys.iter().cloned().chain([list]))?;
        // There is no list without elements; where none would give a row, one copy more is one row more.
        let options = UnnestOptions::new().with_null_handling(NullHandling::Drop);
        let copies = Column::new_unqualified(COPIES);
        counted = counted.unnest_column_with_options(copies, options)?;
    } else {
        let wanted = match intersects {
            true => in_right.gt(lit(0_i64)),
            false => in_right.eq(lit(0_i64)),
        };
        counted = counted.filter(in_left.gt(lit(0_i64)).and(wanted))?;
    }
    let names = join.schema.iter().zip(keys);
    let names = names
        .map(|((qualifier, field), key)| key.alias_qualified(qualifier.cloned(), field.name()));
    counted.project(names.collect::<Vec<_>>())?.build()
}

fn mismatch(types: &[arrow::datatypes::DataType; 2]) -> DataFusionError {
    PlanError::Window {
        code: crate::error::SqlState::TYPE_MISMATCH,
        message: format!("types {} and {} of the two sides cannot be matched", types[0], types[1]),
        hint: Some("Cast the columns to one type.".into()),
    }
    .into()
}

fn sum(name: &str) -> Result<Expr> {
    let sum = functions::state().aggregate_functions().get("sum").map(Arc::clone);
    let sum = sum.ok_or_else(|| DataFusionError::Internal("sum is missing".into()))?;
    let arguments = vec![column(name)];
    let call = AggregateFunction::new_udf(sum, arguments, false, None, vec![], None);
    Ok(Expr::AggregateFunction(call))
}

/// A list with so many elements.
fn repeated(count: Expr) -> Result<Expr> {
    let repeat = functions::state().scalar_functions().get("array_repeat").map(Arc::clone);
    let repeat =
        repeat.ok_or_else(|| DataFusionError::Internal("array_repeat is missing".into()))?;
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(repeat, vec![lit(true), count])))
}
