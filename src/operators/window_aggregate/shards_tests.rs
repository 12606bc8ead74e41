//! Feeds the same rows to one operator and to several shards, and compares every byte of what comes out.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::functions_aggregate::{
    array_agg::array_agg_udaf, average::avg_udaf, count::count_udaf, min_max::min_udaf,
    sum::sum_udaf,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, lit};
use proptest::prelude::*;

use super::tests::{any_kind, hop, tumble};
use super::*;
use crate::crew::Crew;
use crate::crew::helpers::Helpers;
use crate::data::change::Marks;
use crate::operators::aggregates::spec::NativeFunction;
use crate::operators::emit::Refinement::{Accumulating, Discarding, Retracting};
use crate::operators::fork::{Fork, Inline, Sharding};
use crate::operators::operator::Output;
use crate::pipeline::shards::Forked;
use crate::windows::spec::TimeWindowKind;

static HELPERS: LazyLock<Arc<dyn Fork>> = LazyLock::new(|| {
    Arc::new(Forked(Arc::new(Helpers::start(&Crew::Threads, 2).expect("there are threads"))))
});

#[derive(Debug, Clone)]
struct Row {
    /// Event time; `None`: null.
    t: Option<i64>,
    key: Option<i64>,
    value: i64,
    weight: i64,
    /// How far another input of the query holds its watermark back.
    other: i64,
}

#[derive(Debug, Clone)]
enum Event {
    Rows(Vec<Row>),
    Close(i64),
    Tick(i64),
    StepEnd,
    /// Written, and read back by another operator with so many shards.
    Restart(usize),
}

fn input_schema() -> SchemaRef {
    let field = |name, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("t", DataType::Int64),
        field("k", DataType::Int64),
        field("s", DataType::Utf8View),
        field("f", DataType::Float64),
        field("v", DataType::Int64),
    ]))
}

fn aggregate(name: &str) -> AggregateSpec {
    let column = |name| -> Arc<dyn PhysicalExpr> {
        Arc::new(Column::new_with_schema(name, &input_schema()).unwrap())
    };
    let (function, argument, native) = match name {
        "count" => (count_udaf(), lit(1_i64), Some(NativeFunction::CountRows)),
        "sum" => (sum_udaf(), column("v"), Some(NativeFunction::Sum)),
        "float_sum" => (sum_udaf(), column("f"), Some(NativeFunction::Sum)),
        "float_avg" => (avg_udaf(), column("f"), Some(NativeFunction::Avg)),
        "min" => (min_udaf(), column("v"), Some(NativeFunction::Min)),
        "foreign_sum" => (sum_udaf(), column("f"), None),
        _ => (array_agg_udaf(), column("v"), None),
    };
    let function = AggregateExprBuilder::new(function, vec![argument])
        .schema(input_schema())
        .alias(name)
        .build()
        .unwrap();
    let output = function.field();
    AggregateSpec { function: Arc::new(function), filter: None, native, output }
}

#[derive(Debug, Clone)]
struct Asked {
    kind: TimeWindowKind,
    keys: Vec<usize>,
    lateness: i64,
    mode: EmitMode,
    names: &'static [&'static str],
    append_only: bool,
}

fn spec(asked: &Asked) -> Arc<WindowAggregateSpec> {
    let aggregates: Vec<AggregateSpec> = asked.names.iter().map(|name| aggregate(name)).collect();
    let input = input_schema();
    let mut fields = vec![
        Arc::new(Field::new("window_start", DataType::Int64, true)),
        Arc::new(Field::new("window_end", DataType::Int64, true)),
    ];
    fields.extend(asked.keys.iter().map(|&key| Arc::clone(&input.fields()[key])));
    let nullable = |a: &AggregateSpec| Arc::new(a.output.as_ref().clone().with_nullable(true));
    fields.extend(aggregates.iter().map(nullable));
    Arc::new(WindowAggregateSpec {
        window: WindowSource::Time(TimeWindow { kind: asked.kind, offset: 0, timezone: None }),
        time_column: Some(0),
        keys: asked.keys.clone(),
        aggregates,
        emit: EmitSpec { mode: asked.mode, allowed_lateness: asked.lateness },
        input_append_only: asked.append_only,
        input_schema: input,
        schema: Arc::new(Schema::new(fields)),
    })
}

