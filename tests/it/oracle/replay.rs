//! Processes one log again and again, and compares the changelogs entry by entry.
//!
//! A first engine runs random queries while random rows come, cut into random requests, with
//! restarts and a clock that moves. Then its data directory is copied without changelogs and
//! snapshots: over the copy the same queries answer the same streams again, with steps of another
//! size, on another number of threads, with another number of shards, restarted in between. Another copy keeps its changelogs and
//! replays. A last engine gets the same rows, cut otherwise.
//!
//! What must be equal is what PRODUCT says in "Semantics, exactly", 5: answers that retract nothing,
//! or only correct closed windows, row by row; others after consolidation wherever two changelogs
//! stand at the same place of their inputs. That a replay regenerates every byte is checked by the
//! engine itself (`pipeline/recorded.rs`).
//!
//! `WEIR_REPLAY_CASES` says how many cases to run, `WEIR_REPLAY_SEED` with which seed to begin.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weir::catalog::persist::Store;
use weir::catalog::record::Kind;
use weir::decode::{Format, decoder};
use weir::encode::json::write_ndjson;
use weir::engine::{Engine, EngineSettings, IngestOrigin, OnSlow, SubscribeRequest};
use weir::log::storage::{DiskStorage, Storage};
use weir::log::{Log, LogOptions, sequence::Sequencer};
use weir::sql::statement::SubscribeFrom;
use weir::time::VirtualClock;
use weir::views::changelog::{Changelog, Layout};
use weir::views::entry_meta::EntryMeta;

use super::case::{Case, Emit, Outer, Window, name};
use super::rng::Rng;
use super::{generate, setting};
use crate::engines::{NOW, copy, ndjson, settings};

/// Cases of a plain `cargo test`.
const CASES: u64 = 25;
/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// One query of a case.
#[derive(Debug, Clone)]
struct Asked {
    name: String,
    sql: String,
    /// Its answers depend on when rows came, so on how they were cut into requests.
    by_clock: bool,
    /// Every byte is the same whatever the cuts, though rows are retracted.
    exact: bool,
    /// It reads a query.
    stacked: bool,
}

/// An entry of a changelog.
#[derive(Debug, PartialEq)]
struct Entry {
    /// Frame and offset per input.
    frontier: Vec<(u64, u64)>,
    /// Signed rows.
    rows: Vec<(i8, String)>,
}

#[derive(Debug, PartialEq)]
struct Answers {
    append_only: bool,
    entries: Vec<Entry>,
}

