//! Feeds rows to count windows and compares what comes out with a slow reference.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::data::punctuation::Pattern;
use crate::operators::emit::Refinement;
use crate::operators::window_trial::{
    AT, K, Row, Trial, U, aggregates, any_rows, by_key, cut_at, input_schema, kept, on_close,
    output_schema, row,
};

const BOUND: i64 = 5;

fn window(size: u64, slide: u64) -> Window {
    Window { size, slide, partial: false, ties_together: false, ordered: false, timeout: None }
}

fn operator(window: Window, keys: &[usize], emit: EmitSpec) -> Trial<CountWindow> {
    let columns = [
        ("window_id", DataType::Int64),
        ("window_start", DataType::Int64),
        ("window_end", DataType::Int64),
    ];
    let spec = CountWindowSpec {
        window,
        time_column: Some(AT),
        partition: vec![K],
        answer: WindowAnswer::groups(keys.to_vec(), aggregates()),
        emit,
        input_schema: input_schema(),
        schema: output_schema(&columns, keys),
    };
    Trial::new(CountWindow::new(spec).unwrap(), BOUND)
}

fn check(trial: Trial<CountWindow>, expected: Expect) {
    expected.assert_eq(&trial.finish().lines.join("\n"));
}

fn at(k: i64, at: i64, now: i64) -> Row {
    Row { now, ..row(k, at) }
}

