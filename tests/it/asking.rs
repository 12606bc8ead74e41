//! Asks each window function of a one-off SELECT the same question in plain SQL, over random rows.
//!
//! The plain forms use `date_bin`, OVER and joins of DataFusion and nothing of Weir's windows.

use std::sync::Arc;

use weir::engine::Engine;

use crate::engines::{open, rows};
use crate::oracle::Rng;

struct Asked(Arc<Engine>);

impl Asked {
    /// Rows with keys, values with nulls, and times with ties, disorder and years before 1970.
    async fn new(directory: &tempfile::TempDir, rng: &mut Rng) -> Asked {
        let asked = Asked(open(&directory.path().join("data")));
        asked
            .rows("CREATE STREAM s (k TEXT, v BIGINT, at TIMESTAMP, stop BOOLEAN, WATERMARK FOR at AS at)")
            .await;
        let rows: Vec<String> = (0..120 + rng.index(80))
            .map(|_| {
                let v = match rng.index(6) {
                    0 => "NULL".to_string(),
                    _ => (rng.index(200) as i64 - 100).to_string(),
                };
                let key = ["'a'", "'b'", "NULL"][rng.index(3)];
                let base = ["2026-01-01", "1969-12-31 23:59:30"][rng.index(2)];
                let tenths = rng.index(900);
                let stop = rng.index(5) == 0;
                format!(
                    "({key}, {v}, TIMESTAMP '{base}' + INTERVAL '{} milliseconds', {stop})",
                    tenths * 100
                )
            })
            .collect();
        asked.rows(&format!("INSERT INTO s VALUES {}", rows.join(", "))).await;
        asked
    }

    /// The rows of the answer, sorted.
    async fn rows(&self, sql: &str) -> Vec<String> {
        let text = rows(&self.0, sql).await;
        let mut rows: Vec<String> = text.lines().map(str::to_string).collect();
        rows.sort();
        rows
    }