/// Queries of kinds that the naive oracle does not know, over `s` (with an event time), `u` (without) and
/// the table `d`.
fn more(rng: &mut Rng, case: &Case) -> Vec<Asked> {
    let width = |units: i64| case.time.width(units);
    let (small, large) = (rng.between(1, 8), rng.between(4, 30));
    let late = match rng.one_in(2) {
        true => String::new(),
        false => format!(" ALLOWED LATENESS {}", width(large)),
    };
    let windows = format!("TUMBLE(s, at, {})", width(large));
    let by = "GROUP BY window_start, window_end";
    // Kind of comparison: c by the clock, x exact, s stacked.
    let all: Vec<(&str, String)> = vec![
        ("", "SELECT DISTINCT c1 FROM s".into()),
        ("", "SELECT c1, count(*) AS n, grouping(c1) AS g FROM s GROUP BY ROLLUP (c1)".into()),
        ("", format!("SELECT window_start, c1, count(*) AS n FROM {windows} {by}, GROUPING SETS ((c1), ())")),
        ("x", format!("SELECT window_start, string_agg(c1, ',') AS x, first_value(c0) AS f, last_value(c0) AS l FROM {windows} {by}{late}")),
        ("x", format!("SELECT window_start, c1, array_agg(c0 ORDER BY c0 DESC) AS x FROM {windows} {by}, c1 EMIT ON CLOSE{late}")),
        ("", format!("SELECT window_start, count(*) AS n, sum(c0) AS t FROM {windows} {by} EMIT CHANGES{late}")),
        ("", format!("SELECT window_start, c1, count(*) AS n FROM HOP(s, at, {}, {}) {by}, c1 EMIT EVERY 2 ROWS ON CLOSE LATE EVERY ROW RETRACTING{late}", width(small), width(small * 3))),
        ("c", format!("SELECT window_start, count(*) AS n FROM {windows} {by} EMIT EVERY INTERVAL '1 second' ON CLOSE{late}")),
        ("", format!("SELECT window_start, window_end, c1, count(*) AS n, sum(c0) AS t FROM HOP(s, at, {}, {}, {}, {}) {by}, c1{late}", width(small), width(small * 3), width(large * 4), width(large * 4 + 1))),
        ("", format!("SELECT window_start, window_end, c1, count(*) AS n FROM SESSION(s, at, {}, PARTITION => c1, MAX => {}) {by}, c1{late}", width(small), width(large))),
        ("c", "SELECT window_id, count(*) AS n FROM COUNT_WINDOW(s, 4, TIMEOUT => INTERVAL '2' SECOND) GROUP BY window_id".into()),
        ("", "SELECT window_id, c1, count(*) AS n FROM COUNT_WINDOW(s, 3, SLIDE => 2, PARTITION => c1, PARTIAL => true) GROUP BY window_id, c1".into()),
        ("", format!("SELECT window_id, count(*) AS n FROM COUNT_WINDOW(s, {small}, ORDER => at, TIES => 'together') GROUP BY window_id")),
        ("c", "SELECT window_id, window_reason, count(*) AS n FROM PUNCTUATION_WINDOW(s, END => c0 > 5, MAX_ROWS => 6, IDLE => INTERVAL '2' SECOND) GROUP BY window_id, window_reason".into()),
        ("x", format!("SELECT window_id, window_reason, c1, array_agg(c0) AS x FROM PUNCTUATION_WINDOW(s, PARTITION => c1, END => c0 > 5, MAX_DURATION => {}) GROUP BY window_id, window_reason, c1{late}", width(large))),
        ("", format!("SELECT window_end, count(*) AS n FROM CUMULATE(s, at, {}, {}) GROUP BY window_end HAVING count(*) > 1", width(small), width(small * 4))),
        ("", "SELECT c1, approx_distinct(c0) AS d, stddev(c0) AS x, median(c0) AS m FROM s GROUP BY c1".into()),
        ("c", "SELECT window_start, count(*) AS n FROM TUMBLE(u, _ingest_time, INTERVAL '3' SECOND) GROUP BY window_start, window_end".into()),
        ("c", "SELECT c1, now() AS t, _ingest_time AS i FROM s".into()),
        ("", "SELECT c1, count(*) AS n FROM (SELECT c1 FROM s UNION ALL SELECT c1 FROM u) AS b GROUP BY c1".into()),
        ("", "SELECT c1, 1 AS w FROM s UNION ALL SELECT c1, 2 AS w FROM u".into()),
        ("", "SELECT v, count(*) AS n, max(k) AS m FROM d GROUP BY v".into()),
        ("", "SELECT v, count(*) AS n FROM (SELECT v FROM d UNION ALL SELECT c1 AS v FROM s) AS b GROUP BY v".into()),
        ("", "SELECT x, count(*) AS n FROM (SELECT unnest(make_array(c1, 'z')) AS x FROM s) AS b GROUP BY x".into()),
        ("", "SELECT c1, upper(c1) AS x, _offset AS o, _late AS z FROM s WHERE c0 IS NOT NULL".into()),
        ("", format!("SELECT window_start, c1, c0 FROM {windows} WHERE c0 IS NOT NULL{late}")),
        ("", "SELECT count(*) AS n, sum(c0) AS t FROM s EMIT EVERY 3 ROWS".into()),
        ("s", "SELECT count(*) AS n FROM q0".into()),
        ("s", "SELECT * FROM q0".into()),
    ];
    let mut asked = Vec::new();
    for index in 0..1 + rng.index(3) {
        let (kind, sql) = rng.pick(&all);
        asked.push(Asked {
            name: format!("w{index}"),
            sql: format!("CREATE CONTINUOUS QUERY w{index} AS {sql}"),
            by_clock: kind == "c",
            exact: kind == "x",
            stacked: kind == "s",
        });
    }
    asked
}

