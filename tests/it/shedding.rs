//! Lets queries run out of memory that may shed rows: they go on with a sample, say so first, and do the same
//! again after a crash.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use weir::decode::{Format, decoder};
use weir::encode::json::write_ndjson;
use weir::engine::{Engine, EngineSettings, IngestOrigin, SubscribeRequest, SubscriptionFrame};
use weir::sql::statement::SubscribeFrom;
use weir::time::VirtualClock;

use crate::engines::{NOW, open_with, rows, settings};

fn open(directory: &Path, snapshots: bool) -> Arc<Engine> {
    // After every step, or never.
    let snapshot_interval = if snapshots { 0 } else { i64::MAX };
    let settings = EngineSettings { snapshot_interval, ..settings(directory) };
    open_with(settings, &Arc::new(VirtualClock::new(NOW)))
}

async fn run(engine: &Arc<Engine>, sql: &str) -> Vec<Value> {
    rows(engine, sql).await.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn code(engine: &Arc<Engine>, sql: &str) -> &'static str {
    engine.execute(sql).await.error.unwrap_or_else(|| panic!("{sql} is refused")).code().0
}

async fn number(engine: &Arc<Engine>, sql: &str) -> u64 {
    let rows = run(engine, sql).await;
    rows[0].as_object().unwrap().values().next().unwrap().as_u64().unwrap_or_default()
}

/// Sends rows whose `n` is the offset that they get, of keys of their own, in requests of 250.
async fn feed(engine: &Arc<Engine>, offsets: std::ops::Range<u64>, second: u64) {
    let all: Vec<u64> = offsets.collect();
    for offsets in all.chunks(250) {
        let time = chrono::DateTime::from_timestamp(1_700_000_000 + second as i64, 0).unwrap();
        let at = time.to_rfc3339();
        let rows: String = offsets
            .iter()
            .map(|n| format!("{{\"n\":{n},\"k\":\"key {n}\",\"at\":\"{at}\"}}\n"))
            .collect();
        let stream = engine.stream("s").unwrap();
        let decoded = decoder(Format::NdJson, stream.decode_spec()).decode(rows.as_bytes(), 1);
        let receipt = stream.ingest(decoded, None, IngestOrigin::default()).await.unwrap();
        assert_eq!(receipt.first_offset, offsets[0]);
        run(engine, "FLUSH").await;
    }
}

const STREAM: &str = "CREATE STREAM s (n BIGINT, k TEXT, at TIMESTAMP, WATERMARK FOR at AS at)";
const GROUPS: &str =
    "CREATE CONTINUOUS QUERY q WITH (on_memory = 'shed', memory_limit = '512 kB') AS
    SELECT k, min(n) AS n, count(*) AS c FROM s GROUP BY k";

/// Where the levels begin: offset and level.
async fn levels(engine: &Arc<Engine>) -> Vec<(u64, u32)> {
    let rows = run(engine, "SELECT decision FROM weir.adaptations WHERE query = 'q'").await;
    let level = |text: &str| match text.split(" is kept").next().unwrap() {
        "every row" => 0,
        "no row" => 16,
        some => some.rsplit(' ').next().unwrap().parse::<u32>().unwrap().ilog2(),
    };
    let offset = |text: &str| {
        let (_, behind) = text.split_once("offset ").unwrap();
        behind.split(' ').next().unwrap().parse().unwrap()
    };
    let text = |row: &Value| row["decision"].as_str().unwrap().to_string();
    rows.iter().map(text).map(|text| (offset(&text), level(&text))).collect()
}

/// Checks that the figures, the reports and the answer tell the same of what was shed; gives its number.
async fn accounted(engine: &Arc<Engine>) -> u64 {
    let figures = run(engine, "SELECT status, rows_in, rows_shed FROM weir.queries").await;
    assert_eq!(figures[0]["status"], "running", "{figures:?}");
    let shed = figures[0]["rows_shed"].as_u64().unwrap();
    let told = "SELECT stream, \"rows\", reason FROM weir.shed WHERE query = 'q'";
    let told = run(engine, told).await;
    if shed > 0 {
        assert_eq!(told, [serde_json::json!({"stream": "s", "rows": shed, "reason": "memory"})]);
    } else {
        assert_eq!(told, [] as [Value; 0]);
    }
    let kept = number(engine, "SELECT sum(c) AS c FROM q").await;
    assert_eq!(kept + shed, number(engine, "SELECT count(*) AS c FROM s").await);
    shed
}

