//! Numbers keys of any columns by hashing machine words.
//!
//! ```text
//! column ──▶ one or two words a row        key = up to four words and a mask of nulls
//!   8 bytes or fewer    the value                 │
//!   text of up to 12    its view (length, bytes)  ▼
//!   a longer text       the text's own number   hash table: words ─▶ number
//!   anything else       as bytes, then as text
//! ```
//! So comparing two keys is comparing a few words that stand in the table itself; bytes are looked
//! at only for long texts. More than four words, or a type without a width, go through
//! `arrow::row`, which makes bytes of any columns.
//!
//! A single text has a table of its own: `texts.rs`.

use std::hash::{BuildHasher, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, GenericByteArray, GenericByteViewArray, make_view};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    BinaryType, BinaryViewType, ByteArrayType, ByteViewType, DataType, Decimal128Type,
    LargeBinaryType, LargeUtf8Type, SchemaRef, StringViewType, Utf8Type,
};
use arrow::row::{RowConverter, SortField};
use hashbrown::hash_table::{Entry, HashTable};

use super::Numbers;
use super::long_texts::LongTexts;
use crate::operators::operator::EvalError;

/// Words that a key may have; keys of more are made bytes first.
const WORDS_MAX: usize = 4;
/// Bytes of text that a view holds itself.
pub(super) const INLINE_MAX: usize = 12;
/// Stands where a view has its length: no text is that long.
const LONG: u64 = u64::MAX;

/// From a row's key columns to a number.
pub(super) struct HashedIndex {
    lanes: Lanes,
    /// Word by word, one value a row; reused from batch to batch.
    words: Vec<Vec<u64>>,
    /// A bit per column and row that is null; empty when none is.
    nulls: Vec<u32>,
    table: Box<dyn Table>,
}

/// How key columns become words.
enum Lanes {
    Columns(Vec<Lane>),
    /// All columns as one text.
    Rows(RowConverter, LongTexts),
}

/// How one column becomes words.
enum Lane {
    /// One word.
    Fixed,
    /// Two words.
    Decimal,
    /// Two words.
    Text(LongTexts),
}

impl Lane {
    fn of(data_type: &DataType) -> Option<Lane> {
        use DataType::{Binary, BinaryView, LargeBinary, LargeUtf8, Utf8, Utf8View};
        match data_type {
            DataType::Boolean => Some(Lane::Fixed),
            DataType::Decimal128(..) => Some(Lane::Decimal),
            Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView => {
                Some(Lane::Text(LongTexts::default()))
            }
            other => matches!(other.primitive_width(), Some(1 | 2 | 4 | 8)).then_some(Lane::Fixed),
        }
    }

    fn words(&self) -> usize {
        match self {
            Lane::Fixed => 1,
            Lane::Decimal | Lane::Text(_) => 2,
        }
    }
}

impl HashedIndex {
    pub(super) fn new(schema: &SchemaRef) -> Result<HashedIndex, EvalError> {
        let types = || schema.fields().iter().map(|field| field.data_type());
        let lanes: Option<Vec<Lane>> = types().map(Lane::of).collect();
        let words = |lanes: &Vec<Lane>| lanes.iter().map(Lane::words).sum::<usize>();
        let (lanes, words) = match lanes.filter(|lanes| words(lanes) <= WORDS_MAX) {
            Some(lanes) => {
                let words = words(&lanes);
                (Lanes::Columns(lanes), words)
            }
            None => {
                let fields = types().map(|data_type| SortField::new(data_type.clone()));
                let converter = RowConverter::new(fields.collect())?;
                (Lanes::Rows(converter, LongTexts::default()), 2)
            }
        };
        let table: Box<dyn Table> = match words {
            1 => Box::new(WordTable::<1>::default()),
            2 => Box::new(WordTable::<2>::default()),
            3 => Box::new(WordTable::<3>::default()),
            _ => Box::new(WordTable::<WORDS_MAX>::default()),
        };
        Ok(HashedIndex { lanes, words: vec![Vec::new(); words], nulls: Vec::new(), table })
    }

    /// Makes room for so many keys more.
    pub(super) fn reserve(&mut self, keys: usize) {
        self.table.reserve(keys);
    }

    pub(super) fn size(&self) -> usize {
        let texts: usize = match &self.lanes {
            Lanes::Rows(_, texts) => texts.size(),
            Lanes::Columns(lanes) => lanes
                .iter()
                .map(|lane| if let Lane::Text(texts) = lane { texts.size() } else { 0 })
                .sum(),
        };
        let scratch: usize = self.words.iter().map(|words| words.capacity() * 8).sum();
        texts + scratch + self.nulls.capacity() * 4 + self.table.size()
    }

