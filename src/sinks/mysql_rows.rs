//! Writes the statements that change a MySQL table: many rows each, values as literals.

use std::ops::Range;

use crate::sinks::ddl;
use crate::sinks::mysql_table::key_names;
use crate::sinks::mysql_text::{self, Unfit, quote};
use crate::sinks::net_effect::{Item, Operation};
use crate::sinks::progress;
use crate::sinks::sink::{SinkBatch, SinkMode, SinkPlan};
use crate::sinks::values::{Column, Value};

/// Rows of a statement; more gain nothing, and a condition on more keys may not use an index.
const ROWS_MAX: usize = 1_000;
/// Bytes of a statement; more gain nothing.
const BYTES_MAX: usize = 1 << 20;

/// Rows or keys as text, and which item each came from.
#[derive(Debug, Default)]
pub(crate) struct Tuples {
    data: Vec<u8>,
    /// Where each tuple ends.
    ends: Vec<usize>,
    /// The item of each tuple.
    pub(crate) items: Vec<Item>,
}

impl Tuples {
    fn span(&self, position: usize) -> Range<usize> {
        let start = position.checked_sub(1).map_or(0, |previous| self.ends[previous]);
        start..self.ends[position]
    }

    /// Ranges of tuples that go into a statement of `bytes_max` bytes.
    pub(crate) fn pieces(&self, bytes_max: usize) -> Vec<Range<usize>> {
        let bytes_max = bytes_max.min(BYTES_MAX);
        let mut pieces = Vec::new();
        let mut start = 0;
        for position in 0..self.items.len() {
            let bytes = self.ends[position] - self.span(start).start;
            if position > start && (bytes > bytes_max || position - start == ROWS_MAX) {
                pieces.push(start..position);
                start = position;
            }
        }
        if start < self.items.len() {
            pieces.push(start..self.items.len());
        }
        pieces
    }

    /// The tuples but those of a length that is refused, which go to `unfit`.
    pub(crate) fn without(
        self,
        refused: impl Fn(usize) -> bool,
        unfit: &mut Vec<(Item, Unfit)>,
    ) -> Tuples {
        if (0..self.items.len()).all(|position| !refused(self.span(position).len())) {
            return self;
        }
        let mut kept = Tuples::default();
        for (position, item) in self.items.iter().enumerate() {
            let span = self.span(position);
            if refused(span.len()) {
                let reason = format!("{} bytes are more than max_allowed_packet", span.len());
                unfit.push((*item, Unfit("54000", reason)));
                continue;
            }
            kept.data.extend_from_slice(&self.data[span]);
            kept.ends.push(kept.data.len());
            kept.items.push(*item);
        }
        kept
    }

    fn push_joined(&self, range: Range<usize>, between: &[u8], out: &mut Vec<u8>) {
        for position in range.clone() {
            if position > range.start {
                out.extend_from_slice(between);
            }
            out.extend_from_slice(&self.data[self.span(position)]);
        }
    }
}

/// Writes a tuple per item. Answers also the items that have none.
pub(crate) fn encode(
    items: &[Item],
    mut push: impl FnMut(Item, &mut Vec<u8>) -> Result<(), Unfit>,
) -> (Tuples, Vec<(Item, Unfit)>) {
    let mut tuples = Tuples::default();
    let mut unfit = Vec::new();
    for &item in items {
        let start = tuples.data.len();
        match push(item, &mut tuples.data) {
            Ok(()) => {
                tuples.ends.push(tuples.data.len());
                tuples.items.push(item);
            }
            Err(reason) => {
                tuples.data.truncate(start);
                unfit.push((item, reason));
            }
        }
    }
    (tuples, unfit)
}

/// Appends `(value, …)`.
pub(crate) fn push_row(
    batch: &SinkBatch,
    columns: &[Column],
    item: Item,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    for (index, column) in columns.iter().enumerate() {
        out.push(if index == 0 { b'(' } else { b',' });
        mysql_text::push(out, &column.value(item.row))?;
    }
    if let Operation::Log(sign) = item.operation {
        let offset = progress::signed(batch.offset(item.row));
        out.extend_from_slice(format!(",{offset},{sign}").as_bytes());
    }
    out.push(b')');
    Ok(())
}

