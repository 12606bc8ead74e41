//! Gives IN and NOT IN over a subquery SQL's three values, before DataFusion makes joins of them.
//!
//! ```text
//!   x IN (S)      true   where a row of S equals x
//!                 null   else, where S has a null, or x is null and S has a row
//!                 false  else
//! ```
//!
//! DataFusion knows two values where the subquery stands beside OR, and its join for NOT IN compares one
//! key at a time and looks at nulls of the whole subquery, also where that is correlated. Here each
//! of the three lines becomes an EXISTS of its own, which has two values only. NOT IN in WHERE asks
//! just for truth:
//!
//! ```text
//!   NOT EXISTS (S WHERE s = x) AND NOT EXISTS (S WHERE s IS NULL) AND NOT EXISTS (S WHERE x IS NULL)
//! ```
//!
//! The first is a join by key. The others ask whether there is a row at all, so of a subquery that does not
//! depend on the row outside one row is kept; where a column is NOT NULL its line is left out.
//!
//! In a select list the three are counts, which are scalar subqueries.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DataFusionError, Result, ScalarValue, Spans, plan_err};
use datafusion::logical_expr::expr::{AggregateFunction, Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{conjunction, split_conjunction_owned};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Filter, Join, JoinType, LogicalPlan, LogicalPlanBuilder,
    Operator, Projection, Subquery, exists, lit, not, scalar_subquery, when,
};

use crate::planner::error::PlanError;
use crate::planner::functions;
use crate::planner::set_comparisons;
use crate::planner::subquery_depth::columns_outside;

/// Rewrites every condition of a plan that was just bound.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut rewriter = Rewriter { names: 0 };
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Filter(filter) if looks_up(&filter.predicate)? => {
            let Filter { predicate, input, .. } = filter;
            let predicate = rewriter.condition(predicate, input.schema())?;
            Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, input)?)))
        }
        LogicalPlan::Join(join) if any_looks_up(join.filter.as_slice())? => {
            Ok(Transformed::yes(LogicalPlan::Join(rewriter.join(join)?)))
        }
        LogicalPlan::Projection(projection) if any_looks_up(&projection.expr)? => {
            let Projection { expr, input, .. } = projection;
            let exprs = expr.into_iter().map(|expr| rewriter.column(expr, input.schema()));
            let exprs = exprs.collect::<Result<Vec<_>>>()?;
            Ok(Transformed::yes(LogicalPlan::Projection(Projection::try_new(exprs, input)?)))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(rewritten?.data)
}

fn looks_up(condition: &Expr) -> Result<bool> {
    condition.exists(|expr| {
        Ok(matches!(expr, Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)))
    })
}

