//! Every form of statement with its canonical text, and what errors say.

use proptest::prelude::*;

use super::*;
use crate::error::{Report, SqlState};

/// The canonical text, which must read back as the same statement.
#[track_caller]
fn check(text: &str, canonical: &str) {
    let statement = parse_statement(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let printed = print(&statement);
    assert_eq!(printed, canonical);
    assert_eq!(parse_statement(&printed).unwrap(), statement, "{printed}");
}

/// A statement whose canonical text is itself.
#[track_caller]
fn same(text: &str) {
    check(text, text);
}

/// Code, message, position, and a part of the hint.
#[track_caller]
fn refused(text: &str, code: SqlState, message: &str, position: usize, hint: &str) {
    let error = parse_statement(text).expect_err(text);
    assert_eq!((error.code(), error.to_string().as_str()), (code, message), "{error:?}");
    assert_eq!(error.position(), Some(position), "{error:?}");
    let found = error.hint().unwrap_or_default();
    assert!(found.contains(hint) && (!hint.is_empty() || found.is_empty()), "{error:?}");
}

#[test]
fn streams() {
    same(
        "CREATE STREAM clicks (url TEXT NOT NULL, user_id BIGINT, at TIMESTAMP, WATERMARK FOR at \
         AS at - INTERVAL '5' SECOND) WITH (retention = '7 days', idle_timeout = '30 s') ON \
         OVERLOAD SHED KEYS (user_id)",
    );
    check(
        "create stream if not exists Clicks (\"At\" timestamp null, watermark for \"At\" as \
         \"At\") with (a = 1, B = -2.5, c = true, d, e = 'it''s') on overload drop oldest;",
        "CREATE STREAM IF NOT EXISTS clicks (\"At\" TIMESTAMP, WATERMARK FOR \"At\" AS \"At\") \
         WITH (a = 1, b = -2.5, c = true, d = true, e = 'it''s') ON OVERLOAD DROP OLDEST",
    );
    same("CREATE STREAM s (a INT) ON OVERLOAD BLOCK");
    same("CREATE STREAM s (a INT) ON OVERLOAD SHED RANDOM");
    same("CREATE STREAM s (\"select\" INT, watermark INT, \"Ä\" INT, \"a\"\"b\" INT)");
    same("CREATE STREAM s (seq BIGINT, WATERMARK FOR seq AS seq - 10)");
}

#[test]
fn column_types() {
    same(
        "CREATE TABLE t (a TEXT, b VARCHAR, c BOOLEAN, d INT, e INTEGER, f SMALLINT, g BIGINT, h \
         DOUBLE, i DOUBLE PRECISION, j REAL, k FLOAT, l NUMERIC(10,2), m NUMERIC, n DATE, o \
         TIMESTAMP, p TIMESTAMPTZ, q INTERVAL, r BYTEA, s JSON, t INT[], u STRUCT<a INT, b \
         TEXT[]>, v TIMESTAMP WITH TIME ZONE, w DECIMAL(5), x STRUCT<a STRUCT<b INT>>, y INT[][])",
    );
    refused(
        "CREATE TABLE t (a UUID)",
        SqlState::NOT_SUPPORTED,
        "type \"uuid\" is not supported",
        19,
        "Types are",
    );
    refused(
        "CREATE TABLE t (a VARCHAR(10))",
        SqlState::NOT_SUPPORTED,
        "type \"varchar(10)\" is not supported",
        19,
        "Write TEXT",
    );
    refused(
        "CREATE TABLE t (a INT, b NUMERIC(39))",
        SqlState::INVALID_PARAMETER,
        "NUMERIC precision 39 must be from 1 to 38",
        26,
        "",
    );
    refused(
        "CREATE TABLE t (a NUMERIC(5,6))",
        SqlState::INVALID_PARAMETER,
        "NUMERIC scale 6 must be from 0 to the precision 5",
        19,
        "",
    );
}

#[test]
fn tables() {
    check(
        "CREATE TABLE users (id BIGINT PRIMARY KEY, country TEXT)",
        "CREATE TABLE users (id BIGINT NOT NULL, country TEXT, PRIMARY KEY (id))",
    );
    check(
        "CREATE TABLE IF NOT EXISTS t (a INT, b INT, PRIMARY KEY (a, b)) WITH (x = 1)",
        "CREATE TABLE IF NOT EXISTS t (a INT NOT NULL, b INT NOT NULL, PRIMARY KEY (a, b)) WITH \
         (x = 1)",
    );
}

#[test]
fn continuous_queries() {
    check(
        "CREATE CONTINUOUS QUERY hits WITH (start = 'earliest', memory_limit = '256 MB') AS \
         SELECT window_start, url, count(*) AS n FROM TUMBLE(TABLE clicks, DESCRIPTOR(at), \
         INTERVAL '1 minute') GROUP BY window_start, window_end, url",
        "CREATE CONTINUOUS QUERY hits WITH (start = 'earliest', memory_limit = '256 MB') AS \
         SELECT window_start, url, count(*) AS n FROM TUMBLE(clicks, at, INTERVAL '1 minute') \
         GROUP BY window_start, window_end, url",
    );
    check(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS V AS SELECT 1",
        "CREATE CONTINUOUS QUERY IF NOT EXISTS v AS SELECT 1",
    );
    same(
        "CREATE OR REPLACE CONTINUOUS QUERY q WITH (start = 1200) AS SELECT a FROM s EMIT CHANGES",
    );
    check(
        "CREATE MATERIALIZED VIEW v AS SELECT * FROM TABLE(HOP(TABLE s, DESCRIPTOR(\"At\"), \
         INTERVAL '1' HOUR, INTERVAL '1' DAY)) AS w",
        "CREATE CONTINUOUS QUERY v AS SELECT * FROM HOP(s, \"At\", INTERVAL '1' HOUR, INTERVAL \
         '1' DAY) AS w",
    );
}

#[test]
fn emit_clauses() {
    for clause in [
        "EMIT ON CLOSE",
        "EMIT CHANGES",
        "EMIT EVERY INTERVAL '1 second'",
        "EMIT EVERY INTERVAL '1' SECOND ON CLOSE",
        "EMIT EVERY 100 ROWS ON CLOSE LATE EVERY ROW RETRACTING",
        "EMIT EVERY 1 ROWS ACCUMULATING",
        "EMIT EVERY 18446744073709551615 ROWS DISCARDING",
        "EMIT ON CLOSE ALLOWED LATENESS INTERVAL '2 minutes'",
        "ALLOWED LATENESS INTERVAL '2' MINUTE LATE ROWS TO late_clicks",
        "ALLOWED LATENESS 10",
        "LATE ROWS TO x",
    ] {
        for query in [
            "SELECT a FROM s AS t",
            "SELECT a AS b",
            "SELECT a FROM s WHERE a > 1",
            "SELECT a FROM (SELECT 1) AS x",
            "SELECT a FROM TUMBLE(s, at, INTERVAL '1' HOUR) AS w",
            "SELECT a FROM s AS l JOIN t AS r ON l.a = r.a",
            "SELECT count(*) FROM s AS t GROUP BY b HAVING c ORDER BY d LIMIT 10",
            "SELECT a FROM s AS t UNION ALL SELECT b FROM u AS v",
        ] {
            same(&format!("CREATE CONTINUOUS QUERY q AS {query} {clause}"));
            same(&format!("EXPLAIN {query} {clause}"));
        }
    }
    check(
        "CREATE CONTINUOUS QUERY q AS SELECT a FROM s emit on close",
        "CREATE CONTINUOUS QUERY q AS SELECT a FROM s EMIT ON CLOSE",
    );
    same("SELECT a AS emit, \"emit\" FROM s AS allowed");
    check("SELECT a \"emit\" FROM s \"allowed\"", "SELECT a AS \"emit\" FROM s \"allowed\"");
}

#[test]
fn windows_and_mining() {
    for from in [
        "TUMBLE(s, at, INTERVAL '1' DAY, OFFSET => INTERVAL '1' HOUR, TIMEZONE => 'Europe/Paris')",
        "CUMULATE(s, at, INTERVAL '1' HOUR, INTERVAL '1' DAY)",
        "SESSION(s, at, INTERVAL '5' MINUTE, PARTITION => key, MAX => INTERVAL '1' HOUR)",
        "LANDMARK(s, at, SINCE => TIMESTAMP '2026-01-01 00:00:00')",
        "COUNT_WINDOW(s, 100, SLIDE => 10, PARTITION => key, ORDER => at, TIES => 'together')",
        "PUNCTUATION_WINDOW(s, START => a = 'in', END => a = 'out', INCLUDE => 'both', IDLE => 1)",
        "HEAVY_HITTERS(TUMBLE(s, at, 10), ITEM => (src, dst), BY => r, SUPPORT => 0.01)",
        "TUMBLE((SELECT * FROM s WHERE a), at, INTERVAL '1' HOUR)",
        "TREND(HOP(s, at, 1, 10), ITEM => q, COMPARE_TO => 'previous', MIN_RATIO => 2)",
    ] {
        same(&format!("SELECT * FROM {from}"));
    }
}

#[test]
fn queries() {
    for query in [
        "SELECT * FROM weir.late_rows AS l WHERE \"offset\" = 1",
        "VALUES (1, 'a'), (2, NULL)",
        "WITH a AS (SELECT 1 AS x) SELECT x FROM a",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC NULLS LAST LIMIT 3 OFFSET 2",
        "SELECT a::INT, b -> 'c' ->> 'd', e || 'f', ARRAY[1, 2][1], x[1], (r).f FROM t",
        "SELECT CASE WHEN a THEN 1 ELSE 2 END, a BETWEEN 1 AND 2, a IS DISTINCT FROM b FROM t",
        "SELECT sum(a) FILTER (WHERE b > 1) OVER (PARTITION BY c ORDER BY d RANGE BETWEEN \
         INTERVAL '1' HOUR PRECEDING AND CURRENT ROW) FROM t",
        "SELECT a, count(*) FROM t GROUP BY GROUPING SETS ((a), ())",
        "SELECT * FROM l JOIN r ON l.at BETWEEN r.at - INTERVAL '1' HOUR AND r.at",
        "SELECT * FROM l ASOF JOIN r MATCH_CONDITION (l.at >= r.at) ON l.k = r.k",
        "SELECT * FROM l LEFT JOIN r AS x FOR SYSTEM_TIME AS OF l.at ON l.k = x.k",
        "SELECT floor, ceil, position, interval, cast FROM t WHERE FLOOR(a) > 1",
        "SELECT a FROM t WHERE a IN (SELECT b FROM u) AND EXISTS (SELECT 1 FROM v)",
        "SELECT unnest(a) FROM t CROSS JOIN UNNEST(b) AS c",
        "SELECT -(-1), +1, NOT (NOT a), $1",
        "SELECT * EXCLUDE (a) FROM t",
        "SELECT EXTRACT(HOUR FROM at), SUBSTRING(a FROM 1 FOR 2), TRIM(BOTH 'x' FROM a) FROM t",
        "SELECT lag(a) OVER w FROM t WINDOW w AS (PARTITION BY b ORDER BY _offset)",
        "SELECT * FROM t MATCH_RECOGNIZE(PARTITION BY a ORDER BY b MEASURES LAST(x.c) AS d ONE \
         ROW PER MATCH PATTERN (x y+) DEFINE y AS y.c > 1) AS m",
        "SELECT TIMESTAMP '2026-01-01', DATE '2026-01-01', X'00ff', 1e5, .5",
        "SELECT a FROM t AS u (b) WHERE b LIKE 'x%' ESCAPE '!' OR b ~ 'y' OR b ILIKE 'z'",
        "SELECT a AT TIME ZONE 'UTC', CAST(b AS NUMERIC(3,1)), STRUCT(1, 2) FROM t",
    ] {
        same(query);
    }
    check(
        "SELECT * FROM t MATCH_RECOGNIZE(ORDER BY b MEASURES x.c AS d PATTERN (x (y | z)+? ) WITHIN INTERVAL '1' HOUR DEFINE y AS y.c > 1)",
        "SELECT * FROM t MATCH_RECOGNIZE(ORDER BY b MEASURES x.c AS d PATTERN (x ( y | z )+?) \
         DEFINE WITHIN AS INTERVAL '1' HOUR, y AS y.c > 1)",
    );
    same("SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM t");
    check(
        "SELECT E'a\\n''b', $x$c'd$x$, U&'\\0041', N'e', 1_000",
        "SELECT 'a\n''b', 'c''d', 'A', 'e', 1000",
    );
    check("SELECT - - 1, - ~ 1", "SELECT -(-1), -(~1)");
    check(
        "SELECT 'a''''b', $$c\\'d$$, 'e\\', INTERVAL '1'''''",
        "SELECT E'a\\'\\'b', E'c\\\\\\'d', 'e\\', INTERVAL E'1\\'\\''",
    );
    same("CREATE STREAM s (a INT) WITH (x = 'a''''b\\''')");
    check(
        "SELECT * FROM l ASOF LEFT JOIN r MATCH_CONDITION (l.at >= r.at) ON l.k = r.k",
        "SELECT * FROM l GLOBAL ASOF JOIN r MATCH_CONDITION (l.at >= r.at) ON l.k = r.k",
    );
    check(
        "SELECT * FROM l JOIN r FOR SYSTEM_TIME AS OF l.at x ON TRUE",
        "SELECT * FROM l JOIN r AS x FOR SYSTEM_TIME AS OF l.at ON true",
    );
    check(
        "SELECT * FROM l JOIN r x FOR SYSTEM_TIME AS OF l.at ON TRUE",
        "SELECT * FROM l JOIN r AS x FOR SYSTEM_TIME AS OF l.at ON true",
    );
}

#[test]
fn objects() {
    check("drop stream if exists S cascade", "DROP STREAM IF EXISTS s CASCADE");
    check("DROP TABLE t RESTRICT", "DROP TABLE t");
    check("DROP QUERY q", "DROP CONTINUOUS QUERY q");
    check("DROP MATERIALIZED VIEW v", "DROP CONTINUOUS QUERY v");
    same("DROP SINK \"Sink\"");
    for kind in ["STREAMS", "TABLES", "QUERIES", "SINKS"] {
        same(&format!("SHOW {kind}"));
    }
    check("DESC x", "DESCRIBE x");
    check("DESCRIBE STREAM x", "DESCRIBE x");
    same("DESCRIBE weir.streams");
    same("ALTER STREAM s SET (retention = '1 day', retention_bytes = '1 GB')");
    same("ALTER CONTINUOUS QUERY q RESET (memory_limit, retention)");
    check(
        "ALTER MATERIALIZED VIEW q SET (retention='1 h')",
        "ALTER CONTINUOUS QUERY q SET (retention = '1 h')",
    );
    check("PAUSE q", "PAUSE CONTINUOUS QUERY q");
    check("PAUSE query", "PAUSE CONTINUOUS QUERY query");
    check("RESUME QUERY q", "RESUME CONTINUOUS QUERY q");
    check("REBUILD MATERIALIZED VIEW q", "REBUILD CONTINUOUS QUERY q");
    check("SUBSCRIBE q FROM NOW", "SUBSCRIBE q");
    check("SUBSCRIBE TO q", "SUBSCRIBE q");
    check("SUBSCRIBE to FROM EARLIEST", "SUBSCRIBE \"to\" FROM EARLIEST");
    same("SUBSCRIBE q FROM OFFSET 12 WITH SNAPSHOT");
    same("FLUSH");
    same("FLUSH SINK s");
    same("EXPLAIN q");
    same("EXPLAIN ANALYZE q");
    same("EXPLAIN analyze");
    same("EXPLAIN ANALYZE SELECT 1 EMIT CHANGES");
    same("EXPLAIN CREATE CONTINUOUS QUERY q AS SELECT 1 EMIT CHANGES");
    check(
        "CREATE SINK IF NOT EXISTS s FROM q INTO postgres WITH (url = 'postgres://x', key = 'a, b')",
        "CREATE SINK IF NOT EXISTS s FROM q INTO POSTGRES WITH (url = 'postgres://x', key = 'a, \
         b')",
    );
}

#[test]
fn rows() {
    same("INSERT INTO s VALUES (1, 'a'), (2, NULL)");
    same("INSERT INTO s (a, \"B\") SELECT 1, 2");
    same("INSERT INTO s (SELECT 1)");
    same("INSERT INTO s VALUES (1) ON CONFLICT DO NOTHING");
    same("INSERT INTO s (a) SELECT 1 ON CONFLICT (a, \"B\") DO NOTHING");
    same(
        "INSERT INTO s VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.b, c = s.c + 1 WHERE s.b < excluded.b",
    );
    check("UPDATE T SET A = a + 1, b = NULL WHERE c", "UPDATE t SET a = a + 1, b = NULL WHERE c");
    same("DELETE FROM t");
    same("DELETE FROM t WHERE a = 1 OR b IS NULL");
    same("PUNCTUATE bids WHERE auction = 17");
    same("PUNCTUATE s WHERE at < TIMESTAMP '2026-01-01 00:00:00' AND a IN (1, 2)");
    same("COPY s FROM STDIN");
    check(
        "COPY s FROM STDIN (FORMAT csv, HEADER)",
        "COPY s FROM STDIN (format 'csv', header true)",
    );
    check("COPY s FROM STDIN WITH (FORMAT 'json')", "COPY s FROM STDIN (format 'json')");
}

#[test]
fn statements_have_their_place_and_run_up_to_the_first_error() {
    let text = ";; -- é\n SELECT 1 /* x; */ ; SHOW STREAMS;\n;SELEC 2; SHOW SINKS";
    let (parsed, error) = parse_prefix(text);
    let texts: Vec<&str> = parsed.iter().map(|parsed| &text[parsed.text.clone()]).collect();
    assert_eq!(texts, ["SELECT 1", "SHOW STREAMS"]);
    let error = error.unwrap();
    assert_eq!(error.to_string(), "syntax error at or near \"SELEC\"");
    let characters: Vec<char> = text.chars().collect();
    assert_eq!(characters[error.position().unwrap() - 1..][..5], ['S', 'E', 'L', 'E', 'C']);
    assert_eq!(parse_statements("").unwrap(), []);
    assert_eq!(parse_statements(" ; -- x").unwrap(), []);
    assert_eq!(parse_statement("").unwrap_err(), ParseError::NotOneStatement { found: 0 });
    assert_eq!(parse_statement("FLUSH;FLUSH").unwrap_err().code(), SqlState::SYNTAX);
}

#[test]
fn errors_say_where_and_what_to_type() {
    let syntax = SqlState::SYNTAX;
    refused("FROB x", syntax, "syntax error at or near \"FROB\"", 1, "CREATE, ALTER, DROP");
    refused("CREATE VIEW v", syntax, "syntax error at or near \"VIEW\"", 8, "MATERIALIZED VIEW");
    refused("CREATE INDEX i", syntax, "syntax error at or near \"INDEX\"", 8, "CREATE STREAM");
    refused("CREATE", syntax, "syntax error at end of input", 7, "CREATE STREAM");
    refused("SELECT 1 +", syntax, "syntax error at end of input", 11, "");
    refused("SELECT (1", syntax, "syntax error at end of input", 10, "");
    refused("SELECT é, a) FROM t", syntax, "syntax error at or near \")\"", 12, "");
    refused("SELECT 'a", syntax, "unterminated string literal", 8, "");
    refused("SELECT a\nFROM t t2 t3", syntax, "syntax error at or near \"t3\"", 20, "");
    refused(
        "CREATE STREAM s (at TIMESTAMP, WATERMARK at AS at)",
        SqlState::NOT_SUPPORTED,
        "type \"at\" is not supported",
        42,
        "Types are",
    );
    refused(
        "CREATE STREAM s (at TIMESTAMP, WATERMARK FOR at - INTERVAL '5' SECOND)",
        syntax,
        "syntax error at or near \"-\"",
        49,
        "WATERMARK FOR at AS",
    );
    refused(
        "CREATE CONTINUOUS QUERY q AS SELECT a FROM s EMITT CHANGES",
        syntax,
        "syntax error at or near \"CHANGES\"",
        52,
        "EMIT CHANGES",
    );
    refused(
        "CREATE CONTINUOUS QUERY q AS SELECT a FROM s EMIT ONCLOSE",
        syntax,
        "syntax error at or near \"ONCLOSE\"",
        51,
        "EMIT ON CLOSE",
    );
    refused("SELECT a FROM s EMIT CHANGES", syntax, "syntax error at or near \"EMIT\"", 17, "EMIT");
    refused(
        "CREATE STREAM s (a INT) WITH (x = 1, X = 2)",
        syntax,
        "option \"x\" is given twice",
        38,
        "",
    );
    refused("DROP STREAM \"\"", syntax, "\"\" cannot be a name", 13, "");
    same("CREATE STREAM s (\"id.orig_h\" TEXT)");
    refused("DROP STREAM \"a.b\"", syntax, "\"a.b\" cannot be a name", 13, "");
    let unsupported = SqlState::NOT_SUPPORTED;
    refused("DROP STREAM a.b", unsupported, "a name with a schema is not supported", 13, "alone");
    refused("SELECT 1 INTO t", unsupported, "a query that writes is not supported", 1, "INSERT");
    refused("SELECT B'01'", unsupported, "a bit string literal is not supported", 8, "X'00FF'");
    refused(
        "CREATE TABLE t (a INT DEFAULT 1)",
        unsupported,
        "DEFAULT of a column is not supported",
        23,
        "NOT NULL",
    );
    refused(
        "SUBSCRIBE q FROM OFFSET 99999999999999999999",
        SqlState::INVALID_PARAMETER,
        "offset must be a whole number below 2^64, not 99999999999999999999",
        25,
        "",
    );
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_][a-z0-9_]{0,8}".prop_map(|name| quote(&name)),
        prop::sample::select(vec!["at", "Select", "query", "END", "from", "emit", "if", "weir"])
            .prop_map(quote),
        "[A-Za-z0-9 é;'-]{1,4}\"?[é ;A]{0,2}".prop_map(|name| quote(&name)),
    ]
}