/// The offsets of the rows that the answer holds, checked against the levels at which they were read.
async fn sampled(engine: &Arc<Engine>) -> BTreeSet<u64> {
    let rows = run(engine, "SELECT n FROM q").await;
    let kept: BTreeSet<u64> = rows.iter().map(|row| row["n"].as_u64().unwrap()).collect();
    let end = number(engine, "SELECT count(*) AS c FROM s").await;
    let mut levels = levels(engine).await;
    assert!(levels.is_sorted_by_key(|(offset, _)| *offset), "{levels:?}");
    levels.insert(0, (0, 0));
    for (index, (from, level)) in levels.iter().enumerate() {
        let to = levels.get(index + 1).map_or(end, |(to, _)| *to);
        let found = kept.range(*from..to).count() as f64;
        let expected = match level {
            16 => 0.0,
            level => (to - from) as f64 / f64::from(1_u32 << level),
        };
        let off = (found - expected).abs();
        let may = if matches!(level, 0 | 16) { 0.0 } else { 6.0 * expected.sqrt() + 3.0 };
        assert!(off <= may, "{found} of [{from},{to}) at level {level}: {levels:?}");
    }
    kept
}

/// The files of a directory with their lengths.
fn files(directory: &Path) -> std::io::Result<Vec<(std::path::PathBuf, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => found.extend(files(&entry.path())?),
            false => found.push((entry.path(), entry.metadata()?.len())),
        }
    }
    found.sort();
    Ok(found)
}

