//! Compares everything that mines a stream with exact counts, over windows that share rows, with rows that come late
//! and out of order, cut and restarted at random.
//!
//! `WEIR_MINING_CASES` says how many cases to run, `WEIR_MINING_SEED` with which seed to begin.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value as Json;
use weir::decode::{Format, decoder};
use weir::engine::{Engine, EngineSettings, IngestOrigin};
use weir::time::VirtualClock;

use crate::engines::{self, NOW, open_with, settings};
use crate::oracle::Rng;

const CASES: u64 = 6;

/// What sticky sampling is allowed to get wrong.
const FAILURE: f64 = 0.2;

#[derive(Debug, Clone)]
struct Row {
    item: i64,
    tags: Vec<i64>,
    grp: i64,
    weight: i64,
    at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    Tumble {
        size: i64,
    },
    Hop {
        slide: i64,
        size: i64,
    },
    /// Windows of two sizes.
    Horizons {
        slide: i64,
        small: i64,
        size: i64,
    },
    Cumulate {
        step: i64,
        size: i64,
    },
}

#[derive(Debug)]
struct Case {
    rows: Vec<Row>,
    window: Window,
    /// How far the watermark lags behind.
    bound: i64,
    lateness: i64,
}

impl Window {
    fn sql(self, relation: &str) -> String {
        match self {
            Window::Tumble { size } => format!("TUMBLE({relation}, at, {size})"),
            Window::Hop { slide, size } => format!("HOP({relation}, at, {slide}, {size})"),
            Window::Horizons { slide, small, size } => {
                format!("HOP({relation}, at, {slide}, {size}, {small})")
            }
            Window::Cumulate { step, size } => format!("CUMULATE({relation}, at, {step}, {size})"),
        }
    }

    fn size(self) -> i64 {
        match self {
            Window::Tumble { size }
            | Window::Hop { size, .. }
            | Window::Horizons { size, .. }
            | Window::Cumulate { size, .. } => size,
        }
    }

    /// With which window TREND compares: the one before, which is the same as that so far back.
    fn before(self) -> String {
        match self {
            Window::Horizons { size, .. } => size.to_string(),
            _ => "'previous'".to_string(),
        }
    }

    /// The windows over a time.
    fn of(self, at: i64) -> Vec<(i64, i64)> {
        match self {
            Window::Tumble { size } => {
                let start = at.div_euclid(size) * size;
                vec![(start, start + size)]
            }
            Window::Hop { slide, size } => ((at - size).div_euclid(slide)..=at.div_euclid(slide))
                .map(|k| (k * slide, k * slide + size))
                .filter(|(start, end)| *start <= at && at < *end)
                .collect(),
            Window::Horizons { slide, small, size } => [small, size]
                .into_iter()
                .flat_map(|size| Window::Hop { slide, size }.of(at))
                .collect(),
            Window::Cumulate { step, size } => {
                let start = at.div_euclid(size) * size;
                let ends = (1..=size / step).map(|k| start + k * step);
                ends.filter(|end| at < *end).map(|end| (start, end)).collect()
            }
        }
    }
}

fn case(seed: u64) -> Case {
    let mut rng = Rng::new(seed);
    let slide = rng.between(3, 9);
    let window = match rng.index(4) {
        0 => Window::Tumble { size: slide * 3 },
        1 => Window::Cumulate { step: slide, size: slide * rng.between(2, 5) },
        // Sizes that slides do not divide, too.
        _ => match slide * rng.between(1, 5) + rng.between(0, slide) {
            size if size % 2 == 0 => Window::Horizons { slide, small: size / 2, size },
            size => Window::Hop { slide, size },
        },
    };
    let (bound, lateness) = (rng.pick(&[0, 2, 10]), rng.pick(&[0, 0, 5, 20]));
    let disorder = rng.pick(&[1, 4, 25]);
    let mut now = 1_000;
    let rows = (0..rng.between(100, 500)).map(|_| {
        now += i64::from(rng.one_in(6));
        let item = match rng.index(3) {
            0 => rng.between(0, 3),
            1 => rng.between(0, 12),
            _ => rng.between(0, 400),
        };
        let tags = (0..rng.index(4)).map(|_| rng.between(0, 5)).collect();
        let weight = rng.pick(&[0, 1, 1, 3, 20, 60]);
        Row { item, tags, grp: rng.between(0, 2), weight, at: now - rng.between(0, disorder) }
    });
    Case { rows: rows.collect(), window, bound, lateness }
}

