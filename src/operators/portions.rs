//! Takes the state of many groups down in portions, while their operator goes on.
//!
//! ```text
//! groups at the beginning   0 ········· next ············ end      later ones do not belong
//!                           written      │ still to write
//!                                        └ one that is about to change is written first, alone
//! ```
//! Between two steps the next run of groups is written as it stands. Before a group that is still to
//! be written changes, it is written as it stood at the beginning, once; what the run says of it later
//! is wrong, and the reader lets the early copy win. So no step waits for more than one portion and
//! for the groups that it changes itself, and what comes together is the state of one moment.
//!
//! Why not copy pages when they are written to: a step changes groups all over the state, so the first
//! one after the beginning would copy nearly all of it.
//!
//! # State
//! One bit per group while a snapshot is under way.

use std::ops::Range;

use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored, misfit};

/// Groups written at a time, at most.
const RUN_GROUPS: usize = 8_192;
/// Bytes that a group takes, roughly.
const GROUP_BYTES: usize = 64;

/// Which groups a portion holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Chosen {
    /// Neighbours.
    Run(Range<usize>),
    /// Here and there, each once.
    Listed(Vec<usize>),
}

/// How far the groups are written.
#[derive(Debug)]
pub struct Portions {
    end: usize,
    next: usize,
    /// A bit for each group that was written early.
    early: Vec<u64>,
}

impl Chosen {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Chosen::Run(run) => run.len(),
            Chosen::Listed(list) => list.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The groups, in order.
    pub fn to_vec(&self) -> Vec<usize> {
        match self {
            Chosen::Run(run) => run.clone().collect(),
            Chosen::Listed(list) => list.clone(),
        }
    }

    /// Writes which groups these are.
    pub fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        match self {
            Chosen::Run(run) => (0_u8, run.start, run.end).store(out),
            Chosen::Listed(list) => (1_u8, list.clone()).store(out),
        }
    }

    /// Reads what [`save`](Self::save) wrote; all of them are below `groups`.
    pub fn restore(from: &mut StateReader<'_>, groups: usize) -> Result<Chosen, EvalError> {
        let chosen = match u8::load(from)? {
            0 => Chosen::Run(from.get()?..from.get()?),
            1 => Chosen::Listed(from.get()?),
            _ => return Err(misfit("a portion is of an unknown kind")),
        };
        let fits = match &chosen {
            Chosen::Run(run) => run.start <= run.end && run.end <= groups,
            Chosen::Listed(list) => list.iter().all(|&group| group < groups),
        };
        if fits { Ok(chosen) } else { Err(misfit("a group of a portion does not exist")) }
    }

    /// Writes the values of the groups.
    pub fn put<T: Stored>(&self, values: &[T], out: &mut StateWriter) -> Result<(), EvalError> {
        match self {
            Chosen::Run(run) => T::store_all(&values[run.clone()], out),
            Chosen::Listed(list) => list.iter().try_for_each(|&group| values[group].store(out)),
        }
    }

    /// Reads what [`put`](Self::put) wrote into the places of the groups.
    pub fn get<T: Stored>(
        &self,
        values: &mut [T],
        from: &mut StateReader<'_>,
    ) -> Result<(), EvalError> {
        match self {
            Chosen::Run(run) => T::load_all(&mut values[run.clone()], from),
            Chosen::Listed(list) => list.iter().try_for_each(|&group| {
                values[group] = from.get()?;
                Ok(())
            }),
        }
    }
}

impl Portions {
    /// Nothing of so many groups is written.
    pub fn new(groups: usize) -> Portions {
        Portions { end: groups, next: 0, early: vec![0; groups.div_ceil(64)] }
    }

    /// Those of the groups that have to be written before they change. They count as written.
    pub fn claim(&mut self, groups: impl IntoIterator<Item = usize>) -> Chosen {
        let mut claimed = Vec::new();
        for group in groups {
            if group < self.next || group >= self.end {
                continue;
            }
            let (word, bit) = (&mut self.early[group / 64], 1 << (group % 64));
            if *word & bit == 0 {
                *word |= bit;
                claimed.push(group);
            }
        }
        Chosen::Listed(claimed)
    }

    /// The next groups to write, of about so many bytes; `None` when all are written.
    pub fn advance(&mut self, bytes: usize) -> Option<Chosen> {
        let most = (bytes / GROUP_BYTES).clamp(1, RUN_GROUPS);
        let run = self.next..self.end.min(self.next + most);
        self.next = run.end;
        (!run.is_empty()).then_some(Chosen::Run(run))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes the values in portions while `changes` come, and reads the result.
    fn saved(values: &[i64], changes: &[(usize, i64)]) -> Vec<i64> {
        let mut live = values.to_vec();
        let mut portions = Portions::new(values.len());
        let (mut runs, mut early) = (Vec::new(), Vec::new());
        let mut changes = changes.iter();
        loop {
            for &(group, value) in changes.by_ref().take(2) {
                let group = group % (live.len() + 1);
                let mut out = StateWriter::default();
                let chosen = portions.claim([group]);
                chosen.put(&live, &mut out).unwrap();
                early.push((chosen, out.finish()));
                if group == live.len() {
                    live.push(value);
                } else {
                    live[group] = value;
                }
            }
            let Some(run) = portions.advance(2 * GROUP_BYTES) else { break };
            let mut out = StateWriter::default();
            run.put(&live, &mut out).unwrap();
            runs.push((run, out.finish()));
        }
        let mut read = vec![0; values.len()];
        for (chosen, bytes) in runs.into_iter().chain(early) {
            let mut out = StateWriter::default();
            chosen.save(&mut out).unwrap();
            let head = out.finish();
            let stored = Chosen::restore(&mut StateReader::new(&head), read.len()).unwrap();
            assert_eq!(stored, chosen);
            stored.get(&mut read, &mut StateReader::new(&bytes)).unwrap();
        }
        read
    }

    proptest! {
        #[test]
        fn portions_come_together_to_the_values_of_one_moment(
            values in proptest::collection::vec(any::<i64>(), 0..20),
            changes in proptest::collection::vec((0_usize..25, any::<i64>()), 0..30),
        ) {
            prop_assert_eq!(saved(&values, &changes), values);
        }
    }

    #[test]
    fn groups_that_do_not_exist_are_refused() {
        for chosen in [Chosen::Run(3..5), Chosen::Listed(vec![0, 4])] {
            let mut out = StateWriter::default();
            chosen.save(&mut out).unwrap();
            assert!(Chosen::restore(&mut StateReader::new(&out.finish()), 4).is_err());
        }
    }
}
