//! Measures HEAVY_HITTERS over ready batches: each algorithm, Zipf and uniform items, beside a hand-written loop.
//!
//! The loop is lossy counting with a hash map of the library: the rule of the paper and nothing else. Both are
//! asked for support 0.01 and error 0.001, and have to answer alike. Beside them runs the frequent-items sketch of the
//! crate datasketches in a loop of its own, with the smallest map that promises that error. `cargo bench --bench heavy_hitters`; with
//! `-- "lossy"` only the runs whose names hold that. Without `--bench` few rows, and only the answers are checked.

use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use datasketches::frequencies::{ErrorType, FrequentItemsSketch};
use hashbrown::HashMap;
use weir::data::change::{Change, Marks, Origin};
use weir::operators::aggregate::{Aggregate, AggregateOpSpec};
use weir::operators::aggregates::mining::MiningFunction;
use weir::operators::aggregates::mining::heavy_hitters::{Form, HeavyHitters};
use weir::operators::aggregates::spec::AggregateSpec;
use weir::operators::emit::{EmitMode, EmitSpec};
use weir::operators::operator::{Emitter, Operator, Output};
use weir::sketches::fraction::Fraction;
use weir::sketches::heavy_hitters::{Algorithm, Mode, Question};
use weir::time::{Clock, SystemClock};

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 32_768;
const ITEMS: usize = 1_000_000;
/// The smallest map of the crate's whose error, 3.5 over its size, is at most a thousandth.
const CRATE_MAP: usize = 4_096;

fn full() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

fn main() {
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let rows = if full() { 8_000_000 } else { 30_000 };
    let algorithms = [
        ("lossy_counting", Algorithm::LossyCounting),
        ("sticky_sampling", Algorithm::StickySampling),
        ("space_saving", Algorithm::SpaceSaving),
        ("exact", Algorithm::Exact),
    ];
    for (distribution, exponent) in [("Zipf 1.1", 1.1), ("Zipf 0.7", 0.7), ("uniform", 0.0)] {
        let ranks = ranks(rows, exponent);
        for (kind, is_text) in [("integers", false), ("texts", true)] {
            let mut batches = Vec::new();
            for (name, algorithm) in algorithms {
                let name = format!("heavy hitters, {name}, {distribution}, {kind}");
                if wanted.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
                    continue;
                }
                if batches.is_empty() {
                    batches = changes(&ranks, is_text, None);
                }
                run(&name, &batches, algorithm, is_text);
            }
        }
    }
    for error in ["0.01", "0.001"] {
        let name = format!("heavy hitters, lossy_counting, 10,000 groups, error {error}");
        if wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str())) {
            groups(&name, rows / 2, error);
        }
    }
}

/// Random bits that repeat.
fn random() -> impl FnMut() -> u64 {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    }
}

/// Ranks by Zipf's law.
fn ranks(rows: usize, exponent: f64) -> Vec<u64> {
    let mut sum = 0.0;
    let mut edge = |rank: usize| {
        sum += 1.0 / (rank as f64).powf(exponent);
        sum
    };
    let edges: Vec<f64> = (1..=ITEMS).map(&mut edge).collect();
    let mut random = random();
    let mut rank = || {
        let unit = (random() >> 11) as f64 / (1_u64 << 53) as f64;
        edges.partition_point(|edge| *edge < unit * edges[ITEMS - 1]) as u64
    };
    (0..rows).map(|_| rank()).collect()
}

/// A number all over the range for each rank.
fn spread(rank: u64) -> i64 {
    rank.wrapping_mul(0x9e37_79b9_7f4a_7c15) as i64
}

fn schema(is_text: bool) -> SchemaRef {
    let item = if is_text { DataType::Utf8View } else { DataType::Int64 };
    let group = Field::new("g", DataType::Int64, false);
    Arc::new(Schema::new(vec![Field::new("item", item, false), group]))
}

