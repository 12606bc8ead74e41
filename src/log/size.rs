//! Says how many bytes rows take in a log at most, before they are encoded.
//!
//! A sender has to know that there is room before its rows have a place. What it reserves is given back
//! once they are written: compressed, they may take much less.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;

use crate::log::frame_bytes::{HEADER_BYTES, padded};
use crate::log::log::Log;

/// What a frame says of itself and of its columns together.
const FRAME: usize = 512;
/// What it says of each array and its buffers, and the bytes that fill them up.
const ARRAY: usize = 192;

impl Log {
    /// Bytes of a frame with these rows, and of the segment that it may begin; at most.
    pub fn bytes_max(&self, batch: &RecordBatch) -> u64 {
        let shared = self.shared.read();
        let segment = shared.segments.last().map_or(0, |last| last.header.to_bytes().len());
        drop(shared);
        let columns: usize = batch.columns().iter().map(array).sum();
        (segment + HEADER_BYTES + FRAME + padded(columns)) as u64
    }
}

fn array(of: &ArrayRef) -> usize {
    let rows = of.len();
    let blocks = |count: usize| count * ARRAY;
    let values = match of.data_type() {
        DataType::Null => 0,
        DataType::Boolean => rows.div_ceil(8),
        DataType::Utf8View => {
            let views = of.as_string_view();
            rows * 16 + views.total_buffer_bytes_used() + blocks(views.data_buffers().len())
        }
        DataType::BinaryView => {
            let views = of.as_binary_view();
            rows * 16 + views.total_buffer_bytes_used() + blocks(views.data_buffers().len())
        }
        DataType::List(_) => {
            let list = of.as_list::<i32>();
            let (first, last) = (list.value_offsets()[0], list.value_offsets()[rows]);
            let items = list.values().slice(first as usize, (last - first) as usize);
            4 * (rows + 1) + array(&items)
        }
        DataType::Struct(_) => of.as_struct().columns().iter().map(array).sum(),
        other => match other.primitive_width() {
            Some(width) => rows * width,
            None => of.get_array_memory_size(),
        },
    };
    values + rows.div_ceil(8) + ARRAY
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{BinaryArray, Int64Array, ListArray, StringViewArray, StructArray};
    use arrow::datatypes::{Field, Int64Type};

    use super::*;
    use crate::log::frame::NewFrame;
    use crate::log::log::{Durability, LogOptions};
    use crate::log::sequence::Sequencer;
    use crate::log::storage::MemoryStorage;
    use crate::time::VirtualClock;

    fn columns(rows: usize) -> Vec<ArrayRef> {
        let number = |row: usize| (row * 7919) as i64;
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter(
            (0..rows).map(|row| (row % 5 > 0).then_some(number(row))),
        ));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(
            (0..rows).map(|row| "text ".repeat(row % 40)),
        ));
        let lists = (0..rows).map(|row| (row % 7 > 0).then(|| vec![Some(number(row)); row % 9]));
        let field = Arc::new(Field::new("n", DataType::Int64, true));
        vec![
            Arc::clone(&numbers),
            Arc::clone(&texts),
            Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists)),
            Arc::new(StructArray::from(vec![(field, numbers)])),
            Arc::new(BinaryArray::from_iter_values((0..rows).map(|row| vec![7_u8; row % 30]))),
            arrow::array::new_null_array(&DataType::Boolean, rows),
        ]
    }

    #[test]
    fn no_rows_take_more_than_was_said() {
        for rows in [1, 2, 7, 8, 9, 63, 64, 65, 1_000, 5_000] {
            let named = columns(rows).into_iter().enumerate();
            let batch =
                RecordBatch::try_from_iter(named.map(|(n, column)| (format!("c{n}"), column)));
            let batch = batch.unwrap();
            let clock = Arc::new(VirtualClock::new(0));
            let log = Log::open(
                Arc::new(MemoryStorage::new()),
                "log",
                batch.schema(),
                LogOptions { durability: Durability::Written, ..LogOptions::default() },
                Arc::new(Sequencer::new(clock, 0, 0)),
            )
            .unwrap();
            for (start, length) in [(0, rows), (rows / 3, rows - rows / 3), (rows - 1, 1)] {
                let slice = batch.slice(start, length);
                let (before, said) = (log.bytes(), log.bytes_max(&slice));
                log.append(vec![NewFrame::rows(slice, 0)], false).unwrap();
                let took = log.bytes() - before;
                assert!(took <= said, "{length} of {rows} rows take {took}, not {said}");
            }
        }
    }
}
