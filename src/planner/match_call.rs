//! Reads MATCH_RECOGNIZE: what sqlparser made of it becomes a [`MatchNode`].
//!
//! sqlparser knows no WITHIN; [`crate::sql`] moves it to a variable of that name in DEFINE.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, Result as PlannerResult};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, Volatility};
use datafusion::sql::sqlparser::ast::{
    AfterMatchSkip, Expr as SqlExpr, MatchRecognizePattern, Measure, OrderByExpr, RowsPerMatch,
    SymbolDefinition, TableFactor,
};

use crate::data::sql_words::type_in_sql_words;
use crate::error::SqlState;
use crate::operators::match_recognize::Cell;
use crate::planner::constants;
use crate::planner::error::PlanError;
use crate::planner::expressions::spelled_out;
use crate::planner::fallible::may_fail;
use crate::planner::hidden::fold;
use crate::planner::match_cells::{Cells, coerced, misuse, refused};
use crate::planner::match_node::{Conjuncts, MatchNode, Search, cell_of};
use crate::planner::match_pattern::{check_pattern, pattern_of, skip_of};
use crate::planner::operators;

/// The variable that holds the width of WITHIN.
pub(crate) const WITHIN: &str = "within";

/// Turns MATCH_RECOGNIZE in FROM into [`MatchNode`]s.
#[derive(Debug)]
pub(super) struct MatchPlanner;

