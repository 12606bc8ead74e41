//! Feeds rows to time windows, in order and late, and states what comes out.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::functions_aggregate::{
    array_agg::array_agg_udaf, count::count_udaf, min_max::min_udaf, sum::sum_udaf,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, lit};
use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::data::change::Marks;
use crate::operators::aggregates::spec::NativeFunction;
use crate::operators::emit::Refinement::{Accumulating, Discarding, Retracting};
use crate::operators::operator::Output;
use crate::windows::spec::{Sizes, Span, TimeWindowKind};

#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) t: i64,
    pub(super) key: Option<i64>,
    pub(super) value: i64,
    pub(super) weight: i64,
    /// How far another input of the query holds its watermark back.
    pub(super) other: i64,
}

fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("t", DataType::Int64, false),
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
    ]))
}

fn aggregate(name: &str) -> AggregateSpec {
    let v: Arc<dyn PhysicalExpr> = Arc::new(Column::new("v", 2));
    let (function, args, native) = match name {
        "count" => (count_udaf(), vec![lit(1_i64)], Some(NativeFunction::CountRows)),
        "sum" => (sum_udaf(), vec![v], Some(NativeFunction::Sum)),
        "min" => (min_udaf(), vec![v], Some(NativeFunction::Min)),
        "foreign_sum" => (sum_udaf(), vec![v], None),
        _ => (array_agg_udaf(), vec![v], None),
    };
    let function =
        AggregateExprBuilder::new(function, args).schema(input_schema()).alias(name).build();
    let function = function.unwrap();
    let output = function.field();
    AggregateSpec { function: Arc::new(function), filter: None, native, output }
}

pub(super) fn spec(
    kind: TimeWindowKind,
    lateness: i64,
    mode: EmitMode,
    names: &[&str],
) -> Arc<WindowAggregateSpec> {
    let aggregates: Vec<AggregateSpec> = names.iter().map(|name| aggregate(name)).collect();
    let edge = |name| Arc::new(Field::new(name, DataType::Int64, true)) as FieldRef;
    let key = Arc::new(Field::new("k", DataType::Int64, true));
    let mut fields = vec![edge("window_start"), edge("window_end"), key];
    fields
        .extend(aggregates.iter().map(|a| Arc::new(a.output.as_ref().clone().with_nullable(true))));
    Arc::new(WindowAggregateSpec {
        window: WindowSource::Time(TimeWindow { kind, offset: 0, timezone: None }),
        time_column: Some(0),
        keys: vec![1],
        aggregates,
        emit: EmitSpec { mode, allowed_lateness: lateness },
        input_append_only: true,
        input_schema: input_schema(),
        schema: Arc::new(Schema::new(fields)),
    })
}

pub(super) fn tumble(size: i64) -> TimeWindowKind {
    TimeWindowKind::Tumble { size: Span::Fixed(size) }
}

pub(super) fn hop(slide: i64, size: i64) -> TimeWindowKind {
    TimeWindowKind::Hop { slide: Span::Fixed(slide), size: Span::Fixed(size) }
}

pub(super) fn horizons(slide: i64, sizes: impl IntoIterator<Item = i64>) -> TimeWindowKind {
    let sizes: Vec<Span> = sizes.into_iter().map(Span::Fixed).collect();
    let sizes = Sizes::new(&sizes).unwrap();
    TimeWindowKind::Horizons { slide: Span::Fixed(slide), sizes }
}

pub(super) fn any_kind() -> impl Strategy<Value = TimeWindowKind> {
    prop_oneof![
        (1..12_i64).prop_map(tumble),
        (1..12_i64, 1..30_i64).prop_map(|(slide, size)| hop(slide, size)),
        (1..6_i64, 1..6_i64).prop_map(|(step, n)| TimeWindowKind::Cumulate {
            step: Span::Fixed(step),
            size: Span::Fixed(step * n),
        }),
        (1..12_i64, prop::collection::btree_set(1..30_i64, 2..5))
            .prop_map(|(slide, sizes)| horizons(slide, sizes)),
    ]
}

