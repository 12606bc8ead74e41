//! Compares decoders with a slow reference, and with themselves under other cuts.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;
use serde_json::Value;

use super::{CSV, decode, everything, field, show, spec};
use crate::data::schema::TIMESTAMP;
use crate::decode::split::complete_prefix;
use crate::decode::{Format, Limits, decoder};
use crate::encode;

/// The reference cannot tell.
const UNKNOWN: &str = "?";

/// What a column of [`reference_schema`] makes of a JSON value; the slow way.
fn reference_value(column: &str, value: Option<&Value>) -> Result<Value, &'static str> {
    let Some(value) = value.filter(|v| !v.is_null()) else { return Ok(Value::Null) };
    let text = match value {
        Value::String(text) => Some(text.trim_matches([' ', '\t', '\n', '\r'])),
        _ => None,
    };
    match column {
        "url" => Ok(match value {
            Value::String(text) => Value::from(text.as_str()),
            other => Value::from(other.to_string()),
        }),
        "n" => match (value, text) {
            (Value::Number(number), _) => match number.as_i64() {
                Some(n) => Ok(Value::from(n)),
                None => match number.as_f64().unwrap() {
                    // Doubles this large may have lost the digits that matter here.
                    f if f.abs() > 1e9 => Err(UNKNOWN),
                    f if f.fract() == 0.0 => Ok(Value::from(f as i64)),
                    _ => Err("22P02"),
                },
            },
            (_, Some(text)) => text.parse::<i64>().map(Value::from).map_err(|e| match e.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                    "22003"
                }
                _ => "22P02",
            }),
            _ => Err("22P02"),
        },
        "x" => match (value, text) {
            (Value::Number(number), _) => Ok(Value::from(number.as_f64().unwrap())),
            (_, Some(text)) if is_one_of(text, &["nan"]) => Ok(Value::from("NaN")),
            (_, Some(text)) if is_one_of(text, &["inf", "infinity", "+inf", "+infinity"]) => {
                Ok(Value::from("Infinity"))
            }
            (_, Some(text)) if is_one_of(text, &["-inf", "-infinity"]) => {
                Ok(Value::from("-Infinity"))
            }
            (_, Some(text)) => {
                let digit = text
                    .trim_start_matches(['-', '+'])
                    .starts_with(|c: char| c.is_ascii_digit() || c == '.');
                let parsed = text.parse::<f64>().ok().filter(|_| digit);
                parsed.map(Value::from).ok_or("22P02")
            }
            _ => Err("22P02"),
        },
        "at" => match text {
            Some(text) => chrono::DateTime::parse_from_rfc3339(text)
                .map(|at| {
                    // Chrono keeps a leap second apart; here it is the start of the next minute.
                    let leap = i64::from(at.timestamp_subsec_nanos() >= 1_000_000_000);
                    let at = chrono::DateTime::from_timestamp(at.timestamp() + leap, 0).unwrap();
                    Value::from(at.format("%Y-%m-%dT%H:%M:%SZ").to_string())
                })
                .map_err(|_| "22007"),
            None => Err("22007"),
        },
        _ => match (value, text) {
            (Value::Bool(value), _) => Ok(Value::from(*value)),
            (_, Some(text)) => match text.to_ascii_lowercase().as_str() {
                "true" | "t" | "1" | "yes" | "y" | "on" => Ok(Value::from(true)),
                "false" | "f" | "0" | "no" | "n" | "off" => Ok(Value::from(false)),
                _ => Err("22P02"),
            },
            (Value::Number(number), _) if number.as_u64() == Some(1) => Ok(Value::from(true)),
            (Value::Number(number), _) if number.as_u64() == Some(0) => Ok(Value::from(false)),
            _ => Err("22P02"),
        },
    }
}

fn is_one_of(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn reference_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("url", DataType::Utf8View, false),
        field("n", DataType::Int64),
        field("x", DataType::Float64),
        field("at", TIMESTAMP),
        field("ok", DataType::Boolean),
    ]))
}

/// A text keeps a number as the line has it; the reference has a double, which may be shown otherwise.
fn has_lost_digits(value: &Value, line: &str) -> bool {
    let shown = value.to_string();
    value.is_f64() && !line.split([',', ':', ' ', '}']).any(|written| written == shown)
}

