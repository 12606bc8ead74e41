//! Counts sets of items that occur together in transactions: lossy counting over itemsets.
//!
//! The method of Manku and Motwani (VLDB 2002, section 4): transactions wait in a *buffer* of β buckets
//! of ⌈1/ε⌉ transactions each. When it is full, one walk ([`crate::sketches::trie`]) adds what it holds to the
//! sets that are known, enters sets that occur more than β times in it, with `missed` the number of buckets
//! before, and removes those with count + missed <= the number of buckets now. So the count of a set
//! falls short by at most the number of buckets, which is at most εN, and a set that is not known
//! occurred at most so often.
//!
//! Reading adds the buffer that is not full yet, without changing anything. As long as it never was
//! full, all counts are exact. Merging adds counts; a set that one side does not know may have
//! occurred there once for each of its buckets.
//!
//! Why not every subset of every transaction: there are 2ⁿ. Any set that is known or frequent has
//! only subsets that are, so a walk stops at the first that is not.
//!
//! # State
//!
//! The buffer, and at most [`SETS_MAX`] sets, of [`SIZE_LIMIT`] items at most. Beyond that the summary
//! gives up: it frees what it holds, and its answer is an error.

use std::collections::{BTreeMap, HashMap};

use crate::sketches::bytes;
use crate::sketches::fraction::Fraction;
use crate::sketches::trie::{Limits, Node, Transactions, walk};

/// Items of the largest set that can be asked for.
pub const SIZE_LIMIT: u32 = 8;
/// Sets that a summary knows, at most.
pub const SETS_MAX: usize = 1_000_000;
/// Sets of an answer, at most.
pub const ANSWERS_MAX: usize = 250_000;
/// Transactions that wait in the buffer, at least.
pub const BUFFERED: u64 = 8192;

const VERSION: u8 = 1;

/// What is counted, and how well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemsetOptions {
    /// Transactions in a bucket.
    pub bucket_width: u64,
    /// Buckets in the buffer.
    pub buffer_buckets: u64,
    /// Items in a set, at most.
    pub size_max: u32,
}

impl ItemsetOptions {
    /// Counts that fall short by at most the fraction `error` of all transactions.
    pub fn new(error: Fraction, size_max: u32) -> ItemsetOptions {
        let bucket_width = error.reciprocal();
        let buffer_buckets = BUFFERED.div_ceil(bucket_width);
        ItemsetOptions { bucket_width, buffer_buckets, size_max }
    }

    /// Transactions that wait in the buffer before they are counted.
    pub fn buffer_transactions(&self) -> usize {
        usize::try_from(self.bucket_width.saturating_mul(self.buffer_buckets)).unwrap_or(usize::MAX)
    }
}

/// The summary.
#[derive(Debug, Clone)]
pub struct Itemsets {
    options: ItemsetOptions,
    /// Transactions seen.
    transactions: u64,
    /// Buckets that have left the buffer.
    buckets: u64,
    items: Items,
    nodes: Vec<Node>,
    buffer: Transactions,
    /// Whether there were too many sets to go on.
    gave_up: bool,
}

/// Items that occur in the buffer or in a set, with their numbers.
#[derive(Debug, Clone, Default)]
struct Items {
    texts: Vec<Box<[u8]>>,
    numbers: HashMap<Box<[u8]>, u32>,
    /// Bytes of all texts.
    bytes: usize,
}

impl Items {
    fn number(&mut self, text: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.texts.len() as u32;
        self.bytes += text.len();
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    /// The number of an item that has a text.
    fn take(&self, from: &mut &[u8]) -> Option<u32> {
        let number = bytes::take(from)?;
        (number < self.texts.len() as u64).then_some(number as u32)
    }

    fn size(&self) -> usize {
        2 * (self.bytes + self.texts.capacity() * size_of::<Box<[u8]>>())
            + self.numbers.capacity() * 8
    }
}

/// A set with the bounds of the number of transactions that contain it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrequentSet {
    /// Its items, ascending, as places in [`Frequent::items`].
    pub items: Vec<u32>,
    /// No fewer than this.
    pub lower: u64,
    /// As many were counted.
    pub estimate: u64,
    /// No more than this.
    pub upper: u64,
}

/// An answer: every set that may be frequent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frequent {
    /// Items of all sets, ascending.
    pub items: Vec<Box<[u8]>>,
    /// The sets, small ones first, then by their items. Every subset of one is one, too.
    pub sets: Vec<FrequentSet>,
    /// Transactions seen.
    pub transactions: u64,
}

/// Too many sets to go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManySets;

impl Itemsets {
    /// Without transactions.
    pub fn new(options: ItemsetOptions) -> Itemsets {
        Itemsets {
            options,
            transactions: 0,
            buckets: 0,
            items: Items::default(),
            nodes: Vec::new(),
            buffer: Transactions::default(),
            gave_up: false,
        }
    }