/// Runs an operator the way a query does and writes down what comes out.
pub(super) struct Driver {
    pub(super) operator: WindowAggregate,
    bound: i64,
    pub(super) watermark: i64,
    pub(super) progress: i64,
    offset: u64,
    pub(super) lines: Vec<String>,
}

impl Driver {
    pub(super) fn new(spec: &Arc<WindowAggregateSpec>, bound: i64) -> Driver {
        let operator = WindowAggregate::new(Arc::clone(spec)).unwrap();
        let (watermark, progress) = (i64::MIN, i64::MIN);
        Driver { operator, bound, watermark, progress, offset: 0, lines: Vec::new() }
    }

    pub(super) fn feed(&mut self, rows: &[Row]) {
        let (mut arrival, mut progress) = (Vec::new(), Vec::new());
        for row in rows {
            self.progress = self.progress.max(self.watermark.min(row.other));
            arrival.push(self.watermark);
            progress.push(self.progress);
            self.watermark = self.watermark.max(row.t - self.bound);
        }
        let column = |of: &dyn Fn(&Row) -> Option<i64>| -> ArrayRef {
            Arc::new(Int64Array::from_iter(rows.iter().map(of)))
        };
        let columns = vec![
            column(&|row| Some(row.t)),
            column(&|row| row.key),
            column(&|row| Some(row.value)),
        ];
        let weights = Int64Array::from_iter_values(rows.iter().map(|row| row.weight));
        let change = Change {
            batch: RecordBatch::try_new(input_schema(), columns).unwrap(),
            weights: rows.iter().any(|row| row.weight != 1).then_some(weights),
            origin: Arc::new(Origin {
                relation: Arc::from("s"),
                first_offset: self.offset,
                ingest_time: 0,
                arrival: Marks::Rows(arrival.into()),
                progress: Marks::Rows(progress.into()),
                derived: false,
            }),
            rows: None,
        };
        self.offset += rows.len() as u64;
        let mut out = Emitter::default();
        self.operator.on_change(0, change, &mut out).unwrap();
        self.write(out);
    }

    pub(super) fn close(&mut self, watermark: i64) {
        self.progress = self.progress.max(watermark);
        let mut out = Emitter::default();
        self.operator.on_watermark(0, EventTime(watermark), &mut out).unwrap();
        self.write(out);
    }

    pub(super) fn step_end(&mut self) {
        let mut out = Emitter::default();
        self.operator.on_step_end(&mut out).unwrap();
        self.write(out);
    }

    fn tick(&mut self, now: i64) {
        let mut out = Emitter::default();
        self.operator.on_tick(now, &mut out).unwrap();
        self.write(out);
    }

    fn write(&mut self, out: Emitter) {
        for late in out.late {
            let (offset, windows) = (late.offset, late.windows_dropped);
            self.lines.push(format!("late: offset {offset}, windows {windows}"));
        }
        for output in out.outputs {
            match output {
                Output::Change(change) => {
                    for row in 0..change.batch.num_rows() {
                        let values = change.batch.columns().iter();
                        let values: Vec<String> =
                            values.map(|c| array_value_to_string(c, row).unwrap()).collect();
                        let sign = if change.weight(row) > 0 { '+' } else { '-' };
                        let (edges, rest) = (values[..2].join(","), values[2..].join(" "));
                        self.lines.push(format!("{sign} [{edges}) {rest}"));
                    }
                }
                Output::Watermark(EventTime(t)) => self.lines.push(format!("wm {t}")),
                Output::Punctuation(_) => {}
            }
        }
    }
}

