//! Compares random subqueries, correlated and not, with what SQLite answers to the same text.
//!
//! The other comparisons ask a SELECT of ours, which takes subqueries apart by the same rules as a continuous
//! query does: what those get wrong, both answer. SQLite runs a subquery once for each row. All columns are
//! whole numbers or null, and all relations have the same names for theirs, so that a column that is looked
//! up in the wrong place is found there.
//!
//! `WEIR_SUBQUERY_CASES` says how many worlds to compare, `WEIR_SUBQUERY_SEED` with which seed to begin.

use rusqlite::Connection;
use rusqlite::types::Value;
use weir::error::SqlState;

use super::engine_run::{EngineRun, with_engine};
use super::question::Node;
use super::rng::Rng;
use super::worlds::{Tally, live_through};

/// Worlds of a plain `cargo test`.
const CASES: u64 = 5;
/// Questions in a world.
const QUESTIONS: usize = 12;
/// Streams first, then tables.
const RELATIONS: [&str; 4] = ["s0", "s1", "t0", "t1"];
const COLUMNS: [&str; 3] = ["a", "b", "c"];

struct World {
    questions: Vec<Node>,
    events: Vec<String>,
}

/// The columns that an expression may name.
struct Scope {
    /// Those of the relations at hand, as they are called here.
    own: Vec<String>,
    /// The same with their relations, as queries inside this one call them: bare names are their own.
    full: Vec<String>,
    /// Those of the queries around this one.
    outer: Vec<String>,
}

struct Asker<'a> {
    rng: &'a mut Rng,
    aliases: usize,
}

