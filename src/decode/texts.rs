//! Reads a column whose values came one by one as texts, of CSV or of JSON, as a column of its type.
//!
//! For values that come in columns of another type: SQL's INSERT, and Arrow IPC.

use arrow::array::ArrayRef;
use arrow::datatypes::Field;

use super::builders::{Scratch, Slot, Source, Values};
use super::error::{Fault, RowError, ValueError};
use super::json_access::LEVELS;
use super::json_reader::Reader;
use super::kind::{Kind, Member};
use super::values;
use crate::data::schema;
use crate::encode::json;
use crate::error::{Report, SqlState};

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// What SQL quotes: nested values are JSON, bytes PostgreSQL's forms.
    Sql,
    /// A JSON value.
    Json,
}

/// A value that does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Why, as a code.
    pub(crate) code: SqlState,
    /// Why, in words; names the column.
    pub(crate) message: String,
}

/// The texts as values of a field, as SQL's quotes hold them.
///
/// # Errors
/// What is wrong with the first value that does not fit.
pub(crate) fn column_of_texts(field: &Field, texts: &[Option<String>]) -> Result<ArrayRef, Misfit> {
    let mut first = None;
    let member = Member::of(field);
    let values = texts.iter().map(Option::as_deref);
    let array = column(&member, field, Form::Sql, values, |_, error| {
        first.get_or_insert(error);
    });
    match first {
        Some(error) => Err(misfit(&error)),
        None => Ok(array),
    }
}

/// What a text column forbids: NUL, and in a JSON column what is no document.
///
/// # Errors
/// What is wrong with the first such text.
pub(crate) fn check_texts<'a>(
    field: &Field,
    texts: impl Iterator<Item = Option<&'a str>>,
) -> Result<(), Misfit> {
    let wrong = texts.flatten().find_map(|text| Some((text_error(text, field)?, text)));
    match wrong {
        Some((error, text)) => Err(misfit(&Member::of(field).error(error, text))),
        None => Ok(()),
    }
}

/// A number as it is written, rounded to what a column of numbers holds; its own text again for
/// every other column.
///
/// # Errors
/// 22003 for one that the column cannot hold.
pub(crate) fn number_for(field: &Field, text: &str) -> Result<String, Misfit> {
    let member = Member::of(field);
    let read = match &member.kind {
        Kind::Int { min, max } => values::parse_decimal(text, 38, 0).and_then(|value| {
            let fits = i128::from(*min) <= value && value <= i128::from(*max);
            if fits { Ok(value.to_string()) } else { Err(ValueError::Range) }
        }),
        Kind::Decimal { precision, scale } => {
            values::parse_decimal(text, *precision, *scale).map(|value| {
                let mut out = Vec::new();
                crate::encode::cell::write_decimal(value, *scale, &mut out);
                String::from_utf8(out).expect("digits are UTF-8")
            })
        }
        Kind::Float64 => values::parse_f64(text).map(|_| text.to_string()),
        Kind::Float32 => values::parse_f32(text).map(|_| text.to_string()),
        _ => Ok(text.to_string()),
    };
    read.map_err(|error| misfit(&member.error(error, text)))
}

/// What is wrong with a text in a column of texts.
pub(crate) fn text_error(text: &str, field: &Field) -> Option<ValueError> {
    if memchr::memchr(0, text.as_bytes()).is_some() {
        return Some(ValueError::Nul);
    }
    let valid = !schema::is_json(field) || json::is_document(text);
    (!valid).then_some(ValueError::Syntax)
}

/// The texts as values of a member; what does not fit becomes null and is told with its row.
pub(crate) fn column<'a>(
    member: &Member,
    field: &Field,
    form: Form,
    texts: impl ExactSizeIterator<Item = Option<&'a str>>,
    mut wrong: impl FnMut(usize, RowError),
) -> ArrayRef {
    let mut scratch = Scratch::default();
    let mut values = Values::new(&member.kind, texts.len(), 8 << 10);
    for (row, text) in texts.enumerate() {
        scratch.clear();
        let slot = match text {
            None => Ok(Slot::Null),
            Some(text) => slot(&member.kind, text, form, &mut scratch),
        };
        let slot = slot.unwrap_or_else(|fault| {
            wrong(row, row_error(member, fault, text.unwrap_or_default(), form));
            Slot::Null
        });
        values.append(slot, Source { line: text.unwrap_or_default(), scratch: &scratch });
    }
    values.finish(field.data_type())
}

