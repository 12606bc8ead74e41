//! Holds the items of a summary, numbered from 0 in the order in which they came.
//!
//! An item is a value or NULL, which is a value of its own, as in GROUP BY. Numbers lie in one column,
//! texts and rows of several columns end to end in one buffer: no item has an allocation of its own.

use std::cmp::Ordering;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use super::bytes;
use super::counts::{make_room, push_tightly};

/// No entry holds NULL.
const NO_NULL: u32 = u32::MAX;

/// Items by number.
pub trait Items: Default + Clone + Send + Sync {
    /// What is held.
    type Value<'a>: Copy
    where
        Self: 'a;
    /// The hash of an item under a [`secret`].
    fn hash(item: Option<Self::Value<'_>>, secret: u64) -> u64;
    /// Which of two items comes first; NULL comes last.
    fn order(left: Option<Self::Value<'_>>, right: Option<Self::Value<'_>>) -> Ordering;
    /// Number of items.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The item with a number.
    fn get(&self, number: usize) -> Option<Self::Value<'_>>;
    /// Whether the item with a number is `item`.
    fn is(&self, number: usize, item: Option<Self::Value<'_>>) -> bool;
    /// Adds an item.
    fn push(&mut self, item: Option<Self::Value<'_>>);
    /// Keeps the items with these numbers, which ascend; they are numbered anew.
    fn keep(&mut self, numbers: &[u32]);
    /// Bytes held.
    fn size(&self) -> usize;
    /// Writes all items.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads what [`write`](Self::write) wrote.
    fn read(from: &mut &[u8]) -> Option<Self>;
}

/// A number that nobody outside the process knows, so that nobody can choose items that collide. It never
/// shows.
pub fn secret() -> u64 {
    static SECRET: OnceLock<u64> = OnceLock::new();
    *SECRET.get_or_init(|| RandomState::new().build_hasher().finish() | 1)
}

#[inline]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ (product >> 64) as u64
}

/// Integers and what is stored as one, in an order-preserving form.
#[derive(Debug, Default, Clone)]
pub struct Numbers {
    values: Vec<u64>,
    null: Option<u32>,
}

impl Items for Numbers {
    type Value<'a> = u64;

    #[inline]
    fn hash(item: Option<u64>, secret: u64) -> u64 {
        match item {
            Some(value) => fold(value ^ secret, 0x9e37_79b9_7f4a_7c15),
            None => 0x1234_5678_9abc_def0,
        }
    }

    fn order(left: Option<u64>, right: Option<u64>) -> Ordering {
        (left.is_none(), left).cmp(&(right.is_none(), right))
    }

    fn len(&self) -> usize {
        self.values.len()
    }

    fn get(&self, number: usize) -> Option<u64> {
        (self.null != Some(number as u32)).then(|| self.values[number])
    }

    #[inline]
    fn is(&self, number: usize, item: Option<u64>) -> bool {
        match item {
            Some(value) => {
                self.values[number] == value && self.null.unwrap_or(NO_NULL) != number as u32
            }
            None => self.null == Some(number as u32),
        }
    }

    fn push(&mut self, item: Option<u64>) {
        if item.is_none() {
            self.null = Some(self.values.len() as u32);
        }
        push_tightly(&mut self.values, item.unwrap_or_default());
    }

    fn keep(&mut self, numbers: &[u32]) {
        for (place, &number) in numbers.iter().enumerate() {
            self.values[place] = self.values[number as usize];
        }
        self.values.truncate(numbers.len());
        self.null = moved(self.null, numbers);
    }

    fn size(&self) -> usize {
        8 * self.values.capacity()
    }

    fn write(&self, out: &mut Vec<u8>) {
        bytes::put(out, self.values.len() as u64);
        bytes::put(out, u64::from(self.null.unwrap_or(NO_NULL)));
        for value in &self.values {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }

    fn read(from: &mut &[u8]) -> Option<Numbers> {
        let length = bytes::take_length(from)?;
        let null = read_null(from, length)?;
        let (words, rest) = from.split_at_checked(length.checked_mul(8)?)?;
        *from = rest;
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes each"));
        Some(Numbers { values: words.chunks_exact(8).map(word).collect(), null })
    }
}

/// Where NULL is once only `numbers` are kept.
fn moved(null: Option<u32>, numbers: &[u32]) -> Option<u32> {
    null.and_then(|null| numbers.binary_search(&null).ok()).map(|place| place as u32)
}

fn read_null(from: &mut &[u8], length: usize) -> Option<Option<u32>> {
    let null = u32::try_from(bytes::take(from)?).ok()?;
    match null {
        NO_NULL => Some(None),
        null => ((null as usize) < length).then_some(Some(null)),
    }
}

/// Texts, and rows of several columns as bytes.
#[derive(Debug, Default, Clone)]
pub struct Texts {
    bytes: Vec<u8>,
    /// Where each item ends.
    ends: Vec<u64>,
    null: Option<u32>,
}

impl Texts {
    fn slice(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start as usize..self.ends[number] as usize]
    }
}

impl Items for Texts {
    type Value<'a> = &'a [u8];

    #[inline]
    fn hash(item: Option<&[u8]>, secret: u64) -> u64 {
        let Some(text) = item else { return 0x1234_5678_9abc_def0 };
        let mut hash = secret ^ text.len() as u64;
        let mut words = text.chunks_exact(8);
        for word in words.by_ref() {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes each"));
            hash = fold(hash ^ word, 0x9e37_79b9_7f4a_7c15);
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            hash = fold(hash ^ u64::from_le_bytes(last), 0x9e37_79b9_7f4a_7c15);
        }
        fold(hash, 0xd6e8_feb8_6659_fd93)
    }

    fn order(left: Option<&[u8]>, right: Option<&[u8]>) -> Ordering {
        (left.is_none(), left).cmp(&(right.is_none(), right))
    }

    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, number: usize) -> Option<&[u8]> {
        (self.null != Some(number as u32)).then(|| self.slice(number))
    }

    #[inline]
    fn is(&self, number: usize, item: Option<&[u8]>) -> bool {
        self.get(number) == item
    }

    fn push(&mut self, item: Option<&[u8]>) {
        if item.is_none() {
            self.null = Some(self.ends.len() as u32);
        }
        let text = item.unwrap_or_default();
        if self.bytes.capacity() - self.bytes.len() < text.len() {
            make_room(&mut self.bytes, text.len());
        }
        self.bytes.extend_from_slice(text);
        push_tightly(&mut self.ends, self.bytes.len() as u64);
    }

    fn keep(&mut self, numbers: &[u32]) {
        let mut end = 0;
        for (place, &number) in numbers.iter().enumerate() {
            let number = number as usize;
            let start = if number == 0 { 0 } else { self.ends[number - 1] as usize };
            // Places ascend, so what is read has not been written to yet: `place <= number`.
            let length = self.ends[number] as usize - start;
            self.bytes.copy_within(start..start + length, end);
            end += length;
            self.ends[place] = end as u64;
        }
        self.bytes.truncate(end);
        self.ends.truncate(numbers.len());
        self.null = moved(self.null, numbers);
    }

    fn size(&self) -> usize {
        self.bytes.capacity() + 8 * self.ends.capacity()
    }

    fn write(&self, out: &mut Vec<u8>) {
        bytes::put(out, self.ends.len() as u64);
        bytes::put(out, u64::from(self.null.unwrap_or(NO_NULL)));
        (0..self.ends.len()).for_each(|number| bytes::put_bytes(out, self.slice(number)));
    }

    fn read(from: &mut &[u8]) -> Option<Texts> {
        let length = bytes::take_length(from)?;
        let null = read_null(from, length)?;
        let mut items = Texts::default();
        for _ in 0..length {
            items.bytes.extend_from_slice(bytes::take_bytes(from)?);
            items.ends.push(items.bytes.len() as u64);
        }
        items.null = null;
        Some(items)
    }
}
