//! Ends engines while queries still drop late rows: each is in the stream of LATE ROWS TO once.

use weir::decode::{Format, decoder};
use weir::engine::IngestOrigin;

use crate::engines::{open, rows, run};

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_late_while_the_engine_ends_is_in_its_stream_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = open(directory.path());
    run(
        &engine,
        "CREATE STREAM s (v BIGINT, at TIMESTAMP, WATERMARK FOR at AS at) WITH (durability = 'written');
         CREATE STREAM l (v BIGINT, at TIMESTAMP);
         CREATE CONTINUOUS QUERY q AS SELECT window_start, count(*) AS n
             FROM TUMBLE(s, at, INTERVAL '10 seconds') GROUP BY window_start, window_end LATE ROWS TO l",
    )
    .await;
    for round in 1..=12 {
        let stream = engine.stream("s").unwrap();
        // In each round the first row is in time, and closes the windows of the third.
        let body: String = [(0, round * 60), (1, round * 60 + 30), (2, round * 60 - 20)]
            .map(|(v, second)| {
                let (minute, second) = (second / 60, second % 60);
                format!("{{\"v\":{v},\"at\":\"2026-01-01T00:{minute:02}:{second:02}Z\"}}\n")
            })
            .concat();
        let decoded = decoder(Format::NdJson, stream.decode_spec()).decode(body.as_bytes(), 1);
        stream.ingest(decoded, None, IngestOrigin::default()).await.unwrap();
        drop(stream);
        // At once, or when some of its work is done.
        tokio::time::sleep(std::time::Duration::from_micros(300 * (round % 4))).await;
        engine.shutdown().await;
        drop(engine);
        engine = open(directory.path());
        run(&engine, "FLUSH").await;
        let asked = "SELECT (SELECT count(*) FROM l) AS there, late_rows, status FROM weir.queries";
        let expected =
            format!("{{\"there\":{round},\"late_rows\":{round},\"status\":\"running\"}}\n");
        assert_eq!(rows(&engine, asked).await, expected, "round {round}");
        let listed = "SELECT count(*) AS n FROM weir.late_rows";
        assert_eq!(rows(&engine, listed).await, format!("{{\"n\":{round}}}\n"), "round {round}");
    }
    engine.shutdown().await;
}