    pub(super) fn intern(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        numbers: &mut Numbers<'_>,
    ) -> Result<(), EvalError> {
        self.nulls.clear();
        self.words.iter_mut().for_each(Vec::clear);
        match &mut self.lanes {
            Lanes::Columns(lanes) => {
                let mut words = self.words.as_mut_slice();
                for (column, (lane, keys)) in lanes.iter_mut().zip(keys).enumerate() {
                    let (own, rest) = words.split_at_mut(lane.words());
                    words = rest;
                    fill(lane, keys, own)?;
                    if let Some(nulls) = keys.logical_nulls().filter(|n| n.null_count() > 0) {
                        self.nulls.resize(rows, 0);
                        mark_nulls(&nulls, column, own, &mut self.nulls);
                    }
                }
            }
            Lanes::Rows(converter, texts) => {
                let rows = converter.convert_columns(keys)?;
                let [low, high] = self.words.as_mut_slice() else {
                    unreachable!("a text has two words")
                };
                for row in &rows {
                    text_words(row.as_ref(), texts, low, high);
                }
            }
        }
        self.table.intern(&self.words, &self.nulls, rows, numbers);
        Ok(())
    }
}

/// Makes words of a column; those of nulls are whatever stands there.
fn fill(lane: &mut Lane, keys: &ArrayRef, words: &mut [Vec<u64>]) -> Result<(), EvalError> {
    match (lane, words) {
        (Lane::Fixed, [words]) => fill_fixed(keys, words),
        (Lane::Decimal, [low, high]) => {
            let values = keys.as_primitive::<Decimal128Type>().values();
            low.extend(values.iter().map(|&value| value as u64));
            high.extend(values.iter().map(|&value| (value >> 64) as u64));
            Ok(())
        }
        (Lane::Text(texts), [low, high]) => match keys.data_type() {
            DataType::Utf8View => {
                fill_views(keys.as_byte_view::<StringViewType>(), texts, low, high)
            }
            DataType::BinaryView => {
                fill_views(keys.as_byte_view::<BinaryViewType>(), texts, low, high)
            }
            DataType::Utf8 => fill_bytes(keys.as_bytes::<Utf8Type>(), texts, low, high),
            DataType::LargeUtf8 => fill_bytes(keys.as_bytes::<LargeUtf8Type>(), texts, low, high),
            DataType::Binary => fill_bytes(keys.as_bytes::<BinaryType>(), texts, low, high),
            DataType::LargeBinary => {
                fill_bytes(keys.as_bytes::<LargeBinaryType>(), texts, low, high)
            }
            other => Err(wrong_type(other)),
        },
        _ => unreachable!("each lane gets as many words as it has"),
    }
}

fn wrong_type(data_type: &DataType) -> EvalError {
    EvalError::Broken(format!("a key column changed its type to {data_type}"))
}

pub(super) fn fill_fixed(keys: &ArrayRef, words: &mut Vec<u64>) -> Result<(), EvalError> {
    if let Some(flags) = keys.as_boolean_opt() {
        words.extend(flags.values().iter().map(u64::from));
        return Ok(());
    }
    let data = keys.to_data();
    let rows = keys.len();
    match keys.data_type().primitive_width() {
        Some(1) => words.extend(data.buffer::<u8>(0)[..rows].iter().map(|&v| u64::from(v))),
        Some(2) => words.extend(data.buffer::<u16>(0)[..rows].iter().map(|&v| u64::from(v))),
        Some(4) => words.extend(data.buffer::<u32>(0)[..rows].iter().map(|&v| u64::from(v))),
        Some(8) => words.extend_from_slice(&data.buffer::<u64>(0)[..rows]),
        _ => return Err(wrong_type(keys.data_type())),
    }
    Ok(())
}

fn fill_views<T: ByteViewType + ?Sized>(
    keys: &GenericByteViewArray<T>,
    texts: &mut LongTexts,
    low: &mut Vec<u64>,
    high: &mut Vec<u64>,
) -> Result<(), EvalError> {
    low.reserve(keys.len());
    high.reserve(keys.len());
    for (row, &view) in keys.views().iter().enumerate() {
        if view as u32 as usize <= INLINE_MAX {
            low.push(view as u64);
            high.push((view >> 64) as u64);
        } else if keys.is_null(row) {
            low.push(0);
            high.push(0);
        } else {
            let text: &[u8] = keys.value(row).as_ref();
            low.push(LONG);
            high.push(number_of(text, texts));
        }
    }
    Ok(())
}

