//! Says what values beside each other mean, before DataFusion brings them to one type.
//!
//! Dates beside timestamps, and floats beside NUMERICs, are brought to [`super::common_types`]. A text
//! that is written beside a BYTEA is read as bytes are: DataFusion would take its characters. Casts
//! between texts and bytes mean these forms, too. A text beside an INTERVAL is read as one. A DATE and hours
//! make a TIMESTAMP; DataFusion would drop the hours. What a function takes a moment of is one of microseconds, too.

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::{InList, InSubquery, ScalarFunction};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Between, BinaryExpr, Case, Cast, Expr, ExprSchemable, Join, LogicalPlan, Operator, Projection,
    Union,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::type_coercion::coerce_union_schema;

use crate::data::bytes_text::parse_bytea;
use crate::data::interval_text::parse_interval;
use crate::error::SqlState;
use crate::planner::common_types::{
    common_type, common_type_of, differs, type_of_column, write_digits,
};
use crate::planner::conditions;
use crate::planner::error::PlanError;
use crate::planner::expressions::rewrite_named;
use crate::planner::interval_order::{compares, order_over};
use crate::planner::json_operators;
use crate::planner::value_functions::ValueFunction;

/// The rule; it comes before types are coerced.
#[derive(Debug)]
pub(super) struct BeforeCoercion;

impl AnalyzerRule for BeforeCoercion {
    fn name(&self) -> &str {
        "before_coercion"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| {
            let node = match node {
                LogicalPlan::Join(join) => LogicalPlan::Join(beside_in_join(join)?),
                LogicalPlan::Union(union) => LogicalPlan::Union(beside_in_union(union)?.data),
                node => node,
            };
            let schema = merge_schema(&node.inputs());
            let node = rewrite_named(node, |expr| expr.transform_up(|part| say(part, &schema)))?;
            match node.data {
                // A union's own types are those that its inputs are brought to later.
                node @ LogicalPlan::Union(_) => Ok(Transformed::yes(node)),
                node => Ok(Transformed::yes(node.recompute_schema()?)),
            }
        })?;
        Ok(plan.data)
    }
}

/// Says what an expression's operands are beside each other.
fn say(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    conditions::check(&expr, schema)?;
    match expr {
        Expr::BinaryExpr(BinaryExpr { mut left, op, mut right })
            if compares(op) || (op == Operator::Minus && !has_hours(&right, schema)) =>
        {
            let values = &mut [&mut *left, &mut *right];
            let changed = match compares(op) {
                true => beside(values, schema)?,
                // A difference is computed, and a number with a point is a DOUBLE there.
                false => of_one_type(values, schema)?,
            };
            let expr = Expr::BinaryExpr(BinaryExpr { left, op, right });
            Ok(Transformed::new_transformed(expr, changed))
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: op @ (Operator::Plus | Operator::Minus),
            right,
        }) => say_moved(left, op, right, schema),
        Expr::Between(Between { mut expr, negated, mut low, mut high }) => {
            let changed = beside(&mut [&mut expr, &mut low, &mut high], schema)?;
            let expr = Expr::Between(Between { expr, negated, low, high });
            Ok(Transformed::new_transformed(expr, changed))
        }
        Expr::InList(InList { mut expr, mut list, negated }) => {
            let mut values: Vec<&mut Expr> = vec![&mut expr];
            values.extend(&mut list);
            let changed = beside(&mut values, schema)?;
            let expr = Expr::InList(InList { expr, list, negated });
            Ok(Transformed::new_transformed(expr, changed))
        }
        Expr::Case(case) => say_case(case, schema),
        Expr::ScalarFunction(mut call) if ALIKE.contains(&call.func.name()) => {
            let mut values: Vec<&mut Expr> = call.args.iter_mut().collect();
            let changed = beside(&mut values, schema)?;
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), changed))
        }
        Expr::ScalarFunction(call) if OF_MOMENTS.contains(&call.func.name()) => {
            Ok(of_moments(call, schema))
        }
        Expr::Cast(_) | Expr::TryCast(_) => match (json_operators::cast(&expr, schema)?, expr) {
            (Some(made), _) => Ok(Transformed::yes(made)),
            (None, Expr::Cast(cast)) => say_cast(cast, schema),
            (None, expr) => Ok(Transformed::no(expr)),
        },
        Expr::WindowFunction(window) => Ok(order_over(window, schema)),
        Expr::InSubquery(asked) => say_in(asked, schema),
        other => Ok(Transformed::no(other)),
    }
}

/// The moments that a function takes parts of.
fn of_moments(mut call: ScalarFunction, schema: &DFSchema) -> Transformed<Expr> {
    let mut changed = false;
    let field = call.args.first().and_then(|field| field.as_literal()?.try_as_str()?);
    // Its epoch is a duration's own number.
    let is_epoch = field.is_some_and(|field| field.eq_ignore_ascii_case("epoch"));
    let moment = DataType::Timestamp(TimeUnit::Microsecond, None);
    for arg in &mut call.args {
        *arg = match arg.get_type(schema) {
            Ok(DataType::Date32) => cast(std::mem::take(arg), moment.clone()),
            Ok(DataType::Duration(_)) if !is_epoch => {
                ValueFunction::IntervalOf.call(std::mem::take(arg))
            }
            _ => continue,
        };
        changed = true;
    }
    Transformed::new_transformed(Expr::ScalarFunction(call), changed)
}

