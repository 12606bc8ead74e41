//! Tests of the decoders through their door, against expectations and against a slow reference.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::Value;

use super::split::complete_prefix;
use super::{DecodeSpec, Decoded, Format, Limits, decoder};
use crate::data::schema::{JSON_MARK, TIMESTAMP};
use crate::encode;

const CSV: Format = Format::Csv { header: true };

fn field(name: &str, data_type: DataType) -> Field {
    Field::new(name, data_type, true)
}

fn clicks() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("url", DataType::Utf8View, false),
        field("n", DataType::Int32),
        field("at", TIMESTAMP),
    ]))
}

fn everything() -> SchemaRef {
    let item = Arc::new(field("item", DataType::Int64));
    let parts = Fields::from(vec![field("x", DataType::Float64), field("s", DataType::Utf8View)]);
    let zone = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let document = field("doc", DataType::Utf8View)
        .with_metadata([(JSON_MARK.to_string(), String::new())].into());
    Arc::new(Schema::new(vec![
        field("t", DataType::Utf8View),
        field("b", DataType::Boolean),
        field("i16", DataType::Int16),
        field("i64", DataType::Int64),
        field("f32", DataType::Float32),
        field("f64", DataType::Float64),
        field("num", DataType::Decimal128(10, 2)),
        field("day", DataType::Date32),
        field("ts", TIMESTAMP),
        field("tz", zone),
        field("iv", DataType::Interval(IntervalUnit::MonthDayNano)),
        field("bin", DataType::Binary),
        document,
        field("list", DataType::List(item)),
        field("rec", DataType::Struct(parts)),
    ]))
}

fn spec(schema: SchemaRef) -> DecodeSpec {
    let limits = Limits { row_bytes: 200, depth: 4 };
    DecodeSpec { schema, reject_unknown_fields: false, limits }
}

fn decode(format: Format, schema: SchemaRef, input: &[u8]) -> Decoded {
    decoder(format, Arc::new(spec(schema))).decode(input, 1)
}

/// Good rows with their lines, then bad rows, then punctuations.
fn show(decoded: &Decoded) -> String {
    let mut out = Vec::new();
    for row in 0..decoded.batch.num_rows() {
        out.extend_from_slice(format!("{}: ", decoded.lines.at(row)).as_bytes());
        encode::json::write_row_object(&decoded.batch, row, &mut out);
        out.push(b'\n');
    }
    for bad in &decoded.rejected {
        let raw = String::from_utf8_lossy(&bad.raw);
        let line = format!("{}! {} {} <{raw}>\n", bad.line, bad.code, bad.message);
        out.extend_from_slice(line.as_bytes());
    }
    for (rows, punctuation) in &decoded.punctuations {
        out.extend_from_slice(format!("after {rows}: {:?}\n", punctuation.columns).as_bytes());
    }
    String::from_utf8(out).unwrap()
}

fn check(format: Format, schema: SchemaRef, input: &str, expected: Expect) {
    expected.assert_eq(&show(&decode(format, schema, input.as_bytes())));
}

#[test]
fn good_rows_are_kept_beside_bad_ones() {
    let input = concat!(
        "\u{feff}{\"url\":\"/a\",\"n\":1,\"at\":\"2026-01-01T00:00:00Z\"}\r\n",
        "\n",
        "{\"url\":\"/b\",\"n\":99999999999}\n",
        "{\"n\":3}\n",
        "{\"url\":null,\"n\":3}\n",
        "not json\n",
        "{\"url\":\"/c\",\"n\":\"12\",\"at\":1767225600}\n",
        "{\"url\":\"/d\",\"n\":\"twelve\"}\n",
        "{\"url\":7.50,\"n\":\"12\",\"at\":\"2026-13-01\"}\n",
        "{\"url\":7.50,\"n\":\"12\",\"at\":\"2026-01-01 01:00:00+01\"}\n",
        "{\"url\":true,\"n\":1.0,\"x\":[{}]} \n",
        "[1]\n",
        "{\"url\":\"/e\"} x\n",
        "{\"url\":\"/f\"}",
    );
    check(Format::NdJson, clicks(), input, expect![[""]]);
}