fn questions(rng: &mut Rng, case: &Case) -> Vec<Asked> {
    let query = &case.query;
    let closes =
        query.emit == Emit::Default && !matches!(query.window, Window::None | Window::Stateless);
    let mut asked = vec![Asked {
        name: "q0".into(),
        sql: case.create_query(),
        by_clock: false,
        exact: closes,
        stacked: false,
    }];
    if let Some(sql) = case.create_outer() {
        let stacked = !matches!(query.outer, Some(Outer::Inline(_)));
        asked.push(Asked { name: "q1".into(), sql, by_clock: false, exact: false, stacked });
    }
    asked.extend(more(rng, case));
    asked
}

struct Again<'a> {
    case: &'a Case,
    asked: Vec<Asked>,
    rng: Rng,
    clock: Arc<VirtualClock>,
    engine: Option<Arc<Engine>>,
}

impl Again<'_> {
    fn open(&mut self, directory: &Path) -> Result<(), String> {
        let chosen = EngineSettings {
            query_threads: self.rng.pick(&[1, 2, 4]),
            shards: self.rng.pick(&[1, 2, 3, 4]),
            shards_from: self.rng.pick(&[(0, 0), (0, 4), (3, 0)]),
            step_rows: self.rng.pick(&[1, 2, 5, 20, 65_536]),
            snapshot_interval: self.rng.pick(&[0, 3_000_000, i64::MAX]),
            ..settings(directory)
        };
        let opened = Engine::open(chosen, Arc::clone(&self.clock) as _);
        self.engine = Some(opened.map_err(|error| format!("open: {error}"))?);
        Ok(())
    }

    async fn close(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.shutdown().await;
        }
    }

    fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().expect("it is open")
    }

    /// The answer as NDJSON, or the code and the message.
    async fn try_execute(&self, sql: &str) -> Result<String, (String, String)> {
        let execution = self.engine().execute(sql).await;
        if let Some(error) = &execution.error {
            return Err((error.code().0.to_string(), format!("{sql}\n{error}")));
        }
        Ok(ndjson(execution.results.last()))
    }

    async fn execute(&self, sql: &str) -> Result<String, String> {
        self.try_execute(sql).await.map_err(|(_, message)| message)
    }

    async fn create(&mut self) -> Result<(), String> {
        let columns: Vec<String> = self
            .case
            .columns
            .iter()
            .take(2)
            .map(|column| format!("{} {}", column.name, column.kind.sql_type()))
            .collect();
        for stream in 0..self.case.streams() {
            self.execute(&self.case.create_stream(stream)).await?;
        }
        self.execute(&format!(
            "CREATE STREAM u ({}) WITH (durability = 'written')",
            columns.join(", ")
        ))
        .await?;
        self.execute("CREATE TABLE d (k BIGINT PRIMARY KEY, v TEXT)").await?;
        let mut kept = Vec::new();
        for asked in std::mem::take(&mut self.asked) {
            match self.try_execute(&asked.sql).await {
                Ok(_) => kept.push(asked),
                // What a query may read depends on the other one: not every pair fits.
                Err((code, _)) if ["WR001", "WR003", "0A000"].contains(&code.as_str()) => {}
                Err((_, message)) => return Err(message),
            }
        }
        self.asked = kept;
        Ok(())
    }

    /// Sends the rows in pieces, and other rows to `u` and `d`; the order over all of them is the case's.
    async fn feed(&mut self, directory: &Path) -> Result<(), String> {
        let rows = &self.case.rows;
        let longest = self.rng.pick(&[1, 3, 10, 200]);
        let mut start = 0;
        while start < rows.len() {
            // What stands between rows must stand between the same rows in every run.
            let limit = 7 - start % 7;
            let stream = rows[start].stream;
            let same = rows[start..].iter().take_while(|row| row.stream == stream).count();
            let length = (1 + self.rng.index(longest)).min(same).min(limit);
            self.ingest(name(stream), self.case.ndjson(&rows[start..start + length])).await?;
            start += length;
            self.clock.advance(self.rng.between(0, 2_000_000));
            if start.is_multiple_of(7) {
                self.aside(start).await?;
            }
            if self.rng.one_in(4) {
                self.execute("FLUSH").await?;
            }
            if self.rng.one_in(3) {
                self.tick().await?;
            }
            if self.rng.one_in(12) {
                self.close().await;
                self.open(directory)?;
            }
        }
        Ok(())
    }

    /// A row for `u` and a change of `d`, by the place in the case.
    async fn aside(&self, place: usize) -> Result<(), String> {
        let row = &self.case.rows[place - 1];
        let mut object = serde_json::Map::new();
        for (column, value) in self.case.columns.iter().zip(&row.values).take(2) {
            object.insert(column.name.clone(), value.json());
        }
        self.ingest("u", serde_json::Value::Object(object).to_string().into_bytes()).await?;
        let key = place % 5;
        let statement =
            match self.execute(&format!("SELECT k FROM d WHERE k = {key}")).await?.as_str() {
                "" => format!("INSERT INTO d VALUES ({key}, 'v{}')", place % 3),
                _ if place.is_multiple_of(2) => format!("DELETE FROM d WHERE k = {key}"),
                _ => format!("UPDATE d SET v = 'w{}' WHERE k = {key}", place % 4),
            };
        self.execute(&statement).await.map(drop)
    }

    async fn ingest(&self, stream: &str, text: Vec<u8>) -> Result<(), String> {
        let handle = self.engine().stream(stream).map_err(|e| e.to_string())?;
        let decoded = decoder(Format::NdJson, handle.decode_spec()).decode(&text, 1);
        let receipt = handle.ingest(decoded, None, IngestOrigin::default()).await;
        let receipt = receipt.map_err(|error| format!("ingest: {error}"))?;
        match receipt.rejected {
            0 => Ok(()),
            _ => Err(format!("rows are refused: {:?}", receipt.errors)),
        }
    }

    async fn tick(&self) -> Result<(), String> {
        let engine = Arc::clone(self.engine());
        let ticked = tokio::task::spawn_blocking(move || engine.run_timers().map(drop)).await;
        ticked.unwrap().map_err(|error| error.to_string())
    }

    async fn end(&mut self) -> Result<(), String> {
        // Timeouts pass.
        self.clock.advance(60_000_000);
        for _ in 0..2 {
            self.execute("FLUSH").await?;
            self.tick().await?;
        }
        for stream in 0..self.case.streams() {
            let end = if self.case.time.logical { "100000000" } else { "TIMESTAMP '2100-01-01'" };
            self.execute(&format!("PUNCTUATE {} WHERE at < {end}", name(stream))).await?;
        }
        self.flush().await
    }

    async fn flush(&self) -> Result<(), String> {
        self.execute("FLUSH").await?;
        let sql = "SELECT name, status, error FROM weir.queries WHERE status <> 'running'
                   UNION ALL SELECT relation, code, reason FROM weir.dead_letters";
        match self.execute(sql).await?.as_str() {
            "" => Ok(()),
            text => Err(format!("not all is well: {text}")),
        }
    }

    /// Ends the engine and reads the changelogs in its directory.
    async fn answers(&mut self, directory: &Path) -> Result<Vec<Answers>, String> {
        let request = || SubscribeRequest {
            from: SubscribeFrom::Earliest,
            snapshot: false,
            on_slow: OnSlow::Block,
        };
        let mut hellos = Vec::new();
        for asked in &self.asked {
            let subscription = self.engine().subscribe(&asked.name, request());
            let subscription = subscription.map_err(|error| error.to_string())?;
            hellos.push(subscription.hello().clone());
        }
        self.close().await;
        let disk: Arc<dyn Storage> = Arc::new(DiskStorage::new(directory));
        let records = Store::open(&disk).unwrap().load();
        let mut answers = Vec::new();
        for (asked, hello) in self.asked.iter().zip(hellos) {
            let record = records.iter().find(|r| r.kind == Kind::Query && r.name == asked.name);
            let id = record.ok_or_else(|| format!("{} is gone", asked.name))?.id;
            let changelog = [(false, false), (true, false), (false, true), (true, true)]
                .into_iter()
                .find_map(|(weights, arrivals)| {
                    let layout = Layout { weights, arrivals };
                    let sequencer = Arc::new(Sequencer::new(Arc::clone(&self.clock) as _, 0, 0));
                    let log = Log::open(
                        Arc::new(DiskStorage::new(directory)),
                        &format!("queries/{id}"),
                        layout.log_schema(&hello.schema),
                        LogOptions::default(),
                        sequencer,
                    );
                    Some(Changelog::new(Arc::new(log.ok()?), Arc::clone(&hello.schema), layout))
                });
            let changelog =
                changelog.ok_or_else(|| format!("changelog of {} is odd", asked.name))?;
            answers.push(Answers { append_only: hello.append_only, entries: entries(&changelog)? });
        }
        Ok(answers)
    }
}

