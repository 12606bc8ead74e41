//! Sinks into files and webhooks through SQL: rolled, flushed, restarted, dropped, shown in `weir.sinks`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use crate::engines::{open, rows};

/// Names and contents of the finished files.
fn files(directory: &Path) -> Vec<(String, String)> {
    let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<String> = names.map(|e| e.file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with("weir_progress"));
    names.sort();
    let text = |name: &String| std::fs::read_to_string(directory.join(name)).unwrap();
    names.iter().map(|name| (name.clone(), text(name))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_rolled_and_go_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    let engine = open(&data);
    let create = format!(
        "CREATE STREAM s (k TEXT, n INT);
         CREATE CONTINUOUS QUERY q AS SELECT k, count(*) AS c FROM s GROUP BY k;
         CREATE SINK f FROM q INTO FILE WITH (path = '{}', format = 'csv', roll_rows = 3);",
        out.display()
    );
    rows(&engine, &create).await;
    rows(&engine, "INSERT INTO s VALUES ('a', 1), ('b', 1); FLUSH; FLUSH SINK f").await;
    rows(&engine, "INSERT INTO s VALUES ('a', 1); FLUSH").await;
    let figures = "SELECT name, \"into\", status, committed_offset FROM weir.sinks";
    assert_eq!(
        rows(&engine, figures).await,
        "{\"name\":\"f\",\"into\":\"FILE\",\"status\":\"running\",\"committed_offset\":2}\n"
    );
    // What waits for its file is written when the server ends.
    engine.shutdown().await;
    drop(engine);
    let header = "k,c,weir_offset,weir_op\r\n";
    let name = |from: u64, to: u64| format!("{from:020}-{to:020}.csv");
    let expected = vec![
        (name(0, 2), format!("{header}a,1,0,1\r\nb,1,1,1\r\n")),
        (name(2, 4), format!("{header}a,1,2,-1\r\na,2,3,1\r\n")),
    ];
    assert_eq!(files(&out), expected);
    std::fs::remove_file(out.join(name(0, 2))).unwrap();
    let engine = open(&data);
    rows(&engine, "INSERT INTO s VALUES ('c', 1); FLUSH; FLUSH SINK f; DROP SINK f").await;
    assert_eq!(files(&out).len(), 2);
    assert_eq!(files(&out)[1], (name(4, 5), format!("{header}c,1,4,1\r\n")));
    assert!(!out.join("weir_progress.json").exists());
}

/// A server that answers every request with the next of the statuses, and tells what it was sent.
fn receiver(statuses: Vec<u16>) -> (String, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (tell, told) = channel();
    let statuses = Mutex::new(statuses.into_iter());
    std::thread::Builder::new()
        .spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let mut reader = BufReader::new(&client);
                let (mut key, mut length, mut line) = (String::new(), 0, String::new());
                while reader.read_line(&mut line).unwrap() > 2 {
                    let lower = line.trim_end().to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length: ") {
                        length = value.parse().unwrap();
                    }
                    if let Some(value) = lower.strip_prefix("idempotency-key: ") {
                        key = value.split_once(':').unwrap().1.to_owned();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let status = statuses.lock().unwrap().next().unwrap_or(200);
                let head = format!("HTTP/1.1 {status} x\r\nConnection: close");
                write!(&client, "{head}\r\nContent-Length: 2\r\n\r\nno").ok();
                tell.send((key, String::from_utf8(body).unwrap())).ok();
            }
        })
        .unwrap();
    (url, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhooks_request_holds_no_more_than_it_may_unless_rows_are_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let (url, told) = receiver(vec![200; 7]);
    let engine = open(folder.path());
    let create = format!(
        "CREATE STREAM s (k INT, t TEXT);
         CREATE CONTINUOUS QUERY q AS SELECT k, t FROM s;
         CREATE CONTINUOUS QUERY g AS SELECT k, count(*) AS n FROM s GROUP BY k;
         CREATE SINK w FROM q INTO WEBHOOK WITH (url = '{url}', batch_rows = 2);
         INSERT INTO s VALUES (1, ''), (2, ''), (3, ''), (4, ''), (5, ''); FLUSH; FLUSH SINK w; DROP SINK w;
         CREATE SINK b FROM q INTO WEBHOOK WITH (url = '{url}', batch_bytes = '90 B'); FLUSH SINK b; DROP SINK b;
         CREATE SINK c FROM g INTO WEBHOOK WITH (url = '{url}', mode = 'changelog', batch_rows = 2);
         FLUSH SINK c"
    );
    rows(&engine, &create).await;
    let ranges: Vec<String> = told.try_iter().map(|(range, _)| range).collect();
    let expected = ["0-2", "2-4", "4-5", "0-4", "4-5", "0-5"];
    assert_eq!(ranges, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_gets_its_rows_in_order_and_refused_ones_are_dead_letters() {
    let folder = tempfile::tempdir().unwrap();
    let (url, told) = receiver(vec![200, 503, 422, 200, 422]);
    let engine = open(folder.path());
    let create = format!(
        "CREATE STREAM s (k TEXT, n INT);
         CREATE CONTINUOUS QUERY q AS SELECT k, n FROM s;
         CREATE SINK w FROM q INTO WEBHOOK WITH (url = '{url}');"
    );
    rows(&engine, &create).await;
    rows(&engine, "INSERT INTO s VALUES ('a', 1); FLUSH; FLUSH SINK w").await;
    rows(&engine, "INSERT INTO s VALUES ('b', 2), ('c', 3); FLUSH; FLUSH SINK w").await;
    let row = |k: &str, n: i32| format!("{{\"k\":\"{k}\",\"n\":{n}}}");
    let body = |from: u64, to: u64, rows: &[String]| {
        let range = format!("{from}-{to}");
        let rows = rows.join(",");
        let body =
            format!("{{\"sink\":\"w\",\"offset\":{from},\"next_offset\":{to},\"rows\":[{rows}]}}");
        (range, body)
    };
    let both = body(1, 3, &[row("b", 2), row("c", 3)]);
    let expected = [
        body(0, 1, &[row("a", 1)]),
        both.clone(),
        both,
        body(1, 2, &[row("b", 2)]),
        body(2, 3, &[row("c", 3)]),
    ];
    let found: Vec<(String, String)> = told.try_iter().collect();
    assert_eq!(found, expected);
    assert_eq!(
        rows(
            &engine,
            "SELECT relation, query, \"offset\", line, code, arrow_cast(raw, 'Utf8') AS raw FROM weir.dead_letters"
        )
        .await,
        "{\"relation\":\"w\",\"query\":\"q\",\"offset\":2,\"line\":null,\"code\":\"22P02\",\
         \"raw\":\"{\\\"k\\\":\\\"c\\\",\\\"n\\\":3}\"}\n"
    );
    // What went wrong is over.
    let figures = "SELECT committed_offset, retries, error FROM weir.sinks";
    assert_eq!(
        rows(&engine, figures).await,
        "{\"committed_offset\":3,\"retries\":1,\"error\":null}\n"
    );
    assert_eq!(std::fs::read_dir(folder.path().join("sinks")).unwrap().count(), 1);
    rows(&engine, "DROP SINK w").await;
    assert_eq!(std::fs::read_dir(folder.path().join("sinks")).unwrap().count(), 0);
}
