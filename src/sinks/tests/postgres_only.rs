//! What only PostgreSQL does.

use std::net::TcpListener;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};

use super::fixture::{Database, Postgres, Writer, plan, writer};
use crate::error::{Report, SqlState};
use crate::sinks::ddl::TableName;
use crate::sinks::postgres::PostgresTarget;
use crate::sinks::sink::{SinkBatch, SinkError, SinkMode, SinkTarget};

#[test]
fn text_with_nul_is_refused_and_its_key_removed() {
    let Some(database) = Postgres::new() else { return };
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c\0"]));
    let item = Arc::new(Field::new("item", DataType::Utf8, true));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "\0y", "z"]));
    let list: ArrayRef =
        Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([1, 1, 1]), texts, None));
    let batch = RecordBatch::try_from_iter([("k", keys), ("l", list)]).unwrap();
    let mut plan = plan("1", SinkMode::Upsert);
    plan.schema = batch.schema();
    let mut writer = writer(&database, &plan);
    database.sql("INSERT INTO t VALUES ('b', '{previous}')");
    assert_eq!(writer.commit(&SinkBatch { batch, weights: None, first_offset: 0 }).unwrap(), 1);
    assert_eq!(database.sql("SELECT k, l FROM t"), ["a|{x}"]);
    let refused: Vec<(u64, &str)> =
        writer.refused.iter().map(|r| (r.offset, r.code.as_str())).collect();
    assert_eq!(refused, [(1, "22021"), (2, "22021")]);
}

#[test]
fn the_created_table_has_a_key() {
    let Some(database) = Postgres::new() else { return };
    writer(&database, &plan("1", SinkMode::Upsert));
    let definition = "SELECT pg_get_constraintdef(oid) FROM pg_constraint \
                      WHERE conrelid = to_regclass('t')";
    let found = database.sql(definition);
    assert!(["UNIQUE NULLS NOT DISTINCT (k)", "PRIMARY KEY (k)"].contains(&found[0].as_str()));
    database.sql("DROP TABLE t; DROP TABLE weir_progress");
    let mut not_null = plan("2", SinkMode::Upsert);
    not_null.key = vec![0];
    let fields =
        vec![Field::new("k", DataType::Utf8View, false), Field::new("n", DataType::Int64, true)];
    not_null.schema = Arc::new(arrow::datatypes::Schema::new(fields));
    writer(&database, &not_null);
    assert_eq!(database.sql(definition), ["PRIMARY KEY (k)"]);
}

#[test]
fn null_keys_are_found_in_a_table_that_takes_nulls_for_distinct() {
    let Some(database) = Postgres::new() else { return };
    database.sql("CREATE TABLE t (k TEXT UNIQUE, n BIGINT)");
    let mut writer = writer(&database, &plan("1", SinkMode::Upsert));
    writer.write("+_1 +a1").unwrap();
    writer.write("-_1 +_2").unwrap();
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY n"), ["a|1", "∅|2"]);
}

#[test]
fn a_table_without_a_unique_key_or_with_other_types_is_refused() {
    let Some(database) = Postgres::new() else { return };
    database.sql("CREATE TABLE t (k TEXT, n BIGINT)");
    let error = Writer::new(&database, &plan("1", SinkMode::Upsert)).err().unwrap();
    assert_eq!(error.detail().unwrap(), "It has no unique constraint on (\"k\").");
    assert_eq!(error.hint().unwrap(), "ALTER TABLE \"t\" ADD UNIQUE (\"k\").");
    assert!(error.is_final());
    // The refusal left nothing behind.
    assert_eq!(database.sql("SELECT to_regclass('weir_progress')"), ["∅"]);
    database.sql("DROP TABLE t; CREATE TABLE t (k TEXT PRIMARY KEY, n TIMESTAMP)");
    let error = Writer::new(&database, &plan("1", SinkMode::Upsert)).err().unwrap();
    assert_eq!(error.code(), SqlState::TYPE_MISMATCH);
    assert_eq!(
        error.detail().unwrap(),
        "Its column \"n\" has the type timestamp without time zone and should be BIGINT."
    );
}

