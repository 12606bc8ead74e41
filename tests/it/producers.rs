//! Sends the same rows again, as producers do that do not know whether they were stored.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::real_server::{PATIENCE, RealServer};

fn start(directory: &tempfile::TempDir) -> RealServer {
    RealServer::start(directory.path())
}

const SETUP: &str = "CREATE STREAM s (n BIGINT NOT NULL); CREATE STREAM t (n BIGINT);
    CREATE STREAM written (n BIGINT) WITH (durability = 'written')";

/// Sends NDJSON as a producer.
fn send(
    server: &RealServer,
    path: &str,
    producer: &str,
    sequence: u64,
    rows: &str,
) -> (u16, Value) {
    let agent = ureq::Agent::new_with_config(
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build(),
    );
    let url = format!("http://127.0.0.1:{}/v1/streams/{path}", server.http);
    let call = agent.post(url).header("Weir-Producer", producer);
    let mut answer = call.header("Weir-Sequence", sequence.to_string()).send(rows).unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), serde_json::from_str(&text).unwrap())
}

fn stored(server: &RealServer, stream: &str) -> Value {
    let answer = server.sql(&format!("SELECT n FROM {stream} ORDER BY _offset"));
    answer["results"][0]["rows"].clone()
}

#[test]
fn a_repeated_request_is_answered_again_and_stored_once_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    server.sql(SETUP);
    let first = send(&server, "s", "p", 1, "{\"n\":1}\n{\"n\":\"x\"}\n{\"n\":2}\n");
    assert_eq!(first.0, 200);
    assert_eq!(first.1["accepted"], 2);
    assert_eq!(first.1["errors"][0]["line"], 2);
    assert_eq!(send(&server, "s", "p", 1, "{\"n\":1}\n{\"n\":\"x\"}\n{\"n\":2}\n"), first);
    // Nothing but refused rows is something, too.
    let refused = send(&server, "s", "p", 5, "{\"n\":\"y\"}\n");
    assert_eq!((&refused.1["accepted"], &refused.1["first_offset"]), (&json!(0), &json!(2)));
    let last = send(&server, "s", "p", 9, "{\"n\":3}\n");
    assert_eq!((&last.1["first_offset"], &last.1["next_offset"]), (&json!(2), &json!(3)));
    assert!(server.terminate(PATIENCE).success());

    let server = start(&directory);
    assert_eq!(send(&server, "s", "p", 9, "{\"n\":3}\n"), last);
    assert_eq!(send(&server, "s", "p", 5, "{\"n\":\"y\"}\n"), refused);
    assert_eq!(send(&server, "s", "p", 1, "whatever"), first);
    assert_eq!(send(&server, "s", "p", 10, "{\"n\":4}\n").1["next_offset"], 4);
    assert_eq!(stored(&server, "s"), json!([[1], [2], [3], [4]]));
    let letters = server.sql("SELECT count(*) AS n FROM weir.dead_letters");
    assert_eq!(letters["results"][0]["rows"], json!([[2]]));
}

