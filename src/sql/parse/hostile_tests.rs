//! Every text here is parsed, printed, cloned, compared and dropped on a thread with 2 MiB.

use super::*;
use crate::error::{Report, SqlState};

/// Parses the text on a small stack; says the code of its error.
fn outcome(text: String) -> Result<(), SqlState> {
    std::thread::Builder::new()
        .name("small stack".to_owned())
        .stack_size(2 << 20)
        .spawn(move || match parse_statements(&text) {
            Ok(parsed) => {
                for one in parsed {
                    assert!(!format!("{:?}", one.statement).is_empty());
                    let printed = print(&one.statement);
                    assert_eq!(parse_statement(&printed).unwrap(), one.statement.clone());
                }
                Ok(())
            }
            Err(error) => Err(error.code()),
        })
        .unwrap()
        .join()
        .expect("the parser does not panic")
}

/// A text of each kind, nested or chained n times.
fn nested(kind: usize, n: usize) -> Option<String> {
    let wrap = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(n), close.repeat(n))
    };
    Some(match kind {
        0 => format!("SELECT {}", vec!["1"; n + 1].join("+")),
        1 => format!("SELECT a FROM t WHERE {}", vec!["a = 1"; n + 1].join(" OR ")),
        2 => format!("SELECT {}", wrap("(", "1", ")")),
        3 => format!("SELECT {}", wrap("f(", "1", ")")),
        4 => format!("SELECT {}", wrap("CASE WHEN a THEN ", "1", " END")),
        5 => format!("SELECT {}", wrap("(SELECT ", "1", ")")),
        6 => format!("SELECT * {}", wrap("FROM (SELECT * ", "", ") AS x")),
        7 => format!("SELECT 1 WHERE {}", wrap("EXISTS (SELECT 1 WHERE ", "a", ")")),
        8 => format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(n)),
        9 => format!("SELECT {}a", "NOT ".repeat(n)),
        10 => format!("SELECT {}1", "- ".repeat(n)),
        11 => format!("SELECT a{}", "::INT".repeat(n)),
        12 => format!("SELECT a{}", "[1]".repeat(n)),
        13 => format!("SELECT a{}", ".a".repeat(n)),
        14 => format!("SELECT {}", wrap("ARRAY[", "1", "]")),
        15 => format!("SELECT * FROM {}", wrap("(", "a JOIN b ON c", " JOIN b ON c)")),
        16 => format!("SELECT * FROM a{}", " JOIN b ON c".repeat(n)),
        17 => format!("SELECT * FROM a{}", ", b".repeat(n)),
        18 => format!("CREATE TABLE t (a {})", wrap("STRUCT<a ", "INT", ">")),
        19 => format!("CREATE TABLE t (a INT{})", "[]".repeat(n)),
        20 => wrap("(", "SELECT 1", ")"),
        21 => format!("SELECT {}", wrap("ceil(", "1", ")")),
        22 => format!("SELECT * FROM {}", wrap("TUMBLE((SELECT * FROM ", "s", "), at, 1)")),
        23 => format!("SELECT a{}", " IS DISTINCT FROM b".repeat(n)),
        24 => format!("SELECT {}", vec!["f(x) WITHIN GROUP (ORDER BY y)"; n + 1].join(" + ")),
        25 => format!("SELECT {}", vec!["from"; n + 1].join(" + ")),
        26 => format!("SELECT 1 WHERE {}", wrap("a IN (SELECT b FROM c JOIN d ON ", "a", ")")),
        27 => format!("SELECT {}", wrap("sum(", "1", ") OVER (PARTITION BY a ORDER BY b)")),
        28 => format!("SELECT {}", wrap("CAST(", "1", " AS INT)")),
        29 => wrap("WITH a AS (", "SELECT 1", ") SELECT 1"),
        30 => format!("SELECT {}", wrap("CAST(1 AS TABLE (a ", "INT", "))")),
        31 => format!("SELECT {} 1", "INTERVAL ".repeat(n)),
        32 => "EXPLAIN ".repeat(n),
        33 => format!(
            "SELECT * FROM t MATCH_RECOGNIZE(PATTERN ({}) DEFINE a AS b)",
            wrap("(", "a", ")")
        ),
        34 => format!("CREATE CONTINUOUS QUERY q AS SELECT {}", wrap("f(a, (", "1", "))")),
        35 => format!("SELECT {}", wrap("a.f(x => ", "1", ")")),
        36 => format!("SELECT f({})", vec!["select * from"; n].join(" * ")),
        37 => format!("SELECT {}", vec!["select * from"; n].join(" * ")),
        38 => format!("SELECT a.from{}", " + a.from".repeat(n)),
        39 => format!("SELECT CASE WHEN {} THEN 1 END", vec!["when"; n + 1].join(" + ")),
        _ => return None,
    })
}

