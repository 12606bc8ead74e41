//! Compares time windows with a slow reference, over rows that come late and are taken back.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::tests::{Driver, Row, any_kind, spec};
use super::*;
use crate::operators::emit::Refinement::{Accumulating, Discarding, Retracting};
use crate::windows::spec::{Span, TimeWindowKind};

/// Nulls last.
type ValuesByKey = BTreeMap<(bool, i64), Vec<i64>>;

/// The answer by definition: a list of kept values per window and key, no slices, no sharing.
struct Oracle {
    kind: TimeWindowKind,
    lateness: i64,
    windows: BTreeMap<(i64, i64), ValuesByKey>,
    closed: BTreeSet<(i64, i64)>,
    lines: Vec<String>,
    late: Vec<String>,
}

impl Oracle {
    fn windows_of(&self, t: i64) -> Vec<(i64, i64)> {
        let mut all = Vec::new();
        let widest = match self.kind {
            TimeWindowKind::Tumble { size: Span::Fixed(size) }
            | TimeWindowKind::Cumulate { size: Span::Fixed(size), .. } => size,
            TimeWindowKind::Hop { slide: Span::Fixed(slide), .. }
            | TimeWindowKind::Horizons { slide: Span::Fixed(slide), .. } => slide,
            _ => unreachable!("the strategies make fixed windows"),
        };
        // No window is wider than 30, so only those that start near the time are tried.
        for k in (t - 40).div_euclid(widest)..=(t + 40).div_euclid(widest) {
            match self.kind {
                TimeWindowKind::Tumble { size: Span::Fixed(size) } => {
                    all.push(((k + 1) * size, k * size));
                }
                TimeWindowKind::Hop { slide: Span::Fixed(slide), size: Span::Fixed(size) } => {
                    all.push((k * slide + size, k * slide));
                }
                TimeWindowKind::Horizons { slide: Span::Fixed(slide), sizes } => {
                    let sizes = sizes.as_slice().iter();
                    all.extend(sizes.map(|size| (k * slide + size.about(), k * slide)));
                }
                TimeWindowKind::Cumulate { step: Span::Fixed(step), size: Span::Fixed(size) } => {
                    all.extend((1..=size / step).map(|j| (k * size + j * step, k * size)));
                }
                _ => unreachable!("the strategies make fixed windows"),
            }
        }
        all.retain(|&(end, start)| start <= t && t < end);
        all.sort_unstable();
        all
    }

    fn show(&self, sign: char, (end, start): (i64, i64), key: (bool, i64)) -> Option<String> {
        let values = self.windows.get(&(end, start))?.get(&key)?;
        let key = if key.0 { String::new() } else { key.1.to_string() };
        let (count, sum) = (values.len(), values.iter().sum::<i64>());
        let least = values.iter().min()?;
        Some(format!("{sign} [{start},{end}) {key} {count} {sum} {least} {values:?}"))
    }

    fn close(&mut self, watermark: i64) {
        let due: Vec<(i64, i64)> = self.windows.keys().copied().collect();
        for window in due.into_iter().filter(|w| w.0 <= watermark) {
            if self.closed.insert(window) {
                let keys: Vec<(bool, i64)> = self.windows[&window].keys().copied().collect();
                let shown: Vec<_> =
                    keys.iter().filter_map(|&key| self.show('+', window, key)).collect();
                self.lines.extend(shown);
            }
        }
    }

    fn row(&mut self, row: &Row, offset: usize, arrival: i64, progress: i64) {
        self.close(progress);
        let key = (row.key.is_none(), row.key.unwrap_or(0));
        let mut dropped = 0;
        for window in self.windows_of(row.t) {
            if window.0 + self.lateness <= arrival {
                dropped += 1;
                continue;
            }
            let before = self.show('-', window, key);
            let values = self.windows.entry(window).or_default().entry(key).or_default();
            match row.weight > 0 {
                true => values.push(row.value),
                false => {
                    let known = values.iter().position(|&value| value == row.value);
                    values.remove(known.expect("a row counts wherever it is taken back"));
                }
            }
            if window.0 <= progress {
                self.closed.insert(window);
                let after = self.show('+', window, key);
                self.lines.extend(before.into_iter().chain(after));
            }
        }
        if dropped > 0 {
            self.late.push(format!("late: offset {offset}, windows {dropped}"));
        }
    }
}

fn run_oracle(kind: TimeWindowKind, lateness: i64, bound: i64, rows: &[Row]) -> Oracle {
    let (windows, closed) = (BTreeMap::new(), BTreeSet::new());
    let mut oracle =
        Oracle { kind, lateness, windows, closed, lines: Vec::new(), late: Vec::new() };
    let (mut watermark, mut progress) = (i64::MIN, i64::MIN);
    for (offset, row) in rows.iter().enumerate() {
        progress = progress.max(watermark.min(row.other));
        oracle.row(row, offset, watermark, progress);
        watermark = watermark.max(row.t - bound);
    }
    oracle.close(i64::MAX);
    oracle
}

