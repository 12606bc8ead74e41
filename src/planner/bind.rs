//! Binds names and types: from SQL to DataFusion's logical plan, optimised.
//!
//! DataFusion plans and optimises; window functions come in through
//! [`crate::planner::window_call::WindowPlanner`]. Streams are plain table sources, so nothing here
//! can run anything.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::{DFSchema, Result as PlannerResult, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, RelationPlanner, TypePlanner,
};
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::optimizer::{Analyzer, Optimizer, OptimizerContext};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Query, Statement as SqlStatement};

use crate::error::{Report, SqlState};
use crate::planner::cast_names::{self, CastNames};
use crate::planner::clauses;
use crate::planner::column_lists::{self, ColumnListPlanner};
use crate::planner::constant_rows;
use crate::planner::correlated_joins;
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::expansion;
use crate::planner::expression_forms;
use crate::planner::field_access;
use crate::planner::functions;
use crate::planner::group_names;
use crate::planner::grouping_sets;
use crate::planner::heavy_hitters_call;
use crate::planner::held_keys;
use crate::planner::hidden::exclude_hidden;
use crate::planner::in_subqueries;
use crate::planner::join_as_of;
use crate::planner::join_held;
use crate::planner::join_names;
use crate::planner::join_once;
use crate::planner::kept_rules;
use crate::planner::kept_unread;
use crate::planner::lateral;
use crate::planner::literal_casts::keep_constants;
use crate::planner::match_call::MatchPlanner;
use crate::planner::mining_call::MiningPlanner;
use crate::planner::moving_frames;
use crate::planner::once_aggregates;
use crate::planner::operators;
use crate::planner::order_names;
use crate::planner::outer_names;
use crate::planner::outer_types;
use crate::planner::own_names;
use crate::planner::push_down;
use crate::planner::relations::{RelationInfo, RelationLookup};
use crate::planner::repeated_names::{AnswerNames, Rename, tell_apart};
use crate::planner::row_numbers;
use crate::planner::set_count_call;
use crate::planner::set_operations;
use crate::planner::single_row;
use crate::planner::sql_types::SqlTypes;
use crate::planner::subquery_depth;
use crate::planner::unnest_columns::UnnestPlanner;
use crate::planner::unnesting::Unnesting;
use crate::planner::window_call::WindowPlanner;

/// What the plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A continuous query: now() is the row's ingest time.
    Continuous,
    /// A SELECT, answered once.
    Once,
}

/// Binds a query; not optimised yet.
pub fn bind(
    query: &Query,
    lookup: &dyn RelationLookup,
    purpose: Purpose,
) -> Result<LogicalPlan, PlanError> {
    expansion::check(query)?;
    let query = field_access::named(query);
    if let Some(apart) = order_names::tell_apart(&query)
        && let Ok(plan) = bind_named(&apart, lookup, purpose)
    {
        return Ok(plan);
    }
    bind_named(&query, lookup, purpose)
}

fn bind_named(
    query: &Query,
    lookup: &dyn RelationLookup,
    purpose: Purpose,
) -> Result<LogicalPlan, PlanError> {
    let bound = bind_in(&Context::new(lookup, purpose, Casts::Unnamed), query);
    match bound.as_ref().map_err(PlanError::code) {
        Err(SqlState::DUPLICATE_COLUMN) => {
            bind_in(&Context::new(lookup, purpose, Casts::Named), query).or(bound)
        }
        _ => bound,
    }
}

fn bind_in(context: &Context<'_>, query: &Query) -> Result<LogicalPlan, PlanError> {
    let (lookup, purpose) = (context.lookup, context.purpose);
    let mut query = query.clone();
    outer_names::tell_apart(&mut query, lookup);
    clauses::normalize(&mut query)?;
    expression_forms::normalize(&mut query);
    lateral::normalize(&mut query);
    join_names::normalize(&mut query, lookup)?;
    join_as_of::normalize(&mut query, lookup, purpose)?;
    column_lists::normalize(&mut query, lookup)?;
    exclude_hidden(&mut query, lookup);
    keep_constants(&mut query);
    field_access::normalize(&mut query);
    let options = ParserOptions::new().with_map_string_types_to_utf8view(true);
    let planner = SqlToRel::new_with_options(context, options);
    let mut unnesting = Unnesting::new(lookup);
    planner
        .sql_statement_to_plan(SqlStatement::Query(Box::new(query)))
        .and_then(|plan| match context.casts {
            Casts::Named => cast_names::forget(plan),
            Casts::Unnamed => Ok(plan),
        })
        .inspect(|plan| lookup.bound(plan))
        .and_then(operators::check)
        .and_then(|plan| group_names::rewrite(plan, purpose))
        .and_then(lateral::inline)
        .and_then(set_operations::rewrite)
        .and_then(outer_types::learn)
        .and_then(|plan| unnesting.plan(plan))
        .and_then(subquery_depth::check)
        .and_then(in_subqueries::rewrite)
        .and_then(|plan| single_row::check(plan, lookup, purpose))
        .and_then(|plan| unnesting.plan(plan))
        .and_then(heavy_hitters_call::read_aggregates)
        .and_then(set_count_call::read)
        .and_then(|plan| match purpose {
            Purpose::Once => join_once::rewrite(plan).and_then(moving_frames::rewrite),
            Purpose::Continuous => constant_rows::rewrite(plan),
        })
        .and_then(correlated_joins::part)
        .and_then(|plan| row_numbers::rewrite(plan, purpose))
        .and_then(own_names::give)
        .and_then(held_keys::hold)
        .map_err(from_datafusion)
}

