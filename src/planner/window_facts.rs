//! Knows what holds of the output of windows: event times, keys, whether it retracts, its state.

use crate::error::SqlState;
use crate::operators::aggregates::spec::{AggregateSpec, NativeFunction};
use crate::operators::emit::{EmitMode, EmitSpec, Refinement};
use crate::operators::window_aggregate::shares_slices;
use crate::planner::constants::DAY;
use crate::planner::error::PlanError;
use crate::planner::grouping::Input;
use crate::planner::physical::{EventTimeColumn, Facts, StateBound, WindowRole};
use crate::planner::translate::Pending;
use crate::planner::window_node::{WINDOW_END, WINDOW_ID, WINDOW_START, WindowColumn, WindowKind};
use crate::windows::spec::{Span, TimeWindow, TimeWindowKind};

/// The columns that a GROUP BY must hold for the window's rows to be told apart.
pub(super) fn check_grouping(
    pending: &Pending,
    grouped: &[WindowColumn],
    keys: &[usize],
) -> Result<(), PlanError> {
    let has = |column: WindowColumn| grouped.contains(&column);
    let missing = match &pending.kind {
        WindowKind::Time(TimeWindow { kind: TimeWindowKind::Cumulate { .. }, .. }) => {
            (!has(WindowColumn::End)).then_some(WINDOW_END)
        }
        kind if is_horizons(kind) => match (has(WindowColumn::Start), has(WindowColumn::End)) {
            (true, true) => None,
            (true, false) => Some(WINDOW_END),
            (false, _) => Some(WINDOW_START),
        },
        WindowKind::Time(_) | WindowKind::Session(_) => {
            (!has(WindowColumn::Start) && !has(WindowColumn::End)).then_some(WINDOW_START)
        }
        WindowKind::Count(_) | WindowKind::Punctuation(_) => {
            (!has(WindowColumn::Id)).then_some(WINDOW_ID)
        }
    };
    if let Some(column) = missing {
        return Err(PlanError::Window {
            code: SqlState::GROUPING,
            message: format!(
                "column \"{column}\" of {} must appear in the GROUP BY clause",
                pending.kind.name()
            ),
            hint: Some(format!("Add {column} to GROUP BY.")),
        });
    }
    let shares = pending.partition.iter().any(|column| !keys.contains(column));
    if shares && matches!(pending.kind, WindowKind::Session(_)) {
        // Sessions of several partitions are one group where both bounds are the same.
        let missing = [(WindowColumn::Start, WINDOW_START), (WindowColumn::End, WINDOW_END)]
            .into_iter()
            .find(|(column, _)| !has(*column));
        return missing.map_or(Ok(()), |(_, name)| {
            Err(PlanError::Window {
                code: SqlState::GROUPING,
                message: format!("column \"{name}\" of SESSION must appear in the GROUP BY clause"),
                hint: Some(format!("Add {name} or the partition columns to GROUP BY.")),
            })
        });
    }
    if shares {
        return Err(PlanError::Window {
            code: SqlState::GROUPING,
            message: format!(
                "partition columns of {} must appear in the GROUP BY clause",
                pending.kind.name()
            ),
            hint: Some(
                "Windows are numbered per partition: group by the partition columns, too.".into(),
            ),
        });
    }
    Ok(())
}

/// The window columns of an operator's output, in its order.
pub(super) fn operator_columns(kind: &WindowKind) -> &'static [WindowColumn] {
    use WindowColumn::{End, Id, Reason, Start};
    match kind {
        WindowKind::Time(_) | WindowKind::Session(_) => &[Start, End],
        WindowKind::Count(_) => &[Id, Start, End],
        WindowKind::Punctuation(_) => &[Id, Start, End, Reason],
    }
}

/// Whether the result holds one row per window and key. Early results that retract nothing stand beside
/// the later ones.
pub(super) fn is_one_row_per_group(mode: EmitMode) -> bool {
    match mode {
        EmitMode::OnClose | EmitMode::Changes => true,
        EmitMode::EveryInterval { refinement, .. } | EmitMode::EveryRows { refinement, .. } => {
            refinement == Refinement::Retracting
        }
    }
}

