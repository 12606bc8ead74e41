//! Holds senders back at a full disk budget: the budget is kept to, all is stored in the end, and nobody
//! waits for what cannot come.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::{JoinHandle, JoinSet};
use weir::decode::{Format, decoder};
use weir::engine::{Engine, EngineSettings, IngestOrigin, IngestReceipt};
use weir::error::Result;
use weir::time::SystemClock;

use crate::engines::run;

fn open(directory: &Path) -> Arc<Engine> {
    Engine::open(EngineSettings::new(directory), Arc::new(SystemClock)).unwrap()
}

/// Rows of about 900 bytes that hardly shrink.
fn lines(rows: std::ops::Range<u64>) -> String {
    let line = |n: u64| {
        let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'0' + (state >> 33) as u8 % 75)
        };
        let letters = std::iter::repeat_with(&mut next).filter(char::is_ascii_alphanumeric);
        format!("{{\"n\":{n},\"text\":\"{}\"}}\n", letters.take(850).collect::<String>())
    };
    rows.map(line).collect()
}

async fn send(engine: Arc<Engine>, stream: &str, body: String) -> Result<IngestReceipt> {
    let stream = engine.stream(stream)?;
    let decoded = decoder(Format::NdJson, stream.decode_spec()).decode(body.as_bytes(), 1);
    stream.ingest(decoded, None, IngestOrigin::default()).await
}

/// Bytes of the files of the first stream that was made.
///
/// Files grow and go while this looks at them. Where all that were measured are still there, they hold at
/// least the sum together now; were one gone, its bytes could be counted beside those that took its room, so
/// it looks again.
fn size(directory: &Path) -> u64 {
    let streams = std::fs::read_dir(directory.join("streams")).unwrap();
    let first = streams.map(|entry| entry.unwrap().path()).min().unwrap();
    loop {
        let files = std::fs::read_dir(&first).unwrap().map(|file| file.unwrap().path());
        let segments: Vec<_> =
            files.filter(|file| file.extension().is_some_and(|e| e == "seg")).collect();
        let lengths: Option<Vec<u64>> =
            segments.iter().map(|s| Some(s.metadata().ok()?.len())).collect();
        if let Some(lengths) = lengths.filter(|_| segments.iter().all(|segment| segment.exists())) {
            return lengths.iter().sum();
        }
    }
}

/// Waits until a question has this answer.
async fn until(engine: &Arc<Engine>, sql: &str, wanted: &str) {
    let mut answer = String::new();
    for _ in 0..3_000 {
        answer = run(engine, sql).await;
        if answer.contains(wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{sql}: {answer}");
}

async fn soon<T>(task: JoinHandle<T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), task).await.expect("it lets go").unwrap()
}

const WAITING: &str = "SELECT sum(waiting) AS waiting FROM weir.streams";

