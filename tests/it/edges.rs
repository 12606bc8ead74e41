//! Speaks to the server where it is easily wrong: slow, rude and hasty clients, and broken parts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};
use tokio::time::Instant;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};
use weir::engine::SubscriptionFrame;
use weir::error::{Error, SqlState};
use weir::server::{Addresses, Server};
use weir::sql::statement::SubscribeFrom;

use crate::fake::{Answer, Fake, Tell, call, numbers};
use crate::real_server::{PATIENCE, RealServer};

/// The promise is five seconds; the rest is for a busy machine.
const PROGRESS_WITHIN: Duration = Duration::from_millis(5_400);

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn subscribe(port: u16, query: &str, parameters: &str) -> WebSocket<TcpStream> {
    let url = format!("ws://127.0.0.1:{port}/v1/queries/{query}/subscribe?{parameters}");
    // What was conflated comes in one message, however large.
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    tungstenite::client::client_with_config(url, connect(port), Some(config)).unwrap().0
}

/// The next frame: its members, and its rows if it came as Arrow IPC.
fn frame(socket: &mut WebSocket<TcpStream>) -> (Value, Vec<RecordBatch>) {
    loop {
        match socket.read().unwrap() {
            Message::Text(text) => return (serde_json::from_str(&text).unwrap(), vec![]),
            Message::Binary(bytes) => {
                let reader = StreamReader::try_new(bytes.as_ref(), None).unwrap();
                let members = reader.schema().metadata()["weir.frame"].clone();
                let batches = reader.map(Result::unwrap).collect();
                return (serde_json::from_str(&members).unwrap(), batches);
            }
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("no frame: {other:?}"),
        }
    }
}

/// The next frame that is no progress.
fn news(socket: &mut WebSocket<TcpStream>) -> (Value, Vec<RecordBatch>) {
    loop {
        let (members, batches) = frame(socket);
        assert_ne!(members["type"], "error", "{members}");
        if members["type"] != "progress" {
            return (members, batches);
        }
    }
}

fn rows_of(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

fn sql(port: u16, text: &str, accept: &str) -> Answer {
    call(port, "POST /v1/sql", &[("Accept", accept)], text.as_bytes())
}

#[test]
fn arrow_frames_hold_rows_signs_and_offsets() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    server.sql(
        "CREATE STREAM s (k TEXT, n BIGINT);
         CREATE CONTINUOUS QUERY q AS SELECT k, sum(n) AS total FROM s GROUP BY k;
         INSERT INTO s VALUES ('a', 1); FLUSH; INSERT INTO s VALUES ('a', 2); FLUSH;",
    );
    let mut socket = subscribe(server.http, "q", "from=earliest&format=arrow");
    let (hello, batches) = frame(&mut socket);
    assert_eq!((&hello["type"], batches.len()), (&json!("hello"), 0));
    let (mut signs, mut rows, mut offset) = (String::new(), Vec::new(), 0);
    while offset < 3 {
        let (members, batches) = news(&mut socket);
        assert_eq!((&members["type"], &members["offset"]), (&json!("data"), &json!(offset)));
        offset += rows_of(&batches);
        signs.push_str(members["ops"].as_str().unwrap());
        rows.extend(batches.iter().flat_map(|batch| {
            assert_eq!(batch.schema().field(1).name(), "total");
            let totals: &arrow::array::Int64Array =
                batch.column(1).as_any().downcast_ref().unwrap();
            totals.values().to_vec()
        }));
    }
    assert_eq!((signs.as_str(), rows), ("+-+", vec![1, 1, 3]));
    let mut late = subscribe(server.http, "q", "snapshot=true&format=arrow");
    assert_eq!(frame(&mut late).0["offset"], 3);
    let (snapshot, batches) = news(&mut late);
    assert_eq!((&snapshot["type"], &snapshot["offset"]), (&json!("snapshot"), &json!(3)));
    assert_eq!(rows_of(&batches), 1);
}

/// Rows that fill a connection whose client does not read, and rows that come then.
const FIRST: u64 = 30_000;
const THEN: u64 = 100_000;

