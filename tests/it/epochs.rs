//! Takes the power from engines whose streams are only written, or kept in memory, and looks at what
//! subscribers are told: no offset ever stands for two rows.

use std::sync::Arc;

use weir::log::storage::MemoryStorage;
use weir::time::VirtualClock;

use crate::sim::world::{Seen, Setup, World};

const SETUP: Setup = Setup {
    snapshot_interval: i64::MAX,
    step_rows: 65_536,
    segment_bytes: 64 << 20,
    queue_rows: 1 << 20,
};

fn open(disk: &MemoryStorage) -> World {
    World::open(disk, &Arc::new(VirtualClock::new(1_800_000_000_000_000)), 1, SETUP, None).unwrap()
}

fn run(world: &World, sql: &str) -> Vec<serde_json::Value> {
    let rows = world.sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    while world.hands.turn() {}
    rows
}

fn insert(world: &World, values: std::ops::Range<i64>) {
    let values: Vec<String> = values.map(|n| format!("({n})")).collect();
    run(world, &format!("INSERT INTO s VALUES {}; FLUSH", values.join(", ")));
}

fn numbers(seen: &Seen) -> Vec<i64> {
    let number = |(row, _): &(String, i8)| -> i64 {
        serde_json::from_str::<serde_json::Value>(row).unwrap()["n"].as_i64().unwrap()
    };
    seen.changes.values().map(number).collect()
}

const QUERY: &str = "CREATE CONTINUOUS QUERY q AS SELECT n FROM s";

/// The power goes after ten rows; a subscriber has seen them all.
fn power_loss(seed: u64) -> (MemoryStorage, Seen) {
    let disk = MemoryStorage::new();
    let world = open(&disk);
    run(&world, "CREATE STREAM s (n BIGINT) WITH (durability = 'written')");
    run(&world, QUERY);
    (0..10).for_each(|n| insert(&world, n..n + 1));
    let seen = world.follow("q", 0).unwrap();
    assert_eq!(numbers(&seen), (0..10).collect::<Vec<_>>());
    drop(world);
    (disk.crash(seed), seen)
}

#[test]
fn after_power_loss_a_subscriber_hears_of_a_gap_and_sees_no_offset_twice() {
    let mut lost = 0;
    for seed in 0..40 {
        let (disk, mut seen) = power_loss(seed);
        let world = open(&disk);
        run(&world, "FLUSH");
        let kept = run(&world, "SELECT n FROM s ORDER BY _offset").len() as i64;
        lost += 10 - kept;
        insert(&world, 100..105);
        let before = seen.clone();
        let on = world.follow("q", seen.next).unwrap();
        assert_eq!(on.gaps.len(), 1, "{seed}");
        let (from, to) = on.gaps[0];
        assert!(from <= seen.next && seen.next < to, "{seed}: {from} to {to}");
        seen.go_on(on);
        let expected: Vec<i64> = (0..kept).chain(100..105).collect();
        assert_eq!(numbers(&seen), expected, "{seed}");
        // The same from the beginning, and from everywhere.
        for offset in 0..=before.next {
            let mut part = before.clone();
            part.changes.retain(|at, _| *at < offset);
            part.go_on(world.follow("q", offset).unwrap());
            assert_eq!(part.changes, seen.changes, "{seed}, from {offset}");
        }
        let answer = run(&world, "SELECT n FROM q ORDER BY n");
        assert_eq!(answer.len(), expected.len());
        // An orderly end loses nothing, so nothing is void after it.
        world.wait(world.engine.shutdown());
        let disk = world.disk.crash(seed);
        drop(world);
        let world = open(&disk);
        run(&world, "FLUSH");
        assert_eq!(world.follow("q", 0).unwrap().gaps, [(from, to)]);
        insert(&world, 200..202);
        let on = world.follow("q", seen.next).unwrap();
        assert_eq!((numbers(&on), on.gaps), (vec![200, 201], vec![]));
    }
    assert!(lost > 0, "some rows are lost in some of the cases");
}

#[test]
fn after_a_kill_nothing_is_void() {
    let disk = MemoryStorage::new();
    let world = open(&disk);
    run(&world, "CREATE STREAM s (n BIGINT) WITH (durability = 'written')");
    run(&world, QUERY);
    insert(&world, 0..10);
    drop(world);
    let world = open(&disk.kill());
    insert(&world, 10..12);
    let seen = world.follow("q", 0).unwrap();
    assert_eq!((numbers(&seen), seen.gaps), ((0..12).collect(), vec![]));
}

