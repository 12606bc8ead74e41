//! Measures the queries of `queries/nexmark/`: rows per second from the streams' logs through the pipeline
//! into the query's changelog, with a hand-written loop over the same events beside q3, q8, q15, q18, q19.
//!
//! The events are stored first; then each query is created over them, alone, and the time until it has
//! read all of them is taken. Rows are those of the streams that the query reads; the loops read events
//! that lie ready in memory. `cargo bench --bench nexmark [-- q3 q8 [EVENTS]]`; without `--bench` few events,
//! and only the answers are checked. Of 2 million events persons and auctions are 160,000: for those 12 million
//! take the milliseconds of a CREATE out of the rate.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::sync::Arc;

use arrow::array::RecordBatch;
use hashbrown::{HashMap, HashSet};
use weir::client::demo::answer::Answer;
use weir::decode::Decoded;
use weir::engine::{Engine, EngineSettings, IngestOrigin};
use weir::time::{Clock, SECOND, SystemClock};

#[path = "../tests/it/nexmark/generator.rs"]
mod generator;

use generator::{Auction, Events, Nexmark};

/// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of one request.
const PORTION: u64 = 65_536;
/// Events in a second of event time: the public generator's.
const RATE: u64 = 10_000;
const TEN_SECONDS: i64 = 10 * SECOND;
const STREAMS: [&str; 4] = ["person", "auction", "bid", "bid_arrivals"];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let full = arguments.iter().any(|argument| argument == "--bench");
    let wanted: Vec<usize> =
        arguments.iter().filter_map(|text| text.strip_prefix('q')?.parse().ok()).collect();
    let count = arguments.iter().find_map(|text| text.parse().ok());
    let count = count.unwrap_or(if full { 2_000_000 } else { 5_000 });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("the system gives us threads").block_on(measure(count, &wanted));
}

async fn measure(count: u64, wanted: &[usize]) {
    // Nothing is ahead of the clock, and nothing so old that it would be removed.
    let begin = SystemClock.now() - count as i64 / RATE as i64 * SECOND - 60 * SECOND;
    let nexmark = Nexmark { seed: 1, begin: begin / TEN_SECONDS * TEN_SECONDS, rate: RATE };
    let house = House::open(nexmark, count).await;
    for number in 0..=22 {
        if wanted.is_empty() || wanted.contains(&number) {
            house.run_query(number).await;
        }
    }
    house.engine.shutdown().await;
}

/// An engine whose streams hold the events.
struct House {
    engine: Arc<Engine>,
    events: Vec<Events>,
    /// Rows of each of [`STREAMS`].
    rows: [u64; 4],
    _directory: Directory,
}

/// Removed when it goes.
struct Directory(std::path::PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            println!("{} stays: {error}", self.0.display());
        }
    }
}

impl House {
    async fn open(nexmark: Nexmark, count: u64) -> House {
        let path = std::env::temp_dir().join(format!("weir-nexmark-{}", std::process::id()));
        let settings = EngineSettings { timers: false, ..EngineSettings::new(&path) };
        let engine = Engine::open(settings, Arc::new(SystemClock)).expect("an empty directory");
        let mut house =
            House { engine, events: Vec::new(), rows: [0; 4], _directory: Directory(path) };
        for number in [3, 12, 13, 20] {
            let (streams, _) = text(number);
            house.run(&streams).await;
        }
        let schema = |name| Arc::clone(&house.stream(name).decode_spec().schema);
        let schemas = STREAMS.map(schema);
        for first in (0..count).step_by(PORTION as usize) {
            let events = nexmark.events(first..(first + PORTION).min(count));
            let [person, auction, bid, arrival] = &schemas;
            let batches = [
                events.persons(person),
                events.auctions(auction),
                events.bids(bid),
                events.bids(arrival),
            ];
            for (index, batch) in batches.into_iter().enumerate() {
                house.rows[index] += batch.num_rows() as u64;
                house.store(STREAMS[index], batch).await;
            }
            house.events.push(events);
        }
        for stream in &STREAMS[..3] {
            let sql = format!("PUNCTUATE {stream} WHERE date_time < TIMESTAMP '2100-01-01'");
            house.run(&sql).await;
        }
        house
    }