#[test]
fn a_repeated_request_is_answered_as_it_was_whatever_its_rows_would_be_today() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    server.sql(SETUP);
    let rows = "{\"n\":1}\n{\"n\":\"x\"}\n{\"n\":2,\"more\":3}\n";
    let first = send(&server, "s", "p", 1, rows);
    assert_eq!((first.0, &first.1["accepted"], &first.1["rejected"]), (200, &json!(2), &json!(1)));
    let lines = "INGEST s FORMAT csv PRODUCER q SEQUENCE 0\n3\nx\n4\n";
    assert_eq!(tcp(&server, lines).last().unwrap()["next_sequence"], 3);
    server.sql("ALTER STREAM s SET (on_error = 'reject', unknown_fields = 'reject')");
    assert_eq!(send(&server, "s", "p", 1, rows), first);
    assert_eq!(send(&server, "s", "p", 1, "neither rows nor JSON"), first);
    let summary = json!({"ack": 4, "rejected": 0, "accepted": 0, "next_sequence": 3});
    assert_eq!(*tcp(&server, lines).last().unwrap(), summary);
    // What is new is judged as the stream is now.
    let (status, answer) = send(&server, "s", "p", 2, rows);
    assert_eq!((status, &answer["rejected"], &answer["accepted"]), (422, &json!(2), &json!(0)));
    assert_eq!(send(&server, "s", "p", 2, "{\"n\":5}").1["first_offset"], 4);
    let refused = tcp(&server, &format!("{lines}x\n5\n"));
    assert_eq!(refused.last().unwrap()["error"]["code"], "22P02");
    let refused = server.post(
        "/v1/sql",
        "text/plain",
        "INSERT INTO s VALUES (6); PUNCTUATE s WHERE n = 7; INSERT INTO s VALUES (7), (8)",
    );
    let detail = refused.1["error"]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("1 of 2 rows cannot be stored.") && detail.contains("'reject'"),
        "{detail}"
    );
    assert!(server.terminate(PATIENCE).success());

    let server = start(&directory);
    assert_eq!(send(&server, "s", "p", 1, rows), first);
    assert_eq!(stored(&server, "s"), json!([[1], [2], [3], [4], [5], [6]]));
    // Only what is a dead letter counts as one.
    let counted = server.sql("SELECT rows_rejected FROM weir.streams WHERE name = 's'");
    assert_eq!(counted["results"][0]["rows"], json!([[2]]));
}

#[test]
fn a_json_body_that_is_no_document_is_refused_whole() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    server.sql("CREATE STREAM s (n BIGINT); CREATE TABLE t (n BIGINT)");
    let bodies = [
        "[{\"n\":1},{\"n\":2},{\"n\":\"tr",
        "[{\"n\":1},",
        "[{\"n\":1}",
        "{\"n\":1} trailing",
        "{\"n\":1",
    ];
    for body in bodies {
        let (status, answer) = server.post("/v1/streams/s", "application/json", body);
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("22P02")), "{body}: {answer}");
    }
    for target in ["s", "t"] {
        let copy = format!("COPY {target} FROM STDIN (FORMAT json);\n[{{\"n\":1}},{{\"n\":2\n");
        let (status, answer) = server.post("/v1/sql", "text/plain", &copy);
        assert_eq!((status, &answer["error"]["code"]), (400, &json!("22P02")), "{answer}");
        let detail = answer["error"]["detail"].as_str().unwrap();
        assert!(detail.contains("Nothing of it is stored."), "{detail}");
    }
    let nothing =
        server.sql("SELECT n FROM s UNION ALL SELECT n FROM t; SELECT code FROM weir.dead_letters");
    assert_eq!(
        (&nothing["results"][0]["rows"], &nothing["results"][1]["rows"]),
        (&json!([]), &json!([]))
    );
    let (status, answer) =
        server.post("/v1/streams/s", "application/json", "[{\"n\":1},{\"n\":tru},{\"n\":3}]");
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (200, &json!(2), &json!(1)));
}

#[test]
fn a_producer_belongs_to_one_stream_and_one_protocol_and_goes_forward() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    server.sql(SETUP);
    assert_eq!(send(&server, "s", "p", 3, "{\"n\":1}").0, 200);
    let code = |answer: (u16, Value)| (answer.0, answer.1["error"]["code"].clone());
    assert_eq!(code(send(&server, "t", "p", 4, "{\"n\":1}")), (400, json!("22023")));
    // It was passed over, and nobody knows it to be stored.
    assert_eq!(code(send(&server, "s", "p", 2, "{\"n\":1}")), (400, json!("22023")));
    assert_eq!(code(send(&server, "s", "", 2, "{\"n\":1}")), (400, json!("22023")));
    let answer = tcp(&server, "INGEST s FORMAT ndjson PRODUCER p SEQUENCE 4\n{\"n\":1}\n");
    assert_eq!(answer.last().unwrap()["error"]["code"], "22023");
    let (status, answer) = send(&server, "written?ack=durable", "q", 1, "{\"n\":1}");
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("22023")));
    assert_eq!(stored(&server, "s"), json!([[1]]));
}

