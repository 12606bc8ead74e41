//! Measures the NDJSON decoder against arrow-json and a hand-written serde loop, on the same rows.
//!
//! `cargo bench --bench json_decode` measures; `--tiny` (or no `--bench` argument, as in
//! `cargo test --benches`) decodes a few rows and prints a hash of the result.
#![expect(clippy::print_stdout, reason = "a benchmark's report is its output")]

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Float64Builder, Int64Builder, RecordBatch, StringViewBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use weir::data::schema::TIMESTAMP;
use weir::decode::{DecodeSpec, Format, Limits, decoder};

const BATCH: usize = 8192;

fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8View, true);
    Arc::new(Schema::new(vec![
        Field::new("at", TIMESTAMP, true),
        text("url"),
        text("referrer"),
        Field::new("user_id", DataType::Int64, true),
        text("country"),
        text("device"),
        text("session"),
        Field::new("duration", DataType::Float64, true),
        Field::new("status", DataType::Int64, true),
        text("method"),
    ]))
}

/// `rows` flat objects of some 220 bytes.
fn input(rows: usize) -> String {
    let mut text = String::new();
    for i in 0..rows {
        let row = format!(
            "{{\"at\":\"2026-01-01T{:02}:{:02}:{:02}.{:06}Z\",\"url\":\"/products/item-{}/view\",\
             \"referrer\":\"https://example.com/s?q={}\",\"user_id\":{},\"country\":\"{}\",\
             \"device\":\"{}\",\"session\":\"{:016x}\",\"duration\":{}.{:02},\"status\":{},\
             \"method\":\"GET\"}}\n",
            i / 3600 % 24,
            i / 60 % 60,
            i % 60,
            i * 7919 % 1_000_000,
            i * 31 % 10_000,
            i * 17 % 1000,
            100_000 + i * 7 % 900_000,
            ["de", "fr", "us", "jp"][i % 4],
            ["mobile", "desktop", "tablet"][i % 3],
            (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            i % 300,
            i % 100,
            [200, 200, 200, 304, 404][i % 5],
        );
        text.push_str(&row);
    }
    text
}

/// Whole lines of about one batch each, as a server would hand them over.
fn chunks(input: &str) -> Vec<&[u8]> {
    let mut chunks = Vec::new();
    let (mut start, mut lines) = (0, 0);
    for (i, _) in input.match_indices('\n') {
        lines += 1;
        if lines % BATCH == 0 {
            chunks.push(&input.as_bytes()[start..=i]);
            start = i + 1;
        }
    }
    if start < input.len() {
        chunks.push(&input.as_bytes()[start..]);
    }
    chunks
}

fn ours(chunks: &[&[u8]], batches: &mut Vec<RecordBatch>) {
    let spec =
        DecodeSpec { schema: schema(), reject_unknown_fields: false, limits: Limits::default() };
    let mut decoder = decoder(Format::NdJson, Arc::new(spec));
    for chunk in chunks {
        let decoded = decoder.decode(chunk, 1);
        assert!(decoded.rejected.is_empty());
        batches.push(decoded.batch);
    }
}

fn arrow_json(chunks: &[&[u8]], batches: &mut Vec<RecordBatch>) {
    let mut decoder = arrow::json::ReaderBuilder::new(schema())
        .with_batch_size(BATCH)
        .build_decoder()
        .expect("the schema is supported");
    for chunk in chunks {
        decoder.decode(chunk).expect("the rows are JSON");
        batches.extend(decoder.flush().expect("the rows fit the schema"));
    }
}

#[derive(serde::Deserialize)]
struct Row<'a> {
    at: &'a str,
    #[serde(borrow)]
    url: Cow<'a, str>,
    #[serde(borrow)]
    referrer: Cow<'a, str>,
    user_id: i64,
    #[serde(borrow)]
    country: Cow<'a, str>,
    #[serde(borrow)]
    device: Cow<'a, str>,
    #[serde(borrow)]
    session: Cow<'a, str>,
    duration: f64,
    status: i64,
    #[serde(borrow)]
    method: Cow<'a, str>,
}

fn serde_loop(chunks: &[&[u8]], batches: &mut Vec<RecordBatch>) {
    for chunk in chunks {
        let mut at = TimestampMicrosecondBuilder::new();
        let mut texts: [StringViewBuilder; 6] = Default::default();
        let (mut user_id, mut status) = (Int64Builder::new(), Int64Builder::new());
        let mut duration = Float64Builder::new();
        for row in serde_json::Deserializer::from_slice(chunk).into_iter::<Row<'_>>() {
            let row = row.expect("the rows are JSON");
            let moment = chrono::DateTime::parse_from_rfc3339(row.at).expect("RFC 3339");
            at.append_value(moment.timestamp_micros());
            user_id.append_value(row.user_id);
            status.append_value(row.status);
            duration.append_value(row.duration);
            let values = [row.url, row.referrer, row.country, row.device, row.session, row.method];
            for (builder, value) in texts.iter_mut().zip(values) {
                builder.append_value(value);
            }
        }
        let [mut url, mut referrer, mut country, mut device, mut session, mut method] = texts;
        let columns: Vec<arrow::array::ArrayRef> = vec![
            Arc::new(at.finish()),
            Arc::new(url.finish()),
            Arc::new(referrer.finish()),
            Arc::new(user_id.finish()),
            Arc::new(country.finish()),
            Arc::new(device.finish()),
            Arc::new(session.finish()),
            Arc::new(duration.finish()),
            Arc::new(status.finish()),
            Arc::new(method.finish()),
        ];
        batches.push(RecordBatch::try_new(schema(), columns).expect("columns fit the schema"));
    }
}

type Way = fn(&[&[u8]], &mut Vec<RecordBatch>);

/// The least time of `runs`.
fn time(way: Way, chunks: &[&[u8]], runs: usize) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..runs {
        let mut batches = Vec::new();
        #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
        let start = std::time::Instant::now();
        way(black_box(chunks), &mut batches);
        least = least.min(start.elapsed());
        black_box(batches);
    }
    least
}

fn hash(way: Way, chunks: &[&[u8]]) -> u32 {
    let mut batches = Vec::new();
    way(chunks, &mut batches);
    let mut bytes = Vec::new();
    for batch in &batches {
        weir::encode::csv::write_rows(batch, &mut bytes);
    }
    crc32c::crc32c(&bytes)
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let tiny = args.iter().any(|a| a == "--tiny") || !args.iter().any(|a| a == "--bench");
    let rows = if tiny { 100 } else { 200_000 };
    let text = input(rows);
    let chunks = chunks(&text);
    let ways: [(&str, Way); 3] =
        [("weir", ours), ("arrow-json", arrow_json), ("serde struct", serde_loop)];
    let expected = hash(ours, &chunks);
    for (name, way) in ways {
        assert_eq!(hash(way, &chunks), expected, "{name} decodes something else");
    }
    println!("json_decode rows={rows} hash={expected:08x}");
    if tiny {
        return;
    }
    let first = time(ours, &chunks, 9).as_secs_f64();
    for (name, way) in ways {
        let seconds = time(way, &chunks, 9).as_secs_f64();
        println!(
            "{name:<13} {:>6.2} M rows/s {:>6.0} MB/s  weir is {:.2} x as fast",
            rows as f64 / seconds / 1e6,
            text.len() as f64 / seconds / 1e6,
            seconds / first,
        );
    }
    println!("{} bytes per row", text.len() / rows);
}