fn changes(ranks: &[u64], is_text: bool, groups: Option<u64>) -> Vec<Change> {
    let mut random = random();
    let mut batches = Vec::new();
    for (index, part) in ranks.chunks(BATCH).enumerate() {
        let items: ArrayRef = match is_text {
            false => Arc::new(part.iter().map(|&rank| Some(spread(rank))).collect::<Int64Array>()),
            true => {
                let text = |&rank: &u64| Some(format!("/item/{:016x}", spread(rank)));
                Arc::new(part.iter().map(text).collect::<StringViewArray>())
            }
        };
        let group = |_| Some(groups.map_or(0, |groups| (random() >> 20) % groups) as i64);
        let groups: ArrayRef = Arc::new((0..part.len()).map(group).collect::<Int64Array>());
        let batch = RecordBatch::try_new(schema(is_text), vec![items, groups]);
        batches.push(Change {
            batch: batch.expect("the columns fit"),
            weights: None,
            origin: Arc::new(Origin {
                relation: Arc::from("s"),
                first_offset: (index * BATCH) as u64,
                ingest_time: 0,
                arrival: Marks::All(i64::MIN),
                progress: Marks::All(i64::MIN),
                derived: false,
            }),
            rows: None,
        });
    }
    batches
}

fn operator(algorithm: Algorithm, is_text: bool, error: &str, keys: Vec<usize>) -> Aggregate {
    let fraction = |text| Fraction::parse(text).expect("a fraction");
    let support = if keys.is_empty() { "0.01" } else { "0.1" };
    let item = schema(is_text).field(0).data_type().clone();
    let error = fraction(error);
    let miner = HeavyHitters {
        question: Question {
            support: fraction(support),
            error,
            algorithm,
            mode: Mode::NoFalseNegatives,
            failure: fraction("0.01"),
            seed: 0,
            in_parts: false,
        },
        item: vec![item],
        weighted: false,
        placed: false,
        slices: None,
        form: Form::Relation,
    };
    let argument: Arc<dyn PhysicalExpr> = Arc::new(Column::new("item", 0));
    let function = AggregateExprBuilder::new(MiningFunction::of(Arc::new(miner)), vec![argument])
        .schema(schema(is_text))
        .alias("answers")
        .build()
        .expect("the aggregate exists");
    let output = function.field();
    let mut fields: Vec<Field> =
        keys.iter().map(|&key| schema(is_text).field(key).clone()).collect();
    fields.push(output.as_ref().clone());
    let aggregate =
        AggregateSpec { function: Arc::new(function), filter: None, native: None, output };
    let spec = AggregateOpSpec {
        keys,
        aggregates: vec![aggregate],
        emit: EmitSpec { mode: EmitMode::Changes, allowed_lateness: 0 },
        input_append_only: true,
        input_schema: schema(is_text),
        schema: Arc::new(Schema::new(fields)),
    };
    Aggregate::new(Arc::new(spec)).expect("the spec is sound")
}

/// Lower bounds of the answers, greatest first.
fn answers(out: &Emitter) -> Vec<i64> {
    let mut counts = Vec::new();
    for output in &out.outputs {
        let Output::Change(change) = output else { continue };
        let lists = change.batch.columns().last().expect("there is a column of answers");
        let answers = lists.as_list::<i32>().values().as_struct();
        counts.extend(answers.column(1).as_primitive::<Int64Type>().values());
    }
    counts
}

/// Lossy counting as one would write it down.
struct ByHand<K> {
    entries: HashMap<K, (u64, u64)>,
    rows: u64,
}

impl<K: Hash + Eq> ByHand<K> {
    fn add(&mut self, item: K) {
        let bucket = self.rows / 1_000;
        self.entries.entry(item).or_insert((0, bucket)).0 += 1;
        self.rows += 1;
        if self.rows.is_multiple_of(1_000) {
            self.entries.retain(|_, (count, delta)| *count + *delta > bucket + 1);
        }
    }

    fn answers(&self) -> Vec<i64> {
        let least = (self.rows * 9).div_ceil(1_000);
        let counts = self.entries.values().map(|(count, _)| *count);
        let mut counts: Vec<i64> = counts.filter(|c| *c >= least).map(|c| c as i64).collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }
}

fn by_hand(changes: &[Change], is_text: bool) -> Vec<i64> {
    if is_text {
        let mut loop_ = ByHand { entries: HashMap::new(), rows: 0 };
        for change in changes {
            let items = change.batch.column(0).as_string_view();
            (0..items.len()).for_each(|row| loop_.add(items.value(row)));
        }
        return loop_.answers();
    }
    let mut loop_ = ByHand { entries: HashMap::new(), rows: 0 };
    for change in changes {
        let items = change.batch.column(0).as_primitive::<Int64Type>().values();
        items.iter().for_each(|&item| loop_.add(item));
    }
    loop_.answers()
}