#[test]
fn an_ack_of_the_write_comes_and_the_rows_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    server.sql(SETUP);
    for n in 0..50 {
        let (status, answer) = send(&server, "s?ack=written", "p", n, &format!("{{\"n\":{n}}}"));
        assert_eq!((status, &answer["first_offset"]), (200, &json!(n)));
    }
    let (status, answer) = send(&server, "s?ack=processed", "p", 50, "{\"n\":50}");
    assert_eq!((status, &answer["next_offset"]), (200, &json!(51)));
    assert_eq!(stored(&server, "s").as_array().unwrap().len(), 51);
}

fn connect(server: &RealServer) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.tcp)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What the server answers to these bytes and the end of input, line by line.
fn tcp(server: &RealServer, input: &str) -> Vec<Value> {
    let mut stream = connect(server);
    stream.write_all(input.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn tcp_numbers_rows_skips_what_is_stored_and_refuses_a_gap() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    server.sql(SETUP);
    let rows =
        |range: std::ops::Range<u64>| -> String { range.map(|n| format!("{n}\n")).collect() };
    let begin = |n: u64| format!("INGEST s FORMAT csv PRODUCER p SEQUENCE {n}\n");
    let answer = tcp(&server, &format!("{}{}x\n{}", begin(0), rows(0..3), rows(4..6)));
    assert_eq!(answer[0], json!({"next_sequence": 0}));
    let summary = json!({"ack": 5, "rejected": 1, "accepted": 5, "next_sequence": 6});
    assert_eq!(*answer.last().unwrap(), summary);
    // The row that was refused has its number, too.
    let answer = tcp(&server, &format!("{}{}", begin(3), rows(3..8)));
    assert_eq!(answer[0], json!({"next_sequence": 6}));
    let summary = json!({"ack": 7, "rejected": 0, "accepted": 2, "next_sequence": 8});
    assert_eq!(*answer.last().unwrap(), summary);
    let answer = tcp(&server, &format!("{}{}", begin(9), rows(9..10)));
    assert_eq!(answer[0], json!({"next_sequence": 8}));
    assert_eq!(answer[1]["error"]["code"], "22023");
    assert!(server.terminate(PATIENCE).success());

    let server = start(&directory);
    let mut stream = connect(&server);
    stream.write_all(begin(0).as_bytes()).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(line, json!({"next_sequence": 8}));
    stream.write_all(rows(0..9).as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let last: Value = serde_json::from_str(&lines.last().unwrap().unwrap()).unwrap();
    assert_eq!(last, json!({"ack": 8, "rejected": 0, "accepted": 1, "next_sequence": 9}));
    assert_eq!(stored(&server, "s"), json!([[0], [1], [2], [4], [5], [6], [7], [8]]));
}

#[test]
fn many_rows_of_a_producer_survive_a_kill_and_are_there_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = start(&directory);
    server.sql(SETUP);
    let rows: String = (0..40_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let header = "INGEST s FORMAT ndjson PRODUCER p SEQUENCE 0\n";
    let mut stream = connect(&server);
    stream.write_all(header.as_bytes()).unwrap();
    stream.write_all(&rows.as_bytes()[..rows.len() / 2]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let acked = lines.by_ref().map_while(Result::ok).find(|line| line.contains("ack"));
    assert!(acked.is_some());
    // The server goes without a word.
    drop(server);

    let server = start(&directory);
    let answer = tcp(&server, &format!("{header}{rows}"));
    let last = answer.last().unwrap();
    assert_eq!((&last["ack"], &last["next_sequence"]), (&json!(40_000), &json!(40_000)));
    let answer = server.sql("SELECT count(*) AS n, count(DISTINCT n) AS d FROM s");
    assert_eq!(answer["results"][0]["rows"], json!([[40_000, 40_000]]));
}

#[test]
fn an_ack_of_processing_means_the_results_of_all_queries_that_run() {
    let directory = tempfile::tempdir().unwrap();
    let faults = "query.step:slow=sleep:40; query.step:boom=panic@3";
    let server = RealServer::try_start(directory.path(), &[], &[("WEIR_FAULTS", faults)]).unwrap();
    server.sql(
        "CREATE STREAM s (n BIGINT);
         CREATE CONTINUOUS QUERY quick AS SELECT n % 2 AS k, count(*) AS c FROM s GROUP BY n % 2;
         CREATE CONTINUOUS QUERY slow AS SELECT count(*) AS c FROM s;
         CREATE CONTINUOUS QUERY above AS SELECT sum(c) AS c FROM quick;
         CREATE CONTINUOUS QUERY top AS SELECT c, count(*) AS n FROM above GROUP BY c;
         CREATE CONTINUOUS QUERY boom AS SELECT count(*) AS c FROM s;
         CREATE CONTINUOUS QUERY paused AS SELECT count(*) AS c FROM s; FLUSH; PAUSE paused",
    );
    let results = "SELECT (SELECT c FROM slow), (SELECT c FROM above), (SELECT c FROM top),
                          (SELECT sum(c) FROM quick)";
    for n in 1..=12 {
        // Neither who has failed nor who is paused holds an ack up.
        if n % 2 == 0 {
            let (status, _) = send(&server, "s?ack=processed", "p", n, &format!("{{\"n\":{n}}}"));
            assert_eq!(status, 200);
        } else {
            let answer = tcp(&server, &format!("INGEST s FORMAT csv ACK processed\n{n}\n"));
            assert_eq!(answer.last().unwrap()["ack"], n);
        }
        assert_eq!(server.sql(results)["results"][0]["rows"], json!([[n, n, n, n]]));
    }
    let states = "SELECT status FROM weir.queries WHERE name IN ('boom', 'paused') ORDER BY name";
    assert_eq!(server.sql(states)["results"][0]["rows"], json!([["failed"], ["paused"]]));
    server.sql("RESUME boom; RESUME paused; FLUSH");
    let all = "SELECT c FROM boom UNION ALL SELECT c FROM paused";
    assert_eq!(server.sql(all)["results"][0]["rows"], json!([[12], [12]]));
}

#[test]
fn two_connections_of_one_producer_store_each_row_once_across_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let rows = |range: std::ops::Range<u64>| -> String {
        range.map(|n| format!("{{\"n\":{n}}}\n")).collect()
    };
    let header = "INGEST s FORMAT ndjson PRODUCER p SEQUENCE 0\n";
    let server = start(&directory);
    server.sql(SETUP);
    let mut both = [connect(&server), connect(&server)];
    for piece in 0..40 {
        for stream in &mut both {
            let head = if piece == 0 { header } else { "" };
            let text = format!("{head}{}", rows(piece * 50..(piece + 1) * 50));
            stream.write_all(text.as_bytes()).unwrap();
        }
    }
    let mut lines = BufReader::new(both[0].try_clone().unwrap()).lines().map_while(Result::ok);
    let acked = lines.find_map(|line| {
        let line: Value = serde_json::from_str(&line).unwrap();
        line["ack"].as_u64().filter(|ack| *ack > 0)
    });
    let acked = acked.expect("an ack");
    // Without a word.
    server.kill();

    let server = start(&directory);
    let stored = stored(&server, "s").as_array().unwrap().len() as u64;
    assert!(acked <= stored && stored <= 2000, "{acked} acknowledged, {stored} stored");
    // Both send everything again, at the same time.
    let all = format!("{header}{}", rows(0..2100));
    let answers = std::thread::scope(|scope| {
        let sent = [scope.spawn(|| tcp(&server, &all)), scope.spawn(|| tcp(&server, &all))];
        sent.map(|answer| answer.join().unwrap())
    });
    for answer in answers {
        let last = answer.last().unwrap();
        assert_eq!((&last["error"], &last["next_sequence"]), (&Value::Null, &json!(2100)));
    }
    let counts = server.sql("SELECT count(*) AS n, count(DISTINCT n) AS d, max(n) AS m FROM s");
    assert_eq!(counts["results"][0]["rows"], json!([[2100, 2100, 2099]]));
    // Another stream does not take it, and a gap is refused, also now.
    let other = tcp(&server, "INGEST t FORMAT csv PRODUCER p SEQUENCE 2100\n1\n");
    assert_eq!(other.last().unwrap()["error"]["code"], "22023");
    let gap = tcp(&server, "INGEST s FORMAT csv PRODUCER p SEQUENCE 2200\n1\n");
    assert_eq!(gap.last().unwrap()["error"]["code"], "22023");
}
