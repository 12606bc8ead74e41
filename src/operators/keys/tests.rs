//! Numbers keys of every kind of column, and compares with a map.

use std::collections::BTreeMap;

use arrow::array::{
    BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray, StringArray,
    StringViewArray,
};
use arrow::datatypes::{Field, Schema};
use arrow::util::display::array_value_to_string;
use proptest::prelude::*;

use super::*;

fn dictionary(types: &[DataType]) -> KeyDictionary {
    let fields = types.iter().enumerate();
    let fields: Vec<Field> =
        fields.map(|(i, t)| Field::new(format!("k{i}"), t.clone(), true)).collect();
    KeyDictionary::new(Arc::new(Schema::new(fields))).unwrap()
}

fn intern(dictionary: &mut KeyDictionary, keys: &[ArrayRef]) -> Vec<u32> {
    let mut ids = Vec::new();
    dictionary.intern(keys, keys[0].len(), &mut ids).unwrap();
    ids
}

fn integers(keys: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(keys.to_vec()))
}

fn show(columns: &[ArrayRef]) -> Vec<String> {
    (0..columns[0].len())
        .map(|row| {
            let values = columns.iter().map(|column| array_value_to_string(column, row).unwrap());
            values.collect::<Vec<_>>().join(",")
        })
        .collect()
}

#[test]
fn without_key_columns_all_rows_share_one_key() {
    let mut dictionary = dictionary(&[]);
    let mut ids = Vec::new();
    dictionary.intern(&[], 3, &mut ids).unwrap();
    assert_eq!(ids, [0, 0, 0]);
    assert!(dictionary.keys_of(&[0]).unwrap().is_empty());
    assert_eq!(dictionary.retain(&[true]).unwrap(), [0]);
}

#[test]
fn a_null_is_a_key_of_its_own_and_comes_last() {
    let mut dictionary = dictionary(&[DataType::Int64]);
    let ids = intern(&mut dictionary, &[integers(&[Some(7), None, Some(-7), None, Some(7)])]);
    assert_eq!(ids, [0, 1, 2, 1, 0]);
    let mut sorted = vec![0, 1, 2];
    dictionary.sort_ids(&mut sorted).unwrap();
    assert_eq!(sorted, [2, 0, 1]);
}

#[test]
fn zeros_of_both_signs_and_all_nans_are_one_key_each() {
    let other_nan = f64::from_bits(f64::NAN.to_bits() | 1 | 1 << 63);
    let keys: ArrayRef = Arc::new(Float64Array::from(vec![-0.0, 0.0, f64::NAN, other_nan, -0.0]));
    let mut dictionary = dictionary(&[DataType::Float64]);
    assert_eq!(intern(&mut dictionary, &[keys]), [0, 0, 1, 1, 0]);
    assert_eq!(show(&dictionary.keys_of(&[0, 1]).unwrap()), ["0.0", "NaN"]);
}

#[test]
fn integers_far_apart_move_to_the_hash_table_and_keep_their_numbers() {
    let mut dictionary = dictionary(&[DataType::Int64]);
    assert_eq!(intern(&mut dictionary, &[integers(&[Some(5), Some(3), None])]), [0, 1, 2]);
    let far = [Some(i64::MAX), Some(3), Some(i64::MIN), None];
    assert_eq!(intern(&mut dictionary, &[integers(&far)]), [3, 1, 4, 2]);
    let all = dictionary.keys_of(&[0, 1, 2, 3, 4]).unwrap();
    assert_eq!(show(&all), ["5", "3", "", "9223372036854775807", "-9223372036854775808"]);
}

#[test]
fn keys_do_not_keep_the_rows_alive_that_brought_them() {
    let long: StringViewArray =
        (0..1_000).map(|i| Some(format!("a text of some length {}", i % 2))).collect();
    let mut dictionary = dictionary(&[DataType::Utf8View]);
    intern(&mut dictionary, &[Arc::new(long)]);
    let keys = dictionary.keys_of(&[0, 1]).unwrap();
    assert!(keys[0].get_array_memory_size() < 2_000);
}

