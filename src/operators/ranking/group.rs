//! Holds the rows of one group in their order.

use std::collections::BTreeMap;

use arrow::array::Int64Array;

use super::order_key::OrderKey;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// So many pairs of rows are compared sooner than their lists are sorted.
const FEW_PAIRS: usize = 64;

/// Bytes of an entry of [`Group::all`], beside its key and row.
const ALL_ENTRY: usize = size_of::<(KeyAndRow, i64)>();

/// Where a row stands, and its bytes.
type KeyAndRow = (Box<[u8]>, Box<[u8]>);

/// Snapshots of earlier programs have numbers in these places that are not needed.
const UNUSED: u64 = 0;

/// What has to change: weight, number and row.
pub(in crate::operators) type Difference<Row> = (i64, u64, Row);

/// Where a row of the best stands in their order, and how long it is. No other one equals it: among
/// equals the earlier one in the log comes first.
#[derive(Debug)]
struct Line {
    key: OrderKey,
    length: u32,
}

/// The rows. One of the two is in use, as the input is append-only or not.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The best so far, in order.
    best: Vec<Line>,
    /// Their bytes, one behind the other: what is looked at together lies together.
    best_rows: Vec<u8>,
    /// All rows with their weights, which are negative while a retraction came before its insertion.
    all: BTreeMap<KeyAndRow, i64>,
    /// The step that touched it last.
    pub(super) step: u64,
    /// Whether it has a timer.
    pub(super) timed: bool,
    /// The number of the row that changed it last, of this step's.
    pub(super) turn: u64,
    held: usize,
}

impl Line {
    fn held(&self) -> usize {
        size_of::<Line>() + self.key.held() + self.length as usize
    }
}

impl Group {
    /// Whether a row that comes now stands behind all that can be shown.
    pub(super) fn is_beyond(&self, key: &[u8], reach: Option<usize>) -> bool {
        let Some(reach) = reach else { return false };
        self.best.len() >= reach
            && self.best.last().is_none_or(|last| last.key.cmp_bytes(key).is_le())
    }

    /// Adds the row of a number that came after all others, and gives up the one that is beyond `reach`
    /// then. Such a row itself changes nothing.
    ///
    /// # Errors
    /// A row of more than 4 GB.
    pub(super) fn insert(
        &mut self,
        (key, row): (&[u8], &[u8]),
        number: u64,
        reach: Option<usize>,
    ) -> Result<(), EvalError> {
        // Among equals the later one stands behind.
        let place = self.best.partition_point(|other| other.key.cmp_bytes(key).is_le());
        if reach.is_some_and(|reach| place >= reach) {
            return Ok(());
        }
        self.turn = number;
        if reach.is_some_and(|reach| self.best.len() >= reach)
            && let Some(gone) = self.best.pop()
        {
            self.held -= gone.held();
            self.best_rows.truncate(self.best_rows.len() - gone.length as usize);
        }
        self.place(place, key.into(), row)
    }

    fn place(&mut self, place: usize, key: OrderKey, row: &[u8]) -> Result<(), EvalError> {
        let length = u32::try_from(row.len())
            .map_err(|_| EvalError::Broken("a row has more than 4 GB".to_owned()))?;
        let line = Line { key, length };
        self.held += line.held();
        let behind: usize = self.best[place..].iter().map(|line| line.length as usize).sum();
        let (end, at) = (self.best_rows.len(), self.best_rows.len() - behind);
        self.best_rows.extend_from_slice(row);
        if behind > 0 {
            self.best_rows.copy_within(at..end, at + row.len());
            self.best_rows[at..at + row.len()].copy_from_slice(row);
        }
        self.best.insert(place, line);
        Ok(())
    }

