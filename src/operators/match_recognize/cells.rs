//! Names the values that conditions and measures read of a match: one column of the frame each.
//!
//! A condition or measure is an expression over a *frame*, a batch whose columns are these cells: the
//! value of a column at a row that is found by its place among a variable's rows, an aggregate over
//! them, the variable of the last row, the number of the match. Conditions see the match as it is with
//! the row in question as its last one.

use arrow::datatypes::DataType;

use super::running::{Running, RunningFunction};

/// One column of the frame.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Cell {
    /// A column's value at one row.
    At(Place, usize),
    /// An aggregate over the rows of a variable.
    Aggregate(Aggregation),
    /// The name of the last row's variable.
    Classifier,
    /// The number of the match in its partition, from 1.
    MatchNumber,
}

/// A row, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// Among the rows of this variable; of all where there is none.
    pub of: Option<usize>,
    /// Counted from the first one, else from the last one.
    pub from_first: bool,
    /// Rows skipped from there.
    pub skip: usize,
    /// So many rows of the partition before that one.
    pub back: usize,
}

impl Place {
    /// Whether it is the row in question, or one so far before it, in a condition on a variable.
    pub fn is_current(&self, variable: usize) -> bool {
        !self.from_first && self.skip == 0 && self.of.is_none_or(|of| of == variable)
    }

    /// Whether a row that was mapped to the variable counts.
    fn counts(&self, variable: usize) -> bool {
        self.of.is_none_or(|of| of == variable)
    }
}

/// An aggregate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Aggregation {
    /// What is computed.
    pub function: RunningFunction,
    /// Of this column; of the rows themselves where there is none.
    pub column: Option<usize>,
    /// Over the rows of this variable; over all where there is none.
    pub of: Option<usize>,
    /// The result's type.
    pub data_type: DataType,
}

/// No row.
const NONE: u32 = u32::MAX;

/// What ways to match remember of their rows, for conditions that look back.
#[derive(Debug, Clone, Default)]
pub(super) struct Layout {
    /// Whose first or last rows, and how many of them: places that differ in `skip` and `back` share.
    tracks: Vec<(Place, usize)>,
    aggregations: Vec<Aggregation>,
}

/// The values of a [`Layout`] on one way to match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Memory {
    rows: Box<[u32]>,
    pub(super) aggregates: Box<[Running]>,
}

impl Layout {
    /// Remembers what some cells read.
    pub(super) fn of<'a>(cells: impl Iterator<Item = &'a Cell>) -> Layout {
        let mut layout = Layout::default();
        for cell in cells {
            match cell {
                Cell::At(place, _) => {
                    let rows = place.skip + 1;
                    match layout.tracks.iter_mut().find(|(track, _)| same_track(track, place)) {
                        Some((_, kept)) => *kept = rows.max(*kept),
                        None => layout.tracks.push((*place, rows)),
                    }
                }
                Cell::Aggregate(aggregation) if !layout.aggregations.contains(aggregation) => {
                    layout.aggregations.push(aggregation.clone());
                }
                Cell::Aggregate(_) | Cell::Classifier | Cell::MatchNumber => {}
            }
        }
        layout
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.tracks.is_empty() && self.aggregations.is_empty()
    }

    /// The aggregates that are kept.
    pub(super) fn aggregations(&self) -> &[Aggregation] {
        &self.aggregations
    }

    /// Bytes that a [`Memory`] holds beyond itself.
    pub(super) fn memory_bytes(&self) -> usize {
        let rows: usize = self.tracks.iter().map(|(_, rows)| rows).sum();
        rows * size_of::<u32>() + self.aggregations.len() * size_of::<Running>()
    }

    /// What is remembered before the first row.
    pub(super) fn nothing(&self) -> Memory {
        let rows = self.tracks.iter().map(|(_, rows)| rows).sum();
        Memory {
            rows: vec![NONE; rows].into(),
            aggregates: vec![Running::Empty; self.aggregations.len()].into(),
        }
    }

    /// Notes a row that is mapped to a variable. Aggregates are the caller's.
    pub(super) fn note(&self, memory: &mut Memory, variable: usize, row: u32) {
        let mut begin = 0;
        for (place, kept) in &self.tracks {
            let rows = &mut memory.rows[begin..begin + kept];
            begin += kept;
            if !place.counts(variable) {
                continue;
            }
            if place.from_first {
                if let Some(free) = rows.iter_mut().find(|row| **row == NONE) {
                    *free = row;
                }
            } else {
                rows.rotate_right(1);
                rows[0] = row;
            }
        }
    }

    /// The row at a place, before steps back.
    pub(super) fn row(&self, memory: &Memory, place: &Place) -> Option<u32> {
        let mut begin = 0;
        for (track, kept) in &self.tracks {
            if same_track(track, place) {
                return Some(memory.rows[begin + place.skip]).filter(|row| *row != NONE);
            }
            begin += kept;
        }
        None
    }
}

fn same_track(a: &Place, b: &Place) -> bool {
    (a.of, a.from_first) == (b.of, b.from_first)
}

/// The row at a place of a whole match, before steps back.
pub(super) fn row_of(found: &[(u32, usize)], place: &Place) -> Option<u32> {
    let mut rows =
        found.iter().filter(|(_, variable)| place.counts(*variable)).map(|(row, _)| *row);
    match place.from_first {
        true => rows.nth(place.skip),
        false => rows.rev().nth(place.skip),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The row at every kind of place, as remembered and as found in the whole.
    fn check(way: &[(u32, usize)]) {
        let places = [None, Some(0), Some(1)].into_iter().flat_map(|of| {
            [true, false].into_iter().flat_map(move |from_first| {
                (0..3).map(move |skip| Place { of, from_first, skip, back: 0 })
            })
        });
        let cells: Vec<Cell> = places.map(|place| Cell::At(place, 0)).collect();
        let layout = Layout::of(cells.iter());
        let mut memory = layout.nothing();
        way.iter().for_each(|&(row, variable)| layout.note(&mut memory, variable, row));
        for cell in &cells {
            let Cell::At(place, _) = cell else { unreachable!() };
            assert_eq!(layout.row(&memory, place), row_of(way, place), "{place:?} of {way:?}");
        }
    }

    #[test]
    fn what_is_remembered_is_what_a_look_at_the_whole_finds() {
        check(&[]);
        check(&[(0, 0)]);
        check(&[(0, 0), (1, 1), (2, 0), (4, 1), (5, 1), (6, 0), (7, 0), (9, 2)]);
    }
}