/// A server with a subscriber that was told of `FIRST` wide rows, did not read, and lags by `THEN`.
fn laggard(directory: &tempfile::TempDir, on_slow: &str) -> (RealServer, WebSocket<TcpStream>) {
    let server = RealServer::start(directory.path());
    server.sql(
        "CREATE STREAM s (n BIGINT) WITH (durability = 'memory');
         CREATE CONTINUOUS QUERY wide AS SELECT n, repeat('x', 1500) AS filler FROM s;",
    );
    let parameters = format!("from=earliest&format=arrow&on_slow={on_slow}");
    let mut socket = subscribe(server.http, "wide", &parameters);
    assert_eq!(frame(&mut socket).0["type"], "hello");
    for (from, count) in [(0, FIRST), (FIRST, THEN)] {
        let rows: String = (from..from + count).map(|n| format!("{n}\n")).collect();
        let headers = [("Content-Type", "text/csv; header=absent")];
        let answer =
            call(server.http, "POST /v1/streams/s?ack=processed", &headers, rows.as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    (server, socket)
}

#[test]
fn a_blocked_subscriber_lags_and_sees_everything_while_another_does_not_wait_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let (server, mut socket) = laggard(&directory, "block");
    let mut quick = subscribe(server.http, "wide", &format!("from={}", FIRST + THEN - 1));
    assert_eq!(news(&mut quick).0["type"], "hello");
    assert_eq!(news(&mut quick).0["rows"][0]["n"], FIRST + THEN - 1);
    let mut next = 0;
    while next < FIRST + THEN {
        let (members, batches) = news(&mut socket);
        assert_eq!((&members["type"], &members["offset"]), (&json!("data"), &json!(next)));
        next += rows_of(&batches);
    }
    assert_eq!(next, FIRST + THEN);
}

#[test]
fn a_dropping_subscriber_is_told_of_its_gap_and_goes_on_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let (server, mut socket) = laggard(&directory, "drop");
    let mut next = 0;
    let gap = loop {
        let (members, batches) = news(&mut socket);
        if members["type"] == "gap" {
            break members;
        }
        assert_eq!(members["offset"], next);
        next += rows_of(&batches);
    };
    let all = FIRST + THEN;
    assert_eq!(gap, json!({"type": "gap", "from": next, "to": all, "reason": "slow"}));
    assert!(next <= FIRST + THEN - 65_536, "it fell behind at {next}");
    server.sql("INSERT INTO s VALUES (-1); FLUSH;");
    let (members, batches) = news(&mut socket);
    assert_eq!((&members["offset"], rows_of(&batches)), (&json!(all), 1));
    // What it missed is still there for one who asks.
    let mut again = subscribe(server.http, "wide", &format!("from={}&format=arrow", gap["from"]));
    assert_eq!(frame(&mut again).0["offset"], gap["from"]);
    assert_eq!(news(&mut again).0["offset"], gap["from"]);
}

#[test]
fn a_conflating_subscriber_of_rows_that_stay_sees_them_all_in_frames_of_the_usual_size() {
    let directory = tempfile::tempdir().unwrap();
    let (_server, mut socket) = laggard(&directory, "conflate");
    let mut next = 0;
    while next < FIRST + THEN {
        let (members, batches) = news(&mut socket);
        assert_eq!((&members["type"], &members["offset"]), (&json!("data"), &json!(next)));
        assert!(rows_of(&batches) <= 8_192);
        next += rows_of(&batches);
    }
}