fn slot(kind: &Kind, text: &str, form: Form, scratch: &mut Scratch) -> Result<Slot, Fault> {
    let nested = matches!(kind, Kind::Json | Kind::List(_) | Kind::Struct(_));
    if form == Form::Json || nested {
        let mut reader = Reader::new(text, 0, LEVELS);
        reader.skip_blanks();
        let slot = reader.value(kind, scratch)?;
        reader.skip_blanks();
        return if reader.is_at_end() { Ok(slot) } else { Err(reader.fault("the end")) };
    }
    match kind {
        Kind::Text if memchr::memchr(0, text.as_bytes()).is_some() => Err(ValueError::Nul.into()),
        Kind::Text => Ok(Slot::Line(0, text.len() as u32)),
        Kind::Bytes => {
            values::parse_bytea(text, &mut scratch.bytes)?;
            Ok(Slot::Bytes(0, scratch.bytes.len() as u32))
        }
        _ => Ok(kind.slot_of_text(text, scratch)?),
    }
}

fn row_error(member: &Member, fault: Fault, text: &str, form: Form) -> RowError {
    let bare = || text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let shown = if form == Form::Json { bare().unwrap_or(text) } else { text };
    match fault {
        Fault::Value(error) => member.error(error, shown),
        Fault::Json(..) => member.error(ValueError::Syntax, shown),
        Fault::Deep => RowError::TooDeep { limit: LEVELS },
    }
}

fn misfit(error: &RowError) -> Misfit {
    Misfit { code: error.code(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::datatypes::DataType;

    use super::*;

    fn check(data_type: DataType, text: &str, expected: Result<&str, &str>) {
        let field = Field::new("n", data_type, true);
        let found = column_of_texts(&field, &[Some(text.to_string()), None]);
        let found = found.map(|array| {
            assert!(array.is_null(1));
            crate::encode::text::display(&array, 0, &field)
        });
        assert_eq!(
            found.as_deref().map_err(|misfit| misfit.code.0),
            expected,
            "{text} as {}",
            field.data_type()
        );
    }

    #[test]
    fn texts_become_values_of_their_column_or_say_why_not() {
        check(DataType::Decimal128(20, 2), "12345678901234567.895", Ok("12345678901234567.90"));
        check(DataType::Int32, "1.5", Err("22P02"));
        check(DataType::Int16, "40000", Err("22003"));
        check(DataType::Float32, "1e39", Err("22003"));
        check(DataType::Binary, "\\x00fF", Ok("\\x00ff"));
        check(DataType::Binary, "a\\\\\\001", Ok("\\x615c01"));
        check(DataType::Binary, "\\x0", Err("22P02"));
        check(DataType::Binary, "\\9", Err("22P02"));
        check(DataType::Utf8View, "a\0b", Err("22P02"));
        check(schema::TIMESTAMP, "soon", Err("22007"));
    }

    #[test]
    fn numbers_are_rounded_as_their_column_asks() {
        let number = |data_type, text: &str| {
            number_for(&Field::new("n", data_type, true), text).map_err(|misfit| misfit.code.0)
        };
        assert_eq!(number(DataType::Int64, "1.5"), Ok("2".into()));
        assert_eq!(number(DataType::Int64, "2.5"), Ok("3".into()));
        assert_eq!(number(DataType::Int16, "32767.5"), Err("22003"));
        assert_eq!(number(DataType::Decimal128(5, 2), "1.005"), Ok("1.01".into()));
        assert_eq!(number(DataType::Decimal128(5, 2), "1e3"), Err("22003"));
        assert_eq!(number(DataType::Float32, "1e39"), Err("22003"));
        assert_eq!(number(DataType::Float64, "1e400"), Err("22003"));
        assert_eq!(number(DataType::Boolean, "1.50"), Ok("1.50".into()));
    }
}