#[test]
fn integers_that_grow_row_by_row_stay_in_the_table() {
    let mut dictionary = dictionary(&[DataType::Int64]);
    for key in (0..3_000).chain((-3_000..0).rev()) {
        intern(&mut dictionary, &[integers(&[Some(key)])]);
    }
    assert!(matches!(dictionary.index, Index::Direct(_)));
    let (order, _) = dictionary.ranking().unwrap();
    assert_eq!((order[0], order[3_000], order[5_999]), (5_999, 0, 2_999));
    let ends = [Some(i64::MIN), Some(i64::MIN + 1), Some(i64::MAX)];
    assert_eq!(intern(&mut dictionary, &[integers(&ends)]), [6_000, 6_001, 6_002]);
    let mut low = self::dictionary(&[DataType::Int64]);
    assert_eq!(intern(&mut low, &[integers(&ends[..2])]), [0, 1]);
    assert_eq!(intern(&mut low, &[integers(&[Some(i64::MIN + 2), ends[0]])]), [2, 0]);
}

#[test]
fn keys_that_share_a_hash_are_numbered_by_first_occurrence_too() {
    // Null in one column or in the other, and a zero in its place.
    let a = integers(&[Some(7), None, Some(0), Some(7), None]);
    let b = integers(&[None, Some(7), Some(7), Some(0), None]);
    let mut dictionary = dictionary(&[DataType::Int64, DataType::Int64]);
    assert_eq!(intern(&mut dictionary, &[Arc::clone(&a), Arc::clone(&b)]), [0, 1, 2, 3, 4]);
    let back = dictionary.keys_of(&[0, 1, 2, 3, 4]).unwrap();
    assert!(back[0].to_data() == a.to_data() && back[1].to_data() == b.to_data());
}