#[test]
fn a_conflating_subscriber_gets_the_net_effect() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    server.sql(
        "CREATE STREAM s (n BIGINT) WITH (durability = 'memory');
         CREATE CONTINUOUS QUERY many AS
           SELECT n, count(*) AS c, repeat('x', 1500) AS filler FROM s GROUP BY n;",
    );
    let mut slow = subscribe(server.http, "many", "from=earliest&format=arrow&on_slow=conflate");
    assert_eq!(frame(&mut slow).0["type"], "hello");
    let send = |count: u64| {
        let rows: String = (0..count).map(|n| format!("{n}\n")).collect();
        let headers = [("Content-Type", "text/csv; header=absent")];
        let path = "POST /v1/streams/s?ack=processed";
        assert_eq!(call(server.http, path, &headers, rows.as_bytes()).status, 200);
    };
    for count in [30_000, 30_000, 30_000] {
        send(count);
    }
    // Every key: +1, then -1 +2, then -2 +3. Whatever was cut where, the sum of all is +3.
    let head = server.sql("SELECT next_offset FROM weir.queries WHERE name = 'many'");
    let head = head["results"][0]["rows"][0][0].as_u64().unwrap();
    let mut sums = std::collections::BTreeMap::<(i64, i64), i64>::new();
    let (mut seen, mut next, mut told) = (0, 0, false);
    while next < head {
        let (members, batches) = frame(&mut slow);
        if members["type"] == "progress" {
            next = members["offset"].as_u64().unwrap();
            continue;
        }
        if members["type"] == "gap" {
            // Nothing is missing: it says why the next offset is not the one that was to come.
            assert_eq!((&members["from"], &members["to"]), (&json!(next), &json!(next)));
            let reason = members["reason"].as_str().unwrap();
            assert!(reason.starts_with("conflate: "), "{reason}");
            told = true;
            continue;
        }
        let offset = members["offset"].as_u64().unwrap_or_else(|| panic!("{members}"));
        assert!(offset == next || offset > next && std::mem::take(&mut told), "{members}");
        let signs = members["ops"].as_str().unwrap().as_bytes();
        let mut signs = signs.iter().map(|sign| if *sign == b'+' { 1 } else { -1 });
        for batch in &batches {
            let column = |i: usize| -> Vec<i64> {
                let array = batch.column(i).as_any().downcast_ref::<arrow::array::Int64Array>();
                array.unwrap().values().to_vec()
            };
            for row in column(0).into_iter().zip(column(1)) {
                *sums.entry(row).or_default() += signs.next().unwrap();
            }
        }
        seen += rows_of(&batches);
        next = offset + rows_of(&batches);
    }
    sums.retain(|_, sum| *sum != 0);
    assert!(sums.iter().all(|((_, c), sum)| (*c, *sum) == (3, 1)), "{:?}", sums.iter().next());
    assert_eq!(sums.len(), 30_000);
    assert!(seen < head, "all {head} changes came, so nothing was conflated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_of_retention_is_a_frame_and_last_event_id_resumes_behind_it() {
    let fake = Arc::new(Fake::default());
    let gap = SubscriptionFrame::Gap { from: 3, to: 9, reason: "retention".into() };
    let data = SubscriptionFrame::Data { offset: 9, batch: numbers([7]), ops: None };
    fake.subscriptions
        .lock()
        .unwrap()
        .extend([vec![Tell::Frame(gap), Tell::Frame(data), Tell::Silence], vec![Tell::Silence]]);
    let server = fake.serve().await;
    let port = server.http().port();
    let events = move |id: &'static str, count: usize| {
        let mut stream = connect(port);
        let request = format!(
            "GET /v1/queries/q/subscribe?from=3&snapshot=true HTTP/1.1\r\nHost: localhost\r\n\
             Accept: text/event-stream\r\n{id}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        let fields = lines
            .filter(|line| ["event:", "id:", "data:"].iter().any(|name| line.starts_with(name)));
        fields.take(count).collect::<Vec<_>>()
    };
    let told = tokio::task::spawn_blocking(move || {
        // Hello has no id while a snapshot is to come.
        let first = events("", 8);
        events("Last-Event-ID: 10\r\n", 2);
        first
    });
    let told = told.await.unwrap();
    assert_eq!(told[2], "event: gap");
    assert_eq!(told[3], "id: 9");
    let frame: Value = serde_json::from_str(&told[4]["data: ".len()..]).unwrap();
    assert_eq!(frame, json!({"type": "gap", "from": 3, "to": 9, "reason": "retention"}));
    assert_eq!((told[5].as_str(), told[6].as_str()), ("event: data", "id: 10"));
    let requests = fake.requests.lock().unwrap().clone();
    assert!(matches!(requests[0].from, SubscribeFrom::Offset(3)) && requests[0].snapshot);
    assert!(matches!(requests[1].from, SubscribeFrom::Offset(10)) && !requests[1].snapshot);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_hears_of_progress_whether_nothing_or_much_happens() {
    let fake = Arc::new(Fake::default());
    fake.subscriptions
        .lock()
        .unwrap()
        .extend([vec![Tell::Silence], vec![Tell::Steadily(Duration::from_millis(100))]]);
    let server = fake.serve().await;
    let port = server.http().port();
    for _ in ["silence", "steady changes"] {
        let waited = tokio::task::spawn_blocking(move || {
            let mut socket = subscribe(port, "q", "");
            assert_eq!(frame(&mut socket).0["type"], "hello");
            let begin = Instant::now();
            let mut next = 0;
            loop {
                let members = frame(&mut socket).0;
                if members["type"] == "progress" {
                    assert_eq!(members["offset"], next);
                    return begin.elapsed();
                }
                next = members["offset"].as_u64().unwrap() + 1;
            }
        });
        let waited = waited.await.unwrap();
        assert!(waited < PROGRESS_WITHIN, "{waited:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_error_of_that_client_alone() {
    let fake = Arc::new(Fake::default());
    fake.subscriptions.lock().unwrap().push_back(vec![Tell::Panic]);
    let server = fake.serve().await;
    let (http, tcp) = (server.http().port(), server.tcp().port());
    let told = tokio::task::spawn_blocking(move || {
        let answer = sql(http, "panic", "*/*");
        assert_eq!((answer.status, answer.error().as_str()), (500, "XX000"));
        let answer = call(http, "POST /v1/streams/panics", &[], b"{\"n\":1}\n");
        assert_eq!((answer.status, answer.error().as_str()), (500, "XX000"));
        let mut socket = subscribe(http, "q", "");
        assert_eq!(frame(&mut socket).0["type"], "hello");
        assert_eq!(frame(&mut socket).0["code"], "XX000");
        let line = last_line(tcp, "INGEST panics FORMAT ndjson\n{\"n\":1}\n");
        assert_eq!(line["error"]["code"], "XX000");
        assert_eq!(sql(http, "SELECT 1", "*/*").status, 200);
    });
    told.await.unwrap();
}

/// The last line that the server answers before it closes.
fn last_line(port: u16, input: &str) -> Value {
    let mut stream = connect(port);
    stream.write_all(input.as_bytes()).unwrap();
    let mut answer = String::new();
    // The server closes by itself: the client does not end its input.
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.lines().last().unwrap()).unwrap()
}

#[test]
fn a_tcp_error_is_a_line_of_the_full_shape_and_then_the_connection_closes() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    server.sql("CREATE STREAM strict (n BIGINT NOT NULL) WITH (on_error = 'reject')");
    for (input, code) in [
        ("INGEST nowhere FORMAT csv\n", "42P01"),
        ("HELLO\n", "08P01"),
        ("INGEST strict FORMAT xml\n", "08P01"),
        ("INGEST strict FORMAT csv ACK never\n", "22023"),
        ("INGEST strict FORMAT ndjson\n{\"n\":1}\n{\"n\":\"x\"}\n", "22P02"),
    ] {
        let line = last_line(server.tcp, input);
        let members: Vec<&String> = line["error"].as_object().unwrap().keys().collect();
        assert_eq!(members, ["code", "detail", "hint", "message", "position"], "{input}");
        assert_eq!(line["error"]["code"], code, "{input}");
    }
    // A line is not measured by what came with it: 8 KiB, and not a byte more.
    let begin = "INGEST nowhere FORMAT csv";
    let first_line = |bytes: usize| format!("{begin}{}\n1\n", " ".repeat(bytes - begin.len()));
    assert_eq!(last_line(server.tcp, &first_line(8 << 10))["error"]["code"], "42P01");
    for bytes in [(8 << 10) + 1, 12_000, 16_000, 70_000] {
        let line = last_line(server.tcp, &first_line(bytes));
        assert_eq!(line["error"]["message"], "the first line is too long", "{bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_of_groups_under_way_at_once_come_in_the_order_of_the_rows() {
    let fake = Arc::new(Fake::default());
    let server = fake.serve().await;
    let mut stream = connect(server.tcp().port());
    stream.write_all(b"INGEST s FORMAT ndjson\n").unwrap();
    let groups = |count: usize| {
        let fake = Arc::clone(&fake);
        async move {
            while fake.waiting.lock().unwrap().len() < count {
                tokio::task::yield_now().await;
            }
        }
    };
    // Two small groups are under way; a third waits for more rows while both are busy.
    for group in 1..=2 {
        stream.write_all(b"{\"n\":1}\n").unwrap();
        tokio::time::timeout(PATIENCE, groups(group)).await.expect("groups do not wait for acks");
    }
    let mut waiting = std::mem::take(&mut *fake.waiting.lock().unwrap());
    assert_eq!(waiting.iter().map(|group| group.0).collect::<Vec<_>>(), [0, 1]);
    // The later one is settled first, and yet says nothing before the earlier one.
    waiting.pop().unwrap().1.send(()).unwrap();
    waiting.pop().unwrap().1.send(()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let lines = tokio::task::spawn_blocking(move || {
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        lines.map(|line| serde_json::from_str::<Value>(&line).unwrap()).collect::<Vec<_>>()
    });
    let lines = lines.await.unwrap();
    let acks: Vec<u64> = lines.iter().map(|line| line["ack"].as_u64().unwrap()).collect();
    assert!(acks.is_sorted(), "{acks:?}");
    assert_eq!(*lines.last().unwrap(), json!({"ack": 2, "rejected": 0, "accepted": 2}));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bodies_may_be_gzip_and_bombs_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    server.sql("CREATE STREAM s (n BIGINT)");
    let post = |line: &str, encoding: &str, body: &[u8]| {
        call(server.http, line, &[("Content-Encoding", encoding)], body)
    };
    let answer = post("POST /v1/streams/s", "gzip", &gzip(b"{\"n\":1}\n{\"n\":2}\n"));
    assert_eq!((answer.status, &answer.json()["accepted"]), (200, &json!(2)));
    let answer = post("POST /v1/sql", "gzip", &gzip(b"SELECT count(*) AS n FROM s"));
    assert_eq!(answer.json()["results"][0]["rows"], json!([[2]]));
    let answer = post("POST /v1/streams/s", "gzip", b"{\"n\":1}\n");
    assert_eq!((answer.status, answer.error().as_str()), (400, "08P01"));
    let answer = post("POST /v1/streams/s", "br", b"{\"n\":1}\n");
    assert_eq!((answer.status, answer.error().as_str()), (415, "22023"));
    let answer = post("POST /v1/streams/s", "gzip", &gzip(&vec![b' '; 65 << 20]));
    assert_eq!((answer.status, answer.error().as_str()), (413, "54000"));
}

/// Request line, headers, body, status and code; status 0: any that is the client's own fault.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, u16, &'a str);

#[test]
fn what_a_call_does_not_know_is_refused_and_each_object_has_a_page() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    server.sql(
        "CREATE STREAM s (n BIGINT, at BIGINT, WATERMARK FOR at AS at - 5) WITH (on_error = 'reject');
         CREATE TABLE t (n BIGINT PRIMARY KEY); CREATE CONTINUOUS QUERY q AS SELECT n FROM s",
    );
    let events = [("Accept", "text/event-stream")];
    let cases: &[Case<'_>] = &[
        ("GET /v1/queries/q/subscribe?frm=earliest", &events, "", 400, "22023"),
        ("POST /v1/streams/s?akc=written", &[], "{}", 400, "22023"),
        ("POST /v1/sql", &[], "DESCRIBE nope", 404, "42P01"),
        ("POST /v1/sql", &[], "CREATE TABLE o (a INT) WITH (durability = 'memory')", 400, "22023"),
        ("GET /v1/tables/nope", &[], "", 404, "42P01"),
        ("GET /v1/sinks/nope", &[], "", 404, "42P01"),
    ];
    for (line, headers, body, status, code) in cases {
        let answer = call(server.http, line, headers, body.as_bytes());
        assert_eq!((answer.status, answer.error().as_str()), (*status, *code), "{line} {body}");
    }
    let table = call(server.http, "GET /v1/tables/t", &[], b"").json();
    assert_eq!((&table["rows"], &table["columns"][0]["column"]), (&json!(0), &json!("n")));
    assert!(table["sql"].as_str().unwrap().contains("PRIMARY KEY"), "{table}");
    server
        .sql("ALTER STREAM s SET (retention = '1 day'); INSERT INTO s VALUES (1, 1000000); FLUSH");
    let stream = call(server.http, "GET /v1/streams/s", &[], b"").json();
    let sql = stream["sql"].as_str().unwrap();
    for part in ["WATERMARK FOR at AS at - 5", "on_error = 'reject'", "retention = '1 day'"] {
        assert!(sql.contains(part), "{sql}");
    }
    // Logical time is a number.
    assert_eq!(
        (&stream["watermark"], &stream["logical_watermark"]),
        (&json!(null), &json!(999_995))
    );
    let query = call(server.http, "GET /v1/queries/q", &[], b"").json();
    assert_eq!((&query["watermark"], &query["logical_watermark"]), (&json!(null), &json!(999_995)));
}

#[test]
fn every_call_answers_errors_in_one_shape_with_the_status_that_fits() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    server.sql("CREATE STREAM s (n BIGINT); CREATE CONTINUOUS QUERY q AS SELECT n FROM s");
    let events = [("Accept", "text/event-stream")];
    let numbered_by_x = [("Weir-Producer", "p"), ("Weir-Sequence", "x")];
    let cases: &[Case<'_>] = &[
        ("POST /v1/sql", &[], "SELEC 1", 400, "42601"),
        ("POST /v1/sql", &[], "SELECT nope FROM s", 400, "42703"),
        ("POST /v1/sql", &[], "SELECT 1 FROM nope", 404, "42P01"),
        ("POST /v1/sql", &[], "CREATE STREAM s (n INT)", 409, "42P07"),
        ("POST /v1/sql", &[], "REBUILD CONTINUOUS QUERY nope", 0, ""),
        ("POST /v1/sql", &[], "SELECT 1 / 0", 400, "22012"),
        ("POST /v1/sql", &[], "{\"sql\": 1}", 400, "08P01"),
        ("POST /v1/sql", &[("Content-Type", "application/json")], "SELECT 1", 400, "08P01"),
        ("POST /v1/sql", &[], "SUBSCRIBE nope", 404, "42P01"),
        ("POST /v1/streams/nope", &[], "{}", 404, "42P01"),
        ("POST /v1/streams/q", &[], "{}", 0, ""),
        ("POST /v1/streams/s?ack=never", &[], "{}", 400, "22023"),
        ("POST /v1/streams/s?ack=durable&ack=durable", &[], "{}", 400, "22023"),
        ("POST /v1/streams/%ff", &[], "{}", 400, "08P01"),
        ("GET /v1/queries/%ff", &[], "", 400, "08P01"),
        ("GET /v1/queries/q/subscribe?from=now&from=now", &events, "", 400, "22023"),
        ("POST /v1/streams/s", &[("Content-Type", "image/png")], "{}", 415, "22023"),
        ("POST /v1/streams/s", &[("Weir-Producer", "p")], "{}", 400, "22023"),
        ("POST /v1/streams/s", &numbered_by_x, "{}", 400, "22023"),
        ("GET /v1/streams/nope", &[], "", 404, "42P01"),
        ("GET /v1/queries/nope", &[], "", 404, "42P01"),
        ("GET /v1/queries/nope/subscribe", &events, "", 404, "42P01"),
        ("GET /v1/queries/q/subscribe", &[], "", 400, "08P01"),
        ("GET /v1/queries/q/subscribe?from=soon", &events, "", 400, "22023"),
        ("GET /v1/queries/q/subscribe?from=77", &events, "", 410, "WR004"),
        ("GET /v1/queries/q/subscribe?on_slow=hurry", &events, "", 400, "22023"),
        ("GET /v1/queries/q/subscribe?snapshot=maybe", &events, "", 400, "22023"),
        ("GET /v1/queries/q/subscribe?format=arrow", &events, "", 400, "22023"),
        ("GET /v1/nope", &[], "", 404, "08P01"),
        ("DELETE /v1/streams", &[], "", 405, "08P01"),
        ("GET /healthz", &[("Host", "weir.example")], "", 403, "08P01"),
        ("GET /healthz", &[("Origin", "http://elsewhere.example")], "", 403, "08P01"),
        ("POST /v1/sql", &[("Origin", "null")], "SELECT 1", 403, "08P01"),
    ];
    for (line, headers, body, status, code) in cases {
        let answer = call(server.http, line, headers, body.as_bytes());
        let found = answer.error();
        // Where two codes would fit, any error of the client's own is right.
        if *status == 0 {
            assert!((400..=501).contains(&answer.status), "{line} {body}: {answer:?}");
            continue;
        }
        assert_eq!((answer.status, found.as_str()), (*status, *code), "{line} {headers:?} {body}");
    }
    for line in [
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
        "GET /openapi.json",
        "GET /",
        "GET /v1/streams",
        "GET /v1/queries",
        "GET /v1/sinks",
        "GET /v1/tables",
        "GET /v1/streams/s",
        "GET /v1/queries/q",
    ] {
        assert_eq!(call(server.http, line, &[], b"").status, 200, "{line}");
    }
    let own = format!("http://127.0.0.1:{}", server.http);
    let host = format!("127.0.0.1:{}", server.http);
    let headers = [("Host", host.as_str()), ("Origin", own.as_str())];
    assert_eq!(call(server.http, "GET /healthz", &headers, b"").status, 200);
}

#[test]
fn errors_of_names_and_of_the_grammar_say_where() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    server.sql("CREATE STREAM s (n BIGINT)");
    for (text, rest) in [
        ("SELECT 1 + FROM s", "FROM s"),
        ("SELECT 1; SELECT 'é', nope FROM s", "nope FROM s"),
        ("SELECT s.nope FROM s", "s.nope FROM s"),
        ("SELECT n\nFROM nowhere", "nowhere"),
        ("SELECT nope(n) FROM s", "nope(n) FROM s"),
        ("CREATE CONTINUOUS QUERY q AS SELECT nope FROM s", "nope FROM s"),
        ("INSERT INTO nowhere VALUES (1)", "nowhere VALUES (1)"),
        ("SUBSCRIBE nowhere", "nowhere"),
    ] {
        let answer = sql(server.http, text, "*/*");
        let position = answer.json()["error"]["position"].as_u64();
        let position = position.unwrap_or_else(|| panic!("{text}: {}", answer.text()));
        let found: String = text.chars().skip(position as usize - 1).collect();
        assert_eq!(found, rest, "{text}");
    }
}

#[test]
fn an_answer_comes_in_the_format_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let server = RealServer::start(directory.path());
    let text = "SELECT 1 AS a, 'x,\"y\"' AS b UNION ALL SELECT 2, NULL ORDER BY a";
    let answer = sql(server.http, text, "text/csv");
    assert!(answer.head.to_lowercase().contains("content-type: text/csv"));
    assert_eq!(answer.text().replace("\r\n", "\n"), "a,b\n1,\"x,\"\"y\"\"\"\n2,\n");
    let answer = sql(server.http, text, "application/x-ndjson");
    let lines: Vec<Value> =
        answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [json!({"a": 1, "b": "x,\"y\""}), json!({"a": 2, "b": null})]);
    let answer = sql(server.http, text, "application/vnd.apache.arrow.stream");
    let reader = StreamReader::try_new(answer.body.as_slice(), None).unwrap();
    assert_eq!(reader.schema().field(1).name(), "b");
    assert_eq!(rows_of(&reader.map(Result::unwrap).collect::<Vec<_>>()), 2);
    let answer = sql(server.http, "CREATE STREAM never (n INT)", "image/png");
    assert_eq!((answer.status, answer.error().as_str()), (406, "22023"));
    assert_eq!(sql(server.http, "SHOW STREAMS", "*/*").json()["results"][0]["rows"], json!([]));
    for accept in ["application/json", "*/*", "image/png, */*;q=0.1"] {
        let answer = sql(server.http, text, accept);
        assert_eq!(answer.json()["results"][0]["rows"], json!([[1, "x,\"y\""], [2, null]]));
    }
    let two = sql(server.http, "SELECT 1 AS a; SELECT 2 AS b", "text/csv");
    assert_eq!(two.text().replace("\r\n", "\n"), "a\n1\n\nb\n2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_open_subscriptions_stops_in_time() {
    let fake = Arc::new(Fake::default());
    let server = fake.serve().await;
    let port = server.http().port();
    for _ in 0..3 {
        fake.subscriptions.lock().unwrap().push_back(vec![Tell::Silence]);
    }
    let opened = tokio::task::spawn_blocking(move || {
        let mut silent = subscribe(port, "q", "");
        assert_eq!(frame(&mut silent).0["type"], "hello");
        // One that reads nothing, not even the answer to its request.
        let deaf = subscribe(port, "q", "");
        let mut events = connect(port);
        events
            .write_all(
                b"GET /v1/queries/q/subscribe HTTP/1.1\r\nHost: localhost\r\n\
                  Accept: text/event-stream\r\n\r\n",
            )
            .unwrap();
        (silent, deaf, events)
    });
    let (mut silent, deaf, events) = opened.await.unwrap();
    let begin = Instant::now();
    server.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let last = tokio::task::spawn_blocking(move || frame(&mut silent).0);
    assert_eq!(last.await.unwrap()["code"], "57P01");
    drop((deaf, events));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_address_is_refused() {
    let local = "127.0.0.1:0".to_string();
    for public in ["0.0.0.0:0", "[::]:0", "192.0.2.7:0"] {
        for (http, tcp) in [(public.to_string(), local.clone()), (local.clone(), public.into())] {
            let fake = Arc::new(Fake::default());
            let started = Server::start(fake, &Addresses { http, tcp }).await;
            let error: Error = started.err().expect("it is refused");
            assert_eq!(error.code(), SqlState::INVALID_PARAMETER, "{public}");
            assert!(error.hint().is_some());
        }
    }
}
