//! Translates OVER by event time and by log order.
//!
//! All windows of one SELECT become one operator, whatever their PARTITION BY and frames are, as long
//! as they agree on the order. What they compute of a row is computed by a projection below, so that a
//! row on which it fails is refused alone.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema};
use datafusion::common::Column;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment};
use datafusion::logical_expr::{Expr, Window, WindowFunctionDefinition};
use datafusion::physical_expr::PhysicalExpr;

use crate::operators::emit::EmitMode;
use crate::operators::over::{OverCall, OverFunction, OverOrder, OverSpec, Shift};
use crate::planner::error::PlanError;
use crate::planner::lower_aggregate::lower_aggregate;
use crate::planner::over_calls::{argument_of, frame_of, refuse_function, shift_of};
use crate::planner::over_facts::{ahead_of, describe_window, facts_of, state_of};
use crate::planner::over_layers::{LayerColumn, Layers, WindowCall, layers_of};
use crate::planner::physical::{Node, PhysicalPlan};
use crate::planner::relations::RelationKind;
use crate::planner::translate::{Built, Slot, Translator, source_column};
use crate::planner::windowed::{delayed, describe_source};

/// What the rows of all windows are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Order {
    by: OverOrder,
    /// Whether `_offset` follows the event time, so that no two rows are peers.
    unique: bool,
}

/// Adds columns that a projection computes.
pub(super) struct Computed<'a> {
    pub translator: &'a Translator,
    pub built: &'a Built,
    pub added: Vec<(Arc<dyn PhysicalExpr>, String)>,
}

impl Computed<'_> {
    /// The physical column of an expression.
    pub(super) fn place(&mut self, expr: &Expr) -> Result<usize, PlanError> {
        if let Some(column) = self.built.plain_column(expr) {
            return Ok(column);
        }
        let names = self.built.physical_names()?;
        let lowered = self.translator.lower(expr, &names)?;
        let index = self.built.plan.schema.fields().len() + self.added.len();
        self.added.push((lowered, format!("__column_{index}")));
        Ok(index)
    }

    /// A column by the name that [`Built::physical_names`] has for one without a logical name.
    pub(super) fn named(&mut self, expr: &Expr) -> Result<Expr, PlanError> {
        if matches!(expr, Expr::Literal(..)) {
            return Ok(expr.clone());
        }
        let column = self.place(expr)?;
        if column < self.built.plan.schema.fields().len() {
            return Ok(expr.clone());
        }
        Ok(Expr::Column(Column::new_unqualified(format!("__column_{column}"))))
    }
}

impl Translator {
    /// OVER.
    pub(super) fn over(&self, window: &Window, outermost: bool) -> Result<Built, PlanError> {
        let layers = layers_of(window)?;
        let built = self.build(layers.base, outermost)?;
        let built = self.materialize(built)?;
        if let [call] = layers.calls.as_slice()
            && call.function.name() == "row_number"
            && self.is_ranking(&built, call)?
        {
            return self.numbered(built, call, window);
        }
        let wants_changes = outermost && self.emit.mode == Some(EmitMode::Changes);
        let order = match self.order_of(&built, &layers.calls) {
            Ok(order) if built.plan.facts.append_only => order,
            Err(error @ PlanError::WatermarkRequired { .. })
                if built.plan.facts.append_only && !wants_changes =>
            {
                return Err(error);
            }
            _ => return self.over_changes(built, layers, window),
        };
        match self.over_in_order(built.clone(), &layers, order) {
            Ok(over) => Ok(Built { schema: Arc::clone(&window.schema), ..over }),
            Err(PlanError::NotSupported { .. }) if wants_changes => {
                self.over_changes(built, layers, window)
            }
            Err(error) => Err(error),
        }
    }

    /// OVER by event time or log order.
    fn over_in_order(
        &self,
        mut built: Built,
        layers: &Layers<'_>,
        order: Order,
    ) -> Result<Built, PlanError> {
        let Layers { calls, outputs, .. } = layers;
        let kept = built.plan.schema.fields().len();
        let mut over = Vec::with_capacity(calls.len());
        let mut computed = Computed { translator: self, built: &built, added: vec![] };
        let mut pending = Vec::new();
        for call in calls {
            let partition = call.params.partition_by.iter();
            let partition = partition.map(|e| computed.place(e)).collect::<Result<Vec<_>, _>>()?;
            pending.push((partition, argument_of(call, &mut computed)?));
        }
        let added = std::mem::take(&mut computed.added);
        if !added.is_empty() {
            built.plan = self.append_columns(built.plan, added, None)?;
        }
        for (call, (partition, arguments)) in calls.iter().zip(pending) {
            let function = self.function_of(&built, call, arguments, order)?;
            over.push(OverCall { partition, ends: None, function });
        }
        let fields: Vec<FieldRef> = calls.iter().map(|call| Arc::clone(&call.field)).collect();
        let (mut built, slots) = self.finish_over(built, (over, fields), kept, order);
        built.slots = outputs
            .iter()
            .map(|output| match output {
                LayerColumn::Base(column) => built.slots[*column],
                LayerColumn::Call(call) => slots[*call],
            })
            .collect();
        Ok(built)
    }

