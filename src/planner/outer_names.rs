//! Keeps names of relations outside of a subquery apart from columns inside that are called the same.
//!
//! In `SELECT … FROM auction WHERE EXISTS (SELECT 1 FROM bid WHERE bid.auction = auction.id)` the last `auction` is the
//! relation: in PostgreSQL a name before a dot is that of a relation, however far outside, before it is a column's.
//! DataFusion takes it for the field of a column inside. So a relation whose name is a column's there has another one:
//!
//! ```text
//!   FROM auction AS __outer_auction WHERE EXISTS (SELECT 1 FROM bid WHERE bid.auction = __outer_auction.id)
//! ```

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, TableFactor,
    TableWithJoins, VisitMut, VisitorMut,
};

use crate::planner::hidden::{fold, name_or_input};
use crate::planner::relation_columns::{Columns, Relations, factors};
use crate::planner::relations::RelationLookup;
use crate::planner::selects::selects;
use crate::planner::sql_call::table_alias;

/// Gives such relations of a query other names.
pub(super) fn tell_apart(query: &mut Query, lookup: &dyn RelationLookup) {
    let (scopes, found) = (Scopes::default(), BTreeSet::new());
    let mut search = Search { relations: Relations::new(lookup), scopes, found };
    let searched = VisitMut::visit(query, &mut search);
    debug_assert!(searched.is_continue(), "the search never breaks off");
    if !search.found.is_empty() {
        let mut renaming = Renaming { names: search.found, scopes: Scopes::default() };
        let renamed = VisitMut::visit(query, &mut renaming);
        debug_assert!(renamed.is_continue(), "renaming never breaks off");
    }
}

/// What an expression of one query may name.
#[derive(Debug)]
struct Scope {
    /// The names of the relations in its FROM.
    relations: Vec<String>,
    /// Their columns, where they are known.
    columns: Option<Vec<Columns>>,
    /// The CTEs that are still to come: they do not see this FROM.
    ctes: usize,
    /// Whether it does not see the FROM of the query around it: a CTE, or a subquery in FROM without LATERAL.
    is_apart: bool,
}

impl Scope {
    fn has_column(&self, name: &str) -> bool {
        self.columns.as_ref().is_none_or(|all| all.iter().any(|columns| columns.contains(name)))
    }
}

/// The queries around an expression, the innermost last.
#[derive(Debug, Default)]
struct Scopes {
    open: Vec<Scope>,
    /// Whether the query that comes next is a subquery in FROM without LATERAL.
    next_is_apart: bool,
}

impl Scopes {
    fn enter(&mut self, query: &mut Query, columns: Option<Vec<Columns>>) {
        let around = self.open.last_mut().filter(|around| around.ctes > 0);
        let is_cte = around.map(|around| around.ctes -= 1).is_some();
        let is_apart = std::mem::take(&mut self.next_is_apart) || is_cte;
        let ctes = query.with.as_ref().map_or(0, |with| with.cte_tables.len());
        let from = selects(&mut query.body).into_iter().flat_map(|select| select.from.iter());
        let relations = from.flat_map(factors).filter_map(own_name).map(|name| fold(&name));
        self.open.push(Scope { relations: relations.collect(), columns, ctes, is_apart });
    }

    fn leave(&mut self) {
        self.open.pop();
    }

    fn factor(&mut self, factor: &TableFactor) {
        self.next_is_apart = matches!(factor, TableFactor::Derived { lateral: false, .. });
    }

    /// Those that an expression sees, from the inside out.
    fn seen(&self) -> impl Iterator<Item = &Scope> {
        let mut hides = false;
        self.open.iter().rev().filter(move |scope| {
            let is_seen = !hides;
            hides = scope.is_apart;
            is_seen
        })
    }
}

/// The name under which an expression refers to a relation, if it is a single word.
fn own_name(factor: &TableFactor) -> Option<Ident> {
    match name_or_input(factor)?.0.as_slice() {
        [part] => part.as_ident().cloned(),
        _ => None,
    }
}

/// Finds relations whose name is a column's in a subquery that refers to them.
struct Search<'a> {
    relations: Relations<'a>,
    scopes: Scopes,
    found: BTreeSet<String>,
}

impl VisitorMut for Search<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.relations.enter(query);
        let columns = self.relations.in_scope(query);
        self.scopes.enter(query, columns);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.relations.leave();
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        self.scopes.factor(factor);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr {
            let name = fold(&parts[0]);
            let has = |scope: &&Scope| scope.relations.contains(&name);
            let inside = || self.scopes.seen().take_while(|scope| !has(scope));
            if self.scopes.seen().any(|scope| has(&scope))
                && inside().any(|scope| scope.has_column(&name))
            {
                self.found.insert(name);
            }
        }
        ControlFlow::Continue(())
    }
}

/// Gives relations other names, and names them so.
struct Renaming {
    names: BTreeSet<String>,
    scopes: Scopes,
}

impl Renaming {
    /// Another name for what is called so, if it has one.
    fn other(&self, name: &Ident) -> Option<Ident> {
        let name = fold(name);
        self.names.contains(&name).then(|| Ident::with_quote('"', format!("__outer_{name}")))
    }

    fn select(&self, select: &mut Select) {
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                _,
            ) = item
                && let [part] = name.0.as_slice()
                && let Some(other) = part.as_ident().and_then(|name| self.other(name))
            {
                *name = vec![other].into();
            }
        }
        select.from.iter_mut().for_each(|from| self.from(from));
    }

    fn from(&self, from: &mut TableWithJoins) {
        let joined = from.joins.iter_mut().map(|join| &mut join.relation);
        for factor in std::iter::once(&mut from.relation).chain(joined) {
            let Some(other) = own_name(factor).and_then(|name| self.other(&name)) else { continue };
            match factor {
                TableFactor::Table { alias, .. }
                | TableFactor::TableFunction { alias, .. }
                | TableFactor::UNNEST { alias, .. }
                | TableFactor::Derived { alias, .. } => {
                    alias.get_or_insert_with(|| table_alias("", vec![])).name = other;
                }
                _ => {}
            }
        }
    }
}

impl VisitorMut for Renaming {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        // The names that they have are those before.
        self.scopes.enter(query, None);
        selects(&mut query.body).into_iter().for_each(|select| self.select(select));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.scopes.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        self.scopes.factor(factor);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr
            && let Some(other) = self.other(&parts[0])
        {
            let name = fold(&parts[0]);
            if self.scopes.seen().any(|scope| scope.relations.contains(&name)) {
                parts[0] = other;
            }
        }
        ControlFlow::Continue(())
    }
}
