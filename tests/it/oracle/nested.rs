//! Runs random queries over queries on the same rows cut in several ways, and compares their changelogs: what
//! is append-only has to be the same row by row, all else when it is added up.

use super::changelog::Changelog;
use super::engine_run::{EngineRun, with_engine};
use super::{Rng, setting};

/// Cases of a plain `cargo test`.
const CASES: u64 = 10;
/// Queries over one stream.
const QUERIES: usize = 6;
/// Start of the times of all rows.
const BASE: &str = "TIMESTAMP '2026-01-01 00:00:00'";

/// A chain of queries, each over the last; `$` stands for the copy of the stream that is read.
struct Chain {
    statements: Vec<String>,
    names: Vec<String>,
}

fn seconds(rng: &mut Rng, low: i64, high: i64) -> String {
    format!("INTERVAL '{}' SECOND", rng.between(low, high))
}

/// A window over a relation with a column `at`.
fn window(rng: &mut Rng, relation: &str) -> String {
    match rng.index(4) {
        0 | 1 => format!("TUMBLE({relation}, at, {})", seconds(rng, 1, 8)),
        2 => {
            let slide = rng.between(1, 4);
            let size = slide + rng.between(1, 7);
            format!("HOP({relation}, at, INTERVAL '{slide}' SECOND, INTERVAL '{size}' SECOND)")
        }
        _ => {
            let step = rng.between(1, 4);
            let size = step * rng.between(1, 4);
            format!("CUMULATE({relation}, at, INTERVAL '{step}' SECOND, INTERVAL '{size}' SECOND)")
        }
    }
}

/// A query with the columns k, v and at over a relation that has them, too.
fn layer(rng: &mut Rng, relation: &str) -> String {
    match rng.index(9) {
        0..=2 => {
            let edge = rng.pick(&["window_end", "window_end", "window_start"]);
            let value = rng.pick(&["count(*)", "sum(v)"]);
            format!(
                "SELECT k, {value} AS v, {edge} AS at FROM {} GROUP BY window_start, window_end, k",
                window(rng, relation)
            )
        }
        3 => {
            let gap = seconds(rng, 1, 5);
            format!(
                "SELECT k, sum(v) AS v, window_end AS at FROM \
                 SESSION({relation}, at, {gap}, PARTITION => k) GROUP BY window_start, window_end, k"
            )
        }
        4 | 5 => {
            let partition = rng.pick(&["PARTITION BY k ", ""]);
            let width = seconds(rng, 0, 5);
            format!(
                "SELECT k, count(*) OVER ({partition}ORDER BY at RANGE {width} PRECEDING) AS v, at \
                 FROM {relation}"
            )
        }
        6 => {
            let first = window(rng, relation);
            let second = match rng.one_in(2) {
                true => format!(
                    "SELECT k, max(v) AS v, window_end AS at FROM {} \
                     GROUP BY window_start, window_end, k",
                    window(rng, relation)
                ),
                false => format!("SELECT k, v, at FROM {relation}"),
            };
            format!(
                "SELECT k, count(*) AS v, window_end AS at FROM {first} \
                 GROUP BY window_start, window_end, k UNION ALL {second}"
            )
        }
        7 => {
            let kind = rng.pick(&["", "LEFT "]);
            let (near, far) = (seconds(rng, 0, 3), seconds(rng, 0, 5));
            let other = window(rng, relation);
            format!(
                "SELECT a.k, a.v, a.at FROM {relation} AS a {kind}JOIN (SELECT k, count(*) AS n, \
                 window_end AS at FROM {other} GROUP BY window_start, window_end, k) AS b \
                 ON a.k = b.k AND a.at BETWEEN b.at - {near} AND b.at + {far}"
            )
        }
        _ => format!("SELECT k, v + 1 AS v, at FROM {relation} WHERE v <> 2"),
    }
}

/// A last query, whose columns are its own.
fn last(rng: &mut Rng, relation: &str) -> String {
    let refinement = rng.pick(&["ACCUMULATING", "DISCARDING"]);
    let rows = rng.between(1, 4);
    match rng.index(6) {
        0 | 1 => format!(
            "SELECT window_start, window_end, k, count(*) AS n, sum(v) AS v FROM {} \
             GROUP BY window_start, window_end, k EMIT EVERY {rows} ROWS {refinement}",
            window(rng, relation)
        ),
        2 | 3 => format!(
            "SELECT window_start, window_end, k, count(*) AS n FROM {} \
             GROUP BY GROUPING SETS ((window_start, window_end, k), (window_start, window_end))",
            window(rng, relation)
        ),
        4 => format!(
            "SELECT window_start, k, count(*) AS n FROM \
             SESSION({relation}, at, {}, PARTITION => k) GROUP BY window_start, window_end, k \
             EMIT EVERY {rows} ROWS {refinement}",
            seconds(rng, 1, 6)
        ),
        _ => format!(
            "SELECT window_id, array_agg(v) AS vs, array_agg(k) AS ks \
             FROM COUNT_WINDOW({relation}, {}) GROUP BY window_id",
            rows + 1
        ),
    }
}

