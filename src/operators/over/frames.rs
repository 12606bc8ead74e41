//! Moves rows into the frames of their partitions and out of them again.
//!
//! The rows of a partition have ascending positions: their event time where the frame is a RANGE,
//! their number where it is ROWS. So both are the same thing: of a row at `p` the frame holds the
//! positions from `p - start` to `p - end`. Rows of a RANGE that share a position are peers and see
//! each other.

use std::collections::VecDeque;

use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// Which rows around a row its answer is computed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Whether the positions are numbers of rows, else event times.
    pub by_rows: bool,
    /// How far it reaches back; `None`: to the first row of the partition. Negative: it begins behind
    /// the row.
    pub start: Option<i64>,
    /// How far before the row it ends; 0: with the row and its peers. Negative: so far behind the row
    /// (event times only).
    pub end: i64,
}

impl Frame {
    /// How far it reaches beyond the row.
    pub(super) fn ahead(&self) -> i64 {
        self.end.saturating_neg().max(0)
    }
}

/// Rows of one release, in the order of answers.
pub(super) struct Ordered<'a> {
    /// Per row the slot of its partition.
    pub slots: &'a [usize],
    /// Per row its event time, or its place in the log.
    pub times: &'a [i64],
    /// Per row its number in its partition.
    pub numbers: &'a [i64],
}

impl Ordered<'_> {
    /// Ends of the runs of rows with equal times, ascending; runs of one where `alone`.
    pub(super) fn run_end(&self, first: usize, alone: bool) -> usize {
        if alone {
            return first + 1;
        }
        let time = self.times[first];
        let same = self.times[first..].iter().take_while(|&&other| other == time).count();
        first + same
    }
}

/// What an aggregate keeps of the rows in a frame.
pub(super) trait Gather: Default + Stored + Send {
    /// A row's value.
    type Value: Stored + Send;
    /// What can be read.
    type Answer;
    /// Takes a row; if the frame is `bounded` it will be told when the row leaves.
    fn enter(&mut self, position: i64, value: Self::Value, bounded: bool);
    /// Gives up the rows below a position.
    fn leave(&mut self, below: i64);
    /// The answer for the rows in the frame.
    fn read(&self) -> Self::Answer;
    /// Bytes held beside the value itself.
    fn held(&self) -> usize;
}

/// One partition's frame.
#[derive(Default)]
pub(super) struct Place<G: Gather> {
    /// Rows that the frame will hold only later, because it ends before the current row.
    waiting: VecDeque<(i64, G::Value)>,
    gather: G,
}

/// The frames of all partitions.
pub(super) struct Places<G: Gather> {
    pub(super) frame: Frame,
    places: Vec<Place<G>>,
    held: usize,
}

impl<G: Gather> Places<G> {
    pub(super) fn new(frame: Frame) -> Places<G> {
        Places { frame, places: Vec::new(), held: 0 }
    }

    /// Makes room for `slots` partitions.
    pub(super) fn resize(&mut self, slots: usize) {
        if self.places.len() < slots {
            self.places
                .resize_with(slots, || Place { waiting: VecDeque::new(), gather: G::default() });
        }
    }

    /// Shows rows to frames that reach ahead, before any of them is answered.
    pub(super) fn enter(
        &mut self,
        rows: &Ordered<'_>,
        mut value: impl FnMut(usize) -> Option<G::Value>,
    ) {
        let frame = self.frame;
        for (row, &position) in rows.times.iter().enumerate() {
            let Some(value) = value(row) else { continue };
            let place = &mut self.places[rows.slots[row]];
            let before = place.held();
            place.take(position, value, &frame);
            self.held = self.held + place.held() - before;
        }
    }

    /// Computes an answer per row; a row of which `value` gives nothing enters no frame. Where frames
    /// reach ahead, the rows have entered before.
    pub(super) fn answer(
        &mut self,
        rows: &Ordered<'_>,
        mut value: impl FnMut(usize) -> Option<G::Value>,
        mut answer: impl FnMut(usize, G::Answer),
    ) {
        let frame = self.frame;
        let positions = if frame.by_rows { rows.numbers } else { rows.times };
        let mut first = 0;
        while first < positions.len() {
            let end = rows.run_end(first, frame.by_rows);
            let run = || (first..).zip(&positions[first..end]);
            for (row, &position) in run().filter(|_| frame.ahead() == 0) {
                let Some(value) = value(row) else { continue };
                let place = &mut self.places[rows.slots[row]];
                let before = place.held();
                place.take(position, value, &frame);
                self.held = self.held + place.held() - before;
            }
            for (row, &position) in run() {
                let place = &mut self.places[rows.slots[row]];
                let before = place.held();
                place.advance(position, &frame);
                answer(row, place.gather.read());
                self.held = self.held + place.held() - before;
            }
            first = end;
        }
    }

    /// Forgets a partition.
    pub(super) fn forget(&mut self, slot: usize) {
        if let Some(place) = self.places.get_mut(slot) {
            self.held -= place.held();
            *place = Place { waiting: VecDeque::new(), gather: G::default() };
        }
    }

    /// Forgets all partitions, and the room for them.
    pub(super) fn clear(&mut self) {
        *self = Places::new(self.frame);
    }

    pub(super) fn bytes(&self) -> usize {
        self.held + self.places.capacity() * size_of::<Place<G>>()
    }

    pub(super) fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.length(self.places.len());
        self.places.iter().try_for_each(|place| {
            out.put(&place.waiting)?;
            out.put(&place.gather)
        })
    }

    pub(super) fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        for _ in 0..from.length()? {
            let place = Place { waiting: from.get()?, gather: from.get()? };
            self.held += place.held();
            self.places.push(place);
        }
        Ok(())
    }
}

impl<G: Gather> Place<G> {
    /// Takes a row. Those that its frame does not hold any more leave before it enters: so a partition that comes
    /// back after a gap is as one that was forgotten in the gap, which depends on where watermarks stood.
    fn take(&mut self, position: i64, value: G::Value, frame: &Frame) {
        if frame.end != 0 {
            return self.waiting.push_back((position, value));
        }
        if let Some(start) = frame.start {
            self.gather.leave(position.saturating_sub(start));
        }
        self.gather.enter(position, value, frame.start.is_some());
    }

    /// Comes to the frame of a row at `position`.
    fn advance(&mut self, position: i64, frame: &Frame) {
        let start = frame.start.map(|start| position.saturating_sub(start));
        let end = position.saturating_sub(frame.end);
        if let Some(start) = start {
            self.gather.leave(start);
        }
        while self.waiting.front().is_some_and(|(at, _)| *at <= end) {
            let (at, value) = self.waiting.pop_front().expect("it was looked at just above");
            if start.is_none_or(|start| at >= start) {
                self.gather.enter(at, value, start.is_some());
            }
        }
    }

    fn held(&self) -> usize {
        self.gather.held() + self.waiting.len() * size_of::<(i64, G::Value)>()
    }
}