impl Asker<'_> {
    fn question(rng: &mut Rng) -> Node {
        let mut asker = Asker { rng, aliases: 0 };
        let (from, scope) = asker.from(Vec::new());
        let filter = asker.filter(&scope, 2);
        if asker.rng.one_in(4) {
            let key = asker.rng.pick(&scope.own);
            let aggregate = asker.aggregate(&scope);
            let keys = vec![key.clone()];
            let grouped = Scope { own: keys.clone(), full: keys, outer: Vec::new() };
            let least = asker.one_value(&grouped, 1);
            let having = match asker.rng.one_in(3) {
                true => Node::of(" HAVING count(*) >= @", vec![least]).or_text(""),
                false => Node::text(""),
            };
            let text = format!("SELECT {key} AS c0, {aggregate} AS c1 FROM @@ GROUP BY {key}@");
            return Node::of(&text, vec![from, filter, having]);
        }
        let (first, second) = (asker.item(&scope), asker.item(&scope));
        Node::of("SELECT @ AS c0, @ AS c1 FROM @@", vec![first, second, from, filter])
    }

    fn item(&mut self, scope: &Scope) -> Node {
        match self.rng.index(5) {
            0 => {
                let condition = self.condition(scope, 2);
                Node::of("CASE WHEN @ THEN 1 ELSE 0 END", vec![condition]).or_text("1")
            }
            1 => self.one_value(scope, 2).or_text("1"),
            _ => self.value(scope),
        }
    }

    /// One relation or two inside queries with such columns.
    fn from(&mut self, outer: Vec<String>) -> (Node, Scope) {
        let (left, mut full) = self.factor(&outer);
        if !self.rng.one_in(4) {
            // Alone, its columns need no relation before them, and hide those of the queries around.
            let bare = self.rng.one_in(3) && !outer.is_empty();
            let own = if bare { COLUMNS.map(str::to_owned).to_vec() } else { full.clone() };
            return (left, Scope { own, full, outer });
        }
        let (right, columns) = self.factor(&outer);
        let [a, b] = [self.rng.pick(&full), self.rng.pick(&columns)];
        full.extend(columns);
        let scope = Scope { own: full.clone(), full, outer };
        let kind = self.rng.pick(&["JOIN", "JOIN", "LEFT JOIN", "FULL JOIN"]);
        let from = match kind {
            "JOIN" => {
                let on = self.comparison(&scope);
                Node::of(&format!("@ JOIN @ ON {a} = {b} AND @"), vec![left, right, on])
            }
            _ => Node::of(&format!("@ {kind} @ ON {a} = {b}"), vec![left, right]),
        };
        (from, scope)
    }

    /// A relation, or a query in its place, which may refer to what is around the one that it stands in.
    fn factor(&mut self, outer: &[String]) -> (Node, Vec<String>) {
        self.aliases += 1;
        let alias = format!("r{}", self.aliases);
        let relation = self.rng.pick(&RELATIONS);
        let plain = format!("{relation} AS {alias}");
        let columns = COLUMNS.map(|column| format!("{alias}.{column}")).to_vec();
        let node = match self.rng.index(6) {
            0 => format!(
                "(SELECT a, max(b) AS b, count(*) AS c FROM {relation} GROUP BY a) AS {alias}"
            ),
            1 => {
                let other = self.rng.pick(&RELATIONS);
                let word = self.rng.pick(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
                let [all, parts] = ["a, b, c", "b, a, c"];
                format!(
                    "(SELECT {all} FROM {relation} {word} SELECT {parts} FROM {other}) AS {alias}"
                )
            }
            2 if !outer.is_empty() => {
                let (of, column) = (self.rng.pick(outer), self.rng.pick(&COLUMNS));
                let sign = self.rng.pick(&["=", "=", "<", "<>"]);
                let rows = format!("SELECT * FROM {relation} AS x WHERE x.{column} {sign} {of}");
                match self.rng.one_in(4) {
                    true => format!("({rows}{}) AS {alias}", self.first(&COLUMNS)),
                    false => format!("({rows}) AS {alias}"),
                }
            }
            _ => return (Node::text(plain), columns),
        };
        (Node::text(node).or_text(&plain), columns)
    }

    fn filter(&mut self, scope: &Scope, depth: usize) -> Node {
        match self.rng.one_in(5) {
            true => Node::text(""),
            false => Node::of(" WHERE @", vec![self.condition(scope, depth)]).or_text(""),
        }
    }

    fn condition(&mut self, scope: &Scope, depth: usize) -> Node {
        match self.rng.index(12) {
            0 => {
                let sides = vec![self.condition(scope, depth), self.condition(scope, depth)];
                Node::of("(@ AND @)", sides).or_child(0).or_child(1)
            }
            1 => {
                let sides = vec![self.condition(scope, depth), self.condition(scope, depth)];
                Node::of("(@ OR @)", sides).or_child(0).or_child(1)
            }
            2 => Node::of("(NOT @)", vec![self.condition(scope, depth)]).or_child(0),
            3..=5 if depth > 0 => {
                let not = self.rng.pick(&["", "NOT "]);
                Node::of(&format!("{not}EXISTS (@)"), vec![self.rows(scope, depth)])
            }
            6..=8 if depth > 0 => {
                let not = self.rng.pick(&["", "NOT "]);
                let (value, rows) = (self.value(scope), self.rows(scope, depth));
                Node::of(&format!("(@ {not}IN (@))"), vec![value, rows])
            }
            9 if depth > 0 => {
                let sign = self.rng.pick(&["=", "<", ">=", "<>"]);
                let (value, other) = (self.value(scope), self.one_value(scope, depth));
                Node::of(&format!("(@ {sign} @)"), vec![value, other])
            }
            _ => self.comparison(scope),
        }
        .or_text("true")
    }

    fn comparison(&mut self, scope: &Scope) -> Node {
        if self.rng.one_in(6) {
            let not = self.rng.pick(&["", "NOT "]);
            return Node::of(&format!("(@ IS {not}NULL)"), vec![self.value(scope)]);
        }
        let sign = self.rng.pick(&["=", "=", "=", "<", "<=", "<>", "IS DISTINCT FROM"]);
        let sides = vec![self.value(scope), self.value(scope)];
        Node::of(&format!("(@ {sign} @)"), sides)
    }

    fn value(&mut self, scope: &Scope) -> Node {
        let column = match scope.outer.is_empty() || self.rng.one_in(2) {
            true => self.rng.pick(&scope.own),
            false => self.rng.pick(&scope.outer),
        };
        Node::text(match self.rng.index(9) {
            0 => self.rng.between(-1, 4).to_string(),
            1 => format!("({column} + 1)"),
            2 => format!("coalesce({column}, 0)"),
            _ => column,
        })
    }

    /// A subquery of one column.
    fn rows(&mut self, scope: &Scope, depth: usize) -> Node {
        let (from, inside) = self.from([&scope.full[..], &scope.outer].concat());
        let filter = self.filter(&inside, depth - 1);
        let (column, aggregate) = (self.rng.pick(&inside.own), self.aggregate(&inside));
        let text = match self.rng.index(8) {
            0 => format!("SELECT {aggregate} FROM @@ GROUP BY {column}"),
            1 => format!("SELECT {aggregate} FROM @@"),
            2 => format!("SELECT DISTINCT {column} FROM @@"),
            3 => format!("SELECT {column} FROM @@{}", self.first(&[&column])),
            _ => format!("SELECT {column} FROM @@"),
        };
        Node::of(&text, vec![from, filter])
    }

    /// A subquery that has one row, of one value.
    fn one_value(&mut self, scope: &Scope, depth: usize) -> Node {
        let (from, inside) = self.from([&scope.full[..], &scope.outer].concat());
        let filter = self.filter(&inside, depth - 1);
        let text = match self.rng.one_in(4) {
            true => {
                let column = self.rng.pick(&inside.own);
                let sign = self.rng.pick(&["", " DESC"]);
                let skip = self.rng.pick(&["", "", " OFFSET 1"]);
                format!(
                    "(SELECT {column} FROM @@ ORDER BY {column}{sign} NULLS LAST LIMIT 1{skip})"
                )
            }
            false => format!("(SELECT {} FROM @@)", self.aggregate(&inside)),
        };
        Node::of(&text, vec![from, filter])
    }

    /// A limit of rows that have these columns and no others: which of equal ones it takes does not matter.
    fn first(&mut self, columns: &[&str]) -> String {
        let sign = self.rng.pick(&["NULLS FIRST", "NULLS LAST", "DESC NULLS LAST"]);
        let order: Vec<String> = columns.iter().map(|column| format!("{column} {sign}")).collect();
        let skip = self.rng.pick(&["", "", " OFFSET 1"]);
        format!(" ORDER BY {} LIMIT {}{skip}", order.join(", "), self.rng.between(0, 3))
    }

    fn aggregate(&mut self, scope: &Scope) -> String {
        let column = self.rng.pick(&scope.own);
        match self.rng.index(5) {
            0 => "count(*)".into(),
            1 => format!("count({column})"),
            2 => format!("min({column})"),
            3 => format!("CAST(sum({column}) AS BIGINT)"),
            _ => format!("max({column})"),
        }
    }
}