#[test]
fn the_types_of_an_existing_table_are_kept() {
    let Some(database) = Postgres::new() else { return };
    database.sql("CREATE TABLE t (n NUMERIC(3,1), k VARCHAR(1) PRIMARY KEY DEFERRABLE)");
    let plan = plan("1", SinkMode::Append);
    let mut writer = writer(&database, &plan);
    assert_eq!(writer.write("+a1 +b100 +c2 +a9").unwrap(), 2);
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY k"), ["a|1.0", "c|2.0"]);
    let codes: Vec<&str> = writer.refused.iter().map(|r| r.code.as_str()).collect();
    assert_eq!(codes, ["22003", "23505"]);
}

#[test]
fn a_deferred_constraint_refuses_its_row_alone() {
    let Some(database) = Postgres::new() else { return };
    database.sql("CREATE TABLE t (k TEXT, n BIGINT UNIQUE DEFERRABLE INITIALLY DEFERRED)");
    let mut writer = writer(&database, &plan("1", SinkMode::Append));
    assert_eq!(writer.write("+a1 +b1 +c2").unwrap(), 2);
    assert_eq!(database.sql("SELECT k FROM t ORDER BY k"), ["a", "c"]);
    assert_eq!(writer.refused[0].code, "23505");
}

#[test]
fn a_table_may_live_in_another_schema() {
    let Some(database) = Postgres::new() else { return };
    let schema = database.sql("SELECT current_schema()").remove(0);
    let other = format!("{schema} \"other\"");
    let quoted = crate::sinks::ddl::quote(&other);
    database.sql(&format!("CREATE SCHEMA {quoted}"));
    let mut plan = plan("1", SinkMode::Upsert);
    plan.table = TableName { schema: Some(other), name: "T.x".into() };
    writer(&database, &plan).write("+a1").unwrap();
    assert_eq!(database.sql(&format!("SELECT k FROM {quoted}.\"T.x\"")), ["a"]);
    let mark = format!("SELECT \"offset\" FROM {quoted}.weir_progress");
    assert_eq!(database.sql(&mark), ["1"]);
}

#[test]
fn a_server_that_is_away_is_worth_another_try() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://u:secret@127.0.0.1:{port}/d");
    let mut target = PostgresTarget::new(url, None);
    let error = target.prepare(&plan("1", SinkMode::Append)).unwrap_err();
    assert!(matches!(error, SinkError::Unavailable { .. }), "{error}");
    let detail = error.detail().unwrap();
    assert!(detail.contains("refused") && !detail.contains("secret"), "{detail}");
}

#[test]
fn a_large_batch_goes_through_in_chunks() {
    let Some(database) = Postgres::new() else { return };
    let rows = 3_000_i64;
    let text = "x".repeat(1_000);
    let keys = StringArray::from_iter_values((0..rows).map(|row| format!("{text}{row}")));
    let keys: ArrayRef = Arc::new(keys);
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let batch = RecordBatch::try_from_iter([("k", keys), ("n", numbers)]).unwrap();
    let mut plan = plan("1", SinkMode::Upsert);
    plan.schema = batch.schema();
    let mut writer = writer(&database, &plan);
    let batch = SinkBatch { batch, weights: None, first_offset: 0 };
    assert_eq!(writer.commit(&batch).unwrap(), rows as u64);
    assert_eq!(database.sql("SELECT count(*), sum(n) FROM t"), ["3000|4498500"]);
}

#[test]
fn a_writer_of_the_same_key_does_not_make_a_row_a_dead_letter() {
    let Some(database) = Postgres::new() else { return };
    let mut writer = writer(&database, &plan("1", SinkMode::Upsert));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let url = database.url.clone();
    let insert = |key: &'static str| {
        let url = url.clone();
        runtime.block_on(async move {
            let (client, connection) =
                tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("BEGIN").await.unwrap();
            client.execute("INSERT INTO t VALUES ($1, 77)", &[&key]).await.unwrap();
            client
        })
    };
    // It holds the key until the sink waits for it; then its row is there, which MERGE did not see.
    let other = insert("b");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    std::thread::scope(|scope| {
        let sink = std::thread::Builder::new().spawn_scoped(scope, || writer.write("+a1 +b2 +c3"));
        let waiting = (0..5_000).any(|_| database.sql(waits) != ["0"]);
        assert!(waiting, "the sink waits for the other writer");
        runtime.block_on(other.batch_execute("COMMIT")).unwrap();
        assert_eq!(sink.unwrap().join().unwrap().unwrap(), 3);
    });
    assert!(writer.refused.is_empty(), "{:?}", writer.refused);
    assert_eq!(database.sql("SELECT k, n FROM t ORDER BY k"), ["a|1", "b|2", "c|3"]);
}
