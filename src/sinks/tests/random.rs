//! Random changelogs, cuts and restarts: the table always equals the recomputation.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::delivered::{Files, Receiver};
use super::fixture::{Database, MariaDb, Postgres, Sqlite, Writer, plan};
use crate::sinks::file_format::FileFormat;
use crate::sinks::sink::SinkMode;

/// What happens between two transactions.
#[derive(Debug, Clone, Copy)]
enum Between {
    Nothing,
    /// The writer is gone; a new one prepares.
    Restart,
    /// The reply was lost: the transaction is committed once more.
    LostReply,
    /// A crash after the target had prepared anew but before anything else.
    DoubleRestart,
}

#[derive(Debug, Clone)]
struct Case {
    /// Per entry: key, its new number or `None` to remove it, and whether the insertion precedes
    /// the retraction.
    entries: Vec<(u8, Option<i64>, bool)>,
    /// After which entries a transaction ends, and what happens then.
    cuts: Vec<Option<Between>>,
}

fn cases() -> impl Strategy<Value = Case> {
    let between = prop_oneof![
        Just(Between::Nothing),
        Just(Between::Restart),
        Just(Between::LostReply),
        Just(Between::DoubleRestart)
    ];
    let entry = (0_u8..5, prop::option::weighted(0.7, 0_i64..4), any::<bool>());
    let step = (entry, prop::option::weighted(0.3, between));
    prop::collection::vec(step, 1..40).prop_map(|steps| {
        let (entries, cuts) = steps.into_iter().unzip();
        Case { entries, cuts }
    })
}

/// Changes of each entry, as text; the last state of each key.
fn recompute(case: &Case) -> (Vec<Vec<String>>, BTreeMap<char, i64>) {
    let mut state = BTreeMap::new();
    let mut changes = Vec::new();
    for &(key, number, swapped) in &case.entries {
        let key = ['a', 'b', 'c', 'd', '_'][usize::from(key)];
        let retraction = state.get(&key).map(|old| format!("-{key}{old}"));
        let insertion = number.map(|new| format!("+{key}{new}"));
        match number {
            Some(number) => state.insert(key, number),
            None => state.remove(&key),
        };
        let mut entry: Vec<String> = retraction.into_iter().chain(insertion).collect();
        if swapped {
            entry.reverse();
        }
        changes.push(entry);
    }
    (changes, state)
}

/// Runs the case; the rows of the table, sorted.
fn run(
    database: &dyn Database,
    case: &Case,
    mode: SinkMode,
    changes: &[Vec<String>],
) -> Vec<String> {
    database.clear();
    let plan = plan("1", mode);
    let mut writer = Writer::new(database, &plan).unwrap();
    let mut waiting: Vec<&str> = Vec::new();
    let last = case.entries.len() - 1;
    for (index, entry) in changes.iter().enumerate() {
        waiting.extend(entry.iter().map(String::as_str));
        let Some(between) = case.cuts[index].or((index == last).then_some(Between::Nothing)) else {
            continue;
        };
        if waiting.is_empty() {
            continue;
        }
        let (text, from) = (waiting.join(" "), writer.offset);
        writer.write(&text).unwrap();
        match between {
            Between::Nothing => {}
            Between::LostReply => {
                writer.offset = from;
                writer.write(&text).unwrap();
            }
            Between::Restart | Between::DoubleRestart => {
                let offset = writer.offset;
                if let Between::DoubleRestart = between {
                    drop(Writer::new(database, &plan).unwrap());
                }
                writer = Writer::new(database, &plan).unwrap();
                assert_eq!(writer.offset, offset);
            }
        }
        waiting.clear();
    }
    assert!(writer.refused.is_empty());
    let columns = match mode {
        SinkMode::Changelog => "k, n, weir_offset, weir_op",
        SinkMode::Append | SinkMode::Upsert => "k, n",
    };
    let mut rows = database.sql(&format!("SELECT {columns} FROM t"));
    rows.sort();
    rows
}

fn check(database: &dyn Database, case_count: u32, upserts: bool) {
    let config = Config { cases: case_count, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&cases(), |case| {
            let (changes, state) = recompute(&case);
            let name = |key: &str| if key == "_" { "∅".into() } else { key.to_owned() };
            let mut upserted: Vec<String> =
                state.iter().map(|(key, n)| format!("{}|{n}", name(&key.to_string()))).collect();
            upserted.sort();
            if upserts {
                prop_assert_eq!(run(database, &case, SinkMode::Upsert, &changes), upserted);
            }

            let logged = changes.iter().flatten().enumerate().map(|(offset, change)| {
                let sign = if change.starts_with('-') { -1 } else { 1 };
                format!("{}|{}|{offset}|{sign}", name(&change[1..2]), &change[2..])
            });
            let mut logged: Vec<String> = logged.collect();
            logged.sort();
            prop_assert_eq!(run(database, &case, SinkMode::Changelog, &changes), logged);

            let only_insertions: Vec<Vec<String>> = changes
                .iter()
                .map(|entry| entry.iter().filter(|c| c.starts_with('+')).cloned().collect())
                .collect();
            let appended = only_insertions.iter().flatten();
            let mut appended: Vec<String> =
                appended.map(|c| format!("{}|{}", name(&c[1..2]), &c[2..])).collect();
            appended.sort();
            prop_assert_eq!(run(database, &case, SinkMode::Append, &only_insertions), appended);
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_sqlite_table_equals_the_recomputation() {
    check(&Sqlite::new(), 48, true);
}

#[test]
fn a_postgres_table_equals_the_recomputation() {
    if let Some(database) = Postgres::new() {
        check(&database, 16, true);
    }
}

#[test]
fn a_mariadb_table_equals_the_recomputation() {
    if let Some(database) = MariaDb::new() {
        check(&database, 16, true);
    }
}

#[test]
fn files_equal_the_recomputation() {
    for format in [FileFormat::Ndjson, FileFormat::Csv, FileFormat::Parquet] {
        check(&Files::new(format), 16, false);
    }
}

#[test]
fn what_a_webhook_receives_equals_the_recomputation() {
    check(&Receiver::new(), 16, false);
}
