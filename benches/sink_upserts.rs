//! Measures upserts into PostgreSQL, exactly once, beside a plain COPY of the same rows by hand.
//!
//! Transactions of 50,000 rows of (text, bigint, bigint, double, timestamp), key of two columns, over 250,000
//! keys: the first round inserts each key, the later ones replace its row. The rows go through the sink's whole
//! way: net effect per key, COPY into the stage, MERGE, the mark, COMMIT with fsync. By hand: COPY of the same
//! values, made beforehand, into a table without a key, one COMMIT per 50,000 rows.
//! `cargo bench --bench sink_upserts` measures; under `cargo test --benches` the same code runs over a few
//! rows. It starts a private PostgreSQL, or says that there is none.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

#[expect(dead_code, unreachable_pub, reason = "tests use more of it")]
#[path = "../tests/pg/mod.rs"]
mod pg;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use weir::sinks::ddl::TableName;
use weir::sinks::postgres::PostgresTarget;
use weir::sinks::sink::{SinkBatch, SinkMode, SinkPlan, SinkTarget};

/// Rows of a transaction.
const BATCH_ROWS: usize = 50_000;

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let (batch_rows, batches, rounds) = if measured { (BATCH_ROWS, 5, 6) } else { (50, 2, 2) };
    let server = match pg::measured() {
        Ok(server) => server,
        Err(reason) => {
            println!("{reason}");
            return;
        }
    };
    let schema = server.fresh_schema();
    let url = server.url_in(&schema);
    sql(&url, &format!("CREATE SCHEMA {schema}"));
    let by_hand = copy(&url, batch_rows, batches);
    let mut target = PostgresTarget::new(url.clone(), None);
    let plan = plan(&batch(0, batch_rows, 0));
    let mut offset = target.prepare(&plan).expect("the table can be made");
    for round in 0..rounds {
        let made: Vec<RecordBatch> =
            (0..batches).map(|index| batch(index, batch_rows, round)).collect();
        let began = Instant::now();
        for batch in made {
            let to = offset + batch_rows as u64;
            let batch = SinkBatch { batch, weights: None, first_offset: offset };
            let written = target.commit(&batch, offset, to, &mut |_| Ok(())).expect("it commits");
            assert_eq!(written, batch_rows as u64);
            offset = to;
        }
        let name =
            if round == 0 { "upserts of new keys" } else { "upserts of keys that are there" };
        report(measured, name, began.elapsed(), batch_rows * batches, by_hand);
    }
    let found = sql(&url, "SELECT count(*), sum(n), sum(v) FROM t");
    println!("result {found}");
    assert!(found.starts_with(&format!("{}|", batch_rows * batches)), "{found}");
}

fn report(measured: bool, name: &str, time: Duration, rows: usize, by_hand: f64) {
    if measured {
        let rate = rows as f64 / time.as_secs_f64();
        println!("{name:32} {:8.0} rows/s, {:.2} of COPY by hand", rate, rate / by_hand);
    }
}

/// The value of row `row` in a round: key, window, number, measure, time.
fn values(row: usize, round: usize) -> (String, i64, i64, f64, i64) {
    let number = (row * 31 + round) as i64;
    let time = 1_700_000_000_000_000 + row as i64 * 1_000;
    (
        format!("/shop/article/{:07}", row * 7_919 % 1_000_003),
        (row % 7) as i64,
        number,
        0.5 * number as f64,
        time,
    )
}

fn batch(index: usize, rows: usize, round: usize) -> RecordBatch {
    let all: Vec<_> = (index * rows..(index + 1) * rows).map(|row| values(row, round)).collect();
    let columns: [(&str, ArrayRef); 5] = [
        ("k", Arc::new(StringViewArray::from_iter_values(all.iter().map(|row| &row.0)))),
        ("w", Arc::new(Int64Array::from_iter_values(all.iter().map(|row| row.1)))),
        ("n", Arc::new(Int64Array::from_iter_values(all.iter().map(|row| row.2)))),
        ("v", Arc::new(Float64Array::from_iter_values(all.iter().map(|row| row.3)))),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(all.iter().map(|row| row.4)))),
    ];
    RecordBatch::try_from_iter(columns).expect("the columns are of one length")
}

fn plan(batch: &RecordBatch) -> SinkPlan {
    SinkPlan {
        id: "bench".into(),
        name: "bench".into(),
        changelog: "q".into(),
        schema: batch.schema(),
        table: TableName::plain("t"),
        mode: SinkMode::Upsert,
        key: vec![0, 1],
        adopt: false,
        add_columns: false,
        history: None,
    }
}

/// Rows a second of COPY, text made beforehand, into a table without a key.
fn copy(url: &str, batch_rows: usize, batches: usize) -> f64 {
    sql(url, "CREATE TABLE by_hand (k TEXT, w BIGINT, n BIGINT, v DOUBLE PRECISION, at TIMESTAMP)");
    let texts: Vec<bytes::Bytes> = (0..batches)
        .map(|index| {
            let mut text = Vec::new();
            for row in index * batch_rows..(index + 1) * batch_rows {
                let (k, w, n, v, at) = values(row, 0);
                let (seconds, micros) = (at / 1_000_000 % 60, at % 1_000_000);
                writeln!(text, "{k}\t{w}\t{n}\t{v}\t2023-11-14 22:13:{seconds:02}.{micros:06}")
                    .expect("writing to memory");
            }
            text.into()
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (client, connection) =
            tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("it connects");
        tokio::spawn(connection);
        let began = Instant::now();
        for text in texts {
            let sink = client.copy_in("COPY by_hand FROM STDIN").await.expect("it copies");
            let mut sink = Box::pin(sink);
            futures::SinkExt::send(&mut sink, text).await.expect("it takes data");
            sink.as_mut().finish().await.expect("it commits");
        }
        let rate = (batch_rows * batches) as f64 / began.elapsed().as_secs_f64();
        println!("{:32} {rate:8.0} rows/s", "COPY by hand, no key");
        rate
    })
}

/// Runs statements; the fields of the last row, joined.
fn sql(url: &str, statements: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let (client, connection) =
            tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("it connects");
        tokio::spawn(connection);
        let messages = client.simple_query(statements).await.expect("it runs");
        let rows = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.last().map_or(String::new(), |row| {
            let fields: Vec<&str> = (0..row.len()).map(|i| row.get(i).unwrap_or("∅")).collect();
            fields.join("|")
        })
    })
}
