//! Runs OVER over random rows, cut and restored in random places, beside frames worked out by hand.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringViewArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::Column;
use proptest::prelude::*;

use super::*;
use crate::operators::aggregates::spec::{AggregateSpec, NativeFunction};
use crate::operators::operator::{LateRow, Output};
use crate::operators::row_trial::{arriving, in_pieces, watermarks};

/// Time, key, number, float.
type Row = (i64, Option<i64>, Option<i64>, f64);

fn input() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("at", DataType::Int64, true),
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("x", DataType::Float64, true),
        Field::new("t", DataType::Utf8View, true),
    ]))
}

fn sum(column: &str, index: usize, frame: Frame) -> OverFunction {
    let function =
        AggregateExprBuilder::new(sum_udaf(), vec![Arc::new(Column::new(column, index))])
            .schema(input())
            .alias("sum")
            .build()
            .unwrap();
    let output = function.field();
    let native = Some(NativeFunction::Sum);
    OverFunction::Aggregate(
        AggregateSpec { function: Arc::new(function), filter: None, native, output },
        frame,
    )
}

fn spec(functions: Vec<(OverFunction, DataType)>, lateness: i64) -> Arc<OverSpec> {
    let mut fields: Vec<_> = input().fields().iter().map(Arc::clone).collect();
    for (i, (_, data_type)) in functions.iter().enumerate() {
        fields.push(Arc::new(Field::new(format!("c{i}"), data_type.clone(), true)));
    }
    let calls = functions.into_iter().enumerate().map(|(i, (function, _))| OverCall {
        partition: if i % 2 == 0 { vec![1] } else { vec![] },
        ends: None,
        function,
    });
    Arc::new(OverSpec {
        order: OverOrder::Time(0),
        lateness,
        calls: calls.collect(),
        kept: 5,
        input_schema: input(),
        schema: Arc::new(Schema::new(fields)),
    })
}

fn shift(argument: usize, rows: usize, default: ArrayRef) -> Shift {
    Shift { argument, rows, default, ignore_nulls: false }
}

fn functions(frame: Frame, with_lead: bool) -> Vec<(OverFunction, DataType)> {
    let text: ArrayRef = Arc::new(StringViewArray::from(vec!["none"]));
    let null: ArrayRef = Arc::new(Int64Array::from(vec![None]));
    let mut functions = vec![
        (sum("v", 2, frame), DataType::Int64),
        (sum("x", 3, frame), DataType::Float64),
        (OverFunction::First(4, frame), DataType::Utf8View),
        (OverFunction::Last(2, frame), DataType::Int64),
        (OverFunction::Lag(shift(4, 2, text)), DataType::Utf8View),
        (OverFunction::Rank, DataType::Int64),
    ];
    if with_lead {
        functions.push((OverFunction::Lead(shift(2, 1, Arc::clone(&null))), DataType::Int64));
        functions.push((OverFunction::Lead(shift(2, 2, null)), DataType::Int64));
    }
    functions
}

/// The texts are longer than a view holds, and tell the rows.
fn change(rows: &[Row], first: usize, arrivals: &[i64]) -> Change {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
        Arc::new(Float64Array::from_iter_values(rows.iter().map(|row| row.3))),
        Arc::new(StringViewArray::from_iter_values(
            (first..first + rows.len()).map(|n| format!("the text of row {n:09}")),
        )),
    ];
    arriving(RecordBatch::try_new(input(), columns).unwrap(), first, arrivals)
}

const BOUND: i64 = 3;

/// Runs rows in pieces that end at `cuts`; after each the operator is saved into a new one.
fn run(spec: &Arc<OverSpec>, rows: &[Row], cuts: &[usize]) -> (RecordBatch, Vec<LateRow>) {
    let marks = watermarks(rows.iter().map(|row| row.0), BOUND);
    let piece = |rows_of: Range<usize>| {
        change(&rows[rows_of.clone()], rows_of.start, &marks[rows_of.clone()])
    };
    let ran = in_pieces(|| Over::new(Arc::clone(spec)).unwrap(), piece, &marks, cuts);
    (concat_batches(&spec.schema, &ran.batches).unwrap(), ran.late)
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (
        0i64..6,
        prop_oneof![Just(None), (0i64..3).prop_map(Some)],
        prop_oneof![Just(None), (-9i64..9).prop_map(Some)],
        prop_oneof![Just(0.1), Just(1e16), Just(-1e16), Just(3.7)],
    );
    prop::collection::vec(row, 0..40).prop_map(|mut rows| {
        for (i, row) in rows.iter_mut().enumerate() {
            row.0 += i as i64 / 2;
        }
        rows
    })
}

fn frame() -> impl Strategy<Value = Frame> {
    let start = prop_oneof![Just(None), (2i64..6).prop_map(Some)];
    let looks_back = (any::<bool>(), start.clone(), 0i64..3);
    let looks_back = looks_back.prop_map(|(by_rows, start, end)| Frame { by_rows, start, end });
    let begins = prop_oneof![start, (-2i64..2).prop_map(Some)];
    let looks_ahead =
        (begins, -5i64..-2).prop_map(|(start, end)| Frame { by_rows: false, start, end });
    prop_oneof![looks_back, looks_ahead]
}

