//! Turns windows, given as numbers of buffered rows, into output rows: one per window and key.
//!
//! # Method
//! During a call an operator notes insertions and retractions in the order in which they are to
//! appear. [`WindowOutput::flush`] evaluates all of them in one shot: one gather, one grouping, one
//! pass per aggregate, however many windows there are. A retraction is the evaluation of what the
//! window held when it was last put out; equal rows in equal order give equal bits, so it equals
//! the row it takes back. Rows are fed in log order, keys come out ascending.
//!
//! Why rows and not accumulators: sessions merge and split, count windows overlap without common
//! edges, and most aggregates can be neither split nor cut back. One-shot evaluation is right for
//! all of them, and costs one pass over a window's rows when it closes.
//!
//! # State
//! The rows of open windows ([`RowBuffer`]); what is noted lives until the flush only.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringViewArray,
    UInt32Array,
};
use arrow::compute::{self, SortOptions};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, Rows, SortField};
use hashbrown::{HashMap, HashSet};

use crate::data::change::{Change, Marks, Origin};
use crate::operators::aggregates::one_shot::evaluate_rows;
use crate::operators::aggregates::spec::AggregateSpec;
use crate::operators::operator::{Emitter, EvalError};
use crate::operators::row_buffer::RowBuffer;
use crate::windows::columns::{canonical, time_column};

/// Noted rows beyond this number are flushed in the middle of a call, which shows nowhere.
const NOTED_ROWS_MAX: usize = 1 << 20;

/// The window columns of an output row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WindowColumns {
    /// `window_id`.
    pub id: Option<i64>,
    /// `window_start`.
    pub start: Option<i64>,
    /// `window_end`.
    pub end: Option<i64>,
    /// `window_reason`.
    pub reason: Option<&'static str>,
}

/// Which window column stands at a place of the output, before the keys and the aggregates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowColumn {
    /// `window_id BIGINT`.
    Id,
    /// `window_start`.
    Start,
    /// `window_end`.
    End,
    /// `window_reason TEXT`.
    Reason,
}

/// A window as it is, or was, put out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its window columns.
    pub columns: WindowColumns,
    /// Numbers of its rows, ascending.
    pub rows: Vec<u64>,
}

/// What the output is made of.
#[derive(Debug)]
pub struct OutputSpec {
    /// The window columns, first in the output.
    pub layout: &'static [WindowColumn],
    /// Columns of the input that follow, by which a window is subdivided.
    pub keys: Vec<usize>,
    /// Aggregates, last in the output.
    pub aggregates: Vec<AggregateSpec>,
    /// Boolean column of the input: only rows where it is true count in the output (WHERE beside a
    /// window); the others still shape the windows.
    pub row_filter: Option<usize>,
    /// Columns of the rows that come in.
    pub input_schema: SchemaRef,
    /// Columns of the rows that go out.
    pub schema: SchemaRef,
}

#[derive(Debug)]
struct Note {
    weight: i64,
    now: i64,
    version: Version,
    /// Only groups that one of these rows belongs to are put out.
    changed: Option<Vec<u64>>,
}

/// Buffered rows and noted output of one operator.
#[derive(Debug)]
pub struct WindowOutput {
    spec: OutputSpec,
    /// `None` where there are no keys.
    converter: Option<RowConverter>,
    buffer: RowBuffer,
    notes: Vec<Note>,
    noted_rows: usize,
    released: Vec<u64>,
    /// Numbers of buffered rows that do not count.
    uncounted: HashSet<u64>,
    relation: Arc<str>,
    first_offset: u64,
}

/// Groups of noted rows: where each row goes, and what each group is.
#[derive(Default)]
struct Groups {
    /// Numbers of the rows that go into a group.
    numbers: Vec<u64>,
    /// The group of each.
    group_of: Vec<usize>,
    /// The note of each group and the place of its first row among all rows gathered for keys.
    groups: Vec<(usize, usize)>,
}

