//! Compares continuous OVER, first rows of an order, and set operations, after every piece of a random
//! stream, with what a SELECT answers over the rows that count by then.

use super::{Rng, setting};
use crate::recordings::Lab;

/// Streams of a plain `cargo test`.
const CASES: u64 = 6;
/// Pieces that a stream comes in.
const PIECES: usize = 5;
/// Start of the times of all rows.
const BASE: &str = "TIMESTAMP '2026-01-01 00:00:00'";

/// A continuous query, and the SELECT that must give the same rows; where there are several, each
/// gives one more column.
struct Pair {
    name: String,
    continuous: String,
    batch: Vec<String>,
}

fn frame(rng: &mut Rng) -> (String, bool) {
    let near = rng.between(0, 4);
    let far = near + rng.between(0, 5);
    match rng.index(6) {
        0 => (format!("RANGE INTERVAL '{far}' SECOND PRECEDING"), false),
        1 => (
            format!(
                "RANGE BETWEEN INTERVAL '{far}' SECOND PRECEDING AND INTERVAL '{near}' SECOND PRECEDING"
            ),
            false,
        ),
        2 => (format!("ROWS {far} PRECEDING"), true),
        3 => (format!("ROWS BETWEEN {far} PRECEDING AND {near} PRECEDING"), true),
        4 => ("ROWS UNBOUNDED PRECEDING".into(), true),
        _ => (String::new(), false),
    }
}

/// An expression over `@`, the ORDER BY, which names the log order where rows are told apart.
fn expression(rng: &mut Rng) -> String {
    let partition = rng.pick(&["", "PARTITION BY k ", "PARTITION BY k, v % 2 "]);
    let (frame, by_rows) = frame(rng);
    let order = |by_rows: bool| if by_rows { "@rows" } else { "@range" };
    let over = format!("OVER ({partition}ORDER BY {} {frame})", order(by_rows));
    let in_rows = format!("OVER ({partition}ORDER BY @rows)");
    let in_range = format!("OVER ({partition}ORDER BY @range)");
    let distance = rng.between(0, 4);
    match rng.index(18) {
        0 => format!("sum(v) {over}"),
        1 => format!("count(v) {over}"),
        2 => format!("count(*) {over}"),
        3 => format!("min(v) {over}"),
        4 => format!("max(t) {over}"),
        5 => format!("round(avg(v) {over} + 0.0, 6)"),
        6 => format!("round(sum(x) {over} + 0.0, 6)"),
        7 => format!("round(avg(x) {over} + 0.0, 6)"),
        8 => format!("max(x) {over}"),
        9 => format!("sum(d) {over}"),
        10 => format!("min(d) {over}"),
        11 => format!("count(DISTINCT v) {over}"),
        12 => format!("count(*) FILTER (WHERE v > 2) {over}"),
        13 if by_rows => format!("first_value(t) {over}"),
        14 if by_rows => format!("last_value(v) {over}"),
        13 | 14 => format!("median(v) {over}"),
        15 => format!("lag(v, {distance}) {in_rows}"),
        16 => format!("lag(t, {distance}, 'none') {in_rows}"),
        _ => rng.pick(&[
            format!("row_number() {in_rows}"),
            format!("rank() {in_range}"),
            format!("dense_rank() {in_range}"),
        ]),
    }
}

/// Several windows in one SELECT; only rows that the watermark has passed are in the answer.
fn over(rng: &mut Rng, stream: &str, number: usize) -> Pair {
    let count = 1 + rng.index(4);
    let columns: Vec<String> = (0..count).map(|i| format!("{} AS c{i}", expression(rng))).collect();
    let continuous = columns.join(", ").replace("@rows", "at").replace("@range", "at");
    // One by one: together they are more than DataFusion's planner takes.
    let one = |column: &String| {
        let column = column.replace("@rows", "at, o").replace("@range", "at");
        format!("SELECT o, at, {column} FROM {stream}_closed")
    };
    Pair {
        name: format!("{stream}_over_{number}"),
        continuous: format!("SELECT _offset AS o, at, {continuous} FROM {stream}"),
        batch: columns.iter().map(one).collect(),
    }
}

