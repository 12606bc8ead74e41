//! Compares the files of a data directory with those of `tests/golden/`, which were written once, and
//! reads those back. What the bytes mean is in `docs/file_formats.md`; the golden files are dumps in
//! hexadecimal, to be read beside it.
//!
//! A format that changes gets a new version; `WEIR_GOLDEN=write` then writes the files anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir::engine::Producer;
use weir::error::SqlState;
use weir::log::storage::MemoryStorage;
use weir::time::VirtualClock;

use crate::sim::world::{Setup, World};

const SECOND: i64 = 1_000_000;
const BEGIN: i64 = 1_767_225_600 * SECOND;
const SETUP: Setup = Setup {
    snapshot_interval: 10 * SECOND,
    step_rows: 65_536,
    segment_bytes: 1_400,
    queue_rows: 1 << 20,
};

const QUESTIONS: &[&str] = &[
    "SELECT _offset, n, text FROM s",
    "SELECT n FROM loose",
    "SELECT n, text FROM late",
    "SELECT k, v FROM d ORDER BY k",
    "SELECT * FROM groups ORDER BY k",
    "SELECT * FROM minutes ORDER BY window_start",
    "SELECT * FROM passed ORDER BY n",
    "SELECT * FROM short ORDER BY n",
    "SELECT * FROM needs",
    "SELECT relation, line, code, encode(raw, 'hex') AS raw FROM weir.dead_letters",
    "SELECT query, stream, \"offset\", \"row\" FROM weir.late_rows",
    "SELECT stream, \"offset\", \"rows\", reason FROM weir.shed",
];

fn send(world: &World, stream: &str, rows: &str, sequence: Option<u64>) {
    let producer = |sequence| Producer { id: "pump".into(), sequence, each_row: false };
    let asked = world.ask_rows(stream, rows, None, sequence.map(producer));
    world.wait(asked).unwrap();
    while world.hands.turn() {}
}

fn row(n: i64, second: i64) -> String {
    let at = chrono::DateTime::from_timestamp_micros(BEGIN - 600 * SECOND + second * SECOND);
    format!("{{\"n\":{n},\"text\":\"row {n}\",\"at\":\"{}\"}}\n", at.unwrap().to_rfc3339())
}