/// Binds a one-off SELECT, whose columns may share names.
pub fn bind_once(
    query: &Query,
    lookup: &dyn RelationLookup,
) -> Result<(LogicalPlan, AnswerNames), PlanError> {
    let repeats = |error: &PlanError| error.code() == SqlState::DUPLICATE_COLUMN;
    let query = &field_access::named(query);
    let bind = |query: &Query, lookup, purpose| {
        bind(query, lookup, purpose).map_err(PlanError::asked_once)
    };
    // So is a computed column beside one of a relation that has its name.
    let ambiguous = |error: &PlanError| error.code() == SqlState::AMBIGUOUS_COLUMN;
    let mut bound = bind(query, lookup, Purpose::Once).map(|plan| (plan, AnswerNames::default()));
    let stays = bound.as_ref().is_err_and(ambiguous);
    for rename in [Rename::Repeated, Rename::All] {
        if bound.as_ref().is_err_and(|error| repeats(error) || ambiguous(error)) {
            let (query, names) = tell_apart(query, rename);
            let plan = bind(&query, lookup, Purpose::Once);
            let again = plan.and_then(|plan| Ok((plan.clone(), names.read(&plan)?)));
            if !stays || again.is_ok() {
                bound = again;
            }
        }
    }
    bound
}

/// Binds a single expression against the given columns.
pub fn expression(
    expr: &SqlExpr,
    schema: &DFSchema,
    lookup: &dyn RelationLookup,
    planner_context: &mut PlannerContext,
) -> Result<Expr, PlanError> {
    let relation_planners = vec![];
    let context =
        Context { relation_planners, ..Context::new(lookup, Purpose::Continuous, Casts::Unnamed) };
    let options = ParserOptions::new().with_map_string_types_to_utf8view(true);
    let planner = SqlToRel::new_with_options(&context, options);
    let mut expr = expr.clone();
    keep_constants(&mut expr);
    field_access::normalize_expr(&mut expr);
    planner.sql_to_expr(expr, schema, planner_context).map_err(from_datafusion)
}

/// Rules that would cost a continuous query something, or take its streams away.
const NOT_ON_STREAMS: [&str; 3] = [
    // Splits DISTINCT aggregates into two stages, which costs twice the state.
    "single_distinct_aggregation_to_group_by",
    // Put nothing in the place of a stream whose rows all fail WHERE. Its query is a query all the
    // same: it has columns, a watermark and, without GROUP BY, one row.
    "eliminate_filter",
    "propagate_empty_relation",
];

/// Optimises the plan of a continuous query with the rules that keep its meaning on a stream.
pub fn optimize(plan: LogicalPlan) -> Result<LogicalPlan, PlanError> {
    let options = functions::state().config_options();
    let analyzer = Analyzer::with_rules(functions::analyzer_rules());
    let plan = analyzer.execute_and_check(plan, options, |_, _| {}).map_err(from_datafusion)?;
    let plan = grouping_sets::split(plan).map_err(from_datafusion)?;
    let optimized = with_rules(plan.clone())?;
    if !kept_unread::is_missing(&plan, &optimized).map_err(from_datafusion)? {
        return Ok(optimized);
    }
    let held = with_rules(kept_unread::hold(plan).map_err(from_datafusion)?)?;
    kept_unread::release(held).map_err(from_datafusion)
}