    /// Adds a row `weight` times.
    pub(super) fn change(&mut self, (key, row): (&[u8], &[u8]), number: u64, weight: i64) {
        self.turn = number;
        let name = (Box::from(key), Box::from(row));
        let bytes = ALL_ENTRY + key.len() + row.len();
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
    pub(super) fn shown(&self, skip: usize, fetch: Option<usize>) -> impl Iterator<Item = &[u8]> {
        let all = self.all.iter().flat_map(|((_, row), weight)| {
            std::iter::repeat_n(&**row, usize::try_from(*weight).unwrap_or(0))
        });
        self.best_rows().chain(all).skip(skip).take(fetch.unwrap_or(usize::MAX))
    }

    fn best_rows(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.best_rows[..];
        self.best.iter().map(move |line| {
            let (row, behind) = rest.split_at(line.length as usize);
            rest = behind;
            row
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.best.is_empty() && self.all.is_empty()
    }

    /// Bytes beside the group itself.
    pub(super) fn held(&self) -> usize {
        self.held
    }
}

impl Stored for Group {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.length(self.best.len());
        for (line, row) in self.best.iter().zip(self.best_rows()) {
            line.key.store(out)?;
            UNUSED.store(out)?;
            out.raw(row);
        }
        self.all.store(out)?;
        self.timed.store(out)?;
        UNUSED.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let mut group = Group::default();
        for place in 0..from.length()? {
            let (key, _): (_, u64) = (from.get()?, from.get()?);
            group.place(place, key, from.raw()?)?;
        }
        group.all = from.get()?;
        let names = group.all.keys().map(|(key, row)| key.len() + row.len());
        group.held += names.map(|bytes| ALL_ENTRY + bytes).sum::<usize>();
        group.timed = from.get()?;
        from.get::<u64>()?;
        Ok(group)
    }
}

/// What has to change where `before` was shown and `now` is, retractions first. Rows that are not
/// numbered have the number 0.
pub(in crate::operators) fn differences<Row: Clone + Ord>(
    before: &[Row],
    now: &[Row],
    skip: usize,
    numbered: bool,
    entries: &mut Vec<Difference<Row>>,
) {
    let first = before.iter().zip(now).take_while(|(before, now)| before == now).count();
    let (before, now) = (&before[first..], &now[first..]);
    if numbered {
        let mut note = |weight: i64, rows: &[Row], others: &[Row]| {
            for (place, row) in rows.iter().enumerate() {
                if others.get(place) != Some(row) {
                    entries.push((weight, (skip + first + place) as u64 + 1, row.clone()));
                }
            }
        };
        note(-1, before, now);
        note(1, now, before);
        return;
    }
    let (stays, stayed) = in_common(before, now);
    let mut note = |weight: i64, rows: &[Row], in_both: &[bool]| {
        let changed = rows.iter().zip(in_both).filter(|(_, in_both)| !**in_both);
        entries.extend(changed.map(|(row, _)| (weight, 0, row.clone())));
    };
    note(-1, before, &stays);
    note(1, now, &stayed);
}

/// The weights of what [`differences`] found; none where nothing is taken back.
pub(in crate::operators) fn weights_of<Row>(entries: &[Difference<Row>]) -> Option<Int64Array> {
    let weights = || entries.iter().map(|(weight, _, _)| *weight);
    weights().any(|weight| weight != 1).then(|| Int64Array::from_iter_values(weights()))
}

/// Which rows of either list have an equal one of their own in the other. Of equal ones the first of the
/// one list goes with the first of the other.
fn in_common<Row: Ord>(before: &[Row], now: &[Row]) -> (Vec<bool>, Vec<bool>) {
    let (mut stays, mut stayed) = (vec![false; before.len()], vec![false; now.len()]);
    if before.len() * now.len() <= FEW_PAIRS {
        for (row, stayed) in now.iter().zip(&mut stayed) {
            let mut free = before.iter().zip(&mut stays).filter(|(_, stays)| !**stays);
            if let Some((_, stays)) = free.find(|(other, _)| *other == row) {
                (*stays, *stayed) = (true, true);
            }
        }
        return (stays, stayed);
    }
    let sorted = |rows: &[Row]| {
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
