//! Turns a query into a plan of operators, and explains it.
//!
//! In reading order: [`relations`] (what is known of a relation), [`bind`] (SQL to a logical plan,
//! with [`hidden`], [`lateral`], [`repeated_names`], [`functions`], [`window_call`], [`mining_call`] and
//! [`window_node`]), `translate`, `windowed` and `group_by` (logical plan to [`physical`] plan: watermarks,
//! append-only, keys, bounded state), [`emit_clause`], [`explain`].

mod after_coercion;
mod aggregate_calls;
mod aggregate_within;
mod amended;
mod approx_percentile;
mod around_rule;
mod before_coercion;
pub mod bind;
mod bounded;
mod cast_names;
pub mod checked;
mod clauses;
mod column_lists;
mod common_types;
mod conditions;
mod constant_rows;
pub mod constants;
mod correlated_joins;
mod dependent;
mod different_values;
mod domain;
pub mod emit_clause;
mod epoch_seconds;
pub mod error;
mod expansion;
pub mod explain;
mod expression_forms;
mod expressions;
mod fallible;
mod field_access;
pub mod functions;
mod group_by;
mod group_columns;
mod group_names;
mod grouping;
mod grouping_sets;
pub mod guards;
mod heavy_hitters_call;
mod held_keys;
mod hidden;
mod in_subqueries;
mod interval_order;
mod interval_scaling;
mod itemsets_call;
mod join;
mod join_as_of;
mod join_facts;
mod join_held;
mod join_names;
mod join_newest;
pub mod join_once;
mod join_sides;
mod join_time;
mod json_columns;
mod json_functions;
mod json_operators;
mod kept_rules;
mod kept_unread;
pub mod large_stack;
mod lateral;
mod lateral_join;
mod limit;
mod literal_casts;
mod lower_aggregate;
mod marker;
mod match_call;
mod match_cells;
pub mod match_node;
mod match_pattern;
pub mod match_recognize;
mod merged_names;
mod mining_call;
mod mining_facts;
mod moving_frames;
mod nested_windows;
mod once_aggregates;
mod once_barrier;
mod once_extremes;
mod once_keys;
mod once_moving;
mod once_order;
mod once_rule;
mod once_ties;
pub mod once_union;
mod operators;
mod order_names;
mod outer_names;
mod outer_references;
mod outer_types;
mod over;
mod over_calls;
mod over_changes;
mod over_facts;
mod over_layers;
mod own_names;
mod percentile;
pub mod physical;
mod postgres_functions;
mod push_down;
mod ranking;
mod relation_call;
mod relation_columns;
pub mod relations;
pub mod repeated_names;
mod row_comparisons;
mod row_facts;
mod row_numbers;
mod row_wise;
mod selects;
mod set_comparisons;
mod set_count_call;
mod set_operations;
mod signed_numbers;
mod single_row;
mod sql_call;
mod sql_types;
mod subquery_depth;
mod time_zone;
mod translate;
mod trend_call;
mod truth;
mod union_names;
mod unnest_columns;
mod unnesting;
mod value_functions;
mod wide_sum;
mod wide_trunc;
pub mod window_call;
mod window_facts;
pub mod window_node;
mod window_rows;
mod window_spans;
mod windowed;

use datafusion::sql::sqlparser::ast::Query;

use crate::planner::bind::Purpose;
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::physical::{PhysicalPlan, StateBound};
use crate::planner::relations::RelationLookup;
use crate::sql::statement::EmitClause;

/// Builds what every plan needs, which takes some 30 ms the first time.
pub fn warm_up() {
    functions::state();
}

/// Plans a continuous query.
///
/// # Errors
/// Undefined names (42P01, 42703), misused windows (42P20, 42803, 22023), missing watermarks (WR001),
/// unbounded state where `require_bounded_state` forbids it (WR002), retractions where an operator
/// cannot take them (WR003), and what is not supported (0A000).
pub fn plan_continuous(
    query: &Query,
    emit: &EmitClause,
    require_bounded_state: bool,
    lookup: &dyn RelationLookup,
) -> Result<PhysicalPlan, PlanError> {
    large_stack::on_large_stack(|| {
        let request = emit_clause::resolve(emit, lookup)?;
        let logical = bind::bind(query, lookup, Purpose::Continuous);
        let logical = logical.map_err(|error| repeated_names::told(error, query))?;
        let markers = join_as_of::count_markers(&logical).map_err(from_datafusion)?;
        let logical = bind::optimize(logical)?;
        let plan = translate::translate(&logical, request, markers)?;
        check_names(&plan)?;
        if require_bounded_state {
            check_bounded(&plan)?;
        }
        Ok(plan)
    })
}

/// Columns of an answer are named, and each name once.
fn check_names(plan: &PhysicalPlan) -> Result<(), PlanError> {
    let mut seen = std::collections::BTreeSet::new();
    for field in plan.schema.fields() {
        if !seen.insert(field.name()) {
            return Err(from_datafusion(datafusion::error::DataFusionError::SchemaError(
                Box::new(datafusion::common::SchemaError::DuplicateUnqualifiedField {
                    name: field.name().clone(),
                }),
                Box::new(None),
            )));
        }
    }
    Ok(())
}

fn check_bounded(plan: &PhysicalPlan) -> Result<(), PlanError> {
    if let StateBound::Unbounded(reason) = &plan.state {
        let detail = format!("{}: {reason}.", explain::node_name(&plan.node));
        return Err(PlanError::UnboundedState { detail });
    }
    plan.inputs.iter().try_for_each(check_bounded)
}
