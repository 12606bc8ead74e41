//! Reads a name in ORDER BY as PostgreSQL does: alone it is a column of the answer, in an expression or behind its
//! relation's name one of FROM.
//!
//! ```text
//!   SELECT v % 3 AS v FROM p ORDER BY v + 0 LIMIT 2
//!   SELECT __ordered_0 AS v FROM (SELECT v % 3 AS __ordered_0 FROM p ORDER BY v + 0 LIMIT 2) AS __ordered
//! ```
//!
//! DataFusion takes a name in an expression for the answer's, too, and finds one ambiguous that is named with its
//! relation beside an answer's. Where FROM has no such column, the query is planned as it is written.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, Value, Visit,
    VisitMut, Visitor, VisitorMut,
};

use crate::planner::hidden::fold;
use crate::planner::sql_call::{select_from, table_alias};

/// Writes such queries, at any depth, with names of our own; `None` when no column of an answer has such a name.
pub(super) fn tell_apart(query: &Query) -> Option<Query> {
    let mut query = query.clone();
    let mut normalizer = Normalizer { found: false };
    let walked = VisitMut::visit(&mut query, &mut normalizer);
    debug_assert!(walked.is_continue(), "the normalizer never breaks off");
    normalizer.found.then_some(query)
}

struct Normalizer {
    found: bool,
}

impl VisitorMut for Normalizer {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.found |= say_names(query);
        if let Some(columns) = rename(query) {
            *query = select_from(query.clone(), table_alias("__ordered", vec![]), columns, None);
            self.found = true;
        }
        ControlFlow::Continue(())
    }
}

/// Gives a cast column the column's name, which is that of the answer, takes a name in ORDER BY out of its
/// parentheses, and calls what is a column of the answer as a whole by its name; tells whether there was any.
fn say_names(query: &mut Query) -> bool {
    let Some(order_by) = &mut query.order_by else { return false };
    let OrderByKind::Expressions(keys) = &mut order_by.kind else { return false };
    let mut found = false;
    for key in keys.iter_mut() {
        while let Expr::Nested(inner) = &mut key.expr
            && matches!(**inner, Expr::Identifier(_) | Expr::Nested(_))
        {
            key.expr = std::mem::replace(&mut **inner, Expr::value(Value::Null));
            found = true;
        }
    }
    let SetExpr::Select(select) = query.body.as_mut() else { return found };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr @ Expr::Cast { .. }) = item
            && let Some(alias) = name_of_cast(expr).cloned()
        {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            found = true;
        }
    }
    for key in keys {
        if let Some(alias) = alias_of(&key.expr, select) {
            key.expr = Expr::Identifier(alias.clone());
            found = true;
        }
    }
    found
}

/// The name of the column that is computed so, if it is the only one of that name.
fn alias_of<'a>(key: &Expr, select: &'a Select) -> Option<&'a Ident> {
    // A field of a struct is called by its name.
    let (Expr::Function(_) | Expr::CompoundIdentifier(_) | Expr::CompoundFieldAccess { .. }) = key
    else {
        return None;
    };
    let alias = select.projection.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } if expr == key => Some(alias),
        _ => None,
    })?;
    let named =
        select.projection.iter().filter_map(name_of).filter(|name| fold(name) == fold(alias));
    (named.count() == 1).then_some(alias)
}

fn name_of_cast(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Cast { expr, .. } => name_of_cast(expr),
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(parts) => parts.last(),
        _ => None,
    }
}

/// Renames the columns whose names ORDER BY takes for a relation's; what then stands in a SELECT around the query.
fn rename(query: &mut Query) -> Option<Vec<SelectItem>> {
    let order_by = query.order_by.as_mut()?;
    let SetExpr::Select(select) = query.body.as_mut() else { return None };
    if select.distinct.is_some() {
        return None;
    }
    let OrderByKind::Expressions(keys) = &mut order_by.kind else { return None };
    let of_relations = names_of_relations(keys, select);
    let names: Option<Vec<Ident>> = select.projection.iter().map(name_of).collect();
    let mut ours = BTreeMap::new();
    let mut columns = vec![];
    for (place, (item, name)) in select.projection.iter_mut().zip(names?).enumerate() {
        columns.push(match item {
            SelectItem::ExprWithAlias { alias, .. } if of_relations.contains(&fold(alias)) => {
                let inner = Ident::new(format!("__ordered_{place}"));
                ours.insert(fold(alias), inner.clone());
                let outer = std::mem::replace(alias, inner.clone());
                SelectItem::ExprWithAlias { expr: Expr::Identifier(inner), alias: outer }
            }
            _ => SelectItem::UnnamedExpr(Expr::Identifier(name)),
        });
    }
    if ours.is_empty() {
        return None;
    }
    for key in keys {
        if let Expr::Identifier(name) = &key.expr
            && let Some(inner) = ours.get(&fold(name))
        {
            key.expr = Expr::Identifier(inner.clone());
        }
    }
    Some(columns)
}

/// The bare names of FROM's columns in ORDER BY. What is a column of the answer as a whole is left out.
fn names_of_relations(keys: &[OrderByExpr], select: &Select) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl Visitor for Names {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            match expr {
                Expr::Identifier(name) => self.0.extend([fold(name)]),
                Expr::CompoundIdentifier(parts) => self.0.extend(parts.last().map(fold)),
                _ => {}
            }
            ControlFlow::Continue(())
        }
    }
    let is_answer = |key: &Expr| {
        let is_item = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr == key,
            _ => false,
        };
        matches!(key, Expr::Identifier(_)) || select.projection.iter().any(is_item)
    };
    let mut names = Names(BTreeSet::new());
    for key in keys.iter().filter(|key| !is_answer(&key.expr)) {
        let walked = key.expr.visit(&mut names);
        debug_assert!(walked.is_continue(), "the visitor never breaks off");
    }
    names.0
}

/// The name that a column of the answer has by what is written.
fn name_of(item: &SelectItem) -> Option<Ident> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.clone()),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(name.clone()),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => parts.last().cloned(),
        _ => None,
    }
}
