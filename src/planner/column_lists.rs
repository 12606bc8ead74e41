//! Gives the columns of a relation in FROM the names of its alias, `FROM t AS x (a, b)`: the first ones, where the
//! list is shorter than the relation is wide, as PostgreSQL does. DataFusion wants a name for each column.
//!
//! The names are given where the relation is planned and its columns are known. Two lists are written down
//! differently before: one of a stream, whose hidden columns keep their names and are not counted; and that of a
//! CTE, which is planned elsewhere:
//!
//! ```text
//!   FROM s AS x (a)              FROM s AS x (a, at, _offset, _ingest_time, _late)
//!   WITH c (a) AS (SELECT …)     WITH c AS (SELECT * FROM (SELECT …) AS c (a))
//! ```

use std::ops::ControlFlow;

use datafusion::common::Result as PlannerResult;
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    Cte, Ident, Query, SelectItem, TableAlias, TableAliasColumnDef, TableFactor, VisitMut,
    VisitorMut, WildcardAdditionalOptions,
};

use crate::data::schema::{INGEST_TIME, LATE, OFFSET};
use crate::error::SqlState;
use crate::planner::error::PlanError;
use crate::planner::relation_columns::{Columns, Relations};
use crate::planner::relations::RelationLookup;
use crate::planner::sql_call::select_from;

/// Rewrites the lists of streams and of CTEs.
pub(super) fn normalize(query: &mut Query, lookup: &dyn RelationLookup) -> Result<(), PlanError> {
    let mut normalizer = Normalizer { relations: Relations::new(lookup) };
    match VisitMut::visit(query, &mut normalizer) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Normalizer<'a> {
    relations: Relations<'a>,
}

impl VisitorMut for Normalizer<'_> {
    type Break = PlanError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<PlanError> {
        // A recursive one reads itself under these names.
        let with = query.with.iter_mut().filter(|with| !with.recursive);
        with.flat_map(|with| &mut with.cte_tables).for_each(move_inside);
        self.relations.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<PlanError> {
        self.relations.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<PlanError> {
        let Some(alias) = take_alias(factor) else { return ControlFlow::Continue(()) };
        let columns = match alias.columns.is_empty() {
            true => None,
            false => self.relations.of_factor(factor),
        };
        let spelled = match columns.filter(|columns| !columns.hidden.is_empty()) {
            Some(columns) => spelled(alias, &columns),
            None => Ok(alias),
        };
        match spelled {
            Ok(alias) => {
                give_alias(factor, alias);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}

fn move_inside(cte: &mut Cte) {
    if cte.alias.columns.is_empty() {
        return;
    }
    let alias = cte.alias.clone();
    cte.alias.columns.clear();
    let all = SelectItem::Wildcard(WildcardAdditionalOptions::default());
    *cte.query = select_from(Query::clone(&cte.query), alias, vec![all], None);
}

/// The list with a name for each column, the hidden ones among them.
fn spelled(mut alias: TableAlias, columns: &Columns) -> Result<TableAlias, PlanError> {
    let (available, given) = (columns.shown.len(), alias.columns.len());
    if given > available {
        return Err(too_many(&alias, available, given));
    }
    let column = |name: &str| {
        let name = Ident::with_quote('"', name);
        TableAliasColumnDef { name, data_type: None }
    };
    alias.columns.extend(columns.shown[given..].iter().map(|name| column(name)));
    let hidden = [OFFSET, INGEST_TIME, LATE].map(column);
    alias.columns.splice(columns.hidden_at..columns.hidden_at, hidden);
    Ok(alias)
}

fn too_many(alias: &TableAlias, available: usize, given: usize) -> PlanError {
    PlanError::Window {
        code: SqlState::SYNTAX,
        message: format!(
            "relation {} has {available} columns, but its alias names {given}",
            alias.name
        ),
        hint: Some(format!("Name {available} columns, or the first ones of them.")),
    }
}

fn alias_of(factor: &mut TableFactor) -> Option<&mut Option<TableAlias>> {
    match factor {
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::TableFunction { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::NestedJoin { alias, .. }
        | TableFactor::MatchRecognize { alias, .. } => Some(alias),
        _ => None,
    }
}

fn take_alias(factor: &mut TableFactor) -> Option<TableAlias> {
    alias_of(factor)?.take()
}

fn give_alias(factor: &mut TableFactor, alias: TableAlias) {
    if let Some(own) = alias_of(factor) {
        *own = Some(alias);
    }
}

/// Plans a relation with such a list.
#[derive(Debug)]
pub(super) struct ColumnListPlanner;

impl RelationPlanner for ColumnListPlanner {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<RelationPlanning> {
        let alias = alias_of(&mut relation);
        let has_list = |alias: &&mut TableAlias| !alias.columns.is_empty();
        if alias.and_then(|alias| alias.as_mut().filter(has_list)).is_none() {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        let alias = take_alias(&mut relation).expect("it was seen to have one");
        let plan = context.plan(relation)?;
        named(plan, alias, context)
    }
}

/// The relation under its alias, with the names of the list.
pub(super) fn named(
    plan: LogicalPlan,
    mut alias: TableAlias,
    context: &dyn RelationPlannerContext,
) -> PlannerResult<RelationPlanning> {
    let columns = plan.schema().columns();
    if alias.columns.len() > columns.len() {
        return Err(too_many(&alias, columns.len(), alias.columns.len()).into());
    }
    let mut names = std::mem::take(&mut alias.columns).into_iter();
    let columns = columns.into_iter().map(|column| match names.next() {
        Some(name) => Expr::Column(column).alias(context.normalize_ident(name.name)),
        None => Expr::Column(column),
    });
    let plan = LogicalPlanBuilder::from(plan).project(columns.collect::<Vec<_>>())?.build()?;
    Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, Some(alias)))))
}
