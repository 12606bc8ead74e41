//! Sends a real server what claims to be, or is, far too large, and watches its memory.
//!
//! Each input must be refused, or taken row by row, while the process takes no more memory than its
//! limits explain; and it must go on answering. The limits are in `docs/settings.md`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::real_server::{PATIENCE, RealServer};

const MIB: u64 = 1 << 20;
/// What an input may cost that is refused at once.
const LITTLE: u64 = 24 * MIB;
/// What one may cost that is read up to the limit of a body, which is 64 MiB, and decoded.
const BODY: u64 = 320 * MIB;
/// Address space that is taken and never used costs nothing, unless somebody claims it.
const CLAIMED: u64 = 1024 * MIB;

/// A server and what it had to bear.
struct Victim {
    server: RealServer,
    tried: u32,
    worst: (u64, String),
}

impl Victim {
    fn figure(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Does something that must cost little, and gives what it answers.
    fn bears(
        &mut self,
        what: &str,
        budget: u64,
        attack: impl FnOnce(&RealServer) -> String,
    ) -> String {
        // Forgets the highest memory so far.
        std::fs::write(format!("/proc/{}/clear_refs", self.server.id()), "5").unwrap();
        let (before, claimed) = (self.figure("VmRSS"), self.figure("VmPeak"));
        let answer = attack(&self.server);
        let (cost, more) =
            (self.figure("VmHWM").saturating_sub(before), self.figure("VmPeak") - claimed);
        let start: String = answer.chars().take(160).collect();
        println!("{:6} KiB  {what}: {}", cost / 1024, start.replace(['\r', '\n'], " "));
        assert!(cost <= budget, "{what} costs {cost} bytes of memory");
        assert!(more <= budget.max(CLAIMED), "{what} claims {more} bytes of memory");
        let alive = self.server.sql("SELECT 1 AS one")["results"][0]["rows"].to_string();
        assert_eq!(alive, "[[1]]", "{what}");
        self.tried += 1;
        if cost > self.worst.0 {
            self.worst = (cost, what.to_string());
        }
        answer
    }

    /// The same, and the answer must hold a text.
    fn refuses(
        &mut self,
        what: &str,
        budget: u64,
        text: &str,
        attack: impl FnOnce(&RealServer) -> String,
    ) {
        let answer = self.bears(what, budget, attack);
        assert!(answer.contains(text), "{what}: {answer:.300}");
    }
}

/// Sends pieces over HTTP until the server has had enough, and gives what it says. The client's side stays open:
/// one that closes it has gone.
fn talk(port: u16, pieces: impl IntoIterator<Item = Vec<u8>>) -> String {
    converse(port, pieces, false)
}

/// The same over TCP ingest, where the end of input is the client's to say.
fn ingest(port: u16, pieces: impl IntoIterator<Item = Vec<u8>>) -> String {
    converse(port, pieces, true)
}

fn converse(port: u16, pieces: impl IntoIterator<Item = Vec<u8>>, ends: bool) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    for piece in pieces {
        if socket.write_all(&piece).is_err() {
            break;
        }
    }
    if ends {
        // It may be gone already.
        drop(socket.shutdown(std::net::Shutdown::Write));
    }
    let mut answer = Vec::new();
    drop(socket.take(1 << 20).read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

fn http(path: &str, headers: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\r\n")
        .into_bytes()
}

/// A request whose body is there as a whole.
fn post(server: &RealServer, path: &str, kind: &str, body: &[u8]) -> String {
    let head = http(path, &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len()));
    talk(server.http, [head].into_iter().chain(body.chunks(1 << 20).map(<[u8]>::to_vec)))
}

/// A body in chunks of 1 MiB that never says how long it is.
fn endless(path: &str, kind: &str, mib: usize) -> impl Iterator<Item = Vec<u8>> {
    let head = http(path, &format!("Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n"));
    let chunk = [b"100000\r\n".to_vec(), vec![b'x'; 1 << 20], b"\r\n".to_vec()].concat();
    [head].into_iter().chain(std::iter::repeat_n(chunk, mib))
}

const NDJSON: &str = "application/x-ndjson";
const ARROW: &str = "application/vnd.apache.arrow.stream";
const ROWS: &str = "/v1/streams/s";

fn start(directory: &Path) -> Victim {
    let server = RealServer::start(directory);
    server
        .sql("CREATE STREAM s (n BIGINT, text TEXT); CREATE CONTINUOUS QUERY q AS SELECT n FROM s");
    // What is set up once is no input's fault.
    for _ in 0..3 {
        let rows = b"{\"n\":1,\"text\":\"warm\"}\n".repeat(100_000);
        let answer = post(&server, ROWS, NDJSON, &rows);
        assert!(answer.contains("\"accepted\":100000"), "{answer}");
        server.sql("SELECT count(*) AS c FROM s");
    }
    Victim { server, tried: 0, worst: (0, String::new()) }
}

fn finish(victim: Victim) {
    let Victim { tried, worst, server } = victim;
    println!("{tried} hostile inputs; the worst cost {} KiB: {}", worst.0 / 1024, worst.1);
    server.kill();
}

#[test]
fn bodies_that_are_too_large_are_refused_before_they_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut victim = start(directory.path());
    for (path, kind) in
        [(ROWS, NDJSON), (ROWS, "text/csv"), (ROWS, ARROW), ("/v1/sql", "text/plain")]
    {
        for length in ["1099511627776", "104857600", "1844674407370955161"] {
            let headers = format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n");
            let what = format!("a {kind} body of {length} bytes, claimed");
            victim.refuses(&what, LITTLE, "413", |server| {
                talk(server.http, [http(path, &headers), b"{\"n\":1}\n".to_vec()])
            });
        }
        victim.refuses(&format!("a {kind} body of 200 MiB in chunks"), BODY, "413", |server| {
            talk(server.http, endless(path, kind, 200))
        });
    }
    victim.refuses("a content length beyond 64 bits", LITTLE, "400", |server| {
        talk(server.http, [http(ROWS, "Content-Length: 99999999999999999999999\r\n")])
    });
    victim.refuses("two content lengths", LITTLE, "400", |server| {
        talk(server.http, [http(ROWS, "Content-Length: 1\r\nContent-Length: 1000000000\r\n")])
    });
    let bomb = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        (0..66).for_each(|_| encoder.write_all(&[b' '; 1 << 20]).unwrap());
        encoder.finish().unwrap()
    };
    victim.refuses("a gzip body that unfolds to 66 MiB", BODY, "413", |server| {
        let headers = format!(
            "Content-Type: {NDJSON}\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n",
            bomb.len()
        );
        talk(server.http, [http(ROWS, &headers), bomb])
    });
    finish(victim);
}