fn chain(rng: &mut Rng, number: usize) -> Chain {
    let mut chain = Chain { statements: Vec::new(), names: Vec::new() };
    let mut relation = "x$".to_owned();
    let layers = rng.between(1, 4);
    for layer_number in 0..layers {
        let query = layer(rng, &relation);
        relation = match rng.one_in(2) {
            // Named by the whole way up, so that no reader sees two columns of one name.
            true => chain.add(format!("q{number}_{layer_number}_$"), &query),
            false => format!("({query})"),
        };
    }
    let query = last(rng, &relation);
    chain.add(format!("q{number}_last_$"), &query);
    chain
}

impl Chain {
    fn add(&mut self, name: String, query: &str) -> String {
        self.statements.push(format!("CREATE CONTINUOUS QUERY {name} AS {query}"));
        self.names.push(name.clone());
        name
    }
}

/// The rows of a stream, as VALUES has them.
fn rows(rng: &mut Rng) -> Vec<String> {
    let mut second = 0;
    let count = 10 + rng.index(25);
    let jitter = rng.pick(&[1, 1, 4]);
    let mut rows: Vec<String> = (0..count)
        .map(|_| {
            second += if rng.one_in(8) { rng.between(4, 25) } else { rng.between(0, 3) };
            let at = (second - rng.between(0, jitter)).max(0);
            let key = rng.pick(&["'a'", "'b'", "'c'"]);
            format!("({key}, {}, {BASE} + INTERVAL '{at}' SECOND)", rng.between(0, 5))
        })
        .collect();
    rows.push(format!("('a', 1, {BASE} + INTERVAL '{}' SECOND)", second + 60));
    rows
}

/// Ways to cut so many rows.
fn cuts(rng: &mut Rng, rows: usize) -> Vec<Vec<usize>> {
    let mut pieces = Vec::new();
    let mut left = rows;
    while left > 0 {
        let piece = (1 + rng.index(8)).min(left);
        pieces.push(piece);
        left -= piece;
    }
    vec![vec![rows], vec![1; rows], pieces]
}

/// The number of queries that are accepted and compared.
async fn compare(run: &mut EngineRun<'_>, seed: u64) -> Result<usize, String> {
    run.open()?;
    let mut rng = Rng::new(seed);
    let chains: Vec<Chain> = (0..QUERIES).map(|number| chain(&mut rng, number)).collect();
    let rows = rows(&mut rng);
    let bound = rng.between(0, 4);
    let cuts = cuts(&mut rng, rows.len());
    let mut accepted = Vec::new();
    for copy in 0..cuts.len() {
        let of_copy = |text: &str| text.replace('$', &copy.to_string());
        run.execute(&of_copy(&format!(
            "CREATE STREAM x$ (k TEXT, v BIGINT, at TIMESTAMP, \
             WATERMARK FOR at AS at - INTERVAL '{bound}' SECOND)"
        )))
        .await?;
        for chain in &chains {
            for (statement, name) in chain.statements.iter().zip(&chain.names) {
                match run.ask(&of_copy(statement)).await {
                    Ok(_) if copy == 0 => accepted.push((name, &chain.statements)),
                    Ok(_) => {}
                    Err(error) if ["0A000", "WR001", "WR003"].contains(&error.code().0) => {
                        break;
                    }
                    Err(error) => return Err(format!("{statement}\n{error}")),
                }
            }
        }
    }
    for (copy, pieces) in cuts.iter().enumerate() {
        let mut from = 0;
        for piece in pieces {
            let values = rows[from..from + piece].join(", ");
            run.execute(&format!("INSERT INTO x{copy} VALUES {values}")).await?;
            run.execute("FLUSH").await?;
            from += piece;
        }
        run.execute(&format!("PUNCTUATE x{copy} WHERE at < TIMESTAMP '2100-01-01'")).await?;
    }
    run.settle().await?;
    for (name, statements) in &accepted {
        let read =
            |copy: usize| Changelog::read(run.engine(), &name.replace('$', &copy.to_string()));
        let whole = read(0)?;
        for (copy, pieces) in cuts.iter().enumerate().skip(1) {
            let other = read(copy)?;
            let same = match whole.append_only {
                true => whole == other,
                false => whole.net() == other.net(),
            };
            if !same {
                let statements = statements.join(";\n");
                return Err(format!(
                    "{name} differs, cut into {pieces:?} (bound {bound})\n{statements}\n{}\n\
                     as one: {:#?}\n\nin pieces: {:#?}",
                    rows.join("\n"),
                    whole.changes,
                    other.changes
                ));
            }
        }
    }
    Ok(accepted.len())
}

#[test]
fn no_cut_of_the_input_shows_in_queries_over_queries() {
    let first = setting("WEIR_ORACLE_SEED", 1);
    let cases = setting("WEIR_ORACLE_CASES", CASES);
    let keep_going = setting("WEIR_ORACLE_ALL", 0) > 0;
    let (mut compared, mut failed) = (0, Vec::new());
    for seed in first..first + cases {
        match with_engine(seed, async |run| compare(run, seed).await) {
            Ok(accepted) => compared += accepted,
            Err(failure) if keep_going => {
                failed.push(format!(
                    "seed {seed}: {}",
                    failure.chars().take(900).collect::<String>()
                ));
            }
            Err(failure) => panic!("WEIR_ORACLE_SEED={seed} WEIR_ORACLE_CASES=1:\n{failure}"),
        }
    }
    assert!(failed.is_empty(), "{} of {cases} failed\n{}", failed.len(), failed.join("\n"));
    assert!(compared as u64 > cases * QUERIES as u64 / 2, "only {compared} queries were accepted");
}
