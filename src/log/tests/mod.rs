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

/// An array of `rows` values, from `value` of the row's number.
fn array<A: FromIterator<Option<T>>, T>(
    start: usize,
    rows: usize,
    value: impl Fn(usize) -> Option<T>,
) -> A {
    (start..start + rows).map(value).collect()
}

/// Nulls, extremes, and numbers below zero (times before 1970).
fn int(n: usize) -> Option<i64> {
    [None, Some(i64::MIN), Some(i64::MAX), Some(-1), Some(n as i64)][n % 5]
}

fn plain_columns(start: usize, rows: usize) -> Vec<(&'static str, ArrayRef)> {
    let boolean: BooleanArray = array(start, rows, |n| [None, Some(true), Some(false)][n % 3]);
    let smallint: Int16Array = array(start, rows, |n| int(n).map(|n| n as i16));
    let ints: Int32Array = array(start, rows, |n| int(n).map(|n| n as i32));
    let bigint: Int64Array = array(start, rows, int);
    let real: Float32Array = array(start, rows, |n| [None, Some(f32::NAN), Some(-0.0)][n % 3]);
    let double: Float64Array =
        array(start, rows, |n| [None, Some(f64::NEG_INFINITY), Some(0.1)][n % 3]);
    let numeric: Decimal128Array = array(start, rows, |n| int(n).map(i128::from));
    let price: Decimal128Array = array(start, rows, |n| Some(n as i128 - 7));
    let date: Date32Array = array(start, rows, |n| int(n).map(|n| n as i32));
    let timestamp: TimestampMicrosecondArray = array(start, rows, int);
    let interval: IntervalMonthDayNanoArray = array(start, rows, |n| {
        let value = IntervalMonthDayNano::new(-(n as i32), n as i32, i64::MIN + n as i64);
        n.is_multiple_of(2).then_some(value)
    });
    let bytea: BinaryArray = array(start, rows, |n| (n % 3 > 0).then(|| vec![n as u8; n % 40]));
    vec![
        ("boolean", Arc::new(boolean)),
        ("smallint", Arc::new(smallint)),
        ("int", Arc::new(ints)),
        ("bigint", Arc::new(bigint)),
        ("real", Arc::new(real)),
        ("double", Arc::new(double)),
        ("numeric", Arc::new(numeric.with_precision_and_scale(38, 9).unwrap())),
        ("price", Arc::new(price.with_precision_and_scale(10, 2).unwrap())),
        ("date", Arc::new(date)),
        ("timestamp", Arc::new(timestamp.clone())),
        ("timestamptz", Arc::new(timestamp.with_timezone("UTC"))),
        ("interval", Arc::new(interval)),
        ("bytea", Arc::new(bytea)),
    ]
}

/// A column of every type of the dialect.
pub(crate) fn all_types(start: usize, rows: usize) -> RecordBatch {
    let texts =
        |rows: usize| -> ArrayRef { Arc::new(array::<StringViewArray, _>(start, rows, text)) };
    let numbers: ArrayRef = Arc::new(array::<Int64Array, _>(start, rows, int));
    let fields: Fields =
        vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Utf8View, true)]
            .into();
    let present: Vec<bool> = (start..start + rows).map(|n| n % 3 != 0).collect();
    let pair: ArrayRef =
        Arc::new(StructArray::new(fields, vec![numbers, texts(rows)], Some(present.into())));
    let mut columns = vec![("text", texts(rows))];
    columns.extend(plain_columns(start, rows));
    columns.push(("json", texts(rows)));
    columns.push(("texts", list(texts(3 * rows), rows)));
    columns.push(("pair", Arc::clone(&pair)));
    columns.push(("pairs", list(pair, rows)));
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