#[test]
fn headers_without_end_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut victim = start(directory.path());
    let get =
        |rest: &str| format!("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n{rest}").into_bytes();
    victim.refuses("100,000 headers", LITTLE, "431", |server| {
        let line = b"X-Filler: 1\r\n".repeat(1_000);
        talk(server.http, [get("")].into_iter().chain(std::iter::repeat_n(line, 100)))
    });
    for (what, start) in [
        ("a header of 100 MiB", get("X-Filler: ")),
        ("a header's name of 100 MiB", get("")),
        ("an address of 100 MiB", b"GET /".to_vec()),
        ("a method of 100 MiB", vec![]),
    ] {
        // The answer may be lost, because so much is still on its way.
        victim.bears(what, LITTLE, |server| {
            let pieces = std::iter::repeat_n(vec![b'x'; 1 << 20], 100);
            talk(server.http, [start].into_iter().chain(pieces))
        });
    }
    victim.refuses("a producer with a name of 10 KB", LITTLE, "\"error\"", |server| {
        let name = "p".repeat(10_000);
        let headers = format!(
            "Content-Type: {NDJSON}\r\nWeir-Producer: {name}\r\nWeir-Sequence: 1\r\nContent-Length: 8\r\n"
        );
        talk(server.http, [http(ROWS, &headers), b"{\"n\":1}\n".to_vec()])
    });
    finish(victim);
}