/// Rows of `rows` cut into batches; after each the query's watermark and a step's end.
fn run(spec: &Arc<WindowAggregateSpec>, bound: i64, rows: &[Row], cuts: &[usize]) -> Vec<String> {
    let mut driver = Driver::new(spec, bound);
    let mut rest = rows;
    let mut cut = cuts.iter().cycle();
    while !rest.is_empty() {
        let len = cut.next().map_or(rest.len(), |&len| len.min(rest.len()));
        let (batch, after) = rest.split_at(len);
        rest = after;
        driver.feed(batch);
        let other = batch.iter().map(|row| row.other).max().unwrap_or(i64::MAX);
        driver.close(driver.progress.max(driver.watermark.min(other)));
        driver.step_end();
    }
    driver.close(i64::MAX);
    driver.step_end();
    assert!(driver.operator.slices.is_empty() && driver.operator.open.is_empty());
    driver.lines.retain(|line| !line.starts_with("wm"));
    driver.lines
}

fn rows_and_late(lines: &[String]) -> (Vec<String>, Vec<String>) {
    lines.iter().cloned().partition(|line| !line.starts_with("late"))
}

/// What remains when retractions have met their insertions.
fn consolidated(lines: &[String]) -> Vec<String> {
    let mut net: BTreeMap<&str, i64> = BTreeMap::new();
    for line in lines.iter().filter(|line| !line.starts_with("late")) {
        *net.entry(&line[2..]).or_insert(0) += if line.starts_with('+') { 1 } else { -1 };
    }
    let left = net.into_iter().filter(|(_, n)| *n != 0);
    left.map(|(row, n)| format!("{n} {row}")).collect()
}

/// Rows whose time drifts forward with disorder and duplicates; the other input sometimes lags.
fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    any_rows_of(0)
}

/// The same; about `taken_back` of 100 are earlier rows that are taken back.
fn any_rows_of(taken_back: u8) -> impl Strategy<Value = Vec<Row>> {
    let key = prop::option::weighted(0.9, 0..5_i64);
    let row = (-6..8_i64, key, -9..10_i64, 0..12_i64, (0..100_u8, any::<prop::sample::Index>()));
    (prop::collection::vec(row, 1..70), any::<bool>()).prop_map(move |(steps, lags)| {
        let (mut now, mut other) = (0, i64::MIN);
        let mut standing: Vec<Row> = Vec::new();
        let mut rows = Vec::new();
        for (step, key, value, lag, (chance, which)) in steps {
            now += step.max(0) / 2;
            other = other.max(now - lag);
            let t = now + step.min(0) * 2;
            let other = if lags { other } else { i64::MAX };
            let mut row = Row { t, key, value, weight: 1, other };
            if chance < taken_back && !standing.is_empty() {
                row =
                    Row { weight: -1, other, ..standing.swap_remove(which.index(standing.len())) };
            } else {
                standing.push(row);
            }
            rows.push(row);
        }
        rows
    })
}

const ALL: [&str; 4] = ["count", "sum", "min", "array_agg"];
const SHARED: [&str; 3] = ["count", "sum", "min"];
const INVERTIBLE: [&str; 2] = ["count", "sum"];
const FOREIGN: [&str; 2] = ["count", "foreign_sum"];

