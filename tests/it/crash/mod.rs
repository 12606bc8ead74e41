//! kill -9 under load, many times over one data directory, and an audit of everything after each.
//!
//! Four clients keep ledgers of what they sent and what was acknowledged: over HTTP without a
//! producer's id (what was not acknowledged is never sent again) and with one (it is sent again), and
//! the same over TCP. Subscribers keep every change they saw and go on at the next offset. Sinks feed
//! SQLite and, where it is installed, PostgreSQL. Another client creates, drops, pauses and resumes.
//! The server dies at a place of `weir::fault` that the seed chooses, or at any moment.
//!
//! After each death: acknowledged ⊆ stored ⊆ sent, each row once and as it was sent; every query is
//! what [`model`] makes of the stored rows; late rows, sinks' tables and subscribers' changes, too.
//!
//! `WEIR_CRASH_ROUNDS` and `WEIR_CRASH_SEED` make it longer and other.

mod audit;
mod clients;
mod model;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::oracle::Rng;
use crate::pg;
use crate::real_server::RealServer;
use audit::Audit;
use clients::{Ledger, Life};

/// Rounds over one data directory before the next one begins empty.
const EPOCH: u64 = 25;
/// A server that meets no fault dies after this long.
const LIFE_MAX: Duration = Duration::from_millis(600);

const STREAMS: &str = "CREATE STREAM s (n BIGINT NOT NULL, k BIGINT, at TIMESTAMP,
        WATERMARK FOR at AS at - INTERVAL '5' SECOND) WITH (retention_bytes = '2 MB');
    CREATE STREAM raw (n BIGINT NOT NULL);
    CREATE STREAM late (n BIGINT, k BIGINT, at TIMESTAMP);";

const QUERIES: &str = "CREATE CONTINUOUS QUERY minutes AS
        SELECT window_start, window_end, k, count(*) AS c, sum(n) AS total
        FROM TUMBLE(s, at, INTERVAL '1 minute') GROUP BY window_start, window_end, k
        ALLOWED LATENESS INTERVAL '0 seconds' LATE ROWS TO late;
    CREATE CONTINUOUS QUERY tens AS SELECT window_start, window_end, sum(c) AS c, sum(total) AS total
        FROM TUMBLE((SELECT window_end AS until, c, total FROM minutes), until, INTERVAL '10 minutes')
        GROUP BY window_start, window_end;
    CREATE CONTINUOUS QUERY sessions AS SELECT window_start, window_end, k, count(*) AS c, sum(n) AS total
        FROM SESSION(s, at, INTERVAL '2' SECOND, PARTITION => k) GROUP BY window_start, window_end, k;
    CREATE CONTINUOUS QUERY hundreds AS SELECT window_id, k, count(*) AS c, sum(n) AS total
        FROM COUNT_WINDOW(s, 100, PARTITION => k) GROUP BY window_id, k;
    CREATE CONTINUOUS QUERY groups AS SELECT k, count(*) AS c, sum(n) AS total FROM s GROUP BY k;
    CREATE CONTINUOUS QUERY brief WITH (retention = '1 second') AS
        SELECT k, count(*) AS c, sum(n) AS total FROM s GROUP BY k;
    CREATE CONTINUOUS QUERY thirds AS SELECT n, k FROM s WHERE n % 3 = 0;
    CREATE CONTINUOUS QUERY raws AS SELECT n % 5 AS k, count(*) AS c, sum(n) AS total FROM raw GROUP BY n % 5;";

/// Places to die at, and how often one is passed in a life at most.
const PLACES: &[(&str, u64)] = &[
    ("log.torn", 60),
    ("log.written", 60),
    ("log.synced", 60),
    ("log.marked", 60),
    ("log.rotate.begun", 2),
    ("log.rotate.created", 2),
    ("log.rotate.marked", 2),
    ("log.removed", 2),
    ("retention.kept", 1),
    ("retention.recorded", 1),
    ("snapshot.torn", 12),
    ("snapshot.drafted", 12),
    ("snapshot.renamed", 12),
    ("snapshot.written", 12),
    ("catalog.commit", 8),
    ("catalog.committed", 8),
    ("sink.commit", 8),
    ("sink.committed", 8),
    ("changelog.append", 60),
    ("changelog.appended", 60),
    ("late_rows.append", 8),
    ("query.step", 100),
];
/// Places to die at while the server starts.
const STARTING: &[(&str, u64)] =
    &[("open.object", 14), ("log.written", 4), ("catalog.commit", 1), ("query.step", 20)];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A place to die at, as `WEIR_FAULTS` takes it; none: at any moment.
fn place(rng: &mut Rng, places: &[(&str, u64)], armed: Option<&Path>) -> Option<String> {
    let index = rng.index(places.len() + places.len() / 8 + 1);
    let (name, passages) = places.get(index)?;
    // Early passages are as interesting as all later ones together.
    let most = if rng.one_in(2) { (*passages / 6).max(1) } else { *passages };
    let condition = armed.map_or(String::new(), |file| format!("?{}", file.display()));
    Some(format!("{name}=kill@{}{condition}", 1 + rng.index(most as usize)))
}