#[test]
fn strings_are_unescaped_and_refuse_what_postgres_refuses() {
    let input = concat!(
        "{\"url\":\"a\\u00e9\\n\\\"\\/\\ud83d\\ude00\"}\n",
        "{\"url\":\"\\ud83d\"}\n",
        "{\"url\":\"\\ude00\"}\n",
        "{\"url\":\"\\u0000\"}\n",
        "{\"url\":\"\\x\"}\n",
        "{\"url\":\"tab\there\"}\n",
        "{\"u\\u0072l\":\"escaped key\"}\n",
        "{\"URL\":\"other case\"}\n",
        "{\"url\":\"first\",\"url\":\"last\"}\n",
        "{\"url\":\"first\",\"url\":\"again\"}\n",
        "{\"n\":\"bad\",\"url\":\"x\",\"n\":5}\n",
        "{\"url\":\"open\n",
    );
    check(Format::NdJson, clicks(), input, expect![[""]]);
}

#[test]
fn every_type_is_read_from_json() {
    let input = concat!(
        r#"{"t":"x","b":true,"i16":-32768,"i64":9223372036854775807,"f32":1.5,"f64":1e300,"num":1.005,"#,
        r#""day":"2026-01-01","ts":"2026-01-01 00:00:00.5","tz":"2026-01-01T00:00:00+02:00"}"#,
        "\n",
        r#"{"iv":"1 day 02:00:00","bin":"AQI=","doc":{"a":[1,null]},"list":[1,null,"3"],"rec":{"s":"y","x":1}}"#,
        "\n",
        r#"{"t":{"a":1},"b":"f","f64":"NaN","num":"-12.5","bin":"\\xff","doc":"text","list":[],"rec":{}}"#,
        "\n",
        r#"{"doc":null,"list":null,"rec":null,"b":0,"f64":-0.0,"i64":-0,"f32":"-inf"}"#,
        "\n",
        "{\"num\":123456789.005}\n{\"f64\":1e999}\n{\"i16\":1.5}\n{\"b\":\"maybe\"}\n",
        "{\"list\":[1,\"x\"]}\n{\"rec\":[1]}\n{\"bin\":\"*\"}\n{\"list\":7}\n{\"f64\":NaN}\n",
        "{\"i64\":01}\n{\"i64\":+1}\n{\"i64\":[[[[1]]]]}\n{\"doc\":[[[[1]]]]}\n{\"iv\":\"soon\"}\n",
        "{\"rec\":{\"x\":\"bad\",\"x\":2}}\n{\"rec\":{\"x\":\"bad\"},\"list\":[5]}\n{\"list\":[5]}\n",
    );
    check(Format::NdJson, everything(), input, expect![[""]]);
}

#[test]
fn a_long_line_is_refused_without_being_kept() {
    let long = format!("{{\"url\":\"{}\"}}\n{{\"url\":\"ok\"}}\n", "x".repeat(5000));
    let decoded = decode(Format::NdJson, clicks(), long.as_bytes());
    assert_eq!(decoded.rejected[0].code.0, "54000");
    assert_eq!(decoded.rejected[0].raw.len(), 1024);
    assert_eq!((decoded.batch.num_rows(), decoded.lines.at(0)), (1, 2));
}

#[test]
fn deep_nesting_is_refused_and_does_not_overflow_the_stack() {
    let mut spec = spec(clicks());
    spec.limits = Limits { row_bytes: 1 << 20, depth: usize::MAX };
    let deep = format!("{{\"x\":{}\n", "[".repeat(500_000));
    for format in [Format::NdJson, Format::Json] {
        let decoded = decoder(format, Arc::new(spec.clone())).decode(deep.as_bytes(), 1);
        assert_eq!(decoded.rejected[0].code.0, "54000");
    }
}

#[test]
fn bytes_that_are_not_utf8_make_only_their_row_bad() {
    let input = b"{\"url\":\"/a\"}\n{\"url\":\"\xff\"}\n{\"url\":\"/b\"}\n";
    expect![[""]].assert_eq(&show(&decode(Format::NdJson, clicks(), input)));
}

