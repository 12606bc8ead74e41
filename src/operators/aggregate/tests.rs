//! Tests of the unwindowed GROUP BY: against recomputation, and by example.

use std::collections::BTreeSet;

use arrow::array::{Float64Array, Int64Array, RecordBatch, StringViewArray};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::functions_aggregate as functions;
use datafusion::logical_expr::{AggregateUDF, Operator as Op};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{binary, col, lit};
use datafusion::scalar::ScalarValue;
use proptest::prelude::*;

use super::*;
use crate::data::change::Marks;
use crate::operators::aggregates::spec::NativeFunction;
use crate::operators::operator::Output;

/// Key, value, number, weight.
type Row = (i64, Option<i64>, Option<f64>, i64);

fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("f", DataType::Float64, true),
        Field::new("s", DataType::Utf8View, true),
    ]))
}

fn change(rows: &[Row], offset: u64) -> Change {
    let k = Int64Array::from_iter_values(rows.iter().map(|row| row.0));
    let v: Int64Array = rows.iter().map(|row| row.1).collect();
    let f: Float64Array = rows.iter().map(|row| row.2).collect();
    let s: StringViewArray =
        rows.iter().map(|row| row.1.map(|v| format!("a rather long text {v}"))).collect();
    let columns: Vec<ArrayRef> = vec![Arc::new(k), Arc::new(v), Arc::new(f), Arc::new(s)];
    let origin = Origin {
        relation: Arc::from("s"),
        first_offset: offset,
        ingest_time: 0,
        arrival: Marks::All(i64::MIN),
        progress: Marks::All(i64::MIN),
        derived: false,
    };
    let retracts = rows.iter().any(|row| row.3 != 1);
    Change {
        batch: RecordBatch::try_new(input_schema(), columns).unwrap(),
        weights: retracts.then(|| Int64Array::from_iter_values(rows.iter().map(|row| row.3))),
        origin: Arc::new(origin),
        rows: None,
    }
}

fn named(
    function: Arc<AggregateUDF>,
    argument: Arc<dyn PhysicalExpr>,
    native: Option<NativeFunction>,
    distinct: bool,
) -> AggregateSpec {
    let function = AggregateExprBuilder::new(function, vec![argument])
        .schema(input_schema())
        .alias("a")
        .with_distinct(distinct)
        .build()
        .unwrap();
    let output: FieldRef = Arc::new(function.field().as_ref().clone().with_nullable(true));
    AggregateSpec { function: Arc::new(function), filter: None, native, output }
}

fn of(name: &str) -> Arc<dyn PhysicalExpr> {
    col(name, &input_schema()).unwrap()
}

fn sum_v() -> AggregateSpec {
    named(functions::sum::sum_udaf(), of("v"), Some(NativeFunction::Sum), false)
}

fn count_rows() -> AggregateSpec {
    let count = functions::count::count_udaf();
    named(count, lit(1i64), Some(NativeFunction::CountRows), false)
}

fn all_aggregates() -> Vec<AggregateSpec> {
    let count = functions::count::count_udaf;
    let min = functions::min_max::min_udaf();
    let max = functions::min_max::max_udaf();
    vec![
        count_rows(),
        named(count(), of("v"), Some(NativeFunction::Count), false),
        sum_v(),
        named(functions::average::avg_udaf(), of("f"), Some(NativeFunction::Avg), false),
        named(min, of("s"), Some(NativeFunction::Min), false),
        named(max, of("v"), Some(NativeFunction::Max), false),
        named(count(), of("v"), None, true),
        named(functions::median::median_udaf(), of("f"), None, false),
    ]
}

