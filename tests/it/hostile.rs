//! Sends the engine statements that are meant to break it: each must answer or fail soon.

use std::sync::Arc;
use std::time::Duration;

use weir::engine::{Engine, EngineSettings};
use weir::time::{SECOND, VirtualClock};

use crate::engines::{NOW, ndjson, open_with, settings};

/// A statement that takes longer hangs; an engine built for debugging is slow.
const PATIENCE: Duration = Duration::from_secs(90);

struct Victim {
    engine: Arc<Engine>,
    directory: tempfile::TempDir,
}

impl Victim {
    async fn new() -> Victim {
        let directory = tempfile::tempdir().unwrap();
        let chosen = EngineSettings {
            select_time: 5 * SECOND,
            select_rows: 100_000,
            select_memory: 64 << 20,
            ..settings(&directory.path().join("data"))
        };
        let engine = open_with(chosen, &Arc::new(VirtualClock::new(NOW)));
        let victim = Victim { engine, directory };
        let stream = "CREATE STREAM s (k TEXT, n BIGINT, at TIMESTAMP,
                      WATERMARK FOR at AS at - INTERVAL '1' SECOND)";
        assert_eq!(victim.send(stream).await, Ok(String::new()));
        let rows: Vec<String> = (0..100)
            .map(|n| format!("('k{}', {n}, TIMESTAMP '2026-01-01' + INTERVAL '{n}' SECOND)", n % 7))
            .collect();
        let insert = format!("INSERT INTO s VALUES {}", rows.join(", "));
        assert_eq!(victim.send(&insert).await, Ok(String::new()));
        victim
    }

    /// The rows as NDJSON, or the code of the error.
    async fn send(&self, sql: &str) -> Result<String, String> {
        let start: String = sql.chars().take(120).collect();
        let execution = tokio::time::timeout(PATIENCE, self.engine.execute(sql)).await;
        let Ok(execution) = execution else { panic!("hangs: {start}") };
        if let Some(error) = execution.error {
            assert_ne!(error.code().0, "XX000", "{start}\n{error}");
            assert!(!error.message().is_empty(), "{start}");
            return Err(error.code().0.to_string());
        }
        Ok(ndjson(execution.results.last()))
    }

    /// Sends it, and makes sure that the engine still answers.
    async fn survives(&self, sql: &str) -> Result<String, String> {
        let answer = self.send(sql).await;
        assert_eq!(self.send("SELECT 1 AS one").await, Ok("{\"one\":1}\n".into()), "{sql:.120}");
        answer
    }

    async fn refuses(&self, sql: &str, code: &str) {
        assert_eq!(self.survives(sql).await, Err(code.into()), "{sql:.200}");
    }
}

fn sum(terms: usize) -> String {
    vec!["n"; terms].join(" + ")
}

