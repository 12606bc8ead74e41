//! Checks that neither batch cuts, slices, snapshots nor the type of the items change an answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMillisecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Int64Type};
use proptest::prelude::*;

use super::heavy_hitters::{Form, HeavyHitters};
use super::{Miner, MiningAggregate, MiningFold};
use crate::operators::aggregates::accumulator::{GroupedAggregate, Rows};
use crate::operators::aggregates::fold::{Fold, FoldRows};
use crate::operators::portions::Chosen;
use crate::operators::state::{StateReader, StateWriter};
use crate::sketches::fraction::Fraction;
use crate::sketches::heavy_hitters::{Algorithm, Mode, Question};
use crate::windows::spec::{Sizes, Span, TimeWindow, TimeWindowKind};

const ALL: [Algorithm; 4] =
    [Algorithm::LossyCounting, Algorithm::StickySampling, Algorithm::SpaceSaving, Algorithm::Exact];

fn miner(algorithm: Algorithm, item: Vec<DataType>) -> HeavyHitters {
    let fraction = |text| Fraction::parse(text).unwrap();
    HeavyHitters {
        question: Question {
            support: fraction("0.2"),
            error: fraction("0.1"),
            algorithm,
            mode: Mode::NoFalseNegatives,
            failure: fraction("0.9"),
            seed: 7,
            in_parts: false,
        },
        item,
        weighted: false,
        placed: false,
        slices: None,
        form: Form::Relation,
    }
}

fn answers(aggregate: &mut MiningAggregate, groups: usize) -> String {
    let groups: Vec<u32> = (0..groups as u32).collect();
    format!("{:?}", aggregate.evaluate_of(&groups).unwrap())
}

/// Rows of (item, group), cut at every place of `cuts`.
fn pieces(rows: usize, cuts: &[usize]) -> Vec<(usize, usize)> {
    let mut edges: Vec<usize> = cuts.iter().map(|cut| cut % (rows + 1)).chain([0, rows]).collect();
    edges.sort_unstable();
    edges.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).collect()
}

proptest! {
    #[test]
    fn batch_cuts_and_snapshots_change_nothing(
        rows in proptest::collection::vec((0..30_i64, 0..3_u32), 0..400),
        cuts in proptest::collection::vec(any::<usize>(), 0..6),
    ) {
        let items: ArrayRef = Arc::new(Int64Array::from_iter(
            rows.iter().map(|&(item, _)| (item != 3).then_some(item)),
        ));
        let groups: Vec<u32> = rows.iter().map(|row| row.1).collect();
        for algorithm in ALL {
            let miner: Arc<dyn Miner> = Arc::new(miner(algorithm, vec![DataType::Int64]));
            let mut whole = MiningAggregate::new(Arc::clone(&miner)).unwrap();
            whole.update(&[Arc::clone(&items)], &Rows::all(&groups, 3)).unwrap();
            let mut parts = MiningAggregate::new(Arc::clone(&miner)).unwrap();
            let mut fold = MiningFold::new(&miner).unwrap();
            fold.resize(3);
            for (start, length) in pieces(rows.len(), &cuts) {
                let part = items.slice(start, length);
                let of = &groups[start..start + length];
                parts.update(&[Arc::clone(&part)], &Rows::all(of, 3)).unwrap();
                // A slice at rest is bytes, and opens again by merging them into nothing.
                let state = parts.take_state().unwrap();
                parts.merge(&state, &[0, 1, 2], 3).unwrap();
                let wide: Vec<usize> = of.iter().map(|&group| group as usize).collect();
                fold.update(&FoldRows {
                    groups: &wide,
                    arguments: &[part],
                    included: None,
                    weights: None,
                })
                .unwrap();
                let mut out = StateWriter::default();
                let all = Chosen::Run(0..3);
                fold.save(&all, &mut out).unwrap();
                let bytes = out.finish();
                fold = MiningFold::new(&miner).unwrap();
                fold.resize(3);
                fold.restore(&all, &mut StateReader::new(&bytes)).unwrap();
            }
            let wanted = answers(&mut whole, 3);
            prop_assert_eq!(&answers(&mut parts, 3), &wanted);
            let folded = fold.evaluate(&[0, 1, 2]).unwrap().values;
            prop_assert_eq!(&format!("{folded:?}"), &wanted);
        }
    }

    #[test]
    fn slices_that_are_merged_answer_as_a_window_that_is_filled(
        rows in proptest::collection::vec((0..20_i64, 0..40_i64), 0..400),
        cuts in proptest::collection::vec(any::<usize>(), 0..6),
    ) {
        let (slide, size) = (Span::Fixed(7), Span::Fixed(40));
        let sizes = Sizes::new(&[Span::Fixed(12), size]).unwrap();
        let kind = match cuts.len() % 2 {
            0 => TimeWindowKind::Hop { slide, size },
            _ => TimeWindowKind::Horizons { slide, sizes },
        };
        let slices = Some(TimeWindow { kind, offset: 0, timezone: None });
        let items: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
        let times: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)));
        for algorithm in [Algorithm::LossyCounting, Algorithm::SpaceSaving, Algorithm::Exact] {
            let spec = HeavyHitters { slices: slices.clone(), ..miner(algorithm, vec![DataType::Int64]) };
            let miner: Arc<dyn Miner> = Arc::new(spec);
            let group = vec![0; rows.len()];
            let arguments = [Arc::clone(&items), Arc::clone(&times)];
            let mut whole = MiningAggregate::new(Arc::clone(&miner)).unwrap();
            whole.update(&arguments, &Rows::all(&group, 1)).unwrap();
            // Each slice apart, in batches, then merged in the order of time.
            let windows = crate::windows::assign::Windows::new(slices.as_ref().unwrap());
            let mut apart: BTreeMap<i64, MiningAggregate> = BTreeMap::new();
            for (start, length) in pieces(rows.len(), &cuts) {
                for (row, &(_, time)) in rows.iter().enumerate().skip(start).take(length) {
                    let slice = windows.slice_of(time).0;
                    let arguments: Vec<ArrayRef> =
                        arguments.iter().map(|column| column.slice(row, 1)).collect();
                    let of_slice = apart
                        .entry(slice)
                        .or_insert_with(|| MiningAggregate::new(Arc::clone(&miner)).unwrap());
                    of_slice.update(&arguments, &Rows::all(&[0], 1)).unwrap();
                }
            }
            let mut merged = MiningAggregate::new(Arc::clone(&miner)).unwrap();
            merged.update(&[items.slice(0, 0), times.slice(0, 0)], &Rows::all(&[], 1)).unwrap();
            for slice in apart.values_mut() {
                merged.merge(&slice.take_state().unwrap(), &[0], 1).unwrap();
            }
            prop_assert_eq!(answers(&mut merged, 1), answers(&mut whole, 1));
        }
    }
}

