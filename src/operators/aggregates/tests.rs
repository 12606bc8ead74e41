//! Folds rows in pieces and in whole, and compares with DataFusion's own aggregates.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringViewArray,
};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef};
use arrow::util::display::array_value_to_string;
use datafusion::functions_aggregate::{
    array_agg::array_agg_udaf, average::avg_udaf, count::count_udaf, first_last::last_value_udaf,
    median::median_udaf, min_max::max_udaf, min_max::min_udaf, nth_value::nth_value_udaf,
    string_agg::string_agg_udaf, sum::sum_udaf,
};
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, lit};
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use proptest::prelude::*;

use super::accumulator::{GroupedAggregate, Rows, arguments, is_order_sensitive, make};
use super::one_shot::evaluate_rows;
use super::spec::{AggregateSpec, NativeFunction};
use crate::error::Report;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("x", DataType::Float64, true),
        Field::new("s", DataType::Utf8View, true),
    ]))
}

fn rows(n: &[Option<i64>]) -> RecordBatch {
    let x: Float64Array = n.iter().map(|n| n.map(|n| n as f64 / 2.0)).collect();
    let s: StringViewArray = n.iter().map(|n| n.map(|n| format!("s{n}"))).collect();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(n.to_vec())), Arc::new(x), Arc::new(s)];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn column(name: &str) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new_with_schema(name, &schema()).unwrap())
}

fn spec(
    function: Arc<AggregateUDF>,
    args: Vec<Arc<dyn PhysicalExpr>>,
    order: Option<(&str, bool)>,
    native: Option<NativeFunction>,
) -> AggregateSpec {
    let order = order.map(|(by, descending)| PhysicalSortExpr {
        expr: column(by),
        options: SortOptions { descending, nulls_first: false },
    });
    let function = AggregateExprBuilder::new(function, args)
        .schema(schema())
        .alias("a")
        .order_by(order.into_iter().collect())
        .build()
        .unwrap();
    let output = function.field();
    AggregateSpec { function: Arc::new(function), filter: None, native, output }
}

fn native_specs() -> Vec<AggregateSpec> {
    vec![
        spec(count_udaf(), vec![lit(1_i64)], None, Some(NativeFunction::CountRows)),
        spec(count_udaf(), vec![column("n")], None, Some(NativeFunction::Count)),
        spec(sum_udaf(), vec![column("n")], None, Some(NativeFunction::Sum)),
        spec(sum_udaf(), vec![column("x")], None, Some(NativeFunction::Sum)),
        spec(avg_udaf(), vec![column("x")], None, Some(NativeFunction::Avg)),
        spec(min_udaf(), vec![column("n")], None, Some(NativeFunction::Min)),
        spec(max_udaf(), vec![column("x")], None, Some(NativeFunction::Max)),
        spec(max_udaf(), vec![column("s")], None, Some(NativeFunction::Max)),
    ]
}

fn show(column: &ArrayRef) -> String {
    let values = (0..column.len()).map(|row| array_value_to_string(column, row).unwrap());
    values.collect::<Vec<_>>().join(" | ")
}

/// Groups `0 1 0 1 …` of the numbers.
fn check(spec: &AggregateSpec, numbers: &[Option<i64>], expected: &str) {
    let groups: Vec<usize> = (0..numbers.len()).map(|row| row % 2).collect();
    let results = evaluate_rows(std::slice::from_ref(spec), &rows(numbers), &groups, 2).unwrap();
    assert_eq!(show(&results[0]), expected, "{spec}");
}

#[test]
fn nulls_are_left_out_and_a_group_of_nulls_is_null() {
    let numbers = [Some(5), None, Some(7), None, None, None];
    let expected = ["3 | 3", "2 | 0", "12 | ", "6.0 | ", "3.0 | ", "5 | ", "3.5 | ", "s7 | "];
    for (spec, expected) in native_specs().iter().zip(expected) {
        check(spec, &numbers, expected);
    }
}

