//! Damages every file of a data directory, at many places, and asks for everything.
//!
//! Damage is found and named, when the server starts or when somebody asks, or it does no harm: it is
//! in a spare part, or in something that can be computed again. No answer is ever another one than
//! before. Damage in the log of one relation stops that relation and its readers alone.
//!
//! One damage a file, of another kind each; with `WEIR_DAMAGE=all` seven each, which takes minutes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use weir::catalog::persist::Store;
use weir::catalog::record::Record;
use weir::decode::{Format, decoder};
use weir::engine::{Engine, EngineSettings, IngestOrigin, Producer};
use weir::log::storage::{DiskStorage, Storage};
use weir::time::VirtualClock;

use crate::engines::{NOW, copy, ndjson, settings};
use crate::oracle::Rng;

const PATIENCE: Duration = Duration::from_secs(60);

/// Every object, asked once.
const QUESTIONS: &[&str] = &[
    "SELECT count(*) AS c, sum(n) AS t, count(DISTINCT text) AS d FROM s",
    "SELECT n, text FROM s WHERE n % 50 = 0 ORDER BY _offset",
    "SELECT * FROM groups ORDER BY k",
    "SELECT * FROM minutes ORDER BY window_start",
    "SELECT * FROM passed ORDER BY n",
    "SELECT * FROM above",
    "SELECT * FROM d ORDER BY k",
    "SELECT relation, code FROM weir.dead_letters ORDER BY at, line",
    "SELECT query, \"offset\" FROM weir.late_rows ORDER BY \"offset\"",
];

fn open(directory: &Path) -> Result<Arc<Engine>, weir::error::Error> {
    let chosen = EngineSettings { snapshot_interval: 0, ..settings(directory) };
    Engine::open(chosen, Arc::new(VirtualClock::new(NOW)))
}

/// The answer, or the code and the words of the error.
async fn ask(engine: &Arc<Engine>, sql: &str) -> Result<String, (String, String)> {
    let execution = tokio::time::timeout(PATIENCE, engine.execute(sql)).await;
    let execution = execution.unwrap_or_else(|_| panic!("hangs: {sql}"));
    if let Some(error) = &execution.error {
        return Err((error.code().0.to_string(), error.to_string()));
    }
    Ok(ndjson(execution.results.last()))
}

async fn ingest(engine: &Arc<Engine>, rows: String, sequence: Option<u64>) {
    let handle = engine.stream("s").unwrap();
    let decoded = decoder(Format::NdJson, handle.decode_spec()).decode(rows.as_bytes(), 1);
    let producer = |sequence| Producer { id: "p".into(), sequence, each_row: false };
    let origin = IngestOrigin { protocol: "http", producer: sequence.map(producer) };
    handle.ingest(decoded, None, origin).await.unwrap();
}

/// A directory with a file of each kind, some of them in several segments.
async fn fill(directory: &Path) -> Vec<String> {
    let engine = open(directory).unwrap();
    for sql in [
        "CREATE STREAM s (n BIGINT, text TEXT, at TIMESTAMP, WATERMARK FOR at AS at)
            WITH (retention_bytes = '100 MB')",
        "CREATE STREAM small (n BIGINT, text TEXT) WITH (retention_bytes = '64 kB')",
        "CREATE TABLE d (k BIGINT PRIMARY KEY, v TEXT)",
        "CREATE CONTINUOUS QUERY groups AS SELECT n % 3 AS k, count(*) AS c FROM s GROUP BY n % 3",
        "CREATE CONTINUOUS QUERY minutes AS SELECT window_start, count(*) AS c, sum(n) AS t
            FROM TUMBLE(s, at, INTERVAL '1 minute') GROUP BY window_start, window_end",
        "CREATE CONTINUOUS QUERY passed AS SELECT n, text FROM s WHERE n % 7 = 0",
        "CREATE CONTINUOUS QUERY above AS SELECT count(*) AS c, sum(t) AS t FROM minutes",
        "INSERT INTO d VALUES (1, 'one'), (2, 'two')",
        "UPDATE d SET v = 'zwei' WHERE k = 2",
    ] {
        ask(&engine, sql).await.unwrap();
    }
    for request in 0..20_i64 {
        let row = |n: i64| {
            let at =
                chrono::DateTime::from_timestamp(1_700_000_000 + n * 3 - n % 5 * 40, 0).unwrap();
            format!("{{\"n\":{n},\"text\":\"row {n} of many\",\"at\":\"{}\"}}\n", at.to_rfc3339())
        };
        let mut rows: String = (request * 20..(request + 1) * 20).map(row).collect();
        if request % 5 == 0 {
            rows.push_str("{\"n\":\"no number\"}\n");
        }
        ingest(&engine, rows, (request % 2 == 0).then_some(request as u64)).await;
        if request % 4 == 0 {
            ask(&engine, "FLUSH").await.unwrap();
        }
    }
    ask(&engine, "FLUSH").await.unwrap();
    let mut answers = Vec::new();
    for question in QUESTIONS {
        answers.push(ask(&engine, question).await.unwrap());
    }
    engine.shutdown().await;
    answers
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// What happened to one file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(usize, u8),
    Cut(usize),
    Removed,
}

