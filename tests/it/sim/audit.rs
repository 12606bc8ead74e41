//! Compares what an engine holds after a restart with what clients were told.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir::error::SqlState;

use super::model::{Model, Row};
use super::plan::{
    BRIMMING, CHANGING, FORGETFUL, QUERIES, QueryPlan, SHEDDING, Stored, THINNED, TRIMMED, create,
    naive,
};
use super::world::{Seen, World};

/// How the last run of the engine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was shut down.
    Shutdown,
    /// The process was killed: what it wrote is there.
    Kill,
    /// The power went: what was not synced may be gone.
    PowerLoss,
}

/// Checks everything, where these queries are there. With `fresh`, each of them is also created once more beside
/// itself.
pub(crate) fn audit(
    world: &World,
    model: &mut Model,
    ending: Ending,
    fixed: &[&QueryPlan],
    fresh: bool,
) {
    world.sql("FLUSH").expect("what was recovered can be flushed");
    let lost = ending == Ending::PowerLoss;
    // What is only written may be gone, and what clients have seen of it.
    let mut loose = loose_queries(model);
    model.let_float();
    loose.extend(loose_queries(model));
    let mut stored =
        Stored { streams: BTreeMap::new(), users: table(world, model), trimmed: BTreeMap::new() };
    for name in ["clicks", "bids", "lots", "some", "keyed", "newest"] {
        stored.streams.insert(name, stream(world, model, name, lost && name == "bids"));
    }
    for name in ["pulse", "brim"] {
        let all = trimmed_stream(world, model, name);
        stored.trimmed.extend(all.map(|rows| (name, rows)));
    }
    letters(world, model);
    shed(world, model);
    let there = queries(world, model, fixed);
    for plan in &there {
        history(world, model, plan, lost && loose.contains(plan.name));
        let answer = answer(world, plan.name);
        let changes = consolidated(&model.seen[plan.name]);
        if plan.name == "sold" {
            sold(model, &stored.streams["lots"], &answer);
        }
        if plan.name != FORGETFUL || model.seen[plan.name].gaps.is_empty() {
            assert_eq!(answer, changes, "SELECT and the changes of {}", plan.name);
        }
        if plan.name == THINNED {
            thinned(world, &stored.streams["clicks"]);
        }
        if let Some(expected) = naive(plan.name, &stored) {
            let expected = counted(expected);
            assert_eq!(answer, expected, "{} over the stored rows", plan.name);
        }
        if fresh && plan.name != TRIMMED && plan.name != BRIMMING {
            let made = format!("{}; FLUSH", create("fresh", plan.sql));
            world.sql(&made).unwrap_or_else(|e| panic!("{}: {e}", plan.name));
            let again = self::answer(world, "fresh");
            assert_eq!(answer, again, "{} and the same query made anew", plan.name);
            world.sql("DROP CONTINUOUS QUERY fresh").unwrap();
        }
    }
}

/// The queries that rest on nothing but what power loss may take.
fn loose_queries(model: &Model) -> BTreeSet<String> {
    let fixed = QUERIES.iter().filter(|plan| plan.written).map(|plan| plan.name.to_string());
    let changing = model.queries.iter().filter(|(_, definitions)| {
        definitions.iter().flatten().any(|number| CHANGING[*number].written)
    });
    fixed.chain(changing.map(|(name, _)| name.to_string())).collect()
}

/// What was refused by an answer of a durable stream is a dead letter.
fn letters(world: &World, model: &Model) {
    let sql = "SELECT relation, encode(raw, 'hex') AS raw FROM weir.dead_letters";
    let mut ids: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
    for letter in asked(world, sql) {
        let hex = letter["raw"].as_str().unwrap().as_bytes();
        let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
        let raw: Vec<u8> = hex.chunks(2).map(|two| digit(two[0]) * 16 + digit(two[1])).collect();
        let row: Option<Value> = serde_json::from_slice(&raw).ok();
        let id = row.and_then(|row| row.get("id").and_then(Value::as_i64));
        ids.entry(letter["relation"].as_str().unwrap().into()).or_default().extend(id);
    }
    for request in model.requests.iter().filter(|request| request.stream != "bids") {
        let known = ids.get(request.stream);
        for id in &request.refused {
            let known = known.is_some_and(|ids| ids.contains(id));
            assert!(known, "row {id} of {} was refused, and nobody says so", request.stream);
        }
    }
}