#[test]
fn unknown_fields_are_refused_if_asked() {
    let mut spec = spec(clicks());
    spec.reject_unknown_fields = true;
    let spec = Arc::new(spec);
    let json = b"{\"url\":\"/a\"}\n{\"url\":\"/a\",\"x\":1}\n{\"url\":\"/b\"}\n";
    let csv = b"url,x\n/a,1\n";
    let mut out = show(&decoder(Format::NdJson, Arc::clone(&spec)).decode(json, 1));
    out.push_str(&show(&decoder(CSV, spec).decode(csv, 1)));
    expect![[""]].assert_eq(&out);
}

#[test]
fn punctuations_take_their_place_between_rows() {
    let input = concat!(
        "{\"url\":\"/a\"}\n",
        "{\"$punctuate\": {\"n\": 17}}\n",
        "{\"url\":\"/a\"}\n",
        "{\"$punctuate\": {\"at\": {\"lt\": \"2026-01-01T00:00:00Z\"}, \"n\": [1, \"2\"]}}\n",
        "!punctuate {\"n\": {\"gte\": 1, \"lte\": 3}}\n",
        "{\"$punctuate\": {\"nope\": 1}}\n",
        "{\"$punctuate\": {\"n\": {\"near\": 1}}}\n",
        "{\"$punctuate\": {\"n\": null}}\n",
        "{\"$punctuate\": {\"n\": []}}\n",
        "{\"$punctuate\": {}}\n",
        "{\"$punctuate\": 5}\n",
        "!punctuate\n",
        "{\"$punctuate\": {\"n\": 1}, \"url\": \"a field\"}\n",
    );
    check(Format::NdJson, clicks(), input, expect![[""]]);
    let lines = "/a,1,\n!punctuate {\"n\": 1, \"url\": \"x\"}\n";
    check(Format::Csv { header: false }, clicks(), lines, expect![[""]]);
    check(Format::Text, clicks(), "x\n!punctuate {\"url\":\"x\"}\n!x\n", expect![[""]]);
}

#[test]
fn a_json_body_is_an_object_or_an_array() {
    check(Format::Json, clicks(), " {\n \"url\": \"/a\",\n \"n\": 1 }\n", expect![[""]]);
    let array = r#"[ {"url":"/a"}, {"url":1,}, 5, {"url":"/b"} , {"n":1}]"#;
    check(Format::Json, clicks(), array, expect![[""]]);
    check(Format::Json, clicks(), "[]", expect![[""]]);
    check(Format::Json, clicks(), "", expect![[""]]);
    check(Format::Json, clicks(), "[{\"url\":\"/a\"}", expect![[""]]);
    check(Format::Json, clicks(), "[{\"url\":\"/a\"},", expect![[""]]);
    check(Format::Json, clicks(), "{\"url\":\"/a\"} {\"url\":\"/b\"}", expect![[""]]);
    check(Format::Json, clicks(), "[{\"url\":\"/a", expect![[""]]);
}

#[test]
fn csv_tells_nothing_from_the_empty_text() {
    let input = concat!(
        "\u{feff}n,url,other,at\r\n",
        "1,/a,x,2026-01-01\r\n",
        ",\"\",,\r\n",
        "2,,,\r\n",
        "3,\"line\nbreak, \"\"quoted\"\"\",,\r\n",
        "\r\n",
        "4,/b,,\r\n",
        "5,/c\r\n",
        "6,/d,,,\r\n",
        "seven,/e,,\r\n",
        " 8 ,/f,,1767225600\r\n",
        "9,a\"b,,\r\n",
        "10,\"a\"b,,\r\n",
        "11, spaces ,,\r\n",
        "12,\"open,,\r\n",
        "13,/g,,\r\n",
    );
    check(CSV, clicks(), input, expect![[""]]);
}

#[test]
fn csv_headers_must_name_columns_once() {
    check(CSV, clicks(), "url,url\n/a,/b\n", expect![[""]]);
    check(CSV, clicks(), "\"url\"\n\"/a\"\n", expect![[""]]);
}

