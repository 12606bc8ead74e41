//! Turns a batch into the bytes that a frame carries, and hostile bytes into an error, never a panic.
//!
//! ```text
//!   0              4       8                     8 + padded(length)
//!   ┌────────────────┬─────┬─────────────────────┬──────────────────────────────────┐
//!   │ message length │  0  │ IPC message, padded │ the columns' buffers, each to 8  │
//!   └────────────────┴─────┴─────────────────────┴──────────────────────────────────┘
//! ```
//! The message is Arrow IPC's `Message` with a `RecordBatch` header; the columns follow the log's
//! schema, which stands once in the segment's header. Buffers are compressed with LZ4 where it pays:
//! the batch is more than a few KiB, the last batch that was tried shrank, and the log does not take
//! in so much that compressing all of it would hold up the rows.
//!
//! Arrow's reader trusts the message: buffers that point outside of the body, a validity bitmap too
//! short or a forgotten view buffer make it panic, and a stated size makes it allocate. So
//! [`decode`] walks the message along the schema first and checks every number.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::vec::IntoIter;

use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow::ipc::{self, CompressionType, MetadataVersion};
use arrow::record_batch::RecordBatch;

use crate::log::frame_bytes::{padded, u32_at};
use crate::time::SECOND;

/// Bytes that the columns of one frame may take in memory.
pub(crate) const DECODED_LIMIT: u64 = 1 << 30;
/// Below this a batch is not worth compressing.
const COMPRESS_FROM: usize = 4 << 10;
/// A compressor is set up for every buffer, so narrow columns are not worth compressing either.
const COMPRESS_COLUMN_FROM: usize = 1 << 10;
/// After a batch that did not shrink, so many batches are written as they are.
const BATCHES_UNTIL_NEXT_TRIAL: u32 = 31;
/// Bytes that are compressed in a second of a log's time, at most one batch more. LZ4 takes in some
/// hundred megabytes a second, so that compression stays below a tenth of one core.
const COMPRESS_BYTES_A_SECOND: u64 = 32 << 20;
/// LZ4 cannot shrink more than this.
const RATIO_LIMIT: u64 = 255;

/// Encodes batches; remembers whether compression paid, and how much was compressed lately.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    untried: AtomicU32,
    /// The second that counts, and the bytes compressed in it. Threads may overtake each other
    /// between the two; then a batch more or less is compressed, and nothing else.
    second: AtomicI64,
    spent: AtomicU64,
}

impl Encoder {
    /// The payload of a batch whose views are compact, at the time `now`.
    pub(crate) fn encode(&self, batch: &RecordBatch, now: i64) -> Result<Vec<u8>, ArrowError> {
        let bytes = batch.get_array_memory_size();
        let wide = bytes / batch.num_columns().max(1) >= COMPRESS_COLUMN_FROM;
        // What a reader would refuse to decompress is left as it is.
        let readable = bytes as u64 <= DECODED_LIMIT / 2;
        if bytes < COMPRESS_FROM || !wide || !readable {
            return encode_with(batch, None);
        }
        let skip = |left: u32| left.checked_sub(1);
        if self.untried.try_update(Ordering::Relaxed, Ordering::Relaxed, skip).is_ok()
            || !self.has_time(bytes as u64, now)
        {
            return encode_with(batch, None);
        }
        let encoded = encode_with(batch, Some(CompressionType::LZ4_FRAME))?;
        if encoded.len() > bytes / 5 * 4 {
            self.untried.store(BATCHES_UNTIL_NEXT_TRIAL, Ordering::Relaxed);
        }
        Ok(encoded)
    }

    /// Takes so many bytes out of what may be compressed in this second, if there is something left.
    fn has_time(&self, bytes: u64, now: i64) -> bool {
        let second = now.div_euclid(SECOND);
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.spent.store(0, Ordering::Relaxed);
        }
        self.spent.fetch_add(bytes, Ordering::Relaxed) < COMPRESS_BYTES_A_SECOND
    }
}

