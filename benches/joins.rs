//! Measures joins on ready batches beside hand-written hash joins: Nexmark's q3 and q8.
//!
//! q3 joins persons with the auctions that they open, on and on, and keeps both; q8 joins those who are
//! new in a window with the sellers of that window, and lets go of both when it closes. Rows per second
//! are those of both inputs. `cargo bench --bench joins`; without `--bench` few rows, and only the
//! answers are checked.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use hashbrown::HashMap;
use weir::data::change::{Change, Marks, Origin};
use weir::operators::join::Join;
use weir::operators::join::spec::{JoinKind, JoinSpec, Within};
use weir::operators::operator::{Emitter, Operator, Output};
use weir::time::{Clock, EventTime, SystemClock};

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 8_192;
/// Rows of a window of q8, both sides together.
const WINDOW_ROWS: i64 = 100_000;

/// What comes in, in order.
enum Input {
    Rows(usize, RecordBatch),
    Watermark(i64),
}

/// Number of pairs, and a sum over them.
#[derive(Debug, PartialEq, Eq, Default)]
struct Digest {
    pairs: u64,
    sum: i64,
}

impl Digest {
    fn add(&mut self, person: i64, auction: i64) {
        self.pairs += 1;
        self.sum = self.sum.wrapping_add(person.wrapping_mul(31).wrapping_add(auction));
    }
}

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let rows = if full { 8_000_000 } else { 40_000 };
    run("q3, persons with their auctions", &q3(rows), None);
    let within = Within {
        times: [2, 2],
        low: Some(0),
        high: Some(0),
        delays: [0, 0],
        windows: true,
        allowed_lateness: 0,
        granule: 1,
    };
    run("q8, new persons who sell in the same window", &q8(rows), Some(within));
}

fn schema(time: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8View, false),
    ];
    fields.push(Field::new(if time { "window_end" } else { "number" }, DataType::Int64, false));
    Arc::new(Schema::new(fields))
}

/// Key, text and a further number of rows.
fn batch(rows: impl Iterator<Item = (i64, i64)>, time: bool) -> RecordBatch {
    let (keys, numbers): (Vec<i64>, Vec<i64>) = rows.unzip();
    let texts = keys.iter().map(|key| format!("name {key}"));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(keys.clone())),
        Arc::new(StringViewArray::from_iter_values(texts)),
        Arc::new(Int64Array::from(numbers)),
    ];
    RecordBatch::try_new(schema(time), columns).expect("the columns are the schema's")
}

/// A number that looks like chance.
fn scatter(number: i64) -> i64 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64) >> 33).abs()
}

/// One person to three auctions, each of one of the last 100,000 persons.
fn q3(rows: usize) -> Vec<Input> {
    let (mut persons, mut auctions) = (0_i64, 0_i64);
    let mut inputs = Vec::new();
    while ((persons + auctions) as usize) < rows {
        let more = (BATCH / 4) as i64;
        inputs.push(Input::Rows(0, batch((persons..persons + more).map(|p| (p, p)), false)));
        persons += more;
        let seller = |auction: i64| persons - 1 - scatter(auction) % persons.min(100_000);
        let rows = (auctions..auctions + 3 * more).map(|auction| (seller(auction), auction));
        inputs.push(Input::Rows(1, batch(rows, false)));
        auctions += 3 * more;
    }
    inputs
}

/// In every window as many persons as sellers, of whom half are new in it.
fn q8(rows: usize) -> Vec<Input> {
    let mut inputs = Vec::new();
    let (mut first, mut end) = (0, 0);
    while (2 * first as usize) < rows {
        end += 10;
        let half = WINDOW_ROWS.min(rows as i64) / 2;
        for start in (0..half).step_by(BATCH) {
            let range = start..(start + BATCH as i64).min(half);
            inputs.push(Input::Rows(0, batch(range.clone().map(|i| (first + i, end)), true)));
            let seller = |i: i64| first + i - if i % 2 == 0 { half } else { 0 };
            inputs.push(Input::Rows(1, batch(range.map(|i| (seller(i), end)), true)));
        }
        inputs.push(Input::Watermark(end));
        first += half;
    }
    inputs
}