/// Lets an engine write a file of every kind that the data directory can hold.
fn write_all() -> MemoryStorage {
    let (disk, clock) = (MemoryStorage::new(), Arc::new(VirtualClock::new(BEGIN)));
    let world = World::open(&disk, &clock, 1, SETUP, None).unwrap();
    let sql = |text: &str| {
        world.sql(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        while world.hands.turn() {}
    };
    for text in [
        "CREATE STREAM s (n BIGINT, text TEXT, at TIMESTAMP, WATERMARK FOR at AS at)
            WITH (idle_timeout = '5 s')",
        "CREATE STREAM loose (n BIGINT) WITH (durability = 'written')",
        "CREATE STREAM late (n BIGINT, text TEXT, at TIMESTAMP)",
        "CREATE STREAM tight (n BIGINT, text TEXT) WITH (retention_bytes = '2 kB')
            ON OVERLOAD SHED RANDOM",
        "CREATE TABLE d (k BIGINT PRIMARY KEY, v TEXT)",
        "CREATE CONTINUOUS QUERY groups AS SELECT n % 3 AS k, count(*) AS c FROM s GROUP BY n % 3",
        "CREATE CONTINUOUS QUERY minutes AS SELECT window_start, count(*) AS c
            FROM TUMBLE(s, at, INTERVAL '1 minute') GROUP BY window_start, window_end
            ALLOWED LATENESS INTERVAL '1 second' LATE ROWS TO late",
        "CREATE CONTINUOUS QUERY passed AS SELECT n, text FROM s WHERE n % 2 = 0",
        "CREATE CONTINUOUS QUERY short WITH (retention = '4 s') AS SELECT n FROM loose",
        "CREATE CONTINUOUS QUERY needs AS SELECT count(*) AS c FROM tight",
        "INSERT INTO d VALUES (1, 'one'), (2, 'two')",
        "UPDATE d SET v = 'zwei' WHERE k = 2",
        "DELETE FROM d WHERE k = 1",
    ] {
        sql(text);
    }
    let many: String = (0..40).map(|n| format!("{{\"n\":{n},\"text\":\"{n}\"}}\n")).collect();
    (0..6).for_each(|_| send(&world, "tight", &many, None));
    send(&world, "s", &(row(0, 0) + &row(1, 20) + "{\"n\":\"none\"}\n" + &row(2, 130)), Some(1));
    send(&world, "s", &(row(3, 5) + &row(4, 140)), Some(2));
    sql("PUNCTUATE s WHERE n = 99");
    send(&world, "s", "{\"n\":99,\"at\":\"2026-01-01T00:00:00Z\"}\n", None);
    for n in 0..6 {
        let rows: String = (0..12).map(|m| format!("{{\"n\":{}}}\n", 12 * n + m)).collect();
        send(&world, "loose", &rows, None);
        clock.advance(2 * SECOND);
        world.timers().unwrap();
    }
    sql("CREATE OR REPLACE CONTINUOUS QUERY passed AS SELECT n, text FROM s WHERE n % 2 = 1");
    sql("FLUSH");
    world.snapshots();
    while world.hands.turn() {}
    send(&world, "loose", "{\"n\":1000}\n", None);
    clock.advance(2 * SECOND);
    world.retention().unwrap();
    // The rows that were shed are written down when somebody asks.
    sql("SELECT * FROM weir.shed");
    world.wait(world.engine.shutdown());
    drop(world);
    disk.kill()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Sixteen bytes a line: where they stand, what they are, and as characters. A line that repeats the one
/// before is left out, and `*` says so.
fn dump(bytes: &[u8]) -> String {
    let (mut text, mut repeated) = (String::new(), false);
    for (number, line) in bytes.chunks(16).enumerate() {
        if number > 0 && line == &bytes[number * 16 - 16..number * 16] {
            if !std::mem::replace(&mut repeated, true) {
                text.push_str("*\n");
            }
            continue;
        }
        repeated = false;
        write!(text, "{:08x} ", number * 16).unwrap();
        line.iter().for_each(|byte| write!(text, " {byte:02x}").unwrap());
        let shown = |byte: &u8| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        };
        let characters: String = line.iter().map(shown).collect();
        writeln!(text, "{:width$}  |{characters}|", "", width = 3 * (16 - line.len())).unwrap();
    }
    writeln!(text, "{:08x}", bytes.len()).unwrap();
    text
}

/// The bytes of a dump.
fn undump(text: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for line in text.lines().filter(|line| *line != "*") {
        let (place, rest) = line.split_at(8);
        let place = usize::from_str_radix(place, 16).unwrap();
        while bytes.len() < place {
            let line = bytes[bytes.len() - 16..].to_vec();
            bytes.extend(&line[..line.len().min(place - bytes.len())]);
        }
        let digits = rest.split("  |").next().unwrap().split_whitespace();
        bytes.extend(digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()));
    }
    bytes
}

/// The golden files.
fn golden() -> BTreeMap<String, Vec<u8>> {
    dumps("data")
}

/// The dumps below one of the golden folders, read.
fn dumps(below: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder().join(below)];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(folder().join(below)).unwrap().to_str().unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            files.insert(name.strip_suffix(".hex").unwrap().to_owned(), undump(&text));
        }
    }
    files
}

fn on_disk(files: &BTreeMap<String, Vec<u8>>) -> MemoryStorage {
    let disk = MemoryStorage::new();
    files.iter().for_each(|(path, bytes)| disk.put(path, bytes.clone()));
    disk
}

fn open(disk: &MemoryStorage) -> weir::error::Result<World> {
    let clock = Arc::new(VirtualClock::new(BEGIN + 60 * SECOND));
    World::open(disk, &clock, 1, SETUP, None)
}

fn contents(disk: &MemoryStorage) -> BTreeMap<String, Vec<u8>> {
    let read = |path: String| (path.clone(), disk.contents(&path).unwrap());
    disk.paths().into_iter().map(read).collect()
}

fn answers(world: &World) -> String {
    let mut text = String::new();
    for question in QUESTIONS {
        writeln!(text, "{question}").unwrap();
        for row in world.sql(question).unwrap_or_else(|error| panic!("{question}: {error}")) {
            writeln!(text, "  {row}").unwrap();
        }
    }
    text
}