fn encode_with(
    batch: &RecordBatch,
    compression: Option<CompressionType>,
) -> Result<Vec<u8>, ArrowError> {
    let options = IpcWriteOptions::try_new(8, false, MetadataVersion::V5)?
        .try_with_compression(compression)?;
    let (dictionaries, encoded) = IpcDataGenerator::default().encode(
        batch,
        &mut DictionaryTracker::new(true),
        &options,
        &mut IpcWriteContext::default(),
    )?;
    assert!(dictionaries.is_empty(), "a log refuses schemas with dictionaries");
    let message = &encoded.ipc_message;
    let mut bytes = Vec::with_capacity(8 + padded(message.len()) + encoded.arrow_data.len());
    let length = u32::try_from(message.len())
        .map_err(|_| ArrowError::IpcError("the batch has too many buffers".to_owned()))?;
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(message);
    bytes.resize(8 + padded(message.len()), 0);
    bytes.extend_from_slice(&encoded.arrow_data);
    bytes.resize(padded(bytes.len()), 0);
    Ok(bytes)
}

/// The name and type of the first column that logs cannot store, at any depth.
pub(crate) fn unsupported(schema: &SchemaRef) -> Option<(String, String)> {
    let bad = schema.fields().iter().find(|field| !is_supported(field.data_type()))?;
    Some((bad.name().clone(), bad.data_type().to_string()))
}

fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) => is_supported(item.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_supported(field.data_type())),
        DataType::Null
        | DataType::Boolean
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView => true,
        other => other.is_primitive(),
    }
}

/// Reads a payload of `rows` rows, all columns of it or those at some places of the schema; the text says
/// what is wrong with it. Of columns that are left out only the places and lengths are checked.
pub fn decode(
    schema: &SchemaRef,
    rows: u32,
    payload: &Buffer,
    columns: Option<&[usize]>,
) -> Result<RecordBatch, String> {
    if payload.len() < 8 {
        return Err("the payload is cut off".to_owned());
    }
    let length = u32_at(payload, 0) as usize;
    if padded(length) > payload.len() - 8 {
        return Err("the payload's message is longer than the payload".to_owned());
    }
    let message = &payload[8..8 + length];
    let body = payload.slice(8 + padded(length));
    let message = ipc::root_as_message(message).map_err(|error| error.to_string())?;
    if message.version() != MetadataVersion::V5 {
        return Err("the payload is of an unknown version".to_owned());
    }
    let batch = message.header_as_record_batch().ok_or("the payload holds no batch")?;
    if batch.length() != i64::from(rows) {
        return Err("the payload has another number of rows than its frame".to_owned());
    }
    check_message(schema, &batch, &body)?;
    ipc::reader::read_record_batch(
        &body,
        batch,
        SchemaRef::clone(schema),
        &HashMap::new(),
        columns,
        &MetadataVersion::V5,
    )
    .map_err(|error| error.to_string())
}

/// Checks all that Arrow's reader takes on trust.
fn check_message(
    schema: &SchemaRef,
    batch: &ipc::RecordBatch<'_>,
    body: &Buffer,
) -> Result<(), String> {
    let compressed = match batch.compression() {
        None => false,
        Some(compression) if compression.codec() == CompressionType::LZ4_FRAME => true,
        Some(_) => return Err("the payload is compressed in an unknown way".to_owned()),
    };
    let nodes = batch.nodes().ok_or("the payload lacks its nodes")?;
    let buffers = batch.buffers().ok_or("the payload lacks its buffers")?;
    let nodes: Vec<_> = nodes.iter().map(|node| (node.length(), node.null_count())).collect();
    let buffers: Vec<_> = buffers.iter().map(|b| (b.offset(), b.length())).collect();
    let views: Vec<i64> = batch.variadicBufferCounts().into_iter().flatten().collect();
    let mut check = Check {
        nodes: nodes.into_iter(),
        buffers: buffers.into_iter(),
        views: views.into_iter(),
        body,
        compressed,
        decoded: 0,
    };
    for field in schema.fields() {
        check.column(field.data_type())?;
    }
    let rest = check.nodes.len() + check.buffers.len() + check.views.len();
    if rest > 0 {
        return Err("the payload describes more columns than the log has".to_owned());
    }
    Ok(())
}

/// A walk along the schema that takes nodes and buffers in the order in which Arrow's reader does.
struct Check<'a> {
    nodes: IntoIter<(i64, i64)>,
    buffers: IntoIter<(i64, i64)>,
    views: IntoIter<i64>,
    body: &'a Buffer,
    compressed: bool,
    decoded: u64,
}