fn world(seed: u64) -> World {
    let mut rng = Rng::new(seed);
    let questions = (0..QUESTIONS).map(|_| Asker::question(&mut rng)).collect();
    World { questions, events: (0..rng.between(3, 9)).map(|_| event(&mut rng)).collect() }
}

fn event(rng: &mut Rng) -> String {
    let number = |rng: &mut Rng| rng.between(0, 4);
    match rng.index(8) {
        0 => format!("DELETE FROM t{} WHERE a = {}", rng.index(2), number(rng)),
        1 => format!("UPDATE t{} SET b = {} WHERE a = {}", rng.index(2), number(rng), number(rng)),
        _ => {
            let mut rows = Vec::new();
            for _ in 0..rng.between(1, 6) {
                let values = COLUMNS.map(|_| match rng.one_in(5) {
                    true => "NULL".to_owned(),
                    false => number(rng).to_string(),
                });
                rows.push(format!("({})", values.join(", ")));
            }
            format!("INSERT INTO {} VALUES {}", rng.pick(&RELATIONS), rows.join(", "))
        }
    }
}

/// What SQLite answers, as sorted JSON.
fn reference(lite: &Connection, sql: &str) -> Result<Vec<String>, String> {
    let failed = |error: rusqlite::Error| format!("SQLite: {sql}\n{error}");
    let mut statement = lite.prepare(sql).map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut lines = Vec::new();
    while let Some(row) = rows.next().map_err(failed)? {
        let cell = |i| match row.get(i) {
            Ok(Value::Null) => Ok("null".to_owned()),
            Ok(Value::Integer(number)) => Ok(number.to_string()),
            other => Err(format!("SQLite: {sql}\n{other:?}")),
        };
        lines.push(format!("{{\"c0\":{},\"c1\":{}}}", cell(0)?, cell(1)?));
    }
    lines.sort_unstable();
    Ok(lines)
}

