//! Decodes CSV by RFC 4180, with PostgreSQL's difference between nothing and the empty string.
//!
//! An unquoted empty field is null, `""` is the empty text. A quote opens quoting only at the start
//! of a field; anything between a closing quote and the next comma or line end makes the row bad.

use super::builders::Slot;
use super::error::{Fault, RowError, ValueError};
use super::json_reader::Reader;
use super::kind::Kind;
use super::punctuation;
use super::rows::{Rows, line_at, without_first_bom};
use super::{DecodeSpecRef, Decoded, Decoder};

/// Where a row ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowEnd {
    /// Without the line end.
    pub(crate) end: usize,
    /// Behind the line end.
    pub(crate) next: usize,
    /// Whether a line end closed it, and not the end of the bytes.
    pub(crate) closed: bool,
    /// Whether the bytes end inside quotes.
    pub(crate) open_quote: bool,
}

/// The end of the row that starts at `start`, `None` behind the last byte.
pub(crate) fn row_end(bytes: &[u8], start: usize) -> Option<RowEnd> {
    if start >= bytes.len() {
        return None;
    }
    let line = line_at(bytes, start);
    let raw = &bytes[line.start..line.end];
    if memchr::memchr(b'"', raw).is_none() || raw.starts_with(b"!punctuate ") {
        return Some(line_end(bytes, start));
    }
    let mut at = start;
    loop {
        if bytes.get(at) == Some(&b'"') {
            let Some(behind) = quoted_end(bytes, at) else {
                let end = bytes.len();
                return Some(RowEnd { end, next: end, closed: false, open_quote: true });
            };
            match bytes.get(behind) {
                Some(b',') => at = behind + 1,
                // A line end, the end of the bytes, or garbage up to the next line end.
                _ => return Some(line_end(bytes, behind)),
            }
            continue;
        }
        match memchr::memchr2(b',', b'\n', &bytes[at..]) {
            Some(length) if bytes[at + length] == b',' => at += length + 1,
            _ => return Some(line_end(bytes, at)),
        }
    }
}

fn line_end(bytes: &[u8], at: usize) -> RowEnd {
    let line = line_at(bytes, at);
    let closed = line.next > at && bytes[line.next - 1] == b'\n';
    RowEnd { end: line.end, next: line.next, closed, open_quote: false }
}

/// The place behind the closing quote of the field that opens at `at`.
fn quoted_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr::memchr(b'"', &bytes[at..])? + 1;
        if bytes.get(at) != Some(&b'"') {
            return Some(at);
        }
        at += 1;
    }
}

/// What is wrong with a field whose quote opens and does not end.
const NOT_CLOSED: &str = "a quoted field is not closed before the input ends";

/// A field's place in the row's text.
#[derive(Debug, Clone, Copy)]
struct FieldSpan {
    start: usize,
    end: usize,
    quoted: bool,
}

/// Takes each row's fields into columns.
pub(crate) struct CsvDecoder {
    rows: Rows,
    /// Column of each field; an error where the header cannot be used.
    columns: Result<Vec<Option<usize>>, RowError>,
    header_due: bool,
    started: bool,
    fields: Vec<FieldSpan>,
    /// The row's fields without quotes, one after the other, for rows that have quotes.
    unquoted: String,
}

impl CsvDecoder {
    pub(crate) fn new(spec: DecodeSpecRef, header: bool) -> CsvDecoder {
        let rows = Rows::new(spec);
        let columns = Ok((0..rows.columns.len()).map(Some).collect());
        CsvDecoder {
            rows,
            columns,
            header_due: header,
            started: false,
            fields: Vec::new(),
            unquoted: String::new(),
        }
    }

    fn row(&mut self, raw: &[u8], number: u64) -> Result<(), RowError> {
        let text = std::str::from_utf8(raw).map_err(|_| RowError::NotUtf8)?;
        if let Some(object) = punctuation::line_object(text) {
            let punctuation = punctuation::parse(&mut self.rows, object)?;
            self.rows.punctuate(punctuation);
            return Ok(());
        }
        let text = split_fields(text, &mut self.fields, &mut self.unquoted)?;
        let columns = self.columns.as_ref().map_err(RowError::clone)?;
        if self.fields.len() != columns.len() {
            let (found, expected) = (self.fields.len(), columns.len());
            return Err(RowError::FieldCount { found, expected });
        }
        self.rows.clear_row();
        for (field, column) in self.fields.iter().zip(columns) {
            let Some(column) = *column else { continue };
            self.rows.slots[column] = read_field(&mut self.rows, column, text, *field)?;
        }
        self.rows.check_nulls()?;
        self.rows.commit(number, text);
        Ok(())
    }
}

impl CsvDecoder {
    /// Takes the first line that is no punctuation as the header. One that cannot be used is no row
    /// itself, and makes every row bad.
    fn is_header(&mut self, raw: &[u8], open_quote: bool) -> bool {
        let limit = self.rows.row_bytes_max();
        if !self.header_due || raw.is_empty() {
            return false;
        }
        let text = std::str::from_utf8(raw).map_err(|_| RowError::NotUtf8);
        if text.as_ref().is_ok_and(|text| punctuation::line_object(text).is_some()) {
            return false;
        }
        self.header_due = false;
        self.columns = text.and_then(|text| {
            if raw.len() > limit {
                return Err(RowError::TooLong { limit });
            }
            if open_quote {
                return Err(RowError::Csv(NOT_CLOSED));
            }
            let text = split_fields(text, &mut self.fields, &mut self.unquoted)?;
            header_columns(&self.rows, text, &self.fields)
        });
        true
    }
}