/// Columns of every kind, whose row `i` is told by `seeds[i]`.
fn columns_of_all_kinds(seeds: &[u8]) -> Vec<ArrayRef> {
    let text = |seed: &u8| match seed % 5 {
        0 => None,
        1 => Some(String::new()),
        2 => Some(format!("a text too long for a view {seed}")),
        _ => Some(format!("short {seed}")),
    };
    let number = |seed: &u8| (*seed != 3).then_some(i64::from(*seed) - 3);
    let list = seeds.iter().map(|seed| number(seed).map(|n| vec![Some(n), None]));
    vec![
        Arc::new(seeds.iter().map(|seed| number(seed).map(|n| n as i32)).collect::<Int32Array>()),
        Arc::new(seeds.iter().map(|seed| number(seed).map(|n| n > 2)).collect::<BooleanArray>()),
        Arc::new(seeds.iter().map(text).collect::<StringViewArray>()),
        Arc::new(seeds.iter().map(text).collect::<StringArray>()),
        Arc::new(
            seeds
                .iter()
                .map(|seed| number(seed).map(|n| i128::from(n) << 70))
                .collect::<Decimal128Array>(),
        ),
        Arc::new(ListArray::from_iter_primitive::<arrow::datatypes::Int64Type, _, _>(list)),
        Arc::new(seeds.iter().map(|seed| number(seed).map(|n| n as f64)).collect::<Float64Array>()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn numbers_keys_and_order_match_a_map(
        batches in prop::collection::vec(
            prop::collection::vec((prop::option::of(-5..40_i64), 0..4_u8), 1..30), 1..6),
        two in any::<bool>(), scale in prop::sample::select(vec![1_i64, 1 << 50]),
        drop_one_in in 1..4_usize,
    ) {
        let types = [DataType::Int64, DataType::Utf8View];
        let mut dictionary = dictionary(&types[..1 + usize::from(two)]);
        let mut known: BTreeMap<(bool, i64, String), usize> = BTreeMap::new();
        for (number, batch) in batches.iter().enumerate() {
            let texts: StringViewArray =
                batch.iter().map(|row| Some(format!("text number {}", row.1))).collect();
            let numbers: Vec<Option<i64>> =
                batch.iter().map(|row| row.0.map(|n| n * scale)).collect();
            let columns = [integers(&numbers), Arc::new(texts) as ArrayRef];
            let ids = intern(&mut dictionary, &columns[..1 + usize::from(two)]);
            for (row, id) in batch.iter().zip(ids) {
                let text = if two { format!("text number {}", row.1) } else { String::new() };
                let key = (row.0.is_none(), row.0.unwrap_or(0), text);
                let next = known.len();
                prop_assert_eq!(*known.entry(key).or_insert(next), id as usize);
            }
            let mut sorted: Vec<u32> = (0..known.len() as u32).rev().collect();
            dictionary.sort_ids(&mut sorted).unwrap();
            let expected: Vec<u32> = known.values().map(|&id| id as u32).collect();
            prop_assert_eq!(&sorted, &expected);
            if number % 2 == 1 {
                let live: Vec<bool> = (0..known.len()).map(|id| id % drop_one_in == 0).collect();
                let renumbered = dictionary.retain(&live).unwrap();
                known.retain(|_, id| {
                    *id = renumbered[*id] as usize;
                    *id != u32::MAX as usize
                });
                prop_assert_eq!(dictionary.len(), known.len());
            }
        }
    }

    #[test]
    fn keys_of_every_kind_of_column_are_numbered_by_first_occurrence(
        batches in prop::collection::vec(prop::collection::vec(0..12_u8, 1..20), 1..5),
        chosen in prop::collection::vec(any::<bool>(), 7),
    ) {
        let types: Vec<DataType> = columns_of_all_kinds(&[0])
            .iter().zip(&chosen).filter(|(_, chosen)| **chosen)
            .map(|(column, _)| column.data_type().clone()).collect();
        prop_assume!(!types.is_empty());
        let mut dictionary = dictionary(&types);
        let mut known: Vec<String> = Vec::new();
        for seeds in &batches {
            let all = columns_of_all_kinds(seeds);
            let columns: Vec<ArrayRef> =
                all.into_iter().zip(&chosen).filter(|(_, c)| **c).map(|(column, _)| column).collect();
            let quoted = |column: &ArrayRef, row: usize| match column.is_null(row) {
                true => "null".to_owned(),
                false => format!("'{}'", array_value_to_string(column, row).unwrap()),
            };
            let row_text = |columns: &[ArrayRef], row: usize| {
                columns.iter().map(|column| quoted(column, row)).collect::<Vec<_>>().join(",")
            };
            for (row, id) in intern(&mut dictionary, &columns).into_iter().enumerate() {
                let key = row_text(&columns, row);
                let next = known.len();
                let at = known.iter().position(|k| *k == key).unwrap_or(next);
                if at == next {
                    known.push(key.clone());
                }
                prop_assert_eq!(at, id as usize);
                let back = dictionary.keys_of(&[id]).unwrap();
                prop_assert_eq!(row_text(&back, 0), key);
            }
        }
        prop_assert_eq!(known.len(), dictionary.len());
    }
}

#[test]
fn keys_match_a_value_however_it_is_looked_for() {
    let mut dictionary = dictionary(&[DataType::Int64, DataType::Utf8View]);
    let texts = StringViewArray::from(vec![Some("a"), Some("b"), None, Some("a")]);
    let keys = integers(&[Some(1), Some(2), Some(1), None]);
    intern(&mut dictionary, &[keys, Arc::new(texts)]);
    let one_of = |values: &[ScalarValue]| Pattern::OneOf(values.to_vec());
    let (one, a) = (ScalarValue::from(1_i64), ScalarValue::Utf8View(Some("a".into())));
    let mut matching = |patterns: &[(usize, Pattern)]| dictionary.matching(patterns).unwrap();
    let lists = [vec![one.clone()], vec![one, ScalarValue::from(9_i64)]];
    for list in lists {
        assert_eq!(matching(&[(0, one_of(&list))]), [true, false, true, false]);
        let both = [(0, one_of(&list)), (1, one_of(std::slice::from_ref(&a)))];
        assert_eq!(matching(&both), [true, false, false, false]);
    }
    assert_eq!(matching(&[(0, one_of(&[ScalarValue::Int64(None)]))]), [false; 4]);
    assert_eq!(matching(&[(1, one_of(&[a]))]), [true, false, false, true]);
}
