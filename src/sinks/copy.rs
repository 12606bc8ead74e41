//! Writes rows in PostgreSQL's COPY text format.
//!
//! | SQL | text |
//! |---|---|
//! | numbers | digits; NaN and the infinities stay |
//! | DATE, TIMESTAMP, TIMESTAMPTZ | ISO with eras; TIMESTAMPTZ in UTC |
//! | BYTEA | hex |
//! | T[] of scalars | an array; of lists or structs: JSON |
//! | STRUCT, JSON | JSON |
//!
//! Text is COPY's only form that fits whatever type the user gave a column of an existing table.
//! PostgreSQL has no text with NUL: such a row is [`Unfit`] and never sent.

use std::ops::Range;

use bytes::Bytes;

use crate::sinks::net_effect::{Item, Operation};
use crate::sinks::progress;
use crate::sinks::sink::{SinkBatch, SinkMode, SinkPlan};
use crate::sinks::text::{self, Era, PointForm};
use crate::sinks::values::{self, Column, Value};

/// Code of a row that holds NUL, as PostgreSQL would report it.
pub const NUL_CODE: &str = "22021";
/// Reason of a row that holds NUL.
pub const NUL_REASON: &str = "text with a NUL character has no form in PostgreSQL";

/// The row holds a text that PostgreSQL cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit;

/// Lines of COPY data.
#[derive(Debug)]
pub struct Lines {
    /// The data.
    pub data: Bytes,
    /// Rows that PostgreSQL cannot hold, in the order of the items.
    pub unfit: Vec<usize>,
    /// Whether any line deletes.
    pub deletes: bool,
    /// Whether any line has a null in its key.
    pub null_keys: bool,
}

/// Encodes items. In upsert mode a line begins with 1 to put the row or −1 to delete its key, and
/// a row that is unfit still deletes its key.
pub fn encode(plan: &SinkPlan, batch: &SinkBatch, columns: &[Column], items: &[Item]) -> Lines {
    let mut encoder = Encoder { plan, batch, columns, out: String::new(), scratch: String::new() };
    let (mut unfit, mut deletes, mut null_keys) = (Vec::new(), false, false);
    let is_null =
        |item: Item| move |&key: &usize| matches!(columns[key].value(item.row), Value::Null);
    for &item in items {
        let mut item = item;
        let mut written = encoder.line(item);
        if written.is_err() && item.operation != Operation::Delete {
            unfit.push(item.row);
            if plan.mode == SinkMode::Upsert {
                item.operation = Operation::Delete;
                written = encoder.line(item);
            }
        }
        // A delete whose key cannot be held has nothing to delete.
        if written.is_ok() {
            deletes |= item.operation == Operation::Delete;
            null_keys |= plan.key.iter().any(is_null(item));
        }
    }
    Lines { data: Bytes::from(encoder.out), unfit, deletes, null_keys }
}

struct Encoder<'a> {
    plan: &'a SinkPlan,
    batch: &'a SinkBatch,
    columns: &'a [Column],
    out: String,
    scratch: String,
}

impl Encoder<'_> {
    fn line(&mut self, item: Item) -> Result<(), Unfit> {
        let start = self.out.len();
        let written = self.fields(item);
        match written {
            Ok(()) => self.out.push('\n'),
            Err(Unfit) => self.out.truncate(start),
        }
        written
    }

    fn fields(&mut self, item: Item) -> Result<(), Unfit> {
        let delete = item.operation == Operation::Delete;
        if self.plan.mode == SinkMode::Upsert {
            self.out.push_str(if delete { "-1\t" } else { "1\t" });
        }
        for (index, column) in self.columns.iter().enumerate() {
            if index > 0 {
                self.out.push('\t');
            }
            match column.value(item.row) {
                _ if delete && !self.plan.key.contains(&index) => self.out.push_str("\\N"),
                Value::Null => self.out.push_str("\\N"),
                Value::Text(text) | Value::Json(text) => push_escaped(&mut self.out, text)?,
                // Digits and signs, which nothing has to be done about.
                value @ (Value::Boolean(_)
                | Value::Integer(_)
                | Value::Float(..)
                | Value::Decimal(..)
                | Value::Date(_)
                | Value::Timestamp(_)
                | Value::TimestampTz(_)
                | Value::Time(_)) => push_text(&mut self.out, &value),
                value => {
                    self.scratch.clear();
                    push_text(&mut self.scratch, &value);
                    push_escaped(&mut self.out, &self.scratch)?;
                }
            }
        }
        if let Operation::Log(sign) = item.operation {
            self.out.push('\t');
            text::push_integer(&mut self.out, progress::signed(self.batch.offset(item.row)));
            self.out.push('\t');
            text::push_integer(&mut self.out, sign.into());
        }
        Ok(())
    }
}

