//! Compares what an engine holds after a restart with what clients were told.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir::error::SqlState;

use super::model::{Model, Row};
use super::plan::{CHANGING, QUERIES, QueryPlan, TRIMMED, create, naive};
use super::world::World;

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

/// Checks everything. With `fresh`, every query is also created once more beside itself.
pub(crate) fn audit(world: &World, model: &mut Model, ending: Ending, fresh: bool) {
    audit_of(world, model, ending, &QUERIES.iter().collect::<Vec<_>>(), fresh);
}

/// As [`audit`], where of the queries only some are there.
pub(crate) fn audit_of(
    world: &World,
    model: &mut Model,
    ending: Ending,
    fixed: &[&QueryPlan],
    fresh: bool,
) {
    world.sql("FLUSH").expect("what was recovered can be flushed");
    let lost = ending == Ending::PowerLoss;
    if lost {
        forget_what_power_loss_takes(model);
    }
    model.let_float();
    let clicks = stream(world, model, "clicks", false);
    let bids = stream(world, model, "bids", lost);
    let pulse = trimmed_stream(world, model);
    let users = table(world, model);
    let there = queries(world, model, fixed);
    for plan in &there {
        history(world, model, plan);
        let answer = answer(world, plan.name);
        let changes = consolidated(&model.seen[plan.name]);
        assert_eq!(answer, changes, "SELECT and the changes of {}", plan.name);
        if let Some(expected) = naive(plan.name, &clicks, &bids, &users, pulse.as_deref()) {
            let expected = counted(expected);
            assert_eq!(answer, expected, "{} over the stored rows", plan.name);
        }
        if fresh && plan.name != TRIMMED {
            let made = format!("{}; FLUSH", create("fresh", plan.sql));
            world.sql(&made).unwrap_or_else(|e| panic!("{}: {e}", plan.name));
            let again = self::answer(world, "fresh");
            assert_eq!(answer, again, "{} and the same query made anew", plan.name);
            world.sql("DROP CONTINUOUS QUERY fresh").unwrap();
        }
    }
}

/// Rows that were only written, and changelogs that rest on nothing else, may end earlier now.
fn forget_what_power_loss_takes(model: &mut Model) {
    for plan in QUERIES.iter().filter(|plan| plan.written) {
        model.seen.remove(plan.name);
    }
    for (name, definitions) in &model.queries {
        if definitions.iter().flatten().any(|number| CHANGING[*number].written) {
            model.seen.remove(*name);
        }
    }
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
        let good = request.rows.iter().filter(|row| name != "clicks" || row.at.is_some()).count();
        assert!(there == 0 || there == good, "{name} holds part of {request:?}");
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

/// The rows that ever were in the stream whose old rows go, if all are known; what is left of them is as
/// it was.
fn trimmed_stream(world: &World, model: &mut Model) -> Option<Vec<Row>> {
    for request in model.requests.iter().filter(|request| request.stream == "pulse") {
        let Some((first, ids)) = &request.acked else { continue };
        for (offset, id) in (*first..).zip(ids) {
            let row = request.rows.iter().find(|row| row.id == *id).unwrap();
            let before = model.pulse.insert(offset, row.clone());
            assert!(before.is_none_or(|before| before == *row), "two rows of pulse at {offset}");
        }
    }
    let found = asked(world, "SELECT _offset, id, k, v FROM pulse ORDER BY _offset");
    let number = |line: &Value, column: &str| line[column].as_i64().unwrap();
    let first = found.first().map_or(0, |line| number(line, "_offset") as u64);
    for (offset, line) in (first..).zip(&found) {
        assert_eq!(line["_offset"], offset, "offsets of pulse have no holes");
        let row = model.row(number(line, "id")).cloned().expect("pulse holds what was sent");
        let before = model.pulse.insert(offset, row.clone());
        assert!(before.is_none_or(|before| before == row), "pulse changed at {offset}");
    }
    let end = first + found.len() as u64;
    assert!(model.pulse.keys().all(|offset| *offset < end), "pulse ends too early");
    let ids: BTreeSet<i64> = model.pulse.values().map(|row| row.id).collect();
    assert_eq!(ids.len(), model.pulse.len(), "pulse held a row twice");
    let all_known = model.pulse.len() as u64 == end;
    all_known.then(|| model.pulse.values().cloned().collect())
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

/// What subscribers saw is there still, at the same offsets.
fn history(world: &World, model: &mut Model, plan: &QueryPlan) {
    let now = world.follow(plan.name, 0).unwrap_or_else(|e| panic!("{}: {e}", plan.name));
    assert_eq!(now.gap_to, None, "{}", plan.name);
    let before = model.seen.insert(plan.name.to_string(), now.changes).unwrap_or_default();
    let now = &model.seen[plan.name];
    assert!(now.len() >= before.len(), "{} lost changes that were seen", plan.name);
    assert_eq!(before, now[..before.len()], "{} changed its past", plan.name);
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

fn consolidated(changes: &[(String, i8)]) -> BTreeMap<String, i64> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for (row, sign) in changes {
        let row: Value = serde_json::from_str(row).unwrap();
        *counts.entry(row.to_string()).or_default() += i64::from(*sign);
    }
    counts.retain(|_, count| *count != 0);
    counts
}
