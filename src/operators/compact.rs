//! Makes arrays own no more than their values.
//!
//! A slice of an array keeps the whole array's buffers alive, and an array of views keeps every buffer
//! that any of its ancestors had: joining slices of one array multiplies that list. State that lives
//! on must not.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;

/// The same values with no more buffers than they need, where views or lists of them are concerned.
pub(crate) fn compact(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        DataType::List(item) => {
            let list = array.as_list::<i32>();
            let offsets = list.offsets();
            let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
            let values = list.values().slice(first as usize, (last - first) as usize);
            let rebased = offsets.iter().map(|offset| offset - first).collect::<Vec<i32>>();
            Arc::new(ListArray::new(
                Arc::clone(item),
                OffsetBuffer::new(rebased.into()),
                compact(&values),
                list.nulls().cloned(),
            ))
        }
        DataType::Struct(fields) if !fields.is_empty() => {
            let columns = array.as_struct().columns().iter().map(compact).collect();
            Arc::new(StructArray::new(fields.clone(), columns, array.nulls().cloned()))
        }
        _ => Arc::clone(array),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListBuilder, StringViewBuilder};
    use arrow::compute::concat;

    use super::*;

    #[test]
    fn joined_slices_of_views_keep_one_buffer() {
        let mut builder = ListBuilder::new(StringViewBuilder::new());
        for i in 0..5 {
            builder.append_value([Some(format!("a text that is too long to inline {i}")), None]);
        }
        builder.append_null();
        let mut lists: ArrayRef = Arc::new(builder.finish());
        let before = lists.to_data();
        for _ in 0..10 {
            let slices: Vec<ArrayRef> = (0..lists.len()).map(|row| lists.slice(row, 1)).collect();
            let slices: Vec<&dyn Array> = slices.iter().map(|slice| slice.as_ref()).collect();
            lists = compact(&concat(&slices).unwrap());
        }
        assert_eq!(lists.to_data(), before);
        assert_eq!(lists.as_list::<i32>().values().as_string_view().data_buffers().len(), 1);
        let sliced = compact(&lists.slice(1, 2));
        assert_eq!(sliced.as_list::<i32>().values().len(), 4);
        assert_eq!(sliced.to_data(), lists.slice(1, 2).to_data());
    }
}