/// What is looked for in a subquery's column stands beside it.
fn say_in(mut asked: InSubquery, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let own = asked.expr.get_type(schema);
    let of = asked.subquery.subquery.schema().fields().first().map(|of| of.data_type().clone());
    let (Ok(own), Some(of)) = (own, of) else {
        return Ok(Transformed::no(Expr::InSubquery(asked)));
    };
    let Some(wanted) = common_type(&[own.clone(), of.clone()]) else {
        return Ok(Transformed::no(Expr::InSubquery(asked)));
    };
    if differs(&of, &wanted) {
        let inner = Arc::unwrap_or_clone(asked.subquery.subquery);
        asked.subquery.subquery = Arc::new(with_types(inner, &[Some(wanted.clone())])?);
    }
    if differs(&own, &wanted) {
        asked.expr = Box::new(cast(*asked.expr, wanted));
    }
    Ok(Transformed::yes(Expr::InSubquery(asked)))
}

/// A date that is moved by an interval of whole days stays one; hours make it a moment.
fn say_moved(
    mut left: Box<Expr>,
    op: Operator,
    mut right: Box<Expr>,
    schema: &DFSchema,
) -> Result<Transformed<Expr>> {
    let moment = DataType::Timestamp(TimeUnit::Microsecond, None);
    let mut changed = false;
    if is_date(&left, schema) && has_hours(&right, schema) {
        left = Box::new(cast(*left, moment));
        changed = true;
    } else if op == Operator::Plus && is_date(&right, schema) && has_hours(&left, schema) {
        right = Box::new(cast(*right, moment));
        changed = true;
    }
    let expr = Expr::BinaryExpr(BinaryExpr { left, op, right });
    Ok(Transformed::new_transformed(expr, changed))
}

/// Whether an expression is an interval that may hold less than a day.
fn has_hours(expr: &Expr, schema: &DFSchema) -> bool {
    match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) => {
            interval.nanoseconds != 0
        }
        expr => matches!(expr.get_type(schema), Ok(found) if is_span(&found)),
    }
}

/// Functions of moments, for which DataFusion takes a DATE to nanoseconds.
const OF_MOMENTS: [&str; 2] = ["date_trunc", "date_part"];

/// Functions whose arguments are values of one type.
const ALIKE: [&str; 8] =
    ["coalesce", "greatest", "least", "nullif", "nvl", "ifnull", "make_array", "nvl2"];

fn say_case(mut case: Case, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let mut changed = false;
    if let Some(base) = &mut case.expr {
        let mut values: Vec<&mut Expr> = vec![base];
        values.extend(case.when_then_expr.iter_mut().map(|(when, _)| when.as_mut()));
        changed |= beside(&mut values, schema)?;
    }
    let mut values: Vec<&mut Expr> =
        case.when_then_expr.iter_mut().map(|(_, then)| then.as_mut()).collect();
    values.extend(case.else_expr.as_deref_mut());
    changed |= beside(&mut values, schema)?;
    Ok(Transformed::new_transformed(Expr::Case(case), changed))
}

/// Texts and bytes become each other in the forms that BYTEA has.
fn say_cast(cast: Cast, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let from = cast.expr.get_type(schema).ok();
    let to = cast.field.data_type();
    let function = match from {
        Some(from) if from.is_string() && is_bytes(to) => ValueFunction::BytesOf,
        Some(from) if is_bytes(&from) && to.is_string() => ValueFunction::BytesText,
        _ => return Ok(Transformed::no(Expr::Cast(cast))),
    };
    let made = function.call(*cast.expr);
    let same = made.get_type(schema)? == *to;
    let field = cast.field;
    let expr = if same { made } else { Expr::Cast(Cast::new_from_field(Box::new(made), field)) };
    Ok(Transformed::yes(expr))
}

/// Brings values that stand for each other to what they are together; tells whether any changed.
fn beside(values: &mut [&mut Expr], schema: &DFSchema) -> Result<bool> {
    let changed = of_one_type(values, schema)?;
    Ok(write_digits(values, schema) || changed)
}

fn of_one_type(values: &mut [&mut Expr], schema: &DFSchema) -> Result<bool> {
    // What has no type here (a column of an outer query, say) stays as it is.
    let types: Vec<Option<DataType>> =
        values.iter().map(|value| value.get_type(schema).ok()).collect();
    let known: Vec<DataType> = types.iter().flatten().cloned().collect();
    let mut changed = false;
    if let Some(wanted) = common_type_of(values, schema) {
        for (value, found) in values.iter_mut().zip(&types) {
            if found.as_ref().is_some_and(|found| differs(found, &wanted)) {
                let inner = std::mem::take(*value);
                **value = cast(inner, wanted.clone());
                changed = true;
            }
        }
    }
    let read: Option<fn(&str) -> Result<ScalarValue>> = if known.iter().any(is_bytes) {
        Some(bytes_of)
    } else if known.iter().any(is_span) {
        Some(interval_of)
    } else {
        None
    };
    let Some(read) = read else { return Ok(changed) };
    for value in values.iter_mut() {
        if let Expr::Literal(text, _) = &**value
            && let Some(Some(text)) = text.try_as_str()
        {
            **value = Expr::Literal(read(text)?, None);
            changed = true;
        }
    }
    Ok(changed)
}

