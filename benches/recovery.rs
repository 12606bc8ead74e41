//! Measures what a large state costs: how long a step waits for a snapshot, how much is written, and the
//! time from the start after `kill -9` to the first answers.
//!
//! A server process is filled until its queries hold the megabytes of state asked for: a GROUP BY without
//! a window over integers far apart, and one over a window of a day by texts. Then rows trickle in
//! while snapshots are taken, each waited for until it is in the results. Then the process is killed and
//! started again; the clock runs until a SELECT sees the old groups, and until a new row's result is
//! pushed to a subscriber. Both are checked. Without `--bench` the state is small.
//!
//! `WEIR_RECOVERY_MB` (1000), `WEIR_RECOVERY_SHAPE` (`unwindowed`, `windowed`, `both`),
//! `WEIR_RECOVERY_SECONDS` of trickle (30), `WEIR_RECOVERY_PROGRAM` (the one just built).

#![expect(clippy::print_stdout, reason = "a benchmark reports to its caller")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use arrow::ipc::writer::StreamWriter;

/// Rows of a request of the filling, each of a group of its own.
const FILL_ROWS: usize = 250_000;
/// 2026-01-01T00:00:00Z in microseconds.
const MORNING: i64 = 1_767_225_600_000_000;

const STREAM: &str = "CREATE STREAM events (id BIGINT, name TEXT, v BIGINT, at TIMESTAMP, \
    WATERMARK FOR at AS at) WITH (max_future_skew = '100000 days')";
const UNWINDOWED: &str = "CREATE CONTINUOUS QUERY totals WITH (memory_limit = '64 GB') AS \
    SELECT id, count(*) AS n, sum(v) AS total FROM events GROUP BY id";
const WINDOWED: &str = "CREATE CONTINUOUS QUERY days WITH (memory_limit = '64 GB') AS \
    SELECT window_start, name, count(*) AS n, sum(v) AS total, max(v) AS most \
    FROM TUMBLE(events, at, INTERVAL '1 day') GROUP BY window_start, window_end, name";