/// The column of each field of the header.
fn header_columns(
    rows: &Rows,
    text: &str,
    fields: &[FieldSpan],
) -> Result<Vec<Option<usize>>, RowError> {
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let name = &text[field.start..field.end];
        let column = rows.by_name.get(name).copied();
        if column.is_none() && rows.spec.reject_unknown_fields {
            return Err(RowError::UnknownField(name.to_string()));
        }
        if column.is_some() && columns.contains(&column) {
            return Err(RowError::DuplicateColumn(name.to_string()));
        }
        columns.push(column);
    }
    Ok(columns)
}

#[inline]
fn read_field(
    rows: &mut Rows,
    column: usize,
    text: &str,
    field: FieldSpan,
) -> Result<Slot, RowError> {
    if field.start == field.end && !field.quoted {
        return Ok(Slot::Null);
    }
    let levels = rows.levels();
    let kind = &rows.columns[column].kind;
    let value = &text[field.start..field.end];
    let read = match kind {
        Kind::Text if memchr::memchr(0, value.as_bytes()).is_some() => {
            Err(Fault::Value(ValueError::Nul))
        }
        Kind::Text => Ok(Slot::Line(field.start as u32, value.len() as u32)),
        Kind::Json | Kind::List(_) | Kind::Struct(_) => {
            let mut reader = Reader::new(&text[..field.end], field.start, levels);
            reader.skip_blanks();
            reader.value(kind, &mut rows.scratch).and_then(|slot| {
                reader.skip_blanks();
                if reader.is_at_end() { Ok(slot) } else { Err(reader.fault("the end")) }
            })
        }
        _ => kind.slot_of_text(value, &mut rows.scratch).map_err(Fault::Value),
    };
    read.map_err(|fault| rows.column_error(column, fault, value))
}

/// Splits a row into fields; answers the text that their spans point into.
fn split_fields<'a>(
    row: &'a str,
    fields: &mut Vec<FieldSpan>,
    unquoted: &'a mut String,
) -> Result<&'a str, RowError> {
    fields.clear();
    let bytes = row.as_bytes();
    if memchr::memchr(b'"', bytes).is_none() {
        let mut start = 0;
        for comma in memchr::memchr_iter(b',', bytes) {
            fields.push(FieldSpan { start, end: comma, quoted: false });
            start = comma + 1;
        }
        fields.push(FieldSpan { start, end: bytes.len(), quoted: false });
        return Ok(row);
    }
    unquoted.clear();
    let mut at = 0;
    loop {
        let start = unquoted.len();
        let quoted = bytes.get(at) == Some(&b'"');
        let end = if quoted {
            let behind = quoted_end(bytes, at).ok_or(RowError::Csv(NOT_CLOSED))?;
            let mut pieces = row[at + 1..behind - 1].split("\"\"");
            unquoted.push_str(pieces.next().unwrap_or(""));
            for piece in pieces {
                unquoted.push('"');
                unquoted.push_str(piece);
            }
            behind
        } else {
            let rest = &bytes[at..];
            let end = memchr::memchr(b',', rest).map_or(bytes.len(), |length| at + length);
            if memchr::memchr(b'"', &bytes[at..end]).is_some() {
                return Err(RowError::Csv("a field that does not start with a quote holds one"));
            }
            unquoted.push_str(&row[at..end]);
            end
        };
        fields.push(FieldSpan { start, end: unquoted.len(), quoted });
        match bytes.get(end) {
            None => return Ok(unquoted),
            Some(b',') => at = end + 1,
            Some(_) => return Err(RowError::Csv("something follows a closing quote")),
        }
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, input: &[u8], first_line: u64) -> Decoded {
        let input = without_first_bom(input, &mut self.started);
        self.rows.begin(input.len());
        let bytes_max = self.rows.row_bytes_max();
        let (mut at, mut number) = (0, first_line);
        while let Some(mut row) = row_end(input, at) {
            let open_quote = row.open_quote;
            if open_quote {
                // The quote may be a slip: only its line is bad, the next lines get their chance.
                row = line_end(input, at);
            }
            let raw = &input[at..row.end];
            if self.is_header(raw, open_quote) {
                // It says what the rows are, and is none.
            } else if raw.len() > bytes_max {
                self.rows.reject_oversize(number, raw);
            } else if open_quote {
                let error = RowError::Csv(NOT_CLOSED);
                self.rows.reject(number, raw, &error);
            } else if !raw.is_empty()
                && let Err(error) = self.row(raw, number)
            {
                self.rows.reject(number, raw, &error);
            }
            number += memchr::memchr_iter(b'\n', &input[at..row.next]).count() as u64;
            at = row.next;
        }
        self.rows.finish(first_line, input.len())
    }
}