fn operator(
    keys: Vec<usize>,
    aggregates: Vec<AggregateSpec>,
    mode: EmitMode,
    input_append_only: bool,
) -> Aggregate {
    let input_schema = input_schema();
    let mut fields: Vec<FieldRef> =
        keys.iter().map(|key| Arc::clone(&input_schema.fields()[*key])).collect();
    for (i, aggregate) in aggregates.iter().enumerate() {
        let field = aggregate.output.as_ref().clone().with_name(format!("a{i}"));
        fields.push(Arc::new(field));
    }
    Aggregate::new(Arc::new(AggregateOpSpec {
        keys,
        aggregates,
        emit: EmitSpec { mode, allowed_lateness: 0 },
        input_append_only,
        input_schema,
        schema: Arc::new(Schema::new(fields)),
    }))
    .unwrap()
}

/// What came out, as text: `+1 cell cell`, `wm t`, `! code offset`.
fn text(out: Emitter) -> Vec<String> {
    let mut lines = Vec::new();
    for output in out.outputs {
        match output {
            Output::Watermark(watermark) => lines.push(format!("wm {}", watermark.0)),
            Output::Punctuation(p) => lines.push(format!("punctuation {}", p.columns[0].0)),
            Output::Change(change) => {
                for row in 0..change.batch.num_rows() {
                    let mut line = format!("{:+}", change.weight(row));
                    for column in change.batch.columns() {
                        let cell = ScalarValue::try_from_array(column, row).unwrap();
                        line.push_str(&format!(" {cell}"));
                    }
                    lines.push(line);
                }
            }
        }
    }
    lines.extend(out.rejected.iter().map(|row| format!("! {} {}", row.code, row.offset)));
    lines
}

fn push(operator: &mut Aggregate, rows: &[Row], offset: u64) -> Vec<String> {
    let mut out = Emitter::default();
    operator.on_change(0, change(rows, offset), &mut out).unwrap();
    text(out)
}

fn end(operator: &mut Aggregate) -> Vec<String> {
    let mut out = Emitter::default();
    operator.on_step_end(&mut out).unwrap();
    text(out)
}

fn row(k: i64, v: i64, weight: i64) -> Row {
    (k, Some(v), None, weight)
}

#[test]
fn changes_are_coalesced_per_step_in_the_order_of_last_touch() {
    let mut op = operator(vec![0], vec![count_rows(), sum_v()], EmitMode::Changes, false);
    assert!(push(&mut op, &[row(2, 5, 1), row(1, 7, 1), row(2, 6, 1)], 0).is_empty());
    assert_eq!(end(&mut op), ["+1 1 1 7", "+1 2 2 11"]);
    push(&mut op, &[row(1, 7, -1), row(2, 0, 1), row(2, 0, -1), row(3, 1, 1)], 3);
    assert_eq!(end(&mut op), ["-1 1 1 7", "+1 3 1 1"], "key 2 did not change");
    assert!(end(&mut op).is_empty());
}

#[test]
fn the_result_over_no_rows_exists_from_the_start() {
    let mut op = operator(vec![], vec![count_rows(), sum_v()], EmitMode::Changes, false);
    assert_eq!(end(&mut op), ["+1 0 NULL"]);
    push(&mut op, &[row(1, 5, 1)], 0);
    assert_eq!(end(&mut op), ["-1 0 NULL", "+1 1 5"]);
    push(&mut op, &[row(1, 5, -1)], 1);
    assert_eq!(end(&mut op), ["-1 1 5", "+1 0 NULL"]);
}

#[test]
fn distinct_rows_that_stay_come_in_the_order_of_their_first_copy_however_they_are_cut() {
    let rows = [row(2, 0, 1), row(1, 0, 1), row(2, 0, 1), row(3, 0, 1), row(1, 0, 1)];
    for cut in 1..=rows.len() {
        let mut op = operator(vec![0], vec![], EmitMode::Changes, true);
        let mut lines = Vec::new();
        for (number, part) in rows.chunks(cut).enumerate() {
            push(&mut op, part, (number * cut) as u64);
            lines.extend(end(&mut op));
        }
        assert_eq!(lines, ["+1 2", "+1 1", "+1 3"]);
    }
}

