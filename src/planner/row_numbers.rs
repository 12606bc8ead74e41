//! Writes DISTINCT ON, and LIMIT where it is one for each row outside, as what they mean: the rows with the first
//! numbers in the order of ORDER BY.
//!
//! For DISTINCT ON it is done before the optimiser sees the plan: DataFusion's own rule makes an aggregate of it,
//! which wants a registry of functions that there is none of here.

use std::sync::Arc;

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::{Sort, WindowFunction};
use datafusion::logical_expr::{
    Distinct, DistinctOn, Expr, FetchType, Limit, LogicalPlan, LogicalPlanBuilder, Projection,
    SkipType, SubqueryAlias, WindowFrame, WindowFunctionDefinition, lit,
};

use crate::operators::expr::is_sortable;
use crate::planner::bind::Purpose;
use crate::planner::error::PlanError;
use crate::planner::functions;
use crate::planner::limit::{carries_order, swap};

/// The number of a row in its group.
const NUMBER: &str = "__row_number";

/// Rewrites every DISTINCT ON of a plan. The rows come in the order of its ORDER BY, where somebody asks for it: a
/// LIMIT above, or the one who is answered once.
pub(super) fn rewrite(plan: LogicalPlan, purpose: Purpose) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::Limit(limit) => Ok(match in_order(&limit)? {
            Some(limit) => Transformed::yes(limit),
            None => Transformed::no(LogicalPlan::Limit(limit)),
        }),
        LogicalPlan::Distinct(Distinct::On(on)) => {
            Ok(Transformed::yes(first_of_groups(on, purpose == Purpose::Once)?))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(rewritten?.data)
}

/// The limit of what comes in the order of a DISTINCT ON; `None` of others.
fn in_order(limit: &Limit) -> Result<Option<LogicalPlan>> {
    let input = ordered(&limit.input)?.map(Arc::new);
    let (skip, fetch) = (limit.skip.clone(), limit.fetch.clone());
    Ok(input.map(|input| LogicalPlan::Limit(Limit { skip, fetch, input })))
}

/// What comes in the order of a DISTINCT ON, with that order; `None` of other plans.
fn ordered(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    Ok(match plan {
        LogicalPlan::Distinct(Distinct::On(on)) => Some(first_of_groups(on.clone(), true)?),
        LogicalPlan::Projection(Projection { input, .. })
        | LogicalPlan::SubqueryAlias(SubqueryAlias { input, .. }) => match ordered(input)? {
            Some(input) => Some(plan.with_new_exprs(plan.expressions(), vec![input])?),
            None => None,
        },
        _ => None,
    })
}

/// The first row of each group of a DISTINCT ON, and in its order if that is asked for.
pub(super) fn first_of_groups(on: DistinctOn, is_ordered: bool) -> Result<LogicalPlan> {
    let sorts = on.sort_expr.unwrap_or_default();
    // Within a group the first expressions of ORDER BY are all equal.
    let within = sorts.iter().filter(|sort| !on.on_expr.contains(&sort.expr)).cloned().collect();
    let columns: Vec<Expr> = on.input.schema().columns().into_iter().map(Expr::Column).collect();
    let numbered = numbered(Arc::unwrap_or_clone(on.input), on.on_expr, within)?;
    let mut first = numbered.filter(number().lt_eq(lit(1_i64)))?.project(columns)?;
    if is_ordered && !sorts.is_empty() {
        first = first.sort(sorts)?;
    }
    let first = Arc::new(first.build()?);
    let projection = Projection::try_new_with_schema(on.select_expr, first, on.schema)?;
    Ok(LogicalPlan::Projection(projection))
}

/// The rows that LIMIT and OFFSET let through. Those that ORDER BY leaves equal come by their values: the rows are
/// those of a join, which have no order of their own.
pub(super) fn limited(limit: &Limit) -> Result<LogicalPlan> {
    let (SkipType::Literal(skip), FetchType::Literal(fetch)) =
        (limit.get_skip_type()?, limit.get_fetch_type()?)
    else {
        let what = "LIMIT or OFFSET of an expression in a correlated subquery";
        return Err(PlanError::unsupported(what, "Write constant numbers.").into());
    };
    if let Some(limit) = in_order(limit)? {
        return Ok(limit);
    }
    let (input, mut order_by) = match limit.input.as_ref() {
        LogicalPlan::Sort(sort) => (&sort.input, sort.expr.clone()),
        input if carries_order(input) => return swap(limit),
        _ => (&limit.input, vec![]),
    };
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let fields = input.schema().fields().iter().zip(&columns);
    let sortable = fields.filter(|(field, _)| is_sortable(field.data_type()));
    order_by.extend(sortable.map(|(_, column)| column.clone().sort(true, false)));
    let mut numbered = numbered(LogicalPlan::clone(input), vec![], order_by)?;
    if let Some(fetch) = fetch {
        numbered = match fetch {
            0 => numbered.filter(lit(false))?,
            fetch => numbered.filter(number().lt_eq(place(skip.saturating_add(fetch))))?,
        };
    }
    if skip > 0 {
        numbered = numbered.filter(number().gt(place(skip)))?;
    }
    numbered.project(columns)?.build()
}

/// A place, or the last that there can be.
fn place(place: usize) -> Expr {
    lit(i64::try_from(place).unwrap_or(i64::MAX))
}

fn number() -> Expr {
    Expr::Column(Column::new_unqualified(NUMBER))
}

fn numbered(
    input: LogicalPlan,
    partition_by: Vec<Expr>,
    order_by: Vec<Sort>,
) -> Result<LogicalPlanBuilder> {
    let function = functions::state().udwf("row_number")?;
    let mut call = WindowFunction::new(WindowFunctionDefinition::WindowUDF(function), vec![]);
    call.params.window_frame = WindowFrame::new(match order_by.is_empty() {
        true => None,
        false => Some(false),
    });
    call.params.partition_by = partition_by;
    call.params.order_by = order_by;
    LogicalPlanBuilder::from(input).window(vec![Expr::from(call).alias(NUMBER)])
}
