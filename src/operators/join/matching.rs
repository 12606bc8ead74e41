//! Looks rows up in the other side's chains, and works out what each match changes.
//!
//! Matches are collected in a block first, because the rest of the condition is evaluated for many
//! pairs at once. Weights are those of the moment at which a pair was found; matches are counted when
//! the block is settled, in the same order. So both are what they would be row by row.

use super::output::Outputs;
use super::side::{NONE, Side};
use super::spec::JoinKind;
use super::{Chains, Join, Lot};
use crate::data::change::ahead;
use crate::operators::operator::{Emitter, EvalError};
use crate::time::EventTime;

/// Pairs at which a block is settled.
const BLOCK_PAIRS: usize = 32_768;

/// Pairs that were found and not yet put out.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Which of the lots under way the arriving row belongs to.
    pub lot: Vec<u32>,
    /// The slot of the arriving row.
    pub arriving: Vec<u32>,
    /// The slot of the row that it meets; `NONE` behind the last one, where matches are counted.
    pub stored: Vec<u32>,
    /// The arriving row's weight.
    pub weight: Vec<i64>,
    /// The other row's weight.
    pub stored_weight: Vec<i64>,
    /// Matches of the arriving row in blocks before this one.
    carried: i64,
}

impl Block {
    fn push(&mut self, row: Arriving, stored: u32, stored_weight: i64) {
        self.lot.push(row.lot);
        self.arriving.push(row.slot);
        self.weight.push(row.weight);
        self.stored.push(stored);
        self.stored_weight.push(stored_weight);
    }

    pub(super) fn len(&self) -> usize {
        self.arriving.len()
    }

    pub(super) fn clear(&mut self) {
        self.lot.clear();
        self.arriving.clear();
        self.weight.clear();
        self.stored.clear();
        self.stored_weight.clear();
    }

    pub(super) fn state_bytes(&self) -> usize {
        self.arriving.capacity() * (4 + 4 + 4 + 8 + 8)
    }
}

/// A row that arrives: which lot it belongs to, its side, its slot there, its weight.
#[derive(Debug, Clone, Copy)]
struct Arriving {
    lot: u32,
    port: usize,
    slot: u32,
    weight: i64,
}

impl Arriving {
    fn cause(self) -> (u32, u32) {
        (self.lot, self.slot)
    }
}

/// Where a walk along a chain has come to.
struct Walk {
    before: u32,
    at: u32,
}

/// Puts a row at the end of its key's chain.
#[inline]
pub(super) fn link(chains: &mut [Chains], side: &mut Side, port: usize, slot: u32) {
    let key = side.key[slot as usize];
    if key == NONE {
        return;
    }
    let chain = &mut chains[key as usize];
    match chain.tails[port] {
        NONE => chain.heads[port] = slot,
        tail => side.next[tail as usize] = slot,
    }
    chain.tails[port] = slot;
}

impl Join {
    /// Whether a match is a pair and nothing else: no counts, no weights, no times, no condition.
    pub(super) fn is_plain(&self) -> bool {
        self.spec.kind == JoinKind::Inner
            && self.spec.append_only == [true; 2]
            && !self.spec.as_of_now
            && self.condition.is_none()
            && self.promises.is_empty()
            && self.spec.within.as_ref().is_none_or(|within| {
                self.spec.keys.contains(&within.times.into()) && within.holds(0, 0)
            })
    }

    /// Matches all rows of a lot, where that is plain: row by row without what is not needed then.
    /// Times that must be equal are keys, and need not be looked at again.
    pub(super) fn take_plainly(&mut self, lot: &Lot, out: &mut Emitter) -> Result<(), EvalError> {
        let (port, rows) = (lot.port, lot.change.batch.num_rows() as u32);
        let mut outputs = Outputs::default();
        for slot in lot.first..lot.first + rows {
            let [left, right] = &mut self.sides;
            let (own, other) = if port == 0 { (left, right) } else { (right, left) };
            let key = own.key[slot as usize];
            if key == NONE {
                continue;
            }
            let mut at = self.chains[key as usize].heads[1 - port];
            while at != NONE {
                if other.weight[at as usize] != 0 {
                    outputs.push_plain(port, slot, at);
                }
                at = other.next[at as usize];
            }
            own.hold(slot, 1);
            link(&mut self.chains, own, port, slot);
            if outputs.len() >= BLOCK_PAIRS {
                let full = std::mem::take(&mut outputs);
                self.put_out(full, std::slice::from_ref(lot), out)?;
            }
        }
        self.put_out(outputs, std::slice::from_ref(lot), out)
    }

