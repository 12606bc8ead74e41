//! Joins two inputs and keeps the answer current under insertions and retractions on both.
//!
//! # Method
//!
//! The rows of both sides are kept ([`side`]), and one dictionary numbers the keys of both. A row
//! that comes is looked up in the other side's chain of its key, then put at the end of its own. Each
//! match is a pair whose weight is the product of both weights. Pairs are collected in blocks; the
//! rest of the condition is evaluated, and rows are gathered, for a whole block at once.
//!
//! Outer, semi and anti joins count for each row the weights of its matches. Where that number leaves
//! or comes back to zero, the row's form without a match is retracted or inserted.
//!
//! Where the condition bounds the distance of two event times ([`Within`]), a row leaves once the
//! watermark shows that nothing it could match will come. Rows of append-only inputs that have matched
//! nothing come out at that moment, and not before: so nothing is retracted. A row below its own
//! stream's watermark, less the allowed lateness, is dropped.
//!
//! # Order
//!
//! Output follows the rows that complete it, in the order of their arrival, and for one such row the
//! rows that it matches, in the order of theirs. Where both sides read one log, a frame's rows come
//! on both, one side after the other; they are held until the frame ends and taken row by row, as if
//! each had come alone. Where the marks of a side's rows do not tell when they came about, the whole query
//! is given its rows one by one. So no cut of the log into frames shows.
//!
//! # As of now
//!
//! A row of the left side may be joined with the right side as it is when the row comes. Then it is not
//! kept, and a change of the right side puts nothing out.
//!
//! # Cost
//!
//! A row costs a look-up and its matches, however many rows share its key.
//!
//! # State
//!
//! The rows of both sides, and a number per key; with a bound on time, those rows whose matches may
//! still come. Rows with a null key are not kept.
//!
//! # Invariants
//!
//! 1. A chain holds the slots of one key in ascending order; those of weight 0 are about to go.
//! 2. `matches` of a row is the sum of the weights of the other side's rows that match it.
//! 3. Nothing waits in the block, and nothing is held, between two frames.

use std::sync::Arc;

use arrow::datatypes::DataType;

use crate::data::change::{Change, Marks, Origin};
use crate::data::punctuation::Punctuation;
use crate::operators::keys::KeyDictionary;
use crate::operators::operator::{Emitter, EvalError, Operator, Output};
use crate::operators::state::{StateReader, StateWriter};
use crate::time::EventTime;

mod admission;
pub mod asof;
mod expiry;
mod identity;
mod matching;
mod output;
mod persist;
mod promises;
mod punctuation;
mod room;
mod side;
pub mod spec;

#[cfg(test)]
mod tests;

use matching::Block;
use output::Condition;
use promises::Promises;
use side::{NONE, Side, SideNeeds};
use spec::JoinSpec;

/// Runs a [`JoinSpec`].
pub struct Join {
    spec: Arc<JoinSpec>,
    keys: KeyDictionary,
    /// By key, the ends of both sides' chains.
    chains: Vec<Chains>,
    sides: [Side; 2],
    watermarks: [EventTime; 2],
    /// The watermark forwarded last: the lesser of both.
    forwarded: EventTime,
    /// The frame that came last; what a watermark completes names it as its cause.
    origin: Arc<Origin>,
    /// What came with the frame under way, where both sides read one log.
    held: Vec<(usize, Output)>,
    block: Block,
    condition: Option<Condition>,
    promises: Promises,
    defers: bool,
    append_only: bool,
    /// How far each side trails the log that both read, where the marks of their rows say in which order
    /// they came about.
    trails: Option<[i64; 2]>,
}

/// The first and the last slot of a key, per side.
#[derive(Debug, Clone, Copy)]
struct Chains {
    heads: [u32; 2],
    tails: [u32; 2],
}

impl Chains {
    const EMPTY: Chains = Chains { heads: [NONE; 2], tails: [NONE; 2] };
}

