//! Writes the shards for a snapshot, and reads them back into any number of them.
//!
//! ```text
//! one shard     as `persist` writes it
//! several       SHARD, which of how many, how keys are spread; then a piece of what that one writes
//! ```
//! Pieces go to the shards that wrote them where their number and the way of spreading are the same. Else
//! the old shards are read as they were, and their groups routed into the new ones at the end.

use super::WindowAggregate;
use super::shards::Shards;
use crate::operators::keys::spread;
use crate::operators::operator::{EvalError, Operator};
use crate::operators::state::{StateReader, StateWriter, misfit};

/// A kind of part that no single operator writes.
const SHARD: u8 = 3;
/// More shards than anybody has.
const SHARDS_MAX: u32 = 4_096;

/// Shards that are being read.
pub(super) struct Restoring {
    count: u32,
    /// The shards that wrote it, where they are not those that will be.
    old: Option<Vec<WindowAggregate>>,
}

impl Shards {
    pub(super) fn begin_saving(&mut self, out: &mut StateWriter) -> Result<bool, EvalError> {
        self.save_abandon();
        if let [only] = self.shards.as_mut_slice() {
            return only.save_begin(out);
        }
        let count = self.shards.len();
        for (index, shard) in self.shards.iter_mut().enumerate() {
            save_header(index, count, out)?;
            out.piece(|out| shard.save_begin(out).map(|_| ()))?;
        }
        self.saving = Some(0);
        Ok(true)
    }

    /// Writes about so many bytes of one shard; whether any are left.
    pub(super) fn go_on_saving(
        &mut self,
        bytes: usize,
        out: &mut StateWriter,
    ) -> Result<bool, EvalError> {
        if let [only] = self.shards.as_mut_slice() {
            return only.save_more(bytes, out);
        }
        let (Some(index), count) = (self.saving, self.shards.len()) else { return Ok(false) };
        let mut more = false;
        save_header(index, count, out)?;
        out.piece(|out| {
            more = self.shards[index].save_more(bytes, out)?;
            Ok(())
        })?;
        let next = if more { index } else { index + 1 };
        self.saving = Some(next).filter(|&next| next < count);
        Ok(self.saving.is_some())
    }

    pub(super) fn restore_part(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        while !from.is_at_end() {
            if from.peek() != Some(SHARD) {
                return self.old(0, 1, spread::METHOD)?.restore(from);
            }
            let (_, index, count, method): (u8, u32, u32, u32) =
                (from.get()?, from.get()?, from.get()?, from.get()?);
            let shard = self.old(index, count, method)?;
            from.piece(|piece| shard.restore(piece))?;
        }
        Ok(())
    }

    /// The shard that takes what this one of `count` wrote.
    fn old(
        &mut self,
        index: u32,
        count: u32,
        method: u32,
    ) -> Result<&mut WindowAggregate, EvalError> {
        if index >= count || count > SHARDS_MAX {
            return Err(misfit("a shard is of a number that cannot be"));
        }
        if self.restoring.is_none() {
            let wanted = self.sharding.shards;
            let is_split = count > 1 || self.sharding.keys == 0;
            self.shards = self.empty(if is_split { wanted } else { 1 })?;
            let same = self.shards.len() == count as usize && method == spread::METHOD;
            let old = if same { None } else { Some(self.empty(count as usize)?) };
            self.restoring = Some(Restoring { count, old });
        }
        let restoring = self.restoring.as_mut().expect("it was made above");
        if restoring.count != count {
            return Err(misfit("the number of shards changes"));
        }
        let shards = restoring.old.as_mut().unwrap_or(&mut self.shards);
        Ok(&mut shards[index as usize])
    }

    pub(super) fn end_restoring(&mut self) -> Result<(), EvalError> {
        let restoring = self.restoring.take().ok_or_else(|| misfit("there is no shard"))?;
        let Some(old) = restoring.old else {
            return self.shards.iter_mut().try_for_each(|shard| shard.restored());
        };
        for mut shard in old {
            shard.restored()?;
            shard.route_into(&mut self.shards)?;
        }
        Ok(())
    }
}

fn save_header(index: usize, count: usize, out: &mut StateWriter) -> Result<(), EvalError> {
    out.put(&SHARD)?;
    out.put(&(index as u32))?;
    out.put(&(count as u32))?;
    out.put(&spread::METHOD)
}
