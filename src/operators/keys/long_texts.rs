//! Numbers texts, or any bytes, that do not fit into two words.

use std::hash::BuildHasher;

use hashbrown::hash_table::{Entry, HashTable};

/// Distinct texts with their numbers.
#[derive(Default)]
pub(super) struct LongTexts {
    /// All texts, one behind the other.
    bytes: Vec<u8>,
    slots: HashTable<Slot>,
    hasher: hashbrown::DefaultHashBuilder,
}

/// Where a text stands, and its number.
struct Slot {
    hash: u64,
    start: usize,
    length: u32,
    number: u32,
}

impl LongTexts {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The text's number; `give` names the number of a new text.
    pub(super) fn number(&mut self, text: &[u8], give: impl FnOnce() -> u32) -> u32 {
        let hash = self.hasher.hash_one(text);
        let bytes = &self.bytes;
        let same = |slot: &Slot| {
            slot.hash == hash && &bytes[slot.start..slot.start + slot.length as usize] == text
        };
        match self.slots.entry(hash, same, |slot| slot.hash) {
            Entry::Occupied(slot) => slot.get().number,
            Entry::Vacant(place) => {
                let (number, start) = (give(), self.bytes.len());
                let length = u32::try_from(text.len()).expect("texts are shorter than 4 GB");
                place.insert(Slot { hash, start, length, number });
                self.bytes.extend_from_slice(text);
                number
            }
        }
    }

    /// Makes room for so many texts more.
    pub(super) fn reserve(&mut self, texts: usize) {
        self.slots.reserve(texts, |slot| slot.hash);
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity() + self.slots.allocation_size()
    }
}