fn batch(rows: &[Row]) -> RecordBatch {
    let keys = || rows.iter().map(|row| row.key);
    let text = |key: i64| match key % 3 {
        0 => String::new(),
        1 => format!("k{key}"),
        _ => format!("a key that is longer than {key}"),
    };
    let float =
        |key: i64| [0.0, -0.0, f64::NAN, -f64::NAN, 0.5, -3.0][key.unsigned_abs() as usize % 6];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.t))),
        Arc::new(Int64Array::from_iter(keys())),
        Arc::new(StringViewArray::from_iter(keys().map(|key| key.map(text)))),
        // As a key, and as what is summed up: the order of additions shows in the last bits.
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| {
            row.key.map(|key| if row.value % 2 == 0 { float(key) } else { 0.1 * row.value as f64 })
        }))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.value))),
    ];
    RecordBatch::try_new(input_schema(), columns).unwrap()
}

/// An operator, and what it said.
struct Run {
    spec: Arc<WindowAggregateSpec>,
    operator: Box<dyn Operator>,
    watermark: i64,
    progress: i64,
    closed: i64,
    now: i64,
    offset: u64,
    said: Vec<String>,
}

impl Run {
    fn new(spec: &Arc<WindowAggregateSpec>, sharding: Option<&Sharding>) -> Run {
        let mut run = Run {
            spec: Arc::clone(spec),
            operator: Box::new(WindowAggregate::new(Arc::clone(spec)).unwrap()),
            watermark: i64::MIN,
            progress: i64::MIN,
            closed: i64::MIN,
            now: 0,
            offset: 0,
            said: Vec::new(),
        };
        if let Some(sharding) = sharding {
            run.operator = Box::new(Shards::new(Arc::clone(spec), sharding.clone()).unwrap());
        }
        run
    }

    fn change(&mut self, rows: &[Row]) -> Change {
        let (mut arrival, mut progress) = (Vec::new(), Vec::new());
        for row in rows {
            self.progress = self.progress.max(self.watermark.min(row.other)).max(self.closed);
            arrival.push(self.watermark.max(self.closed));
            progress.push(self.progress);
            self.watermark = self.watermark.max(row.t.map_or(i64::MIN, |t| t - 2));
        }
        let weights = Int64Array::from_iter_values(rows.iter().map(|row| row.weight));
        let first_offset = self.offset;
        self.offset += rows.len() as u64;
        Change {
            batch: batch(rows),
            weights: rows.iter().any(|row| row.weight != 1).then_some(weights),
            origin: Arc::new(Origin {
                relation: Arc::from("s"),
                first_offset,
                ingest_time: self.now,
                arrival: Marks::Rows(arrival.into()),
                progress: Marks::Rows(progress.into()),
                derived: false,
            }),
            rows: None,
        }
    }

    /// What happens, as one operator and as another one would see it; false once it has failed.
    fn meet(&mut self, event: &Event, sharding: Option<&Sharding>) -> bool {
        let mut out = Emitter::default();
        let result = match event {
            Event::Rows(rows) => {
                let change = self.change(rows);
                self.operator.on_change(0, change, &mut out)
            }
            Event::Close(by) => {
                self.closed = self.closed.max(self.watermark.saturating_add(*by));
                self.operator.on_watermark(0, EventTime(self.closed), &mut out)
            }
            Event::Tick(by) => {
                self.now += by;
                self.operator.on_tick(self.now, &mut out)
            }
            Event::StepEnd => self.operator.on_step_end(&mut out),
            Event::Restart(shards) => self.restart(*shards, sharding),
        };
        self.write(out);
        self.said.push(format!("{:?}", self.operator.next_tick()));
        if let Err(error) = &result {
            self.said.push(error.to_string());
        }
        result.is_ok()
    }

    fn restart(&mut self, shards: usize, sharding: Option<&Sharding>) -> Result<(), EvalError> {
        if !self.operator.restores_exactly() {
            return Ok(());
        }
        let mut sections = vec![StateWriter::default()];
        let mut more = self.operator.save_begin(&mut sections[0])?;
        while more {
            let mut section = StateWriter::default();
            more = self.operator.save_more(1, &mut section)?;
            sections.push(section);
        }
        let spec = Arc::clone(&self.spec);
        self.operator = match sharding {
            Some(sharding) => Box::new(Shards::new(spec, Sharding { shards, ..sharding.clone() })?),
            None => Box::new(WindowAggregate::new(spec)?),
        };
        for section in sections.into_iter().map(StateWriter::finish) {
            let mut from = StateReader::new(&section);
            self.operator.restore(&mut from)?;
            from.end()?;
        }
        self.operator.restored()
    }

