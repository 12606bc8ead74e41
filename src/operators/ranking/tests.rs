//! Runs rankings over random insertions and retractions beside first rows worked out anew.

use std::collections::BTreeMap;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use proptest::prelude::*;

use super::*;
use crate::data::change::Marks;
use crate::operators::operator::Output;

/// Key, value, weight.
type Row = (i64, i64, i64);

fn input() -> SchemaRef {
    let field = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![field("k"), field("v")]))
}

fn spec(skip: usize, fetch: Option<usize>, numbered: bool, append_only: bool) -> Arc<RankingSpec> {
    let mut fields: Vec<_> = input().fields().iter().map(Arc::clone).collect();
    fields.push(Arc::new(Field::new("n", DataType::Int64, false)));
    Arc::new(RankingSpec {
        partition: vec![0],
        order: vec![(1, SortOptions { descending: true, nulls_first: true })],
        skip,
        fetch,
        numbered,
        close: None,
        input_append_only: append_only,
        kept: 2,
        input_schema: input(),
        schema: Arc::new(Schema::new(fields)),
    })
}

fn change(rows: &[Row], append_only: bool) -> Change {
    let column = |of: fn(&Row) -> i64| -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(rows.iter().map(of)))
    };
    let columns = vec![column(|row| row.0), column(|row| row.1)];
    let weights = Int64Array::from_iter_values(rows.iter().map(|row| row.2));
    let cause = Origin {
        relation: Arc::from("t"),
        first_offset: 0,
        ingest_time: 0,
        arrival: Marks::All(i64::MIN),
        progress: Marks::All(i64::MIN),
        derived: false,
    };
    let batch = RecordBatch::try_new(input(), columns).unwrap();
    Change::derived(batch, (!append_only).then_some(weights), &cause)
}

/// What the changelog sums to after each step; the operator is saved into a new one in between.
fn run(spec: &Arc<RankingSpec>, steps: &[Vec<Row>]) -> Vec<BTreeMap<(i64, i64, i64), i64>> {
    let mut operator = Ranking::new(Arc::clone(spec)).unwrap();
    let (mut sum, mut sums) = (BTreeMap::new(), Vec::new());
    for step in steps {
        let mut out = Emitter::default();
        operator.on_change(0, change(step, spec.input_append_only), &mut out).unwrap();
        operator.on_step_end(&mut out).unwrap();
        for output in &out.outputs {
            let Output::Change(change) = output else { continue };
            let column = |c: usize| change.batch.column(c).as_primitive::<Int64Type>().clone();
            let numbers = change.batch.column(2).as_primitive::<Int64Type>();
            for row in 0..change.batch.num_rows() {
                let name = (column(0).value(row), column(1).value(row), numbers.value(row));
                *sum.entry(name).or_insert(0) += change.weight(row);
            }
        }
        sum.retain(|_, weight| *weight != 0);
        sums.push(sum.clone());
        let mut saved = StateWriter::default();
        operator.save(&mut saved).unwrap();
        let (bytes, held) = (saved.finish(), operator.state_bytes());
        operator = Ranking::new(Arc::clone(spec)).unwrap();
        let mut from = StateReader::new(&bytes);
        operator.restore(&mut from).unwrap();
        from.end().unwrap();
        assert!(operator.state_bytes() <= held.max(1) * 2);
    }
    sums
}

/// The first rows, worked out anew.
fn known(spec: &RankingSpec, rows: &[Row]) -> BTreeMap<(i64, i64, i64), i64> {
    let mut groups: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for &(key, value, weight) in rows {
        let group = groups.entry(key).or_default();
        if weight > 0 {
            group.push(value);
        } else {
            let place = group.iter().position(|other| *other == value).unwrap();
            group.remove(place);
        }
    }
    let mut known = BTreeMap::new();
    for (key, mut values) in groups {
        values.sort_by_key(|value| -value);
        let shown =
            values.iter().enumerate().skip(spec.skip).take(spec.fetch.unwrap_or(usize::MAX));
        for (place, value) in shown {
            let number = if spec.numbered { place as i64 + 1 } else { 0 };
            *known.entry((key, *value, number)).or_insert(0) += 1;
        }
    }
    known
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn the_changelog_sums_to_the_first_rows(
        inserts in prop::collection::vec((0i64..3, 0i64..9, 1usize..5, any::<bool>()), 0..40),
        skip in 0usize..3, fetch in prop::option::of(1usize..4),
        numbered in any::<bool>(), append_only in any::<bool>(),
    ) {
        let spec = spec(skip, fetch, numbered, append_only);
        let (mut steps, mut live, mut all) = (vec![vec![]], Vec::new(), Vec::new());
        let mut knowns = Vec::new();
        for (key, value, nth, ends) in inserts {
            let row = match !append_only && live.len() > nth * 2 {
                true => {
                    let (key, value) = live.swap_remove(nth);
                    (key, value, -1)
                }
                false => {
                    live.push((key, value));
                    (key, value, 1)
                }
            };
            all.push(row);
            steps.last_mut().unwrap().push(row);
            if ends {
                knowns.push(known(&spec, &all));
                steps.push(vec![]);
            }
        }
        knowns.push(known(&spec, &all));
        prop_assert_eq!(run(&spec, &steps), knowns);
    }
}