#[test]
fn rows_that_are_too_long_too_deep_or_too_wide_are_dead_letters() {
    let directory = tempfile::tempdir().unwrap();
    let mut victim = start(directory.path());
    let deep = |open: &str, close: &str| {
        format!("{{\"text\":{}1{}}}\n", open.repeat(100_000), close.repeat(100_000)).into_bytes()
    };
    let huge = |open: &str| format!("{{\"text\":{}\n", open.repeat(1_000_000)).into_bytes();
    let wide: String = (0..60_000).map(|n| format!("\"c{n}\":{n},")).collect();
    let wider: String = (0..1_000_000).map(|n| format!("\"c{n}\":{n},")).collect();
    let object = |columns: &str| format!("{{{columns}\"n\":1}}\n").into_bytes();
    for (what, kind, body) in [
        ("JSON nested 100,000 deep, lists", NDJSON, deep("[", "]")),
        ("JSON nested 100,000 deep, objects", NDJSON, deep("{\"a\":", "}")),
        ("JSON nested a million deep without an end", NDJSON, huge("[")),
        ("JSON nested five million bytes deep", NDJSON, huge("{\"a\":")),
        ("a row with a million fields", NDJSON, object(&wider)),
        ("a row of 2 MiB", NDJSON, [vec![b'x'; 2 << 20], b"\n".to_vec()].concat()),
        (
            "a number of a million digits",
            NDJSON,
            format!("{{\"n\":{}}}\n", "9".repeat(1_000_000)).into(),
        ),
        (
            "a CSV row with a million fields",
            "text/csv",
            ["n,text\n", &",".repeat(1_000_000), "\n"].concat().into(),
        ),
        (
            "a quoted CSV field without an end",
            "text/csv",
            ["n,text\n1,\"", &"x".repeat(3 << 20)].concat().into(),
        ),
    ] {
        victim.refuses(what, BODY, "\"rejected\":1", |server| post(server, ROWS, kind, &body));
    }
    victim.refuses("a row with 60,000 fields", BODY, "\"accepted\":1", |server| {
        post(server, ROWS, NDJSON, &object(&wide))
    });
    let names: String = (0..1_000_000).map(|n| format!("c{n},")).collect();
    victim.refuses("a CSV header with a million columns", BODY, "54000", |server| {
        post(server, ROWS, "text/csv", format!("{names}\n1,2\n").as_bytes())
    });
    victim.bears("a JSON array nested a million deep", BODY, |server| {
        post(server, ROWS, "application/json", "[".repeat(1_000_000).as_bytes())
    });
    victim.bears("an array of a million empty objects", BODY, |server| {
        post(
            server,
            ROWS,
            "application/json",
            format!("[{}{{}}]", "{},".repeat(1_000_000)).as_bytes(),
        )
    });
    victim.bears("16 million empty lines", BODY, |server| {
        post(server, ROWS, NDJSON, &b"\n".repeat(16 << 20))
    });
    victim.refuses("200,000 bad rows", BODY, "\"rejected\":200000", |server| {
        post(server, ROWS, NDJSON, &b"x\n".repeat(200_000))
    });
    victim.refuses("30 million bad rows", BODY, "54000", |server| {
        post(server, ROWS, NDJSON, &b"x\n".repeat(30_000_000))
    });
    finish(victim);
}