fn fill_bytes<T: ByteArrayType>(
    keys: &GenericByteArray<T>,
    texts: &mut LongTexts,
    low: &mut Vec<u64>,
    high: &mut Vec<u64>,
) -> Result<(), EvalError> {
    for row in 0..keys.len() {
        let text: &[u8] = if keys.is_null(row) { &[] } else { keys.value(row).as_ref() };
        text_words(text, texts, low, high);
    }
    Ok(())
}

fn text_words(text: &[u8], texts: &mut LongTexts, low: &mut Vec<u64>, high: &mut Vec<u64>) {
    if text.len() <= INLINE_MAX {
        let view = make_view(text, 0, 0);
        low.push(view as u64);
        high.push((view >> 64) as u64);
    } else {
        low.push(LONG);
        high.push(number_of(text, texts));
    }
}

/// A long text's number among the texts of its column.
fn number_of(text: &[u8], texts: &mut LongTexts) -> u64 {
    let next = texts.len();
    u64::from(texts.number(text, || u32::try_from(next).expect("fewer texts than numbers")))
}

/// Sets a column's bit for its nulls, and makes their words equal.
fn mark_nulls(valid: &NullBuffer, column: usize, words: &mut [Vec<u64>], nulls: &mut [u32]) {
    for (row, valid) in valid.iter().enumerate() {
        if !valid {
            nulls[row] |= 1 << column;
            words.iter_mut().for_each(|words| words[row] = 0);
        }
    }
}

/// A hash table from words to numbers.
trait Table: Send {
    fn intern(&mut self, words: &[Vec<u64>], nulls: &[u32], rows: usize, numbers: &mut Numbers<'_>);
    fn reserve(&mut self, keys: usize);
    fn size(&self) -> usize;
}

/// A table for keys of `N` words.
#[derive(Default)]
pub(super) struct WordTable<const N: usize> {
    slots: HashTable<Slot<N>>,
    hasher: hashbrown::DefaultHashBuilder,
}

/// A key and its number.
struct Slot<const N: usize> {
    words: [u64; N],
    nulls: u32,
    id: u32,
}

fn hash<const N: usize>(
    hasher: &hashbrown::DefaultHashBuilder,
    words: &[u64; N],
    nulls: u32,
) -> u64 {
    let mut state = hasher.build_hasher();
    words.iter().for_each(|&word| state.write_u64(word));
    if nulls != 0 {
        state.write_u32(nulls);
    }
    state.finish()
}

impl<const N: usize> WordTable<N> {
    /// The number of a key; a key that `row` brings for the first time gets the next one.
    #[inline]
    pub(super) fn number(
        &mut self,
        words: [u64; N],
        nulls: u32,
        row: usize,
        numbers: &mut Numbers<'_>,
    ) -> u32 {
        let hasher = &self.hasher;
        let entry = self.slots.entry(
            hash(hasher, &words, nulls),
            |slot| slot.words == words && slot.nulls == nulls,
            |slot| hash(hasher, &slot.words, slot.nulls),
        );
        match entry {
            Entry::Occupied(slot) => slot.get().id,
            Entry::Vacant(place) => {
                let id = numbers.give(row);
                place.insert(Slot { words, nulls, id });
                id
            }
        }
    }

    /// Makes room for so many keys more.
    pub(super) fn make_room(&mut self, keys: usize) {
        let hasher = &self.hasher;
        self.slots.reserve(keys, |slot| hash(hasher, &slot.words, slot.nulls));
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.allocation_size()
    }
}

impl<const N: usize> Table for WordTable<N> {
    fn intern(
        &mut self,
        words: &[Vec<u64>],
        nulls: &[u32],
        rows: usize,
        numbers: &mut Numbers<'_>,
    ) {
        let columns: [&[u64]; N] = std::array::from_fn(|word| &words[word][..rows]);
        numbers.ids.reserve(rows);
        #[expect(clippy::needless_range_loop, reason = "a row goes across all columns")]
        for row in 0..rows {
            let key: [u64; N] = std::array::from_fn(|word| columns[word][row]);
            let id = self.number(key, nulls.get(row).copied().unwrap_or(0), row, numbers);
            numbers.ids.push(id);
        }
    }

    fn reserve(&mut self, keys: usize) {
        self.make_room(keys);
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}
