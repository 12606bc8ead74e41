//! Tests a log as a whole: on a sound disk, on a failing one, and through crashes.

mod appender;
mod crash;
mod model;
mod sound;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, StringViewArray,
    StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, IntervalMonthDayNano, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::error::LogError;
use super::frame::{FrameKind, Frames, NewFrame, Position};
use super::log::{Durability, Log, LogOptions};
use super::sequence::Sequencer;
use super::storage::MemoryStorage;
use crate::data::schema::JSON_MARK;
use crate::time::VirtualClock;

fn text(n: usize) -> Option<String> {
    match n % 5 {
        0 => None,
        1 => Some(String::new()),
        2 => Some(format!("short {n}")),
        _ => Some(format!("a text that is too long for a view to hold it, number {n}")),
    }
}

fn list(item: ArrayRef, nullable_rows: usize) -> ArrayRef {
    let each = item.len() / nullable_rows.max(1);
    let field = Arc::new(Field::new("item", item.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(each, nullable_rows));
    let item = item.slice(0, each * nullable_rows);
    let nulls = (0..nullable_rows).map(|row| row % 4 != 3).collect::<Vec<_>>();
    Arc::new(ListArray::new(field, offsets, item, Some(nulls.into())))
}

/// A column of every type of the dialect, with nulls, extremes and times before 1970.
pub(crate) fn all_types(start: usize, rows: usize) -> RecordBatch {
    let every = start..start + rows;
    let ints = |n: usize| -> Option<i64> {
        [None, Some(i64::MIN), Some(i64::MAX), Some(-1), Some(n as i64)][n % 5]
    };
    let wide = |n: usize| ints(n).map(i128::from);
    let texts = |range: std::ops::Range<usize>| -> ArrayRef {
        Arc::new(range.map(text).collect::<StringViewArray>())
    };
    let numbers: ArrayRef = Arc::new(every.clone().map(ints).collect::<Int64Array>());
    let fields: Fields =
        vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8View, true)]
            .into();
    let pair: ArrayRef = Arc::new(StructArray::new(
        fields,
        vec![Arc::clone(&numbers), texts(every.clone())],
        Some(every.clone().map(|n| n % 3 != 0).collect::<Vec<_>>().into()),
    ));
    let decimal = every.clone().map(wide).collect::<Decimal128Array>();
    let small = every.clone().map(|n| Some(n as i128 - 7)).collect::<Decimal128Array>();
    let times = every.clone().map(ints).collect::<TimestampMicrosecondArray>();
    let interval = |n: usize| {
        (n % 2 == 0).then(|| IntervalMonthDayNano::new(-(n as i32), n as i32, i64::MIN + n as i64))
    };
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("text", texts(every.clone())),
        (
            "boolean",
            Arc::new(
                every
                    .clone()
                    .map(|n| [None, Some(true), Some(false)][n % 3])
                    .collect::<BooleanArray>(),
            ),
        ),
        (
            "smallint",
            Arc::new(every.clone().map(|n| ints(n).map(|n| n as i16)).collect::<Int16Array>()),
        ),
        ("int", Arc::new(every.clone().map(|n| ints(n).map(|n| n as i32)).collect::<Int32Array>())),
        ("bigint", Arc::clone(&numbers)),
        (
            "real",
            Arc::new(
                every
                    .clone()
                    .map(|n| [None, Some(f32::NAN), Some(-0.0)][n % 3])
                    .collect::<Float32Array>(),
            ),
        ),
        (
            "double",
            Arc::new(
                every
                    .clone()
                    .map(|n| [None, Some(f64::NEG_INFINITY), Some(0.1)][n % 3])
                    .collect::<Float64Array>(),
            ),
        ),
        ("numeric", Arc::new(decimal.with_precision_and_scale(38, 9).unwrap())),
        ("price", Arc::new(small.with_precision_and_scale(10, 2).unwrap())),
        (
            "date",
            Arc::new(every.clone().map(|n| ints(n).map(|n| n as i32)).collect::<Date32Array>()),
        ),
        ("timestamp", Arc::new(times.clone())),
        ("timestamptz", Arc::new(times.with_timezone("UTC"))),
        ("interval", Arc::new(every.clone().map(interval).collect::<IntervalMonthDayNanoArray>())),
        (
            "bytea",
            Arc::new(
                every
                    .clone()
                    .map(|n| (n % 3 > 0).then(|| vec![n as u8; n % 40]))
                    .collect::<BinaryArray>(),
            ),
        ),
        ("json", texts(every.clone())),
        ("texts", list(texts(start..start + 3 * rows), rows)),
        ("pair", Arc::clone(&pair)),
        ("pairs", list(pair, rows)),
    ];
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, array)| {
            let field = Field::new(*name, array.data_type().clone(), true);
            let mark = [(JSON_MARK.to_owned(), String::new())];
            if *name == "json" { field.with_metadata(mark.into()) } else { field }
        })
        .collect();
    let columns = columns.into_iter().map(|(_, array)| array).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// The schema of [`numbers`].
fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

/// Rows `first`, `first + 1`, …
fn numbers(first: i64, rows: i64) -> NewFrame {
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + rows));
    NewFrame::rows(RecordBatch::try_new(schema(), vec![values]).unwrap(), first - 1)
}

fn tick() -> NewFrame {
    NewFrame::control(FrameKind::Tick, 7, b"tick".to_vec())
}

fn sequencer() -> Arc<Sequencer> {
    Arc::new(Sequencer::new(Arc::new(VirtualClock::new(1_000)), 0, i64::MIN))
}

fn small() -> LogOptions {
    LogOptions { segment_bytes: 2_000, tail_bytes: 1_500, ..LogOptions::default() }
}

fn open(storage: &MemoryStorage, options: LogOptions) -> Result<Log, LogError> {
    Log::open(Arc::new(storage.clone()), "streams/s", schema(), options, sequencer())
}

/// All frames from `from` on, which must continue each other.
fn read_from(log: &Log, mut from: Position, rows: usize) -> Result<Frames, LogError> {
    let mut all = Frames::new();
    loop {
        let frames = log.read(from, rows)?;
        if frames.is_empty() {
            assert_eq!(from, log.visible());
            return Ok(all);
        }
        for frame in frames {
            assert_eq!(from, Position { frame: frame.index, offset: frame.first_offset });
            from = Position { frame: frame.index + 1, offset: frame.next_offset() };
            all.push(frame);
        }
    }
}

fn read_all(log: &Log) -> Result<Frames, LogError> {
    read_from(log, log.start(), 100)
}

/// The numbers in a frame.
fn values(frame: &super::frame::Frame) -> Vec<i64> {
    let Some(batch) = &frame.batch else { return Vec::new() };
    let column = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    column.values().to_vec()
}

fn all_values(log: &Log) -> Vec<i64> {
    read_all(log).unwrap().iter().flat_map(|frame| values(frame)).collect()
}

fn in_memory() -> LogOptions {
    LogOptions { durability: Durability::Memory, ..LogOptions::default() }
}
