//! Reads `count_distinct_where(x, …)`, whose second argument says with which conditions a value ever came.
//!
//! ```sql
//! count_distinct_where(struct(src, dst), ever(router = 1) AND NOT (ever(router = 2) OR ever(router = 3)))
//! ```
//!
//! Each different `ever(condition)` becomes a set and an argument of its own; AND, OR, NOT and parentheses
//! around them become the function's expression.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result, not_impl_err};
use datafusion::logical_expr::expr::{AggregateFunction, BinaryExpr};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Expr, ExprSchemable, LogicalPlan, Operator,
    ScalarUDF, Signature, Volatility, lit,
};

use crate::error::SqlState;
use crate::operators::aggregates::bounds::{DISTINCT_WHERE, DistinctSets};
use crate::planner::error::PlanError;
use crate::planner::marker::Marker;
use crate::sketches::set_expression::{SETS_MAX, SetExpression};

const HINT: &str = "Write for example count_distinct_where(x, ever(a = 1) AND NOT ever(a = 2)).";

/// `count_distinct_where(x, …)` until its second argument is read.
pub(super) fn aggregate() -> Arc<AggregateUDF> {
    let signature = Signature::any(2, Volatility::Immutable);
    Arc::new(AggregateUDF::from(Unread { signature }))
}

/// `ever(condition)`, which has a meaning there only.
const EVER: Marker =
    Marker { name: "ever", arguments: 1, volatility: Volatility::Immutable, is_transparent: false };

/// The function of `ever(condition)`.
pub(super) fn ever() -> Arc<ScalarUDF> {
    EVER.function()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Unread {
    signature: Signature,
}

impl AggregateUDFImpl for Unread {
    fn name(&self) -> &str {
        DISTINCT_WHERE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DistinctSets::result())
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("{DISTINCT_WHERE}() OVER a window is not supported")
    }
}

/// Reads the calls in a plan, and refuses `ever` elsewhere.
pub(super) fn read(plan: LogicalPlan) -> Result<LogicalPlan> {
    let read = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
        let schema = Arc::clone(aggregate.input.schema());
        let names = NamePreserver::new_for_projection();
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let read = expr.transform_up(|part| match part {
                Expr::AggregateFunction(call) if is_unread(&call) => {
                    Ok(Transformed::yes(Expr::AggregateFunction(read_call(call, &schema)?)))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(read.update_data(|expr| name.restore(expr)))
        })
    })?;
    read.data.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| match condition(part) {
                Some(_) => {
                    let what = format!("ever() outside of {DISTINCT_WHERE}()");
                    Err(PlanError::unsupported(what, HINT).into())
                }
                None => Ok(TreeNodeRecursion::Continue),
            })
        })
    })?;
    Ok(read.data)
}

fn is_unread(call: &AggregateFunction) -> bool {
    (call.func.inner().as_ref() as &dyn Any).is::<Unread>()
}

/// The condition of `ever(condition)`.
fn condition(expr: &Expr) -> Option<&Expr> {
    EVER.arguments_of(expr)?.first()
}

fn refused(message: String) -> PlanError {
    let code = SqlState::INVALID_PARAMETER;
    PlanError::Refused { code, message, hint: Some(HINT.into()) }
}

fn read_call(mut call: AggregateFunction, schema: &DFSchema) -> Result<AggregateFunction> {
    if call.params.distinct || !call.params.order_by.is_empty() {
        let what = format!("{DISTINCT_WHERE}() with DISTINCT or ORDER BY");
        return Err(PlanError::unsupported(what, "It counts different values in any order.").into());
    }
    let [values, conditions] = call.params.args.as_slice() else { return Ok(call) };
    if !DistinctSets::takes(&values.get_type(schema)?) {
        let message = format!("values of {DISTINCT_WHERE}() cannot be compared");
        return Err(PlanError::window(SqlState::TYPE_MISMATCH, message).into());
    }
    let mut sets = Vec::new();
    let mut expression = set_expression(conditions, &mut sets, schema)?;
    if expression.holds(0) {
        // Values that came with none of the conditions count: all values are a set, too.
        let all = set_of(lit(true), &mut sets)?;
        expression = all.and(expression);
    }
    let count = sets.len();
    let values = values.clone();
    call.params.args = [values].into_iter().chain(sets).collect();
    call.func = Arc::new(AggregateUDF::from(DistinctSets::of(expression, count)));
    Ok(call)
}

/// The expression, and its conditions, each once.
fn set_expression(
    expr: &Expr,
    sets: &mut Vec<Expr>,
    schema: &DFSchema,
) -> Result<SetExpression, PlanError> {
    if let Some(condition) = condition(expr) {
        let data_type = condition.get_type(schema).ok();
        if !data_type.is_some_and(|t| t.is_null() || t == DataType::Boolean) {
            return Err(refused(format!(
                "ever({condition}) of {DISTINCT_WHERE}() is no condition"
            )));
        }
        return set_of(condition.clone(), sets);
    }
    match expr {
        Expr::Not(inner) => Ok(set_expression(inner, sets, schema)?.not()),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            let left = set_expression(left, sets, schema)?;
            Ok(left.and(set_expression(right, sets, schema)?))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let left = set_expression(left, sets, schema)?;
            Ok(left.or(set_expression(right, sets, schema)?))
        }
        other => Err(refused(format!(
            "second argument of {DISTINCT_WHERE}() must be conditions in ever(), joined by AND, OR and NOT, not {other}"
        ))),
    }
}

fn set_of(condition: Expr, sets: &mut Vec<Expr>) -> Result<SetExpression, PlanError> {
    let number = match sets.iter().position(|known| *known == condition) {
        Some(known) => known,
        None => {
            sets.push(condition);
            sets.len() - 1
        }
    };
    match number < SETS_MAX {
        true => Ok(SetExpression::set(number)),
        false => Err(refused(format!(
            "{DISTINCT_WHERE}() takes at most {SETS_MAX} different conditions, values without any of them included"
        ))),
    }
}