#[tokio::test(flavor = "multi_thread")]
async fn long_and_deep_statements_are_refused() {
    let victim = Victim::new().await;
    let deep = |open: &str, close: &str, n| format!("{}1{}", open.repeat(n), close.repeat(n));
    let statements = [
        format!("SELECT {}", "1, ".repeat(60_000) + "1"),
        format!("SELECT {} FROM s", sum(2_000)),
        format!("CREATE CONTINUOUS QUERY q AS SELECT {} AS x FROM s", sum(2_000)),
        format!("SELECT {}", deep("(", ")", 10_000)),
        format!("SELECT {}", deep("abs(", ")", 5_000)),
        format!("SELECT {}", "NOT ".repeat(20_000) + "TRUE"),
        format!("SELECT {}", "- ".repeat(20_000) + "1"),
        format!("SELECT {}", "CASE WHEN TRUE THEN ".repeat(5_000) + "1" + &" END".repeat(5_000)),
        "SELECT * FROM (".repeat(2_000) + "SELECT 1" + &")".repeat(2_000),
        format!("CREATE STREAM d (x {}INT{})", "STRUCT<a ".repeat(3_000), ">".repeat(3_000)),
        format!(
            "SELECT * FROM TUMBLE({}s{}, at, 1)",
            "TUMBLE(".repeat(3_000),
            ", at, 1)".repeat(3_000)
        ),
    ];
    for sql in &statements {
        let code = victim.survives(sql).await.unwrap_err();
        assert!(["54000", "54001", "42601"].contains(&code.as_str()), "{code}: {sql:.80}");
    }
    let long = format!("SELECT '{}' AS x", "x".repeat(2 << 20));
    victim.refuses(&long, "54000").await;
    let many = format!(
        "SELECT n FROM s WHERE n IN ({}) ORDER BY n",
        (0..20_000).map(|n| n.to_string()).collect::<Vec<_>>().join(",")
    );
    assert_eq!(victim.survives(&many).await.unwrap().lines().count(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_that_grow_when_they_are_expanded_are_refused() {
    let victim = Victim::new().await;
    let chain = |links: usize, link: &str, from: &str| {
        let mut ctes = vec![format!("c0 AS (SELECT n AS x FROM {from})")];
        ctes.extend(
            (1..=links).map(|n| format!("c{n} AS ({})", link.replace('$', &format!("c{}", n - 1)))),
        );
        format!("WITH {} SELECT x FROM c{links}", ctes.join(", "))
    };
    let double = chain(40, "SELECT x FROM $ UNION ALL SELECT x FROM $", "s");
    victim.refuses(&double, "54000").await;
    victim.refuses(&format!("CREATE CONTINUOUS QUERY q AS {double}"), "54000").await;
    let product = chain(12, "SELECT a.x FROM $ AS a, $ AS b", "s");
    victim.refuses(&product, "54000").await;
    // Adds up to 2^30 terms if each is put in its place.
    let terms = chain(30, "SELECT x + x AS x FROM $", "s WHERE n = 1");
    let answer = victim.survives(&terms).await;
    assert_eq!(answer, Ok("{\"x\":1073741824}\n".into()));
    let query = format!("CREATE CONTINUOUS QUERY twice AS {terms}");
    assert_eq!(victim.survives(&query).await, Ok(String::new()));
    assert_eq!(victim.send("FLUSH; SELECT x FROM twice").await, Ok("{\"x\":1073741824}\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn wide_relations_are_taken_or_refused_but_soon() {
    let victim = Victim::new().await;
    let columns = |n: usize| (0..n).map(|c| format!("c{c} INT")).collect::<Vec<_>>().join(", ");
    victim.survives(&format!("CREATE STREAM wide ({})", columns(10_000))).await.unwrap_err();
    victim.refuses(&format!("CREATE STREAM broad ({})", columns(1_601)), "54000").await;
    let created = victim.survives(&format!("CREATE STREAM broad ({})", columns(1_600))).await;
    assert_eq!(created, Ok(String::new()));
    let query = "CREATE CONTINUOUS QUERY as_broad AS SELECT * FROM broad";
    assert_eq!(victim.survives(query).await, Ok(String::new()));
    assert_eq!(victim.survives("SELECT * FROM broad").await, Ok(String::new()));
    let list = (0..300).map(|n| format!("n + {n} AS c{n}")).collect::<Vec<_>>().join(", ");
    let row = victim.survives(&format!("SELECT {list} FROM s WHERE n = 1")).await.unwrap();
    assert!(row.ends_with("\"c299\":300}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_of_odd_sizes_are_refused_or_answered() {
    let victim = Victim::new().await;
    let query = |from: &str| {
        format!("SELECT window_start, count(*) AS n FROM {from} GROUP BY window_start, window_end")
    };
    for (window, code) in [
        ("TUMBLE(s, at, INTERVAL '0' SECOND)", "22023"),
        ("TUMBLE(s, at, INTERVAL '-5' SECOND)", "22023"),
        ("TUMBLE(s, at, NULL)", "22023"),
        ("TUMBLE(s, at, n)", "42703"),
        ("TUMBLE(s, at, INTERVAL '1' SECOND, TIMEZONE => 'Mars/Olympus')", "22023"),
        ("TUMBLE(s, at, INTERVAL '1' SECOND, OFFSET => INTERVAL '1 month')", "22023"),
        ("HOP(s, at, INTERVAL '1 microsecond', INTERVAL '1 year')", "54000"),
        ("HOP(s, at, INTERVAL '1 microsecond', INTERVAL '1 day')", "54000"),
        ("CUMULATE(s, at, INTERVAL '1 microsecond', INTERVAL '1 day')", "54000"),
        ("SESSION(s, at, INTERVAL '0' SECOND)", "22023"),
        ("SESSION(s, at, INTERVAL '1 month')", "22023"),
    ] {
        victim.refuses(&query(window), code).await;
        let create = format!("CREATE CONTINUOUS QUERY q AS {}", query(window));
        victim.refuses(&create, code).await;
    }
    for (name, window) in [
        ("huge", "TUMBLE(s, at, INTERVAL '290000 years')"),
        ("tiny", "TUMBLE(s, at, INTERVAL '1 microsecond')"),
        ("gaps", "HOP(s, at, INTERVAL '100 years', INTERVAL '1 microsecond')"),
        ("many", "HOP(s, at, INTERVAL '1 second', INTERVAL '30 minutes')"),
        ("far", "TUMBLE(s, at, INTERVAL '1 second', OFFSET => INTERVAL '100000 days')"),
        ("pause", "SESSION(s, at, INTERVAL '100000 days')"),
    ] {
        let once = victim.survives(&query(window)).await;
        let create = format!("CREATE CONTINUOUS QUERY {name} AS {}", query(window));
        let created = victim.survives(&create).await;
        assert_eq!(created.is_ok(), once.is_ok(), "{window}: {created:?} {once:?}");
    }
    // The watermark jumps over a great many empty windows.
    victim.send("INSERT INTO s VALUES ('z', 1, TIMESTAMP '0001-01-01')").await.unwrap();
    victim.send("PUNCTUATE s WHERE at < TIMESTAMP '2026-12-31'").await.unwrap();
    victim.survives("FLUSH").await.unwrap();
    let failed = "SELECT name, error FROM weir.queries WHERE status <> 'running'";
    assert_eq!(victim.send(failed).await, Ok(String::new()));
    assert_eq!(victim.send("SELECT count(*) AS n FROM tiny").await, Ok("{\"n\":100}\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn logical_time_reaches_to_the_ends_of_its_range() {
    let victim = Victim::new().await;
    let stream = "CREATE STREAM l (at BIGINT, WATERMARK FOR at AS at - 5)";
    assert_eq!(victim.send(stream).await, Ok(String::new()));
    for (name, window) in [
        ("a", "TUMBLE(l, at, 10, OFFSET => 9223372036854775807)"),
        (
            "b",
            "HOP(l, at, 9223372036854775807, 9223372036854775807, OFFSET => -9223372036854775807)",
        ),
        ("c", "HOP(l, at, 3, 10)"),
        ("d", "CUMULATE(l, at, 9223372036854775807, 9223372036854775807)"),
        ("e", "SESSION(l, at, 9223372036854775807)"),
    ] {
        let create = format!(
            "CREATE CONTINUOUS QUERY {name} AS SELECT window_start, window_end, count(*) AS n FROM {window} GROUP BY window_start, window_end"
        );
        assert_eq!(victim.survives(&create).await, Ok(String::new()), "{window}");
    }
    for at in ["-9223372036854775808", "-1", "0", "9223372036854775807", "5"] {
        victim.survives(&format!("INSERT INTO l VALUES ({at}); FLUSH")).await.unwrap();
    }
    let failed = "SELECT name, error FROM weir.queries WHERE status <> 'running'";
    assert_eq!(victim.send(failed).await, Ok(String::new()));
    let rows = victim.send("SELECT n FROM c WHERE window_start = -3").await;
    assert_eq!(rows, Ok("{\"n\":2}\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_at_the_edge_are_errors_or_values() {
    let victim = Victim::new().await;
    for sql in [
        "SELECT CAST('NaN' AS DOUBLE) AS x, CAST('Infinity' AS DOUBLE) AS y, -CAST('inf' AS REAL) AS z",
        "SELECT CAST(CAST('NaN' AS DOUBLE) AS BIGINT) AS x",
        "SELECT CAST('Infinity' AS DOUBLE)::NUMERIC(10,2) AS x",
        "SELECT 9223372036854775807 + 1 AS x",
        "SELECT -9223372036854775808 / -1 AS x",
        "SELECT 1 / 0 AS x",
        "SELECT TIMESTAMP '294277-01-09' + INTERVAL '1000000 years' AS x",
        "SELECT TIMESTAMP '0000-00-00' AS x",
        "SELECT DATE '999999999-01-01' AS x",
        "SELECT sum(9223372036854775807) AS x FROM s",
        "SELECT 1e999999 AS x",
        "SELECT 99999999999999999999999999999999999999999999999999 AS x",
        "SELECT substr('abc', -9223372036854775808) AS x",
        "SELECT regexp_extract_all('aaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '(a*)*b') AS x",
        "SELECT regexp_extract_all('a', '(') AS x",
        "SELECT INTERVAL '99999999999999999999 days' AS x",
    ] {
        // What it says is DataFusion's business; that it says something is ours.
        let _answer = victim.survives(sql).await;
    }
    for sql in [
        "SELECT",
        ";;;;",
        "",
        "\u{0}",
        "SELECT '\u{0}'",
        "SELECT \"",
        "$$",
        "/*",
        "SELECT $1",
        "EXPLAIN EXPLAIN SELECT 1",
    ] {
        let _answer = victim.survives(sql).await;
    }
}

/// Threads of this process that answer a SELECT.
fn answering() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim() == "select").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn selects_that_never_end_are_cancelled_and_leave_no_thread_behind() {
    let victim = Victim::new().await;
    for sql in [
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n FROM r) SELECT count(*) FROM r",
        "SELECT count(*) AS n FROM generate_series(1, 9876543210) AS a, generate_series(1, 100) AS b",
        "SELECT * FROM generate_series(1, 9876543210)",
        "SELECT count(*) AS n FROM s AS a, s AS b, s AS c, s AS d, s AS e, s AS f WHERE a.n + b.n + c.n + d.n + e.n + f.n = -1",
        // Joins whose condition drops every pair, by hash and in a loop.
        "SELECT count(*) FROM generate_series(1, 100000) AS a JOIN generate_series(1, 100000) AS b
           ON a.value % 1 = b.value % 1 AND a.value + b.value = 1",
        "SELECT count(*) FROM generate_series(1, 1000000) AS a JOIN generate_series(1, 1000000) AS b
           ON a.value + b.value < 0",
        // One that pairs many rows before it says anything.
        "SELECT count(*) FROM generate_series(1, 300000) WHERE value % 1 IN
           (SELECT value % 1 FROM generate_series(1, 300000))",
        "SELECT max(a.value) FROM generate_series(1, 300000) AS a WHERE NOT EXISTS
           (SELECT 1 FROM generate_series(1, 300000) AS b WHERE b.value % 1 = a.value % 1 AND b.value + a.value < 0)",
        "SELECT value FROM generate_series(1, 9876543210) ORDER BY value % 7 LIMIT 1",
        "SELECT value % 3, count(*) FROM generate_series(1, 9876543210) GROUP BY value % 3",
        "SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY value % 7) AS n FROM generate_series(1, 9876543210))",
    ] {
        if let Err(code) = victim.survives(sql).await {
            assert!(["57014", "53400", "53200"].contains(&code.as_str()), "{code}: {sql}");
        }
        let begin = tokio::time::Instant::now();
        while answering() > 0 {
            assert!(begin.elapsed() < Duration::from_secs(20), "still answering: {sql}");
            tokio::task::yield_now().await;
        }
    }
    let itself = "CREATE CONTINUOUS QUERY me AS SELECT * FROM me";
    victim.refuses(itself, "42P01").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_that_would_make_huge_values_are_refused_before_they_do() {
    let victim = Victim::new().await;
    for huge in [
        "repeat('x', 2000000000)",
        "lpad('x', 2000000000, 'y')",
        "rpad('x', 2000000000)",
        "array_repeat(1, 2000000000)",
        "array_repeat(array_repeat('x', 100000), 100000)",
        "range(0, 2000000000)",
        "generate_series(-9223372036854775808, 9223372036854775807)",
        "generate_series(TIMESTAMP '2000-01-01', TIMESTAMP '2026-01-01', INTERVAL '1 second')",
        "array_resize([1], 2000000000, 0)",
        "replace(repeat('a', 1000000), 'a', repeat('b', 1000000))",
        "regexp_replace(repeat('a', 1000000), 'a', repeat('b', 1000000), 'g')",
        "array_to_string(array_repeat('', 10000), repeat('b', 100000))",
    ] {
        victim.refuses(&format!("SELECT {huge} AS x FROM s"), "53200").await;
        let create = format!("CREATE CONTINUOUS QUERY big AS SELECT {huge} AS x FROM s");
        // A constant is refused at once, a row when it comes.
        if victim.survives(&create).await.is_ok() {
            victim.send("FLUSH").await.unwrap();
            assert_eq!(victim.send("SELECT x FROM big").await, Ok(String::new()), "{huge}");
            let letters = "SELECT DISTINCT code FROM weir.dead_letters WHERE query = 'big'";
            assert_eq!(victim.send(letters).await, Ok("{\"code\":\"54000\"}\n".into()), "{huge}");
            victim.send("DROP CONTINUOUS QUERY big").await.unwrap();
        }
    }
    // Each value is one that may be; all of a step are more than an entry of the changelog holds.
    victim.refuses("SELECT repeat(k, 10000000) AS x FROM s", "53200").await;
    victim
        .send("CREATE CONTINUOUS QUERY big AS SELECT repeat(k, 10000000) AS x FROM s")
        .await
        .unwrap();
    victim.send("FLUSH").await.unwrap();
    let stopped = "SELECT status, substr(error, 1, 5) AS code FROM weir.queries";
    let expected = "{\"status\":\"failed\",\"code\":\"54000\"}\n";
    assert_eq!(victim.send(stopped).await, Ok(expected.into()));
    assert_eq!(victim.send("SELECT x FROM big").await, Err("55000".into()));
    victim.send("DROP CONTINUOUS QUERY big").await.unwrap();
    let large =
        "SELECT length(repeat('x', 3000000)) AS n, length(repeat(k, 1000)) AS m FROM s LIMIT 1";
    assert_eq!(victim.send(large).await, Ok("{\"n\":3000000,\"m\":2000}\n".into()));
    let all = "SELECT sum(length(repeat('xyz', 1000000) || k)) AS n FROM s";
    assert_eq!(victim.send(all).await, Ok("{\"n\":300000200}\n".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_any_text_stay_names() {
    let victim = Victim::new().await;
    for name in [
        "we\"ird",
        "☃ snow",
        "../../escape",
        "/etc/x",
        "con..",
        "a b;c",
        "SELECT",
        "%2e%2e",
        "é\u{301}",
        "A",
        "a\nb",
    ] {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let create = format!("CREATE STREAM {quoted} ({quoted} INT)");
        if victim.survives(&create).await.is_err() {
            continue;
        }
        let insert = format!("INSERT INTO {quoted} VALUES (7)");
        assert_eq!(victim.survives(&insert).await, Ok(String::new()), "{name}");
        let rows = victim.survives(&format!("SELECT {quoted} AS x FROM {quoted}")).await;
        assert_eq!(rows, Ok("{\"x\":7}\n".into()), "{name}");
        let count = format!(
            "CREATE CONTINUOUS QUERY \"q {}\" AS SELECT count(*) AS n FROM {quoted}",
            name.replace('"', "\"\"")
        );
        assert_eq!(victim.survives(&count).await, Ok(String::new()), "{name}");
    }
    for name in ["", "a\u{0}b"] {
        victim.survives(&format!("CREATE STREAM \"{name}\" (x INT)")).await.unwrap_err();
    }
    let long = "x".repeat(100_000);
    let _answer = victim.survives(&format!("CREATE STREAM {long} (x INT)")).await;
    let beside: Vec<_> = std::fs::read_dir(victim.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(beside, ["data"]);
    victim.send("FLUSH").await.unwrap();
}
