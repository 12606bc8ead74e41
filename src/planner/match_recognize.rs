//! Translates MATCH_RECOGNIZE: where its columns stand, what holds of its output, how much it holds.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::PhysicalExpr;

use crate::error::SqlState;
use crate::operators::match_recognize::{Cell, Condition, MatchOrder, MatchSpec, Place, Skip};
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::explain::width_text;
use crate::planner::match_node::{MatchNode, Search, cell_of};
use crate::planner::over::{Computed, is_log_order};
use crate::planner::physical::{EventTimeColumn, Facts, Node, PhysicalPlan, StateBound};
use crate::planner::translate::{Built, Slot, Translator, source_column, type_of};
use crate::planner::windowed::{delayed, describe_source};
use crate::sql::print::quote_name;

/// Where the columns of a node stand in the rows of its input.
#[derive(Debug, Clone)]
pub struct MatchColumns {
    /// PARTITION BY.
    pub partition: Vec<usize>,
    /// ORDER BY.
    pub order: Vec<usize>,
    /// What navigation and aggregates read.
    pub operands: Vec<usize>,
}

/// Makes a physical expression of one over named columns.
pub type Lower<'a> = &'a dyn Fn(&Expr, &DFSchema) -> Result<Arc<dyn PhysicalExpr>, PlanError>;

/// What the operator does with rows of `input_schema` in an order.
pub fn spec_of(
    node: &MatchNode,
    columns: &MatchColumns,
    order: MatchOrder,
    input_schema: &SchemaRef,
    lower: Lower<'_>,
) -> Result<MatchSpec, PlanError> {
    let search = &*node.search;
    let cells = search.cells.iter().map(|cell| match cell {
        Cell::At(place, operand) => Cell::At(*place, columns.operands[*operand]),
        Cell::Aggregate(aggregation) => {
            let mut aggregation = aggregation.clone();
            aggregation.column = aggregation.column.map(|operand| columns.operands[operand]);
            Cell::Aggregate(aggregation)
        }
        other => other.clone(),
    });
    let all = |exprs: &[Expr]| {
        let condition = exprs.iter().cloned().reduce(|a, b| a.and(b));
        condition.map(|condition| lower(&condition, &search.frame)).transpose()
    };
    let mut conditions = Vec::new();
    for conjuncts in &search.conditions {
        let (alone, looking_back) = (all(&conjuncts.alone)?, all(&conjuncts.looking_back)?);
        conditions.push(Condition { alone, looking_back });
    }
    let frame: SchemaRef = Arc::new(search.frame.as_arrow().clone());
    let mut fields: Vec<Field> =
        columns.partition.iter().map(|column| input_schema.field(*column).clone()).collect();
    let mut measures = Vec::new();
    for (expr, name) in &search.measures {
        let measure = lower(expr, &search.frame)?;
        let data_type = measure.data_type(&frame).map_err(from_datafusion)?;
        fields.push(Field::new(name, data_type, true));
        measures.push(measure);
    }
    let ties = columns.order.iter().copied().zip(node.sorts.iter().copied());
    let ties = match order {
        MatchOrder::Time(_) => ties.skip(1).collect(),
        MatchOrder::Log => vec![],
    };
    let cells: Vec<Cell> = cells.collect();
    Ok(MatchSpec {
        partition: columns.partition.clone(),
        order,
        ties,
        lateness: 0,
        pattern: search.pattern.clone(),
        pattern_text: Arc::from(search.pattern_text.as_str()),
        variables: search.variables.iter().map(|name| Arc::from(name.as_str())).collect(),
        conditions,
        skip: search.skip,
        within: search.within,
        reach: reach_of(search),
        is_numbered: cells.contains(&Cell::MatchNumber),
        cells,
        frame,
        measures,
        input_schema: Arc::clone(input_schema),
        schema: Arc::new(Schema::new(fields)),
    })
}

/// How many rows before a match are looked at.
fn reach_of(search: &Search) -> usize {
    let pattern = &search.pattern;
    let beyond = |place: &Place, rows_before: u64| match (place.back as u64) > rows_before {
        true => place.back,
        false => 0,
    };
    // Before the last row of a variable there are as many rows as before its first one, at least.
    let before = |place: &Place| match place.of {
        Some(variable) => pattern.rows_before(variable).unwrap_or(0),
        None => 0,
    };
    let place = |column: &Column| match search.cells.get(cell_of(column)?)? {
        Cell::At(place, _) => Some(*place),
        Cell::Aggregate(_) | Cell::Classifier | Cell::MatchNumber => None,
    };
    let mut reach = 0;
    for (variable, conjuncts) in search.conditions.iter().enumerate() {
        for expr in conjuncts.alone.iter().chain(&conjuncts.looking_back) {
            for place in expr.column_refs().into_iter().filter_map(place) {
                let rows = match place.is_current(variable) {
                    true => pattern.rows_before(variable).unwrap_or(0),
                    false => before(&place),
                };
                reach = reach.max(beyond(&place, rows));
            }
        }
    }
    for (expr, _) in &search.measures {
        for place in expr.column_refs().into_iter().filter_map(place) {
            let is_last = place.of.is_none() && !place.from_first && place.skip == 0;
            let rows = if is_last { pattern.rows_min() - 1 } else { before(&place) };
            reach = reach.max(beyond(&place, rows));
        }
    }
    reach
}

