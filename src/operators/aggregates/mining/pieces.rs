//! Holds a group's rows as summaries of pieces of the time line, merged when answers are asked for.
//!
//! A window that slides or grows is the merge of slices, so a row is counted once however many windows
//! hold it. The pieces are the slices of the window itself, cut by the row's time: whether each
//! slice is kept apart by its operator, or a window is filled as a whole, or a one-off SELECT sees
//! all rows at once, the same pieces come together in the same order. Where windows do not overlap
//! there is one piece. (Rows that are too late for some windows of their slice are kept apart by the operator, in
//! log order, too: there two pieces with the same start are merged.)

use std::borrow::Cow;
use std::ops::{Index, IndexMut};

use arrow::array::ArrayRef;

use super::items::naturals;
use crate::operators::operator::EvalError;
use crate::sketches::bytes;
use crate::sketches::heavy_hitters::{Question, Summary};
use crate::sketches::items::Items;
use crate::sketches::itemsets::{ItemsetOptions, Itemsets};
use crate::windows::assign::Windows;
use crate::windows::spec::TimeWindow;

/// A summary that can be merged with those of other pieces.
pub(super) trait Piece: Clone {
    /// What is asked of it.
    type Asked;
    /// Without rows, for the piece that starts at `start`.
    fn empty(asked: &Self::Asked, start: i64) -> Self;
    /// Adds the rows of a later piece. False where the two are of different kinds.
    #[must_use]
    fn merge(&mut self, other: &Self) -> bool;
    /// Writes it.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads what was written, all of it.
    fn read(asked: &Self::Asked, start: i64, from: &[u8]) -> Option<Self>;
    /// Bytes held.
    fn size(&self) -> usize;
}

impl<I: Items> Piece for Summary<I> {
    type Asked = Question;

    fn empty(question: &Question, start: i64) -> Summary<I> {
        Summary::new(question, start)
    }

    fn merge(&mut self, other: &Summary<I>) -> bool {
        Summary::merge(self, other)
    }

    fn write(&self, out: &mut Vec<u8>) {
        Summary::write(self, out);
    }

    fn read(question: &Question, start: i64, mut from: &[u8]) -> Option<Summary<I>> {
        Summary::read(question, start, &mut from).filter(|_| from.is_empty())
    }

    fn size(&self) -> usize {
        Summary::size(self)
    }
}

impl Piece for Itemsets {
    type Asked = ItemsetOptions;

    fn empty(options: &ItemsetOptions, _: i64) -> Itemsets {
        Itemsets::new(*options)
    }

    fn merge(&mut self, other: &Itemsets) -> bool {
        Itemsets::merge(self, other);
        true
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.to_bytes());
    }

    fn read(options: &ItemsetOptions, _: i64, from: &[u8]) -> Option<Itemsets> {
        Itemsets::from_bytes(*options, from)
    }

    fn size(&self) -> usize {
        Itemsets::size(self)
    }
}

/// The summaries of one group, in the order of time.
#[derive(Debug)]
pub(super) struct Pieces<S> {
    pieces: Vec<(i64, S)>,
}

impl<S> Default for Pieces<S> {
    fn default() -> Pieces<S> {
        Pieces { pieces: Vec::new() }
    }
}

impl<S: Piece> Pieces<S> {
    /// Whether there are no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The summary of the piece that starts at `start`.
    #[inline]
    pub(super) fn at(&mut self, start: i64, asked: &S::Asked) -> &mut S {
        let place = match self.pieces.last() {
            Some((last, _)) if *last == start => self.pieces.len() - 1,
            _ => self.place(start, asked),
        };
        &mut self.pieces[place].1
    }

    fn place(&mut self, start: i64, asked: &S::Asked) -> usize {
        match self.pieces.binary_search_by_key(&start, |piece| piece.0) {
            Ok(place) => place,
            Err(place) => {
                if self.pieces.is_empty() {
                    // Mostly there is no other.
                    self.pieces.reserve_exact(1);
                }
                self.pieces.insert(place, (start, S::empty(asked, start)));
                place
            }
        }
    }