/// The rows that each step puts out, with their weights.
fn outputs(spec: &Arc<RankingSpec>, steps: &[Vec<Row>]) -> Vec<Vec<(Vec<i64>, i64)>> {
    let mut operator = Ranking::new(Arc::clone(spec)).unwrap();
    let step = |step: &Vec<Row>| {
        let mut out = Emitter::default();
        operator.on_change(0, change(step, spec.input_append_only), &mut out).unwrap();
        operator.on_step_end(&mut out).unwrap();
        let mut rows = Vec::new();
        for output in &out.outputs {
            let Output::Change(change) = output else { continue };
            let columns: Vec<_> = (0..2)
                .map(|c| change.batch.column(c).as_primitive::<Int64Type>().clone())
                .collect();
            rows.extend((0..change.batch.num_rows()).map(|row| {
                (columns.iter().map(|column| column.value(row)).collect(), change.weight(row))
            }));
        }
        rows
    };
    steps.iter().map(step).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// A step that puts nothing out leaves no entry, so a replay takes its rows with those of the next one.
    #[test]
    fn a_step_without_output_does_not_show_in_the_next_one(
        rows in prop::collection::vec((0i64..4, 0i64..4, 0usize..12, any::<bool>()), 0..60),
        append_only in any::<bool>(),
    ) {
        let spec = spec(0, Some(2), false, append_only);
        let (mut steps, mut live): (Vec<Vec<Row>>, Vec<(i64, i64)>) = (vec![vec![]], Vec::new());
        for (key, value, nth, ends) in rows {
            let row = match !append_only && nth < live.len() {
                true => {
                    let (key, value) = live.swap_remove(nth);
                    (key, value, -1)
                }
                false => {
                    live.push((key, value));
                    (key, value, 1)
                }
            };
            steps.last_mut().unwrap().push(row);
            if ends {
                steps.push(vec![]);
            }
        }
        let shown = outputs(&spec, &steps);
        let mut again: Vec<Vec<Row>> = vec![vec![]];
        for (step, shown) in steps.iter().zip(&shown) {
            again.last_mut().unwrap().extend(step);
            if !shown.is_empty() {
                again.push(vec![]);
            }
        }
        let not_empty = |steps: Vec<Vec<(Vec<i64>, i64)>>| -> Vec<_> {
            steps.into_iter().filter(|step| !step.is_empty()).collect()
        };
        prop_assert_eq!(not_empty(outputs(&spec, &again)), not_empty(shown));
    }
}

#[test]
fn of_rows_that_are_never_taken_back_only_the_first_are_kept() {
    let spec = spec(0, Some(2), true, true);
    let mut operator = Ranking::new(spec).unwrap();
    let mut out = Emitter::default();
    let rows: Vec<Row> = (0..10_000).map(|value| (0, value % 1_000, 1)).collect();
    operator.on_change(0, change(&rows, true), &mut out).unwrap();
    operator.on_step_end(&mut out).unwrap();
    assert!(operator.state_bytes() < 2_000, "{}", operator.state_bytes());
}

proptest! {
    /// Short lists are compared row by row, long ones are sorted.
    #[test]
    fn differences_lead_from_what_was_shown_to_what_is(
        before in prop::collection::vec(0_u8..6, 0..24), now in prop::collection::vec(0_u8..6, 0..24),
        skip in 0_usize..3, numbered in any::<bool>(),
    ) {
        let mut entries = Vec::new();
        differences(&before, &now, skip, numbered, &mut entries);
        let number = |place: usize| if numbered { (skip + place) as u64 + 1 } else { 0 };
        let mut left: BTreeMap<(u64, u8), i64> = BTreeMap::new();
        for (place, row) in now.iter().enumerate() {
            *left.entry((number(place), *row)).or_insert(0) += 1;
        }
        for (place, row) in before.iter().enumerate() {
            *left.entry((number(place), *row)).or_insert(0) -= 1;
        }
        let needed: i64 = left.values().map(|weight| weight.abs()).sum();
        prop_assert_eq!(entries.len() as i64, needed);
        prop_assert!(entries.is_sorted_by_key(|(weight, ..)| *weight));
        for (weight, number, row) in entries {
            *left.entry((number, row)).or_insert(0) -= weight;
        }
        prop_assert!(left.values().all(|weight| *weight == 0));
    }
}
