//! Numbers texts, or any bytes, that do not fit into two words.

use std::hash::BuildHasher;

use hashbrown::hash_table::{Entry, HashTable};

/// Distinct texts, by number.
#[derive(Default)]
pub(super) struct LongTexts {
    /// All texts, one behind the other.
    bytes: Vec<u8>,
    /// Where each text ends.
    ends: Vec<usize>,
    slots: HashTable<Slot>,
    hasher: hashbrown::DefaultHashBuilder,
}

struct Slot {
    hash: u64,
    number: u32,
}

impl LongTexts {
    /// The text's number; a new text gets the next one.
    pub(super) fn number(&mut self, text: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(text);
        let (bytes, ends) = (&self.bytes, &self.ends);
        let at = |number: u32| {
            let number = number as usize;
            let start = if number == 0 { 0 } else { ends[number - 1] };
            &bytes[start..ends[number]]
        };
        let same = |slot: &Slot| slot.hash == hash && at(slot.number) == text;
        match self.slots.entry(hash, same, |slot| slot.hash) {
            Entry::Occupied(slot) => slot.get().number,
            Entry::Vacant(place) => {
                let number = u32::try_from(self.ends.len()).expect("fewer texts than numbers");
                place.insert(Slot { hash, number });
                self.bytes.extend_from_slice(text);
                self.ends.push(self.bytes.len());
                number
            }
        }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 8 + self.slots.allocation_size()
    }
}