impl Translator {
    /// MATCH_RECOGNIZE.
    pub(super) fn match_recognize(
        &self,
        node: &MatchNode,
        outermost: bool,
    ) -> Result<Built, PlanError> {
        let built = self.build(&node.input, outermost)?;
        let mut built = self.materialize(built)?;
        if !built.plan.facts.append_only {
            return Err(PlanError::AppendOnlyRequired {
                what: "MATCH_RECOGNIZE".into(),
                detail: "A match is final, and rows of the input can be retracted.".into(),
            });
        }
        let order = self.match_order(&built, node)?;
        let mut computed = Computed { translator: self, built: &built, added: vec![] };
        let mut places = |exprs: &[Expr]| {
            exprs.iter().map(|expr| computed.place(expr)).collect::<Result<Vec<_>, _>>()
        };
        let columns = MatchColumns {
            partition: places(&node.partition)?,
            order: places(&node.order)?,
            operands: places(&node.operands)?,
        };
        let added = std::mem::take(&mut computed.added);
        if !added.is_empty() {
            built.plan = self.append_columns(built.plan, added, None)?;
        }
        let lower = |expr: &Expr, names: &DFSchema| self.lower(expr, names);
        let schema = Arc::clone(&built.plan.schema);
        let mut spec = spec_of(node, &columns, order, &schema, &lower)?;
        if let MatchOrder::Time(column) = order {
            let delay = built.plan.facts.delay_of(column).unwrap_or(0);
            if delay > 0 {
                built.plan = delayed(built.plan, delay);
            }
            spec.lateness = self.emit.allowed_lateness.saturating_sub(delay).max(0);
        }
        let facts = facts_of(&spec, &node.search);
        let state = state_of(&spec, &built.plan);
        let slots = (0..spec.schema.fields().len()).map(Slot::Column).collect();
        let plan = PhysicalPlan {
            schema: Arc::clone(&spec.schema),
            node: Node::MatchRecognize(Arc::new(spec)),
            facts,
            state,
            inputs: vec![built.plan],
        };
        let schema = Arc::clone(UserDefinedLogicalNodeCore::schema(node));
        Ok(Built { plan, schema, slots, pending: None })
    }

    fn match_order(&self, built: &Built, node: &MatchNode) -> Result<MatchOrder, PlanError> {
        let hint = "Order by the event time of the stream, ascending, or by _offset.";
        let refused = || PlanError::unsupported("this ORDER BY of MATCH_RECOGNIZE", hint);
        let column = built.plain_column(&node.order[0]).ok_or_else(refused)?;
        if node.sorts[0].descending {
            return Err(refused());
        }
        let plan = &built.plan;
        if is_log_order(plan, column) {
            return match node.search.within {
                None => Ok(MatchOrder::Log),
                Some(_) => Err(PlanError::unsupported(
                    "WITHIN with ORDER BY _offset",
                    "Order by the event time of the stream.",
                )),
            };
        }
        if plan.facts.delay_of(column).is_some() {
            self.check_lateness_unit(built, column)?;
            check_within(&node.search, type_of(plan, column))?;
            return Ok(MatchOrder::Time(column));
        }
        if !type_of(plan, column).is_temporal() {
            return Err(refused());
        }
        let name = quote_name(plan.schema.field(column).name());
        Err(PlanError::Window {
            code: SqlState::WATERMARK_REQUIRED,
            message: format!("MATCH_RECOGNIZE over {} needs a watermark", describe_source(plan)),
            hint: Some(format!(
                "Add WATERMARK FOR {name} AS {name} - INTERVAL '5' SECOND to the stream, or \
                 ORDER BY _offset."
            )),
        })
    }
}

/// A width of time for times, an integer for logical time.
pub fn check_within(search: &Search, time: &arrow::datatypes::DataType) -> Result<(), PlanError> {
    if search.within.is_none() || search.within_is_logical == time.is_integer() {
        return Ok(());
    }
    let wanted = if time.is_integer() { "an integer" } else { "an interval" };
    let message = format!("WITHIN over this ORDER BY must be {wanted}");
    Err(PlanError::window(SqlState::INVALID_PARAMETER, message))
}

