//! Takes the typed values of one row at a time into Arrow builders.
//!
//! A row is first read into slots: scalars, and spans of the row's own text. Only a row that is good
//! as a whole is appended, so a bad one leaves the builders as they were, and no row allocates.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, IntervalMonthDayNanoBuilder,
    ListArray, NullArray, StringViewBuilder, StructArray, TimestampMicrosecondBuilder,
    new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, IntervalMonthDayNano};

use super::kind::{Kind, Member};

/// One value of a row that is being read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Slot {
    /// The row does not have the field.
    Missing,
    Null,
    Bool(bool),
    /// Integers, days, microseconds.
    Int(i64),
    Float(f64),
    /// A decimal's unscaled integer as two halves, low first: keeps slots at 24 bytes.
    Wide([u64; 2]),
    /// Months, days, nanoseconds.
    Interval(i32, i32, i64),
    /// Start and length of a text in the row.
    Line(u32, u32),
    /// Start and length of a text in [`Scratch::text`].
    Text(u32, u32),
    /// Start and length in [`Scratch::bytes`].
    Bytes(u32, u32),
    /// Start and number of items in [`Scratch::tape`].
    List(u32, u32),
    /// Start in [`Scratch::tape`] of as many slots as the struct has fields.
    Struct(u32),
}

impl Slot {
    pub(crate) fn wide(value: i128) -> Slot {
        Slot::Wide([value as u64, (value >> 64) as u64])
    }

    pub(crate) fn is_null(self) -> bool {
        matches!(self, Slot::Missing | Slot::Null)
    }
}

/// What the slots of the current row point into; emptied, not freed, before each row.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) text: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) tape: Vec<Slot>,
    /// Items of lists and structs that are not complete yet.
    pub(crate) stack: Vec<Slot>,
}

impl Scratch {
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.bytes.clear();
        self.tape.clear();
        self.stack.clear();
    }

    /// Moves the items on the stack from `base` on to the tape, where they stay together.
    pub(crate) fn settle(&mut self, base: usize) -> u32 {
        let first = self.tape.len() as u32;
        self.tape.extend_from_slice(&self.stack[base..]);
        self.stack.truncate(base);
        first
    }
}

/// What the slots of one row point into.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) line: &'a str,
    pub(crate) scratch: &'a Scratch,
}

impl<'a> Source<'a> {
    #[inline]
    fn text(self, slot: Slot) -> Option<&'a str> {
        match slot {
            Slot::Line(start, len) => Some(&self.line[start as usize..(start + len) as usize]),
            Slot::Text(start, len) => {
                Some(&self.scratch.text[start as usize..(start + len) as usize])
            }
            _ => None,
        }
    }
}

/// The values of one column so far.
#[derive(Debug)]
pub(crate) enum Values {
    Text(StringViewBuilder),
    Bool(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder),
    Interval(IntervalMonthDayNanoBuilder),
    Bytes(BinaryBuilder),
    List { ends: Vec<i32>, valid: Vec<bool>, items: Box<Values> },
    Struct { valid: Vec<bool>, fields: Vec<Values> },
    Nothing { rows: usize },
}

