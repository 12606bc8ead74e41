//! Gives up the room of rows and keys that are gone.

use super::matching::Block;
use super::side::{NONE, Side};
use super::{Chains, Join, matching};
use crate::operators::operator::EvalError;

/// Keys below which numbers of those without rows are not worth looking for.
const KEYS_MIN: usize = if cfg!(test) { 4 } else { 1_024 };

impl Join {
    /// Checks what retractions found, and packs where it pays.
    pub(super) fn end_batch(&mut self) -> Result<(), EvalError> {
        for side in &mut self.sides {
            if let Some(identity) = &side.identity {
                let found = identity.unchecked();
                let rows = if found.is_empty() { None } else { Some(side.rows(&found)?) };
                let identity = side.identity.as_mut().expect("looked at just above");
                if let Some(rows) = rows {
                    identity.check(rows.columns())?;
                }
                identity.end_batch();
            }
            side.tidy()?;
        }
        self.pack()
    }

    /// Gives up the room of rows that are gone, and of keys without rows.
    pub(super) fn pack(&mut self) -> Result<(), EvalError> {
        let empty = self.sides.iter().all(|side| side.gone == side.len());
        if empty {
            // Room for pairs, too, is kept only while there are rows.
            self.block = Block::default();
        }
        let mut packed = false;
        for port in 0..2 {
            let side = &mut self.sides[port];
            if side.len() > 0 && (empty || side.is_loose()) {
                packed = true;
                // Only keys of this side's slots have chains on this side.
                for &key in side.key.iter().filter(|&&key| key != NONE) {
                    let chain = &mut self.chains[key as usize];
                    (chain.heads[port], chain.tails[port]) = (NONE, NONE);
                }
                side.pack()?;
                self.link_all(port);
            }
        }
        let held: usize = self.sides.iter().map(Side::len).sum();
        if packed && (empty || self.keys.len() > KEYS_MIN.max(2 * held)) {
            self.renumber()?;
        }
        Ok(())
    }

    /// Forgets keys without rows.
    fn renumber(&mut self) -> Result<(), EvalError> {
        let mut live = vec![false; self.keys.len()];
        let numbers = self.sides.iter().flat_map(|side| &side.key).filter(|&&key| key != NONE);
        numbers.for_each(|&key| live[key as usize] = true);
        let renumbered = self.keys.retain(&live)?;
        let mut chains = vec![Chains::EMPTY; self.keys.len()];
        for (old, &new) in renumbered.iter().enumerate().filter(|(_, new)| **new != NONE) {
            chains[new as usize] = self.chains[old];
        }
        self.chains = chains;
        self.promises.renumber(&renumbered, self.keys.len());
        let numbers = self.sides.iter_mut().flat_map(|side| &mut side.key);
        numbers.filter(|key| **key != NONE).for_each(|key| *key = renumbered[*key as usize]);
        Ok(())
    }

    /// Builds the chains of one side, which has none, in the order of slots.
    pub(super) fn link_all(&mut self, port: usize) {
        let side = &mut self.sides[port];
        for slot in 0..side.len() as u32 {
            matching::link(&mut self.chains, side, port, slot);
        }
    }
}