/// What an answer told of as shed is counted for good.
fn shed(world: &World, model: &Model) {
    let sql = "SELECT stream, sum(\"rows\") AS n FROM weir.shed GROUP BY stream";
    let number = |row: &Value| row["n"].as_i64().unwrap() as u64;
    let counted: BTreeMap<String, u64> = asked(world, sql)
        .iter()
        .map(|r| (r["stream"].as_str().unwrap().into(), number(r)))
        .collect();
    for name in SHEDDING {
        let requests = model.requests.iter().filter(|request| request.stream == name);
        let told: u64 = requests.filter_map(|r| r.shed).map(|(.., shed)| shed).sum();
        let counted = counted.get(name).copied().unwrap_or_default();
        assert!(counted >= told, "{name}: {told} rows were shed, {counted} are counted");
    }
}

/// Each row of the stream is in the answer of the query that sheds, or counted as shed.
fn thinned(world: &World, clicks: &[Row]) {
    let found = world.sql("SELECT id, n, s FROM thin").unwrap();
    for row in &found {
        let sent = clicks.iter().find(|click| row["id"] == click.id).expect("it was sent");
        assert!(row["n"] == 1 && row["s"] == sent.v, "{row} of {sent:?}");
    }
    let shed = world.sql("SELECT rows_shed FROM weir.queries WHERE name = 'thin'").unwrap();
    let shed = shed[0]["rows_shed"].as_u64().unwrap();
    assert_eq!(found.len() as u64 + shed, clicks.len() as u64, "rows are neither kept nor shed");
}

/// Lots that were closed are answered, once and with all of their rows; others are not.
fn sold(model: &Model, lots: &[Row], answer: &BTreeMap<String, i64>) {
    let mut sums: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for row in lots {
        let sum = sums.entry(row.k).or_default();
        *sum = (sum.0 + 1, sum.1 + row.v);
    }
    let mut left = answer.clone();
    for (lot, (n, s)) in sums {
        let row = serde_json::json!({"window_id": 0, "k": lot, "n": n, "s": s}).to_string();
        let found = left.remove(&row);
        match model.promised.get(&lot) {
            Some(true) => assert_eq!(found, Some(1), "lot {lot} is closed: {answer:?}"),
            Some(false) => assert!(found.is_none_or(|times| times == 1), "{answer:?}"),
            None => assert_eq!(found, None, "lot {lot} is open: {answer:?}"),
        }
    }
    assert!(left.is_empty(), "nobody sold {left:?}");
}

/// An answer, or none where a script makes no such relation.
fn asked(world: &World, sql: &str) -> Vec<Value> {
    match world.sql(sql) {
        Err(error) if error.code() == SqlState::UNDEFINED_RELATION => vec![],
        answer => answer.unwrap_or_else(|error| panic!("{sql}: {error}")),
    }
}

