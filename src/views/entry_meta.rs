//! Is what an entry of a changelog says beside its rows, and its bytes.
//!
//! ```text
//!   watermark │ frame, offset of each input │ level, 3 zeros │ signs, 16 to the row │ number of rows
//!   8         │ 16 each                     │ 4, if it moves │ a bit per row, if there are any │ 8
//! ```
//! Little-endian. What is there shows in the length: modulo 16 it is 8 where there is only the first part, 12
//! with a level, 0 with signs, 4 with both.

use arrow::array::Int64Array;

use crate::log::frame::Position;
use crate::views::changelog::Frontier;

const LEVEL_BYTES: usize = 4;

/// The level at which a query keeps no row; at level k it keeps one in 2^k.
pub const NONE: u8 = 16;

/// What an entry says beside its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryMeta {
    /// The query's watermark after the entry.
    pub watermark: i64,
    /// How far its inputs had been read.
    pub frontier: Frontier,
    /// How many of the rows behind the frontier the query keeps, from here on; where that changes.
    pub level: Option<u8>,
}

impl EntryMeta {
    /// Without a new level.
    pub fn new(watermark: i64, frontier: Frontier) -> EntryMeta {
        EntryMeta { watermark, frontier, level: None }
    }

    /// The bytes, without signs.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.watermark.to_le_bytes().to_vec();
        for position in &self.frontier {
            bytes.extend(position.frame.to_le_bytes());
            bytes.extend(position.offset.to_le_bytes());
        }
        bytes.extend(self.level.iter().flat_map(|level| [*level, 0, 0, 0]));
        bytes
    }

    /// Reads what [`EntryMeta::encode`] wrote, with signs behind it or not; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<EntryMeta> {
        let bytes = split_signs(bytes).map_or(bytes, |(meta, _)| meta);
        let level = level_of(bytes);
        let bytes = &bytes[..bytes.len() - level.map_or(0, |_| LEVEL_BYTES)];
        if bytes.len() < 8 || !(bytes.len() - 8).is_multiple_of(16) {
            return None;
        }
        let watermark = i64::from_le_bytes(bytes[..8].try_into().ok()?);
        let frontier = (8..bytes.len())
            .step_by(16)
            .map(|at| Some(Position { frame: word(bytes, at)?, offset: word(bytes, at + 8)? }))
            .collect::<Option<_>>()?;
        Some(EntryMeta { watermark, frontier, level })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

/// The level at the end of a meta without signs.
fn level_of(bytes: &[u8]) -> Option<u8> {
    let there = bytes.len() >= 8 + LEVEL_BYTES && bytes.len() % 16 == 12;
    match bytes[bytes.len().saturating_sub(LEVEL_BYTES)..] {
        [level, 0, 0, 0] if there => Some(level),
        _ => None,
    }
}

/// What a level means, in words.
pub fn in_words(level: u8) -> String {
    match level {
        0 => "every row is kept".into(),
        NONE.. => "no row is kept".into(),
        _ => format!("one row in {} is kept", 1_u32 << level),
    }
}

/// The level of an entry with these bytes, if it changes there.
pub(super) fn new_level(bytes: &[u8]) -> Option<u8> {
    level_of(split_signs(bytes).map_or(bytes, |(meta, _)| meta))
}

/// Puts the signs of rows behind a meta: a bit per row, set for −1, filled up to 16 bytes, and the
/// number of rows. So the length says that they are there.
pub(super) fn append_signs(meta: &mut Vec<u8>, retracted: &[bool]) {
    let mut bits = vec![0_u8; retracted.len().div_ceil(8).next_multiple_of(16)];
    for (row, _) in retracted.iter().enumerate().filter(|(_, retracted)| **retracted) {
        bits[row / 8] |= 1 << (row % 8);
    }
    meta.extend(bits);
    meta.extend((retracted.len() as u64).to_le_bytes());
}

/// A meta and the weights behind it.
pub(super) fn split_signs(bytes: &[u8]) -> Option<(&[u8], Int64Array)> {
    if bytes.len() < 16 || !matches!(bytes.len() % 16, 0 | 4) {
        return None;
    }
    let end = bytes.len() - 8;
    let rows = usize::try_from(word(bytes, end)?).ok()?;
    let start = end.checked_sub(rows.div_ceil(8).checked_next_multiple_of(16)?)?;
    let bits = &bytes[start..end];
    let retracted = |row: usize| bits[row / 8] >> (row % 8) & 1 == 1;
    let weights = (0..rows).map(|row| if retracted(row) { -1 } else { 1 });
    Some((&bytes[..start], Int64Array::from_iter_values(weights)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meta_of_an_entry_round_trips() {
        for level in [None, Some(0), Some(16)] {
            let frontier = vec![Position { frame: 1, offset: 2 }, Position { frame: 3, offset: 4 }];
            let meta = EntryMeta { watermark: -5, frontier, level };
            assert_eq!(EntryMeta::decode(&meta.encode()), Some(meta.clone()));
            assert_eq!(new_level(&meta.encode()), level);
            for cut in 0..meta.encode().len() {
                let decoded = EntryMeta::decode(&meta.encode()[..cut]);
                assert!(decoded.is_none_or(|other| other != meta));
            }
        }
    }

    #[test]
    fn signs_stand_behind_a_meta_and_do_not_disturb_it() {
        for rows in [1, 7, 8, 127, 128, 129] {
            for (inputs, level) in [(0, None), (1, None), (2, None), (0, Some(0)), (1, Some(7))] {
                let frontier = vec![Position { frame: 1, offset: 2 }; inputs];
                let meta = EntryMeta { watermark: 7, frontier, level };
                let mut bytes = meta.encode();
                assert!(split_signs(&bytes).is_none());
                let signs: Vec<bool> = (0..rows).map(|row| row % 3 == 0).collect();
                append_signs(&mut bytes, &signs);
                assert_eq!(EntryMeta::decode(&bytes), Some(meta));
                assert_eq!(new_level(&bytes), level);
                let weights = split_signs(&bytes).unwrap().1;
                let read: Vec<bool> = weights.values().iter().map(|weight| *weight < 0).collect();
                assert_eq!(read, signs);
            }
        }
    }

    #[test]
    fn bytes_of_any_length_are_no_panic() {
        for length in 0..200 {
            for byte in [0, 1, 255] {
                let bytes = vec![byte; length];
                let _ = (EntryMeta::decode(&bytes), new_level(&bytes), split_signs(&bytes));
            }
        }
    }
}