fn reference_row(line: &str) -> Result<Value, &'static str> {
    let parsed: Value = serde_json::from_str(line).map_err(|_| "22P02")?;
    let object = parsed.as_object().ok_or("22P02")?;
    if object.get("url").is_some_and(|value| has_lost_digits(value, line)) {
        return Err(UNKNOWN);
    }
    let mut row = serde_json::Map::new();
    for column in ["url", "n", "x", "at", "ok"] {
        row.insert(column.to_string(), reference_value(column, object.get(column))?);
    }
    if row["url"].is_null() { Err("23502") } else { Ok(Value::Object(row)) }
}

/// Whether two rows are equal; the reference reads a long fraction with an error in the last bit.
fn alike(ours: &Value, reference: &Value) -> bool {
    let (Value::Object(ours), Value::Object(reference)) = (ours, reference) else { return false };
    ours.iter().zip(reference).all(|((name, a), (_, b))| match (name.as_str(), a, b) {
        ("x", Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= a.abs() * f64::EPSILON
        }
        _ => a == b,
    })
}

fn json_value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z/ \u{e9}\u{1F600}]{0,20}".prop_map(|s| serde_json::to_string(&s).unwrap()),
        1 => "[\"\\\\\n\t/a\u{7f}]{0,6}".prop_map(|s| serde_json::to_string(&s).unwrap()),
        2 => any::<i64>().prop_map(|n| n.to_string()),
        2 => (-100_000i64..100_000).prop_map(|n| format!("{}.{}5", n / 100, n.abs() % 10)),
        1 => (0i64..4_000_000_000).prop_map(|s| {
            let at = chrono::DateTime::from_timestamp(s, 0).unwrap();
            format!("\"{}\"", at.format("%Y-%m-%dT%H:%M:%SZ"))
        }),
        1 => Just("null".to_string()),
        1 => Just("true".to_string()),
        1 => Just("\"f\"".to_string()),
        // Numbers that JSON cannot write, and what is nearly one.
        1 => "[-+ ]?([nN][aA][nN]|inf|Infinity|infinit)".prop_map(|s| format!("\"{s}\"")),
        1 => Just("[1,{\"a\":[]}]".to_string()),
    ]
}

prop_compose! {
    /// One object; often with the usual keys in the usual order, so that templates are used.
    fn object()(
        keys in prop_oneof![
            4 => Just(vec!["url", "n", "x", "at", "ok"]),
            1 => proptest::sample::subsequence(vec!["url", "n", "x", "at", "ok", "other"], 0..6)
                .prop_shuffle(),
            1 => Just(vec!["url", "n", "url", "other"]),
        ],
        usual in any::<bool>(),
        blank in prop_oneof![5 => Just(""), 1 => Just(" ")],
        values in proptest::collection::vec(json_value(), 6),
        n in any::<i32>(),
        second in 0u32..60,
    ) -> String {
        let mut members = Vec::new();
        for (key, value) in keys.iter().zip(values) {
            let value = match (usual, *key) {
                (true, "url") => "\"/index.html\"".to_string(),
                (true, "n") => n.to_string(),
                (true, "x") => format!("{}.5", n / 2),
                (true, "at") => format!("\"2026-01-01T00:00:{second:02}Z\""),
                (true, "ok") => "false".to_string(),
                _ => value,
            };
            members.push(format!("\"{key}\":{blank}{value}"));
        }
        format!("{{{}}}", members.join(&format!(",{blank}")))
    }
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => object(),
        1 => (object(), any::<proptest::sample::Index>(), "[!-DF-df-y]").prop_map(|(text, at, new)| {
            let mut chars: Vec<char> = text.chars().collect();
            let at = at.index(chars.len());
            chars[at] = new.chars().next().unwrap();
            chars.into_iter().collect()
        }),
        1 => (object(), any::<proptest::sample::Index>()).prop_map(|(text, at)| {
            let cut = at.index(text.chars().count());
            text.chars().take(cut).collect()
        }),
    ]
}

