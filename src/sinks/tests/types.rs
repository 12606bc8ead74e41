//! Every column type, with its extremes, as each target stores it.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray, ListArray, RecordBatch,
    StringViewArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Fields, Int64Type, IntervalMonthDayNano, Schema};
use expect_test::{Expect, expect};

use super::fixture::{Database, MariaDb, Postgres, Sqlite, plan, writer};
use crate::data::schema::JSON_MARK;
use crate::sinks::sink::{SinkBatch, SinkMode, SinkPlan};

/// The extremes that a target can hold.
#[derive(Clone, Copy, PartialEq)]
enum Extremes {
    /// All of the types.
    All,
    /// All but NaN.
    Numbers,
    /// Years 1 to 9999, numbers that are finite.
    Modest,
}

/// A column of each type: an ordinary value, an extreme one, null.
fn columns(extremes: Extremes) -> Vec<(&'static str, ArrayRef)> {
    let all = extremes != Extremes::Modest;
    let nan = if extremes == Extremes::All { f64::NAN } else { 5e-324 };
    let instant = if all { i64::MAX } else { 253_402_300_799_999_999 };
    let day = if all { -800_000 } else { -719_162 };
    let float = |wide: f64, modest: f64| if all { wide } else { modest };
    let instants = move || TimestampMicrosecondArray::from(vec![Some(-1), Some(instant), None]);
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), None]),
        Some(vec![]),
        None,
    ]);
    let inner: Fields =
        vec![Field::new("a", DataType::Utf8View, true), Field::new("b", DataType::Float64, true)]
            .into();
    let structs = StructArray::new(
        inner,
        vec![
            Arc::new(StringViewArray::from(vec!["x\"\\", "", ""])),
            Arc::new(Float64Array::from(vec![1.5, f64::NAN, 0.0])),
        ],
        Some(vec![true, true, false].into()),
    );
    let intervals = IntervalMonthDayNanoArray::from(vec![
        Some(IntervalMonthDayNano::new(14, -3, -1_500_000_000)),
        Some(IntervalMonthDayNano::new(i32::MAX, i32::MAX, i64::MAX)),
        None,
    ]);
    let decimals = Decimal128Array::from(vec![Some(-5), Some(10_i128.pow(38) - 1), None]);
    let json = StringViewArray::from(vec![Some("{\"b\": [1, null]}"), Some("null"), None]);
    vec![
        ("c_bool", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("c_small", Arc::new(Int16Array::from(vec![Some(-1), Some(i16::MIN), None]))),
        ("c_int", Arc::new(Int32Array::from(vec![Some(-1), Some(i32::MIN), None]))),
        ("c_big", Arc::new(Int64Array::from(vec![Some(-1), Some(i64::MIN), None]))),
        ("c_unsigned", Arc::new(UInt64Array::from(vec![Some(1), Some(i64::MAX as u64), None]))),
        (
            "c_real",
            Arc::new(Float32Array::from(vec![
                Some(0.1),
                Some(float(f64::NEG_INFINITY, f32::MAX.into()) as f32),
                None,
            ])),
        ),
        (
            "c_double",
            Arc::new(Float64Array::from(vec![
                Some(-0.0),
                Some(float(f64::INFINITY, f64::MAX)),
                None,
            ])),
        ),
        ("c_nan", Arc::new(Float64Array::from(vec![Some(1e300), Some(nan), None]))),
        ("c_numeric", Arc::new(decimals.with_precision_and_scale(38, 9).unwrap())),
        ("c_text", Arc::new(StringViewArray::from(vec![Some("\u{1F4A7}\t\\"), Some(""), None]))),
        ("c_date", Arc::new(Date32Array::from(vec![Some(-1), Some(day), None]))),
        ("c_stamp", Arc::new(instants())),
        ("c_stamptz", Arc::new(instants().with_timezone("UTC"))),
        (
            "c_time",
            Arc::new(Time64MicrosecondArray::from(vec![Some(0), Some(86_399_999_999), None])),
        ),
        ("c_interval", Arc::new(intervals)),
        ("c_bytes", Arc::new(BinaryArray::from(vec![Some(&[0_u8, 255][..]), Some(&[]), None]))),
        ("c_list", Arc::new(list)),
        ("c_struct", Arc::new(structs)),
        ("c_json", Arc::new(json)),
    ]
}

