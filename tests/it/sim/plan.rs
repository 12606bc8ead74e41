//! The objects of the simulation, and what their answers must be, computed in another way.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::model::{Row, SECOND, time_text};

/// Streams whose rows survive power loss once they are acknowledged, and one whose may not.
pub(crate) const OBJECTS: &[&str] = &[
    "CREATE STREAM clicks (id BIGINT NOT NULL, k BIGINT, v BIGINT, at TIMESTAMP,
        WATERMARK FOR at AS at - INTERVAL '5' SECOND)",
    "CREATE STREAM bids (id BIGINT NOT NULL, k BIGINT, v BIGINT, at TIMESTAMP)
        WITH (durability = 'written')",
    "CREATE TABLE users (id BIGINT PRIMARY KEY, c BIGINT)",
    "CREATE STREAM pulse (id BIGINT NOT NULL, k BIGINT, v BIGINT, at TIMESTAMP)
        WITH (retention = '12 seconds')",
    "CREATE STREAM lots (id BIGINT NOT NULL, k BIGINT, v BIGINT, at TIMESTAMP)",
    "CREATE STREAM some (id BIGINT NOT NULL, k BIGINT, v BIGINT, at TIMESTAMP)
        ON OVERLOAD SHED RANDOM",
    "CREATE STREAM keyed (id BIGINT NOT NULL, k BIGINT, v BIGINT, at TIMESTAMP)
        ON OVERLOAD SHED KEYS (k)",
    "CREATE STREAM newest (id BIGINT NOT NULL, k BIGINT, v BIGINT, at TIMESTAMP)
        ON OVERLOAD DROP OLDEST",
    "CREATE STREAM brim (id BIGINT NOT NULL, k BIGINT, v BIGINT, at TIMESTAMP)
        WITH (retention_bytes = '4 kB') ON OVERLOAD SHED RANDOM",
];

/// Streams that shed rows for which there is no room.
pub(crate) const SHEDDING: [&str; 4] = ["some", "keyed", "newest", "brim"];

/// A query, and what it reads.
pub(crate) struct QueryPlan {
    pub name: &'static str,
    pub sql: &'static str,
    /// All that it reads may be lost with the power.
    pub written: bool,
}

const fn durable(name: &'static str, sql: &'static str) -> QueryPlan {
    QueryPlan { name, sql, written: false }
}

const fn written(name: &'static str, sql: &'static str) -> QueryPlan {
    QueryPlan { name, sql, written: true }
}

/// The queries that are always there.
pub(crate) const QUERIES: &[QueryPlan] = &[
    durable("pass", "SELECT id, k, v FROM clicks WHERE v % 3 = 0"),
    durable(
        "tens",
        "SELECT window_start, k, count(*) AS n, sum(v) AS s
         FROM TUMBLE(clicks, at, INTERVAL '10 seconds') GROUP BY window_start, window_end, k",
    ),
    durable(
        "hops",
        "SELECT window_start, k, count(*) AS n, max(v) AS m
         FROM HOP(clicks, at, INTERVAL '5 seconds', INTERVAL '20 seconds')
         GROUP BY window_start, window_end, k
         EMIT ON CLOSE ALLOWED LATENESS INTERVAL '10 seconds'",
    ),
    durable(
        "visits",
        "SELECT window_start, window_end, k, count(*) AS n
         FROM SESSION(clicks, at, INTERVAL '3 seconds', PARTITION => k)
         GROUP BY window_start, window_end, k",
    ),
    written(
        "fives",
        "SELECT window_id, k, count(*) AS n, sum(v) AS s
         FROM COUNT_WINDOW(bids, 5, PARTITION => k) GROUP BY window_id, k",
    ),
    written("total", "SELECT k, count(*) AS n, sum(v) AS s FROM bids GROUP BY k"),
    durable(
        "both",
        "SELECT k, count(*) AS n
         FROM (SELECT k FROM clicks UNION ALL SELECT k FROM bids) GROUP BY k",
    ),
    durable("again", "SELECT k, sum(n) AS n, count(*) AS w FROM tens GROUP BY k"),
    durable(
        "mixed",
        "SELECT k, count(*) AS n
         FROM (SELECT k FROM clicks UNION ALL SELECT k FROM fives) GROUP BY k",
    ),
    durable(
        "sold",
        "SELECT window_id, k, count(*) AS n, sum(v) AS s
         FROM PUNCTUATION_WINDOW(lots, PARTITION => k) GROUP BY window_id, k",
    ),
    durable(
        "flood",
        "SELECT k, count(*) AS n FROM
         (SELECT k FROM some UNION ALL SELECT k FROM keyed UNION ALL SELECT k FROM newest)
         GROUP BY k",
    ),
    durable(BRIMMING, "SELECT k, count(*) AS n, sum(v) AS s FROM brim GROUP BY k"),
    durable("members", "SELECT c, count(*) AS n FROM users GROUP BY c"),
    durable(TRIMMED, "SELECT k, count(*) AS n, sum(v) AS s FROM pulse GROUP BY k"),
];