/// Rows that arrive together on one side.
struct Lot {
    port: usize,
    change: Change,
    /// The slot of the first row.
    first: u32,
}

impl Join {
    /// A join without rows.
    pub fn new(spec: Arc<JoinSpec>) -> Result<Join, EvalError> {
        let key_type = |&(left, _): &(usize, usize)| -> DataType {
            spec.inputs[0].field(left).data_type().clone()
        };
        let keys = KeyDictionary::of_types(spec.keys.iter().map(key_type))?;
        let granule = spec.within.as_ref().map(|within| within.granule);
        let side = |port: usize| {
            let needs = SideNeeds {
                retracts: !spec.append_only[port],
                counts_matches: spec.kind.counts_matches(port),
                granule,
            };
            Side::new(Arc::clone(&spec.inputs[port]), needs)
        };
        let condition = match &spec.filter {
            Some(filter) => Some(Condition::new(filter, &spec)?),
            None => None,
        };
        Ok(Join {
            keys,
            chains: Vec::new(),
            sides: [side(0)?, side(1)?],
            watermarks: [EventTime::MIN; 2],
            forwarded: EventTime::MIN,
            origin: Origin::nowhere(),
            held: Vec::new(),
            block: Block::default(),
            condition,
            promises: Promises::default(),
            defers: spec.defers(),
            append_only: spec.is_append_only(),
            trails: None,
            spec,
        })
    }

    /// The same, of two sides that read one log and trail its watermark by so much, where each row's mark
    /// says which watermark made it due: rows that operators below have made take their place by it.
    pub fn trailing(self, trails: [i64; 2]) -> Join {
        Join { trails: Some(trails), ..self }
    }

    /// Takes rows: of one side, or of one frame on both.
    fn take(&mut self, changes: Vec<(usize, Change)>, out: &mut Emitter) -> Result<(), EvalError> {
        let mut lots = Vec::with_capacity(changes.len());
        for (port, change) in changes {
            if let Some(lot) = self.admit(port, change, out)? {
                lots.push(lot);
            }
        }
        match lots.as_slice() {
            [] => return Ok(()),
            [lot] if self.is_plain() => self.take_plainly(lot, out)?,
            [lot] => {
                for row in 0..lot.change.batch.num_rows() {
                    self.pass(std::slice::from_ref(lot), 0, row, out)?;
                }
            }
            several => {
                // Row by row, the first side first: as if each row of the frame had come alone.
                let mut order = Vec::new();
                for (index, lot) in several.iter().enumerate() {
                    let rows = 0..lot.change.batch.num_rows();
                    let trail = self.trails.map_or(0, |trails| trails[lot.port]);
                    let place = |row: usize| lot.change.turn(row, trail);
                    order.extend(rows.map(|row| (place(row), lot.port, index, row)));
                }
                order.sort_unstable();
                for (_, _, index, row) in order {
                    self.pass(several, index, row, out)?;
                }
            }
        }
        self.flush(&lots, out)?;
        self.origin = Arc::clone(&lots[0].change.origin);
        drop(lots);
        self.end_batch()
    }

    /// Takes a watermark of one side: lets rows go that can match nothing any more.
    fn advance(
        &mut self,
        port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if watermark <= self.watermarks[port] {
            return Ok(());
        }
        let before = self.combined();
        self.watermarks[port] = watermark;
        if self.combined() > before { self.expire(out) } else { Ok(()) }
    }

    /// How far both sides have come.
    fn combined(&self) -> EventTime {
        match self.spec.as_of_now {
            true => self.watermarks[0],
            false => self.watermarks[0].min(self.watermarks[1]),
        }
    }

