//! Writes rows as CSV by RFC 4180: null is an empty field, the empty text is `""`.
//!
//! Times are RFC 3339 as in JSON, bytes `\x` and hexadecimal digits, nested values JSON text; the CSV
//! decoder reads all of it back.

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;

use super::cell::{Cell, Column, write_decimal};
use super::json;
use crate::data::bytes_text::write_hex;

/// Appends the header line.
pub fn write_header(schema: &Schema, out: &mut Vec<u8>) {
    for (i, field) in schema.fields().iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_field(field.name(), out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends all rows, each with its line end.
pub fn write_rows(batch: &RecordBatch, out: &mut Vec<u8>) {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns());
    let columns: Vec<Column> = columns.map(|(field, array)| Column::of(array, field)).collect();
    let mut scratch = Vec::new();
    for row in 0..batch.num_rows() {
        for (i, column) in columns.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            write_cell(column.cell(row), &mut scratch, out);
        }
        // A lone null would be an empty line, which readers skip; they cannot tell it from nothing.
        out.extend_from_slice(b"\r\n");
    }
}

fn write_cell(cell: Cell<'_>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    scratch.clear();
    match cell {
        Cell::Null => return,
        Cell::Text(text) | Cell::Json(text) => return write_field(text, out),
        Cell::Other(text) | Cell::Numeric(text) => return write_field(&text, out),
        Cell::Bytes(bytes) => return write_hex(bytes, out),
        Cell::Decimal(value, scale) => return write_decimal(value, scale, out),
        cell @ (Cell::List(..) | Cell::Struct(..) | Cell::Map(..)) => {
            json::write_cell(cell, scratch);
            return write_field(&String::from_utf8_lossy(scratch), out);
        }
        cell => json::write_cell(cell, scratch),
    }
    // What is left are numbers, words and times: none holds a quote of its own or a comma.
    out.extend(scratch.iter().filter(|byte| **byte != b'"'));
}

/// A text, in quotes where its reader needs them.
fn write_field(text: &str, out: &mut Vec<u8>) {
    let special = |b: u8| matches!(b, b',' | b'"' | b'\n' | b'\r');
    if !text.is_empty() && !text.bytes().any(special) && !text.starts_with('!') {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}
