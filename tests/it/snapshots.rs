//! Snapshots of running queries: used after a restart, doubted when damaged, and what lets retention work.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use weir::engine::{Engine, EngineSettings};
use weir::time::{SECOND, VirtualClock};

use crate::engines::{NOW, copy, open_with, run, settings};

const HOUR: i64 = 3_600 * SECOND;

/// An engine over a directory whose queries write a snapshot after every step.
struct Place {
    engine: Arc<Engine>,
    clock: Arc<VirtualClock>,
}

impl Place {
    fn open(directory: &Path, now: i64) -> Place {
        Place::open_with(directory, now, 4 << 20)
    }

    /// An engine that copies so many bytes of state between two steps.
    fn open_with(directory: &Path, now: i64, snapshot_portion: usize) -> Place {
        let clock = Arc::new(VirtualClock::new(now));
        let chosen =
            EngineSettings { snapshot_interval: 0, snapshot_portion, ..settings(directory) };
        Place { engine: open_with(chosen, &clock), clock }
    }

    async fn run(&self, sql: &str) -> String {
        run(&self.engine, sql).await
    }

    /// A thousand rows, of about 100 KB.
    async fn feed(&self) {
        let rows: Vec<String> = (0..1_000)
            .map(|i| format!("({}, '{}', now())", i % 7, "a text of a hundred bytes ".repeat(4)))
            .collect();
        self.run(&format!("INSERT INTO s VALUES {}; FLUSH", rows.join(", "))).await;
    }
}

const OBJECTS: &str = "CREATE STREAM s (k BIGINT, t TEXT, at TIMESTAMP, WATERMARK FOR at AS at)
        WITH (retention = '1 hour', retention_bytes = '256 KB');
    CREATE CONTINUOUS QUERY totals AS SELECT k, count(*) AS n, min(t) AS least FROM s GROUP BY k;
    CREATE CONTINUOUS QUERY hours AS SELECT window_start, k, count(*) AS n, avg(k) AS mean
        FROM HOP(s, at, INTERVAL '1 hour', INTERVAL '3 hours') GROUP BY window_start, window_end, k;
    CREATE CONTINUOUS QUERY visits AS SELECT window_start, k, count(*) AS n, stddev(length(t)) AS d
        FROM SESSION(s, at, INTERVAL '3 hours', PARTITION => k) GROUP BY window_start, window_end, k;
    CREATE CONTINUOUS QUERY visitors AS SELECT k, window_start, window_end
        FROM SESSION(s, at, INTERVAL '40 minutes', PARTITION => k) EMIT CHANGES;
    CREATE CONTINUOUS QUERY heaps AS SELECT window_id, k, sum(k) AS total
        FROM COUNT_WINDOW(s, 250, SLIDE => 100, PARTITION => k) GROUP BY window_id, k;
    CREATE CONTINUOUS QUERY marked AS SELECT window_id, window_reason, count(*) AS n
        FROM PUNCTUATION_WINDOW(s, END => k = 5, MAX_ROWS => 4) GROUP BY window_id, window_reason;
    CREATE CONTINUOUS QUERY spread AS SELECT k, stddev(length(t)) AS d FROM s GROUP BY k;";

const ANSWERS: &str = "SELECT k, n FROM totals ORDER BY k; SELECT * FROM hours ORDER BY 1, 2;
    SELECT * FROM visits ORDER BY 1, 2; SELECT * FROM heaps ORDER BY 1, 2; SELECT * FROM marked ORDER BY 1;
    SELECT k, window_end - window_start AS width, count(*) AS n FROM visitors GROUP BY 1, 2 ORDER BY 1, 2;
    SELECT name, rows_in, next_offset FROM weir.queries WHERE name <> 'spread' ORDER BY name";