/// Whether windows of a kind take nothing back. Count windows by ORDER wait for late rows: they correct nothing.
pub(super) fn is_append_only(emit: &EmitSpec, kind: Option<&WindowKind>) -> bool {
    match emit.mode {
        EmitMode::OnClose => {
            emit.allowed_lateness == 0 || matches!(kind, Some(WindowKind::Count(_)))
        }
        EmitMode::Changes => false,
        EmitMode::EveryInterval { refinement, .. } | EmitMode::EveryRows { refinement, .. } => {
            refinement != Refinement::Retracting
        }
    }
}

pub(super) fn window_facts(
    pending: &Pending,
    input: &Input,
    emit: &EmitSpec,
    columns: usize,
) -> Facts {
    let below = &input.built.plan.facts;
    let append_only = is_append_only(emit, Some(&pending.kind)) && below.append_only;
    let lateness = emit.allowed_lateness;
    let mut event_times = Vec::new();
    // Changes and early results carry windows that are still open: nothing bounds their columns.
    let watermarked = pending.time.is_some_and(|time| below.delay_of(time).is_some());
    if watermarked {
        match &pending.kind {
            WindowKind::Time(window) => {
                event_times.extend(size_max(window).map(|size| EventTimeColumn {
                    column: 0,
                    delay: size.saturating_add(lateness),
                }));
                event_times.push(EventTimeColumn { column: 1, delay: lateness });
            }
            // What is corrected has not been forgotten: it ends above the watermark less the lateness.
            WindowKind::Session(_) => {
                event_times.push(EventTimeColumn { column: 1, delay: lateness });
            }
            WindowKind::Count(_) | WindowKind::Punctuation(_) => {}
        }
    }
    let mut windows = vec![None; input_width(input, columns)];
    if matches!(pending.kind, WindowKind::Time(_) | WindowKind::Session(_)) {
        windows[0] = WindowRole::start_of(&pending.kind);
        windows[1] = WindowRole::end_of(&pending.kind);
    }
    let unique_keys = match is_one_row_per_group(emit.mode) {
        true => unique_keys(pending, columns, &input.grouping.keys),
        false => vec![],
    };
    Facts { append_only, event_times, unique_keys, windows }
}

/// What identifies a window beside the keys: one of its bounds where the other follows from it, or its
/// number. `columns` of the window stand before the keys.
fn unique_keys(pending: &Pending, columns: usize, keys: &[usize]) -> Vec<Vec<usize>> {
    let partitioned = pending.partition.iter().all(|column| keys.contains(column));
    let bounds: Vec<Vec<usize>> = match &pending.kind {
        WindowKind::Time(TimeWindow { kind: TimeWindowKind::Cumulate { .. }, .. }) => vec![vec![1]],
        kind if is_horizons(kind) => vec![vec![0, 1]],
        WindowKind::Time(_) => vec![vec![0], vec![1]],
        WindowKind::Session(_) if partitioned => vec![vec![0], vec![1]],
        WindowKind::Session(_) => vec![vec![0, 1]],
        WindowKind::Count(_) | WindowKind::Punctuation(_) => vec![vec![0]],
    };
    let with_keys = |bounds: Vec<usize>| bounds.into_iter().chain(columns..columns + keys.len());
    bounds.into_iter().map(|bounds| with_keys(bounds).collect()).collect()
}

fn input_width(input: &Input, columns: usize) -> usize {
    columns + input.grouping.keys.len() + input.aggregates.len()
}

/// Whether windows of several sizes share their starts, and their ends.
fn is_horizons(kind: &WindowKind) -> bool {
    matches!(kind, WindowKind::Time(TimeWindow { kind: TimeWindowKind::Horizons { .. }, .. }))
}

pub(super) fn is_landmark(kind: &WindowKind) -> bool {
    matches!(kind, WindowKind::Time(TimeWindow { kind: TimeWindowKind::Landmark { .. }, .. }))
}

/// The unwindowed aggregate that holds more and more, however few its groups are, if there is one.
pub(super) fn keeps_arguments(aggregates: &[AggregateSpec], append_only: bool) -> Option<&str> {
    let keeps = |aggregate: &&AggregateSpec| match aggregate.native {
        Some(NativeFunction::Min | NativeFunction::Max) => !append_only,
        Some(_) => false,
        None => {
            let name = aggregate.function.fun().name();
            let grows = ["array_agg", "string_agg", "median", "percentile_cont"];
            !append_only || aggregate.function.is_distinct() || grows.contains(&name)
        }
    };
    aggregates.iter().find(keeps).map(|aggregate| aggregate.function.fun().name())
}

