//! Feeds rows to session windows and compares what comes out with a slow reference.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::data::punctuation::Pattern;
use crate::operators::emit::Refinement;
use crate::operators::window_trial::{
    AT, K, Outcome, Row, Trial, U, aggregates, any_rows, by_key, cut_at, input_schema, kept,
    on_close, output_schema, row, shown,
};

const BOUND: i64 = 5;

fn operator(window: SessionWindow, keys: &[usize], emit: EmitSpec) -> Trial<SessionAggregate> {
    let columns = [("window_start", DataType::Int64), ("window_end", DataType::Int64)];
    let spec = SessionAggregateSpec {
        window,
        time_column: AT,
        partition: vec![K],
        answer: WindowAnswer::groups(keys.to_vec(), aggregates()),
        emit,
        input_schema: input_schema(),
        schema: output_schema(&columns, keys),
        input_append_only: true,
    };
    Trial::new(SessionAggregate::new(spec).unwrap(), BOUND)
}

/// Gap 4, bound 5; rows come one batch each, then the watermark goes to the end.
fn check(emit: EmitSpec, rows: &[Row], expected: Expect) {
    let window = SessionWindow { gap: 4, max: None };
    let trial = operator(window, &[K], emit).feed(rows, |_| true);
    expected.assert_eq(&trial.watermark(EventTime::MAX).finish().lines.join("\n"));
}

