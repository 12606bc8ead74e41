//! Numbers texts, where the key is one column of them.
//!
//! A short text stands in its view, and is hashed as the two words that this is. A long one is found
//! by its bytes.

use arrow::array::{Array, StringViewArray};

use super::Numbers;
use super::hashed::{INLINE_MAX, WordTable};
use super::long_texts::LongTexts;

/// From text to number.
#[derive(Default)]
pub(super) struct TextIndex {
    short: WordTable<2>,
    long: LongTexts,
    /// Number of the null key.
    null: Option<u32>,
}

impl TextIndex {
    pub(super) fn intern(&mut self, keys: &StringViewArray, numbers: &mut Numbers<'_>) {
        numbers.ids.reserve(keys.len());
        let nulls = keys.nulls().filter(|nulls| nulls.null_count() > 0);
        for (row, &view) in keys.views().iter().enumerate() {
            let id = if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                *self.null.get_or_insert_with(|| numbers.give(row))
            } else if view as u32 as usize <= INLINE_MAX {
                self.short.number([view as u64, (view >> 64) as u64], 0, row, numbers)
            } else {
                self.long.number(keys.value(row).as_bytes(), || numbers.give(row))
            };
            numbers.ids.push(id);
        }
    }

    /// Makes room for so many texts more, if as many of them are long as of these.
    pub(super) fn reserve(&mut self, keys: usize, like: &StringViewArray) {
        let long = like.views().iter().filter(|&&view| view as u32 as usize > INLINE_MAX).count();
        let long = (keys as u128 * long as u128 / like.len().max(1) as u128) as usize;
        self.short.make_room(keys - long);
        self.long.reserve(long);
    }

    pub(super) fn size(&self) -> usize {
        self.short.bytes() + self.long.size()
    }
}
