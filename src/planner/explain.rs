//! Prints a plan as EXPLAIN shows it: each operator with its state bound, and what flows out of it.

use std::fmt::Write;

use crate::operators::aggregates::spec::AggregateSpec;
use crate::operators::emit::{EmitMode, EmitSpec, Refinement};
use crate::operators::join::asof::AsofSpec;
use crate::operators::join::spec::{JoinKind, JoinSpec};
use crate::operators::window_aggregate::WindowSource;
use crate::operators::window_answer::{Content, WindowAnswer};
use crate::planner::match_recognize;
use crate::planner::over_changes;
use crate::planner::over_facts;
use crate::planner::physical::{Node, PhysicalPlan, StateBound};
use crate::planner::ranking;
use crate::windows::spec::{Span, TimeWindow, TimeWindowKind};

/// The operator's name in EXPLAIN, metrics and `weir.operators`.
pub fn node_name(node: &Node) -> &'static str {
    match node {
        Node::Source(_) => "Source",
        Node::FilterProject(_) => "FilterProject",
        Node::Unnest(_) => "Unnest",
        Node::Union => "Union",
        Node::Join(_) => "Join",
        Node::AsofJoin(_) => "AsofJoin",
        Node::Delay(_) => "Delay",
        Node::WindowAssign(_) => "WindowAssign",
        Node::WindowAggregate(_) => "WindowAggregate",
        Node::SessionAggregate(_) => "SessionAggregate",
        Node::CountWindow(_) => "CountWindow",
        Node::PunctuationWindow(_) => "PunctuationWindow",
        Node::Aggregate(_) => "Aggregate",
        Node::MatchRecognize(_) => "MatchRecognize",
        Node::Over(_) => "Over",
        Node::OverChanges(_) => "OverChanges",
        Node::Ranking(_) => "Ranking",
    }
}

/// One line for each operator and one for the edge above it, root first.
pub fn explain(plan: &PhysicalPlan) -> Vec<String> {
    let mut lines = Vec::new();
    print(plan, 0, &mut lines);
    lines
}

fn print(plan: &PhysicalPlan, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    let detail = describe(plan);
    let separator = if detail.is_empty() { "" } else { ": " };
    lines.push(format!("{indent}{}{separator}{detail}", node_name(&plan.node)));
    let state = match &plan.state {
        StateBound::Stateless => "none".to_string(),
        StateBound::Bounded(text) => format!("bounded: {text}"),
        StateBound::Unbounded(text) => format!("unbounded: {text}"),
    };
    lines.push(format!("{indent}    state {state}"));
    lines.push(format!("{indent}    output {}", edge(plan)));
    for input in &plan.inputs {
        print(input, depth + 1, lines);
    }
}

/// What flows out: append-only or changelog, watermark, key.
fn edge(plan: &PhysicalPlan) -> String {
    let mut text = String::from(if plan.facts.append_only { "append-only" } else { "changelog" });
    if plan.facts.event_times.is_empty() {
        text.push_str(", no watermark");
    }
    for time in &plan.facts.event_times {
        let name = plan.schema.field(time.column).name();
        let is_time = plan.schema.field(time.column).data_type().is_temporal();
        match time.delay {
            0 => write!(text, ", watermark on {name}"),
            delay => write!(text, ", watermark on {name} - {}", width_text(delay, is_time)),
        }
        .expect("writing to a string does not fail");
    }
    if let Some(key) = plan.facts.unique_keys.first() {
        let names: Vec<&str> = key.iter().map(|c| plan.schema.field(*c).name().as_str()).collect();
        write!(text, ", unique key ({})", names.join(", "))
            .expect("writing to a string does not fail");
    }
    text
}

