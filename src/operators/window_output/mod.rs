//! Turns windows, given as numbers of buffered rows, into output rows: one per window and key, or
//! the rows themselves.
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

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashSet;

use crate::data::change::Change;
use crate::operators::operator::{Emitter, EvalError};
use crate::operators::origin_buffer::OriginBuffer;
use crate::operators::row_keys::RowKeys;
use crate::operators::window_answer::{Content, Pairs, WindowAnswer};
use crate::time::EventTime;

mod emit;
mod persist;

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

/// Which window column stands at a place of the output.
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
    /// The window columns: before the keys and aggregates, or behind the rows.
    pub layout: &'static [WindowColumn],
    /// What is put out.
    pub answer: WindowAnswer,
    /// Columns by whose values rows of a window are told apart by number ([`RowKeys`]).
    pub keys_apart: Vec<usize>,
    /// Columns of the rows that come in.
    pub input_schema: SchemaRef,
    /// Columns of the rows that go out.
    pub schema: SchemaRef,
}

#[derive(Debug)]
struct Note {
    weight: i64,
    now: i64,
    /// The watermark under which it goes on.
    mark: i64,
    version: Version,
    /// Only groups that one of these rows belongs to are put out.
    changed: Option<Vec<u64>>,
}

/// Buffered rows and noted output of one operator.
#[derive(Debug)]
pub struct WindowOutput {
    spec: OutputSpec,
    pairs: Option<Pairs>,
    /// `None` where there are no keys.
    converter: Option<RowConverter>,
    buffer: OriginBuffer,
    keys: Option<RowKeys>,
    notes: Vec<Note>,
    noted_rows: usize,
    released: Vec<u64>,
    /// Numbers of buffered rows that do not count.
    uncounted: HashSet<u64>,
    /// Numbers of buffered rows on which pairs have failed.
    refused: HashSet<u64>,
    relation: Arc<str>,
    first_offset: u64,
    /// The watermark before the one that closes windows now, and that one; equal where none does.
    watermarks: (i64, i64),
}

impl WindowOutput {
    /// Nothing buffered yet.
    pub fn new(spec: OutputSpec) -> Result<WindowOutput, EvalError> {
        let options = SortOptions { descending: false, nulls_first: false };
        let pairs = spec.answer.pairs.as_ref().map(|pairs| pairs.checked()).transpose()?;
        let widened = pairs.as_ref().map_or(&spec.input_schema, |pairs| &pairs.output);
        let field = |&key: &usize| {
            SortField::new_with_options(widened.field(key).data_type().clone(), options)
        };
        let fields: Vec<SortField> = spec.answer.keys().iter().map(field).collect();
        let converter = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        let by_row = pairs.is_some() || matches!(spec.answer.content, Content::Rows);
        let buffer = OriginBuffer::new(&spec.input_schema, by_row);
        let keys = match spec.keys_apart.as_slice() {
            [] => None,
            columns => Some(RowKeys::new(&spec.input_schema, columns.to_vec())?),
        };
        Ok(WindowOutput {
            spec,
            pairs,
            converter,
            buffer,
            keys,
            notes: Vec::new(),
            noted_rows: 0,
            released: Vec::new(),
            uncounted: HashSet::new(),
            refused: HashSet::new(),
            relation: Arc::from(""),
            first_offset: 0,
            watermarks: (i64::MIN, i64::MIN),
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
        let first = self.buffer.push(change)?;
        if let Some(column) = self.spec.answer.row_filter {
            let counts = change.batch.column(column).as_boolean();
            let left_out =
                (0..counts.len()).filter(|&row| counts.is_null(row) || !counts.value(row));
            self.uncounted.extend(left_out.map(|row| first + row as u64));
        }
        if let Some(keys) = &mut self.keys {
            keys.push(&change.batch, first)?;
        }
        Ok(first)
    }

    /// Gives up rows, after the next flush.
    pub fn release(&mut self, numbers: impl IntoIterator<Item = u64>) {
        self.released.extend(numbers);
    }

    /// Whether a buffered row counts: WHERE beside the window keeps it.
    pub fn counts(&self, row: u64) -> bool {
        !self.uncounted.contains(&row)
    }

    /// Whether a window is put out as groups, of which each has its final row, not as the rows in it.
    pub fn gives_groups(&self) -> bool {
        matches!(self.spec.answer.content, Content::Groups { .. })
    }

    /// Whether rows of a window are told apart by key.
    pub fn keys_apart(&self) -> bool {
        self.keys.is_some()
    }

    /// The number of a buffered row's key; 0 where keys are not told apart.
    pub fn key_of(&self, row: u64) -> u32 {
        self.keys.as_ref().map_or(0, |keys| keys.of(row))
    }

    /// Rows by the number of their key.
    pub fn split(&self, rows: Vec<u64>) -> BTreeMap<u32, Vec<u64>> {
        match &self.keys {
            Some(keys) => keys.split(&rows),
            None => BTreeMap::from([(0, rows)]),
        }
    }

    /// Notes an insertion at processing time `now`; with `changed`, of the groups of those rows only.
    pub fn insert(&mut self, now: i64, version: Version, changed: Option<Vec<u64>>) {
        let mark = self.mark(&version);
        self.note(Note { weight: 1, now, mark, version, changed });
    }

    /// Notes a retraction.
    pub fn retract(&mut self, now: i64, version: Version, changed: Option<Vec<u64>>) {
        let mark = self.mark(&version);
        self.note(Note { weight: -1, now, mark, version, changed });
    }

    /// What is noted from here on is due to the watermark that came after `before` and stands at `now`:
    /// windows that end between the two just below their ends, all else at `now`.
    pub fn stand_at(&mut self, before: EventTime, now: EventTime) {
        self.watermarks = (before.0, now.0);
    }

    fn mark(&self, version: &Version) -> i64 {
        let (before, now) = self.watermarks;
        let ends = version.columns.end.filter(|end| before < *end && *end <= now);
        ends.map_or(now, |end| end.saturating_sub(1))
    }

    /// Whether so much is noted that it should be flushed before more is.
    pub fn is_full(&self) -> bool {
        self.noted_rows > NOTED_ROWS_MAX
    }

    /// Evaluates and emits what is noted, in that order, then gives up what is released.
    pub fn flush(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        let mut notes = std::mem::take(&mut self.notes);
        self.noted_rows = 0;
        if !notes.is_empty() {
            self.leave_out_pairs(&mut notes, out)?;
            match &self.spec.answer.content {
                Content::Groups { aggregates, .. } => {
                    self.emit_groups(aggregates, &notes, out)?;
                }
                Content::Rows => self.emit_rows(&notes, out)?,
            }
        }
        let released = std::mem::take(&mut self.released);
        for number in &released {
            self.uncounted.remove(number);
            self.refused.remove(number);
        }
        if let Some(keys) = &mut self.keys {
            keys.release(&released);
        }
        self.buffer.release(&released)
    }

    /// Bytes held.
    pub fn state_bytes(&self) -> usize {
        self.buffer.state_bytes() + self.keys.as_ref().map_or(0, RowKeys::state_bytes)
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
