//! Writes the rows of a join for a snapshot, and reads them back.

use super::side::{NONE, Side};
use super::{Chains, Join};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};

impl Join {
    pub(super) fn save_rows(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        assert!(self.held.is_empty(), "a snapshot is taken between frames");
        self.keys.save(out)?;
        for side in &self.sides {
            side.save(out)?;
        }
        self.promises.save(out)?;
        out.put(&self.watermarks[0])?;
        out.put(&self.watermarks[1])?;
        out.put(&self.forwarded)?;
        out.put(&self.origin)
    }

    pub(super) fn restore_rows(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.keys.restore(from)?;
        for side in &mut self.sides {
            side.restore(from)?;
            let known = self.keys.len() as u32;
            if side.key.iter().any(|&key| key != NONE && key >= known) {
                return Err(misfit("a row's key has no number"));
            }
            let negatives = side.weight.iter().filter(|&&weight| weight < 0).count();
            if let Some(identity) = &mut side.identity {
                identity.negatives = negatives;
            }
        }
        self.chains = vec![Chains::EMPTY; self.keys.len()];
        self.promises.restore(from)?;
        self.watermarks = [from.get()?, from.get()?];
        self.forwarded = from.get()?;
        self.origin = from.get()?;
        debug_assert!(self.sides.iter().all(|side: &Side| side.gone == 0));
        self.link_all(0);
        self.link_all(1);
        Ok(())
    }
}
