//! Puts the columns of a relation of constant rows beside the rows that it is joined with.
//!
//! `FROM s, (SELECT 10 AS most) AS p`, `WITH p AS (SELECT 10 AS most) …` and `JOIN (VALUES (6, 'TCP'), (17, 'UDP')) AS p(number, name)`
//! are ways to name values. No log holds those rows, so a continuous query could not read them; they need no join either:
//!
//! ```text
//!   s JOIN (SELECT 10 AS most) AS p ON s.v < p.most     =     SELECT s.*, 10 AS most FROM s WHERE s.v < most
//!   s JOIN (VALUES (1, 'a'), (2, 'b')) AS p(k, c) ON s.k = p.k
//!       =     SELECT * FROM (SELECT s.*, UNNEST([1, 2]) AS k, UNNEST(['a', 'b']) AS c FROM s) WHERE s.k = k
//! ```
//!
//! A LEFT JOIN has one more row, of nulls, which passes where the condition holds for none of the constant rows.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{
    Column, DFSchema, JoinType, NullEquality, Result, ScalarValue, UnnestOptions,
};
use datafusion::functions_nested::make_array::make_array;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    Expr, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder, Projection, cast, ident, lit,
};

use crate::planner::error::PlanError;
use crate::planner::expressions::{is_correlated, takes_rows};
use crate::planner::join_as_of::marker;

/// Rows that stand beside each row: more belong into a table.
const ROWS_MAX: usize = 100;

/// Rewrites every such join of a plan that was just bound.
pub(super) fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match beside(&join)? {
            Some(plan) => Ok(Transformed::yes(plan)),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    });
    Ok(rewritten?.data)
}

fn beside(join: &Join) -> Result<Option<LogicalPlan>> {
    if join.null_equality != NullEquality::NullEqualsNothing {
        return Ok(None);
    }
    let equal = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    let condition = conjunction(equal.chain(join.filter.clone())).filter(|part| *part != lit(true));
    let marks = |condition: &Expr| {
        split_conjunction(condition).into_iter().any(|part| marker(part).is_some())
    };
    if condition.as_ref().is_some_and(marks) {
        return Ok(None);
    }
    // The rows that are kept whole: a constant row without any of the others beside it would have to be there at once.
    let (kept_left, kept_right) = match join.join_type {
        JoinType::Inner => (false, false),
        JoinType::Left => (true, false),
        JoinType::Right => (false, true),
        _ => return Ok(None),
    };
    let (rows, constant, on_left) = match (constants(&join.left)?, constants(&join.right)?) {
        (None, Some(constant)) if !kept_right => (&join.left, constant, false),
        (Some(constant), None) if !kept_left => (&join.right, constant, true),
        _ => return Ok(None),
    };
    let beside = Beside { rows: Arc::clone(rows), constant, on_left };
    match condition {
        Some(condition) if kept_left || kept_right => beside.kept(&condition).map(Some),
        condition => beside.joined(condition).map(Some),
    }
}

/// Rows with constant rows beside them.
struct Beside {
    rows: Arc<LogicalPlan>,
    constant: Constants,
    on_left: bool,
}

impl Beside {
    /// Each row with each constant row that the condition lets through.
    fn joined(self, condition: Option<Expr>) -> Result<LogicalPlan> {
        let values = match self.constant.rows.as_slice() {
            [row] => row.clone(),
            rows => {
                let lists = (0..self.constant.names.len())
                    .map(|place| rows.iter().map(|row| row[place].clone()).collect());
                return self.unnested(lists.collect(), condition);
            }
        };
        let values = values.into_iter().zip(&self.constant.names);
        let values = values.map(|(value, name)| named(value, name.clone())).collect();
        filtered(
            LogicalPlanBuilder::from(Arc::clone(&self.rows)).project(self.in_order(values))?,
            condition,
        )
    }

    /// The same, and a row with nulls where no constant row is let through.
    fn kept(&self, condition: &Expr) -> Result<LogicalPlan> {
        if condition.exists(|part| Ok(takes_rows(part)))? {
            return Err(PlanError::refused(
                "a subquery in the condition of an outer join with constant rows",
                "Put the constant rows into a table.",
            )
            .into());
        }
        let of_row = |row: &Vec<Expr>| -> Result<Expr> {
            let with_values = condition.clone().transform_up(|part| match &part {
                Expr::Column(column) => {
                    let place = self.constant.names.iter().position(|name| name == column);
                    Ok(place.map_or(Transformed::no(part.clone()), |place| {
                        Transformed::yes(row[place].clone())
                    }))
                }
                _ => Ok(Transformed::no(part)),
            })?;
            Ok(with_values.data.is_true())
        };
        let of_rows = self.constant.rows.iter().map(of_row).collect::<Result<Vec<Expr>>>()?;
        let none = any_of(&of_rows).map_or(lit(true), |any| Expr::Not(Box::new(any)));
        let rows = self.constant.rows.len();
        let mut lists: Vec<Vec<Expr>> = (0..self.constant.names.len())
            .map(|place| {
                let values = self.constant.rows.iter().map(|row| row[place].clone());
                values.chain([lit(ScalarValue::Null)]).collect()
            })
            .collect();
        lists.push((0..=rows).map(|place| lit(place == rows)).collect());
        let is_nulls = ident(item(lists.len() - 1));
        let found = Expr::Not(Box::new(is_nulls.clone())).and(condition.clone());
        self.unnested(lists, Some(found.or(is_nulls.and(none))))
    }