fn check_type(column: ArrayRef, shown: &str) {
    let miner: Arc<dyn Miner> =
        Arc::new(miner(Algorithm::LossyCounting, vec![column.data_type().clone()]));
    let mut aggregate = MiningAggregate::new(miner).unwrap();
    let groups = vec![0; column.len()];
    aggregate.update(&[Arc::clone(&column)], &Rows::all(&groups, 1)).unwrap();
    let lists = aggregate.evaluate_of(&[0]).unwrap();
    let answers = lists.as_list::<i32>().value(0);
    let (items, counts) = (answers.as_struct().column(0), answers.as_struct().column(1));
    assert_eq!(items.data_type(), column.data_type());
    let options = arrow::util::display::FormatOptions::new().with_null("null");
    let display = arrow::util::display::ArrayFormatter::try_new(items, &options).unwrap();
    let counts = counts.as_primitive::<Int64Type>();
    let all: Vec<String> = (0..items.len())
        .map(|row| format!("{} {}", display.value(row), counts.value(row)))
        .collect();
    assert_eq!(all.join(", "), shown);
}

#[test]
fn items_of_every_type_come_back_in_their_order() {
    check_type(Arc::new(Int64Array::from(vec![Some(5), Some(-5), None])), "-5 1, 5 1, null 1");
    check_type(Arc::new(Int32Array::from(vec![i32::MAX, i32::MIN])), "-2147483648 1, 2147483647 1");
    check_type(Arc::new(UInt64Array::from(vec![u64::MAX, 0])), "0 1, 18446744073709551615 1");
    check_type(Arc::new(Date32Array::from(vec![-1, -1, 0])), "1969-12-31 2, 1970-01-01 1");
    check_type(
        Arc::new(TimestampMillisecondArray::from(vec![Some(-1), None])),
        "1969-12-31T23:59:59.999 1, null 1",
    );
    check_type(Arc::new(StringArray::from(vec![Some("b"), Some(""), None])), " 1, b 1, null 1");
    check_type(
        Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(-0.5), Some(f64::NAN), None])),
        "NaN 2, -0.5 1, null 1",
    );
}

#[test]
fn foreign_bytes_are_refused() {
    let miner: Arc<dyn Miner> = Arc::new(miner(Algorithm::LossyCounting, vec![DataType::Int64]));
    for bytes in [vec![1], vec![0; 9], vec![255; 40]] {
        let state: ArrayRef = Arc::new(arrow::array::BinaryArray::from_iter_values([bytes]));
        let mut aggregate = MiningAggregate::new(Arc::clone(&miner)).unwrap();
        assert!(aggregate.merge(&[state], &[0], 1).is_err());
    }
}
