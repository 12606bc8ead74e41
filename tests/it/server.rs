//! Speaks to a real server over HTTP, TCP, WebSocket and server-sent events, to the letter.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::real_server::{PATIENCE, RealServer};

const NDJSON: &str = "application/x-ndjson";

const SETUP: &str = "CREATE STREAM plain (n BIGINT NOT NULL);
    CREATE STREAM strict (n BIGINT NOT NULL) WITH (on_error = 'reject');
    CREATE CONTINUOUS QUERY copy AS SELECT n FROM plain;
    CREATE CONTINUOUS QUERY total AS SELECT n % 2 AS odd, count(*) AS c FROM plain GROUP BY n % 2
      EMIT CHANGES;";

fn start(directory: &tempfile::TempDir) -> RealServer {
    let server = RealServer::start(directory.path());
    server.sql(SETUP);
    server
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A subscriber by WebSocket.
struct Subscriber(WebSocket<TcpStream>);

impl Subscriber {
    fn open(server: &RealServer, query: &str, parameters: &str) -> Subscriber {
        let url =
            format!("ws://127.0.0.1:{}/v1/queries/{query}/subscribe?{parameters}", server.http);
        Subscriber(tungstenite::client(url, connect(server.http)).unwrap().0)
    }

    fn frame(&mut self) -> Value {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("no frame: {other:?}"),
            }
        }
    }

    /// `(sign, row)` of the next changes, which begin at `offset`, however they are cut.
    fn changes(&mut self, mut offset: u64, count: usize) -> Vec<(char, Value)> {
        let mut changes = Vec::new();
        while changes.len() < count {
            let frame = self.frame();
            if frame["type"] == "progress" {
                continue;
            }
            assert_eq!((&frame["type"], &frame["offset"]), (&json!("data"), &json!(offset)));
            let rows = frame["rows"].as_array().unwrap();
            let ops = frame["ops"].as_str().map_or("+".repeat(rows.len()), str::to_string);
            assert_eq!(ops.len(), rows.len());
            offset += rows.len() as u64;
            changes.extend(ops.chars().zip(rows.iter().cloned()));
        }
        changes
    }
}

#[test]
fn a_receipt_says_what_became_of_each_row() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    let wrong = "invalid input syntax for type bigint: \"x\" in column \"n\"";
    let rows = "{\"n\":1}\n{\"n\":\"x\"}\n{\"n\":3}\n";
    assert_eq!(
        server.post("/v1/streams/plain", NDJSON, rows),
        (
            200,
            json!({"accepted": 2, "rejected": 1, "first_offset": 0, "next_offset": 2,
            "errors": [{"line": 2, "code": "22P02", "message": wrong}]})
        )
    );
    assert_eq!(
        server.post("/v1/streams/plain?ack=processed", "text/csv", "n\n4\nx\n"),
        (
            200,
            json!({"accepted": 1, "rejected": 1, "first_offset": 2, "next_offset": 3,
            "errors": [{"line": 3, "code": "22P02", "message": wrong}]})
        )
    );
    let (status, refused) = server.post("/v1/streams/strict", NDJSON, rows);
    assert_eq!((status, &refused["rejected"]), (422, &json!(1)));
    assert_eq!(refused["error"]["code"], "22P02");
    let stored = server.sql("SELECT count(*) AS n FROM strict");
    assert_eq!(stored["results"][0]["rows"], json!([[0]]));
    let (status, answer) = server.post("/v1/streams/plain", "application/json", "[{\"n\":5}]");
    assert_eq!((status, &answer["first_offset"]), (200, &json!(3)));
}

