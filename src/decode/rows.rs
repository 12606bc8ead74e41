//! Gathers what one call of a decoder makes: columns of good rows, their lines, the bad rows.

use std::sync::Arc;

use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use hashbrown::HashMap;

use super::builders::{Scratch, Slot, Source, Values};
use super::error::{Fault, RowError, ValueError};
use super::kind::Member;
use super::{DecodeSpecRef, Decoded, Lines, REJECTED_MAX, Rejected};
use crate::data::punctuation::Punctuation;
use crate::error::Report;

/// Bytes that are kept of a row that is longer than the limit.
const OVERSIZE_KEPT: usize = 1024;
/// Levels beyond this would endanger the stack, whatever the configuration says.
const DEPTH_MAX: usize = 512;

/// The rows of one call, and the one that is being read.
pub(crate) struct Rows {
    pub(crate) spec: DecodeSpecRef,
    pub(crate) columns: Vec<Member>,
    /// Column by name.
    pub(crate) by_name: HashMap<String, usize>,
    /// The current row, one slot per column.
    pub(crate) slots: Vec<Slot>,
    pub(crate) scratch: Scratch,
    values: Vec<Values>,
    lines: Vec<u64>,
    rejected: Vec<Rejected>,
    punctuations: Vec<(usize, Punctuation)>,
    /// Bytes per row in the last call, to size the builders of the next.
    row_bytes: usize,
}

impl Rows {
    pub(crate) fn new(spec: DecodeSpecRef) -> Rows {
        let columns: Vec<Member> = spec.schema.fields().iter().map(|f| Member::of(f)).collect();
        let by_name = columns.iter().enumerate().map(|(i, c)| (c.name.clone(), i)).collect();
        Rows {
            slots: vec![Slot::Missing; columns.len()],
            columns,
            by_name,
            scratch: Scratch::default(),
            values: Vec::new(),
            lines: Vec::new(),
            rejected: Vec::new(),
            punctuations: Vec::new(),
            row_bytes: 128,
            spec,
        }
    }

    /// Makes room for the rows of `input_bytes` bytes.
    pub(crate) fn begin(&mut self, input_bytes: usize) {
        // A row cannot fill more columns than it has bytes, and all texts together are no longer
        // than the input: the room asked for stays a small multiple of the input.
        let columns = self.columns.len().max(1);
        let rows = input_bytes / self.row_bytes.max(columns) + 1;
        let block = (input_bytes / columns).clamp(64, 256 << 10) as u32;
        self.values = self.columns.iter().map(|c| Values::new(&c.kind, rows, block)).collect();
    }

    /// The deepest nesting that is read.
    pub(crate) fn levels(&self) -> usize {
        self.spec.limits.depth.min(DEPTH_MAX)
    }

    /// Bytes of a row that are allowed; spans in a row are 32 bits wide.
    pub(crate) fn row_bytes_max(&self) -> usize {
        self.spec.limits.row_bytes.min(i32::MAX as usize)
    }

    /// Forgets the current row.
    #[inline]
    pub(crate) fn clear_row(&mut self) {
        self.slots.fill(Slot::Missing);
        self.scratch.clear();
    }

    /// Appends the current row, whose slots point into `line`. The caller has checked it for nulls.
    #[inline]
    pub(crate) fn commit(&mut self, line_number: u64, line: &str) {
        let source = Source { line, scratch: &self.scratch };
        for (values, slot) in self.values.iter_mut().zip(&self.slots) {
            values.append(*slot, source);
        }
        self.lines.push(line_number);
    }

    /// Whether every column that must not be null has a value.
    pub(crate) fn check_nulls(&self) -> Result<(), RowError> {
        let mut columns = self.columns.iter().zip(&self.slots);
        match columns.find(|(column, slot)| !column.nullable && slot.is_null()) {
            Some((column, _)) => Err(column.error(ValueError::Null, "")),
            None => Ok(()),
        }
    }

    /// What is wrong with the value `text` of a column.
    pub(crate) fn column_error(&self, column: usize, fault: Fault, text: &str) -> RowError {
        match fault {
            Fault::Value(error) => self.columns[column].error(error, text),
            Fault::Deep => RowError::TooDeep { limit: self.levels() },
            Fault::Json(..) => self.columns[column].error(ValueError::Syntax, text),
        }
    }

