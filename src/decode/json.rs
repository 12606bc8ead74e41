//! Decodes JSON objects straight into columns, one a line; `json_body.rs` cuts whole bodies.
//!
//! # Method
//! Senders repeat themselves: the next row has the same keys in the same order with the same blanks.
//! So the bytes *between* the values of the last good row are kept as a template. A row whose bytes
//! between values equal the template's needs no key to be parsed, found or unescaped: compare, read
//! a value of the known type in place, compare. At the first difference or doubt the row is read
//! again by the full reader, which checks the whole object first, then reads the last value of each
//! known key. That reader alone makes error messages, so both ways agree on what a good row is.
//!
//! # Not here
//! Strings and nesting: `json_reader.rs`. Values of a column's type: `json_value.rs`.

use super::builders::Slot;
use super::error::{Fault, RowError};
use super::json_reader::Reader;
use super::punctuation;
use super::rows::{Rows, as_text, line_at, without_first_bom};
use super::{DecodeSpecRef, Decoded, Decoder};

/// The key of an object that is a punctuation and not a row.
const PUNCTUATE: &str = "$punctuate";

/// Bytes between two values, with the value's column behind them.
#[derive(Default)]
struct Part {
    /// The first sixteen bytes, for a comparison without a loop.
    head: u128,
    mask: u128,
    literal: Vec<u8>,
    /// `None`: a key that the stream does not know.
    column: Option<usize>,
}

impl Part {
    /// Takes the place of what was here; rows of changing layout would allocate else.
    fn set(&mut self, literal: &[u8], column: Option<usize>) {
        let mut head = [0u8; 16];
        let mut mask = [0u8; 16];
        for (i, byte) in literal.iter().take(16).enumerate() {
            head[i] = *byte;
            mask[i] = 0xff;
        }
        self.head = u128::from_le_bytes(head);
        self.mask = u128::from_le_bytes(mask);
        self.literal.clear();
        self.literal.extend_from_slice(literal);
        self.column = column;
    }

    #[inline]
    fn matches(&self, rest: &[u8]) -> bool {
        match rest.first_chunk::<16>() {
            Some(chunk) => {
                u128::from_le_bytes(*chunk) & self.mask == self.head
                    && (self.literal.len() <= 16 || rest.starts_with(&self.literal))
            }
            None => rest.starts_with(&self.literal),
        }
    }
}

/// What the last good row looked like.
#[derive(Default)]
struct Template {
    parts: Vec<Part>,
    /// What follows the last value.
    tail: Vec<u8>,
    /// Whether there is a template, and each NOT NULL column has a value in it.
    usable: bool,
}

/// Where values began and ended in the row that the full reader read.
#[derive(Default)]
struct Layout {
    /// Start and end of a value, and its column.
    values: Vec<(usize, usize, Option<usize>)>,
    /// Start and end of the last value of each column; `start > end`: none.
    spans: Vec<(usize, usize)>,
    /// The first unknown key, where unknown keys are refused.
    unknown: Option<String>,
    repeated: bool,
    punctuation: Option<(usize, usize)>,
}

/// Reads objects into rows; shared by both JSON formats.
pub(crate) struct ObjectReader {
    pub(crate) rows: Rows,
    template: Template,
    layout: Layout,
}

impl ObjectReader {
    pub(crate) fn new(spec: DecodeSpecRef) -> ObjectReader {
        ObjectReader {
            rows: Rows::new(spec),
            template: Template::default(),
            layout: Layout::default(),
        }
    }