pub(super) fn lateness_text(emit: &EmitSpec) -> &'static str {
    if emit.allowed_lateness > 0 { " and the allowed lateness" } else { "" }
}

/// Whether time windows are merged of slices that they share.
pub(super) fn shares(input: &Input, emit: &EmitSpec) -> bool {
    let below = &input.built.plan;
    let append_only = below.facts.append_only;
    shares_slices(emit.mode, &input.aggregates, &below.schema, append_only).unwrap_or(false)
}

/// When the state of a window's groups goes. `shared`: time windows are merged of slices.
pub(super) fn window_state(
    pending: &Pending,
    emit: &EmitSpec,
    watermarked: bool,
    shared: bool,
) -> StateBound {
    let late = lateness_text(emit);
    match &pending.kind {
        WindowKind::Time(TimeWindow { kind: TimeWindowKind::Landmark { .. }, .. }) => {
            StateBound::Unbounded("a landmark window never closes".into())
        }
        WindowKind::Time(_) | WindowKind::Session(_) if !watermarked => {
            StateBound::Unbounded("no watermark closes the windows".into())
        }
        WindowKind::Time(TimeWindow { kind: TimeWindowKind::Horizons { sizes, .. }, .. }) => {
            let count = sizes.as_slice().len();
            StateBound::Bounded(match shared {
                true => format!(
                    "one row per slice and key, slices shared by {count} sizes; rows leave when the watermark passes the end of the last window over the slice, one of the greatest size{late}"
                ),
                false => format!(
                    "one row per window and key, windows of {count} sizes; rows leave when the watermark passes the end of the window{late}"
                ),
            })
        }
        WindowKind::Time(_) => StateBound::Bounded(format!(
            "one row per slice and key; rows leave when the watermark passes the end of the last window over the slice{late}"
        )),
        WindowKind::Session(_) => StateBound::Bounded(format!(
            "the rows of open sessions; they leave when the watermark passes the end of the session{late}"
        )),
        WindowKind::Count(window) => {
            let rows = window.size.max(window.slide);
            match pending.partition.is_empty() {
                true => StateBound::Bounded(format!("at most {rows} rows")),
                false => StateBound::Unbounded(format!(
                    "at most {rows} rows per partition; partitions are kept"
                )),
            }
        }
        WindowKind::Punctuation(window) => {
            let lasting = window.max_duration.filter(|_| watermarked);
            match (window.max_rows, lasting) {
                (None, None) => StateBound::Unbounded(
                    "a window is open until a row or punctuation closes it".into(),
                ),
                _ if !pending.partition.is_empty() => {
                    StateBound::Unbounded("partitions are kept".into())
                }
                (Some(rows), _) => {
                    StateBound::Bounded(format!("at most {rows} rows per open window"))
                }
                (None, Some(_)) => StateBound::Bounded(format!(
                    "the rows of the open window; they leave when the watermark passes its first row and max_duration{late}"
                )),
            }
        }
    }
}

/// The greatest width of a window, `None` for landmark windows.
pub(super) fn size_max(window: &TimeWindow) -> Option<i64> {
    let size = match window.kind {
        TimeWindowKind::Tumble { size }
        | TimeWindowKind::Hop { size, .. }
        | TimeWindowKind::Cumulate { size, .. } => size,
        TimeWindowKind::Horizons { sizes, .. } => {
            return sizes.as_slice().iter().copied().map(width_max).max();
        }
        TimeWindowKind::Landmark { .. } => return None,
    };
    Some(width_max(size))
}

fn width_max(size: Span) -> i64 {
    match size {
        Span::Fixed(width) => width,
        // A day has at most 25 hours, a month at most 31 days.
        Span::Days(days) => days.saturating_mul(DAY).saturating_add(DAY / 24 * 3),
        Span::Months(months) => months.saturating_mul(31 * DAY).saturating_add(DAY / 24 * 3),
    }
}
