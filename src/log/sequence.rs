//! Gives every frame of every log its place in one strictly increasing order.
//!
//! A log that is about to append calls [`Sequencer::begin`], and [`Sequencer::finish`] once the frame
//! is visible (or failed). [`Sequencer::complete_through`] is the point up to which no frame can appear any more: a query with several
//! inputs reads no further, so it sees them in one order whatever the timing (PRODUCT, "Semantics,
//! exactly" 3).

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::time::Clock;

/// The server-wide source of sequences and ingest times.
#[derive(Debug)]
pub struct Sequencer {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last sequence given out.
    last: u64,
    /// The last ingest time given out.
    last_time: i64,
    /// Begun and not finished.
    open: BTreeSet<u64>,
}

impl Sequencer {
    /// Starts after the greatest sequence and ingest time found in any log.
    pub fn new(clock: Arc<dyn Clock>, last: u64, last_time: i64) -> Sequencer {
        Sequencer { clock, state: Mutex::new(State { last, last_time, open: BTreeSet::new() }) }
    }

    /// What the clock says, in microseconds.
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// Learns of a frame found on disk at startup.
    pub fn observe(&self, sequence: u64, ingest_time: i64) {
        let mut state = self.state.lock();
        state.last = state.last.max(sequence);
        state.last_time = state.last_time.max(ingest_time);
    }

    /// Leaves sequences out, for frames that nobody can read now.
    pub fn skip(&self, count: u64) {
        let mut state = self.state.lock();
        state.last = state.last.saturating_add(count);
    }

    /// The next sequence, and an ingest time that does not go back even if the clock does.
    pub fn begin(&self) -> (u64, i64) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        state.last += 1;
        state.last_time = state.last_time.max(now);
        let sequence = state.last;
        state.open.insert(sequence);
        (sequence, state.last_time)
    }

    /// The frame of this sequence is visible to readers, or will never be.
    pub fn finish(&self, sequence: u64) {
        self.state.lock().open.remove(&sequence);
    }

    /// The greatest sequence up to which every frame is visible.
    pub fn complete_through(&self) -> u64 {
        let state = self.state.lock();
        state.open.first().map_or(state.last, |first| first - 1)
    }
}
