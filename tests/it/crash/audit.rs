//! Compares what a server answers after a crash with the ledgers and with the model.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::Value;

use super::clients::{self, Ledger, NUMBERS};
use super::model::{self, Row, Totals};
use crate::real_server::RealServer;

/// What is known of the streams and seen by subscribers.
pub(super) struct Audit {
    /// The rows of `s` at their offsets; retention may have removed them from the server since.
    rows: Vec<Row>,
    raw: Vec<i64>,
    followed: BTreeMap<&'static str, Vec<String>>,
    postgres: Option<String>,
}

/// CREATE SINK for every sink.
pub(super) fn sinks(postgres: Option<&str>) -> String {
    let mut sql = "CREATE SINK to_groups FROM groups INTO SQLITE WITH (path = 'sinks.db',
            table = 'groups', mode = 'upsert', key = 'k');
        CREATE SINK to_thirds FROM thirds INTO SQLITE WITH (path = 'thirds.db', table = 'thirds',
            mode = 'append');"
        .to_owned();
    if let Some(url) = postgres {
        let target = |query: &str, mode: &str| {
            format!(
                "CREATE SINK pg_{query}_{name} FROM {query} INTO POSTGRES WITH (url = '{url}',
                    table = '{query}_{name}', mode = {mode});",
                name = mode.trim_matches('\'').split('\'').next().unwrap()
            )
        };
        sql += &target("groups", "'upsert', key = 'k'");
        sql += &target("groups", "'changelog'");
        sql += &target("minutes", "'append'");
        sql += &target("thirds", "'append'");
    }
    sql
}

const SINKS: &[&str] = &["to_groups", "to_thirds"];
const POSTGRES_SINKS: &[&str] =
    &["pg_groups_upsert", "pg_groups_changelog", "pg_minutes_append", "pg_thirds_append"];

/// Runs statements in PostgreSQL; the rows of the last one as texts.
fn postgres(url: &str, sql: &str) -> Vec<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let messages = client.simple_query(sql).await.unwrap();
        drop(client);
        connection.await.unwrap().unwrap();
        let row = |message: tokio_postgres::SimpleQueryMessage| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                let text = |column| row.get(column).unwrap_or("NULL").to_owned();
                Some((0..row.len()).map(text).collect())
            }
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    })
}

/// Makes a schema that this test has for itself.
pub(super) fn create_schema(url: &str, schema: &str) {
    postgres(url, &format!("CREATE SCHEMA {schema}"));
}

/// The rows of an answer.
fn rows(server: &RealServer, sql: &str) -> Vec<Vec<Value>> {
    let mut answer = server.sql(sql);
    let rows = answer["results"].as_array_mut().unwrap().last_mut().unwrap()["rows"].take();
    serde_json::from_value(rows).unwrap()
}

/// A number, or a time in milliseconds.
fn number(value: &Value) -> i64 {
    match value {
        Value::String(time) => {
            chrono::DateTime::parse_from_rfc3339(time).unwrap().timestamp_millis()
        }
        other => other.as_i64().unwrap_or_else(|| panic!("no number: {other}")),
    }
}

fn numbers(server: &RealServer, sql: &str) -> Vec<Vec<i64>> {
    rows(server, sql).iter().map(|row| row.iter().map(number).collect()).collect()
}

/// Rows of a key, count and sum each; the key once.
fn keyed<K: Ord>(rows: Vec<Vec<i64>>, key: impl Fn(&[i64]) -> K) -> BTreeMap<K, Totals> {
    let count = rows.len();
    let entry = |row: Vec<i64>| {
        let split = row.len() - 2;
        (key(&row[..split]), (row[split], row[split + 1]))
    };
    let map: BTreeMap<K, Totals> = rows.into_iter().map(entry).collect();
    assert_eq!(map.len(), count, "a key is answered twice");
    map
}

/// Compares, and shows only what differs.
fn same<K: Ord + std::fmt::Debug>(
    what: &str,
    found: &BTreeMap<K, Totals>,
    expected: &BTreeMap<K, Totals>,
) {
    let show = |one: &BTreeMap<K, Totals>, other: &BTreeMap<K, Totals>| -> String {
        let odd = one.iter().filter(|(key, totals)| other.get(key) != Some(totals));
        odd.take(5).map(|entry| format!("  {entry:?}\n")).collect()
    };
    assert!(
        found == expected,
        "{what}: found\n{}{what}: expected\n{}",
        show(found, expected),
        show(expected, found)
    );
}

impl Audit {
    pub(super) fn new(postgres: Option<String>) -> Audit {
        let followed = [("groups", vec![]), ("minutes", vec![]), ("thirds", vec![])];
        Audit { rows: vec![], raw: vec![], followed: followed.into(), postgres }
    }

