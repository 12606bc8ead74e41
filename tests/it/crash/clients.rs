//! Sends rows in four ways and keeps a ledger; follows queries; creates and drops meanwhile.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tungstenite::Message;

use crate::oracle::Rng;
use crate::real_server::PATIENCE;

/// Rows of client c are numbered from c of these on.
pub(super) const NUMBERS: u64 = 1_000_000_000;
/// Event time of the first row, milliseconds.
pub(super) const BEGIN: i64 = 1_700_000_000_000;
pub(super) const KEYS: u64 = 7;
const BATCH: u64 = 20;
/// Between two batches: the audit's time grows with the rows.
const PAUSE: Duration = Duration::from_millis(6);
/// Rows over TCP that wait for their ack.
const AHEAD: u64 = 200;

/// A life of the server.
#[derive(Clone, Copy)]
pub(super) struct Life<'a> {
    pub(super) http: u16,
    pub(super) tcp: u16,
    pub(super) alive: &'a AtomicBool,
}

impl Life<'_> {
    pub(super) fn alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }
}

/// What one client knows, also on the disk: synced before a row is sent and after it is acknowledged.
pub(super) struct Ledger {
    pub(super) client: u64,
    file: File,
    /// Event time of each row that was ever sent, in milliseconds.
    pub(super) times: Vec<i64>,
    pub(super) acknowledged: Vec<bool>,
    /// The request over HTTP that has no answer yet: its sequence and rows.
    open: Option<(u64, std::ops::Range<u64>)>,
    /// Rows that stood in the stream before this life.
    pub(super) base: u64,
}

impl Ledger {
    pub(super) fn new(client: u64, directory: &Path) -> Ledger {
        let file = File::create(directory.join(format!("ledger-{client}"))).unwrap();
        Ledger { client, file, times: vec![], acknowledged: vec![], open: None, base: 0 }
    }

    fn write(&mut self, word: &str, rows: std::ops::Range<u64>) {
        writeln!(self.file, "{word} {} {}", rows.start, rows.end).unwrap();
        self.file.sync_data().unwrap();
    }

    /// Makes rows that are about to be sent.
    fn make(&mut self, count: u64) -> std::ops::Range<u64> {
        static CLOCK: AtomicU64 = AtomicU64::new(0);
        let first = self.times.len() as u64;
        for seq in first..first + count {
            let tick = CLOCK.fetch_add(1, Ordering::Relaxed) as i64;
            // Up to eight seconds out of order: some rows are late.
            let disorder = (seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as i64 % 8_000;
            self.times.push(BEGIN + tick * 100 - disorder);
            self.acknowledged.push(false);
        }
        self.write("sent", first..first + count);
        first..first + count
    }

    fn acknowledge(&mut self, rows: std::ops::Range<u64>) {
        self.acknowledged[rows.start as usize..rows.end as usize].fill(true);
        self.write("acknowledged", rows);
    }

    /// Rows up to here are acknowledged without a hole.
    fn settled(&self) -> u64 {
        let open = self.acknowledged.iter().position(|done| !done);
        open.unwrap_or(self.acknowledged.len()) as u64
    }

    pub(super) fn number(&self, seq: u64) -> u64 {
        self.client * NUMBERS + seq
    }

    fn ndjson(&self, rows: std::ops::Range<u64>) -> String {
        let row = |seq: u64| {
            let n = self.number(seq);
            let at = chrono::DateTime::from_timestamp_millis(self.times[seq as usize]).unwrap();
            format!("{{\"n\":{n},\"k\":{},\"at\":\"{}\"}}\n", n % KEYS, at.to_rfc3339())
        };
        rows.map(row).collect()
    }
}

/// Sends until the server is gone, as this client does.
pub(super) fn send(client: usize, life: Life<'_>, ledger: &mut Ledger) {
    match client {
        0 => http(life, ledger, false),
        1 => http(life, ledger, true),
        2 => tcp(life, ledger, true),
        _ => tcp(life, ledger, false),
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE));
    ureq::Agent::new_with_config(config.build())
}

fn http(life: Life<'_>, ledger: &mut Ledger, producer: bool) {
    let agent = agent();
    let url = format!("http://127.0.0.1:{}/v1/streams/s", life.http);
    while life.alive() {
        let open = ledger.open.take().filter(|_| producer);
        let (sequence, rows) = open.unwrap_or_else(|| {
            let rows = ledger.make(BATCH);
            (rows.start, rows)
        });
        ledger.open = Some((sequence, rows.clone()));
        let mut call = agent.post(&url).content_type("application/x-ndjson");
        if producer {
            call =
                call.header("Weir-Producer", "again").header("Weir-Sequence", sequence.to_string());
        }
        let Ok(mut answer) = call.send(ledger.ndjson(rows.clone())) else { return };
        // Only an answer that came whole counts as one.
        let Ok(text) = answer.body_mut().read_to_string() else { return };
        let receipt: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(receipt["accepted"], BATCH, "{receipt}");
        ledger.open = None;
        ledger.acknowledge(rows);
        std::thread::park_timeout(PAUSE);
    }
}