/// Appends a condition on the key: `(a = 1 AND b IS NULL)`, which an index serves.
pub(crate) fn push_key(
    plan: &SinkPlan,
    columns: &[Column],
    key: &[usize],
    (row, out): (usize, &mut Vec<u8>),
) -> Result<(), Unfit> {
    for (index, &column) in key.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"(" } else { b" AND " });
        push_equal(plan, columns, column, (row, out))?;
    }
    out.push(b')');
    Ok(())
}

fn push_equal(
    plan: &SinkPlan,
    columns: &[Column],
    column: usize,
    (row, out): (usize, &mut Vec<u8>),
) -> Result<(), Unfit> {
    out.extend_from_slice(quote(plan.schema.field(column).name()).as_bytes());
    let value = columns[column].value(row);
    out.extend_from_slice(if matches!(value, Value::Null) { b" IS " } else { b" = " });
    mysql_text::push(out, &value)
}

/// UPDATE of one row by its key. The row has a form: it was written as a tuple before.
pub(crate) fn update(plan: &SinkPlan, table: &str, columns: &[Column], row: usize) -> Vec<u8> {
    let mut out = format!("UPDATE {table} SET ").into_bytes();
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(quote(plan.schema.field(index).name()).as_bytes());
        out.extend_from_slice(b" = ");
        mysql_text::push(&mut out, &column.value(row)).expect("it was written before");
    }
    out.extend_from_slice(b" WHERE ");
    push_key(plan, columns, &plan.key, (row, &mut out)).expect("it was written before");
    out
}

/// What stands around tuples.
#[derive(Debug, Clone)]
pub(crate) struct Statements {
    insert: String,
    delete: String,
    on_duplicate: String,
}

impl Statements {
    /// The statements of a plan.
    pub(crate) fn new(plan: &SinkPlan, table: &str) -> Statements {
        let columns: Vec<String> = ddl::column_names(plan).iter().map(|c| quote(c)).collect();
        let keys = key_names(plan);
        let mut sets: Vec<String> = columns
            .iter()
            .filter(|column| !keys.contains(column))
            .map(|column| format!("{column} = VALUES({column})"))
            .collect();
        if let (true, Some(key)) = (sets.is_empty(), keys.first()) {
            // A key without more: nothing to change, and no error either.
            sets.push(format!("{key} = {key}"));
        }
        let on_duplicate = match plan.mode {
            SinkMode::Upsert => format!(" ON DUPLICATE KEY UPDATE {}", sets.join(", ")),
            SinkMode::Append | SinkMode::Changelog => String::new(),
        };
        Statements {
            insert: format!("INSERT INTO {table} ({}) VALUES ", columns.join(", ")),
            delete: format!("DELETE FROM {table} WHERE "),
            on_duplicate,
        }
    }

    /// Bytes that stand around the tuples.
    pub(crate) fn bytes(&self) -> usize {
        self.insert.len() + self.on_duplicate.len()
    }

    /// INSERT of some rows.
    pub(crate) fn insert_range(&self, rows: &Tuples, range: Range<usize>) -> Vec<u8> {
        let mut out = self.insert.clone().into_bytes();
        rows.push_joined(range, b",", &mut out);
        out
    }

    /// INSERT of some rows, of which those that are there are replaced.
    pub(crate) fn put(&self, rows: &Tuples, range: Range<usize>) -> Vec<u8> {
        let mut out = self.insert_range(rows, range);
        out.extend_from_slice(self.on_duplicate.as_bytes());
        out
    }

    /// DELETE of some keys.
    pub(crate) fn delete(&self, keys: &Tuples, range: Range<usize>) -> Vec<u8> {
        let mut out = self.delete.clone().into_bytes();
        keys.push_joined(range, b" OR ", &mut out);
        out
    }
}
