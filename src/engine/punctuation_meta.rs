//! Writes a punctuation into the meta of its frame, and reads it again.
//!
//! JSON: column to `{"in": [text, …]}` or `{"gt" or "gte": text, "lt" or "lte": text}`. Texts of values:
//!
//! | type | text |
//! |---|---|
//! | TIMESTAMP, TIMESTAMPTZ, TIME | the number that Arrow stores: microseconds |
//! | BYTEA | hexadecimal digits |
//! | INTERVAL | months, days and nanoseconds, a space between each |
//! | others | as Arrow casts it to text, and back |
//!
//! What cannot be read is no promise at all: half of one would forbid rows that nobody promised away.

use arrow::array::types::IntervalMonthDayNano;
use arrow::datatypes::{DataType, IntervalUnit, SchemaRef};
use datafusion::scalar::ScalarValue;
use serde_json::{Map, Value, json};

use crate::data::bytes_text::parse_hex;
use crate::data::punctuation::{Pattern, Punctuation};

/// A punctuation as bytes of a frame's meta.
pub(super) fn punctuation_bytes(punctuation: &Punctuation) -> Vec<u8> {
    let mut object = Map::new();
    for (name, pattern) in &punctuation.columns {
        let value = match pattern {
            Pattern::OneOf(values) => json!({ "in": values.iter().map(text).collect::<Vec<_>>() }),
            Pattern::Range { low, high } => {
                let mut range = Map::new();
                if let Some((bound, included)) = low {
                    range.insert(if *included { "gte" } else { "gt" }.into(), text(bound).into());
                }
                if let Some((bound, included)) = high {
                    range.insert(if *included { "lte" } else { "lt" }.into(), text(bound).into());
                }
                Value::Object(range)
            }
        };
        object.insert(name.clone(), value);
    }
    Value::Object(object).to_string().into_bytes()
}

/// Reads what [`punctuation_bytes`] wrote, with the types of the relation's columns.
pub(super) fn read_punctuation(schema: &SchemaRef, bytes: &[u8]) -> Option<Punctuation> {
    let object: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    let mut columns = Vec::new();
    for (name, value) in &object {
        let data_type = schema.field_with_name(name).ok()?.data_type();
        columns.push((name.clone(), pattern(value, data_type)?));
    }
    Some(Punctuation { columns })
}

fn pattern(value: &Value, data_type: &DataType) -> Option<Pattern> {
    let read = |value: &Value| scalar(value.as_str()?, data_type);
    if let Some(list) = value.get("in") {
        return Some(Pattern::OneOf(list.as_array()?.iter().map(read).collect::<Option<_>>()?));
    }
    let (mut low, mut high) = (None, None);
    for (operator, value) in value.as_object()? {
        let (bound, included) = match operator.as_str() {
            "gte" => (&mut low, true),
            "gt" => (&mut low, false),
            "lte" => (&mut high, true),
            "lt" => (&mut high, false),
            _ => return None,
        };
        *bound = Some((read(value)?, included));
    }
    (low.is_some() || high.is_some()).then_some(Pattern::Range { low, high })
}

/// A value as text.
fn text(value: &ScalarValue) -> String {
    match value {
        ScalarValue::Binary(Some(bytes)) | ScalarValue::BinaryView(Some(bytes)) => {
            bytes.iter().map(|byte| format!("{byte:02X}")).collect()
        }
        ScalarValue::TimestampMicrosecond(Some(micros), _)
        | ScalarValue::Time64Microsecond(Some(micros)) => micros.to_string(),
        ScalarValue::IntervalMonthDayNano(Some(interval)) => {
            format!("{} {} {}", interval.months, interval.days, interval.nanoseconds)
        }
        value => value.to_string(),
    }
}

