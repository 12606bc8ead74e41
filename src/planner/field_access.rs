//! Reads PostgreSQL's `(s).a` as `s['a']`: the field of a struct. In a select list it is called `a`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Ident, ObjectNamePart, Query, Select, SelectItem, TableFactor,
    TableWithJoins, Value, VisitMut, VisitorMut,
};

use crate::planner::hidden::{fold, name_or_input};
use crate::planner::relation_columns::factors;

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

/// The query whose select lists call a field by its name. DataFusion calls it by the text of the whole access.
pub(super) fn named(query: &Query) -> Query {
    let mut query = query.clone();
    let walked = VisitMut::visit(&mut query, &mut Namer::default());
    debug_assert!(walked.is_continue(), "the namer never breaks off");
    query
}

#[derive(Default)]
struct Namer {
    /// What the relations of each SELECT around are called, each by the parts of its name.
    relations: Vec<Vec<Vec<String>>>,
}

impl VisitorMut for Namer {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        self.relations.push(select.from.iter().flat_map(names).collect());
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(expr) = item
                && let Some(alias) = self.field_of(expr).cloned()
            {
                *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<()> {
        self.relations.pop();
        ControlFlow::Continue(())
    }
}

impl Namer {
    /// The name of the field that an expression reads; `None` of all others, a relation's column among them.
    fn field_of<'a>(&self, expr: &'a Expr) -> Option<&'a Ident> {
        match expr {
            Expr::Nested(expr) => self.field_of(expr),
            Expr::CompoundIdentifier(parts) => {
                let (name, qualifier) = parts.split_last()?;
                let qualifier: Vec<String> = qualifier.iter().map(fold).collect();
                let mut relations = self.relations.iter().flatten();
                let is_column = relations.any(|relation| relation.ends_with(&qualifier));
                (!is_column).then_some(name)
            }
            Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last()? {
                AccessExpr::Dot(Expr::Identifier(name)) => Some(name),
                _ => None,
            },
            _ => None,
        }
    }
}

/// What the relations of FROM are called.
fn names(from: &TableWithJoins) -> Vec<Vec<String>> {
    let parts = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, alias: None } => names(table_with_joins),
        _ => {
            let parts = name_or_input(factor).map(|name| name.0);
            let of = |parts: Vec<ObjectNamePart>| {
                parts.iter().filter_map(|part| part.as_ident()).map(fold).collect()
            };
            parts.map(of).into_iter().collect()
        }
    };
    factors(from).into_iter().flat_map(parts).collect()
}