/// What a process leaves that is killed now; a copy during which something was written is none.
async fn killed(directory: &Path) -> tempfile::TempDir {
    let copy = || -> std::io::Result<Option<tempfile::TempDir>> {
        let (left, before) = (tempfile::tempdir()?, files(directory)?);
        for (path, _) in &before {
            let target = left.path().join(path.strip_prefix(directory).unwrap());
            std::fs::create_dir_all(target.parent().unwrap())?;
            std::fs::copy(path, target)?;
        }
        Ok((files(directory)? == before).then_some(left))
    };
    for _ in 0..1_000 {
        if let Ok(Some(left)) = copy() {
            return left;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("something is written all the time");
}

/// All that a subscriber sees from the beginning: rows with their offsets and signs, and what it is told of
/// samples.
fn followed(engine: &Arc<Engine>) -> Vec<String> {
    let request =
        SubscribeRequest { from: SubscribeFrom::Offset(0), ..SubscribeRequest::default() };
    let mut subscription = engine.subscribe("q", request).unwrap();
    let mut seen = Vec::new();
    while let Some(frame) = subscription.poll() {
        match frame {
            SubscriptionFrame::Data { offset, batch, ops } => {
                let mut text = Vec::new();
                write_ndjson(&batch, &mut text);
                let text = String::from_utf8(text).unwrap();
                seen.extend(text.lines().enumerate().map(|(row, line)| {
                    let op = ops.as_ref().map_or(1, |ops| ops[row]);
                    format!("{} {op} {line}", offset + row as u64)
                }));
            }
            SubscriptionFrame::Gap { from, to, reason } => {
                assert_eq!(from, to, "{reason}");
                seen.push(format!("{from} {reason}"));
            }
            SubscriptionFrame::Progress { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_runs_out_of_memory_goes_on_with_a_sample() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path(), false);
    run(&engine, &format!("{STREAM}; {GROUPS}")).await;
    feed(&engine, 0..500, 0).await;
    assert_eq!(accounted(&engine).await, 0);
    assert_eq!(levels(&engine).await, []);
    feed(&engine, 500..30_000, 0).await;
    let shed = accounted(&engine).await;
    assert!(shed > 1_000, "{shed}");
    let kept = sampled(&engine).await;
    assert_eq!(kept.len() as u64 + shed, 30_000);
    let levels = levels(&engine).await;
    assert!(levels[0].0 >= 500, "{levels:?}");
    let explained = format!("{:?}", run(&engine, "EXPLAIN ANALYZE q").await);
    assert!(explained.contains("memory limit 524288 bytes: "), "{explained}");
    let state = number(&engine, "SELECT state_bytes FROM weir.queries").await;
    assert!(state < 2 * 524_288, "{state}");
    // More memory: it keeps more rows again, and all of them in the end.
    run(&engine, "ALTER CONTINUOUS QUERY q SET (memory_limit = '64 MB')").await;
    feed(&engine, 30_000..32_000, 0).await;
    assert_eq!(self::levels(&engine).await.last().unwrap().1, 0);
    let kept = sampled(&engine).await;
    assert_eq!(kept.range(31_500..).count(), 500);
    accounted(&engine).await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_is_told_where_the_sample_begins() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path(), false);
    run(&engine, &format!("{STREAM}; {GROUPS}")).await;
    feed(&engine, 0..12_000, 0).await;
    let seen = followed(&engine);
    let told: Vec<usize> = (0..seen.len()).filter(|i| seen[*i].contains("memory: ")).collect();
    let levels = levels(&engine).await;
    assert_eq!(told.len(), levels.len(), "{levels:?}");
    assert!(seen[told[0]].contains("from here on one row in "), "{}", seen[told[0]]);
    // Every answer before it is about all rows, and the next one about the sample.
    let answers = told[0] as u64;
    assert_eq!(levels[0].0, answers, "each row is an answer");
    assert!(seen[told[0]].starts_with(&format!("{answers} ")), "{}", seen[told[0]]);
    // One that comes later is told at once.
    let mut late = engine.subscribe("q", SubscribeRequest::default()).unwrap();
    let first = late.poll().unwrap();
    assert!(
        matches!(&first, SubscriptionFrame::Gap { reason, .. } if reason.starts_with("memory: ")),
        "{first:?}"
    );
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_the_same_rows_are_shed_again() {
    for snapshots in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path(), snapshots);
        run(&engine, &format!("{STREAM}; {GROUPS}")).await;
        let mut left = Vec::new();
        for round in 0..12 {
            feed(&engine, round * 1_000..round * 1_000 + 1_000, 0).await;
            left.push((killed(directory.path()).await, followed(&engine).len()));
        }
        let seen = followed(&engine);
        let levels = levels(&engine).await;
        assert!(levels.len() >= 2, "{levels:?}");
        accounted(&engine).await;
        engine.shutdown().await;
        for (round, (left, told)) in (0..).zip(&left) {
            // A replay compares each entry with the one that is there, byte by byte.
            let again = open(left.path(), snapshots);
            run(&again, "FLUSH").await;
            accounted(&again).await;
            // Behind what was there memory is measured again.
            assert!(followed(&again)[..*told] == seen[..*told], "killed after round {round}");
            // What comes is shed by the level that holds, and the answer stays sound.
            feed(&again, round * 1_000 + 1_000..round * 1_000 + 3_000, 0).await;
            accounted(&again).await;
            sampled(&again).await;
            let before = followed(&again);
            again.shutdown().await;
            drop(again);
            let again = open(left.path(), !snapshots);
            run(&again, "FLUSH").await;
            accounted(&again).await;
            assert!(followed(&again)[..before.len()] == before, "killed after round {round}");
            again.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_that_close_let_all_rows_in_again() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path(), true);
    run(
        &engine,
        &format!(
            "{STREAM};
             CREATE CONTINUOUS QUERY q WITH (on_memory = 'shed', memory_limit = '1 MB') AS
                SELECT window_start, k, count(*) AS c FROM TUMBLE(s, at, INTERVAL '1 minute')
                GROUP BY window_start, window_end, k"
        ),
    )
    .await;
    feed(&engine, 0..24_000, 0).await;
    let at_worst = levels(&engine).await.last().copied().unwrap();
    assert!(at_worst.1 > 0, "{at_worst:?}");
    // The watermark closes the minute, whether the row that moves it is kept or not.
    for minute in 1..20 {
        feed(&engine, 23_990 + minute * 10..24_000 + minute * 10, minute * 60).await;
    }
    let state = number(&engine, "SELECT state_bytes FROM weir.queries").await;
    assert_eq!(levels(&engine).await.last().unwrap().1, 0, "{at_worst:?} {state}");
    let minutes = "SELECT count(*) AS windows, sum(c) AS c FROM
        (SELECT window_start, sum(c) AS c FROM q GROUP BY window_start HAVING sum(c) = 10)";
    let whole = number(&engine, minutes).await;
    assert!(whole >= 10, "{whole} windows are whole");
    let before = run(&engine, "SELECT * FROM q ORDER BY 1, 2").await;
    let left = killed(directory.path()).await;
    engine.shutdown().await;
    let again = open(left.path(), false);
    run(&again, "FLUSH").await;
    assert_eq!(run(&again, "SELECT * FROM q ORDER BY 1, 2").await, before);
    assert_eq!(levels(&again).await.last().unwrap().1, 0);
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_both_sides_of_a_union_read_have_one_fate() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path(), false);
    run(
        &engine,
        &format!(
            "{STREAM};
             CREATE CONTINUOUS QUERY q WITH (on_memory = 'shed', memory_limit = '512 kB') AS
                SELECT k, min(n) AS n, count(*) AS c FROM
                    (SELECT k, n FROM s UNION ALL SELECT k, n FROM s) GROUP BY k"
        ),
    )
    .await;
    feed(&engine, 0..10_000, 0).await;
    let counts = run(&engine, "SELECT DISTINCT c FROM q").await;
    assert_eq!(counts, [serde_json::json!({"c": 2})]);
    let shed = number(&engine, "SELECT rows_shed FROM weir.queries").await;
    let kept = number(&engine, "SELECT count(*) AS c FROM q").await;
    assert!(shed > 0);
    assert_eq!(kept + shed, 10_000);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_right_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path(), false);
    run(
        &engine,
        &format!(
            "{STREAM}; CREATE TABLE t (k TEXT PRIMARY KEY);
             CREATE CONTINUOUS QUERY below AS SELECT k, n FROM s"
        ),
    )
    .await;
    let create = |options: &str, from: &str| {
        format!(
            "CREATE CONTINUOUS QUERY q WITH ({options}) AS SELECT k, count(*) FROM {from} GROUP BY k"
        )
    };
    for (options, from) in [
        ("on_memory = 'approximate'", "s"),
        ("on_memory = 'shed', retention = '1 day'", "s"),
        ("on_memory = 'shed'", "t"),
        ("on_memory = 'shed'", "below"),
        ("on_memory = 'shed'", "s JOIN t USING (k)"),
    ] {
        assert_eq!(code(&engine, &create(options, from)).await, "0A000", "{options} {from}");
    }
    run(&engine, &create("on_memory = 'shed'", "s")).await;
    assert_eq!(code(&engine, "ALTER CONTINUOUS QUERY q SET (retention = '1 day')").await, "0A000");
    assert_eq!(
        code(&engine, "ALTER CONTINUOUS QUERY below SET (on_memory = 'approximate')").await,
        "0A000"
    );
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_is_of_all_rows_or_none() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path(), true);
    run(&engine, &format!("{STREAM}; {GROUPS}")).await;
    feed(&engine, 0..12_000, 0).await;
    let shed = accounted(&engine).await;
    assert!(shed > 0);
    assert_eq!(code(&engine, "REBUILD CONTINUOUS QUERY q").await, "53200");
    assert_eq!(accounted(&engine).await, shed, "it goes on as it was");
    run(&engine, "ALTER CONTINUOUS QUERY q SET (memory_limit = '64 MB')").await;
    run(&engine, "REBUILD CONTINUOUS QUERY q").await;
    assert_eq!(number(&engine, "SELECT sum(c) AS c FROM q").await, 12_000);
    assert_eq!(accounted(&engine).await, 0);
    assert!(followed(&engine).iter().any(|line| line.contains("every row is kept")));
    feed(&engine, 12_000..12_500, 0).await;
    assert_eq!(number(&engine, "SELECT sum(c) AS c FROM q").await, 12_500);
    let left = killed(directory.path()).await;
    engine.shutdown().await;
    let again = open(left.path(), false);
    run(&again, "FLUSH").await;
    assert_eq!(accounted(&again).await, 0);
    assert_eq!(number(&again, "SELECT sum(c) AS c FROM q").await, 12_500);
    again.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_may_shed_no_more_keeps_all_rows_or_stops() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path(), false);
    run(&engine, &format!("{STREAM}; {GROUPS}")).await;
    feed(&engine, 0..12_000, 0).await;
    let shed = accounted(&engine).await;
    assert!(shed > 0);
    run(
        &engine,
        "ALTER CONTINUOUS QUERY q SET (on_memory = 'fail', memory_limit = '64 MB'); FLUSH",
    )
    .await;
    feed(&engine, 12_000..14_000, 0).await;
    // The level is another one after the next step; from there on nothing is shed.
    assert!(accounted(&engine).await - shed <= 250);
    assert_eq!(levels(&engine).await.last().unwrap().1, 0);
    run(&engine, "ALTER CONTINUOUS QUERY q SET (memory_limit = '100 kB')").await;
    feed(&engine, 14_000..14_250, 0).await;
    let status = run(&engine, "SELECT status FROM weir.queries").await;
    assert_eq!(status[0]["status"], "failed");
    engine.shutdown().await;
}
