//! Sinks of a data directory that was restored from an older copy, while their target was not.

use std::path::Path;
use std::sync::Arc;

use weir::engine::Engine;
use weir::time::VirtualClock;

use crate::engines::{NOW, copy, ok, open_with, rows, settings};

const SECOND: i64 = 1_000_000;

/// An engine whose clock stands so many seconds later.
fn open_at(directory: &Path, seconds: i64) -> Arc<Engine> {
    open_with(settings(directory), &Arc::new(VirtualClock::new(NOW + seconds * SECOND)))
}

async fn close(engine: Arc<Engine>) {
    engine.shutdown().await;
}

/// A stream whose rows a sink writes, some of them written.
async fn begin(data: &Path, sink: &str) {
    let engine = open_at(data, 0);
    let create = "CREATE STREAM h (v INT); CREATE CONTINUOUS QUERY l AS SELECT v FROM h;";
    ok(&engine, &format!("{create} CREATE SINK out FROM l {sink}; {}", insert(0, 100))).await;
    ok(&engine, "FLUSH SINK out").await;
    close(engine).await;
}

/// So many rows.
fn insert(v: i32, count: usize) -> String {
    format!("INSERT INTO h VALUES {}; FLUSH", vec![format!("({v})"); count].join(", "))
}

async fn told(engine: &Arc<Engine>) -> String {
    rows(engine, "SELECT status, error FROM weir.sinks").await
}

async fn refusal(engine: &Arc<Engine>) -> weir::error::Error {
    engine.execute("FLUSH SINK out").await.error.unwrap()
}

async fn check(sink: &str, folder: &Path, written: impl Fn() -> String, expected: &str) {
    let (data, backup) = (folder.join("data"), folder.join("backup"));
    begin(&data, sink).await;
    copy(&data, &backup);
    let engine = open_at(&data, 10);
    ok(&engine, &format!("{}; FLUSH SINK out", insert(1, 50))).await;
    close(engine).await;
    assert_eq!(written(), expected);

    // At first the target is ahead of all there is, later of what there was.
    let engine = open_at(&backup, 20);
    let error = refusal(&engine).await;
    assert_eq!(error.code().0, "55000");
    let ahead = "target of sink \"out\" is ahead of this data directory: The target has the changelog up \
                 to offset 150";
    assert_eq!(error.message(), format!("{ahead}, and here it ends at 100."));
    let hint = "Start the server on the newer data directory; or drop the sink and what it wrote, and \
                create it again.";
    assert_eq!(error.hint().unwrap(), hint);
    ok(&engine, &insert(2, 100)).await;
    ok(&engine, "RESUME out").await;
    let past = ", of another past: the row before it was appended at 2027-01-15T08:00:10+00:00, and here \
                at 2027-01-15T08:00:20+00:00.";
    assert_eq!(refusal(&engine).await.message(), format!("{ahead}{past}"));
    close(engine).await;
    let engine = open_at(&backup, 30);
    assert_eq!(refusal(&engine).await.message(), format!("{ahead}{past}"));
    assert!(told(&engine).await.starts_with("{\"status\":\"failed\",\"error\":\"55000: target"));
    close(engine).await;
    assert_eq!(written(), expected);

    // The newer directory goes on.
    let engine = open_at(&data, 40);
    ok(&engine, &format!("{}; FLUSH SINK out", insert(3, 1))).await;
    assert_eq!(told(&engine).await, "{\"status\":\"running\",\"error\":null}\n");
    close(engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_does_not_go_on_from_a_mark_of_another_past() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.db");
    let counts = || {
        let table = rusqlite::Connection::open(&path).unwrap();
        let sql = "SELECT group_concat(v || ':' || n, ' ') FROM \
                   (SELECT v, count(*) AS n FROM t GROUP BY v ORDER BY v)";
        table.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let sink = format!("INTO SQLITE WITH (path = '{}', table = 't')", path.display());
    check(&sink, folder.path(), counts, "0:100 1:50").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_not_gone_on_with_from_a_mark_of_another_past() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let files = || {
        let names = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().ends_with(".csv")).count().to_string()
    };
    let sink = format!("INTO FILE WITH (path = '{}', format = 'csv')", out.display());
    check(&sink, folder.path(), files, "2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_go_on_ends_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (data, stale) = (folder.path().join("data"), folder.path().join("stale"));
    let path = folder.path().join("out.db");
    begin(&data, &format!("INTO SQLITE WITH (path = '{}', table = 't')", path.display())).await;
    copy(&data, &stale);
    let first = open_at(&data, 10);
    ok(&first, &format!("{}; FLUSH SINK out", insert(1, 50))).await;
    let second = open_at(&stale, 20);
    assert_eq!(refusal(&second).await.code().0, "55000");
    ok(&first, &format!("{}; FLUSH SINK out", insert(1, 50))).await;
    assert_eq!(told(&first).await, "{\"status\":\"running\",\"error\":null}\n");
    close(first).await;
    close(second).await;
}