    /// Lets go what is due; rows that matched nothing come out now.
    fn expire(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        let spec = Arc::clone(&self.spec);
        let Some(within) = &spec.within else { return Ok(()) };
        let watermark = self.combined();
        for port in 0..2 {
            let Some(bound) = within.bound(port, watermark) else { continue };
            let shows = self.defers && spec.kind.shows_unmatched(port);
            let side = &mut self.sides[port];
            let (mut unmatched, mut marks) = (Vec::new(), Vec::new());
            // From a row's time to the last watermark that does not let it go.
            let reach = watermark.0.saturating_sub(bound);
            let due = side.expiry.as_mut().map(|expiry| expiry.take_below(bound, shows));
            for (time, slot) in due.into_iter().flatten() {
                let at = slot as usize;
                if side.weight[at] == 0 {
                    continue;
                }
                if shows && side.matches[at] == 0 {
                    let copies = usize::try_from(side.weight[at]).unwrap_or(0);
                    unmatched.extend(std::iter::repeat_n(slot, copies));
                    marks.resize(unmatched.len(), time.saturating_add(reach));
                }
                side.release(slot);
                if let Some(identity) = &mut side.identity {
                    identity.forget(slot);
                }
            }
            if !unmatched.is_empty() {
                let batch = self.without_match(port, &unmatched)?;
                out.change(Change::due(batch, None, &self.origin, Marks::Rows(marks.into())));
            }
        }
        Ok(())
    }

    /// Forwards the watermark of both sides.
    fn forward(&mut self, out: &mut Emitter) {
        let watermark = self.combined();
        if watermark > self.forwarded {
            self.forwarded = watermark;
            out.watermark(watermark);
        }
    }

    /// Takes what came with a frame on both sides.
    fn release_held(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        if self.held.is_empty() {
            return Ok(());
        }
        let (mut changes, mut others) = (Vec::new(), Vec::new());
        for (port, output) in std::mem::take(&mut self.held) {
            match output {
                Output::Change(change) => changes.push((port, change)),
                other => others.push((port, other)),
            }
        }
        self.take(changes, out)?;
        for (port, other) in others {
            match other {
                Output::Watermark(watermark) => self.take_watermark(port, watermark, out)?,
                Output::Punctuation(punctuation) => {
                    self.take_punctuation(port, &punctuation, out)?;
                }
                Output::Change(_) => unreachable!("changes were taken out"),
            }
        }
        Ok(())
    }

    fn take_watermark(
        &mut self,
        port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        self.advance(port, watermark, out)?;
        self.forward(out);
        self.pack()
    }
}

impl Operator for Join {
    fn name(&self) -> &'static str {
        "Join"
    }

    fn on_change(
        &mut self,
        port: usize,
        change: Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if self.spec.shares_input {
            self.held.push((port, Output::Change(change)));
            return Ok(());
        }
        self.take(vec![(port, change)], out)
    }

    fn on_watermark(
        &mut self,
        port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if self.spec.shares_input {
            self.held.push((port, Output::Watermark(watermark)));
            return Ok(());
        }
        self.take_watermark(port, watermark, out)
    }

    fn on_punctuation(
        &mut self,
        port: usize,
        punctuation: &Punctuation,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if self.spec.shares_input {
            self.held.push((port, Output::Punctuation(Arc::new(punctuation.clone()))));
            return Ok(());
        }
        self.take_punctuation(port, punctuation, out)
    }

    fn interleaves(&self) -> bool {
        self.spec.shares_input && self.trails.is_none()
    }

    fn on_frame_end(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        self.release_held(out)
    }

    fn on_step_end(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        self.release_held(out)
    }

    fn state_bytes(&self) -> usize {
        self.keys.size()
            + self.chains.capacity() * size_of::<Chains>()
            + self.sides.iter().map(Side::state_bytes).sum::<usize>()
            + self.block.state_bytes()
            + self.promises.state_bytes()
    }

    fn held(&self) -> usize {
        self.sides.iter().map(Side::held_rows).sum()
    }

    fn restores_exactly(&self) -> bool {
        true
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.save_rows(out)
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.restore_rows(from)
    }
}