/// The columns with their fields, one of them marked as JSON.
fn fields(extremes: Extremes) -> Vec<(Field, ArrayRef)> {
    columns(extremes)
        .into_iter()
        .map(|(name, column)| {
            let field = Field::new(name, column.data_type().clone(), true);
            let json = [(JSON_MARK.to_owned(), "true".to_owned())];
            match name {
                "c_json" => (field.with_metadata(json.into()), column),
                _ => (field, column),
            }
        })
        .collect()
}

/// Writes the columns into a new table, in upsert mode with every column as key; reads them as
/// text; deletes them by their keys, which needs every value to equal what was stored.
fn check(
    database: &dyn Database,
    as_text: &str,
    (extremes, no_key): (Extremes, &[&str]),
    expected: Expect,
) {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = fields(extremes).into_iter().unzip();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).unwrap();
    let is_key = |&i: &usize| !no_key.contains(&schema.field(i).name().as_str());
    let key = (0..batch.num_columns()).filter(is_key).collect();
    let plan = SinkPlan { schema: Arc::clone(&schema), key, ..plan("1", SinkMode::Upsert) };
    let mut writer = writer(database, &plan);
    writer.commit(&SinkBatch { batch: batch.clone(), weights: None, first_offset: 0 }).unwrap();
    assert_eq!(writer.refused, []);

    let mut lines = Vec::new();
    for field in schema.fields() {
        let text = as_text.replace('?', field.name());
        let mut values = database.sql(&format!("SELECT {text} FROM t"));
        values.sort();
        lines.push(format!("{}: {}", field.name(), values.join(" ; ")));
    }
    expected.assert_eq(&lines.join("\n"));

    let weights = Some(Int64Array::from_value(-1, batch.num_rows()));
    writer.commit(&SinkBatch { batch, weights, first_offset: 3 }).unwrap();
    assert_eq!(database.sql("SELECT count(*) FROM t"), ["0"]);
}

