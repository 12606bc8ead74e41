//! Measures appending to a log, durable and written, beside a bare loop of write and fdatasync.
//!
//! Clients submit batches of rows (about 60 bytes each) as fast as group commit takes them; the bare
//! loop writes the bytes that one such group takes and syncs them. `cargo bench --bench log_append`
//! measures; under `cargo test --benches` the same code runs over a few rows. Either way the last
//! line is a hash of what was read back. `WEIR_BENCH_DIR` says on which disk to measure.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::hint::black_box;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::Int64Type;
use weir::crew::Crew;
use weir::log::append::{Admission, QueueLimits};
use weir::log::frame::NewFrame;
use weir::log::sequence::Sequencer;
use weir::log::storage::{DiskStorage, Storage};
use weir::log::{Appender, Durability, Log, LogOptions};
use weir::time::SystemClock;

/// Rows of one request.
const BATCH_ROWS: usize = 4_096;
/// Threads that submit.
const CLIENTS: usize = 2;

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let batches = if measured { 1_000 } else { 4 };
    let directory = match std::env::var("WEIR_BENCH_DIR") {
        Ok(path) => tempfile::tempdir_in(path).expect("the directory can be written"),
        Err(_) => tempfile::tempdir().expect("a temporary directory"),
    };
    let storage = Arc::new(DiskStorage::new(directory.path()));
    let batch = batch();
    let mut hash = 0;
    let mut bytes = 0;
    for (name, durability) in [
        ("durable", Durability::Durable),
        ("written", Durability::Written),
        ("memory", Durability::Memory),
    ] {
        let log = open(&storage, name, durability, &batch);
        let time = append(&log, &batch, batches);
        bytes = bytes.max(log.bytes());
        hash ^= read_back(&log);
        report(measured, name, time, batches);
    }
    let time = bare(&storage, bytes as usize / batches, batches);
    report(measured, "bare write+fdatasync per batch", time, batches);
    println!("result hash {hash:016x}");
}

fn report(measured: bool, name: &str, time: Duration, batches: usize) {
    if measured {
        let rate = (batches * BATCH_ROWS) as f64 / time.as_secs_f64() / 1e6;
        println!("{name:32} {rate:8.2} M rows/s");
    }
}

/// Rows as a web log has them: a text of some repetition, a number, a time.
fn batch() -> RecordBatch {
    let texts: StringViewArray = (0..BATCH_ROWS)
        .map(|n| Some(format!("/shop/article/{}/details", n * 7_919 % 1_000)))
        .collect();
    let numbers = Int64Array::from_iter_values((0..BATCH_ROWS).map(|n| (n * 31) as i64));
    let times = Int64Array::from_iter_values((0..BATCH_ROWS).map(|n| 1_700_000_000_000 + n as i64));
    let columns: [(&str, ArrayRef); 3] =
        [("url", Arc::new(texts)), ("user_id", Arc::new(numbers)), ("at", Arc::new(times))];
    RecordBatch::try_from_iter(columns).expect("the columns are of one length")
}

fn open(
    storage: &Arc<DiskStorage>,
    name: &str,
    durability: Durability,
    batch: &RecordBatch,
) -> Arc<Log> {
    let sequencer = Arc::new(Sequencer::new(Arc::new(SystemClock), 0, i64::MIN));
    let options = LogOptions { durability, ..LogOptions::default() };
    let storage = Arc::clone(storage) as Arc<dyn Storage>;
    let log = Log::open(storage, name, batch.schema(), options, sequencer);
    Arc::new(log.expect("an empty directory gives an empty log"))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn append(log: &Arc<Log>, batch: &RecordBatch, batches: usize) -> Duration {
    let limits = QueueLimits { rows: 256 << 10, bytes: 64 << 20 };
    let admit = Box::new(|_: &mut NewFrame| Admission::Append);
    let appender = Appender::start(&Crew::Threads, Arc::clone(log), "append", limits, admit)
        .expect("a thread");
    let start = Instant::now();
    let (sender, acknowledged) = mpsc::channel();
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (appender, sender) = (&appender, sender.clone());
            scope.spawn(move || {
                for _ in (client..batches).step_by(CLIENTS) {
                    let sender = sender.clone();
                    appender.submit(vec![NewFrame::rows(batch.clone(), 0)], move |reply| {
                        reply.expect("the append succeeds");
                        sender.send(()).expect("somebody counts");
                    });
                }
            });
        }
        drop(sender);
        assert_eq!(acknowledged.iter().count(), batches);
    });
    start.elapsed()
}

fn read_back(log: &Log) -> u64 {
    let mut from = log.start();
    let mut hash = 0u64;
    while let Some(last) = {
        let frames = log.read(from, 1 << 16).expect("what was appended can be read");
        for batch in frames.iter().filter_map(|frame| frame.batch.as_ref()) {
            let numbers = batch.column(1).as_primitive::<Int64Type>();
            hash = numbers
                .values()
                .iter()
                .fold(hash, |h, &n| (h ^ n as u64).wrapping_mul(0x0100_0000_01b3));
        }
        frames.last().map(Arc::clone)
    } {
        from.frame = last.index + 1;
        from.offset = last.next_offset();
    }
    assert_eq!(from, log.visible());
    hash
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn bare(storage: &DiskStorage, bytes: usize, times: usize) -> Duration {
    let file = storage.open("bare").expect("the file can be created");
    let group = vec![7u8; bytes];
    let start = Instant::now();
    for n in 0..times {
        file.write_at(black_box(&group), (n * bytes) as u64).expect("the disk has room");
        file.sync().expect("the disk works");
    }
    start.elapsed()
}
