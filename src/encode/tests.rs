//! Tests of the encoders: each Arrow type in each format.

use std::sync::Arc;

use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::*;
use arrow::record_batch::RecordBatch;
use expect_test::{Expect, expect};

use super::{csv, json, text, type_name};
use crate::data::schema::JSON_MARK;

/// SQL type, JSON and text of each row of a column.
fn check(array: ArrayRef, expected: Expect) {
    check_field(Field::new("c", array.data_type().clone(), true), array, expected);
}

fn check_field(field: Field, array: ArrayRef, expected: Expect) {
    let mut out = format!("{}\n", type_name::sql_type_name(&field));
    for row in 0..array.len() {
        let mut value = Vec::new();
        json::write_value(&array, row, &field, &mut value);
        serde_json::from_slice::<serde_json::Value>(&value).expect("what is written is JSON");
        let shown = text::display(&array, row, &field);
        out.push_str(&format!("{} | {shown}\n", String::from_utf8(value).unwrap()));
    }
    expected.assert_eq(&out);
}

#[test]
fn numbers_are_numbers_and_what_is_none_is_a_string() {
    check(
        Arc::new(Int64Array::from(vec![Some(i64::MIN), None])),
        expect![[r#"
        BIGINT
        -9223372036854775808 | -9223372036854775808
        null | 
    "#]],
    );
    check(
        Arc::new(UInt64Array::from(vec![u64::MAX])),
        expect![[r#"
        NUMERIC(20,0)
        18446744073709551615 | 18446744073709551615
    "#]],
    );
    check(
        Arc::new(Int8Array::from(vec![-1])),
        expect![[r#"
        SMALLINT
        -1 | -1
    "#]],
    );
    let floats = vec![1.0, 0.1, -0.0, 1e300, 5e-324, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    check(
        Arc::new(Float64Array::from(floats)),
        expect![[r#"
            DOUBLE
            1.0 | 1
            0.1 | 0.1
            -0.0 | -0
            1e300 | 1e+300
            5e-324 | 5e-324
            "NaN" | NaN
            "Infinity" | Infinity
            "-Infinity" | -Infinity
        "#]],
    );
    check(
        Arc::new(Float32Array::from(vec![0.1, f32::MAX])),
        expect![[r#"
            REAL
            0.1 | 0.1
            3.4028235e38 | 3.4028235e+38
        "#]],
    );
}

#[test]
fn numerics_keep_their_scale() {
    let numeric = Decimal128Array::from(vec![Some(-5), Some(12345), Some(0), None])
        .with_precision_and_scale(10, 2)
        .unwrap();
    check(
        Arc::new(numeric),
        expect![[r#"
        NUMERIC(10,2)
        "-0.05" | -0.05
        "123.45" | 123.45
        "0.00" | 0.00
        null | 
    "#]],
    );
    let wide = Decimal256Array::from(vec![Some(i256::from_i128(-1234))])
        .with_precision_and_scale(50, 3)
        .unwrap();
    check(
        Arc::new(wide),
        expect![[r#"
        NUMERIC(50,3)
        "-1.234" | -1.234
    "#]],
    );
    let hundreds = Decimal128Array::from(vec![12]).with_precision_and_scale(5, -2).unwrap();
    check(
        Arc::new(hundreds),
        expect![[r#"
        NUMERIC(5,-2)
        "1200" | 1200
    "#]],
    );
}

#[test]
fn times_are_utc_with_as_much_fraction_as_they_have() {
    let micros = vec![0, 1_767_225_600_000_000, 500_000, 1, -1, i64::MIN, i64::MAX];
    check(
        Arc::new(TimestampMicrosecondArray::from(micros.clone())),
        expect![[r#"
        TIMESTAMP
        "1970-01-01T00:00:00Z" | 1970-01-01 00:00:00
        "2026-01-01T00:00:00Z" | 2026-01-01 00:00:00
        "1970-01-01T00:00:00.500Z" | 1970-01-01 00:00:00.5
        "1970-01-01T00:00:00.000001Z" | 1970-01-01 00:00:00.000001
        "1969-12-31T23:59:59.999999Z" | 1969-12-31 23:59:59.999999
        "-290308-12-21T19:59:05.224192Z" | -290308-12-21 19:59:05.224192
        "+294247-01-10T04:00:54.775807Z" | +294247-01-10 04:00:54.775807
    "#]],
    );
    let zoned = TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC");
    check(
        Arc::new(zoned),
        expect![[r#"
        TIMESTAMPTZ
        "1970-01-01T00:00:00.000001Z" | 1970-01-01 00:00:00.000001+00
    "#]],
    );
    check(
        Arc::new(TimestampNanosecondArray::from(vec![-1, 1])),
        expect![[r#"
        TIMESTAMP
        "1969-12-31T23:59:59.999999999Z" | 1969-12-31 23:59:59.999999999
        "1970-01-01T00:00:00.000000001Z" | 1970-01-01 00:00:00.000000001
    "#]],
    );
    check(
        Arc::new(TimestampSecondArray::from(vec![-1, i64::MAX / 100_000])),
        expect![[r#"
        TIMESTAMP
        "1969-12-31T23:59:59Z" | 1969-12-31 23:59:59
        "+2924740-03-31T16:09:07Z" | +2924740-03-31 16:09:07
    "#]],
    );
}

#[test]
fn dates_clocks_and_intervals() {
    check(
        Arc::new(Date32Array::from(vec![0, -1, i32::MAX, i32::MIN])),
        expect![[r#"
        DATE
        "1970-01-01" | 1970-01-01
        "1969-12-31" | 1969-12-31
        "+5881580-07-11" | +5881580-07-11
        "-5877641-06-23" | -5877641-06-23
    "#]],
    );
    check(
        Arc::new(Time64MicrosecondArray::from(vec![86_399_999_999])),
        expect![[r#"
        TIME
        "23:59:59.999999" | 23:59:59.999999
    "#]],
    );
    check(
        Arc::new(Time32SecondArray::from(vec![60])),
        expect![[r#"
        TIME
        "00:01:00" | 00:01:00
    "#]],
    );
    check(
        Arc::new(DurationSecondArray::from(vec![-90_000, i64::MAX])),
        expect![[r#"
        INTERVAL
        "-1 days -01:00:00" | -1 days -01:00:00
        "2147483647 days 15:30:07" | 2147483647 days 15:30:07
    "#]],
    );
    let intervals = vec![
        IntervalMonthDayNano::new(14, -3, 3_600_000_000_000),
        IntervalMonthDayNano::new(0, 0, 0),
        IntervalMonthDayNano::new(0, 1, -500_000_000),
        IntervalMonthDayNano::new(i32::MIN, i32::MIN, i64::MIN),
    ];
    check(
        Arc::new(IntervalMonthDayNanoArray::from(intervals)),
        expect![[r#"
            INTERVAL
            "1 year 2 mons -3 days +01:00:00" | 1 year 2 mons -3 days +01:00:00
            "00:00:00" | 00:00:00
            "1 day -00:00:00.5" | 1 day -00:00:00.5
            "-178956970 years -8 mons -2147483648 days -2562047:47:16.854775808" | -178956970 years -8 mons -2147483648 days -2562047:47:16.854775808
        "#]],
    );
}

#[test]
fn texts_bytes_and_documents() {
    let texts = vec![Some("a\"b\\c\n\u{1}é"), Some(""), None];
    let utf8: ArrayRef = Arc::new(StringArray::from(texts.clone()));
    check(
        Arc::clone(&utf8),
        expect![[r#"
        TEXT
        "a\"b\\c\n\u0001é" | a"b\c
        é
        "" | 
        null | 
    "#]],
    );
    for data_type in [
        DataType::LargeUtf8,
        DataType::Utf8View,
        DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)),
    ] {
        let mut same = Vec::new();
        let array = cast(&utf8, &data_type).unwrap();
        let field = Field::new("c", data_type, true);
        json::write_value(&array, 0, &field, &mut same);
        assert_eq!(String::from_utf8(same).unwrap(), "\"a\\\"b\\\\c\\n\\u0001é\"");
    }
    check(
        Arc::new(BinaryArray::from_vec(vec![b"\x00\xff", b""])),
        expect![[r#"
        BYTEA
        "AP8=" | \x00ff
        "" | \x
    "#]],
    );
    let marked = Field::new("c", DataType::Utf8View, true)
        .with_metadata([(JSON_MARK.to_string(), String::new())].into());
    let documents = StringViewArray::from(vec!["{\"a\":\n[1, 2]}", "null", "{broken", "\"x\""]);
    check_field(
        marked,
        Arc::new(documents),
        expect![[r#"
        JSON
        {"a": [1, 2]} | {"a":
        [1, 2]}
        null | null
        "{broken" | {broken
        "x" | "x"
    "#]],
    );
    check(
        Arc::new(BooleanArray::from(vec![true, false])),
        expect![[r#"
        BOOLEAN
        true | t
        false | f
    "#]],
    );
    check(
        Arc::new(NullArray::new(1)),
        expect![[r#"
        Null
        null | 
    "#]],
    );
}

#[test]
fn nested_values_keep_their_form() {
    let texts: ArrayRef =
        Arc::new(StringArray::from(vec![Some("a b"), None, Some("x"), Some("null")]));
    let item = Arc::new(Field::new("item", DataType::Utf8, true));
    let offsets = OffsetBuffer::from_lengths([2, 0, 0, 2]);
    let nulls = NullBuffer::from(vec![true, true, false, true]);
    let list = ListArray::new(item, offsets, Arc::clone(&texts), Some(nulls));
    check(
        Arc::new(list),
        expect![[r#"
        TEXT[]
        ["a b",null] | {"a b",NULL}
        [] | {}
        null | 
        ["x","null"] | {x,"null"}
    "#]],
    );
    let fields = Fields::from(vec![Field::new("k \"", DataType::Utf8, true)]);
    let structs = StructArray::new(fields, vec![texts], None);
    check(
        Arc::new(structs.clone()),
        expect![[r#"
        STRUCT<k " TEXT>
        {"k \"":"a b"} | {"k \"":"a b"}
        {"k \"":null} | {"k \"":null}
        {"k \"":"x"} | {"k \"":"x"}
        {"k \"":"null"} | {"k \"":"null"}
    "#]],
    );
    let item = Arc::new(Field::new("item", structs.data_type().clone(), true));
    let list = FixedSizeListArray::new(item, 2, Arc::new(structs), None);
    check(
        Arc::new(list),
        expect![[r#"
        STRUCT<k " TEXT>[]
        [{"k \"":"a b"},{"k \"":null}] | [{"k \"":"a b"},{"k \"":null}]
        [{"k \"":"x"},{"k \"":"null"}] | [{"k \"":"x"},{"k \"":"null"}]
    "#]],
    );
    let mut map = MapBuilder::new(None, Int64Builder::new(), Int64Builder::new());
    map.keys().append_value(1);
    map.values().append_value(2);
    map.append(true).unwrap();
    check(
        Arc::new(map.finish()),
        expect![[r#"
        Map("entries": non-null Struct("keys": non-null Int64, "values": Int64), unsorted)
        {"1":2} | {"1":2}
    "#]],
    );
}

fn two_columns() -> RecordBatch {
    let fields =
        vec![Field::new("a,b", DataType::Utf8View, true), Field::new("n", DataType::Int64, true)];
    let texts = StringViewArray::from(vec![Some("x, \"y\""), Some(""), None, Some("!x")]);
    let numbers = Int64Array::from(vec![Some(1), None, None, Some(2)]);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![Arc::new(texts), Arc::new(numbers)])
        .unwrap()
}

#[test]
fn rows_are_objects_arrays_or_lines() {
    let batch = two_columns();
    let mut out = Vec::new();
    json::write_row_object(&batch, 0, &mut out);
    json::write_row_array(&batch, 1, &mut out);
    out.push(b'\n');
    json::write_ndjson(&batch.slice(2, 2), &mut out);
    csv::write_header(&batch.schema(), &mut out);
    csv::write_rows(&batch, &mut out);
    expect![[r#"
        {"a,b":"x, \"y\"","n":1}["",null]
        {"a,b":null,"n":null}
        {"a,b":"!x","n":2}
        "a,b",n
        "x, ""y""",1
        "",
        ,
        "!x",2
    "#]]
    .assert_eq(&String::from_utf8(out).unwrap().replace('\r', ""));
}

#[test]
fn an_arrow_stream_is_read_back() {
    let batch = two_columns();
    let bytes =
        super::arrow_ipc::stream_bytes(&batch.schema(), std::slice::from_ref(&batch)).unwrap();
    let reader = arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
    let back: Vec<RecordBatch> = reader.map(Result::unwrap).collect();
    assert_eq!(back, [batch]);
}

proptest::proptest! {
    #[test]
    fn dates_are_those_of_chrono(seconds in -60_000_000_000i64..250_000_000_000, nanos in 0u32..1_000_000_000) {
        let at = chrono::DateTime::from_timestamp(seconds, nanos).unwrap();
        let mut out = Vec::new();
        let fraction = super::datetime::Fraction::Thousands;
        super::datetime::write_timestamp(seconds, nanos, b'T', fraction, &mut out);
        out.push(b'Z');
        let expected = at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true);
        proptest::prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
