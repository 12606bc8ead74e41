//! Gives every float one form, so that equal numbers have equal bits.
//!
//! IEEE 754 has two zeros, which compare as equal, and many NaNs; on most machines `0.0 / 0.0` is one
//! with its sign bit set, which sorts below everything. PostgreSQL has one zero and one NaN, equal to
//! itself and above all other numbers. Arrow's kernels compare and hash floats by their bits in the total
//! order, which means the same once there is only +0.0 and only the positive quiet NaN. So rows get this
//! form when they are taken in, and expressions where one could make another.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float32Array, Float64Array, RecordBatch, RecordBatchOptions,
    make_array,
};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use datafusion::scalar::ScalarValue;

/// The one form of a double.
pub fn canonical_f64(value: f64) -> f64 {
    // Of the two zeros only the negative one is changed by the sum.
    if value.is_nan() { f64::NAN } else { value + 0.0 }
}

/// The one form of a single.
pub fn canonical_f32(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value + 0.0 }
}

/// Gives a constant its one form.
pub fn canonical_scalar(value: &mut ScalarValue) {
    match value {
        ScalarValue::Float64(Some(value)) => *value = canonical_f64(*value),
        ScalarValue::Float32(Some(value)) => *value = canonical_f32(*value),
        _ => {}
    }
}

/// Whether values of the type are or hold floats.
pub fn holds_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float32 | DataType::Float64 => true,
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _)
        | DataType::Map(item, _) => holds_floats(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_floats(field.data_type())),
        DataType::Dictionary(_, values) => holds_floats(values),
        _ => false,
    }
}

/// The values with every float in its one form; the same array where nothing changes.
pub fn canonical(array: &ArrayRef) -> ArrayRef {
    changed(array).unwrap_or_else(|| Arc::clone(array))
}

/// A batch with every float in its one form.
pub fn canonical_batch(batch: RecordBatch) -> RecordBatch {
    if !batch.schema_ref().fields().iter().any(|field| holds_floats(field.data_type())) {
        return batch;
    }
    let columns = batch.columns().iter().map(canonical).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
        .expect("the columns have the types and the length that they had")
}

/// `None` where every float has its one form already.
fn changed(array: &ArrayRef) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::Float64 => {
            let floats = array.as_primitive::<Float64Type>();
            // One pass without branches, which the compiler makes a vector of.
            let odd = floats.values().iter().fold(false, |odd, value| odd | is_odd64(*value));
            odd.then(|| {
                Arc::new(floats.unary::<_, Float64Type>(canonical_f64) as Float64Array) as _
            })
        }
        DataType::Float32 => {
            let floats = array.as_primitive::<Float32Type>();
            let odd = floats.values().iter().fold(false, |odd, value| odd | is_odd32(*value));
            odd.then(|| {
                Arc::new(floats.unary::<_, Float32Type>(canonical_f32) as Float32Array) as _
            })
        }
        data_type if holds_floats(data_type) => {
            let data = array.to_data();
            let children: Vec<_> =
                data.child_data().iter().map(|child| changed(&make_array(child.clone()))).collect();
            if children.iter().all(Option::is_none) {
                return None;
            }
            let children = children.into_iter().zip(data.child_data());
            let children =
                children.map(|(new, old)| new.map_or_else(|| old.clone(), |new| new.to_data()));
            let children = children.collect();
            let data = data.into_builder().child_data(children).build();
            Some(make_array(data.expect("the children have the types and lengths that they had")))
        }
        _ => None,
    }
}

fn is_odd64(value: f64) -> bool {
    const SIGN: u64 = 1 << 63;
    let bits = value.to_bits();
    let is_nan = (bits & !SIGN) > f64::INFINITY.to_bits();
    (bits == SIGN) | (is_nan & (bits != f64::NAN.to_bits()))
}

fn is_odd32(value: f32) -> bool {
    const SIGN: u32 = 1 << 31;
    let bits = value.to_bits();
    let is_nan = (bits & !SIGN) > f32::INFINITY.to_bits();
    (bits == SIGN) | (is_nan & (bits != f32::NAN.to_bits()))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListArray, StructArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;
    use proptest::prelude::*;

    use super::*;

    fn bits(array: &ArrayRef) -> Vec<Option<u64>> {
        array.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect()
    }

    #[test]
    fn what_is_canonical_is_shared() {
        let array: ArrayRef = Arc::new(Float64Array::from(vec![0.0, f64::NAN, f64::INFINITY]));
        assert!(Arc::ptr_eq(&array, &canonical(&array)));
    }

    #[test]
    fn floats_inside_lists_and_structs_are_found() {
        let floats: ArrayRef = Arc::new(Float32Array::from(vec![-0.0f32, -f32::NAN, 1.5]));
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        let offsets = OffsetBuffer::from_lengths([2, 1]);
        let lists = ListArray::new(Arc::clone(&item), offsets, floats, None);
        let field = Arc::new(Field::new("a", lists.data_type().clone(), true));
        let structs: ArrayRef =
            Arc::new(StructArray::from(vec![(field, Arc::new(lists) as ArrayRef)]));
        let found = canonical(&structs);
        let found = found.as_struct().column(0).as_list::<i32>().values();
        let found: Vec<u32> =
            found.as_primitive::<Float32Type>().values().iter().map(|v| v.to_bits()).collect();
        assert_eq!(found, [0, f32::NAN.to_bits(), 1.5f32.to_bits()]);
    }

    proptest! {
        #[test]
        fn equal_numbers_have_equal_bits(
            values in prop::collection::vec(
                prop::option::of(prop_oneof![
                    any::<u64>().prop_map(f64::from_bits),
                    Just(-0.0),
                    Just(0.0),
                    Just(-f64::NAN),
                ]),
                0..40,
            )
        ) {
            let array: ArrayRef = Arc::new(Float64Array::from(values.clone()));
            let expected: Vec<Option<u64>> = values
                .iter()
                .map(|value| value.map(|value| match value {
                    value if value.is_nan() => f64::NAN.to_bits(),
                    0.0 => 0,
                    value => value.to_bits(),
                }))
                .collect();
            prop_assert_eq!(bits(&canonical(&array)), expected);
        }
    }
}