fn quote(name: &str) -> String {
    crate::sql::print::quote_name(name)
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        name(),
        (0u32..1000).prop_map(|number| number.to_string()),
        "[a-z '\\\\;$-]{0,6}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
        Just("INTERVAL '5' SECOND".to_owned()),
        Just("TIMESTAMP '2026-01-01 00:00:00'".to_owned()),
        Just("NULL".to_owned()),
        Just("E'a\\'b'".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let operators = ["+", "-", "*", "/", "=", "<>", "<", "AND", "OR", "||", "->", "LIKE", "^"];
        prop_oneof![
            (inner.clone(), prop::sample::select(operators.to_vec()), inner.clone())
                .prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
            inner.clone().prop_map(|inner| format!("({inner})")),
            inner.clone().prop_map(|inner| format!("NOT {inner}")),
            inner.clone().prop_map(|inner| format!("- {inner}")),
            inner.clone().prop_map(|inner| format!("({inner})::INT[]")),
            inner.clone().prop_map(|inner| format!("({inner}) IS NOT NULL")),
            prop::collection::vec(inner.clone(), 0..3)
                .prop_map(|args| format!("f({})", args.join(", "))),
            (inner.clone(), inner.clone())
                .prop_map(|(a, b)| format!("CASE WHEN {a} THEN {b} ELSE {a} END")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) IN (0, {b}, {a})")),
            inner.clone().prop_map(|inner| format!("ARRAY[{inner}][1]")),
            inner.prop_map(|inner| format!("(SELECT {inner} FROM x)")),
        ]
    })
}