    fn stream(&self, name: &str) -> weir::engine::StreamHandle {
        self.engine.stream(name).expect("it was created")
    }

    async fn store(&self, stream: &str, batch: RecordBatch) {
        let decoded = Decoded::good(batch);
        let stored = self.stream(stream).ingest(decoded, None, IngestOrigin::default()).await;
        assert_eq!(stored.expect("it is stored").rejected, 0);
    }

    async fn run(&self, sql: &str) -> Answer {
        let execution = self.engine.execute(sql).await;
        assert!(execution.error.is_none(), "{}\n{sql}", execution.error.expect("seen"));
        execution.results.last().map(Answer::of).unwrap_or_default()
    }

    async fn run_query(&self, number: usize) {
        let (_, query) = text(number);
        let mut best = 0.0_f64;
        let rows: u64 = reads(number).iter().map(|stream| self.rows[*stream]).sum();
        for _ in 0..3 {
            let start = SystemClock.now();
            self.run(&query).await;
            self.engine.flush().await.expect("it goes on");
            best = best.max(rate(rows, start));
            let state = self.run("SELECT status, lag, error FROM weir.queries").await.rows;
            assert_eq!(state, [["running", "0", ""]], "q{number}");
            if let Some(digest) = digest(number) {
                let found = self.run(&digest).await.rows;
                let wanted = by_hand(number, &self.events);
                assert_eq!(found, [wanted.map(|number| number.to_string())], "q{number}");
            }
            self.run(&format!("DROP CONTINUOUS QUERY q{number}")).await;
        }
        let mut line = format!("q{number}: {rows} rows, {best:.2} M rows/s");
        if digest(number).is_some() {
            let mut loops = 0.0_f64;
            for _ in 0..3 {
                let start = SystemClock.now();
                std::hint::black_box(by_hand(number, &self.events));
                loops = loops.max(rate(rows, start));
            }
            line += &format!("; by hand {loops:.2} M rows/s; ratio {:.3}", best / loops);
        }
        println!("{line}");
    }
}

/// Millions of rows a second since `start`.
fn rate(rows: u64, start: i64) -> f64 {
    rows as f64 / (SystemClock.now() - start).max(1) as f64
}

/// The streams, and the continuous query with what it needs, of a file.
fn text(number: usize) -> (String, String) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/queries/nexmark");
    let text = std::fs::read_to_string(format!("{folder}/q{number}.sql"));
    let text = text.expect("the query's file is there");
    let text = text.replace("\n);", "\n) WITH (durability = 'written');");
    let mut parts: Vec<&str> = text.split_inclusive(';').collect();
    // Sinks are measured elsewhere.
    parts.retain(|part| !part.contains("CREATE SINK"));
    let query = parts.iter().rposition(|part| part.contains("CREATE CONTINUOUS QUERY"));
    let query = query.expect("each file has one");
    let limit = format!("q{number} WITH (memory_limit = '16 GB') AS");
    (parts[..query].concat(), parts[query].replace(&format!("q{number} AS"), &limit))
}

/// The streams that a query reads, by their place in [`STREAMS`].
fn reads(number: usize) -> &'static [usize] {
    match number {
        3 | 8 => &[0, 1],
        4 | 6 | 9 | 20 => &[1, 2],
        12 => &[3],
        _ => &[2],
    }
}

/// What is compared of a query's answer with a loop's: two numbers.
fn digest(number: usize) -> Option<String> {
    let numbers = match number {
        3 => "count(*), coalesce(sum(id), 0)",
        8 => "count(*), coalesce(sum(id), 0)",
        15 => {
            "sum(total_bids), sum(rank1_bidders + rank2_bidders + rank3_bidders + total_auctions)"
        }
        18 => "count(*), coalesce(sum(price), 0)",
        19 => "count(*), coalesce(sum(price * place), 0)",
        _ => return None,
    };
    Some(format!("SELECT {numbers} FROM q{number}"))
}

/// The same question answered by a loop: the digest's two numbers.
fn by_hand(number: usize, events: &[Events]) -> [i64; 2] {
    match number {
        3 => local_sellers(events),
        8 => new_sellers(events),
        15 => statistics(events),
        18 => last_bids(events),
        _ => highest_bids(events),
    }
}

