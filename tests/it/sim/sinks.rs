//! The sinks of the simulation, and whether the database holds what they were to bring there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::model::Model;
use super::remote::{REFUSAL, Remote, is_refused};
use super::world::World;

/// A sink: its query, and how it writes.
pub(crate) struct SinkPlan {
    pub name: &'static str,
    pub query: &'static str,
    pub options: &'static str,
}

const fn sink(name: &'static str, query: &'static str, options: &'static str) -> SinkPlan {
    SinkPlan { name, query, options }
}

/// Over durable and over written streams, in every mode.
pub(crate) const SINKS: &[SinkPlan] = &[
    sink("to_pass", "pass", "mode = 'append'"),
    sink("to_tens", "tens", "mode = 'append'"),
    sink("to_total", "total", "mode = 'upsert', key = 'k'"),
    sink("to_both", "both", "mode = 'upsert', key = 'k'"),
    sink("to_members", "members", "mode = 'changelog'"),
    sink("to_fives", "fives", "mode = 'changelog'"),
];

/// The statement that makes a sink.
pub(crate) fn create(plan: &SinkPlan) -> String {
    let SinkPlan { name, query, options } = plan;
    format!(
        "CREATE SINK {name} FROM {query} INTO SQLITE WITH (path = 'x.db', table = '{name}', {options})"
    )
}

/// Lets every sink come to the end, and compares what it has brought with the answer of its query.
pub(crate) fn audit_sinks(world: &World, model: &Model, remote: &Remote) {
    let there = world.sql("SELECT name, status, error FROM weir.sinks").unwrap();
    remote.calm(true);
    for row in &there {
        let name = row["name"].as_str().unwrap();
        world.sql(&format!("RESUME {name}")).unwrap_or_else(|error| panic!("{row}: {error}"));
    }
    catch_up(world);
    remote.calm(false);
    for plan in SINKS.iter().filter(|plan| there.iter().any(|row| row["name"] == plan.name)) {
        compare(world, model, remote, plan);
    }
}

fn catch_up(world: &World) {
    const BEHIND: &str = "SELECT s.name, s.status, s.error, s.committed_offset, q.next_offset
        FROM weir.sinks AS s JOIN weir.queries AS q ON q.name = s.query
        WHERE s.committed_offset IS DISTINCT FROM q.next_offset";
    for _ in 0..50 {
        while world.hands.turn() {}
        if world.sql(BEHIND).unwrap().is_empty() {
            return;
        }
        world.clock.advance(40 * 1_000_000);
    }
    panic!("sinks stay behind: {:?}", world.sql(BEHIND).unwrap());
}

fn compare(world: &World, model: &Model, remote: &Remote, plan: &SinkPlan) {
    let SinkPlan { name, query, options } = plan;
    let table = remote.table(name);
    let seen = &model.seen[*query];
    let text = |row: &str| serde_json::from_str::<Value>(row).unwrap().to_string();
    if options.contains("changelog") {
        let changes =
            seen.changes.iter().map(|(at, (row, sign))| (*at, i64::from(*sign), text(row)));
        let taken: Vec<_> = changes.filter(|(.., row)| !is_refused(row)).collect();
        assert_eq!(table.changes, taken, "what {name} brought");
    } else {
        let mut answer: BTreeMap<String, i64> = BTreeMap::new();
        for row in world.sql(&format!("SELECT * FROM {query}")).unwrap() {
            *answer.entry(row.to_string()).or_default() += 1;
        }
        answer.retain(|row, _| !is_refused(row));
        assert_eq!(table.rows(), answer, "what {name} brought");
    }
    let letters = format!(
        "SELECT \"offset\" AS at FROM weir.dead_letters
         WHERE relation = '{name}' AND query = '{query}' AND code = '{REFUSAL}'"
    );
    let letters = world.sql(&letters).unwrap();
    let told = letters.len();
    let letters: BTreeSet<u64> = letters.iter().map(|row| row["at"].as_u64().unwrap()).collect();
    assert_eq!(letters.len(), told, "{name} told of a row twice");
    let missing: Vec<_> = table.refused.difference(&letters).collect();
    assert!(missing.is_empty(), "{name} passed over {missing:?}, and nobody says so");
}