/// A value in the form that PostgreSQL's input functions read; not null.
fn push_text(out: &mut String, value: &Value<'_>) {
    const POINT: PointForm = PointForm { separator: ' ', zone: "", era: Era::Bc };
    const POINT_UTC: PointForm = PointForm { separator: ' ', zone: "+00", era: Era::Bc };
    match value {
        Value::Null => {}
        Value::Boolean(value) => out.push(if *value { 't' } else { 'f' }),
        Value::Integer(value) => text::push_integer(out, *value),
        Value::Float(value, single) => text::push_float(out, *value, *single),
        Value::Decimal(value, scale) => text::push_decimal(out, *value, *scale),
        Value::Text(value) | Value::Json(value) => out.push_str(value),
        Value::Date(days) => text::push_date(out, *days, Era::Bc),
        Value::Timestamp(t) => text::push_point(out, *t, POINT),
        Value::TimestampTz(t) => text::push_point(out, *t, POINT_UTC),
        Value::Time(t) => text::push_time(out, *t),
        Value::Interval(m, d, n) => text::push_interval_postgres(out, *m, *d, *n),
        Value::Bytes(bytes) => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            out.push_str("\\x");
            for byte in *bytes {
                out.push(DIGITS[usize::from(byte >> 4)].into());
                out.push(DIGITS[usize::from(byte & 15)].into());
            }
        }
        Value::List(items, range) if !matches!(**items, Column::List(..) | Column::Struct(..)) => {
            push_array(out, items, range.clone());
        }
        Value::List(..) | Value::Struct(..) => values::push_json(out, value),
    }
}

/// An array literal; every item is in quotes, so that none can be taken for syntax or NULL.
fn push_array(out: &mut String, items: &Column, range: Range<usize>) {
    let mut scratch = String::new();
    out.push('{');
    for index in range.clone() {
        if index > range.start {
            out.push(',');
        }
        let item = items.value(index);
        if matches!(item, Value::Null) {
            out.push_str("NULL");
            continue;
        }
        scratch.clear();
        push_text(&mut scratch, &item);
        out.push('"');
        for c in scratch.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
}

/// A field with COPY's escapes. A backslash is always doubled, so no field is `\N` or `\.`.
fn push_escaped(out: &mut String, field: &str) -> Result<(), Unfit> {
    let mut rest = field;
    let special = |byte| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t' | 0);
    while let Some(at) = rest.bytes().position(special) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            _ => return Err(Unfit),
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{DataType, Field};
    use expect_test::expect;

    use super::*;
    use crate::sinks::ddl::TableName;

    #[test]
    fn hostile_text_cannot_leave_its_field() {
        let hostile = ["a\tb\nc\r\\N", "\\.", "{\"x\"}", "NULL", ""];
        let text: ArrayRef = Arc::new(StringArray::from(hostile.to_vec()));
        let item = Arc::new(Field::new("item", DataType::Utf8, true));
        let offsets = OffsetBuffer::from_lengths([2, 1, 1, 1, 0]);
        let list: ArrayRef = Arc::new(ListArray::new(item, offsets, Arc::clone(&text), None));
        let batch = RecordBatch::try_from_iter([("t", text), ("l", list)]).unwrap();
        let lines = lines(SinkMode::Append, vec![], batch, Operation::Put);
        expect![[r#"
            a\tb\nc\r\\N	{"a\tb\nc\r\\\\N","\\\\."}
            \\.	{"{\\"x\\"}"}
            {"x"}	{"NULL"}
            NULL	{""}
            	{}
        "#]]
        .assert_eq(std::str::from_utf8(&lines.data).unwrap());
    }

    #[test]
    fn a_row_with_nul_still_deletes_its_key() {
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a\0", "b"]));
        let batch = RecordBatch::try_from_iter([("k", keys), ("t", text)]).unwrap();
        let lines = lines(SinkMode::Upsert, vec![0], batch, Operation::Put);
        assert_eq!(&lines.data[..], b"-1\t1\t\\N\n1\t2\tb\n");
        assert_eq!((lines.unfit, lines.deletes, lines.null_keys), (vec![0], true, false));
    }

    fn lines(mode: SinkMode, key: Vec<usize>, batch: RecordBatch, operation: Operation) -> Lines {
        let batch = values::canonical_batch(&batch).unwrap();
        let plan = SinkPlan {
            id: String::new(),
            name: String::new(),
            changelog: String::new(),
            schema: batch.schema(),
            table: TableName::plain("t"),
            mode,
            key,
            adopt: false,
            add_columns: false,
            history: None,
        };
        let columns = Column::of_batch(&batch);
        let items: Vec<Item> = (0..batch.num_rows()).map(|row| Item { row, operation }).collect();
        let batch = SinkBatch { batch, weights: None, first_offset: 0 };
        encode(&plan, &batch, &columns, &items)
    }
}