#[test]
fn every_file_of_today_is_the_golden_one() {
    let disk = write_all();
    let written = contents(&disk);
    if std::env::var("WEIR_GOLDEN").is_ok_and(|wish| wish == "write") {
        std::fs::remove_dir_all(folder().join("data")).ok();
        for (path, bytes) in &written {
            let file = folder().join("data").join(format!("{path}.hex"));
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, dump(bytes)).unwrap();
        }
        let answers = answers(&open(&disk).unwrap());
        std::fs::write(folder().join("answers.txt"), answers).unwrap();
    }
    let golden = golden();
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written), names(&golden));
    for (path, bytes) in &written {
        // A snapshot holds its plan in words, which may change; its layout is tested where it is written.
        let compared = |bytes: &[u8]| match path.ends_with(".snapshot") {
            true => dump(&bytes[..16]),
            false => dump(bytes),
        };
        assert_eq!(compared(bytes), compared(&golden[path]), "{path}");
        assert_eq!(&undump(&dump(bytes)), bytes, "{path}");
    }
    // Each kind is among them, in several segments where there can be several.
    for kind in ["catalog/", "streams/", "tables/", "queries/", "snapshots/", "system/shed/"] {
        assert!(written.keys().any(|path| path.starts_with(kind)), "{kind}");
    }
    assert!(written.keys().any(|path| path.contains("/kept-")), "{:?}", names(&written));
}

#[test]
fn golden_files_are_read_back() {
    let world = open(&on_disk(&golden())).unwrap();
    let stopped = world.sql("SELECT name, error FROM weir.queries WHERE status <> 'running'");
    assert_eq!(stopped.unwrap(), [] as [serde_json::Value; 0]);
    let expected = std::fs::read_to_string(folder().join("answers.txt")).unwrap();
    assert_eq!(answers(&world), expected);
    // They take more.
    world.sql("INSERT INTO d VALUES (7, 'more')").unwrap();
    send(&world, "s", &row(5, 1_000), Some(3));
    world.sql("FLUSH").unwrap();
    assert_eq!(world.sql("SELECT n FROM passed WHERE n = 5").unwrap().len(), 1);
}

/// The file with another version and a checksum that fits it.
fn newer(path: &str, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let number = |bytes: &[u8], at: usize| {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    };
    let mut seal = |start: usize, version: u32, crc: usize| {
        bytes[start + 8..start + 12].copy_from_slice(&version.to_le_bytes());
        let sum = crc32c::crc32c(&bytes[start..crc]).to_le_bytes();
        bytes[crc..crc + 4].copy_from_slice(&sum);
    };
    if path.ends_with("mark") {
        seal(0, 2, 60);
        seal(4096, 2, 4096 + 60);
    } else if path.ends_with(".snapshot") {
        seal(0, 3, 12);
    } else {
        let end = number(&bytes, 12) - 4;
        let mut seal = |crc: usize| {
            bytes[8..12].copy_from_slice(&2_u32.to_le_bytes());
            let sum = crc32c::crc32c(&bytes[..crc]).to_le_bytes();
            bytes[crc..crc + 4].copy_from_slice(&sum);
        };
        seal(end);
    }
    bytes
}

#[test]
fn a_file_of_a_newer_program_is_refused_by_name_and_nothing_is_overwritten() {
    let golden = golden();
    for (path, bytes) in &golden {
        let mut files = golden.clone();
        files.insert(path.clone(), newer(path, bytes));
        let disk = on_disk(&files);
        if path.ends_with(".snapshot") {
            // The state can be computed again: the newer file is passed over, and stays.
            let world = open(&disk).unwrap_or_else(|error| panic!("{path}: {error}"));
            let refused = "SELECT refused FROM weir.snapshots WHERE refused IS NOT NULL";
            let refused = format!("{:?}", world.sql(refused).unwrap());
            assert!(refused.contains(path) && refused.contains("version 3"), "{path}: {refused}");
            drop(world);
            assert_eq!(disk.contents(path), Some(files[path].clone()), "{path}");
            continue;
        }
        let error = open(&disk).err().unwrap_or_else(|| panic!("{path} is taken"));
        assert_eq!(error.code(), SqlState::NOT_SUPPORTED, "{path}: {error}");
        assert!(error.message().contains(path.as_str()), "{path}: {error}");
        assert!(error.message().contains("version 2"), "{path}: {error}");
        assert_eq!(disk.contents(path), Some(files[path].clone()), "{path}");
        let others = contents(&disk).into_iter().filter(|(other, _)| !other.starts_with("catalog"));
        for (other, bytes) in others {
            assert!(files.get(&other).is_none_or(|before| *before == bytes), "{path}: {other}");
        }
    }
}