    /// Takes one object in as a row, a punctuation or a rejected row.
    #[inline]
    pub(crate) fn object(&mut self, text: &str, line: u64) {
        if !(self.template.usable && self.by_template(text)) {
            self.rows.clear_row();
            match self.by_full_reader(text) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.rows.reject(line, text.as_bytes(), &error),
            }
        }
        self.rows.commit(line, text);
    }

    /// Whether the row equals the template; then its slots are filled.
    #[inline]
    fn by_template(&mut self, text: &str) -> bool {
        let levels = self.rows.levels();
        let rows = &mut self.rows;
        rows.clear_row();
        let mut reader = Reader::new(text, 0, levels.saturating_sub(1));
        for part in &self.template.parts {
            if !part.matches(&text.as_bytes()[reader.at..]) {
                return false;
            }
            reader.at += part.literal.len();
            let Some(column) = part.column else {
                if reader.skip(&mut rows.scratch).is_err() {
                    return false;
                }
                continue;
            };
            let member = &rows.columns[column];
            if let Some(slot) = reader.plain_value(&member.kind) {
                rows.slots[column] = slot;
                continue;
            }
            match reader.value(&member.kind, &mut rows.scratch) {
                Ok(Slot::Null) if !member.nullable => return false,
                Ok(slot) => rows.slots[column] = slot,
                Err(_) => return false,
            }
        }
        text.as_bytes()[reader.at..] == *self.template.tail
    }

    /// Reads any object. `Ok(false)`: it was a punctuation.
    fn by_full_reader(&mut self, text: &str) -> Result<bool, RowError> {
        self.survey(text).map_err(|fault| self.rows.json_error(fault))?;
        if let Some((start, end)) = self.layout.punctuation {
            let punctuation = punctuation::parse(&mut self.rows, &text[start..end])?;
            self.rows.punctuate(punctuation);
            return Ok(false);
        }
        if let Some(name) = self.layout.unknown.take() {
            return Err(RowError::UnknownField(name));
        }
        let levels = self.rows.levels().saturating_sub(1);
        for (column, (start, end)) in self.layout.spans.iter().enumerate() {
            if start > end {
                continue;
            }
            let kind = &self.rows.columns[column].kind;
            let mut reader = Reader::new(text, *start, levels);
            match reader.value(kind, &mut self.rows.scratch) {
                Ok(slot) => self.rows.slots[column] = slot,
                Err(fault) => {
                    let value = without_quotes(&text[*start..*end]);
                    return Err(self.rows.column_error(column, fault, value));
                }
            }
        }
        self.rows.check_nulls()?;
        self.learn(text);
        Ok(true)
    }

    /// Checks the whole object and notes where its values are.
    fn survey(&mut self, text: &str) -> Result<(), Fault> {
        let Layout { values, spans, unknown, repeated, punctuation } = &mut self.layout;
        values.clear();
        spans.clear();
        spans.resize(self.rows.columns.len(), (1, 0));
        (*unknown, *repeated, *punctuation) = (None, false, None);
        let by_name = &self.rows.by_name;
        let rejects_unknown = self.rows.spec.reject_unknown_fields;
        let mut reader = Reader::new(text, 0, self.rows.levels());
        reader.skip_blanks();
        reader.members(&mut self.rows.scratch, |reader, key, scratch| {
            let key = reader.chars(&key, scratch);
            let column = by_name.get(key).copied();
            let marked = column.is_none() && key == PUNCTUATE;
            if rejects_unknown && column.is_none() && unknown.is_none() {
                *unknown = Some(key.to_string());
            }
            let start = reader.at;
            reader.skip(scratch)?;
            if let Some(column) = column {
                *repeated |= spans[column].0 <= spans[column].1;
                spans[column] = (start, reader.at);
            }
            // Only alone is it a punctuation; beside other keys it is a field like others.
            *punctuation = (marked && values.is_empty()).then_some((start, reader.at));
            values.push((start, reader.at, column));
            Ok(())
        })?;
        reader.skip_blanks();
        if reader.is_at_end() { Ok(()) } else { Err(reader.fault("the end of the row")) }
    }

    /// Makes the good row that was just read the template of the next ones.
    fn learn(&mut self, text: &str) {
        self.template.usable = false;
        // Where a key comes twice the last value counts, which a single pass cannot know.
        if self.layout.repeated {
            return;
        }
        let mut before = 0;
        self.template.parts.resize_with(self.layout.values.len(), Part::default);
        for (part, (start, end, column)) in self.template.parts.iter_mut().zip(&self.layout.values)
        {
            part.set(&text.as_bytes()[before..*start], *column);
            before = *end;
        }
        self.template.tail.clear();
        self.template.tail.extend_from_slice(&text.as_bytes()[before..]);
        self.template.usable = true;
    }
}

/// Decodes one object a line.
pub(crate) struct NdJsonDecoder {
    objects: ObjectReader,
    started: bool,
}

impl NdJsonDecoder {
    pub(crate) fn new(spec: DecodeSpecRef) -> NdJsonDecoder {
        NdJsonDecoder { objects: ObjectReader::new(spec), started: false }
    }

    #[inline]
    fn line(&mut self, text: &str, number: u64) {
        match text.as_bytes().first() {
            Some(b'{') => self.objects.object(text, number),
            None => {}
            Some(_) if text.trim_ascii().is_empty() => {}
            Some(b'!') => punctuation::take_line(&mut self.objects.rows, text, number),
            Some(_) => self.objects.object(text, number),
        }
    }
}

impl Decoder for NdJsonDecoder {
    fn decode(&mut self, input: &[u8], first_line: u64) -> Decoded {
        // A decoder may serve one request after the other: line 1 starts afresh.
        self.started &= first_line != 1;
        let input = without_first_bom(input, &mut self.started);
        self.objects.rows.begin(input.len());
        let text = as_text(input);
        let bytes_max = self.objects.rows.row_bytes_max();
        let (mut at, mut number) = (0, first_line);
        while at < input.len() {
            let line = line_at(input, at);
            let raw = &input[line.start..line.end];
            if raw.len() > bytes_max {
                self.objects.rows.reject_oversize(number, raw);
            } else if let Some(text) = text {
                self.line(&text[line.start..line.end], number);
            } else {
                match std::str::from_utf8(raw) {
                    Ok(text) => self.line(text, number),
                    Err(_) => self.objects.rows.reject(number, raw, &RowError::NotUtf8),
                }
            }
            at = line.next;
            number += 1;
        }
        self.objects.rows.finish(first_line, input.len())
    }
}

/// A string's inside, for a message that quotes it anyway.
fn without_quotes(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}