    /// Matches one row with the other side and then holds it on its own.
    pub(super) fn pass(
        &mut self,
        lots: &[Lot],
        lot: usize,
        row: usize,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let Lot { port, change, first } = &lots[lot];
        let (port, slot, weight) = (*port, first + row as u32, change.weight(row));
        let arriving = Arriving { lot: lot as u32, port, slot, weight };
        if self.defers {
            self.keep_pace(lots, lot, row, out)?;
        }
        let key = self.sides[port].key[slot as usize];
        let meets = !(self.spec.as_of_now && port == 1);
        if key != NONE && meets {
            let at = self.chains[key as usize].heads[1 - port];
            let mut walk = Walk { before: NONE, at };
            while !self.walk(arriving, &mut walk) {
                self.flush(lots, out)?;
            }
        }
        if self.spec.kind.counts_matches(port) {
            self.block.push(arriving, NONE, 0);
        }
        let stays = !(self.spec.as_of_now && port == 0);
        if key != NONE && stays {
            self.enter(port, slot, weight);
        }
        if self.block.len() >= BLOCK_PAIRS { self.flush(lots, out) } else { Ok(()) }
    }

    /// Brings the watermarks to where they stood when a row came: what they complete comes first.
    fn keep_pace(
        &mut self,
        lots: &[Lot],
        lot: usize,
        row: usize,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let own = &lots[lot].change;
        for Lot { port, change, .. } in lots {
            // What operators have made has no place among the rows of the frame.
            let is_of_log = !own.origin.derived && !change.origin.derived;
            let mark = match self.trails {
                Some(trails) => {
                    let of_log = ahead(own.progress(row), trails[lots[lot].port]);
                    of_log.minus(trails[*port])
                }
                None if is_of_log => EventTime(change.origin.progress.at(own.place(row))),
                None if *port == lots[lot].port => own.progress(row),
                None => continue,
            };
            if mark > self.watermarks[*port] {
                self.flush(lots, out)?;
                self.advance(*port, mark, out)?;
            }
        }
        Ok(())
    }

    /// Goes along the other side's chain and notes what the row meets; whether it came to the end.
    fn walk(&mut self, row: Arriving, walk: &mut Walk) -> bool {
        let Arriving { port, slot, .. } = row;
        let [left, right] = &mut self.sides;
        let (own, other) = if port == 0 { (left, right) } else { (right, left) };
        let key = own.key[slot as usize] as usize;
        let time = own.time.get(slot as usize).copied().unwrap_or_default();
        while walk.at != NONE {
            let at = walk.at as usize;
            let stored_weight = other.weight[at];
            let after = other.next[at];
            if stored_weight == 0 {
                // The row is gone: its place in the chain goes, too.
                let chain = &mut self.chains[key];
                match walk.before {
                    NONE => chain.heads[1 - port] = after,
                    before => other.next[before as usize] = after,
                }
                if after == NONE {
                    chain.tails[1 - port] = walk.before;
                }
                walk.at = after;
                continue;
            }
            let near = match &self.spec.within {
                None => true,
                Some(within) if port == 0 => within.holds(time, other.time[at]),
                Some(within) => within.holds(other.time[at], time),
            };
            if near {
                self.block.push(row, walk.at, stored_weight);
            }
            (walk.before, walk.at) = (walk.at, after);
            if self.block.len() >= BLOCK_PAIRS {
                return walk.at == NONE;
            }
        }
        true
    }

