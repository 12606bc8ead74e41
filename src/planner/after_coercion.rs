//! Makes values and comparisons what PostgreSQL means, once DataFusion has brought operands to their types.
//!
//! * Every float has one form ([`crate::data::floats`]): where an expression or an aggregate can make another
//!   one, [`ValueFunction::Canonical`] stands around it. Columns hold the one form. Sums, differences and
//!   products come to the same whichever form their operands have, so inside those it is left out.
//! * A cast of a float or a decimal to an integer rounds; DataFusion's cuts.
//! * Intervals and texts become each other in the one form that INTERVAL has. A moment, a float or a list becomes
//!   the text that it is shown as.
//! * A computed value in the list of IN is computed for each row. DataFusion asks a list for constants by
//!   computing it over no rows, where `CASE` gives its ELSE.
//! * Intervals compare by their lengths ([`super::interval_order`]).

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, Projection, TryCast, Window,
};
use datafusion::optimizer::AnalyzerRule;

use crate::data::floats::{canonical_scalar, holds_floats};
use crate::planner::expressions::rewrite_named;
use crate::planner::interval_order;
use crate::planner::value_functions::{INTERVAL, ValueFunction};

/// The rule; it comes right after types were coerced.
#[derive(Debug)]
pub(super) struct AfterCoercion;

impl AnalyzerRule for AfterCoercion {
    fn name(&self) -> &str {
        "after_coercion"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let node = rewrite_named(node, |expr| expr.transform_up(|part| mean(part, &schema)))?;
            let node = interval_order::of_node(node.data)?.recompute_schema()?;
            let (node, keys) = interval_order::extremes(node)?;
            above_aggregates(node, &keys).map(Transformed::yes)
        })?;
        Ok(plan.data)
    }
}

fn mean(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let expr = match expr {
        Expr::InList(mut list) => {
            list.list = list.list.into_iter().map(per_row).collect::<Result<_>>()?;
            Expr::InList(list)
        }
        expr => expr,
    };
    let cast = mean_cast(expr, schema)?;
    let floats = cast.transform_data(|expr| one_form(expr, schema))?;
    floats.transform_data(|expr| interval_order::compare(expr, schema))
}

/// What is computed of columns, as no constant.
fn per_row(expr: Expr) -> Result<Expr> {
    let is_column = |part: &Expr| matches!(part, Expr::Column(_) | Expr::OuterReferenceColumn(..));
    let is_computed = !is_column(&expr) && expr.exists(|part| Ok(is_column(part)))?;
    let is_told = ValueFunction::PerRow.argument_of(&expr).is_some();
    Ok(if is_computed && !is_told { ValueFunction::PerRow.call(expr) } else { expr })
}

/// Casts that DataFusion means otherwise.
fn mean_cast(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (inner, field, nulls) = match &expr {
        Expr::Cast(Cast { expr, field }) => (expr, field, false),
        Expr::TryCast(TryCast { expr, field }) => (expr, field, true),
        _ => return Ok(Transformed::no(expr)),
    };
    let Ok(from) = inner.get_type(schema) else { return Ok(Transformed::no(expr)) };
    let to = field.data_type();
    let function = match (&from, to) {
        (from, to) if to.is_integer() && (from.is_floating() || from.is_decimal()) => {
            ValueFunction::Integer(to.clone(), nulls)
        }
        (DataType::Interval(_) | DataType::Duration(_), to) if to.is_string() => {
            ValueFunction::IntervalText
        }
        (from, to) if to.is_string() && has_own_text(from) => ValueFunction::Text,
        (from, DataType::Interval(_)) if from.is_string() && !nulls => ValueFunction::IntervalOf,
        (DataType::Duration(_), to) if *to == INTERVAL => ValueFunction::IntervalOf,
        _ => return Ok(Transformed::no(expr)),
    };
    let (to, field) = (to.clone(), Arc::clone(field));
    let (Expr::Cast(Cast { expr: inner, .. }) | Expr::TryCast(TryCast { expr: inner, .. })) = expr
    else {
        unreachable!("only casts come here")
    };
    let made = function.call(bare(*inner));
    let same = made.get_type(schema)? == to;
    let made = if same { made } else { Expr::Cast(Cast::new_from_field(Box::new(made), field)) };
    Ok(Transformed::yes(made))
}

/// Whether Arrow writes values of a type otherwise than they are shown everywhere else.
fn has_own_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            !item.data_type().is_nested() || has_own_text(item.data_type())
        }
        DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) => true,
        data_type => data_type.is_floating(),
    }
}

/// Puts the one form of floats around what may make another.
fn one_form(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let expr = match expr {
        Expr::Literal(mut value, metadata) => {
            canonical_scalar(&mut value);
            return Ok(Transformed::yes(Expr::Literal(value, metadata)));
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = match op {
                Operator::Plus | Operator::Minus | Operator::Multiply => {
                    (Box::new(bare(*left)), Box::new(bare(*right)))
                }
                // A divisor's sign tells which infinity comes of it.
                Operator::Divide => (Box::new(bare(*left)), right),
                _ => (left, right),
            };
            Expr::BinaryExpr(BinaryExpr { left, op, right })
        }
        Expr::Negative(inner) => Expr::Negative(Box::new(bare(*inner))),
        other => other,
    };
    let makes = match &expr {
        Expr::BinaryExpr(_) | Expr::Negative(_) | Expr::HigherOrderFunction(_) => true,
        Expr::Cast(Cast { expr: inner, .. }) | Expr::TryCast(TryCast { expr: inner, .. }) => {
            !inner.get_type(schema).is_ok_and(|from| from.is_integer() || from.is_decimal())
        }
        Expr::ScalarFunction(call) => {
            !PASSING.contains(&call.func.name())
                && ValueFunction::Canonical.argument_of(&expr).is_none()
        }
        _ => false,
    };
    // A column of an outer query has no type here; what is not known stays as it is.
    if makes && expr.get_type(schema).is_ok_and(|found| holds_floats(&found)) {
        return Ok(Transformed::yes(ValueFunction::Canonical.call(expr)));
    }
    Ok(Transformed::yes(expr))
}