/// A stream of Arrow's with a distinctive number of rows.
fn arrow(rows: usize, compressed: bool) -> Vec<u8> {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(|_| "text")));
    let batch = RecordBatch::try_from_iter([("n", numbers), ("text", texts)]).unwrap();
    let compression = compressed.then_some(arrow::ipc::CompressionType::LZ4_FRAME);
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut bytes = Vec::new();
    let mut writer =
        StreamWriter::try_new_with_options(&mut bytes, &batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

/// The bytes with every occurrence of a number replaced by another one.
fn forge(bytes: &[u8], from: i64, to: i64) -> Vec<u8> {
    let (mut bytes, mut found) = (bytes.to_vec(), 0);
    for at in 0..bytes.len() - 8 {
        if bytes[at..at + 8] == from.to_le_bytes() {
            bytes[at..at + 8].copy_from_slice(&to.to_le_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "{from} is not there");
    bytes
}

#[test]
fn forged_lengths_in_arrow_bodies_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut victim = start(directory.path());
    let plain = arrow(100_003, false);
    let zipped = arrow(100_003, true);
    let mut bodies = vec![];
    for claim in [1 << 31, 1 << 40, 1 << 62, i64::MAX, -1, i64::MIN] {
        bodies.push((format!("{claim} rows"), forge(&plain, 100_003, claim)));
        bodies.push((format!("a column of {claim} bytes"), forge(&plain, 800_024, claim)));
        bodies.push((
            format!("a column that unfolds to {claim} bytes"),
            forge(&zipped, 800_024, claim),
        ));
    }
    for claim in [u32::MAX, 0x7fff_ffff, 0x4000_0000, 0x1000_0000] {
        let mut message = plain.clone();
        // Behind the mark of continuation.
        message[4..8].copy_from_slice(&claim.to_le_bytes());
        bodies.push((format!("a first message of {claim} bytes"), message));
        let mut old = plain.clone();
        old[..4].copy_from_slice(&claim.to_le_bytes());
        bodies.push((format!("a first message of {claim} bytes, in the old form"), old));
    }
    for (what, body) in bodies {
        // A row that is read before the damage may be stored; nothing is taken on trust.
        victim.bears(&format!("Arrow: {what}"), BODY, |server| post(server, ROWS, ARROW, &body));
    }
    for at in (0..plain.len().min(2_000)).step_by(97) {
        let mut body = plain.clone();
        body[at..at + 4].copy_from_slice(&[0xff; 4]);
        victim.bears(&format!("Arrow: ones at byte {at}"), BODY, |server| {
            post(server, ROWS, ARROW, &body)
        });
    }
    finish(victim);
}

#[test]
fn statements_that_are_too_long_too_deep_or_too_many_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut victim = start(directory.path());
    let columns: String = (0..1_000_000).map(|n| format!("c{n} INT, ")).collect();
    let many = |text: &str, count: usize| text.repeat(count);
    for (what, sql) in [
        ("a statement of 60 MB", format!("SELECT '{}'", many("x", 60_000_000))),
        ("30 million statements", many(";S", 15_000_000)),
        ("a million statements", many("SELECT x;", 1_000_000)),
        ("a million columns", format!("CREATE STREAM w ({columns} z INT)")),
        ("a million parentheses", format!("SELECT {}", many("(", 1_000_000))),
        (
            "300,000 parentheses that end",
            format!("SELECT {}1{}", many("(", 300_000), many(")", 300_000)),
        ),
        ("300,000 negations", format!("SELECT {}1", many("- ", 300_000))),
        ("200,000 terms", format!("SELECT 1{}", many("+1", 200_000))),
        ("100,000 subqueries", many("SELECT * FROM (", 60_000)),
        ("a comment without an end", format!("/*{}", many("x", 20_000_000))),
        ("20 million opened comments", many("/*", 10_000_000)),
        ("a quoted name without an end", format!("SELECT \"{}", many("x", 20_000_000))),
        (
            "a list of a million numbers",
            format!("SELECT n FROM s WHERE n IN (1{})", many(",1", 1_000_000)),
        ),
    ] {
        victim.refuses(what, BODY, "\"error\"", |server| {
            post(server, "/v1/sql", "text/plain", sql.as_bytes())
        });
    }
    victim.refuses("statements as JSON nested a million deep", BODY, "\"error\"", |server| {
        post(server, "/v1/sql", "application/json", many("[", 1_000_000).as_bytes())
    });
    finish(victim);
}

#[test]
fn a_join_that_makes_more_rows_than_there_is_memory_for_stops_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut victim = start(directory.path());
    victim.server.sql("CREATE STREAM few (n BIGINT); CREATE STREAM none (n BIGINT)");
    let rows: String = (0..20_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let sent = post(&victim.server, "/v1/streams/few", NDJSON, rows.as_bytes());
    assert!(sent.contains("\"accepted\":20000"), "{sent}");
    victim.server.sql("CREATE STREAM wide (n BIGINT, b BYTEA)");
    let bytes = "ab".repeat(10_000);
    let row = |n: u32| format!("{{\"n\":{n},\"b\":\"\\\\x{bytes}\"}}\n");
    let rows: String = (0..2_000).map(row).collect();
    let sent = post(&victim.server, "/v1/streams/wide", NDJSON, rows.as_bytes());
    assert!(sent.contains("\"accepted\":2000"), "{sent}");
    for (what, join) in [
        (
            "pairs of rows with many bytes",
            "CROSS JOIN (SELECT w.b FROM wide AS w CROSS JOIN wide) AS b",
        ),
        ("pairs of all rows", "CROSS JOIN few AS b"),
        ("pairs that fit a condition", "LEFT JOIN few AS b ON a.n <> b.n"),
        ("triples", "JOIN few AS b ON a.n % 4 = b.n % 4 JOIN few AS c ON a.n % 4 = c.n % 4"),
        (
            "pairs that wait for a third row",
            "JOIN few AS b ON a.n % 4 = b.n % 4 JOIN none AS c ON a.n % 4 = c.n",
        ),
    ] {
        let create = format!(
            "CREATE CONTINUOUS QUERY made WITH (memory_limit = '16 MB') AS
                 SELECT a.n AS x, b.* FROM few AS a {join};
             FLUSH"
        );
        victim.refuses(what, 2 * BODY, "53200", |server| server.sql(&create).to_string());
        let states = "SELECT name, status FROM weir.queries ORDER BY name";
        let states = victim.server.sql(states)["results"][0]["rows"].to_string();
        assert_eq!(states, "[[\"made\",\"failed\"],[\"q\",\"running\"]]", "{what}");
        victim.server.sql("DROP CONTINUOUS QUERY made");
    }
    finish(victim);
}

#[test]
fn lines_without_end_over_tcp_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut victim = start(directory.path());
    let line = |mib: usize| std::iter::repeat_n(vec![b'x'; 1 << 20], mib);
    victim.refuses("a first line of 200 MiB", LITTLE, "\"error\"", |server| {
        // Whoever goes on sending for a second after that is cut off, so it stops in time.
        ingest(server.tcp, line(1))
    });
    victim.bears("a first line of 200 MiB, all of it", LITTLE, |server| {
        ingest(server.tcp, line(200))
    });
    let begin = |format: &str| format!("INGEST s FORMAT {format}\n").into_bytes();
    for format in ["ndjson", "csv", "text"] {
        if format == "text" {
            continue;
        }
        let what = format!("a {format} row of 100 MiB");
        victim.refuses(&what, LITTLE, "\"rejected\":1", |server| {
            ingest(server.tcp, [begin(format)].into_iter().chain(line(100)))
        });
    }
    victim.refuses("a quoted field of 100 MiB", LITTLE, "\"rejected\":1", |server| {
        ingest(server.tcp, [begin("csv"), b"1,\"".to_vec()].into_iter().chain(line(100)))
    });
    victim.refuses("JSON nested 900,000 deep", LITTLE, "\"rejected\":1", |server| {
        ingest(server.tcp, [begin("ndjson"), vec![b'['; 900_000], b"\n".to_vec()])
    });
    victim.refuses("100 MiB of punctuation", LITTLE, "\"rejected\":1", |server| {
        let start = [begin("csv"), b"!punctuate {\"n\":".to_vec()].concat();
        ingest(server.tcp, [start].into_iter().chain(line(100)))
    });
    finish(victim);
}

