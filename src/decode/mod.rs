//! Turns bytes that clients send into batches of a stream's schema, and batches into answer bytes.
//!
//! A bad row never fails its batch: it is left out and reported as [`Rejected`].

mod arrow_ipc;
mod builders;
mod csv;
mod datetime;
mod error;
mod json;
mod json_access;
mod json_body;
mod json_contain;
mod json_reader;
mod json_value;
mod kind;
mod punctuation;
mod quiet;
mod rows;
pub mod split;
#[cfg(test)]
mod tests;
mod text;
mod texts;
mod values;

pub(crate) use datetime::parse_timestamp;
pub(crate) use error::Fault;
pub(crate) use json_access::{Documents, JsonType, LEVELS as JSON_LEVELS, Step};
pub(crate) use json_contain::Node;
pub(crate) use texts::{Misfit, check_texts, column_of_texts, number_for};

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::data::punctuation::Punctuation;
use crate::error::SqlState;

/// What one call of a decoder made.
#[derive(Debug)]
pub struct Decoded {
    /// The good rows, in the decoder's schema.
    pub batch: RecordBatch,
    /// For each row of `batch` its line in the request, from 1.
    pub lines: Lines,
    /// The bad rows, in order.
    pub rejected: Vec<Rejected>,
    /// Punctuations, each with the number of good rows before it.
    pub punctuations: Vec<(usize, Punctuation)>,
    /// Why the body as a whole has not its format, so that nobody can tell rows apart in it; then there
    /// are none.
    pub malformed: Option<String>,
}

/// Bad rows of which a decoder keeps what is wrong with each. It notices one more; what has so many is
/// refused as a whole, since they may be two bytes each and take hundreds to tell of.
pub const REJECTED_MAX: usize = 250_000;

impl Decoded {
    /// Rows that are all good.
    pub fn good(batch: RecordBatch) -> Decoded {
        let (rejected, punctuations) = (vec![], vec![]);
        Decoded { batch, lines: Lines::From(1), rejected, punctuations, malformed: None }
    }

    /// Nothing but what is wrong with all of it.
    fn without_rows(self, malformed: String) -> Decoded {
        let none = Decoded::good(self.batch.slice(0, 0));
        Decoded { malformed: Some(malformed), ..none }
    }

    /// Whether there are more bad rows than [`REJECTED_MAX`]; then not all of them are here.
    pub fn is_flooded(&self) -> bool {
        self.rejected.len() > REJECTED_MAX
    }
}

/// Lines of the good rows.
#[derive(Debug, Clone)]
pub enum Lines {
    /// Row `i` is line `first + i`.
    From(u64),
    /// Row by row.
    Each(Vec<u64>),
}

impl Lines {
    /// The line of a row.
    pub fn line(&self, row: usize) -> u64 {
        match self {
            Lines::From(first) => first + row as u64,
            Lines::Each(lines) => lines.get(row).copied().unwrap_or_default(),
        }
    }
}

/// A row that could not be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// Line in the request, from 1.
    pub line: u64,
    /// Why, as a code: 22P02, 22003, 22007, 23502, 42703, 54000 …
    pub code: SqlState,
    /// Why, in words; names the column.
    pub message: String,
    /// The row's bytes as they came (without the line end).
    pub raw: Vec<u8>,
}

/// The formats in which rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    NdJson,
    /// One JSON object, or an array of them, in the whole body. A row's line is its place in the
    /// array, since line ends mean nothing there.
    Json,
    /// CSV; `header`: the first line names the columns, else they come in schema order.
    Csv {
        /// Whether the first line names the columns.
        header: bool,
    },
    /// Each line is the value of the only (or first) text column.
    Text,
    /// An Arrow IPC stream with columns matched by name. A row's line is its place in the stream.
    ArrowIpc,
}

/// Limits that hold before memory is allocated.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of one line or row.
    pub row_bytes: usize,
    /// Depth of JSON nesting.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { row_bytes: 1 << 20, depth: 64 }
    }
}

/// What a decoder needs to know about the stream.
#[derive(Debug, Clone)]
pub struct DecodeSpec {
    /// The visible columns.
    pub schema: SchemaRef,
    /// Whether fields that the schema does not know make a row bad (42703) or are ignored.
    pub reject_unknown_fields: bool,
    /// Limits.
    pub limits: Limits,
}

/// A decoder holds what it has learnt (key order, header) between calls.
pub trait Decoder: Send {
    /// Decodes `input`: for line formats any number of whole lines (the last one may lack its line
    /// end), for [`Format::Json`] and [`Format::ArrowIpc`] the whole body. `first_line` is the line
    /// number of the first byte.
    fn decode(&mut self, input: &[u8], first_line: u64) -> Decoded;
}

/// Shared by all decoders of one stream.
pub type DecodeSpecRef = Arc<DecodeSpec>;

/// A decoder of `format` for the stream that `spec` describes.
pub fn decoder(format: Format, spec: DecodeSpecRef) -> Box<dyn Decoder> {
    match format {
        Format::NdJson => Box::new(json::NdJsonDecoder::new(spec)),
        Format::Json => Box::new(json_body::JsonDecoder::new(spec)),
        Format::Csv { header } => Box::new(csv::CsvDecoder::new(spec, header)),
        Format::Text => Box::new(text::TextDecoder::new(spec)),
        Format::ArrowIpc => Box::new(arrow_ipc::ArrowIpcDecoder::new(spec)),
    }
}