fn describe(plan: &PhysicalPlan) -> String {
    match &plan.node {
        Node::Source(source) => {
            let names: Vec<&str> = plan.schema.fields().iter().map(|f| f.name().as_str()).collect();
            format!("{} {} ({})", source.kind.noun(), source.relation, names.join(", "))
        }
        Node::FilterProject(spec) => {
            let mut parts = Vec::new();
            if let Some(filter) = &spec.filter {
                parts.push(format!("filter {filter}"));
            }
            if let Some(projection) = &spec.projection {
                let columns: Vec<String> =
                    projection.iter().map(|(expr, name)| format!("{expr} AS {name}")).collect();
                parts.push(format!("project {}", columns.join(", ")));
            }
            parts.join("; ")
        }
        Node::Unnest(_) | Node::Union => String::new(),
        Node::Join(spec) => join_text(plan, spec),
        Node::AsofJoin(spec) => asof_text(plan, spec),
        Node::Delay(i64::MAX) => "no watermark".to_string(),
        Node::Delay(delay) => format!("watermark - {}", width_text(*delay, runs_on_time(plan))),
        Node::WindowAssign(spec) => window_text(&spec.window, is_timed(plan, spec.time_column)),
        Node::WindowAggregate(spec) => {
            let window = match &spec.window {
                WindowSource::Time(window) => {
                    let timed = spec.time_column.is_none_or(|column| is_timed(plan, column));
                    window_text(window, timed)
                }
                WindowSource::Assigned { .. } => "windows of the input".into(),
            };
            grouped(plan, &window, &spec.keys, &spec.aggregates, &spec.emit)
        }
        Node::SessionAggregate(spec) => {
            let window = format!("gap {}", width_text(spec.window.gap, runs_on_time(plan)));
            answered(plan, &window, &spec.answer, &spec.emit)
        }
        Node::CountWindow(spec) => {
            let window = format!("size {} slide {}", spec.window.size, spec.window.slide);
            answered(plan, &window, &spec.answer, &spec.emit)
        }
        Node::PunctuationWindow(spec) => {
            answered(plan, "start and end rows", &spec.answer, &spec.emit)
        }
        Node::Aggregate(spec) => {
            grouped(plan, "no window", &spec.keys, &spec.aggregates, &spec.emit)
        }
        Node::MatchRecognize(spec) => match_recognize::describe(plan, spec),
        Node::Over(spec) => over_facts::describe(plan, spec),
        Node::OverChanges(spec) => over_changes::describe(plan, spec),
        Node::Ranking(spec) => ranking::describe(plan, spec),
    }
}

fn asof_text(plan: &PhysicalPlan, spec: &AsofSpec) -> String {
    let [left, right] = [0, 1].map(|port| &plan.inputs[port].schema);
    let [l, r] = [left.field(spec.times[0]).name(), right.field(spec.times[1]).name()];
    let sign = if spec.strict { ">" } else { ">=" };
    let equal =
        |(l, r): &(usize, usize)| format!("{} = {}", left.field(*l).name(), right.field(*r).name());
    let conditions = spec.keys.iter().map(equal).chain([format!("newest {l} {sign} {r}")]);
    let kind = if spec.keeps_left { "left" } else { "inner" };
    format!("{kind} on {}", conditions.collect::<Vec<_>>().join(" AND "))
}

/// The kind, the keys and the rest of the condition.
fn join_text(plan: &PhysicalPlan, spec: &JoinSpec) -> String {
    let kind = match spec.kind {
        JoinKind::Inner if spec.as_of_now => "inner, as of now,",
        JoinKind::Left if spec.as_of_now => "left, as of now,",
        JoinKind::Inner => "inner",
        JoinKind::Left => "left",
        JoinKind::Full => "full",
        JoinKind::Semi => "semi",
        JoinKind::Anti => "anti",
        JoinKind::Mark => "mark",
    };
    let [left, right] = [0, 1].map(|port| &plan.inputs[port].schema);
    let equal =
        |(l, r): &(usize, usize)| format!("{} = {}", left.field(*l).name(), right.field(*r).name());
    let mut conditions: Vec<String> = spec.keys.iter().map(equal).collect();
    if let Some(within) = &spec.within {
        let [l, r] = within.times;
        let timed = left.field(l).data_type().is_temporal();
        let width = |width: i64| match width < 0 {
            true => format!("-{}", width_text(width.saturating_neg(), timed)),
            false => width_text(width, timed),
        };
        let distance = format!("{} - {}", left.field(l).name(), right.field(r).name());
        match (within.low, within.high) {
            (Some(0), Some(0)) => {}
            (Some(low), Some(high)) => {
                conditions.push(format!("{distance} from {} to {}", width(low), width(high)));
            }
            (Some(low), None) => conditions.push(format!("{distance} >= {}", width(low))),
            (None, Some(high)) => conditions.push(format!("{distance} <= {}", width(high))),
            (None, None) => {}
        }
    }
    conditions.extend(spec.filter.iter().map(ToString::to_string));
    match conditions.is_empty() {
        true => format!("{kind}, every pair"),
        false => format!("{kind} on {}", conditions.join(" AND ")),
    }
}

