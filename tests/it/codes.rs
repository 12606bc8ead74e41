//! Provokes the errors that no script can: of limits, of files, of neighbours.

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use weir::engine::{Engine, EngineSettings};
use weir::time::{SECOND, VirtualClock};

use crate::engines::{self, NOW, copy, ndjson};
use crate::fake::Fake;
use crate::real_server::PATIENCE;

fn open(
    directory: &Path,
    settings: impl FnOnce(&mut EngineSettings),
) -> weir::error::Result<Arc<Engine>> {
    let mut chosen = engines::settings(directory);
    settings(&mut chosen);
    Engine::open(chosen, Arc::new(VirtualClock::new(NOW)))
}

async fn code(engine: &Arc<Engine>, sql: &str) -> String {
    let execution = engine.execute(sql).await;
    execution.error.map_or("00000".into(), |error| error.code().0.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_over_a_data_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path(), |_| {}).unwrap();
    let second = open(directory.path(), |_| {}).unwrap_err();
    assert_eq!(second.code().0, "55006");
    assert_eq!(code(&first, "SELECT 1").await, "00000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_select_has_limits_of_rows_time_and_memory() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path(), |settings| {
        (settings.select_rows, settings.select_time) = (1_000, SECOND);
        settings.select_memory = 8 << 20;
    });
    let engine = engine.unwrap();
    assert_eq!(code(&engine, "SELECT * FROM generate_series(1, 1001)").await, "53400");
    let slow = "SELECT count(*) FROM generate_series(1, 9876543210)";
    assert_eq!(code(&engine, slow).await, "57014");
    let large = "SELECT array_agg(value) FROM generate_series(1, 9000000)";
    assert_eq!(code(&engine, large).await, "53200");
    assert_eq!(code(&engine, "SELECT * FROM generate_series(1, 1000)").await, "00000");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_wait_for_a_place_and_the_server_says_when_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path(), |_| {}).unwrap();
    let asked =
        (0..200).map(|n| {
            let engine = Arc::clone(&engine);
            async move {
                code(&engine, &format!("SELECT sum(value) FROM generate_series(1, {n})")).await
            }
        });
    let answers = futures::future::join_all(asked).await;
    assert!(answers.iter().all(|code| code == "00000"), "{answers:?}");
    engine.shutdown().await;
    assert_eq!(code(&engine, "SELECT 1").await, "57P01");
}

/// A snapshot would spare the query the replay.
fn without_snapshots(settings: &mut EngineSettings) {
    settings.snapshot_interval = i64::MAX;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changelog_that_the_inputs_no_longer_give_stops_its_query_alone() {
    let setup =
        "CREATE STREAM s (n BIGINT); CREATE CONTINUOUS QUERY q AS SELECT n FROM s WHERE n > 0;
                 CREATE CONTINUOUS QUERY count AS SELECT count(*) AS c FROM s;";
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for (directory, rows) in directories.iter().zip(["(1), (2), (3)", "(1), (-2), (-3)"]) {
        let engine = open(directory.path(), without_snapshots).unwrap();
        let sql = format!("{setup} INSERT INTO s VALUES {rows}; FLUSH;");
        assert_eq!(code(&engine, &sql).await, "00000");
        engine.shutdown().await;
    }
    // The rows of one, and what the query had answered to those of the other.
    let query = |directory: &tempfile::TempDir| {
        let folders = std::fs::read_dir(directory.path().join("queries")).unwrap();
        let mut folders: Vec<_> = folders.map(|folder| folder.unwrap().path()).collect();
        folders.sort();
        folders.swap_remove(0)
    };
    copy(&query(&directories[0]), &query(&directories[1]));
    let engine = open(directories[1].path(), without_snapshots).unwrap();
    let flushed =
        engine.execute("FLUSH; SELECT name, status, error FROM weir.queries ORDER BY name").await;
    let text = ndjson(&flushed.results);
    let mut lines: Vec<&str> = text.lines().collect();
    // FLUSH says whose results do not hold everything.
    let flushed = lines.remove(0);
    assert!(flushed.starts_with("{\"query\":\"q\",\"code\":\"WR006\",\"reason\":"), "{text}");
    let asked = engine.execute("SELECT * FROM q").await.error.unwrap();
    assert_eq!(asked.code().0, "55000");
    assert!(asked.detail().unwrap().starts_with("WR006: "), "{asked:?}");
    assert!(lines[0].starts_with("{\"name\":\"count\",\"status\":\"running\""), "{text}");
    assert!(lines[1].contains("\"status\":\"failed\",\"error\":\"WR006: "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tcp_connection_too_many_is_told_so_and_closed() {
    let fake = Arc::new(Fake::default());
    let server = fake.serve().await;
    let port = server.tcp().port();
    let told = tokio::task::spawn_blocking(move || {
        let connections: Vec<TcpStream> =
            (0..1_000).map_while(|_| TcpStream::connect(("127.0.0.1", port)).ok()).collect();
        if connections.len() < 1_000 {
            println!("skipped: this system lets a process open too few files");
            return None;
        }
        let mut last = TcpStream::connect(("127.0.0.1", port)).ok()?;
        last.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut line = String::new();
        last.read_to_string(&mut line).unwrap();
        drop(connections);
        Some(line)
    });
    if let Some(line) = told.await.unwrap() {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["error"]["code"], "53300");
    }
}
