//! Runs the queries of `queries/nexmark/` over the benchmark's events, all at once, and compares each with
//! DataFusion's batch answer to the same question.
//!
//! `WEIR_NEXMARK_EVENTS` says how many events, `WEIR_NEXMARK_SEED` which ones.

mod generator;
mod oracle;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use weir::client::demo::answer::Answer;
use weir::decode::Decoded;
use weir::engine::{Engine, EngineSettings, IngestOrigin};
use weir::time::{SECOND, VirtualClock};

use generator::{Events, Nexmark};

const EVENTS: u64 = 20_000;
/// Events of one request, and of a second of event time.
const PORTION: u64 = 1_000;
const RATE: u64 = 200;
const BEGIN: i64 = 1_767_260_000_000_000;
const QUERIES: std::ops::RangeInclusive<usize> = 0..=22;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The text of a query's file.
fn text(number: usize) -> String {
    let file = format!("queries/nexmark/q{number}.sql");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// What stands behind AS in the continuous query of a file.
fn body(number: usize) -> String {
    let text = text(number);
    let (_, body) = text.split_once(&format!("CREATE CONTINUOUS QUERY q{number} AS")).unwrap();
    body.split(';').next().unwrap().to_string()
}

/// The auction house: an engine, and what goes into it.
struct House {
    engine: Arc<Engine>,
    clock: Arc<VirtualClock>,
    directory: tempfile::TempDir,
}

impl House {
    async fn open() -> House {
        let directory = tempfile::tempdir().unwrap();
        let settings = EngineSettings {
            timers: false,
            select_memory: 1 << 30,
            ..EngineSettings::new(directory.path().join("data"))
        };
        let clock = Arc::new(VirtualClock::new(BEGIN));
        let engine = Engine::open(settings, Arc::<VirtualClock>::clone(&clock)).unwrap();
        let house = House { engine, clock, directory };
        let files = house.files();
        for number in QUERIES {
            let sql = text(number).replace("nexmark_q10", files.to_str().unwrap());
            house.run(&sql).await;
        }
        house
    }

    /// Where the sink of q10 writes.
    fn files(&self) -> PathBuf {
        self.directory.path().join("nexmark_q10")
    }

    async fn run(&self, sql: &str) -> Answer {
        let execution = self.engine.execute(sql).await;
        if let Some(error) = execution.error {
            panic!("{error}\n{sql}");
        }
        execution.results.last().map(Answer::of).unwrap_or_default()
    }

    async fn feed(&self, events: &Events) {
        let schema = |name| Arc::clone(&self.engine.stream(name).unwrap().decode_spec().schema);
        self.store("person", events.persons(&schema("person"))).await;
        self.store("auction", events.auctions(&schema("auction"))).await;
        self.store("bid", events.bids(&schema("bid"))).await;
        self.store("bid_arrivals", events.bids(&schema("bid_arrivals"))).await;
    }

    async fn store(&self, stream: &str, batch: RecordBatch) {
        let rows = batch.num_rows() as u64;
        let stream = self.engine.stream(stream).unwrap();
        let receipt =
            stream.ingest(Decoded::good(batch), None, IngestOrigin::default()).await.unwrap();
        assert_eq!((receipt.accepted, receipt.rejected), (rows, 0));
    }

    /// No more events: the watermarks go to the end, and the clock on.
    async fn close(&self) {
        for stream in ["person", "auction", "bid"] {
            let sql = format!("PUNCTUATE {stream} WHERE date_time < TIMESTAMP '2100-01-01'");
            self.run(&sql).await;
        }
        self.clock.advance(60 * SECOND);
        for _ in 0..8 {
            if self.engine.run_timers().unwrap() == 0 {
                break;
            }
            self.engine.flush().await.unwrap();
        }
        self.run("FLUSH SINK q10_files").await;
        self.engine.flush().await.unwrap();
    }

    /// Where the answer of a query is not the one of its batch question.
    async fn difference(&self, number: usize, middle: u64) -> Option<String> {
        let question = oracle::question(number, middle).unwrap_or_else(|| body(number));
        let found = sorted(self.run(&format!("SELECT * FROM q{number}")).await);
        let wanted = sorted(self.run(&question).await);
        if found.columns != wanted.columns {
            return Some(format!("q{number}: {:?}, not {:?}", found.columns, wanted.columns));
        }
        if wanted.rows.is_empty() {
            return Some(format!("q{number}: no rows, so nothing is shown"));
        }
        found.difference(&wanted).map(|difference| format!("q{number}: {difference}"))
    }
}

fn sorted(mut answer: Answer) -> Answer {
    answer.rows.sort();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_answers_as_a_batch_does_in_the_middle_and_at_the_end() {
    let events = setting("WEIR_NEXMARK_EVENTS", EVENTS);
    let seed = setting("WEIR_NEXMARK_SEED", 1);
    let nexmark = Nexmark { seed, begin: BEGIN, rate: RATE };
    let house = House::open().await;
    let mut middle = u64::MAX;
    let (mut bids, mut wrong) = (0, Vec::new());
    for first in (0..events).step_by(PORTION as usize) {
        let portion = nexmark.events(first..(first + PORTION).min(events));
        house.clock.set(nexmark.time(first + PORTION));
        house.engine.run_timers().unwrap();
        house.feed(&portion).await;
        bids += portion.bids.len() as u64;
        if middle == u64::MAX && first + PORTION >= events / 2 {
            middle = bids;
            house.engine.flush().await.unwrap();
            for number in QUERIES.filter(|number| oracle::at_any_time(*number)) {
                let difference = house.difference(number, middle).await;
                wrong.extend(difference.map(|why| format!("in the middle, {why}")));
            }
            house.run("UPDATE side_input SET value = 'changed' WHERE mod(key, 2) = 0").await;
            house.engine.flush().await.unwrap();
        }
    }
    house.close().await;
    for number in QUERIES {
        wrong.extend(house.difference(number, middle).await);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let late = house.run("SELECT count(*) FROM weir.late_rows").await;
    assert_eq!(late.rows, [["0"]], "the watermarks wait long enough");
    assert_eq!(lines(&house.files()), bids as usize, "q10 writes each bid once");
    house.engine.shutdown().await;
}

/// The lines of all files of a directory, without headers.
fn lines(directory: &Path) -> usize {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|end| end == "csv"));
    files.map(|file| std::fs::read_to_string(file).unwrap().lines().count() - 1).sum()
}

#[test]
fn the_same_seed_gives_the_same_events_in_the_known_proportions() {
    let nexmark = |seed| Nexmark { seed, begin: BEGIN, rate: RATE };
    let events = nexmark(7).events(0..10_000);
    let counts = (events.persons.len(), events.auctions.len(), events.bids.len());
    assert_eq!(counts, (200, 600, 9_200));
    let again = nexmark(7).events(0..10_000);
    assert_eq!(format!("{events:?}"), format!("{again:?}"));
    assert_ne!(format!("{events:?}"), format!("{:?}", nexmark(8).events(0..10_000)));
    // Cut elsewhere they are the same.
    let late = nexmark(7).events(5_000..10_000);
    assert_eq!(format!("{:?}", late.bids.last()), format!("{:?}", events.bids.last()));
    let hot = |matches: fn(&generator::Bid) -> bool| {
        100 * events.bids.iter().filter(|bid| matches(bid)).count() / events.bids.len()
    };
    assert!((49..=54).contains(&hot(|bid| bid.auction % 100 == 0)), "every second bid");
    assert!((74..=80).contains(&hot(|bid| bid.bidder % 100 == 1)), "three of four bids");
    let out_of_order = events.bids.windows(2).filter(|pair| pair[0].date_time > pair[1].date_time);
    assert!(out_of_order.count() > 100);
}