/// A window whose rows are kept: what is put out of them.
fn answered(plan: &PhysicalPlan, window: &str, answer: &WindowAnswer, emit: &EmitSpec) -> String {
    let filter = answer.pairs.as_ref().and_then(|pairs| pairs.filter.as_ref());
    let window = match filter {
        Some(filter) => format!("{window}; where {filter}"),
        None => window.to_string(),
    };
    match &answer.content {
        Content::Rows => format!("{window}; rows; emit {}", emit_text(plan, emit)),
        Content::Groups { keys, aggregates } => grouped(plan, &window, keys, aggregates, emit),
    }
}

fn grouped(
    plan: &PhysicalPlan,
    window: &str,
    keys: &[usize],
    aggregates: &[AggregateSpec],
    emit: &EmitSpec,
) -> String {
    let input = &plan.inputs[0].schema;
    let name = |key: &usize| match input.fields().get(*key) {
        Some(field) => field.name().as_str(),
        None => "computed with the window",
    };
    let keys: Vec<&str> = keys.iter().map(name).collect();
    let aggregates: Vec<String> = aggregates.iter().map(ToString::to_string).collect();
    format!(
        "{window}; keys ({}); aggregates ({}); emit {}",
        keys.join(", "),
        aggregates.join(", "),
        emit_text(plan, emit)
    )
}

fn emit_text(plan: &PhysicalPlan, emit: &EmitSpec) -> String {
    let refinement = |refinement| match refinement {
        Refinement::Retracting => "retracting",
        Refinement::Accumulating => "accumulating",
        Refinement::Discarding => "discarding",
    };
    let mut text = match emit.mode {
        EmitMode::OnClose => "on close".to_string(),
        EmitMode::Changes => "changes".to_string(),
        EmitMode::EveryInterval { interval, refinement: r } => {
            format!("every {}, {}", duration(interval), refinement(r))
        }
        EmitMode::EveryRows { rows, refinement: r } => {
            format!("every {rows} rows, {}", refinement(r))
        }
    };
    if emit.allowed_lateness > 0 {
        let lateness = width_text(emit.allowed_lateness, runs_on_time(plan));
        write!(text, ", allowed lateness {lateness}").expect("writing to a string does not fail");
    }
    text
}

/// Whether a column of the node's input is a time and not a plain number.
fn is_timed(plan: &PhysicalPlan, column: usize) -> bool {
    plan.inputs[0].schema.field(column).data_type().is_temporal()
}

/// Whether event times of the node's input are times: over logical time they are plain numbers.
fn runs_on_time(plan: &PhysicalPlan) -> bool {
    plan.inputs[0].facts.event_times.iter().all(|time| is_timed(plan, time.column))
}

/// A window in words, with widths in units of time or plain numbers.
fn window_text(window: &TimeWindow, timed: bool) -> String {
    let width = |span: Span| match span {
        Span::Fixed(width) => width_text(width, timed),
        months => months.to_string(),
    };
    let mut text = match window.kind {
        TimeWindowKind::Tumble { size } => format!("tumble {}", width(size)),
        TimeWindowKind::Hop { slide, size } => {
            format!("hop {} every {}", width(size), width(slide))
        }
        TimeWindowKind::Horizons { slide, sizes } => {
            let sizes: Vec<String> = sizes.as_slice().iter().map(|size| width(*size)).collect();
            let (last, others) = sizes.split_last().expect("there are several sizes");
            format!("hop {} and {last} every {}", others.join(", "), width(slide))
        }
        TimeWindowKind::Cumulate { step, size } => {
            format!("cumulate up to {} by {}", width(size), width(step))
        }
        TimeWindowKind::Landmark { since } => format!("landmark since {since}"),
    };
    if window.offset != 0 {
        text.push_str(&format!(", offset {}", width_text(window.offset, timed)));
    }
    if let Some(zone) = window.timezone {
        text.push_str(&format!(", in {zone}"));
    }
    text
}

/// A distance along the event time: microseconds, or the plain number that it is over logical time.
pub(super) fn width_text(width: i64, timed: bool) -> String {
    if timed { duration(width) } else { width.to_string() }
}

/// Microseconds in the largest unit that fits.
fn duration(micros: i64) -> String {
    for (unit, width) in [
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("min", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
    ] {
        if micros != 0 && micros % width == 0 {
            return format!("{} {unit}", micros / width);
        }
    }
    format!("{micros} us")
}
