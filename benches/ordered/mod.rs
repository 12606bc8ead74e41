//! Makes rows of a time, a key and a value, and measures an operator beside a hand-written loop.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use weir::data::change::{Change, Marks, Origin};
use weir::operators::operator::{Emitter, Operator, Output};
use weir::time::{Clock, EventTime, SECOND, SystemClock};

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whether this is `cargo bench`; a test run does the same with little.
pub(crate) fn full() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// How many rows, of how many keys.
pub(crate) struct Load {
    pub(crate) rows: usize,
    pub(crate) keys: i64,
    /// How far a row's time may lie behind the latest.
    pub(crate) disorder: i64,
}

/// The columns of the input.
pub(crate) fn input() -> SchemaRef {
    let field = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![field("at"), field("k"), field("v")]))
}

/// The columns of the output: the input's, then the answer.
pub(crate) fn output() -> SchemaRef {
    let mut fields: Vec<_> = input().fields().iter().map(Arc::clone).collect();
    fields.push(Arc::new(Field::new("answer", DataType::Int64, true)));
    Arc::new(Schema::new(fields))
}

fn batches(load: &Load) -> Vec<Change> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 20) as i64
    };
    let (batch, step) = (if full() { 32_768 } else { 500 }, SECOND / 100_000);
    let mut changes = Vec::new();
    for first in (0..load.rows).step_by(batch) {
        let rows = batch.min(load.rows - first);
        let times = (first..first + rows).map(|row| row as i64 * step);
        let arrival: Vec<i64> = times.clone().map(|time| time - load.disorder).collect();
        let at: Int64Array =
            times.map(|time| Some(time - random() % load.disorder.max(1))).collect();
        let keys: Int64Array = (0..rows).map(|_| Some(random() % load.keys)).collect();
        let values: Int64Array = (0..rows).map(|_| Some(random() % 1_000_000)).collect();
        let columns: Vec<ArrayRef> = vec![Arc::new(at), Arc::new(keys), Arc::new(values)];
        let marks = Marks::Rows(arrival.into());
        changes.push(Change {
            batch: RecordBatch::try_new(input(), columns).expect("the columns fit"),
            weights: None,
            origin: Arc::new(Origin {
                relation: Arc::from("s"),
                first_offset: first as u64,
                ingest_time: 0,
                arrival: marks.clone(),
                progress: marks,
                derived: false,
            }),
            rows: None,
        });
    }
    changes
}

/// The columns of a batch of the input.
pub(crate) fn columns(change: &Change) -> (&[i64], &[i64], &[i64]) {
    let column = |i: usize| {
        let values: &[i64] = change.batch.column(i).as_primitive::<Int64Type>().values();
        values
    };
    (column(0), column(1), column(2))
}

/// What is left of an answer: the weighted sum of a hash of each row, in whatever order.
fn digest(outputs: &[Output], into: &mut i64) {
    for output in outputs {
        let Output::Change(change) = output else { continue };
        let (at, keys, values) = columns(change);
        let answers = change.batch.column(3).as_primitive::<Int64Type>().values();
        for row in 0..change.batch.num_rows() {
            let hash = hash(at[row], keys[row], values[row], answers[row]);
            *into = into.wrapping_add(hash.wrapping_mul(change.weight(row)));
        }
    }
}

/// A number for a row of the answer.
pub(crate) fn hash(at: i64, key: i64, value: i64, answer: i64) -> i64 {
    let mut hash = 0_u64;
    for part in [at, key, value, answer] {
        hash = (hash ^ part as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    }
    hash as i64
}

/// Runs both, checks that they agree, prints both rates.
#[expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]
pub(crate) fn run(
    name: &str,
    load: &Load,
    make: impl Fn() -> Box<dyn Operator>,
    by_hand: impl Fn(&[Change]) -> i64,
) {
    let changes = batches(load);
    let clock = SystemClock;
    let (mut best, mut best_by_hand) = (i64::MAX, i64::MAX);
    for _ in 0..if full() { 5 } else { 1 } {
        let mut ours = 0;
        let began = clock.now();
        let mut operator = make();
        for change in &changes {
            let mut out = Emitter::default();
            let watermark = EventTime(change.origin.arrival.at(change.batch.num_rows() - 1));
            operator.on_change(0, change.clone(), &mut out).expect("rows are sound");
            operator.on_watermark(0, watermark, &mut out).expect("rows are sound");
            operator.on_step_end(&mut out).expect("rows are sound");
            digest(&out.outputs, &mut ours);
        }
        let mut out = Emitter::default();
        operator.on_watermark(0, EventTime::MAX, &mut out).expect("rows are sound");
        digest(&out.outputs, &mut ours);
        best = best.min(clock.now() - began);
        let began = clock.now();
        let theirs = by_hand(&changes);
        best_by_hand = best_by_hand.min(clock.now() - began);
        assert_eq!(ours, theirs, "{name}: the operator and the hand-written loop disagree");
    }
    let rate = |micros: i64| load.rows as f64 / micros.max(1) as f64;
    println!(
        "{name}: {:.1} M rows/s, by hand {:.1}, ratio {:.2}",
        rate(best),
        rate(best_by_hand),
        best_by_hand as f64 / best.max(1) as f64
    );
}
