//! Turns bits over in what a run left, and fills the disk up: damage is named and never answered from, a
//! full disk hinders nobody who reads, and is forgotten when there is room again.

use std::collections::BTreeMap;

use weir::error::SqlState;
use weir::log::storage::{Fault, MemoryStorage};

use super::audit::{Ending, audit};
use super::plan::{OBJECTS, QueryPlan, TRIMMED, create, query};
use super::points::{SCRIPTED, SETUP, Script};
use super::setting;
use super::world::World;
use crate::oracle::rng::Rng;

/// What there is to ask.
const ASKED: [&str; 6] = ["clicks", "bids", "users", "tens", "total", "members"];

/// The answers, sorted; each may be an error instead.
fn answers(world: &World) -> BTreeMap<&'static str, Result<Vec<String>, SqlState>> {
    // A query that meets damage stops, and the others go on.
    world.sql("FLUSH").unwrap_or_else(|error| panic!("FLUSH: {error}"));
    let ask = |name: &'static str| {
        let rows = world.sql(&format!("SELECT * FROM {name}"));
        let lines = rows.map(|rows| {
            let mut lines: Vec<String> = rows.iter().map(ToString::to_string).collect();
            lines.sort();
            lines
        });
        (name, lines.map_err(|error| error.code()))
    };
    ASKED.into_iter().map(ask).collect()
}

#[test]
fn a_flipped_bit_anywhere_is_named_and_never_answered_from() {
    let (disk, mut script) = (MemoryStorage::new(), Script::new());
    script.go_on(&disk).unwrap();
    let left = disk.kill();
    let expected =
        answers(&World::open(&left.kill(), &script.clock, 1, SETUP, Some(&script.remote)).unwrap());
    let files: Vec<(String, usize)> = left
        .paths()
        .into_iter()
        .map(|path| (path.clone(), left.contents(&path).unwrap().len()))
        .filter(|(_, length)| *length > 0)
        .collect();
    let mut rng = Rng::new(setting("WEIR_SIM_SEED", 1));
    let (mut refused, mut stopped, mut whole) = (0, 0, 0);
    for _ in 0..setting("WEIR_SIM_FLIPS", 40) {
        let (path, length) = rng.pick(&files);
        let (position, bit) = (rng.index(length), rng.index(8) as u8);
        let disk = left.kill();
        disk.flip(&path, position, bit);
        let place = format!("bit {bit} of byte {position} of {length} of {path}");
        match World::open(&disk, &script.clock, 1, SETUP, Some(&script.remote)) {
            Err(error) => {
                assert_eq!(error.code(), SqlState::CORRUPT, "{place}: {error}");
                refused += 1;
            }
            Ok(world) => {
                let found = answers(&world);
                let damaged = found.values().any(|answer| answer == &Err(SqlState::CORRUPT));
                for (name, answer) in &found {
                    let right = answer == &expected[name] || answer == &Err(SqlState::CORRUPT);
                    assert!(right, "{place}: {name} answers {answer:?}, not {:?}", expected[name]);
                }
                if damaged { stopped += 1 } else { whole += 1 }
            }
        }
    }
    println!("{refused} refused to open, {stopped} refused to answer, {whole} did no harm");
    assert!(refused + stopped > 0);
}