#[test]
fn nothing_overflows_a_small_stack_at_any_depth() {
    for n in [1, 10, 18, 28, 37, 60, 74, 150, 299, 305, 5_000] {
        for kind in 0.. {
            let Some(text) = nested(kind, n) else { break };
            match outcome(text) {
                Ok(()) => assert!(n <= 305, "kind {kind} is taken at {n}"),
                Err(code) => {
                    let known =
                        [SqlState::PROGRAM_LIMIT, SqlState::SYNTAX, SqlState::NOT_SUPPORTED];
                    assert!(known.contains(&code), "kind {kind} at {n}: {code}");
                }
            }
        }
    }
}

#[test]
fn sensible_depths_are_taken() {
    for (kind, n) in [(0, 250), (1, 250), (2, 50), (3, 50), (5, 20), (6, 20), (8, 60), (16, 60)] {
        let text = nested(kind, n).unwrap();
        assert_eq!(outcome(text), Ok(()), "kind {kind}");
    }
    let long = format!("SELECT a FROM t WHERE a IN ({})", vec!["1"; 40_000].join(", "));
    assert_eq!(outcome(long), Ok(()));
}

#[test]
fn too_much_is_refused_with_a_hint() {
    let long = format!("SELECT '{}'", "x".repeat(limits::STATEMENT_BYTES_MAX));
    let tokens = format!("INSERT INTO t VALUES {}", vec!["(1)"; 40_000].join(","));
    let deep = nested(0, 2_000).unwrap();
    for text in [long, tokens, deep, "FLUSH;".repeat(limits::STATEMENTS_MAX + 1)] {
        let error = parse_statements(&text).unwrap_err();
        assert_eq!(error.code(), SqlState::PROGRAM_LIMIT);
        assert!(error.hint().is_some(), "{error:?}");
    }
}

#[test]
fn huge_literals_are_only_long() {
    assert_eq!(outcome(format!("SELECT {}", "9".repeat(10_000))), Ok(()));
    assert_eq!(outcome(format!("SELECT 0.{}e99999", "9".repeat(10_000))), Ok(()));
    assert_eq!(outcome(format!("SELECT '{}'", "é".repeat(500_000))), Ok(()));
    assert_eq!(outcome(format!("SELECT {} FROM t", "a".repeat(500_000))), Ok(()));
    assert_eq!(outcome(format!("DROP STREAM {}", "a".repeat(500_000))), Err(SqlState::SYNTAX));
    let digits = "9".repeat(10_000);
    for text in [
        format!("SUBSCRIBE q FROM OFFSET {digits}"),
        format!("CREATE CONTINUOUS QUERY q AS SELECT 1 EMIT EVERY {digits} ROWS"),
    ] {
        assert_eq!(outcome(text), Err(SqlState::INVALID_PARAMETER));
    }
    assert!(outcome(format!("CREATE TABLE t (a NUMERIC({digits}))")).is_err());
}

#[test]
fn readings_that_double_at_each_level_run_out_of_fuel() {
    for text in [
        format!("SELECT {}!", "ceil(".repeat(60)),
        format!("SELECT a{}.!", ".a".repeat(200)),
        format!("SELECT * FROM {}!", "((SELECT * FROM ".repeat(20)),
        format!("SELECT {}!", "f(x => ".repeat(60)),
        format!("SELECT {}!", "CASE WHEN ".repeat(100)),
        format!("SELECT {}!", "CAST(".repeat(60)),
        format!("SELECT * FROM {}a!", "(".repeat(60)),
        format!("SELECT {}!", "INTERVAL ".repeat(100)),
    ] {
        let code = outcome(text.clone()).expect_err(&text);
        assert!([SqlState::PROGRAM_LIMIT, SqlState::SYNTAX].contains(&code), "{text}");
    }
}

#[test]
fn bytes_that_are_no_sql_are_errors() {
    for text in ["\0", "\u{feff}", "SELECT \0", "'", "\"", "/*", "$$", "$a$", "E'\\", "(", "`", "€"]
    {
        assert!(outcome(text.to_owned()).is_err(), "{text:?}");
    }
}

#[test]
fn a_dot_beside_a_number_is_part_of_it_or_an_error() {
    for text in ["SELECT 1 .AS x", "SELECT 1 . x", "SELECT a . 1", "SELECT 1 .AS x FROM t"] {
        assert_eq!(outcome(text.to_owned()), Err(SqlState::SYNTAX), "{text:?}");
    }
    // Taken or not, what is taken is written back as it is read.
    for text in ["SELECT 1. AS x", "SELECT 1.x", "SELECT .1", "SELECT (1).x", "SELECT 1 . 5"] {
        assert!(
            outcome(text.to_owned()).err().is_none_or(|code| code == SqlState::SYNTAX),
            "{text:?}"
        );
    }
}
