//! Writes rows as JSON: times as RFC 3339 in UTC, NUMERIC as strings, integers as numbers, bytes as
//! base64, JSON columns as the documents they are.

use arrow::array::ArrayRef;
use arrow::datatypes::Field;
use arrow::record_batch::RecordBatch;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::cell::{Cell, Column, special_float, write_decimal};
use super::datetime::{
    Fraction, put, write_clock, write_date, write_duration, write_interval, write_timestamp,
};

/// Writes the rows of one batch; the columns' types are resolved once.
pub struct RowWriter {
    /// Each column with its name as a JSON string and a colon.
    columns: Vec<(Vec<u8>, Column)>,
}

impl RowWriter {
    /// A writer for the batch's rows.
    pub fn new(batch: &RecordBatch) -> RowWriter {
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns()).map(|(field, array)| {
            let mut name = Vec::new();
            write_string(field.name(), &mut name);
            name.push(b':');
            (name, Column::of(array, field))
        });
        RowWriter { columns: columns.collect() }
    }

    /// Appends row `row` as `{"name":value,…}`.
    pub fn object(&self, row: usize, out: &mut Vec<u8>) {
        out.push(b'{');
        for (i, (name, column)) in self.columns.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            write_cell(column.cell(row), out);
        }
        out.push(b'}');
    }

    /// Appends row `row` as `[value,…]`.
    pub fn array(&self, row: usize, out: &mut Vec<u8>) {
        out.push(b'[');
        for (i, (_, column)) in self.columns.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_cell(column.cell(row), out);
        }
        out.push(b']');
    }
}

/// Appends one value. For many values of one column a [`RowWriter`] is faster.
pub fn write_value(array: &ArrayRef, row: usize, field: &Field, out: &mut Vec<u8>) {
    write_cell(Column::of(&array.slice(row, 1), field).cell(0), out);
}

/// Appends one row as an object. For many rows a [`RowWriter`] is faster.
pub fn write_row_object(batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
    RowWriter::new(&batch.slice(row, 1)).object(0, out);
}

/// Appends one row as an array. For many rows a [`RowWriter`] is faster.
pub fn write_row_array(batch: &RecordBatch, row: usize, out: &mut Vec<u8>) {
    RowWriter::new(&batch.slice(row, 1)).array(0, out);
}

/// Appends all rows as objects, one a line.
pub fn write_ndjson(batch: &RecordBatch, out: &mut Vec<u8>) {
    let writer = RowWriter::new(batch);
    for row in 0..batch.num_rows() {
        writer.object(row, out);
        out.push(b'\n');
    }
}

/// Appends a text as a JSON string.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (i, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..i]);
        copied = i + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => put(out, format_args!("\\u{byte:04x}")),
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Whether a text is one JSON document.
pub(crate) fn is_document(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

pub(crate) fn write_cell(cell: Cell<'_>, out: &mut Vec<u8>) {
    match cell {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Cell::Int(value) => put(out, format_args!("{value}")),
        Cell::UInt(value) => put(out, format_args!("{value}")),
        Cell::Float32(value) => match special_float(f64::from(value)) {
            Some(word) => quoted(out, |out| out.extend_from_slice(word.as_bytes())),
            None => put(out, format_args!("{value:?}")),
        },
        Cell::Float64(value) => match special_float(value) {
            Some(word) => quoted(out, |out| out.extend_from_slice(word.as_bytes())),
            None => put(out, format_args!("{value:?}")),
        },
        Cell::Decimal(value, scale) => quoted(out, |out| write_decimal(value, scale, out)),
        Cell::Numeric(digits) => quoted(out, |out| out.extend_from_slice(digits.as_bytes())),
        Cell::Text(text) => write_string(text, out),
        Cell::Json(text) => write_document(text, out),
        Cell::Bytes(bytes) => quoted(out, |out| {
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
        }),
        Cell::Date(days) => quoted(out, |out| write_date(i64::from(days), out)),
        Cell::Timestamp(seconds, nanos, _) => quoted(out, |out| {
            write_timestamp(seconds, nanos, b'T', Fraction::Thousands, out);
            out.push(b'Z');
        }),
        Cell::Time(nanos) => quoted(out, |out| {
            let rest = (nanos % 1_000_000_000) as u32;
            write_clock(nanos / 1_000_000_000, rest, Fraction::Thousands, out);
        }),
        Cell::Duration(nanos) => quoted(out, |out| write_duration(nanos, out)),
        Cell::Interval(m, d, n) => quoted(out, |out| write_interval(m, d, n, out)),
        Cell::List(items, range) => {
            separated(range, b'[', b']', out, |item, out| write_cell(items.cell(item), out));
        }
        Cell::Struct(fields, row) => separated(0..fields.len(), b'{', b'}', out, |i, out| {
            write_string(&fields[i].0, out);
            out.push(b':');
            write_cell(fields[i].1.cell(row), out);
        }),
        Cell::Map(keys, values, range) => separated(range, b'{', b'}', out, |entry, out| {
            write_key(keys.cell(entry), out);
            out.push(b':');
            write_cell(values.cell(entry), out);
        }),
        Cell::Other(text) => write_string(&text, out),
    }
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn separated(
    range: std::ops::Range<usize>,
    open: u8,
    close: u8,
    out: &mut Vec<u8>,
    mut write: impl FnMut(usize, &mut Vec<u8>),
) {
    out.push(open);
    let first = range.start;
    for i in range {
        if i > first {
            out.push(b',');
        }
        write(i, out);
    }
    out.push(close);
}

/// Keys of objects are strings, whatever the map's key type is.
fn write_key(cell: Cell<'_>, out: &mut Vec<u8>) {
    let mut value = Vec::new();
    write_cell(cell, &mut value);
    if value.first() == Some(&b'"') {
        out.extend_from_slice(&value);
    } else {
        write_string(&String::from_utf8_lossy(&value), out);
    }
}

/// A JSON document as it is, on one line; a text that is none becomes a string, so that the row
/// around it stays JSON.
fn write_document(text: &str, out: &mut Vec<u8>) {
    if !is_document(text) {
        return write_string(text, out);
    }
    // Raw line ends stand between tokens only: inside strings they are escaped.
    out.extend(
        text.trim_ascii().bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }),
    );
}