fn interval_of(text: &str) -> Result<ScalarValue> {
    let (months, days, nanoseconds) = parse_interval(text.trim()).map_err(|_| {
        let message = format!("invalid input syntax for type interval: \"{text}\"");
        let hint = Some("Write it as '1 day 02:03:04'.".to_owned());
        let code = SqlState::INVALID_DATETIME;
        DataFusionError::from(PlanError::Refused { code, message, hint })
    })?;
    let interval = IntervalMonthDayNano { months, days, nanoseconds };
    Ok(ScalarValue::IntervalMonthDayNano(Some(interval)))
}

fn bytes_of(text: &str) -> Result<ScalarValue> {
    let mut bytes = Vec::new();
    parse_bytea(text, &mut bytes).ok_or_else(|| {
        let message = format!("invalid input syntax for type bytea: \"{text}\"");
        let hint = Some("Write \\x and two hexadecimal digits a byte.".to_owned());
        let code = SqlState::INVALID_TEXT;
        DataFusionError::from(PlanError::Refused { code, message, hint })
    })?;
    Ok(ScalarValue::Binary(Some(bytes)))
}

/// The two sides of a join's conditions are beside each other.
fn beside_in_join(mut join: Join) -> Result<Join> {
    for (left, right) in &mut join.on {
        let (Ok(a), Ok(b)) =
            (left.get_type(join.left.schema()), right.get_type(join.right.schema()))
        else {
            continue;
        };
        let Some(wanted) = common_type(&[a.clone(), b.clone()]) else { continue };
        for (side, own) in [(left, &a), (right, &b)] {
            if differs(own, &wanted) {
                *side = cast(std::mem::take(side), wanted.clone());
            }
        }
    }
    Ok(join)
}

/// So are the columns of what a union puts together.
fn beside_in_union(union: Union) -> Result<Transformed<Union>> {
    let wanted: Vec<Option<DataType>> = (0..union.schema.fields().len())
        .map(|column| {
            let types = union.inputs.iter().filter_map(|input| type_of_column(input, column));
            common_type(&types.collect::<Vec<_>>())
        })
        .collect();
    match wanted.iter().all(Option::is_none) {
        true => Ok(Transformed::no(union)),
        false => with_types_in_union(union, &wanted).map(Transformed::yes),
    }
}

/// A union whose parts have columns of the types that all have together. The planner gives it the first part's, until
/// types are coerced; who asks for them before would cut the others.
pub(super) fn typed_union(union: Union) -> Result<Transformed<Union>> {
    let beside = beside_in_union(union)?;
    let (union, changed) = (beside.data, beside.transformed);
    let coerced = coerce_union_schema(&union.inputs)?;
    let wanted: Vec<DataType> =
        coerced.fields().iter().map(|field| field.data_type().clone()).collect();
    let is_typed = |part: &Arc<LogicalPlan>| {
        part.schema().fields().iter().map(|field| field.data_type()).eq(&wanted)
    };
    if union.inputs.iter().all(is_typed) {
        return Ok(Transformed::new_transformed(union, changed));
    }
    let wanted: Vec<Option<DataType>> = wanted.into_iter().map(Some).collect();
    with_types_in_union(union, &wanted).map(Transformed::yes)
}

fn with_types_in_union(union: Union, wanted: &[Option<DataType>]) -> Result<Union> {
    let inputs = union.inputs.into_iter().map(|input| {
        let input = Arc::unwrap_or_clone(input);
        with_types(input, wanted).map(Arc::new)
    });
    Union::try_new_with_loose_types(inputs.collect::<Result<_>>()?)
}

/// The rows of a plan with columns cast to the types that are given.
fn with_types(plan: LogicalPlan, wanted: &[Option<DataType>]) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let fields = plan.schema().fields().iter();
    let exprs = columns.into_iter().zip(fields).enumerate().map(|(index, (column, field))| {
        match wanted.get(index).cloned().flatten() {
            Some(wanted) if wanted != *field.data_type() => {
                let (relation, name) = (column.relation.clone(), column.name.clone());
                cast(Expr::Column(column), wanted).alias_qualified(relation, name)
            }
            _ => Expr::Column(column),
        }
    });
    let exprs = exprs.collect();
    Ok(LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(plan))?))
}

fn cast(expr: Expr, to: DataType) -> Expr {
    Expr::Cast(Cast::new(Box::new(expr), to))
}

fn is_date(expr: &Expr, schema: &DFSchema) -> bool {
    matches!(expr.get_type(schema), Ok(DataType::Date32))
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

fn is_span(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}
