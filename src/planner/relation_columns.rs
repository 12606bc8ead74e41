//! Reads from a query's text which columns its relations have, before anything is planned.
//!
//! A stream, a table or a query says it itself, a subquery by its select list, a window function by its
//! input. Of the functions that make columns of their own, only an alias with a list of columns tells.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, FunctionArg, Ident, ObjectName, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableFactor, TableWithJoins,
    WildcardAdditionalOptions,
};

use crate::data::schema::is_hidden;
use crate::planner::hidden::{fold, name_of, same};
use crate::planner::relation_call::{expression_of, function_call};
use crate::planner::relations::{RelationKind, RelationLookup};
use crate::planner::selects::selects;
use crate::planner::unnest_columns::ORDINALITY;
use crate::planner::window_call::window_columns;

/// The columns of a relation, by their names.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    /// Those that `*` shows, in order.
    pub(super) shown: Vec<String>,
    /// Those that are there to be named.
    pub(super) hidden: Vec<String>,
    /// How many of the shown ones stand before the hidden ones.
    pub(super) hidden_at: usize,
}

impl Columns {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.shown.iter().chain(&self.hidden).any(|own| own == name)
    }
}

/// What is known of the relations that a query may name.
pub(super) struct Relations<'a> {
    lookup: &'a dyn RelationLookup,
    /// The CTEs of the queries around, the innermost last. Those whose columns are not known are there, too.
    ctes: Vec<BTreeMap<String, Option<Columns>>>,
}

impl<'a> Relations<'a> {
    pub(super) fn new(lookup: &'a dyn RelationLookup) -> Relations<'a> {
        Relations { lookup, ctes: vec![] }
    }

    /// Learns the CTEs of a query; to be forgotten with [`Relations::leave`].
    pub(super) fn enter(&mut self, query: &Query) {
        self.ctes.push(BTreeMap::new());
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let columns = aliased(self.of_query(&cte.query), Some(&cte.alias));
            if let Some(own) = self.ctes.last_mut() {
                own.insert(fold(&cte.alias.name), columns);
            }
        }
    }

    pub(super) fn leave(&mut self) {
        self.ctes.pop();
    }

    /// All columns that the relations in a query's FROM have.
    pub(super) fn in_scope(&mut self, query: &mut Query) -> Option<Vec<Columns>> {
        let selects = selects(&mut query.body);
        let factors = selects.into_iter().flat_map(|select| select.from.iter().flat_map(factors));
        factors.map(|factor| self.of_factor(factor)).collect()
    }

    /// The columns of a relation in FROM.
    pub(super) fn of_factor(&mut self, factor: &TableFactor) -> Option<Columns> {
        if let Some((function, arguments, alias)) = function_call(factor) {
            return aliased(self.of_call(&function, &arguments), alias.as_ref());
        }
        match factor {
            TableFactor::Table { name, alias, .. } => aliased(self.of_name(name), alias.as_ref()),
            TableFactor::Derived { subquery, alias, .. } => {
                aliased(self.of_query(subquery), alias.as_ref())
            }
            TableFactor::UNNEST { alias: Some(alias), array_exprs, with_ordinality, .. } => {
                let ordinality = with_ordinality.then(|| ORDINALITY.to_owned());
                let shown = std::iter::once(fold(&alias.name)).chain(ordinality).collect();
                let columns = Columns { shown, ..Columns::default() };
                aliased((array_exprs.len() == 1).then_some(columns), Some(alias))
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                let parts = factors(table_with_joins).into_iter();
                merged(parts.map(|part| self.of_factor(part)))
            }
            _ => None,
        }
    }

    fn of_name(&self, name: &ObjectName) -> Option<Columns> {
        let parts: Vec<String> =
            name.0.iter().map(|part| part.as_ident().map(fold)).collect::<Option<_>>()?;
        let name = parts.join(".");
        if let Some(columns) = self.ctes.iter().rev().find_map(|level| level.get(&name)) {
            return columns.clone();
        }
        let info = self.lookup.relation(name.strip_prefix("public.").unwrap_or(&name))?;
        let is_stream = info.kind == RelationKind::Stream;
        let names = info.schema.fields().iter().map(|field| field.name().clone());
        let (hidden, shown): (Vec<_>, Vec<_>) =
            names.partition(|name| is_stream && is_hidden(name));
        let hidden_at = shown.len();
        Some(Columns { shown, hidden, hidden_at })
    }