/// Lines `time key [value] [*weight]`, `wm time`, `tick time` and `step` in; emissions out.
/// Rows up to the next other line are one batch.
fn check(spec: &Arc<WindowAggregateSpec>, script: &str, expected: Expect) {
    let mut driver = Driver::new(spec, 0);
    let mut rows: Vec<Row> = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()).chain(["end"]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Ok(t) = words[0].parse() {
            let weight =
                words.last().and_then(|w| w.strip_prefix('*')).map_or(1, |w| w.parse().unwrap());
            let value = words.get(2).and_then(|v| v.parse().ok()).unwrap_or(1);
            rows.push(Row { t, key: words[1].parse().ok(), value, weight, other: i64::MAX });
            continue;
        }
        if !rows.is_empty() {
            driver.feed(&std::mem::take(&mut rows));
        }
        match words[0] {
            "wm" if words[1] == "max" => driver.close(i64::MAX),
            "wm" => driver.close(words[1].parse().unwrap()),
            "tick" => driver.tick(words[1].parse().unwrap()),
            "step" => driver.step_end(),
            _ => {}
        }
    }
    expected.assert_eq(&driver.lines.join("\n"));
}

const COUNT_SUM: [&str; 2] = ["count", "sum"];

#[test]
fn a_row_on_the_boundary_belongs_to_the_later_window() {
    check(
        &spec(tumble(10), 0, EmitMode::OnClose, &COUNT_SUM),
        "0 1 5
         9 1 6
         10 1 7
         wm 10
         wm max",
        expect![[r#"
            + [0,10) 1 2 11
            wm 10
            + [10,20) 1 1 7
            wm 9223372036854775807"#]],
    );
}

#[test]
fn the_watermark_is_forwarded_after_the_windows_it_closes_and_empty_windows_emit_nothing() {
    check(
        &spec(tumble(10), 0, EmitMode::OnClose, &["count"]),
        "35 2
         5 -
         5 2
         5 1
         wm 100",
        expect![[r#"
            late: offset 1, windows 1
            late: offset 2, windows 1
            late: offset 3, windows 1
            + [30,40) 2 1
            wm 100"#]],
    );
}

#[test]
fn keys_ascend_with_null_last() {
    check(
        &spec(tumble(10), 0, EmitMode::OnClose, &["count"]),
        "5 -
         5 2
         5 -1
         wm 10",
        expect![[r#"
            + [0,10) -1 1
            + [0,10) 2 1
            + [0,10)  1
            wm 10"#]],
    );
}

#[test]
fn a_row_in_a_gap_between_windows_belongs_to_none() {
    check(
        &spec(hop(10, 3), 0, EmitMode::OnClose, &["count"]),
        "2 1
         3 1
         9 1
         10 1
         wm max",
        expect![[r#"
            + [0,3) 1 1
            + [10,13) 1 1
            wm 9223372036854775807"#]],
    );
}

#[test]
fn sliding_windows_share_slices() {
    let spec = spec(hop(7, 10), 0, EmitMode::OnClose, &COUNT_SUM);
    let mut driver = Driver::new(&spec, 0);
    let at = |t| Row { t, key: Some(1), value: 1, weight: 1, other: i64::MAX };
    driver.feed(&[at(0), at(1), at(2), at(3), at(7), at(8), at(9), at(12)]);
    assert_eq!(driver.operator.slices.len(), 4);
    assert_eq!(driver.operator.open.len(), 3);
    driver.close(i64::MAX);
    expect![[r#"
        + [-7,3) 1 3 3
        + [0,10) 1 7 7
        + [7,17) 1 4 4
        wm 9223372036854775807"#]]
    .assert_eq(&driver.lines.join("\n"));
    assert!(driver.operator.slices.is_empty() && driver.operator.keys.is_empty());
}

#[test]
fn windows_of_several_sizes_share_slices_and_close_by_end_and_start() {
    check(
        &spec(horizons(5, [5, 10, 20]), 0, EmitMode::OnClose, &COUNT_SUM),
        "1 1 1
         6 1 2
         7 2 3
         wm 10
         wm 15
         wm max",
        expect![[r#"
            + [-15,5) 1 1 1
            + [-5,5) 1 1 1
            + [0,5) 1 1 1
            + [-10,10) 1 2 3
            + [-10,10) 2 1 3
            + [0,10) 1 2 3
            + [0,10) 2 1 3
            + [5,10) 1 1 2
            + [5,10) 2 1 3
            wm 10
            + [-5,15) 1 2 3
            + [-5,15) 2 1 3
            + [5,15) 1 1 2
            + [5,15) 2 1 3
            wm 15
            + [0,20) 1 2 3
            + [0,20) 2 1 3
            + [5,25) 1 1 2
            + [5,25) 2 1 3
            wm 9223372036854775807"#]],
    );
}

/// Rows of a minute each, one batch and one close per minute; how many slices there are at the end.
fn minutes(kind: TimeWindowKind, names: &[&str]) -> (usize, Vec<String>) {
    let mut driver = Driver::new(&spec(kind, 0, EmitMode::OnClose, names), 0);
    for minute in 0..200_i64 {
        let row = |i| Row {
            t: minute * 60 + i * 7 % 60,
            key: Some(i % 3),
            value: minute + i,
            weight: 1,
            other: i64::MAX,
        };
        driver.feed(&(0..6).map(row).collect::<Vec<_>>());
        driver.close(minute * 60);
    }
    let slices = driver.operator.slices.len();
    driver.close(i64::MAX);
    assert!(driver.operator.slices.is_empty() && driver.operator.open.is_empty());
    driver.lines.retain(|line| !line.starts_with("wm"));
    (slices, driver.lines)
}

#[test]
fn several_sizes_hold_the_slices_of_the_greatest_and_answer_as_each_alone() {
    let widths = [60, 600, 3_600];
    for names in [&COUNT_SUM[..], &["count", "sum", "min"], &["count", "foreign_sum"]] {
        let (slices, lines) = minutes(horizons(60, widths), names);
        let alone = widths.map(|width| minutes(hop(60, width), names));
        assert_eq!(slices, alone[2].0);
        let mut lines = lines;
        let mut expected: Vec<String> = alone.into_iter().flat_map(|one| one.1).collect();
        lines.sort();
        expected.sort();
        assert_eq!(lines, expected);
    }
}

#[test]
fn a_merge_is_kept_for_each_size() {
    let spec = spec(horizons(60, [600, 3_600]), 0, EmitMode::OnClose, &COUNT_SUM);
    let mut driver = Driver::new(&spec, 0);
    let row = |t| Row { t, key: Some(1), value: 1, weight: 1, other: i64::MAX };
    for minute in 0..120 {
        driver.feed(&[row(minute * 60)]);
        driver.close(minute * 60);
    }
    assert_eq!(driver.operator.running.members(), [10, 59], "one slice left at the last close");
    driver.close(i64::MAX);
    assert!(driver.operator.running.members().is_empty());
}

#[test]
fn each_window_that_ends_with_time_itself_has_its_rows() {
    let t = i64::MAX - 3;
    let spec = spec(hop(5, 20), 0, EmitMode::OnClose, &COUNT_SUM);
    let mut driver = Driver::new(&spec, 0);
    driver.feed(&[Row { t, key: Some(1), value: 7, weight: 1, other: i64::MAX }]);
    driver.close(i64::MAX);
    assert_eq!(driver.lines.iter().filter(|line| line.ends_with(" 1 1 7")).count(), 4);
}

#[test]
fn a_late_row_inside_the_allowed_lateness_corrects_the_window() {
    check(
        &spec(tumble(10), 5, EmitMode::OnClose, &COUNT_SUM),
        "4 1 3
         5 2 4
         12 1 1
         9 1 10
         9 3 1
         15 1
         9 1 10
         wm 15",
        expect![[r#"
            late: offset 6, windows 1
            + [0,10) 1 1 3
            + [0,10) 2 1 4
            - [0,10) 1 1 3
            + [0,10) 1 2 13
            + [0,10) 3 1 1
            wm 15"#]],
    );
}

#[test]
fn a_dropped_row_is_reported_once_and_counts_in_its_other_windows() {
    check(
        &spec(hop(5, 10), 0, EmitMode::OnClose, &["count"]),
        "8 1
         11 1
         7 1
         wm max",
        expect![[r#"
            late: offset 2, windows 1
            + [0,10) 1 1
            + [5,15) 1 3
            + [10,20) 1 1
            wm 9223372036854775807"#]],
    );
}

#[test]
fn a_retraction_takes_rows_out_and_a_group_without_rows_emits_nothing() {
    check(
        &spec(tumble(10), 0, EmitMode::OnClose, &COUNT_SUM),
        "1 1 5
         1 2 6
         2 1 5 *-1
         3 2 7 *2
         wm 10",
        expect![[r#"
            + [0,10) 2 3 20
            wm 10"#]],
    );
}

#[test]
fn a_late_row_may_take_back_what_came_in_time_and_another_of_its_key_stays() {
    // On balance the late rows of key 1 are none, but their sum is 3.
    check(
        &spec(hop(10, 20), 0, EmitMode::OnClose, &COUNT_SUM),
        "12 1 5
         12 2 1
         12 3 1
         wm 20
         12 1 5 *-1
         12 1 8
         wm max",
        expect![[r#"
            + [0,20) 1 1 5
            + [0,20) 2 1 1
            + [0,20) 3 1 1
            wm 20
            late: offset 3, windows 1
            late: offset 4, windows 1
            + [10,30) 1 1 8
            + [10,30) 2 1 1
            + [10,30) 3 1 1
            wm 9223372036854775807"#]],
    );
}

#[test]
fn changes_appear_at_the_end_of_each_step() {
    check(
        &spec(tumble(10), 5, EmitMode::Changes, &["count"]),
        "1 1
         2 1
         3 2
         step
         4 1
         4 2 0 *-1
         step
         step
         11 1
         9 2
         step
         wm max",
        expect![[r#"
            + [0,10) 1 2
            + [0,10) 2 1
            - [0,10) 1 2
            + [0,10) 1 3
            - [0,10) 2 1
            + [0,10) 2 1
            + [10,20) 1 1
            wm 9223372036854775807"#]],
    );
}

fn every_rows(refinement: Refinement) -> Arc<WindowAggregateSpec> {
    spec(tumble(10), 5, EmitMode::EveryRows { rows: 2, refinement }, &COUNT_SUM)
}

const FIVE_AND_ONE_LATE: &str = "1 1 1
    2 1 2
    3 1 3
    4 1 4
    5 1 5
    11 1 9
    6 1 6
    wm max";

#[test]
fn early_results_after_rows_retract_the_earlier_one() {
    check(
        &every_rows(Retracting),
        FIVE_AND_ONE_LATE,
        expect![[r#"
            + [0,10) 1 2 3
            - [0,10) 1 2 3
            + [0,10) 1 4 10
            - [0,10) 1 4 10
            + [0,10) 1 5 15
            - [0,10) 1 5 15
            + [0,10) 1 6 21
            + [10,20) 1 1 9
            wm 9223372036854775807"#]],
    );
}

#[test]
fn early_results_after_rows_accumulate() {
    check(
        &every_rows(Accumulating),
        FIVE_AND_ONE_LATE,
        expect![[r#"
            + [0,10) 1 2 3
            + [0,10) 1 4 10
            + [0,10) 1 5 15
            + [0,10) 1 6 21
            + [10,20) 1 1 9
            wm 9223372036854775807"#]],
    );
}

#[test]
fn early_results_after_rows_discard_what_was_emitted() {
    check(
        &every_rows(Discarding),
        FIVE_AND_ONE_LATE,
        expect![[r#"
            + [0,10) 1 2 3
            + [0,10) 1 2 7
            + [0,10) 1 1 5
            + [0,10) 1 1 6
            + [10,20) 1 1 9
            wm 9223372036854775807"#]],
    );
}

#[test]
fn early_results_come_when_processing_time_passes_a_multiple_of_the_interval() {
    let mode = EmitMode::EveryInterval { interval: 100, refinement: Retracting };
    check(
        &spec(tumble(10), 0, mode, &["count"]),
        "tick 150
         1 1
         2 2
         tick 199
         tick 200
         3 1
         tick 250
         4 3
         tick 450
         tick 600
         wm 10",
        expect![[r#"
            + [0,10) 1 1
            + [0,10) 2 1
            - [0,10) 1 1
            + [0,10) 1 2
            + [0,10) 3 1
            wm 10"#]],
    );
}

#[test]
fn a_landmark_closes_at_the_end_of_time_only() {
    check(
        &spec(TimeWindowKind::Landmark { since: 3 }, 0, EmitMode::OnClose, &["count"]),
        "2 1
         3 1
         wm 9223372036854775806
         wm max",
        expect![[r#"
            wm 9223372036854775806
            + [3,) 1 1
            wm 9223372036854775807"#]],
    );
}

#[test]
fn rows_that_carry_their_window_close_at_its_end() {
    let time = spec(tumble(10), 0, EmitMode::OnClose, &["count"]);
    let assigned = WindowAggregateSpec {
        window: WindowSource::Assigned { start: 0, end: 2 },
        time_column: None,
        ..time.as_ref().clone()
    };
    check(
        &Arc::new(assigned),
        "0 1 10
         0 2 10
         5 1 15
         wm 10
         wm 12
         0 7 10
         wm 15",
        expect![[r#"
            + [0,10) 1 1
            + [0,10) 2 1
            wm 10
            wm 12
            late: offset 3, windows 1
            + [5,15) 1 1
            wm 15"#]],
    );
}

#[test]
fn a_sum_out_of_range_is_left_out_and_told_of_when_its_window_is_emitted() {
    let spec = spec(tumble(10), 0, EmitMode::OnClose, &["sum"]);
    let mut driver = Driver::new(&spec, 0);
    let row = |key, value| Row { t: 1, key: Some(key), value, weight: 1, other: i64::MAX };
    driver.feed(&[row(1, i64::MAX), row(2, 5), row(1, 1), row(3, i64::MAX), row(3, 1)]);
    let mut out = Emitter::default();
    driver.operator.on_watermark(0, EventTime(10), &mut out).unwrap();
    let [rejected] = out.rejected.as_slice() else { panic!("{:?}", out.rejected) };
    assert_eq!(rejected.code.0, "22003");
    assert!(rejected.reason.contains("2 keys"), "{}", rejected.reason);
    let rows: Vec<usize> = out
        .outputs
        .iter()
        .filter_map(|output| match output {
            Output::Change(change) => Some(change.batch.num_rows()),
            Output::Watermark(_) | Output::Punctuation(_) => None,
        })
        .collect();
    assert_eq!(rows, [1], "the key whose sum fits");
}

#[test]
fn keys_that_no_window_holds_are_forgotten() {
    let spec = spec(tumble(10), 0, EmitMode::OnClose, &["count"]);
    let mut driver = Driver::new(&spec, 0);
    let mut bytes = Vec::new();
    for round in 0..40_i64 {
        let rows: Vec<Row> = (0..1_000)
            .map(|i| Row {
                t: round * 10,
                key: Some((round * 1_000 + i) << 40),
                value: 1,
                weight: 1,
                other: i64::MAX,
            })
            .collect();
        driver.feed(&rows);
        driver.close(round * 10);
        bytes.push(driver.operator.state_bytes());
    }
    assert!(driver.operator.keys.len() <= 4_096, "{}", driver.operator.keys.len());
    assert!(bytes[39] < 3 * bytes[3], "{bytes:?}");
    assert_eq!(driver.lines.iter().filter(|line| line.starts_with('+')).count(), 39_000);
}
