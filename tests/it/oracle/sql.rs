//! Compares random questions over streams, tables and each other with what a SELECT answers over the same
//! rows, at many places on the way, across restarts, and with the sum of their changelogs.
//!
//! `WEIR_SQL_CASES` says how many worlds to live through, each with its questions; `WEIR_SQL_SEED` with
//! which seed to begin. What a continuous query refuses as not supported is counted and left out.

use serde_json::Value as Json;
use weir::error::SqlState;

use super::changelog::Changelog;
use super::engine_run::{EngineRun, with_engine};
use super::question::{Asker, Kind, Node, Relation};
use super::rng::Rng;
use super::worlds::{Tally, live_through};

/// Worlds of a plain `cargo test`.
const CASES: u64 = 12;
/// Questions in a world.
const QUESTIONS: usize = 10;
/// A join of joins of joins without a condition has no end: such a question is dropped.
const MEMORY_LIMIT: &str = "24 MB";
const ROWS_OUT_MAX: u64 = 20_000;

/// One thing that happens: statements on streams or tables.
type Event = String;

#[derive(Debug, Clone)]
struct World {
    questions: Vec<Question>,
    events: Vec<Event>,
}

#[derive(Debug, Clone)]
struct Question {
    name: String,
    node: Node,
    /// Appended to the continuous query only.
    emit: &'static str,
}

fn relations() -> Vec<Relation> {
    let columns = |timed: bool| {
        let mut columns = vec![
            ("k".to_owned(), Kind::Int),
            ("v".to_owned(), Kind::Int),
            ("d".to_owned(), Kind::Decimal),
            ("x".to_owned(), Kind::Text),
            ("b".to_owned(), Kind::Bool),
        ];
        if timed {
            columns.push(("at".to_owned(), Kind::Time));
        }
        columns
    };
    let relation =
        |name: &str, timed| Relation { name: name.into(), columns: columns(timed), timed };
    vec![relation("s0", true), relation("s1", true), relation("t0", false), relation("t1", false)]
}

fn world(seed: u64) -> World {
    let mut rng = Rng::new(seed);
    let mut known = relations();
    let mut questions = Vec::new();
    for i in 0..QUESTIONS {
        let (node, columns) = Asker::question(&mut rng, &known);
        let name = format!("q{i}");
        // Later questions may ask this one.
        known.push(Relation { name: name.clone(), columns, timed: false });
        let emit = if rng.one_in(3) { " EMIT CHANGES" } else { "" };
        questions.push(Question { name, node, emit });
    }
    World { questions, events: events(&mut rng) }
}

fn row(rng: &mut Rng) -> String {
    let or_null = |text: String, rng: &mut Rng| if rng.one_in(7) { "NULL".into() } else { text };
    let numbers = [rng.between(0, 5), rng.between(-2, 6), rng.between(-300, 300)];
    let d = format!("CAST({}.{:02} AS NUMERIC(10, 2))", numbers[2] / 100, numbers[2].abs() % 100);
    let x = rng.pick(&["'a'", "'b'", "'ab'", "''", "'ü'"]).to_owned();
    let b = rng.pick(&["true", "false"]).to_owned();
    let values = [numbers[0].to_string(), numbers[1].to_string(), d, x, b];
    values.map(|value| or_null(value, rng)).join(", ")
}

fn events(rng: &mut Rng) -> Vec<Event> {
    let mut clock = 20;
    let mut events = Vec::new();
    for _ in 0..rng.between(4, 20) {
        let table = rng.pick(&["t0", "t1"]);
        events.push(match rng.index(8) {
            0 => format!("DELETE FROM {table} WHERE v = {}", rng.between(-2, 6)),
            1 => {
                let (v, k) = (rng.between(-2, 6), rng.between(0, 5));
                format!("UPDATE {table} SET v = {v}, x = 'b' WHERE k = {k}")
            }
            2 | 3 => {
                let rows: Vec<_> =
                    (0..rng.between(1, 5)).map(|_| format!("({})", row(rng))).collect();
                format!("INSERT INTO {table} VALUES {}", rows.join(", "))
            }
            _ => {
                let stream = rng.pick(&["s0", "s1"]);
                let mut rows = Vec::new();
                for _ in 0..rng.between(1, 7) {
                    clock += rng.between(0, 4);
                    // Never below the watermark, which trails by ten seconds.
                    let at = clock - rng.between(0, 10);
                    let (minute, second) = (at / 60, at % 60);
                    let time = format!("TIMESTAMP '2026-01-01 00:{minute:02}:{second:02}'");
                    rows.push(format!("({}, {time})", row(rng)));
                }
                format!("INSERT INTO {stream} VALUES {}", rows.join(", "))
            }
        });
    }
    events
}