    /// A window function has its input's columns, and its own, before which the input's make room.
    fn of_call(&mut self, function: &str, arguments: &[FunctionArg]) -> Option<Columns> {
        let own = window_columns(function)?;
        let relation = arguments.iter().find_map(expression_of)?;
        let mut columns = match relation {
            Expr::Identifier(name) => self.of_name(&ObjectName::from(vec![name.clone()]))?,
            Expr::CompoundIdentifier(names) => self.of_name(&ObjectName::from(names.clone()))?,
            Expr::Subquery(query) => self.of_query(query)?,
            Expr::Function(call) => {
                let expr = Expr::Function(call.clone());
                self.of_factor(&TableFactor::TableFunction { expr, alias: None })?
            }
            _ => return None,
        };
        for name in columns.shown.iter_mut().filter(|name| own.contains(&name.as_str())) {
            *name = format!("inner_{name}");
        }
        columns.shown.extend(own.iter().map(|name| (*name).to_owned()));
        Some(columns)
    }

    fn of_query(&mut self, query: &Query) -> Option<Columns> {
        self.enter(query);
        let columns = self.of_body(&query.body);
        self.leave();
        columns
    }

    fn of_body(&mut self, body: &SetExpr) -> Option<Columns> {
        match body {
            SetExpr::Select(select) => self.of_select(select),
            SetExpr::Query(query) => self.of_query(query),
            SetExpr::SetOperation { left, .. } => self.of_body(left),
            SetExpr::Values(values) => {
                let width = values.rows.first()?.len();
                let shown = (1..=width).map(|number| format!("column{number}")).collect();
                Some(Columns { shown, ..Columns::default() })
            }
            _ => None,
        }
    }

    fn of_select(&mut self, select: &Select) -> Option<Columns> {
        let factors: Vec<&TableFactor> = select.from.iter().flat_map(factors).collect();
        let mut shown: Vec<String> = Vec::new();
        for item in &select.projection {
            let (of, options) = match item {
                SelectItem::ExprWithAlias { alias, .. } => {
                    shown.push(fold(alias));
                    continue;
                }
                SelectItem::UnnamedExpr(expr) => {
                    // What has no name of its own is none that anybody joins by.
                    shown.push(last_name(expr).unwrap_or_default());
                    continue;
                }
                SelectItem::Wildcard(options) => {
                    (merged(factors.iter().map(|factor| self.of_factor(factor)))?, options)
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) => {
                    let named = |factor: &&&TableFactor| {
                        name_of(factor).is_some_and(|other| same(&other, name))
                    };
                    (self.of_factor(factors.iter().find(named)?)?, options)
                }
                _ => return None,
            };
            if options.opt_rename.is_some() || options.opt_ilike.is_some() {
                return None;
            }
            let excluded = excluded(options);
            shown.extend(of.shown.into_iter().filter(|name| !excluded.contains(name)));
        }
        Some(Columns { shown, ..Columns::default() })
    }
}

/// The relations that joins put together.
pub(super) fn factors(from: &TableWithJoins) -> Vec<&TableFactor> {
    std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation)).collect()
}

/// The names that EXCLUDE and EXCEPT take out of `*`.
pub(super) fn excluded(options: &WildcardAdditionalOptions) -> Vec<String> {
    let last = |name: &ObjectName| name.0.last().and_then(|part| part.as_ident()).map(fold);
    let mut names: Vec<String> = match &options.opt_exclude {
        None => vec![],
        Some(ExcludeSelectItem::Single(name)) => last(name).into_iter().collect(),
        Some(ExcludeSelectItem::Multiple(names)) => names.iter().filter_map(last).collect(),
    };
    if let Some(except) = &options.opt_except {
        names.push(fold(&except.first_element));
        names.extend(except.additional_elements.iter().map(fold));
    }
    names
}

/// The name that a column has by itself.
pub(super) fn last_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(fold(name)),
        Expr::CompoundIdentifier(names) => names.last().map(fold),
        _ => None,
    }
}

/// The columns under the names of an alias.
fn aliased(columns: Option<Columns>, alias: Option<&TableAlias>) -> Option<Columns> {
    let names: Vec<&Ident> =
        alias.iter().flat_map(|alias| &alias.columns).map(|column| &column.name).collect();
    if names.is_empty() {
        return columns;
    }
    let mut columns = columns.unwrap_or_default();
    columns.shown.resize(columns.shown.len().max(names.len()), String::new());
    for (own, name) in columns.shown.iter_mut().zip(names) {
        *own = fold(name);
    }
    Some(columns)
}

/// The columns of several relations, each name once.
fn merged(relations: impl Iterator<Item = Option<Columns>>) -> Option<Columns> {
    let mut all = Columns::default();
    for relation in relations {
        let Columns { shown, hidden, .. } = relation?;
        for (names, own) in [(&mut all.shown, shown), (&mut all.hidden, hidden)] {
            for name in own {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    Some(all)
}
