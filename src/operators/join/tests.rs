//! Compares joins with loops over all pairs, whatever the cuts, with snapshots in between.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::expressions::{binary, col};
use proptest::prelude::*;

use super::spec::{JoinKind, Within};
use super::*;
use crate::data::change::Marks;
use crate::data::punctuation::Pattern;

/// A row of a side: key, value, +1 or -1.
type Row = (usize, Option<i64>, i64, i64);
type Net = BTreeMap<Vec<Option<i64>>, i64>;

fn side_schema(names: [&str; 2]) -> SchemaRef {
    Arc::new(Schema::new(names.map(|name| Field::new(name, DataType::Int64, true)).to_vec()))
}

fn spec(kind: JoinKind, filtered: bool, append_only: bool, within: Option<Within>) -> JoinSpec {
    let inputs = [side_schema(["k", "v"]), side_schema(["l", "w"])];
    let both = inputs.iter().flat_map(|schema| schema.fields().iter().cloned());
    let joined: SchemaRef = Arc::new(Schema::new(both.collect::<Vec<_>>()));
    let less = |schema: &SchemaRef| {
        let (v, w) = (col("v", schema).unwrap(), col("w", schema).unwrap());
        binary(v, BinaryOperator::Lt, w, schema).unwrap()
    };
    JoinSpec {
        kind,
        keys: vec![(0, 0)],
        nulls_match: false,
        filter: filtered.then(|| less(&joined)),
        as_of_now: false,
        within,
        append_only: [append_only; 2],
        shares_input: false,
        schema: if kind.shows_pairs() { Arc::clone(&joined) } else { Arc::clone(&inputs[0]) },
        inputs,
        joined,
    }
}

fn change(schema: &SchemaRef, rows: &[Row], weighted: bool) -> Change {
    let keys: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>());
    let values: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.2)).collect::<Int64Array>());
    let weights: Int64Array = rows.iter().map(|row| Some(row.3)).collect();
    let origin = Origin {
        relation: Arc::from("s"),
        first_offset: 0,
        ingest_time: 0,
        arrival: Marks::All(i64::MIN),
        progress: Marks::All(i64::MIN),
        derived: false,
    };
    Change {
        batch: RecordBatch::try_new(Arc::clone(schema), vec![keys, values]).unwrap(),
        weights: weighted.then_some(weights),
        origin: Arc::new(origin),
        rows: None,
    }
}