impl WindowOutput {
    /// Nothing buffered yet.
    pub fn new(spec: OutputSpec) -> Result<WindowOutput, EvalError> {
        let options = SortOptions { descending: false, nulls_first: false };
        let field = |&key: &usize| {
            let data_type = spec.input_schema.field(key).data_type().clone();
            SortField::new_with_options(data_type, options)
        };
        let fields: Vec<SortField> = spec.keys.iter().map(field).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        let buffer = RowBuffer::new(Arc::clone(&spec.input_schema));
        Ok(WindowOutput {
            spec,
            converter,
            buffer,
            notes: Vec::new(),
            noted_rows: 0,
            released: Vec::new(),
            uncounted: HashSet::new(),
            relation: Arc::from(""),
            first_offset: 0,
        })
    }

    /// Buffers the rows of a change; answers with the number of the first one.
    pub fn push(&mut self, change: &Change) -> Result<u64, EvalError> {
        if change.weights.is_some() {
            let text = "rows with weights came to a window that needs append-only input";
            return Err(EvalError::Broken(text.to_owned()));
        }
        self.relation = Arc::clone(&change.origin.relation);
        self.first_offset = change.origin.first_offset;
        let first = self.buffer.push(&change.batch)?;
        if let Some(column) = self.spec.row_filter {
            let counts = change.batch.column(column).as_boolean();
            let left_out =
                (0..counts.len()).filter(|&row| counts.is_null(row) || !counts.value(row));
            self.uncounted.extend(left_out.map(|row| first + row as u64));
        }
        Ok(first)
    }

    /// Gives up rows, after the next flush.
    pub fn release(&mut self, numbers: impl IntoIterator<Item = u64>) {
        self.released.extend(numbers);
    }

    /// Notes an insertion at processing time `now`; with `changed`, of the groups of those rows only.
    pub fn insert(&mut self, now: i64, version: Version, changed: Option<Vec<u64>>) {
        self.note(Note { weight: 1, now, version, changed });
    }

    /// Notes a retraction.
    pub fn retract(&mut self, now: i64, version: Version, changed: Option<Vec<u64>>) {
        self.note(Note { weight: -1, now, version, changed });
    }

    /// Whether so much is noted that it should be flushed before more is.
    pub fn is_full(&self) -> bool {
        self.noted_rows > NOTED_ROWS_MAX
    }

    /// Evaluates and emits what is noted, in that order, then gives up what is released.
    pub fn flush(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        let notes = std::mem::take(&mut self.notes);
        self.noted_rows = 0;
        if !notes.is_empty() {
            self.emit(&notes, out)?;
        }
        let released = std::mem::take(&mut self.released);
        if !self.uncounted.is_empty() {
            for number in &released {
                self.uncounted.remove(number);
            }
        }
        Ok(self.buffer.release(&released)?)
    }

    /// Bytes held.
    pub fn state_bytes(&self) -> usize {
        self.buffer.state_bytes()
    }

    fn note(&mut self, mut note: Note) {
        if !self.uncounted.is_empty() {
            note.version.rows.retain(|number| !self.uncounted.contains(number));
            if let Some(changed) = &mut note.changed {
                changed.retain(|number| !self.uncounted.contains(number));
            }
        }
        if !note.version.rows.is_empty() {
            self.noted_rows += note.version.rows.len() + note.changed.as_ref().map_or(0, Vec::len);
            self.notes.push(note);
        }
    }

