//! Lets one query, subscriber or sink go wrong, and looks at the others.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tungstenite::{Message, WebSocket};

use crate::real_server::{PATIENCE, RealServer};

const NDJSON: &str = "application/x-ndjson";
/// The promise is five seconds; the rest is for a busy machine.
const STOP_WITHIN: Duration = Duration::from_millis(5_900);

fn start(directory: &tempfile::TempDir, faults: &str) -> RealServer {
    RealServer::try_start(directory.path(), &[], &[("WEIR_FAULTS", faults)]).unwrap()
}

fn rows(server: &RealServer, sql: &str) -> Value {
    server.sql(sql)["results"].as_array().unwrap().last().unwrap()["rows"].clone()
}

/// Waits until a statement answers so.
fn await_rows(server: &RealServer, sql: &str, expected: &Value) {
    let begin = Instant::now();
    while rows(server, sql) != *expected {
        assert!(begin.elapsed() < PATIENCE, "{sql}: {} instead of {expected}", rows(server, sql));
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn a_query_that_panics_stops_alone_says_why_and_goes_on_when_it_is_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory, "query.step:boom=panic@3");
    let as_before = "SELECT k, count(*) AS c FROM s GROUP BY k";
    server.sql(&format!(
        "CREATE STREAM s (n BIGINT, k BIGINT);
         CREATE CONTINUOUS QUERY boom AS {as_before}; CREATE CONTINUOUS QUERY fine AS {as_before};
         CREATE CONTINUOUS QUERY above AS SELECT count(*) AS c FROM boom"
    ));
    for n in 0..20 {
        let row = format!("{{\"n\":{n},\"k\":{}}}", n % 3);
        assert_eq!(server.post("/v1/streams/s?ack=processed", NDJSON, &row).0, 200);
    }
    let states = "SELECT name, status FROM weir.queries ORDER BY name";
    let failed = json!([["above", "running"], ["boom", "failed"], ["fine", "running"]]);
    await_rows(&server, states, &failed);
    let error = "SELECT error FROM weir.queries WHERE name = 'boom'";
    assert_eq!(rows(&server, error), json!([["XX000: query broke: fault at query.step"]]));
    let all = json!([[0, 7], [1, 7], [2, 6]]);
    assert_eq!(rows(&server, "SELECT * FROM fine ORDER BY k"), all);
    // A subscriber is told.
    let mut subscriber = subscribe(&server, "boom", "from=now");
    let last = std::iter::from_fn(|| Some(frame(&mut subscriber))).find(|f| f["type"] == "error");
    assert_eq!(last.unwrap()["code"], "XX000");
    server.sql("RESUME boom; FLUSH");
    assert_eq!(rows(&server, "SELECT * FROM boom ORDER BY k"), all);
    assert_eq!(rows(&server, "SELECT c FROM above"), json!([[3]]));
    server.sql("INSERT INTO s VALUES (20, 2); FLUSH");
    let all = json!([[0, 7], [1, 7], [2, 7]]);
    assert_eq!(rows(&server, "SELECT * FROM boom ORDER BY k"), all);
    assert!(server.terminate(STOP_WITHIN).success());
    let server = start(&directory, "");
    assert_eq!(rows(&server, "FLUSH; SELECT * FROM boom ORDER BY k"), all);
}

#[test]
fn dropped_queries_leave_no_file_open() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory, "");
    server.sql("CREATE STREAM s (n BIGINT)");
    let round = || {
        server.sql(
            "CREATE CONTINUOUS QUERY q AS SELECT n % 3 AS k, count(*) AS c FROM s GROUP BY n % 3;
             INSERT INTO s VALUES (1), (2); FLUSH; SELECT * FROM q; DROP CONTINUOUS QUERY q",
        );
    };
    (0..5).for_each(|_| round());
    let before = server.open_files();
    (0..20).for_each(|_| round());
    let after = server.open_files();
    assert!(after < before + 10, "{before} files are open, then {after}");
}