/// The first aggregates of an oracle's line, which holds all four.
fn cut_to(line: &str, aggregates: usize) -> String {
    let edges = line.find(") ").unwrap() + 2;
    let mut end = edges;
    for _ in 0..=aggregates {
        end += line[end..].find(' ').unwrap() + 1;
    }
    line[..end - 1].to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn final_results_and_corrections_match_the_oracle_for_any_batch_cut(
        kind in any_kind(), lateness in prop_oneof![Just(0), 1..20_i64], bound in 0..6_i64,
        rows in any_rows(), cuts in prop::collection::vec(1..20_usize, 1..5),
    ) {
        let oracle = run_oracle(kind, lateness, bound, &rows);
        for names in [&ALL[..], &SHARED, &INVERTIBLE, &FOREIGN] {
            let spec = spec(kind, lateness, EmitMode::OnClose, names);
            for cuts in [&cuts[..], &[1], &[]] {
                let (lines, late) = rows_and_late(&run(&spec, bound, &rows, cuts));
                let mut expected: Vec<String> = oracle.lines.clone();
                if names.len() < 4 {
                    expected = expected.iter().map(|line| cut_to(line, names.len())).collect();
                    let mut kept: Vec<String> = Vec::new();
                    for line in expected {
                        kept.push(line);
                        // A correction that changes nothing visible is none.
                        if let [.., before, after] = kept.as_slice()
                            && before.starts_with('-') && before[1..] == after[1..]
                        {
                            kept.truncate(kept.len() - 2);
                        }
                    }
                    expected = kept;
                }
                prop_assert_eq!(&lines, &expected);
                prop_assert_eq!(&late, &oracle.late);
            }
        }
    }

    #[test]
    fn rows_that_are_taken_back_leave_what_the_oracle_keeps(
        kind in any_kind(), lateness in 0..20_i64, bound in 0..6_i64,
        rows in any_rows_of(30), cuts in prop::collection::vec(1..20_usize, 1..5),
    ) {
        let oracle = run_oracle(kind, lateness, bound, &rows);
        let modes = [
            EmitMode::OnClose,
            EmitMode::Changes,
            EmitMode::EveryRows { rows: 3, refinement: Retracting },
        ];
        for (mode, names) in modes.iter().flat_map(|m| [&SHARED[..], &INVERTIBLE].map(|n| (*m, n))) {
            let spec = spec(kind, lateness, mode, names);
            let spec = WindowAggregateSpec { input_append_only: false, ..spec.as_ref().clone() };
            let lines = run(&Arc::new(spec), bound, &rows, &cuts);
            let expected: Vec<String> =
                oracle.lines.iter().map(|line| cut_to(line, names.len())).collect();
            prop_assert_eq!(consolidated(&lines), consolidated(&expected));
        }
    }

    #[test]
    fn changes_add_up_to_the_oracle_and_never_retract_what_was_not_there(
        kind in any_kind(), lateness in 0..10_i64, bound in 0..6_i64,
        rows in any_rows(), cuts in prop::collection::vec(1..20_usize, 1..5),
    ) {
        let oracle = run_oracle(kind, lateness, bound, &rows);
        let modes = [
            EmitMode::Changes,
            EmitMode::EveryRows { rows: 3, refinement: Retracting },
            EmitMode::EveryInterval { interval: 5, refinement: Retracting },
        ];
        let cut_lines: Vec<String> = oracle.lines.iter().map(|line| cut_to(line, 3)).collect();
        let both = [(&ALL[..], &oracle.lines), (&ALL[..3], &cut_lines)];
        for (mode, (names, expected)) in modes.iter().flat_map(|m| both.iter().map(move |b| (*m, *b))) {
            let spec = spec(kind, lateness, mode, names);
            let lines = run(&spec, bound, &rows, &cuts);
            let mut standing: BTreeSet<&str> = BTreeSet::new();
            for line in lines.iter().filter(|line| !line.starts_with("late")) {
                let fits =
                    if line.starts_with('+') { standing.insert(&line[2..]) } else { standing.remove(&line[2..]) };
                prop_assert!(fits, "{line} among {lines:#?}");
            }
            prop_assert_eq!(consolidated(&lines), consolidated(expected));
        }
    }

    #[test]
    fn early_results_by_rows_are_byte_equal_for_any_batch_cut(
        kind in any_kind(), lateness in 0..10_i64, every in 1..5_u64,
        rows in any_rows(), cuts in prop::collection::vec(1..20_usize, 1..5),
    ) {
        for refinement in [Retracting, Accumulating, Discarding] {
            let spec = spec(kind, lateness, EmitMode::EveryRows { rows: every, refinement }, &ALL);
            let mode = EmitMode::EveryRows { rows: every, refinement };
            let dense_spec = self::spec(kind, lateness, mode, &ALL[..3]);
            let (by_row, _) = rows_and_late(&run(&spec, 2, &rows, &[1]));
            let (cut, _) = rows_and_late(&run(&spec, 2, &rows, &cuts));
            prop_assert_eq!(&by_row, &cut);
            let (dense, _) = rows_and_late(&run(&dense_spec, 2, &rows, &cuts));
            let first_three: Vec<String> = by_row.iter().map(|line| cut_to(line, 3)).collect();
            if refinement != Retracting {
                prop_assert_eq!(&dense, &first_three);
            }
            if refinement == Discarding {
                let total: usize = run_oracle(kind, lateness, 2, &rows)
                    .windows.values().flat_map(|keys| keys.values().map(Vec::len)).sum();
                let counted = |line: &String| {
                    let list = &line[line.find(" [").unwrap() + 2..];
                    let list = &list[list.find('[').unwrap()..];
                    list.matches(',').count() + 1
                };
                prop_assert_eq!(cut.iter().map(counted).sum::<usize>(), total);
            }
        }
    }
}