#[test]
fn a_subscriber_has_little_to_say() {
    let directory = tempfile::tempdir().unwrap();
    let mut victim = start(directory.path());
    let hello = "GET /v1/queries/q/subscribe HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
                 Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let frame = |first: u8, length: u64| {
        let mut bytes = vec![first, 0x80 | 127];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 4]);
        bytes
    };
    for (what, pieces) in [
        ("a message of 2^62 bytes, claimed", vec![frame(0x82, 1 << 62)]),
        ("a message of 2^63 bytes, claimed", vec![frame(0x82, 1 << 63)]),
        ("a message of 8 MiB, claimed", vec![frame(0x82, 8 << 20)]),
        ("a message of 8 MiB", vec![frame(0x81, 8 << 20), vec![b'x'; 8 << 20]]),
        (
            "a message in a thousand pieces of 60 KiB",
            (0..1_000)
                .map(|n| [frame(u8::from(n == 0), 60 << 10), vec![0; 60 << 10]].concat())
                .collect(),
        ),
        ("pings of 8 MiB", vec![frame(0x89, 8 << 20), vec![0; 8 << 20]]),
        ("a frame of an unknown kind", vec![frame(0x8f, 16), vec![0; 16]]),
    ] {
        victim.refuses(what, LITTLE, "101 Switching", |server| {
            talk(server.http, [hello.as_bytes().to_vec()].into_iter().chain(pieces))
        });
    }
    finish(victim);
}

