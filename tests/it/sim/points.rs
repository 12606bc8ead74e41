//! Ends a scripted run at each of its calls of the disk, or lets each call fail, and audits what is left.
//!
//! The script is short and touches everything that writes: streams, a table, queries, snapshots, the
//! rotation of segments, retention, replacing, pausing and dropping. A first run counts its calls; then one
//! run for each call and each way to go wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use weir::engine::Producer;
use weir::error::Result;
use weir::log::storage::{Fault, MemoryStorage};
use weir::time::VirtualClock;

use super::audit::{Ending, audit};
use super::model::{Ask, BEGIN, Model, Request, Row, SECOND};
use super::plan::{CHANGING, OBJECTS, QueryPlan, create, query};
use super::remote::Remote;
use super::sinks::{self, SINKS, audit_sinks};
use super::world::{Setup, World};

pub(super) const SETUP: Setup =
    Setup { snapshot_interval: 0, step_rows: 65_536, segment_bytes: 1_500, queue_rows: 1 << 20 };

/// The queries of the script.
pub(super) const SCRIPTED: [&str; 3] = ["tens", "total", "members"];

/// One step of the script.
#[derive(Clone, Copy)]
enum Step {
    Create(usize),
    Query(&'static str),
    /// The sink with this number.
    Sink(usize),
    /// The promise that a lot is closed.
    Promise(i64),
    /// Rows into a stream.
    Rows(&'static str, usize),
    /// Rows of a producer, sent again until they are acknowledged.
    Again(usize),
    Insert(i64, i64),
    Update(i64, i64),
    Delete(i64),
    Replace(&'static str, usize),
    Drop(&'static str),
    Pause(&'static str),
    Resume(&'static str),
    Rebuild(&'static str),
    Timers,
    Snapshots,
    Retention,
    Shutdown,
}

const SCRIPT: &[Step] = &[
    Step::Create(0),
    Step::Create(1),
    Step::Create(2),
    Step::Query("tens"),
    Step::Query("total"),
    Step::Query("members"),
    Step::Create(4),
    Step::Query("sold"),
    Step::Sink(1),
    Step::Sink(2),
    Step::Rows("clicks", 3),
    Step::Rows("lots", 7),
    Step::Again(2),
    Step::Promise(1),
    Step::Insert(1, 5),
    Step::Replace("d0", 0),
    Step::Rows("clicks", 12),
    Step::Snapshots,
    Step::Again(3),
    Step::Update(1, 6),
    Step::Pause("total"),
    Step::Rows("bids", 4),
    Step::Resume("total"),
    Step::Replace("d0", 1),
    Step::Rows("clicks", 14),
    Step::Rows("lots", 3),
    Step::Promise(2),
    Step::Insert(2, 6),
    Step::Timers,
    Step::Rebuild("tens"),
    Step::Delete(1),
    Step::Retention,
    Step::Drop("d0"),
    Step::Rows("clicks", 3),
    Step::Shutdown,
];

/// A short script, of which a check of every change tries each call.
const SHORT: &[Step] = &[
    Step::Create(0),
    Step::Query("tens"),
    Step::Sink(1),
    Step::Rows("clicks", 12),
    Step::Snapshots,
    Step::Rows("clicks", 14),
    Step::Replace("d0", 1),
    Step::Shutdown,
];

/// A script of a query that runs out of memory.
const THINNING: &[Step] = &[
    Step::Create(0),
    Step::Query("thin"),
    Step::Rows("clicks", 40),
    Step::Rows("clicks", 40),
    Step::Snapshots,
    Step::Rows("clicks", 40),
    Step::Pause("thin"),
    Step::Rows("clicks", 30),
    Step::Resume("thin"),
    Step::Rows("clicks", 40),
    Step::Shutdown,
];

/// A run of a script.
pub(super) struct Script {
    steps: &'static [Step],
    pub(super) model: Model,
    pub(super) clock: Arc<VirtualClock>,
    pub(super) remote: Remote,
    /// How many statements of creation went through or may have.
    created: usize,
    next: usize,
    id: i64,
    sequence: u64,
}

impl Script {
    /// The whole script.
    pub(super) fn new() -> Script {
        Script::of(SCRIPT)
    }

    fn of(steps: &'static [Step]) -> Script {
        let clock = Arc::new(VirtualClock::new(BEGIN));
        let (model, remote) = (Model::new(), Remote::new(1));
        Script { steps, model, clock, remote, created: 0, next: 0, id: 0, sequence: 0 }
    }

    /// Opens an engine and goes on with the script, to its end or to that of the process.
    pub(super) fn go_on(&mut self, disk: &MemoryStorage) -> Result<()> {
        let world = World::open(disk, &self.clock, 1, SETUP, Some(&self.remote))?;
        while self.next < self.steps.len() && !disk.has_ended() {
            let step = self.steps[self.next];
            self.next += 1;
            self.clock.advance(SECOND);
            self.take(&world, step);
        }
        Ok(())
    }

    fn take(&mut self, world: &World, step: Step) {
        let (ask, text) = match step {
            Step::Rows(stream, count) => return self.send(world, stream, count, None),
            Step::Again(count) => {
                // A producer goes on only behind what it has an answer to.
                while let Some(number) = self.model.unanswered_of("p") {
                    self.repeat(world, number);
                    if self.model.requests[number].acked.is_none() {
                        return;
                    }
                }
                self.sequence += 1;
                return self.send(world, "bids", count, Some(("p", self.sequence)));
            }
            // What they meet shows in what they leave.
            Step::Timers => return drop(world.timers()),
            Step::Snapshots => return world.snapshots(),
            Step::Retention => return drop(world.retention()),
            Step::Shutdown => return world.wait(world.engine.shutdown()),
            Step::Create(number) => (Ask::Other, OBJECTS[number].to_string()),
            Step::Query(name) => (Ask::Other, create(name, query(name).sql)),
            Step::Sink(number) => (Ask::Other, sinks::create(&SINKS[number])),
            Step::Promise(lot) => (Ask::Promise(lot), format!("PUNCTUATE lots WHERE k = {lot}")),
            Step::Insert(id, c) => {
                (Ask::Insert(id, c), format!("INSERT INTO users VALUES ({id}, {c})"))
            }
            Step::Update(id, c) => {
                (Ask::Update(id, c), format!("UPDATE users SET c = {c} WHERE id = {id}"))
            }
            Step::Delete(id) => (Ask::Delete(id), format!("DELETE FROM users WHERE id = {id}")),
            Step::Replace(name, number) => {
                let sql = CHANGING[number].sql;
                let text = format!("CREATE OR REPLACE CONTINUOUS QUERY {name} AS {sql}");
                (Ask::Replace(name, number), text)
            }
            Step::Drop(name) => {
                (Ask::Drop(name), format!("DROP CONTINUOUS QUERY IF EXISTS {name}"))
            }
            Step::Pause(name) => (Ask::Pause(name), format!("PAUSE {name}")),
            Step::Resume(name) => (Ask::Resume(name), format!("RESUME {name}")),
            Step::Rebuild(name) => (Ask::Other, format!("REBUILD CONTINUOUS QUERY {name}")),
        };
        let answer = world.wait(world.ask_sql(text));
        if let Step::Create(_) | Step::Query(_) | Step::Sink(_) = step {
            self.created += usize::from(answer.is_ok());
        }
        self.model.answered(&ask, Some(answer));
        // What follows from it, too, is part of the script.
        while world.hands.turn() {}
    }

    pub(super) fn send(
        &mut self,
        world: &World,
        stream: &'static str,
        count: usize,
        producer: Option<(&'static str, u64)>,
    ) {
        let rows = (0..count as i64).map(|n| {
            self.id += 1;
            Row { id: self.id, k: self.id % 3, v: n, at: Some(BEGIN + self.id * SECOND) }
        });
        let mut rows: Vec<Row> = rows.collect();
        let lots = if stream == "lots" { &mut rows[..] } else { &mut [] };
        lots.iter_mut().for_each(|row| row.k = self.id % 3 + row.v % 3);
        let closed = |row: &&Row| self.model.promised.get(&row.k) == Some(&true);
        let closed = if stream == "lots" {
            rows.iter().filter(closed).map(|r| r.id).collect()
        } else {
            vec![]
        };
        self.model.requests.push(Request { producer, closed, ..Request::new(stream, rows) });
        self.repeat(world, self.model.requests.len() - 1);
    }

    fn repeat(&mut self, world: &World, number: usize) {
        let request = &self.model.requests[number];
        let producer = request.producer.map(|(id, sequence)| Producer {
            id: id.to_string(),
            sequence,
            each_row: false,
        });
        let asked = world.ask_rows(request.stream, &request.text(), None, producer);
        let answer = world.wait(asked);
        self.model.answered(&Ask::Rows(number), Some(answer));
        while world.hands.turn() {}
    }

    /// Opens what a crash or a fault left, audits it, sends again what was not answered, and audits
    /// once more.
    pub(super) fn check(&mut self, disk: &MemoryStorage, ending: Ending) {
        let world = World::open(disk, &self.clock, 2, SETUP, Some(&self.remote))
            .unwrap_or_else(|error| panic!("it does not open: {error}"));
        let aside = world.sql("SELECT error FROM weir.streams WHERE error IS NOT NULL").unwrap();
        assert!(aside.is_empty(), "{aside:?}");
        let there = self.complete(&world);
        audit(&world, &mut self.model, ending, &there, false);
        audit_sinks(&world, &self.model, &self.remote);
        while let Some(number) = self.model.unanswered_of("p") {
            self.repeat(&world, number);
            assert!(self.model.requests[number].acked.is_some(), "it is refused after a restart");
        }
        self.send(&world, "clicks", 2, None);
        assert!(self.model.requests.last().is_some_and(|request| request.acked.is_some()));
        audit(&world, &mut self.model, Ending::Kill, &there, false);
        audit_sinks(&world, &self.model, &self.remote);
    }

    /// Makes what the script had not come to, or what was lost unacknowledged; what was acknowledged
    /// must be there.
    fn complete(&mut self, world: &World) -> Vec<&'static QueryPlan> {
        let mut there = 0;
        let mut make = |text: String| match world.sql(&text) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.code().0, "42P07", "{error}");
                there += 1;
            }
        };
        let mut queries = Vec::new();
        for step in self.steps {
            match step {
                Step::Create(number) => make(OBJECTS[*number].to_string()),
                Step::Query(name) => {
                    queries.push(query(name));
                    make(create(name, query(name).sql));
                }
                Step::Sink(number) => make(sinks::create(&SINKS[*number])),
                _ => {}
            }
        }
        assert!(there >= self.created, "{} were made and {there} are there", self.created);
        queries
    }
}

/// Tries each call of the short script, or of the whole one, all or some, as the environment says.
fn each_call(otherwise: u64, check: impl Fn(Script, u64)) {
    let every = super::setting("WEIR_SIM_EVERY", 0);
    let (steps, every) = if every > 0 { (SCRIPT, every) } else { (SHORT, otherwise) };
    each_call_of(steps, every, check);
}

/// Tries each call of a script, or some.
fn each_call_of(steps: &'static [Step], every: u64, check: impl Fn(Script, u64)) {
    let disk = MemoryStorage::new();
    Script::of(steps).go_on(&disk).unwrap();
    let (first, all) = (super::setting("WEIR_SIM_POINT", 1), disk.calls());
    let (mut tried, mut failed) = (0, Vec::new());
    for number in (first..=all).step_by(every as usize) {
        tried += 1;
        let lived = AssertUnwindSafe(|| check(Script::of(steps), number));
        if catch_unwind(lived).is_err() {
            println!("call {number} of {all} fails");
            failed.push(number);
        }
    }
    println!("{tried} of {all} calls were tried");
    assert!(failed.is_empty(), "{} of {tried} fail: {failed:?}", failed.len());
}

/// Ends the process at a call.
fn ends_at(mut script: Script, number: u64, ending: Ending) {
    let disk = MemoryStorage::new();
    disk.fail_call(number, Fault::End);
    drop(script.go_on(&disk));
    let left = match ending {
        Ending::Kill | Ending::Shutdown => disk.kill(),
        Ending::PowerLoss => disk.crash(number),
    };
    script.check(&left, ending);
}

/// Lets a call fail; the engine goes on as well as it can, and then the power goes.
fn fails_at(mut script: Script, number: u64, fault: Fault) {
    let disk = MemoryStorage::new();
    disk.fail_call(number, fault);
    drop(script.go_on(&disk));
    script.check(&disk.crash(number), Ending::PowerLoss);
}

#[test]
fn a_script_that_is_killed_at_any_call_loses_nothing() {
    each_call(1, |script, number| ends_at(script, number, Ending::Kill));
}

#[test]
fn a_script_that_loses_power_at_any_call_loses_nothing_durable() {
    each_call(1, |script, number| ends_at(script, number, Ending::PowerLoss));
}

#[test]
fn a_script_of_which_any_call_fails_acknowledges_nothing_that_is_not_there() {
    each_call(5, |script, number| fails_at(script, number, Fault::Error));
}

#[test]
fn a_script_of_which_any_call_finds_the_disk_full_acknowledges_nothing_that_is_not_there() {
    each_call(5, |script, number| fails_at(script, number, Fault::NoSpace));
}

#[test]
fn a_script_of_which_any_write_is_cut_short_acknowledges_nothing_that_is_not_there() {
    each_call(5, |script, number| fails_at(script, number, Fault::Short));
}

#[test]
fn a_query_that_sheds_is_the_same_after_an_end_at_any_call() {
    let (disk, mut script) = (MemoryStorage::new(), Script::of(THINNING));
    script.go_on(&disk).unwrap();
    let world = World::open(&disk.kill(), &script.clock, 1, SETUP, Some(&script.remote)).unwrap();
    let shed = world.sql("SELECT rows_shed FROM weir.queries").unwrap();
    let shed = shed[0]["rows_shed"].as_u64().unwrap();
    assert!((10..180).contains(&shed), "{shed} rows are shed");
    // Each of all calls where the environment asks for it.
    let every = |some| super::setting("WEIR_SIM_EVERY", some);
    each_call_of(THINNING, every(5), |script, number| ends_at(script, number, Ending::Kill));
    each_call_of(THINNING, every(7), |script, number| ends_at(script, number, Ending::PowerLoss));
    each_call_of(THINNING, every(13), |script, number| fails_at(script, number, Fault::NoSpace));
}
