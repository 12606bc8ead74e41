//! Tests of JSON, in lines and as a body.

use std::sync::Arc;

use expect_test::{Expect, expect};

use super::{CSV, check, clicks, decode, everything, show, spec};
use crate::decode::{Format, Limits, decoder};
use crate::encode;

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
    check(
        Format::NdJson,
        clicks(),
        input,
        expect![[r#"
            1: {"url":"/a","n":1,"at":"2026-01-01T00:00:00Z"}
            10: {"url":"7.50","n":12,"at":"2026-01-01T00:00:00Z"}
            11: {"url":"true","n":1,"at":null}
            14: {"url":"/f","n":null,"at":null}
            3! 22003 value "99999999999" of column "n" is out of range for type int <{"url":"/b","n":99999999999}>
            4! 23502 null value in column "url" violates not-null constraint <{"n":3}>
            5! 23502 null value in column "url" violates not-null constraint <{"url":null,"n":3}>
            6! 22P02 row is not valid JSON: expected a JSON object at byte 1 <not json>
            7! 22007 column "at" is of type timestamp but 1767225600 is a number; send RFC 3339 text or declare the column BIGINT <{"url":"/c","n":"12","at":1767225600}>
            8! 22P02 invalid input syntax for type int: "twelve" in column "n" <{"url":"/d","n":"twelve"}>
            9! 22008 date/time field value out of range: "2026-13-01" in column "at" <{"url":7.50,"n":"12","at":"2026-13-01"}>
            12! 22P02 row is not valid JSON: expected a JSON object at byte 1 <[1]>
            13! 22P02 row is not valid JSON: expected the end of the row at byte 14 <{"url":"/e"} x>
        "#]],
    );
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
    check(
        Format::NdJson,
        clicks(),
        input,
        expect![[r#"
        1: {"url":"aé\n\"/😀","n":null,"at":null}
        7: {"url":"escaped key","n":null,"at":null}
        9: {"url":"last","n":null,"at":null}
        10: {"url":"again","n":null,"at":null}
        11: {"url":"x","n":5,"at":null}
        2! 22P02 row is not valid JSON: expected the second half of a surrogate pair at byte 15 <{"url":"\ud83d"}>
        3! 22P02 row is not valid JSON: expected no lone surrogate at byte 15 <{"url":"\ude00"}>
        4! 22P02 row is not valid JSON: expected a character other than \u0000 at byte 15 <{"url":"\u0000"}>
        5! 22P02 row is not valid JSON: expected an escape at byte 11 <{"url":"\x"}>
        6! 22P02 row is not valid JSON: expected no control character in a string at byte 12 <{"url":"tab	here"}>
        8! 23502 null value in column "url" violates not-null constraint <{"URL":"other case"}>
        12! 22P02 row is not valid JSON: expected a closing quote at byte 13 <{"url":"open>
    "#]],
    );
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
    check(
        Format::NdJson,
        everything(),
        input,
        expect![[r#"
            1: {"t":"x","b":true,"i16":-32768,"i64":9223372036854775807,"f32":1.5,"f64":1e300,"num":"1.01","day":"2026-01-01","ts":"2026-01-01T00:00:00.500Z","tz":"2025-12-31T22:00:00Z","iv":null,"bin":null,"doc":null,"list":null,"rec":null}
            2: {"t":null,"b":null,"i16":null,"i64":null,"f32":null,"f64":null,"num":null,"day":null,"ts":null,"tz":null,"iv":"1 day 02:00:00","bin":"AQI=","doc":{"a":[1,null]},"list":[1,null,3],"rec":{"x":1.0,"s":"y"}}
            3: {"t":"{\"a\":1}","b":false,"i16":null,"i64":null,"f32":null,"f64":"NaN","num":"-12.50","day":null,"ts":null,"tz":null,"iv":null,"bin":"/w==","doc":"text","list":[],"rec":{"x":null,"s":null}}
            4: {"t":null,"b":false,"i16":null,"i64":0,"f32":"-Infinity","f64":-0.0,"num":null,"day":null,"ts":null,"tz":null,"iv":null,"bin":null,"doc":null,"list":null,"rec":null}
            19: {"t":null,"b":null,"i16":null,"i64":null,"f32":null,"f64":null,"num":null,"day":null,"ts":null,"tz":null,"iv":null,"bin":null,"doc":null,"list":null,"rec":{"x":2.0,"s":null}}
            21: {"t":null,"b":null,"i16":null,"i64":null,"f32":null,"f64":null,"num":null,"day":null,"ts":null,"tz":null,"iv":null,"bin":null,"doc":null,"list":[5],"rec":null}
            5! 22003 value "123456789.005" of column "num" is out of range for type numeric(10,2) <{"num":123456789.005}>
            6! 22003 value "1e999" of column "f64" is out of range for type double <{"f64":1e999}>
            7! 22P02 invalid input syntax for type smallint: "1.5" in column "i16" <{"i16":1.5}>
            8! 22P02 invalid input syntax for type boolean: "maybe" in column "b" <{"b":"maybe"}>
            9! 22P02 invalid input syntax for type bigint[]: "[1,"x"]" in column "list" <{"list":[1,"x"]}>
            10! 22P02 invalid input syntax for type struct<x double, s text>: "[1]" in column "rec" <{"rec":[1]}>
            11! 22P02 invalid input syntax for type bytea: "*" in column "bin" <{"bin":"*"}>
            12! 22P02 invalid input syntax for type bigint[]: "7" in column "list" <{"list":7}>
            13! 22P02 row is not valid JSON: expected a value at byte 8 <{"f64":NaN}>
            14! 22P02 row is not valid JSON: expected a value at byte 10 <{"i64":01}>
            15! 22P02 row is not valid JSON: expected a value at byte 8 <{"i64":+1}>
            16! 54000 row nests deeper than 4 levels <{"i64":[[[[1]]]]}>
            17! 54000 row nests deeper than 4 levels <{"doc":[[[[1]]]]}>
            18! 22007 invalid input syntax for type interval: "soon" in column "iv" <{"iv":"soon"}>
            20! 22P02 invalid input syntax for type struct<x double, s text>: "{"x":"bad"}" in column "rec" <{"rec":{"x":"bad"},"list":[5]}>
        "#]],
    );
}

#[test]
fn what_is_written_is_read_back_as_it_was() {
    let input = concat!(
        r#"{"ts":"-290308-12-21T19:59:05.224192Z","day":"-5877641-06-23","f64":"NaN","num":"-0.05"}"#,
        "\n",
        r#"{"ts":"+294247-01-10T04:00:54.775807Z","day":"+5881580-07-11","f64":5e-324,"bin":"/w=="}"#,
        "\n",
        r#"{"iv":"-178956970 years -8 mons -2147483648 days -2562047:47:16.854775808","t":"\u0001 "}"#,
        "\n",
        r#"{"iv":"P1Y2M3DT0.000000001S","doc":"x\"y","list":[1,null],"rec":{"x":-0.0,"s":"\""}}"#,
    );
    let mut spec = spec(everything());
    spec.limits = Limits::default();
    let spec = Arc::new(spec);
    let first = decoder(Format::NdJson, Arc::clone(&spec)).decode(input.as_bytes(), 1);
    assert_eq!(first.rejected, []);
    let (mut json, mut csv) = (Vec::new(), Vec::new());
    encode::json::write_ndjson(&first.batch, &mut json);
    encode::csv::write_rows(&first.batch, &mut csv);
    let csv_format = Format::Csv { header: false };
    for (format, bytes) in [(Format::NdJson, json), (csv_format, csv)] {
        let again = decoder(format, Arc::clone(&spec)).decode(&bytes, 1);
        assert_eq!(again.rejected, []);
        assert_eq!(again.batch, first.batch);
    }
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
    let (open, closed) = ("[".repeat(500_000), "]".repeat(500_000));
    let (cut, whole) = (format!("{{\"x\":{open}\n"), format!("{{\"x\":{open}{closed}}}"));
    for (format, deep) in [(Format::NdJson, &cut), (Format::NdJson, &whole), (Format::Json, &whole)]
    {
        let decoded = decoder(format, Arc::new(spec.clone())).decode(deep.as_bytes(), 1);
        assert_eq!(decoded.rejected[0].code.0, "54000");
    }
    let decoded = decoder(Format::Json, Arc::new(spec)).decode(cut.as_bytes(), 1);
    assert!(decoded.malformed.is_some());
}

#[test]
fn bytes_that_are_not_utf8_make_only_their_row_bad() {
    let input = b"{\"url\":\"/a\"}\n{\"url\":\"\xff\"}\n{\"url\":\"/b\"}\n";
    expect![[r#"
        1: {"url":"/a","n":null,"at":null}
        3: {"url":"/b","n":null,"at":null}
        2! 22P02 row is not valid UTF-8 <{"url":"�"}>
    "#]]
    .assert_eq(&show(&decode(Format::NdJson, clicks(), input)));
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
    expect![[r#"
        1: {"url":"/a","n":null,"at":null}
        3: {"url":"/b","n":null,"at":null}
        2! 42703 column "x" of the row does not exist in the stream <{"url":"/a","x":1}>
        2! 42703 column "x" of the row does not exist in the stream </a,1>
    "#]]
    .assert_eq(&out);
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
    check(
        Format::NdJson,
        clicks(),
        input,
        expect![[r#"
        1: {"url":"/a","n":null,"at":null}
        3: {"url":"/a","n":null,"at":null}
        13: {"url":"a field","n":null,"at":null}
        6! 42703 column "nope" of the punctuation does not exist in the stream <{"$punctuate": {"nope": 1}}>
        7! 22P02 punctuation is not understood: a range has lt or lte, gt or gte, each at most once <{"$punctuate": {"n": {"near": 1}}}>
        8! 22P02 invalid input syntax for type int: "null" in column "n" <{"$punctuate": {"n": null}}>
        9! 22P02 punctuation is not understood: its list of values is empty <{"$punctuate": {"n": []}}>
        10! 22P02 punctuation is not understood: it names no column <{"$punctuate": {}}>
        11! 22P02 row is not valid JSON: expected a JSON object at byte 1 <{"$punctuate": 5}>
        12! 22P02 row is not valid JSON: expected a JSON object at byte 1 <!punctuate>
        after 1: [("n", OneOf([Int32(17)]))]
        after 2: [("at", Range { low: None, high: Some((TimestampMicrosecond(1767225600000000, None), false)) }), ("n", OneOf([Int32(1), Int32(2)]))]
        after 2: [("n", Range { low: Some((Int32(1), true)), high: Some((Int32(3), true)) })]
    "#]],
    );
    let lines = "/a,1,\n!punctuate {\"n\": 1, \"url\": \"x\"}\n";
    check(
        Format::Csv { header: false },
        clicks(),
        lines,
        expect![[r#"
        1: {"url":"/a","n":1,"at":null}
        after 1: [("n", OneOf([Int32(1)])), ("url", OneOf([Utf8View("x")]))]
    "#]],
    );
    check(
        Format::Text,
        clicks(),
        "x\n!punctuate {\"url\":\"x\"}\n!x\n",
        expect![[r#"
        1: {"url":"x","n":null,"at":null}
        3: {"url":"!x","n":null,"at":null}
        after 1: [("url", OneOf([Utf8View("x")]))]
    "#]],
    );
}

#[test]
fn a_json_body_is_an_object_or_an_array() {
    check(
        Format::Json,
        clicks(),
        " {\n \"url\": \"/a\",\n \"n\": 1 }\n",
        expect![[r#"
        1: {"url":"/a","n":1,"at":null}
    "#]],
    );
    let array = r#"[ {"url":"/a"}, {"url":1,}, 5, {"url":"/b"} , {"n":1}]"#;
    check(
        Format::Json,
        clicks(),
        array,
        expect![[r#"
        1: {"url":"/a","n":null,"at":null}
        4: {"url":"/b","n":null,"at":null}
        2! 22P02 row is not valid JSON: expected a string at byte 10 <{"url":1,}>
        3! 22P02 row is not valid JSON: expected a JSON object at byte 1 <5>
        5! 23502 null value in column "url" violates not-null constraint <{"n":1}>
    "#]],
    );
    check(Format::Json, clicks(), "[]", expect![[""]]);
    check(Format::Json, clicks(), "", expect![[""]]);
}

#[test]
fn of_a_json_body_whose_end_is_missing_or_passed_no_row_is_taken() {
    let check = |input: &[u8], expected: Expect| {
        let decoded = decode(Format::Json, clicks(), input);
        assert_eq!(show(&decoded), "");
        expected.assert_eq(&decoded.malformed.unwrap_or_default());
    };
    let array = r#"[{"url":"/a"},{"url":"/[\\\"b"}]"#;
    for cut in 1..array.len() {
        let decoded = decode(Format::Json, clicks(), &array.as_bytes()[..cut]);
        assert_eq!(show(&decoded), "", "{cut}");
        assert!(decoded.malformed.is_some(), "{cut}");
    }
    assert_eq!(decode(Format::Json, clicks(), array.as_bytes()).batch.num_rows(), 2);
    check(br#"[{"url":"/a"}"#, expect!["a comma or a closing bracket is expected at byte 14"]);
    check(br#"[{"url":"/a"},"#, expect!["a JSON object is expected at byte 15"]);
    check(br#"[{"url":"/a"},]"#, expect!["a JSON object is expected at byte 15"]);
    check(br#"[{"url":"/a"},{"url":"/b"#, expect!["it ends at byte 24 inside a value"]);
    check(br#"{"url":"/a"#, expect!["it ends at byte 10 inside a value"]);
    check(br#"[{"url":"/a"}] x"#, expect!["its end is expected at byte 16"]);
    check(b"{\"url\":\"/a\"}\n{\"url\":\"/b\"}", expect!["its end is expected at byte 14"]);
    check(b"[{\"url\":\"/a\"},{\"url\":\"\xff\"}]", expect!["it is not valid UTF-8"]);
}