/// Changes four bytes of a header and mends the checksum over what is before it.
fn reseal(bytes: &mut [u8], start: usize, at: usize, value: u32, crc: usize) {
    bytes[start + at..start + at + 4].copy_from_slice(&value.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[start..start + crc]).to_le_bytes();
    bytes[start + crc..start + crc + 4].copy_from_slice(&sum);
}

#[test]
fn forged_lengths_in_files_are_damage_and_claim_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let victim = start(directory.path());
    victim.server.sql("FLUSH");
    assert!(victim.server.terminate(PATIENCE).success());
    let data = directory.path().join("data");
    let segment = "00000000000000000000.seg";
    let mut tried = 0;
    for file in [
        format!("streams/1/{segment}"),
        format!("queries/2/{segment}"),
        format!("catalog/{segment}"),
    ] {
        let path = data.join(&file);
        let whole = std::fs::read(&path).unwrap();
        let header = u32::from_le_bytes(whole[12..16].try_into().unwrap()) as usize;
        let mut forged = vec![];
        for claim in [u32::MAX, 0x7fff_fff8, 16 << 20, 0x0fff_fff8] {
            // The segment's header, its schema, and of the first frame the length, the rows and the meta.
            let mut bytes = whole.clone();
            bytes[12..16].copy_from_slice(&claim.to_le_bytes());
            forged.push(bytes);
            let mut bytes = whole.clone();
            reseal(&mut bytes, 0, 64, claim, header - 4);
            forged.push(bytes);
            for at in [0, 12, 56] {
                let mut bytes = whole.clone();
                reseal(&mut bytes, header, at, claim, 60);
                forged.push(bytes);
            }
        }
        for bytes in forged {
            std::fs::write(&path, bytes).unwrap();
            tried += 1;
            if let Some(server) = RealServer::try_start(directory.path(), &[], &[]) {
                let victim = Victim { server, tried: 0, worst: (0, String::new()) };
                let (memory, claimed) = (victim.figure("VmHWM"), victim.figure("VmPeak"));
                assert!(memory < 400 * MIB, "{file}: {memory} bytes of memory");
                assert!(claimed < 6 * CLAIMED, "{file}: {claimed} bytes are claimed");
                let states = victim
                    .server
                    .sql("SELECT error FROM weir.streams; SELECT error FROM weir.queries");
                assert!(states.to_string().contains(&file), "{file}: {states}");
                victim.server.kill();
            } else {
                let log = std::fs::read_to_string(directory.path().join("server.log")).unwrap();
                let last: Vec<&str> = log.lines().rev().take(4).collect();
                let named = last.iter().any(|line| line.contains("XX001") && line.contains(&file));
                assert!(named && file.starts_with("catalog"), "{file}: {last:?}");
            }
        }
        std::fs::write(&path, whole).unwrap();
    }
    println!("{tried} forged files");
}
