//! Turns `FROM s, UNNEST(s.tags) AS t(tag)` into an UNNEST of the relation beside it.
//!
//! DataFusion plans it as a join with a subquery that refers to its neighbour, and stops there. Such a
//! subquery made of UNNEST, projections and filters alone needs no join: each of its steps can be done
//! to the neighbour's rows, whose columns go along. The same holds of UNNEST of constants.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, JoinType, NullHandling, Result};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder, Unnest};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, FunctionArg, FunctionArgExpr, Ident, ObjectNamePart, Query,
    TableAliasColumnDef, TableFactor, Visit, VisitMut, Visitor, VisitorMut,
};

use crate::planner::expressions::{rewrite_named, subquery_in};
use crate::planner::hidden::fold;
use crate::planner::json_functions;
use crate::planner::sql_call::{sql_call, table_alias};

/// Writes UNNEST in FROM in one form, under an alias: behind LATERAL it is read as any function. A function that
/// gives a row for each item of a JSON document is UNNEST of their list. Where a query names the alias alone, which
/// is the element itself, a list of columns says so.
pub(super) fn normalize(query: &mut Query) {
    let mut normalizer = Normalizer { found: false };
    let mut walked = VisitMut::visit(query, &mut normalizer);
    if normalizer.found {
        let mut alone = Alone::default();
        walked = Visit::visit(query, &mut alone);
        if walked.is_continue() {
            walked = VisitMut::visit(query, &mut Whole(alone.names));
        }
    }
    debug_assert!(walked.is_continue(), "the normalizer never breaks off");
}

struct Normalizer {
    /// Whether there is any.
    found: bool,
}

impl VisitorMut for Normalizer {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        as_unnest(factor);
        if let TableFactor::UNNEST { alias, array_exprs, .. } = factor
            && array_exprs.len() == 1
        {
            alias.get_or_insert_with(|| table_alias("unnest", vec![]));
            self.found = true;
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        as_unnest_expr(expr);
        ControlFlow::Continue(())
    }
}

/// The names that stand alone, outside of the lists that are unnested.
#[derive(Default)]
struct Alone {
    names: BTreeSet<String>,
    /// How many UNNEST there are around.
    inside: usize,
}

impl Visitor for Alone {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.inside += usize::from(matches!(factor, TableFactor::UNNEST { .. }));
        ControlFlow::Continue(())
    }

    fn post_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.inside -= usize::from(matches!(factor, TableFactor::UNNEST { .. }));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &SqlExpr) -> ControlFlow<()> {
        if let SqlExpr::Identifier(name) = expr
            && self.inside == 0
        {
            self.names.insert(fold(name));
        }
        ControlFlow::Continue(())
    }
}

/// Gives UNNEST under one of these names its only column.
struct Whole(BTreeSet<String>);

impl VisitorMut for Whole {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::UNNEST { alias: Some(alias), array_exprs, .. } = factor
            && array_exprs.len() == 1
            && alias.columns.is_empty()
            && self.0.contains(&fold(&alias.name))
        {
            alias.columns.push(TableAliasColumnDef { name: alias.name.clone(), data_type: None });
        }
        ControlFlow::Continue(())
    }
}

/// UNNEST behind LATERAL, and functions of JSON, are read as any function.
fn as_unnest(factor: &mut TableFactor) {
    let (name, args, alias, with_ordinality) = match factor {
        TableFactor::Function { name, args, alias, with_ordinality, .. } => {
            (name, args.as_slice(), alias, *with_ordinality)
        }
        TableFactor::Table { name, args: Some(args), alias, with_ordinality, .. } => {
            (name, args.args.as_slice(), alias, *with_ordinality)
        }
        _ => return,
    };
    let [part] = name.0.as_slice() else { return };
    let Some(name) = part.as_ident() else { return };
    let argument = |arg: &FunctionArg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    let Some(arguments) = args.iter().map(argument).collect() else { return };
    let array_exprs = match json_functions::rows_of(&name.value) {
        Some(function) => {
            let columns = vec![Ident::new("value")];
            alias.get_or_insert_with(|| table_alias(&name.value.to_lowercase(), columns));
            vec![sql_call(function, arguments)]
        }
        None if name.value.eq_ignore_ascii_case("unnest") => arguments,
        None => return,
    };
    *factor = TableFactor::UNNEST {
        alias: alias.take(),
        array_exprs,
        with_offset: false,
        with_offset_alias: None,
        with_ordinality,
    };
}