/// The query over rows that go when they are old: nobody can answer it anew.
pub(crate) const TRIMMED: &str = "beats";

/// The same over rows that go when there is no room for them.
pub(crate) const BRIMMING: &str = "brimming";

/// The query that runs out of memory and sheds rows: nobody knows which, but how many. Only a script has it.
pub(crate) const THINNED: &str = "thin";
const THIN: &QueryPlan =
    &durable(THINNED, "SELECT id, count(*) AS n, sum(v) AS s FROM clicks GROUP BY id");

/// The query whose changelog forgets what is old, while its answer stays whole. One life of eight has it.
pub(crate) const FORGETFUL: &str = "forgetful";
const FORGETS: &QueryPlan =
    &durable(FORGETFUL, "SELECT k, count(*) AS n, sum(v) AS s FROM clicks GROUP BY k");

/// The queries of a life.
pub(crate) fn queries_of(seed: u64) -> Vec<&'static QueryPlan> {
    QUERIES.iter().chain((seed % 8 == 4).then_some(FORGETS)).collect()
}

/// The query of that name.
pub(crate) fn query(name: &str) -> &'static QueryPlan {
    let mut all = QUERIES.iter().chain([THIN]);
    all.find(|plan| plan.name == name).expect("it is in the list")
}

/// What queries that come and go may say: all give the same columns.
pub(crate) const CHANGING: &[QueryPlan] = &[
    written("", "SELECT k, count(*) AS n FROM bids GROUP BY k"),
    durable("", "SELECT k, sum(v) AS n FROM clicks GROUP BY k"),
    durable("", "SELECT k, count(*) AS n FROM clicks WHERE v > 5 GROUP BY k"),
];

/// The statement that makes a query.
pub(crate) fn create(name: &str, sql: &str) -> String {
    let options = match name {
        THINNED => "WITH (on_memory = 'shed', memory_limit = '16 kB') ",
        FORGETFUL => "WITH (retention = '6 seconds') ",
        _ => "",
    };
    format!("CREATE CONTINUOUS QUERY {name} {options}AS {sql}")
}

/// What the streams and the table hold.
pub(crate) struct Stored {
    pub streams: BTreeMap<&'static str, Vec<Row>>,
    pub users: BTreeMap<i64, i64>,
    /// Rows of the streams whose old rows go, where all that ever were there are known.
    pub trimmed: BTreeMap<&'static str, Vec<Row>>,
}

