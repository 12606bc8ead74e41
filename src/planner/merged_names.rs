//! Puts in the place of a column that USING or NATURAL merges what it stands for.
//!
//! A name within a subquery means the merged column unless a relation there has a column of that name; where
//! the text does not tell, the name is left alone, which is then ambiguous.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Distinct, Expr, Ident, OrderByKind, Query, Select, SelectItem, VisitMut, VisitorMut,
};

use crate::planner::hidden::fold;
use crate::planner::relation_columns::{Columns, Relations, last_name};

/// The merged columns of a FROM, by name.
pub(super) struct Merged<'r, 'a> {
    names: &'r BTreeMap<String, Expr>,
    relations: &'r mut Relations<'a>,
    /// The relations of the subqueries around, and what parameters of lambdas are called.
    within: Vec<Option<Vec<Columns>>>,
    parameters: Vec<String>,
}

impl<'r, 'a> Merged<'r, 'a> {
    pub(super) fn new(
        names: &'r BTreeMap<String, Expr>,
        relations: &'r mut Relations<'a>,
    ) -> Merged<'r, 'a> {
        Merged { names, relations, within: vec![], parameters: vec![] }
    }

    /// Says every such name in an expression, or in a list of some.
    pub(super) fn say(&mut self, part: &mut impl VisitMut) {
        let ControlFlow::Continue(()) = VisitMut::visit(part, self);
    }

    /// Says them in all of a SELECT but FROM.
    pub(super) fn say_in_select(&mut self, select: &mut Select) {
        for item in &mut select.projection {
            // The column keeps its name, also where it stands for an expression.
            if let SelectItem::UnnamedExpr(Expr::Identifier(name)) = item
                && let Some(stands_for) = self.names.get(&fold(name))
            {
                *item = column(stands_for, &fold(name));
            } else {
                self.say(item);
            }
        }
        if let Some(Distinct::On(keys)) = &mut select.distinct {
            self.say(keys);
        }
        self.say(&mut select.selection);
        self.say(&mut select.group_by);
        self.say(&mut select.having);
        self.say(&mut select.named_window);
        self.say(&mut select.qualify);
        self.say(&mut select.sort_by);
    }

    /// Says them in the ORDER BY of a SELECT. A name that stands alone is one of the select list first.
    pub(super) fn say_in_order(&mut self, order: &mut OrderByKind, select: &Select) {
        let OrderByKind::Expressions(keys) = order else { return };
        let listed = |name: &str| {
            select.projection.iter().any(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => fold(alias) == name,
                SelectItem::UnnamedExpr(expr) => {
                    last_name(expr).is_some_and(|own| own == name)
                        && self.names.get(name).is_none_or(|merged| merged != expr)
                }
                _ => false,
            })
        };
        let stays: Vec<bool> = keys
            .iter()
            .map(|key| matches!(&key.expr, Expr::Identifier(name) if listed(&fold(name))))
            .collect();
        for (key, stays) in keys.iter_mut().zip(stays) {
            if !stays {
                self.say(key);
            }
        }
    }
}

/// An item of a select list that shows a merged column.
pub(super) fn column(stands_for: &Expr, name: &str) -> SelectItem {
    let expr = stands_for.clone();
    match last_name(&expr) {
        Some(own) if own == name => SelectItem::UnnamedExpr(expr),
        _ => SelectItem::ExprWithAlias { expr, alias: quoted(name) },
    }
}

/// A name as it is, whatever characters it has.
pub(super) fn quoted(name: &str) -> Ident {
    Ident::with_quote('"', name)
}

impl VisitorMut for Merged<'_, '_> {
    type Break = Infallible;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Infallible> {
        self.relations.enter(query);
        self.within.push(self.relations.in_scope(query));
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Infallible> {
        self.within.pop();
        self.relations.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        match expr {
            Expr::Lambda(lambda) => {
                self.parameters.extend(lambda.params.iter().map(|param| fold(&param.name)));
            }
            Expr::Identifier(name) => {
                let name = fold(name);
                let is_outside = |scope: &Option<Vec<Columns>>| {
                    scope.as_ref().is_some_and(|all| all.iter().all(|own| !own.contains(&name)))
                };
                if let Some(stands_for) = self.names.get(&name)
                    && !self.parameters.contains(&name)
                    && self.within.iter().all(is_outside)
                {
                    *expr = stands_for.clone();
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Infallible> {
        if let Expr::Lambda(lambda) = expr {
            let kept = self.parameters.len() - lambda.params.iter().count();
            self.parameters.truncate(kept);
        }
        ControlFlow::Continue(())
    }
}