#[test]
fn distinct_rows_come_once_and_go_with_their_last_copy() {
    let mut op = operator(vec![0], vec![], EmitMode::Changes, false);
    push(&mut op, &[row(1, 0, 1), row(1, 0, 1)], 0);
    assert_eq!(end(&mut op), ["+1 1"]);
    push(&mut op, &[row(1, 0, -1)], 2);
    assert!(end(&mut op).is_empty());
    push(&mut op, &[row(1, 0, -1)], 3);
    assert_eq!(end(&mut op), ["-1 1"]);
}

#[test]
fn a_sum_out_of_range_rejects_the_last_row_and_shows_nothing_until_it_is_valid_again() {
    let mut op = operator(vec![0], vec![sum_v()], EmitMode::Changes, false);
    push(&mut op, &[row(1, i64::MAX, 1)], 10);
    assert_eq!(end(&mut op), [format!("+1 1 {}", i64::MAX)]);
    push(&mut op, &[row(1, 1, 1), row(2, 3, 1), row(1, 2, 1)], 11);
    let gone = format!("-1 1 {}", i64::MAX);
    assert_eq!(end(&mut op), ["+1 2 3", gone.as_str(), "! 22003 13"]);
    push(&mut op, &[row(1, 1, 1)], 14);
    assert!(end(&mut op).is_empty(), "it is reported once");
    push(&mut op, &[row(1, -5, 1)], 15);
    assert_eq!(end(&mut op), [format!("+1 1 {}", i64::MAX - 1)]);
}

#[test]
fn an_argument_fails_only_where_filter_lets_the_row_in() {
    let schema = input_schema();
    let quotient = binary(lit(10i64), Op::Divide, of("v"), &schema).unwrap();
    let mut sum = named(functions::sum::sum_udaf(), quotient, Some(NativeFunction::Sum), false);
    sum.filter = Some(binary(of("k"), Op::Gt, lit(1i64), &schema).unwrap());
    let mut op = operator(vec![0], vec![sum], EmitMode::Changes, true);
    let rejected = push(&mut op, &[row(1, 0, 1), row(2, 0, 1), row(2, 5, 1)], 20);
    assert_eq!(rejected, ["! 22012 21"]);
    assert_eq!(end(&mut op), ["+1 1 NULL", "+1 2 2"]);
}

#[test]
fn every_n_rows_is_counted_across_batches() {
    let mode = |refinement| EmitMode::EveryRows { rows: 3, refinement };
    let rows: Vec<Row> = (1..=7).map(|v| row(1, v, 1)).collect();
    let run = |refinement, cut: usize| {
        let mut op = operator(vec![0], vec![sum_v()], mode(refinement), true);
        let mut lines = push(&mut op, &rows[..cut], 0);
        lines.extend(end(&mut op));
        lines.extend(push(&mut op, &rows[cut..], cut as u64));
        lines
    };
    for cut in 0..7 {
        assert_eq!(run(Refinement::Retracting, cut), ["+1 1 6", "-1 1 6", "+1 1 21"]);
        assert_eq!(run(Refinement::Accumulating, cut), ["+1 1 6", "+1 1 21"]);
        assert_eq!(run(Refinement::Discarding, cut), ["+1 1 6", "+1 1 15"]);
    }
}

