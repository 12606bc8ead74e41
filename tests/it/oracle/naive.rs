//! Answers a case row by row from plain lists, by the letter of the lateness rule.
//!
//! Nothing here comes from the program under test: a row's watermark is the highest event time of its
//! stream's rows before it, less the bound; a (row, window) pair counts unless that watermark has
//! passed the window's end by the allowed lateness; a window has closed when the least of the
//! streams' last watermarks has reached its end.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::case::{
    Aggregate, Case, Dropped, Emit, Function, Kind, Row, Value, Window, numeric, timestamp,
};

/// An answer's row, by column name.
pub(super) type Answer = Map<String, Json>;

/// Per row, its stream's watermark when it arrived; at the end, each stream's last one.
fn watermarks(case: &Case) -> (Vec<Option<i64>>, [Option<i64>; 2]) {
    let mut now = [None, None];
    let mut arrival = Vec::new();
    for row in &case.rows {
        arrival.push(now[row.stream]);
        now[row.stream] = now[row.stream].max(Some(row.at - case.bound));
    }
    (arrival, now)
}

/// The windows over an event time, in its own units.
fn windows(case: &Case, at: i64) -> Vec<(i64, i64)> {
    // Windows align to 1970, units begin at the base.
    let base = if case.time.logical { 0 } else { case.time.base };
    let t = at + base;
    let mut found = Vec::new();
    let mut hop = |slide: i64, size: i64, offset: i64| {
        for k in (t - offset - size).div_euclid(slide)..=(t - offset).div_euclid(slide) {
            let start = k * slide + offset;
            if start <= t && t < start + size {
                found.push((start, start + size));
            }
        }
    };
    match case.query.window {
        Window::Tumble { size, offset } => {
            let start = (t - offset).div_euclid(size) * size + offset;
            found.push((start, start + size));
        }
        Window::Hop { slide, size, offset } => hop(slide, size, offset),
        Window::Horizons { slide, ref sizes, offset } => {
            sizes.iter().for_each(|&size| hop(slide, size, offset));
        }
        Window::Cumulate { step, size } => {
            let start = t.div_euclid(size) * size;
            let mut end = start + step;
            while end <= start + size {
                if t < end {
                    found.push((start, end));
                }
                end += step;
            }
        }
        _ => {}
    }
    found.into_iter().map(|(start, end)| (start - base, end - base)).collect()
}

/// For windows where a row counts as a whole or not at all: the offsets of those that do not.
pub(super) fn dropped_rows(case: &Case) -> Dropped {
    let (arrival, _) = watermarks(case);
    let mut offsets = [0, 0];
    let mut dropped: Dropped = [vec![], vec![]];
    for (row, watermark) in case.rows.iter().zip(arrival) {
        let limit = |end: i64| watermark.is_some_and(|w| w >= end + case.query.lateness);
        let is_dropped = match case.query.window {
            _ if case.query.window.drops_rows() => {
                watermark.is_some_and(|w| row.at < w - case.query.lateness)
            }
            _ => windows(case, row.at).iter().any(|(_, end)| limit(*end)),
        };
        if is_dropped {
            dropped[row.stream].push(offsets[row.stream]);
        }
        offsets[row.stream] += 1;
    }
    dropped
}

