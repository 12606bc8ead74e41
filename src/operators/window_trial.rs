//! Feeds rows to a window operator in tests, cut into batches, and writes down what comes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringViewArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, lit};
use proptest::prelude::*;

use crate::data::change::{Change, Marks, Origin};
use crate::operators::aggregates::spec::{AggregateSpec, NativeFunction};
use crate::operators::emit::{EmitMode, EmitSpec};
use crate::operators::operator::{Emitter, Operator, Output};
use crate::time::EventTime;

/// One input row; its number in the input is column `n`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// Event time, column `at`.
    pub(crate) at: i64,
    /// Partition, column `k`.
    pub(crate) k: Option<i64>,
    /// A further key, column `u`.
    pub(crate) u: i64,
    /// Column `s`, START.
    pub(crate) s: bool,
    /// Column `e`, END.
    pub(crate) e: bool,
    /// Processing time.
    pub(crate) now: i64,
}

/// A row of partition `k` at `at`.
pub(crate) fn row(k: i64, at: i64) -> Row {
    Row { at, k: Some(k), u: 0, s: false, e: false, now: 0 }
}

/// Places of the input's columns.
pub(crate) const AT: usize = 0;
pub(crate) const K: usize = 1;
pub(crate) const U: usize = 2;

/// The input's columns; `x` is a number whose sum depends on the order.
pub(crate) fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("at", DataType::Int64, true),
        Field::new("k", DataType::Int64, true),
        Field::new("u", DataType::Utf8View, true),
        Field::new("n", DataType::Int64, true),
        Field::new("x", DataType::Float64, true),
        Field::new("s", DataType::Boolean, true),
        Field::new("e", DataType::Boolean, true),
    ]))
}

/// Columns `names` of the output, then those of keys and aggregates.
pub(crate) fn output_schema(window: &[(&str, DataType)], keys: &[usize]) -> SchemaRef {
    let input = input_schema();
    let mut fields: Vec<Field> =
        window.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect();
    fields.extend(keys.iter().map(|&key| input.field(key).clone()));
    fields.extend(aggregates().iter().map(|aggregate| aggregate.output.as_ref().clone()));
    Arc::new(Schema::new(fields))
}

/// A column of the input as an expression.
pub(crate) fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new_with_schema(name, &input_schema()).unwrap())
}

/// count(*), array_agg(n): which rows a group holds, and sum(x): that they were added in order.
pub(crate) fn aggregates() -> Vec<AggregateSpec> {
    let spec =
        |function: Arc<AggregateUDF>, argument: Arc<dyn PhysicalExpr>, alias: &str, native| {
            let builder =
                AggregateExprBuilder::new(function, vec![argument]).schema(input_schema());
            let function = builder.alias(alias).build().unwrap();
            let output = function.field();
            AggregateSpec { function: Arc::new(function), filter: None, native, output }
        };
    vec![
        spec(count_udaf(), lit(1_i64), "count", Some(NativeFunction::CountRows)),
        spec(array_agg_udaf(), column("n"), "rows", None),
        spec(sum_udaf(), column("x"), "sum", Some(NativeFunction::Sum)),
    ]
}

/// A number of which sums depend on the order of addition.
pub(crate) fn x_of(n: usize) -> f64 {
    [0.1, 1e16, -1e16, 0.7][n % 4]
}

/// What the aggregates of rows `numbers` show.
pub(crate) fn shown(numbers: &[usize]) -> String {
    let list: Vec<String> = numbers.iter().map(usize::to_string).collect();
    let sum: f64 = numbers.iter().fold(0.0, |sum, &n| sum + x_of(n));
    let sum = array_value_to_string(&Float64Array::from(vec![sum]), 0).unwrap();
    format!("{} [{}] {sum}", numbers.len(), list.join(", "))
}

/// EMIT ON CLOSE with an allowed lateness.
pub(crate) fn on_close(allowed_lateness: i64) -> EmitSpec {
    EmitSpec { mode: EmitMode::OnClose, allowed_lateness }
}

/// What came out.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Rows, with `+` or `-` before them.
    pub(crate) lines: Vec<String>,
    /// Offsets of late rows.
    pub(crate) late: Vec<u64>,
    /// Offsets and codes of refused rows.
    pub(crate) refused: Vec<(u64, &'static str)>,
    /// Bytes of state at the end.
    pub(crate) state_bytes: usize,
}

impl Outcome {
    /// The rows that stand at the end, sorted; panics where one is taken back that does not stand.
    pub(crate) fn net(&self) -> Vec<String> {
        let mut standing: BTreeMap<&str, i64> = BTreeMap::new();
        for line in &self.lines {
            let count = standing.entry(&line[2..]).or_default();
            *count += if line.starts_with('+') { 1 } else { -1 };
            assert!(*count >= 0, "{line} takes back what does not stand, in {:#?}", self.lines);
        }
        let repeat = |(line, count): (&str, i64)| vec![line.to_owned(); count as usize];
        standing.into_iter().flat_map(repeat).collect()
    }
}

/// An operator under trial: its watermark is the highest event time less `bound`.
pub(crate) struct Trial<O> {
    operator: O,
    bound: i64,
    highest: Option<i64>,
    next: usize,
    out: Emitter,
}

impl<O: Operator> Trial<O> {
    pub(crate) fn new(operator: O, bound: i64) -> Trial<O> {
        Trial { operator, bound, highest: None, next: 0, out: Emitter::default() }
    }

    /// Feeds rows in batches: one ends before row `i` where `cuts` says so or processing time moves.
    pub(crate) fn feed(mut self, rows: &[Row], cuts: impl Fn(usize) -> bool) -> Trial<O> {
        let mut start = 0;
        for end in 1..=rows.len() {
            if end == rows.len() || cuts(end) || rows[end].now != rows[end - 1].now {
                self.batch(&rows[start..end]);
                start = end;
            }
        }
        self
    }