    /// Makes the operator, and says what holds of its output.
    fn finish_over(
        &self,
        mut built: Built,
        (mut calls, results): (Vec<OverCall>, Vec<FieldRef>),
        kept: usize,
        order: Order,
    ) -> (Built, Vec<Slot>) {
        let mut lateness = 0;
        if let OverOrder::Time(column) = order.by {
            let delay = built.plan.facts.delay_of(column).unwrap_or(0);
            if delay > 0 {
                built.plan = delayed(built.plan, delay);
            }
            lateness = self.emit.allowed_lateness.saturating_sub(delay).max(0);
        }
        let times = &built.plan.facts.event_times;
        for call in &mut calls {
            let bounds = times.iter().filter(|time| call.partition.contains(&time.column));
            call.ends = bounds.map(|time| (time.column, time.delay)).min_by_key(|(_, d)| *d);
        }
        let fields = built.plan.schema.fields()[..kept].iter().map(|field| field.as_ref().clone());
        let results = results.iter();
        let results =
            results.map(|field| Field::new(field.name(), field.data_type().clone(), true));
        let output = Arc::new(Schema::new(fields.chain(results).collect::<Vec<_>>()));
        let ahead = ahead_of(&calls);
        let delay = lateness.saturating_add(ahead);
        let facts = facts_of(&built.plan.facts, &calls, order.by, kept, delay);
        let state = state_of(&built.plan, &calls, order.by);
        let spec = OverSpec {
            order: order.by,
            lateness,
            calls,
            kept,
            input_schema: Arc::clone(&built.plan.schema),
            schema: Arc::clone(&output),
        };
        let slots = (kept..output.fields().len()).map(Slot::Column).collect();
        built.plan = PhysicalPlan {
            node: Node::Over(Arc::new(spec)),
            schema: output,
            facts,
            state,
            inputs: vec![built.plan],
        };
        (built, slots)
    }

    /// Whether `row_number()` is answered by a ranking: its order is one of values, its input takes
    /// rows back, or its groups are windows that close.
    fn is_ranking(&self, built: &Built, call: &WindowCall) -> Result<bool, PlanError> {
        let partition = call.params.partition_by.iter();
        let partition: Vec<usize> = partition.filter_map(|e| built.plain_column(e)).collect();
        Ok(self.order_of_call(built, call).is_err()
            || !built.plan.facts.append_only
            || self.closing(&built.plan, &partition)?.is_some())
    }

    /// The one order of all windows.
    fn order_of(&self, built: &Built, calls: &[WindowCall]) -> Result<Order, PlanError> {
        let mut orders = Vec::new();
        for call in calls {
            orders.push(self.order_of_call(built, call)?);
        }
        let Some(first) = orders.first().copied() else {
            return Err(PlanError::unsupported("OVER", "Ask it with SELECT."));
        };
        if orders.iter().any(|order| order.by != first.by) {
            return Err(PlanError::unsupported(
                "windows of different orders in one SELECT",
                "Order all of them by the event time or all by _offset, or write a query for each.",
            ));
        }
        let unique = orders.iter().all(|order| order.unique);
        if !unique && orders.iter().any(|order| order.unique) {
            return Err(PlanError::unsupported(
                "windows of different orders in one SELECT",
                "Add _offset to the ORDER BY of all of them, or of none.",
            ));
        }
        Ok(Order { unique, ..first })
    }

    fn order_of_call(&self, built: &Built, call: &WindowCall) -> Result<Order, PlanError> {
        let sorts = &call.params.order_by;
        let column = |index: usize| {
            let sort = sorts.get(index).filter(|sort| sort.asc)?;
            built.plain_column(&sort.expr)
        };
        let is_log = |column: usize| is_log_order(&built.plan, column);
        match (sorts.len(), column(0), column(1)) {
            (1, Some(first), _) if is_log(first) => Ok(Order { by: OverOrder::Log, unique: true }),
            (1, Some(time), _) if built.plan.facts.delay_of(time).is_some() => {
                self.check_lateness_unit(built, time)?;
                Ok(Order { by: OverOrder::Time(time), unique: false })
            }
            (2, Some(time), Some(second))
                if built.plan.facts.delay_of(time).is_some()
                    && keeps_offsets(&built.plan, second, time) =>
            {
                self.check_lateness_unit(built, time)?;
                Ok(Order { by: OverOrder::Time(time), unique: true })
            }
            (1, Some(time), _) if built.plan.schema.field(time).data_type().is_temporal() => {
                Err(PlanError::WatermarkRequired {
                    relation: describe_source(&built.plan),
                    column: built.plan.schema.field(time).name().clone(),
                })
            }
            _ => Err(PlanError::unsupported(
                format!("OVER ({})", describe_window(call)),
                "Order by the event time of the stream, or by _offset, ascending.",
            )),
        }
    }