    fn write(&mut self, out: Emitter) {
        let said = &mut self.said;
        said.extend(out.late.iter().map(|late| format!("{late:?}")));
        said.extend(out.rejected.iter().map(|row| format!("{row:?}")));
        for output in out.outputs {
            match output {
                Output::Watermark(EventTime(t)) => said.push(format!("watermark {t}")),
                Output::Punctuation(punctuation) => said.push(format!("{punctuation:?}")),
                Output::Change(change) => {
                    let origin = &change.origin;
                    let from = (origin.first_offset, origin.ingest_time, change.weights.is_some());
                    for row in 0..change.batch.num_rows() {
                        let values = change.batch.columns().iter();
                        let values: Vec<String> =
                            values.map(|c| array_value_to_string(c, row).unwrap()).collect();
                        said.push(format!("{} {values:?} {from:?}", change.weight(row)));
                    }
                }
            }
        }
    }
}

/// Compares what one operator says to `events` with what shards say.
fn check(asked: &Asked, events: &[Event], sharding: &Sharding) -> Vec<String> {
    let spec = spec(asked);
    let (mut one, mut several) = (Run::new(&spec, None), Run::new(&spec, Some(sharding)));
    let end = [Event::StepEnd, Event::Close(i64::MAX), Event::StepEnd];
    for event in events.iter().chain(&end) {
        let (goes_on, also) = (one.meet(event, None), several.meet(event, Some(sharding)));
        assert_eq!(one.said, several.said, "{event:?}");
        assert_eq!(goes_on, also);
        if !goes_on {
            break;
        }
    }
    one.said
}

fn sharding(shards: usize, keys: usize, rows: usize) -> Sharding {
    Sharding { shards, keys, rows, fork: Arc::clone(&HELPERS) }
}

const EXACT: &[&str] = &["count", "sum", "min"];
const INVERTIBLE: &[&str] = &["count", "sum"];
const FLOATS: &[&str] = &["float_sum", "float_avg", "foreign_sum"];
const ORDERED: &[&str] = &["count", "array_agg"];

fn any_asked() -> impl Strategy<Value = Asked> {
    let keys =
        prop::sample::select(vec![vec![1], vec![2], vec![3], vec![1, 2], vec![2, 3, 1], vec![]]);
    let mode = prop_oneof![
        4 => Just(EmitMode::OnClose),
        2 => Just(EmitMode::Changes),
        1 => prop::sample::select(vec![Retracting, Accumulating, Discarding])
            .prop_map(|refinement| EmitMode::EveryInterval { interval: 5, refinement }),
        1 => Just(EmitMode::EveryRows { rows: 3, refinement: Retracting }),
    ];
    let names = prop::sample::select(vec![EXACT, INVERTIBLE, FLOATS, ORDERED]);
    let lateness = prop_oneof![Just(0), 1..20_i64];
    (any_kind(), keys, lateness, mode, names, any::<bool>()).prop_map(
        |(kind, keys, lateness, mode, names, append_only)| Asked {
            kind,
            keys,
            lateness,
            mode,
            names,
            append_only,
        },
    )
}