    fn emit(&self, notes: &[Note], out: &mut Emitter) -> Result<(), EvalError> {
        let (key_columns, keys) = self.keys_of(notes)?;
        let groups = group(notes, keys.as_ref());
        if groups.groups.is_empty() {
            return Ok(());
        }
        let input = self.buffer.gather(&groups.numbers)?;
        let count = groups.groups.len();
        let values = evaluate_rows(&self.spec.aggregates, &input, &groups.group_of, count)?;
        let key_bytes = |row: usize| keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&group| {
            let (note, row) = groups.groups[group];
            (note, key_bytes(row))
        });
        let ordered: Vec<(usize, usize)> =
            order.iter().map(|&group| groups.groups[group]).collect();
        let noted: Vec<&Note> = ordered.iter().map(|&(note, _)| &notes[note]).collect();

        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.spec.schema.fields().len());
        for (place, column) in self.spec.layout.iter().enumerate() {
            columns.push(window_column(
                *column,
                &noted,
                self.spec.schema.field(place).data_type(),
            )?);
        }
        let firsts = UInt32Array::from_iter_values(ordered.iter().map(|&(_, row)| row as u32));
        for column in &key_columns {
            columns.push(compute::take(column, &firsts, None)?);
        }
        let order = UInt32Array::from_iter_values(order.iter().map(|&group| group as u32));
        for column in &values {
            columns.push(compute::take(column, &order, None)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let schema = Arc::clone(&self.spec.schema);
        let batch = RecordBatch::try_new_with_options(schema, columns, &options)?;
        self.emit_by_time(&batch, &noted, out);
        Ok(())
    }

    /// The key columns of every noted row, the changed ones behind those of their note, and the
    /// same as comparable bytes.
    fn keys_of(&self, notes: &[Note]) -> Result<(Vec<ArrayRef>, Option<Rows>), EvalError> {
        let Some(converter) = &self.converter else { return Ok((Vec::new(), None)) };
        let of_note = |note: &'_ Note| {
            let changed = note.changed.clone().unwrap_or_default();
            note.version.rows.clone().into_iter().chain(changed)
        };
        let numbers: Vec<u64> = notes.iter().flat_map(of_note).collect();
        let rows = self.buffer.gather(&numbers)?;
        let columns: Vec<ArrayRef> =
            self.spec.keys.iter().map(|&key| canonical(rows.column(key))).collect();
        let keys = converter.convert_columns(&columns)?;
        Ok((columns, Some(keys)))
    }

    /// Emits runs of rows of equal processing time as changes of their own.
    fn emit_by_time(&self, batch: &RecordBatch, noted: &[&Note], out: &mut Emitter) {
        let mut start = 0;
        for run in noted.chunk_by(|a, b| a.now == b.now) {
            let cause = Origin {
                relation: Arc::clone(&self.relation),
                first_offset: self.first_offset,
                ingest_time: run[0].now,
                arrival: Marks::All(i64::MIN),
                progress: Marks::All(i64::MIN),
            };
            let weights = run
                .iter()
                .any(|note| note.weight != 1)
                .then(|| Int64Array::from_iter_values(run.iter().map(|note| note.weight)));
            out.change(Change::derived(batch.slice(start, run.len()), weights, &cause));
            start += run.len();
        }
    }
}

/// Groups the rows of each note by key.
fn group(notes: &[Note], keys: Option<&Rows>) -> Groups {
    let key = |row: usize| keys.map_or(&[][..], |keys| keys.row(row).data());
    let mut known: HashMap<(usize, &[u8]), usize> = HashMap::new();
    let mut groups = Groups::default();
    let mut start = 0;
    for (index, note) in notes.iter().enumerate() {
        let end = start + note.version.rows.len();
        let next = end + note.changed.as_ref().map_or(0, Vec::len);
        let changed: Option<HashSet<&[u8]>> =
            note.changed.as_ref().map(|_| (end..next).map(key).collect());
        for (row, &number) in (start..end).zip(&note.version.rows) {
            let key = key(row);
            if changed.as_ref().is_some_and(|changed| !changed.contains(key)) {
                continue;
            }
            let group = *known.entry((index, key)).or_insert_with(|| {
                groups.groups.push((index, row));
                groups.groups.len() - 1
            });
            groups.numbers.push(number);
            groups.group_of.push(group);
        }
        start = next;
    }
    groups
}

fn window_column(
    column: WindowColumn,
    noted: &[&Note],
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    let columns = noted.iter().map(|note| note.version.columns);
    match column {
        WindowColumn::Id => Ok(Arc::new(columns.map(|c| c.id).collect::<Int64Array>())),
        WindowColumn::Start => time_column(columns.map(|c| c.start).collect(), data_type),
        WindowColumn::End => time_column(columns.map(|c| c.end).collect(), data_type),
        WindowColumn::Reason => {
            let texts: StringViewArray = columns.map(|c| c.reason).collect();
            compute::cast(&texts, data_type)
        }
    }
}

/// The numbers that are in one of two ascending lists only.
pub fn symmetric_difference(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut only = difference(a, b);
    only.extend(difference(b, a));
    only.sort_unstable();
    only
}

/// The numbers of an ascending list that are not in another.
pub fn difference(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut b = b.iter().copied().peekable();
    let mut only = Vec::new();
    for &number in a {
        while b.next_if(|&other| other < number).is_some() {}
        if b.peek() != Some(&number) {
            only.push(number);
        }
    }
    only
}
