//! Writes values as psql shows them: for tables on a terminal and for scripts.

use std::fmt::{Display, LowerExp};
use std::ops::Range;

use arrow::array::ArrayRef;
use arrow::datatypes::Field;

use super::cell::{Cell, Column, special_float, write_decimal};
use super::datetime::{
    Fraction, put, write_clock, write_date, write_duration, write_interval, write_timestamp,
};
use super::json;
use crate::data::bytes_text::write_hex;

/// The values of one column as text; the column's type is resolved once.
pub struct TextColumn(Column);

impl TextColumn {
    /// The texts of `array`.
    pub fn new(array: &ArrayRef, field: &Field) -> TextColumn {
        TextColumn(Column::of(array, field))
    }

    /// The text of row `row`, `None` for null.
    pub fn value(&self, row: usize) -> Option<String> {
        self.write(row, &mut Vec::new()).map(str::to_owned)
    }

    /// The text of row `row`, written behind what `out` holds; `None` for null.
    pub fn write<'a>(&self, row: usize, out: &'a mut Vec<u8>) -> Option<&'a str> {
        let start = out.len();
        match self.0.cell(row) {
            Cell::Null => return None,
            cell => write_cell(cell, out),
        }
        Some(std::str::from_utf8(&out[start..]).expect("every cell is written as UTF-8"))
    }
}

/// One value as text; null is the empty text. For many values of a column see [`TextColumn`].
pub fn display(array: &ArrayRef, row: usize, field: &Field) -> String {
    TextColumn::new(&array.slice(row, 1), field).value(0).unwrap_or_default()
}

fn write_cell(cell: Cell<'_>, out: &mut Vec<u8>) {
    match cell {
        Cell::Null => out.extend_from_slice(b"NULL"),
        Cell::Bool(value) => out.push(if value { b't' } else { b'f' }),
        Cell::Int(value) => put(out, format_args!("{value}")),
        Cell::UInt(value) => put(out, format_args!("{value}")),
        Cell::Float32(value) => write_float(value, f64::from(1e-4_f32)..1e6, out),
        Cell::Float64(value) => write_float(value, 1e-4..1e15, out),
        Cell::Decimal(value, scale) => write_decimal(value, scale, out),
        Cell::Text(text) | Cell::Json(text) => out.extend_from_slice(text.as_bytes()),
        Cell::Numeric(text) | Cell::Other(text) => out.extend_from_slice(text.as_bytes()),
        Cell::Bytes(bytes) => write_hex(bytes, out),
        Cell::Date(days) => write_date(i64::from(days), out),
        Cell::Timestamp(seconds, nanos, zoned) => {
            write_timestamp(seconds, nanos, b' ', Fraction::Shortest, out);
            if zoned {
                out.extend_from_slice(b"+00");
            }
        }
        Cell::Time(nanos) => {
            let rest = (nanos % 1_000_000_000) as u32;
            write_clock(nanos / 1_000_000_000, rest, Fraction::Shortest, out);
        }
        Cell::Duration(nanos) => write_duration(nanos, out),
        Cell::Interval(m, d, n) => write_interval(m, d, n, out),
        Cell::List(Column::Struct(..) | Column::Map(..), _) | Cell::Struct(..) | Cell::Map(..) => {
            // A row in a row reads better with its names than in PostgreSQL's parentheses.
            json::write_cell(cell, out);
        }
        Cell::List(items, range) => {
            out.push(b'{');
            let first = range.start;
            for i in range {
                if i > first {
                    out.push(b',');
                }
                write_item(items.cell(i), out);
            }
            out.push(b'}');
        }
    }
}

/// The fewest digits that give the float again; very large and small ones with an exponent, which has its
/// sign and two digits: `1e+20`, `2.5e-07`. Numbers in `plain` have none: those whose digits the type holds.
fn write_float<F>(value: F, plain: Range<f64>, out: &mut Vec<u8>)
where
    F: Into<f64> + Copy + Display + LowerExp,
{
    let wide: f64 = value.into();
    if let Some(word) = special_float(wide) {
        out.extend_from_slice(word.as_bytes());
    } else if wide == 0.0 || plain.contains(&wide.abs()) {
        put(out, format_args!("{value}"));
    } else {
        let shortest = format!("{value:e}");
        let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
        let exponent: i32 = exponent.parse().expect("the exponent of a float is a number");
        put(out, format_args!("{digits}e{exponent:+03}"));
    }
}

/// An item of an array, in quotes where PostgreSQL's array form needs them.
fn write_item(cell: Cell<'_>, out: &mut Vec<u8>) {
    let plain = matches!(cell, Cell::Null | Cell::List(..) | Cell::Struct(..) | Cell::Map(..));
    let start = out.len();
    write_cell(cell, out);
    let item = &out[start..];
    let special = |b: &u8| matches!(b, b',' | b'{' | b'}' | b'"' | b'\\' | b' ' | b'\t' | b'\n');
    let null = item.eq_ignore_ascii_case(b"null");
    if plain || !(item.is_empty() || null || item.iter().any(special)) {
        return;
    }
    let item = out.split_off(start);
    out.push(b'"');
    for byte in item {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}