    /// Over each row and its windows, and over groups of them.
    async fn same(&self, window: &str, plain: &str, keys: &str) {
        let rows = format!("{keys}, k, v, _offset");
        let expected = self.rows(&format!("SELECT {rows} FROM ({plain})")).await;
        assert!(!expected.is_empty(), "{plain}");
        assert_eq!(self.rows(&format!("SELECT {rows} FROM {window}")).await, expected, "{window}");
        for (select, group, end) in [
            ("count(*) AS n, sum(v) AS s, min(v) AS l, max(at) AS m, avg(v) AS a", "k", ""),
            ("count(v) AS n, array_agg(v ORDER BY _offset) AS l", "k", "HAVING count(*) > 1"),
            ("count(DISTINCT v) AS n, count(*) FILTER (WHERE v > 0) AS p", "k, v > 10", ""),
        ] {
            let ask = |from: &str| {
                format!("SELECT {keys}, {select} FROM {from} GROUP BY {keys}, {group} {end}")
            };
            let expected = self.rows(&ask(&format!("({plain})"))).await;
            assert_eq!(self.rows(&ask(window)).await, expected, "{window} {select}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_window_of_a_select_means_what_plain_sql_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(20);
    let asked = Asked::new(&directory, &mut rng).await;
    let all = "k, v, at, stop, _offset";
    let times = "window_start, window_end";
    let bin = |width: &str, shift: &str| {
        format!("date_bin(INTERVAL '{width}', at, TIMESTAMP '1970-01-01 00:00:{shift}')")
    };
    let tumble = |width: &str, shift: &str| {
        let start = bin(width, shift);
        format!(
            "SELECT {start} AS window_start, {start} + INTERVAL '{width}' AS window_end, {all} FROM s"
        )
    };
    asked.same("TUMBLE(s, at, INTERVAL '7 seconds')", &tumble("7 seconds", "00"), times).await;
    let shifted = "TUMBLE(s, at, INTERVAL '10 seconds', OFFSET => INTERVAL '3 seconds')";
    asked.same(shifted, &tumble("10 seconds", "03"), times).await;
    asked.same("TUMBLE(s, at, INTERVAL '1 day')", &tumble("1 day", "00"), times).await;

    // Each start of a slide at or before the row, as long as the window still holds the row.
    let hop = |slide: i64, size: i64, starts: i64| {
        let start = bin(&format!("{slide} seconds"), "00");
        let back: Vec<String> = (0..starts)
            .map(|n| {
                let (begin, end) = (-n * slide, size - n * slide);
                format!(
                    "SELECT {start} + INTERVAL '{begin} seconds' AS window_start,
                       {start} + INTERVAL '{end} seconds' AS window_end, {all} FROM s"
                )
            })
            .collect();
        format!("SELECT * FROM ({}) WHERE at < window_end", back.join(" UNION ALL "))
    };
    let window = "HOP(s, at, INTERVAL '4 seconds', INTERVAL '10 seconds')";
    asked.same(window, &hop(4, 10, 3), times).await;
    let window = "HOP(s, at, INTERVAL '10 seconds', INTERVAL '4 seconds')";
    asked.same(window, &hop(10, 4, 1), times).await;

    let start = bin("12 seconds", "00");
    let steps: Vec<String> = (1..=4)
        .map(|n| {
            let end = 3 * n;
            format!(
                "SELECT {start} AS window_start, {start} + INTERVAL '{end} seconds' AS window_end,
                   {all} FROM s"
            )
        })
        .collect();
    let plain = format!("SELECT * FROM ({}) WHERE at < window_end", steps.join(" UNION ALL "));
    let window = "CUMULATE(s, at, INTERVAL '3 seconds', INTERVAL '12 seconds')";
    asked.same(window, &plain, times).await;

    let since = "TIMESTAMP '2026-01-01 00:00:20'";
    let window = format!("LANDMARK(s, at, SINCE => {since})");
    let plain = format!("SELECT {since} AS window_start, {all} FROM s WHERE at >= {since}");
    asked.same(&window, &plain, "window_start").await;

    let sessions = |partition: &str| {
        format!(
            "SELECT min(at) OVER w AS window_start, max(at) OVER w + INTERVAL '2 seconds' AS window_end, {all}
             FROM (SELECT *, sum(CASE WHEN before IS NULL OR at - before >= INTERVAL '2 seconds' THEN 1 ELSE 0 END)
                     OVER ({partition} ORDER BY at, _offset) AS session
                   FROM (SELECT *, lag(at) OVER ({partition} ORDER BY at, _offset) AS before
                         FROM (SELECT {all} FROM s)))
             WINDOW w AS ({} session)",
            if partition.is_empty() { "PARTITION BY".into() } else { format!("{partition},") }
        )
    };
    asked.same("SESSION(s, at, INTERVAL '2 seconds')", &sessions(""), times).await;
    let window = "SESSION(s, at, INTERVAL '2 seconds', PARTITION => k)";
    asked.same(window, &sessions("PARTITION BY k"), times).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_of_numbered_rows_mean_what_plain_sql_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(21);
    let asked = Asked::new(&directory, &mut rng).await;
    let all = "k, v, at, stop, _offset";
    // Rows numbered per key; a window of m rows begins every so many rows, and counts once it is full.
    let counted = |order: &str, size: i64, slide: i64| {
        let ids: Vec<String> = (0..(size + slide - 1) / slide)
            .map(|back| {
                format!(
                    "SELECT nth / {slide} - {back} AS window_id, rows, {all}, nth FROM numbered"
                )
            })
            .collect();
        format!(
            "WITH numbered AS (
               SELECT {all}, CAST(row_number() OVER (PARTITION BY k ORDER BY {order}) AS BIGINT) - 1 AS nth,
                 count(*) OVER (PARTITION BY k) AS rows FROM s)
             SELECT * FROM ({})
             WHERE window_id >= 0 AND nth < window_id * {slide} + {size} AND window_id * {slide} + {size} <= rows",
            ids.join(" UNION ALL ")
        )
    };
    let keys = "window_id";
    let count = |more: &str| format!("COUNT_WINDOW(s, {more}, PARTITION => k)");
    asked.same(&count("4"), &counted("_offset", 4, 4), keys).await;
    asked.same(&count("5, SLIDE => 2"), &counted("_offset", 5, 2), keys).await;
    asked.same(&count("2, SLIDE => 3"), &counted("_offset", 2, 3), keys).await;
    asked.same(&count("4, ORDER => at"), &counted("at, _offset", 4, 4), keys).await;

    // A row with `stop` ends the window that it belongs to; what no row ended counts as
    // closed.
    let plain = format!(
        "SELECT * FROM (
           SELECT {all}, coalesce(sum(CASE WHEN stop THEN 1 ELSE 0 END) OVER (PARTITION BY k ORDER BY _offset
             ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS window_id FROM s)"
    );
    asked.same("PUNCTUATION_WINDOW(s, PARTITION => k, END => stop)", &plain, keys).await;
}
