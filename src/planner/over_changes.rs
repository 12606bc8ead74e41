//! Translates OVER in orders that are not those of time or log, and over rows that are taken back.
//!
//! Windows that share PARTITION BY and ORDER BY are one operator; others stand on top of it.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::Window;
use datafusion::logical_expr::expr::{Sort, WindowFunction, WindowFunctionParams};
use datafusion::physical_expr::expressions::lit;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_planner::create_window_expr_with_name;

use crate::operators::over_changes::OverChangesSpec;
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::moving_frames;
use crate::planner::over::Computed;
use crate::planner::over_facts::call_name;
use crate::planner::over_layers::{LayerColumn, Layers, WindowCall};
use crate::planner::physical::{EventTimeColumn, Facts, Node, PhysicalPlan, StateBound};
use crate::planner::ranking::check_types;
use crate::planner::translate::{Built, Slot, Translator};

impl Translator {
    /// OVER, answered anew for each partition that changes, or once for each that is closed.
    pub(super) fn over_changes(
        &self,
        mut built: Built,
        layers: Layers<'_>,
        window: &Window,
    ) -> Result<Built, PlanError> {
        let Layers { calls, outputs, .. } = layers;
        let mut slots: Vec<Option<Slot>> = vec![None; calls.len()];
        while let Some(first) = slots.iter().position(Option::is_none) {
            let alike = |call: &WindowCall| {
                let (call, first) = (&call.params, &calls[first].params);
                call.partition_by == first.partition_by && call.order_by == first.order_by
            };
            let group: Vec<usize> = (0..calls.len())
                .filter(|call| slots[*call].is_none() && alike(&calls[*call]))
                .collect();
            let members: Vec<&WindowCall> = group.iter().map(|call| &calls[*call]).collect();
            let kept = built.plan.schema.fields().len();
            built = self.recomputed(built, &members)?;
            for (place, call) in group.into_iter().enumerate() {
                slots[call] = Some(Slot::Column(kept + place));
            }
        }
        built.slots = outputs
            .into_iter()
            .map(|output| match output {
                LayerColumn::Base(column) => built.slots[column],
                LayerColumn::Call(call) => slots[call].expect("each call is in a group"),
            })
            .collect();
        Ok(Built { schema: Arc::clone(&window.schema), ..built })
    }

    /// Puts the operator of calls that share PARTITION BY and ORDER BY above the input.
    fn recomputed(&self, mut built: Built, calls: &[&WindowCall]) -> Result<Built, PlanError> {
        let kept = built.plan.schema.fields().len();
        let shared = &calls[0].params;
        let mut computed = Computed { translator: self, built: &built, added: vec![] };
        let partition = shared.partition_by.iter();
        let partition = partition.map(|e| computed.place(e)).collect::<Result<Vec<_>, _>>()?;
        let mut order = Vec::new();
        for sort in &shared.order_by {
            let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
            order.push((computed.place(&sort.expr)?, options));
        }
        let named: Vec<Expr> =
            calls.iter().map(|call| over_columns(call, &mut computed)).collect::<Result<_, _>>()?;
        let mut added = std::mem::take(&mut computed.added);
        // Rows without a column cannot be told from no rows.
        if kept == 0 && added.is_empty() {
            added.push((lit(true), "__row".to_owned()));
        }
        if !added.is_empty() {
            built.plan = self.append_columns(built.plan, added, None)?;
        }
        check_types(&built.plan)?;
        let names = built.physical_names()?;
        let lowered = named.iter().zip(calls).map(|(expr, call)| {
            let name = call.field.name().clone();
            let lowered =
                create_window_expr_with_name(expr, name, &names, &self.properties, &self.planning)?;
            // What no row could be answered with is refused here, and not row by row.
            lowered.create_window_fn()?;
            Ok(lowered)
        });
        let lowered = lowered.map(|lowered| lowered.map_err(from_datafusion));
        let lowered: Vec<Arc<dyn WindowExpr>> = lowered.collect::<Result<_, _>>()?;
        let close = self.closing(&built.plan, &partition)?;
        let fields = built.plan.schema.fields()[..kept].iter().map(|field| field.as_ref().clone());
        let mut results = Vec::with_capacity(lowered.len());
        for (expr, call) in lowered.iter().zip(calls) {
            let field = expr.field().map_err(from_datafusion)?;
            results.push(Field::new(call.field.name(), field.data_type().clone(), true));
        }
        let schema = Arc::new(Schema::new(fields.chain(results).collect::<Vec<_>>()));
        let facts = facts_of(&built.plan.facts, kept, calls.len(), close);
        let state = match close {
            Some((end, _)) => StateBound::Bounded(format!(
                "all rows; they leave when the watermark passes their {}",
                built.plan.schema.field(end).name()
            )),
            None => StateBound::Unbounded("all rows, and what is shown of them".into()),
        };
        let spec = OverChangesSpec {
            partition,
            order,
            calls: lowered,
            close,
            input_append_only: built.plan.facts.append_only,
            kept,
            input_schema: Arc::clone(&built.plan.schema),
            schema: Arc::clone(&schema),
        };
        built.plan = PhysicalPlan {
            node: Node::OverChanges(Arc::new(spec)),
            schema,
            facts,
            state,
            inputs: vec![built.plan],
        };
        Ok(built)
    }
}

