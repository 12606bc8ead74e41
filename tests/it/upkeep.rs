//! What keeps an engine going: retention of changelogs, shedding, sinks that pause, swaps amid a crash.

use std::sync::Arc;
use std::task::Poll;

use weir::catalog::persist::Store;
use weir::catalog::record::{Base, Kind};
use weir::encode::json::write_ndjson;
use weir::engine::{
    Engine, EngineSettings, IngestOrigin, Producer, SubscribeRequest, SubscriptionFrame,
};
use weir::log::storage::{DiskStorage, Storage};
use weir::sql::statement::SubscribeFrom;
use weir::time::VirtualClock;

use crate::engines::{NOW, ok, open_with, rows, settings};

const HOUR: i64 = 3_600_000_000;

async fn code(engine: &Arc<Engine>, sql: &str) -> &'static str {
    engine.execute(sql).await.error.expect("it is refused").code().0
}

/// A text of 900 characters that hardly shrinks.
fn noise(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'0' + (state >> 33) as u8 % 75)
    };
    std::iter::repeat_with(&mut next).filter(char::is_ascii_alphanumeric).take(900).collect()
}

/// The first frame of a subscription from the beginning.
async fn first_frame(engine: &Arc<Engine>, query: &str) -> SubscriptionFrame {
    let request =
        SubscribeRequest { from: SubscribeFrom::Offset(0), ..SubscribeRequest::default() };
    engine.subscribe(query, request).unwrap().next().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_onto_the_table_of_another_is_refused_at_once_and_its_name_stays_free() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open_with(settings(directory.path()), &Arc::new(VirtualClock::new(NOW)));
    ok(
        &engine,
        "CREATE STREAM s (a BIGINT); CREATE CONTINUOUS QUERY q AS SELECT a FROM s;
         INSERT INTO s VALUES (1); FLUSH",
    )
    .await;
    let path = directory.path().join("shared.db");
    let sink = |name: &str| {
        let path = path.display();
        format!("CREATE SINK {name} FROM q INTO SQLITE WITH (path = '{path}', table = 't')")
    };
    ok(&engine, &format!("{}; FLUSH SINK first", sink("first"))).await;
    assert_eq!(code(&engine, &sink("second")).await, "55006");
    assert_eq!(rows(&engine, "SELECT name FROM weir.sinks").await, "{\"name\":\"first\"}\n");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_changelog_is_bounded_and_its_result_stays_whole() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::new(NOW));
    let engine = open_with(settings(directory.path()), &clock);
    ok(
        &engine,
        "CREATE STREAM s (k TEXT, v BIGINT);
         CREATE CONTINUOUS QUERY sums WITH (retention = '1 hour') AS
             SELECT k, sum(v) AS total FROM s GROUP BY k;
         CREATE CONTINUOUS QUERY copy WITH (retention = '1 hour') AS SELECT k, v FROM s;",
    )
    .await;
    for n in 0..12 {
        ok(&engine, &format!("INSERT INTO s VALUES ('a', {n}), ('k{n}', 1); FLUSH")).await;
        clock.advance(HOUR / 2);
    }
    let sums = "SELECT count(*) AS n, sum(total) AS total FROM sums";
    let copies = "SELECT count(*) AS n, sum(v) AS total FROM copy";
    let (sum, copied) = (rows(&engine, sums).await, rows(&engine, copies).await);
    assert_eq!(sum, "{\"n\":13,\"total\":78}\n");
    assert_eq!(copied, "{\"n\":24,\"total\":78}\n");
    assert!(engine.run_retention().unwrap() >= 2);
    for query in ["sums", "copy"] {
        match first_frame(&engine, query).await {
            SubscriptionFrame::Gap { from: 0, to, reason } => {
                assert!(to > 10 && reason == "retention", "{to} {reason}");
            }
            other => panic!("{query}: {other:?}"),
        }
    }
    assert_eq!((rows(&engine, sums).await, rows(&engine, copies).await), (sum, copied));
    // Whoever comes now cannot know what was before.
    let above = "CREATE CONTINUOUS QUERY above AS SELECT count(*) AS n FROM sums";
    assert_eq!(code(&engine, above).await, "WR004");
    let path = directory.path().join("copied.db");
    ok(
        &engine,
        &format!(
            "CREATE SINK copied FROM copy INTO SQLITE WITH (path = '{}', table = 't'); FLUSH SINK copied",
            path.display()
        ),
    )
    .await;
    let count = |path: &std::path::Path| -> (i64, i64) {
        let database = rusqlite::Connection::open(path).unwrap();
        let sql = "SELECT count(*), sum(v) FROM t";
        database.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    assert_eq!(count(&path), (24, 78));
    engine.shutdown().await;
    drop(engine);

    let engine = open_with(settings(directory.path()), &clock);
    ok(&engine, "INSERT INTO s VALUES ('a', 100), ('z', 1); FLUSH; FLUSH SINK copied").await;
    assert_eq!(rows(&engine, sums).await, "{\"n\":14,\"total\":179}\n");
    assert_eq!(rows(&engine, copies).await, "{\"n\":26,\"total\":179}\n");
    assert_eq!(count(&path), (26, 179));
    let status = "SELECT name, status, error FROM weir.queries WHERE status <> 'running'";
    assert_eq!(rows(&engine, status).await, "");
    // Again, with a result that is kept already.
    for _ in 0..4 {
        clock.advance(HOUR);
        ok(&engine, "INSERT INTO s VALUES ('b', 1); FLUSH; FLUSH SINK copied").await;
    }
    assert!(engine.run_retention().unwrap() >= 2);
    assert_eq!(rows(&engine, sums).await, "{\"n\":15,\"total\":183}\n");
    ok(&engine, "REBUILD CONTINUOUS QUERY sums").await;
    assert_eq!(rows(&engine, sums).await, "{\"n\":15,\"total\":183}\n");
    assert_eq!(rows(&engine, copies).await, "{\"n\":30,\"total\":183}\n");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_that_a_crash_left_half_done_is_finished() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::new(NOW));
    let engine = open_with(settings(directory.path()), &clock);
    ok(
        &engine,
        "CREATE STREAM s (k TEXT, v BIGINT);
         CREATE CONTINUOUS QUERY q AS SELECT k, sum(v) AS total FROM s GROUP BY k;
         INSERT INTO s VALUES ('a', 1), ('b', 2); FLUSH; INSERT INTO s VALUES ('a', 3); FLUSH",
    )
    .await;
    let offset = "SELECT next_offset FROM weir.queries";
    assert_eq!(rows(&engine, offset).await, "{\"next_offset\":4}\n");
    engine.shutdown().await;
    drop(engine);
    // What the catalog holds when the plan is swapped and the entry is not written yet.
    let storage: Arc<dyn Storage> = Arc::new(DiskStorage::new(directory.path()));
    let store = Store::open(&storage).unwrap();
    let mut record = store.load().into_iter().find(|r| r.kind == Kind::Query).unwrap();
    record.sql = record.sql.replace("sum(v)", "max(v)");
    record.base = Some(Base { frame: 2, frontier: vec![(2, 3)] });
    record.layout = Some((true, false));
    record.swaps = 1;
    store.put(&record).unwrap();
    drop(store);
    for _ in 0..2 {
        let engine = open_with(settings(directory.path()), &clock);
        ok(&engine, "FLUSH").await;
        let answer = "{\"k\":\"a\",\"total\":3}\n{\"k\":\"b\",\"total\":2}\n";
        assert_eq!(rows(&engine, "SELECT * FROM q ORDER BY k").await, answer);
        assert_eq!(rows(&engine, offset).await, "{\"next_offset\":6}\n");
        engine.shutdown().await;
    }
    let engine = open_with(settings(directory.path()), &clock);
    ok(&engine, "INSERT INTO s VALUES ('b', 5); FLUSH").await;
    let answer = "{\"k\":\"a\",\"total\":3}\n{\"k\":\"b\",\"total\":5}\n";
    assert_eq!(rows(&engine, "SELECT * FROM q ORDER BY k").await, answer);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_swapped_while_rows_come_and_nothing_is_lost_or_counted_twice() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::new(NOW));
    let engine = open_with(settings(directory.path()), &clock);
    ok(
        &engine,
        "CREATE STREAM s (k BIGINT, v BIGINT); CREATE STREAM t (k BIGINT, v BIGINT);
         CREATE CONTINUOUS QUERY q AS
             SELECT k, sum(v) AS total FROM (SELECT * FROM s UNION ALL SELECT * FROM t) GROUP BY k;
         CREATE CONTINUOUS QUERY above AS SELECT count(*) AS n, sum(total) AS total FROM q;",
    )
    .await;
    let senders: Vec<_> = ["s", "t"]
        .map(|stream| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                for n in 0..150 {
                    ok(&engine, &format!("INSERT INTO {stream} VALUES ({}, {n}), (7, 1)", n % 5))
                        .await;
                }
            })
        })
        .into();
    let plan = |factor: u64| {
        format!(
            "CREATE OR REPLACE CONTINUOUS QUERY q AS SELECT k, sum(v * {factor}) AS total
             FROM (SELECT * FROM s UNION ALL SELECT * FROM t) GROUP BY k"
        )
    };
    for round in 2..6 {
        ok(&engine, "REBUILD CONTINUOUS QUERY q").await;
        ok(&engine, &plan(round)).await;
    }
    for sender in senders {
        sender.await.unwrap();
    }
    let expected = rows(
        &engine,
        "SELECT k, sum(v * 5) AS total FROM (SELECT * FROM s UNION ALL SELECT * FROM t)
         GROUP BY k ORDER BY k",
    )
    .await;
    let (answer, above) = ("SELECT * FROM q ORDER BY k", "SELECT * FROM above");
    let total = format!("{{\"n\":6,\"total\":{}}}\n", 5 * 2 * (149 * 150 / 2 + 150));
    ok(&engine, "FLUSH").await;
    assert_eq!(rows(&engine, answer).await, expected);
    assert_eq!(rows(&engine, above).await, total);
    engine.shutdown().await;
    drop(engine);

    let engine = open_with(settings(directory.path()), &clock);
    ok(&engine, "FLUSH").await;
    let status = "SELECT name, error FROM weir.queries WHERE status <> 'running'";
    assert_eq!(rows(&engine, status).await, "");
    assert_eq!(rows(&engine, answer).await, expected);
    assert_eq!(rows(&engine, above).await, total);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_failed_is_mended_by_another_plan() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::new(NOW));
    let engine = open_with(settings(directory.path()), &clock);
    ok(
        &engine,
        "CREATE STREAM s (k BIGINT);
         CREATE CONTINUOUS QUERY q WITH (memory_limit = '64 KB') AS
             SELECT k, count(*) AS n FROM s GROUP BY k;",
    )
    .await;
    let keys: Vec<String> = (0..5_000).map(|k| format!("({k})")).collect();
    ok(&engine, &format!("INSERT INTO s VALUES {}; FLUSH", keys.join(", "))).await;
    let status = "SELECT status FROM weir.queries";
    assert_eq!(rows(&engine, status).await, "{\"status\":\"failed\"}\n");
    assert_eq!(code(&engine, "REBUILD CONTINUOUS QUERY q").await, "53200");
    ok(
        &engine,
        "CREATE OR REPLACE CONTINUOUS QUERY q WITH (memory_limit = '64 MB') AS
             SELECT k, count(*) AS n FROM s GROUP BY k; FLUSH",
    )
    .await;
    assert_eq!(rows(&engine, status).await, "{\"status\":\"running\"}\n");
    assert_eq!(rows(&engine, "SELECT count(*) AS n FROM q").await, "{\"n\":5000}\n");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_beyond_the_disk_budget_are_shed_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::new(NOW));
    let engine = open_with(settings(directory.path()), &clock);
    ok(
        &engine,
        "CREATE STREAM s (n BIGINT, text TEXT) WITH (retention_bytes = '256 KB') ON OVERLOAD SHED RANDOM;
         CREATE CONTINUOUS QUERY q AS SELECT count(*) AS n FROM s;",
    )
    .await;
    let rows_sent: Vec<String> = (0..100).map(|n| format!("({n}, '{}')", noise(n))).collect();
    let insert = &format!("INSERT INTO s VALUES {}", rows_sent.join(", "));
    let mut stored = 0;
    for _ in 0..12 {
        let tag = ok(&engine, insert).await.results[0].tag.clone();
        stored += tag.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    }
    assert!((100..1_200).contains(&stored) && stored % 100 == 0, "{stored}");
    ok(&engine, "FLUSH").await;
    assert_eq!(rows(&engine, "SELECT n FROM q").await, format!("{{\"n\":{stored}}}\n"));
    let shed = "SELECT stream, reason, sum(\"rows\") AS n FROM weir.shed GROUP BY stream, reason";
    let expected = format!("{{\"stream\":\"s\",\"reason\":\"disk\",\"n\":{}}}\n", 1_200 - stored);
    assert_eq!(rows(&engine, shed).await, expected);
    let figures = "SELECT next_offset, rows_shed FROM weir.streams";
    let expected = format!("{{\"next_offset\":{stored},\"rows_shed\":{}}}\n", 1_200 - stored);
    assert_eq!(rows(&engine, figures).await, expected);
    // Without the query nothing is needed, and the oldest rows go instead.
    ok(&engine, "DROP CONTINUOUS QUERY q").await;
    assert_eq!(ok(&engine, insert).await.results[0].tag, "INSERT 0 100");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_known_after_its_rows_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::new(NOW));
    let engine = open_with(settings(directory.path()), &clock);
    ok(&engine, "CREATE STREAM s (n BIGINT, text TEXT) WITH (retention_bytes = '128 KB')").await;
    let send = async |engine: &Arc<Engine>| {
        let stream = engine.stream("s").unwrap();
        let mut decoder = weir::decode::decoder(weir::decode::Format::NdJson, stream.decode_spec());
        let decoded = decoder.decode(b"{\"n\": 1}\n", 1);
        let producer = Producer { id: "p".into(), sequence: 3, each_row: false };
        let origin = IngestOrigin { protocol: "http", producer: Some(producer) };
        stream.ingest(decoded, None, origin).await.unwrap()
    };
    let receipt = send(&engine).await;
    assert_eq!((receipt.accepted, receipt.next_offset), (1, 1));
    for n in 0..300 {
        ok(&engine, &format!("INSERT INTO s VALUES ({n}, '{}')", noise(n))).await;
    }
    // Most of it went when the budget was full.
    engine.run_retention().unwrap();
    assert!(!rows(&engine, "SELECT first_offset FROM weir.streams").await.contains(":0}"));
    assert_eq!(send(&engine).await, receipt);
    engine.shutdown().await;
    drop(engine);

    let engine = open_with(settings(directory.path()), &clock);
    assert_eq!(send(&engine).await, receipt);
    assert_eq!(
        rows(&engine, "SELECT next_offset FROM weir.streams").await,
        "{\"next_offset\":301}\n"
    );
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_queue_sheds_is_not_stored_and_nothing_else_is_lost() {
    for (overload, reason) in
        [("DROP OLDEST", "queue"), ("SHED RANDOM", "queue"), ("SHED KEYS (k)", "queue")]
    {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(VirtualClock::new(NOW));
        // One request fills the queue.
        let settings = EngineSettings { queue: (1, 1), ..settings(directory.path()) };
        let engine = open_with(settings, &clock);
        ok(&engine, &format!("CREATE STREAM s (k BIGINT) ON OVERLOAD {overload}")).await;
        let send = |n: u64| {
            let engine = Arc::clone(&engine);
            async move {
                let stream = engine.stream("s").unwrap();
                let mut decoder =
                    weir::decode::decoder(weir::decode::Format::NdJson, stream.decode_spec());
                let lines: String =
                    (0..20).map(|k| format!("{{\"k\":{}}}\n", n * 20 + k)).collect();
                let decoded = decoder.decode(lines.as_bytes(), 1);
                let receipt = stream.ingest(decoded, None, IngestOrigin::default()).await.unwrap();
                assert_eq!(receipt.next_offset - receipt.first_offset, receipt.accepted);
                assert_eq!(receipt.accepted + receipt.shed, 20);
                (receipt.accepted, receipt.shed)
            }
        };
        let mut tasks = tokio::task::JoinSet::new();
        (0..200).for_each(|n| drop(tasks.spawn(send(n))));
        let (mut accepted, mut shed) = (0, 0);
        while let Some(done) = tasks.join_next().await {
            let (more, less) = done.unwrap();
            (accepted, shed) = (accepted + more, shed + less);
        }
        assert_eq!(accepted + shed, 4_000, "{overload}");
        let stored = rows(&engine, "SELECT count(*) AS n FROM s").await;
        assert_eq!(stored, format!("{{\"n\":{accepted}}}\n"), "{overload}");
        let counted = rows(
            &engine,
            &format!(
                "SELECT coalesce(sum(\"rows\"), 0) AS n FROM weir.shed WHERE reason = '{reason}'"
            ),
        )
        .await;
        assert_eq!(counted, format!("{{\"n\":{shed}}}\n"), "{overload}");
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_sink_stays_paused_and_a_dropped_one_leaves_no_mark() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::new(NOW));
    let engine = open_with(settings(directory.path()), &clock);
    let path = directory.path().join("out.db");
    ok(
        &engine,
        &format!(
            "CREATE STREAM s (n BIGINT);
             CREATE CONTINUOUS QUERY q AS SELECT n FROM s;
             CREATE SINK out FROM q INTO SQLITE WITH (path = '{}', table = 't');
             INSERT INTO s VALUES (1); FLUSH; FLUSH SINK out; PAUSE SINK out;
             INSERT INTO s VALUES (2); FLUSH",
            path.display()
        ),
    )
    .await;
    let count = |sql: &str| -> i64 {
        let database = rusqlite::Connection::open(&path).unwrap();
        database.query_row(sql, [], |row| row.get(0)).unwrap()
    };
    let status = "SELECT status FROM weir.sinks";
    engine.shutdown().await;
    drop(engine);

    let engine = open_with(settings(directory.path()), &clock);
    assert_eq!(rows(&engine, status).await, "{\"status\":\"paused\"}\n");
    assert_eq!(count("SELECT count(*) FROM t"), 1);
    ok(&engine, "RESUME SINK out; FLUSH SINK out").await;
    assert_eq!(count("SELECT count(*) FROM t"), 2);

    // An error stops it; once mended it goes on where it was.
    ok(&engine, "PAUSE out").await;
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("ALTER TABLE t RENAME TO u; CREATE TABLE t (other TEXT NOT NULL)")
        .unwrap();
    ok(&engine, "INSERT INTO s VALUES (3); FLUSH; RESUME out").await;
    assert_eq!(code(&engine, "FLUSH SINK out").await, "42703");
    assert_eq!(rows(&engine, status).await, "{\"status\":\"failed\"}\n");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("DROP TABLE t; ALTER TABLE u RENAME TO t")
        .unwrap();
    ok(&engine, "RESUME out; FLUSH SINK out").await;
    assert_eq!(count("SELECT count(*) FROM t"), 3);

    assert_eq!(count("SELECT count(*) FROM weir_progress"), 1);
    ok(&engine, "DROP SINK out").await;
    assert_eq!(count("SELECT count(*) FROM weir_progress"), 0);
    assert_eq!(count("SELECT count(*) FROM t"), 3);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_columns_end_subscriptions_and_sinks() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::new(NOW));
    let engine = open_with(settings(directory.path()), &clock);
    let path = directory.path().join("out.db");
    ok(
        &engine,
        &format!(
            "CREATE STREAM s (n BIGINT);
             CREATE CONTINUOUS QUERY q AS SELECT n FROM s;
             CREATE SINK out FROM q INTO SQLITE WITH (path = '{}', table = 't');
             INSERT INTO s VALUES (1); FLUSH; FLUSH SINK out",
            path.display()
        ),
    )
    .await;
    let mut subscription = engine.subscribe("q", SubscribeRequest::default()).unwrap();
    // Both were told that no row is ever retracted.
    let fewer = "CREATE OR REPLACE CONTINUOUS QUERY q AS SELECT n FROM s WHERE n > 1";
    assert_eq!(code(&engine, fewer).await, "WR003");
    ok(&engine, "CREATE OR REPLACE CONTINUOUS QUERY q AS SELECT n, n + 1 AS m FROM s; FLUSH").await;
    loop {
        match subscription.next().await.unwrap() {
            SubscriptionFrame::Progress { .. } => {}
            SubscriptionFrame::Error(error) => {
                assert_eq!(error.code().0, "WR006");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let status = "SELECT status, error LIKE 'WR006%' AS told FROM weir.sinks";
    let failed = "{\"status\":\"failed\",\"told\":true}\n";
    assert_eq!(rows(&engine, status).await, failed);
    assert_eq!(code(&engine, "RESUME out").await, "WR006");
    engine.shutdown().await;
    drop(engine);

    let engine = open_with(settings(directory.path()), &clock);
    ok(&engine, "FLUSH").await;
    assert_eq!(rows(&engine, status).await, failed);
    assert_eq!(rows(&engine, "SELECT * FROM q").await, "{\"n\":1,\"m\":2}\n");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_can_never_go_on_says_so_at_once_and_holds_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open_with(settings(directory.path()), &Arc::new(VirtualClock::new(NOW)));
    let path = directory.path().join("out.db");
    ok(
        &engine,
        &format!(
            "CREATE STREAM s (n BIGINT);
             CREATE CONTINUOUS QUERY q AS SELECT n FROM s;
             CREATE SINK out FROM q INTO SQLITE WITH (path = '{}', table = 't');
             INSERT INTO s VALUES (1), (2), (3); FLUSH SINK out;
             CREATE OR REPLACE CONTINUOUS QUERY q AS SELECT n, n + 1 AS m FROM s WHERE n > 1; FLUSH",
            path.display()
        ),
    )
    .await;
    // Neither the old changelog's offset nor the new one's end says anything about it.
    for more in ["", "INSERT INTO s VALUES (4), (5), (6), (7)"] {
        ok(&engine, more).await;
        let error = engine.execute("FLUSH SINK out").await.error.unwrap();
        assert_eq!((error.code().0, error.message()), ("55000", "sink \"out\" has failed".into()));
        let gone = "WR006: continuous query \"q\" was replaced and has other columns.";
        assert_eq!(error.detail().unwrap(), gone);
        assert_eq!(error.hint().unwrap(), "Drop the sink and create it again.");
    }
    // Rows that are taken back would matter to it, and so would another mode, if it could go on.
    let fewer = "SELECT n, n + 1 AS m FROM s WHERE n > 4";
    ok(&engine, &format!("CREATE OR REPLACE CONTINUOUS QUERY q AS {fewer}")).await;
    let grouped = "SELECT n, max(n) AS m FROM s GROUP BY n";
    ok(&engine, &format!("CREATE OR REPLACE CONTINUOUS QUERY q AS {grouped}")).await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_waits_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open_with(settings(directory.path()), &Arc::new(VirtualClock::new(NOW)));
    let create = "CREATE STREAM s (n BIGINT); CREATE CONTINUOUS QUERY q AS SELECT n FROM s;
                  INSERT INTO s VALUES (1); FLUSH";
    ok(&engine, create).await;
    let count = "SELECT subscribers FROM weir.subscriptions";
    assert_eq!(rows(&engine, count).await, "{\"subscribers\":0}\n");
    let mut subscription = engine.subscribe("q", SubscribeRequest::default()).unwrap();
    loop {
        let mut next = Box::pin(subscription.next());
        let poll = std::future::poll_fn(|context| Poll::Ready(next.as_mut().poll(context))).await;
        if poll.is_ready() {
            continue;
        }
        assert_eq!(rows(&engine, count).await, "{\"subscribers\":1}\n");
        let fewer = "CREATE OR REPLACE CONTINUOUS QUERY q AS SELECT n FROM s WHERE n > 1";
        let error = engine.execute(fewer).await.error.unwrap();
        assert_eq!(error.detail().unwrap(), "Readers are: 1 subscriber.");
        break;
    }
    drop(subscription);
    assert_eq!(rows(&engine, count).await, "{\"subscribers\":0}\n");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_dropped_is_named_until_the_sink_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open_with(settings(directory.path()), &Arc::new(VirtualClock::new(NOW)));
    let path = directory.path().join("out.db");
    ok(
        &engine,
        &format!(
            "CREATE STREAM s (n BIGINT); CREATE CONTINUOUS QUERY q AS SELECT n FROM s;
             CREATE SINK out FROM q INTO SQLITE WITH (path = '{}', table = 't');
             INSERT INTO s VALUES (1); FLUSH SINK out",
            path.display()
        ),
    )
    .await;
    let table = rusqlite::Connection::open(&path).unwrap();
    table.execute_batch("DROP TABLE t").unwrap();
    ok(&engine, "INSERT INTO s VALUES (2); FLUSH").await;
    let told = "SELECT status, error FROM weir.sinks";
    let expected = "{\"status\":\"retrying\",\"error\":\"42P01: target of sink \\\"out\\\" reports: \
                    no such table: t: The target's code is 42P01.\"}\n";
    let flushing = Arc::clone(&engine);
    let flushed = tokio::spawn(async move { flushing.execute("FLUSH SINK out").await.error });
    let mut found = rows(&engine, told).await;
    while found.contains("running") {
        tokio::task::yield_now().await;
        found = rows(&engine, told).await;
    }
    assert_eq!(found, expected);
    table.execute_batch("CREATE TABLE t (n BIGINT)").unwrap();
    assert!(flushed.await.unwrap().is_none());
    assert_eq!(rows(&engine, told).await, "{\"status\":\"running\",\"error\":null}\n");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_follow_a_copy_into_streams_and_tables() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::new(NOW));
    let engine = open_with(settings(directory.path()), &clock);
    let text = "CREATE STREAM s (a BIGINT, b TEXT);
CREATE TABLE t (a BIGINT PRIMARY KEY, b TEXT);
COPY s FROM STDIN (FORMAT csv);
1,one; two
x,bad
2,\"it's\"
\\.
COPY t FROM STDIN (FORMAT json);
{\"a\": 1, \"b\": \"one\"}
{\"a\": 2}
\\.
COPY s FROM STDIN WITH (FORMAT csv, HEADER);
b,a
three,3";
    let execution = ok(&engine, text).await;
    let tags: Vec<&str> = execution.results[2..].iter().map(|result| result.tag.as_str()).collect();
    assert_eq!(tags, ["COPY 2", "COPY 2", "COPY 1"]);
    let mut refused = Vec::new();
    write_ndjson(&execution.results[2].batches[0], &mut refused);
    assert!(String::from_utf8(refused).unwrap().starts_with("{\"line\":2,\"code\":\"22P02\""));
    assert_eq!(
        rows(&engine, "SELECT a, b FROM s ORDER BY a").await,
        "{\"a\":1,\"b\":\"one; two\"}\n{\"a\":2,\"b\":\"it's\"}\n{\"a\":3,\"b\":\"three\"}\n"
    );
    assert_eq!(
        rows(&engine, "SELECT a, b FROM t ORDER BY a").await,
        "{\"a\":1,\"b\":\"one\"}\n{\"a\":2,\"b\":null}\n"
    );
    // Into a table it is all or nothing.
    assert_eq!(code(&engine, "COPY t FROM STDIN (FORMAT csv);\n3,x\n1,y\n").await, "23505");
    assert_eq!(code(&engine, "COPY t FROM STDIN (FORMAT csv);\n3,x\ny,y\n").await, "22P02");
    assert_eq!(code(&engine, "COPY s FROM STDIN (FORMAT xml);\n3").await, "22023");
    assert_eq!(code(&engine, "COPY nothing FROM STDIN;\n3").await, "42P01");
    assert_eq!(rows(&engine, "SELECT count(*) AS n FROM t").await, "{\"n\":2}\n");
    assert_eq!(ok(&engine, "COPY s FROM STDIN").await.results[0].tag, "COPY 0");
    engine.shutdown().await;
}