fn query() -> impl Strategy<Value = String> {
    let from = prop_oneof![
        name(),
        (name(), name()).prop_map(|(table, alias)| format!("{table} AS {alias}")),
        (name(), name()).prop_map(|(table, at)| format!(
            "TUMBLE(TABLE {table}, DESCRIPTOR({at}), INTERVAL '1' HOUR, OFFSET => 1)"
        )),
        (name(), name(), expression()).prop_map(|(a, b, on)| format!("{a} JOIN {b} ON {on}")),
    ];
    let items = prop::collection::vec((expression(), prop::option::of(name())), 1..4);
    (items, from, prop::option::of(expression()), any::<bool>()).prop_map(
        |(items, from, filter, grouped)| {
            let items: Vec<String> = items
                .into_iter()
                .map(|(item, alias)| match alias {
                    Some(alias) => format!("{item} AS {alias}"),
                    None => item,
                })
                .collect();
            let filter = filter.map_or(String::new(), |filter| format!(" WHERE {filter}"));
            let group = if grouped { " GROUP BY 1" } else { "" };
            format!("SELECT {} FROM {from}{filter}{group}", items.join(", "))
        },
    )
}

fn any_statement() -> impl Strategy<Value = String> {
    let emit = prop::sample::select(vec![
        "",
        " EMIT CHANGES",
        " EMIT EVERY INTERVAL '1' HOUR ON CLOSE LATE EVERY ROW",
        " EMIT EVERY 3 ROWS DISCARDING ALLOWED LATENESS INTERVAL '1 day' LATE ROWS TO x",
    ]);
    let types = prop::sample::select(vec![
        "TEXT",
        "INT[]",
        "NUMERIC(9, 2)",
        "STRUCT<a INT, B STRUCT<c TEXT>>",
        "TIMESTAMPTZ NOT NULL",
        "JSON",
    ]);
    let columns = prop::collection::vec((name(), types), 1..5);
    let value = prop_oneof![
        "[a-z ';]{0,5}".prop_map(|text| format!("'{}'", text.replace('\'', "''"))),
        (-5i32..5).prop_map(|number| number.to_string()),
        Just("true".to_owned()),
    ];
    prop_oneof![
        query(),
        (name(), query(), emit.clone(), name(), value).prop_map(
            |(name, query, emit, key, value)| {
                format!("CREATE CONTINUOUS QUERY {name} WITH ({key} = {value}) AS {query}{emit}")
            }
        ),
        (query(), emit).prop_map(|(query, emit)| format!("EXPLAIN {query}{emit}")),
        (name(), columns, expression()).prop_map(|(name, columns, mark)| {
            let at = columns[0].0.clone();
            let columns: Vec<String> =
                columns.into_iter().map(|(name, sql)| format!("{name} {sql}")).collect();
            let columns = columns.join(", ");
            format!("CREATE STREAM {name} ({columns}, WATERMARK FOR {at} AS {mark})")
        }),
        (name(), query()).prop_map(|(name, query)| format!("INSERT INTO {name} {query}")),
        (name(), name(), expression(), expression()).prop_map(|(table, column, value, filter)| {
            format!("UPDATE {table} SET {column} = {value} WHERE {filter}")
        }),
        (name(), expression()).prop_map(|(name, is)| format!("PUNCTUATE {name} WHERE {is}")),
        name().prop_map(|name| format!("PAUSE {name}")),
        name().prop_map(|name| format!("SUBSCRIBE {name} FROM OFFSET 3")),
        name().prop_map(|name| format!("DROP SINK {name}")),
        name().prop_map(|name| format!("EXPLAIN {name}")),
        name().prop_map(|name| format!("DESCRIBE {name}")),
    ]
}