/// The columns outside that an expression reads, also within its subqueries.
fn columns_of(expr: &Expr) -> Result<Vec<Column>> {
    let mut columns: Vec<Column> = expr.column_refs().into_iter().cloned().collect();
    expr.apply(|inner| {
        columns.extend(columns_outside(inner).cloned());
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(columns)
}

fn any_looks_up(exprs: &[Expr]) -> Result<bool> {
    exprs.iter().try_fold(false, |any, expr| Ok(any || looks_up(expr)?))
}

pub(super) struct Rewriter {
    /// Subqueries that have a name.
    names: usize,
}

impl Rewriter {
    /// ON: a part that looks something up goes to the side that it is about.
    fn join(&mut self, mut join: Join) -> Result<Join> {
        let mut kept = Vec::new();
        for part in join.filter.take().into_iter().flat_map(split_conjunction_owned) {
            if !looks_up(&part)? {
                kept.push(part);
                continue;
            }
            let columns = columns_of(&part)?;
            let about = |side: &LogicalPlan| columns.iter().all(|c| side.schema().has_column(c));
            let of_left = matches!(join.join_type, JoinType::Inner | JoinType::Right);
            let of_right = matches!(join.join_type, JoinType::Inner | JoinType::Left);
            let side = if of_left && about(&join.left) {
                &mut join.left
            } else if of_right && about(&join.right) {
                &mut join.right
            } else {
                return Err(PlanError::unsupported(
                    "IN or EXISTS in this condition of a join",
                    "Write it in WHERE, or in a subquery for the side that it is about.",
                )
                .into());
            };
            let condition = self.truth(part, side.schema())?;
            *side = Arc::new(LogicalPlan::Filter(Filter::try_new(condition, Arc::clone(side))?));
        }
        join.filter = conjunction(kept);
        Ok(join)
    }

    /// The condition of WHERE or HAVING: of each part only the truth matters.
    fn condition(&mut self, condition: Expr, outside: &DFSchema) -> Result<Expr> {
        let parts = split_conjunction_owned(condition).into_iter();
        let parts: Vec<Expr> =
            parts.map(|part| self.truth(part, outside)).collect::<Result<_>>()?;
        Ok(conjunction(parts).unwrap_or_else(|| lit(true)))
    }

    /// A condition of which only the truth matters: null counts as false.
    pub(super) fn truth(&mut self, condition: Expr, outside: &DFSchema) -> Result<Expr> {
        match set_comparisons::spelled(condition, outside)? {
            Expr::BinaryExpr(BinaryExpr { left, op, right })
                if matches!(op, Operator::And | Operator::Or) =>
            {
                let left = Box::new(self.truth(*left, outside)?);
                let right = Box::new(self.truth(*right, outside)?);
                Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            Expr::Not(inner) => match *inner {
                Expr::InSubquery(call) if !call.negated => {
                    self.truth(Expr::InSubquery(InSubquery { negated: true, ..call }), outside)
                }
                Expr::SetComparison(call)
                    if let Some(opposite) = set_comparisons::opposite(&call) =>
                {
                    self.truth(Expr::SetComparison(opposite), outside)
                }
                inner => self.value(not(inner), outside),
            },
            Expr::InSubquery(call) => {
                if let Some(aggregate) = as_scalar(&call) {
                    return Ok(aggregate);
                }
                match call.negated {
                    true => self.is_absent(&Lookup::of(&call, outside)?),
                    // A join knows its truth.
                    false => self.apart(call, outside),
                }
            }
            Expr::SetComparison(call) => self.comparison_truth(call, outside),
            other => self.value(other, outside),
        }
    }

    /// Names the value of a subquery where DataFusion's join would mistake it for another column: one that is
    /// going to be cast has its column's name by its text, and the join compares other columns of the subquery,
    /// too; one that no relation has (an aggregate, a UNION) is taken for two columns.
    fn apart(&mut self, mut call: InSubquery, outside: &DFSchema) -> Result<Expr> {
        let plan = &call.subquery.subquery;
        if plan.schema().fields().len() != 1 {
            return Ok(Expr::InSubquery(call));
        }
        let (qualifier, own) = plan.schema().qualified_field(0);
        let correlated = !plan.all_out_ref_exprs().is_empty();
        let is_cast = call.expr.get_type(outside)? != *own.data_type();
        let is_computed = qualifier.is_none();
        if (is_cast && correlated || is_computed) && !(correlated && limits(plan)?) {
            self.names += 1;
            let value = Expr::Column(Column::from((qualifier, own)));
            let named = value.alias(format!("__in_{}", self.names));
            let plan = LogicalPlanBuilder::from(Arc::clone(plan)).project([named])?.build()?;
            call.subquery.subquery = Arc::new(plan);
        }
        Ok(Expr::InSubquery(call))
    }

    /// A condition whose three values matter.
    fn value(&mut self, condition: Expr, outside: &DFSchema) -> Result<Expr> {
        let rewritten =
            condition.transform_up(|expr| match set_comparisons::spelled(expr, outside)? {
                Expr::SetComparison(call) => Ok(Transformed::yes(self.comparison(call, outside)?)),
                Expr::InSubquery(call) => {
                    if let Some(aggregate) = as_scalar(&call) {
                        return Ok(Transformed::yes(aggregate));
                    }
                    let found = self.is_found(&Lookup::of(&call, outside)?)?;
                    Ok(Transformed::yes(if call.negated { not(found) } else { found }))
                }
                // One row comes of no rows, too.
                Expr::Exists(Exists { subquery, negated }) if is_one_row(&subquery) => {
                    Ok(Transformed::yes(lit(!negated)))
                }
                other => Ok(Transformed::no(other)),
            });
        Ok(rewritten?.data)
    }

    /// An expression of a select list. EXISTS is a count there, because only conditions become joins.
    fn column(&mut self, expr: Expr, outside: &DFSchema) -> Result<Expr> {
        if !looks_up(&expr)? {
            return Ok(expr);
        }
        let name = NamePreserver::new_for_projection().save(&expr);
        set_comparisons::check_column(&expr, outside)?;
        let counted = self.value(expr, outside)?.transform_up(|expr| match expr {
            Expr::Exists(Exists { subquery, negated }) => {
                let there = is_counted(&subquery)?;
                Ok(Transformed::yes(if negated { not(there) } else { there }))
            }
            other => Ok(Transformed::no(other)),
        });
        Ok(name.restore(counted?.data))
    }

    fn is_absent(&mut self, lookup: &Lookup<'_>) -> Result<Expr> {
        let mut absent = not(self.equal(lookup)?);
        if lookup.subquery_nulls {
            absent = absent.and(not(self.null_within(lookup)?));
        }
        if lookup.outside_nulls {
            absent = absent.and(not(self.any_for_null(lookup)?));
        }
        Ok(absent)
    }

    fn is_found(&mut self, lookup: &Lookup<'_>) -> Result<Expr> {
        let equal = self.equal(lookup)?;
        let mut unknown = None;
        if lookup.subquery_nulls {
            unknown = Some(self.null_within(lookup)?);
        }
        if lookup.outside_nulls {
            let (rows, _) = self.named(lookup)?;
            let any = lookup.own.clone().is_null().and(rows_exist(lookup.at_most_one(rows)?)?);
            unknown = Some(match unknown {
                Some(unknown) => unknown.or(any),
                None => any,
            });
        }
        match unknown {
            None => Ok(equal),
            Some(unknown) => when(equal, lit(true))
                .when(unknown, lit(ScalarValue::Boolean(None)))
                .otherwise(lit(false)),
        }
    }

    /// Whether a row of the subquery equals the value outside.
    fn equal(&mut self, lookup: &Lookup<'_>) -> Result<Expr> {
        let (rows, value) = self.named(lookup)?;
        rows_exist(rows.filter(value.eq(lookup.value.clone()))?)
    }

    /// Whether the subquery has a null.
    fn null_within(&mut self, lookup: &Lookup<'_>) -> Result<Expr> {
        let (rows, value) = self.named(lookup)?;
        rows_exist(lookup.at_most_one(rows.filter(value.is_null())?)?)
    }

    /// Whether the value outside is null, and the subquery has a row.
    fn any_for_null(&mut self, lookup: &Lookup<'_>) -> Result<Expr> {
        let (rows, _) = self.named(lookup)?;
        rows_exist(lookup.at_most_one(rows)?.filter(lookup.value.clone().is_null())?)
    }

    /// The subquery with its column under a name of its own, which none outside has.
    pub(super) fn named(&mut self, lookup: &Lookup<'_>) -> Result<(LogicalPlanBuilder, Expr)> {
        self.names += 1;
        let name = format!("__in_{}", self.names);
        let rows = LogicalPlanBuilder::from(lookup.plan.clone());
        let own = Expr::Column(Column::from(rows.schema().qualified_field(0)));
        Ok((rows.project([own.alias(name.as_str())])?, Expr::Column(Column::new_unqualified(name))))
    }
}

pub(super) fn rows_exist(rows: LogicalPlanBuilder) -> Result<Expr> {
    Ok(exists(Arc::new(rows.build()?)))
}

/// A value that is looked up in a subquery.
pub(super) struct Lookup<'a> {
    /// As it stands outside.
    own: &'a Expr,
    /// As the subquery sees it.
    pub(super) value: Expr,
    plan: &'a LogicalPlan,
    pub(super) outside_nulls: bool,
    pub(super) subquery_nulls: bool,
    correlated: bool,
}

impl Lookup<'_> {
    pub(super) fn of<'a>(call: &'a InSubquery, outside: &DFSchema) -> Result<Lookup<'a>> {
        let plan = call.subquery.subquery.as_ref();
        let correlated = !plan.all_out_ref_exprs().is_empty();
        let odd = call.expr.exists(|expr| {
            Ok(matches!(
                expr,
                Expr::OuterReferenceColumn(..)
                    | Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::SetComparison(_)
                    | Expr::Exists(_)
            ))
        })?;
        // A condition on the row outside cannot be taken out of what counts rows.
        if odd || (correlated && limits(plan)?) {
            return Err(PlanError::refused(
                "this NOT IN, ANY or ALL, or IN beside NOT",
                "Write EXISTS or NOT EXISTS (SELECT … WHERE …).",
            )
            .into());
        }
        if plan.schema().fields().len() != 1 {
            return plan_err!("subquery of IN has {} columns", plan.schema().fields().len());
        }
        let value = call.expr.as_ref().clone().transform_up(|expr| match expr {
            Expr::Column(column) => {
                let (_, field) = outside.qualified_field_from_column(&column)?;
                Ok(Transformed::yes(Expr::OuterReferenceColumn(Arc::clone(field), column)))
            }
            other => Ok(Transformed::no(other)),
        });
        Ok(Lookup {
            own: &call.expr,
            value: value?.data,
            plan,
            outside_nulls: call.expr.nullable(outside)?,
            subquery_nulls: plan.schema().field(0).is_nullable(),
            correlated,
        })
    }

    /// Of rows that are all alike to the one outside, one.
    fn at_most_one(&self, rows: LogicalPlanBuilder) -> Result<LogicalPlanBuilder> {
        match self.correlated {
            true => Ok(rows),
            false => rows.project([lit(true).alias("present")])?.distinct(),
        }
    }
}