fn run(name: &str, inputs: &[Input], within: Option<Within>) {
    let rows: usize = inputs
        .iter()
        .map(|input| match input {
            Input::Rows(_, batch) => batch.num_rows(),
            Input::Watermark(_) => 0,
        })
        .sum();
    let rate = |micros: i64| rows as f64 / micros.max(1) as f64;
    let (mut best, mut best_by_hand) = (0.0_f64, 0.0_f64);
    for _ in 0..3 {
        let start = SystemClock.now();
        let ours = joined(inputs, within.clone());
        best = best.max(rate(SystemClock.now() - start));
        let start = SystemClock.now();
        let by_hand = by_hand(inputs);
        best_by_hand = best_by_hand.max(rate(SystemClock.now() - start));
        assert_eq!(ours, by_hand, "{name}");
    }
    println!(
        "{name}: {rows} rows, {best:.1} M rows/s; by hand {best_by_hand:.1} M rows/s; ratio {:.2}",
        best / best_by_hand
    );
}

/// Our join; what comes out is read.
fn joined(inputs: &[Input], within: Option<Within>) -> Digest {
    let schemas = [schema(within.is_some()), schema(within.is_some())];
    let both = schemas.iter().flat_map(|schema| schema.fields().iter().cloned());
    let joined: SchemaRef = Arc::new(Schema::new(both.collect::<Vec<_>>()));
    let keys = if within.is_some() { vec![(0, 0), (2, 2)] } else { vec![(0, 0)] };
    let spec = JoinSpec {
        kind: JoinKind::Inner,
        keys,
        nulls_match: false,
        filter: None,
        as_of_now: false,
        within,
        inputs: schemas,
        append_only: [true; 2],
        shares_input: false,
        schema: Arc::clone(&joined),
        joined,
    };
    let mut join = Join::new(Arc::new(spec)).expect("the plan is sound");
    let mut digest = Digest::default();
    let mut out = Emitter::default();
    for input in inputs {
        match input {
            Input::Rows(port, batch) => {
                join.on_change(*port, change(batch), &mut out).expect("no row fails");
            }
            Input::Watermark(end) => {
                for port in 0..2 {
                    join.on_watermark(port, EventTime(*end), &mut out).expect("no row fails");
                }
            }
        }
        for output in out.outputs.drain(..) {
            let Output::Change(change) = output else { continue };
            let column = |i: usize| change.batch.column(i).as_primitive::<Int64Type>().values();
            let pairs = column(0).iter().zip(column(5).iter());
            pairs.for_each(|(person, auction)| digest.add(*person, *auction));
        }
    }
    digest
}

fn change(batch: &RecordBatch) -> Change {
    let origin = Origin {
        relation: Arc::from("bench"),
        first_offset: 0,
        ingest_time: 0,
        arrival: Marks::All(i64::MIN),
        progress: Marks::All(i64::MIN),
        derived: false,
    };
    Change { batch: batch.clone(), weights: None, origin: Arc::new(origin), rows: None }
}

/// A hash map per side, from key to rows; the rows that come out are made, too.
fn by_hand(inputs: &[Input]) -> Digest {
    type Rows = HashMap<i64, Vec<(i64, String)>>;
    let mut sides: [Rows; 2] = [Rows::default(), Rows::default()];
    let mut digest = Digest::default();
    for input in inputs {
        let Input::Rows(port, batch) = input else {
            sides.iter_mut().for_each(HashMap::clear);
            continue;
        };
        let keys = batch.column(0).as_primitive::<Int64Type>().values();
        let names = batch.column(1).as_string_view();
        let numbers = batch.column(2).as_primitive::<Int64Type>().values();
        let mut made: Vec<(i64, String, String, i64)> = Vec::new();
        for row in 0..batch.num_rows() {
            let (key, name, number) = (keys[row], names.value(row), numbers[row]);
            for (other, text) in sides[1 - port].get(&key).into_iter().flatten() {
                let number = if *port == 0 { *other } else { number };
                made.push((key, text.clone(), name.to_owned(), number));
            }
            sides[*port].entry(key).or_default().push((number, name.to_owned()));
        }
        made.iter().for_each(|(key, _, _, number)| digest.add(*key, *number));
    }
    digest
}