/// Among expressions `json_array_elements(j)` is `UNNEST(…)` of the list.
fn as_unnest_expr(expr: &mut SqlExpr) {
    let SqlExpr::Function(function) = expr else { return };
    let [part] = function.name.0.as_mut_slice() else { return };
    let Some(list) = part.as_ident().and_then(|name| json_functions::rows_of(&name.value)) else {
        return;
    };
    *part = ObjectNamePart::Identifier(Ident::new(list));
    let list = expr.clone();
    *expr = sql_call("unnest", vec![list]);
}

/// Rewrites every join with such a subquery; others stay as they are.
pub(super) fn inline(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match unnested(&join)? {
            Some(plan) => Ok(Transformed::yes(plan)),
            None => Ok(Transformed::no(LogicalPlan::Join(join))),
        },
        other => Ok(Transformed::no(other)),
    })?;
    if !plan.transformed {
        return Ok(plan.data);
    }
    let plan = plan.data.transform_up_with_subqueries(|node| {
        rewrite_named(node, |expr| expr.transform_up(|part| Ok(referring_anew(part))))
    })?;
    Ok(plan.data)
}

/// A subquery that lists what it refers to outside: no more what its own relations bring.
fn referring_anew(mut expr: Expr) -> Transformed<Expr> {
    let Some(subquery) = subquery_in(&mut expr) else { return Transformed::no(expr) };
    let outside = subquery.subquery.all_out_ref_exprs();
    let changed = outside != subquery.outer_ref_columns;
    subquery.outer_ref_columns = outside;
    Transformed::new_transformed(expr, changed)
}

fn unnested(join: &Join) -> Result<Option<LogicalPlan>> {
    let Some(subquery) = subquery_of(&join.right) else { return Ok(None) };
    // An outer join keeps a neighbour without items, which UNNEST does where nothing filters.
    let keeps = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left if is_true(join) => true,
        _ => return Ok(None),
    };
    let mut lift = Lift { neighbour: Arc::clone(&join.left), keeps, given: 0 };
    let Some(lifted) = lift.lift(subquery)? else { return Ok(None) };
    let mut lifted = lift.named(lifted, &join.right)?;
    let equal = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    let conditions = equal.chain(join.filter.clone());
    if let Some(condition) = conditions.reduce(|a, b| a.and(b))
        && !is_true(join)
    {
        lifted = LogicalPlanBuilder::from(lifted).filter(condition)?.build()?;
    }
    Ok(Some(lifted))
}

fn is_true(join: &Join) -> bool {
    join.on.is_empty()
        && join.filter.as_ref().is_none_or(|filter| *filter == datafusion::logical_expr::lit(true))
}

/// The subquery of a lateral relation, below its alias, or UNNEST of constants.
fn subquery_of(plan: &LogicalPlan) -> Option<&LogicalPlan> {
    let below = match plan {
        LogicalPlan::SubqueryAlias(alias) => &alias.input,
        plan => plan,
    };
    match below {
        LogicalPlan::Subquery(subquery) => Some(&subquery.subquery),
        below => unnests_constants(below).then_some(below),
    }
}

fn unnests_constants(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => unnests_constants(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => unnests_constants(&alias.input),
        LogicalPlan::Unnest(unnest) => match &*unnest.input {
            LogicalPlan::Projection(list) => {
                matches!(&*list.input, LogicalPlan::EmptyRelation(empty) if empty.produce_one_row)
            }
            _ => false,
        },
        _ => false,
    }
}

struct Lift {
    neighbour: Arc<LogicalPlan>,
    keeps: bool,
    /// How many columns were given names.
    given: usize,
}