    /// What is wrong with a row of JSON.
    pub(crate) fn json_error(&self, fault: Fault) -> RowError {
        match fault {
            Fault::Json(expected, at) => RowError::Json { expected, at: at + 1 },
            Fault::Deep => RowError::TooDeep { limit: self.levels() },
            Fault::Value(_) => RowError::Json { expected: "a value", at: 1 },
        }
    }

    /// Notes a bad row.
    pub(crate) fn reject(&mut self, line: u64, raw: &[u8], error: &RowError) {
        if self.rejected.len() > REJECTED_MAX {
            return;
        }
        self.rejected.push(Rejected {
            line,
            code: error.code(),
            message: error.to_string(),
            raw: raw.to_vec(),
        });
    }

    /// Notes a row that is too long; of its bytes only the first are kept.
    pub(crate) fn reject_oversize(&mut self, line: u64, raw: &[u8]) {
        let error = RowError::TooLong { limit: self.row_bytes_max() };
        self.reject(line, &raw[..raw.len().min(OVERSIZE_KEPT)], &error);
    }

    /// Notes a punctuation behind the good rows so far.
    pub(crate) fn punctuate(&mut self, punctuation: Punctuation) {
        self.punctuations.push((self.lines.len(), punctuation));
    }

    /// Hands everything out and starts afresh.
    pub(crate) fn finish(&mut self, first_line: u64, input_bytes: usize) -> Decoded {
        let schema = &self.spec.schema;
        let rows = self.lines.len();
        self.row_bytes = input_bytes.checked_div(rows).unwrap_or(self.row_bytes).max(1);
        let arrays = self
            .values
            .iter_mut()
            .zip(schema.fields())
            .map(|(values, field)| values.finish(field.data_type()))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
            .expect("each column was built for its field and checked for nulls");
        Decoded {
            batch,
            lines: Lines::of(std::mem::take(&mut self.lines), first_line),
            rejected: std::mem::take(&mut self.rejected),
            punctuations: std::mem::take(&mut self.punctuations),
            malformed: None,
        }
    }
}

impl Lines {
    /// The short form where lines follow each other.
    pub(crate) fn of(lines: Vec<u64>, first_line: u64) -> Lines {
        let first = lines.first().copied().unwrap_or(first_line);
        let contiguous = lines.iter().enumerate().all(|(i, line)| *line == first + i as u64);
        if contiguous { Lines::From(first) } else { Lines::Each(lines) }
    }

    /// The line of row `row`.
    pub fn at(&self, row: usize) -> u64 {
        match self {
            Lines::From(first) => first + row as u64,
            Lines::Each(lines) => lines[row],
        }
    }
}

/// A line of a line format and the place behind its line end.
pub(crate) struct Line {
    pub(crate) start: usize,
    /// End without `\n` and `\r\n`.
    pub(crate) end: usize,
    pub(crate) next: usize,
}

/// The line that starts at `start`.
#[inline]
pub(crate) fn line_at(input: &[u8], start: usize) -> Line {
    let rest = &input[start..];
    let (mut end, next) = match memchr::memchr(b'\n', rest) {
        Some(length) => (start + length, start + length + 1),
        None => (input.len(), input.len()),
    };
    if end > start && input[end - 1] == b'\r' {
        end -= 1;
    }
    Line { start, end, next }
}

/// The input without a byte order mark at its start.
pub(crate) fn without_bom(input: &[u8]) -> &[u8] {
    input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input)
}

/// As [`without_bom`] for the first bytes of all only; notes in `started` that they have come.
pub(crate) fn without_first_bom<'a>(input: &'a [u8], started: &mut bool) -> &'a [u8] {
    let first = !*started;
    *started |= !input.is_empty();
    if first { without_bom(input) } else { input }
}

/// The whole input as text if all of it is UTF-8: one fast check instead of one per line.
pub(crate) fn as_text(input: &[u8]) -> Option<&str> {
    simdutf8::basic::from_utf8(input).ok()
}