#[test]
fn statements_answer_columns_and_rows_up_to_the_first_error() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    assert_eq!(
        server.sql("SELECT 1 AS a, TIMESTAMP '2026-01-01' AS t, CAST(1.5 AS NUMERIC(3, 1)) AS d"),
        json!({"results": [{"tag": "SELECT 1",
            "columns": [{"name": "a", "type": "BIGINT"}, {"name": "t", "type": "TIMESTAMP"},
                {"name": "d", "type": "NUMERIC(3,1)"}],
            "rows": [[1, "2026-01-01T00:00:00Z", "1.5"]]}]})
    );
    let text = "{\"sql\": \"CREATE TABLE t (a BIGINT); SELECT b FROM nowhere\"}";
    let (status, answer) = server.post("/v1/sql", "application/json", text);
    assert_eq!((status, &answer["results"][0]["tag"]), (404, &json!("CREATE TABLE")));
    let error = answer["error"].as_object().unwrap();
    assert_eq!(error["code"], "42P01");
    let members: Vec<&str> = error.keys().map(String::as_str).collect();
    assert_eq!(members, ["code", "detail", "hint", "message", "position"]);
    let (status, answer) = server.post("/v1/streams/plain?ack=never", NDJSON, "{\"n\":1}");
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("22023")));
    let (status, answer) = server.post("/v1/streams/nothing", NDJSON, "{\"n\":1}");
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("42P01")));
}

#[test]
fn every_format_carries_the_answers_of_all_statements() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    let text = "SELECT 1 AS a; CREATE TABLE t (b TEXT); SELECT 'x' AS b, 2 AS c;";
    let texts = |accept| String::from_utf8(server.sql_as(accept, text)).unwrap();
    assert_eq!(texts("text/csv"), "a\r\n1\r\n\r\nb,c\r\nx,2\r\n");
    server.sql("DROP TABLE t");
    assert_eq!(texts(NDJSON), "{\"a\":1}\n{\"b\":\"x\",\"c\":2}\n");
    server.sql("DROP TABLE t");
    let bytes = server.sql_as("application/vnd.apache.arrow.stream", text);
    let mut rest = bytes.as_slice();
    let mut columns = Vec::new();
    while !rest.is_empty() {
        let mut stream = arrow::ipc::reader::StreamReader::try_new(&mut rest, None).unwrap();
        columns.push(stream.schema().fields().len());
        assert_eq!(stream.by_ref().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 1);
    }
    assert_eq!(columns, [1, 2]);
}

#[test]
fn what_runs_before_a_subscription_is_answered_and_nothing_may_stand_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    let (status, answer) =
        server.post("/v1/sql", "text/plain", "SELECT 1 AS a; SUBSCRIBE copy; SELECT 2");
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("42601")));
    assert_eq!(answer["results"][0]["rows"], json!([[1]]));
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);

    let text = "SELECT 1 AS a; SUBSCRIBE copy";
    let mut stream = connect(server.http);
    let head = format!("POST /v1/sql HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n", server.http);
    write!(stream, "{head}Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut frames = lines.filter(|line| line.starts_with('{')).map(|line| {
        let frame: Value = serde_json::from_str(&line).unwrap();
        frame
    });
    let result = frames.next().unwrap();
    assert_eq!((&result["type"], &result["rows"]), (&json!("result"), &json!([[1]])));
    assert_eq!(frames.next().unwrap()["type"], "hello");
}

#[test]
fn a_refused_request_has_the_code_of_its_first_bad_row() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    server.sql("PUNCTUATE strict WHERE n = 7");
    let (status, refused) = server.post("/v1/streams/strict", NDJSON, "{\"n\":7}");
    assert_eq!((status, &refused["error"]["code"]), (422, &json!("WR007")));
    let (status, refused) = server.post("/v1/streams/strict", NDJSON, "{\"n\":null}");
    assert_eq!((status, &refused["error"]["code"]), (422, &json!("23502")));
}

#[test]
fn names_in_hints_are_quoted_where_they_must_be() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    server.sql("CREATE STREAM \"Mixed Case\" (a INT); CREATE CONTINUOUS QUERY q AS SELECT a FROM \"Mixed Case\"");
    let (_, refused) = server.post("/v1/sql", "text/plain", "DROP STREAM \"Mixed Case\"");
    let hint = refused["error"]["hint"].as_str().unwrap();
    assert_eq!(hint, "DROP STREAM \"Mixed Case\" CASCADE drops them, too.");
    server.sql(hint.strip_suffix(" drops them, too.").unwrap());
}