/// The rows of a stream: each was sent, each is there once, acknowledged ones where it was said, and
/// what was there before still is.
fn stream(world: &World, model: &mut Model, name: &'static str, may_lose: bool) -> Vec<Row> {
    let sql = format!("SELECT _offset, id, k, v, at FROM {name} ORDER BY _offset");
    let mut rows = Vec::new();
    for (index, line) in asked(world, &sql).iter().enumerate() {
        assert_eq!(line["_offset"], index, "offsets of {name} have no holes");
        let at = line["at"]
            .as_str()
            .map(|at| chrono::DateTime::parse_from_rfc3339(at).unwrap().timestamp_micros());
        let number = |column: &str| line[column].as_i64().unwrap();
        rows.push(Row { id: number("id"), k: number("k"), v: number("v"), at });
    }
    let ids: BTreeSet<i64> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), rows.len(), "{name} holds a row twice");
    for row in &rows {
        assert_eq!(model.row(row.id), Some(row), "{name} holds what nobody sent");
    }
    for request in model.requests.iter_mut().filter(|request| request.stream == name) {
        let there = request.rows.iter().filter(|row| ids.contains(&row.id)).count();
        if let Some((first, accepted, _)) = request.shed {
            assert_eq!(there as u64, accepted, "{name} holds other rows of {request:?}");
            let here = rows.iter().skip(first as usize).take(accepted as usize);
            assert!(here.into_iter().all(|row| request.rows.contains(row)), "{request:?}");
        } else if !SHEDDING.contains(&name) {
            let taken = |row: &&Row| match name {
                "clicks" => row.at.is_some(),
                // Which of them broke a promise only the answer tells.
                "lots" => ids.contains(&row.id) || !model.promised.contains_key(&row.k),
                _ => true,
            };
            let good = request.rows.iter().filter(taken).count();
            assert!(there == 0 || there == good, "{name} holds part of {request:?}");
        }
        if name == "keyed" {
            let fate = |row: &Row| (row.k, ids.contains(&row.id));
            let fates: BTreeSet<(i64, bool)> = request.rows.iter().map(fate).collect();
            let keys: BTreeSet<i64> = fates.iter().map(|(k, _)| *k).collect();
            assert_eq!(fates.len(), keys.len(), "rows of a key have two fates: {request:?}");
        }
        let Some((first, accepted)) = &request.acked else { continue };
        if may_lose && there == 0 {
            request.acked = None;
            continue;
        }
        for (index, id) in accepted.iter().enumerate() {
            let row = rows.get(*first as usize + index).map(|row| row.id);
            assert_eq!(row, Some(*id), "{name} lost an acknowledged row of {request:?}");
        }
    }
    let before = model.stored.insert(name, rows.clone()).unwrap_or_default();
    let common = if may_lose { before.len().min(rows.len()) } else { before.len() };
    assert!(rows.len() >= common && rows[..common] == before[..common], "{name} changed its past");
    rows
}

/// The rows that ever were in a stream whose old rows go, if all are known; what is left of them is as
/// it was.
fn trimmed_stream(world: &World, model: &mut Model, name: &'static str) -> Option<Vec<Row>> {
    let mut known = model.trimmed.remove(name).unwrap_or_default();
    for request in model.requests.iter().filter(|request| request.stream == name) {
        let Some((first, ids)) = &request.acked else { continue };
        for (offset, id) in (*first..).zip(ids) {
            let row = request.rows.iter().find(|row| row.id == *id).unwrap();
            let before = known.insert(offset, row.clone());
            assert!(before.is_none_or(|before| before == *row), "two rows of {name} at {offset}");
        }
    }
    let found = asked(world, &format!("SELECT _offset, id, k, v FROM {name} ORDER BY _offset"));
    let number = |line: &Value, column: &str| line[column].as_i64().unwrap();
    let sql = format!("SELECT next_offset FROM weir.streams WHERE name = '{name}'");
    let end = asked(world, &sql).first().map_or(0, |row| number(row, "next_offset") as u64);
    let first = end - found.len() as u64;
    for (offset, line) in (first..).zip(&found) {
        assert_eq!(line["_offset"], offset, "offsets of {name} have no holes");
        let row = model.row(number(line, "id")).cloned().expect("it holds what was sent");
        let before = known.insert(offset, row.clone());
        assert!(before.is_none_or(|before| before == row), "{name} changed at {offset}");
    }
    assert!(known.keys().all(|offset| *offset < end), "{name} ends too early");
    let ids: BTreeSet<i64> = known.values().map(|row| row.id).collect();
    assert_eq!(ids.len(), known.len(), "{name} held a row twice");
    let all = (known.len() as u64 == end).then(|| known.values().cloned().collect());
    model.trimmed.insert(name, known);
    all
}

fn table(world: &World, model: &mut Model) -> BTreeMap<i64, i64> {
    let rows = asked(world, "SELECT id, c FROM users");
    let count = rows.len();
    let number = |row: &Value, column: &str| row[column].as_i64().unwrap();
    let found: BTreeMap<i64, i64> =
        rows.iter().map(|row| (number(row, "id"), number(row, "c"))).collect();
    assert_eq!(found.len(), count, "a key of the table is there twice");
    assert!(model.tables.contains(&found), "table holds {found:?}, not one of {:?}", model.tables);
    model.tables = [found.clone()].into();
    found
}

