//! Compares random queries over random streams with a naive oracle, with a SELECT over the same rows,
//! with themselves under other batch cuts, and with themselves after restarts.
//!
//! `WEIR_ORACLE_CASES` says how many cases to run, `WEIR_ORACLE_SEED` with which seed to begin. A
//! failure prints its seed and the smallest case that still fails.

mod case;
mod changelog;
mod correlated;
mod drive;
mod engine_run;
mod generate;
mod joins;
mod naive;
mod nested;
mod over;
mod question;
mod replay;
pub(crate) mod rng;
mod sql;
mod worlds;

pub(crate) use rng::Rng;

use case::{Case, Emit, Function, Window};
use changelog::Changelog;
use drive::{Outcome, Run, compare};
use engine_run::with_engine;
use naive::Answer;

/// Cases of a plain `cargo test`.
const CASES: u64 = 150;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn run(case: &Case, seed: u64, reference: bool) -> Result<Outcome, String> {
    let dropped = naive::dropped_rows(case);
    with_engine(seed, async |engine| {
        let mut run = Run { case, engine, rng: Rng::new(seed) };
        run.outcome(reference.then_some(&dropped)).await
    })
}

/// Whether a SELECT over the rows that count must give the first query's closed answer.
fn has_reference(case: &Case) -> bool {
    let query = &case.query;
    let late = !naive::dropped_rows(case).iter().all(Vec::is_empty);
    match query.window {
        Window::Hop { .. } | Window::Horizons { .. } | Window::Cumulate { .. } if late => false,
        // A SELECT does not read a union in the order of arrival.
        Window::Count { .. } | Window::Punctuation { .. } if query.union || query.twice => false,
        // Early results of windows that never fill stay, and one that nothing closes is closed in a SELECT.
        Window::Count { .. } if matches!(query.emit, Emit::EveryRows(..)) => false,
        Window::Punctuation { .. } if query.emit != Emit::Changes => false,
        Window::None if matches!(query.emit, Emit::EveryRows(..)) => false,
        _ => !matches!(query.emit, Emit::EveryRows(_, "ACCUMULATING" | "DISCARDING")),
    }
}

/// The answer with arrays in an order of their own: a SELECT has no log order.
fn sorted(case: &Case, rows: &[Answer]) -> Vec<Answer> {
    let mut rows = rows.to_vec();
    for (index, aggregate) in case.query.aggregates.iter().enumerate() {
        if aggregate.function != Function::ArrayAgg {
            continue;
        }
        for row in &mut rows {
            if let Some(serde_json::Value::Array(items)) = row.get_mut(&format!("a{index}")) {
                items.sort_by_key(ToString::to_string);
            }
        }
    }
    rows
}

fn compare_changelogs(query: usize, ours: &Changelog, other: &Changelog) -> Result<(), String> {
    if ours.append_only {
        if ours != other {
            return Err(format!("changelog q{query} differs:\n{ours:#?}\n{other:#?}"));
        }
    } else if ours.net() != other.net() {
        return Err(format!("net of q{query} differs:\n{:#?}\n{:#?}", ours.net(), other.net()));
    }
    Ok(())
}