/// Rows whose time drifts forward with disorder, cut into batches, among everything else that happens.
fn any_events(append_only: bool) -> impl Strategy<Value = Vec<Event>> {
    let value = prop_oneof![8 => -9..10_i64, 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
    let key = prop::option::weighted(0.9, 0..12_i64);
    let row = (-8..7_i64, key, value, 0..12_i64, 0..40_u8);
    let rows = prop::collection::vec(row, 1..30);
    let event = prop_oneof![
        6 => rows.prop_map(|rows| (0, rows)),
        2 => (-3..1_i64).prop_map(|by| (100 + by, Vec::new())),
        1 => (1..9_i64).prop_map(|by| (200 + by, Vec::new())),
        3 => Just((300, Vec::new())),
        2 => (1..5_i64).prop_map(|shards| (400 + shards, Vec::new())),
    ];
    prop::collection::vec(event, 1..14).prop_map(move |events| {
        let (mut now, mut other) = (0, i64::MIN);
        let mut past: Vec<Row> = Vec::new();
        let mut made = Vec::new();
        for (kind, steps) in events {
            made.push(match kind {
                0 => {
                    let mut rows = Vec::new();
                    for (step, key, value, lag, chance) in steps {
                        now += step.max(0) / 2;
                        other = other.max(now - lag);
                        let t = (chance > 0).then(|| now + step.min(0) * 2);
                        let mut row = Row { t, key, value, weight: 1, other };
                        if !append_only && chance > 30 && !past.is_empty() {
                            row = past.swap_remove(value.unsigned_abs() as usize % past.len());
                            row.weight = -1;
                            row.other = other;
                        } else {
                            past.push(row.clone());
                        }
                        rows.push(row);
                    }
                    Event::Rows(rows)
                }
                97..=100 => Event::Close(kind - 100),
                201..=209 => Event::Tick(kind - 200),
                300 => Event::StepEnd,
                _ => Event::Restart(kind as usize - 400),
            });
        }
        made
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn shards_say_what_one_operator_says(
        (asked, events) in any_asked().prop_flat_map(|asked| {
            let events = any_events(asked.append_only);
            (Just(asked), events)
        }),
        shards in 1..6_usize,
        keys in prop::sample::select(vec![0, 1, 4]),
        rows in prop::sample::select(vec![0, 5, usize::MAX]),
    ) {
        check(&asked, &events, &sharding(shards, keys, rows));
    }
}

fn rows(times: std::ops::Range<i64>, keys: i64) -> Event {
    let row =
        |t| Row { t: Some(t / 10), key: Some(t * 7 % keys), value: t, weight: 1, other: i64::MAX };
    Event::Rows(times.map(row).collect())
}

fn asked(kind: TimeWindowKind, mode: EmitMode, names: &'static [&'static str]) -> Asked {
    Asked { kind, keys: vec![1], lateness: 0, mode, names, append_only: true }
}

#[test]
fn a_group_that_lost_all_its_rows_is_taken_back_behind_a_restart_with_fewer_shards() {
    let row = |t, key, value, weight| Row { t: Some(t), key, value, weight, other: 0 };
    let asked = Asked {
        keys: vec![2, 3, 1],
        lateness: 19,
        append_only: false,
        ..asked(hop(3, 26), EmitMode::Changes, &["count", "sum"])
    };
    let events = [
        Event::Rows(vec![row(-2, None, 0, 1), row(2, Some(7), 1, 1), row(4, None, 0, 1)]),
        Event::Close(-1),
        Event::Rows(vec![row(4, Some(4), -7, 1), row(7, Some(0), 0, 1), row(-2, None, 0, -1)]),
        Event::Restart(1),
        Event::Rows(vec![row(7, None, 0, 1)]),
    ];
    check(&asked, &events, &sharding(4, 1, 0));
}

#[test]
fn many_keys_are_merged_in_pieces_and_come_in_order() {
    let asked = asked(tumble(100), EmitMode::OnClose, EXACT);
    let events: Vec<Event> =
        (0..20).flat_map(|i| [rows(i * 500..(i + 1) * 500, 997), Event::Close(0)]).collect();
    for shards in 2..6 {
        let said = check(&asked, &events, &sharding(shards, 0, 64));
        assert!(said.len() > 5_000);
    }
}

#[test]
fn an_operator_that_outgrows_one_shard_is_split_and_one_that_comes_back_smaller_is_joined() {
    let asked = asked(hop(30, 100), EmitMode::Changes, FLOATS);
    let spec = spec(&asked);
    let sharding = sharding(3, 100, 0);
    let mut run = Run::new(&spec, Some(&sharding));
    let mut shards = Vec::new();
    for event in [
        rows(0..50, 50),
        Event::Close(0),
        rows(50..400, 300),
        Event::StepEnd,
        Event::Close(0),
        rows(400..500, 300),
        Event::Restart(2),
        Event::Close(0),
        Event::Restart(1),
    ] {
        assert!(run.meet(&event, Some(&sharding)));
        shards.push(run.operator.shards());
    }
    assert_eq!(shards, [1, 1, 1, 1, 3, 3, 2, 2, 1]);
}

#[test]
fn what_cannot_be_split_stays_one() {
    let sharding = sharding(4, 0, 0);
    let shards = |asked: &Asked| Shards::new(spec(asked), sharding.clone()).unwrap().shards.len();
    let plain = asked(tumble(10), EmitMode::OnClose, EXACT);
    assert_eq!(shards(&plain), 4);
    assert_eq!(shards(&Asked { keys: vec![], ..plain.clone() }), 1, "no keys");
    let by_rows = EmitMode::EveryRows { rows: 2, refinement: Retracting };
    assert_eq!(shards(&Asked { mode: by_rows, ..plain }), 1, "row by row");
}

#[test]
fn keys_that_fail_are_reported_once_per_window_and_by_the_first_of_them() {
    let row = |key, value| Row { t: Some(1), key: Some(key), value, weight: 1, other: i64::MAX };
    let all = (0..40).flat_map(|key| [row(key, i64::MAX), row(key, key % 2)]).collect();
    let asked = asked(tumble(10), EmitMode::OnClose, INVERTIBLE);
    let said = check(&asked, &[Event::Rows(all), Event::Close(20)], &sharding(3, 0, 0));
    let rejected: Vec<&String> = said.iter().filter(|line| line.starts_with("Rejected")).collect();
    assert!(rejected.len() == 1 && rejected[0].contains("for 20 keys"), "{rejected:?}");
}

#[test]
fn a_panic_in_a_shard_is_a_panic_of_the_operator() {
    struct Breaks;
    impl Fork for Breaks {
        fn run(&self, _: Vec<crate::operators::fork::Job>) {
            panic!("a shard broke");
        }
    }
    let asked = asked(tumble(10), EmitMode::OnClose, EXACT);
    let sharding = Sharding { shards: 2, keys: 0, rows: 0, fork: Arc::new(Breaks) };
    let mut run = Run::new(&spec(&asked), Some(&sharding));
    let broke = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run.meet(&rows(0..10, 10), Some(&sharding))
    }));
    assert_eq!(broke.unwrap_err().downcast_ref::<&str>(), Some(&"a shard broke"));
    assert_eq!(run.operator.state_bytes(), 0, "nobody asks more of it");
}

