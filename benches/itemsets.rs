//! Measures lossy counting of itemsets on real baskets, beside an exact miner that keeps them all.
//!
//! `cargo bench --bench itemsets` mines the 2,025 invoices of `queries/data/retail_baskets.ndjson.gz`, and
//! with `WEIR_BASKETS=file` baskets of your own, one a line, items separated by commas. Under `cargo test
//! --benches` the same code runs once and checks recall, bounds and precision.

#![expect(clippy::print_stdout, reason = "a benchmark reports on standard output")]

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::time::{Duration, Instant};

use weir::sketches::fraction::Fraction;
use weir::sketches::itemsets::{Frequent, ItemsetOptions, Itemsets};

const SIZE_MAX: u32 = 3;

type Basket = Vec<Vec<u8>>;

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let rounds = if measured { 5 } else { 1 };
    let retail = retail();
    for support in ["0.04", "0.02"] {
        compare("retail", &retail, support, rounds);
    }
    if let (true, Ok(path)) = (measured, std::env::var("WEIR_BASKETS")) {
        let text = std::fs::read_to_string(&path).expect("WEIR_BASKETS can be read");
        let items = |line: &str| line.split(',').map(|item| item.trim().into()).collect();
        let baskets: Vec<Basket> = text.lines().map(items).collect();
        for support in ["0.02", "0.01", "0.005"] {
            compare(&path, &baskets, support, rounds);
        }
    }
}

fn retail() -> Vec<Basket> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/queries/data/retail_baskets.ndjson.gz");
    let file = std::fs::File::open(path).expect("the recording is in the repository");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("it is compressed text");
    let basket = |line: &str| -> Basket {
        let line: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        let items = line["items"].as_array().expect("items are an array");
        items.iter().map(|item| item.as_str().expect("an item is a text").into()).collect()
    };
    text.lines().map(basket).collect()
}

/// Shortest time of some rounds, and the last result.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn best<T>(rounds: usize, mut work: impl FnMut() -> T) -> (Duration, T) {
    let mut timed = || {
        let start = Instant::now();
        let result = work();
        (start.elapsed(), result)
    };
    let first = timed();
    (1..rounds).fold(first, |best, _| {
        let next = timed();
        (best.0.min(next.0), next.1)
    })
}

fn compare(name: &str, baskets: &[Basket], support: &str, rounds: usize) {
    let support = Fraction::parse(support).expect("a fraction");
    let tenth = support.tenth().expect("it has few digits");
    let half = Fraction::parse(&(support.as_f64() / 2.0).to_string()).expect("a fraction");
    let (exact_time, truth) = best(rounds, || exact(baskets, support));
    println!(
        "{name}, {} baskets, support {support}: {} frequent sets; exact miner {exact_time:.1?}, holds {} bytes",
        baskets.len(),
        truth.len(),
        baskets.iter().flatten().map(|item| item.len() + 24).sum::<usize>()
    );
    // The summary of a query, and two whose buffers are full several times over this little data.
    for (error, buffer_buckets) in [(tenth, None), (half, Some(20)), (half, Some(8))] {
        let mut options = ItemsetOptions::new(error, SIZE_MAX);
        options.buffer_buckets = buffer_buckets.unwrap_or(options.buffer_buckets);
        let mut bytes_max = 0;
        let (time, frequent) = best(rounds, || {
            let mut itemsets = Itemsets::new(options);
            for (row, basket) in baskets.iter().enumerate() {
                itemsets.add(basket.iter().map(Vec::as_slice));
                if row % 100 == 0 {
                    bytes_max = bytes_max.max(itemsets.size());
                }
            }
            itemsets.frequent(support).expect("there are few frequent sets")
        });
        let (recall, precision) = judge(&truth, &frequent, baskets.len(), error);
        println!(
            "  error {error}, buffer {:>5} baskets: {time:>8.1?}, {bytes_max:>9} bytes, recall {recall:.3}, precision {precision:.3}",
            options.buffer_transactions()
        );
        assert!(recall == 1.0, "{name}: a frequent set is missing");
    }
}

/// Checks the bounds; recall and precision.
fn judge(
    truth: &BTreeMap<Vec<Vec<u8>>, u64>,
    frequent: &Frequent,
    baskets: usize,
    error: Fraction,
) -> (f64, f64) {
    let mut found = 0;
    for set in &frequent.sets {
        let items = set.items.iter().map(|item| frequent.items[*item as usize].to_vec()).collect();
        assert!((set.upper - set.lower) as f64 <= error.as_f64() * baskets as f64);
        let items: Vec<Vec<u8>> = items;
        if let Some(count) = truth.get(&items) {
            assert!(set.lower <= *count && *count <= set.upper, "{set:?} does not hold {count}");
            found += 1;
        }
    }
    let share = |whole: usize| if whole == 0 { 1.0 } else { f64::from(found) / whole as f64 };
    (share(truth.len()), share(frequent.sets.len()))
}

/// The frequent sets, level by level over all baskets: Apriori.
fn exact(baskets: &[Basket], support: Fraction) -> BTreeMap<Vec<Vec<u8>>, u64> {
    let enough = support.share(Fraction::ZERO, baskets.len() as u64);
    let mut numbers: HashMap<&[u8], usize> = HashMap::new();
    let mut counts: HashMap<Vec<&[u8]>, u64> = HashMap::new();
    let mut sorted: Vec<Vec<&[u8]>> = baskets
        .iter()
        .map(|basket| {
            let mut items: Vec<&[u8]> = basket.iter().map(Vec::as_slice).collect();
            items.sort_unstable();
            items.dedup();
            items
        })
        .collect();
    for basket in &sorted {
        basket.iter().for_each(|item| *numbers.entry(item).or_default() += 1);
    }
    numbers.retain(|_, count| *count as u64 >= enough);
    sorted.iter_mut().for_each(|basket| basket.retain(|item| numbers.contains_key(item)));
    counts.extend(numbers.iter().map(|(item, count)| (vec![*item], *count as u64)));
    for size in 2..=SIZE_MAX as usize {
        let mut level = Level { size, known: &counts, larger: HashMap::new() };
        sorted.iter().for_each(|basket| level.extend(basket, &mut Vec::new()));
        let larger = level.larger;
        counts.extend(larger.into_iter().filter(|(_, count)| *count >= enough));
    }
    let owned = |items: Vec<&[u8]>| items.into_iter().map(<[u8]>::to_vec).collect();
    counts.into_iter().map(|(items, count)| (owned(items), count)).collect()
}

/// The sets of one size all of whose beginnings are frequent.
struct Level<'k, 'a> {
    size: usize,
    known: &'k HashMap<Vec<&'a [u8]>, u64>,
    larger: HashMap<Vec<&'a [u8]>, u64>,
}

impl<'a> Level<'_, 'a> {
    /// Counts the sets that begin with `set` and go on with items of the rest of a basket.
    fn extend(&mut self, rest: &[&'a [u8]], set: &mut Vec<&'a [u8]>) {
        for (at, item) in rest.iter().enumerate() {
            set.push(item);
            if set.len() == self.size {
                *self.larger.entry(set.clone()).or_default() += 1;
            } else if self.known.contains_key(set) {
                self.extend(&rest[at + 1..], set);
            }
            set.pop();
        }
    }
}
