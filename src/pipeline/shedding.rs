//! Lets a query shed rows before its state outgrows its memory, where it says so (`on_memory = 'shed'`).
//!
//! At *level* k one row in 2^k is kept, at [`NONE`] no row at all. Which ones is a function of the query, the
//! relation and the offset; the rows of a higher level are among those of a lower one. The level is part of
//! the entries of the changelog: docs/decisions/0026 says why, and when it changes.

use std::sync::Arc;

use arrow::array::BooleanArray;

use crate::data::change::Change;
use crate::error::{Error, Result, SqlState};
use crate::pipeline::drive::misfit;
use crate::views::entry_meta::NONE;

/// What a query sheds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shedding {
    /// Whether it may.
    pub allowed: bool,
    /// The level of the rows to come.
    pub level: u8,
    /// For each input the rows that were shed.
    pub shed: Vec<Shed>,
    seed: u64,
}

/// Rows of an input that were shed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shed {
    /// The offset of the first one.
    pub first: u64,
    /// Their number.
    pub rows: u64,
}

impl Shedding {
    /// Of a query with so many inputs; `name` is its own for ever.
    pub fn new(allowed: bool, name: &str, inputs: usize) -> Shedding {
        let shed = vec![Shed::default(); inputs];
        Shedding { allowed, level: 0, shed, seed: hash(0, name.as_bytes()) }
    }

    /// The level that so many bytes of state ask for.
    pub fn level_for(&self, state: u64, limit: u64) -> u8 {
        if !self.allowed {
            return 0;
        }
        // Each halving of the rows comes with half of the room that is left.
        let holds = |level: &u8| *level == NONE || state <= limit - (limit >> (level + 2));
        if !holds(&self.level) {
            return (self.level + 1..NONE).find(|level| holds(level)).unwrap_or(NONE);
        }
        if state <= limit / 2 { self.level / 2 } else { self.level }
    }

    /// The rows of a change that are kept, if there are any. Those of an input that reads the same log as another are counted
    /// with the other.
    ///
    /// # Errors
    /// A broken invariant.
    pub fn keep(&mut self, change: Change, input: usize, counted: bool) -> Result<Option<Change>> {
        if self.level == 0 {
            return Ok(Some(change));
        }
        let seed = hash(self.seed, change.origin.relation.as_bytes());
        let rows = change.batch.num_rows();
        let is_kept = |row: usize| is_kept(seed, change.offset(row), self.level);
        let kept: BooleanArray = (0..rows).map(|row| Some(is_kept(row))).collect();
        let shed = &mut self.shed[input];
        if counted && let Some(first) = (0..rows).find(|row| !kept.value(*row)) {
            if shed.rows == 0 {
                shed.first = change.offset(first);
            }
            shed.rows += (rows - kept.true_count()) as u64;
        }
        if kept.true_count() == 0 {
            return Ok(None);
        }
        change.filter(&kept).map(Some).map_err(|error| {
            Error::new(SqlState::INTERNAL, format!("rows cannot be kept: {error}"))
        })
    }

    /// Goes on where a snapshot was taken: at this level, after these rows.
    ///
    /// # Errors
    /// WR006 when the numbers are those of another query.
    pub fn restore(&mut self, level: u8, shed: &[(u64, u64)]) -> Result<()> {
        if level > NONE || !(shed.is_empty() || shed.len() == self.shed.len()) {
            return Err(misfit("what was shed is that of another query"));
        }
        self.level = level;
        for (shed, (first, rows)) in self.shed.iter_mut().zip(shed) {
            *shed = Shed { first: *first, rows: *rows };
        }
        Ok(())
    }

    /// The rows that were shed of relations with these names, in the order of the inputs.
    pub fn by_relation(&self, names: &[Arc<str>]) -> Vec<(Arc<str>, Shed)> {
        let rows = names.iter().zip(&self.shed).filter(|(_, shed)| shed.rows > 0);
        rows.map(|(name, shed)| (Arc::clone(name), *shed)).collect()
    }

    /// Whether anything is or was shed.
    pub fn is_active(&self) -> bool {
        self.level > 0 || self.shed.iter().any(|shed| shed.rows > 0)
    }
}

fn is_kept(seed: u64, offset: u64, level: u8) -> bool {
    level == 0 || (level < NONE && mix(seed ^ mix(offset)).trailing_zeros() >= u32::from(level))
}

fn hash(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(mix(seed), |hash, byte| mix(hash ^ u64::from(*byte)))
}

/// The last steps of splitmix64.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(level: u8) -> Shedding {
        Shedding { level, ..Shedding::new(true, "queries/7", 1) }
    }

    #[test]
    fn a_level_keeps_its_share_and_a_part_of_what_the_one_below_keeps() {
        for name in ["a", "b"] {
            let seed = hash(at(0).seed, name.as_bytes());
            let kept = |level| (0..1 << 18).filter(move |row| is_kept(seed, *row, level));
            for level in 0..NONE {
                let (share, found) = ((1_usize << 18) >> level, kept(level).count());
                let off = share.abs_diff(found) as f64;
                assert!(off <= 5.0 * (share as f64).sqrt(), "level {level}: {found}, not {share}");
                let below: Vec<u64> = kept(level.saturating_sub(1)).collect();
                assert!(kept(level).all(|row| below.binary_search(&row).is_ok()), "{level}");
            }
            assert_eq!(kept(NONE).count(), 0);
        }
        let of = |name: &str| hash(at(0).seed, name.as_bytes());
        let both = (0..10_000).filter(|row| is_kept(of("a"), *row, 1) && is_kept(of("b"), *row, 1));
        assert!((2_300..2_700).contains(&both.count()), "relations are sampled apart");
    }

    #[test]
    fn the_level_rises_with_the_state_and_falls_late() {
        let check = |level, state, expected| {
            assert_eq!(at(level).level_for(state, 1_024), expected, "at {level} with {state}");
        };
        check(0, 768, 0);
        check(0, 769, 1);
        check(0, 897, 2);
        check(1, 896, 1);
        check(1, 897, 2);
        check(0, 1_024, 9);
        check(0, 1_025, NONE);
        check(NONE, 5_000, NONE);
        check(NONE, 513, NONE);
        check(NONE, 512, 8);
        check(3, 512, 1);
        check(1, 0, 0);
        let refused = Shedding { allowed: false, ..at(3) };
        assert_eq!(refused.level_for(5_000, 1_024), 0);
        assert_eq!(at(0).level_for(1, 0), NONE);
        assert_eq!(at(0).level_for(u64::MAX, u64::MAX), 16);
    }
}