    /// Takes a transaction; an item that it repeats counts once.
    pub fn add<'a>(&mut self, items: impl IntoIterator<Item = &'a [u8]>) {
        self.transactions += 1;
        if self.gave_up {
            return;
        }
        let mut numbers: Vec<u32> = items.into_iter().map(|text| self.items.number(text)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        self.buffer.push(numbers);
        self.flush_full();
    }

    /// Transactions seen.
    pub fn transactions(&self) -> u64 {
        self.transactions
    }

    fn give_up(&mut self) {
        let transactions = self.transactions;
        *self = Itemsets { transactions, gave_up: true, ..Itemsets::new(self.options) };
    }

    /// Counts full buffers.
    fn flush_full(&mut self) {
        let full = self.options.buffer_transactions();
        while self.buffer.len() >= full && !self.gave_up {
            let front = self.buffer.split_front(full);
            let before = self.buckets;
            let fresh = self.options.buffer_buckets;
            let now = before + fresh;
            let keep = |entry: Option<(u64, u64)>, occurs: u64| match entry {
                Some((count, missed)) => {
                    let count = count + occurs;
                    (count + missed > now).then_some((count, missed))
                }
                None => (occurs > fresh).then_some((occurs, before)),
            };
            let limits = Limits { size_max: self.options.size_max, sets_max: SETS_MAX };
            match walk(&self.nodes, &front, self.items.texts.len(), limits, &keep) {
                Ok(nodes) => {
                    self.nodes = nodes;
                    self.buckets = now;
                    self.forget_items();
                }
                Err(_) => self.give_up(),
            }
        }
    }

    /// Keeps the items of known sets and of the buffer alone, in the same order.
    fn forget_items(&mut self) {
        let mut used = vec![false; self.items.texts.len()];
        self.nodes.iter().for_each(|node| used[node.item as usize] = true);
        self.buffer.items.iter().for_each(|item| used[*item as usize] = true);
        let old = std::mem::take(&mut self.items);
        let mut renumbered = vec![0; used.len()];
        for (number, text) in old.texts.iter().enumerate().filter(|(number, _)| used[*number]) {
            renumbered[number] = self.items.number(text);
        }
        self.nodes.iter_mut().for_each(|node| node.item = renumbered[node.item as usize]);
        self.buffer.items.iter_mut().for_each(|item| *item = renumbered[*item as usize]);
    }

    /// Takes all that another summary with the same options has seen, as if it came later.
    pub fn merge(&mut self, other: &Itemsets) {
        if self.transactions == 0 {
            *self = other.clone();
            return;
        }
        self.transactions += other.transactions;
        if self.gave_up || other.gave_up {
            self.give_up();
            return;
        }
        let number: Vec<u32> =
            other.items.texts.iter().map(|text| self.items.number(text)).collect();
        if !other.nodes.is_empty() || !self.nodes.is_empty() {
            self.merge_sets(other, &number);
        }
        self.buckets += other.buckets;
        for transaction in other.buffer.iter() {
            let mut items: Vec<u32> =
                transaction.iter().map(|item| number[*item as usize]).collect();
            items.sort_unstable();
            self.buffer.push(items);
        }
        if self.nodes.len() > SETS_MAX {
            self.give_up();
        }
        self.flush_full();
    }

    fn merge_sets(&mut self, other: &Itemsets, number: &[u32]) {
        let mut sets: BTreeMap<Vec<u32>, (u64, u64)> = BTreeMap::new();
        for (items, node) in sets_of(&self.nodes) {
            sets.insert(items, (node.count, node.missed + other.buckets));
        }
        for (items, node) in sets_of(&other.nodes) {
            let mut items: Vec<u32> = items.iter().map(|item| number[*item as usize]).collect();
            items.sort_unstable();
            let known = sets.entry(items).or_insert((0, self.buckets + other.buckets));
            known.0 += node.count;
            known.1 -= other.buckets - node.missed;
        }
        let node = |(items, (count, missed)): (Vec<u32>, (u64, u64))| {
            let item = *items.last().expect("a set has an item");
            Node { depth: items.len() as u32 - 1, item, count, missed }
        };
        self.nodes = sets.into_iter().map(node).collect();
    }

    /// Every set that may be in the fraction `support` of all transactions: all that are, and none
    /// that is rarer than that by more than the error.
    pub fn frequent(&self, support: Fraction) -> Result<Frequent, TooManySets> {
        if self.gave_up {
            return Err(TooManySets);
        }
        let enough = support.share(Fraction::ZERO, self.transactions);
        let keep = |entry: Option<(u64, u64)>, occurs: u64| {
            let (count, missed) = entry.unwrap_or((0, self.buckets));
            let count = count + occurs;
            let may_be = count + missed >= enough;
            (may_be && count > 0).then_some((count, missed))
        };
        let items = self.items.texts.len();
        let limits = Limits { size_max: self.options.size_max, sets_max: ANSWERS_MAX };
        let nodes =
            walk(&self.nodes, &self.buffer, items, limits, &keep).map_err(|_| TooManySets)?;
        let mut order: Vec<u32> =
            nodes.iter().filter(|node| node.depth == 0).map(|node| node.item).collect();
        let text = |item: &u32| &self.items.texts[*item as usize];
        order.sort_unstable_by(|a, b| text(a).cmp(text(b)));
        let mut place = vec![0; items];
        order.iter().enumerate().for_each(|(at, item)| place[*item as usize] = at as u32);
        let set = |(items, node): (Vec<u32>, Node)| {
            let mut items: Vec<u32> = items.iter().map(|item| place[*item as usize]).collect();
            items.sort_unstable();
            let (lower, upper) = (node.count, node.count + node.missed);
            FrequentSet { items, lower, estimate: lower, upper }
        };
        let mut sets: Vec<FrequentSet> = sets_of(&nodes).map(set).collect();
        sets.sort_unstable_by(|a, b| {
            a.items.len().cmp(&b.items.len()).then_with(|| a.items.cmp(&b.items))
        });
        let items = order.iter().map(|item| text(item).clone()).collect();
        Ok(Frequent { items, sets, transactions: self.transactions })
    }

    /// The bytes, from which the summary goes on as if nothing had happened.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        let flag = u64::from(self.gave_up);
        [self.transactions, self.buckets, flag].iter().for_each(|n| bytes::put(&mut out, *n));
        bytes::put(&mut out, self.items.texts.len() as u64);
        self.items.texts.iter().for_each(|text| bytes::put_bytes(&mut out, text));
        bytes::put(&mut out, self.nodes.len() as u64);
        for node in &self.nodes {
            let place = [u64::from(node.depth), u64::from(node.item), node.count, node.missed];
            place.iter().for_each(|number| bytes::put(&mut out, *number));
        }
        bytes::put(&mut out, self.buffer.len() as u64);
        for transaction in self.buffer.iter() {
            bytes::put(&mut out, transaction.len() as u64);
            transaction.iter().for_each(|item| bytes::put(&mut out, u64::from(*item)));
        }
        out
    }

    /// Reads [`Self::to_bytes`] of a summary with the same options; `None` where the bytes are none.
    pub fn from_bytes(options: ItemsetOptions, mut from: &[u8]) -> Option<Itemsets> {
        let from = &mut from;
        let mut read = Itemsets::new(options);
        if bytes::byte(from)? != VERSION {
            return None;
        }
        read.transactions = bytes::take(from)?;
        read.buckets = bytes::take(from)?;
        read.gave_up = bytes::take(from)? != 0;
        for _ in 0..bytes::take_length(from)? {
            read.items.number(bytes::take_bytes(from)?);
        }
        read.take_nodes(from)?;
        for _ in 0..bytes::take_length(from)? {
            let length = bytes::take_length(from)?;
            let items = (0..length).map(|_| read.items.take(from)).collect::<Option<Vec<u32>>>()?;
            if !items.is_sorted_by(|a, b| a < b) {
                return None;
            }
            read.buffer.push(items);
        }
        from.is_empty().then_some(read)
    }

    fn take_nodes(&mut self, from: &mut &[u8]) -> Option<()> {
        let mut above: Vec<u32> = Vec::new();
        for _ in 0..bytes::take_length(from)? {
            let depth = usize::try_from(bytes::take(from)?).ok()?;
            let item = self.items.take(from)?;
            let (count, missed) = (bytes::take(from)?, bytes::take(from)?);
            let fits = depth <= above.len()
                && depth < self.options.size_max as usize
                && count <= self.transactions
                && missed <= self.buckets;
            above.truncate(depth);
            if !fits || above.last().is_some_and(|last| *last >= item) {
                return None;
            }
            above.push(item);
            self.nodes.push(Node { depth: depth as u32, item, count, missed });
        }
        Some(())
    }

    /// Sets that are known without the buffer.
    pub fn set_count(&self) -> usize {
        self.nodes.len()
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        let nodes = self.nodes.capacity() * size_of::<Node>();
        size_of::<Itemsets>() + nodes + self.buffer.size() + self.items.size()
    }
}

/// The sets of a trie, each with its node.
fn sets_of(nodes: &[Node]) -> impl Iterator<Item = (Vec<u32>, Node)> {
    let mut above: Vec<u32> = Vec::new();
    nodes.iter().map(move |node| {
        above.truncate(node.depth as usize);
        above.push(node.item);
        (above.clone(), *node)
    })
}

#[cfg(test)]
mod tests;