fn main() {
    let full = std::env::args().any(|argument| argument == "--bench");
    let number = |name: &str, full_size: u64, tiny: u64| {
        let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
        given.unwrap_or(if full { full_size } else { tiny })
    };
    let bytes = number("WEIR_RECOVERY_MB", 1_000, 2) << 20;
    let seconds = number("WEIR_RECOVERY_SECONDS", 30, 1);
    let shape = std::env::var("WEIR_RECOVERY_SHAPE").unwrap_or_else(|_| "both".into());
    let mut queries = Vec::new();
    if shape != "windowed" {
        queries.push(("totals", UNWINDOWED));
    }
    if shape != "unwindowed" {
        queries.push(("days", WINDOWED));
    }
    let directory = tempfile::tempdir().expect("a directory");
    let interval = if full { "10 s" } else { "100 ms" };
    let mut server = Server::start(directory.path(), interval);
    server.wait_ready();
    server.sql(STREAM);
    queries.iter().for_each(|(_, query)| drop(server.sql(query)));
    let groups = fill(&server, bytes);
    trickle(&server, groups, Duration::from_secs(seconds));
    let before = queries.iter().map(|(name, _)| answer(&server, name)).collect::<Vec<_>>();
    println!("killing a server of {:.0} MB resident", server.resident_mb());
    server.kill();
    drop(server);

    let began = Instant::now();
    let mut server = Server::start(directory.path(), "1 hour");
    server.wait_ready();
    println!("restart to ready: {:.0} ms", millis(began));
    let after = queries.iter().map(|(name, _)| answer(&server, name)).collect::<Vec<_>>();
    println!("restart to first SELECT: {:.0} ms", millis(began));
    assert_eq!(before, after, "the groups are as they were");
    first_new_results(&server, &queries, groups);
    println!("restart to first new results: {:.0} ms", millis(began));
    println!("resident after the restart: {:.0} MB", server.resident_mb());
    println!("{}", snapshots(&server));
    server.kill();
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Keys far apart, in no order.
fn id_of(group: usize) -> i64 {
    (group as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as i64
}

/// Sends rows of new groups until the queries hold as many bytes of state; gives the number of groups.
fn fill(server: &Server, bytes: u64) -> usize {
    let began = Instant::now();
    let (mut groups, mut held) = (0, 0);
    let rows = if bytes < 100 << 20 { 5_000 } else { FILL_ROWS };
    while held < bytes {
        server.send(groups..groups + rows, "processed");
        groups += rows;
        held = server.number("SELECT sum(state_bytes) FROM weir.queries");
    }
    println!(
        "{groups} groups, {:.0} MB of state, filled in {:.1} s, {:.0} MB resident",
        held as f64 / 1e6,
        began.elapsed().as_secs_f64(),
        server.resident_mb()
    );
    groups
}

/// Sends 1,000 rows at a time to groups all over the state, each request waited for until it is in the results.
fn trickle(server: &Server, groups: usize, time: Duration) {
    let began = Instant::now();
    let mut times = Vec::new();
    let mut at = 0;
    while began.elapsed() < time {
        let sent = Instant::now();
        let step = groups / 1_000;
        let chosen: Vec<usize> = (0..1_000).map(|i| (i * step + at * 7_919) % groups).collect();
        server.send(chosen, "processed");
        times.push(millis(sent));
        at += 1;
        std::thread::sleep(Duration::from_millis(10).saturating_sub(sent.elapsed()));
    }
    times.sort_by(f64::total_cmp);
    let share = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{} requests of 1,000 rows, until in the results: p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms",
        times.len(),
        share(0.5),
        share(0.99),
        share(1.0)
    );
    println!("{}", snapshots(server));
}

fn snapshots(server: &Server) -> String {
    server.sql("SELECT * FROM weir.snapshots")
}

/// What a query says of an old group.
fn answer(server: &Server, query: &str) -> String {
    match query {
        "totals" => server.sql(&format!("SELECT n, total FROM totals WHERE id = {}", id_of(17))),
        _ => server.sql("SELECT count(*) FROM days"),
    }
}

/// Waits for a result that a new row brings about.
fn first_new_results(server: &Server, queries: &[(&str, &str)], groups: usize) {
    for (name, _) in queries {
        let url = format!("ws://{}/v1/queries/{name}/subscribe?from=now", server.http);
        let (mut socket, _) = tungstenite::connect(url).expect("the server takes subscribers");
        socket.read().expect("hello");
        if *name == "days" {
            // A row of the next day closes the window of all groups.
            server.send_at(groups..groups + 1, MORNING + 86_400_000_000, "durable");
        } else {
            server.send(17..18, "durable");
        }
        loop {
            let message = socket.read().expect("frames come");
            if message.to_text().is_ok_and(|text| text.contains("\"data\"")) {
                break;
            }
        }
        println!("    a new result of {name} came");
    }
}

struct Server {
    child: Child,
    http: String,
}

impl Server {
    fn start(directory: &Path, interval: &str) -> Server {
        let port = || {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("it has an address").to_string()
        };
        let (http, tcp) = (port(), port());
        let program = std::env::var("WEIR_RECOVERY_PROGRAM");
        let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_weir").into());
        let child = Command::new(program)
            .args(["serve", "--http", &http, "--tcp", &tcp, "--snapshot-interval", interval])
            .arg("--data-dir")
            .arg(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the server starts");
        Server { child, http }
    }

    fn wait_ready(&self) {
        let started = Instant::now();
        while TcpStream::connect(&self.http).is_err() {
            assert!(started.elapsed() < Duration::from_secs(300), "the server did not start");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn sql(&self, text: &str) -> String {
        let url = format!("http://{}/v1/sql", self.http);
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut answer = agent.post(url).send(text).expect("the server answers");
        let mut body = String::new();
        answer.body_mut().as_reader().read_to_string(&mut body).expect("a text");
        assert!(text.contains("weir.snapshots") || !body.contains("\"error\":{"), "{body}");
        body
    }

    fn number(&self, text: &str) -> u64 {
        let answer: serde_json::Value = serde_json::from_str(&self.sql(text)).expect("JSON");
        answer["results"][0]["rows"][0][0].as_u64().unwrap_or_default()
    }

    fn send(&self, groups: impl IntoIterator<Item = usize>, ack: &str) {
        self.send_at(groups, MORNING, ack);
    }

    fn send_at(&self, groups: impl IntoIterator<Item = usize>, at: i64, ack: &str) {
        let groups: Vec<usize> = groups.into_iter().collect();
        let numbers = |number: &dyn Fn(usize) -> i64| {
            Int64Array::from_iter_values(groups.iter().map(|&group| number(group)))
        };
        let names = groups.iter().map(|group| format!("visitor-{group:09}"));
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("v", DataType::Int64, true),
            Field::new("at", time, true),
        ]));
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(numbers(&id_of)),
                Arc::new(StringArray::from_iter_values(names)),
                Arc::new(numbers(&|group| group as i64 % 1_000)),
                Arc::new(TimestampMicrosecondArray::from_value(at, groups.len())),
            ],
        )
        .expect("the columns fit");
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &schema).expect("a schema");
        writer.write(&batch).expect("into memory");
        writer.finish().expect("into memory");
        let url = format!("http://{}/v1/streams/events?ack={ack}", self.http);
        let request = ureq::post(url).content_type("application/vnd.apache.arrow.stream");
        let mut answer = request.send(&bytes[..]).expect("the server takes rows");
        let body = answer.body_mut().read_to_string().expect("a text");
        assert!(body.contains("\"rejected\":0"), "{body}");
    }

    fn resident_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kilobytes.unwrap_or_default() / 1_024.0
    }

    /// kill -9
    fn kill(&mut self) {
        self.child.kill().expect("the process is this one's child");
        self.child.wait().expect("it has ended");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
