//! Runs queries whose keys are split, restarts them with another number of shards, and compares with one.

use std::path::Path;
use std::sync::Arc;

use weir::engine::{Engine, EngineSettings};
use weir::time::VirtualClock;

use crate::engines::{NOW, open_with, run, settings};

const OBJECTS: &str = "CREATE STREAM s (at TIMESTAMP, k BIGINT, t TEXT, x DOUBLE,
        WATERMARK FOR at AS at - INTERVAL '5' SECOND);
    CREATE CONTINUOUS QUERY closed AS SELECT window_end AS at, k, t, count(*) AS n, sum(x) AS x, avg(x) AS mean
        FROM TUMBLE(s, at, INTERVAL '10' SECOND) GROUP BY window_start, window_end, k, t;
    CREATE CONTINUOUS QUERY sliding AS SELECT window_end, t, count(DISTINCT k) AS n, array_agg(k) AS list
        FROM HOP(s, at, INTERVAL '5' SECOND, INTERVAL '20' SECOND) GROUP BY window_start, window_end, t
        ALLOWED LATENESS INTERVAL '10' SECOND;
    CREATE CONTINUOUS QUERY changing AS SELECT window_start, k, stddev(x) AS d, max(t) AS t
        FROM TUMBLE(s, at, INTERVAL '30' SECOND) GROUP BY window_start, window_end, k EMIT CHANGES;
    CREATE CONTINUOUS QUERY above AS SELECT window_start, count(*) AS n, sum(n) AS total
        FROM TUMBLE(closed, at, INTERVAL '20' SECOND) GROUP BY window_start, window_end;";

/// How many changes others than append-only queries make of the same rows depends on which come in one step.
const ANSWERS: &str = "SELECT * FROM closed; SELECT * FROM sliding ORDER BY 1, 2;
    SELECT * FROM changing ORDER BY 1, 2; SELECT * FROM above;
    SELECT query, stream, \"offset\", watermark FROM weir.late_rows ORDER BY 1, 3;
    SELECT name, late_rows, rejected_rows, CASE WHEN append_only THEN next_offset END AS next_offset
    FROM weir.queries ORDER BY name;";

fn open(directory: &Path, clock: &Arc<VirtualClock>, shards: usize, from: usize) -> Arc<Engine> {
    let chosen = EngineSettings {
        snapshot_interval: 0,
        // Many steps lie between the begin and the end of a snapshot.
        snapshot_portion: 200,
        shards,
        shards_from: (from, 0),
        ..settings(directory)
    };
    open_with(chosen, clock)
}

/// Rows of about three seconds, some of them late.
async fn feed(engine: &Arc<Engine>, clock: &VirtualClock, round: i64) {
    let rows: Vec<String> = (0..300)
        .map(|i| {
            let late = if i % 17 == 0 { 9_000 + i * 30 } else { 0 };
            let at = NOW / 1_000 + round * 3_000 + i * 10 - late;
            let (key, text) =
                (i * 31 % 97, ["short", "a text that is rather long", ""][i as usize % 3]);
            let time = chrono::DateTime::from_timestamp_millis(at).unwrap();
            let x = i as f64 * 0.1 + round as f64 / 3.0;
            format!("('{}', {key}, '{text}', {x})", time.format("%Y-%m-%d %H:%M:%S%.3f"))
        })
        .collect();
    for rows in rows.chunks(70) {
        run(engine, &format!("INSERT INTO s VALUES {}", rows.join(", "))).await;
    }
    run(engine, "FLUSH").await;
    clock.advance(3_000_000);
}

async fn figure(engine: &Arc<Engine>, sql: &str) -> Vec<String> {
    run(engine, sql).await.lines().map(String::from).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_read_back_with_any_number_of_shards() {
    let clock = || Arc::new(VirtualClock::new(NOW));
    let places = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let clocks = [clock(), clock()];
    for (restart, (shards, from)) in
        [(1, 0), (3, 0), (3, 0), (2, 0), (4, 0), (1, 0), (4, 40), (2, 5_000)]
            .into_iter()
            .enumerate()
    {
        let one = open(places[0].path(), &clocks[0], 1, 0);
        let several = open(places[1].path(), &clocks[1], shards, from);
        if restart == 0 {
            run(&one, OBJECTS).await;
            run(&several, OBJECTS).await;
        }
        for round in 0..3 {
            let round = restart as i64 * 3 + round;
            feed(&one, &clocks[0], round).await;
            feed(&several, &clocks[1], round).await;
            assert_eq!(
                run(&several, ANSWERS).await,
                run(&one, ANSWERS).await,
                "{restart}, {round}"
            );
        }
        let split = "SELECT query FROM weir.operators WHERE shards > 1 ORDER BY query";
        let split = figure(&several, split).await.len();
        assert!(if shards == 1 { split == 0 } else { split >= 3 || from > 0 }, "{split} are split");
        if restart > 0 {
            let refused = "SELECT query, refused FROM weir.snapshots
                WHERE refused IS NOT NULL OR restored_us IS NULL";
            assert_eq!(figure(&several, refused).await, Vec::<String>::new(), "{restart}");
        }
        if shards == 4 && from == 0 {
            let plan = run(&several, "EXPLAIN ANALYZE closed").await;
            assert!(
                plan.contains("WindowAggregate: rows in") && plan.contains(", 4 shards"),
                "{plan}"
            );
        }
        one.shutdown().await;
        several.shutdown().await;
    }
}