/// A window and a group.
type Key = (i64, i64, i64);

impl Case {
    /// The rows of each window, and those of the windows before it that lie `distance` back: a pair of row and window
    /// counts unless the watermark has passed the window's end by the lateness when the row comes.
    fn pairs(&self, distance: i64) -> BTreeMap<(i64, i64), Vec<&Row>> {
        let mut pairs: BTreeMap<(i64, i64), Vec<&Row>> = BTreeMap::new();
        let mut watermark = i64::MIN;
        for row in &self.rows {
            for (start, end) in self.window.of(row.at + distance) {
                if watermark < end + self.lateness {
                    pairs.entry((start, end)).or_default().push(row);
                }
            }
            watermark = watermark.max(row.at - self.bound);
        }
        pairs
    }

    /// Whether a row came too late for some of its windows and not for others. Where rows are shared by windows
    /// its slice is cut in two then.
    fn cuts_slices(&self) -> bool {
        let mut watermark = i64::MIN;
        self.rows.iter().any(|row| {
            let windows: Vec<bool> = [0, self.window.size()]
                .iter()
                .flat_map(|distance| self.window.of(row.at + distance))
                .map(|(_, end)| watermark < end + self.lateness)
                .collect();
            watermark = watermark.max(row.at - self.bound);
            windows.contains(&true) && windows.contains(&false)
        })
    }

    fn groups(&self) -> BTreeMap<Key, Vec<&Row>> {
        let mut groups: BTreeMap<Key, Vec<&Row>> = BTreeMap::new();
        for ((start, end), rows) in self.pairs(0) {
            for row in rows {
                groups.entry((start, end, row.grp)).or_default().push(row);
            }
        }
        groups
    }

    fn queries(&self) -> Vec<(&'static str, String)> {
        let (window, before) = (self.window.sql("s"), self.window.before());
        let hitters = |more: &str| {
            format!("SELECT * FROM HEAVY_HITTERS({window}, ITEM => item, BY => grp, {more})")
        };
        let both = "SUPPORT => 0.2, ERROR => 0.1";
        vec![
            ("lossy", hitters(both)),
            ("saving", hitters(&format!("{both}, ALGORITHM => 'space_saving'"))),
            ("exact", hitters(&format!("{both}, ALGORITHM => 'exact'"))),
            ("heavy", hitters(&format!("{both}, WEIGHT => weight"))),
            (
                "sticky",
                hitters(&format!(
                    "SUPPORT => 0.2, ERROR => 0.19, ALGORITHM => 'sticky_sampling', FAILURE => {FAILURE}, WEIGHT => weight"
                )),
            ),
            (
                "sets",
                format!(
                    "SELECT * FROM FREQUENT_ITEMSETS({window}, ITEMS => tags, BY => grp, SUPPORT => 0.3, ERROR => 0.2)"
                ),
            ),
            (
                "rising",
                format!(
                    "SELECT * FROM TREND({window}, ITEM => item, COMPARE_TO => {before}, MIN_RATIO => 1)"
                ),
            ),
            (
                "counted",
                format!(
                    "SELECT window_start, window_end, approx_count_distinct_bounds(item) AS items,
                    count_distinct_except(item, grp = 0, grp = 1) AS only,
                    count_distinct_where(item, ever(grp = 0) AND NOT (ever(grp = 1) OR ever(weight = 0))) AS chosen,
                    count_distinct_where(item, NOT ever(weight = 0)) AS never,
                    approx_quantile_bounds(item, 0.5) AS median
                    FROM {window} GROUP BY window_start, window_end"
                ),
            ),
        ]
    }
}