#[test]
fn an_order_decides_between_rows_and_ties_stay_in_log_order() {
    let by_n = Some(("n", true));
    let numbers = [Some(1), Some(5), Some(3), Some(4), Some(2), None];
    check(&spec(array_agg_udaf(), vec![column("n")], by_n, None), &numbers, "[3, 2, 1] | [5, 4, ]");
    check(&spec(nth_value_udaf(), vec![column("n"), lit(2_i64)], by_n, None), &numbers, "2 | 4");
    check(&spec(last_value_udaf(), vec![column("s")], by_n, None), &numbers, "s1 | ");
    let joined = spec(string_agg_udaf(), vec![column("s"), lit(",")], None, None);
    check(&joined, &numbers, "s1,s3,s2 | s5,s4");
    check(&spec(median_udaf(), vec![column("n")], None, None), &numbers, "2 | 4");
}

#[test]
fn order_matters_to_lists_and_firsts_but_not_to_sums() {
    assert!(is_order_sensitive(&spec(array_agg_udaf(), vec![column("n")], None, None)));
    assert!(!is_order_sensitive(&spec(sum_udaf(), vec![column("n")], Some(("x", true)), None)));
}

#[test]
fn an_integer_sum_overflows_only_by_its_final_value() {
    let sum = &native_specs()[2];
    check(sum, &[Some(i64::MAX), Some(0), Some(i64::MAX), Some(0), Some(-i64::MAX)], {
        "9223372036854775807 | 0"
    });
    let groups = [0, 0];
    for number in [i64::MAX, i64::MIN] {
        let batch = rows(&[Some(number), Some(number)]);
        let error = evaluate_rows(std::slice::from_ref(sum), &batch, &groups, 1).unwrap_err();
        assert_eq!(error.code().0, "22003");
    }
}

#[test]
fn a_filter_that_is_null_leaves_the_row_out() {
    let mut count = make(&native_specs()[0]).unwrap();
    let filter = BooleanArray::from(vec![Some(true), None, Some(false), Some(true)]);
    let rows = Rows { filter: Some(&filter), ..Rows::all(&[0, 0, 0, 1], 3) };
    count.update(&[], &rows).unwrap();
    assert_eq!(show(&count.evaluate().unwrap()), "1 | 1 | 0");
}

#[test]
fn a_retraction_takes_its_row_out_of_counts_sums_and_averages() {
    let batch = rows(&[Some(i64::MAX), Some(4), Some(i64::MAX), Some(4)]);
    let weights = Int64Array::from(vec![2, 1, -2, -1]);
    for spec in &native_specs()[..5] {
        let mut aggregate = make(spec).unwrap();
        let rows = Rows { weights: Some(&weights), ..Rows::all(&[0, 0, 0, 0], 1) };
        aggregate.update(&arguments(spec, &batch).unwrap(), &rows).unwrap();
        assert!(matches!(show(&aggregate.evaluate().unwrap()).as_str(), "0" | ""), "{spec}");
    }
    let mut least = make(&native_specs()[5]).unwrap();
    let rows = Rows { weights: Some(&weights), ..Rows::all(&[0, 0, 0, 0], 1) };
    assert!(least.update(&arguments(&native_specs()[5], &batch).unwrap(), &rows).is_err());
}

#[test]
fn not_a_number_is_the_greatest_number() {
    for numbers in [[1.0, f64::NAN, 2.0], [f64::NAN, 2.0, 1.0]] {
        let column: ArrayRef = Arc::new(Float64Array::from(numbers.to_vec()));
        let mut least = super::min_max::least(&DataType::Float64).unwrap();
        let mut greatest = super::min_max::greatest(&DataType::Float64).unwrap();
        for aggregate in [&mut least, &mut greatest] {
            aggregate.update(&[Arc::clone(&column)], &Rows::all(&[0, 0, 0], 1)).unwrap();
        }
        assert_eq!(least.evaluate().unwrap().as_primitive::<Float64Type>().value(0), 1.0);
        assert!(greatest.evaluate().unwrap().as_primitive::<Float64Type>().value(0).is_nan());
    }
}