#[tokio::test(flavor = "multi_thread")]
async fn many_senders_together_keep_to_the_budget_and_all_is_stored() {
    const LIMIT: u64 = 256 << 10;
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    run(
        &engine,
        "CREATE STREAM s (n BIGINT, text TEXT) WITH (retention_bytes = '256 KB');
         CREATE CONTINUOUS QUERY q AS SELECT count(*) AS c, sum(n) AS total FROM s",
    )
    .await;
    let done = Arc::new(AtomicBool::new(false));
    let (at, end) = (directory.path().to_owned(), Arc::clone(&done));
    let watch = tokio::spawn(async move {
        let mut most = 0;
        while !end.load(Ordering::Relaxed) {
            most = size(&at).max(most);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        most
    });
    let mut senders = JoinSet::new();
    for sender in 0..8_u64 {
        let engine = Arc::clone(&engine);
        senders.spawn(async move {
            for request in 0..20_u64 {
                // About 1 to 18 KB each, 1.5 MB together.
                let first = (sender * 20 + request) * 20;
                let rows = first..first + 1 + (sender * 7 + request) % 20;
                let count = rows.end - rows.start;
                let receipt = send(Arc::clone(&engine), "s", lines(rows)).await.unwrap();
                assert_eq!((receipt.accepted, receipt.shed), (count, 0));
            }
        });
    }
    let all = async { while senders.join_next().await.map(Result::unwrap).is_some() {} };
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("senders are let in");
    done.store(true, Ordering::Relaxed);
    let most = watch.await.unwrap();
    assert!((LIMIT / 2..=LIMIT).contains(&most), "{most}");
    run(&engine, "FLUSH").await;
    let requests = (0..8_u64).flat_map(|sender| (0..20_u64).map(move |r| (sender, r)));
    let (mut count, mut total) = (0, 0);
    for (sender, request) in requests {
        let first = (sender * 20 + request) * 20;
        let rows = first..first + 1 + (sender * 7 + request) % 20;
        (count, total) = (count + rows.end - rows.start, total + rows.sum::<u64>());
    }
    let expected = format!("{{\"c\":{count},\"total\":{total}}}\n");
    assert_eq!(run(&engine, "SELECT * FROM q").await, expected);
    engine.shutdown().await;
}

/// An engine whose stream `s` is full, with a query that has failed and needs all of it, and a sender that
/// waits.
async fn full(directory: &Path) -> (Arc<Engine>, JoinHandle<Result<IngestReceipt>>) {
    let engine = open(directory);
    run(
        &engine,
        "CREATE STREAM s (n BIGINT, text TEXT, at TIMESTAMP) WITH (retention_bytes = '64 KB');
         CREATE CONTINUOUS QUERY q WITH (memory_limit = '1 kB') AS SELECT text, count(*) FROM s GROUP BY text",
    )
    .await;
    let mut next = 0;
    let waits = loop {
        let body = lines(next..next + 5);
        next += 5;
        let mut sent = tokio::spawn(send(Arc::clone(&engine), "s", body));
        match tokio::time::timeout(Duration::from_secs(5), &mut sent).await {
            Ok(receipt) => assert_eq!(receipt.unwrap().unwrap().accepted, 5),
            Err(_) => break sent,
        }
        assert!(next < 200, "the budget holds nobody back");
    };
    assert!(size(directory) <= 64 << 10);
    assert_eq!(run(&engine, WAITING).await, "{\"waiting\":1}\n");
    let status = run(&engine, "SELECT status FROM weir.queries").await;
    assert_eq!(status, "{\"status\":\"failed\"}\n");
    (engine, waits)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_goes_on_once_nobody_needs_the_rows() {
    let freeing = [
        "DROP CONTINUOUS QUERY q",
        "PAUSE q",
        "ALTER STREAM s SET (retention_bytes = '1 MB')",
        "ALTER STREAM s RESET (retention_bytes)",
        "ALTER CONTINUOUS QUERY q SET (memory_limit = '64 MB')",
    ];
    for sql in freeing {
        let directory = tempfile::tempdir().unwrap();
        let (engine, waits) = full(directory.path()).await;
        run(&engine, sql).await;
        assert_eq!(soon(waits).await.unwrap().accepted, 5, "{sql}");
        assert_eq!(run(&engine, WAITING).await, "{\"waiting\":0}\n", "{sql}");
        engine.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_waits_is_told_of_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, waits) = full(directory.path()).await;
    let stored = run(&engine, "SELECT count(*) AS n FROM s").await;
    let bounded = tokio::time::timeout(Duration::from_secs(20), engine.shutdown()).await;
    bounded.expect("whoever waits does not hold the end up");
    assert_eq!(soon(waits).await.unwrap_err().code().0, "57P01");
    drop(engine);
    let engine = open(directory.path());
    assert_eq!(run(&engine, "SELECT count(*) AS n FROM s").await, stored);
    let waits = tokio::spawn(send(Arc::clone(&engine), "s", lines(0..5)));
    until(&engine, WAITING, ":1").await;
    run(&engine, "DROP STREAM s CASCADE").await;
    assert!(soon(waits).await.is_err());
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn senders_who_leave_do_not_hold_up_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, waits) = full(directory.path()).await;
    let later: Vec<_> =
        (0..3).map(|n| tokio::spawn(send(Arc::clone(&engine), "s", lines(n..n + 5)))).collect();
    until(&engine, WAITING, ":4").await;
    waits.abort();
    assert!(waits.await.unwrap_err().is_cancelled());
    until(&engine, WAITING, ":3").await;
    run(&engine, "DROP CONTINUOUS QUERY q").await;
    for sent in later {
        assert_eq!(soon(sent).await.unwrap().accepted, 5);
    }
    assert_eq!(run(&engine, WAITING).await, "{\"waiting\":0}\n");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_the_budget_is_taken_alone() {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    run(
        &engine,
        "CREATE STREAM s (n BIGINT, text TEXT) WITH (retention_bytes = '64 KB');
         CREATE CONTINUOUS QUERY q AS SELECT count(*) AS c FROM s",
    )
    .await;
    let senders: Vec<_> = (0..4_u64)
        .map(|n| tokio::spawn(send(Arc::clone(&engine), "s", lines(n * 200..n * 200 + 100))))
        .collect();
    for sent in senders {
        assert_eq!(soon(sent).await.unwrap().accepted, 100);
        // One such request, and what another left of its own segment.
        assert!(size(directory.path()) < 220 << 10, "{}", size(directory.path()));
    }
    run(&engine, "FLUSH").await;
    assert_eq!(run(&engine, "SELECT c FROM q").await, "{\"c\":400}\n");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_never_held_back_by_the_budget_of_its_late_rows() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, waits) = full(directory.path()).await;
    run(
        &engine,
        "CREATE STREAM timed (n BIGINT, text TEXT, at TIMESTAMP, WATERMARK FOR at AS at);
         CREATE CONTINUOUS QUERY w AS SELECT window_start, count(*) AS c
            FROM TUMBLE(timed, at, INTERVAL '1 minute') GROUP BY window_start, window_end
            ALLOWED LATENESS INTERVAL '0 seconds' LATE ROWS TO s",
    )
    .await;
    let row = |minute| format!("{{\"n\":1,\"text\":\"\",\"at\":\"2026-01-01T00:{minute}:00Z\"}}\n");
    let rows = [row(30), row(31), row(10)].concat();
    assert_eq!(send(Arc::clone(&engine), "timed", rows).await.unwrap().accepted, 3);
    // Processed, with the late row stored, while the sender still waits.
    run(&engine, "FLUSH").await;
    let late = run(&engine, "SELECT count(*) AS n FROM s WHERE at IS NOT NULL").await;
    assert_eq!(late, "{\"n\":1}\n");
    assert_eq!(run(&engine, WAITING).await, "{\"waiting\":1}\n");
    run(&engine, "DROP CONTINUOUS QUERY q").await;
    assert_eq!(soon(waits).await.unwrap().accepted, 5);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_punctuation_waits_behind_the_rows_that_it_follows() {
    let directory = tempfile::tempdir().unwrap();
    let (engine, waits) = full(directory.path()).await;
    let other = Arc::clone(&engine);
    let promise = tokio::spawn(async move { run(&other, "PUNCTUATE s WHERE n < 10000").await });
    until(&engine, WAITING, ":2").await;
    run(&engine, "DROP CONTINUOUS QUERY q").await;
    let receipt = soon(waits).await.unwrap();
    assert_eq!((receipt.accepted, receipt.rejected), (5, 0), "no row came behind the promise");
    soon(promise).await;
    let behind = send(Arc::clone(&engine), "s", lines(0..1)).await.unwrap();
    assert_eq!((behind.accepted, behind.rejected), (0, 1));
    engine.shutdown().await;
}