/// The same in log order, over all rows.
fn over_log(rng: &mut Rng, stream: &str) -> Pair {
    let expression = loop {
        let expression = expression(rng);
        if !expression.contains("INTERVAL") && !expression.contains("@range") {
            break expression;
        }
    };
    let sql = expression.replace("@rows", "_offset");
    Pair {
        name: format!("{stream}_log"),
        continuous: format!("SELECT _offset AS o, {sql} AS c FROM {stream}"),
        batch: vec![format!("SELECT _offset AS o, {sql} AS c FROM {stream}")],
    }
}

/// A pair over the stream `$`.
fn pair(stream: &str, name: &str, continuous: &str, batch: &str) -> Pair {
    Pair {
        name: format!("{stream}_{name}"),
        continuous: continuous.replace('$', stream),
        batch: vec![batch.replace('$', stream)],
    }
}

fn rankings(stream: &str) -> Vec<Pair> {
    let pair = |name: &str, continuous: &str, batch: &str| pair(stream, name, continuous, batch);
    vec![
        pair(
            "lead",
            "SELECT _offset AS o, lead(v) OVER (PARTITION BY k ORDER BY at) AS l, \
                 lead(t, 2, '-') OVER (ORDER BY at) AS m FROM $",
            "SELECT o, l, m FROM (SELECT o, lead(v) OVER (PARTITION BY k ORDER BY at, o) AS l, \
                 lead(t, 2, '-') OVER (ORDER BY at, o) AS m, \
                 lead(o) OVER (PARTITION BY k ORDER BY at, o) AS one, \
                 lead(o, 2) OVER (ORDER BY at, o) AS two FROM $_closed) \
             WHERE one IS NOT NULL AND two IS NOT NULL",
        ),
        pair(
            "best",
            "SELECT _offset AS o, k, v FROM $ ORDER BY v DESC LIMIT 4 OFFSET 1",
            "SELECT _offset AS o, k, v FROM $ ORDER BY v DESC, _offset LIMIT 4 OFFSET 1",
        ),
        pair(
            "numbered",
            "SELECT o, k, n FROM (SELECT _offset AS o, k, row_number() OVER \
                 (PARTITION BY k ORDER BY v, t DESC NULLS LAST) AS n FROM $) WHERE n <= 3",
            "SELECT o, k, n FROM (SELECT _offset AS o, k, row_number() OVER \
                 (PARTITION BY k ORDER BY v, t DESC NULLS LAST, _offset) AS n FROM $) WHERE n <= 3",
        ),
        pair(
            "unnumbered",
            "SELECT o, v FROM (SELECT _offset AS o, v, row_number() OVER \
                 (PARTITION BY k ORDER BY v) AS n FROM $) WHERE n BETWEEN 2 AND 3",
            "SELECT o, v FROM (SELECT _offset AS o, v, row_number() OVER \
                 (PARTITION BY k ORDER BY v, _offset) AS n FROM $) WHERE n BETWEEN 2 AND 3",
        ),
        pair(
            "distinct_on",
            "SELECT DISTINCT ON (k) _offset AS o, k, v FROM $ ORDER BY k, v DESC NULLS LAST",
            "SELECT o, k, v FROM (SELECT _offset AS o, k, v, row_number() OVER \
                 (PARTITION BY k ORDER BY v DESC NULLS LAST, _offset) AS n FROM $) WHERE n = 1",
        ),
        pair(
            "busiest",
            "SELECT k, n, total FROM (SELECT k, count(*) AS n, sum(v) AS total FROM $ GROUP BY k) \
             ORDER BY n DESC LIMIT 2",
            "SELECT k, n, total FROM (SELECT k, count(*) AS n, sum(v) AS total FROM $ GROUP BY k) \
             ORDER BY n DESC, k NULLS FIRST LIMIT 2",
        ),
    ]
}

