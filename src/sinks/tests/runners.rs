//! The loop over real targets: replies that are lost, targets that are away, two servers on one sink.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::delivered::Files;
use super::fixture::{Database, MariaDb, Postgres, Sqlite, changes, plan};
use super::proxy::{Lose, Proxy};
use crate::error::SqlState;
use crate::sinks::chunk::ChangelogChunk;
use crate::sinks::file_format::FileFormat;
use crate::sinks::mysql::MysqlTarget;
use crate::sinks::mysql_url::MysqlUrl;
use crate::sinks::postgres::PostgresTarget;
use crate::sinks::run::{ChangelogSource, SinkRunner, SinkSettings};
use crate::sinks::sink::{SinkError, SinkMode, SinkPlan, SinkTarget};
use crate::sinks::status::{SinkHandle, SinkState};
use crate::time::SystemClock;

const PATIENCE: Duration = Duration::from_secs(60);

/// A changelog that grows.
#[derive(Clone, Default)]
struct Changelog(Arc<(Mutex<Vec<String>>, Condvar)>);

impl Changelog {
    fn push(&self, text: &str) -> u64 {
        let mut changes = self.0.0.lock();
        changes.extend(text.split_whitespace().map(str::to_owned));
        self.0.1.notify_all();
        changes.len() as u64
    }
}

impl ChangelogSource for Changelog {
    fn read(&mut self, from: u64, max_rows: usize) -> crate::error::Result<Option<ChangelogChunk>> {
        let words = self.0.0.lock();
        let rest: VecDeque<&str> =
            words.iter().skip(from as usize).take(max_rows).map(String::as_str).collect();
        if rest.is_empty() {
            return Ok(None);
        }
        let next_offset = from + rest.len() as u64;
        let text = Vec::from(rest).join(" ");
        let batch = changes(from, &text);
        let (batch, weights) = (batch.batch, batch.weights);
        Ok(Some(ChangelogChunk { first_offset: from, batch, weights, next_offset }))
    }

    fn wait(&mut self, past: u64, timeout: Duration) {
        let (changes, changed) = &*self.0;
        changed.wait_while_for(&mut changes.lock(), |words| words.len() as u64 <= past, timeout);
    }
}

fn start(target: Box<dyn SinkTarget>, plan: &SinkPlan, changelog: &Changelog) -> SinkHandle {
    let source = Box::new(changelog.clone());
    let letters = Box::new(|_: &[_]| Ok(()));
    let runner = SinkRunner::new(plan.clone(), target, source, letters, Arc::new(SystemClock))
        .with_settings(SinkSettings { batch_rows: 100, ..SinkSettings::default() });
    let handle = runner.handle();
    runner.spawn().unwrap();
    handle
}

/// A target behind a proxy.
struct Proxied {
    database: Box<dyn Database>,
    target: Box<dyn Fn() -> Box<dyn SinkTarget>>,
    proxy: Proxy,
}

/// Each server that can be had, behind a proxy.
fn proxied() -> Vec<Proxied> {
    let mut all = Vec::new();
    if let Some(database) = Postgres::new() {
        let config: tokio_postgres::Config = database.url.parse().unwrap();
        let tokio_postgres::config::Host::Tcp(host) = &config.get_hosts()[0] else {
            unreachable!("tests connect over TCP");
        };
        let server = format!("{host}:{}", config.get_ports().first().unwrap_or(&5432));
        let proxy = Proxy::new(&server);
        let url = database.url.replacen(&server, &proxy.address, 1);
        assert_ne!(url, database.url, "the URL names host and port");
        let target = Box::new(move || -> Box<dyn SinkTarget> {
            Box::new(PostgresTarget::new(url.clone(), None))
        });
        all.push(Proxied { database: Box::new(database), target, proxy });
    }
    if let Some(database) = MariaDb::new() {
        let proxy = Proxy::new(&format!("{}:{}", database.url.host, database.url.port));
        let (host, port) = proxy.address.split_once(':').unwrap();
        let url =
            MysqlUrl { host: host.into(), port: port.parse().unwrap(), ..database.url.clone() };
        let target = Box::new(move || -> Box<dyn SinkTarget> {
            Box::new(MysqlTarget::new(url.clone(), None))
        });
        all.push(Proxied { database: Box::new(database), target, proxy });
    }
    all
}

#[test]
fn a_connection_that_breaks_is_made_anew() {
    for Proxied { database, target, proxy } in proxied() {
        let mut target = target();
        let plan = plan("1", SinkMode::Upsert);
        assert_eq!(target.prepare(&plan).unwrap(), 0);
        target.commit(&changes(0, "+a1"), 0, 1, &mut |_| Ok(())).unwrap();
        proxy.lose.store(Lose::NOW, Ordering::SeqCst);
        let batch = changes(1, "+b1");
        let error = target.commit(&batch, 1, 2, &mut |_| Ok(())).unwrap_err();
        assert!(matches!(error, SinkError::Unavailable { .. }), "{error}");
        assert_eq!(target.commit(&batch, 1, 2, &mut |_| Ok(())).unwrap(), 1);
        assert_eq!(database.sql("SELECT k FROM t ORDER BY k"), ["a", "b"]);
    }
}