/// One data directory and all that is known of it.
struct Epoch {
    directory: PathBuf,
    ledgers: [Ledger; 4],
    audit: Audit,
    armed: PathBuf,
}

impl Epoch {
    fn new(directory: &Path, schema: Option<String>) -> Epoch {
        let armed = directory.join("armed");
        let ledgers = [0, 1, 2, 3].map(|client| Ledger::new(client, directory));
        Epoch { directory: directory.to_owned(), ledgers, audit: Audit::new(schema), armed }
    }

    fn start(&self, faults: &str) -> Option<RealServer> {
        let flags = ["--snapshot-interval", "50 ms"];
        RealServer::try_start(&self.directory, &flags, &[("WEIR_FAULTS", faults)])
    }

    fn create(&self, server: &RealServer) {
        server.sql(STREAMS);
        server.sql(QUERIES);
        server.sql(&audit::sinks(self.audit.postgres_url().as_deref()));
    }

    /// One life of the server, from its start to its death; where it died.
    fn round(&mut self, rng: &mut Rng, first: bool) -> String {
        if self.armed.exists() {
            std::fs::remove_file(&self.armed).unwrap();
        }
        let mut died = String::new();
        if !first && rng.one_in(6) {
            let faults = place(rng, STARTING, None).unwrap_or_default();
            if let Some(server) = self.start(&faults) {
                server.ends_within(Duration::from_millis(rng.index(200) as u64));
            }
            died = format!("starting: {faults}; ");
        }
        let faults = place(rng, PLACES, Some(&self.armed)).unwrap_or_default();
        let began = Instant::now();
        let server = self.start(&faults).expect("the server starts again");
        let started = began.elapsed().as_millis();
        match first {
            true => self.create(&server),
            false => self.audit.check(&server, &self.directory, &self.ledgers),
        }
        let audited = began.elapsed().as_millis() - started;
        self.ledgers[3].base = self.audit.raw_rows();
        std::fs::write(&self.armed, "").unwrap();
        let at_a_place = !faults.is_empty();
        let life = match at_a_place {
            true => LIFE_MAX,
            false => Duration::from_millis(20 + rng.index(500) as u64),
        };
        let alive = AtomicBool::new(true);
        let by_itself = std::thread::scope(|scope| {
            let lived = Life { http: server.http, tcp: server.tcp, alive: &alive };
            for (client, ledger) in self.ledgers.iter_mut().enumerate() {
                scope.spawn(move || clients::send(client, lived, ledger));
            }
            for (query, changes) in self.audit.followed() {
                scope.spawn(move || {
                    while lived.alive() {
                        clients::follow(lived.http, query, changes, None);
                    }
                });
            }
            let seed = rng.next();
            scope.spawn(move || clients::manage(lived, seed));
            let by_itself = server.ends_within(life);
            alive.store(false, Ordering::Relaxed);
            by_itself
        });
        let place = faults.split('?').next().unwrap_or_default();
        let phases =
            format!("start {started} ms, audit {audited} ms of {} rows", self.audit.rows());
        let death = if by_itself { place } else { "any moment" };
        format!("{death} ({died}{phases})")
    }
}

#[test]
fn nothing_is_lost_or_doubled_however_often_the_server_is_killed() {
    let (rounds, seed) = (setting("WEIR_CRASH_ROUNDS", 8), setting("WEIR_CRASH_SEED", 1));
    let mut rng = Rng::new(seed);
    let began = Instant::now();
    let database = match pg::postgres() {
        Ok(database) => Some(database),
        Err(reason) => {
            println!("{reason}");
            None
        }
    };
    let mut round = 0;
    let mut deaths = std::collections::BTreeMap::<String, u64>::new();
    while round < rounds {
        // Kept for a look when an audit fails.
        let directory = tempfile::tempdir().unwrap().keep();
        println!("epoch of round {round} in {}", directory.display());
        let schema = database.map(|database| {
            let schema = database.fresh_schema();
            audit::create_schema(&database.url, &schema);
            database.url_in(&schema)
        });
        let mut epoch = Epoch::new(&directory, schema);
        for nth in 0..EPOCH.min(rounds - round) {
            let died = epoch.round(&mut rng, nth == 0);
            println!("round {round}: {died}, {:.1} s", began.elapsed().as_secs_f64());
            let place = died.split(['=', '(']).next().unwrap_or_default().trim();
            *deaths.entry(place.to_owned()).or_default() += 1;
            round += 1;
        }
        let server = epoch.start("").expect("the server starts again");
        epoch.audit.check(&server, &epoch.directory, &epoch.ledgers);
        epoch.audit.check_followed(&server);
        epoch.audit.check_ledgers(&epoch.ledgers);
        drop(server);
        std::fs::remove_dir_all(&directory).unwrap();
    }
    let took = began.elapsed().as_secs_f64();
    println!("{rounds} kills, seed {seed}: {took:.1} s, {:.2} s each", took / rounds as f64);
    deaths.into_iter().for_each(|(place, count)| println!("  {count:4} {place}"));
}