fn snapshots(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for query in fs::read_dir(directory.join("snapshots")).unwrap() {
        files.extend(fs::read_dir(query.unwrap().path()).unwrap().map(|f| f.unwrap().path()));
    }
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_snapshot_holds_need_not_be_retained() {
    let directory = tempfile::tempdir().unwrap();
    let now = NOW;
    let place = Place::open(directory.path(), now);
    place.run(OBJECTS).await;
    place.run("DROP CONTINUOUS QUERY spread").await;
    for _ in 0..8 {
        place.feed().await;
        place.clock.advance(HOUR / 2);
    }
    place.engine.shutdown().await;
    drop(place);

    // Two snapshots of each query stand now, and retention may remove what is before them.
    let place = Place::open(directory.path(), now + 4 * HOUR);
    place.feed().await;
    place.feed().await;
    let before = place.run(ANSWERS).await;
    place.clock.advance(2 * HOUR);
    assert_eq!(place.engine.run_retention().unwrap(), 1);
    let earliest = place.run("SELECT min(_offset) AS earliest FROM s").await;
    assert_ne!(earliest, "{\"earliest\":0}\n", "retention removed nothing");
    place.engine.shutdown().await;
    drop(place);

    let place = Place::open(directory.path(), now + 6 * HOUR);
    place.run("FLUSH").await;
    assert_eq!(place.run(ANSWERS).await, before, "answers after the restart");
    place.feed().await;
    let sum = place.run("SELECT sum(n) AS n FROM totals").await;
    assert_eq!(sum, "{\"n\":11000}\n");
    place.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_leaves_the_last_snapshot_or_the_one_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let now = NOW;
    let place = Place::open(directory.path(), now);
    place.run(OBJECTS).await;
    for _ in 0..4 {
        place.feed().await;
        place.clock.advance(HOUR);
    }
    let before = place.run(ANSWERS).await;

    // As the directory is at this moment, so it would be after kill -9.
    for (damaged, newest) in [(0, true), (1, true), (2, true), (12, true), (1, false), (6, false)] {
        let crashed = tempfile::tempdir().unwrap();
        copy(directory.path(), crashed.path());
        let files = snapshots(crashed.path());
        let queries = std::fs::read_dir(crashed.path().join("snapshots")).unwrap();
        assert_eq!(queries.count(), 7, "all of them");
        let mut doomed: Vec<_> = files.iter().collect();
        if newest {
            doomed.reverse();
        } else {
            // The older of the two snapshots of each query.
            doomed.dedup_by_key(|file| file.parent());
        }
        for file in doomed.into_iter().take(damaged) {
            let mut bytes = fs::read(file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(file, bytes).unwrap();
        }
        let again = Place::open(crashed.path(), now + 5 * HOUR);
        again.run("FLUSH").await;
        assert_eq!(again.run(ANSWERS).await, before, "{damaged} damaged snapshots");
        again.feed().await;
        assert_eq!(again.run("SELECT sum(n) AS n FROM totals").await, "{\"n\":5000}\n");
        again.engine.shutdown().await;
    }
    place.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_that_a_copy_would_change_are_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::open(directory.path(), NOW);
    place.run("CREATE STREAM s (k BIGINT, t TEXT, at TIMESTAMP)").await;
    place
        .run("CREATE CONTINUOUS QUERY d AS SELECT k, regr_slope(k, k) AS d FROM s GROUP BY k")
        .await;
    place.feed().await;
    place.engine.shutdown().await;
    assert!(!directory.path().join("snapshots").exists());
}

/// Flips a bit in the middle of files.
fn damage(files: &[std::path::PathBuf]) {
    for file in files {
        let mut bytes = fs::read(file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(file, bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_taken_in_portions_is_the_state_of_one_moment() {
    let directory = tempfile::tempdir().unwrap();
    let now = NOW;
    let place = Place::open_with(directory.path(), now, 1);
    place
        .run(
            "CREATE STREAM s (k BIGINT, t TEXT, at TIMESTAMP, WATERMARK FOR at AS at);
             CREATE CONTINUOUS QUERY totals AS SELECT k, t, count(*) AS n, sum(k) AS total, min(t) AS least,
                 count(DISTINCT k) AS d FROM s GROUP BY k, t;
             CREATE CONTINUOUS QUERY hours AS SELECT window_start, k, count(*) AS n, avg(k) AS mean, max(k) AS most
                 FROM HOP(s, at, INTERVAL '1 hour', INTERVAL '3 hours') GROUP BY window_start, window_end, k;
             CREATE CONTINUOUS QUERY early AS SELECT window_start, t, count(*) AS n, min(t) AS least
                 FROM TUMBLE(s, at, INTERVAL '1 day') GROUP BY window_start, window_end, t EMIT CHANGES;",
        )
        .await;
    let answers = "SELECT * FROM totals ORDER BY k, t; SELECT * FROM hours ORDER BY 1, 2;
        SELECT * FROM early ORDER BY 1, 2; SELECT name, rows_in, next_offset FROM weir.queries ORDER BY name";
    for round in 0..12_i64 {
        // Groups all over the state change while the snapshot that began before is under way.
        let rows = (0..40).map(|i| {
            let key = (i * 7 + round * 13) % 60;
            format!("({key}, 'text number {}', now())", key % 9)
        });
        place
            .run(&format!("INSERT INTO s VALUES {}; FLUSH", rows.collect::<Vec<_>>().join(", ")))
            .await;
        place.clock.advance(HOUR / 2);
        let crashed = tempfile::tempdir().unwrap();
        copy(directory.path(), crashed.path());
        let before = place.run(answers).await;
        let again = Place::open(crashed.path(), now + 50 * HOUR);
        again.run("FLUSH").await;
        assert_eq!(again.run(answers).await, before, "round {round}");
        again.engine.shutdown().await;
    }
    assert!(!snapshots(directory.path()).is_empty());
    place.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_snapshots_are_named_and_the_query_is_rebuilt_from_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::open(directory.path(), NOW);
    place.run("CREATE STREAM s (k BIGINT, t TEXT, at TIMESTAMP)").await;
    place.run("CREATE CONTINUOUS QUERY q AS SELECT k, count(*) AS n FROM s GROUP BY k").await;
    place.feed().await;
    place.feed().await;
    let before = place.run("SELECT * FROM q ORDER BY k").await;
    place.engine.shutdown().await;
    drop(place);
    damage(&snapshots(directory.path()));
    let place = Place::open(directory.path(), NOW);
    place.run("FLUSH").await;
    assert_eq!(place.run("SELECT * FROM q ORDER BY k").await, before);
    let refused = place.run("SELECT refused FROM weir.snapshots").await;
    assert!(refused.contains("WR006: snapshot "), "{refused}");
    assert!(refused.contains("at byte "), "{refused}");
    place.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_another_plan_is_refused_and_the_query_is_rebuilt_from_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::open(directory.path(), NOW);
    place.run("CREATE STREAM s (k BIGINT, t TEXT, at TIMESTAMP)").await;
    place.run("CREATE CONTINUOUS QUERY q AS SELECT k, count(*) AS n FROM s GROUP BY k").await;
    place.run("CREATE CONTINUOUS QUERY r AS SELECT k, sum(k) AS n FROM s GROUP BY k").await;
    place.feed().await;
    let before = place.run("SELECT * FROM q ORDER BY k; SELECT * FROM r ORDER BY k").await;
    place.engine.shutdown().await;
    drop(place);
    // The state of one query in the place of the other's.
    let mut folders: Vec<_> = fs::read_dir(directory.path().join("snapshots"))
        .unwrap()
        .map(|folder| folder.unwrap().path())
        .collect();
    folders.sort();
    fs::remove_dir_all(&folders[0]).unwrap();
    copy(&folders[1], &folders[0]);
    let place = Place::open(directory.path(), NOW);
    place.run("FLUSH").await;
    assert_eq!(place.run("SELECT * FROM q ORDER BY k; SELECT * FROM r ORDER BY k").await, before);
    let refused = place.run("SELECT query, refused FROM weir.snapshots ORDER BY query").await;
    assert!(refused.contains("snapshot is of another plan"), "{refused}");
    place.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_whose_state_and_log_are_gone_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let now = NOW;
    let place = Place::open(directory.path(), now);
    place
        .run(
            "CREATE STREAM s (k BIGINT, t TEXT, at TIMESTAMP) WITH (retention = '1 hour', retention_bytes = '256 KB');
             CREATE CONTINUOUS QUERY q AS SELECT k, count(*) AS n FROM s GROUP BY k",
        )
        .await;
    for _ in 0..8 {
        place.feed().await;
        place.clock.advance(HOUR / 2);
    }
    // Snapshots are written beside the query, on a busy machine fewer of them; what they hold need not be
    // retained.
    let mut removed = 0;
    for _ in 0..200 {
        removed += place.engine.run_retention().unwrap();
        if removed > 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        place.feed().await;
        place.clock.advance(HOUR / 2);
    }
    assert!(removed > 0);
    let before = place.run("SELECT * FROM q ORDER BY k").await;
    place.engine.shutdown().await;
    drop(place);
    damage(&snapshots(directory.path()));
    let place = Place::open(directory.path(), now + 200 * HOUR);
    let state = place.run("SELECT status, error FROM weir.queries").await;
    assert!(state.contains("failed") && state.contains("WR006"), "{state}");
    assert!(state.contains("It needs \\\"s\\\" from offset 0 on, which is kept from "), "{state}");
    assert!(state.contains("is left out"), "{state}");
    // What it answered is still there, and is not taken for the whole; its neighbours run, and it can be
    // made anew.
    let asked = place.engine.execute("SELECT * FROM q").await;
    assert_eq!(asked.error.unwrap().code().0, "55000");
    place.run("PAUSE q").await;
    assert_eq!(place.run("SELECT * FROM q ORDER BY k").await, before);
    let resumed = place.engine.execute("RESUME q").await;
    assert_eq!(resumed.error.unwrap().code().0, "WR006");
    place.run("CREATE CONTINUOUS QUERY other AS SELECT count(*) AS n FROM s").await;
    place.run("DROP CONTINUOUS QUERY q").await;
    place.run("CREATE CONTINUOUS QUERY q AS SELECT k, count(*) AS n FROM s GROUP BY k").await;
    place.feed().await;
    let both = place.run("SELECT sum(n) AS n FROM q; SELECT n FROM other").await;
    let lines: Vec<&str> = both.lines().collect();
    assert_eq!(lines[0], lines[1]);
    place.engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_select_over_many_groups_is_what_the_changelog_sums_to() {
    let directory = tempfile::tempdir().unwrap();
    let now = NOW;
    let place = Place::open(directory.path(), now);
    place
        .run(
            "CREATE STREAM s (k BIGINT, t TEXT, at TIMESTAMP);
             CREATE CONTINUOUS QUERY q AS SELECT k * 2 AS double, count(*) AS n, min(t) AS least FROM s
                 GROUP BY k HAVING count(*) < 3;
             CREATE CONTINUOUS QUERY d AS SELECT DISTINCT k FROM s;",
        )
        .await;
    let cuts = [(0, 7_000), (7_000, 15_000), (10_000, 16_000), (16_000, 20_000), (12_000, 13_000)];
    for (start, end) in cuts {
        let rows: Vec<String> = (start..end).map(|k| format!("({k}, 'text {k}', now())")).collect();
        place.run(&format!("INSERT INTO s VALUES {}; FLUSH", rows.join(", "))).await;
    }
    let answers = "SELECT * FROM q ORDER BY double; SELECT count(*) AS n FROM d";
    let before = place.run(answers).await;
    let batch = "SELECT k * 2 AS double, count(*) AS n, min(t) AS least FROM s GROUP BY k
        HAVING count(*) < 3 ORDER BY double; SELECT count(DISTINCT k) AS n FROM s";
    assert_eq!(before, place.run(batch).await);
    place.engine.shutdown().await;
    drop(place);
    let place = Place::open(directory.path(), now);
    assert_eq!(place.run(answers).await, before, "after a restart");
    place.engine.shutdown().await;
}
