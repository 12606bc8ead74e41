//! Feeds rows to punctuation windows and compares what comes out with a slow reference.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, lit};
use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::data::punctuation::Pattern;
use crate::operators::emit::Refinement;
use crate::operators::window_trial::{
    AT, K, Row, Trial, U, aggregates, any_rows, by_key, column, cut_at, input_schema, on_close,
    output_schema, row,
};
use crate::windows::spec::Include;

fn window(include: Include) -> Window {
    Window { include, max_rows: None, max_duration: None, min_rows: None, idle: None }
}

fn spec(window: Window, starts: bool, emit: EmitSpec) -> PunctuationWindowSpec {
    let columns = [
        ("window_id", DataType::Int64),
        ("window_start", DataType::Int64),
        ("window_end", DataType::Int64),
        ("window_reason", DataType::Utf8View),
    ];
    PunctuationWindowSpec {
        window,
        start: starts.then(|| column("s")),
        end: Some(column("e")),
        time_column: Some(AT),
        partition: vec![K],
        partition_names: Vec::new(),
        answer: WindowAnswer::groups(vec![K, U], aggregates()),
        emit,
        input_schema: input_schema(),
        schema: output_schema(&columns, &[K, U]),
    }
}

fn operator(window: Window, starts: bool, emit: EmitSpec) -> Trial<PunctuationWindow> {
    Trial::new(PunctuationWindow::new(spec(window, starts, emit)).unwrap(), 5)
}

fn ends(row: Row) -> Row {
    Row { e: true, ..row }
}