#[test]
fn a_subscriber_sees_hello_changes_and_progress_and_goes_on_where_it_left() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    for n in [1, 3] {
        server.sql(&format!("INSERT INTO plain VALUES ({n}); FLUSH;"));
    }
    let columns = json!([{"name": "odd", "type": "BIGINT"}, {"name": "c", "type": "BIGINT"}]);
    let hello = |offset: u64| {
        json!({"type": "hello", "query": "total", "columns": columns, "append_only": false,
            "offset": offset})
    };
    let count = |sign: char, c: u64| (sign, json!({"odd": 1, "c": c}));
    let mut all = Subscriber::open(&server, "total", "from=earliest");
    assert_eq!(all.frame(), hello(0));
    assert_eq!(all.changes(0, 3), [count('+', 1), count('-', 1), count('+', 2)]);
    let mut rest = Subscriber::open(&server, "total", "from=1");
    assert_eq!(rest.frame(), hello(1));
    assert_eq!(rest.changes(1, 2), [count('-', 1), count('+', 2)]);
    let mut now = Subscriber::open(&server, "total", "from=now&snapshot=true");
    assert_eq!(now.frame(), hello(3));
    let snapshot = json!({"type": "snapshot", "rows": [{"odd": 1, "c": 2}], "offset": 3});
    assert_eq!(now.frame(), snapshot);
    server.sql("INSERT INTO plain VALUES (5); FLUSH;");
    for subscriber in [&mut all, &mut rest, &mut now] {
        assert_eq!(subscriber.changes(3, 2), [count('-', 2), count('+', 3)]);
    }
    // Read timeouts bound how long it may take to come.
    now.0.get_mut().set_read_timeout(Some(Duration::from_secs(6))).unwrap();
    let progress = now.frame();
    assert_eq!((&progress["type"], &progress["offset"]), (&json!("progress"), &json!(5)));
    assert!(progress.as_object().unwrap().contains_key("watermark"));
}

#[test]
fn rows_of_an_append_only_query_have_no_signs_and_an_offset_to_come_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    server.sql("INSERT INTO plain VALUES (1), (2); FLUSH;");
    let mut subscriber = Subscriber::open(&server, "copy", "from=earliest");
    assert_eq!(
        subscriber.frame(),
        json!({"type": "hello", "query": "copy", "columns": [{"name": "n", "type": "BIGINT"}],
            "append_only": true, "offset": 0})
    );
    let rows = json!([{"n": 1}, {"n": 2}]);
    assert_eq!(subscriber.frame(), json!({"type": "data", "offset": 0, "rows": rows}));
    let url = format!("ws://127.0.0.1:{}/v1/queries/copy/subscribe?from=99", server.http);
    let Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(refusal))) =
        tungstenite::client(url, connect(server.http))
    else {
        panic!("it is not refused")
    };
    assert_eq!(refusal.status(), 410);
}

#[test]
fn server_sent_events_carry_the_frames_with_type_and_next_offset() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    server.sql("INSERT INTO plain VALUES (1), (2); FLUSH;");
    let mut stream = connect(server.http);
    stream
        .write_all(
            b"GET /v1/queries/copy/subscribe?from=earliest HTTP/1.1\r\nHost: localhost\r\n\
              Accept: text/event-stream\r\n\r\n",
        )
        .unwrap();
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let fields: Vec<(String, String)> = lines
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            ["event", "id", "data"]
                .contains(&name)
                .then(|| (name.to_string(), value.trim().to_string()))
        })
        .take(6)
        .collect();
    let value = |event: usize, name: &str| {
        let fields = &fields[event * 3..event * 3 + 3];
        fields.iter().find(|field| field.0 == name).unwrap().1.clone()
    };
    assert_eq!((value(0, "event"), value(0, "id")), ("hello".into(), "0".into()));
    assert_eq!((value(1, "event"), value(1, "id")), ("data".into(), "2".into()));
    let frame: Value = serde_json::from_str(&value(1, "data")).unwrap();
    assert_eq!(frame, json!({"type": "data", "offset": 0, "rows": [{"n": 1}, {"n": 2}]}));
}