/// Waits until the table has so many rows: a server whose reply nobody hears may not have committed yet.
fn until_rows(database: &dyn Database, rows: u32) {
    let mut count = Vec::new();
    for _ in 0..2_000 {
        count = database.sql("SELECT count(*) FROM t");
        if count == [rows.to_string()] {
            return;
        }
    }
    panic!("{count:?} rows, not {rows}");
}

#[test]
fn a_lost_reply_to_commit_does_not_count_twice() {
    for Proxied { database, target, proxy } in proxied() {
        for (lose, expected) in [(Lose::REPLY, 1), (Lose::COMMIT, 0)] {
            database.clear();
            let mut target = target();
            assert_eq!(target.prepare(&plan("1", SinkMode::Append)).unwrap(), 0);
            proxy.lose.store(lose, Ordering::SeqCst);
            let batch = changes(0, "+a1");
            let error = target.commit(&batch, 0, 1, &mut |_| Ok(())).unwrap_err();
            assert!(matches!(error, SinkError::Unavailable { .. }), "{error}");
            until_rows(&*database, expected);
            assert_eq!(target.commit(&batch, 0, 1, &mut |_| Ok(())).unwrap(), 1);
            assert_eq!(database.sql("SELECT count(*) FROM t"), ["1"]);
            assert_eq!(target.commit(&changes(1, "+b1"), 1, 2, &mut |_| Ok(())).unwrap(), 1);
            assert_eq!(database.sql("SELECT k FROM t ORDER BY k"), ["a", "b"]);
        }
    }
}

/// The reply is lost and the server dies as well: the next run must find out by itself.
#[test]
fn a_lost_reply_is_found_out_by_the_next_run() {
    for Proxied { database, target, proxy } in proxied() {
        for lose in [Lose::REPLY, Lose::COMMIT] {
            database.clear();
            let mut first = target();
            first.prepare(&plan("1", SinkMode::Append)).unwrap();
            proxy.lose.store(lose, Ordering::SeqCst);
            first.commit(&changes(0, "+a1"), 0, 1, &mut |_| Ok(())).unwrap_err();
            drop(first);
            let mut second = target();
            let offset = second.prepare(&plan("1", SinkMode::Append)).unwrap();
            assert_eq!(offset, u64::from(lose == Lose::REPLY));
            let rest = ["+a1", "+b1"][offset as usize..].join(" ");
            second.commit(&changes(offset, &rest), offset, 2, &mut |_| Ok(())).unwrap();
            assert_eq!(database.sql("SELECT k FROM t ORDER BY k"), ["a", "b"]);
        }
    }
}

#[test]
fn what_a_target_missed_while_it_was_away_drains_in_order() {
    for Proxied { database, target, proxy } in proxied() {
        let (plan, changelog) = (plan("1", SinkMode::Changelog), Changelog::default());
        let handle = start(target(), &plan, &changelog);
        let committed = changelog.push("+a0 +a1");
        assert!(handle.wait_committed(committed, PATIENCE).unwrap());
        proxy.lose.store(Lose::ALL, Ordering::SeqCst);
        let mut end = committed;
        for number in 2..1_000 {
            end = changelog.push(&format!("+a{number}"));
        }
        assert!(!handle.wait_committed(end, Duration::from_millis(700)).unwrap());
        let status = handle.status();
        assert_eq!((status.state, status.committed), (SinkState::Retrying, Some(2)));
        assert!(status.retries >= 2, "{status:?}");
        assert_eq!(status.last_error.unwrap().0, SqlState::CONNECTION);
        proxy.lose.store(Lose::NOTHING, Ordering::SeqCst);
        assert!(handle.wait_committed(end, PATIENCE).unwrap());
        assert_eq!(handle.status().state, SinkState::Running);
        handle.stop();
        let rows = database.sql("SELECT n, weir_offset FROM t ORDER BY weir_offset");
        let expected: Vec<String> = (0..1_000).map(|n| format!("{n}|{n}")).collect();
        assert_eq!(rows, expected);
    }
}

#[test]
fn of_two_servers_on_one_sink_the_stale_one_stops_and_says_why() {
    let mut databases: Vec<Box<dyn Database>> = Vec::new();
    databases.push(Box::new(Sqlite::new()));
    databases.push(Box::new(Files::new(FileFormat::Ndjson)));
    databases.extend(Postgres::new().map(|database| Box::new(database) as _));
    databases.extend(MariaDb::new().map(|database| Box::new(database) as _));
    for database in databases {
        let (plan, changelog) = (plan("1", SinkMode::Append), Changelog::default());
        let stale = start(database.target(), &plan, &changelog);
        let end = changelog.push("+a1");
        assert!(stale.wait_committed(end, PATIENCE).unwrap());
        // A copy of the data directory was started elsewhere.
        let copy = start(database.target(), &plan, &changelog);
        copy.wait_started(PATIENCE).unwrap();
        let end = changelog.push("+b1 +c1");
        assert!(copy.wait_committed(end, PATIENCE).unwrap());
        let error = stale.wait_committed(end + 1, PATIENCE);
        copy.stop();
        let error = error.unwrap_err();
        assert_eq!(
            (error.code(), stale.status().state),
            (SqlState::OBJECT_STATE, SinkState::Failed)
        );
        assert!(error.message().contains("has been taken over by another writer"), "{error}");
        assert!(error.message().contains("with fence 2 instead of"), "{error}");
        assert_eq!(database.sql("SELECT k FROM t ORDER BY k"), ["a", "b", "c"]);
    }
}