/// q3: both sides in hash maps, whichever comes first.
fn local_sellers(events: &[Events]) -> [i64; 2] {
    let mut sellers: HashMap<i64, (&str, &str, &str)> = HashMap::new();
    let mut waiting: HashMap<i64, Vec<i64>> = HashMap::new();
    let mut made: Vec<(String, &str, &str, i64)> = Vec::new();
    for events in events {
        for person in events.persons.iter().filter(|p| ["OR", "ID", "CA"].contains(&p.state)) {
            let seller = (person.name.as_str(), person.city, person.state);
            sellers.insert(person.id, seller);
            for auction in waiting.get(&person.id).into_iter().flatten() {
                made.push((seller.0.to_owned(), seller.1, seller.2, *auction));
            }
        }
        for auction in events.auctions.iter().filter(|auction| auction.category == 10) {
            waiting.entry(auction.seller).or_default().push(auction.id);
            if let Some((name, city, state)) = sellers.get(&auction.seller) {
                made.push(((*name).to_owned(), city, state, auction.id));
            }
        }
    }
    [made.len() as i64, made.iter().map(|row| row.3).sum()]
}

/// q8: sets of a window's persons and sellers. Times are almost in order, so three windows are open at most.
fn new_sellers(events: &[Events]) -> [i64; 2] {
    let window = |time: i64| time.div_euclid(TEN_SECONDS);
    let mut persons: HashMap<(i64, i64), String> = HashMap::new();
    let mut sellers: HashSet<(i64, i64)> = HashSet::new();
    for events in events {
        for person in &events.persons {
            persons.insert((window(person.date_time), person.id), person.name.clone());
        }
        let key = |auction: &Auction| (window(auction.date_time), auction.seller);
        sellers.extend(events.auctions.iter().map(key));
    }
    let found = persons.keys().filter(|key| sellers.contains(*key));
    found.fold([0, 0], |[count, sum], (_, id)| [count + 1, sum + id])
}

/// q15: counts and sets of one group per day. The day of a bid is made a text only where it changes.
fn statistics(events: &[Events]) -> [i64; 2] {
    #[derive(Default)]
    struct Day {
        bids: [i64; 4],
        bidders: [HashSet<i64>; 4],
        auctions: [HashSet<i64>; 4],
    }
    let mut days: HashMap<i64, Day> = HashMap::new();
    for bid in events.iter().flat_map(|events| &events.bids) {
        let day = days.entry(bid.date_time.div_euclid(86_400 * SECOND)).or_default();
        let rank = match bid.price {
            ..10_000 => 1,
            10_000..1_000_000 => 2,
            _ => 3,
        };
        for at in [0, rank] {
            day.bids[at] += 1;
            day.bidders[at].insert(bid.bidder);
            day.auctions[at].insert(bid.auction);
        }
    }
    let bids = days.values().map(|day| day.bids[0]).sum();
    let different = |day: &Day| {
        let bidders: usize = day.bidders[1..].iter().map(HashSet::len).sum();
        (bidders + day.auctions[0].len()) as i64
    };
    [bids, days.values().map(different).sum()]
}

/// q18: the newest bid of each pair; of several of one time the first.
fn last_bids(events: &[Events]) -> [i64; 2] {
    let mut last: HashMap<(i64, i64), &generator::Bid> = HashMap::new();
    for bid in events.iter().flat_map(|events| &events.bids) {
        let held = last.entry((bid.bidder, bid.auction)).or_insert(bid);
        if bid.date_time > held.date_time {
            *held = bid;
        }
    }
    [last.len() as i64, last.values().map(|bid| bid.price).sum()]
}

/// q19: the ten highest bids of each auction, in order; of equal ones the first.
fn highest_bids(events: &[Events]) -> [i64; 2] {
    let mut highest: HashMap<i64, Vec<&generator::Bid>> = HashMap::new();
    for bid in events.iter().flat_map(|events| &events.bids) {
        let held = highest.entry(bid.auction).or_default();
        let place = held.partition_point(|other| other.price >= bid.price);
        if place < 10 {
            held.truncate(9);
            held.insert(place, bid);
        }
    }
    let mut digest = [0, 0];
    for held in highest.values() {
        for (place, bid) in held.iter().enumerate() {
            digest = [digest[0] + 1, digest[1] + bid.price * (place as i64 + 1)];
        }
    }
    digest
}