#[test]
fn every_interval_emits_at_ticks_and_the_watermark_waits() {
    let mode = EmitMode::EveryInterval { interval: 10, refinement: Refinement::Retracting };
    let mut op = operator(vec![0], vec![sum_v()], mode, true);
    let mut tick = |now, rows: &[Row], watermark| {
        let mut out = Emitter::default();
        op.on_tick(now, &mut out).unwrap();
        op.on_change(0, change(rows, 0), &mut out).unwrap();
        op.on_watermark(0, EventTime(watermark), &mut out).unwrap();
        op.on_step_end(&mut out).unwrap();
        (text(out), op.next_tick())
    };
    assert_eq!(tick(5, &[row(1, 1, 1)], 1), (vec![], Some(10)));
    assert_eq!(tick(9, &[row(1, 2, 1)], 2), (vec![], Some(10)));
    let lines = ["+1 1 3", "wm 2", "wm 3"].map(str::to_owned).to_vec();
    assert_eq!(tick(31, &[], 3), (lines, None));
    assert_eq!(tick(32, &[row(1, 5, 1)], i64::MAX).0[1], "+1 1 8");
}

#[test]
fn a_punctuation_completes_and_frees_groups() {
    let mut op = operator(vec![0], vec![sum_v()], EmitMode::OnClose, true);
    push(&mut op, &[row(1, 1, 1), row(2, 2, 1)], 0);
    assert!(end(&mut op).is_empty());
    let pattern = Pattern::OneOf(vec![ScalarValue::Int64(Some(2))]);
    let punctuate = |op: &mut Aggregate, column: &str| {
        let columns = vec![(column.to_owned(), pattern.clone())];
        let mut out = Emitter::default();
        op.on_punctuation(0, &Punctuation { columns }, &mut out).unwrap();
        text(out)
    };
    assert_eq!(punctuate(&mut op, "k"), ["+1 2 2", "punctuation k"]);
    assert_eq!(op.groups.rows, [1, 0]);
    assert!(punctuate(&mut op, "v").is_empty(), "v is no key");
    let mut out = Emitter::default();
    op.on_watermark(0, EventTime::MAX, &mut out).unwrap();
    assert_eq!(text(out), ["+1 1 1".to_owned(), format!("wm {}", i64::MAX)]);
}

#[test]
fn keys_of_freed_groups_are_dropped() {
    let mut op = operator(vec![0], all_aggregates(), EmitMode::Changes, false);
    push(&mut op, &[row(-1, 7, 1)], 0);
    for start in 0..10 {
        let rows: Vec<Row> = (0..1_000).map(|i| row(start * 1_000 + i, i, 1)).collect();
        push(&mut op, &rows, 1);
        assert_eq!(end(&mut op).len(), if start == 0 { 1_001 } else { 1_000 });
        let back: Vec<Row> = rows.iter().map(|r| (r.0, r.1, r.2, -1)).collect();
        push(&mut op, &back, 1);
        assert_eq!(end(&mut op).len(), 1_000);
    }
    assert!(op.keys.len() < 3_000, "{} keys", op.keys.len());
    push(&mut op, &[row(-1, 7, -1)], 0);
    assert_eq!(end(&mut op).len(), 1, "the group kept its result through renumbering");
}

#[test]
fn a_retraction_may_come_before_its_insertion() {
    let mut op = operator(vec![0], all_aggregates(), EmitMode::Changes, false);
    push(&mut op, &[row(1, 5, -1), row(1, 6, 1)], 0);
    assert!(end(&mut op).is_empty(), "the rows cancel out in number");
    push(&mut op, &[row(1, 5, 1)], 2);
    assert_eq!(end(&mut op), ["+1 1 1 1 6 NULL a rather long text 6 6 1 NULL"]);
}

