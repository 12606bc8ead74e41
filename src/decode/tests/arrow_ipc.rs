//! Tests of Arrow IPC.

use std::sync::Arc;

use arrow::datatypes::{DataType, Fields, Schema, SchemaRef, TimeUnit};
use expect_test::expect;

use super::{clicks, decode, field, show};
use crate::decode::{Decoded, Format};
use crate::encode;

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
    expect![[r#"
        1: {"url":"/a","n":1,"at":"2026-01-01T00:00:00Z"}
        2! 22003 value "1099511627776" of column "n" is out of range for type int <{"n":1099511627776,"x":0,"url":"/b","at":null}>
        3! 23502 null value in column "url" violates not-null constraint <{"n":null,"x":0,"url":null,"at":null}>
        4! 22007 invalid input syntax for type timestamp: "x" in column "at" <{"n":4,"x":0,"url":"/d","at":"x"}>
    "#]].assert_eq(&show(&decoded));
    // The mark at the end may be missing, so a cut between messages cannot be seen: behind the
    // schema, behind the batch, and between the two words of the mark.
    let unseen = (0..bytes.len()).filter(|cut| {
        let decoded = decode(Format::ArrowIpc, clicks(), &bytes[..*cut]);
        decoded.rejected.first().is_none_or(|bad| bad.raw.starts_with(b"{"))
    });
    assert!(unseen.count() <= 2);
    let garbage = decode(Format::ArrowIpc, clicks(), b"hello, world, this is not arrow");
    assert_eq!((garbage.rejected[0].line, garbage.rejected[0].code.0), (1, "22P02"));
}

#[test]
fn arrow_values_are_taken_whole_or_refused_as_ndjson_refuses_them() {
    use arrow::array::{
        ArrayRef, Decimal128Array, Float32Array, Float64Array, Int64Array, RecordBatch,
        StringArray, StructArray, TimestampNanosecondArray, UInt64Array,
    };
    let one = |to: DataType, array: ArrayRef| {
        let sent = Arc::new(Schema::new(vec![field("v", array.data_type().clone())]));
        let batch = RecordBatch::try_new(Arc::clone(&sent), vec![array]).unwrap();
        let bytes = encode::arrow_ipc::stream_bytes(&sent, std::slice::from_ref(&batch)).unwrap();
        let wanted: SchemaRef = Arc::new(Schema::new(vec![field("v", to)]));
        let decoded = decode(Format::ArrowIpc, Arc::clone(&wanted), &bytes);
        let mut ndjson = Vec::new();
        encode::json::write_ndjson(&batch, &mut ndjson);
        let same = decode(Format::NdJson, wanted, &ndjson);
        let codes = |decoded: &Decoded| -> Vec<_> {
            decoded.rejected.iter().map(|row| (row.line, row.code)).collect()
        };
        assert_eq!(codes(&decoded), codes(&same));
        show(&decoded).lines().map(|line| line.trim().to_string()).collect::<Vec<_>>().join("\n")
    };
    let float = |value: f64| Arc::new(Float64Array::from(vec![value])) as ArrayRef;
    let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
    expect![[r#"1! 22P02 invalid input syntax for type int: "1.5" in column "v" <{"v":1.5}>"#]]
        .assert_eq(&one(DataType::Int32, float(1.5)));
    expect![[r#"1: {"v":2}"#]].assert_eq(&one(DataType::Int32, float(2.0)));
    expect![[r#"1! 22003 value "1e39" of column "v" is out of range for type real <{"v":1e39}>"#]]
        .assert_eq(&one(DataType::Float32, float(1e39)));
    let int = |value: i64| Arc::new(Int64Array::from(vec![value])) as ArrayRef;
    expect![[r#"
        1! 22007 column "v" is of type timestamp but 5 is a number; send RFC 3339 text or declare the column BIGINT <{"v":5}>"#]]
    .assert_eq(&one(micros.clone(), int(5)));
    let nanos = |value| Arc::new(TimestampNanosecondArray::from(vec![value])) as ArrayRef;
    expect![[r#"1: {"v":"1970-01-01T00:00:00.000002Z"}"#]].assert_eq(&one(micros, nanos(1_500)));
    let text = Arc::new(StringArray::from(vec!["x"])) as ArrayRef;
    expect![[r#"1! 22P02 invalid input syntax for type int: "x" in column "v" <{"v":"x"}>"#]]
        .assert_eq(&one(DataType::Int32, text));
    let wide = Arc::new(UInt64Array::from(vec![u64::MAX])) as ArrayRef;
    expect![[r#"
        1! 22003 value "18446744073709551615" of column "v" is out of range for type bigint <{"v":18446744073709551615}>"#]]
    .assert_eq(&one(DataType::Int64, wide));
    let single = Arc::new(Float32Array::from(vec![0.1])) as ArrayRef;
    expect![[r#"1: {"v":0.10000000149011612}"#]].assert_eq(&one(DataType::Float64, single));
    let decimal = Decimal128Array::from(vec![12345]).with_precision_and_scale(10, 3).unwrap();
    expect![[r#"1: {"v":"12.35"}"#]]
        .assert_eq(&one(DataType::Decimal128(6, 2), Arc::new(decimal) as ArrayRef));
    let part = |data_type| Fields::from(vec![field("x", data_type)]);
    let structs = StructArray::new(part(DataType::Float64), vec![float(1.5)], None);
    expect![[r#"1! 22P02 invalid input syntax for type struct<x int>: "{"x":1.5}" in column "v" <{"v":{"x":1.5}}>"#]]
        .assert_eq(&one(DataType::Struct(part(DataType::Int32)), Arc::new(structs) as ArrayRef));
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
fn an_arrow_stream_may_not_claim_more_rows_than_its_bytes_hold() {
    use arrow::array::{NullArray, RecordBatch};
    let sent = Arc::new(Schema::new(vec![field("url", DataType::Null)]));
    for (rows, rejected) in [(3, 3), (1 << 20, 1)] {
        let nulls = Arc::new(NullArray::new(rows));
        let batch = RecordBatch::try_new(Arc::clone(&sent), vec![nulls]).unwrap();
        let bytes = encode::arrow_ipc::stream_bytes(&sent, &[batch]).unwrap();
        let decoded = decode(Format::ArrowIpc, clicks(), &bytes);
        assert_eq!((decoded.batch.num_rows(), decoded.rejected.len()), (0, rejected));
    }
}