fn agree(sql: &str, who: &str, found: &[String], expected: &[String]) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{sql}\n{who} answers {found:#?}\nexpected {expected:#?}")),
    }
}

async fn live_in(run: &mut EngineRun<'_>, world: &World) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let lite = Connection::open_in_memory().map_err(|error| error.to_string())?;
    run.open()?;
    for relation in RELATIONS {
        let kind = if relation.starts_with('s') { "STREAM" } else { "TABLE" };
        run.execute(&format!("CREATE {kind} {relation} (a BIGINT, b BIGINT, c BIGINT)")).await?;
        let table = format!("CREATE TABLE {relation} (a BIGINT, b BIGINT, c BIGINT)");
        lite.execute_batch(&table).map_err(|error| error.to_string())?;
    }
    let mut live = Vec::new();
    for (i, question) in world.questions.iter().enumerate() {
        let (name, sql) = (format!("q{i}"), question.sql());
        match run.ask(&format!("CREATE CONTINUOUS QUERY {name} AS {sql}")).await {
            Ok(_) => live.push((Some(name), sql)),
            Err(error) if error.code() == SqlState::NOT_SUPPORTED => {
                let kind: String = error.message().chars().take(60).collect();
                tally.refuse(&kind, 1, &sql);
                live.push((None, sql));
            }
            Err(error) => return Err(format!("{sql}\n{error}")),
        }
    }
    tally.answered += live.iter().filter(|(name, _)| name.is_some()).count();
    for event in &world.events {
        run.execute(event).await?;
        lite.execute_batch(event).map_err(|error| format!("{event}\n{error}"))?;
        run.settle().await?;
        for (name, sql) in &live {
            let expected = reference(&lite, sql)?;
            match run.ask(sql).await {
                Ok(found) => agree(sql, "a SELECT", &found, &expected)?,
                Err(error) if error.code() == SqlState::NOT_SUPPORTED => {
                    tally.refuse("a SELECT", 1, sql);
                }
                Err(error) => return Err(format!("{sql}\n{error}")),
            }
            if let Some(name) = name {
                let found = run.execute(&format!("SELECT * FROM {name}")).await?;
                agree(sql, "the query", &found, &expected)?;
                tally.compared += 1;
            }
        }
    }
    run.engine().shutdown().await;
    Ok(tally)
}

fn check(world: &World, seed: u64) -> Result<Tally, String> {
    with_engine(seed, async |run| live_in(run, world).await)
}

/// Leaves out questions, events and pieces of SQL without which it still answers wrongly.
fn shrink(mut world: World, seed: u64, mut failure: String) -> (World, String) {
    let is_same =
        |text: &str, failure: &str| text.contains("expected") == failure.contains("expected");
    for place in (0..world.questions.len()).rev() {
        let question = world.questions.remove(place);
        match check(&world, seed) {
            Err(text) if is_same(&text, &failure) => failure = text,
            _ => world.questions.insert(place, question),
        }
    }
    for place in (0..world.events.len()).rev() {
        let event = world.events.remove(place);
        match check(&world, seed) {
            Err(text) if is_same(&text, &failure) => failure = text,
            _ => world.events.insert(place, event),
        }
    }
    for place in 0..world.questions.len() {
        'again: loop {
            for smaller in world.questions[place].smaller() {
                let question = std::mem::replace(&mut world.questions[place], smaller);
                match check(&world, seed) {
                    Err(text) if is_same(&text, &failure) => {
                        failure = text;
                        continue 'again;
                    }
                    _ => world.questions[place] = question,
                }
            }
            break;
        }
    }
    (world, failure)
}

#[test]
fn subqueries_are_answered_as_sqlite_answers_them() {
    live_through("WEIR_SUBQUERY", CASES, |seed| {
        let world = world(seed);
        check(&world, seed).map_err(|failure| {
            let (world, failure) = shrink(world, seed, failure);
            format!("{}\n{failure}", world.events.join(";\n"))
        })
    });
}