/// The call over columns alone. Its rows come partition by partition, so it needs no PARTITION BY.
fn over_columns(call: &WindowCall, computed: &mut Computed<'_>) -> Result<Expr, PlanError> {
    let params = &call.params;
    let args = params.args.iter().map(|e| computed.named(e)).collect::<Result<_, _>>()?;
    let filter = match &params.filter {
        Some(filter) => Some(Box::new(computed.named(filter)?)),
        None => None,
    };
    let mut order_by = Vec::with_capacity(params.order_by.len());
    for sort in &params.order_by {
        order_by.push(Sort { expr: computed.named(&sort.expr)?, ..sort.clone() });
    }
    Ok(Expr::from(WindowFunction {
        fun: moving_frames::as_once(&call.function),
        params: WindowFunctionParams {
            args,
            partition_by: vec![],
            order_by,
            window_frame: params.window_frame.clone(),
            filter,
            null_treatment: params.null_treatment,
            distinct: params.distinct,
        },
    }))
}

fn facts_of(input: &Facts, kept: usize, calls: usize, close: Option<(usize, i64)>) -> Facts {
    let mut windows = input.windows[..kept].to_vec();
    windows.resize(kept + calls, None);
    let keys = input.unique_keys.iter();
    Facts {
        append_only: close.is_some(),
        event_times: close.map_or(vec![], |close| closed_times(input, kept, close)),
        unique_keys: keys.filter(|key| key.iter().all(|column| *column < kept)).cloned().collect(),
        windows,
    }
}

/// The event times of rows that are put out when their windows close, `delay` behind the watermark.
pub(super) fn closed_times(
    input: &Facts,
    kept: usize,
    (end, delay): (usize, i64),
) -> Vec<EventTimeColumn> {
    let bounds =
        input.event_times.iter().filter(|t| t.column < kept && input.windows[t.column].is_some());
    let late = |time: &EventTimeColumn| EventTimeColumn {
        column: time.column,
        delay: match time.column == end {
            true => delay,
            false => time.delay.saturating_add(delay),
        },
    };
    bounds.map(late).collect()
}

/// The operator in EXPLAIN.
pub(super) fn describe(plan: &PhysicalPlan, spec: &OverChangesSpec) -> String {
    let input = &plan.inputs[0].schema;
    let name = |column: usize| input.field(column).name().as_str();
    let order = spec.order.iter().map(|(column, options)| {
        format!("{}{}", name(*column), if options.descending { " desc" } else { "" })
    });
    let last = if spec.input_append_only { "log order" } else { "values" };
    let order: Vec<String> = order.chain([last.to_string()]).collect();
    let keys: Vec<&str> = spec.partition.iter().map(|column| name(*column)).collect();
    let calls: Vec<&str> = spec.calls.iter().map(|call| call_name(call.name())).collect();
    let emit = if spec.close.is_some() { "on close" } else { "changes" };
    format!(
        "{}; order by {}; partition ({}); emit {emit}",
        calls.join(", "),
        order.join(", "),
        keys.join(", ")
    )
}