fn open(directory: &Path, clock: &Arc<VirtualClock>, often: bool) -> Arc<Engine> {
    let chosen = EngineSettings {
        query_threads: 2,
        snapshot_interval: if often { 0 } else { i64::MAX },
        ..settings(directory)
    };
    open_with(chosen, clock)
}

async fn rows(engine: &Arc<Engine>, sql: &str) -> Vec<Json> {
    let text = engines::rows(engine, sql).await;
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Answers by query, sorted; each query once as its windows close, and once with every change.
type Answers = BTreeMap<String, Vec<String>>;

async fn run(case: &Case, seed: u64) -> Answers {
    let mut rng = Rng::new(seed);
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(VirtualClock::new(NOW));
    let mut engine = open(directory.path(), &clock, true);
    let create = format!(
        "CREATE STREAM s (item BIGINT, tags BIGINT[], grp BIGINT, weight BIGINT, at BIGINT, WATERMARK FOR at AS at - {})",
        case.bound
    );
    rows(&engine, &create).await;
    let mut names = Vec::new();
    for (name, sql) in case.queries() {
        for (suffix, emit) in [("", ""), ("_changing", "EMIT CHANGES ")] {
            let name = format!("{name}{suffix}");
            let lateness = case.lateness;
            let create = format!(
                "CREATE CONTINUOUS QUERY {name} AS {sql} {emit}ALLOWED LATENESS {lateness}"
            );
            rows(&engine, &create).await;
            names.push(name);
        }
    }
    let longest = rng.pick(&[1, 7, 100]);
    let mut start = 0;
    while start < case.rows.len() {
        let end = (start + 1 + rng.index(longest)).min(case.rows.len());
        let line = |row: &Row| {
            let Row { item, tags, grp, weight, at } = row;
            format!(
                "{{\"item\":{item},\"tags\":{tags:?},\"grp\":{grp},\"weight\":{weight},\"at\":{at}}}\n"
            )
        };
        let text: String = case.rows[start..end].iter().map(line).collect();
        let stream = engine.stream("s").unwrap();
        let decoded = decoder(Format::NdJson, stream.decode_spec()).decode(text.as_bytes(), 1);
        let receipt = stream.ingest(decoded, None, IngestOrigin::default()).await.unwrap();
        assert_eq!(receipt.rejected, 0, "{:?}", receipt.errors);
        drop(stream);
        start = end;
        if rng.one_in(40) {
            engine.shutdown().await;
            drop(engine);
            engine = open(directory.path(), &clock, rng.one_in(2));
        }
    }
    rows(&engine, "PUNCTUATE s WHERE at < 1000000").await;
    rows(&engine, "FLUSH").await;
    let failed = rows(&engine, "SELECT relation, code, reason FROM weir.dead_letters").await;
    assert!(failed.is_empty(), "{failed:?}");
    let mut answers = Answers::new();
    for name in names {
        let found = rows(&engine, &format!("SELECT * FROM {name}")).await;
        let mut lines: Vec<String> = found.iter().map(Json::to_string).collect();
        lines.sort();
        answers.insert(name, lines);
    }
    engine.shutdown().await;
    answers
}

fn number(row: &Json, name: &str) -> i64 {
    row[name].as_i64().unwrap_or_else(|| panic!("{name} of {row}"))
}

fn parsed(answers: &Answers, name: &str) -> Vec<Json> {
    answers[name].iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How much of each thing there is in each group.
type Truth = BTreeMap<Key, (i64, BTreeMap<String, i64>)>;

/// What may be promised of a frequent thing, and a number of groups that lack one.
#[derive(Default, Debug)]
struct Tally {
    groups: u64,
    answers: u64,
    failed: u64,
}

/// Checks the bounds of all answers; where `sure` nothing may be missing either.
fn check_bounds(
    answers: &[Json],
    truth: &Truth,
    thing: impl Fn(&Json) -> String,
    (support, error, sure): (f64, f64, bool),
    tally: &mut Tally,
) {
    let mut found: BTreeMap<Key, BTreeSet<String>> = BTreeMap::new();
    for answer in answers {
        let [start, end, grp, lower, estimate, upper, rows] = [
            "window_start",
            "window_end",
            "grp",
            "count_lower",
            "count_estimate",
            "count_upper",
            "group_rows",
        ]
        .map(|name| number(answer, name));
        let (total, counts) = &truth[&(start, end, grp)];
        let thing = thing(answer);
        let count = counts.get(&thing).copied().unwrap_or_default();
        let share = |part: f64| part * *total as f64;
        assert_eq!(rows, *total, "{answer}");
        assert!(lower <= count && lower <= estimate && estimate <= upper, "{answer} is {count}");
        assert!(count <= upper || !sure, "{answer} is {count}");
        assert!(!sure || (upper - lower) as f64 <= share(error) + 1e-6, "{answer}");
        assert!(count as f64 >= share(support - error) - 1e-6, "{answer} is {count}");
        let guaranteed = answer["guaranteed"].as_bool().unwrap();
        assert!(!guaranteed || count as f64 >= share(support) - 1e-6, "{answer} is {count}");
        tally.answers += 1;
        assert!(found.entry((start, end, grp)).or_default().insert(thing), "{answer} twice");
    }
    for (key, (total, counts)) in truth {
        let frequent = |count: &i64| *count > 0 && *count as f64 >= support * *total as f64;
        let is_found = |thing: &String| found.get(key).is_some_and(|found| found.contains(thing));
        let missing = counts.iter().find(|(thing, count)| frequent(count) && !is_found(thing));
        assert!(!sure || missing.is_none(), "{missing:?} of {total} in {key:?} is missing");
        tally.groups += 1;
        tally.failed += u64::from(missing.is_some());
    }
}

fn truth_of(
    groups: &BTreeMap<Key, Vec<&Row>>,
    things: impl Fn(&Row) -> Vec<(String, i64)>,
    size: impl Fn(&Row) -> i64,
) -> Truth {
    let of_group = |rows: &Vec<&Row>| {
        let mut counts = BTreeMap::new();
        for (thing, count) in rows.iter().flat_map(|row| things(row)) {
            *counts.entry(thing).or_default() += count;
        }
        (rows.iter().map(|row| size(row)).sum(), counts)
    };
    groups.iter().map(|(key, rows)| (*key, of_group(rows))).collect()
}

/// All sets of up to three different tags.
fn sets_of(tags: &[i64]) -> Vec<(String, i64)> {
    let tags: Vec<i64> = tags.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    (1_u32..1 << tags.len())
        .filter(|chosen| chosen.count_ones() <= 3)
        .map(|chosen| {
            let set: Vec<i64> =
                (0..tags.len()).filter(|at| chosen >> at & 1 == 1).map(|at| tags[at]).collect();
            (Json::from(set).to_string(), 1)
        })
        .collect()
}

fn check_trend(case: &Case, answers: &[Json]) {
    let (now, before) = (case.pairs(0), case.pairs(case.window.size()));
    let mut expected = BTreeSet::new();
    for (window, rows) in &now {
        let Some(earlier) = before.get(window) else { continue };
        let count = |rows: &[&Row], item: i64| rows.iter().filter(|row| row.item == item).count();
        for item in rows.iter().map(|row| row.item).collect::<BTreeSet<_>>() {
            let (now, before) = (count(rows, item), count(earlier, item));
            if now > before {
                expected.insert((window.0, window.1, item, before as i64, now as i64));
            }
        }
    }
    let found: BTreeSet<_> = answers
        .iter()
        .map(|row| {
            let [start, end, item, before, now] =
                ["window_start", "window_end", "item", "count_before", "count_now"]
                    .map(|name| number(row, name));
            (start, end, item, before, now)
        })
        .collect();
    assert_eq!(found, expected);
}

fn check_counts(case: &Case, answers: &[Json]) {
    let windows = case.pairs(0);
    assert_eq!(answers.len(), windows.len());
    for answer in answers {
        let rows = &windows[&(number(answer, "window_start"), number(answer, "window_end"))];
        let items = |keep: &dyn Fn(&Row) -> bool| -> BTreeSet<i64> {
            rows.iter().filter(|row| keep(row)).map(|row| row.item).collect()
        };
        let all = items(&|_| true);
        let [zero, one, light] =
            [items(&|row| row.grp == 0), items(&|row| row.grp == 1), items(&|row| row.weight == 0)];
        let chosen = zero.iter().filter(|item| !one.contains(item) && !light.contains(item));
        for (name, exact) in [
            ("items", all.len()),
            ("only", zero.difference(&one).count()),
            ("chosen", chosen.count()),
            ("never", all.difference(&light).count()),
        ] {
            // So few values are counted exactly.
            let found = ["lower", "estimate", "upper"].map(|part| number(&answer[name], part));
            assert_eq!(found, [exact as i64; 3], "{name} of {answer}");
        }
        let mut sorted: Vec<i64> = rows.iter().map(|row| row.item).collect();
        sorted.sort_unstable();
        let median = sorted[sorted.len().div_ceil(2) - 1];
        let [lower, upper] = ["lower", "upper"].map(|part| number(&answer["median"], part));
        assert!(lower <= median && median <= upper, "{answer} of median {median}");
    }
}

/// Checks the answers of the queries whose names end so.
fn check(
    case: &Case,
    answers: &Answers,
    ending: &str,
    tallies: &mut BTreeMap<&'static str, Tally>,
) {
    let groups = case.groups();
    let parsed = |name: &str| parsed(answers, &format!("{name}{ending}"));
    let item = |row: &Row| vec![(row.item.to_string(), 1)];
    let weighed = |row: &Row| vec![(row.item.to_string(), row.weight)];
    let mut of_item = |name: &'static str, truth: &Truth, promise: (f64, f64, bool)| {
        let shown = |answer: &Json| answer["item"].to_string();
        let tally = tallies.entry(name).or_default();
        check_bounds(&parsed(name), truth, shown, promise, tally);
    };
    let plain = truth_of(&groups, item, |_| 1);
    let heavy = truth_of(&groups, weighed, |row| row.weight);
    for name in ["lossy", "saving", "exact"] {
        of_item(name, &plain, (0.2, 0.1, true));
    }
    of_item("heavy", &heavy, (0.2, 0.1, true));
    of_item("sticky", &heavy, (0.2, 0.19, false));
    let sets = truth_of(&groups, |row| sets_of(&row.tags), |_| 1);
    let shown = |answer: &Json| answer["items"].to_string();
    let tally = tallies.entry("sets").or_default();
    check_bounds(&parsed("sets"), &sets, shown, (0.3, 0.2, true), tally);
    check_trend(case, &parsed("rising"));
    check_counts(case, &parsed("counted"));
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bound_holds_over_windows_with_late_rows() {
    let first = setting("WEIR_MINING_SEED", 1);
    let mut tallies = BTreeMap::new();
    let (mut late, mut cut_slices) = (0, 0);
    for seed in first..first + setting("WEIR_MINING_CASES", CASES) {
        let case = case(seed);
        println!(
            "seed {seed}: {:?}, bound {}, lateness {}",
            case.window, case.bound, case.lateness
        );
        let answers = run(&case, seed ^ 1).await;
        for ending in ["", "_changing"] {
            check(&case, &answers, ending, &mut tallies);
        }
        for (name, changing) in answers.iter().filter(|(name, _)| name.ends_with("_changing")) {
            let name = name.trim_end_matches("_changing");
            if ["exact", "rising", "counted"].contains(&name) || !case.cuts_slices() {
                assert_eq!(&answers[name], changing, "{name} on close, and with changes");
            } else {
                cut_slices += 1;
            }
        }
        assert_eq!(answers, run(&case, seed ^ 2).await, "cut otherwise");
        late += case.rows.len()
            - case
                .pairs(0)
                .values()
                .flatten()
                .map(|row| std::ptr::from_ref(*row))
                .collect::<BTreeSet<_>>()
                .len();
    }
    println!(
        "{tallies:#?}, {late} rows too late for every window, {cut_slices} queries with cut slices"
    );
    let sticky = &tallies["sticky"];
    assert!(sticky.failed as f64 <= FAILURE * sticky.groups as f64, "{sticky:?}");
    assert!(tallies.values().all(|tally| tally.answers > 0));
}