/// The queries that are there: those that must be, and those that may.
fn queries(world: &World, model: &mut Model, fixed: &[&QueryPlan]) -> Vec<QueryPlan> {
    let rows = world.sql("SELECT name, status, error FROM weir.queries").unwrap();
    let found: BTreeMap<String, &Value> =
        rows.iter().map(|row| (row["name"].as_str().unwrap().to_string(), row)).collect();
    let mut there = Vec::new();
    for plan in fixed {
        let row = found.get(plan.name).unwrap_or_else(|| panic!("{} is gone", plan.name));
        let paused = row["status"] == "paused";
        assert!(paused || row["status"] == "running", "{row}");
        let may = model.paused.entry(plan.name).or_insert_with(|| [false].into());
        assert!(may.contains(&paused), "{row}, but paused must be in {may:?}");
        *may = [false].into();
        if paused {
            world.sql(&format!("RESUME {}; FLUSH", plan.name)).unwrap();
        }
        there.push(QueryPlan { ..**plan });
    }
    for (name, definitions) in &mut model.queries {
        let Some(row) = found.get(*name) else {
            assert!(definitions.contains(&None), "{name} is gone");
            *definitions = [None].into();
            continue;
        };
        assert!(row["status"] == "running", "{row}");
        let text = world.sql(&format!("SELECT sql FROM weir.queries WHERE name = '{name}'"));
        let text = text.unwrap()[0]["sql"].as_str().unwrap().to_string();
        let is = |number: &usize| text.contains(mark(*number));
        let number = (0..CHANGING.len()).find(is).unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(definitions.contains(&Some(number)), "{name} is {text}, not in {definitions:?}");
        *definitions = [Some(number)].into();
        there.push(QueryPlan { name, ..CHANGING[number] });
    }
    let known = fixed.len() + model.queries.values().filter(|d| !d.contains(&None)).count();
    assert_eq!(found.len(), known, "there are queries that nobody made: {:?}", found.keys());
    there
}

/// What tells one of the changing definitions from the others.
fn mark(number: usize) -> &'static str {
    ["FROM bids", "sum(v)", "v > 5"][number]
}

/// What subscribers saw is there still, at the same offsets; or a gap says that it is not. A subscriber
/// that goes on knows the same as one that begins anew.
fn history(world: &World, model: &mut Model, plan: &QueryPlan, may_lose: bool) {
    let follow =
        |from| world.follow(plan.name, from).unwrap_or_else(|e| panic!("{}: {e}", plan.name));
    // Nothing is known of a query that may have been dropped and made again: it may have older gaps.
    let known = model.seen.remove(plan.name);
    let forgets = plan.name == FORGETFUL;
    let may_lose = may_lose || known.is_none() || forgets;
    let before = known.unwrap_or_default();
    let now = follow(0);
    let mut on = before.clone();
    on.go_on(follow(before.next));
    if forgets && let Some((0, kept)) = now.gaps.first() {
        on.changes.retain(|offset, _| offset >= kept);
    }
    assert_eq!(on.changes, now.changes, "{}, followed from {}", plan.name, before.next);
    assert_eq!(on.next, now.next, "{}", plan.name);
    let fresh = now.gaps.iter().filter(|gap| !before.gaps.contains(gap));
    assert!(may_lose || fresh.count() == 0, "{} has new gaps: {:?}", plan.name, now.gaps);
    for (offset, row) in &before.changes {
        let is_void = || now.gaps.iter().any(|(from, to)| from <= offset && offset < to);
        match now.changes.get(offset) {
            Some(now) => assert_eq!(row, now, "{} changed its past at {offset}", plan.name),
            None => assert!(is_void(), "{} lost the change at {offset}", plan.name),
        }
    }
    model.seen.insert(plan.name.to_string(), now);
}

fn answer(world: &World, query: &str) -> BTreeMap<String, i64> {
    counted(world.sql(&format!("SELECT * FROM {query}")).unwrap_or_else(|e| panic!("{query}: {e}")))
}

fn counted(rows: Vec<Value>) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for row in rows {
        *counts.entry(row.to_string()).or_default() += 1;
    }
    counts
}

fn consolidated(seen: &Seen) -> BTreeMap<String, i64> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for (row, sign) in seen.changes.values() {
        let row: Value = serde_json::from_str(row).unwrap();
        *counts.entry(row.to_string()).or_default() += i64::from(*sign);
    }
    counts.retain(|_, count| *count != 0);
    counts
}