    /// Each row as often as the lists are long, with an item of each beside it under the columns' names.
    fn unnested(&self, lists: Vec<Vec<Expr>>, condition: Option<Expr>) -> Result<LogicalPlan> {
        let own = self.rows.schema().columns();
        let items: Vec<Column> =
            (0..lists.len()).map(|place| Column::from_name(item(place))).collect();
        let lists = lists.into_iter().zip(&items);
        let lists = lists.map(|(list, item)| named(make_array(list), item.clone()));
        let exprs = own.iter().cloned().map(Expr::Column).chain(lists);
        let plan = LogicalPlanBuilder::from(Arc::clone(&self.rows)).project(exprs)?;
        let plan = plan.unnest_columns_with_options(items.clone(), UnnestOptions::new())?;
        // What marks the row of nulls goes along, for the condition.
        let names = items.iter().enumerate().map(|(place, item)| {
            let name = self.constant.names.get(place).unwrap_or(item).clone();
            named(Expr::Column(item.clone()), name)
        });
        let exprs = own.iter().cloned().map(Expr::Column).chain(names);
        let plan = LogicalPlanBuilder::from(filtered(plan.project(exprs)?, condition)?);
        let names = self.constant.names.iter().cloned().map(Expr::Column);
        plan.project(self.in_order(names.collect()))?.build()
    }

    /// The rows' columns and the constant ones, those first that stood left.
    fn in_order(&self, constant: Vec<Expr>) -> Vec<Expr> {
        let own = self.rows.schema().columns().into_iter().map(Expr::Column);
        match self.on_left {
            true => constant.into_iter().chain(own).collect(),
            false => own.chain(constant).collect(),
        }
    }
}

/// The name of a list of constants, and of its items.
fn item(place: usize) -> String {
    format!("__constant_{place}")
}

fn filtered(plan: LogicalPlanBuilder, condition: Option<Expr>) -> Result<LogicalPlan> {
    match condition {
        Some(condition) => plan.filter(condition)?.build(),
        None => plan.build(),
    }
}

/// OR of conditions, no deeper than it must be.
fn any_of(conditions: &[Expr]) -> Option<Expr> {
    match conditions {
        [] => None,
        [one] => Some(one.clone()),
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            Some(any_of(left)?.or(any_of(right)?))
        }
    }
}

/// Rows of constants, and the names of their columns.
struct Constants {
    names: Vec<Column>,
    rows: Vec<Vec<Expr>>,
}

impl Constants {
    /// The values of a node's columns, of the types that the columns have.
    fn of(plan: &LogicalPlan, rows: Vec<Vec<Expr>>) -> Constants {
        let schema = plan.schema();
        let of_row = |row: Vec<Expr>| {
            let values = row.into_iter().zip(schema.fields());
            values.map(|(value, field)| typed(value.unalias(), field.data_type())).collect()
        };
        Constants { names: schema.columns(), rows: rows.into_iter().map(of_row).collect() }
    }
}

/// The rows of a relation of constants.
fn constants(plan: &LogicalPlan) -> Result<Option<Constants>> {
    let rows = match plan {
        LogicalPlan::SubqueryAlias(alias) => constants(&alias.input)?.map(|below| below.rows),
        LogicalPlan::Projection(projection) => match projection.input.as_ref() {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => {
                let plain = projection.expr.iter().map(is_plain).collect::<Result<Vec<bool>>>()?;
                plain.into_iter().all(|plain| plain).then(|| vec![projection.expr.clone()])
            }
            // Names for the columns of such a relation.
            input => match constants(input)? {
                Some(below) => renamed(projection, &below),
                None => None,
            },
        },
        LogicalPlan::Values(values) => {
            let plain =
                values.values.iter().flatten().map(is_plain).collect::<Result<Vec<bool>>>()?;
            plain.into_iter().all(|plain| plain).then(|| values.values.clone())
        }
        _ => None,
    };
    match rows {
        Some(rows) if rows.len() > ROWS_MAX => {
            let what = format!("VALUES of more than {ROWS_MAX} rows in a continuous query");
            Err(PlanError::refused(&what, "Put them into a table.").into())
        }
        rows => Ok(rows.map(|rows| Constants::of(plan, rows))),
    }
}

/// The rows of a projection that takes columns alone.
fn renamed(projection: &Projection, below: &Constants) -> Option<Vec<Vec<Expr>>> {
    let place = |expr: &Expr| match expr.clone().unalias() {
        Expr::Column(column) => below.names.iter().position(|name| *name == column),
        _ => None,
    };
    let places: Vec<usize> = projection.expr.iter().map(place).collect::<Option<_>>()?;
    let row = |row: &Vec<Expr>| places.iter().map(|place| row[*place].clone()).collect();
    Some(below.rows.iter().map(row).collect())
}

/// A constant of a type; DataFusion gives the columns of VALUES one that suits all rows.
fn typed(value: Expr, data_type: &DataType) -> Expr {
    match value {
        value if value.get_type(&DFSchema::empty()).is_ok_and(|own| own == *data_type) => value,
        value => cast(value, data_type.clone()),
    }
}

/// Whether an expression is the same for every row that it could stand beside.
fn is_plain(expr: &Expr) -> Result<bool> {
    let asks = expr.exists(|part| Ok(takes_rows(part)))? || is_correlated(expr)?;
    Ok(!asks && !expr.is_volatile())
}

fn named(value: Expr, name: Column) -> Expr {
    value.unalias().alias_qualified(name.relation, name.name)
}
