//! Decodes JSON objects, one a line or all in one body, straight into columns.
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
//! Strings, numbers and nesting: `json_reader.rs`. Types: `kind.rs`.

use super::builders::Slot;
use super::error::{Fault, RowError};
use super::json_reader::Reader;
use super::punctuation;
use super::rows::{Rows, as_text, line_at, without_bom};
use super::{DecodeSpecRef, Decoded, Decoder};

/// The key of an object that is a punctuation and not a row.
const PUNCTUATE: &str = "$punctuate";

/// Bytes between two values, with the value's column behind them.
struct Part {
    /// The first sixteen bytes, for a comparison without a loop.
    head: u128,
    mask: u128,
    literal: Box<[u8]>,
    /// `None`: a key that the stream does not know.
    column: Option<usize>,
}

impl Part {
    fn new(literal: &[u8], column: Option<usize>) -> Part {
        let mut head = [0u8; 16];
        let mut mask = [0u8; 16];
        for (i, byte) in literal.iter().take(16).enumerate() {
            head[i] = *byte;
            mask[i] = 0xff;
        }
        Part {
            head: u128::from_le_bytes(head),
            mask: u128::from_le_bytes(mask),
            literal: literal.into(),
            column,
        }
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
    unknown: Option<String>,
    repeated: bool,
    punctuation: Option<(usize, usize)>,
}

/// Reads objects into rows; shared by both JSON formats.
struct ObjectReader {
    rows: Rows,
    template: Template,
    layout: Layout,
}

impl ObjectReader {
    fn new(spec: DecodeSpecRef) -> ObjectReader {
        ObjectReader {
            rows: Rows::new(spec),
            template: Template::default(),
            layout: Layout::default(),
        }
    }

    /// Takes one object in as a row, a punctuation or a rejected row.
    #[inline]
    fn object(&mut self, text: &str, line: u64) {
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
        if let Some(name) = self.layout.unknown.take().filter(|_| self.rejects_unknown()) {
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

    fn rejects_unknown(&self) -> bool {
        self.rows.spec.reject_unknown_fields
    }

    /// Checks the whole object and notes where its values are.
    fn survey(&mut self, text: &str) -> Result<(), Fault> {
        let Layout { values, spans, unknown, repeated, punctuation } = &mut self.layout;
        values.clear();
        spans.clear();
        spans.resize(self.rows.columns.len(), (1, 0));
        (*unknown, *repeated, *punctuation) = (None, false, None);
        let by_name = &self.rows.by_name;
        let mut reader = Reader::new(text, 0, self.rows.spec.limits.depth.min(self.rows.levels()));
        reader.skip_blanks();
        reader.members(&mut self.rows.scratch, |reader, key, scratch| {
            let key = reader.chars(&key, scratch);
            let column = by_name.get(key).copied();
            let marked = column.is_none() && key == PUNCTUATE;
            if column.is_none() && unknown.is_none() {
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
        self.template.parts.clear();
        for (start, end, column) in &self.layout.values {
            let literal = &text.as_bytes()[before..*start];
            self.template.parts.push(Part::new(literal, *column));
            before = *end;
        }
        self.template.tail = text.as_bytes()[before..].to_vec();
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
        let fresh = !std::mem::replace(&mut self.started, true) || first_line == 1;
        let input = if fresh { without_bom(input) } else { input };
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

/// Decodes a body that is one object or an array of objects; a row's line is its place in the array.
pub(crate) struct JsonDecoder {
    objects: ObjectReader,
}

impl JsonDecoder {
    pub(crate) fn new(spec: DecodeSpecRef) -> JsonDecoder {
        JsonDecoder { objects: ObjectReader::new(spec) }
    }

    fn body(&mut self, body: &str, first_line: u64) {
        let bytes = body.as_bytes();
        let start = skip_blanks(bytes, 0);
        let (end, number) = match bytes.get(start) {
            None => return,
            Some(b'[') => match self.elements(body, start + 1, first_line) {
                Some(done) => done,
                None => return,
            },
            Some(_) => {
                let end = value_end(bytes, start);
                self.element(&body[start..end], first_line);
                (end, first_line + 1)
            }
        };
        let behind = skip_blanks(bytes, end);
        if behind < bytes.len() {
            self.reject_rest(body, behind, number, "the end of the body");
        }
    }

    /// Reads the elements of an array from `at` on. The place behind its bracket and the number of
    /// the next row, or `None` where the array broke off.
    fn elements(&mut self, body: &str, at: usize, first_line: u64) -> Option<(usize, u64)> {
        let bytes = body.as_bytes();
        let (mut at, mut number) = (skip_blanks(bytes, at), first_line);
        if bytes.get(at) == Some(&b']') {
            return Some((at + 1, number));
        }
        loop {
            let end = value_end(bytes, at);
            if end == at {
                self.reject_rest(body, at, number, "a JSON object");
                return None;
            }
            let good = self.element(&body[at..end], number);
            number += 1;
            at = skip_blanks(bytes, end);
            match bytes.get(at) {
                Some(b',') => at = skip_blanks(bytes, at + 1),
                Some(b']') => return Some((at + 1, number)),
                // A body cut inside an element is one bad row, not two.
                None if !good => return None,
                _ => {
                    self.reject_rest(body, at, number, "a comma or a closing bracket");
                    return None;
                }
            }
        }
    }

    /// Notes that nothing from `at` on can be told apart into rows.
    fn reject_rest(&mut self, body: &str, at: usize, number: u64, expected: &'static str) {
        let rows = &mut self.objects.rows;
        let kept = body.len().min(at + rows.row_bytes_max());
        let error = RowError::Json { expected, at: at + 1 };
        rows.reject(number, &body.as_bytes()[at..kept], &error);
    }

    /// Takes one element in; whether it was good.
    fn element(&mut self, text: &str, number: u64) -> bool {
        let before = self.objects.rows.rejected_count();
        if text.len() > self.objects.rows.row_bytes_max() {
            self.objects.rows.reject_oversize(number, text.as_bytes());
        } else {
            self.objects.object(text, number);
        }
        self.objects.rows.rejected_count() == before
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, input: &[u8], first_line: u64) -> Decoded {
        let input = without_bom(input);
        self.objects.rows.begin(input.len());
        match as_text(input) {
            Some(body) => self.body(body, first_line),
            None => {
                let kept = input.len().min(self.objects.rows.row_bytes_max());
                self.objects.rows.reject(first_line, &input[..kept], &RowError::NotUtf8);
            }
        }
        self.objects.rows.finish(first_line, input.len())
    }
}

/// A string's inside, for a message that quotes it anyway.
fn without_quotes(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

fn skip_blanks(bytes: &[u8], at: usize) -> usize {
    let blank = |b: &&u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
    at + bytes[at..].iter().take_while(blank).count()
}

/// Where the value at `at` ends by its brackets and quotes alone, without recursion: an element that
/// is wrong inside must not hide the ones behind it.
fn value_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut i) = (0usize, at);
    while i < bytes.len() {
        match bytes[i] {
            b'"' => i = string_end(bytes, i),
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' if depth == 0 => return i,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return i + 1;
                }
            }
            b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return i,
            _ => {}
        }
        i += 1;
    }
    bytes.len()
}

/// The place of the closing quote of the string that opens at `at`, or the last byte.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[i.min(bytes.len())..]) {
        if bytes[i + found] == b'"' {
            return i + found;
        }
        i += found + 2;
    }
    bytes.len() - 1
}