    pub(super) fn postgres_url(&self) -> Option<String> {
        self.postgres.clone()
    }

    /// What subscribers have seen so far.
    pub(super) fn followed(&mut self) -> impl Iterator<Item = (&'static str, &mut Vec<String>)> {
        self.followed.iter_mut().map(|(query, changes)| (*query, changes))
    }

    /// Rows that were stored so far.
    pub(super) fn rows(&self) -> usize {
        self.rows.len() + self.raw.len()
    }

    /// Rows that `raw` holds.
    pub(super) fn raw_rows(&self) -> u64 {
        self.raw.len() as u64
    }

    pub(super) fn check(&mut self, server: &RealServer, directory: &Path, ledgers: &[Ledger]) {
        server.sql("RESUME raws; RESUME to_groups; FLUSH");
        let failed = rows(
            server,
            "SELECT name, status, error FROM weir.queries WHERE status <> 'running'
             UNION ALL SELECT name, status, error FROM weir.sinks WHERE status = 'failed'
             UNION ALL SELECT relation, code, reason FROM weir.dead_letters",
        );
        assert!(failed.is_empty(), "not all is well: {failed:?}");
        self.read_streams(server);
        check_ledger(&self.rows, ledgers);
        check_raw(&self.raw, &ledgers[3]);
        self.check_queries(server);
        self.check_sinks(server, directory);
    }

    /// Takes in what is new, and compares what is old.
    fn read_streams(&mut self, server: &RealServer) {
        let known = self.rows.len();
        let sql =
            format!("SELECT _offset, n, k, at FROM s WHERE _offset >= {known} ORDER BY _offset");
        for row in numbers(server, &sql) {
            assert_eq!(row[0] as usize, self.rows.len(), "offsets have a hole");
            assert_eq!(row[2], row[1] % clients::KEYS as i64, "another row than was sent");
            self.rows.push(Row { n: row[1], at: row[3] });
        }
        let figures = "SELECT count(*), min(_offset), max(_offset), sum(n) FROM s";
        let retained = &rows(server, figures)[0];
        if retained[0] != 0 {
            let (from, to) = (number(&retained[1]) as usize, number(&retained[2]) as usize);
            assert_eq!(to + 1, self.rows.len(), "rows are gone");
            let expected = &self.rows[from..];
            assert_eq!(number(&retained[0]) as usize, expected.len(), "rows are gone or doubled");
            let sum: i64 = expected.iter().map(|row| row.n).sum();
            assert_eq!(number(&retained[3]), sum, "other rows than before");
        }
        let known = self.raw.len();
        let sql = format!("SELECT n FROM raw WHERE _offset >= {known} ORDER BY _offset");
        self.raw.extend(numbers(server, &sql).concat());
    }

    fn check_queries(&self, server: &RealServer) {
        let expected = model::answers(&self.rows);
        let read = |columns: &str, query: &str| {
            numbers(server, &format!("SELECT {columns}, c, total FROM {query}"))
        };
        let groups = |query| keyed(read("k", query), |key| key[0]);
        same("groups", &groups("groups"), &expected.groups);
        same("brief", &groups("brief"), &expected.groups);
        same("raws", &groups("raws"), &model::raw_groups(&self.raw));
        let minutes = keyed(read("window_start, k", "minutes"), |key| (key[0], key[1]));
        same("minutes", &minutes, &expected.minutes);
        same("tens", &keyed(read("window_start", "tens"), |key| key[0]), &expected.tens);
        let sessions = read("window_start, window_end, k", "sessions");
        let sessions = keyed(sessions, |key| (key[0], key[1], key[2]));
        same("sessions", &sessions, &expected.sessions);
        let hundreds = keyed(read("window_id, k", "hundreds"), |key| (key[0], key[1]));
        same("hundreds", &hundreds, &expected.hundreds);
        let thirds = "SELECT count(*), sum(n), count(DISTINCT n) FROM thirds";
        let sum: i64 = expected.thirds.iter().map(|(n, _)| n).sum();
        let count = expected.thirds.len() as i64;
        if count > 0 {
            assert_eq!(numbers(server, thirds), [[count, sum, count]], "thirds");
        }
        let (offsets, late): (Vec<i64>, Vec<i64>) = expected.late.into_iter().unzip();
        let found = "SELECT \"offset\" FROM weir.late_rows WHERE query = 'minutes' ORDER BY 1";
        assert_eq!(numbers(server, found).concat(), offsets, "weir.late_rows");
        let found = numbers(server, "SELECT n FROM late ORDER BY _offset").concat();
        assert_eq!(found, late, "LATE ROWS TO");
    }