impl Values {
    /// Room for `rows` values; long texts go into blocks of `block` bytes.
    pub(crate) fn new(kind: &Kind, rows: usize, block: u32) -> Values {
        match kind {
            Kind::Text | Kind::Json => {
                Values::Text(StringViewBuilder::with_capacity(rows).with_fixed_block_size(block))
            }
            Kind::Bool => Values::Bool(BooleanBuilder::with_capacity(rows)),
            Kind::Int { max, .. } if *max == i64::from(i16::MAX) => {
                Values::Int16(Int16Builder::with_capacity(rows))
            }
            Kind::Int { max, .. } if *max == i64::from(i32::MAX) => {
                Values::Int32(Int32Builder::with_capacity(rows))
            }
            Kind::Int { .. } => Values::Int64(Int64Builder::with_capacity(rows)),
            Kind::Float32 => Values::Float32(Float32Builder::with_capacity(rows)),
            Kind::Float64 => Values::Float64(Float64Builder::with_capacity(rows)),
            Kind::Decimal { precision, scale } => Values::Decimal(
                Decimal128Builder::with_capacity(rows)
                    .with_data_type(DataType::Decimal128(*precision, *scale)),
            ),
            Kind::Date => Values::Date(Date32Builder::with_capacity(rows)),
            Kind::Timestamp => Values::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows)),
            Kind::Interval => Values::Interval(IntervalMonthDayNanoBuilder::with_capacity(rows)),
            Kind::Bytes => Values::Bytes(BinaryBuilder::with_capacity(rows, 0)),
            Kind::List(item) => Values::List {
                ends: Vec::with_capacity(rows),
                valid: Vec::with_capacity(rows),
                items: Box::new(Values::new(item, rows, block)),
            },
            Kind::Struct(members) => Values::Struct {
                valid: Vec::with_capacity(rows),
                fields: members
                    .iter()
                    .map(|member: &Member| Values::new(&member.kind, rows, block))
                    .collect(),
            },
            Kind::Unsupported => Values::Nothing { rows: 0 },
        }
    }

    /// Appends a value that was read for this column; anything else becomes null.
    #[inline]
    pub(crate) fn append(&mut self, slot: Slot, source: Source<'_>) {
        match (self, slot) {
            (Values::Text(values), slot) => match source.text(slot) {
                Some(text) => values.append_value(text),
                None => values.append_null(),
            },
            (Values::Int64(values), Slot::Int(value)) => values.append_value(value),
            (Values::Timestamp(values), Slot::Int(value)) => values.append_value(value),
            (Values::Float64(values), Slot::Float(value)) => values.append_value(value),
            (Values::Int64(values), _) => values.append_null(),
            (Values::Timestamp(values), _) => values.append_null(),
            (Values::Float64(values), _) => values.append_null(),
            (values, slot) => values.append_rare(slot, source),
        }
    }

    fn append_rare(&mut self, slot: Slot, source: Source<'_>) {
        match self {
            Values::Bool(values) => values.append_option(match slot {
                Slot::Bool(value) => Some(value),
                _ => None,
            }),
            Values::Int16(values) => values.append_option(int(slot).map(|v| v as i16)),
            Values::Int32(values) => values.append_option(int(slot).map(|v| v as i32)),
            Values::Date(values) => values.append_option(int(slot).map(|v| v as i32)),
            Values::Float32(values) => values.append_option(match slot {
                Slot::Float(value) => Some(value as f32),
                _ => None,
            }),
            Values::Decimal(values) => values.append_option(match slot {
                Slot::Wide([low, high]) => Some((i128::from(high as i64) << 64) | i128::from(low)),
                _ => None,
            }),
            Values::Interval(values) => values.append_option(match slot {
                Slot::Interval(m, d, n) => Some(IntervalMonthDayNano::new(m, d, n)),
                _ => None,
            }),
            Values::Bytes(values) => match slot {
                Slot::Bytes(start, len) => values
                    .append_value(&source.scratch.bytes[start as usize..(start + len) as usize]),
                _ => values.append_null(),
            },
            Values::List { ends, valid, items } => {
                let (first, count) = match slot {
                    Slot::List(first, count) => (first as usize, count as usize),
                    _ => (0, 0),
                };
                for item in &source.scratch.tape[first..first + count] {
                    items.append(*item, source);
                }
                let end = ends.last().copied().unwrap_or(0);
                ends.push(end + count as i32);
                valid.push(matches!(slot, Slot::List(..)));
            }
            Values::Struct { valid, fields } => {
                for (i, field) in fields.iter_mut().enumerate() {
                    let slot = match slot {
                        Slot::Struct(first) => source.scratch.tape[first as usize + i],
                        _ => Slot::Null,
                    };
                    field.append(slot, source);
                }
                valid.push(matches!(slot, Slot::Struct(_)));
            }
            Values::Nothing { rows } => *rows += 1,
            Values::Text(_) | Values::Int64(_) | Values::Timestamp(_) | Values::Float64(_) => {
                unreachable!("append handles the frequent types itself")
            }
        }
    }

    /// The column as an array of `data_type`; the builder is empty afterwards.
    pub(crate) fn finish(&mut self, data_type: &DataType) -> ArrayRef {
        let array: ArrayRef = match self {
            Values::Text(values) => Arc::new(values.finish()),
            Values::Bool(values) => Arc::new(values.finish()),
            Values::Int16(values) => Arc::new(values.finish()),
            Values::Int32(values) => Arc::new(values.finish()),
            Values::Int64(values) => Arc::new(values.finish()),
            Values::Float32(values) => Arc::new(values.finish()),
            Values::Float64(values) => Arc::new(values.finish()),
            Values::Decimal(values) => Arc::new(values.finish()),
            Values::Date(values) => Arc::new(values.finish()),
            Values::Timestamp(values) => match data_type {
                DataType::Timestamp(_, zone) => {
                    Arc::new(values.finish().with_timezone_opt(zone.clone()))
                }
                _ => Arc::new(values.finish()),
            },
            Values::Interval(values) => Arc::new(values.finish()),
            Values::Bytes(values) => Arc::new(values.finish()),
            Values::List { ends, valid, items } => {
                return finish_list(ends, valid, items, data_type);
            }
            Values::Struct { valid, fields } => return finish_struct(valid, fields, data_type),
            Values::Nothing { rows } => {
                let array = match data_type {
                    DataType::Null => Arc::new(NullArray::new(*rows)),
                    other => new_null_array(other, *rows),
                };
                *rows = 0;
                return array;
            }
        };
        if array.data_type() == data_type {
            return array;
        }
        cast(&array, data_type).unwrap_or_else(|_| new_null_array(data_type, array.len()))
    }
}

fn int(slot: Slot) -> Option<i64> {
    match slot {
        Slot::Int(value) => Some(value),
        _ => None,
    }
}

fn validity(valid: &mut Vec<bool>) -> Option<NullBuffer> {
    Some(NullBuffer::from(std::mem::take(valid))).filter(|nulls| nulls.null_count() > 0)
}

fn finish_list(
    ends: &mut Vec<i32>,
    valid: &mut Vec<bool>,
    items: &mut Values,
    data_type: &DataType,
) -> ArrayRef {
    let DataType::List(item) = data_type else {
        unreachable!("a list column has a list type");
    };
    let offsets: Vec<i32> = std::iter::once(0).chain(ends.drain(..)).collect();
    Arc::new(ListArray::new(
        Arc::clone(item),
        OffsetBuffer::new(ScalarBuffer::from(offsets)),
        items.finish(item.data_type()),
        validity(valid),
    ))
}

fn finish_struct(valid: &mut Vec<bool>, fields: &mut [Values], data_type: &DataType) -> ArrayRef {
    let DataType::Struct(types) = data_type else {
        unreachable!("a struct column has a struct type");
    };
    let rows = valid.len();
    let arrays: Vec<ArrayRef> =
        fields.iter_mut().zip(types).map(|(values, f)| values.finish(f.data_type())).collect();
    let array = StructArray::try_new_with_length(types.clone(), arrays, validity(valid), rows);
    Arc::new(array.expect("each field was built for its type and has a value per row"))
}
