//! Floods an engine with rows that are refused, late or shed: what is kept of them is bounded, exact, and
//! the counts say how many there were.

use std::path::Path;
use std::sync::Arc;

use weir::decode::{Format, decoder};
use weir::engine::{Engine, EngineSettings, IngestOrigin, IngestReceipt};
use weir::time::VirtualClock;

use crate::engines::{NOW, copy, open_with, run, settings};

/// Bytes of each report.
const KEPT: u64 = 128 << 10;

fn open(directory: &Path) -> Arc<Engine> {
    let chosen = EngineSettings { report_bytes: KEPT, ..settings(directory) };
    open_with(chosen, &Arc::new(VirtualClock::new(NOW)))
}

async fn send(engine: &Arc<Engine>, stream: &str, format: Format, body: &[u8]) -> IngestReceipt {
    let stream = engine.stream(stream).unwrap();
    let decoded = decoder(format, stream.decode_spec()).decode(body, 1);
    stream.ingest(decoded, None, IngestOrigin::default()).await.unwrap()
}

fn size(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// A line that is no row.
fn noise(n: u64) -> String {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + (state >> 33) as u8 % 26)
    });
    letters.take(100).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_stay_short_under_a_flood_and_the_counts_say_all() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    run(
        &engine,
        "CREATE STREAM bad (n BIGINT); CREATE STREAM other (n BIGINT);
         CREATE STREAM s (n BIGINT, at TIMESTAMP, WATERMARK FOR at AS at);
         CREATE CONTINUOUS QUERY q AS SELECT window_start, sum(10 / n) AS c
             FROM TUMBLE(s, at, INTERVAL '1 minute') GROUP BY window_start, window_end",
    )
    .await;
    send(&engine, "other", Format::NdJson, b"x\n").await;
    send(&engine, "s", Format::NdJson, b"{\"n\":1,\"at\":\"2026-01-01T00:00:00Z\"}\n").await;
    let (mut refused, mut late, mut failed) = (0, 0, 0);
    let system = directory.path().join("system");
    for round in 0..40_u64 {
        let body: String = (0..200).map(|n| noise(round * 200 + n) + "\n").collect();
        refused += send(&engine, "bad", Format::NdJson, body.as_bytes()).await.rejected;
        let row = |n: u64| match n % 2 {
            0 => format!("{{\"n\":{},\"at\":\"2020-01-01T00:00:00Z\"}}\n", n + 1),
            _ => "{\"n\":0,\"at\":\"2026-01-01T00:00:00Z\"}\n".to_string(),
        };
        let rows: String = (0..200).map(row).collect();
        send(&engine, "s", Format::NdJson, rows.as_bytes()).await;
        (late, failed) = (late + 100, failed + 100);
        run(&engine, "FLUSH").await;
        engine.run_retention().unwrap();
        for report in ["dead_letters", "late_rows"] {
            let bytes = size(&system.join(report));
            assert!(bytes < KEPT + (128 << 10), "{report} has {bytes} bytes after {round} rounds");
        }
    }
    let counts = "SELECT name, rows_rejected FROM weir.streams ORDER BY name";
    let expected = format!(
        "{{\"name\":\"bad\",\"rows_rejected\":{refused}}}\n{{\"name\":\"other\",\"rows_rejected\":1}}\n{{\"name\":\"s\",\"rows_rejected\":0}}\n"
    );
    assert_eq!(refused, 8_000);
    assert_eq!(run(&engine, counts).await, expected);
    let query = "SELECT late_rows, rejected_rows FROM weir.queries";
    let figures = format!("{{\"late_rows\":{late},\"rejected_rows\":{failed}}}\n");
    assert_eq!(run(&engine, query).await, figures);
    let there = "SELECT count(*) AS n FROM weir.dead_letters WHERE relation = 'bad'";
    let there = run(&engine, there).await;
    let there: u64 = there.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
    assert!((100..refused).contains(&there), "{there} of {refused} are left");
    // The newest are those that are left.
    let last = format!(
        "SELECT count(*) AS n FROM weir.dead_letters WHERE arrow_cast(raw, 'Utf8') = '{}'",
        noise(7_999)
    );
    assert_eq!(run(&engine, &last).await, "{\"n\":1}\n");
    engine.shutdown().await;
    drop(engine);
    let engine = open(directory.path());
    run(&engine, "FLUSH").await;
    assert_eq!(run(&engine, counts).await, expected, "after a restart");
    assert_eq!(run(&engine, query).await, figures, "after a restart");
    // A stream that takes the name begins to count anew, also after a restart.
    run(&engine, "DROP STREAM bad; CREATE STREAM bad (n BIGINT)").await;
    send(&engine, "bad", Format::NdJson, b"x\nx\n").await;
    engine.shutdown().await;
    drop(engine);
    let engine = open(directory.path());
    let counts = "SELECT rows_rejected FROM weir.streams WHERE name = 'bad'";
    assert_eq!(run(&engine, counts).await, "{\"rows_rejected\":2}\n");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_shed_rows_outlive_their_reports() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    run(
        &engine,
        "CREATE STREAM s (n BIGINT, text TEXT) WITH (retention_bytes = '16 KB') ON OVERLOAD SHED RANDOM;
         CREATE CONTINUOUS QUERY q AS SELECT count(*) AS n FROM s",
    )
    .await;
    let rows: String =
        (0..60).map(|n| format!("{{\"n\":{n},\"text\":\"{:0>100}\"}}\n", n * n)).collect();
    let mut shed = 0;
    for _ in 0..1_000 {
        shed += send(&engine, "s", Format::NdJson, rows.as_bytes()).await.shed;
        run(&engine, "SELECT count(*) FROM weir.shed").await;
    }
    engine.run_retention().unwrap();
    assert!(size(&directory.path().join("system/shed")) < KEPT + (128 << 10));
    let counts = "SELECT rows_shed FROM weir.streams";
    let expected = format!("{{\"rows_shed\":{shed}}}\n");
    assert_eq!(run(&engine, counts).await, expected);
    let told = "SELECT sum(\"rows\") AS n FROM weir.shed";
    assert_ne!(run(&engine, told).await, format!("{{\"n\":{shed}}}\n"), "some reports are gone");
    engine.shutdown().await;
    drop(engine);
    let engine = open(directory.path());
    assert_eq!(run(&engine, counts).await, expected, "after a restart");
    engine.shutdown().await;
}

