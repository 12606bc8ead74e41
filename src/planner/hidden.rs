//! Keeps the hidden columns of streams out of `*`: they are there to be named, not to be listed.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    ExcludeSelectItem, Expr, FunctionArg, Ident, ObjectName, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, TableFactor, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use crate::data::schema::{INGEST_TIME, LATE, OFFSET};
use crate::planner::mining_call::is_mining;
use crate::planner::relation_call::{expression_of, function_call};
use crate::planner::relations::{RelationKind, RelationLookup};
use crate::planner::selects::selects;

/// Rewrites every wildcard of the query that would show hidden columns.
pub(super) fn exclude_hidden(query: &mut Query, lookup: &dyn RelationLookup) {
    let mut rewriter = Rewriter { lookup, shadowed: BTreeSet::new() };
    let walked = VisitMut::visit(query, &mut rewriter);
    debug_assert!(walked.is_continue(), "the rewriter never breaks off");
}

struct Rewriter<'a> {
    lookup: &'a dyn RelationLookup,
    /// Names of CTEs: they hide streams of the same name.
    shadowed: BTreeSet<String>,
}

impl VisitorMut for Rewriter<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.shadowed.insert(fold(&cte.alias.name));
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        selects(&mut query.body).into_iter().for_each(|select| self.select(select));
        ControlFlow::Continue(())
    }
}

impl Rewriter<'_> {
    fn select(&self, select: &mut Select) {
        let factors: Vec<&TableFactor> = select
            .from
            .iter()
            .flat_map(|from| {
                std::iter::once(&from.relation).chain(from.joins.iter().map(|join| &join.relation))
            })
            .collect();
        if !factors.iter().any(|factor| self.exposes(factor)) {
            return;
        }
        let described: Vec<(Option<ObjectName>, bool)> =
            factors.iter().map(|factor| (name_of(factor), self.exposes(factor))).collect();
        let items = std::mem::take(&mut select.projection);
        for item in items {
            match item {
                SelectItem::Wildcard(options) if described.len() == 1 => {
                    select.projection.push(SelectItem::Wildcard(excluding(options)));
                }
                SelectItem::Wildcard(options)
                    if described.iter().all(|(name, _)| name.is_some()) =>
                {
                    for (name, exposes) in &described {
                        let Some(name) = name.clone() else { unreachable!("all are named") };
                        let options =
                            if *exposes { excluding(options.clone()) } else { options.clone() };
                        select.projection.push(SelectItem::QualifiedWildcard(
                            SelectItemQualifiedWildcardKind::ObjectName(name),
                            options,
                        ));
                    }
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) if described.iter().any(|(other, exposes)| {
                    *exposes && other.as_ref().is_some_and(|other| same(other, &name))
                }) =>
                {
                    select.projection.push(SelectItem::QualifiedWildcard(
                        SelectItemQualifiedWildcardKind::ObjectName(name),
                        excluding(options),
                    ));
                }
                other => select.projection.push(other),
            }
        }
    }

    /// Whether the relation's columns include the hidden ones.
    fn exposes(&self, factor: &TableFactor) -> bool {
        match factor {
            TableFactor::Table { name, args: None, .. } => self.is_stream(name),
            TableFactor::Table { name, args: Some(args), .. } => {
                !makes_columns(name) && self.call_exposes(&args.args)
            }
            TableFactor::TableFunction { expr: Expr::Function(call), .. } => {
                self.function_exposes(call)
            }
            _ => false,
        }
    }

    fn function_exposes(&self, call: &datafusion::sql::sqlparser::ast::Function) -> bool {
        use datafusion::sql::sqlparser::ast::FunctionArguments;
        if makes_columns(&call.name) {
            return false;
        }
        match &call.args {
            FunctionArguments::List(list) => self.call_exposes(&list.args),
            FunctionArguments::None | FunctionArguments::Subquery(_) => false,
        }
    }

    fn call_exposes(&self, args: &[FunctionArg]) -> bool {
        match args.iter().find_map(expression_of) {
            Some(Expr::Identifier(name)) => self.is_stream(&ObjectName::from(vec![name.clone()])),
            Some(Expr::CompoundIdentifier(names)) => {
                self.is_stream(&ObjectName::from(names.clone()))
            }
            Some(Expr::Function(call)) => self.function_exposes(call),
            _ => false,
        }
    }

    fn is_stream(&self, name: &ObjectName) -> bool {
        let [part] = name.0.as_slice() else { return false };
        let Some(ident) = part.as_ident() else { return false };
        let name = fold(ident);
        !self.shadowed.contains(&name)
            && self.lookup.relation(&name).is_some_and(|info| info.kind == RelationKind::Stream)
    }
}

/// Whether a function in FROM has columns of its own only. A window function has its input's, too.
fn makes_columns(function: &ObjectName) -> bool {
    matches!(function.0.as_slice(), [part] if part.as_ident().is_some_and(|ident| is_mining(&fold(ident))))
}

/// The name under which the relation's columns are qualified.
pub(super) fn name_of(factor: &TableFactor) -> Option<ObjectName> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. }
        | TableFactor::UNNEST { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(ObjectName::from(vec![alias.name.clone()]))
        }
        TableFactor::Table { name, args: None, .. } => Some(name.clone()),
        _ => None,
    }
}

/// The name of a relation; a window function without an alias is called as its input.
pub(super) fn name_or_input(factor: &TableFactor) -> Option<ObjectName> {
    let of_input = || match expression_of(function_call(factor)?.1.first()?)? {
        Expr::Identifier(name) => Some(ObjectName::from(vec![name.clone()])),
        Expr::CompoundIdentifier(names) => Some(ObjectName::from(names.clone())),
        _ => None,
    };
    name_of(factor).or_else(of_input)
}

pub(super) fn same(a: &ObjectName, b: &ObjectName) -> bool {
    let text = |name: &ObjectName| -> Vec<String> {
        name.0.iter().filter_map(|part| part.as_ident().map(fold)).collect()
    };
    text(a) == text(b)
}

pub(super) fn fold(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

fn excluding(mut options: WildcardAdditionalOptions) -> WildcardAdditionalOptions {
    let mut names: Vec<ObjectName> = match options.opt_exclude.take() {
        None => vec![],
        Some(ExcludeSelectItem::Single(name)) => vec![name],
        Some(ExcludeSelectItem::Multiple(names)) => names,
    };
    for name in [OFFSET, INGEST_TIME, LATE] {
        let name = ObjectName::from(vec![Ident::new(name)]);
        if !names.iter().any(|other| same(other, &name)) {
            names.push(name);
        }
    }
    options.opt_exclude = Some(ExcludeSelectItem::Multiple(names));
    options
}