/// What DataFusion's rules make of a plan.
fn with_rules(plan: LogicalPlan) -> Result<LogicalPlan, PlanError> {
    let options = functions::state().config_options();
    let rules = push_down::rules()
        .into_iter()
        .filter(|rule| !NOT_ON_STREAMS.contains(&rule.name()))
        .map(kept_rules::kept)
        .collect();
    // A subquery that gives one value is joined, like any other: its value changes.
    let mut options = ConfigOptions::clone(options);
    options.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
    let context = OptimizerContext::new_with_config_options(Arc::new(options))
        .without_query_execution_start_time();
    let optimizer = Optimizer::with_rules(rules);
    join_held::hold(plan)
        .and_then(|plan| optimizer.optimize(plan, &context, |_, _| {}))
        .and_then(join_held::release)
        .and_then(held_keys::release)
        .map_err(from_datafusion)
}

/// Whether calls are told apart by the casts in their arguments.
#[derive(Debug, Clone, Copy)]
enum Casts {
    Unnamed,
    Named,
}

struct Context<'a> {
    lookup: &'a dyn RelationLookup,
    purpose: Purpose,
    casts: Casts,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    expr_planners: Cow<'a, [Arc<dyn ExprPlanner>]>,
}

impl<'a> Context<'a> {
    fn new(lookup: &'a dyn RelationLookup, purpose: Purpose, casts: Casts) -> Context<'a> {
        let relation_planners: Vec<Arc<dyn RelationPlanner>> = vec![
            Arc::new(UnnestPlanner),
            Arc::new(ColumnListPlanner),
            Arc::new(WindowPlanner),
            Arc::new(MiningPlanner),
            Arc::new(MatchPlanner),
        ];
        let mut expr_planners = Cow::Borrowed(functions::state().expr_planners());
        if let Casts::Named = casts {
            expr_planners.to_mut().insert(0, Arc::new(CastNames));
        }
        Context { lookup, purpose, casts, relation_planners, expr_planners }
    }

    fn relation(&self, reference: &TableReference) -> Result<RelationInfo, PlanError> {
        let name = match reference {
            TableReference::Bare { table } => table.to_string(),
            TableReference::Partial { schema, table } => format!("{schema}.{table}"),
            TableReference::Full { schema, table, .. } => format!("{schema}.{table}"),
        };
        let own = name.strip_prefix("public.").unwrap_or(&name);
        self.lookup.relation(own).ok_or_else(|| match self.lookup.at_rest(own) {
            Some(why) => {
                let (code, message, hint) = (why.code(), why.message(), why.hint());
                PlanError::Refused { code, message, hint }
            }
            None => {
                let name = reference.to_string();
                let similar = self.similar(&name);
                PlanError::UndefinedRelation { name, similar }
            }
        })
    }

    fn similar(&self, name: &str) -> Option<String> {
        let distance =
            |other: &String| datafusion::common::utils::datafusion_strsim::levenshtein(name, other);
        self.lookup.names().into_iter().filter(|other| distance(other) <= 2).min_by_key(distance)
    }
}

impl ContextProvider for Context<'_> {
    fn get_table_source(&self, name: TableReference) -> PlannerResult<Arc<dyn TableSource>> {
        Ok(self.lookup.source(&self.relation(&name)?))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_table_function_source(
        &self,
        name: &str,
        args: Vec<Expr>,
    ) -> PlannerResult<Arc<dyn TableSource>> {
        if self.purpose == Purpose::Continuous {
            let hint = "Ask it with SELECT, or use a stream, a table or a continuous query.";
            return Err(PlanError::unsupported(format!("table function {name}()"), hint).into());
        }
        functions::table_function(name, args)
    }

    fn create_cte_work_table(
        &self,
        name: &str,
        schema: SchemaRef,
    ) -> PlannerResult<Arc<dyn TableSource>> {
        if self.purpose == Purpose::Continuous {
            return Err(PlanError::unsupported("WITH RECURSIVE", "Ask it with SELECT.").into());
        }
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(SqlTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let ours =
            (self.purpose == Purpose::Continuous).then(|| functions::row_clock_function(name));
        let ours = ours.flatten().or_else(|| join_as_of::marker_function(name));
        ours.or_else(|| functions::state().scalar_functions().get(name).cloned())
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        functions::state().higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        let theirs = functions::state().aggregate_functions().get(name)?;
        let once = self.purpose == Purpose::Once;
        let ours = once.then(|| once_aggregates::replaced(theirs)).flatten();
        Some(ours.unwrap_or_else(|| Arc::clone(theirs)))
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        functions::state().window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        functions::state().config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        functions::state().scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        functions::state().higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        functions::state().aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        functions::state().window_functions().keys().cloned().collect()
    }
}