/// Orders of values, and tables whose rows change.
fn any_order(stream: &str) -> Vec<Pair> {
    let pair = |name: &str, continuous: &str, batch: &str| pair(stream, name, continuous, batch);
    vec![
        pair(
            "neighbours",
            "SELECT _offset AS o, sum(v) OVER (PARTITION BY k ORDER BY v, _offset \
                 ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS c, count(*) OVER () AS n FROM $",
            "SELECT _offset AS o, sum(v) OVER (PARTITION BY k ORDER BY v, _offset \
                 ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS c, count(*) OVER () AS n FROM $",
        ),
        pair(
            "leaders",
            "SELECT k, n, rank() OVER (ORDER BY n DESC) AS r, sum(n) OVER () AS s, \
                 lag(k) OVER (ORDER BY n, k) AS l FROM (SELECT k, count(v) AS n FROM $_t GROUP BY k)",
            "SELECT k, n, rank() OVER (ORDER BY n DESC) AS r, sum(n) OVER () AS s, \
                 lag(k) OVER (ORDER BY n, k) AS l FROM (SELECT k, count(v) AS n FROM $_t GROUP BY k)",
        ),
        pair(
            "table_over",
            "SELECT id, first_value(id) OVER (PARTITION BY k ORDER BY v DESC, id) AS f, \
                 ntile(2) OVER (ORDER BY id) AS h, avg(v) OVER (PARTITION BY k) AS m FROM $_t",
            "SELECT id, first_value(id) OVER (PARTITION BY k ORDER BY v DESC, id) AS f, \
                 ntile(2) OVER (ORDER BY id) AS h, avg(v) OVER (PARTITION BY k) AS m FROM $_t",
        ),
        pair(
            "table_best",
            "SELECT id, k, v FROM $_t ORDER BY v DESC NULLS LAST LIMIT 3",
            "SELECT id, k, v FROM $_t ORDER BY v DESC NULLS LAST, id LIMIT 3",
        ),
        pair(
            "table_numbered",
            "SELECT id, n FROM (SELECT id, row_number() OVER (PARTITION BY k ORDER BY v, id) AS n \
             FROM $_t) WHERE n <= 2",
            "SELECT id, n FROM (SELECT id, row_number() OVER (PARTITION BY k ORDER BY v, id) AS n \
             FROM $_t) WHERE n <= 2",
        ),
    ]
}

/// What INTERSECT and EXCEPT mean, spelled out with numbered copies.
fn set_operations(stream: &str) -> Vec<Pair> {
    let left = format!("SELECT k, v FROM {stream} WHERE v > 1");
    let right = format!("SELECT k, v FROM {stream}_t");
    let mut pairs = Vec::new();
    for (name, not) in [("INTERSECT", ""), ("EXCEPT", "NOT ")] {
        for all in [true, false] {
            let numbered = |side: &str| {
                let number = if all { "row_number() OVER (PARTITION BY k, v)" } else { "1" };
                let distinct = if all { "" } else { "DISTINCT " };
                format!("(SELECT {distinct}k, v, {number} AS copy FROM ({side}))")
            };
            let quantifier = if all { "ALL " } else { "" };
            pairs.push(Pair {
                name: format!("{stream}_{}_{all}", name.to_lowercase()),
                continuous: format!("{left} {name} {quantifier}{right}"),
                batch: vec![format!(
                    "SELECT k, v FROM {} a WHERE {not}EXISTS (SELECT 1 FROM {} b WHERE \
                     coalesce(a.k, '-') = coalesce(b.k, '-') AND coalesce(a.v, -1) = coalesce(b.v, -1) \
                     AND a.copy = b.copy)",
                    numbered(&left),
                    numbered(&right)
                )],
            });
        }
    }
    pairs
}

/// A row at about `second`, as VALUES has it.
fn row(rng: &mut Rng, second: i64) -> String {
    let at = (second - rng.between(0, 9)).max(0);
    let key = rng.pick(&["'a'", "'b'", "'c'", "NULL"]);
    let value = if rng.one_in(7) { "NULL".into() } else { rng.between(0, 6).to_string() };
    let text = rng.pick(&["'x'", "'a text longer than twelve bytes'", "NULL", "'y'"]);
    format!(
        "({key}, {value}, {}.5, {}.25, {text}, {BASE} + INTERVAL '{at}' SECOND)",
        rng.between(-9, 9),
        rng.between(0, 9)
    )
}