/// What a process leaves that is killed now.
fn killed(directory: &std::path::Path) -> tempfile::TempDir {
    let left = tempfile::tempdir().unwrap();
    copy(directory, left.path());
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn shed_rows_that_an_answer_told_of_are_counted_after_a_kill() {
    // Nothing but the answers writes here: there are no timers.
    let directory = tempfile::tempdir().unwrap();
    let settings = |path: &std::path::Path| EngineSettings {
        timers: false,
        queue: (1, 1),
        ..EngineSettings::new(path)
    };
    let open = |path: &std::path::Path| {
        Engine::open(settings(path), Arc::new(weir::time::SystemClock)).unwrap()
    };
    let engine = open(directory.path());
    run(
        &engine,
        "CREATE STREAM full (n BIGINT, text TEXT) WITH (retention_bytes = '16 KB') ON OVERLOAD SHED RANDOM;
         CREATE STREAM newest (n BIGINT, text TEXT) ON OVERLOAD DROP OLDEST;
         CREATE STREAM half (n BIGINT, text TEXT) ON OVERLOAD SHED RANDOM;
         CREATE CONTINUOUS QUERY q AS SELECT count(*) AS n FROM full",
    )
    .await;
    let rows: String =
        (0..60).map(|n| format!("{{\"n\":{n},\"text\":\"{:0>100}\"}}\n", n * n)).collect();
    let mut told = std::collections::BTreeMap::from([("full", 0), ("half", 0), ("newest", 0)]);
    for _ in 0..30 {
        *told.get_mut("full").unwrap() +=
            send(&engine, "full", Format::NdJson, rows.as_bytes()).await.shed;
    }
    for name in ["newest", "half"] {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (engine, rows) = (Arc::clone(&engine), rows.clone());
            tasks.spawn(
                async move { send(&engine, name, Format::NdJson, rows.as_bytes()).await.shed },
            );
        }
        while let Some(shed) = tasks.join_next().await {
            *told.get_mut(name).unwrap() += shed.unwrap();
        }
    }
    assert!(told["full"] > 0, "{told:?}");
    let left = killed(directory.path());
    let again = open(left.path());
    for (name, shed) in told {
        let figure = format!("SELECT rows_shed FROM weir.streams WHERE name = '{name}'");
        assert_eq!(run(&again, &figure).await, format!("{{\"rows_shed\":{shed}}}\n"), "{name}");
        let rows = format!(
            "SELECT coalesce(sum(\"rows\"), 0) AS n FROM weir.shed WHERE stream = '{name}'"
        );
        assert_eq!(run(&again, &rows).await, format!("{{\"n\":{shed}}}\n"), "{name}");
    }
    again.shutdown().await;
    engine.shutdown().await;
}