impl Check<'_> {
    fn column(&mut self, data_type: &DataType) -> Result<(), String> {
        let (length, nulls) = self.nodes.next().ok_or("the payload has too few nodes")?;
        let length = u64::try_from(length).map_err(|_| "a column has a negative length")?;
        let nulls = u64::try_from(nulls).map_err(|_| "a column has a negative null count")?;
        if length > i32::MAX as u64 || nulls > length {
            return Err("a column's length is out of range".to_owned());
        }
        if *data_type == DataType::Null {
            return Ok(());
        }
        let validity = self.buffer(1)?;
        if nulls > 0 && validity < length.div_ceil(8) {
            return Err("a column's validity is too short".to_owned());
        }
        match data_type {
            DataType::Utf8 | DataType::Binary => {
                self.buffer(4)?;
                self.buffer(1)?;
            }
            DataType::LargeUtf8 | DataType::LargeBinary => {
                self.buffer(8)?;
                self.buffer(1)?;
            }
            DataType::Utf8View | DataType::BinaryView => self.views()?,
            DataType::List(item) => {
                self.buffer(4)?;
                self.column(item.data_type())?;
            }
            DataType::LargeList(item) => {
                self.buffer(8)?;
                self.column(item.data_type())?;
            }
            DataType::Struct(fields) => {
                for field in fields {
                    self.column(field.data_type())?;
                }
            }
            other => {
                self.buffer(other.primitive_width().unwrap_or(1) as u64)?;
            }
        }
        Ok(())
    }

    fn views(&mut self) -> Result<(), String> {
        let blocks = self.views.next().ok_or("the payload lacks a count of views")?;
        if blocks < 0 || blocks as u64 > self.buffers.len() as u64 {
            return Err("a count of views is out of range".to_owned());
        }
        self.buffer(16)?;
        for _ in 0..blocks {
            self.buffer(1)?;
        }
        Ok(())
    }

    /// Takes the next buffer, of elements of `width` bytes, and returns its length in memory.
    fn buffer(&mut self, width: u64) -> Result<u64, String> {
        let (offset, length) = self.buffers.next().ok_or("the payload has too few buffers")?;
        let (Ok(offset), Ok(length)) = (usize::try_from(offset), usize::try_from(length)) else {
            return Err("a buffer has a negative place".to_owned());
        };
        let end = offset.checked_add(length).filter(|&end| end <= self.body.len());
        let end = end.ok_or("a buffer lies outside of the payload")?;
        let decoded = self.decoded_length(&self.body[offset..end])?;
        if decoded % width != 0 {
            return Err("a buffer ends within an element".to_owned());
        }
        self.decoded += decoded;
        if self.decoded > DECODED_LIMIT {
            return Err("the columns would take too much memory".to_owned());
        }
        Ok(decoded)
    }

    fn decoded_length(&self, stored: &[u8]) -> Result<u64, String> {
        if !self.compressed || stored.is_empty() {
            return Ok(stored.len() as u64);
        }
        let (prefix, rest) = stored.split_at_checked(8).ok_or("a buffer lacks its length")?;
        let rest = rest.len() as u64;
        match i64::from_le_bytes(prefix.try_into().expect("eight bytes")) {
            -1 => Ok(rest),
            n if n >= 0 && n as u64 <= rest * RATIO_LIMIT => Ok(n as u64),
            _ => Err("a buffer's length is out of range".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, Int64Array, StringViewArray};
    use proptest::prelude::*;

    use super::*;
    use crate::log::tests::all_types;

    fn check(batch: &RecordBatch, compression: Option<CompressionType>) {
        let bytes = encode_with(batch, compression).unwrap();
        assert_eq!(bytes.len() % 8, 0);
        let (rows, payload) = (batch.num_rows() as u32, Buffer::from_vec(bytes));
        let read = |columns| decode(&batch.schema(), rows, &payload, columns).unwrap();
        assert_eq!(read(None), *batch);
        let all: Vec<usize> = (0..batch.num_columns()).collect();
        for few in [&all[..0], &all[..1], &all[all.len() / 2..]] {
            assert_eq!(read(Some(few)), batch.project(few).unwrap());
        }
        for one in all.chunks(1) {
            assert_eq!(read(Some(one)), batch.project(one).unwrap());
        }
    }

    #[test]
    fn every_type_comes_back_plain_and_compressed() {
        for rows in [0, 1, 2, 300] {
            for compression in [None, Some(CompressionType::LZ4_FRAME)] {
                check(&all_types(0, rows), compression);
                check(&all_types(0, rows + 9).slice(5, rows), compression);
            }
        }
    }

    #[test]
    fn compression_is_tried_again_only_now_and_then_where_it_does_not_pay() {
        let encoder = Encoder::default();
        let noise = |n: u64| {
            let mix = |i: u64| (i ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
            let values = (0..4096).map(|i| mix(mix(i)).wrapping_mul(mix(i + 7)) as i64);
            let array: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
            RecordBatch::try_from_iter([("n", array)]).unwrap()
        };
        let zeros: ArrayRef = Arc::new(Int64Array::from(vec![0; 4096]));
        let zeros = RecordBatch::try_from_iter([("n", zeros)]).unwrap();
        assert!(encoder.encode(&zeros, 0).unwrap().len() < 2000);
        assert!(encoder.encode(&noise(1), 0).unwrap().len() > 32 << 10);
        let sizes: Vec<usize> = (0..40).map(|_| encoder.encode(&zeros, 0).unwrap().len()).collect();
        assert_eq!(sizes.iter().filter(|&&size| size > 32 << 10).count(), 31);
    }

    #[test]
    fn rows_that_come_faster_than_they_can_be_compressed_are_written_as_they_are() {
        let encoder = Encoder::default();
        let zeros: ArrayRef = Arc::new(Int64Array::from(vec![0; 1 << 20]));
        let zeros = RecordBatch::try_from_iter([("n", zeros)]).unwrap();
        let is_small = |now: i64| encoder.encode(&zeros, now).unwrap().len() < 1 << 20;
        // Four batches of 8 MB fill the second; the next second is a new one.
        let small: Vec<bool> = (0..6).map(|i| is_small(SECOND + i)).collect();
        assert_eq!(small, [true, true, true, true, false, false]);
        assert!(is_small(2 * SECOND));
    }

    #[test]
    fn a_stated_size_beyond_reason_is_refused_before_memory_is_taken() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![7; 512]));
        let batch = RecordBatch::try_from_iter([("n", values)]).unwrap();
        let bytes = encode_with(&batch, Some(CompressionType::LZ4_FRAME)).unwrap();
        let stated = 4096_i64.to_le_bytes();
        let at = bytes.windows(8).position(|window| window == stated).unwrap();
        let mut hostile = bytes.clone();
        hostile[at..at + 8].copy_from_slice(&(i64::MAX).to_le_bytes());
        let refusal = decode(&batch.schema(), 512, &Buffer::from_vec(hostile), None).unwrap_err();
        assert_eq!(refusal, "a buffer's length is out of range");
    }

    #[test]
    fn a_text_column_is_not_taken_for_a_number_column() {
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec!["a"]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let texts = RecordBatch::try_from_iter([("c", texts)]).unwrap();
        let numbers = RecordBatch::try_from_iter([("c", numbers)]).unwrap();
        let bytes = Buffer::from_vec(encode_with(&texts, None).unwrap());
        assert!(decode(&numbers.schema(), 1, &bytes, None).is_err());
        let bytes = Buffer::from_vec(encode_with(&numbers, None).unwrap());
        assert!(decode(&texts.schema(), 1, &bytes, None).is_err());
        assert!(decode(&numbers.schema(), 2, &bytes, None).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn damaged_bytes_give_an_error_or_a_sound_batch(
            edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6),
            cut in any::<u16>(),
            compressed in any::<bool>(),
        ) {
            let batch = all_types(3, 20);
            let codec = compressed.then_some(CompressionType::LZ4_FRAME);
            let mut bytes = encode_with(&batch, codec).unwrap();
            for (at, value) in edits {
                let at = at as usize % bytes.len();
                bytes[at] = value;
            }
            if cut % 8 == 0 {
                bytes.truncate(cut as usize % bytes.len());
            }
            if let Ok(read) = decode(&batch.schema(), 20, &Buffer::from_vec(bytes), None) {
                for column in read.columns() {
                    column.to_data().validate_full().unwrap();
                }
            }
        }
    }
}