impl Lift {
    /// The same step done to the neighbour's rows: its columns, then the node's. `None` where a node
    /// is no such step.
    fn lift(&mut self, node: &LogicalPlan) -> Result<Option<LogicalPlan>> {
        match node {
            LogicalPlan::EmptyRelation(empty) if empty.produce_one_row => {
                Ok(Some(LogicalPlan::clone(&self.neighbour)))
            }
            LogicalPlan::Projection(projection) => {
                let Some(input) = self.lift(&projection.input)? else { return Ok(None) };
                let mut exprs = self.columns();
                // Names of their own: the neighbour may have columns that are called alike. Where one column is
                // made of another of the same name, DataFusion's rules mistake the one for the other.
                for expr in &projection.expr {
                    let expr = self.resolved(expr.clone().unalias(), &projection.input, &input)?;
                    exprs.push(expr.alias(format!("__lateral_{}", self.given)));
                    self.given += 1;
                }
                Ok(Some(LogicalPlanBuilder::from(input).project(exprs)?.build()?))
            }
            LogicalPlan::Filter(filter) if !self.keeps => {
                let Some(input) = self.lift(&filter.input)? else { return Ok(None) };
                let predicate = self.resolved(filter.predicate.clone(), &filter.input, &input)?;
                Ok(Some(LogicalPlanBuilder::from(input).filter(predicate)?.build()?))
            }
            LogicalPlan::Unnest(unnest) => {
                let Some(input) = self.lift(&unnest.input)? else { return Ok(None) };
                let mut options = unnest.options.clone();
                options.null_handling = match self.keeps {
                    true => NullHandling::PreserveAndExpandEmpty,
                    false => NullHandling::Drop,
                };
                let names = self.names(&unnest.input, &input);
                let name = |column: &Column| names.get(column).unwrap_or(column).clone();
                let columns = unnest.exec_columns.iter().map(name).collect();
                Ok(Some(LogicalPlan::Unnest(Unnest::try_new(Arc::new(input), columns, options)?)))
            }
            LogicalPlan::Subquery(subquery) => self.lift(&subquery.subquery),
            LogicalPlan::SubqueryAlias(alias) => self.lift(&alias.input),
            _ => Ok(None),
        }
    }

    /// The neighbour's columns, as expressions over a lifted plan.
    fn columns(&self) -> Vec<Expr> {
        self.neighbour.schema().columns().into_iter().map(Expr::Column).collect()
    }

    /// What the columns of a node are called where it is lifted.
    fn names(&self, node: &LogicalPlan, lifted: &LogicalPlan) -> HashMap<Column, Column> {
        let own = lifted.schema().columns().split_off(self.neighbour.schema().fields().len());
        node.schema().columns().into_iter().zip(own).collect()
    }

    /// Gives the columns of a lifted node its names.
    fn named(&self, lifted: LogicalPlan, node: &LogicalPlan) -> Result<LogicalPlan> {
        let own = lifted.schema().columns().split_off(self.neighbour.schema().fields().len());
        let mut exprs = self.columns();
        exprs.extend(
            own.into_iter().zip(node.schema().columns()).map(|(own, column)| {
                Expr::Column(own).alias_qualified(column.relation, column.name)
            }),
        );
        LogicalPlanBuilder::from(lifted).project(exprs)?.build()
    }

    /// An expression over a node, where that is lifted. What referred to the neighbour from inside is a column of the
    /// same rows now.
    fn resolved(&self, expr: Expr, node: &LogicalPlan, lifted: &LogicalPlan) -> Result<Expr> {
        let names = self.names(node, lifted);
        let expr = expr.transform_up(|part| match part {
            Expr::Column(column) => {
                let name = names.get(&column).cloned();
                Ok(Transformed::yes(Expr::Column(name.unwrap_or(column))))
            }
            Expr::OuterReferenceColumn(_, column)
                if self.neighbour.schema().has_column(&column) =>
            {
                Ok(Transformed::yes(Expr::Column(column)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(expr.data)
    }
}