/// What a query over these rows must answer; `None` where only the engine itself can tell.
pub(crate) fn naive(query: &str, stored: &Stored) -> Option<Vec<Value>> {
    let rows = |stream: &str| stored.streams.get(stream).map_or(&[][..], Vec::as_slice);
    let (clicks, bids, users) = (rows("clicks"), rows("bids"), &stored.users);
    match query {
        "pass" => Some(pass(clicks)),
        "tens" => Some(
            tens(clicks)
                .into_iter()
                .map(|((start, k), (n, s))| {
                    json!({"window_start": time_text(start), "k": k, "n": n, "s": s})
                })
                .collect(),
        ),
        "again" => {
            let mut sums: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
            for ((_, k), (n, _)) in tens(clicks) {
                let sum = sums.entry(k).or_default();
                *sum = (sum.0 + n, sum.1 + 1);
            }
            Some(sums.into_iter().map(|(k, (n, w))| json!({"k": k, "n": n, "w": w})).collect())
        }
        "total" | TRIMMED | BRIMMING | FORGETFUL => {
            let rows = match query {
                TRIMMED => stored.trimmed.get("pulse")?,
                BRIMMING => stored.trimmed.get("brim")?,
                FORGETFUL => clicks,
                _ => bids,
            };
            let sums = counts(rows.iter().map(|row| (row.k, row.v)));
            let line = |(k, (n, s))| json!({"k": k, "n": n, "s": s});
            Some(sums.into_iter().map(line).collect())
        }
        "both" => {
            let sums = counts(clicks.iter().chain(bids).map(|row| (row.k, 0)));
            Some(sums.into_iter().map(|(k, (n, _))| json!({"k": k, "n": n})).collect())
        }
        "mixed" => {
            let fives = fives(bids).into_iter().map(|five| (five["k"].as_i64().unwrap(), 0));
            let sums = counts(clicks.iter().map(|row| (row.k, 0)).chain(fives));
            Some(sums.into_iter().map(|(k, (n, _))| json!({"k": k, "n": n})).collect())
        }
        "flood" => {
            let all = ["some", "keyed", "newest"].into_iter().flat_map(rows);
            let sums = counts(all.map(|row| (row.k, 0)));
            Some(sums.into_iter().map(|(k, (n, _))| json!({"k": k, "n": n})).collect())
        }
        "members" => {
            let sums = counts(users.values().map(|c| (*c, 0)));
            Some(sums.into_iter().map(|(c, (n, _))| json!({"c": c, "n": n})).collect())
        }
        "fives" => Some(fives(bids)),
        _ => None,
    }
}

fn pass(clicks: &[Row]) -> Vec<Value> {
    let kept = clicks.iter().filter(|row| row.v % 3 == 0);
    kept.map(|row| json!({"id": row.id, "k": row.k, "v": row.v})).collect()
}

fn counts(rows: impl Iterator<Item = (i64, i64)>) -> BTreeMap<i64, (i64, i64)> {
    let mut sums: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (k, v) in rows {
        let sum = sums.entry(k).or_default();
        *sum = (sum.0 + 1, sum.1 + v);
    }
    sums
}

/// Closed windows of ten seconds, with the rows that came before they were closed.
fn tens(clicks: &[Row]) -> BTreeMap<(i64, i64), (i64, i64)> {
    let mut watermark = i64::MIN;
    let mut windows: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for row in clicks {
        let at = row.at.unwrap();
        let start = at.div_euclid(10 * SECOND) * 10 * SECOND;
        if watermark < start + 10 * SECOND {
            let sum = windows.entry((start, row.k)).or_default();
            *sum = (sum.0 + 1, sum.1 + row.v);
        }
        watermark = watermark.max(at - 5 * SECOND);
    }
    windows.retain(|(start, _), _| watermark >= start + 10 * SECOND);
    windows
}

fn fives(bids: &[Row]) -> Vec<Value> {
    let mut by_key: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    bids.iter().for_each(|row| by_key.entry(row.k).or_default().push(row.v));
    let mut answers = Vec::new();
    for (k, values) in by_key {
        for (id, five) in values.chunks_exact(5).enumerate() {
            answers.push(json!({
                "window_id": id, "k": k, "n": 5, "s": five.iter().sum::<i64>()
            }));
        }
    }
    answers
}
