//! Memory limits of queries, and figures of streams and queries that go on after a restart.

use weir::engine::IngestOrigin;

use crate::engines::{open, run};

/// Rows of different keys with a text of half a kilobyte each.
fn rows(from: usize, to: usize) -> String {
    let text = "x".repeat(500);
    let rows: Vec<String> = (from..to).map(|k| format!("({k}, '{text} {k}')")).collect();
    format!("INSERT INTO s VALUES {}; FLUSH", rows.join(", "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_at_its_memory_limit_stops_alone_and_goes_on_with_a_higher_one() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    run(&engine, "CREATE STREAM s (k BIGINT, t TEXT)").await;
    let least = |limit: &str| {
        format!(
            "CREATE OR REPLACE CONTINUOUS QUERY least WITH (memory_limit = '{limit}') AS
                 SELECT k, min(t) AS least FROM s GROUP BY k"
        )
    };
    run(&engine, &least("1 MB")).await;
    run(&engine, "CREATE CONTINUOUS QUERY n AS SELECT count(*) AS n FROM s").await;
    run(&engine, &rows(0, 500)).await;
    let status = "SELECT status, error FROM weir.queries WHERE name = 'least'";
    assert_eq!(run(&engine, status).await, "{\"status\":\"running\",\"error\":null}\n");
    // One request whose groups are larger than the limit by themselves.
    run(&engine, &rows(500, 2_000)).await;
    let failed = run(&engine, status).await;
    assert!(failed.contains("failed") && failed.contains("53200"), "{failed}");
    let asked = engine.execute("FLUSH; SELECT count(*) FROM least").await;
    let told = crate::engines::ndjson(&asked.results);
    assert!(told.starts_with("{\"query\":\"least\",\"code\":\"53200\",\"reason\":"), "{told}");
    let error = asked.error.unwrap();
    assert_eq!(
        (error.code().0, error.message()),
        ("55000", "continuous query \"least\" has stopped".into())
    );
    assert!(
        error.detail().unwrap().ends_with(" Its answer holds \"s\" below offset 500."),
        "{error:?}"
    );
    assert!(error.hint().unwrap().contains("SET (memory_limit = "), "{error:?}");
    let held = "SELECT state_bytes FROM weir.queries WHERE name = 'least'";
    assert_eq!(run(&engine, held).await, "{\"state_bytes\":0}\n");
    run(&engine, &rows(2_000, 2_010)).await;
    assert_eq!(run(&engine, "SELECT n FROM n").await, "{\"n\":2010}\n");
    assert!(engine.execute("RESUME least; FLUSH").await.error.is_none());
    assert!(run(&engine, status).await.contains("53200"), "the limit is as low as before");
    run(&engine, &least("1 GB")).await;
    run(&engine, "FLUSH").await;
    let all = run(&engine, "SELECT count(*) AS n, count(DISTINCT least) AS d FROM least").await;
    assert_eq!(all, "{\"n\":2010,\"d\":2010}\n");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_go_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    run(
        &engine,
        "CREATE STREAM t (k BIGINT); CREATE STREAM s (k BIGINT, t TEXT, at TIMESTAMP, WATERMARK FOR at AS at);
         CREATE CONTINUOUS QUERY q AS SELECT window_start, sum(10 / k) AS n
             FROM TUMBLE(s, at, INTERVAL '1 hour') GROUP BY window_start, window_end",
    )
    .await;
    let stream = engine.stream("s").unwrap();
    let mut decoder = weir::decode::decoder(weir::decode::Format::NdJson, stream.decode_spec());
    let decoded =
        decoder.decode(b"{\"k\": \"x\"}\n{\"k\": 4, \"at\": \"2025-12-31T00:00:00\"}\n", 1);
    let receipt = stream.ingest(decoded, None, IngestOrigin::default()).await.unwrap();
    assert_eq!((receipt.accepted, receipt.rejected), (1, 1));
    run(
        &engine,
        "INSERT INTO s VALUES (1, 'a', '2026-01-01T00:00:00'), (0, 'c', '2026-01-01T00:30:00'),
             (2, 'd', '2026-01-01T03:00:00'), (3, 'e', '2026-01-01T00:00:01'); FLUSH",
    )
    .await;
    let figures = "SELECT name, rows_rejected, rows_shed FROM weir.streams ORDER BY name;
        SELECT rows_in, rows_out, late_rows, rejected_rows FROM weir.queries";
    let before = run(&engine, figures).await;
    assert!(before.contains("\"late_rows\":1,\"rejected_rows\":1"), "{before}");
    assert!(before.contains("\"name\":\"s\",\"rows_rejected\":1"), "{before}");
    drop(stream);
    engine.shutdown().await;
    drop(engine);
    let engine = open(directory.path());
    run(&engine, "FLUSH").await;
    assert_eq!(run(&engine, figures).await, before);
    engine.shutdown().await;
}