#[test]
fn a_changelog_in_memory_begins_at_offsets_that_nobody_has_seen() {
    for orderly in [true, false] {
        let disk = MemoryStorage::new();
        let world = open(&disk);
        run(&world, "CREATE STREAM s (n BIGINT) WITH (durability = 'memory')");
        run(&world, QUERY);
        insert(&world, 0..10);
        let mut seen = world.follow("q", 0).unwrap();
        if orderly {
            world.wait(world.engine.shutdown());
        }
        let left = world.disk.kill();
        drop(world);
        let world = open(&left);
        insert(&world, 100..103);
        let on = world.follow("q", seen.next).unwrap();
        let gap = if orderly { vec![] } else { on.gaps.clone() };
        assert_eq!(on.gaps, gap);
        seen.go_on(on);
        if !orderly {
            assert_eq!(numbers(&seen), [100, 101, 102]);
        }
        let whole = world.follow("q", 0).unwrap();
        assert_eq!(numbers(&whole), [100, 101, 102]);
        let first = *whole.changes.keys().next().unwrap();
        assert!(first >= 10, "offset {first} was seen before");
        assert_eq!(whole.gaps, [(0, first)]);
        assert_eq!(run(&world, "SELECT n FROM q").len(), 3);
    }
}

#[test]
fn durable_queries_over_written_ones_speak_of_nothing_that_power_loss_takes() {
    for seed in 0..30 {
        let disk = MemoryStorage::new();
        let world = open(&disk);
        run(&world, "CREATE STREAM s (n BIGINT) WITH (durability = 'written')");
        run(&world, "CREATE STREAM d (n BIGINT)");
        run(&world, QUERY);
        run(&world, "CREATE CONTINUOUS QUERY up AS SELECT n FROM q UNION ALL SELECT n FROM d");
        insert(&world, 0..5);
        run(&world, "INSERT INTO d VALUES (50); FLUSH");
        let before = world.follow("up", 0).unwrap();
        assert_eq!(before.changes.len(), 6);
        drop(world);
        let world = open(&disk.crash(seed));
        run(&world, "FLUSH");
        let after = world.follow("up", 0).unwrap();
        assert_eq!((&after.changes, &after.gaps), (&before.changes, &vec![]), "{seed}");
    }
}

#[test]
fn a_full_disk_after_power_loss_delays_the_epoch_and_loses_nothing() {
    let (disk, mut seen) = power_loss(3);
    disk.set_capacity(Some(0));
    let world = open(&disk);
    assert!(run(&world, "SELECT n FROM s").len() <= 10);
    let status = "SELECT status, error FROM weir.queries";
    let failed = run(&world, status)[0].to_string();
    assert!(failed.contains("failed") && failed.contains("53100"), "{failed}");
    disk.set_capacity(None);
    world.engine.run_stopped();
    insert(&world, 100..102);
    seen.go_on(world.follow("q", seen.next).unwrap());
    let answer = run(&world, "SELECT n FROM q ORDER BY n");
    let answer: Vec<i64> = answer.iter().map(|row| row["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers(&seen), answer);
    assert!(!seen.gaps.is_empty());
    // What is shown from now on is safe from the next loss of power, too.
    let seen_before = seen.next;
    let disk = world.disk.crash(5);
    drop(world);
    let world = open(&disk);
    insert(&world, 300..301);
    let whole = world.follow("q", 0).unwrap();
    let (offset, _) = whole.changes.last_key_value().unwrap();
    assert!(*offset >= seen_before, "offset {offset} was seen before");
}

#[test]
fn a_group_by_over_offsets_that_are_passed_over_shows_the_groups_there_are() {
    let disk = MemoryStorage::new();
    let world = open(&disk);
    run(&world, "CREATE STREAM s (n BIGINT) WITH (durability = 'memory')");
    run(
        &world,
        "CREATE CONTINUOUS QUERY g AS SELECT n % 2 AS k, count(*) AS c FROM s GROUP BY n % 2",
    );
    insert(&world, 0..10);
    let left = world.disk.kill();
    drop(world);
    let world = open(&left);
    assert_eq!(run(&world, "FLUSH; SELECT * FROM g").len(), 0);
    insert(&world, 1..2);
    let rows = run(&world, "SELECT k, c FROM g");
    assert_eq!(rows, [serde_json::json!({"k": 1, "c": 1})]);
}

#[test]
fn epochs_one_behind_the_other_are_told_without_a_pause() {
    let (mut disk, mut seen) = power_loss(11);
    for round in 0..3 {
        let world = open(&disk);
        if round == 0 {
            // Its watermarks are written from now on, between the epochs as well.
            run(&world, "CREATE CONTINUOUS QUERY up AS SELECT n FROM q");
        }
        insert(&world, 100..101);
        disk = world.disk.crash(round);
        drop(world);
    }
    let world = open(&disk);
    run(&world, "FLUSH");
    let whole = world.follow("q", 0).unwrap();
    let head = run(&world, "SELECT next_offset FROM weir.queries WHERE name = 'q'");
    assert_eq!(head[0]["next_offset"], whole.next);
    seen.go_on(world.follow("q", seen.next).unwrap());
    assert_eq!((seen.changes, seen.next), (whole.changes, whole.next));
}