/// The answer; `None` where this oracle does not know. `closed`: a punctuation has closed everything.
pub(super) fn answer(case: &Case, closed: bool) -> Option<Vec<Answer>> {
    let query = &case.query;
    let early = matches!(query.emit, Emit::EveryRows(..));
    let known = match query.window {
        Window::None => !early,
        _ if query.window.is_time() => closed || !early,
        _ => false,
    };
    if !known
        || query.rows
        || matches!(query.emit, Emit::EveryRows(_, "ACCUMULATING" | "DISCARDING"))
    {
        return None;
    }
    let (arrival, last) = watermarks(case);
    let frontier = last[..case.streams()].iter().copied().min().flatten();
    type Key = (i64, i64, Vec<String>);
    let mut groups: BTreeMap<Key, Vec<&Row>> = BTreeMap::new();
    let copies = |row| std::iter::repeat_n(row, if query.twice { 2 } else { 1 });
    if query.keys.is_empty() && query.window == Window::None {
        groups.insert((0, 0, vec![]), vec![]);
    }
    for (row, watermark) in case.rows.iter().zip(arrival) {
        let passes = |p: &Option<super::case::Predicate>| p.as_ref().is_none_or(|p| p.holds(row));
        if !passes(&query.prefilter) || !passes(&query.predicate) {
            continue;
        }
        let keys: Vec<String> =
            query.keys.iter().map(|key| row.values[*key].json().to_string()).collect();
        if query.window == Window::None {
            groups.entry((0, 0, keys)).or_default().extend(copies(row));
            continue;
        }
        for (start, end) in windows(case, row.at) {
            if query.near_start.is_some_and(|width| row.at > start + width) {
                continue;
            }
            if watermark.is_none_or(|w| w < end + query.lateness) {
                groups.entry((start, end, keys.clone())).or_default().extend(copies(row));
            }
        }
    }
    let on_close = query.window != Window::None && query.emit == Emit::Default;
    let mut answers = Vec::new();
    for ((start, end, keys), rows) in groups {
        let is_open = on_close && !closed && frontier.is_none_or(|w| w < end);
        let too_small = query.having.is_some_and(|n| rows.len() as i64 <= n);
        if is_open || too_small {
            continue;
        }
        let mut answer = Answer::new();
        if query.window != Window::None {
            answer.insert("window_start".into(), case.time.json(start));
            answer.insert("window_end".into(), case.time.json(end));
        }
        for (name, key) in case.key_names().into_iter().zip(keys) {
            answer.insert(name, serde_json::from_str(&key).unwrap());
        }
        for (index, aggregate) in query.aggregates.iter().enumerate() {
            if let Some(value) = fold(case, aggregate, &rows) {
                answer.insert(format!("a{index}"), value);
            }
        }
        answers.push(answer);
    }
    Some(answers)
}

/// One aggregate over the rows of a group, in log order.
fn fold(case: &Case, aggregate: &Aggregate, rows: &[&Row]) -> Option<Json> {
    let kind = case.columns[aggregate.column].kind;
    let rows: Vec<&&Row> = rows
        .iter()
        .filter(|row| aggregate.filter.as_ref().is_none_or(|filter| filter.holds(row)))
        .collect();
    let all = || rows.iter().map(|row| &row.values[aggregate.column]);
    let values: Vec<&Value> = all().filter(|value| **value != Value::Null).collect();
    let order = |a: &&&Value, b: &&&Value| a.partial_cmp(b).unwrap();
    let or_null = |value: Option<&&Value>| value.map_or(Json::Null, |value| value.json());
    Some(match aggregate.function {
        Function::CountRows => rows.len().into(),
        Function::Count => values.len().into(),
        Function::CountDistinct => {
            let mut texts: Vec<String> = values.iter().map(|v| v.json().to_string()).collect();
            texts.sort();
            texts.dedup();
            texts.len().into()
        }
        Function::Min => or_null(values.iter().min_by(order)),
        Function::Max => or_null(values.iter().max_by(order)),
        Function::Sum if values.is_empty() => Json::Null,
        Function::Sum if kind.is_integer() || kind == Kind::Numeric => {
            let sum: i64 = values
                .iter()
                .map(|value| match value {
                    Value::Int(n) | Value::Numeric(n) => *n,
                    _ => 0,
                })
                .sum();
            if kind == Kind::Numeric { numeric(i128::from(sum)).into() } else { sum.into() }
        }
        Function::ArrayAgg if rows.is_empty() => Json::Null,
        Function::ArrayAgg => Json::Array(all().map(Value::json).collect()),
        _ => return None,
    })
}

/// Shown with a failure, so that a reader can follow.
pub(super) fn explain(case: &Case) -> String {
    let (arrival, last) = watermarks(case);
    let base = if case.time.logical { 0 } else { case.time.base };
    let line = |(row, w): (&Row, Option<i64>)| {
        let time = timestamp(base + row.at);
        format!(
            "  {} at {} ({time}) behind watermark {w:?}\n",
            super::case::name(row.stream),
            row.at
        )
    };
    let lines: String = case.rows.iter().zip(arrival).map(line).collect();
    format!("{lines}  last watermarks {last:?}\n")
}
