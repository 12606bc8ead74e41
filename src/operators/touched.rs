//! Remembers which groups changed since the last emission, in the order of their last change.
//!
//! The first change would not do: a step whose changes cancel out leaves no entry in the changelog, so a
//! replay does not end there, and takes its changes for the first ones of the next entry. A group that
//! comes out has changed since, so its last change is the same in both. Only where a group comes out once
//! and for all (DISTINCT over rows that stay) does the first change count: no cut of the rows into steps may
//! show there, and no earlier step touched the group.

use std::sync::Arc;

use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, misfit};

/// Mark of a group that is not in the list.
const UNTOUCHED: u32 = u32::MAX;

/// The groups that changed.
#[derive(Debug, Default)]
pub struct Touched {
    /// Per group its position in `list`, or [`UNTOUCHED`].
    positions: Vec<u32>,
    list: Vec<Touch>,
    /// Changes so far.
    turns: u64,
    by_first: bool,
}

/// A group that changed, and the row that changed it last.
#[derive(Debug, Clone)]
pub struct Touch {
    /// The group.
    pub group: usize,
    /// Name of the stream whose log holds the row.
    pub relation: Arc<str>,
    /// The row's offset there.
    pub offset: u64,
    /// The number of the group's last change.
    turn: u64,
}

impl Touched {
    /// Groups come in the order of their first change.
    pub fn by_first_change() -> Touched {
        Touched { by_first: true, ..Touched::default() }
    }

    /// Makes room for `groups` groups.
    pub fn resize(&mut self, groups: usize) {
        self.positions.resize(groups, UNTOUCHED);
    }

    /// Whether no group changed.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Remembers that a row changed the group.
    pub fn touch(&mut self, group: usize, relation: &Arc<str>, offset: u64) {
        let turn = self.turns;
        self.turns += 1;
        match self.positions[group] {
            UNTOUCHED => {
                self.positions[group] = self.list.len() as u32;
                self.list.push(Touch { group, relation: Arc::clone(relation), offset, turn });
            }
            position => {
                let touch = &mut self.list[position as usize];
                touch.offset = offset;
                if !self.by_first {
                    touch.turn = turn;
                }
                if !Arc::ptr_eq(&touch.relation, relation) {
                    touch.relation = Arc::clone(relation);
                }
            }
        }
    }

    /// Takes the groups out; with `chosen` only those that it names.
    pub fn take(&mut self, chosen: Option<&[bool]>) -> Vec<Touch> {
        let list = std::mem::take(&mut self.list);
        let is_chosen = |touch: &Touch| chosen.is_none_or(|chosen| chosen[touch.group]);
        let (mut taken, left): (Vec<Touch>, Vec<Touch>) = list.into_iter().partition(is_chosen);
        taken.sort_unstable_by_key(|touch| touch.turn);
        taken.iter().for_each(|touch| self.positions[touch.group] = UNTOUCHED);
        for (position, touch) in left.iter().enumerate() {
            self.positions[touch.group] = position as u32;
        }
        self.list = left;
        taken
    }

    /// Starts again with `groups` groups, while none is touched.
    pub fn renumber(&mut self, groups: usize) {
        assert!(self.list.is_empty());
        self.positions = vec![UNTOUCHED; groups];
    }

    /// Writes the groups that changed.
    pub fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        let mut list: Vec<&Touch> = self.list.iter().collect();
        list.sort_unstable_by_key(|touch| touch.turn);
        out.length(list.len());
        list.into_iter().try_for_each(|touch| {
            out.put(&touch.group)?;
            out.put(&touch.relation)?;
            out.put(&touch.offset)
        })
    }

    /// Reads what [`save`](Self::save) wrote; there is room for the groups already.
    pub fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.positions.fill(UNTOUCHED);
        self.list.clear();
        for _ in 0..from.length()? {
            let (group, relation, offset): (usize, Arc<str>, u64) = from.get()?;
            if group >= self.positions.len() {
                return Err(misfit("a group that changed does not exist"));
            }
            self.touch(group, &relation, offset);
        }
        Ok(())
    }

    /// Bytes of state.
    pub fn bytes(&self) -> usize {
        self.positions.capacity() * size_of::<u32>() + self.list.capacity() * size_of::<Touch>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_in_the_order_of_their_last_change() {
        let mut touched = Touched::default();
        touched.resize(5);
        let relation = Arc::from("s");
        for (offset, group) in [3, 1, 3, 4].into_iter().enumerate() {
            touched.touch(group, &relation, offset as u64);
        }
        let pairs = |list: Vec<Touch>| list.iter().map(|t| (t.group, t.offset)).collect::<Vec<_>>();
        assert_eq!(pairs(touched.take(Some(&[false, true, false, false, true]))), [(1, 1), (4, 3)]);
        touched.touch(1, &relation, 9);
        assert_eq!(pairs(touched.take(None)), [(3, 2), (1, 9)]);
        assert!(touched.is_empty());
        let mut touched = Touched::by_first_change();
        touched.resize(5);
        for (offset, group) in [3, 1, 3, 4].into_iter().enumerate() {
            touched.touch(group, &relation, offset as u64);
        }
        assert_eq!(pairs(touched.take(None)), [(3, 2), (1, 1), (4, 3)]);
    }
}
