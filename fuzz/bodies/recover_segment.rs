//! Opens and reads a log whose newest segment ends in arbitrary bytes, or was damaged by them.
//!
//! The first byte chooses: bytes above the mark (a torn tail: the log must open, and hold what was
//! acknowledged), bytes over the file from some position on (an error or the same rows), the same
//! with the mark, or bytes taken for a payload, past the checksums that would stop almost all of
//! them. Nothing may panic.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Int64Array, ListArray, StringViewArray, StructArray,
};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Int64Type};
use arrow::record_batch::RecordBatch;
use weir::log::frame::NewFrame;
use weir::log::payload;
use weir::log::sequence::Sequencer;
use weir::log::storage::MemoryStorage;
use weir::log::{Log, LogError, LogOptions};
use weir::time::VirtualClock;

const SEGMENT: &str = "s/00000000000000000000.seg";
const MARK: &str = "s/mark";

/// A disk with two acknowledged requests.
static SOUND: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let storage = MemoryStorage::new();
    let log = open(&storage).expect("an empty disk gives an empty log");
    for watermark in 0..2 {
        log.append(vec![NewFrame::rows(batch(), watermark)], true).expect("the append succeeds");
    }
    let contents = |path| storage.contents(path).expect("the log has this file");
    (contents(SEGMENT), contents(MARK))
});

fn batch() -> RecordBatch {
    let text = ["short", "a text that is too long to be held in a view"];
    let texts: ArrayRef = Arc::new(StringViewArray::from(vec![Some(text[0]), None, Some(text[1])]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN)]));
    let lists = [Some(vec![Some(1), None]), None, Some(vec![])];
    let pair = vec![
        (Arc::new(Field::new("a", DataType::Int64, true)), Arc::clone(&numbers)),
        (Arc::new(Field::new("b", DataType::Utf8View, true)), Arc::clone(&texts)),
    ];
    let columns: [(&str, ArrayRef); 6] = [
        ("text", texts),
        ("number", numbers),
        ("boolean", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("bytes", Arc::new(BinaryArray::from(vec![Some(&b"x"[..]), None, Some(b"")]))),
        ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
        ("pair", Arc::new(StructArray::from(pair))),
    ];
    let columns = columns.map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("the columns are of one length")
}

fn open(storage: &MemoryStorage) -> Result<Log, LogError> {
    let sequencer = Sequencer::new(Arc::new(VirtualClock::new(0)), 0, i64::MIN);
    let options = LogOptions { tail_bytes: 0, ..LogOptions::default() };
    Log::open(Arc::new(storage.clone()), "s", batch().schema(), options, Arc::new(sequencer))
}

/// Opens the log and reads it to its end; the number of frames.
fn read(segment: Vec<u8>, mark: Vec<u8>) -> Result<u64, LogError> {
    let storage = MemoryStorage::new();
    storage.put(SEGMENT, segment);
    storage.put(MARK, mark);
    let log = open(&storage)?;
    let mut from = log.start();
    loop {
        let frames = log.read(from, 2)?;
        let Some(last) = frames.last() else { return Ok(from.frame) };
        from.frame = last.index + 1;
        from.offset = last.next_offset();
    }
}

fn overwrite(file: &mut Vec<u8>, position: u16, bytes: &[u8]) {
    let start = usize::from(position) % (file.len() + 1);
    let end = start + bytes.len();
    file.resize(file.len().max(end), 0);
    file[start..end].copy_from_slice(bytes);
}

/// Checks one input.
pub(crate) fn check(input: &[u8]) {
    let Some((&[choice, low, high], bytes)) = input.split_first_chunk::<3>() else { return };
    let position = u16::from_le_bytes([low, high]);
    let (mut segment, mut mark) = SOUND.clone();
    match choice % 4 {
        0 => {
            segment.extend_from_slice(bytes);
            assert!(read(segment, mark).is_ok_and(|frames| frames >= 2));
        }
        1 => {
            overwrite(&mut segment, position, bytes);
            drop(read(segment, mark));
        }
        2 => {
            overwrite(&mut mark, position, bytes);
            drop(read(segment, mark));
        }
        _ => {
            let payload = Buffer::from_vec(bytes.to_vec());
            let rows = u32::from(position % 8);
            for columns in [None, Some(&[0][..]), Some(&[])] {
                drop(payload::decode(&batch().schema(), rows, &payload, columns));
            }
        }
    }
}