proptest! {
    #[test]
    fn rows_equal_the_slow_reference(lines in proptest::collection::vec(line(), 1..20)) {
        let input = lines.join("\n");
        let mut spec = spec(reference_schema());
        spec.limits = Limits::default();
        let decoded = decoder(Format::NdJson, Arc::new(spec)).decode(input.as_bytes(), 1);
        let (mut good, mut bad) = (0, 0);
        for (i, line) in lines.iter().enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            match reference_row(line) {
                Ok(row) => {
                    prop_assert!(good < decoded.batch.num_rows(), "{line} is good");
                    prop_assert_eq!(decoded.lines.at(good), i as u64 + 1, "{}", line);
                    let mut out = Vec::new();
                    encode::json::write_row_object(&decoded.batch, good, &mut out);
                    let ours: Value = serde_json::from_slice(&out).unwrap();
                    prop_assert!(alike(&ours, &row), "{} is {} and not {}", line, ours, row);
                    good += 1;
                }
                Err(UNKNOWN) => return Err(TestCaseError::reject("beyond the reference")),
                Err(code) => {
                    prop_assert!(bad < decoded.rejected.len(), "{line} is bad");
                    let rejected = &decoded.rejected[bad];
                    prop_assert_eq!(rejected.line, i as u64 + 1);
                    prop_assert_eq!(&rejected.raw, line.as_bytes());
                    // Chrono does not tell a bad form from a day that no calendar has.
                    let ours = if rejected.code.0 == "22008" { "22007" } else { rejected.code.0 };
                    prop_assert_eq!(ours, code, "{}", line);
                    bad += 1;
                }
            }
        }
        prop_assert_eq!(good, decoded.batch.num_rows());
        prop_assert_eq!(bad, decoded.rejected.len());
    }

    #[test]
    fn the_fast_way_and_the_slow_way_agree(lines in proptest::collection::vec(line(), 1..20)) {
        let input = lines.join("\n");
        let whole = show(&decode(Format::NdJson, reference_schema(), input.as_bytes()));
        let mut alone = Vec::new();
        for (i, line) in lines.iter().enumerate() {
            let spec = Arc::new(spec(reference_schema()));
            let one = decoder(Format::NdJson, spec).decode(line.as_bytes(), i as u64 + 1);
            alone.extend(show(&one).lines().map(String::from));
        }
        let sorted = |mut lines: Vec<String>| { lines.sort(); lines };
        prop_assert_eq!(sorted(whole.lines().map(String::from).collect()), sorted(alone));
    }

    #[test]
    fn csv_written_is_csv_read(rows in proptest::collection::vec(object(), 1..10)) {
        let batch = decode(Format::NdJson, reference_schema(), rows.join("\n").as_bytes()).batch;
        let mut csv = Vec::new();
        encode::csv::write_header(&batch.schema(), &mut csv);
        encode::csv::write_rows(&batch, &mut csv);
        prop_assert_eq!(complete_prefix(CSV, &csv), csv.len());
        let back = decode(CSV, reference_schema(), &csv);
        prop_assert_eq!(&back.rejected, &vec![]);
        prop_assert_eq!(back.batch, batch);
    }

    #[test]
    fn where_csv_is_cut_between_whole_rows_does_not_matter(input in "[a,\"\n\r1]{0,40}") {
        let format = Format::Csv { header: false };
        let schema = || Arc::new(Schema::new(vec![
            field("a", DataType::Utf8View), field("b", DataType::Utf8View),
        ]));
        let whole = show(&decode(format, schema(), input.as_bytes()));
        let cut = complete_prefix(format, input.as_bytes());
        let mut pieces = decoder(format, Arc::new(spec(schema())));
        let first = pieces.decode(&input.as_bytes()[..cut], 1);
        let lines = input[..cut].matches('\n').count() as u64;
        let second = pieces.decode(&input.as_bytes()[cut..], 1 + lines);
        let mut lines: Vec<String> =
            show(&first).lines().chain(show(&second).lines()).map(String::from).collect();
        let mut expected: Vec<String> = whole.lines().map(String::from).collect();
        lines.sort();
        expected.sort();
        prop_assert_eq!(lines, expected);
    }

    #[test]
    fn no_bytes_panic(input in proptest::collection::vec(any::<u8>(), 0..200)) {
        for format in [Format::NdJson, Format::Json, CSV, Format::Text, Format::ArrowIpc] {
            let decoded = decode(format, everything(), &input);
            prop_assert!(decoded.batch.num_rows() <= input.len());
        }
    }
}