    pub(crate) fn watermark(mut self, watermark: EventTime) -> Trial<O> {
        self.operator.on_watermark(0, watermark, &mut self.out).unwrap();
        self
    }

    pub(crate) fn punctuate(mut self, punctuation: &crate::data::punctuation::Punctuation) -> Self {
        self.operator.on_punctuation(0, punctuation, &mut self.out).unwrap();
        self
    }

    pub(crate) fn tick(mut self, now: i64) -> Trial<O> {
        self.operator.on_tick(now, &mut self.out).unwrap();
        self
    }

    pub(crate) fn next_tick(&self) -> Option<i64> {
        self.operator.next_tick()
    }

    pub(crate) fn finish(self) -> Outcome {
        let mut outcome =
            Outcome { state_bytes: self.operator.state_bytes(), ..Outcome::default() };
        outcome.late = self.out.late.iter().map(|row| row.offset).collect();
        outcome.refused = self.out.rejected.iter().map(|row| (row.offset, row.code.0)).collect();
        for output in &self.out.outputs {
            let Output::Change(change) = output else { continue };
            for row in 0..change.batch.num_rows() {
                let sign = if change.weight(row) > 0 { '+' } else { '-' };
                let shown = |column: &ArrayRef| match column.is_null(row) {
                    true => "null".to_owned(),
                    false => array_value_to_string(column, row).unwrap(),
                };
                let cells: Vec<String> = change.batch.columns().iter().map(shown).collect();
                outcome.lines.push(format!("{sign} {}", cells.join(" ")));
            }
        }
        outcome
    }

    fn batch(&mut self, rows: &[Row]) {
        let mut marks = Vec::new();
        for row in rows {
            marks.push(self.highest.map_or(i64::MIN, |highest| highest - self.bound));
            self.highest = self.highest.max(Some(row.at));
        }
        let numbers = self.next..self.next + rows.len();
        let texts: StringViewArray = rows.iter().map(|row| Some(format!("u{}", row.u))).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.at))),
            Arc::new(rows.iter().map(|row| row.k).collect::<Int64Array>()),
            Arc::new(texts),
            Arc::new(Int64Array::from_iter_values(numbers.clone().map(|n| n as i64))),
            Arc::new(Float64Array::from_iter_values(numbers.map(x_of))),
            Arc::new(rows.iter().map(|row| Some(row.s)).collect::<BooleanArray>()),
            Arc::new(rows.iter().map(|row| Some(row.e)).collect::<BooleanArray>()),
        ];
        let origin = Origin {
            relation: Arc::from("s"),
            first_offset: self.next as u64,
            ingest_time: rows[0].now,
            arrival: Marks::Rows(marks.clone().into()),
            progress: Marks::Rows(marks.into()),
            derived: false,
        };
        let change = Change {
            batch: RecordBatch::try_new(input_schema(), columns).unwrap(),
            weights: None,
            origin: Arc::new(origin),
            rows: None,
        };
        self.next += rows.len();
        self.operator.on_tick(rows[0].now, &mut self.out).unwrap();
        self.operator.on_change(0, change, &mut self.out).unwrap();
        let watermark = EventTime(self.highest.unwrap() - self.bound);
        self.operator.on_watermark(0, watermark, &mut self.out).unwrap();
        self.operator.on_step_end(&mut self.out).unwrap();
    }
}

/// Whether each row is still expected, or at most `lateness` late, when it comes.
pub(crate) fn kept(rows: &[Row], bound: i64, lateness: i64) -> Vec<bool> {
    let mut highest: Option<i64> = None;
    let keep = |row: &Row| {
        let kept = highest.is_none_or(|highest| row.at >= highest - bound - lateness);
        highest = highest.max(Some(row.at));
        kept
    };
    rows.iter().map(keep).collect()
}

/// Groups `rows` of a window by key `u`, ascending: `(k, u, row numbers in log order)`.
pub(crate) fn by_key(rows: &[Row], numbers: &[usize]) -> Vec<String> {
    let mut groups: BTreeMap<(bool, Option<i64>, i64), Vec<usize>> = BTreeMap::new();
    for &n in numbers {
        groups.entry((rows[n].k.is_none(), rows[n].k, rows[n].u)).or_default().push(n);
    }
    let line = |((_, k, u), mut numbers): ((bool, Option<i64>, i64), Vec<usize>)| {
        numbers.sort_unstable();
        let k = k.map_or("null".to_owned(), |k| k.to_string());
        format!("{k} u{u} {}", shown(&numbers))
    };
    groups.into_iter().map(line).collect()
}

/// Random rows in a few partitions, out of order, at processing times that do not go back.
pub(crate) fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let key = prop_oneof![3 => Just(Some(1)), 2 => Just(Some(2)), 1 => Just(None)];
    let one = (0i64..4, -9i64..9, key, 0i64..3, 0u8..8, prop_oneof![3 => Just(0), 1 => 1i64..9]);
    prop::collection::vec(one, 0..60).prop_map(|steps| {
        let (mut at, mut now) = (-20, -5);
        let row = |(step, jitter, k, u, marks, pause)| {
            at += step;
            now += pause;
            Row {
                at: at + jitter,
                k,
                u,
                s: marks == 1 || marks == 3,
                e: marks == 2 || marks == 3,
                now,
            }
        };
        steps.into_iter().map(row).collect()
    })
}

/// Where to cut a batch: the bits of a random number, over and over.
pub(crate) fn cut_at(bits: u64) -> impl Fn(usize) -> bool {
    move |row| bits >> (row % 64) & 1 == 1
}
