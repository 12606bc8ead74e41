//! Builds rows, runs the windowed aggregation over them beside a hand-written loop, and compares.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, Schema, SchemaRef};
use datafusion::functions_aggregate::{count::count_udaf, sum::sum_udaf};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, lit};
use weir::crew::Crew;
use weir::crew::helpers::Helpers;
use weir::data::change::{Change, Marks, Origin};
use weir::operators::aggregates::spec::{AggregateSpec, NativeFunction};
use weir::operators::emit::{EmitMode, EmitSpec};
use weir::operators::fork::{Fork, Job, Sharding};
use weir::operators::operator::{Emitter, Operator, Output};
use weir::operators::window_aggregate::{Shards, WindowAggregateSpec, WindowSource};
use weir::pipeline::shards::Forked;
use weir::time::{Clock, EventTime, SECOND, SystemClock};
use weir::windows::spec::{TimeWindow, TimeWindowKind};

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What a bench runs over.
pub(crate) struct Load {
    pub(crate) kind: TimeWindowKind,
    pub(crate) rows: usize,
    pub(crate) rows_per_second: usize,
    pub(crate) keys: Keys,
    pub(crate) key_count: i64,
    pub(crate) batch: usize,
    /// Shards of the operator.
    pub(crate) shards: usize,
    /// Whether it also counts distinct values, which costs more than all the rest.
    pub(crate) costly: bool,
}

/// What the keys look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each bench uses the kinds that it measures")]
pub(crate) enum Keys {
    /// The numbers from 0 on.
    Dense,
    /// Numbers all over the range.
    Spread,
    /// Texts of 11 bytes.
    Short,
    /// Texts of 19 bytes.
    Long,
    /// Two columns of numbers.
    Pairs,
}

impl Keys {
    /// Types of the key columns: the second column of a batch, and with pairs the fourth.
    fn types(self) -> Vec<DataType> {
        match self {
            Keys::Dense | Keys::Spread => vec![DataType::Int64],
            Keys::Short | Keys::Long => vec![DataType::Utf8View],
            Keys::Pairs => vec![DataType::Int64; 2],
        }
    }

    fn columns(self, keys: &[i64]) -> Vec<ArrayRef> {
        let integers = |of: &dyn Fn(i64) -> i64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(keys.iter().map(|&key| of(key))))
        };
        let texts = |of: &dyn Fn(i64) -> String| -> ArrayRef {
            Arc::new(StringViewArray::from_iter_values(keys.iter().map(|&key| of(key))))
        };
        match self {
            Keys::Dense => vec![integers(&|key| key)],
            Keys::Spread => {
                vec![integers(&|key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64))]
            }
            Keys::Short => vec![texts(&|key| format!("k{key:010}"))],
            Keys::Long => vec![texts(&|key| format!("customer-{key:010}"))],
            Keys::Pairs => vec![integers(&|key| key / 1_000), integers(&|key| key % 1_000)],
        }
    }
}