/// Whether a subquery has rows, as a value.
fn is_counted(subquery: &Subquery) -> Result<Expr> {
    let count = functions::state().aggregate_functions().get("count").map(Arc::clone);
    let count = count.ok_or_else(|| DataFusionError::Internal("count is missing".into()))?;
    let call = AggregateFunction::new_udf(count, vec![lit(1_i64)], false, None, vec![], None);
    let rows = LogicalPlanBuilder::from(Arc::clone(&subquery.subquery));
    let counted = rows.aggregate(Vec::<Expr>::new(), [Expr::AggregateFunction(call)])?;
    let number = Expr::Column(Column::from(counted.schema().qualified_field(0)));
    Ok(scalar_subquery(Arc::new(counted.project([number.gt(lit(0_i64))])?.build()?)))
}

fn limits(plan: &LogicalPlan) -> Result<bool> {
    plan.exists(|node| Ok(matches!(node, LogicalPlan::Limit(_))))
}

/// Whether a subquery gives one row whatever there is: aggregates without GROUP BY.
pub(super) fn is_one_row(subquery: &Subquery) -> bool {
    let mut plan = subquery.subquery.as_ref();
    loop {
        match plan {
            LogicalPlan::Projection(projection) => plan = projection.input.as_ref(),
            LogicalPlan::SubqueryAlias(alias) => plan = alias.input.as_ref(),
            LogicalPlan::Aggregate(aggregate) => return aggregate.group_expr.is_empty(),
            _ => return false,
        }
    }
}

/// A subquery of one row is a value: `x IN (SELECT max(y) …)` is `x = (SELECT max(y) …)`.
fn as_scalar(call: &InSubquery) -> Option<Expr> {
    if !is_one_row(&call.subquery) {
        return None;
    }
    let value = Expr::ScalarSubquery(Subquery {
        subquery: Arc::clone(&call.subquery.subquery),
        outer_ref_columns: call.subquery.outer_ref_columns.clone(),
        spans: Spans::new(),
    });
    let expr = call.expr.as_ref().clone();
    Some(if call.negated { expr.not_eq(value) } else { expr.eq(value) })
}