/// The bytes of a text in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_keep_every_byte_of_what_came() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    run(&engine, "CREATE STREAM s (n BIGINT, text TEXT)").await;
    let long =
        [b"{\"n\":1,\"text\":\"".as_slice(), &vec![b'x'; (1 << 20) - 40], b"\xff\"}"].concat();
    let cases: &[(&[u8], &str)] = &[
        (b"{\"n\":1,\"text\":\"\xff\xfe\x80\"}", "22P02"),
        (b"\x00\x01\x02\x7f\x80\xff", "22P02"),
        (b"{\"n\":\"one\"}", "22P02"),
        (b"{\"n\":99999999999999999999}", "22003"),
        ("{\"n\": \u{1F4A7}\u{202e}}".as_bytes(), "22P02"),
        (b"  {\"n\":tru}\t ", "22P02"),
        (&long, "22P02"),
    ];
    for (number, (line, code)) in cases.iter().enumerate() {
        let body = [b"{\"n\":0}\n", *line, b"\n{\"n\":2}\n"].concat();
        let receipt = send(&engine, "s", Format::NdJson, &body).await;
        assert_eq!((receipt.accepted, receipt.rejected), (2, 1), "{number}");
        assert_eq!((receipt.errors[0].0, receipt.errors[0].1.0), (2, *code), "{number}");
    }
    engine.shutdown().await;
    drop(engine);
    let engine = open(directory.path());
    let letters =
        run(&engine, "SELECT line, code, encode(raw, 'hex') AS raw FROM weir.dead_letters").await;
    assert_eq!(letters.lines().count(), cases.len());
    for (letter, (line, code)) in letters.lines().zip(cases) {
        let letter: serde_json::Value = serde_json::from_str(letter).unwrap();
        assert_eq!((&letter["line"], &letter["code"]), (&2.into(), &(*code).into()));
        assert!(letter["raw"] == hex(line).as_str(), "{:.100}", letter["raw"]);
    }
    // A row that an expression fails on has its offset.
    run(&engine, "CREATE CONTINUOUS QUERY q AS SELECT 10 / n AS x FROM s; FLUSH").await;
    let offsets =
        "SELECT \"offset\", code, query FROM weir.dead_letters WHERE query IS NOT NULL ORDER BY 1";
    let offsets = run(&engine, offsets).await;
    let expected =
        |n: usize| format!("{{\"offset\":{},\"code\":\"22012\",\"query\":\"q\"}}\n", 2 * n);
    assert_eq!(offsets, (0..cases.len()).map(expected).collect::<String>());
    engine.shutdown().await;
}