fn check(case: &Case) -> Result<(), String> {
    let reference = has_reference(case);
    let first = run(case, case.seed ^ 1, reference)?;
    for (what, closed, found) in
        [("before the close", false, &first.open[0]), ("after the close", true, &first.closed[0])]
    {
        if let Some(expected) = naive::answer(case, closed) {
            compare(&format!("naive oracle {what}"), found, &expected)?;
        }
    }
    let query = &case.query;
    if query.window.is_time() && query.predicate.is_none() && query.prefilter.is_none() {
        let expected = naive::dropped_rows(case);
        if first.late != expected {
            return Err(format!("late rows: {:?} instead of {expected:?}", first.late));
        }
    }
    for (query, expected) in first.reference.iter().enumerate() {
        let (found, expected) = match query {
            0 => (sorted(case, &first.closed[0]), sorted(case, expected)),
            _ => (first.closed[query].clone(), expected.clone()),
        };
        compare(&format!("SELECT as q{query}"), &found, &expected)?;
    }
    let second = run(case, case.seed ^ 2, false)?;
    for (query, (ours, other)) in first.changelogs.iter().zip(&second.changelogs).enumerate() {
        compare_changelogs(query, ours, other)?;
        compare(&format!("q{query} cut otherwise"), &first.closed[query], &second.closed[query])?;
        let rows = ours.net().values().sum::<i64>();
        if rows != first.closed[query].len() as i64 {
            return Err(format!(
                "q{query} shows {} rows, its changelog {rows}",
                first.closed[query].len()
            ));
        }
    }
    if first.late != second.late {
        return Err(format!("late rows differ: {:?} and {:?}", first.late, second.late));
    }
    Ok(())
}

/// Leaves out what does not matter for the failure, as long as it fails the same way.
fn shrink(mut case: Case, mut failure: String) -> (Case, String) {
    let kind =
        |text: &str| text.lines().next().unwrap_or_default().chars().take(16).collect::<String>();
    let mut attempts = 0;
    let mut attempt = |smaller: Case, case: &mut Case, failure: &mut String| {
        attempts += 1;
        if attempts > 120 {
            return false;
        }
        match check(&smaller) {
            Err(text) if kind(&text) == kind(failure) => {
                (*case, *failure) = (smaller, text);
                true
            }
            _ => false,
        }
    };
    let simpler: [fn(&mut Case); 9] = [
        |case| case.query.twice = false,
        |case| case.query.near_start = None,
        |case| case.query.outer = None,
        |case| case.query.having = None,
        |case| case.query.predicate = None,
        |case| case.query.prefilter = None,
        |case| case.query.lateness = 0,
        |case| case.bound = 0,
        |case| case.query.emit = Emit::Default,
    ];
    for simplify in simpler {
        let mut smaller = case.clone();
        simplify(&mut smaller);
        attempt(smaller, &mut case, &mut failure);
    }
    for index in (1..case.query.aggregates.len()).rev() {
        let mut smaller = case.clone();
        smaller.query.aggregates.remove(index);
        attempt(smaller, &mut case, &mut failure);
    }
    let mut piece = case.rows.len().div_ceil(2);
    while piece > 0 {
        let mut start = 0;
        while start < case.rows.len() {
            let mut smaller = case.clone();
            smaller.rows.drain(start..(start + piece).min(case.rows.len()));
            if !attempt(smaller, &mut case, &mut failure) {
                start += piece;
            }
        }
        piece /= 2;
    }
    (case, failure)
}

#[test]
fn every_query_answers_as_the_oracle_a_select_and_itself_cut_otherwise() {
    let first = setting("WEIR_ORACLE_SEED", 1);
    let cases = setting("WEIR_ORACLE_CASES", CASES);
    let keep_going = setting("WEIR_ORACLE_ALL", 0) > 0;
    let mut failed = Vec::new();
    for seed in first..first + cases {
        let case = generate::case(seed);
        let Err(failure) = check(&case) else { continue };
        if keep_going {
            let line: String = failure.lines().take(3).collect::<Vec<_>>().join(" | ");
            let line: String = line.chars().take(300).collect();
            failed.push(format!("seed {seed}: {line}\n    {}", case.create_query()));
            continue;
        }
        let (case, failure) = shrink(case, failure);
        panic!(
            "seed {seed} (WEIR_ORACLE_SEED={seed} WEIR_ORACLE_CASES=1):\n{failure}\n{}\n{}",
            case.script(),
            naive::explain(&case)
        );
    }
    assert!(failed.is_empty(), "{} of {cases} failed\n{}", failed.len(), failed.join("\n"));
}