/// The value that a text stands for.
fn scalar(text: &str, data_type: &DataType) -> Option<ScalarValue> {
    match data_type {
        DataType::Timestamp(..) | DataType::Time64(_) => {
            ScalarValue::Int64(Some(text.parse().ok()?)).cast_to(data_type).ok()
        }
        DataType::Binary | DataType::BinaryView => {
            let mut bytes = Vec::with_capacity(text.len() / 2);
            parse_hex(&format!("\\x{text}"), &mut bytes)?;
            ScalarValue::Binary(Some(bytes)).cast_to(data_type).ok()
        }
        DataType::Interval(IntervalUnit::MonthDayNano) => {
            let [months, days, nanoseconds] = text.split(' ').collect::<Vec<_>>()[..] else {
                return None;
            };
            let (months, days) = (months.parse().ok()?, days.parse().ok()?);
            let interval = IntervalMonthDayNano::new(months, days, nanoseconds.parse().ok()?);
            Some(ScalarValue::IntervalMonthDayNano(Some(interval)))
        }
        data_type => ScalarValue::from(text).cast_to(data_type).ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema, TimeUnit};

    use super::*;

    fn comes_back(value: ScalarValue) {
        let field = Field::new("c", value.data_type(), true);
        let schema: SchemaRef = Arc::new(Schema::new(vec![field]));
        let bound = |included| Some((value.clone(), included));
        let range = |low, high| Pattern::Range { low, high };
        for pattern in [
            Pattern::OneOf(vec![value.clone(), value.clone()]),
            range(None, bound(false)),
            range(None, bound(true)),
            range(bound(false), None),
            range(bound(true), bound(false)),
        ] {
            let punctuation = Punctuation { columns: vec![("c".into(), pattern)] };
            let read = read_punctuation(&schema, &punctuation_bytes(&punctuation));
            assert_eq!(read, Some(punctuation), "{:?}", value.data_type());
        }
    }

    #[test]
    fn a_promise_about_a_column_of_any_type_comes_back_as_it_was() {
        let micros = [i64::MIN, -1, 0, 1_767_225_600_000_000, i64::MAX];
        for micros in micros {
            comes_back(ScalarValue::TimestampMicrosecond(Some(micros), None));
            comes_back(ScalarValue::TimestampMicrosecond(Some(micros), Some("+00:00".into())));
            comes_back(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())));
            comes_back(ScalarValue::Int64(Some(micros)));
        }
        comes_back(ScalarValue::Time64Microsecond(Some(86_399_999_999)));
        comes_back(ScalarValue::Date32(Some(-1)));
        comes_back(ScalarValue::Date32(Some(2_932_896)));
        for text in ["", "a b", "'\"\\", "ü", "null", "12"] {
            comes_back(ScalarValue::Utf8View(Some(text.into())));
        }
        for length in [0, 1, 10, 11, 300] {
            comes_back(ScalarValue::BinaryView(Some((0..length).map(|n| n as u8).collect())));
            comes_back(ScalarValue::Binary(Some((0..length).map(|n| n as u8).collect())));
        }
        let interval = IntervalMonthDayNano::new(-14, 3, -5_500_000_000);
        comes_back(ScalarValue::IntervalMonthDayNano(Some(interval)));
        for decimal in [-12_345, 0, 99_999_999_999_999_999_999_999_999_999_999_999_999] {
            comes_back(ScalarValue::Decimal128(Some(decimal), 38, 4));
        }
        for float in [0.1, -1.5e300, f64::NAN, f64::INFINITY, 5e-324] {
            comes_back(ScalarValue::Float64(Some(float)));
            comes_back(ScalarValue::Float32(Some(float as f32)));
        }
        comes_back(ScalarValue::Int16(Some(i16::MIN)));
        comes_back(ScalarValue::Int32(Some(i32::MAX)));
        comes_back(ScalarValue::Boolean(Some(false)));
    }

    #[test]
    fn half_a_promise_is_none() {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("at", time, true)]));
        for meta in [r#"{"at":{"lt":"soon"}}"#, r#"{"at":{}}"#, r#"{"at":{"in":["1","x"]}}"#, "{"] {
            assert_eq!(read_punctuation(&schema, meta.as_bytes()), None, "{meta}");
        }
    }
}
