//! Makes the events of the Nexmark benchmark: persons, auctions and bids, as its public generator has them.
//!
//! Of 50 events one is a person, three are auctions and 46 are bids. An event is a function of the seed
//! and of its number alone. Numbers are put out of order within groups of [`GROUP`], so that times are,
//! too.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;

/// Events of one cycle, the persons and the auctions among them.
const CYCLE: u64 = 50;
const AUCTIONS: u64 = 3;
/// Events among which the order is another one.
const GROUP: u64 = 100;
/// The first person and the first auction, and what categories begin with.
const FIRST_ID: u64 = 1_000;
const FIRST_CATEGORY: u64 = 10;
/// One of so many persons and auctions is hot.
const HOT: u64 = 100;
/// How many of the newest persons bid and sell, and of the newest auctions are bid for.
const ACTIVE_PERSONS: u64 = 1_000;
const OPEN_AUCTIONS: u64 = 100;
/// Ids that come up before there is such a person or auction.
const LEAD: u64 = 10;
const CHANNELS: u64 = 10_000;

const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// Which events are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Nexmark {
    pub(crate) seed: u64,
    /// Event time of the first event, in microseconds.
    pub(crate) begin: i64,
    /// Events in a second of event time.
    pub(crate) rate: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) email_address: String,
    pub(crate) credit_card: String,
    pub(crate) city: &'static str,
    pub(crate) state: &'static str,
    pub(crate) date_time: i64,
    pub(crate) extra: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Auction {
    pub(crate) id: i64,
    pub(crate) item_name: String,
    pub(crate) description: String,
    pub(crate) initial_bid: i64,
    pub(crate) reserve: i64,
    pub(crate) date_time: i64,
    pub(crate) expires: i64,
    pub(crate) seller: i64,
    pub(crate) category: i64,
    pub(crate) extra: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Bid {
    pub(crate) auction: i64,
    pub(crate) bidder: i64,
    pub(crate) price: i64,
    pub(crate) channel: String,
    pub(crate) url: String,
    pub(crate) date_time: i64,
    pub(crate) extra: String,
}

/// Some events, each kind in its order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events {
    pub(crate) persons: Vec<Person>,
    pub(crate) auctions: Vec<Auction>,
    pub(crate) bids: Vec<Bid>,
}

impl Nexmark {
    /// The events with these numbers.
    pub(crate) fn events(&self, numbers: std::ops::Range<u64>) -> Events {
        let mut events = Events::default();
        for number in numbers {
            let number = number / GROUP * GROUP + number * 953 % GROUP;
            let mut chance = Chance::new(self.seed, number);
            match number % CYCLE {
                0 => events.persons.push(self.person(number, &mut chance)),
                1..=AUCTIONS => events.auctions.push(self.auction(number, &mut chance)),
                _ => events.bids.push(self.bid(number, &mut chance)),
            }
        }
        events
    }

    /// The time of an event, in whole milliseconds.
    pub(crate) fn time(&self, number: u64) -> i64 {
        self.begin + (number * 1_000 / self.rate * 1_000) as i64
    }

    fn person(&self, number: u64, chance: &mut Chance) -> Person {
        let (first, last) = (chance.letters(3, 8), chance.letters(4, 9));
        Person {
            id: (last_person(number) + FIRST_ID) as i64,
            email_address: format!("{first}@{last}.com"),
            name: format!("{first} {last}"),
            credit_card: (0..4).map(|_| format!("{:04}", chance.below(10_000))).collect(),
            city: CITIES[chance.below(CITIES.len() as u64) as usize],
            state: STATES[chance.below(STATES.len() as u64) as usize],
            date_time: self.time(number),
            extra: chance.extra(80),
        }
    }

    fn auction(&self, number: u64, chance: &mut Chance) -> Auction {
        let seller = match chance.below(4) {
            0 => some_person(number, chance),
            _ => last_person(number) / HOT * HOT,
        };
        // It lasts for about as long as so many auctions are open at a time.
        let horizon = self.time(number + OPEN_AUCTIONS * CYCLE / AUCTIONS) - self.time(number);
        let initial_bid = chance.price();
        Auction {
            id: (last_auction(number) + FIRST_ID) as i64,
            item_name: chance.letters(3, 20),
            description: chance.letters(10, 100),
            initial_bid,
            reserve: initial_bid + chance.price(),
            date_time: self.time(number),
            expires: self.time(number) + 1_000 + chance.below(2 * horizon as u64) as i64,
            seller: (seller + FIRST_ID) as i64,
            category: (FIRST_CATEGORY + chance.below(5)) as i64,
            extra: chance.extra(200),
        }
    }

