//! Measures filter and projection on ready batches, beside a loop written by hand.
//!
//! `WHERE v > 500`, `SELECT k, v * 2 + 1`. `cargo bench --bench filter_project` measures; under
//! `cargo test --benches` the same code runs over a few rows and only checks that both ways agree.
//! Either way the last line is a hash of the result.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::logical_expr::Operator as Op;
use datafusion::physical_expr::expressions::{binary, col, lit};
use weir::data::change::{Change, Marks, Origin};
use weir::operators::filter_project::{FilterProject, FilterProjectSpec};
use weir::operators::operator::{Emitter, Operator, Output};

/// Rows of one batch.
const BATCH_ROWS: usize = 8_192;

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let (batches, rounds) = if measured { (1_024, 7) } else { (2, 1) };
    let changes = input(batches);
    let mut operator = operator(&changes[0].batch.schema());
    let mut hashes = Vec::new();
    let operator_time = best(rounds, || hashes.push(by_operator(&mut operator, &changes)));
    let hand_time = best(rounds, || hashes.push(by_hand(&changes)));
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "the two ways disagree: {hashes:?}");
    if measured {
        let rate = |time: Duration| (batches * BATCH_ROWS) as f64 / time.as_secs_f64() / 1e6;
        println!("FilterProject     {:8.1} M rows/s", rate(operator_time));
        println!("hand-written loop {:8.1} M rows/s", rate(hand_time));
        println!("ratio             {:8.2}", rate(operator_time) / rate(hand_time));
    }
    println!("result hash {:016x}", hashes[0]);
}

/// Batches of keys and of values between 0 and 1,000, from a fixed linear congruence.
fn input(batches: usize) -> Vec<Change> {
    let fields = ["k", "v", "unused"].map(|name| Field::new(name, DataType::Int64, false));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let mut state = 1u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % 1_001) as i64
    };
    let mut change = |batch: usize| {
        let mut column = || Arc::new(Int64Array::from_iter_values((0..BATCH_ROWS).map(|_| next())));
        let columns: Vec<arrow::array::ArrayRef> = vec![column(), column(), column()];
        let origin = Origin {
            relation: Arc::from("s"),
            first_offset: (batch * BATCH_ROWS) as u64,
            ingest_time: 0,
            arrival: Marks::All(i64::MIN),
            progress: Marks::All(i64::MIN),
            derived: false,
        };
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("columns fit");
        Change { batch, weights: None, origin: Arc::new(origin), rows: None }
    };
    (0..batches).map(&mut change).collect()
}

fn operator(input: &SchemaRef) -> FilterProject {
    let column = |name| col(name, input).expect("the column is there");
    let combine = |left, op, right| binary(left, op, right, input).expect("types fit");
    let doubled = combine(column("v"), Op::Multiply, lit(2i64));
    let projection = vec![
        (column("k"), "k".to_owned()),
        (combine(doubled, Op::Plus, lit(1i64)), "w".to_owned()),
    ];
    let fields = ["k", "w"].map(|name| Field::new(name, DataType::Int64, true));
    let spec = FilterProjectSpec {
        filter: Some(combine(column("v"), Op::Gt, lit(500i64))),
        projection: Some(projection),
        input_schema: Arc::clone(input),
        schema: Arc::new(Schema::new(fields.to_vec())),
    };
    FilterProject::new(Arc::new(spec)).expect("the expressions are sound")
}

fn by_operator(operator: &mut FilterProject, changes: &[Change]) -> u64 {
    let mut hash = 0;
    let mut out = Emitter::default();
    for change in changes {
        operator.on_change(0, change.clone(), &mut out).expect("no row fails");
        for output in out.outputs.drain(..) {
            if let Output::Change(change) = output {
                let column = |i| change.batch.column(i).as_primitive::<Int64Type>().values();
                hash = fold(hash, column(0), column(1));
            }
        }
    }
    hash
}

fn by_hand(changes: &[Change]) -> u64 {
    let mut hash = 0;
    for change in changes {
        let column = |i| change.batch.column(i).as_primitive::<Int64Type>().values();
        let (keys, values) = (column(0), column(1));
        let (mut k, mut w) = (Vec::new(), Vec::new());
        for (key, value) in keys.iter().zip(values) {
            if *value > 500 {
                k.push(*key);
                w.push(value * 2 + 1);
            }
        }
        hash = fold(hash, &k, &w);
    }
    hash
}

/// Looks at the first and last rows of a result only, so that hashing is not what is measured.
fn fold(hash: u64, k: &[i64], w: &[i64]) -> u64 {
    let (k, w) = (black_box(k), black_box(w));
    let ends = [k.len() as i64, k[0], w[0], k[k.len() - 1], w[w.len() - 1]];
    ends.iter().fold(hash, |h, v| (h ^ *v as u64).wrapping_mul(0x0100_0000_01b3).rotate_left(17))
}

/// The shortest of several runs.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn best(rounds: usize, mut run: impl FnMut()) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        run();
        shortest = shortest.min(start.elapsed());
    }
    shortest
}
