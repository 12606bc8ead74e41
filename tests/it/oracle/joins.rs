//! Compares random joins of streams and tables with what a SELECT answers over the same rows, at many
//! places on the way, and with themselves where rows come in other portions and the engine restarts.
//!
//! `WEIR_JOINS_CASES` says how many cases to run, `WEIR_JOINS_SEED` with which seed to begin.

use super::changelog::Changelog;
use super::engine_run::{EngineRun, with_engine};
use super::rng::Rng;
use super::setting;

const CASES: u64 = 60;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Event {
    /// Rows of a stream, as SQL has them.
    Rows(&'static str, Vec<String>),
    /// A statement on a table.
    Sql(String),
}

#[derive(Debug, Clone)]
struct JoinCase {
    queries: Vec<Question>,
    events: Vec<Event>,
}

/// A query, and whether its answer holds what a SELECT answers before everything is closed, too.
#[derive(Debug, Clone)]
struct Question {
    sql: String,
    /// How a SELECT says the same, where it says it in another way.
    select: Option<String>,
    at_any_time: bool,
}

fn value(rng: &mut Rng) -> String {
    if rng.one_in(8) { "NULL".into() } else { rng.between(0, 4).to_string() }
}

fn text(rng: &mut Rng) -> String {
    match rng.index(6) {
        0 => "NULL".into(),
        1 => "'a text of some length'".into(),
        n => format!("'{}'", ["a", "b", "c", "d"][n - 2]),
    }
}

fn input(rng: &mut Rng, alias: &str) -> String {
    match rng.index(8) {
        0 | 1 => format!("s0 AS {alias}"),
        2 => format!("s1 AS {alias}"),
        3 => format!("t0 AS {alias}"),
        4 => format!("t1 AS {alias}"),
        5 => format!("(SELECT k, v + 1 AS v, x FROM s1 WHERE v > 0) AS {alias}"),
        6 => {
            format!("(SELECT k, count(*) AS v, max(x) AS x FROM s0 GROUP BY k) AS {alias}")
        }
        _ => format!("(SELECT k, v, x FROM t0 UNION ALL SELECT v, k, x FROM s1) AS {alias}"),
    }
}

fn condition(rng: &mut Rng, a: &str, b: &str) -> String {
    match rng.index(7) {
        0 => format!("{a}.k = {b}.k AND {a}.v < {b}.v"),
        1 => format!("{a}.k = {b}.k AND {a}.x = {b}.x"),
        2 => format!("{a}.v < {b}.v AND {a}.x <> {b}.x"),
        3 => format!("{a}.k + 1 = {b}.v"),
        4 => format!("{a}.k = {b}.k AND {a}.v > 1"),
        _ => format!("{a}.k = {b}.k"),
    }
}

fn question(rng: &mut Rng) -> Question {
    if rng.one_in(3) {
        return in_time(rng);
    }
    if rng.one_in(4) {
        return looked_up(rng);
    }
    let (a, b) = (input(rng, "a"), input(rng, "b"));
    let on = condition(rng, "a", "b");
    let kind = rng.pick(&["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
    let sql = match rng.index(6) {
        0 => format!("SELECT a.k, a.v, a.x FROM {a} WHERE a.k IN (SELECT b.v FROM {b})"),
        1 => {
            let not = rng.pick(&["", "NOT "]);
            format!(
                "SELECT a.k, a.v, a.x FROM {a} WHERE {not}EXISTS (SELECT 1 FROM {b} WHERE {on})"
            )
        }
        2 => format!(
            "SELECT a.k AS k, count(*) AS n, sum(b.v) AS total FROM {a} {kind} {b} ON {on} GROUP BY a.k"
        ),
        3 => {
            let (c, more) = (input(rng, "c"), condition(rng, "b", "c"));
            let other = rng.pick(&["JOIN", "LEFT JOIN", "FULL JOIN"]);
            format!(
                "SELECT a.v AS av, b.v AS bv, c.v AS cv, c.x AS cx \
                 FROM {a} {kind} {b} ON {on} {other} {c} ON {more}"
            )
        }
        _ => format!(
            "SELECT a.k AS ak, a.v AS av, a.x AS ax, b.k AS bk, b.v AS bv, b.x AS bx \
             FROM {a} {kind} {b} ON {on}"
        ),
    };
    Question { sql, select: None, at_any_time: true }
}

/// IN and EXISTS where nulls and OR matter. A SELECT counts what there is, and compares the counts.
fn looked_up(rng: &mut Rng) -> Question {
    let (a, b) = (input(rng, "a"), input(rng, "b"));
    let column = rng.pick(&["k", "v"]);
    let found = format!("a.k IN (SELECT b.{column} FROM {b})");
    let near = format!("EXISTS (SELECT 1 FROM {b} WHERE b.{column} = a.k)");
    let counted = "CASE WHEN equal.n > 0 THEN true \
        WHEN every.n > every.filled OR (a.k IS NULL AND every.n > 0) THEN NULL ELSE false END";
    let exists = "(equal.n IS NOT NULL)";
    let form = rng.pick(&[
        "NOT ({in})",
        "{in} OR a.v = 1",
        "NOT ({in}) OR a.v = 2",
        "NOT ({in} AND a.v = 1)",
        "({in}) IS NULL",
        "CASE WHEN {in} THEN a.v > 1 ELSE a.v < 3 END",
        "{exists} OR a.v = 0",
        "NOT ({exists} AND a.v < 3) AND NOT ({in})",
    ]);
    let condition = form.replace("{in}", &found).replace("{exists}", &near);
    let by_count = form.replace("{in}", counted).replace("{exists}", exists);
    let sql = format!("SELECT a.k, a.v, a.x FROM {a} WHERE {condition}");
    let select = format!(
        "SELECT a.k, a.v, a.x FROM {a} \
         LEFT JOIN (SELECT b.{column} AS w, count(*) AS n FROM {b} GROUP BY b.{column}) AS equal ON equal.w = a.k \
         CROSS JOIN (SELECT count(*) AS n, count(b.{column}) AS filled FROM {b}) AS every \
         WHERE {by_count}"
    );
    Question { sql, select: Some(select), at_any_time: true }
}

/// A join that bounds the time between the sides.
fn in_time(rng: &mut Rng) -> Question {
    if rng.one_in(4) {
        return newest(rng);
    }
    let (a, b) = rng.pick(&[("s0", "s1"), ("s1", "s0"), ("s0", "s0")]);
    let kind = rng.pick(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "NOT EXISTS", "EXISTS"]);
    let (low, high) = (rng.between(-6, 6), rng.between(0, 8));
    let near = format!(
        "a.at >= b.at - INTERVAL '{low}' SECOND AND a.at < b.at + INTERVAL '{high}' SECOND"
    );
    let on = if rng.one_in(4) { near } else { format!("a.k = b.k AND {near}") };
    let on = if rng.one_in(4) { format!("{on} AND a.v <= b.v") } else { on };
    let sql = match kind {
        "EXISTS" | "NOT EXISTS" => {
            format!(
                "SELECT a.v, a.at FROM {a} AS a WHERE {kind} (SELECT 1 FROM {b} AS b WHERE {on})"
            )
        }
        kind => format!(
            "SELECT a.v AS av, a.at, b.v AS bv, b.at AS bt FROM {a} AS a {kind} {b} AS b ON {on}"
        ),
    };
    Question { sql, select: None, at_any_time: matches!(kind, "JOIN" | "EXISTS") }
}

/// An as-of join; a SELECT looks for a match that no other one is newer than.
fn newest(rng: &mut Rng) -> Question {
    let (sign, a, b) = (rng.pick(&[">=", ">"]), rng.pick(&["s0", "s1"]), rng.pick(&["s0", "s1"]));
    let columns = "a.v AS av, a.at AS at, b.v AS bv";
    let sql = format!(
        "SELECT {columns} FROM {a} AS a ASOF JOIN {b} AS b \
         MATCH_CONDITION (a.at {sign} b.at) ON a.k = b.k"
    );
    let select = format!(
        "SELECT av, at, bv FROM (SELECT {columns}, row_number() OVER \
         (PARTITION BY a._offset ORDER BY b.at DESC, b._offset DESC) AS nth \
         FROM {a} AS a JOIN {b} AS b ON a.k = b.k AND a.at {sign} b.at) WHERE nth = 1"
    );
    Question { sql, select: Some(select), at_any_time: false }
}

fn join_case(seed: u64) -> JoinCase {
    let mut rng = Rng::new(seed);
    let queries = (0..4).map(|_| question(&mut rng)).collect();
    let mut clock = 20;
    let mut events = Vec::new();
    for _ in 0..rng.between(5, 30) {
        let table = rng.pick(&["t0", "t1"]);
        events.push(match rng.index(8) {
            0 => Event::Sql(format!("DELETE FROM {table} WHERE v = {}", rng.between(0, 4))),
            1 => {
                let (v, k) = (value(&mut rng), rng.between(0, 4));
                Event::Sql(format!("UPDATE {table} SET v = {v} WHERE k = {k}"))
            }
            2 | 3 => {
                let rows = (0..rng.between(1, 5))
                    .map(|_| {
                        format!("({}, {}, {})", value(&mut rng), value(&mut rng), text(&mut rng))
                    })
                    .collect::<Vec<_>>();
                Event::Sql(format!("INSERT INTO {table} VALUES {}", rows.join(", ")))
            }
            _ => {
                let stream = rng.pick(&["s0", "s1"]);
                let mut rows = Vec::new();
                for _ in 0..rng.between(1, 8) {
                    clock += rng.between(0, 3);
                    // Never below the watermark, which trails by ten seconds.
                    let at = clock - rng.between(0, 10);
                    let (minute, second) = (at / 60, at % 60);
                    rows.push(format!(
                        "({}, {}, {}, TIMESTAMP '2026-01-01 00:{minute:02}:{second:02}')",
                        value(&mut rng),
                        value(&mut rng),
                        text(&mut rng)
                    ));
                }
                Event::Rows(stream, rows)
            }
        });
    }
    JoinCase { queries, events }
}

impl EngineRun<'_> {
    /// Runs a case; `single` sends each row alone. Gives the changelogs of append-only queries.
    async fn outcome(&mut self, case: &JoinCase, single: bool) -> Result<Vec<Changelog>, String> {
        self.open()?;
        for stream in ["s0", "s1"] {
            self.execute(&format!(
                "CREATE STREAM {stream} (k BIGINT, v BIGINT, x TEXT, at TIMESTAMP, \
                 WATERMARK FOR at AS at - INTERVAL '10' SECOND)"
            ))
            .await?;
        }
        for table in ["t0", "t1"] {
            self.execute(&format!("CREATE TABLE {table} (k BIGINT, v BIGINT, x TEXT)")).await?;
        }
        for (i, query) in case.queries.iter().enumerate() {
            self.execute(&format!("CREATE CONTINUOUS QUERY q{i} AS {}", query.sql)).await?;
        }
        for event in &case.events {
            match event {
                Event::Sql(sql) => drop(self.execute(sql).await?),
                Event::Rows(stream, rows) => {
                    let size = if single { 1 } else { rows.len() };
                    for rows in rows.chunks(size) {
                        let rows = rows.join(", ");
                        self.execute(&format!("INSERT INTO {stream} VALUES {rows}")).await?;
                    }
                }
            }
            if self.rng.one_in(4) {
                self.compare(case, false).await?;
            }
            if self.rng.one_in(10) {
                self.restart().await?;
            }
        }
        for stream in ["s0", "s1"] {
            self.execute(&format!("PUNCTUATE {stream} WHERE at < TIMESTAMP '2026-01-02'")).await?;
        }
        self.compare(case, true).await?;
        let changes = (0..case.queries.len())
            .map(|i| Changelog::read(self.engine(), &format!("q{i}")))
            .collect();
        self.engine().shutdown().await;
        changes
    }

    async fn compare(&self, case: &JoinCase, closed: bool) -> Result<(), String> {
        self.settle().await?;
        for (i, query) in case.queries.iter().enumerate().filter(|(_, q)| closed || q.at_any_time) {
            let found = self.execute(&format!("SELECT * FROM q{i}")).await?;
            let expected = self.execute(query.select.as_ref().unwrap_or(&query.sql)).await?;
            if found != expected {
                return Err(format!(
                    "{}\nclosed: {closed}\nfound    {found:#?}\nexpected {expected:#?}",
                    query.sql
                ));
            }
        }
        Ok(())
    }
}

fn run(case: &JoinCase, seed: u64, single: bool) -> Result<Vec<Changelog>, String> {
    with_engine(seed, async |run| run.outcome(case, single).await)
}

fn check(case: &JoinCase, seed: u64) -> Result<(), String> {
    let whole = run(case, seed, false)?;
    let single = run(case, seed ^ 0x55, true)?;
    for (query, (whole, single)) in case.queries.iter().zip(whole.iter().zip(&single)) {
        // A query in the middle has a log of its own, whose entries follow the cuts.
        let ordered = whole.append_only && !query.sql.contains("t0") && !query.sql.contains("t1");
        if ordered && whole != single {
            return Err(format!("order of {}\n{whole:#?}\n{single:#?}", query.sql));
        }
        if whole.net() != single.net() {
            return Err(format!("net of {}\n{whole:#?}\n{single:#?}", query.sql));
        }
    }
    Ok(())
}

/// Leaves out events and rows that do not matter for the failure.
fn shrink(mut case: JoinCase, seed: u64, mut failure: String) -> (JoinCase, String) {
    let attempt = |smaller: JoinCase, case: &mut JoinCase, failure: &mut String| {
        if let Err(text) = check(&smaller, seed) {
            (*case, *failure) = (smaller, text);
        }
    };
    for index in (0..case.queries.len()).rev() {
        let mut smaller = case.clone();
        smaller.queries.remove(index);
        attempt(smaller, &mut case, &mut failure);
    }
    for index in (0..case.events.len()).rev() {
        let mut smaller = case.clone();
        smaller.events.remove(index);
        attempt(smaller, &mut case, &mut failure);
    }
    (case, failure)
}

#[test]
fn joins_answer_as_a_select_at_any_time_and_however_rows_are_cut() {
    let first = setting("WEIR_JOINS_SEED", 1);
    for seed in first..first + setting("WEIR_JOINS_CASES", CASES) {
        let case = join_case(seed);
        if let Err(failure) = check(&case, seed) {
            let (case, failure) = shrink(case, seed, failure);
            panic!("seed {seed} (WEIR_JOINS_SEED={seed} WEIR_JOINS_CASES=1)\n{case:#?}\n{failure}");
        }
    }
}
