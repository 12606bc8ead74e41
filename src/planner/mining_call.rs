//! Turns mining functions in FROM into an aggregate whose list of answers is unnested.
//!
//! ```text
//! HEAVY_HITTERS(TUMBLE(s, …), ITEM => i, BY => b, …)
//!     Projection  window columns, b, i, count_lower, …
//!       Unnest      the list, then its structs
//!         Aggregate   GROUP BY window columns, b: heavy_hitters(i)
//!           TUMBLE …
//! ```
//!
//! So windows, EMIT, late rows and snapshots are those of GROUP BY, and a one-off SELECT answers alike.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, DFSchema, NullHandling, Result as PlannerResult, UnnestOptions};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, TableFactor};

use crate::data::sql_words::type_in_sql_words;
use crate::error::SqlState;
use crate::operators::aggregates::mining::{Miner, MiningFunction};
use crate::planner::error::PlanError;
use crate::planner::heavy_hitters_call;
use crate::planner::held_keys;
use crate::planner::itemsets_call;
use crate::planner::relation_call::{Call, Parameters, function_call};
use crate::planner::trend_call;
use crate::planner::window_node::{WindowKind, WindowNode, window_time_type};
use crate::windows::spec::{TimeWindow, TimeWindowKind};

/// The column that holds a group's answers until they are unnested.
const ANSWERS: &str = "__answers";

/// A mining function in FROM.
struct Function {
    name: &'static str,
    parameters: Parameters,
    plan: fn(&Call, &mut dyn RelationPlannerContext) -> PlannerResult<LogicalPlan>,
}

/// Those that there are.
const FUNCTIONS: [Function; 4] = [
    Function {
        name: "heavy_hitters",
        parameters: heavy_hitters_call::PARAMETERS,
        plan: heavy_hitters_call::plan,
    },
    Function {
        name: "frequent_itemsets",
        parameters: itemsets_call::SETS,
        plan: itemsets_call::plan,
    },
    Function {
        name: "association_rules",
        parameters: itemsets_call::RULES,
        plan: itemsets_call::plan,
    },
    Function { name: "trend", parameters: trend_call::PARAMETERS, plan: trend_call::plan },
];

/// Whether a function in FROM is a mining function.
pub(super) fn is_mining(name: &str) -> bool {
    FUNCTIONS.iter().any(|function| function.name == name)
}

/// Turns calls of mining functions in FROM into plans.
#[derive(Debug)]
pub(super) struct MiningPlanner;

impl RelationPlanner for MiningPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<RelationPlanning> {
        let Some((name, arguments, alias)) = function_call(&relation) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let call = Call::bind(&name, function.parameters, arguments)?;
        let plan = (function.plan)(&call, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// An expression over the input and what its column is called in the answer.
pub(super) struct Named {
    pub expr: Expr,
    pub name: String,
}

/// Reads an argument that is one or more expressions over the input.
pub(super) fn expressions(
    call: &Call,
    name: &str,
    schema: &DFSchema,
    context: &mut dyn RelationPlannerContext,
) -> PlannerResult<Vec<Named>> {
    call.list(name).into_iter().map(|item| expression(item, schema, context)).collect()
}

/// A column keeps its name; what is computed is called as it is written.
pub(super) fn expression(
    item: SqlExpr,
    schema: &DFSchema,
    context: &mut dyn RelationPlannerContext,
) -> PlannerResult<Named> {
    let text = item.to_string();
    let expr = context.sql_to_expr(item, schema)?;
    if expr.exists(|part| Ok(matches!(part, Expr::Unnest(_))))? {
        let what = format!("UNNEST in an argument of a mining function ({text})");
        let hint = "Unnest in a subquery, which is its first argument.";
        return Err(PlanError::refused(&what, hint).into());
    }
    let name = match &expr {
        Expr::Column(column) => column.name.clone(),
        _ => text,
    };
    Ok(Named { expr, name })
}

/// Refuses expressions whose values cannot be compared, and gives the types of the others.
pub(super) fn comparable(
    call: &Call,
    items: &[Named],
    schema: &DFSchema,
    takes: impl Fn(&DataType) -> bool,
) -> PlannerResult<Vec<DataType>> {
    let typed = |item: &Named| {
        let data_type = item.expr.get_type(schema)?;
        if takes(&data_type) {
            return Ok(data_type);
        }
        let text = type_in_sql_words(&data_type);
        let message = format!("\"{}\" of {} cannot be of type {text}", item.name, call.function);
        Err(PlanError::window(SqlState::TYPE_MISMATCH, message).into())
    };
    items.iter().map(typed).collect()
}

/// What a mining function asks of its input.
pub(super) struct Mining {
    /// What finds the answers of a group.
    pub miner: Arc<dyn Miner>,
    /// Its arguments.
    pub arguments: Vec<Expr>,
    /// What groups the rows, beside the window.
    pub by: Vec<Named>,
    /// Per field of an answer the name of its column.
    pub columns: Vec<String>,
}

/// Groups the input by its window and more, finds the answers of each group, and makes rows of them.
pub(super) fn mine(input: LogicalPlan, mining: Mining) -> PlannerResult<LogicalPlan> {
    let window = window_of(&input);
    if let Some(node) = window {
        check_partition(mining.miner.name(), node, &mining.by)?;
    }
    let mut keys: Vec<Named> = window.map(window_columns).unwrap_or_default();
    keys.extend(mining.by);
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].iter().any(|other| is_same(&other.expr, &key.expr)) {
            let message = format!("column \"{}\" of a mining function is given twice", key.name);
            return Err(PlanError::window(SqlState::DUPLICATE_COLUMN, message).into());
        }
    }
    let answers = MiningFunction::of(mining.miner).call(mining.arguments).alias(ANSWERS);
    let drop = || {
        let mut options = UnnestOptions::new();
        options.null_handling = NullHandling::Drop;
        options
    };
    let answers_column = || Column::new_unqualified(ANSWERS);
    let names: Vec<String> = keys.iter().map(|key| key.name.clone()).collect();
    let keys = keys.into_iter().map(|key| key.expr);
    let grouped = LogicalPlanBuilder::from(input).aggregate(keys, [answers])?.build()?;
    let unnested = LogicalPlanBuilder::from(held_keys::without_keys(grouped)?)
        .unnest_column_with_options(answers_column(), drop())?
        .unnest_column_with_options(answers_column(), drop())?
        .build()?;
    let schema = Arc::clone(unnested.schema());
    let columns = names.into_iter().chain(mining.columns).enumerate().map(|(i, name)| {
        // The column's place says which it is; several may share a name until here.
        Expr::Column(Column::from(schema.qualified_field(i))).alias(name)
    });
    LogicalPlanBuilder::from(unnested).project(columns.collect::<Vec<_>>())?.build()
}