fn fold(spec: &AggregateSpec, numbers: &[Option<i64>]) -> Box<dyn GroupedAggregate> {
    let mut aggregate = make(spec).unwrap();
    let groups: Vec<u32> = (0..numbers.len() as u32).map(|row| row % 3).collect();
    let values = arguments(spec, &rows(numbers)).unwrap();
    aggregate.update(&values, &Rows::all(&groups, 3)).unwrap();
    aggregate
}

fn any_numbers() -> impl Strategy<Value = Vec<Option<i64>>> {
    let number = prop_oneof![
        4 => (-100_i64..100).prop_map(Some),
        1 => any::<i64>().prop_map(|n| Some(n >> 3)),
        1 => Just(None),
    ];
    prop::collection::vec(number, 3..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn native_accumulators_agree_with_datafusion(numbers in any_numbers()) {
        for native in native_specs() {
            let foreign = AggregateSpec { native: None, ..native.clone() };
            let (ours, theirs) = (fold(&native, &numbers).evaluate(), fold(&foreign, &numbers).evaluate());
            // DataFusion wraps where we say out of range.
            if let Ok(ours) = ours {
                prop_assert_eq!(show(&ours), show(&theirs.unwrap()), "{}", native);
            }
        }
    }

    #[test]
    fn merging_parts_equals_folding_the_whole(a in any_numbers(), b in any_numbers()) {
        let mut specs = native_specs();
        specs.push(spec(median_udaf(), vec![column("n")], None, None));
        specs.push(spec(nth_value_udaf(), vec![column("n"), lit(1_i64)], Some(("n", false)), None));
        for spec in specs {
            let (mut left, mut right) = (fold(&spec, &a), fold(&spec, &b));
            let state = right.state().unwrap();
            left.merge(&state, &[0, 1, 2], 3).unwrap();
            let batch = arrow::compute::concat_batches(&schema(), &[rows(&a), rows(&b)]).unwrap();
            let groups: Vec<u32> =
                (0..a.len() as u32).chain(0..b.len() as u32).map(|row| row % 3).collect();
            let mut whole = make(&spec).unwrap();
            whole.update(&arguments(&spec, &batch).unwrap(), &Rows::all(&groups, 3)).unwrap();
            let float = *spec.output.data_type() == DataType::Float64;
            if let (Ok(merged), Ok(whole)) = (left.evaluate(), whole.evaluate()) && !float {
                prop_assert_eq!(show(&merged), show(&whole), "{}", spec);
            }
            let kept = show(&right.evaluate_of(&[2, 0]).unwrap_or_else(|_| Arc::new(Int64Array::new_null(2))));
            if let Ok(all) = right.evaluate() {
                let all = super::accumulator::gather(&[all], &[2, 0]).unwrap();
                prop_assert_eq!(kept, show(&all[0]), "{}", spec);
            }
        }
    }

    #[test]
    fn taking_out_what_was_merged_leaves_what_was_there(a in any_numbers(), b in any_numbers()) {
        for spec in &native_specs()[..3] {
            let mut left = fold(spec, &a);
            let before = left.state().unwrap();
            let state = fold(spec, &b).state().unwrap();
            prop_assert!(left.is_invertible());
            left.merge(&state, &[1, 1, 2], 3).unwrap();
            left.unmerge(&state, &[1, 1, 2]).unwrap();
            let after = left.state().unwrap();
            for (before, after) in before.iter().zip(&after) {
                prop_assert_eq!(before.as_ref(), after.as_ref());
            }
        }
    }
}

#[test]
fn weights_beyond_one_count_that_often() {
    let spec = spec(median_udaf(), vec![column("n")], None, None);
    let weights = Int64Array::from(vec![1, 3, 1]);
    let mut median = make(&spec).unwrap();
    let rows_of = Rows { weights: Some(&weights), ..Rows::all(&[0, 0, 0], 1) };
    let batch = rows(&[Some(1), Some(9), Some(5)]);
    median.update(&arguments(&spec, &batch).unwrap(), &rows_of).unwrap();
    assert_eq!(median.evaluate().unwrap().as_primitive::<Int64Type>().value(0), 9);
}