    /// The function of a call; its arguments are columns by now.
    fn function_of(
        &self,
        built: &Built,
        call: &WindowCall,
        arguments: Vec<Expr>,
        order: Order,
    ) -> Result<OverFunction, PlanError> {
        let names = built.physical_names()?;
        let column = |expr: &Expr| {
            let lowered = self.lower(expr, &names)?;
            source_column(&lowered).ok_or_else(|| refuse_function(call))
        };
        let udwf = match &call.function {
            WindowFunctionDefinition::AggregateUDF(function) => {
                let frame = frame_of(call, order.unique, matches!(order.by, OverOrder::Time(_)))?;
                let aggregate = Expr::AggregateFunction(AggregateFunction::new_udf(
                    Arc::clone(function),
                    arguments,
                    call.params.distinct,
                    None,
                    vec![],
                    call.params.null_treatment,
                ));
                let spec = lower_aggregate(self, &aggregate, &names, &built.plan.schema)?;
                return Ok(OverFunction::Aggregate(spec, frame));
            }
            WindowFunctionDefinition::WindowUDF(function) => function,
        };
        let ignore_nulls = call.params.null_treatment == Some(NullTreatment::IgnoreNulls);
        Ok(match udwf.name() {
            "row_number" => OverFunction::RowNumber,
            "rank" | "dense_rank" if order.unique => OverFunction::RowNumber,
            "rank" => OverFunction::Rank,
            "dense_rank" => OverFunction::DenseRank,
            name @ ("first_value" | "last_value") if !ignore_nulls => {
                let argument = column(&arguments[0])?;
                let frame = frame_of(call, order.unique, matches!(order.by, OverOrder::Time(_)))?;
                match name {
                    "first_value" => OverFunction::First(argument, frame),
                    _ => OverFunction::Last(argument, frame),
                }
            }
            name @ ("lag" | "lead") => {
                let argument = column(&arguments[0])?;
                let (rows, shift) = shift_of(built, call, argument, &arguments[1..])?;
                let back = (name == "lag") == (rows >= 0) || rows == 0;
                if !back && ignore_nulls {
                    return Err(refuse_function(call));
                }
                match back {
                    true => OverFunction::Lag(Shift { ignore_nulls, ..shift }),
                    false => OverFunction::Lead(shift),
                }
            }
            _ => return Err(refuse_function(call)),
        })
    }
}

/// Whether a column is the offset of the one stream that the rows come from, and those that share an event
/// time come in its order, as OVER by that time puts them out.
fn keeps_offsets(plan: &PhysicalPlan, offset: usize, time: usize) -> bool {
    let (offset, time) = match &plan.node {
        _ if is_log_order(plan, offset) => return true,
        Node::FilterProject(spec) => {
            let below = |column: usize| match &spec.projection {
                None => Some(column),
                Some(outputs) => source_column(&outputs[column].0),
            };
            let (Some(offset), Some(time)) = (below(offset), below(time)) else { return false };
            (offset, time)
        }
        Node::Delay(_) => (offset, time),
        Node::Over(spec) => {
            let waits =
                spec.calls.iter().any(|call| matches!(call.function, OverFunction::Lead(_)));
            if spec.order != OverOrder::Time(time) || offset >= spec.kept || waits {
                return false;
            }
            (offset, time)
        }
        _ => return false,
    };
    keeps_offsets(&plan.inputs[0], offset, time)
}

/// Whether a column is the offset of the one stream that the rows come from, in its order.
pub(super) fn is_log_order(plan: &PhysicalPlan, column: usize) -> bool {
    match &plan.node {
        Node::Source(source) => {
            source.kind == RelationKind::Stream && plan.schema.field(column).name() == "_offset"
        }
        Node::FilterProject(spec) => {
            let below = match &spec.projection {
                None => Some(column),
                Some(outputs) => source_column(&outputs[column].0),
            };
            below.is_some_and(|column| is_log_order(&plan.inputs[0], column))
        }
        Node::Delay(_) => is_log_order(&plan.inputs[0], column),
        Node::Over(spec) => {
            spec.order == OverOrder::Log
                && column < spec.kept
                && !spec.calls.iter().any(|call| matches!(call.function, OverFunction::Lead(_)))
                && is_log_order(&plan.inputs[0], column)
        }
        _ => false,
    }
}