/// Words that make and break statements.
const WORDS: &[&str] = &[
    "(", ")", "(", ")", "[", "]", ",", ".", "*", "+", "-", "=", "<", ">", ">>", "::", "=>", "||",
    "->", "a", "b", "a", "b", "\"C d\"", "1", "2.5", "'x'", "''''''", "SELECT", "FROM", "WHERE",
    "GROUP", "BY", "ORDER", "LIMIT", "UNION", "ALL", "JOIN", "ON", "AS", "AND", "OR", "NOT", "IN",
    "IS", "NULL", "CASE", "WHEN", "THEN", "END", "CAST", "INTERVAL", "INT", "STRUCT", "ARRAY",
    "TABLE", "EMIT", "CHANGES", "WITH", "VALUES", "floor", "EXISTS",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_back_as_the_same(text in any_statement()) {
        let statement = parse_statement(&text);
        prop_assert!(statement.is_ok(), "{} {:?}", text, statement);
        let statement = statement.unwrap();
        let printed = print(&statement);
        let again = parse_statement(&printed);
        prop_assert_eq!(again.as_ref(), Ok(&statement), "{}", printed);
        prop_assert_eq!(print(&again.unwrap()), printed);
    }

    #[test]
    fn any_row_of_words_is_a_statement_or_an_error(
        words in prop::collection::vec(prop::sample::select(WORDS), 0..40),
    ) {
        let text = format!("SELECT {}", words.join(" "));
        for text in [text.clone(), format!("CREATE CONTINUOUS QUERY q AS {text}")] {
            if let Ok(statement) = parse_statement(&text) {
                prop_assert_eq!(parse_statement(&print(&statement)), Ok(statement), "{}", text);
            }
        }
    }

    #[test]
    fn any_text_is_a_statement_or_an_error(text in "[ -~\n]{0,40}") {
        let (parsed, error) = parse_prefix(&text);
        prop_assert!(split_complete(&text) <= text.len());
        for one in &parsed {
            prop_assert!(text.get(one.text.clone()).is_some());
        }
        if let Some(position) = error.and_then(|error| error.position()) {
            prop_assert!((1..=text.chars().count() + 1).contains(&position));
        }
    }
}