/// What holds of the matches. With WITHIN none comes later than its width behind the watermark, and so
/// do the times of its rows.
fn facts_of(spec: &MatchSpec, search: &Search) -> Facts {
    let is_time = |measure: &Arc<dyn PhysicalExpr>| {
        let MatchOrder::Time(time) = spec.order else { return false };
        let cell = source_column(measure).map(|cell| &spec.cells[cell]);
        let Some(Cell::At(place, column)) = cell else { return false };
        *column == time
            && (place.skip, place.back) == (0, 0)
            && place.of.is_none_or(|of| search.pattern.always_has(of))
    };
    let partition = spec.partition.len();
    let bounded = |within: i64| {
        let times = spec.measures.iter().enumerate().filter(|(_, measure)| is_time(measure));
        let delay = within.saturating_add(spec.lateness);
        times.map(|(i, _)| EventTimeColumn { column: partition + i, delay }).collect()
    };
    Facts {
        append_only: true,
        event_times: spec.within.map(bounded).unwrap_or_default(),
        unique_keys: vec![],
        windows: vec![None; spec.schema.fields().len()],
    }
}

/// What is held, and when it goes.
fn state_of(spec: &MatchSpec, input: &PhysicalPlan) -> StateBound {
    let mut parts = Vec::new();
    if let MatchOrder::Time(column) = spec.order {
        let name = input.schema.field(column).name();
        parts.push(format!("rows until the watermark passes their {name}"));
    }
    let is_timed = |column: usize| input.schema.field(column).data_type().is_temporal();
    let mut unbounded = None;
    match (spec.within, spec.order, spec.pattern.rows_max()) {
        (Some(within), MatchOrder::Time(column), _) => {
            let width = width_text(within, is_timed(column));
            parts.push(format!("per partition the rows of the last {width}"));
        }
        (_, _, Some(rows)) => {
            parts.push(format!("per partition {rows} row{}", if rows == 1 { "" } else { "s" }));
            if !spec.partition.is_empty() && rows > 1 {
                unbounded = Some("partitions wait for rows for ever without WITHIN");
            }
        }
        _ => {
            parts.push("per partition the rows of the match under way".into());
            unbounded = Some("a match may grow for ever without WITHIN");
        }
    }
    if spec.reach > 0 {
        parts.push(format!("{} before it for PREV", spec.reach));
        if !spec.partition.is_empty() {
            unbounded = unbounded.or(Some("partitions are kept for PREV"));
        }
    }
    if spec.is_numbered && !spec.partition.is_empty() {
        unbounded = unbounded.or(Some("partitions are kept for MATCH_NUMBER()"));
    }
    let text = parts.join("; ");
    match unbounded {
        Some(reason) => StateBound::Unbounded(format!("{text}; {reason}")),
        None => StateBound::Bounded(text),
    }
}

/// The operator in EXPLAIN.
pub(super) fn describe(plan: &PhysicalPlan, spec: &MatchSpec) -> String {
    let input = &plan.inputs[0].schema;
    let name = |column: &usize| input.field(*column).name().clone();
    let partition: Vec<String> = spec.partition.iter().map(name).collect();
    let order = match spec.order {
        MatchOrder::Time(column) => name(&column),
        MatchOrder::Log => "_offset".into(),
    };
    let mut text = format!("partition ({}) order by {order}", partition.join(", "));
    let variable = |index: &usize| &spec.variables[*index];
    let skip = match &spec.skip {
        Skip::PastLastRow => "past last row".to_string(),
        Skip::ToNextRow => "to next row".to_string(),
        Skip::ToFirst(of) => format!("to first {}", variable(of)),
        Skip::ToLast(of) => format!("to last {}", variable(of)),
    };
    text.push_str(&format!("; pattern ({}); skip {skip}", spec.pattern_text));
    let (mut alone, mut looking_back) = (Vec::new(), Vec::new());
    for (name, condition) in spec.variables.iter().zip(&spec.conditions) {
        alone.extend(condition.alone.as_ref().map(|_| name.to_string()));
        looking_back.extend(condition.looking_back.as_ref().map(|_| name.to_string()));
    }
    if !alone.is_empty() {
        text.push_str(&format!("; by columns: {}", alone.join(", ")));
    }
    if !looking_back.is_empty() {
        text.push_str(&format!("; row by row: {}", looking_back.join(", ")));
    }
    if let Some(within) = spec.within {
        let is_timed = matches!(spec.order, MatchOrder::Time(column)
            if input.field(column).data_type().is_temporal());
        let width = width_text(within, is_timed);
        text.push_str(&format!("; within {width}"));
    }
    text
}