/// The number that a text key ends with.
pub(crate) fn number_of_text(text: &str) -> i64 {
    let digits = &text.as_bytes()[text.len() - 10..];
    digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
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

fn schema(keys: Keys) -> SchemaRef {
    let field = |name: &str| Field::new(name, DataType::Int64, false);
    let mut fields = vec![field("at"), field("k"), field("v")];
    for (i, data_type) in keys.types().into_iter().enumerate() {
        let key = Field::new("k", data_type, false);
        if i == 0 { fields[1] = key } else { fields.push(key.with_name("l")) }
    }
    Arc::new(Schema::new(fields))
}

fn aggregate(
    function: Arc<AggregateUDF>,
    argument: Arc<dyn PhysicalExpr>,
    native: Option<NativeFunction>,
) -> AggregateSpec {
    let function =
        AggregateExprBuilder::new(function, vec![argument]).schema(schema(Keys::Dense)).alias("a");
    let function = if native.is_none() { function.distinct() } else { function };
    let function = function.build().expect("the aggregate exists");
    let output = function.field();
    AggregateSpec { function: Arc::new(function), filter: None, native, output }
}

fn spec(load: &Load) -> Arc<WindowAggregateSpec> {
    let field = |name, data_type| Arc::new(Field::new(name, data_type, true)) as FieldRef;
    let integer = |name| field(name, DataType::Int64);
    let mut fields = vec![integer("window_start"), integer("window_end")];
    let types = load.keys.types();
    let keys = if types.len() == 1 { vec![1] } else { vec![1, 3] };
    fields.extend(types.into_iter().map(|data_type| field("k", data_type)));
    let mut aggregates = vec![
        aggregate(count_udaf(), lit(1_i64), Some(NativeFunction::CountRows)),
        aggregate(sum_udaf(), Arc::new(Column::new("v", 2)), Some(NativeFunction::Sum)),
    ];
    if load.costly {
        fields.push(integer("distinct"));
        aggregates.insert(0, aggregate(count_udaf(), Arc::new(Column::new("v", 2)), None));
    }
    fields.extend([integer("n"), integer("total")]);
    let kind = load.kind;
    Arc::new(WindowAggregateSpec {
        input_append_only: true,
        window: WindowSource::Time(TimeWindow { kind, offset: 0, timezone: None }),
        time_column: Some(0),
        keys,
        aggregates,
        emit: EmitSpec { mode: EmitMode::OnClose, allowed_lateness: 0 },
        input_schema: schema(load.keys),
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
        let keys: Vec<i64> = (0..rows).map(|_| (random() >> 20) as i64 % load.key_count).collect();
        let values: Int64Array = (0..rows).map(|_| Some((random() >> 40) as i64)).collect();
        let mut keys = load.keys.columns(&keys).into_iter();
        let first_key = keys.next().expect("there is a key column");
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(Int64Array::from(at)), first_key, Arc::new(values)];
        columns.extend(keys);
        let marks = Marks::Rows(arrival.into());
        changes.push(Change {
            batch: RecordBatch::try_new(schema(load.keys), columns).expect("the columns fit"),
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

fn digest(keys: Keys, outputs: &[Output], into: &mut Digest) {
    for output in outputs {
        let Output::Change(change) = output else { continue };
        let column = |i: usize| change.batch.column(i).as_primitive::<Int64Type>().values();
        let width = change.batch.num_columns();
        let (starts, counts, sums) = (column(0), column(width - 2), column(width - 1));
        let mut add = |key: &dyn Fn(usize) -> i64| {
            for row in 0..change.batch.num_rows() {
                into.add((starts[row], key(row), counts[row], sums[row]));
            }
        };
        match keys {
            Keys::Dense | Keys::Spread => {
                let keys = column(2);
                add(&|row| keys[row]);
            }
            Keys::Short | Keys::Long => {
                let keys = change.batch.column(2).as_string_view();
                add(&|row| number_of_text(keys.value(row)));
            }
            Keys::Pairs => {
                let (high, low) = (column(2), column(3));
                add(&|row| high[row] * 1_000 + low[row]);
            }
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

/// Does pieces of work one after the other, and knows what it would take less to do them at once. So the
/// gain shows on a machine that is busy with other things, too.
#[derive(Default)]
struct SideBySide(AtomicI64);

impl Fork for SideBySide {
    fn run(&self, jobs: Vec<Job>) {
        let (mut all, mut longest) = (0, 0);
        for job in jobs {
            let began = processor_time();
            job();
            let took = processor_time() - began;
            all += took;
            longest = longest.max(took);
        }
        self.0.fetch_add(all - longest, Ordering::Relaxed);
    }
}

/// Nanoseconds that this thread has run; 0 where nobody says so.
fn processor_time() -> i64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|time| time.parse().ok()).unwrap_or(0)
}

/// Shards from the first key on.
fn sharding(load: &Load, fork: Arc<dyn Fork>) -> Sharding {
    let rows = if full() { 8_192 } else { 0 };
    Sharding { shards: load.shards, keys: 0, rows, fork }
}

fn helpers() -> Arc<dyn Fork> {
    static HELPERS: LazyLock<Arc<Helpers>> =
        LazyLock::new(|| Arc::new(Helpers::start(&Crew::Threads, 3).expect("there are threads")));
    Arc::new(Forked(Arc::clone(&HELPERS)))
}

/// Runs the operator over all rows.
fn pass(load: &Load, changes: &[Change], fork: Arc<dyn Fork>) -> Digest {
    let mut ours = Digest::default();
    let mut operator = Shards::new(spec(load), sharding(load, fork)).expect("the spec is sound");
    for change in changes {
        let mut out = Emitter::default();
        let watermark = EventTime(change.origin.arrival.at(change.batch.num_rows() - 1));
        operator.on_change(0, change.clone(), &mut out).expect("rows are sound");
        operator.on_watermark(0, watermark, &mut out).expect("sums fit");
        digest(load.keys, &out.outputs, &mut ours);
    }
    let mut out = Emitter::default();
    operator.on_watermark(0, EventTime::MAX, &mut out).expect("sums fit");
    digest(load.keys, &out.outputs, &mut ours);
    ours
}

/// Runs both, checks that they agree, prints both rates, and that by processor time, which others on
/// the machine do not change.
#[expect(clippy::print_stdout, reason = "a bench reports to whoever runs it")]
pub(crate) fn run(name: &str, load: &Load, by_hand: impl Fn(&[Change], &mut Digest)) {
    let changes = batches(load);
    let clock = SystemClock;
    let (mut best, mut best_by_hand, mut best_alone) = (i64::MAX, i64::MAX, i64::MAX);
    let mut digests = Vec::new();
    for _ in 0..if full() { 5 } else { 1 } {
        let began = clock.now();
        let ours = pass(load, &changes, helpers());
        best = best.min(clock.now() - began);
        let (mut theirs, began) = (Digest::default(), clock.now());
        by_hand(&changes, &mut theirs);
        best_by_hand = best_by_hand.min(clock.now() - began);
        let (fork, began) = (Arc::new(SideBySide::default()), processor_time());
        let alone = pass(load, &changes, Arc::clone(&fork) as _);
        let took = processor_time() - began - fork.0.load(Ordering::Relaxed);
        best_alone = best_alone.min(took / 1_000);
        assert_eq!(ours.0, theirs.0, "the operator and the hand-written loop disagree");
        assert_eq!(ours.0, alone.0, "the operator disagrees with itself");
        digests.push(ours.0);
    }
    let rate = |micros: i64| load.rows as f64 / micros.max(1) as f64;
    println!(
        "{name}: {:.1} M rows/s, by processor time {:.1}, by hand {:.1}, ratio {:.2}, result {:016x}",
        rate(best),
        rate(best_alone),
        rate(best_by_hand),
        best_by_hand as f64 / best.max(1) as f64,
        digests[0]
    );
}