impl Damage {
    fn harm(self, file: &Path) {
        let mut bytes = std::fs::read(file).unwrap();
        match self {
            Damage::Flip(at, bit) => bytes[at] ^= 1 << bit,
            Damage::Cut(length) => bytes.truncate(length),
            Damage::Removed => return std::fs::remove_file(file).unwrap(),
        }
        std::fs::write(file, bytes).unwrap();
    }
}

/// Whether what is asked for rests on a file.
fn may_suffer(question: &str, file: &str) -> bool {
    let relations: &[&str] = match file.split('/').take(2).collect::<Vec<_>>()[..] {
        ["streams", "1"] => &["s", "groups", "minutes", "passed", "above"],
        ["streams", "2"] => &["small"],
        ["tables", "3"] => &["d"],
        ["queries" | "snapshots", "4"] => &["groups"],
        ["queries" | "snapshots", "5"] => &["minutes", "above"],
        ["queries" | "snapshots", "6"] => &["passed"],
        ["queries" | "snapshots", "7"] => &["above"],
        _ => return true,
    };
    let from = question.split("FROM ").nth(1).unwrap().split(' ').next().unwrap();
    relations.contains(&from)
}

/// How it was found out; an error if it was not.
async fn outcome(
    directory: &Path,
    file: &str,
    damage: Damage,
    expected: &[String],
) -> Result<&'static str, String> {
    // The file itself, or its directory where it is missing or does not fit another one.
    let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
    let named = |text: &str| text.contains(folder) || text.contains(file);
    let engine = match open(directory) {
        Ok(engine) => engine,
        Err(error) => {
            let text = error.to_string();
            // What there is, and what was reported, is everybody's.
            let shared = file.starts_with("catalog/") || file.starts_with("system/");
            return match error.code().0 == "XX001" && named(&text) && shared {
                true => Ok("at the start"),
                false => Err(format!("it starts with {text}")),
            };
        }
    };
    if let Err((code, text)) = ask(&engine, "FLUSH").await
        && code != "XX001"
    {
        return Err(format!("FLUSH: {text}"));
    }
    let mut result = "not at all, and does no harm";
    let broken =
        "SELECT error FROM weir.queries WHERE status <> 'running' AND error NOT LIKE 'XX001%'";
    match ask(&engine, broken).await {
        Ok(none) if none.is_empty() => {}
        other => return Err(format!("queries: {other:?}")),
    }
    let stopped = ask(&engine, "SELECT name FROM weir.queries WHERE status <> 'running'").await;
    if stopped.is_ok_and(|stopped| !stopped.is_empty()) {
        result = "by a query that stops";
    }
    for (question, expected) in QUESTIONS.iter().zip(expected) {
        match ask(&engine, question).await {
            Ok(answer) if answer == *expected => {}
            // What the server reports on its own is written and not synced.
            Ok(answer) if question.contains("weir.") && expected.starts_with(&answer) => {}
            // An answer that lags is right for what it stands for; a stopped query says so.
            Ok(_) if result == "by a query that stops" && !question.contains("FROM s") => {}
            Ok(answer) => {
                return Err(format!("{damage:?}: {question}\n{answer}instead of\n{expected}"));
            }
            Err((_, text)) if !may_suffer(question, file) => {
                return Err(format!("{question} suffers, too: {text}"));
            }
            Err((code, text)) if code == "XX001" && named(&text) => result = "when it is asked for",
            Err((_, text)) => return Err(format!("{question}: {text}")),
        }
    }
    engine.shutdown().await;
    Ok(result)
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_and_named_or_does_no_harm() {
    let root = tempfile::tempdir().unwrap();
    let whole = root.path().join("whole");
    let expected = fill(&whole).await;
    let mut all = Vec::new();
    files(&whole, &mut all);
    all.sort();
    let mut rng = Rng::new(7);
    let mut found: BTreeMap<(String, &str), u32> = BTreeMap::new();
    let mut failures = Vec::new();
    let everything = std::env::var("WEIR_DAMAGE").is_ok_and(|which| which == "all");
    for (number, file) in all.into_iter().enumerate() {
        let name = file.strip_prefix(&whole).unwrap().to_str().unwrap().to_owned();
        let length = std::fs::metadata(&file).unwrap().len() as usize;
        if name == "lock" || length == 0 {
            continue;
        }
        let mut damages = vec![Damage::Cut(length / 2), Damage::Removed];
        // A header, the end, and anywhere.
        let places = [9, 30, length - 1, rng.index(length), rng.index(length)];
        for at in places.into_iter().filter(|at| *at < length) {
            damages.push(Damage::Flip(at, (at % 8) as u8));
        }
        let count = damages.len();
        let chosen = damages.into_iter().enumerate();
        let chosen = chosen.filter(|(kind, _)| everything || *kind == number % count);
        for (_, damage) in chosen {
            let directory = root.path().join("damaged");
            copy(&whole, &directory);
            damage.harm(&directory.join(&name));
            match outcome(&directory, &name, damage, &expected).await {
                Ok(how) => *found.entry((name.clone(), how)).or_default() += 1,
                Err(reason) => {
                    println!("{name} {damage:?}: {reason}");
                    failures.push(format!("{name} {damage:?}: {reason}"));
                }
            }
            std::fs::remove_dir_all(&directory).unwrap();
        }
    }
    found.iter().for_each(|((file, how), count)| println!("{count:3} {file}: {how}"));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    let harmless = found.iter().filter(|((_, how), _)| how.starts_with("not at all")).count();
    assert!(harmless + 10 < found.len(), "{found:?}");
}