/// Whether only what the watermark has passed is in the answer.
fn waits(sql: &str) -> bool {
    sql.contains(".at") || sql.contains("window_")
}

/// Makes the relations and the queries; those that were not refused.
async fn begin<'w>(
    run: &mut EngineRun<'_>,
    world: &'w World,
    tally: &mut Tally,
) -> Result<Vec<(&'w Question, bool)>, String> {
    run.open()?;
    let columns = "k BIGINT, v BIGINT, d NUMERIC(10, 2), x TEXT, b BOOLEAN";
    for stream in ["s0", "s1"] {
        run.execute(&format!(
            "CREATE STREAM {stream} ({columns}, at TIMESTAMP, \
             WATERMARK FOR at AS at - INTERVAL '10' SECOND)"
        ))
        .await?;
    }
    for table in ["t0", "t1"] {
        run.execute(&format!("CREATE TABLE {table} ({columns})")).await?;
    }
    let mut live: Vec<(&Question, bool)> = Vec::new();
    for question in &world.questions {
        let sql = question.node.sql();
        // What a SELECT cannot say, or what stands on a refused question, says nothing of ours.
        if run.ask(&sql).await.is_err() {
            tally.refuse("the SELECT itself", 1, &sql);
            continue;
        }
        let create = format!(
            "CREATE CONTINUOUS QUERY {} WITH (memory_limit = '{MEMORY_LIMIT}') AS {sql}{}",
            question.name, question.emit
        );
        match run.ask(&create).await {
            Ok(_) => {
                let inherits =
                    live.iter().any(|(other, waits)| *waits && sql.contains(&other.name));
                live.push((question, inherits || waits(&sql)));
            }
            Err(error)
                if error.code() == SqlState::NOT_SUPPORTED || error.code().0.starts_with("WR") =>
            {
                let kind: String = error.message().chars().take(60).collect();
                tally.refuse(&kind, 1, &sql);
            }
            Err(error) => return Err(format!("{create}\n{error}")),
        }
    }
    tally.answered += live.len();
    Ok(live)
}

/// Drops questions that grew too large, and those that stand on them.
async fn weed(
    run: &EngineRun<'_>,
    live: &mut Vec<(&Question, bool)>,
    tally: &mut Tally,
) -> Result<(), String> {
    run.execute("FLUSH").await?;
    let large = format!("error LIKE '53200%' OR rows_out > {ROWS_OUT_MAX}");
    let large = format!("SELECT name FROM weir.queries WHERE {large}");
    for line in run.execute(&large).await? {
        let row: Json = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        let name = row["name"].as_str().ok_or("a query has a name")?;
        run.execute(&format!("DROP CONTINUOUS QUERY IF EXISTS {name} CASCADE")).await?;
    }
    let left = run.execute("SELECT name FROM weir.queries").await?.join(" ");
    let stays = |question: &Question| left.contains(&format!("\"{}\"", question.name));
    for (question, _) in live.iter().filter(|(question, _)| !stays(question)) {
        tally.refuse("too large", 1, &question.node.sql());
        tally.answered -= 1;
    }
    live.retain(|(question, _)| stays(question));
    Ok(())
}