/// The window that the input is, if it is one.
fn window_of(input: &LogicalPlan) -> Option<&WindowNode> {
    let LogicalPlan::Extension(extension) = input else { return None };
    extension.node.as_any().downcast_ref::<WindowNode>()
}

/// Windows that share rows, and the time by which rows fall into their slices.
pub(super) fn overlapping(
    input: &LogicalPlan,
    schema: &DFSchema,
) -> PlannerResult<Option<(TimeWindow, Expr)>> {
    let Some(node) = window_of(input) else { return Ok(None) };
    let (WindowKind::Time(window), Some(time)) = (&node.kind, &node.time) else { return Ok(None) };
    match window.kind {
        TimeWindowKind::Hop { .. }
        | TimeWindowKind::Horizons { .. }
        | TimeWindowKind::Cumulate { .. } => {}
        TimeWindowKind::Tumble { .. } | TimeWindowKind::Landmark { .. } => return Ok(None),
    }
    let data_type = time.get_type(schema)?;
    let wanted = window_time_type(&data_type);
    let time = if data_type == wanted { time.clone() } else { cast(time.clone(), wanted) };
    Ok(Some((window.clone(), time)))
}

fn window_columns(node: &WindowNode) -> Vec<Named> {
    let columns = node.kind.columns().iter().map(|column| Named {
        expr: Expr::Column(Column::new_unqualified(column.name())),
        name: column.name().to_string(),
    });
    columns.collect()
}

/// Whether two expressions over one input are the same, a column written with its relation or without.
fn is_same(one: &Expr, other: &Expr) -> bool {
    match (one, other) {
        (Expr::Column(one), Expr::Column(other)) => {
            let bare = one.relation.is_none() || other.relation.is_none();
            one.name == other.name && (bare || one.relation == other.relation)
        }
        _ => one == other,
    }
}

/// Windows that are numbered per partition are not told apart without it.
fn check_partition(function: &str, node: &WindowNode, by: &[Named]) -> Result<(), PlanError> {
    let numbered = matches!(node.kind, WindowKind::Count(_) | WindowKind::Punctuation(_));
    if !numbered || node.partition.iter().all(|key| by.iter().any(|named| named.expr == *key)) {
        return Ok(());
    }
    let (function, window) = (function.to_uppercase(), node.kind.name());
    Err(PlanError::Window {
        code: SqlState::GROUPING,
        message: format!("BY of {function} must hold the partition columns of {window}"),
        hint: Some("Its windows are numbered per partition: add BY => and these columns.".into()),
    })
}