    fn bid(&self, number: u64, chance: &mut Chance) -> Bid {
        let last = last_auction(number);
        let auction = match chance.below(2) {
            0 => {
                let first = last.saturating_sub(OPEN_AUCTIONS);
                first + chance.below(last - first + 1 + LEAD)
            }
            _ => last / HOT * HOT,
        };
        let bidder = match chance.below(4) {
            0 => some_person(number, chance),
            // Not the one who sells.
            _ => last_person(number) / HOT * HOT + 1,
        };
        let price = chance.price();
        let folders = [chance.letters(3, 5), chance.letters(3, 5), chance.letters(3, 5)].join("/");
        let url = format!("https://www.nexmark.com/{folders}/item.htm?query=1");
        let (channel, url) = match chance.below(2) {
            0 => (HOT_CHANNELS[chance.below(4) as usize].to_string(), url),
            _ => {
                let channel = chance.below(CHANNELS);
                let id = (channel as u32).reverse_bits() >> 1;
                let url = match channel % 10 {
                    0 => url,
                    _ => format!("{url}&channel_id={id}"),
                };
                (format!("channel-{channel}"), url)
            }
        };
        Bid {
            auction: (auction + FIRST_ID) as i64,
            bidder: (bidder + FIRST_ID) as i64,
            price,
            channel,
            url,
            date_time: self.time(number),
            extra: chance.extra(60),
        }
    }
}

impl Events {
    /// The rows of stream `person`.
    pub(crate) fn persons(&self, schema: &SchemaRef) -> RecordBatch {
        let rows = &self.persons;
        let columns: Vec<ArrayRef> = vec![
            integers(rows, |row| row.id),
            texts(rows, |row| &row.name),
            texts(rows, |row| &row.email_address),
            texts(rows, |row| &row.credit_card),
            texts(rows, |row| row.city),
            texts(rows, |row| row.state),
            times(rows, |row| row.date_time),
            texts(rows, |row| &row.extra),
        ];
        RecordBatch::try_new(Arc::clone(schema), columns).expect("the columns are the stream's")
    }

    /// The rows of stream `auction`.
    pub(crate) fn auctions(&self, schema: &SchemaRef) -> RecordBatch {
        let rows = &self.auctions;
        let columns: Vec<ArrayRef> = vec![
            integers(rows, |row| row.id),
            texts(rows, |row| &row.item_name),
            texts(rows, |row| &row.description),
            integers(rows, |row| row.initial_bid),
            integers(rows, |row| row.reserve),
            times(rows, |row| row.date_time),
            times(rows, |row| row.expires),
            integers(rows, |row| row.seller),
            integers(rows, |row| row.category),
            texts(rows, |row| &row.extra),
        ];
        RecordBatch::try_new(Arc::clone(schema), columns).expect("the columns are the stream's")
    }

    /// The rows of stream `bid`.
    pub(crate) fn bids(&self, schema: &SchemaRef) -> RecordBatch {
        let rows = &self.bids;
        let columns: Vec<ArrayRef> = vec![
            integers(rows, |row| row.auction),
            integers(rows, |row| row.bidder),
            integers(rows, |row| row.price),
            texts(rows, |row| &row.channel),
            texts(rows, |row| &row.url),
            times(rows, |row| row.date_time),
            texts(rows, |row| &row.extra),
        ];
        RecordBatch::try_new(Arc::clone(schema), columns).expect("the columns are the stream's")
    }
}

fn integers<T>(rows: &[T], value: impl Fn(&T) -> i64) -> ArrayRef {
    Arc::new(rows.iter().map(value).collect::<Int64Array>())
}

fn times<T>(rows: &[T], value: impl Fn(&T) -> i64) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(value)))
}

fn texts<T>(rows: &[T], value: impl Fn(&T) -> &str) -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(rows.iter().map(value)))
}

/// The number of the newest person at an event, from 0.
fn last_person(number: u64) -> u64 {
    number / CYCLE
}

/// The number of the newest auction at an event, from 0.
fn last_auction(number: u64) -> u64 {
    let before = number / CYCLE * AUCTIONS;
    (before + (number % CYCLE).min(AUCTIONS)).saturating_sub(1)
}

/// One of the newest persons, or of those that come next.
fn some_person(number: u64, chance: &mut Chance) -> u64 {
    let persons = last_person(number) + 1;
    let active = persons.min(ACTIVE_PERSONS);
    persons - active + chance.below(active + LEAD)
}

/// What chance says of one event.
struct Chance(u64);

impl Chance {
    fn new(seed: u64, number: u64) -> Chance {
        let mut chance = Chance(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ number);
        chance.next();
        chance
    }

    /// The method is splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// From 100 to 100,000,000, each power of ten as often.
    fn price(&mut self) -> i64 {
        let part = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (10_f64.powf(part * 6.0) * 100.0).round() as i64
    }

    fn letters(&mut self, least: u64, most: u64) -> String {
        let length = least + self.below(most - least + 1);
        (0..length).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }

    /// What fills a row up to its usual size, give or take a fifth.
    fn extra(&mut self, bytes: u64) -> String {
        self.letters(bytes * 4 / 5, bytes * 6 / 5)
    }
}