fn add(net: &mut Net, out: Emitter) {
    for output in out.outputs {
        let Output::Change(change) = output else { continue };
        for row in 0..change.batch.num_rows() {
            let value = |column: &ArrayRef| {
                let column = column.as_primitive::<Int64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            let key = change.batch.columns().iter().map(value).collect();
            *net.entry(key).or_default() += change.weight(row);
        }
    }
    net.retain(|_, weight| *weight != 0);
}

/// A join of the rows that are there in the end.
fn expected(kind: JoinKind, filtered: bool, rows: &[Row]) -> Net {
    let mut sides: [BTreeMap<(Option<i64>, i64), i64>; 2] = Default::default();
    for &(port, k, v, weight) in rows {
        *sides[port].entry((k, v)).or_default() += weight;
    }
    let mut net = Net::new();
    let matches = |l: &(Option<i64>, i64), r: &(Option<i64>, i64)| {
        l.0.is_some() && l.0 == r.0 && (!filtered || l.1 < r.1)
    };
    let mut put = |row: Vec<Option<i64>>, weight: i64| *net.entry(row).or_default() += weight;
    for (l, weight) in &sides[0] {
        let found: Vec<_> = sides[1].iter().filter(|(r, w)| **w != 0 && matches(l, r)).collect();
        match kind {
            JoinKind::Semi if !found.is_empty() => put(vec![l.0, Some(l.1)], *weight),
            JoinKind::Anti if found.is_empty() => put(vec![l.0, Some(l.1)], *weight),
            JoinKind::Semi | JoinKind::Anti => {}
            JoinKind::Left | JoinKind::Full if found.is_empty() => {
                put(vec![l.0, Some(l.1), None, None], *weight);
            }
            _ => found.iter().for_each(|(r, other)| {
                put(vec![l.0, Some(l.1), r.0, Some(r.1)], weight * **other);
            }),
        }
    }
    if kind == JoinKind::Full {
        for (r, weight) in &sides[1] {
            if !sides[0].iter().any(|(l, w)| *w != 0 && matches(l, r)) {
                put(vec![None, None, r.0, Some(r.1)], *weight);
            }
        }
    }
    net.retain(|_, weight| *weight != 0);
    net
}

fn any_kind() -> impl Strategy<Value = JoinKind> {
    use JoinKind::{Anti, Full, Inner, Left, Semi};
    prop::sample::select(vec![Inner, Left, Full, Semi, Anti])
}

fn key() -> impl Strategy<Value = Option<i64>> {
    prop::option::weighted(0.9, 0i64..5)
}

fn restored(join: &mut Join) -> Join {
    let mut writer = StateWriter::default();
    join.save(&mut writer).unwrap();
    let bytes = writer.finish();
    let mut fresh = Join::new(Arc::clone(&join.spec)).unwrap();
    let mut reader = StateReader::new(&bytes);
    fresh.restore(&mut reader).unwrap();
    reader.end().unwrap();
    fresh
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_join_equals_a_loop_over_all_pairs(
        kind in any_kind(),
        filtered in any::<bool>(),
        steps in prop::collection::vec((0usize..2, key(), 0i64..4, 0usize..9, any::<u8>()), 0..80),
    ) {
        let spec = Arc::new(spec(kind, filtered, false, None));
        let mut join = Join::new(Arc::clone(&spec)).unwrap();
        let (mut rows, mut held, mut net): (Vec<Row>, Vec<Row>, Net) = Default::default();
        let mut waiting: Vec<Row> = Vec::new();
        for (port, k, v, choice, cut) in steps {
            // One row in three takes back one that is there.
            let row = match held.get(choice) {
                Some(&(port, k, v, _)) if choice < 3 => {
                    held.remove(choice);
                    (port, k, v, -1)
                }
                _ => {
                    held.push((port, k, v, 1));
                    (port, k, v, 1)
                }
            };
            rows.push(row);
            if cut % 3 == 0 || waiting.last().is_some_and(|last| last.0 != row.0) {
                if let Some(&(port, ..)) = waiting.first() {
                    let mut out = Emitter::default();
                    join.on_change(port, change(&spec.inputs[port], &waiting, true), &mut out).unwrap();
                    add(&mut net, out);
                    waiting.clear();
                }
                if cut % 11 == 0 {
                    join = restored(&mut join);
                }
            }
            waiting.push(row);
        }
        if let Some(&(port, ..)) = waiting.first() {
            let mut out = Emitter::default();
            join.on_change(port, change(&spec.inputs[port], &waiting, true), &mut out).unwrap();
            add(&mut net, out);
        }
        prop_assert_eq!(net, expected(kind, filtered, &rows));
    }

    #[test]
    fn rows_near_in_time_match_and_all_leave(
        kind in any_kind(),
        low in -6i64..3,
        span in 0i64..8,
        steps in prop::collection::vec((0usize..2, key(), 0i64..3), 0..60),
    ) {
        let within = Within {
            times: [1, 1],
            low: Some(low),
            high: Some(low + span),
            delays: [0, 0],
            windows: false,
            allowed_lateness: 0,
            granule: 2,
        };
        let spec = Arc::new(spec(kind, false, true, Some(within.clone())));
        prop_assert!(spec.is_append_only());
        let mut join = Join::new(Arc::clone(&spec)).unwrap();
        let (mut rows, mut net, mut now): (Vec<Row>, Net, i64) = Default::default();
        for (port, k, ahead) in steps {
            now += ahead;
            let row = (port, k, now, 1);
            rows.push(row);
            let mut out = Emitter::default();
            join.on_change(port, change(&spec.inputs[port], &[row], false), &mut out).unwrap();
            join.on_watermark(port, EventTime(now), &mut out).unwrap();
            add(&mut net, out);
            if now % 5 == 0 {
                join = restored(&mut join);
            }
        }
        let mut out = Emitter::default();
        join.on_watermark(0, EventTime::MAX, &mut out).unwrap();
        join.on_watermark(1, EventTime::MAX, &mut out).unwrap();
        add(&mut net, out);
        let mut naive = Net::new();
        let near = |l: &Row, r: &Row| l.1.is_some() && l.1 == r.1 && within.holds(l.2, r.2);
        let of = |port: usize| rows.iter().filter(move |row| row.0 == port);
        let mut put = |row: Vec<Option<i64>>| *naive.entry(row).or_default() += 1;
        for l in of(0) {
            let found: Vec<&Row> = of(1).filter(|r| near(l, r)).collect();
            match (kind, found.is_empty()) {
                (JoinKind::Semi, false) | (JoinKind::Anti, true) => put(vec![l.1, Some(l.2)]),
                (JoinKind::Semi | JoinKind::Anti, _) => {}
                (JoinKind::Left | JoinKind::Full, true) => put(vec![l.1, Some(l.2), None, None]),
                _ => found.iter().for_each(|r| put(vec![l.1, Some(l.2), r.1, Some(r.2)])),
            }
        }
        if kind == JoinKind::Full {
            for r in of(1).filter(|r| !of(0).any(|l| near(l, r))) {
                put(vec![None, None, r.1, Some(r.2)]);
            }
        }
        prop_assert_eq!(net, naive);
        prop_assert!(join.sides.iter().all(|side| side.len() == 0));
        prop_assert!(join.keys.is_empty());
    }
}

#[test]
fn a_promise_of_one_side_frees_the_other_and_those_of_both_go_on() {
    let spec = Arc::new(spec(JoinKind::Inner, false, true, None));
    let mut join = Join::new(Arc::clone(&spec)).unwrap();
    let promise = |name: &str, keys: &[i64]| Punctuation {
        columns: vec![(
            name.to_owned(),
            Pattern::OneOf(keys.iter().map(|&key| key.into()).collect()),
        )],
    };
    let mut out = Emitter::default();
    let rows = |port: usize, keys: &[i64]| -> Vec<Row> {
        keys.iter().map(|&key| (port, Some(key), 0, 1)).collect()
    };
    join.on_change(0, change(&spec.inputs[0], &rows(0, &[1, 2, 3]), false), &mut out).unwrap();
    join.on_punctuation(1, &promise("l", &[1, 7]), &mut out).unwrap();
    assert_eq!(join.sides[0].held().len(), 2);
    // Neither a row of a key that was there nor of a new one has anything to wait for.
    join.on_change(0, change(&spec.inputs[0], &rows(0, &[1, 7, 8]), false), &mut out).unwrap();
    assert_eq!(join.sides[0].held().len(), 3);
    assert!(out.outputs.is_empty());
    let mut join = restored(&mut join);
    join.on_change(0, change(&spec.inputs[0], &rows(0, &[7]), false), &mut out).unwrap();
    assert_eq!(join.sides[0].held().len(), 3);
    join.on_punctuation(0, &promise("k", &[1, 2]), &mut out).unwrap();
    let names: Vec<_> = out
        .outputs
        .iter()
        .map(|output| match output {
            Output::Punctuation(promise) => format!("{:?}", promise.columns),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].contains("\"k\"") && names[1].contains("\"l\""), "{names:?}");
    assert!(names.iter().all(|name| name.contains("Int64(1)") && !name.contains("Int64(2)")));
}

/// What goes on where a side of a join on two keys promises something.
fn forwarded(join: &mut Join, port: usize, columns: &[(&str, Pattern)]) -> Vec<Punctuation> {
    let columns = columns.iter().map(|(name, pattern)| ((*name).to_owned(), pattern.clone()));
    let mut out = Emitter::default();
    join.on_punctuation(port, &Punctuation { columns: columns.collect() }, &mut out).unwrap();
    let promise = |output| match output {
        Output::Punctuation(promise) => Punctuation::clone(&promise),
        other => panic!("{other:?}"),
    };
    out.outputs.into_iter().map(promise).collect()
}

#[test]
fn promises_of_either_of_two_keys_are_told_apart() {
    let two = JoinSpec { keys: vec![(0, 0), (1, 1)], ..spec(JoinKind::Semi, false, true, None) };
    let mut join = Join::new(Arc::new(two)).unwrap();
    let from = |low: i64| Pattern::Range { low: Some((low.into(), true)), high: None };
    let one = |value: i64| Pattern::OneOf(vec![value.into()]);
    assert_eq!(forwarded(&mut join, 0, &[("v", from(4))]), []);
    assert_eq!(forwarded(&mut join, 1, &[("l", one(5))]), []);
    let mut out = Emitter::default();
    let row = |port, k, v| change(&join.spec.inputs[port], &[(port, Some(k), v, 1)], false);
    let rows = [(1, 1, 4), (1, 1, 3), (0, 5, 3), (0, 6, 3)].map(|(p, k, v)| (p, row(p, k, v)));
    for (port, row) in rows {
        join.on_change(port, row, &mut out).unwrap();
    }
    assert_eq!(join.sides.each_ref().map(|side| side.held().len()), [1, 1]);
    let mut join = restored(&mut join);
    let all = forwarded(&mut join, 1, &[("l", one(1)), ("w", from(2))]);
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0].columns, [("k".to_owned(), one(1)), ("v".to_owned(), from(4))]);
    let some = forwarded(&mut join, 0, &[("k", one(5))]);
    assert_eq!(some.len(), 1, "{some:?}");
    assert_eq!(some[0].columns, [("k".to_owned(), one(5))]);
}

