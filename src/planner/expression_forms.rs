//! Writes expressions in the forms that DataFusion plans: PostgreSQL's `mod(a, b)` as `a % b`, with its checks of
//! zero and of range; lists of columns as calls; ANY of a list by ALL.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Query, UnaryOperator,
    VisitMut, VisitorMut,
};

use crate::planner::sql_call::sql_call;

/// Rewrites every such expression of a query.
pub(super) fn normalize(query: &mut Query) {
    let walked = VisitMut::visit(query, &mut Normalizer);
    debug_assert!(walked.is_continue(), "the normalizer never breaks off");
}

struct Normalizer;

impl VisitorMut for Normalizer {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        as_modulo(expr);
        as_make_array(expr);
        as_all(expr);
        ControlFlow::Continue(())
    }
}

fn as_modulo(expr: &mut Expr) {
    if let Some((left, right)) = operands(expr) {
        let of = |operand| Box::new(Expr::Nested(Box::new(operand)));
        let (left, op, right) = (of(left), BinaryOperator::Modulo, of(right));
        *expr = Expr::Nested(Box::new(Expr::BinaryOp { left, op, right }));
    }
}

/// `[s.a, 1]` is a call: DataFusion looks for columns in such a literal without those of outer queries.
fn as_make_array(expr: &mut Expr) {
    let Expr::Array(array) = expr else { return };
    if !array.elem.iter().all(|item| matches!(item, Expr::Value(_))) {
        *expr = sql_call("make_array", std::mem::take(&mut array.elem));
    }
}

/// `x = ANY (list)` is `NOT (x <> ALL (list))`, of which DataFusion knows all three values.
fn as_all(expr: &mut Expr) {
    let Expr::AnyOp { left, compare_op, right, .. } = expr else { return };
    let opposite = match compare_op {
        BinaryOperator::Eq => BinaryOperator::NotEq,
        BinaryOperator::NotEq => BinaryOperator::Eq,
        BinaryOperator::Lt => BinaryOperator::GtEq,
        BinaryOperator::LtEq => BinaryOperator::Gt,
        BinaryOperator::Gt => BinaryOperator::LtEq,
        BinaryOperator::GtEq => BinaryOperator::Lt,
        _ => return,
    };
    if matches!(right.as_ref(), Expr::Subquery(_)) {
        return;
    }
    let all = Expr::AllOp { left: left.clone(), compare_op: opposite, right: right.clone() };
    let not = Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(Expr::Nested(Box::new(all))) };
    *expr = Expr::Nested(Box::new(not));
}

fn operands(expr: &Expr) -> Option<(Expr, Expr)> {
    let Expr::Function(call) = expr else { return None };
    let [name] = call.name.0.as_slice() else { return None };
    let FunctionArguments::List(list) = &call.args else { return None };
    let [
        FunctionArg::Unnamed(FunctionArgExpr::Expr(left)),
        FunctionArg::Unnamed(FunctionArgExpr::Expr(right)),
    ] = list.args.as_slice()
    else {
        return None;
    };
    let plain = call.over.is_none() && call.filter.is_none() && list.duplicate_treatment.is_none();
    let is_mod = name.as_ident().is_some_and(|name| name.value.eq_ignore_ascii_case("mod"));
    (is_mod && plain).then(|| (left.clone(), right.clone()))
}
