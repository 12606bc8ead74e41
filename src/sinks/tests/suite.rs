//! What every target must do.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};

use super::delivered::{Files, Receiver};
use super::fixture::{Database, MariaDb, Postgres, Sqlite, Writer, changes, plan, writer};
use crate::error::{Error, Report, SqlState};
use crate::sinks::ddl::{TableName, quote};
use crate::sinks::history::History;
use crate::sinks::sink::{SinkBatch, SinkError, SinkMode, SinkPlan};

/// Makes a test on each target of each function.
macro_rules! on_every_target {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[test] fn $name() { super::$name(&super::Sqlite::new()); })*
        }
        mod postgres {
            $(#[test] fn $name() {
                if let Some(database) = super::Postgres::new() { super::$name(&database); }
            })*
        }
        mod mariadb {
            $(#[test] fn $name() {
                if let Some(database) = super::MariaDb::new() { super::$name(&database); }
            })*
        }
    };
}

/// Makes a test on each target that is no database.
macro_rules! on_targets_without_tables {
    ($($name:ident)*) => {
        mod ndjson {
            $(#[test] fn $name() { super::$name(&super::Files::new(FileFormat::Ndjson)); })*
            use crate::sinks::file_format::FileFormat;
        }
        mod csv {
            $(#[test] fn $name() { super::$name(&super::Files::new(FileFormat::Csv)); })*
            use crate::sinks::file_format::FileFormat;
        }
        mod parquet {
            $(#[test] fn $name() { super::$name(&super::Files::new(FileFormat::Parquet)); })*
            use crate::sinks::file_format::FileFormat;
        }
        mod webhook {
            $(#[test] fn $name() { super::$name(&super::Receiver::new()); })*
        }
    };
}

on_targets_without_tables! {
    appended_rows_keep_their_number_and_null
    a_changelog_table_keeps_every_change_with_its_offset
    a_new_writer_resumes_where_the_last_one_committed
    a_transaction_that_counted_already_is_not_written_again
    the_older_of_two_appending_writers_is_fenced
    an_empty_batch_of_an_appending_sink_moves_the_mark
}

on_every_target! {
    a_mark_of_another_past_is_refused_and_its_writer_goes_on
    a_mark_without_its_past_is_taken_as_it_is
    the_older_of_two_appending_writers_is_fenced
    an_empty_batch_of_an_appending_sink_moves_the_mark
    columns_that_a_table_lacks_are_added_on_request
    appended_rows_keep_their_number_and_null
    the_table_holds_the_current_row_of_each_key
    null_keys_are_keys_like_others
    a_changelog_table_keeps_every_change_with_its_offset
    a_new_writer_resumes_where_the_last_one_committed
    a_transaction_that_counted_already_is_not_written_again
    a_transaction_whose_refusals_cannot_be_recorded_does_not_happen
    the_older_of_two_writers_is_fenced
    a_table_of_another_sink_is_refused_unless_adopted
    an_adopted_mark_of_another_changelog_says_nothing
    refused_rows_are_isolated_and_remove_their_keys_previous_row
    a_refused_append_leaves_the_other_rows
    a_refused_delete_is_reported_with_its_reason
    every_row_may_be_refused
    hostile_names_and_values_stay_names_and_values
    a_table_without_the_columns_is_refused
    a_table_with_columns_that_nobody_fills_is_refused
    columns_that_the_user_added_stay
    an_upsert_of_key_columns_alone_works
    an_empty_batch_moves_the_mark
    secondary_unique_keys_are_freed_before_they_are_taken
    the_mark_of_a_dropped_sink_goes_and_its_table_stays
}

fn the_mark_of_a_dropped_sink_goes_and_its_table_stays(database: &dyn Database) {
    // Where there are no marks yet, there is none to take.
    database.target().forget(&plan("1", SinkMode::Append)).unwrap();
    for id in ["1", "2"] {
        let other = TableName { schema: None, name: format!("t{id}") };
        let mut writer = writer(database, &SinkPlan { table: other, ..plan(id, SinkMode::Append) });
        writer.write("+a1").unwrap();
    }
    let table = TableName { schema: None, name: "t1".into() };
    database.target().forget(&SinkPlan { table, ..plan("1", SinkMode::Append) }).unwrap();
    assert_eq!(database.sql("SELECT sink FROM weir_progress"), ["2"]);
    assert_eq!(database.sql("SELECT k, n FROM t1"), ["a|1"]);
}

fn appended_rows_keep_their_number_and_null(database: &dyn Database) {
    let mut writer = writer(database, &plan("1", SinkMode::Append));
    assert_eq!(writer.offset, 0);
    assert_eq!(writer.write("+a1 +a1 +_2").unwrap(), 3);
    assert_eq!(writer.write("+b9223372036854775807").unwrap(), 1);
    let rows = database.sql("SELECT k, n FROM t ORDER BY n, k");
    assert_eq!(rows, ["a|1", "a|1", "∅|2", "b|9223372036854775807"]);
    let error = writer.write("+c1 -c1").unwrap_err();
    assert!(matches!(error, SinkError::Retraction { offset: 5, .. }), "{error}");
    assert!(error.is_final());
    assert_eq!(error.code(), SqlState::APPEND_ONLY_REQUIRED);
}

fn the_table_holds_the_current_row_of_each_key(database: &dyn Database) {
    let mut writer = writer(database, &plan("1", SinkMode::Upsert));
    writer.write("+a1 +b1 +c1").unwrap();
    assert_eq!(writer.write("-a1 +a2 -b1 +d1 -d1 +e5").unwrap(), 3);
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY k"), ["a|2", "c|1", "e|5"]);
    writer.write("-a2 +a3 -a3 +a4 -e5 -c1").unwrap();
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY k"), ["a|4"]);
    let mark = database.sql("SELECT sink, \"offset\", fence FROM weir_progress");
    assert_eq!(mark, ["1|15|1"]);
}

fn null_keys_are_keys_like_others(database: &dyn Database) {
    let mut writer = writer(database, &plan("1", SinkMode::Upsert));
    writer.write("+_1 +a1").unwrap();
    writer.write("-_1 +_2").unwrap();
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY n"), ["a|1", "∅|2"]);
    writer.write("-_2 -a1").unwrap();
    assert!(database.sql("SELECT k, n FROM t").is_empty());
    assert!(writer.refused.is_empty());
}

fn a_changelog_table_keeps_every_change_with_its_offset(database: &dyn Database) {
    let mut writer = writer(database, &plan("1", SinkMode::Changelog));
    writer.write("+a1 -a1 +a2").unwrap();
    writer.write("+b1").unwrap();
    let rows = database.sql("SELECT k, n, weir_offset, weir_op FROM t ORDER BY weir_offset");
    assert_eq!(rows, ["a|1|0|1", "a|1|1|-1", "a|2|2|1", "b|1|3|1"]);
}

fn a_new_writer_resumes_where_the_last_one_committed(database: &dyn Database) {
    let plan = plan("1", SinkMode::Append);
    writer(database, &plan).write("+a1 +b1").unwrap();
    let mut second = writer(database, &plan);
    assert_eq!(second.offset, 2);
    second.write("+c1").unwrap();
    assert_eq!(writer(database, &plan).offset, 3);
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY k"), ["a|1", "b|1", "c|1"]);
}

fn a_transaction_that_counted_already_is_not_written_again(database: &dyn Database) {
    let mut writer = writer(database, &plan("1", SinkMode::Append));
    writer.write("+a1 +b1").unwrap();
    // As after a COMMIT whose reply was lost: the writer does not know that it counted.
    writer.offset = 0;
    assert_eq!(writer.write("+a1 +b1").unwrap(), 2);
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY k"), ["a|1", "b|1"]);
    assert_eq!(writer.write("+c1").unwrap(), 1);
    assert_eq!(database.sql("SELECT count(*) FROM t"), ["3"]);
}

fn a_transaction_whose_refusals_cannot_be_recorded_does_not_happen(database: &dyn Database) {
    database.sql("CREATE TABLE t (k TEXT, n BIGINT CHECK (n < 100))");
    let mut target = database.target();
    target.prepare(&plan("1", SinkMode::Append)).unwrap();
    let mut full = |_: &[_]| Err(Error::new(SqlState::DISK_FULL, "the disk is full"));
    let batch = changes(0, "+a1 +b100");
    let error = target.commit(&batch, 0, 2, &mut full).unwrap_err();
    assert_eq!((error.code(), error.is_final()), (SqlState::DISK_FULL, false));
    assert_eq!(database.sql("SELECT count(*) FROM t"), ["0"]);
    assert_eq!(target.commit(&batch, 0, 2, &mut |_| Ok(())).unwrap(), 1);
    assert_eq!(database.sql("SELECT k FROM t"), ["a"]);
}

fn the_older_of_two_writers_is_fenced(database: &dyn Database) {
    let plan = plan("1", SinkMode::Upsert);
    let mut old = writer(database, &plan);
    old.write("+a1").unwrap();
    let mut new = writer(database, &plan);
    let error = old.write("-a1 +a2").unwrap_err();
    assert!(matches!(error, SinkError::Fenced { .. }) && error.is_final(), "{error}");
    assert_eq!(
        error.detail().unwrap(),
        "weir_progress holds offset 1 with fence 2 instead of 1 with fence 1."
    );
    assert_eq!(database.sql("SELECT k, n FROM t"), ["a|1"]);
    new.write("-a1 +a3").unwrap();
    assert!(matches!(old.write("-a1 +a2"), Err(SinkError::Fenced { .. })));
    assert_eq!(database.sql("SELECT k, n FROM t"), ["a|3"]);
}

fn a_table_of_another_sink_is_refused_unless_adopted(database: &dyn Database) {
    let mut first = writer(database, &plan("1", SinkMode::Append));
    first.write("+a1 +b1").unwrap();
    let mut second = plan("2", SinkMode::Append);
    let error = Writer::new(database, &second).err().unwrap();
    assert!(matches!(&error, SinkError::InUse { others, .. } if others == &["1"]), "{error}");
    assert_eq!(error.to_string(), "table \"t\" is the target of another sink");
    first.write("+c1").unwrap();

    second.adopt = true;
    let mut adopter = writer(database, &second);
    assert_eq!(adopter.offset, 3, "the same changelog goes on where it was");
    assert!(matches!(first.write("+x1"), Err(SinkError::Fenced { .. })));
    adopter.write("+d1").unwrap();
    assert_eq!(database.sql("SELECT k FROM t ORDER BY k"), ["a", "b", "c", "d"]);
    let again = Writer::new(database, &plan("1", SinkMode::Append)).err().unwrap();
    assert!(matches!(again, SinkError::InUse { .. }));
}

fn an_adopted_mark_of_another_changelog_says_nothing(database: &dyn Database) {
    writer(database, &plan("1", SinkMode::Upsert)).write("+a1 +b1").unwrap();
    let mut other = plan("2", SinkMode::Upsert);
    other.adopt = true;
    other.changelog = "another query".into();
    let mut adopter = writer(database, &other);
    assert_eq!(adopter.offset, 0);
    adopter.write("+a7").unwrap();
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY k"), ["a|7", "b|1"]);
}

fn refused_rows_are_isolated_and_remove_their_keys_previous_row(database: &dyn Database) {
    database.sql("CREATE TABLE t (k TEXT PRIMARY KEY, n BIGINT CHECK (n < 100))");
    let mut writer = writer(database, &plan("1", SinkMode::Upsert));
    writer.write("+a1 +b1 +c1 +d1 +e1 +f1 +g1").unwrap();
    let written = writer.write("-a1 +a2 -b1 +b100 -d1 -f1 +f300 +h5 +i200").unwrap();
    assert_eq!(written, 3);
    let rows = database.sql("SELECT k, n FROM t ORDER BY k");
    assert_eq!(rows, ["a|2", "c|1", "e|1", "g|1", "h|5"]);
    let refused: Vec<(u64, &str)> =
        writer.refused.iter().map(|r| (r.offset, r.code.as_str())).collect();
    assert_eq!(refused, [(10, "23514"), (13, "23514"), (15, "23514")]);
    assert_eq!(writer.refused[0].row, r#"{"k":"b","n":100}"#);
    // The next version of a refused row's key comes with the retraction of what is not there.
    writer.write("-b100 +b7").unwrap();
    assert_eq!(database.sql("SELECT n FROM t WHERE k = 'b'"), ["7"]);
}

fn a_refused_append_leaves_the_other_rows(database: &dyn Database) {
    database.sql("CREATE TABLE t (k TEXT NOT NULL, n BIGINT UNIQUE)");
    let mut writer = writer(database, &plan("1", SinkMode::Append));
    assert_eq!(writer.write("+a1 +_2 +b1 +c3").unwrap(), 2);
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY k"), ["a|1", "c|3"]);
    let refused: Vec<(u64, &str)> =
        writer.refused.iter().map(|r| (r.offset, r.code.as_str())).collect();
    assert_eq!(refused, [(1, "23502"), (2, "23505")]);
}

fn a_refused_delete_is_reported_with_its_reason(database: &dyn Database) {
    database.sql("CREATE TABLE t (k TEXT PRIMARY KEY, n BIGINT CHECK (n < 100))");
    database.sql("CREATE TABLE child (k TEXT REFERENCES t (k))");
    let mut writer = writer(database, &plan("1", SinkMode::Upsert));
    writer.write("+a1 +b1").unwrap();
    database.sql("INSERT INTO child VALUES ('a')");
    assert_eq!(writer.write("-a1 -b1 +c1").unwrap(), 2);
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY k"), ["a|1", "c|1"]);
    assert_eq!((writer.refused[0].offset, writer.refused[0].code.as_str()), (2, "23503"));
    writer.write("+a100").unwrap();
    assert_eq!(writer.refused[1].code, "23514");
    assert!(writer.refused[1].reason.contains("previous row stays"), "{:?}", writer.refused[1]);
}

fn every_row_may_be_refused(database: &dyn Database) {
    database.sql("CREATE TABLE t (k TEXT, n BIGINT CHECK (n > 1000))");
    let mut writer = writer(database, &plan("1", SinkMode::Append));
    let text: Vec<String> = (0..50).map(|n| format!("+a{n}")).collect();
    assert_eq!(writer.write(&text.join(" ")).unwrap(), 0);
    let offsets: Vec<u64> = writer.refused.iter().map(|refused| refused.offset).collect();
    assert_eq!(offsets, (0..50).collect::<Vec<u64>>());
    assert_eq!(database.sql("SELECT \"offset\" FROM weir_progress"), ["50"]);
}

fn hostile_names_and_values_stay_names_and_values(database: &dyn Database) {
    let bad = "x\"; DROP TABLE t; --";
    let column = &format!("select \"'; `\\ $1 ?1\n{}", database.wide());
    let schema = Arc::new(Schema::new(vec![
        Field::new(column, DataType::Utf8, true),
        Field::new("operation", DataType::Int64, true),
    ]));
    database.sql("CREATE TABLE t (a INT)");
    let mut plan = plan("'; DROP TABLE t; --", SinkMode::Upsert);
    plan.schema = Arc::clone(&schema);
    plan.table = TableName::plain(bad);
    let mut writer = writer(database, &plan);
    let values = ["'; DROP TABLE t; --", "\\N", "\\.", "a\tb\nc\\", "", "NULL", "\u{1F4A7}\r"];
    let texts: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
    let batch = RecordBatch::try_new(schema, vec![texts, numbers]).unwrap();
    writer.commit(&SinkBatch { batch: batch.clone(), weights: None, first_offset: 0 }).unwrap();
    let select = format!("SELECT {} FROM {} ORDER BY operation", quote(column), quote(bad));
    assert_eq!(database.sql(&select), values);
    let weights = Some(Int64Array::from_value(-1, values.len()));
    let first_offset = writer.offset;
    writer.commit(&SinkBatch { batch, weights, first_offset }).unwrap();
    assert!(database.sql(&select).is_empty());
    assert_eq!(database.sql("SELECT count(*) FROM t"), ["0"]);
}

fn a_table_without_the_columns_is_refused(database: &dyn Database) {
    database.sql("CREATE TABLE t (k TEXT PRIMARY KEY, m BIGINT)");
    let error = Writer::new(database, &plan("1", SinkMode::Changelog)).err().unwrap();
    assert_eq!((error.code(), error.is_final()), (SqlState::UNDEFINED_COLUMN, true));
    assert_eq!(error.to_string(), "table \"t\" does not fit sink \"s\"");
    assert_eq!(error.detail().unwrap(), "It lacks the columns n, weir_offset, weir_op.");
}

fn a_table_with_columns_that_nobody_fills_is_refused(database: &dyn Database) {
    database.sql("CREATE TABLE t (k TEXT PRIMARY KEY, n BIGINT, x INT NOT NULL)");
    let error = Writer::new(database, &plan("1", SinkMode::Upsert)).err().unwrap();
    assert_eq!(error.detail().unwrap(), "Its columns x need values.");
    assert_eq!(error.code(), SqlState::NOT_NULL_VIOLATION);
}

fn columns_that_the_user_added_stay(database: &dyn Database) {
    database.sql("CREATE TABLE t (x INT DEFAULT 7 NOT NULL, n BIGINT, k TEXT PRIMARY KEY)");
    let mut writer = writer(database, &plan("1", SinkMode::Upsert));
    writer.write("+a1 +b1").unwrap();
    database.sql("UPDATE t SET x = 8 WHERE k = 'a'");
    writer.write("-a1 +a2 -b1 +b2").unwrap();
    assert_eq!(database.sql("SELECT k, n, x FROM t ORDER BY k"), ["a|2|8", "b|2|7"]);
}

fn an_upsert_of_key_columns_alone_works(database: &dyn Database) {
    let mut plan = plan("1", SinkMode::Upsert);
    plan.key = vec![0, 1];
    let mut writer = writer(database, &plan);
    writer.write("+a1 +b1 +_3").unwrap();
    writer.write("-a1 +a2 -_3 +_4 +b1 -b1 -b1 +b1").unwrap();
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY n"), ["b|1", "a|2", "∅|4"]);
}

fn an_empty_batch_moves_the_mark(database: &dyn Database) {
    let plan = plan("1", SinkMode::Upsert);
    let mut writer = writer(database, &plan);
    let mut target = database.target();
    target.prepare(&plan).unwrap();
    assert_eq!(target.commit(&changes(0, ""), 0, 7, &mut |_| Ok(())).unwrap(), 0);
    assert_eq!(target.commit(&changes(7, "+a1 -a1"), 7, 9, &mut |_| Ok(())).unwrap(), 0);
    assert_eq!(database.sql("SELECT \"offset\" FROM weir_progress"), ["9"]);
    assert!(writer.write("+a1").is_err());
}

fn secondary_unique_keys_are_freed_before_they_are_taken(database: &dyn Database) {
    database.sql("CREATE TABLE t (k TEXT PRIMARY KEY, n BIGINT UNIQUE)");
    let mut writer = writer(database, &plan("1", SinkMode::Upsert));
    writer.write("+b1").unwrap();
    writer.write("+a1 -b1").unwrap();
    assert_eq!(database.sql("SELECT k, n FROM t"), ["a|1"]);
    assert!(writer.refused.is_empty());
}

fn the_older_of_two_appending_writers_is_fenced(database: &dyn Database) {
    let plan = plan("1", SinkMode::Append);
    let mut old = writer(database, &plan);
    old.write("+a1").unwrap();
    let mut new = writer(database, &plan);
    let error = old.write("+b1").unwrap_err();
    assert!(matches!(error, SinkError::Fenced { .. }) && error.is_final(), "{error}");
    assert_eq!(error.to_string(), "sink \"s\" has been taken over by another writer");
    assert_eq!(
        error.detail().unwrap(),
        "weir_progress holds offset 1 with fence 2 instead of 1 with fence 1."
    );
    new.write("+c1").unwrap();
    assert!(matches!(old.write("+d1"), Err(SinkError::Fenced { .. })));
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY k"), ["a|1", "c|1"]);
}

fn an_empty_batch_of_an_appending_sink_moves_the_mark(database: &dyn Database) {
    let plan = plan("1", SinkMode::Append);
    let mut target = database.target();
    target.prepare(&plan).unwrap();
    assert_eq!(target.commit(&changes(0, ""), 0, 7, &mut |_| Ok(())).unwrap(), 0);
    assert_eq!(target.commit(&changes(7, "+a1"), 7, 8, &mut |_| Ok(())).unwrap(), 1);
    drop(target);
    assert_eq!(writer(database, &plan).offset, 8);
    assert_eq!(database.sql("SELECT count(*) FROM t"), ["1"]);
}

fn columns_that_a_table_lacks_are_added_on_request(database: &dyn Database) {
    database.sql("CREATE TABLE t (k TEXT PRIMARY KEY, x INT)");
    database.sql("INSERT INTO t VALUES ('old', 1)");
    let mut plan = plan("1", SinkMode::Upsert);
    let error = Writer::new(database, &plan).err().unwrap();
    assert!(error.hint().unwrap().contains("add_columns = true"), "{error:?}");
    plan.add_columns = true;
    writer(database, &plan).write("+a1 +b2").unwrap();
    // What is there already is not added again.
    writer(database, &plan).write("-a1 +a3").unwrap();
    let rows = database.sql("SELECT k, n, x FROM t ORDER BY k");
    assert_eq!(rows, ["a|3|∅", "b|2|∅", "old|∅|1"]);
    // A key is not made up for rows that are there.
    database.sql("DROP TABLE t");
    database.sql("CREATE TABLE t (n BIGINT)");
    let error = Writer::new(database, &plan).err().unwrap();
    assert_eq!(error.detail().unwrap(), "It lacks the columns k.");
}

/// A changelog with an entry to each row, which was appended at so many microseconds for each offset.
#[derive(Debug)]
struct Past {
    end: u64,
    pace: i64,
}

impl History for Past {
    fn end(&self) -> u64 {
        self.end
    }

    fn entry_time(&self, offset: u64) -> Option<i64> {
        Some(self.pace * i64::try_from(offset).unwrap())
    }
}

fn plan_of(end: u64, pace: i64) -> SinkPlan {
    SinkPlan { history: Some(Arc::new(Past { end, pace })), ..plan("1", SinkMode::Append) }
}

fn a_mark_of_another_past_is_refused_and_its_writer_goes_on(database: &dyn Database) {
    let mut writer = writer(database, &plan_of(9, 1));
    writer.write("+a1 +b1").unwrap();
    let refused = |plan: &SinkPlan| match Writer::new(database, plan) {
        Err(error @ SinkError::Ahead { .. }) => error.detail().unwrap(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it is taken"),
    };
    let detail = "The target has the changelog up to offset 2, and here it ends at 1.";
    assert_eq!(refused(&plan_of(1, 1)), detail);
    let detail = "The target has the changelog up to offset 2, of another past: the row before it was appended \
                  at 1970-01-01T00:00:00.000002+00:00, and here at 1970-01-01T00:00:00.000006+00:00.";
    assert_eq!(refused(&plan_of(9, 3)), detail);
    let adopting = SinkPlan { id: "2".into(), adopt: true, ..plan_of(9, 3) };
    assert_eq!(refused(&adopting), detail);
    writer.write("+c1").unwrap();
    let (copy, adopting) =
        (plan_of(3, 1), SinkPlan { id: "2".into(), adopt: true, ..plan_of(3, 1) });
    assert_eq!(Writer::new(database, &copy).unwrap().offset, 3);
    assert_eq!(Writer::new(database, &adopting).unwrap().offset, 3);
    assert_eq!(database.sql("SELECT k FROM t ORDER BY k"), ["a", "b", "c"]);
}

fn a_mark_without_its_past_is_taken_as_it_is(database: &dyn Database) {
    writer(database, &plan("1", SinkMode::Append)).write("+a1 +b1").unwrap();
    assert_eq!(database.sql("SELECT changelog FROM weir_progress"), ["q"]);
    // An earlier version moves the offset and leaves the words.
    for (words, after) in [("q", 3), ("q 2@7", 4), ("q ?", 5)] {
        database.sql(&format!("UPDATE weir_progress SET changelog = '{words}'"));
        let mut writer = writer(database, &plan_of(9, 3));
        writer.write("+c1").unwrap();
        assert_eq!(writer.offset, after);
        let counted = format!("q {after}@{}", 3 * after);
        assert_eq!(database.sql("SELECT changelog FROM weir_progress"), [counted]);
    }
}