#[test]
fn thousands_of_keys_may_be_promised_by_one_side_before_the_other() {
    let mut join = Join::new(Arc::new(spec(JoinKind::Semi, false, true, None))).unwrap();
    let mut out = Emitter::default();
    let rows: Vec<Row> = (0..1_500).map(|k| (0, Some(k), 0, 1)).collect();
    let rows = change(&join.spec.inputs[0], &rows, false);
    join.on_change(0, rows, &mut out).unwrap();
    for k in 0..1_500_i64 {
        assert_eq!(forwarded(&mut join, 0, &[("k", Pattern::OneOf(vec![k.into()]))]), []);
    }
    for k in 0..1_500_i64 {
        assert_eq!(forwarded(&mut join, 1, &[("l", Pattern::OneOf(vec![k.into()]))]).len(), 1);
    }
    assert!(join.promises.is_empty() && join.held() == 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// A side may take rows back, but none of a key that it has promised.
    #[test]
    fn promises_of_sides_that_retract_change_no_answer_and_free_all(
        kind in any_kind(),
        filtered in any::<bool>(),
        steps in prop::collection::vec((0usize..2, 0i64..5, 0i64..4, 0usize..9, any::<u8>()), 0..80),
    ) {
        let spec = Arc::new(spec(kind, filtered, false, None));
        let mut join = Join::new(Arc::clone(&spec)).unwrap();
        let (mut rows, mut held, mut net): (Vec<Row>, Vec<Row>, Net) = Default::default();
        let mut closed = [[false; 5]; 2];
        let mut said = [false; 5];
        for (port, k, v, choice, cut) in steps {
            let mut out = Emitter::default();
            if cut % 6 == 0 {
                let column = if port == 0 { "k" } else { "l" };
                let columns = vec![(column.to_owned(), Pattern::OneOf(vec![k.into()]))];
                join.on_punctuation(port, &Punctuation { columns }, &mut out).unwrap();
                closed[port][k as usize] = true;
                let goes_on = out.outputs.iter().any(|o| matches!(o, Output::Punctuation(_)));
                // What was said is forgotten, and may be said again.
                prop_assert!(said[k as usize] || goes_on == closed[1 - port][k as usize]);
                said[k as usize] |= goes_on;
                add(&mut net, out);
                continue;
            }
            let row = match held.get(choice) {
                Some(&(port, Some(k), v, _)) if choice < 3 && !closed[port][k as usize] => {
                    held.remove(choice);
                    (port, Some(k), v, -1)
                }
                _ if closed[port][k as usize] => continue,
                _ => {
                    held.push((port, Some(k), v, 1));
                    (port, Some(k), v, 1)
                }
            };
            rows.push(row);
            join.on_change(row.0, change(&spec.inputs[row.0], &[row], true), &mut out).unwrap();
            let mut changes = Net::new();
            add(&mut changes, out);
            for (row, weight) in changes {
                let key = row[0].or_else(|| row.get(2).copied().flatten()).unwrap();
                prop_assert!(!said[key as usize], "{row:?} changes behind a promise");
                *net.entry(row).or_default() += weight;
            }
            net.retain(|_, weight| *weight != 0);
            if cut % 11 == 0 {
                join = restored(&mut join);
            }
        }
        prop_assert_eq!(net, expected(kind, filtered, &rows));
        let column = |port: usize| if port == 0 { "k" } else { "l" };
        for port in 0..2 {
            let columns = vec![(column(port).to_owned(), Pattern::OneOf((0..5).map(i64::into).collect()))];
            join.on_punctuation(port, &Punctuation { columns }, &mut Emitter::default()).unwrap();
        }
        prop_assert_eq!(join.held(), 0);
    }
}
