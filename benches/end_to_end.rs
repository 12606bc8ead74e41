//! Measures the whole way with a client process beside the server: rows per second over TCP and HTTP,
//! the latency from send to WebSocket, and what a server costs that has nothing to do.
//!
//! The hand-written loop beside it reads the same bytes line by line with serde and filters them:
//! no log, no network, no query. Without `--bench` few rows are sent.

#![expect(clippy::print_stdout, reason = "a benchmark reports to its caller")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STREAM: &str = "CREATE STREAM flows (id BIGINT, src TEXT, dst TEXT, proto TEXT, note TEXT, \
    bytes BIGINT, packets INT, score DOUBLE, at TIMESTAMP, WATERMARK FOR at AS at)";
const FILTER: &str =
    "CREATE CONTINUOUS QUERY big AS SELECT id, src, bytes FROM flows WHERE bytes > 990000";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "client") {
        Some(at) => client(&arguments[at + 1..]),
        None => measure(!arguments.iter().any(|argument| argument == "--bench")),
    }
}

fn measure(tiny: bool) {
    idle();
    let rows = if tiny { 2_000 } else { 4_000_000 };
    let by_hand = by_hand(rows);
    println!("hand-written serde loop: {:.2} M rows/s", by_hand / 1e6);
    for (name, protocol, durability) in [
        ("TCP, written", "tcp", "written"),
        ("TCP, durable", "tcp", "durable"),
        ("HTTP, written", "http", "written"),
    ] {
        let server = Server::start();
        server.sql(&format!(
            "{STREAM} WITH (durability = '{durability}', max_future_skew = '100000 days')"
        ));
        server.sql(FILTER);
        let before = Instant::now();
        let address = if protocol == "tcp" { &server.tcp } else { &server.http };
        run_client(&[protocol, address, &rows.to_string()]);
        server.sql("FLUSH");
        let rate = rows as f64 / before.elapsed().as_secs_f64();
        let stored = server.sql("SELECT count(*) AS n FROM flows");
        assert!(stored.contains(&format!("[[{rows}]]")), "{stored}");
        let answers = server.sql("SELECT count(*) AS n, sum(id) AS total FROM big");
        println!("{name}: {:.2} M rows/s, {:.2} of the loop", rate / 1e6, rate / by_hand);
        println!("    result {}", answers.split("\"rows\":").nth(1).unwrap_or(&answers));
    }
    latency(if tiny { 200 } else { 50_000 });
}

/// What a server needs before anything comes, and how long a query takes to be there.
fn idle() {
    let began = Instant::now();
    let server = Server::start();
    let started = began.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id()));
    let resident = status.unwrap_or_default();
    let resident = resident.lines().find(|line| line.starts_with("VmRSS"));
    let resident = resident.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    println!(
        "start {:.0} ms, idle memory {:.1} MB",
        started.as_secs_f64() * 1e3,
        resident.unwrap_or_default() as f64 / 1_024.0
    );
    server.sql(STREAM);
    let mut times = Vec::new();
    for i in 0..20 {
        let began = Instant::now();
        let answer = server.sql(&FILTER.replace("big", &format!("big{i}")));
        times.push(began.elapsed().as_secs_f64() * 1e3);
        assert!(answer.contains("CREATE CONTINUOUS QUERY"), "{answer}");
    }
    let first = times[0];
    times.sort_by(f64::total_cmp);
    println!(
        "CREATE CONTINUOUS QUERY: the first {first:.1} ms, median {:.1} ms, worst {:.1} ms",
        times[10], times[19]
    );
}

/// Sends 10,000 rows a second, one request a millisecond, and times each row on its way to a WebSocket.
fn latency(rows: usize) {
    let server = Server::start();
    server.sql("CREATE STREAM pings (sent BIGINT)");
    server.sql("CREATE CONTINUOUS QUERY pongs AS SELECT sent FROM pings WHERE sent > 0");
    let url = format!("ws://{}/v1/queries/pongs/subscribe", server.http);
    let (mut socket, _) = tungstenite::connect(url).expect("the server takes subscribers");
    let origin = Instant::now();
    let address = server.tcp.clone();
    let sender = std::thread::Builder::new()
        .spawn(move || {
            let mut connection = TcpStream::connect(address).expect("the server listens");
            connection.set_nodelay(true).expect("a TCP option");
            connection.write_all(b"INGEST pings FORMAT ndjson ACK durable\n").expect("sent");
            let mut acks = connection.try_clone().expect("a second handle");
            let drain = std::thread::Builder::new()
                .spawn(move || std::io::copy(&mut acks, &mut std::io::sink()))
                .expect("a thread");
            for request in 0..rows / 10 {
                let due = Duration::from_millis(request as u64);
                // Spinning would take one of two cores away from the server.
                std::thread::sleep(due.saturating_sub(origin.elapsed()));
                let now = origin.elapsed().as_micros() as u64 + 1;
                let line = format!("{{\"sent\":{now}}}\n").repeat(10);
                connection.write_all(line.as_bytes()).expect("sent");
            }
            connection.shutdown(std::net::Shutdown::Write).expect("the end of input");
            drain.join().expect("no panic").expect("acks come");
        })
        .expect("a thread");
    let mut times = Vec::with_capacity(rows);
    while times.len() < rows {
        let message = socket.read().expect("frames come");
        let now = origin.elapsed().as_micros() as u64 + 1;
        let frame: serde_json::Value =
            serde_json::from_str(message.to_text().unwrap_or("{}")).unwrap_or_default();
        for row in frame["rows"].as_array().into_iter().flatten() {
            times.push(now - row["sent"].as_u64().unwrap_or(now));
        }
    }
    sender.join().expect("no panic");
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
    println!(
        "latency at 10,000 rows/s, durable, ingest to WebSocket: p50 {:.2} ms, p99 {:.2} ms, \
         p99.99 {:.2} ms",
        at(0.5),
        at(0.99),
        at(0.9999)
    );
}