/// Functions whose results are among, or made of, the values they are given.
const PASSING: [&str; 16] = [
    "coalesce",
    "greatest",
    "least",
    "nullif",
    "nvl",
    "nvl2",
    "ifnull",
    "abs",
    "date_part",
    "make_array",
    "named_struct",
    "struct",
    "get_field",
    "array_element",
    "array_append",
    "array_concat",
];

/// What stands inside the one form.
fn bare(expr: Expr) -> Expr {
    match ValueFunction::Canonical.argument_of(&expr) {
        Some(inner) => inner.clone(),
        None => expr,
    }
}

/// Aggregates and functions of OVER whose results are among the values that they read.
const CHOOSING: [&str; 9] =
    ["min", "max", "first_value", "last_value", "nth_value", "any_value", "lag", "lead", "mode"];

/// Puts the one form around floats that aggregates make: a sum of infinities is no number. What are
/// `keys` of intervals becomes these.
fn above_aggregates(plan: LogicalPlan, keys: &BTreeSet<usize>) -> Result<LogicalPlan> {
    let (plan, lifted) = lifted(plan)?;
    let calls = match &plan {
        LogicalPlan::Aggregate(aggregate) => &aggregate.aggr_expr,
        LogicalPlan::Window(window) => &window.window_expr,
        _ => return Ok(plan),
    };
    let count = plan.schema().fields().len();
    let first = count - calls.len();
    let inputs = merge_schema(&plan.inputs());
    let makes = |column: usize| {
        let is_float = plan.schema().field(column).data_type().is_floating();
        lifted.contains(&column)
            || (is_float && column >= first && !chooses(&calls[column - first], &inputs))
    };
    if keys.is_empty() && !(first..count).any(makes) {
        return Ok(plan);
    }
    let exprs = plan.schema().columns().into_iter().enumerate().map(|(index, column)| {
        let Column { relation, name, .. } = column.clone();
        let function = match keys.contains(&index) {
            true => ValueFunction::IntervalOfKey,
            false if makes(index) => ValueFunction::Canonical,
            false => return Expr::Column(column),
        };
        function.call(Expr::Column(column)).alias_qualified(relation, name)
    });
    let exprs = exprs.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
}

/// Windows of one SELECT stand on each other, and are one operator where nothing is between them
/// ([`super::over_layers`]): the one form goes above them all, to the columns that come with the plan.
fn lifted(plan: LogicalPlan) -> Result<(LogicalPlan, BTreeSet<usize>)> {
    let LogicalPlan::Window(window) = &plan else { return Ok((plan, BTreeSet::new())) };
    let LogicalPlan::Projection(projection) = window.input.as_ref() else {
        return Ok((plan, BTreeSet::new()));
    };
    let below = &projection.input;
    let is_read =
        |column: &Column| window.window_expr.iter().any(|call| call.column_refs().contains(column));
    let columns = below.schema().columns();
    let mut formed = BTreeSet::new();
    let only_forms =
        projection.expr.iter().zip(&columns).enumerate().all(|(index, (expr, own))| {
            let inner = match expr {
                Expr::Alias(alias) => ValueFunction::Canonical.argument_of(&alias.expr),
                expr => return matches!(expr, Expr::Column(column) if column == own),
            };
            formed.insert(index);
            matches!(inner, Some(Expr::Column(column)) if column == own) && !is_read(own)
        });
    let is_stack = matches!(below.as_ref(), LogicalPlan::Window(_));
    if !is_stack || !only_forms || projection.expr.len() != columns.len() {
        return Ok((plan, BTreeSet::new()));
    }
    let stacked = Window::try_new(window.window_expr.clone(), Arc::clone(below))?;
    Ok((LogicalPlan::Window(stacked), formed))
}

/// Whether an aggregate's result has the one form if its arguments have.
fn chooses(call: &Expr, inputs: &DFSchema) -> bool {
    let (name, args) = match call {
        Expr::Alias(alias) => return chooses(&alias.expr, inputs),
        Expr::AggregateFunction(AggregateFunction { func, params }) => (func.name(), &params.args),
        Expr::WindowFunction(window) => {
            let WindowFunction { fun, params } = window.as_ref();
            (fun.name(), &params.args)
        }
        _ => return false,
    };
    // The average of whole numbers is a number.
    let of_integers = || match args.first() {
        Some(Expr::Cast(Cast { expr, .. })) => {
            expr.get_type(inputs).is_ok_and(|from| from.is_integer())
        }
        _ => false,
    };
    CHOOSING.contains(&name) || (name == "avg" && of_integers())
}