fn entries(changelog: &Changelog) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    let mut position = changelog.start();
    while position.frame < changelog.log().visible().frame {
        for frame in changelog.read(position, 1000).map_err(|error| error.to_string())? {
            position =
                weir::log::frame::Position { frame: frame.index + 1, offset: frame.next_offset() };
            let meta = EntryMeta::decode(&frame.meta).ok_or("an entry has no frontier")?;
            let frontier = meta.frontier.iter().map(|at| (at.frame, at.offset)).collect();
            let mut rows = Vec::new();
            if let Some(entry) = changelog.entry(&frame) {
                let mut text = Vec::new();
                write_ndjson(&entry.batch, &mut text);
                let text = String::from_utf8(text).unwrap();
                let sign = |row| if entry.weight(row) < 0 { -1 } else { 1 };
                rows.extend(text.lines().enumerate().map(|(row, line)| (sign(row), line.into())));
            }
            entries.push(Entry { frontier, rows });
        }
    }
    Ok(entries)
}

/// The consolidated answer at each place of the inputs where an entry ends, and at the end.
fn results(answers: &Answers, frames: bool) -> BTreeMap<Vec<(u64, u64)>, BTreeMap<&str, i64>> {
    let mut net: BTreeMap<&str, i64> = BTreeMap::new();
    let mut results = BTreeMap::new();
    for entry in &answers.entries {
        for (weight, row) in &entry.rows {
            *net.entry(row.as_str()).or_default() += i64::from(*weight);
        }
        net.retain(|_, weight| *weight != 0);
        let place = |at: &(u64, u64)| if frames { *at } else { (0, at.1) };
        results.insert(entry.frontier.iter().map(place).collect(), net.clone());
    }
    results
}