fn subscribe(server: &RealServer, query: &str, parameters: &str) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", server.http)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let url = format!("ws://127.0.0.1:{}/v1/queries/{query}/subscribe?{parameters}", server.http);
    tungstenite::client(url, stream).unwrap().0
}

fn frame(socket: &mut WebSocket<TcpStream>) -> Value {
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

/// Takes connections and never says a word.
struct Mute(u16);

impl Mute {
    fn new() -> Mute {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::Builder::new().name("mute".into()).spawn(move || {
            let mut open = Vec::new();
            for socket in listener.incoming() {
                open.push(socket);
            }
        });
        drop(thread.unwrap());
        Mute(port)
    }

    fn sink(&self, name: &str, query: &str) -> String {
        format!(
            "CREATE SINK {name} FROM {query} INTO POSTGRES WITH
                (url = 'postgres://weir@127.0.0.1:{}/x', table = 't', mode = 'changelog')",
            self.0
        )
    }
}

/// How long rows take from a client through a query to a subscriber, in order.
fn latencies(server: &RealServer, subscriber: &mut WebSocket<TcpStream>, from: i64) -> Vec<f64> {
    let one = |n: i64| {
        let begin = Instant::now();
        let (status, _) = server.post("/v1/streams/quick", NDJSON, &format!("{{\"n\":{n}}}"));
        assert_eq!(status, 200);
        while frame(subscriber)["rows"][0]["n"] != n {}
        begin.elapsed().as_secs_f64() * 1e3
    };
    let mut found: Vec<f64> = (from..from + 100).map(one).collect();
    found.sort_by(f64::total_cmp);
    found
}

#[test]
fn who_lags_lags_alone() {
    let directory = tempfile::tempdir().unwrap();
    // Each of their steps takes long, as if it computed something difficult.
    let slow = ["a", "b", "c"].map(|name| format!("query.step:{name}=sleep:1000"));
    let server = start(&directory, &slow.join(";"));
    server.sql(
        "CREATE STREAM quick (n BIGINT); CREATE CONTINUOUS QUERY passed AS SELECT n FROM quick;
         CREATE STREAM bulk (n BIGINT, t TEXT, at TIMESTAMP, WATERMARK FOR at AS at);
         CREATE CONTINUOUS QUERY echo AS SELECT n, t FROM bulk",
    );
    let mut subscriber = subscribe(&server, "passed", "from=now");
    assert_eq!(frame(&mut subscriber)["type"], "hello");
    latencies(&server, &mut subscriber, -1000);
    let alone = latencies(&server, &mut subscriber, 0);

    let deaf = subscribe(&server, "echo", "from=earliest");
    for piece in 0..60 {
        let row = |n: i64| {
            let at = chrono::DateTime::from_timestamp(1_700_000_000 + n / 100, 0).unwrap();
            format!(
                "{{\"n\":{n},\"t\":\"a text of some length\",\"at\":\"{}\"}}\n",
                at.to_rfc3339()
            )
        };
        let body: String = (piece * 1000..(piece + 1) * 1000).map(row).collect();
        assert_eq!(server.post("/v1/streams/bulk", NDJSON, &body).0, 200);
    }
    let behind = |name: &str| {
        format!(
            "CREATE CONTINUOUS QUERY {name} AS SELECT window_start, count(*) AS c, max(t) AS t
             FROM TUMBLE(bulk, at, INTERVAL '1 minute') GROUP BY window_start, window_end"
        )
    };
    let mute = Mute::new();
    for statement in [&mute.sink("hanging", "echo"), &behind("a"), &behind("b"), &behind("c")] {
        server.sql(statement);
    }
    let beside = latencies(&server, &mut subscriber, 1000);
    let left =
        "SELECT count(*) FROM weir.queries WHERE name IN ('a', 'b', 'c') AND rows_in < 60000";
    let left = rows(&server, left)[0][0].clone();
    assert_ne!(left, 0, "nobody lags");
    let at = |found: &[f64], share: f64| found[(found.len() as f64 * share) as usize];
    for share in [0.5, 0.99] {
        let (one, other) = (at(&alone, share), at(&beside, share));
        println!("p{}: {one:.1} ms alone, {other:.1} ms beside {left} that lag", share * 100.0);
        // In a build for debugging, on a machine that does other things as well.
        assert!(other < one * 10.0 + 1000.0 * share, "{other} ms instead of {one} ms");
    }
    drop(deaf);
}

#[test]
fn sigterm_under_load_ends_in_time_and_loses_nothing_whoever_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory, "query.step:slow=sleep:3000");
    server.sql(
        "CREATE STREAM s (n BIGINT NOT NULL); CREATE STREAM t (n BIGINT NOT NULL);
         CREATE CONTINUOUS QUERY sums AS SELECT n % 7 AS k, count(*) AS c FROM s GROUP BY n % 7;
         CREATE CONTINUOUS QUERY slow AS SELECT count(*) AS c FROM s;
         CREATE CONTINUOUS QUERY echo AS SELECT n FROM s;",
    );
    let mute = Mute::new();
    server.sql(&mute.sink("hanging", "echo"));
    let deaf = subscribe(&server, "echo", "from=earliest");
    let (http, tcp) = (server.http, server.tcp);
    let stopping = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut acknowledged = 0;
            let agent = ureq::Agent::new_with_defaults();
            for first in (0..).step_by(50) {
                let body: String =
                    (first..first + 50).map(|n| format!("{{\"n\":{n}}}\n")).collect();
                let url = format!("http://127.0.0.1:{http}/v1/streams/s");
                match agent.post(url).content_type(NDJSON).send(body) {
                    Ok(_) => acknowledged = first + 50,
                    Err(_) => break,
                }
            }
            assert!(stopping.load(Ordering::Relaxed), "the server ended by itself");
            acknowledged
        });
        let connection = scope.spawn(|| {
            let mut socket = TcpStream::connect(("127.0.0.1", tcp)).unwrap();
            socket.write_all(b"INGEST t FORMAT csv\n1\n2\n3\n").unwrap();
            let mut answer = String::new();
            // It stays open until the server ends it.
            socket.read_to_string(&mut answer).unwrap();
            answer
        });
        std::thread::park_timeout(Duration::from_millis(700));
        stopping.store(true, Ordering::Relaxed);
        assert!(server.terminate(STOP_WITHIN).success());
        let answer = connection.join().unwrap();
        let last: Value = serde_json::from_str(answer.lines().last().unwrap()).unwrap();
        assert_eq!(last["error"]["code"], "57P01", "{answer}");
        assert!(answer.contains("\"ack\":3"), "{answer}");
        sender.join().unwrap()
    });
    drop(deaf);
    assert!(acknowledged > 0);
    let log = std::fs::read_to_string(directory.path().join("server.log")).unwrap();
    assert!(!log.contains("panicked"), "{log}");

    let server = start(&directory, "");
    server.sql("INSERT INTO s VALUES (-1); FLUSH");
    let stored = rows(&server, "SELECT n FROM s WHERE n >= 0 ORDER BY _offset");
    let stored: Vec<i64> = serde_json::from_value::<Vec<[i64; 1]>>(stored).unwrap().concat();
    assert!(stored.len() as i64 >= acknowledged, "{} of {acknowledged}", stored.len());
    assert!(stored.iter().copied().eq(0..stored.len() as i64), "rows are lost or doubled");
    let counted = rows(&server, "SELECT sum(c) FROM sums");
    assert_eq!(counted, json!([[stored.len() + 1]]));
    assert_eq!(rows(&server, "SELECT c FROM slow"), counted);
    assert_eq!(rows(&server, "SELECT n FROM t ORDER BY n"), json!([[1], [2], [3]]));
}