#[test]
fn a_session_is_emitted_when_the_watermark_passes_its_end() {
    check(
        on_close(0),
        &[row(1, 10), row(2, 11), row(1, 13), row(1, 22), row(2, 40)],
        expect![[r#"
            + 11 15 2 1 [1] 1e16
            + 10 17 1 2 [0, 2] -1e16
            + 22 26 1 1 [3] 0.7
            + 40 44 2 1 [4] 0.1"#]],
    );
}

#[test]
fn a_late_row_that_is_kept_bridges_two_emitted_sessions() {
    check(
        on_close(10),
        &[row(1, 10), row(1, 16), row(1, 25), row(1, 13)],
        expect![[r#"
            + 10 14 1 1 [0] 0.1
            + 16 20 1 1 [1] 1e16
            - 10 14 1 1 [0] 0.1
            - 16 20 1 1 [1] 1e16
            + 10 20 1 3 [0, 1, 3] 1e16
            + 25 29 1 1 [2] -1e16"#]],
    );
}

#[test]
fn a_correction_leaves_the_other_keys_of_the_session_alone() {
    let window = SessionWindow { gap: 4, max: None };
    let mut rows = [row(1, 10), row(1, 12), row(1, 25), row(1, 11)];
    rows[1].u = 1;
    let outcome = operator(window, &[U], on_close(20)).feed(&rows, |_| true).finish();
    expect![[r#"
        + 10 16 u0 1 [0] 0.1
        + 10 16 u1 1 [1] 1e16
        - 10 16 u0 1 [0] 0.1
        + 10 16 u0 2 [0, 3] 0.7999999999999999"#]]
    .assert_eq(&outcome.lines.join("\n"));
}

#[test]
fn rows_below_the_watermark_less_the_allowed_lateness_are_dropped_and_reported() {
    let window = SessionWindow { gap: 4, max: None };
    let rows = [row(1, 30), row(1, 15), row(1, 14), row(1, 25), row(1, 24)];
    let late = |lateness| {
        operator(window.clone(), &[K], on_close(lateness)).feed(&rows, |_| false).finish().late
    };
    assert_eq!(late(0), [1, 2, 4]);
    assert_eq!(late(10), [2]);
}

#[test]
fn state_is_empty_after_the_last_watermark() {
    let window = SessionWindow { gap: 4, max: Some(6) };
    let rows: Vec<Row> = (0..200).map(|i| row(i % 7, i)).collect();
    let fed = |end| {
        let trial = operator(window.clone(), &[K], on_close(3)).feed(&rows, |_| true);
        trial.watermark(EventTime(end)).finish().state_bytes
    };
    assert!(fed(i64::MAX) * 4 < fed(0), "{} of {}", fed(i64::MAX), fed(0));
}

#[test]
fn a_punctuation_that_covers_a_partition_ends_its_sessions() {
    let window = SessionWindow { gap: 4, max: None };
    let punctuation =
        Punctuation { columns: vec![("k".to_owned(), Pattern::OneOf(vec![1i64.into()]))] };
    let trial = operator(window, &[K], on_close(0)).feed(&[row(1, 10), row(2, 11)], |_| false);
    let lines = trial.punctuate(&punctuation).finish().lines;
    assert_eq!(lines, ["+ 10 14 1 1 [0] 0.1"]);
}

#[test]
fn emit_changes_replaces_what_stood_before() {
    check(
        EmitSpec { mode: EmitMode::Changes, allowed_lateness: 0 },
        &[row(1, 10), row(1, 12), row(2, 12)],
        expect![[r#"
            + 10 14 1 1 [0] 0.1
            - 10 14 1 1 [0] 0.1
            + 10 16 1 2 [0, 1] 1e16
            + 12 16 2 1 [2] -1e16"#]],
    );
}

#[test]
fn early_results_may_hold_only_what_came_since() {
    let refinement = Refinement::Discarding;
    check(
        EmitSpec { mode: EmitMode::EveryRows { rows: 2, refinement }, allowed_lateness: 0 },
        &[row(1, 10), row(1, 12), row(1, 13)],
        expect![[r#"
            + 10 16 1 2 [0, 1] 1e16
            + 10 17 1 1 [2] -1e16"#]],
    );
}

/// The definition over all kept rows: the sessions that end at or below `watermark`, as lines.
fn oracle(rows: &[Row], window: &SessionWindow, lateness: i64, watermark: i64) -> Vec<String> {
    let mut lines = Vec::new();
    for ((start, end), numbers) in sessions(rows, window, lateness) {
        if end <= watermark {
            let groups = by_key(rows, &numbers);
            lines.extend(groups.into_iter().map(|group| format!("{start} {end} {group}")));
        }
    }
    lines.sort();
    lines
}

fn sessions(
    rows: &[Row],
    window: &SessionWindow,
    lateness: i64,
) -> BTreeMap<(i64, i64), Vec<usize>> {
    let kept = kept(rows, BOUND, lateness);
    let mut partitions: BTreeMap<Option<i64>, Vec<usize>> = BTreeMap::new();
    for n in (0..rows.len()).filter(|&n| kept[n]) {
        partitions.entry(rows[n].k).or_default().push(n);
    }
    let mut sessions: BTreeMap<(i64, i64), Vec<usize>> = BTreeMap::new();
    for mut numbers in partitions.into_values() {
        numbers.sort_by_key(|&n| (rows[n].at, n));
        let mut parts: Vec<Vec<usize>> = Vec::new();
        for n in numbers {
            let joins = |part: &Vec<usize>| {
                rows[n].at - rows[part[part.len() - 1]].at < window.gap
                    && window.max.is_none_or(|max| rows[n].at - rows[part[0]].at < max)
            };
            match parts.last_mut() {
                Some(part) if joins(part) => part.push(n),
                _ => parts.push(vec![n]),
            }
        }
        for part in parts {
            let bounds = (rows[part[0]].at, rows[part[part.len() - 1]].at + window.gap);
            sessions.entry(bounds).or_default().extend(part);
        }
    }
    sessions
}

fn run(
    rows: &[Row],
    window: &SessionWindow,
    keys: &[usize],
    emit: &EmitSpec,
    bits: u64,
) -> Trial<SessionAggregate> {
    operator(window.clone(), keys, emit.clone()).feed(rows, cut_at(bits))
}

fn any_window() -> impl Strategy<Value = SessionWindow> {
    (1i64..7, prop::option::of(1i64..15)).prop_map(|(gap, max)| SessionWindow { gap, max })
}

fn watermark(rows: &[Row]) -> i64 {
    rows.iter().map(|row| row.at - BOUND).max().unwrap_or(i64::MIN)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_stands_is_what_the_definition_says(
        rows in any_rows(), window in any_window(), lateness in 0i64..9, bits in any::<u64>(),
    ) {
        let emit = on_close(lateness);
        let open = run(&rows, &window, &[K, U], &emit, bits).finish();
        prop_assert_eq!(open.net(), oracle(&rows, &window, lateness, watermark(&rows)));
        let trial = run(&rows, &window, &[K, U], &emit, bits).watermark(EventTime::MAX);
        prop_assert_eq!(trial.finish().net(), oracle(&rows, &window, lateness, i64::MAX));
    }

    #[test]
    fn batch_cuts_show_nowhere(
        rows in any_rows(), window in any_window(), lateness in 0i64..9, bits in any::<u64>(),
    ) {
        let emit = on_close(lateness);
        let run = |bits| -> Outcome { run(&rows, &window, &[K, U], &emit, bits).finish() };
        let (one, other) = (run(u64::MAX), run(bits));
        prop_assert_eq!(&one.lines, &other.lines);
        prop_assert_eq!(one.late, other.late);
        prop_assert_eq!(&other.lines, &run(0).lines);
    }

    #[test]
    fn without_lateness_windows_come_out_by_end_start_and_key(
        rows in any_rows(), window in any_window(), bits in any::<u64>(),
    ) {
        let mut expected = Vec::new();
        let mut all: Vec<_> = sessions(&rows, &window, 0).into_iter().collect();
        all.sort_by_key(|&((start, end), _)| (end, start));
        for ((start, end), numbers) in all {
            for group in by_key(&rows, &numbers) {
                expected.push(format!("+ {start} {end} {group}"));
            }
        }
        let trial = run(&rows, &window, &[K, U], &on_close(0), bits).watermark(EventTime::MAX);
        prop_assert_eq!(trial.finish().lines, expected);
    }

    #[test]
    fn sessions_of_several_partitions_with_equal_bounds_make_one_group(
        rows in any_rows(), window in any_window(), lateness in 0i64..9, bits in any::<u64>(),
    ) {
        let mut expected = Vec::new();
        for ((start, end), mut numbers) in sessions(&rows, &window, lateness) {
            numbers.sort_unstable();
            expected.push(format!("{start} {end} {}", shown(&numbers)));
        }
        expected.sort();
        let trial = run(&rows, &window, &[], &on_close(lateness), bits);
        prop_assert_eq!(trial.watermark(EventTime::MAX).finish().net(), expected);
    }

    #[test]
    fn emit_changes_and_early_results_come_to_the_same_answer(
        rows in any_rows(), window in any_window(), lateness in 0i64..9, bits in any::<u64>(),
    ) {
        let refinement = Refinement::Retracting;
        let modes = [
            EmitMode::Changes,
            EmitMode::EveryRows { rows: 3, refinement },
            EmitMode::EveryInterval { interval: 5, refinement },
        ];
        for mode in modes {
            let emit = EmitSpec { mode, allowed_lateness: lateness };
            let open = run(&rows, &window, &[K, U], &emit, bits).finish();
            if mode == EmitMode::Changes {
                prop_assert_eq!(open.net(), oracle(&rows, &window, lateness, i64::MAX));
            }
            let trial = run(&rows, &window, &[K, U], &emit, bits).watermark(EventTime::MAX);
            prop_assert_eq!(trial.finish().net(), oracle(&rows, &window, lateness, i64::MAX));
        }
    }

    #[test]
    fn results_that_discard_give_each_row_once(
        rows in any_rows(), window in any_window(), lateness in 0i64..30, bits in any::<u64>(),
    ) {
        let refinement = Refinement::Discarding;
        let modes = [
            EmitMode::EveryRows { rows: 3, refinement },
            EmitMode::EveryInterval { interval: 5, refinement },
        ];
        let kept = kept(&rows, BOUND, lateness);
        let expected: Vec<usize> = (0..rows.len()).filter(|&n| kept[n]).collect();
        for (mode, keys) in modes.into_iter().flat_map(|mode| [(mode, &[K, U][..]), (mode, &[])]) {
            let emit = EmitSpec { mode, allowed_lateness: lateness };
            let trial = run(&rows, &window, keys, &emit, bits).watermark(EventTime::MAX);
            let lines = trial.finish().lines;
            prop_assert!(lines.iter().all(|line| line.starts_with('+')), "{lines:?}");
            let numbers = |line: &String| -> Vec<usize> {
                let (_, list) = line.split_once('[').expect("a line has a list");
                let (list, _) = list.split_once(']').expect("the list ends");
                list.split(", ").map(|n| n.parse().expect("a row's number")).collect()
            };
            let mut given: Vec<usize> = lines.iter().flat_map(numbers).collect();
            given.sort_unstable();
            prop_assert_eq!(&given, &expected, "{:?}", lines);
        }
    }
}
