//! kill -9 at random moments under load, and an audit of what is there afterwards.
//!
//! A client keeps a ledger of what it sent and what was acknowledged; a subscriber keeps every change it
//! saw and goes on at the next offset after each crash; a SQLite file is fed by a sink. After each crash:
//! acknowledged ⊆ stored ⊆ sent, each row once; the answers of windows and of groups are those of the
//! stored rows; the subscriber's changes and the sink's table are the query's.
//!
//! `WEIR_CRASH_ROUNDS` and `WEIR_CRASH_SEED` make it longer and other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use tungstenite::Message;

use crate::real_server::{PATIENCE, RealServer};

const OBJECTS: &str =
    "CREATE STREAM s (n BIGINT NOT NULL, k BIGINT, at TIMESTAMP, WATERMARK FOR at AS at);
    CREATE CONTINUOUS QUERY minutes AS SELECT window_start, k, count(*) AS c, sum(n) AS total
        FROM TUMBLE(s, at, INTERVAL '1 minute') GROUP BY window_start, window_end, k;
    CREATE CONTINUOUS QUERY groups AS SELECT k, count(*) AS c, sum(n) AS total FROM s GROUP BY k;
    CREATE SINK table_of_groups FROM groups INTO SQLITE WITH (path = 'groups.db', table = 'groups',
        mode = 'upsert', key = 'k');";

const KEYS: u64 = 7;
const BATCH: u64 = 40;

/// What the client knows.
#[derive(Default)]
struct Ledger {
    /// Rows 0 .. sent may be stored.
    sent: u64,
    acknowledged: BTreeSet<u64>,
}

/// A row per second of event time, in order.
fn batch(first: u64) -> String {
    let row = |n: u64| {
        let at = chrono::DateTime::from_timestamp(1_700_000_000 + n as i64, 0).unwrap();
        format!("{{\"n\":{n},\"k\":{},\"at\":\"{}\"}}\n", n % KEYS, at.to_rfc3339())
    };
    (first..first + BATCH).map(row).collect()
}

/// Sends rows until the server is gone.
fn send(port: u16, ledger: &mut Ledger) {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build(),
    );
    let url = format!("http://127.0.0.1:{port}/v1/streams/s");
    loop {
        let (first, body) = (ledger.sent, batch(ledger.sent));
        ledger.sent += BATCH;
        let Ok(mut answer) = agent.post(&url).content_type("application/x-ndjson").send(body)
        else {
            return;
        };
        // Only an answer that came whole counts as one.
        let Ok(text) = answer.body_mut().read_to_string() else { return };
        let receipt: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(receipt["accepted"], BATCH);
        ledger.acknowledged.extend(first..first + BATCH);
    }
}

/// Keeps all changes that a subscriber sees, at their offsets, until the server is gone or, where an end is
/// given, until they are all there.
fn follow(port: u16, changes: &mut Vec<String>, end: Option<u64>) {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let from = changes.len();
    let url = format!("ws://127.0.0.1:{port}/v1/queries/groups/subscribe?from={from}");
    let Ok((mut socket, _)) = tungstenite::client(url, stream) else { return };
    while end.is_none_or(|end| (changes.len() as u64) < end) {
        let Ok(Message::Text(text)) = socket.read() else { return };
        let frame: Value = serde_json::from_str(&text).unwrap();
        assert!(frame["type"] != "gap" && frame["type"] != "error", "{frame}");
        if frame["type"] == "data" {
            assert_eq!(frame["offset"], changes.len() as u64, "changes are lost or doubled");
            let ops = frame["ops"].as_str().unwrap();
            let rows = frame["rows"].as_array().unwrap();
            changes.extend(ops.chars().zip(rows).map(|(op, row)| format!("{op}{row}")));
        }
    }
}

/// The rows of an answer, as texts.
fn rows(server: &RealServer, sql: &str) -> Vec<Vec<Value>> {
    let answer = server.sql(sql);
    let rows = answer["results"].as_array().unwrap().last().unwrap()["rows"].clone();
    serde_json::from_value(rows).unwrap()
}