#[test]
fn sqlite_stores_every_type() {
    check(
        &Sqlite::new(),
        // JSON cannot be found by its text.
        "typeof(?) || ' ' || iif(typeof(?) = 'blob', hex(?), coalesce(?, '∅'))",
        (Extremes::Numbers, &["c_json"]),
        expect![[r#"
        c_bool: integer 0 ; integer 1 ; null ∅
        c_small: integer -1 ; integer -32768 ; null ∅
        c_int: integer -1 ; integer -2147483648 ; null ∅
        c_big: integer -1 ; integer -9223372036854775808 ; null ∅
        c_unsigned: integer 1 ; integer 9223372036854775807 ; null ∅
        c_real: null ∅ ; real -Inf ; real 0.100000001490116
        c_double: null ∅ ; real 0.0 ; real Inf
        c_nan: null ∅ ; real 1.0e+300 ; real 4.94065645841247e-324
        c_numeric: null ∅ ; text -0.000000005 ; text 99999999999999999999999999999.999999999
        c_text: null ∅ ; text  ; text 💧	\
        c_date: null ∅ ; text -0221-09-04 ; text 1969-12-31
        c_stamp: null ∅ ; text 1969-12-31 23:59:59.999999 ; text 294247-01-10 04:00:54.775807
        c_stamptz: null ∅ ; text 1969-12-31 23:59:59.999999+00:00 ; text 294247-01-10 04:00:54.775807+00:00
        c_time: null ∅ ; text 00:00:00.000000 ; text 23:59:59.999999
        c_interval: null ∅ ; text P14M-3DT-1.5S ; text P2147483647M2147483647DT9223372036.854775807S
        c_bytes: blob  ; blob 00FF ; null ∅
        c_list: null ∅ ; text [1,null] ; text []
        c_struct: null ∅ ; text {"a":"","b":"NaN"} ; text {"a":"x\"\\","b":1.5}
        c_json: null ∅ ; text null ; text {"b": [1, null]}"#]],
    );
}

#[test]
fn postgres_stores_every_type() {
    if let Some(database) = Postgres::new() {
        check(
            &database,
            "pg_typeof(?) || ' ' || coalesce(?::text, '∅')",
            (Extremes::All, &["c_nan", "c_json"]),
            expect![[r#"
            c_bool: boolean false ; boolean true ; boolean ∅
            c_small: smallint -1 ; smallint -32768 ; smallint ∅
            c_int: integer -1 ; integer -2147483648 ; integer ∅
            c_big: bigint -1 ; bigint -9223372036854775808 ; bigint ∅
            c_unsigned: numeric 1 ; numeric 9223372036854775807 ; numeric ∅
            c_real: real -Infinity ; real 0.1 ; real ∅
            c_double: double precision -0 ; double precision Infinity ; double precision ∅
            c_nan: double precision 1e+300 ; double precision NaN ; double precision ∅
            c_numeric: numeric -0.000000005 ; numeric 99999999999999999999999999999.999999999 ; numeric ∅
            c_text: text  ; text ∅ ; text 💧	\
            c_date: date 0222-09-04 BC ; date 1969-12-31 ; date ∅
            c_stamp: timestamp without time zone 1969-12-31 23:59:59.999999 ; timestamp without time zone 294247-01-10 04:00:54.775807 ; timestamp without time zone ∅
            c_stamptz: timestamp with time zone 1969-12-31 23:59:59.999999+00 ; timestamp with time zone 294247-01-10 04:00:54.775807+00 ; timestamp with time zone ∅
            c_time: time without time zone 00:00:00 ; time without time zone 23:59:59.999999 ; time without time zone ∅
            c_interval: interval 1 year 2 mons -3 days -00:00:01.5 ; interval 178956970 years 7 mons 2147483647 days 2562047:47:16.854775 ; interval ∅
            c_bytes: bytea \x ; bytea \x00ff ; bytea ∅
            c_list: bigint[] {1,NULL} ; bigint[] {} ; bigint[] ∅
            c_struct: jsonb {"a": "", "b": "NaN"} ; jsonb {"a": "x\"\\", "b": 1.5} ; jsonb ∅
            c_json: jsonb null ; jsonb {"b": [1, null]} ; jsonb ∅"#]],
        );
    }
}

#[test]
fn mariadb_stores_every_type() {
    if let Some(database) = MariaDb::new() {
        // Keys have at most 16 columns, and none of JSON.
        let no_key = ["c_nan", "c_json", "c_list", "c_struct", "c_interval", "c_real", "c_double"];
        check(
            &database,
            "coalesce(if(hex(?) IS NOT NULL AND '?' = 'c_bytes', hex(?), ?), '∅')",
            (Extremes::Modest, &no_key),
            expect![[r#"
                c_bool: 0 ; 1 ; ∅
                c_small: -1 ; -32768 ; ∅
                c_int: -1 ; -2147483648 ; ∅
                c_big: -1 ; -9223372036854775808 ; ∅
                c_unsigned: 1 ; 9223372036854775807 ; ∅
                c_real: 0.1 ; 3.4028235e38 ; ∅
                c_double: 0 ; 1.7976931348623157e308 ; ∅
                c_nan: 1e300 ; 5e-324 ; ∅
                c_numeric: -0.000000005 ; 99999999999999999999999999999.999999999 ; ∅
                c_text:  ; ∅ ; 💧	\
                c_date: 0001-01-01 ; 1969-12-31 ; ∅
                c_stamp: 1969-12-31 23:59:59.999999 ; 9999-12-31 23:59:59.999999 ; ∅
                c_stamptz: 1969-12-31 23:59:59.999999 ; 9999-12-31 23:59:59.999999 ; ∅
                c_time: 00:00:00.000000 ; 23:59:59.999999 ; ∅
                c_interval: P14M-3DT-1.5S ; P2147483647M2147483647DT9223372036.854775807S ; ∅
                c_bytes:  ; 00FF ; ∅
                c_list: [1,null] ; [] ; ∅
                c_struct: {"a":"","b":"NaN"} ; {"a":"x\"\\","b":1.5} ; ∅
                c_json: null ; {"b": [1, null]} ; ∅"#]],
        );
    }
}
