//! Tests of CSV.

use expect_test::expect;

use super::{CSV, check, clicks, everything};
use crate::decode::Format;

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
    check(
        CSV,
        clicks(),
        input,
        expect![[r#"
        2: {"url":"/a","n":1,"at":"2026-01-01T00:00:00Z"}
        3: {"url":"","n":null,"at":null}
        5: {"url":"line\nbreak, \"quoted\"","n":3,"at":null}
        8: {"url":"/b","n":4,"at":null}
        15: {"url":" spaces ","n":11,"at":null}
        17: {"url":"/g","n":13,"at":null}
        4! 23502 null value in column "url" violates not-null constraint <2,,,>
        9! 22P02 row has 2 fields, 4 are expected <5,/c>
        10! 22P02 row has 5 fields, 4 are expected <6,/d,,,>
        11! 22P02 invalid input syntax for type int: "seven" in column "n" <seven,/e,,>
        12! 22007 column "at" is of type timestamp but 1767225600 is a number; send RFC 3339 text or declare the column BIGINT < 8 ,/f,,1767225600>
        13! 22P02 row is not valid CSV: a field that does not start with a quote holds one <9,a"b,,>
        14! 22P02 row is not valid CSV: something follows a closing quote <10,"a"b,,>
        16! 22P02 row is not valid CSV: a quoted field is not closed before the input ends <12,"open,,>
    "#]],
    );
}

#[test]
fn csv_headers_must_name_columns_once() {
    check(
        CSV,
        clicks(),
        "url,url\n/a,/b\n",
        expect![[r#"
        2! 42701 column "url" is named more than once in the header </a,/b>
    "#]],
    );
    check(
        CSV,
        clicks(),
        "\"url\"\n\"/a\"\n",
        expect![[r#"
        2: {"url":"/a","n":null,"at":null}
    "#]],
    );
}

#[test]
fn csv_reads_every_type() {
    let input = concat!(
        "x,t,1,2,NaN,-Infinity,0.125,1970-01-01,1970-01-01 00:00:01,1970-01-01T00:00:00Z,1 day,",
        "\\x00ff,\"{\"\"a\"\": 1}\",\"[1,2]\",\"{\"\"x\"\":1}\"\n",
        ",maybe,,,,,,,,,,,,,\n,,,,,,,,,,,,{,,\n,,,,,,,,,,,,,[1 2],\n",
    );
    check(
        Format::Csv { header: false },
        everything(),
        input,
        expect![[r#"
        1: {"t":"x","b":true,"i16":1,"i64":2,"f32":"NaN","f64":"-Infinity","num":"0.13","day":"1970-01-01","ts":"1970-01-01T00:00:01Z","tz":"1970-01-01T00:00:00Z","iv":"1 day","bin":"AP8=","doc":{"a": 1},"list":[1,2],"rec":{"x":1.0,"s":null}}
        2! 22P02 invalid input syntax for type boolean: "maybe" in column "b" <,maybe,,,,,,,,,,,,,>
        3! 22P02 invalid input syntax for type json: "{" in column "doc" <,,,,,,,,,,,,{,,>
        4! 22P02 invalid input syntax for type bigint[]: "[1 2]" in column "list" <,,,,,,,,,,,,,[1 2],>
    "#]],
    );
}
