//! Reads PostgreSQL's `(s).a` as `s['a']`: the field of a struct.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, Query, Value, VisitMut, VisitorMut};

use crate::planner::hidden::fold;

/// Rewrites every such access of a query.
pub(super) fn normalize(query: &mut Query) {
    let walked = VisitMut::visit(query, &mut Normalizer);
    debug_assert!(walked.is_continue(), "the normalizer never breaks off");
}

/// Rewrites those of an expression.
pub(super) fn normalize_expr(expr: &mut Expr) {
    let walked = VisitMut::visit(expr, &mut Normalizer);
    debug_assert!(walked.is_continue(), "the normalizer never breaks off");
}

struct Normalizer;

impl VisitorMut for Normalizer {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::CompoundFieldAccess { root, access_chain } = expr else {
            return ControlFlow::Continue(());
        };
        // The first dots behind a name are of a name: `r.s['a']` is about column s of r.
        let is_name = matches!(&**root, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        let is_dot = |access: &&mut AccessExpr| matches!(access, AccessExpr::Dot(_));
        for access in access_chain.iter_mut().skip_while(|access| is_name && is_dot(access)) {
            if let AccessExpr::Dot(field @ Expr::Identifier(_)) = access
                && let Expr::Identifier(name) = &*field
            {
                *field = Expr::value(Value::SingleQuotedString(fold(name)));
            }
        }
        ControlFlow::Continue(())
    }
}
