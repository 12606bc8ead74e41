//! Takes punctuations: rows go that can match nothing any more, and what both sides promise goes on.

use std::sync::Arc;

use super::promises::{name_of_key, patterns};
use super::{Join, NONE};
use crate::data::change::Change;
use crate::data::punctuation::{Punctuation, column_named, name_at};
use crate::operators::operator::{Emitter, EvalError};

impl Join {
    pub(super) fn take_punctuation(
        &mut self,
        port: usize,
        punctuation: &Punctuation,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if self.spec.as_of_now {
            if port == 0 {
                self.propagate(punctuation, out);
            }
            return Ok(());
        }
        let input = Arc::clone(&self.spec.inputs[port]);
        let keys = self.spec.keys.clone();
        let key_of = |name: &str| {
            let column = column_named(&input, name)?;
            let of = |&(left, right): &(usize, usize)| if port == 0 { left } else { right };
            keys.iter().position(|pair| of(pair) == column).map(name_of_key)
        };
        // A promise that says nothing of other columns.
        let Some(promise) = punctuation.renamed(key_of) else { return Ok(()) };
        if promise.columns.is_empty() {
            return Ok(());
        }
        let matching = self.keys.matching(&patterns(&promise))?;
        let both = self.promises.take(port, &promise, &matching);
        self.let_go(1 - port, &matching, out)?;
        for shared in both {
            for side in 0..if self.spec.kind.shows_pairs() { 2 } else { 1 } {
                self.propagate_keys(side, &shared, out);
            }
        }
        self.pack()
    }

    /// Lets go of the rows of a side whose keys the other side brings no more.
    fn let_go(
        &mut self,
        port: usize,
        matching: &[bool],
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let shows = self.defers && self.spec.kind.shows_unmatched(port);
        let side = &mut self.sides[port];
        let mut unmatched = Vec::new();
        for (key, _) in matching.iter().enumerate().filter(|(_, matches)| **matches) {
            let mut slot = self.chains[key].heads[port];
            while slot != NONE {
                let at = slot as usize;
                let next = side.next[at];
                if side.weight[at] != 0 {
                    if shows && side.matches[at] == 0 {
                        let copies = usize::try_from(side.weight[at]).unwrap_or(0);
                        unmatched.extend(std::iter::repeat_n(slot, copies));
                    }
                    side.release(slot);
                    if let Some(identity) = &mut side.identity {
                        identity.forget(slot);
                    }
                }
                slot = next;
            }
        }
        if !unmatched.is_empty() {
            unmatched.sort_unstable();
            let batch = self.without_match(port, &unmatched)?;
            out.change(Change::derived(batch, None, &self.origin));
        }
        Ok(())
    }

    /// Looks up what was promised of keys that are new.
    pub(super) fn look_up_promises(&mut self) -> Result<(), EvalError> {
        if self.promises.is_empty() {
            return Ok(());
        }
        let new: Vec<u32> = (self.promises.len() as u32..self.keys.len() as u32).collect();
        if new.is_empty() {
            return Ok(());
        }
        let columns = self.keys.keys_of(&new)?;
        self.promises.add_keys(&columns, new.len())
    }

    /// Forwards what both sides have promised of keys, in the names of one side.
    fn propagate_keys(&self, side: usize, promise: &Punctuation, out: &mut Emitter) {
        let width = self.spec.inputs[0].fields().len();
        let name_of = |key: &str| {
            let (left, right) = self.spec.keys[key.parse::<usize>().ok()?];
            let column = if side == 0 { left } else { width + right };
            Some(name_at(&self.spec.schema, column))
        };
        if let Some(promise) = promise.renamed(name_of) {
            out.punctuation(Arc::new(promise));
        }
    }

    /// Forwards a promise of the left side, whose rows alone make output.
    fn propagate(&self, punctuation: &Punctuation, out: &mut Emitter) {
        let column = |name: &str| column_named(&self.spec.inputs[0], name);
        let name_of = |name: &str| Some(name_at(&self.spec.schema, column(name)?));
        if let Some(promise) = punctuation.renamed(name_of) {
            out.punctuation(Arc::new(promise));
        }
    }
}