/// How many items may be at least a hundredth of all, as the crate's sketch has it.
fn by_crate(changes: &[Change], is_text: bool) -> usize {
    if is_text {
        let mut sketch = crate_sketch();
        for change in changes {
            let items = change.batch.column(0).as_string_view();
            (0..items.len()).for_each(|row| sketch.update(items.value(row)));
        }
        return frequent_by_crate(&sketch);
    }
    let mut sketch = crate_sketch();
    for change in changes {
        let items = change.batch.column(0).as_primitive::<Int64Type>().values();
        items.iter().for_each(|&item| sketch.update(item));
    }
    frequent_by_crate(&sketch)
}

fn crate_sketch<K: Hash + Eq>() -> FrequentItemsSketch<K> {
    FrequentItemsSketch::new(CRATE_MAP).expect("the size is a power of two")
}

fn frequent_by_crate<K: Hash + Eq + Clone>(sketch: &FrequentItemsSketch<K>) -> usize {
    let least = sketch.total_weight().div_ceil(100) - 1;
    sketch.frequent_items_with_threshold(ErrorType::NoFalseNegatives, least).len()
}

#[expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]
fn run(name: &str, changes: &[Change], algorithm: Algorithm, is_text: bool) {
    let clock = SystemClock;
    let (mut best, mut best_by_hand, mut bytes) = (i64::MAX, i64::MAX, 0);
    let mut best_by_crate = i64::MAX;
    let rows: usize = changes.iter().map(|change| change.batch.num_rows()).sum();
    for _ in 0..if full() { 5 } else { 1 } {
        let began = clock.now();
        let mut operator = operator(algorithm, is_text, "0.001", vec![]);
        let mut out = Emitter::default();
        for change in changes {
            operator.on_change(0, change.clone(), &mut out).expect("rows are sound");
        }
        operator.on_step_end(&mut out).expect("counts fit");
        best = best.min(clock.now() - began);
        bytes = operator.state_bytes();
        let began = clock.now();
        let theirs = by_hand(changes, is_text);
        best_by_hand = best_by_hand.min(clock.now() - began);
        let began = clock.now();
        let frequent = by_crate(changes, is_text);
        best_by_crate = best_by_crate.min(clock.now() - began);
        let least = (rows as i64 + 99) / 100;
        let certain = answers(&out).iter().filter(|&&lower| lower >= least).count();
        assert!(certain <= frequent, "the crate's sketch misses what is frequent for sure");
        if algorithm == Algorithm::LossyCounting {
            assert_eq!(answers(&out), theirs, "the operator and the hand-written loop disagree");
        }
    }
    let rate = |micros: i64| rows as f64 / micros.max(1) as f64;
    println!(
        "{name}: {:.1} M rows/s, lossy counting by hand {:.1}, ratio {:.2}, crate {:.1}, ratio {:.2}, state {} kB",
        rate(best),
        rate(best_by_hand),
        best_by_hand as f64 / best.max(1) as f64,
        rate(best_by_crate),
        best_by_crate as f64 / best.max(1) as f64,
        bytes / 1_000
    );
}

/// What 10,000 groups hold, of 400 rows each: at error 0.01 the rows of several buckets, at 0.001 every item.
#[expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]
fn groups(name: &str, rows: usize, error: &str) {
    let changes = changes(&ranks(rows, 1.1), false, Some(10_000));
    let clock = SystemClock;
    let began = clock.now();
    let mut operator = operator(Algorithm::LossyCounting, false, error, vec![1]);
    let mut out = Emitter::default();
    for change in &changes {
        operator.on_change(0, change.clone(), &mut out).expect("rows are sound");
    }
    let rate = rows as f64 / (clock.now() - began).max(1) as f64;
    let bytes = operator.state_bytes();
    operator.on_step_end(&mut out).expect("counts fit");
    assert!(!answers(&out).is_empty(), "some item is frequent");
    assert!(bytes < 64 << 20, "{bytes} bytes of state");
    println!("{name}: {rate:.1} M rows/s, state {:.1} MB", bytes as f64 / 1e6);
}
