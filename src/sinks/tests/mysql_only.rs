//! What only MySQL and MariaDB do.

use std::net::TcpListener;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::DataType;

use super::fixture::{Database, MariaDb, Writer, plan, writer};
use crate::error::{Report, SqlState};
use crate::sinks::mysql::MysqlTarget;
use crate::sinks::mysql_url::MysqlUrl;
use crate::sinks::sink::{SinkBatch, SinkError, SinkMode, SinkPlan, SinkTarget};

#[test]
fn a_row_never_replaces_another_keys_row_through_a_second_unique_key() {
    let Some(database) = MariaDb::new() else { return };
    database.sql("CREATE TABLE t (k TEXT PRIMARY KEY, n BIGINT UNIQUE, x INT DEFAULT 7)");
    let mut writer = writer(&database, &plan("1", SinkMode::Upsert));
    writer.write("+a1 +b2").unwrap();
    assert_eq!(writer.write("+c1 -b2 +b3 +d4").unwrap(), 2);
    assert_eq!(database.sql("SELECT k, n, x FROM t ORDER BY k"), ["a|1|7", "b|3|7", "d|4|7"]);
    assert_eq!((writer.refused[0].offset, writer.refused[0].code.as_str()), (2, "23505"));
}

#[test]
fn an_engine_without_transactions_and_a_missing_key_are_refused() {
    let Some(database) = MariaDb::new() else { return };
    database.sql("CREATE TABLE t (k TEXT PRIMARY KEY, n BIGINT) ENGINE = MyISAM");
    let error = Writer::new(&database, &plan("1", SinkMode::Upsert)).err().unwrap();
    assert_eq!((error.code(), error.is_final()), (SqlState::NOT_SUPPORTED, true));
    assert_eq!(error.detail().unwrap(), "Its engine MyISAM has no transactions.");
    database.sql("DROP TABLE t");
    database.sql("CREATE TABLE t (k TEXT, n BIGINT, UNIQUE (k(3)))");
    let error = Writer::new(&database, &plan("1", SinkMode::Upsert)).err().unwrap();
    assert_eq!(error.hint().unwrap(), "ALTER TABLE `t` ADD UNIQUE (`k`).");
    database.sql("DROP TABLE t");
    database.sql("CREATE TABLE t (k TEXT PRIMARY KEY, n DATETIME)");
    let error = Writer::new(&database, &plan("1", SinkMode::Upsert)).err().unwrap();
    assert_eq!(error.code(), SqlState::TYPE_MISMATCH);
    assert_eq!(
        error.detail().unwrap(),
        "Its column \"n\" has the type datetime and should be BIGINT."
    );
    // The refusals left nothing behind.
    let count = "SELECT count(*) FROM information_schema.tables \
                 WHERE table_schema = DATABASE() AND table_name = 'weir_progress'";
    assert_eq!(database.sql(count), ["0"]);
}

#[test]
fn keys_differ_in_case_and_trailing_blanks() {
    let Some(database) = MariaDb::new() else { return };
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["a", "A", "a ", "ä", "a\0"]));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..5));
    let batch = RecordBatch::try_from_iter([("k", keys), ("n", numbers)]).unwrap();
    let mut writer = writer(&database, &plan("1", SinkMode::Upsert));
    assert_eq!(writer.commit(&SinkBatch { batch, weights: None, first_offset: 0 }).unwrap(), 5);
    assert_eq!(database.sql("SELECT count(*) FROM t"), ["5"]);
}

#[test]
fn what_has_no_form_is_refused_and_not_cut() {
    let Some(database) = MariaDb::new() else { return };
    let long = "x".repeat(300);
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", long.as_str(), "d"]));
    let floats = vec![f64::NAN, 1.5, 2.5, f64::NEG_INFINITY];
    let floats: ArrayRef = Arc::new(Float64Array::from(floats));
    let batch = RecordBatch::try_from_iter([("k", keys), ("f", floats)]).unwrap();
    let plan = SinkPlan { schema: batch.schema(), ..plan("1", SinkMode::Upsert) };
    let mut writer = writer(&database, &plan);
    database.sql("INSERT INTO t VALUES ('a', 9)");
    assert_eq!(writer.commit(&SinkBatch { batch, weights: None, first_offset: 0 }).unwrap(), 1);
    assert_eq!(database.sql("SELECT k, f FROM t"), ["b|1.5"]);
    let refused: Vec<(u64, &str)> =
        writer.refused.iter().map(|r| (r.offset, r.code.as_str())).collect();
    assert_eq!(refused, [(0, "22003"), (2, "22001"), (3, "22003")]);
}

#[test]
fn a_row_longer_than_a_packet_is_refused_and_a_long_batch_is_split() {
    let Some(database) = MariaDb::new() else { return };
    let texts: Vec<String> =
        [20 << 20, 3 << 20, 10, 5 << 20].iter().map(|length| "y".repeat(*length)).collect();
    let texts: ArrayRef = Arc::new(StringArray::from(texts));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..4));
    let batch = RecordBatch::try_from_iter([("t", texts), ("n", numbers)]).unwrap();
    let plan = SinkPlan { schema: batch.schema(), ..plan("1", SinkMode::Append) };
    let mut writer = writer(&database, &plan);
    assert_eq!(writer.commit(&SinkBatch { batch, weights: None, first_offset: 0 }).unwrap(), 3);
    let lengths = database.sql("SELECT n, length(t) FROM t ORDER BY n");
    assert_eq!(lengths, ["1|3145728", "2|10", "3|5242880"]);
    assert_eq!((writer.refused[0].offset, writer.refused[0].code.as_str()), (0, "54000"));
}

#[test]
fn a_key_of_several_columns_is_found() {
    let Some(database) = MariaDb::new() else { return };
    let mut plan = plan("1", SinkMode::Upsert);
    plan.key = vec![1, 0];
    let mut writer = writer(&database, &plan);
    let many: Vec<String> = (0..3_000).map(|n| format!("+a{n}")).collect();
    assert_eq!(writer.write(&many.join(" ")).unwrap(), 3_000);
    let gone: Vec<String> = (0..2_500).map(|n| format!("-a{n}")).collect();
    assert_eq!(writer.write(&gone.join(" ")).unwrap(), 2_500);
    assert_eq!(database.sql("SELECT count(*), min(n) FROM t"), ["500|2500"]);
}

#[test]
fn a_wrong_password_and_a_server_that_is_away_are_told_apart() {
    let Some(database) = MariaDb::new() else { return };
    let url = MysqlUrl { password: "wrong".into(), ..database.url.clone() };
    let error = MysqlTarget::new(url, None).prepare(&plan("1", SinkMode::Append)).unwrap_err();
    assert!(matches!(error, SinkError::Target { .. }), "{error}");
    assert!(error.to_string().contains("Access denied"), "{error}");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = MysqlUrl { port, ..database.url };
    let error = MysqlTarget::new(url, None).prepare(&plan("1", SinkMode::Append)).unwrap_err();
    assert!(matches!(error, SinkError::Unavailable { .. }), "{error}");
    assert!(!error.is_final());
}

#[test]
fn types_of_the_suite_have_a_column() {
    // The suite's own columns, so that its tables are what the tests of this file think.
    let schema = super::fixture::schema();
    let types: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
    assert_eq!(types, [&DataType::Utf8View, &DataType::Int64]);
}
