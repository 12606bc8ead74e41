//! Tests of the decoders through their door, against expectations and against a slow reference.

mod arrow_ipc;
mod csv;
mod json;
mod json_parts;
mod reference;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use expect_test::{Expect, expect};

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
        // A NUL would make a file of another kind of this one.
        let raw = String::from_utf8_lossy(&bad.raw).replace('\0', "\\0");
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
fn text_lines_go_to_the_first_text_column() {
    let schema =
        Arc::new(Schema::new(vec![field("n", DataType::Int64), field("line", DataType::Utf8View)]));
    check(
        Format::Text,
        schema,
        "a,b\r\n\n  \"c\"\nnul\0\n",
        expect![[r#"
        1: {"n":null,"line":"a,b"}
        2: {"n":null,"line":""}
        3: {"n":null,"line":"  \"c\""}
        4! 22P02 text of column "line" holds a NUL character, which is not allowed <nul\0>
    "#]],
    );
    let number = Arc::new(Schema::new(vec![field("n", DataType::Int64)]));
    check(
        Format::Text,
        number,
        "1\nx\n",
        expect![[r#"
        1: {"n":1}
        2! 22P02 invalid input syntax for type bigint: "x" in column "n" <x>
    "#]],
    );
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

#[test]
fn only_the_first_bytes_of_all_may_be_a_byte_order_mark() {
    for format in [Format::NdJson, Format::Text, Format::Csv { header: false }] {
        let schema = Arc::new(Schema::new(vec![field("url", DataType::Utf8View)]));
        let mut decoder = decoder(format, Arc::new(spec(schema)));
        let row = if format == Format::NdJson { "{\"url\":\"a\"}\n" } else { "a\n" };
        let marked = format!("\u{feff}{row}");
        assert_eq!(decoder.decode(b"", 1).batch.num_rows(), 0);
        let first = decoder.decode(marked.as_bytes(), 5);
        assert!(show(&first).contains("\"a\""), "{format:?}");
        let second = decoder.decode(marked.as_bytes(), 6);
        assert_ne!(second.batch, first.batch, "{format:?}");
    }
}

#[test]
fn what_a_decoder_has_learnt_serves_the_next_call() {
    let mut decoder = decoder(CSV, Arc::new(spec(clicks())));
    assert_eq!(decoder.decode(b"n,url\n", 1).batch.num_rows(), 0);
    assert_eq!(show(&decoder.decode(b"7,/a\n", 2)), "2: {\"url\":\"/a\",\"n\":7,\"at\":null}\n");
}

#[test]
fn many_rows_of_changing_layout_keep_their_lines() {
    let mut input = String::new();
    for i in 0..100 {
        input.push_str(&match i % 4 {
            0 => format!("{{\"url\":\"/{i}\",\"n\":{i}}}\n"),
            1 => format!("{{ \"n\" : {i} , \"url\" : \"/{i}\" }}\n"),
            2 => format!("{{\"n\":{i},\"extra\":[{i}],\"url\":\"/{i}\",\"at\":null}}\n"),
            _ => "{}\n".to_string(),
        });
    }
    let decoded = decode(Format::NdJson, clicks(), input.as_bytes());
    assert_eq!((decoded.batch.num_rows(), decoded.rejected.len()), (75, 25));
    for row in 0..75 {
        let mut value = Vec::new();
        encode::json::write_row_object(&decoded.batch, row, &mut value);
        let i = decoded.lines.at(row) - 1;
        let expected = format!("{{\"url\":\"/{i}\",\"n\":{i},\"at\":null}}");
        assert_eq!(String::from_utf8(value).unwrap(), expected);
    }
}