#[test]
fn csv_reads_every_type() {
    let input = concat!(
        "x,t,1,2,NaN,-Infinity,0.125,1970-01-01,1970-01-01 00:00:01,1970-01-01T00:00:00Z,1 day,",
        "\\x00ff,\"{\"\"a\"\": 1}\",\"[1,2]\",\"{\"\"x\"\":1}\"\n",
        ",maybe,,,,,,,,,,,,,\n,,,,,,,,,,,,{,,\n,,,,,,,,,,,,,[1 2],\n",
    );
    check(Format::Csv { header: false }, everything(), input, expect![[""]]);
}

#[test]
fn text_lines_go_to_the_first_text_column() {
    let schema =
        Arc::new(Schema::new(vec![field("n", DataType::Int64), field("line", DataType::Utf8View)]));
    check(Format::Text, schema, "a,b\r\n\n  \"c\"\nnul\0\n", expect![[""]]);
    let number = Arc::new(Schema::new(vec![field("n", DataType::Int64)]));
    check(Format::Text, number, "1\nx\n", expect![[""]]);
}

#[test]
fn arrow_columns_are_matched_by_name_and_cast() {
    use arrow::array::{Int64Array, RecordBatch, StringArray};
    let sent = Arc::new(Schema::new(vec![
        field("n", DataType::Int64),
        field("x", DataType::Int64),
        field("url", DataType::Utf8),
        field("at", DataType::Utf8),
    ]));
    let batch = RecordBatch::try_new(
        Arc::clone(&sent),
        vec![
            Arc::new(Int64Array::from(vec![Some(1), Some(1 << 40), None, Some(4)])),
            Arc::new(Int64Array::from(vec![0; 4])),
            Arc::new(StringArray::from(vec![Some("/a"), Some("/b"), None, Some("/d")])),
            Arc::new(StringArray::from(vec![Some("2026-01-01T00:00:00"), None, None, Some("x")])),
        ],
    )
    .unwrap();
    let bytes = encode::arrow_ipc::stream_bytes(&sent, &[batch]).unwrap();
    let decoded = decode(Format::ArrowIpc, clicks(), &bytes);
    expect![[""]].assert_eq(&show(&decoded));
    for cut in 0..bytes.len() - 8 {
        let decoded = decode(Format::ArrowIpc, clicks(), &bytes[..cut]);
        assert!(decoded.batch.num_rows() <= 1, "{cut}");
        assert!(!decoded.rejected.is_empty(), "{cut}");
    }
    let garbage = decode(Format::ArrowIpc, clicks(), b"hello, world, this is not arrow");
    assert_eq!((garbage.rejected[0].line, garbage.rejected[0].code.0), (1, "22P02"));
}

#[test]
fn an_arrow_stream_with_any_flipped_byte_does_not_panic() {
    use arrow::array::{RecordBatch, StringArray};
    let sent = Arc::new(Schema::new(vec![field("url", DataType::Utf8)]));
    let urls = Arc::new(StringArray::from(vec!["/a", "/b"]));
    let batch = RecordBatch::try_new(Arc::clone(&sent), vec![urls]).unwrap();
    let bytes = encode::arrow_ipc::stream_bytes(&sent, &[batch]).unwrap();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let decoded = decode(Format::ArrowIpc, clicks(), &damaged);
            assert!(decoded.batch.num_rows() <= 1 << 24);
        }
    }
}

#[test]
fn whole_rows_are_found_also_around_quotes() {
    let csv = Format::Csv { header: false };
    assert_eq!(complete_prefix(Format::NdJson, b"{}\n{}"), 3);
    assert_eq!(complete_prefix(Format::Text, b"abc"), 0);
    assert_eq!(complete_prefix(csv, b"a,b\nc"), 4);
    assert_eq!(complete_prefix(csv, b"a,\"b\nc"), 0);
    assert_eq!(complete_prefix(csv, b"a,\"b\nc\"\nd"), 8);
    assert_eq!(complete_prefix(csv, b"x\na,\"b\"\"\nc"), 2);
    assert_eq!(complete_prefix(csv, b"a,\"b\""), 0);
    assert_eq!(complete_prefix(csv, b"a\"b\nc\n"), 6);
    assert_eq!(complete_prefix(Format::Json, b"{}\n"), 0);
}