    /// The summary of all rows.
    pub(super) fn merged(&self) -> Option<Cow<'_, S>> {
        let ((_, first), rest) = self.pieces.split_first()?;
        if rest.is_empty() {
            return Some(Cow::Borrowed(first));
        }
        let mut merged = first.clone();
        for (_, piece) in rest {
            let merges = merged.merge(piece);
            assert!(merges, "the pieces of a group are of one kind");
        }
        Some(Cow::Owned(merged))
    }

    /// Writes all pieces; nothing where there are none.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut written = Vec::new();
        for (start, piece) in &self.pieces {
            out.extend_from_slice(&start.to_le_bytes());
            written.clear();
            piece.write(&mut written);
            bytes::put_bytes(out, &written);
        }
    }

    /// Adds the pieces that [`write`](Self::write) wrote. `None` where they are of another kind.
    pub(super) fn merge(&mut self, mut from: &[u8], asked: &S::Asked) -> Option<()> {
        while !from.is_empty() {
            let (start, rest) = from.split_at_checked(8)?;
            from = rest;
            let start = i64::from_le_bytes(start.try_into().ok()?);
            let piece = S::read(asked, start, bytes::take_bytes(&mut from)?)?;
            if !self.at(start, asked).merge(&piece) {
                return None;
            }
        }
        Some(())
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let spare = self.pieces.capacity() - self.pieces.len();
        let held = self.pieces.iter().map(|(_, piece)| 8 + piece.size());
        size_of::<Self>() + held.sum::<usize>() + spare * size_of::<(i64, S)>()
    }
}

/// The summaries of all groups, by number.
#[derive(Debug)]
pub(super) struct Groups<S> {
    groups: Vec<Pieces<S>>,
}

impl<S> Default for Groups<S> {
    fn default() -> Groups<S> {
        Groups { groups: Vec::new() }
    }
}

impl<S> Index<usize> for Groups<S> {
    type Output = Pieces<S>;

    #[inline]
    fn index(&self, group: usize) -> &Pieces<S> {
        &self.groups[group]
    }
}

impl<S> IndexMut<usize> for Groups<S> {
    #[inline]
    fn index_mut(&mut self, group: usize) -> &mut Pieces<S> {
        &mut self.groups[group]
    }
}

impl<S: Piece> Groups<S> {
    /// Makes room for `count` groups; new ones are empty.
    pub(super) fn resize(&mut self, count: usize) {
        self.groups.resize_with(count, Pieces::default);
    }

    /// Forgets the rows of a group.
    pub(super) fn clear(&mut self, group: usize) {
        self.groups[group] = Pieces::default();
    }

    /// Renumbers: group `kept[i]` becomes `i`, all others go.
    pub(super) fn keep(&mut self, kept: &[usize]) {
        self.groups = kept.iter().map(|&group| std::mem::take(&mut self.groups[group])).collect();
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let spare = self.groups.capacity() - self.groups.len();
        let held: usize = self.groups.iter().map(Pieces::size).sum();
        held + spare * size_of::<Pieces<S>>()
    }
}

/// Cuts rows into the slices of windows that share rows.
#[derive(Debug)]
pub(super) struct Slicer {
    windows: Windows,
}

impl Slicer {
    /// Cuts as the windows do.
    pub(super) fn new(windows: &TimeWindow) -> Slicer {
        Slicer { windows: Windows::new(windows) }
    }

    /// For each row where its slice starts.
    pub(super) fn starts(&self, times: &ArrayRef) -> Result<Vec<i64>, EvalError> {
        let mut starts = Vec::new();
        self.windows.slice_starts(naturals(times)?.values(), &mut starts);
        Ok(starts)
    }
}