fn numbers(rows: Vec<Vec<Value>>) -> Vec<Vec<i64>> {
    let number = |value: &Value| value.as_i64().unwrap();
    rows.iter().map(|row| row.iter().map(number).collect()).collect()
}

/// Count and sum per key.
type Groups = BTreeMap<i64, (i64, i64)>;

fn groups(rows: Vec<Vec<i64>>) -> Groups {
    rows.into_iter().map(|row| (row[0], (row[1], row[2]))).collect()
}

fn audit(server: &RealServer, directory: &std::path::Path, ledger: &Ledger) {
    server.sql("FLUSH; FLUSH SINK table_of_groups");
    let stored: Vec<i64> = numbers(rows(server, "SELECT n FROM s ORDER BY _offset")).concat();
    let distinct: BTreeSet<u64> = stored.iter().map(|n| *n as u64).collect();
    assert_eq!(distinct.len(), stored.len(), "a row is stored twice");
    assert!(stored.is_sorted(), "rows changed places");
    assert!(ledger.acknowledged.is_subset(&distinct), "an acknowledged row is lost");
    assert!(distinct.iter().all(|n| *n < ledger.sent), "a row that nobody sent");

    let mut expected = Groups::new();
    for n in &stored {
        let (count, total) = expected.entry(n % KEYS as i64).or_default();
        (*count, *total) = (*count + 1, *total + n);
    }
    assert_eq!(groups(numbers(rows(server, "SELECT * FROM groups"))), expected, "groups");

    let minute = |n: i64| (1_700_000_000 + n).div_euclid(60);
    let open = stored.last().map(|n| minute(*n));
    let mut windows: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for n in stored.iter().filter(|n| Some(minute(**n)) != open) {
        let (count, total) = windows.entry((minute(*n), n % KEYS as i64)).or_default();
        (*count, *total) = (*count + 1, *total + n);
    }
    let found =
        "SELECT CAST(date_part('epoch', window_start) AS BIGINT) / 60, k, c, total FROM minutes";
    let found = numbers(rows(server, found)).into_iter();
    let found: Vec<_> = found.map(|row| ((row[0], row[1]), (row[2], row[3]))).collect();
    assert_eq!(found.len(), windows.len(), "a window is answered twice or not at all");
    assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), windows, "windows");

    let table = rusqlite::Connection::open(directory.join("groups.db")).unwrap();
    let mut statement = table.prepare("SELECT k, c, total FROM groups").unwrap();
    let found = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))));
    let found: Groups = found.unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(found, expected, "the sink's table");
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn nothing_is_lost_or_doubled_however_often_the_server_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    let mut seed = setting("WEIR_CRASH_SEED", 1);
    let (mut ledger, mut changes) = (Ledger::default(), Vec::new());
    for round in 0..setting("WEIR_CRASH_ROUNDS", 5) {
        let server = RealServer::start_with(directory.path(), &["--snapshot-interval", "50 ms"]);
        if round == 0 {
            server.sql(OBJECTS);
        } else {
            audit(&server, directory.path(), &ledger);
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_millis(30 + (seed >> 33) % 700);
        let (http, dying) = (server.http, AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| send(http, &mut ledger));
            scope.spawn(|| {
                while !dying.load(Ordering::Relaxed) {
                    follow(http, &mut changes, None);
                }
            });
            std::thread::park_timeout(life);
            dying.store(true, Ordering::Relaxed);
            server.kill();
        });
    }
    let server = RealServer::start(directory.path());
    audit(&server, directory.path(), &ledger);
    let end = numbers(rows(&server, "SELECT next_offset FROM weir.queries WHERE name = 'groups'"));
    let end = end[0][0] as u64;
    follow(server.http, &mut changes, Some(end));
    let mut again = Vec::new();
    follow(server.http, &mut again, Some(end));
    assert_eq!(changes, again, "the subscriber saw another changelog");
    assert!(!ledger.acknowledged.is_empty());
}