#[test]
fn aggregates_with_an_order_see_their_rows_in_it() {
    let ordered = |function: Arc<AggregateUDF>, arguments: Vec<Arc<dyn PhysicalExpr>>| {
        let by = PhysicalSortExpr::new(of("f"), SortOptions::new(true, false));
        let function = AggregateExprBuilder::new(function, arguments)
            .schema(input_schema())
            .alias("a")
            .order_by(vec![by])
            .build()
            .unwrap();
        let output: FieldRef = Arc::new(function.field().as_ref().clone().with_nullable(true));
        AggregateSpec { function: Arc::new(function), filter: None, native: None, output }
    };
    let aggregates = || {
        let joined = functions::string_agg::string_agg_udaf();
        vec![
            ordered(functions::array_agg::array_agg_udaf(), vec![of("v")]),
            ordered(functions::first_last::first_value_udaf(), vec![of("v")]),
            ordered(joined, vec![of("s"), lit(", ")]),
        ]
    };
    for append_only in [true, false] {
        let mut op = operator(vec![0], aggregates(), EmitMode::Changes, append_only);
        push(&mut op, &[(1, Some(7), Some(2.0), 1), (1, Some(5), Some(1.0), 1)], 0);
        end(&mut op);
        push(&mut op, &[(1, Some(9), Some(1.5), 1)], 2);
        let text = |v| format!("a rather long text {v}");
        let joined = [7, 9, 5].map(text).join(", ");
        assert_eq!(end(&mut op)[1], format!("+1 1 [7, 9, 5] 7 {joined}"), "{append_only}");
    }
}

/// The result of one group by definition.
fn naive(key: i64, rows: &[&Row]) -> String {
    let values: Vec<i64> = rows.iter().filter_map(|row| row.1).collect();
    let mut numbers: Vec<f64> = rows.iter().filter_map(|row| row.2).collect();
    numbers.sort_by(f64::total_cmp);
    let float = |value: f64| ScalarValue::Float64(Some(value)).to_string();
    let null = || "NULL".to_owned();
    let or_null = |value: Option<String>| value.unwrap_or_else(null);
    let sum = (!values.is_empty()).then(|| values.iter().sum::<i64>().to_string());
    let n = numbers.len();
    let average = (n > 0).then(|| float(numbers.iter().sum::<f64>() / n as f64));
    let median = (n > 0).then(|| float((numbers[(n - 1) / 2] + numbers[n / 2]) / 2.0));
    let least = values.iter().map(|v| format!("a rather long text {v}")).min();
    let greatest = values.iter().max().map(i64::to_string);
    let distinct = values.iter().collect::<BTreeSet<_>>().len();
    format!(
        "{key} {} {} {} {} {} {} {distinct} {}",
        rows.len(),
        values.len(),
        or_null(sum),
        or_null(average),
        or_null(least),
        or_null(greatest),
        or_null(median),
    )
}

/// Checks the sum of the changelog after every step against the rows that are there then.
fn check(steps: &[Vec<Row>], append_only: bool) -> Result<(), TestCaseError> {
    let mut op = operator(vec![0], all_aggregates(), EmitMode::Changes, append_only);
    let mut there: Vec<Row> = Vec::new();
    let mut shown: BTreeSet<String> = BTreeSet::new();
    for step in steps {
        for batch in step.chunks(3) {
            prop_assert!(push(&mut op, batch, 0).is_empty());
        }
        for row in step {
            if row.3 > 0 {
                there.push(*row);
            } else {
                let same = (row.0, row.1, row.2, 1);
                let at = there.iter().position(|other| *other == same).unwrap();
                there.swap_remove(at);
            }
        }
        for line in end(&mut op) {
            let (weight, result) = line.split_once(' ').unwrap();
            let changed = match weight {
                "+1" => shown.insert(result.to_owned()),
                _ => shown.remove(result),
            };
            prop_assert!(changed, "{line} is no change");
        }
        let keys: BTreeSet<i64> = there.iter().map(|row| row.0).collect();
        let expected: BTreeSet<String> = keys
            .into_iter()
            .map(|key| naive(key, &there.iter().filter(|r| r.0 == key).collect::<Vec<_>>()))
            .collect();
        prop_assert_eq!(&shown, &expected);
    }
    Ok(())
}

