//! Holds a group's rows as summaries of pieces of the time line, merged when answers are asked for.
//!
//! A window that slides or grows is the merge of slices, so a row is counted once however many windows
//! hold it. The pieces are the slices of the window itself, cut by the row's time: whether each
//! slice is kept apart by its operator, or a window is filled as a whole, or a one-off SELECT sees
//! all rows at once, the same pieces come together in the same order. Where windows do not overlap
//! there is one piece.

use std::borrow::Cow;

use crate::sketches::bytes;
use crate::sketches::heavy_hitters::{Question, Summary};
use crate::sketches::items::Items;

/// The summaries of one group, in the order of time.
#[derive(Debug)]
pub(super) struct Pieces<I> {
    pieces: Vec<(i64, Summary<I>)>,
}

impl<I> Default for Pieces<I> {
    fn default() -> Pieces<I> {
        Pieces { pieces: Vec::new() }
    }
}

impl<I: Items> Pieces<I> {
    /// Whether there are no rows.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The summary of the piece that starts at `start`.
    #[inline]
    pub(super) fn at(&mut self, start: i64, question: &Question) -> &mut Summary<I> {
        let place = match self.pieces.last() {
            Some((last, _)) if *last == start => self.pieces.len() - 1,
            _ => self.place(start, question),
        };
        &mut self.pieces[place].1
    }

    fn place(&mut self, start: i64, question: &Question) -> usize {
        match self.pieces.binary_search_by_key(&start, |piece| piece.0) {
            Ok(place) => place,
            Err(place) => {
                if self.pieces.is_empty() {
                    // Mostly there is no other.
                    self.pieces.reserve_exact(1);
                }
                self.pieces.insert(place, (start, Summary::new(question)));
                place
            }
        }
    }

    /// The summary of all rows.
    pub(super) fn merged(&self) -> Option<Cow<'_, Summary<I>>> {
        let ((_, first), rest) = self.pieces.split_first()?;
        if rest.is_empty() {
            return Some(Cow::Borrowed(first));
        }
        let mut merged = first.clone();
        for (_, piece) in rest {
            let merges = merged.merge(piece);
            assert!(merges, "only summaries that merge are cut into pieces");
        }
        Some(Cow::Owned(merged))
    }

    /// Writes all pieces; nothing where there are none.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for (start, piece) in &self.pieces {
            out.extend_from_slice(&start.to_le_bytes());
            let mut written = Vec::new();
            piece.write(&mut written);
            bytes::put_bytes(out, &written);
        }
    }

    /// Adds the pieces that [`write`](Self::write) wrote. `None` where they are of another kind.
    pub(super) fn merge(&mut self, mut from: &[u8], question: &Question) -> Option<()> {
        while !from.is_empty() {
            let (start, rest) = from.split_at_checked(8)?;
            from = rest;
            let start = i64::from_le_bytes(start.try_into().ok()?);
            let mut written = bytes::take_bytes(&mut from)?;
            let piece = Summary::read(question, &mut written).filter(|_| written.is_empty())?;
            if !self.at(start, question).merge(&piece) {
                return None;
            }
        }
        Some(())
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        let spare = self.pieces.capacity() - self.pieces.len();
        let held = self.pieces.iter().map(|(_, piece)| 8 + piece.size());
        size_of::<Self>() + held.sum::<usize>() + spare * size_of::<(i64, Summary<I>)>()
    }
}