#[test]
fn end_rows_and_punctuations_close_windows() {
    let rows = [row(1, 10), row(2, 11), ends(row(1, 12)), row(1, 13), row(3, 14)];
    let covering = |keys: Vec<i64>| Punctuation {
        columns: vec![("k".to_owned(), Pattern::OneOf(keys.into_iter().map(Into::into).collect()))],
    };
    let by_time = Punctuation {
        columns: vec![(
            "at".to_owned(),
            Pattern::Range { low: None, high: Some((100i64.into(), false)) },
        )],
    };
    let trial = operator(window(Include::Both), false, on_close(0)).feed(&rows, |_| false);
    let trial = trial.punctuate(&by_time).punctuate(&covering(vec![2, 1]));
    expect![[r#"
        + 0 10 12 end 1 u0 2 [0, 2] -1e16
        + 1 13 13 punctuation 1 u0 1 [3] 0.7
        + 0 11 11 punctuation 2 u0 1 [1] 1e16"#]]
    .assert_eq(&trial.finish().lines.join("\n"));
}

#[test]
fn silence_closes_at_the_computed_time() {
    let idle = Window { idle: Some(10), ..window(Include::Both) };
    let at = |k, at, now| Row { now, ..row(k, at) };
    let rows = [at(1, 1, 0), at(2, 2, 3), at(1, 3, 8), at(2, 4, 13), at(2, 5, 24)];
    let trial = operator(idle, false, on_close(0)).feed(&rows, |_| false);
    let trial = trial.tick(34);
    assert_eq!(trial.next_tick(), Some(35));
    expect![[r#"
        + 0 1 3 idle 1 u0 2 [0, 2] -1e16
        + 0 2 4 idle 2 u0 2 [1, 3] 1e16
        + 1 5 5 idle 2 u0 1 [4] 0.1"#]]
    .assert_eq(&trial.tick(35).finish().lines.join("\n"));
}

#[test]
fn a_window_of_a_silent_partition_closes_when_the_watermark_says_that_it_is_over() {
    let short = Window { max_duration: Some(10), ..window(Include::Both) };
    // The watermark is 5 behind the highest time, and up to 2 more are allowed.
    let rows = [row(1, 10), row(2, 12), row(1, 13), row(3, 26), row(2, 21), row(3, 27), row(1, 10)];
    let trial = operator(short, false, on_close(2)).feed(&rows, |_| false);
    expect![[r#"
        + 0 10 13 max_duration 1 u0 2 [0, 2] -1e16
        + 1 10 10 max_duration 1 u0 1 [6] -1e16"#]]
    .assert_eq(&trial.finish().lines.join("\n"));
}

#[test]
fn a_row_on_which_end_fails_is_refused_alone() {
    let divided = Arc::new(BinaryExpr::new(lit(1i64), BinaryOperator::Divide, column("at")));
    let end = Arc::new(BinaryExpr::new(divided, BinaryOperator::Eq, lit(1i64)));
    let spec =
        PunctuationWindowSpec { end: Some(end), ..spec(window(Include::Both), false, on_close(0)) };
    let trial = Trial::new(PunctuationWindow::new(spec).unwrap(), 5);
    let outcome = trial.feed(&[row(1, 2), row(1, 0), row(1, 1)], |_| false).finish();
    assert_eq!(outcome.refused, [(1, "22012")]);
    assert_eq!(outcome.lines, ["+ 0 2 1 end 1 u0 2 [0, 2] -1e16"]);
}

#[test]
fn emit_changes_shows_the_open_window_without_a_reason() {
    let emit = EmitSpec { mode: EmitMode::Changes, allowed_lateness: 0 };
    let rows = [row(1, 10), ends(row(1, 11))];
    let trial = operator(window(Include::Both), false, emit).feed(&rows, |_| true);
    expect![[r#"
        + 0 10 10 null 1 u0 1 [0] 0.1
        - 0 10 10 null 1 u0 1 [0] 0.1
        + 0 10 11 end 1 u0 2 [0, 1] 1e16"#]]
    .assert_eq(&trial.finish().lines.join("\n"));
}

/// The highest event time up to each row, less the bound of [`operator`]'s trial.
fn watermarks(rows: &[Row]) -> Vec<i64> {
    let highest = |highest: &mut i64, row: &Row| {
        *highest = (*highest).max(row.at);
        Some(*highest - 5)
    };
    rows.iter().scan(i64::MIN, highest).collect()
}

/// The windows of one partition by scanning ahead from each row that opens one.
fn scan(rows: &[Row], numbers: &[usize], window: &Window, starts: bool) -> Vec<String> {
    let has_start = matches!(window.include, Include::Both | Include::Start);
    let has_end = matches!(window.include, Include::Both | Include::End);
    let watermarks = watermarks(rows);
    let (mut lines, mut id, mut place) = (Vec::new(), 0, 0);
    while place < numbers.len() {
        let first = &rows[numbers[place]];
        let begins = starts && first.s;
        if (starts && !begins) || (!starts && first.e && !has_end) {
            place += 1;
            continue;
        }
        let mut held: Vec<usize> = Vec::new();
        let mut reason = None;
        let (mut next, mut last_now) = (place, first.now);
        for (number, row) in rows.iter().enumerate().skip(numbers[place]) {
            let is_over = |held: &[usize], time: i64| {
                let ends = held.first().zip(window.max_duration).map(|(&n, max)| rows[n].at + max);
                ends.is_some_and(|end| end <= time)
            };
            let opening = next == place;
            let own = numbers.get(next) == Some(&number);
            if window.idle.is_some_and(|idle| row.now - last_now > idle) {
                reason = Some("idle");
            } else if own && is_over(&held, row.at) {
                reason = Some("max_duration");
            } else if own && !opening && starts && row.s {
                reason = Some("start");
            } else if own {
                let belongs = match (opening && begins, row.e) {
                    (true, true) => has_start || has_end,
                    (true, false) => has_start,
                    (false, true) => has_end,
                    (false, false) => true,
                };
                held.extend(belongs.then_some(number));
                next += 1;
                last_now = row.now;
                if row.e {
                    reason = Some("end");
                } else if window.max_rows == Some(held.len() as u64) {
                    reason = Some("max_rows");
                }
            }
            let passed = is_over(&held, watermarks[number]).then_some("max_duration");
            reason = reason.or(passed);
            if reason.is_some() {
                break;
            }
        }
        if let Some(reason) = reason
            && held.len() as u64 >= window.min_rows.unwrap_or(0).max(1)
        {
            let (start, end) = (rows[held[0]].at, rows[held[held.len() - 1]].at);
            for group in by_key(rows, &held) {
                lines.push(format!("+ {id} {start} {end} {reason} {group}"));
            }
        }
        id += 1;
        place = next;
    }
    lines
}

fn any_window() -> impl Strategy<Value = Window> {
    let include = prop_oneof![
        Just(Include::Both),
        Just(Include::Start),
        Just(Include::End),
        Just(Include::None)
    ];
    let cap = || prop::option::weighted(0.3, 1u64..5);
    let span = || prop::option::weighted(0.3, 1i64..12);
    (include, cap(), span(), cap(), span()).prop_map(
        |(include, max_rows, max_duration, min_rows, idle)| Window {
            include,
            max_rows,
            max_duration,
            min_rows,
            idle,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn windows_are_those_that_a_scan_finds(
        rows in any_rows(), window in any_window(), starts in any::<bool>(), bits in any::<u64>(),
    ) {
        let mut partitions: BTreeMap<Option<i64>, Vec<usize>> = BTreeMap::new();
        for (n, row) in rows.iter().enumerate() {
            partitions.entry(row.k).or_default().push(n);
        }
        let run = |bits| {
            operator(window.clone(), starts, on_close(0)).feed(&rows, cut_at(bits)).finish().lines
        };
        let lines = run(bits);
        prop_assert_eq!(&lines, &run(0));
        for (k, numbers) in partitions {
            let k = k.map_or("null".to_owned(), |k| k.to_string());
            let of_partition: Vec<String> = lines
                .iter()
                .filter(|line| line.split(' ').nth(5) == Some(k.as_str()))
                .cloned()
                .collect();
            prop_assert_eq!(of_partition, scan(&rows, &numbers, &window, starts));
        }
    }

    #[test]
    fn early_results_come_to_the_same_answer(
        rows in any_rows(), window in any_window(), starts in any::<bool>(), bits in any::<u64>(),
    ) {
        let run = |mode| {
            let emit = EmitSpec { mode, allowed_lateness: 0 };
            let trial = operator(window.clone(), starts, emit).feed(&rows, cut_at(bits));
            trial.punctuate(&Punctuation::default()).finish().net()
        };
        let refinement = Refinement::Retracting;
        let expected = run(EmitMode::OnClose);
        prop_assert_eq!(&run(EmitMode::Changes), &expected);
        prop_assert_eq!(&run(EmitMode::EveryRows { rows: 2, refinement }), &expected);
        prop_assert_eq!(&run(EmitMode::EveryInterval { interval: 3, refinement }), &expected);
    }
}