async fn compare(
    run: &EngineRun<'_>,
    live: &mut Vec<(&Question, bool)>,
    closed: bool,
    tally: &mut Tally,
) -> Result<(), String> {
    weed(run, live, tally).await?;
    run.settle().await?;
    for (question, waits) in live.iter().filter(|(_, waits)| closed || !waits) {
        let sql = question.node.sql();
        let found = run.execute(&format!("SELECT * FROM {}", question.name)).await?;
        // DataFusion has plans that it then refuses itself.
        let Ok(expected) = run.execute(&sql).await else {
            tally.refuse("the SELECT itself, later", 1, &sql);
            continue;
        };
        tally.compared += 1;
        if found != expected {
            return Err(format!(
                "{}: {sql}{}\nclosed: {closed}, waits: {waits}\nfound    {found:#?}\nexpected {expected:#?}",
                question.name, question.emit
            ));
        }
    }
    Ok(())
}

async fn live_in(run: &mut EngineRun<'_>, world: &World) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let mut live = begin(run, world, &mut tally).await?;
    for event in &world.events {
        run.execute(event).await?;
        if run.rng.one_in(4) {
            compare(run, &mut live, false, &mut tally).await?;
        }
        if run.rng.one_in(16) {
            run.restart().await?;
        }
    }
    for stream in ["s0", "s1"] {
        run.execute(&format!("PUNCTUATE {stream} WHERE at < TIMESTAMP '2026-01-02'")).await?;
    }
    compare(run, &mut live, true, &mut tally).await?;
    for (question, _) in &live {
        let changelog = Changelog::read(run.engine(), &question.name)?;
        let net = changelog.net();
        let mut summed: Vec<String> = Vec::new();
        for (row, weight) in net {
            let copies = usize::try_from(weight).map_err(|_| format!("{row} is there {weight}"))?;
            summed.extend(std::iter::repeat_n(row.to_owned(), copies));
        }
        let found = run.execute(&format!("SELECT * FROM {}", question.name)).await?;
        if summed != found {
            return Err(format!(
                "{}: {}\nshows {found:#?}\nits changelog sums to {summed:#?}",
                question.name,
                question.node.sql()
            ));
        }
    }
    run.engine().shutdown().await;
    Ok(tally)
}

fn check(world: &World, seed: u64) -> Result<Tally, String> {
    with_engine(seed, async |run| live_in(run, world).await)
}

/// Leaves out questions, events and pieces of SQL that do not matter for the failure.
fn shrink(mut world: World, seed: u64, mut failure: String) -> (World, String) {
    let mut attempts = 0;
    let mut attempt = |smaller: World, world: &mut World, failure: &mut String| {
        attempts += 1;
        match check(&smaller, seed) {
            // A smaller question may be wrong SQL; that is another failure.
            Err(text)
                if attempts < 600 && text.contains("expected") == failure.contains("expected") =>
            {
                (*world, *failure) = (smaller, text);
                true
            }
            _ => false,
        }
    };
    for index in (0..world.questions.len()).rev() {
        let mut smaller = world.clone();
        smaller.questions.remove(index);
        attempt(smaller, &mut world, &mut failure);
    }
    for index in (0..world.events.len()).rev() {
        let mut smaller = world.clone();
        smaller.events.remove(index);
        attempt(smaller, &mut world, &mut failure);
    }
    for index in 0..world.questions.len() {
        'again: loop {
            for node in world.questions[index].node.smaller() {
                let mut smaller = world.clone();
                smaller.questions[index].node = node;
                if attempt(smaller, &mut world, &mut failure) {
                    continue 'again;
                }
            }
            break;
        }
    }
    (world, failure)
}

#[test]
fn every_question_is_answered_as_a_select_answers_it() {
    live_through("WEIR_SQL", CASES, |seed| {
        let world = world(seed);
        check(&world, seed).map_err(|failure| {
            let (world, failure) = shrink(world, seed, failure);
            let questions = world.questions.iter();
            let questions: Vec<String> =
                questions.map(|q| format!("{}: {}{}", q.name, q.node.sql(), q.emit)).collect();
            format!("{}\n{}\n{failure}", questions.join("\n"), world.events.join(";\n"))
        })
    });
}
