//! The functions as accumulators: hostile values, and types.

use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray, StringViewArray};
use proptest::prelude::*;

use super::hashes::hashes;
use super::*;

#[test]
fn equal_values_hash_alike_whatever_type_holds_them() {
    let all = |arrays: Vec<ArrayRef>| {
        let first = hashes(&arrays[0]).unwrap();
        arrays.iter().for_each(|array| assert_eq!(hashes(array).unwrap(), first));
        first
    };
    let integers = all(vec![
        Arc::new(Int64Array::from(vec![Some(-1), None, Some(7)])),
        Arc::new(Int32Array::from(vec![Some(-1), None, Some(7)])),
    ]);
    assert_eq!(integers[1], None);
    all(vec![
        Arc::new(StringArray::from(vec!["a", ""])),
        Arc::new(StringViewArray::from(vec!["a", ""])),
    ]);
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.0]));
    let floats = hashes(&floats).unwrap();
    assert!(floats[0] == floats[1] && floats[2] == floats[3] && floats[0] != floats[4]);
}

#[test]
fn values_of_any_type_with_an_order_have_hashes() {
    let integers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(1), Some(2)]));
    let field = Arc::new(Field::new("a", DataType::Int64, true));
    let nested: ArrayRef = Arc::new(StructArray::from(vec![(field, integers)]));
    let found = hashes(&nested).unwrap();
    // A struct of nulls is a value.
    assert!(found[1].is_some() && found[0] == found[2] && found[0] != found[3]);
    assert_eq!(hashes(&arrow::array::new_null_array(&DataType::Null, 2)).unwrap(), [None, None]);
}

proptest! {
    #[test]
    fn hashes_are_those_of_the_values(values in prop::collection::vec(any::<Option<i64>>(), 0..50)) {
        let column: ArrayRef = Arc::new(Int64Array::from(values.clone()));
        let expected: Vec<_> =
            values.iter().map(|v| v.map(|v| crate::sketches::hash::of_word(v as u64))).collect();
        prop_assert_eq!(hashes(&column).unwrap(), expected);
    }
}