#[test]
fn a_full_disk_hinders_no_reader_and_is_forgotten_when_there_is_room() {
    for seed in 0..setting("WEIR_SIM_COUNT", 3) {
        let (disk, mut script) = (MemoryStorage::new(), Script::new());
        let world = World::open(&disk, &script.clock, seed, SETUP, Some(&script.remote)).unwrap();
        OBJECTS.iter().for_each(|object| drop(world.sql(object).unwrap()));
        for name in SCRIPTED {
            world.sql(&create(name, query(name).sql)).unwrap();
        }
        script.send(&world, "clicks", 8, None);
        script.send(&world, "bids", 8, None);
        disk.set_capacity(Some(disk.used() + Rng::new(seed).index(9_000) as u64));
        let mut tries = 0;
        while script.model.requests.last().is_some_and(|request| request.acked.is_some()) {
            script.clock.advance(1_000_000);
            script.send(&world, ["clicks", "bids"][tries % 2], 6, None);
            tries += 1;
            assert!(tries < 500, "the disk never was full");
        }
        let error = world.sql("INSERT INTO users VALUES (1, 1), (2, 2)").err();
        assert!(error.is_none_or(|error| error.code() == SqlState::DISK_FULL));
        // Reading, following and looking around go on.
        for name in ASKED {
            world.sql(&format!("SELECT * FROM {name}")).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        SCRIPTED.iter().for_each(|name| drop(world.follow(name, 0).unwrap()));
        assert_eq!(world.sql("SHOW QUERIES").unwrap().len(), SCRIPTED.len());
        let error = world.sql("PAUSE total").and_then(|_| world.sql("RESUME total")).err();
        assert!(error.is_none_or(|error| error.code() == SqlState::DISK_FULL));
        disk.set_capacity(None);
        world.sql("RESUME total").unwrap();
        world.engine.run_stopped();
        script.send(&world, "clicks", 3, None);
        script.send(&world, "bids", 3, None);
        assert!(script.model.requests.iter().rev().take(2).all(|request| request.acked.is_some()));
        let users = world.sql("SELECT id, c FROM users").unwrap();
        let number = |row: &serde_json::Value, column: &str| row[column].as_i64().unwrap();
        let users = users.iter().map(|row| (number(row, "id"), number(row, "c"))).collect();
        script.model.tables = [users].into();
        let there: Vec<&QueryPlan> = SCRIPTED.iter().map(|name| query(name)).collect();
        audit(&world, &mut script.model, Ending::Kill, &there, false);
        drop(world);
        script.check(&disk.crash(seed), Ending::PowerLoss);
    }
}

#[test]
fn what_a_query_needs_stays_when_it_fails() {
    let (disk, mut script) = (MemoryStorage::new(), Script::new());
    let world = World::open(&disk, &script.clock, 1, SETUP, Some(&script.remote)).unwrap();
    OBJECTS.iter().for_each(|object| drop(world.sql(object).unwrap()));
    for name in SCRIPTED.into_iter().chain([TRIMMED]) {
        world.sql(&create(name, query(name).sql)).unwrap();
    }
    script.send(&world, "pulse", 5, None);
    // Rows and mark of the stream are written and synced; the fifth call is the query's.
    disk.fail_call(disk.calls() + 5, Fault::Error);
    script.send(&world, "pulse", 5, None);
    let status = format!("SELECT status FROM weir.queries WHERE name = '{TRIMMED}'");
    assert_eq!(world.sql(&status).unwrap()[0]["status"], "failed");
    for _ in 0..10 {
        script.clock.advance(5 * 1_000_000);
        script.send(&world, "pulse", 5, None);
        world.retention().unwrap();
    }
    drop(world);
    let world = World::open(&disk.crash(1), &script.clock, 2, SETUP, Some(&script.remote)).unwrap();
    let there: Vec<&QueryPlan> =
        SCRIPTED.into_iter().chain([TRIMMED]).map(|name| query(name)).collect();
    audit(&world, &mut script.model, Ending::PowerLoss, &there, false);
}

/// What an engine leaves that was prepared and ended, to be opened as often as there are faults to try.
struct Prepared {
    left: MemoryStorage,
    script: Script,
}

impl Prepared {
    fn new(prepare: impl Fn(&World, &mut Script)) -> Prepared {
        let (disk, mut script) = (MemoryStorage::new(), Script::new());
        let world = World::open(&disk, &script.clock, 1, SETUP, Some(&script.remote)).unwrap();
        prepare(&world, &mut script);
        drop(world);
        Prepared { left: disk.kill(), script }
    }

    fn open(&self, disk: &MemoryStorage) -> World {
        World::open(disk, &self.script.clock, 2, SETUP, Some(&self.script.remote)).unwrap()
    }

    /// Fails the call of this number of what is asked, and opens the engine again after a power loss; `None`
    /// once there is no such call any more.
    fn with_a_fault(
        &self,
        (number, fault): (u64, Fault),
        mut ask: impl FnMut(&World),
    ) -> Option<World> {
        let disk = self.left.kill();
        let world = self.open(&disk);
        disk.fail_call(disk.calls() + number, fault);
        ask(&world);
        if disk.failures() == 0 {
            return None;
        }
        drop(world);
        Some(self.open(&disk.crash(number)))
    }
}

#[test]
fn a_pause_that_the_catalog_refused_holds_when_it_is_said_again() {
    let prepared = Prepared::new(|world, script| {
        world.sql(OBJECTS[1]).unwrap();
        world.sql(&create("total", query("total").sql)).unwrap();
        script.send(world, "bids", 5, None);
    });
    let mut said_again = 0;
    for number in 1.. {
        let mut held = false;
        let pause = |world: &World| {
            let first = world.sql("PAUSE total");
            let done = first.is_ok() || world.sql("PAUSE total").is_ok();
            said_again += u64::from(first.is_err() && done);
            held = done;
        };
        let Some(world) = prepared.with_a_fault((number, Fault::NoSpace), pause) else { break };
        let status = world.sql("SELECT status FROM weir.queries").unwrap();
        assert!(!held || status[0]["status"] == "paused", "call {number}: {status:?}");
    }
    assert!(said_again > 0, "the catalog was never refused");
}

#[test]
fn a_history_that_could_not_be_let_go_is_let_go_later_and_its_result_stays() {
    const ASKED: &str = "SELECT k, total FROM sums ORDER BY k";
    let prepared = Prepared::new(|world, script| {
        world.sql("CREATE STREAM s (k TEXT, v BIGINT)").unwrap();
        let sums = "CREATE CONTINUOUS QUERY sums WITH (retention = '1 minute') AS \
                    SELECT k, sum(v) AS total FROM s GROUP BY k";
        world.sql(sums).unwrap();
        for n in 0..24 {
            let insert = format!("INSERT INTO s VALUES ('a', {n}), ('k{}', 1); FLUSH", n % 5);
            world.sql(&insert).unwrap();
            script.clock.advance(10 * 1_000_000);
        }
    });
    let (mut refused, mut expected) = (0, None);
    for fault in [Fault::Error, Fault::NoSpace, Fault::Short] {
        for number in 1.. {
            let trim = |world: &World| {
                let answer = world.sql(ASKED).unwrap();
                refused += u64::from(world.retention().is_err());
                drop(world.retention());
                assert_eq!(&answer, expected.get_or_insert_with(|| answer.clone()));
                let status = world.sql("SELECT status FROM weir.queries").unwrap();
                if status[0]["status"] == "running" {
                    assert_eq!(world.sql(ASKED).unwrap(), answer, "call {number}, {fault:?}");
                }
            };
            let Some(world) = prepared.with_a_fault((number, fault), trim) else { break };
            assert_eq!(Some(world.sql(ASKED).unwrap()), expected, "call {number}, {fault:?}");
        }
    }
    assert!(refused > 15, "retention met {refused} faults only");
}
