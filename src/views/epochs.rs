//! Sees to it that no offset of a changelog ever stands for two rows, whatever the power takes.
//!
//! Where entries that were seen may have been lost, a new *epoch* begins: a void frame passes over every
//! offset that anybody can have seen. How far that is, a changelog that is not durable says beforehand and
//! durably, in large steps ([`Reserve`]): so the hole is at most a step wider than what was lost.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::Result;
use crate::log::frame::NewFrame;
use crate::views::changelog::{Changelog, Frontier};
use crate::views::entry_meta::EntryMeta;

/// Notes durably that offsets up to here, and some more, may be seen; gives the first one that may not.
pub type Reserve = Box<dyn Fn(u64) -> Result<u64> + Send + Sync>;

/// What a changelog knows of its epochs.
#[derive(Default)]
pub(super) struct Epochs {
    /// The first offset that nobody can have seen.
    ceiling: AtomicU64,
    raise: OnceLock<Reserve>,
    /// Where an epoch is to begin, before anything else is appended but the entry of a swap that is missing.
    planned: Mutex<Option<u64>>,
}

impl std::fmt::Debug for Epochs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Epochs").field("ceiling", &self.ceiling).finish_non_exhaustive()
    }
}

impl Changelog {
    /// From here on no offset at or past `known` is shown of which `raise` has not been told.
    pub fn limit(&self, known: u64, raise: Reserve) {
        self.epochs.ceiling.store(known, Ordering::Release);
        if self.epochs.raise.set(raise).is_err() {
            unreachable!("a changelog is limited once, when it is opened");
        }
    }

    /// Whatever is shown next, somebody is to be told first.
    pub fn tell_anew(&self) {
        self.epochs.ceiling.store(0, Ordering::Release);
    }

    /// An epoch is to begin at `offset`, if the log does not go as far.
    pub fn plan_epoch(&self, offset: u64) {
        *self.epochs.planned.lock() = Some(offset);
    }

    /// The next offset to come, behind those that the epoch to begin passes over.
    pub fn end_to_come(&self) -> u64 {
        let planned = *self.epochs.planned.lock();
        self.log().visible().offset.max(planned.unwrap_or(0))
    }

    /// Begins the epoch that is planned, durably: the offsets from the end of the log up to there are void.
    ///
    /// # Errors
    /// The log's.
    pub fn begin_epoch(&self, start: &Frontier) -> Result<()> {
        let mut planned = self.epochs.planned.lock();
        let Some(offset) = *planned else { return Ok(()) };
        let log = self.log();
        let mut end = log.visible().offset;
        while end < offset {
            let last = log.last_frame()?.and_then(|frame| EntryMeta::decode(&frame.meta));
            let nothing = || EntryMeta::new(i64::MIN, start.clone());
            // What else the last entry says, it says itself.
            let meta = EntryMeta { level: None, ..last.unwrap_or_else(nothing) };
            let passed_over = u32::try_from(offset - end).unwrap_or(u32::MAX);
            let void = NewFrame::void(passed_over, meta.watermark, meta.encode());
            log.append(vec![void], true)?;
            end += u64::from(passed_over);
        }
        // Where the disk has no room, it is tried again before the query runs.
        *planned = None;
        Ok(())
    }

    /// Before frames are shown that reach further than anybody was told.
    pub(super) fn stay_below_the_ceiling(&self, frames: &[NewFrame]) -> Result<()> {
        let Some(raise) = self.epochs.raise.get() else { return Ok(()) };
        let end = self.log().visible().offset + frames.iter().map(NewFrame::offsets).sum::<u64>();
        if end >= self.epochs.ceiling.load(Ordering::Acquire) {
            self.epochs.ceiling.store(raise(end)?, Ordering::Release);
        }
        Ok(())
    }
}
