//! Says what values beside each other mean, before DataFusion brings them to one type.
//!
//! A DATE beside a TIMESTAMP becomes a TIMESTAMP of microseconds, as every TIMESTAMP is: DataFusion would
//! take both to nanoseconds, which end in 2262, and `valid_to < DATE '9999-12-31'` would fail. A text
//! that is written beside a BYTEA is read as bytes are: DataFusion would take its characters. Casts
//! between texts and bytes mean these forms, too. A text beside an INTERVAL is read as one. A DATE and hours
//! make a TIMESTAMP; DataFusion would drop the hours. What a function takes a moment of is one of microseconds, too.

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Between, BinaryExpr, Case, Cast, Expr, ExprSchemable, Join, LogicalPlan, Operator, Projection,
    Union,
};
use datafusion::optimizer::AnalyzerRule;

use crate::data::bytes_text::parse_bytea;
use crate::data::interval_text::parse_interval;
use crate::error::SqlState;
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
                LogicalPlan::Union(union) => LogicalPlan::Union(beside_in_union(union)?),
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
            let changed = beside(&mut [&mut left, &mut right], schema)?;
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
        Expr::ScalarFunction(mut call) if OF_MOMENTS.contains(&call.func.name()) => {
            let mut changed = false;
            for arg in call.args.iter_mut().filter(|arg| is_date(arg, schema)) {
                let moment = DataType::Timestamp(TimeUnit::Microsecond, None);
                *arg = cast(std::mem::take(arg), moment);
                changed = true;
            }
            Ok(Transformed::new_transformed(Expr::ScalarFunction(call), changed))
        }
        Expr::Cast(_) | Expr::TryCast(_) => match (json_operators::cast(&expr, schema)?, expr) {
            (Some(made), _) => Ok(Transformed::yes(made)),
            (None, Expr::Cast(cast)) => say_cast(cast, schema),
            (None, expr) => Ok(Transformed::no(expr)),
        },
        Expr::WindowFunction(window) => Ok(order_over(window, schema)),
        Expr::InSubquery(mut asked) => {
            let [of] = asked.subquery.subquery.schema().fields().as_ref() else {
                return Ok(Transformed::no(Expr::InSubquery(asked)));
            };
            let (of, is_date) = (of.data_type().clone(), is_date(&asked.expr, schema));
            let own = asked.expr.get_type(schema).ok().and_then(|found| moment(&found));
            if let Some(wanted) = own.filter(|_| matches!(of, DataType::Date32)) {
                let inner = Arc::unwrap_or_clone(asked.subquery.subquery);
                asked.subquery.subquery = Arc::new(with_types(inner, &[Some(wanted)])?);
            } else if let Some(wanted) = moment(&of).filter(|_| is_date) {
                asked.expr = Box::new(cast(*asked.expr, wanted));
            } else {
                return Ok(Transformed::no(Expr::InSubquery(asked)));
            }
            Ok(Transformed::yes(Expr::InSubquery(asked)))
        }
        other => Ok(Transformed::no(other)),
    }
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
    // What has no type here (a column of an outer query, say) stays as it is.
    let types: Vec<Option<DataType>> =
        values.iter().map(|value| value.get_type(schema).ok()).collect();
    let known: Vec<DataType> = types.iter().flatten().cloned().collect();
    let mut changed = false;
    if let Some(wanted) = moment_of(&known) {
        for (value, found) in values.iter_mut().zip(&types) {
            let is_other = found.as_ref().is_some_and(|found| match found {
                DataType::Date32 => true,
                DataType::Timestamp(unit, _) => *unit != TimeUnit::Microsecond,
                _ => false,
            });
            if is_other {
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
        for (side, own, other) in [(left, &a, &b), (right, &b, &a)] {
            if let (DataType::Date32, Some(wanted)) = (own, moment(other)) {
                *side = cast(std::mem::take(side), wanted);
            }
        }
    }
    Ok(join)
}

/// So are the columns of what a union puts together.
fn beside_in_union(union: Union) -> Result<Union> {
    let count = union.schema.fields().len();
    let type_of = |input: &LogicalPlan, column: usize| {
        input.schema().fields().get(column).map(|field| field.data_type().clone())
    };
    let wanted: Vec<Option<DataType>> = (0..count)
        .map(|column| {
            let types: Vec<_> =
                union.inputs.iter().filter_map(|input| type_of(input, column)).collect();
            moment_of(&types)
        })
        .collect();
    if wanted.iter().all(Option::is_none) {
        return Ok(union);
    }
    let inputs = union.inputs.into_iter().map(|input| {
        let input = Arc::unwrap_or_clone(input);
        with_types(input, &wanted).map(Arc::new)
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

/// The type of dates and timestamps beside each other; `None` where there are not both.
pub(super) fn moment_of(types: &[DataType]) -> Option<DataType> {
    let dates = types.iter().any(|found| matches!(found, DataType::Date32));
    types.iter().find_map(moment).filter(|_| dates)
}

/// The moment of microseconds that stands for moments of a type; `None` for what is no TIMESTAMP.
fn moment(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Timestamp(_, zone) => {
            Some(DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        _ => None,
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

fn is_span(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Interval(_) | DataType::Duration(_))
}