/// `former/` holds what was written before a column was added.
#[test]
fn late_rows_of_an_earlier_version_are_read_and_added_to() {
    let mut files = golden();
    let former = dumps("former");
    files.retain(|path, _| !path.starts_with("system/late_rows/"));
    files.extend(former);
    let world = open(&on_disk(&files)).unwrap();
    send(&world, "s", &row(8, 1), None);
    world.sql("FLUSH").unwrap();
    let late = world.sql("SELECT query, event_time, windows FROM weir.late_rows").unwrap();
    let first = "2025-12-31T23:50:05Z";
    let text = late.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(late.len(), 2, "{text}");
    assert!(text.contains(first) && text.contains("2025-12-31T23:50:01Z"), "{text}");
    assert!(late.iter().all(|row| row["windows"].is_null()), "{text}");
}

/// Directories of logs, with what rests on them.
const READERS: &[(&str, &[&str])] = &[
    ("streams/1", &["s", "groups", "minutes", "passed"]),
    ("streams/2", &["loose", "short"]),
    ("tables/5", &["d"]),
    ("queries/7", &["minutes"]),
    ("queries/9", &["short"]),
    ("queries/9/kept-5", &["short"]),
];

#[test]
fn a_log_whose_files_are_gone_is_missing_and_not_empty() {
    let golden = golden();
    for (directory, readers) in READERS {
        let mut files = golden.clone();
        files.retain(|path, _| path.rsplit_once('/').unwrap().0 != *directory);
        assert!(files.len() < golden.len(), "{directory}");
        let world = open(&on_disk(&files)).unwrap();
        for question in QUESTIONS {
            let name = question.split("FROM ").nth(1).unwrap().split(' ').next().unwrap();
            let answer = world.sql(question);
            if !readers.contains(&name) {
                assert!(answer.is_ok(), "{directory}: {name}: {answer:?}");
                continue;
            }
            let error = answer.expect_err("it rests on a log that is missing");
            assert_eq!(error.code(), SqlState::CORRUPT, "{directory}: {name}: {error}");
            assert!(error.to_string().contains(directory), "{directory}: {name}: {error}");
        }
    }
}

/// What tells a kind of file from others: its folder, and its name without numbers.
fn kind(path: &str) -> (String, String) {
    let folder = path.split_once('/').map_or("", |(folder, _)| folder);
    let name = path.rsplit('/').next().unwrap();
    let suffix = [".seg", ".snapshot", ".json"].into_iter().find(|end| name.ends_with(end));
    (folder.to_owned(), suffix.unwrap_or(name).to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_file_is_in_the_document() {
    let document =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/file_formats.md"))
            .unwrap();
    let mut paths: Vec<String> = golden().into_keys().collect();
    paths.extend(paths_of_a_server().await);
    for path in paths {
        let (folder, name) = kind(&path);
        let named = folder.is_empty() || document.contains(&format!("{folder}/"));
        assert!(named, "docs/file_formats.md says nothing of {folder}/");
        assert!(document.contains(&name), "docs/file_formats.md says nothing of {path}");
    }
}

/// The files of a directory on a real disk, with sinks that keep marks there.
async fn paths_of_a_server() -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let settings = weir::engine::EngineSettings::new(&data);
    let engine = weir::engine::Engine::open(settings, Arc::new(weir::time::SystemClock)).unwrap();
    let sink = root.path().join("out");
    let text = format!(
        "CREATE STREAM s (n BIGINT);
         CREATE CONTINUOUS QUERY q AS SELECT n FROM s;
         CREATE SINK f FROM q INTO FILE WITH (path = '{}');
         CREATE SINK w FROM q INTO WEBHOOK WITH (url = 'http://127.0.0.1:9/');
         INSERT INTO s VALUES (1), (2); FLUSH SINK f;",
        sink.display()
    );
    let execution = engine.execute(&text).await;
    assert!(execution.error.is_none(), "{:?}", execution.error);
    engine.shutdown().await;
    let mut paths = Vec::new();
    let mut open = vec![data.clone(), sink];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                // Rows in the sink's directory are named by their offsets, and the user's.
                false if path.extension().is_some_and(|end| end == "ndjson") => {}
                false => {
                    let base = if path.starts_with(&data) { &data } else { &directory };
                    paths.push(path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
    }
    assert!(paths.iter().any(|path| path == "lock"), "{paths:?}");
    assert!(paths.iter().any(|path| path == "weir_progress.json"), "{paths:?}");
    assert!(paths.iter().any(|path| path.starts_with("sinks/")), "{paths:?}");
    paths
}
