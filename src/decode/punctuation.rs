//! Reads punctuations: `{"column": constant | [constants] | {"lt": bound, …}}`.

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::builders::{Slot, Source, Values};
use super::error::{Fault, RowError, ValueError};
use super::json_reader::Reader;
use super::rows::Rows;
use crate::data::punctuation::{Pattern, Punctuation};

/// What opens a punctuation line in formats that are not JSON.
const LINE: &str = "!punctuate";

/// The object of a line `!punctuate {…}`, `None` for any other line.
pub(crate) fn line_object(text: &str) -> Option<&str> {
    let object = text.strip_prefix(LINE)?;
    let trimmed = object.trim_ascii();
    (object.starts_with([' ', '\t']) && trimmed.starts_with('{')).then_some(trimmed)
}

/// Takes a line that starts with `!`.
pub(crate) fn take_line(rows: &mut Rows, text: &str, number: u64) {
    let parsed = match line_object(text) {
        Some(object) => parse(rows, object),
        None => Err(RowError::Json { expected: "a JSON object", at: 1 }),
    };
    match parsed {
        Ok(punctuation) => rows.punctuate(punctuation),
        Err(error) => rows.reject(number, text.as_bytes(), &error),
    }
}

/// The punctuation that an object of patterns states.
pub(crate) fn parse(rows: &mut Rows, object: &str) -> Result<Punctuation, RowError> {
    rows.clear_row();
    let mut scratch = std::mem::take(&mut rows.scratch);
    let mut entries: Vec<(String, usize, usize)> = Vec::new();
    let mut reader = Reader::new(object, 0, rows.levels());
    let read = reader.members(&mut scratch, |reader, key, scratch| {
        let name = reader.chars(&key, scratch).to_string();
        let start = reader.at;
        reader.skip(scratch)?;
        entries.retain(|(other, _, _)| *other != name);
        entries.push((name, start, reader.at));
        Ok(())
    });
    rows.scratch = scratch;
    read.map_err(|fault| rows.json_error(fault))?;
    if !reader.is_at_end() {
        return Err(RowError::Punctuation("something follows its object"));
    }
    if entries.is_empty() {
        return Err(RowError::Punctuation("it names no column"));
    }
    let mut columns = Vec::new();
    for (name, start, end) in entries {
        let Some(&column) = rows.by_name.get(&name) else {
            return Err(RowError::UnknownPunctuationColumn(name));
        };
        let pattern = pattern(rows, column, &object[start..end])?;
        columns.push((name, pattern));
    }
    Ok(Punctuation { columns })
}

fn pattern(rows: &mut Rows, column: usize, text: &str) -> Result<Pattern, RowError> {
    if !rows.columns[column].kind.is_scalar() {
        return Err(rows.columns[column].error(ValueError::Unsupported, text));
    }
    match text.as_bytes().first() {
        Some(b'[') => {
            let mut values = Vec::new();
            let mut reader = Reader::new(text, 0, rows.levels());
            let mut spans = Vec::new();
            let read = reader.items(&mut rows.scratch, |reader, scratch| {
                let start = reader.at;
                reader.skip(scratch)?;
                spans.push((start, reader.at));
                Ok(())
            });
            read.map_err(|fault| rows.json_error(fault))?;
            for (start, end) in spans {
                values.push(constant(rows, column, &text[start..end])?);
            }
            if values.is_empty() {
                return Err(RowError::Punctuation("its list of values is empty"));
            }
            Ok(Pattern::OneOf(values))
        }
        Some(b'{') => range(rows, column, text),
        _ => Ok(Pattern::OneOf(vec![constant(rows, column, text)?])),
    }
}

fn range(rows: &mut Rows, column: usize, text: &str) -> Result<Pattern, RowError> {
    const BOUNDS: RowError =
        RowError::Punctuation("a range has lt or lte, gt or gte, each at most once");
    let mut bounds: Vec<(String, usize, usize)> = Vec::new();
    let mut reader = Reader::new(text, 0, rows.levels());
    let read = reader.members(&mut rows.scratch, |reader, key, scratch| {
        let name = reader.chars(&key, scratch).to_string();
        let start = reader.at;
        reader.skip(scratch)?;
        bounds.push((name, start, reader.at));
        Ok(())
    });
    read.map_err(|fault| rows.json_error(fault))?;
    let (mut low, mut high) = (None, None);
    for (name, start, end) in bounds {
        let (bound, included) = match name.as_str() {
            "lt" => (&mut high, false),
            "lte" => (&mut high, true),
            "gt" => (&mut low, false),
            "gte" => (&mut low, true),
            _ => return Err(BOUNDS),
        };
        if bound.is_some() {
            return Err(BOUNDS);
        }
        *bound = Some((constant(rows, column, &text[start..end])?, included));
    }
    if low.is_none() && high.is_none() {
        return Err(BOUNDS);
    }
    Ok(Pattern::Range { low, high })
}

/// One value of the column's type.
fn constant(rows: &mut Rows, column: usize, text: &str) -> Result<ScalarValue, RowError> {
    let levels = rows.levels();
    let kind = &rows.columns[column].kind;
    let read = Reader::new(text, 0, levels).value(kind, &mut rows.scratch);
    let slot = read.and_then(|slot| match slot {
        Slot::Null => Err(Fault::Value(ValueError::Syntax)),
        slot => Ok(slot),
    });
    let slot = slot.map_err(|fault| rows.column_error(column, fault, text))?;
    let mut values = Values::new(&rows.columns[column].kind, 1, 64);
    values.append(slot, Source { line: text, scratch: &rows.scratch });
    let data_type: &DataType = rows.spec.schema.field(column).data_type();
    let array = values.finish(data_type);
    ScalarValue::try_from_array(&array, 0)
        .map_err(|_| rows.columns[column].error(ValueError::Unsupported, text))
}