#[test]
fn pieces_of_a_snapshot_that_cannot_be_are_refused() {
    let asked = asked(tumble(10), EmitMode::OnClose, EXACT);
    let sharding = Sharding { fork: Arc::new(Inline), ..sharding(3, 0, usize::MAX) };
    let mut operator = Shards::new(spec(&asked), sharding.clone()).unwrap();
    let change = Run::new(&spec(&asked), None).change(&[]);
    operator.on_change(0, change, &mut Emitter::default()).unwrap();
    let mut state = StateWriter::default();
    operator.save(&mut state).unwrap();
    let state = state.finish();
    let read = |bytes: &[u8]| {
        let mut operator = Shards::new(spec(&asked), sharding.clone()).unwrap();
        operator.restore(&mut StateReader::new(bytes)).and_then(|()| operator.restored())
    };
    read(&state).unwrap();
    for (at, value) in [(1, 9), (5, 2), (5, 0), (8, 255)] {
        let mut wrong = state.clone();
        wrong[at] = value;
        assert!(read(&wrong).is_err(), "byte {at}");
    }
    assert!(read(&[]).is_err());
    let half = &state[..state.len() / 2];
    assert!(read(half).is_err());
}

#[test]
fn a_pane_counts_rows_that_cancel_out_for_a_while() {
    let row = |t, key, value, weight| Row { t: Some(t), key: Some(key), value, weight, other: 0 };
    let mode = EmitMode::EveryInterval { interval: 5, refinement: Discarding };
    let asked = Asked { append_only: false, lateness: 150, ..asked(tumble(100), mode, INVERTIBLE) };
    let far_away = (2..40).map(|key| row(200, key, 0, 1)).collect();
    let events = [
        Event::Tick(6),
        Event::Rows(vec![row(0, 1, 5, 1)]),
        Event::Tick(6),
        Event::Rows(vec![row(0, 1, 5, -1)]),
        Event::Restart(3),
        Event::Rows(vec![row(1, 1, 7, 1)]),
        Event::Tick(6),
        Event::Rows(far_away),
        Event::Rows((2..40).step_by(8).map(|key| row(2, key, 0, 1)).collect()),
        Event::Tick(6),
        Event::Rows(vec![row(2, 1, 1, 1)]),
        Event::Tick(6),
    ];
    let said = check(&asked, &events, &sharding(2, 0, usize::MAX));
    let panes = |said: &&String| said.contains("\"0\", \"100\", \"1\"");
    let panes: Vec<&String> = said.iter().filter(panes).collect();
    assert!(
        matches!(&panes[..], [first, second]
        if first.contains("\"1\", \"5\"]") && second.contains("\"1\", \"3\"]")),
        "{panes:?}"
    );
}
