//! Lets a query run without writing: before a swap, and up to where its changelog is given.

use crate::data::change::Change;
use crate::error::Result;
use crate::log::frame::Position;
use crate::pipeline::drive::{QueryRun, StepReport, distinct, misfit};
use crate::views::changelog::Changelog;
use crate::views::entry_meta::EntryMeta;

impl QueryRun {
    /// A step whose answers are given already; the last one may have to write the swap.
    pub(super) fn warm_up_step(&mut self, until: &[Position]) -> Result<StepReport> {
        if until.len() != self.inputs.len() {
            return Err(misfit("the number of inputs is another one"));
        }
        let mut swap = self.swap.take();
        let progressed = self.rehearse(Some(until), |change| match &mut swap {
            Some(difference) => difference.add(&change.batch, change.weights.as_ref(), 1),
            None => Ok(()),
        })?;
        self.swap = swap;
        if self.is_at(until) {
            self.warm_up = None;
            if let Some(mut difference) = self.swap.take() {
                let start = difference.subtract_kept(&self.changelog)?;
                difference.subtract(&self.changelog, start, usize::MAX)?;
                self.written_watermark = self.last_watermark()?;
                let change = difference.finish("", self.written_watermark)?;
                self.append_swap(change)?;
            }
        } else if !progressed {
            return Err(misfit("an input ends before the changelog does"));
        }
        Ok(StepReport { progressed: true, ..StepReport::default() })
    }

    /// Takes a step and hands what came out to `each` instead of writing it; whether there were rows.
    ///
    /// # Errors
    /// As [`QueryRun::step`], and those of `each`.
    pub fn rehearse(
        &mut self,
        until: Option<&[Position]>,
        mut each: impl FnMut(&Change) -> Result<()>,
    ) -> Result<bool> {
        let mut report = StepReport::default();
        // What is given was answered without shedding, and fitted then; of what is new no entry could say
        // that rows were shed.
        let allowed = self.shedding.allowed;
        self.shedding.allowed &= until.is_some();
        self.take_frames(until, &mut report)?;
        self.shedding.allowed = allowed;
        let output = self.graph.step_end()?;
        self.late_rows += distinct(output.late).len() as u64;
        output.changes.iter().try_for_each(&mut each)?;
        if until.is_none() || !allowed {
            self.check_memory()?;
        }
        Ok(report.progressed)
    }

    /// The watermark that the changelog's newest frame left.
    fn last_watermark(&self) -> Result<i64> {
        let last = self.changelog.log().last_frame()?;
        let meta = last.and_then(|frame| EntryMeta::decode(&frame.meta));
        Ok(match meta {
            Some(meta) => meta.watermark,
            // What was written is retained no more, but it led to here.
            None if self.changelog.log().start().frame > 0 => self.graph.output_watermark().0,
            None => i64::MIN,
        })
    }

    /// Writes a change, or a mark that there is none, as the entry of a swap. Gives the numbers of
    /// retracted and inserted rows.
    ///
    /// # Errors
    /// The log's.
    pub fn append_swap(&mut self, change: Option<Change>) -> Result<(u64, u64)> {
        let watermark = self.graph.output_watermark().0.max(self.written_watermark);
        // What was shed before is in the answer no more.
        let level = (self.changelog.level() > 0).then_some(0);
        let meta = EntryMeta { watermark, frontier: self.frontier(), level };
        let (frame, counts) = match &change {
            None => (Changelog::progress(&meta), (0, 0)),
            Some(change) => {
                let changes = std::slice::from_ref(change);
                let frame = self.changelog.frame(changes, self.written_watermark, &meta)?;
                (frame, counts(change))
            }
        };
        if self.sync {
            self.sync_inputs()?;
        }
        self.changelog.append(vec![frame], self.sync)?;
        level.into_iter().for_each(|level| self.changelog.note_level(level));
        self.changelog.begin_epoch(&meta.frontier)?;
        self.written_watermark = watermark;
        Ok(counts)
    }
}

/// The numbers of retracted and inserted rows.
fn counts(change: &Change) -> (u64, u64) {
    let weights = change.weights.iter().flat_map(|weights| weights.values().iter().copied());
    weights.fold((0, 0), |(retracted, inserted), weight| match weight < 0 {
        true => (retracted + weight.unsigned_abs(), inserted),
        false => (retracted, inserted + weight.unsigned_abs()),
    })
}