/// What a frame of row `row` holds of the kept rows, which are in order.
fn in_frame(kept: &[(usize, Row)], row: usize, partitioned: bool, frame: Frame) -> Vec<usize> {
    let of = |i: &usize| !partitioned || kept[*i].1.1 == kept[row].1.1;
    let all: Vec<usize> = (0..kept.len()).filter(of).collect();
    let place = all.iter().position(|i| *i == row).unwrap() as i64;
    let position = |place: usize| match frame.by_rows {
        true => place as i64,
        false => kept[all[place]].1.0,
    };
    let current = if frame.by_rows { place } else { kept[row].1.0 };
    (0..all.len())
        .filter(|&i| {
            let low = frame.start.is_none_or(|start| position(i) >= current - start);
            low && position(i) <= current - frame.end
        })
        .map(|i| all[i])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn neither_cuts_nor_restores_change_a_bit(
        rows in rows(), frame in frame(), lead in any::<bool>(),
        cuts in prop::collection::btree_set(0usize..40, 0..8), lateness in 0i64..3,
    ) {
        let spec = spec(functions(frame, lead), lateness);
        let cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut < rows.len()).collect();
        let (whole, late) = run(&spec, &rows, &[]);
        let (cut, late_too) = run(&spec, &rows, &cuts);
        prop_assert_eq!(late, late_too);
        prop_assert_eq!(whole, cut);
    }

    #[test]
    fn answers_are_those_of_the_frame(rows in rows(), frame in frame()) {
        let spec = spec(functions(frame, false), 0);
        let (answer, late) = run(&spec, &rows, &[]);
        let marks = watermarks(rows.iter().map(|row| row.0), BOUND);
        let mut kept: Vec<(usize, Row)> =
            rows.iter().copied().enumerate().filter(|(i, row)| row.0 >= marks[*i]).collect();
        kept.sort_by_key(|(i, row)| (row.0, *i));
        prop_assert_eq!(answer.num_rows(), kept.len());
        prop_assert_eq!(late.len(), rows.len() - kept.len());
        let integers = |c: usize| answer.column(c).as_primitive::<Int64Type>().clone();
        for row in 0..kept.len() {
            prop_assert_eq!(answer.column(4).as_string_view().value(row), format!("the text of row {:09}", kept[row].0));
            let own = in_frame(&kept, row, true, frame);
            let all = in_frame(&kept, row, false, frame);
            let numbers: Vec<i64> = own.iter().filter_map(|i| kept[*i].1.2).collect();
            let total = (!numbers.is_empty()).then(|| numbers.iter().sum::<i64>());
            prop_assert_eq!(integers(5).is_valid(row).then(|| integers(5).value(row)), total);
            let floats: f64 = all.iter().map(|i| kept[*i].1.3).sum();
            let sums = answer.column(6).as_primitive::<Float64Type>();
            let spread: f64 = all.iter().map(|i| kept[*i].1.3.abs()).sum();
            prop_assert_eq!(sums.is_valid(row), !all.is_empty());
            prop_assert!(all.is_empty() || (sums.value(row) - floats).abs() <= spread * 1e-12);
            let first = own.first().map(|i| format!("the text of row {:09}", kept[*i].0));
            let firsts = answer.column(7).as_string_view();
            prop_assert_eq!(firsts.is_valid(row).then(|| firsts.value(row).to_string()), first);
            let last = all.last().and_then(|i| kept[*i].1.2);
            prop_assert_eq!(integers(8).is_valid(row).then(|| integers(8).value(row)), last);
            let rank = kept.iter().filter(|(_, other)| other.0 < kept[row].1.0).count() + 1;
            prop_assert_eq!(answer.column(10).as_primitive::<Int64Type>().value(row), rank as i64);
        }
    }
}

#[test]
fn partitions_of_ranges_go_when_the_watermark_has_left_them_behind() {
    let frame = Frame { by_rows: false, start: Some(5), end: 0 };
    let spec = spec(vec![(sum("v", 2, frame), DataType::Int64)], 0);
    let mut operator = Over::new(spec).unwrap();
    let mut out = Emitter::default();
    let rows: Vec<Row> = (0..2_000).map(|i| (i, Some(i), Some(1), 0.0)).collect();
    operator.on_change(0, change(&rows, 0, &vec![i64::MIN; rows.len()]), &mut out).unwrap();
    operator.on_watermark(0, EventTime(1_990), &mut out).unwrap();
    assert!(operator.running.bytes() > 0);
    operator.on_watermark(0, EventTime(10_000), &mut out).unwrap();
    assert_eq!(operator.running.bytes(), 0);
    let mut out = Emitter::default();
    operator.on_watermark(0, EventTime::MAX, &mut out).unwrap();
    assert!(out.outputs.iter().all(|output| !matches!(output, Output::Change(_))));
}

#[test]
fn an_infinity_leaves_a_sum_with_its_row() {
    let frame = Frame { by_rows: true, start: Some(1), end: 0 };
    let spec = spec(vec![(sum("x", 3, frame), DataType::Float64)], 0);
    let rows: Vec<Row> = [1.0, f64::INFINITY, 2.0, 3.0]
        .into_iter()
        .enumerate()
        .map(|(i, x)| (i as i64, Some(0), None, x))
        .collect();
    let (answer, _) = run(&spec, &rows, &[]);
    let sums = answer.column(5).as_primitive::<Float64Type>();
    assert_eq!(sums.values(), &[1.0, f64::INFINITY, f64::INFINITY, 5.0]);
}
