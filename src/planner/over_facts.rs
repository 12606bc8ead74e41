//! Knows what holds of the output of OVER, how much state it needs, and how EXPLAIN shows it.

use arrow::datatypes::Schema;

use crate::operators::over::{Frame, OverCall, OverFunction, OverOrder, OverSpec};
use crate::planner::explain::width_text;
use crate::planner::over_layers::WindowCall;
use crate::planner::physical::{EventTimeColumn, Facts, PhysicalPlan, StateBound};

/// What holds of the rows that are put out.
pub(super) fn facts_of(
    input: &Facts,
    calls: &[OverCall],
    order: OverOrder,
    kept: usize,
    lateness: i64,
) -> Facts {
    let waits = calls.iter().any(|call| matches!(call.function, OverFunction::Lead(_)));
    let event_times = match order {
        // Nobody knows when the row comes that another one waits for.
        _ if waits => vec![],
        OverOrder::Time(column) => vec![EventTimeColumn { column, delay: lateness }],
        OverOrder::Log => {
            input.event_times.iter().filter(|time| time.column < kept).cloned().collect()
        }
    };
    let is_kept = |key: &&Vec<usize>| key.iter().all(|column| *column < kept);
    let mut windows = input.windows[..kept].to_vec();
    windows.resize(kept + calls.len(), None);
    Facts {
        append_only: true,
        event_times,
        unique_keys: input.unique_keys.iter().filter(is_kept).cloned().collect(),
        windows,
    }
}

/// How far frames reach beyond their rows.
pub(super) fn ahead_of(calls: &[OverCall]) -> i64 {
    let frames = calls.iter().filter_map(|call| call.function.frame());
    frames.map(|frame| frame.end.saturating_neg()).max().unwrap_or(0).max(0)
}

/// What is held, and when it goes.
pub(super) fn state_of(input: &PhysicalPlan, calls: &[OverCall], order: OverOrder) -> StateBound {
    let mut parts = Vec::new();
    if let OverOrder::Time(column) = order {
        let name = input.schema.field(column).name();
        let ahead = match ahead_of(calls) {
            0 => String::new(),
            ahead => format!(" + {}", width_text(ahead, is_timed(&input.schema, order))),
        };
        parts.push(format!("rows until the watermark passes their {name}{ahead}"));
    }
    let mut unbounded = None;
    let mut kept = Vec::new();
    for call in calls {
        let (text, goes_with_time) = kept_of(&call.function, order, &input.schema);
        if !kept.contains(&text) {
            kept.push(text);
        }
        if grows(&call.function) {
            unbounded = Some("what an aggregate over all earlier rows collects");
        }
        if !call.partition.is_empty() && !goes_with_time && call.ends.is_none() {
            unbounded = unbounded.or(Some("partitions are kept for ever"));
        }
    }
    parts.push(format!("per partition {}", kept.join(", ")));
    match unbounded {
        Some(reason) => StateBound::Unbounded(format!("{}; {reason}", parts.join("; "))),
        None => StateBound::Bounded(parts.join("; ")),
    }
}

/// What is kept per partition, and whether it goes with time.
fn kept_of(function: &OverFunction, order: OverOrder, input: &Schema) -> (String, bool) {
    match function {
        OverFunction::RowNumber | OverFunction::Rank | OverFunction::DenseRank => {
            ("one number".into(), false)
        }
        OverFunction::Lag(shift) => (rows(shift.rows as i64), false),
        OverFunction::Lead(shift) => (format!("{} that wait", rows(shift.rows as i64)), false),
        OverFunction::First(_, frame)
        | OverFunction::Last(_, frame)
        | OverFunction::Aggregate(_, frame) => match frame.start {
            None => ("one result".into(), false),
            Some(width) if frame.by_rows => (rows(width.saturating_add(1)), false),
            Some(width) => {
                let width = width_text(width.max(0), is_timed(input, order));
                (format!("the rows of the last {width}"), matches!(order, OverOrder::Time(_)))
            }
        },
    }
}

/// Whether the state of one partition grows with its rows.
fn grows(function: &OverFunction) -> bool {
    match function {
        OverFunction::Aggregate(spec, frame) => spec.native.is_none() && frame.start.is_none(),
        _ => false,
    }
}

fn rows(count: i64) -> String {
    match count {
        1 => "one row".into(),
        count => format!("{count} rows"),
    }
}

/// Whether RANGE frames of an order are widths of time, and not plain numbers.
fn is_timed(input: &Schema, order: OverOrder) -> bool {
    match order {
        OverOrder::Time(column) => input.field(column).data_type().is_temporal(),
        OverOrder::Log => false,
    }
}

/// The operator in EXPLAIN.
pub(super) fn describe(plan: &PhysicalPlan, spec: &OverSpec) -> String {
    let input = &plan.inputs[0].schema;
    let name = |column: &usize| input.field(*column).name().clone();
    let order = match spec.order {
        OverOrder::Time(column) => format!("order by {}", name(&column)),
        OverOrder::Log => "order by _offset".to_string(),
    };
    let calls = spec.calls.iter().enumerate().map(|(index, call)| {
        let partition: Vec<String> = call.partition.iter().map(name).collect();
        let timed = is_timed(input, spec.order);
        let frame = call.function.frame();
        let frame = frame.map_or_else(String::new, |frame| frame_text(&frame, timed));
        let output = call_name(spec.schema.field(spec.kept + index).name());
        format!("{output} of partition ({}){frame}", partition.join(", "))
    });
    format!("{order}; {}", calls.collect::<Vec<_>>().join("; "))
}

/// The call in the name that DataFusion gives to a window, which goes on with the OVER clause.
pub(super) fn call_name(name: &str) -> &str {
    let ends = [" PARTITION BY [", " ORDER BY [", " ROWS BETWEEN ", " RANGE BETWEEN "];
    let end = ends.iter().filter_map(|clause| name.find(clause)).min();
    &name[..end.unwrap_or(name.len())]
}

fn frame_text(frame: &Frame, timed: bool) -> String {
    let bound = |distance: i64| match (distance, frame.by_rows) {
        (0, _) => "current row".to_string(),
        (ahead, _) if ahead < 0 => format!("{} following", width_text(-ahead, timed)),
        (rows, true) => format!("{rows} preceding"),
        (width, false) => format!("{} preceding", width_text(width, timed)),
    };
    let start = frame.start.map_or_else(|| "unbounded preceding".to_string(), bound);
    let units = if frame.by_rows { "rows" } else { "range" };
    format!(" {units} {start} to {}", bound(frame.end))
}

/// The OVER clause of a call in a message.
pub(super) fn describe_window(call: &WindowCall) -> String {
    let mut parts = Vec::new();
    if !call.params.partition_by.is_empty() {
        let columns = call.params.partition_by.iter().map(|e| e.human_display().to_string());
        parts.push(format!("PARTITION BY {}", columns.collect::<Vec<_>>().join(", ")));
    }
    if !call.params.order_by.is_empty() {
        let sorts = call.params.order_by.iter().map(|sort| {
            let direction = if sort.asc { "" } else { " DESC" };
            format!("{}{direction}", sort.expr.human_display())
        });
        parts.push(format!("ORDER BY {}", sorts.collect::<Vec<_>>().join(", ")));
    }
    parts.join(" ")
}