#[test]
fn a_batch_does_not_keep_the_request_alive() {
    let line = "{\"url\":\"a text that is longer than twelve bytes\"}\n";
    let decoded = decode(Format::NdJson, clicks(), line.repeat(100).as_bytes());
    let bytes = decoded.batch.column(0).get_buffer_memory_size();
    assert!(bytes < 4 * line.len() * 100, "{bytes}");
}

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
                None if number.as_f64().is_some_and(|f| f.fract() == 0.0) => {
                    Ok(Value::from(number.as_f64().unwrap() as i64))
                }
                None => Err("22P02"),
            },
            (_, Some(text)) => text.parse::<i64>().map(Value::from).map_err(|_| "22P02"),
            _ => Err("22P02"),
        },
        "x" => match (value, text) {
            (Value::Number(number), _) => Ok(Value::from(number.as_f64().unwrap())),
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
                .map(|at| Value::from(at.to_utc().format("%Y-%m-%dT%H:%M:%SZ").to_string()))
                .map_err(|_| "22007"),
            None => Err("22007"),
        },
        _ => match (value, text) {
            (Value::Bool(value), _) => Ok(Value::from(*value)),
            (_, Some("true" | "t" | "1")) => Ok(Value::from(true)),
            (_, Some("false" | "f" | "0")) => Ok(Value::from(false)),
            (Value::Number(number), _) if number.as_u64() == Some(1) => Ok(Value::from(true)),
            (Value::Number(number), _) if number.as_u64() == Some(0) => Ok(Value::from(false)),
            _ => Err("22P02"),
        },
    }
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

fn reference_row(line: &str) -> Result<Value, &'static str> {
    let parsed: Value = serde_json::from_str(line).map_err(|_| "22P02")?;
    let object = parsed.as_object().ok_or("22P02")?;
    let mut row = serde_json::Map::new();
    for column in ["url", "n", "x", "at", "ok"] {
        row.insert(column.to_string(), reference_value(column, object.get(column))?);
    }
    if row["url"].is_null() { Err("23502") } else { Ok(Value::Object(row)) }
}

fn json_value() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z/ \u{e9}\u{1F600}]{0,20}".prop_map(|s| serde_json::to_string(&s).unwrap()),
        1 => "[\"\\\\\n\t/a\u{7f}]{0,6}".prop_map(|s| serde_json::to_string(&s).unwrap()),
        2 => any::<i64>().prop_map(|n| n.to_string()),
        2 => (-100_000i64..100_000).prop_map(|n| format!("{}.{:02}", n / 100, n.abs() % 100 + 1)),
        1 => (0i64..4_000_000_000).prop_map(|s| {
            let at = chrono::DateTime::from_timestamp(s, 0).unwrap();
            format!("\"{}\"", at.format("%Y-%m-%dT%H:%M:%SZ"))
        }),
        1 => Just("null".to_string()),
        1 => Just("true".to_string()),
        1 => Just("\"f\"".to_string()),
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
        1 => (object(), any::<proptest::sample::Index>(), "[ -~]").prop_map(|(text, at, new)| {
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
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn rows_equal_the_slow_reference(lines in proptest::collection::vec(line(), 1..20)) {
        // The reference cannot tell these: numbers beyond doubles, and $punctuate.
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
                    prop_assert_eq!(ours, row, "{}", line);
                    good += 1;
                }
                Err(code) => {
                    prop_assert!(bad < decoded.rejected.len(), "{line} is bad");
                    let rejected = &decoded.rejected[bad];
                    prop_assert_eq!(rejected.line, i as u64 + 1);
                    prop_assert_eq!(&rejected.raw, line.as_bytes());
                    prop_assert_eq!(rejected.code.0, code, "{}", line);
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