async fn check_all(lab: &mut Lab, stream: &str, pairs: &[Pair]) -> Vec<String> {
    let mut failures = Vec::new();
    let watermark =
        lab.run(&format!("SELECT watermark FROM weir.streams WHERE name = '{stream}'")).await.rows
            [0][0]
            .clone();
    let closed = format!(
        "(SELECT _offset AS o, k, v, x, d, t, at FROM {stream} WHERE NOT _late AND at < TIMESTAMP '{watermark}')"
    );
    for pair in pairs {
        let mut answer = lab.run(&format!("SELECT * FROM {}", pair.name)).await.rows;
        let mut known: Vec<Vec<String>> = Vec::new();
        for batch in &pair.batch {
            let batch = batch.replace(&format!("{stream}_closed"), &closed);
            let mut rows = lab.run(&batch).await.rows;
            rows.sort();
            if known.is_empty() {
                known = rows;
                continue;
            }
            // Rows that their offset tells apart.
            let more = rows.into_iter().map(|row| row.into_iter().skip(2));
            known.iter_mut().zip(more).for_each(|(row, more)| row.extend(more));
        }
        answer.sort();
        if answer != known {
            failures.push(format!("{}\nanswer {answer:?}\nknown  {known:?}", pair.continuous));
        }
    }
    failures
}

#[tokio::test(flavor = "multi_thread")]
async fn over_first_rows_and_sets_are_what_a_select_answers() {
    let (cases, seed) = (setting("WEIR_ORACLE_CASES", CASES), setting("WEIR_ORACLE_SEED", 1));
    let mut lab = Lab::new();
    for case in seed..seed + cases {
        let mut rng = Rng::new(case);
        let stream = format!("s{case}");
        lab.run(&format!(
            "CREATE STREAM {stream} (k TEXT, v BIGINT, x DOUBLE, d NUMERIC(8,2), t TEXT, at TIMESTAMP, \
                 WATERMARK FOR at AS at - INTERVAL '4' SECOND) WITH (durability = 'memory'); \
             CREATE TABLE {stream}_t (id BIGINT PRIMARY KEY, k TEXT, v BIGINT)"
        ))
        .await;
        let mut pairs: Vec<Pair> = (0..6).map(|i| over(&mut rng, &stream, i)).collect();
        pairs.push(over_log(&mut rng, &stream));
        pairs.extend(rankings(&stream));
        pairs.extend(any_order(&stream));
        pairs.extend(set_operations(&stream));
        for pair in &pairs {
            lab.run(&format!("CREATE CONTINUOUS QUERY {} AS {}", pair.name, pair.continuous)).await;
        }
        let (mut second, mut id) = (0, 0);
        for piece in 0..PIECES {
            let rows: Vec<String> = (0..1 + rng.index(12))
                .map(|_| {
                    second += rng.between(0, 4);
                    row(&mut rng, second)
                })
                .collect();
            lab.run(&format!("INSERT INTO {stream} VALUES {}", rows.join(", "))).await;
            for _ in 0..3 {
                id += 1;
                let key = rng.pick(&["'a'", "'b'", "NULL"]);
                lab.run(&format!(
                    "INSERT INTO {stream}_t VALUES ({id}, {key}, {})",
                    rng.between(0, 5)
                ))
                .await;
            }
            let some = rng.between(1, id + 1);
            lab.run(&format!("UPDATE {stream}_t SET v = v + 1 WHERE id = {some}")).await;
            lab.run(&format!("DELETE FROM {stream}_t WHERE id = {}", rng.between(1, id + 1))).await;
            lab.run("FLUSH").await;
            let failures = check_all(&mut lab, &stream, &pairs).await;
            assert!(
                failures.is_empty(),
                "WEIR_ORACLE_SEED={case} after piece {piece}:\n{}",
                failures.join("\n\n")
            );
        }
        lab.run(&format!("DROP STREAM {stream} CASCADE; DROP TABLE {stream}_t CASCADE")).await;
    }
    lab.end().await;
}