/// What the server answers to these bytes and the end of input, line by line.
fn tcp(server: &RealServer, input: &str) -> Vec<Value> {
    let mut stream = connect(server.tcp);
    stream.write_all(input.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn tcp_acknowledges_groups_and_sums_up_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    let rows = "INGEST plain FORMAT ndjson\n{\"n\":1}\n{\"n\":\"bad\"}\n{\"n\":2}";
    let answer = tcp(&server, rows);
    let (summary, acks) = answer.split_last().unwrap();
    assert_eq!(*summary, json!({"ack": 2, "rejected": 1, "accepted": 2}));
    assert_eq!(*acks.last().unwrap(), json!({"ack": 2, "rejected": 1}));
    let answer = tcp(&server, "INGEST plain FORMAT csv HEADER ACK processed\nn\n3\n");
    assert_eq!(*answer.last().unwrap(), json!({"ack": 3, "rejected": 0, "accepted": 1}));
    let answer = tcp(&server, "INGEST plain FORMAT csv\n4\n");
    assert_eq!(*answer.last().unwrap(), json!({"ack": 4, "rejected": 0, "accepted": 1}));
    let answer = tcp(&server, "INGEST plain FORMAT csv\n");
    assert_eq!(answer, [json!({"ack": 4, "rejected": 0, "accepted": 0})]);
    server.sql("CREATE STREAM lines (line TEXT)");
    let answer = tcp(&server, "INGEST lines FORMAT text\na\n\nb\n");
    assert_eq!(*answer.last().unwrap(), json!({"ack": 3, "rejected": 0, "accepted": 3}));
    let stored = server.sql("SELECT n FROM plain ORDER BY n");
    assert_eq!(stored["results"][0]["rows"], json!([[1], [2], [3], [4]]));
}

#[test]
fn a_tcp_error_is_the_last_line() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    let code = |input: &str| {
        let answer = tcp(&server, input);
        assert!(answer[..answer.len() - 1].iter().all(|line| line["error"].is_null()));
        answer.last().unwrap()["error"]["code"].clone()
    };
    assert_eq!(code("INGEST nothing FORMAT csv\n1\n"), "42P01");
    assert_eq!(code("INGEST plain FORMAT csv TOKEN secret\n1\n"), "0A000");
    assert_eq!(code("INGEST strict FORMAT ndjson\n{\"n\":\"bad\"}\n"), "22P02");
    assert_eq!(code("GET / HTTP/1.1\r\n\r\n"), "08P01");
    assert_eq!(code(""), "08P01");
}

#[test]
fn sigterm_tells_subscribers_and_ends_the_server_in_time_and_rows_are_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    // Processed, or the rows might still come behind the subscriber's now.
    let path = "/v1/streams/plain?ack=processed";
    let (status, _) = server.post(path, NDJSON, "{\"n\":1}\n{\"n\":2}\n");
    assert_eq!(status, 200);
    let mut subscriber = Subscriber::open(&server, "copy", "from=now");
    assert_eq!(subscriber.frame()["type"], "hello");
    let idle = connect(server.tcp);
    assert!(server.terminate(Duration::from_secs(5)).success());
    drop(idle);
    let last = loop {
        let frame = subscriber.frame();
        if frame["type"] != "progress" {
            break frame;
        }
    };
    assert_eq!((&last["type"], &last["code"]), (&json!("error"), &json!("57P01")));
    let server = RealServer::start(directory.path());
    let stored = server.sql("FLUSH; SELECT n FROM copy ORDER BY n");
    assert_eq!(stored["results"][1]["rows"], json!([[1], [2]]));
}
