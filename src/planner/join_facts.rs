//! Works out what is known of the output of a join, and how much state it holds.

use std::collections::BTreeSet;

use crate::operators::join::spec::{JoinKind, JoinSpec};
use crate::planner::explain::width_text;
use crate::planner::join_time::Bounds;
use crate::planner::physical::{EventTimeColumn, Facts, PhysicalPlan, StateBound};

/// Unique keys that the output of a join is given at most: chains of joins would multiply them.
const KEYS_MAX: usize = 8;

/// A join with a side as it is now leaves the other side's rows as they are.
pub(super) fn facts_as_of_now(
    left: &PhysicalPlan,
    right: &PhysicalPlan,
    keys: &[(usize, usize)],
) -> Facts {
    let (width, more) = (left.schema.fields().len(), right.schema.fields().len());
    let mut windows = left.facts.windows.clone();
    windows.resize(width + more, None);
    Facts {
        append_only: true,
        event_times: left.facts.event_times.clone(),
        unique_keys: unique_keys(&left.facts, &right.facts, JoinKind::Left, keys, width),
        windows,
    }
}

/// What is known of the output, but whether it is append-only.
pub(super) fn facts(
    left: &PhysicalPlan,
    right: &PhysicalPlan,
    kind: JoinKind,
    keys: &[(usize, usize)],
    bounds: &Bounds,
) -> Facts {
    let width = left.schema.fields().len();
    let shows = |port: usize| match kind {
        JoinKind::Inner => true,
        JoinKind::Left | JoinKind::Semi | JoinKind::Anti | JoinKind::Mark => port == 0,
        JoinKind::Full => false,
    };
    let mut event_times: Vec<EventTimeColumn> = Vec::new();
    for (port, column, delay) in &bounds.delays {
        let column = if *port == 0 { *column } else { width + column };
        if shows(*port) && !event_times.iter().any(|time| time.column == column) {
            event_times.push(EventTimeColumn { column, delay: *delay });
        }
    }
    event_times.sort_by_key(|time| time.column);
    let total = if kind.shows_pairs() { width + right.schema.fields().len() } else { width };
    let roles = left.facts.windows.iter().chain(&right.facts.windows).take(total);
    let mark = (kind == JoinKind::Mark).then_some(None);
    let windows = roles
        .enumerate()
        .map(|(column, role)| {
            let place = if column < width { (0, column) } else { (1, column - width) };
            let bounded = event_times.iter().any(|time| time.column == column);
            role.filter(|_| bounded && bounds.windows.contains(&place))
        })
        .chain(mark)
        .collect();
    Facts {
        append_only: false,
        event_times,
        unique_keys: unique_keys(&left.facts, &right.facts, kind, keys, width),
        windows,
    }
}

fn unique_keys(
    left: &Facts,
    right: &Facts,
    kind: JoinKind,
    keys: &[(usize, usize)],
    width: usize,
) -> Vec<Vec<usize>> {
    let covered = |facts: &Facts, columns: BTreeSet<usize>| {
        facts.unique_keys.iter().any(|key| key.iter().all(|column| columns.contains(column)))
    };
    let at_most_one_right = covered(right, keys.iter().map(|(_, right)| *right).collect());
    let at_most_one_left = covered(left, keys.iter().map(|(left, _)| *left).collect());
    let shifted = |key: &Vec<usize>| -> Vec<usize> { key.iter().map(|c| c + width).collect() };
    let mut unique = Vec::new();
    if !kind.shows_pairs() || (at_most_one_right && kind != JoinKind::Full) {
        unique.extend(left.unique_keys.iter().cloned());
    }
    if kind == JoinKind::Inner {
        if at_most_one_left {
            unique.extend(right.unique_keys.iter().map(shifted));
        }
        for key in &left.unique_keys {
            let pairs =
                right.unique_keys.iter().map(|other| [key.clone(), shifted(other)].concat());
            unique.extend(pairs);
        }
    }
    unique.truncate(KEYS_MAX);
    unique
}

pub(super) fn state(spec: &JoinSpec, left: &PhysicalPlan, right: &PhysicalPlan) -> StateBound {
    if spec.as_of_now && !right.facts.append_only {
        return StateBound::Bounded("the rows of the right side as it is now".into());
    }
    let Some(within) = &spec.within else {
        return StateBound::Unbounded(
            "the rows of both sides are kept for those that may still match them".into(),
        );
    };
    let name =
        |plan: &PhysicalPlan, port: usize| plan.schema.field(within.times[port]).name().clone();
    let names = [name(left, 0), name(right, 1)];
    if let Some(port) = (0..2).find(|&port| !within.leaves(port)) {
        return StateBound::Unbounded(format!(
            "nothing in the condition bounds how much later than \"{}\" a match may be",
            names[port]
        ));
    }
    let late = if within.allowed_lateness > 0 { " and the allowed lateness" } else { "" };
    let timed = left.schema.field(within.times[0]).data_type().is_temporal();
    let after = |port: usize| {
        let distance = within.distance(port).saturating_add(within.delays[1 - port]);
        match distance {
            0 => names[port].clone(),
            distance => {
                let (sign, width) =
                    if distance < 0 { ("-", distance.saturating_neg()) } else { ("+", distance) };
                format!("{} {sign} {}", names[port], width_text(width, timed))
            }
        }
    };
    StateBound::Bounded(format!(
        "rows leave when the watermark passes {} (left) and {} (right){late}",
        after(0),
        after(1)
    ))
}