impl RelationPlanner for MatchPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<RelationPlanning> {
        let TableFactor::MatchRecognize {
            table,
            partition_by,
            order_by,
            measures,
            rows_per_match,
            after_match_skip,
            pattern,
            symbols,
            alias,
        } = relation
        else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        if let Some(RowsPerMatch::AllRows(_)) = rows_per_match {
            let hint = "Write ONE ROW PER MATCH, and what you want to see of its rows in MEASURES.";
            return Err(refused("ALL ROWS PER MATCH", hint));
        }
        let input = context.plan(*table)?;
        let clauses = Clauses { partition_by, order_by, measures, pattern, symbols };
        let node = clauses.plan(input, after_match_skip, context)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// What is written between the parentheses.
struct Clauses {
    partition_by: Vec<SqlExpr>,
    order_by: Vec<OrderByExpr>,
    measures: Vec<Measure>,
    pattern: MatchRecognizePattern,
    symbols: Vec<SymbolDefinition>,
}

impl Clauses {
    fn plan(
        self,
        input: LogicalPlan,
        skip: Option<AfterMatchSkip>,
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<MatchNode> {
        let schema = Arc::clone(input.schema());
        let mut variables = Vec::new();
        let pattern = pattern_of(&self.pattern, &mut variables)?;
        check_pattern(&pattern, &variables)?;
        let (definitions, within) = self.definitions(&variables, context)?;
        let partition = self.partition(&schema, context)?;
        let (order, sorts) = self.order(&schema, context)?;
        let is_time = order[0].get_type(&schema)?.is_temporal();
        let mut cells = Cells {
            variables: &variables,
            schema: &schema,
            time: is_time.then(|| order[0].clone()),
            operands: vec![],
            cells: vec![],
            types: vec![],
        };
        let mut read = |expr: &SqlExpr| cells.read(expr, &mut *context);
        let definitions =
            definitions.iter().map(|definition| definition.map(&mut read).transpose());
        let definitions = definitions.collect::<PlannerResult<Vec<_>>>()?;
        let measured = self.measures.iter().map(|measure| read(&measure.expr));
        let measured = measured.collect::<PlannerResult<Vec<_>>>()?;
        let frame = cells.frame()?;
        let mut conditions = Vec::new();
        for (variable, definition) in definitions.into_iter().enumerate() {
            conditions.push(match definition {
                Some(sql) => {
                    let name = &variables[variable];
                    conjuncts(condition(sql, &frame, name, context)?, variable, &cells.cells)
                }
                None => Conjuncts::default(),
            });
        }
        let names = self.measures.iter().map(|measure| fold(&measure.alias));
        let measures = measured
            .into_iter()
            .zip(names)
            .map(|(sql, name)| Ok((executable(sql, &frame, context)?, name)));
        let measures = measures.collect::<PlannerResult<Vec<_>>>()?;
        check_names(&partition, &measures)?;
        let search = Search {
            skip: skip_of(skip, &pattern, &variables)?,
            pattern,
            pattern_text: self.pattern.to_string(),
            conditions,
            within: within.as_ref().map(|(width, _)| *width),
            within_is_logical: within.is_some_and(|(_, is_logical)| is_logical),
            cells: cells.cells,
            frame,
            measures,
            variables: variables.clone(),
        };
        MatchNode::new(input, partition, (order, sorts), cells.operands, Arc::new(search))
    }

    /// The definition of each variable, and WITHIN with whether it is of logical time.
    #[expect(clippy::type_complexity, reason = "a list and a width")]
    fn definitions(
        &self,
        variables: &[String],
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<(Vec<Option<&SqlExpr>>, Option<(i64, bool)>)> {
        let mut definitions = vec![None; variables.len()];
        let mut within = None;
        for SymbolDefinition { symbol, definition } in &self.symbols {
            let name = fold(symbol);
            if symbol.quote_style.is_none() && name == WITHIN {
                within = Some(width(definition, context)?);
                continue;
            }
            let Some(variable) = variables.iter().position(|variable| *variable == name) else {
                return Err(misuse(format!("variable \"{name}\" of DEFINE is not in PATTERN")));
            };
            if definitions[variable].replace(definition).is_some() {
                return Err(misuse(format!("variable \"{name}\" is defined twice")));
            }
        }
        Ok((definitions, within))
    }

    fn partition(
        &self,
        schema: &DFSchema,
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<Vec<Expr>> {
        let column = |item: &SqlExpr| match context.sql_to_expr(item.clone(), schema)? {
            expr @ Expr::Column(_) => Ok(expr),
            _ => Err(refused(
                format!("PARTITION BY {item} in MATCH_RECOGNIZE"),
                "Compute it in a CTE, and match over that.",
            )),
        };
        self.partition_by.iter().map(column).collect()
    }

    fn order(
        &self,
        schema: &DFSchema,
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<(Vec<Expr>, Vec<SortOptions>)> {
        if self.order_by.is_empty() {
            return Err(PlanError::Window {
                code: SqlState::WINDOWING,
                message: "MATCH_RECOGNIZE needs ORDER BY".into(),
                hint: Some("Order by the event time of the stream, or by _offset.".into()),
            }
            .into());
        }
        let (mut order, mut sorts) = (Vec::new(), Vec::new());
        for item in &self.order_by {
            order.push(coerced(context.sql_to_expr(item.expr.clone(), schema)?, schema)?);
            let descending = item.options.asc == Some(false);
            let nulls_first = item.options.nulls_first.unwrap_or(descending);
            sorts.push(SortOptions { descending, nulls_first });
        }
        Ok((order, sorts))
    }
}

/// The width of WITHIN, and whether it is one of logical time.
fn width(width: &SqlExpr, context: &mut dyn RelationPlannerContext) -> PlannerResult<(i64, bool)> {
    let value = constants::fold(context.sql_to_expr(width.clone(), &DFSchema::empty())?)?;
    let read = value.as_ref().and_then(constants::signed_width).filter(|width| *width > 0);
    match (read, value) {
        (Some(width), Some(value)) => Ok((width, value.data_type().is_integer())),
        _ => Err(PlanError::Window {
            code: SqlState::INVALID_PARAMETER,
            message: "WITHIN needs a positive interval without months".into(),
            hint: Some("Write for example WITHIN INTERVAL '10' MINUTE.".into()),
        }
        .into()),
    }
}

/// An expression over the frame as it is evaluated. No rule of DataFusion sees it.
fn executable(
    sql: SqlExpr,
    frame: &DFSchemaRef,
    context: &mut dyn RelationPlannerContext,
) -> PlannerResult<Expr> {
    let expr = context.sql_to_expr(sql, frame)?;
    operators::check_expr(&expr)?;
    let expr = coerced(expr, frame)?;
    refuse_clock(&expr)?;
    spelled_out(expr, frame)
}

/// The condition on a variable, in the types that it is evaluated in.
fn condition(
    sql: SqlExpr,
    frame: &DFSchemaRef,
    variable: &str,
    context: &mut dyn RelationPlannerContext,
) -> PlannerResult<Expr> {
    let expr = executable(sql, frame, context)?;
    let data_type = expr.get_type(frame)?;
    match data_type {
        DataType::Boolean => Ok(expr),
        DataType::Null => expr.cast_to(&DataType::Boolean, frame),
        other => {
            let data_type = type_in_sql_words(&other);
            let message =
                format!("definition of \"{variable}\" must be type boolean, not type {data_type}");
            Err(PlanError::window(SqlState::TYPE_MISMATCH, message).into())
        }
    }
}

/// Splits a condition: what is decided for whole batches of rows may only be what comes first, or what
/// cannot fail.
fn conjuncts(condition: Expr, variable: usize, cells: &[Cell]) -> Conjuncts {
    let mut split = Conjuncts::default();
    for conjunct in split_conjunction(&condition) {
        let is_alone = conjunct.column_refs().iter().all(|column| {
            let cell = cell_of(column).and_then(|cell| cells.get(cell));
            matches!(cell, Some(Cell::At(place, _)) if place.is_current(variable))
        });
        if is_alone && (split.looking_back.is_empty() || !may_fail(conjunct)) {
            split.alone.push(conjunct.clone());
        } else {
            split.looking_back.push(conjunct.clone());
        }
    }
    split
}

/// Of which row `now()` would be is not clear, and the answer must be the same again.
fn refuse_clock(expr: &Expr) -> PlannerResult<()> {
    expr.apply(|part| match part {
        Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => {
            Err(refused(
                format!("{}() in MATCH_RECOGNIZE", call.func.name()),
                "Compute it in a CTE, and match over that.",
            ))
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(())
}

fn check_names(partition: &[Expr], measures: &[(Expr, String)]) -> PlannerResult<()> {
    let columns = partition.iter().filter_map(|expr| match expr {
        Expr::Column(column) => Some(&column.name),
        _ => None,
    });
    let mut names: Vec<&String> = columns.collect();
    for (_, name) in measures {
        if names.contains(&name) {
            return Err(PlanError::Window {
                code: SqlState::DUPLICATE_COLUMN,
                message: format!("column \"{name}\" specified more than once"),
                hint: Some("Partition columns come first; give the measure another name.".into()),
            }
            .into());
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(misuse("MATCH_RECOGNIZE has no column: add MEASURES"));
    }
    Ok(())
}