/// One block of rows of about 200 bytes each.
fn block(first: usize, rows: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(rows * 210);
    for id in first..first + rows {
        let hash = (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        writeln!(
            text,
            "{{\"id\":{id},\"src\":\"10.{}.{}.{}\",\"dst\":\"192.168.{}.{}\",\"proto\":\"tcp\",\
             \"note\":\"session {:016x} of the morning\",\"bytes\":{},\"packets\":{},\"score\":{:.3},\
             \"at\":\"2026-01-01T00:{:02}:{:02}.{:03}Z\"}}",
            hash >> 56, (hash >> 48) & 255, (hash >> 40) & 255, (hash >> 32) & 255, (hash >> 24) & 255,
            hash, hash % 1_000_000, hash % 1_000, (hash % 10_000) as f64 / 100.0,
            id / 60_000_000 % 60, id / 1_000_000 % 60, id / 1_000 % 1_000
        )
        .expect("writing to memory");
    }
    text
}

const BLOCK_ROWS: usize = 20_000;

fn by_hand(rows: usize) -> f64 {
    #[derive(serde::Deserialize)]
    #[expect(dead_code, reason = "the loop has to read every field, as the server does")]
    struct Flow<'a> {
        id: i64,
        src: &'a str,
        dst: &'a str,
        proto: &'a str,
        note: &'a str,
        bytes: i64,
        packets: i32,
        score: f64,
        at: &'a str,
    }
    let text = block(0, BLOCK_ROWS);
    let rounds = rows.div_ceil(BLOCK_ROWS);
    let before = Instant::now();
    let mut kept = 0;
    for _ in 0..rounds {
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let flow: Flow<'_> = serde_json::from_slice(line).expect("the rows are JSON");
            kept += usize::from(flow.bytes > 990_000);
        }
    }
    assert!(kept > 0 || rows < 1_000);
    (rounds * BLOCK_ROWS) as f64 / before.elapsed().as_secs_f64()
}

/// The client process: `client tcp ADDRESS ROWS` or `client http ADDRESS ROWS`.
fn client(arguments: &[String]) {
    let rows: usize = arguments[2].parse().expect("a number of rows");
    let blocks: Vec<Vec<u8>> =
        (0..8).map(|i| block(i * BLOCK_ROWS, BLOCK_ROWS.min(rows))).collect();
    let per_block = BLOCK_ROWS.min(rows);
    let count = rows / per_block;
    if arguments[0] == "http" {
        let agent = ureq::Agent::new_with_defaults();
        for i in 0..count {
            let url = format!("http://{}/v1/streams/flows", arguments[1]);
            let answer = agent
                .post(url)
                .header("Content-Type", "application/x-ndjson")
                .send(&blocks[i % 8][..])
                .expect("the server takes rows");
            assert_eq!(answer.status(), 200);
        }
        return;
    }
    let mut connection = TcpStream::connect(&arguments[1]).expect("the server listens");
    connection.write_all(b"INGEST flows FORMAT ndjson\n").expect("sent");
    let acks = connection.try_clone().expect("a second handle");
    let reader = std::thread::Builder::new()
        .spawn(move || BufReader::new(acks).lines().map_while(Result::ok).last())
        .expect("a thread");
    for i in 0..count {
        connection.write_all(&blocks[i % 8]).expect("sent");
    }
    connection.shutdown(std::net::Shutdown::Write).expect("the end of input");
    let last = reader.join().expect("no panic").expect("a summary comes");
    assert!(last.contains("\"ack\""), "{last}");
}

fn run_client(arguments: &[&str]) {
    let this = std::env::current_exe().expect("this program has a path");
    let status =
        Command::new(this).arg("client").args(arguments).status().expect("the client starts");
    assert!(status.success());
}

/// A server process over a directory of its own; stopped when dropped.
struct Server {
    child: Child,
    http: String,
    tcp: String,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Server {
        let directory = tempfile::tempdir().expect("a directory");
        let port = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("it has an address").to_string()
        };
        let (http, tcp) = (port(), port());
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["serve", "--http", &http, "--tcp", &tcp, "--data-dir"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Server { child, http, tcp, _directory: directory };
        let started = Instant::now();
        while TcpStream::connect(&server.http).is_err() {
            assert!(started.elapsed() < Duration::from_secs(30), "the server did not start");
            std::thread::yield_now();
        }
        server
    }

    fn sql(&self, text: &str) -> String {
        let url = format!("http://{}/v1/sql", self.http);
        let mut answer = ureq::post(url).send(text).expect("the server answers");
        let mut body = String::new();
        answer.body_mut().as_reader().read_to_string(&mut body).expect("a text");
        body
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process is this one's child: it ends with the measurement.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