fn rows() -> impl Strategy<Value = Vec<Vec<Row>>> {
    let value = prop::option::weighted(0.8, -3i64..4);
    let number = prop::option::weighted(0.8, (-8i64..8).prop_map(|n| n as f64 / 4.0));
    let row = (0i64..4, value, number).prop_map(|(k, v, f)| (k, v, f, 1));
    prop::collection::vec(prop::collection::vec(row, 0..8), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn the_changelog_sums_to_the_result_over_append_only_input(steps in rows()) {
        check(&steps, true)?;
    }

    #[test]
    fn the_changelog_sums_to_the_result_over_input_with_retractions(
        steps in rows(),
        choices in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 64),
    ) {
        // Turns some of the rows into retractions of rows that are there at that point.
        let (mut there, mut choices): (Vec<Row>, _) = (Vec::new(), choices.iter().cycle());
        let mut steps = steps;
        for row in steps.iter_mut().flatten() {
            let (index, retract) = choices.next().unwrap();
            if *retract && !there.is_empty() {
                let gone = there.swap_remove(index.index(there.len()));
                *row = (gone.0, gone.1, gone.2, -1);
            } else {
                there.push(*row);
            }
        }
        check(&steps, false)?;
    }
}

#[test]
fn what_it_says_it_holds_is_within_a_half_and_double() {
    let fed = |keys: Vec<usize>, aggregates: Vec<AggregateSpec>, append_only: bool| {
        let mut op = operator(keys, aggregates, EmitMode::Changes, append_only);
        for batch in 0..40_i64 {
            let rows: Vec<Row> = (0..500)
                .map(|i| (batch * 250 + i, Some(i * 31 + batch), Some(i as f64), 1))
                .collect();
            push(&mut op, &rows, batch as u64 * 500);
            end(&mut op);
        }
        op
    };
    let one = |i: usize| vec![all_aggregates().remove(i)];
    for (what, keys, aggregates, append_only) in [
        ("integers close together", vec![0], one(0), true),
        ("pairs of an integer and a text", vec![0, 3], one(2), true),
        ("texts", vec![3], one(0), true),
        ("averages", vec![0], one(3), true),
        ("exact averages", vec![0], one(3), false),
        ("least texts", vec![0], one(4), true),
        ("least texts, all kept", vec![0], one(4), false),
        ("greatest numbers", vec![0], one(5), true),
        ("distinct numbers", vec![0], one(6), true),
        ("medians", vec![0], one(7), true),
        ("medians, all kept", vec![0], one(7), false),
    ] {
        let make = || fed(keys, aggregates, append_only);
        crate::operators::held::check(what, make, Operator::state_bytes);
    }
}

#[test]
fn a_snapshot_in_portions_holds_the_state_of_its_beginning() {
    for (append_only, keys) in [(true, vec![0]), (false, vec![3]), (false, vec![])] {
        let new = || operator(keys.clone(), all_aggregates(), EmitMode::Changes, append_only);
        let (mut op, mut steps) = (new(), 0);
        let mut step = |op: &mut Aggregate| {
            steps += 1;
            let rows: Vec<Row> = (0..9)
                .map(|i| ((i * 5 + steps * 7) % 23, Some(i + steps), Some(0.1 * i as f64), 1))
                .collect();
            push(op, &rows, steps as u64 * 9);
            end(op)
        };
        (0..5).for_each(|_| drop(step(&mut op)));
        let mut out = StateWriter::default();
        let mut at_once = StateWriter::default();
        op.save(&mut at_once).unwrap();
        let mut more = op.save_begin(&mut out).unwrap();
        while more {
            step(&mut op);
            more = op.save_more(1, &mut out).unwrap();
        }
        let answers = |bytes: Vec<u8>| {
            let mut restored = new();
            restored.restore(&mut StateReader::new(&bytes)).unwrap();
            restored.restored().unwrap();
            let rows: Vec<Row> = (0..23).map(|k| (k, Some(k), Some(0.7), 1)).collect();
            push(&mut restored, &rows, 9_999);
            end(&mut restored)
        };
        assert_eq!(answers(out.finish()), answers(at_once.finish()));
    }
}
