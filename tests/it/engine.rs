//! The whole way inside one process: SQL in, rows in, windows, answers out.

use crate::engines::{ok, open, rows};

const CLICKS: &str = "CREATE STREAM clicks (url TEXT NOT NULL, user_id BIGINT, at TIMESTAMP,
    WATERMARK FOR at AS at - INTERVAL '5' SECOND);";

#[tokio::test(flavor = "multi_thread")]
async fn a_tumbling_count_closes_with_the_watermark() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    ok(&engine, CLICKS).await;
    ok(
        &engine,
        "CREATE CONTINUOUS QUERY hits AS SELECT window_start, url, count(*) AS n
         FROM TUMBLE(clicks, at, INTERVAL '1 minute') GROUP BY window_start, window_end, url;",
    )
    .await;
    ok(
        &engine,
        "INSERT INTO clicks VALUES ('/a', 1, TIMESTAMP '2026-01-01 00:00:10'),
         ('/b', 2, TIMESTAMP '2026-01-01 00:00:20'), ('/a', 3, TIMESTAMP '2026-01-01 00:00:59'),
         ('/a', 4, TIMESTAMP '2026-01-01 00:01:06'), ('/b', 5, TIMESTAMP '2026-01-01 00:00:30');
         FLUSH;",
    )
    .await;
    assert_eq!(
        rows(&engine, "SELECT * FROM hits ORDER BY url").await,
        "{\"window_start\":\"2026-01-01T00:00:00Z\",\"url\":\"/a\",\"n\":2}\n\
         {\"window_start\":\"2026-01-01T00:00:00Z\",\"url\":\"/b\",\"n\":1}\n"
    );
    assert_eq!(
        rows(&engine, "SELECT query, stream, \"offset\", \"row\" FROM weir.late_rows").await,
        "{\"query\":\"hits\",\"stream\":\"clicks\",\"offset\":4,\
         \"row\":{\"url\":\"/b\",\"user_id\":5,\"at\":\"2026-01-01T00:00:30Z\"}}\n"
    );
    assert_eq!(
        rows(&engine, "SELECT _offset, url, _late FROM clicks WHERE _late").await,
        "{\"_offset\":4,\"url\":\"/b\",\"_late\":true}\n"
    );
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart_and_nothing_is_answered_twice() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    ok(&engine, CLICKS).await;
    ok(&engine, "CREATE TABLE users (id BIGINT PRIMARY KEY, country TEXT)").await;
    ok(&engine, "INSERT INTO users VALUES (1, 'FR'), (2, 'DE')").await;
    ok(
        &engine,
        "CREATE CONTINUOUS QUERY totals AS SELECT url, count(*) AS n FROM clicks GROUP BY url;
         CREATE CONTINUOUS QUERY above AS SELECT count(*) AS urls, sum(n) AS clicks FROM totals;",
    )
    .await;
    let insert = |url: &str| format!("INSERT INTO clicks VALUES ('{url}', 1, now()); FLUSH");
    for url in ["/a", "/b", "/a"] {
        ok(&engine, &insert(url)).await;
    }
    let before = rows(&engine, "SELECT * FROM totals ORDER BY url").await;
    assert_eq!(before, "{\"url\":\"/a\",\"n\":2}\n{\"url\":\"/b\",\"n\":1}\n");
    let above = "{\"urls\":2,\"clicks\":3}\n";
    assert_eq!(rows(&engine, "SELECT * FROM above").await, above);
    let offsets = "SELECT name, next_offset FROM weir.queries ORDER BY name";
    let offsets_before = rows(&engine, offsets).await;
    engine.shutdown().await;
    drop(engine);

    let engine = open(directory.path());
    ok(&engine, "FLUSH").await;
    assert_eq!(rows(&engine, "SELECT * FROM totals ORDER BY url").await, before);
    assert_eq!(rows(&engine, "SELECT * FROM above").await, above);
    assert_eq!(rows(&engine, offsets).await, offsets_before);
    assert_eq!(rows(&engine, "SELECT count(*) AS n FROM users").await, "{\"n\":2}\n");
    ok(&engine, &insert("/b")).await;
    assert_eq!(
        rows(&engine, "SELECT * FROM totals ORDER BY url").await,
        "{\"url\":\"/a\",\"n\":2}\n{\"url\":\"/b\",\"n\":2}\n"
    );
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_window_answers_as_a_select_over_the_same_rows_does() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    ok(&engine, CLICKS).await;
    let windows = [
        ("tumble", "TUMBLE(clicks, at, INTERVAL '10' SECOND)", "window_start, window_end"),
        (
            "hop",
            "HOP(clicks, at, INTERVAL '7' SECOND, INTERVAL '10' SECOND)",
            "window_start, window_end",
        ),
        (
            "cumulate",
            "CUMULATE(clicks, at, INTERVAL '5' SECOND, INTERVAL '20' SECOND)",
            "window_start, window_end",
        ),
        (
            "session",
            "SESSION(clicks, at, INTERVAL '4' SECOND, PARTITION => url)",
            "window_start, window_end, url",
        ),
        ("counted", "COUNT_WINDOW(clicks, 3, PARTITION => url)", "window_id, url"),
        (
            "marked",
            // A SELECT also shows the windows that nothing has closed.
            "PUNCTUATION_WINDOW(clicks, PARTITION => url, END => user_id % 5 = 0)
             WHERE window_reason IS NOT NULL",
            "window_id, window_reason, url",
        ),
    ];
    for (name, window, keys) in windows {
        ok(
            &engine,
            &format!(
                "CREATE CONTINUOUS QUERY {name} AS SELECT {keys}, count(*) AS n, sum(user_id) AS s,
                 min(user_id) AS lo, avg(user_id) AS mean, count(DISTINCT url) AS urls
                 FROM {window} GROUP BY {keys}{}",
                if keys.contains("window_end") || keys.contains("window_id") {
                    ""
                } else {
                    ", window_end"
                }
            ),
        )
        .await;
    }
    let mut values = Vec::new();
    for i in 0..60 {
        let second = i * 7 % 60;
        values.push(format!(
            "('/{}', {i}, TIMESTAMP '2026-01-01 00:00:00' + INTERVAL '{}' SECOND)",
            i % 3,
            i / 2 + second % 4
        ));
    }
    ok(&engine, &format!("INSERT INTO clicks VALUES {}; FLUSH", values.join(", "))).await;
    ok(&engine, "PUNCTUATE clicks WHERE at < TIMESTAMP '2030-01-01 00:00:00'; FLUSH").await;
    for (name, window, keys) in windows {
        let order = "ORDER BY 1, 2, 3, 4";
        let continuous = rows(&engine, &format!("SELECT * FROM {name} {order}")).await;
        let once = rows(
            &engine,
            &format!(
                "SELECT {keys}, count(*) AS n, sum(user_id) AS s, min(user_id) AS lo,
                 avg(user_id) AS mean, count(DISTINCT url) AS urls FROM {window} GROUP BY {keys} {order}"
            ),
        )
        .await;
        assert!(!once.is_empty(), "{name}");
        assert_eq!(continuous, once, "{name}");
    }
    engine.shutdown().await;
}