async fn answer(engine: &Arc<Engine>, sql: &str) -> String {
    ask(engine, sql).await.unwrap_or_else(|(_, text)| panic!("{sql}\n{text}"))
}

async fn refused(engine: &Arc<Engine>, sql: &str, code: &str) -> String {
    let (found, text) = ask(engine, sql).await.unwrap_err();
    assert_eq!(found, code, "{sql}\n{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_relation_rests_with_its_readers_and_comes_back_when_its_file_does() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("data");
    let engine = open(&directory).unwrap();
    answer(
        &engine,
        "CREATE STREAM bad (n BIGINT); CREATE STREAM good (n BIGINT);
         CREATE CONTINUOUS QUERY both AS
             SELECT n, count(*) AS c FROM (SELECT n FROM bad UNION ALL SELECT n FROM good) GROUP BY n;
         CREATE CONTINUOUS QUERY above AS SELECT sum(c) AS c FROM both;
         CREATE CONTINUOUS QUERY alone AS SELECT count(*) AS c FROM good;
         INSERT INTO bad VALUES (1), (2), (3); INSERT INTO good VALUES (1), (2); FLUSH",
    )
    .await;
    let path = root.path().join("out");
    let sink = |name: &str, query: &str| {
        let path = path.join(name);
        format!("CREATE SINK {name} FROM {query} INTO FILE WITH (path = '{}')", path.display())
    };
    answer(&engine, &sink("rests", "above")).await;
    answer(&engine, &sink("goes_on", "alone")).await;
    engine.shutdown().await;
    drop(engine);
    let file = directory.join("streams/1/00000000000000000000.seg");
    let whole = std::fs::read(&file).unwrap();
    Damage::Flip(20, 3).harm(&file);

    let engine = open(&directory).unwrap();
    for relation in ["bad", "both", "above"] {
        let text = refused(&engine, &format!("SELECT * FROM {relation}"), "XX001").await;
        assert!(text.contains("streams/1/00000000000000000000.seg"), "{text}");
    }
    refused(&engine, "INSERT INTO bad VALUES (9)", "XX001").await;
    refused(&engine, "CREATE STREAM bad (n BIGINT)", "42P07").await;
    refused(&engine, "CREATE CONTINUOUS QUERY more AS SELECT n FROM both", "XX001").await;
    refused(&engine, "RESUME both", "XX001").await;
    refused(&engine, "FLUSH SINK rests", "XX001").await;
    let streams =
        answer(&engine, "SELECT name, error IS NULL AS fine FROM weir.streams ORDER BY name").await;
    assert_eq!(streams, "{\"name\":\"bad\",\"fine\":false}\n{\"name\":\"good\",\"fine\":true}\n");
    let states = answer(&engine, "SELECT name, status FROM weir.queries ORDER BY name").await;
    let expected = ["failed", "running", "failed"].map(|state| state.to_string());
    let state = |line: &str| line.rsplit('"').nth(1).unwrap().to_string();
    assert_eq!(states.lines().map(state).collect::<Vec<_>>(), expected);
    assert!(answer(&engine, "SHOW STREAMS").await.contains("bad"));
    // The others go on, and what the resting ones will need stays.
    answer(&engine, "INSERT INTO good VALUES (2), (3); FLUSH; FLUSH SINK goes_on").await;
    assert_eq!(answer(&engine, "SELECT c FROM alone").await, "{\"c\":4}\n");
    engine.shutdown().await;
    drop(engine);

    std::fs::write(&file, whole).unwrap();
    let engine = open(&directory).unwrap();
    answer(&engine, "INSERT INTO bad VALUES (4); FLUSH; FLUSH SINK rests").await;
    let both = "{\"n\":1,\"c\":2}\n{\"n\":2,\"c\":3}\n{\"n\":3,\"c\":2}\n{\"n\":4,\"c\":1}\n";
    assert_eq!(answer(&engine, "SELECT * FROM both ORDER BY n").await, both);
    assert_eq!(answer(&engine, "SELECT c FROM above").await, "{\"c\":8}\n");
    engine.shutdown().await;
    drop(engine);
    a_damaged_relation_can_be_dropped(&directory).await;
}

async fn a_damaged_relation_can_be_dropped(directory: &Path) {
    Damage::Removed.harm(&directory.join("streams/1/mark"));
    let engine = open(directory).unwrap();
    refused(&engine, "DROP STREAM bad", "2BP01").await;
    answer(&engine, "DROP STREAM bad CASCADE; CREATE STREAM bad (n BIGINT, m BIGINT)").await;
    answer(&engine, "INSERT INTO bad VALUES (1, 2)").await;
    engine.shutdown().await;
    drop(engine);
    let engine = open(directory).unwrap();
    assert_eq!(answer(&engine, "SELECT * FROM bad").await, "{\"n\":1,\"m\":2}\n");
    assert_eq!(answer(&engine, "SELECT name FROM weir.queries").await, "{\"name\":\"alone\"}\n");
    assert_eq!(answer(&engine, "SELECT c FROM alone").await, "{\"c\":4}\n");
    assert!(!directory.join("streams/1").exists());
    engine.shutdown().await;
}

/// Other versions of the program may have taken what this one does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_cannot_be_planned_rests_with_its_readers_and_the_server_starts() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("data");
    let engine = open(&directory).unwrap();
    answer(
        &engine,
        "CREATE STREAM s (n BIGINT); CREATE STREAM other (n BIGINT);
         CREATE TABLE gone (n BIGINT PRIMARY KEY);
         CREATE CONTINUOUS QUERY above AS SELECT n FROM s;
         CREATE CONTINUOUS QUERY base AS SELECT n FROM other;
         CREATE CONTINUOUS QUERY torn AS SELECT s.n FROM gone JOIN s USING (n);
         CREATE CONTINUOUS QUERY over_base AS SELECT n FROM base WHERE n IN (SELECT n FROM gone);
         CREATE OR REPLACE CONTINUOUS QUERY above AS SELECT torn.n FROM torn JOIN s USING (n);
         CREATE CONTINUOUS QUERY odd AS SELECT n FROM other;
         CREATE CONTINUOUS QUERY alone AS SELECT count(*) AS c FROM s;
         INSERT INTO gone VALUES (2), (3); INSERT INTO s VALUES (1), (2); FLUSH",
    )
    .await;
    let path = root.path().join("out");
    let sink = format!("CREATE SINK out FROM torn INTO FILE WITH (path = '{}')", path.display());
    answer(&engine, &sink).await;
    engine.shutdown().await;
    drop(engine);
    let catalog = || {
        let storage: Arc<dyn Storage> = Arc::new(DiskStorage::new(&directory));
        Store::open(&storage).unwrap()
    };
    let records = catalog().load();
    let record = |name: &str| records.iter().find(|record| record.name == name).unwrap().clone();
    catalog().remove(&[record("gone").id]).unwrap();
    let sql = "CREATE CONTINUOUS QUERY odd AS SELEKT n FROM other".into();
    catalog().put(&Record { sql, ..record("odd") }).unwrap();

    let engine = open(&directory).unwrap();
    what_rests_says_why(&engine).await;
    answer(&engine, "INSERT INTO s VALUES (3); FLUSH").await;
    assert_eq!(answer(&engine, "SELECT c FROM alone").await, "{\"c\":3}\n");
    engine.shutdown().await;
    drop(engine);

    // With what was missing they go on, over rows that came in the meantime and come now.
    for name in ["gone", "odd"] {
        catalog().put(&record(name)).unwrap();
    }
    let engine = open(&directory).unwrap();
    answer(&engine, "INSERT INTO s VALUES (2), (4); FLUSH; FLUSH SINK out").await;
    let torn = answer(&engine, "SELECT n FROM torn ORDER BY n").await;
    assert_eq!(torn, "{\"n\":2}\n{\"n\":2}\n{\"n\":3}\n");
    let above = answer(&engine, "SELECT n FROM above ORDER BY n").await;
    assert_eq!(above, "{\"n\":2}\n".repeat(4) + "{\"n\":3}\n");
    assert_eq!(answer(&engine, "SELECT c FROM alone").await, "{\"c\":5}\n");
    assert_eq!(answer(&engine, "SELECT name FROM weir.queries WHERE error IS NOT NULL").await, "");
    engine.shutdown().await;
    drop(engine);

    catalog().remove(&[record("gone").id]).unwrap();
    let engine = open(&directory).unwrap();
    refused(&engine, "DROP CONTINUOUS QUERY torn", "2BP01").await;
    answer(&engine, "DROP CONTINUOUS QUERY torn CASCADE; DROP QUERY over_base").await;
    answer(&engine, "CREATE TABLE gone (n BIGINT PRIMARY KEY)").await;
    let left = answer(&engine, "SELECT name FROM weir.queries ORDER BY name").await;
    assert_eq!(left, "{\"name\":\"alone\"}\n{\"name\":\"base\"}\n{\"name\":\"odd\"}\n");
    engine.shutdown().await;
}

