//! Reads the rows of a feed: fields in schema order or by name, with short forms for times.
//!
//! ```text
//! home  00:04  null          fields stand two or more spaces apart; missing ones at the end are null
//! at=00:04  page=home        or by name, in any order; missing ones are null
//! !punctuate {"page": "a"}   a punctuation, as JSON
//! !tick 5s                   the clock moves, and timers run
//! home  00:12                -- what follows two dashes is a comment
//! ```
//!
//! A time `mm:ss` or `hh:mm:ss` is one of 2026-01-01; `''` is the empty text. A value that does not
//! fit its column is sent as a text, so that the stream refuses it as it would refuse a client's.

use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Map, Value};

use crate::time::parse_duration;

/// The day that short times belong to.
pub(super) const DAY: &str = "2026-01-01";

/// What a line of a feed asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    /// A row or a punctuation as a line of NDJSON.
    Send(String),
    /// The clock moves by so many microseconds.
    Tick(i64),
}

/// The lines of a feed, or what is wrong with one.
pub(super) fn lines<'a>(
    text: impl Iterator<Item = &'a str>,
    schema: &Schema,
) -> Result<Vec<Line>, String> {
    text.map(without_comment)
        .filter(|text| !text.is_empty())
        .map(|text| line(text, schema))
        .collect()
}

fn without_comment(text: &str) -> &str {
    let end = text.find(" --").unwrap_or(text.len());
    let text = if text.starts_with("--") { "" } else { &text[..end] };
    text.trim()
}

fn line(text: &str, schema: &Schema) -> Result<Line, String> {
    if let Some(duration) = text.strip_prefix("!tick ") {
        return duration_of(duration).map(Line::Tick);
    }
    if let Some(json) = text.strip_prefix("!punctuate ") {
        let mut value: Value = serde_json::from_str(json)
            .map_err(|error| format!("punctuation is no JSON: {error}: {json}"))?;
        lengthen_times(&mut value);
        return Ok(Line::Send(serde_json::json!({ "$punctuate": value }).to_string()));
    }
    let fields: Vec<&str> = text
        .split("  ")
        .flat_map(|f| f.split('\t'))
        .map(str::trim)
        .filter(|f| !f.is_empty())
        .collect();
    row(&fields, schema).map(|row| Line::Send(Value::Object(row).to_string()))
}

/// A duration such as `5s` or `1 day`, in microseconds.
pub(super) fn duration_of(text: &str) -> Result<i64, String> {
    parse_duration(text).ok_or_else(|| format!("\"{text}\" is no duration"))
}

fn row(fields: &[&str], schema: &Schema) -> Result<Map<String, Value>, String> {
    let mut row = Map::new();
    let named = |field: &str| {
        let (name, value) = field.split_once('=')?;
        let field = schema.field_with_name(name.trim()).ok()?;
        Some((field.clone(), value.trim().to_string()))
    };
    if fields.iter().all(|field| named(field).is_some()) {
        for (field, text) in fields.iter().filter_map(|field| named(field)) {
            row.insert(field.name().clone(), value(&text, &field));
        }
        return Ok(row);
    }
    if fields.len() > schema.fields().len() {
        return Err(format!("{} fields for {} columns", fields.len(), schema.fields().len()));
    }
    for (text, field) in fields.iter().zip(schema.fields()) {
        row.insert(field.name().clone(), value(text, field));
    }
    Ok(row)
}

fn value(text: &str, field: &Field) -> Value {
    if text == "null" {
        return Value::Null;
    }
    match field.data_type() {
        DataType::Timestamp(..) => Value::String(long_time(text).unwrap_or_else(|| text.into())),
        DataType::Utf8View | DataType::Utf8 if !crate::data::schema::is_json(field) => {
            Value::String(if text == "''" { String::new() } else { text.into() })
        }
        _ => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.into())),
    }
}

/// `mm:ss` and `hh:mm:ss`, with a fraction or not, as a full timestamp.
fn long_time(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.split(':').collect();
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    let (last, first) = parts.split_last()?;
    let (seconds, fraction) = last.split_once('.').unwrap_or((last, "0"));
    let whole = first.iter().all(|part| digits(part)) && digits(seconds);
    if !whole || fraction.is_empty() || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match first {
        [minutes] => Some(format!("{DAY}T00:{minutes}:{last}Z")),
        [hours, minutes] => Some(format!("{DAY}T{hours}:{minutes}:{last}Z")),
        _ => None,
    }
}

/// Short times inside a punctuation, written out.
fn lengthen_times(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(long) = long_time(text) {
                *text = long;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(lengthen_times),
        Value::Object(entries) => entries.iter_mut().for_each(|(_, item)| lengthen_times(item)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::schema::TIMESTAMP;

    fn check(text: &str, expected: &str) {
        let schema = Schema::new(vec![
            Field::new("page", DataType::Utf8View, true),
            Field::new("n", DataType::Int64, true),
            Field::new("at", TIMESTAMP, true),
        ]);
        let lines = lines(text.lines(), &schema).unwrap();
        let [Line::Send(line)] = lines.as_slice() else { panic!("{lines:?}") };
        // The order of keys says nothing, and depends on how serde_json is built.
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(line), value(expected), "{text}");
    }

    #[test]
    fn fields_come_in_schema_order_or_by_name() {
        check("a b  7  01:02 -- why", r#"{"page":"a b","n":7,"at":"2026-01-01T00:01:02Z"}"#);
        check("at=13:00:00.5  page=x", r#"{"at":"2026-01-01T13:00:00.5Z","page":"x"}"#);
        check("''  null", r#"{"page":"","n":null}"#);
    }

    #[test]
    fn what_does_not_fit_is_sent_for_the_stream_to_refuse() {
        check("a  many  soon", r#"{"page":"a","n":"many","at":"soon"}"#);
    }

    #[test]
    fn punctuations_may_hold_short_times() {
        check(
            r#"!punctuate {"at": {"lt": "00:10"}}"#,
            r#"{"$punctuate":{"at":{"lt":"2026-01-01T00:00:10Z"}}}"#,
        );
    }
}