    fn check_sinks(&self, server: &RealServer, directory: &Path) {
        let more = self.postgres.as_ref().map_or(&[][..], |_| POSTGRES_SINKS);
        for sink in SINKS.iter().chain(more) {
            server.sql(&format!("FLUSH SINK {sink}"));
        }
        let expected = model::answers(&self.rows);
        let sqlite = |file: &str, sql: &str| -> Vec<Vec<i64>> {
            let table = rusqlite::Connection::open(directory.join(file)).unwrap();
            let mut statement = table.prepare(sql).unwrap();
            let width = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| (0..width).map(|at| row.get(at)).collect();
            statement.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
        };
        let found = sqlite("sinks.db", "SELECT k, c, total FROM groups");
        same("SQLite upserts", &keyed(found, |key| key[0]), &expected.groups);
        let found = sqlite("thirds.db", "SELECT n, k FROM thirds");
        let mut found: Vec<_> = found.iter().map(|row| (row[0], row[1])).collect();
        let mut thirds = expected.thirds.clone();
        found.sort_unstable();
        thirds.sort_unstable();
        assert!(found == thirds, "SQLite appends: {} of {}", found.len(), thirds.len());
        let Some(url) = &self.postgres else { return };
        let read = |sql: &str| -> Vec<Vec<i64>> {
            let number = |text: &String| text.parse().unwrap();
            let rows = postgres(url, sql);
            rows.iter().map(|row| row.iter().map(number).collect()).collect()
        };
        let found = read("SELECT k, c, total::BIGINT FROM groups_upsert");
        same("PostgreSQL upserts", &keyed(found, |key| key[0]), &expected.groups);
        let found = "SELECT (extract(epoch FROM window_start) * 1000)::BIGINT, k, c, total::BIGINT
                     FROM minutes_append";
        same("PostgreSQL appends", &keyed(read(found), |key| (key[0], key[1])), &expected.minutes);
        let found = read("SELECT n, k FROM thirds_append ORDER BY n");
        assert!(found.iter().map(|row| (row[0], row[1])).eq(thirds), "PostgreSQL appends thirds");
        let end = "SELECT next_offset FROM weir.queries WHERE name = 'groups'";
        let end = numbers(server, end)[0][0];
        let found = "SELECT count(*), count(DISTINCT weir_offset), coalesce(max(weir_offset), -1)
                     FROM groups_changelog";
        assert_eq!(read(found), [[end, end, end - 1]], "PostgreSQL changelog");
    }

    /// Every subscriber has seen the changelog as it is read from its begin.
    pub(super) fn check_followed(&mut self, server: &RealServer) {
        for (query, changes) in &mut self.followed {
            let end = format!("SELECT next_offset FROM weir.queries WHERE name = '{query}'");
            let end = Some(numbers(server, &end)[0][0] as u64);
            clients::follow(server.http, query, changes, end);
            let mut again = Vec::new();
            clients::follow(server.http, query, &mut again, end);
            assert!(*changes == again, "the subscriber of {query} saw another changelog");
        }
    }

    /// Something was acknowledged at all.
    pub(super) fn check_ledgers(&self, ledgers: &[Ledger]) {
        for ledger in ledgers {
            assert!(ledger.acknowledged.iter().any(|done| *done), "client {}", ledger.client);
        }
    }
}

/// acknowledged ⊆ stored ⊆ sent, each row once and as it was sent.
fn check_ledger(rows: &[Row], ledgers: &[Ledger]) {
    let mut seen = HashSet::with_capacity(rows.len());
    for row in rows {
        assert!(seen.insert(row.n), "row {} is stored twice", row.n);
        let (client, seq) = (row.n as u64 / NUMBERS, row.n as u64 % NUMBERS);
        let sent = ledgers[client as usize].times.get(seq as usize);
        assert_eq!(sent, Some(&row.at), "row {} was not sent so", row.n);
    }
    for ledger in &ledgers[..3] {
        let acknowledged = (0..ledger.acknowledged.len()).filter(|seq| ledger.acknowledged[*seq]);
        for seq in acknowledged {
            let n = ledger.number(seq as u64) as i64;
            assert!(seen.contains(&n), "row {n} was acknowledged and is lost");
        }
    }
}

fn check_raw(raw: &[i64], ledger: &Ledger) {
    let seen: HashSet<i64> = raw.iter().copied().collect();
    assert_eq!(seen.len(), raw.len(), "a row is stored twice");
    assert!(raw.is_sorted(), "rows changed places");
    let sent = ledger.number(0)..ledger.number(ledger.times.len() as u64);
    assert!(raw.iter().all(|n| sent.contains(&(*n as u64))), "a row that nobody sent");
    for (seq, _) in ledger.acknowledged.iter().enumerate().filter(|(_, done)| **done) {
        let n = ledger.number(seq as u64) as i64;
        assert!(seen.contains(&n), "row {n} was acknowledged and is lost");
    }
}