#[test]
fn windows_fill_per_partition_in_log_order() {
    let rows = [row(1, 10), row(2, 11), row(1, 3), row(2, 12), row(1, 13)];
    check(
        operator(window(2, 2), &[K], on_close(0)).feed(&rows, |_| false),
        expect![[r#"
            + 0 10 3 1 2 [0, 2] -1e16
            + 0 11 12 2 2 [1, 3] 1e16"#]],
    );
}

#[test]
fn with_order_late_rows_within_the_allowed_lateness_take_their_place() {
    let ordered = Window { ordered: true, ..window(2, 2) };
    let rows = [row(1, 10), row(1, 20), row(1, 12), row(1, 9), row(1, 30), row(1, 40)];
    check(
        operator(ordered, &[K], on_close(3)).feed(&rows, |_| true),
        expect![[r#"
            + 0 10 12 1 2 [0, 2] -1e16
            + 1 20 30 1 2 [1, 4] 1e16"#]],
    );
    let ordered = Window { ordered: true, ..window(2, 2) };
    let outcome = operator(ordered, &[K], on_close(3)).feed(&rows, |_| true).finish();
    assert_eq!(outcome.late, [3]);
}

#[test]
fn ties_together_wait_until_the_watermark_passes_the_value() {
    let ties = Window { ordered: true, ties_together: true, ..window(1, 1) };
    let rows = [row(1, 10), row(1, 15), row(1, 10), row(1, 16)];
    let fed = operator(ties, &[K], on_close(0)).feed(&rows, |_| true);
    check(fed, expect!["+ 0 10 10 1 2 [0, 2] -1e16"]);
}

#[test]
fn a_timeout_closes_before_any_later_row_whether_or_not_a_tick_came() {
    let timed = Window { timeout: Some(10), ..window(3, 3) };
    let rows = [at(2, 1, 0), at(1, 2, 0), at(1, 3, 10), at(1, 4, 11), at(1, 5, 12)];
    let expected = expect![[r#"
        + 0 1 1 2 1 [0] 0.1
        + 0 2 3 1 2 [1, 2] 0.0
        + 1 4 5 1 2 [3, 4] 0.7999999999999999"#]];
    let fed = operator(timed.clone(), &[K], on_close(0)).feed(&rows, |_| false);
    assert_eq!(fed.next_tick(), Some(22));
    check(fed.tick(21).tick(22), expected);
}

#[test]
fn without_a_time_column_windows_show_when_their_rows_came() {
    let micros = crate::data::schema::TIMESTAMP;
    let columns =
        [("window_id", DataType::Int64), ("window_start", micros.clone()), ("window_end", micros)];
    let spec = CountWindowSpec {
        window: window(2, 2),
        time_column: None,
        partition: vec![],
        answer: WindowAnswer::groups(vec![], aggregates()),
        emit: on_close(0),
        input_schema: input_schema(),
        schema: output_schema(&columns, &[]),
    };
    let trial = Trial::new(CountWindow::new(spec).unwrap(), BOUND);
    check(
        trial.feed(&[at(1, 9, 0), at(2, 8, 1_000_000)], |_| false),
        expect!["+ 0 1970-01-01T00:00:00 1970-01-01T00:00:01 2 [0, 1] 1e16"],
    );
}

#[test]
fn a_punctuation_that_covers_a_partition_ends_it() {
    let punctuation =
        Punctuation { columns: vec![("k".to_owned(), Pattern::OneOf(vec![1i64.into()]))] };
    let rows = [row(1, 10), row(2, 11), row(1, 12), row(1, 13)];
    for ordered in [false, true] {
        let partial = Window { partial: true, ordered, ..window(2, 2) };
        let fed = operator(partial, &[K], on_close(0)).feed(&rows, |_| false);
        check(
            fed.punctuate(&punctuation),
            expect![[r#"
                + 0 10 12 1 2 [0, 2] -1e16
                + 1 13 13 1 1 [3] 0.7"#]],
        );
    }
    let fed = operator(window(3, 3), &[K], on_close(0)).feed(&rows[..3], |_| false);
    check(fed.punctuate(&punctuation), expect![""]);
}

#[test]
fn emit_changes_shows_open_windows_where_partial_asks_for_them() {
    let emit = EmitSpec { mode: EmitMode::Changes, allowed_lateness: 0 };
    let rows = [row(1, 10), row(1, 11), row(1, 12)];
    check(
        operator(window(2, 2), &[K], emit.clone()).feed(&rows, |_| true),
        expect!["+ 0 10 11 1 2 [0, 1] 1e16"],
    );
    let partial = Window { partial: true, ..window(2, 2) };
    check(
        operator(partial, &[K], emit).feed(&rows, |_| true),
        expect![[r#"
            + 0 10 10 1 1 [0] 0.1
            - 0 10 10 1 1 [0] 0.1
            + 0 10 11 1 2 [0, 1] 1e16
            + 1 12 12 1 1 [2] -1e16"#]],
    );
}

#[test]
fn early_results_come_every_so_many_rows_of_a_window() {
    let refinement = Refinement::Accumulating;
    let mode = EmitMode::EveryRows { rows: 2, refinement };
    let rows = [row(1, 10), row(1, 11), row(1, 12)];
    check(
        operator(window(3, 3), &[K], EmitSpec { mode, allowed_lateness: 0 }).feed(&rows, |_| false),
        expect![[r#"
            + 0 10 11 1 2 [0, 1] 1e16
            + 0 10 12 1 3 [0, 1, 2] 0.0"#]],
    );
}

/// Row numbers per partition.
fn partitions(rows: &[Row], keep: &[bool]) -> BTreeMap<Option<i64>, Vec<usize>> {
    let mut partitions: BTreeMap<Option<i64>, Vec<usize>> = BTreeMap::new();
    for n in (0..rows.len()).filter(|&n| keep[n]) {
        partitions.entry(rows[n].k).or_default().push(n);
    }
    partitions
}

/// The lines of one window, given its rows in the order in which they count.
fn lines(rows: &[Row], id: usize, counted: &[usize]) -> Vec<String> {
    let (start, end) = (rows[counted[0]].at, rows[counted[counted.len() - 1]].at);
    by_key(rows, counted).into_iter().map(|group| format!("+ {id} {start} {end} {group}")).collect()
}

/// Splits counted rows into positions: single rows, or rows of one time.
fn positions(rows: &[Row], counted: &[usize], ties: bool) -> Vec<Vec<usize>> {
    let same = |a: &usize, b: &usize| ties && rows[*a].at == rows[*b].at;
    counted.chunk_by(same).map(<[usize]>::to_vec).collect()
}

/// Processing time of the first row, order of the partition, its key, id of the window, rows.
type Open = (i64, usize, Option<i64>, usize, Vec<usize>);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn by_log_order_windows_come_out_as_their_last_rows_come(
        rows in any_rows(), size in 1u64..6, slide in 1u64..8, bits in any::<u64>(),
    ) {
        let (size_rows, slide_rows) = (size as usize, slide as usize);
        let mut seen: BTreeMap<Option<i64>, Vec<usize>> = BTreeMap::new();
        let mut expected = Vec::new();
        for n in 0..rows.len() {
            let seen = seen.entry(rows[n].k).or_default();
            seen.push(n);
            if seen.len() >= size_rows && (seen.len() - size_rows).is_multiple_of(slide_rows) {
                let first = seen.len() - size_rows;
                expected.extend(lines(&rows, first / slide_rows, &seen[first..]));
            }
        }
        let trial = operator(window(size, slide), &[K, U], on_close(0)).feed(&rows, cut_at(bits));
        prop_assert_eq!(trial.finish().lines, expected);
    }

    #[test]
    fn with_order_windows_hold_the_kept_rows_by_event_time(
        rows in any_rows(), size in 1u64..6, slide in 1u64..8, ties in any::<bool>(),
        lateness in 0i64..9, bits in any::<u64>(),
    ) {
        let mut expected = Vec::new();
        for mut counted in partitions(&rows, &kept(&rows, BOUND, lateness)).into_values() {
            counted.sort_by_key(|&n| (rows[n].at, n));
            let positions = positions(&rows, &counted, ties);
            for (id, first) in (0..positions.len()).step_by(slide as usize).enumerate() {
                if let Some(held) = positions.get(first..first + size as usize) {
                    expected.extend(lines(&rows, id, &held.concat()));
                }
            }
        }
        expected.sort();
        let spec = Window { ordered: true, ties_together: ties, ..window(size, slide) };
        let run = |bits| {
            let trial = operator(spec.clone(), &[K, U], on_close(lateness));
            trial.feed(&rows, cut_at(bits)).watermark(EventTime::MAX).finish()
        };
        let (outcome, whole) = (run(bits), run(0));
        prop_assert_eq!(&outcome.lines, &whole.lines);
        let mut lines = outcome.lines;
        lines.sort();
        prop_assert_eq!(lines, expected);
    }

    #[test]
    fn with_a_timeout_tumbling_windows_close_when_full_or_when_time_is_up(
        rows in any_rows(), size in 1u64..6, timeout in 0i64..12, bits in any::<u64>(),
    ) {
        let mut open: Vec<Open> = Vec::new();
        let mut partitions: Vec<(Option<i64>, usize)> = Vec::new();
        let mut expected = Vec::new();
        for (n, row) in rows.iter().enumerate() {
            open.sort();
            while open.first().is_some_and(|window| window.0 + timeout < row.now) {
                let (_, _, _, id, held) = open.remove(0);
                expected.extend(lines(&rows, id, &held));
            }
            let known = partitions.iter().position(|partition| partition.0 == row.k);
            let order = known.unwrap_or_else(|| {
                partitions.push((row.k, 0));
                partitions.len() - 1
            });
            let place = open.iter().position(|window| window.2 == row.k).unwrap_or_else(|| {
                open.push((row.now, order, row.k, partitions[order].1, Vec::new()));
                partitions[order].1 += 1;
                open.len() - 1
            });
            open[place].4.push(n);
            if open[place].4.len() as u64 == size {
                let (_, _, _, id, held) = open.remove(place);
                expected.extend(lines(&rows, id, &held));
            }
        }
        let timed = Window { timeout: Some(timeout), ..window(size, size) };
        let trial = operator(timed, &[K, U], on_close(0)).feed(&rows, cut_at(bits));
        prop_assert_eq!(trial.finish().lines, expected);
    }

    #[test]
    fn early_results_come_to_the_same_answer(
        rows in any_rows(), size in 1u64..6, slide in 1u64..8, bits in any::<u64>(),
    ) {
        let all = Punctuation::default();
        let run = |mode| {
            let emit = EmitSpec { mode, allowed_lateness: 0 };
            let trial = operator(window(size, slide), &[K, U], emit).feed(&rows, cut_at(bits));
            trial.punctuate(&all).finish().net()
        };
        let refinement = Refinement::Retracting;
        let expected = run(EmitMode::OnClose);
        prop_assert_eq!(&run(EmitMode::Changes), &expected);
        prop_assert_eq!(&run(EmitMode::EveryRows { rows: 2, refinement }), &expected);
        prop_assert_eq!(&run(EmitMode::EveryInterval { interval: 3, refinement }), &expected);
    }
}