/// Compares two changelogs of a query; gives the number of places that both stand at.
fn compare(asked: &Asked, one: &Answers, other: &Answers, same_log: bool) -> Result<usize, String> {
    let rows = |answers: &Answers| -> Vec<(i8, String)> {
        answers.entries.iter().flat_map(|entry| entry.rows.clone()).collect()
    };
    let fail = |what: &str, one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
        Err(format!("{what} of {}: {}\n{one:?}\n{other:?}", asked.name, asked.sql))
    };
    if one.append_only != other.append_only {
        return fail("append_only", &one.append_only, &other.append_only);
    }
    if (one.append_only || asked.exact) && rows(one) != rows(other) {
        return fail("rows", &rows(one), &rows(other));
    }
    let frames = same_log && !asked.stacked;
    let (ours, theirs) = (results(one, frames), results(other, frames));
    let end = |answers: &Answers| {
        let mut net: BTreeMap<String, i64> = BTreeMap::new();
        for (weight, row) in rows(answers) {
            *net.entry(row).or_default() += i64::from(weight);
        }
        net.retain(|_, weight| *weight != 0);
        net
    };
    let (last, other_last) = (end(one), end(other));
    if last != other_last {
        return fail("result", &last, &other_last);
    }
    // Places in the changelog of another query are those of one run.
    if asked.stacked {
        return Ok(0);
    }
    let places: BTreeSet<_> = ours.keys().collect();
    let common = places.into_iter().filter(|place| theirs.contains_key(*place));
    let mut count = 0;
    for place in common {
        count += 1;
        if ours[place] != theirs[place] {
            return fail(&format!("result at {place:?}"), &ours[place], &theirs[place]);
        }
    }
    Ok(count)
}