fn tcp(life: Life<'_>, ledger: &mut Ledger, producer: bool) {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", life.tcp)) else { return };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let settled = ledger.settled();
    // Without a producer nobody knows what became of the rows that are open: they are not sent again.
    let first = if producer { settled } else { ledger.times.len() as u64 };
    let header = match producer {
        true => format!("INGEST s FORMAT ndjson PRODUCER rows SEQUENCE {first}\n"),
        false => "INGEST raw FORMAT ndjson\n".to_owned(),
    };
    if stream.write_all(header.as_bytes()).is_err() {
        return;
    }
    let mut sent = first;
    let mut done = first;
    if producer {
        let Some(line) = lines.next() else { return };
        let line: Value = serde_json::from_str(&line).unwrap();
        let Some(next) = line["next_sequence"].as_u64() else { panic!("{line}") };
        assert!(next >= first, "acknowledged rows are unknown: {line}");
        assert!(next <= ledger.times.len() as u64, "rows that nobody sent: {line}");
        if next > done {
            ledger.acknowledge(done..next);
        }
        // The header says what the first row is; those that are stored already are skipped over there.
        done = next;
    }
    while life.alive() {
        while sent < done + AHEAD {
            let rows = match ledger.times.len() as u64 {
                made if sent < made => sent..made.min(sent + BATCH),
                _ => ledger.make(BATCH),
            };
            sent = rows.end;
            if stream.write_all(ledger.ndjson(rows).as_bytes()).is_err() {
                return;
            }
            std::thread::park_timeout(PAUSE);
        }
        let Some(line) = lines.next() else { return };
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["error"], Value::Null, "{line}");
        let next = match producer {
            true => line["next_sequence"].as_u64().unwrap(),
            // Nobody else writes to that stream.
            false => first + line["ack"].as_u64().unwrap() - ledger.base,
        };
        if next > done {
            ledger.acknowledge(done..next);
            done = next;
        }
    }
}

/// A statement whose answer nobody waits for: the server may be gone.
fn execute(life: Life<'_>, sql: &str) {
    let url = format!("http://127.0.0.1:{}/v1/sql", life.http);
    if let Ok(mut answer) = agent().post(&url).content_type("text/plain").send(sql) {
        drop(answer.body_mut().read_to_string());
    }
}

/// Changes the catalog until the server is gone.
pub(super) fn manage(life: Life<'_>, seed: u64) {
    let mut rng = Rng::new(seed);
    while life.alive() {
        let statement = rng.pick(&[
            "CREATE CONTINUOUS QUERY extra AS SELECT k, sum(n) AS total FROM s GROUP BY k",
            "DROP CONTINUOUS QUERY extra",
            "CREATE STREAM other (a BIGINT)",
            "INSERT INTO other VALUES (1), (2)",
            "DROP STREAM other",
            "PAUSE raws",
            "RESUME raws",
            "PAUSE to_groups",
            "RESUME to_groups",
            "CREATE OR REPLACE CONTINUOUS QUERY raws AS
                SELECT n % 5 AS k, count(*) AS c, sum(n) AS total FROM raw GROUP BY n % 5",
        ]);
        execute(life, statement);
        std::thread::park_timeout(Duration::from_millis(rng.index(40) as u64));
    }
}

/// Keeps all changes that a subscriber sees, at their offsets, until the server is gone or, where an end is
/// given, until they are all there.
pub(super) fn follow(port: u16, query: &str, changes: &mut Vec<String>, end: Option<u64>) {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) else { return };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let from = changes.len();
    let url = format!("ws://127.0.0.1:{port}/v1/queries/{query}/subscribe?from={from}");
    let Ok((mut socket, _)) = tungstenite::client(url, stream) else { return };
    while end.is_none_or(|end| (changes.len() as u64) < end) {
        let Ok(Message::Text(text)) = socket.read() else { return };
        let frame: Value = serde_json::from_str(&text).unwrap();
        if frame["type"] == "error" && frame["code"] == "57P01" {
            return;
        }
        assert!(frame["type"] != "gap" && frame["type"] != "error", "{frame}");
        if frame["type"] == "data" {
            assert_eq!(frame["offset"], changes.len() as u64, "changes are lost or doubled");
            let rows = frame["rows"].as_array().unwrap();
            let ops = frame["ops"].as_str().map_or("+".repeat(rows.len()), str::to_owned);
            changes.extend(ops.chars().zip(rows).map(|(op, row)| format!("{op}{row}")));
        }
    }
}
