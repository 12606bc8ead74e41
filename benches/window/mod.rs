//! Builds rows, runs the windowed aggregation over them beside a hand-written loop, and compares.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use datafusion::functions_aggregate::{count::count_udaf, sum::sum_udaf};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, lit};
use weir::data::change::{Change, Marks, Origin};
use weir::operators::aggregates::spec::{AggregateSpec, NativeFunction};
use weir::operators::emit::{EmitMode, EmitSpec};
use weir::operators::operator::{Emitter, Operator, Output};
use weir::operators::window_aggregate::{WindowAggregate, WindowAggregateSpec, WindowSource};
use weir::time::{Clock, EventTime, SECOND, SystemClock};
use weir::windows::spec::{TimeWindow, TimeWindowKind};

/// What a bench runs over.
pub(crate) struct Load {
    pub(crate) kind: TimeWindowKind,
    pub(crate) rows: usize,
    pub(crate) rows_per_second: usize,
    pub(crate) keys: i64,
    pub(crate) batch: usize,
}

/// Whether this is `cargo bench`; a test run does the same with little.
pub(crate) fn full() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// One row of an answer: window start, key, count, sum.
pub(crate) type Answer = (i64, i64, i64, i64);

/// A digest of answers in their order.
#[derive(Default)]
pub(crate) struct Digest(u64);

impl Digest {
    pub(crate) fn add(&mut self, (start, key, count, sum): Answer) {
        for part in [start, key, count, sum] {
            self.0 = (self.0 ^ part as u64).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
        }
    }
}

fn schema() -> SchemaRef {
    let field = |name| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![field("at"), field("k"), field("v")]))
}

fn aggregate(
    function: Arc<AggregateUDF>,
    argument: Arc<dyn PhysicalExpr>,
    native: NativeFunction,
) -> AggregateSpec {
    let function = AggregateExprBuilder::new(function, vec![argument])
        .schema(schema())
        .alias("a")
        .build()
        .expect("the aggregate exists");
    let output = function.field();
    AggregateSpec { function: Arc::new(function), filter: None, native: Some(native), output }
}

fn spec(kind: TimeWindowKind) -> Arc<WindowAggregateSpec> {
    let field = |name| Arc::new(Field::new(name, DataType::Int64, true)) as FieldRef;
    let fields: Vec<FieldRef> =
        ["window_start", "window_end", "k", "n", "total"].into_iter().map(field).collect();
    Arc::new(WindowAggregateSpec {
        window: WindowSource::Time(TimeWindow { kind, offset: 0, timezone: None }),
        time_column: Some(0),
        keys: vec![1],
        aggregates: vec![
            aggregate(count_udaf(), lit(1_i64), NativeFunction::CountRows),
            aggregate(sum_udaf(), Arc::new(Column::new("v", 2)), NativeFunction::Sum),
        ],
        emit: EmitSpec { mode: EmitMode::OnClose, allowed_lateness: 0 },
        input_schema: schema(),
        schema: Arc::new(Schema::new(fields)),
    })
}

fn batches(load: &Load) -> Vec<Change> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let step = SECOND / load.rows_per_second.max(1) as i64;
    let mut changes = Vec::new();
    for first in (0..load.rows).step_by(load.batch) {
        let rows = load.batch.min(load.rows - first);
        let at: Vec<i64> = (first..first + rows).map(|row| row as i64 * step).collect();
        let arrival: Vec<i64> = at.iter().map(|t| t - SECOND).collect();
        let keys: Int64Array =
            (0..rows).map(|_| Some((random() >> 20) as i64 % load.keys)).collect();
        let values: Int64Array = (0..rows).map(|_| Some((random() >> 40) as i64)).collect();
        let columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(at)), Arc::new(keys), Arc::new(values)];
        let marks = Marks::Rows(arrival.into());
        changes.push(Change {
            batch: RecordBatch::try_new(schema(), columns).expect("the columns fit"),
            weights: None,
            origin: Arc::new(Origin {
                relation: Arc::from("s"),
                first_offset: first as u64,
                ingest_time: 0,
                arrival: marks.clone(),
                progress: marks,
            }),
            rows: None,
        });
    }
    changes
}

fn digest(outputs: &[Output], into: &mut Digest) {
    for output in outputs {
        let Output::Change(change) = output else { continue };
        let column = |i: usize| change.batch.column(i).as_primitive::<Int64Type>().values();
        let (starts, keys, counts, sums) = (column(0), column(2), column(3), column(4));
        for row in 0..change.batch.num_rows() {
            into.add((starts[row], keys[row], counts[row], sums[row]));
        }
    }
}

/// Columns of a batch: times, keys, values.
pub(crate) fn columns(change: &Change) -> (&[i64], &[i64], &[i64]) {
    let column = |i: usize| {
        let values: &[i64] = change.batch.column(i).as_primitive::<Int64Type>().values();
        values
    };
    (column(0), column(1), column(2))
}

/// Runs both, checks that they agree, prints both rates.
#[expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]
pub(crate) fn run(name: &str, load: &Load, by_hand: impl Fn(&[Change], &mut Digest)) {
    let changes = batches(load);
    let clock = SystemClock;
    let (mut best, mut best_by_hand) = (i64::MAX, i64::MAX);
    let mut digests = Vec::new();
    for _ in 0..if full() { 5 } else { 1 } {
        let (mut ours, mut theirs) = (Digest::default(), Digest::default());
        let began = clock.now();
        let mut operator = WindowAggregate::new(spec(load.kind)).expect("the spec is sound");
        for change in &changes {
            let mut out = Emitter::default();
            let watermark = EventTime(change.origin.arrival.last());
            operator.on_change(0, change.clone(), &mut out).expect("rows are sound");
            operator.on_watermark(0, watermark, &mut out).expect("sums fit");
            digest(&out.outputs, &mut ours);
        }
        let mut out = Emitter::default();
        operator.on_watermark(0, EventTime::MAX, &mut out).expect("sums fit");
        digest(&out.outputs, &mut ours);
        best = best.min(clock.now() - began);
        let began = clock.now();
        by_hand(&changes, &mut theirs);
        best_by_hand = best_by_hand.min(clock.now() - began);
        assert_eq!(ours.0, theirs.0, "the operator and the hand-written loop disagree");
        digests.push(ours.0);
    }
    let rate = |micros: i64| load.rows as f64 / micros.max(1) as f64;
    println!(
        "{name}: {:.1} M rows/s, by hand {:.1}, ratio {:.2}, result {:016x}",
        rate(best),
        rate(best_by_hand),
        best_by_hand as f64 / best.max(1) as f64,
        digests[0]
    );
}
