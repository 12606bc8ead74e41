//! Holds the rows of one group in their order.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::Int64Array;

use super::order_key::OrderKey;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// A row as bytes.
pub(in crate::operators) type Shown = Arc<[u8]>;

/// A row that no other one equals: its place in the log is part of its order.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) key: OrderKey,
    pub(super) number: u64,
    pub(super) row: Shown,
}

/// The rows. One of the two is in use, as the input is append-only or not.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The best so far, in order.
    best: Vec<Line>,
    /// All rows with their weights, which are negative while a retraction came before its insertion.
    all: BTreeMap<(Box<[u8]>, Shown), i64>,
    /// Whether it changed in this step; with groups that close, whether it has a timer.
    pub(super) touched: bool,
    /// The number of the row that changed it last, of this step's.
    pub(super) turn: u64,
    held: usize,
}

impl Line {
    fn held(&self) -> usize {
        size_of::<Line>() + self.key.held() + self.row.len()
    }
}

impl Group {
    /// Whether a row that comes now stands behind all that can be shown.
    pub(super) fn is_beyond(&self, key: &[u8], reach: Option<usize>) -> bool {
        let Some(reach) = reach else { return false };
        self.best.len() >= reach
            && self.best.last().is_none_or(|last| last.key.cmp_bytes(key).is_le())
    }

    /// Adds a row that came after all others, and gives up the one that is beyond `reach` then.
    /// Such a row itself changes nothing.
    pub(super) fn insert(&mut self, line: Line, reach: Option<usize>) {
        // Among equals the later one stands behind.
        let place = self.best.partition_point(|other| other.key <= line.key);
        if reach.is_some_and(|reach| place >= reach) {
            return;
        }
        self.turn = line.number;
        self.held += line.held();
        self.best.insert(place, line);
        if reach.is_some_and(|reach| self.best.len() > reach) {
            let gone = self.best.pop().expect("a row was added just above");
            self.held -= gone.held();
        }
    }

    /// Adds a row `weight` times.
    pub(super) fn change(&mut self, key: &[u8], row: &[u8], weight: i64) {
        let name = (Box::from(key), Shown::from(row));
        let bytes = size_of::<(Box<[u8]>, Shown, i64)>() + key.len() + row.len();
        match self.all.entry(name) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(weight);
                self.held += bytes;
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                *entry.get_mut() += weight;
                if *entry.get() == 0 {
                    entry.remove();
                    self.held -= bytes;
                }
            }
        }
    }

    /// The rows from `skip` on, `fetch` of them.
    pub(super) fn shown(&self, skip: usize, fetch: Option<usize>) -> Vec<Shown> {
        let best = self.best.iter().map(|line| &line.row);
        let all = self.all.iter().flat_map(|((_, row), weight)| {
            std::iter::repeat_n(row, usize::try_from(*weight).unwrap_or(0))
        });
        let rows = best.chain(all).skip(skip);
        rows.take(fetch.unwrap_or(usize::MAX)).map(Arc::clone).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.best.is_empty() && self.all.is_empty()
    }

    /// Bytes beside the group itself.
    pub(super) fn held(&self) -> usize {
        self.held
    }
}

impl Stored for Shown {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.raw(self);
        Ok(())
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Shown::from(from.raw()?))
    }
}

impl Stored for Group {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.length(self.best.len());
        for line in &self.best {
            line.key.store(out)?;
            line.number.store(out)?;
            line.row.store(out)?;
        }
        self.all.store(out)?;
        self.touched.store(out)?;
        self.held.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let best = (0..from.length()?)
            .map(|_| Ok(Line { key: from.get()?, number: from.get()?, row: from.get()? }))
            .collect::<Result<_, EvalError>>()?;
        let (all, touched, held) = (from.get()?, from.get()?, from.get()?);
        Ok(Group { best, all, touched, turn: 0, held })
    }
}

/// What has to change where `before` was shown and `now` is: weight, number and row, retractions
/// first. Rows that are not numbered have the number 0.
pub(in crate::operators) fn differences(
    before: Vec<Shown>,
    now: Vec<Shown>,
    skip: usize,
    numbered: bool,
    entries: &mut Vec<(i64, u64, Shown)>,
) {
    let number = |place: usize| if numbered { (skip + place) as u64 + 1 } else { 0 };
    let (stays, stayed) = match numbered {
        true => {
            let same = |place: usize| match (before.get(place), now.get(place)) {
                // Most rows are where they were: their bytes need not be looked at.
                (Some(before), Some(now)) => Arc::ptr_eq(before, now) || before == now,
                _ => false,
            };
            ((0..before.len()).map(same).collect(), (0..now.len()).map(same).collect())
        }
        false => in_common(&before, &now),
    };
    let stays: Vec<bool> = stays;
    let stayed: Vec<bool> = stayed;
    for (place, row) in before.into_iter().enumerate().filter(|(place, _)| !stays[*place]) {
        entries.push((-1, number(place), row));
    }
    for (place, row) in now.into_iter().enumerate().filter(|(place, _)| !stayed[*place]) {
        entries.push((1, number(place), row));
    }
}

/// The weights of what [`differences`] found; none where nothing is taken back.
pub(in crate::operators) fn weights_of(entries: &[(i64, u64, Shown)]) -> Option<Int64Array> {
    let weights = || entries.iter().map(|(weight, _, _)| *weight);
    weights().any(|weight| weight != 1).then(|| Int64Array::from_iter_values(weights()))
}

/// Which rows of either list have an equal one of their own in the other.
fn in_common(before: &[Shown], now: &[Shown]) -> (Vec<bool>, Vec<bool>) {
    let (mut stays, mut stayed) = (vec![false; before.len()], vec![false; now.len()]);
    let sorted = |rows: &[Shown]| {
        let mut places: Vec<usize> = (0..rows.len()).collect();
        places.sort_by(|a, b| rows[*a].cmp(&rows[*b]));
        places
    };
    let (old, new) = (sorted(before), sorted(now));
    let (mut i, mut j) = (0, 0);
    while i < old.len() && j < new.len() {
        match before[old[i]].cmp(&now[new[j]]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                (stays[old[i]], stayed[new[j]]) = (true, true);
                (i, j) = (i + 1, j + 1);
            }
        }
    }
    (stays, stayed)
}
