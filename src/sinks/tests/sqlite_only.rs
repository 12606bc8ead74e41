//! What only SQLite does.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, UInt64Array};
use arrow::datatypes::Schema;

use super::fixture::{Database, Sqlite, Writer, plan, writer};
use crate::error::{Report, SqlState};
use crate::sinks::sink::{SinkBatch, SinkError, SinkMode, SinkPlan, SinkTarget};
use crate::sinks::sqlite::SqliteTarget;

fn single_column(column: ArrayRef, key: Vec<usize>) -> (SinkPlan, SinkBatch) {
    let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
    let schema: Arc<Schema> = batch.schema();
    let mode = if key.is_empty() { SinkMode::Append } else { SinkMode::Upsert };
    let plan = SinkPlan { schema, key, ..plan("1", mode) };
    (plan, SinkBatch { batch, weights: None, first_offset: 0 })
}

#[test]
fn a_row_with_nan_is_refused_and_none_becomes_null() {
    let database = Sqlite::new();
    let column: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(1.5), None]));
    let (plan, batch) = single_column(column, vec![0]);
    let mut writer = writer(&database, &plan);
    assert_eq!(writer.commit(&batch).unwrap(), 2);
    assert_eq!(database.sql("SELECT x FROM t ORDER BY x"), ["∅", "1.5"]);
    assert_eq!((writer.refused[0].offset, writer.refused[0].code.as_str()), (0, "22023"));
    assert_eq!(writer.refused[0].row, r#"{"x":"NaN"}"#);
}

#[test]
fn a_row_with_nan_beside_its_key_is_refused_and_removes_the_previous_one() {
    let database = Sqlite::new();
    let rows = |first_offset, values: Vec<f64>| {
        let keys: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..values.len() as u64));
        let columns = [("k", keys), ("x", Arc::new(Float64Array::from(values)) as ArrayRef)];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        SinkBatch { batch, weights: None, first_offset }
    };
    let (first, second) = (rows(0, vec![1.0, 2.0]), rows(2, vec![f64::NAN, f64::INFINITY]));
    let plan =
        SinkPlan { schema: first.batch.schema(), key: vec![0], ..plan("1", SinkMode::Upsert) };
    let mut writer = writer(&database, &plan);
    assert_eq!(writer.commit(&first).unwrap(), 2);
    assert_eq!(writer.commit(&second).unwrap(), 1);
    assert_eq!(database.sql("SELECT k, x FROM t"), ["1|inf"]);
    assert_eq!((writer.refused[0].offset, writer.refused[0].code.as_str()), (2, "22023"));
    assert_eq!(writer.refused[0].reason, "NaN in column \"x\" has no form in SQLite");
}

#[test]
fn an_integer_beyond_sqlites_is_refused_and_not_rounded() {
    let database = Sqlite::new();
    let column: ArrayRef = Arc::new(UInt64Array::from(vec![7, u64::MAX]));
    let (plan, batch) = single_column(column, vec![]);
    let mut writer = writer(&database, &plan);
    assert_eq!(writer.commit(&batch).unwrap(), 1);
    assert_eq!(database.sql("SELECT x, typeof(x) FROM t"), ["7|integer"]);
    assert_eq!((writer.refused[0].offset, writer.refused[0].code.as_str()), (1, "22003"));
}

#[test]
fn a_trigger_that_ends_the_transaction_refuses_its_row_alone() {
    let database = Sqlite::new();
    database.sql(
        "CREATE TABLE t (k TEXT, n BIGINT);
         CREATE TRIGGER no_b BEFORE INSERT ON t WHEN new.k = 'b'
         BEGIN SELECT RAISE(ROLLBACK, 'no b here'); END",
    );
    let mut writer = writer(&database, &plan("1", SinkMode::Append));
    assert_eq!(writer.write("+a1 +b1 +c1 +b2 +d1").unwrap(), 3);
    assert_eq!(database.sql("SELECT k FROM t ORDER BY k"), ["a", "c", "d"]);
    let refused: Vec<(u64, &str)> =
        writer.refused.iter().map(|r| (r.offset, r.reason.as_str())).collect();
    assert_eq!(refused, [(1, "no b here"), (3, "no b here")]);
    assert_eq!(database.sql("SELECT \"offset\" FROM weir_progress"), ["5"]);
}

#[test]
fn a_file_that_cannot_be_opened_is_worth_another_try() {
    let mut target = SqliteTarget::new("/nonexistent/folder/x.db".into());
    let error = target.prepare(&plan("1", SinkMode::Append)).unwrap_err();
    assert!(matches!(error, SinkError::Unavailable { .. }) && !error.is_final());
    assert_eq!(error.code(), SqlState::CONNECTION);
}

#[test]
fn a_table_that_disappears_is_worth_another_try() {
    let database = Sqlite::new();
    let mut writer = writer(&database, &plan("1", SinkMode::Append));
    writer.write("+a1").unwrap();
    database.sql("ALTER TABLE t RENAME TO away");
    let error = writer.write("+b1").unwrap_err();
    assert!(!error.is_final(), "{error}");
    assert_eq!(error.code(), SqlState::UNDEFINED_RELATION);
    assert_eq!(error.to_string(), "target of sink \"s\" reports: no such table: t");
    database.sql("ALTER TABLE away RENAME TO t");
    writer.write("+b1").unwrap();
    assert_eq!(database.sql("SELECT k FROM t ORDER BY k"), ["a", "b"]);
}

#[test]
fn names_that_differ_in_case_are_one_table() {
    let database = Sqlite::new();
    writer(&database, &plan("1", SinkMode::Append)).write("+a1").unwrap();
    let mut other = plan("2", SinkMode::Append);
    other.table.name = "T".into();
    assert!(matches!(Writer::new(&database, &other), Err(SinkError::InUse { .. })));
}