    /// Holds a row, or takes back the rows that it retracts.
    fn enter(&mut self, port: usize, slot: u32, weight: i64) {
        let side = &mut self.sides[port];
        if self.promises.is_closed(side.key[slot as usize], 1 - port) {
            return;
        }
        if let Some(within) = &self.spec.within
            && within
                .bound(port, self.watermarks[0].min(self.watermarks[1]))
                .is_some_and(|bound| side.time[slot as usize] < bound)
        {
            return;
        }
        let mut rest = weight;
        if let Some(identity) = &mut side.identity
            && (weight < 0 || identity.negatives > 0)
        {
            let weights = &mut side.weight;
            while rest != 0 {
                let opposite = |other: u32| weights[other as usize].signum() == -rest.signum();
                let Some(found) = identity.find(slot, opposite) else { break };
                let held = &mut weights[found as usize];
                let taken = rest.unsigned_abs().min(held.unsigned_abs()) as i64 * rest.signum();
                *held += taken;
                rest -= taken;
                if *held == 0 {
                    side.gone += 1;
                    identity.negatives -= usize::from(weight > 0);
                    identity.forget(found);
                }
            }
        }
        if rest == 0 {
            return;
        }
        side.hold(slot, rest);
        if let Some(identity) = &mut side.identity {
            identity.hold(slot);
            identity.negatives += usize::from(rest < 0);
        }
        link(&mut self.chains, side, port, slot);
    }

    /// Evaluates what is left of the condition for the block, and puts out what it changes.
    pub(super) fn flush(&mut self, lots: &[Lot], out: &mut Emitter) -> Result<(), EvalError> {
        if self.block.len() == 0 {
            return Ok(());
        }
        let passing = self.passing(lots, out)?;
        let mut outputs = Outputs::default();
        let counted = [0, 1].map(|port| self.spec.kind.counts_matches(port));
        for pair in 0..self.block.len() {
            if passing.as_ref().is_some_and(|passing| !passing[pair]) {
                continue;
            }
            let lot = self.block.lot[pair];
            let port = lots[lot as usize].port;
            let (slot, weight) = (self.block.arriving[pair], self.block.weight[pair]);
            let row = Arriving { lot, port, slot, weight };
            let stored = self.block.stored[pair];
            if stored == NONE {
                self.settle_row(row, &mut outputs);
                continue;
            }
            let stored_weight = self.block.stored_weight[pair];
            if counted[1 - port] {
                self.settle_match(row, stored, stored_weight, &mut outputs);
            }
            if self.spec.kind.shows_pairs() {
                let (left, right) = if port == 0 { (slot, stored) } else { (stored, slot) };
                outputs.push(left, right, weight.wrapping_mul(stored_weight), row.cause());
            }
            if counted[port] {
                self.block.carried = self.block.carried.wrapping_add(stored_weight);
            }
        }
        self.block.clear();
        self.put_out(outputs, lots, out)
    }

    /// A row has met all of its matches: it comes out alone, if that is what the join shows of it.
    fn settle_row(&mut self, row: Arriving, outputs: &mut Outputs) {
        let Arriving { port, slot, weight, .. } = row;
        let matches = std::mem::take(&mut self.block.carried);
        let kind = self.spec.kind;
        let side = &mut self.sides[port];
        side.matches[slot as usize] = matches;
        // One that is not held can match nothing that still comes, so there is nothing to wait for.
        let waits = self.defers && side.weight[slot as usize] != 0;
        if kind == JoinKind::Mark {
            outputs.push_marked(slot, matches != 0, weight, row.cause());
            return;
        }
        let shown = match kind {
            JoinKind::Semi => matches != 0,
            _ => matches == 0 && kind.shows_unmatched(port) && !waits,
        };
        if shown {
            outputs.push_alone(port, slot, weight, row.cause());
        }
    }

    /// A row of the other side has one match more, or less: its form without a match changes where
    /// that number leaves or comes to zero.
    fn settle_match(&mut self, row: Arriving, slot: u32, weight: i64, outputs: &mut Outputs) {
        let port = 1 - row.port;
        let matches = &mut self.sides[port].matches[slot as usize];
        let before = *matches != 0;
        *matches = matches.wrapping_add(row.weight);
        let after = *matches != 0;
        if before == after || self.defers {
            return;
        }
        if self.spec.kind == JoinKind::Mark {
            outputs.push_marked(slot, before, -weight, row.cause());
            outputs.push_marked(slot, after, weight, row.cause());
            return;
        }
        let appears = if self.spec.kind == JoinKind::Semi { after } else { before };
        outputs.push_alone(port, slot, if appears { weight } else { -weight }, row.cause());
    }
}
