//! Copies string views together, so that a batch holds the bytes of its own rows and no others.
//!
//! A view array may point into large blocks that other rows, even other batches, live in (a decoder
//! lets views point into the request's bytes; a filter keeps the blocks of the rows it dropped).
//! Written as it is, such an array would carry all of them to the disk, and would hold them in
//! memory for as long as the hot tail holds the batch.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericListArray, OffsetSizeTrait, StructArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType;

/// The same values, with views (also nested ones) that hold no foreign bytes.
pub(crate) fn compact(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => {
            let views = array.as_string_view();
            if holds_foreign(views.data_buffers(), views.total_buffer_bytes_used()) {
                return Arc::new(views.gc());
            }
        }
        DataType::BinaryView => {
            let views = array.as_binary_view();
            if holds_foreign(views.data_buffers(), views.total_buffer_bytes_used()) {
                return Arc::new(views.gc());
            }
        }
        DataType::List(item) if has_views(item.data_type()) => {
            return compact_list::<i32>(array.as_list());
        }
        DataType::LargeList(item) if has_views(item.data_type()) => {
            return compact_list::<i64>(array.as_list());
        }
        DataType::Struct(fields) if fields.iter().any(|f| has_views(f.data_type())) => {
            let array = array.as_struct();
            let columns = array.columns().iter().map(compact).collect();
            let nulls = array.nulls().cloned();
            return Arc::new(StructArray::new(fields.clone(), columns, nulls));
        }
        _ => {}
    }
    Arc::clone(array)
}

fn holds_foreign(blocks: &[arrow::buffer::Buffer], used: usize) -> bool {
    blocks.iter().map(arrow::buffer::Buffer::len).sum::<usize>() > used
}

fn has_views(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::List(item) | DataType::LargeList(item) => has_views(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_views(field.data_type())),
        _ => false,
    }
}

fn compact_list<O: OffsetSizeTrait>(list: &GenericListArray<O>) -> ArrayRef {
    let (DataType::List(item) | DataType::LargeList(item)) = list.data_type() else {
        unreachable!("a list array has a list type")
    };
    let offsets = list.value_offsets();
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let used = list.values().slice(first.as_usize(), (last - first).as_usize());
    let shifted: ScalarBuffer<O> = offsets.iter().map(|&offset| offset - first).collect();
    Arc::new(GenericListArray::<O>::new(
        Arc::clone(item),
        OffsetBuffer::new(shifted),
        compact(&used),
        list.nulls().cloned(),
    ))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ListBuilder, StringViewArray, StringViewBuilder};

    use super::*;

    fn long(n: usize) -> String {
        format!("a text too long for a view to hold, number {n:05}")
    }

    #[test]
    fn a_slice_of_views_takes_only_its_own_bytes_along() {
        let all: StringViewArray = (0..1000).map(|n| Some(long(n))).collect();
        let slice: ArrayRef = Arc::new(all.slice(500, 2));
        let compacted = compact(&slice);
        assert_eq!(&compacted, &slice);
        assert_eq!(compacted.as_string_view().data_buffers()[0].len(), 2 * long(0).len());
        // Nothing to gain the second time: the same array comes back.
        assert!(Arc::ptr_eq(&compact(&compacted), &compacted));
    }

    #[test]
    fn views_inside_lists_and_structs_are_compacted_too() {
        let mut builder = ListBuilder::new(StringViewBuilder::new());
        for n in 0..100 {
            builder.append_value([Some(long(n)), None]);
        }
        builder.append_null();
        let list: ArrayRef = Arc::new(builder.finish());
        let field = arrow::datatypes::Field::new("l", list.data_type().clone(), true);
        let nested: ArrayRef =
            Arc::new(StructArray::new(vec![field].into(), vec![list], None).slice(98, 3));
        let compacted = compact(&nested);
        assert_eq!(&compacted, &nested);
        let inner = compacted.as_struct().column(0).as_list::<i32>().values();
        assert_eq!(inner.as_string_view().data_buffers()[0].len(), 2 * long(0).len());
    }
}