async fn what_rests_says_why(engine: &Arc<Engine>) {
    let text = refused(engine, "SELECT * FROM torn", "42P01").await;
    assert!(text.contains("relation \"gone\" does not exist, while opening"), "{text}");
    assert!(text.contains("DROP CONTINUOUS QUERY torn CASCADE"), "{text}");
    for sql in ["SELECT * FROM above", "RESUME torn", "EXPLAIN torn", "FLUSH SINK out"] {
        let text = refused(engine, sql, "42P01").await;
        assert!(text.contains("relation \"gone\" does not exist"), "{sql}: {text}");
    }
    refused(engine, "SELECT * FROM odd", "42601").await;
    refused(engine, "CREATE CONTINUOUS QUERY more AS SELECT n FROM torn", "42P01").await;
    refused(engine, "CREATE CONTINUOUS QUERY torn AS SELECT n FROM s", "42P07").await;
    for taken in ["DROP STREAM s", "DROP STREAM other", "DROP CONTINUOUS QUERY base"] {
        refused(engine, taken, "2BP01").await;
    }
    what_they_would_not_know_is_refused(engine).await;
    let states = "SELECT name, substr(error, 1, 5) AS code FROM weir.queries ORDER BY name";
    let state = |name: &str, code: &str| format!("{{\"name\":\"{name}\",\"code\":{code}}}\n");
    let resting = [("above", "\"42P01\""), ("alone", "null"), ("base", "null")];
    let resting = resting.into_iter().chain([
        ("odd", "\"42601\""),
        ("over_base", "\"42P01\""),
        ("torn", "\"42P01\""),
    ]);
    let expected: String = resting.map(|(name, code)| state(name, code)).collect();
    assert_eq!(answer(engine, states).await, expected);
}

/// What rests would come back to something else than it had left.
async fn what_they_would_not_know_is_refused(engine: &Arc<Engine>) {
    refused(engine, "CREATE TABLE gone (n BIGINT PRIMARY KEY)", "2BP01").await;
    for sql in ["SELECT n AS m FROM other", "SELECT n FROM other WHERE n > 1"] {
        let replace = format!("CREATE OR REPLACE CONTINUOUS QUERY base AS {sql}");
        refused(engine, &replace, "2BP01").await;
    }
    refused(engine, "REBUILD CONTINUOUS QUERY base", "2BP01").await;
}