/// How much was compared.
#[derive(Debug, Default)]
struct Compared {
    queries: usize,
    places: usize,
    runs: usize,
}

/// Leaves logs as they are before their first frame, and no snapshots.
fn empty_all(folder: &Path) {
    for log in std::fs::read_dir(folder).into_iter().flatten() {
        let log = log.unwrap().path();
        std::fs::remove_dir_all(&log).unwrap();
        std::fs::create_dir(&log).unwrap();
        std::fs::write(log.join("mark"), []).unwrap();
    }
}

async fn check(case: &Case, compared: &mut Compared) -> Result<(), String> {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    let mut rng = Rng::new(case.seed ^ 0x5e_ed);
    let asked = questions(&mut rng, case);
    let new = |seed: u64, asked: &[Asked]| Again {
        case,
        asked: asked.to_vec(),
        rng: Rng::new(case.seed ^ seed),
        clock: Arc::new(VirtualClock::new(NOW)),
        engine: None,
    };
    let mut first = new(1, &asked);
    first.open(&path("first"))?;
    first.create().await?;
    first.feed(&path("first")).await?;
    first.end().await?;
    let expected = first.answers(&path("first")).await?;
    let asked = first.asked.clone();
    let now = weir::time::Clock::now(&*first.clock);

    for (run, without) in [
        (2, &["queries", "snapshots"][..]),
        (3, &["queries", "snapshots"]),
        (4, &["snapshots"]),
        (5, &[]),
    ] {
        let directory = path(&format!("copy {run}"));
        copy(&path("first"), &directory);
        without.iter().for_each(|folder| empty_all(&directory.join(folder)));
        let mut again = new(run, &asked);
        again.clock = Arc::new(VirtualClock::new(now));
        for _ in 0..again.rng.index(3) {
            again.open(&directory)?;
            let wait = Duration::from_micros(again.rng.index(3_000) as u64);
            // Whether it comes to an end is chance.
            drop(tokio::time::timeout(wait, again.execute("FLUSH")).await);
            again.close().await;
        }
        again.open(&directory)?;
        again.flush().await?;
        let answers = again.answers(&directory).await?;
        compared.runs += 1;
        for ((asked, one), other) in asked.iter().zip(&expected).zip(&answers) {
            compared.places += compare(asked, one, other, true)?;
            if !without.contains(&"queries") && one != other {
                return Err(format!("the changelog of {} changed by a restart", asked.name));
            }
        }
    }

    let mut other = new(6, &asked);
    other.open(&path("other"))?;
    other.create().await?;
    other.feed(&path("other")).await?;
    other.end().await?;
    let answers = other.answers(&path("other")).await?;
    compared.runs += 1;
    compared.queries += asked.len();
    for ((asked, one), other) in asked.iter().zip(&expected).zip(&answers) {
        if !asked.by_clock {
            compared.places += compare(asked, one, other, false)?;
        }
    }
    Ok(())
}

#[test]
fn a_log_that_is_processed_again_gives_the_same_changelogs() {
    let (first, cases) = (setting("WEIR_REPLAY_SEED", 1), setting("WEIR_REPLAY_CASES", CASES));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut compared = Compared::default();
    for seed in first..first + cases {
        let case = generate::case(seed);
        let work = async { tokio::time::timeout(PATIENCE, check(&case, &mut compared)).await };
        let outcome = runtime.block_on(work).unwrap_or_else(|_| Err("hangs".into()));
        if let Err(failure) = outcome {
            panic!("WEIR_REPLAY_SEED={seed} WEIR_REPLAY_CASES=1\n{failure}\n{}", case.script());
        }
    }
    println!("{cases} cases: {compared:?}");
    assert!(compared.places > compared.queries, "too little to compare: {compared:?}");
}
