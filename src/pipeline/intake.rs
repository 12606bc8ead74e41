//! Takes the frames of a step from the inputs' logs and pushes them through the operators.
//!
//! Frames come in the order of the server-wide sequence, none past the point up to which all logs are
//! complete. A log that several sources read gives each frame to all of them at once.

use std::sync::Arc;

use crate::data::change::Change;
use crate::error::Result;
use crate::log::frame::{Frame, FrameKind, Position};
use crate::operators::row_clock;
use crate::pipeline::drive::{QueryRun, StepReport};
use crate::time::EventTime;

/// Bytes of rows after which the state's size is looked at within a step.
const CHECK_BYTES: u64 = 4 << 20;

/// Bytes of rows that operators may make of one frame beyond those that they are given, as a multiple of what
/// the state may hold: a join makes many rows of few, which have to be in memory until they are written.
const OUTPUT_PER_STATE: u64 = 4;
/// So many always may: what a filter makes of a large frame has nothing to do with state.
const OUTPUT_ALWAYS: u64 = 256 << 20;
/// A step ends after a frame that leaves a part of that.
const OUTPUT_PARTS: u64 = 16;

impl QueryRun {
    /// Processes up to a step's worth of frames in the order of their sequence.
    pub(super) fn take_frames(
        &mut self,
        until: Option<&[Position]>,
        report: &mut StepReport,
    ) -> Result<()> {
        if std::mem::take(&mut self.begins) {
            self.graph.begin()?;
        }
        // Taken before the logs are looked at: whatever is below it can be seen.
        let complete = self.sequencer.complete_through();
        let single = self.inputs.len() == 1;
        let (mut taken, mut unchecked) = (0, 0);
        let output_max = self.memory_limit.saturating_mul(OUTPUT_PER_STATE).max(OUTPUT_ALWAYS);
        while taken < self.step_rows {
            let mut next: Option<(u64, usize)> = None;
            for index in 0..self.inputs.len() {
                let target = until.map(|frontier| frontier[index].frame);
                let Some(sequence) = self.inputs[index].peek(target)? else { continue };
                if next.is_none_or(|(best, _)| sequence < best) {
                    next = Some((sequence, index));
                }
            }
            let Some((sequence, index)) = next else { break };
            if !single && sequence > complete {
                break;
            }
            // A log that is read twice gives its frame to all who read it at once.
            let mut readers = vec![index];
            for other in index + 1..self.inputs.len() {
                let target = until.map(|frontier| frontier[other].frame);
                if self.inputs[other].peek(target)? == Some(sequence) {
                    readers.push(other);
                }
            }
            let frames: Vec<_> = readers.iter().map(|index| self.inputs[*index].take()).collect();
            let rows: u64 = frames.iter().map(|frame| frame.rows()).sum();
            taken += rows as usize + 1;
            report.rows_in += rows;
            report.progressed = true;
            // A step's rows may be large: what they leave behind is looked at on the way.
            let batch = frames[0].batch.as_ref();
            unchecked += batch.map_or(0, |batch| batch.get_array_memory_size());
            self.graph.limit_output(output_max);
            self.process(&readers, &frames)?;
            if !single {
                self.graph.frame_end()?;
            }
            for (index, frame) in readers.into_iter().zip(frames) {
                self.inputs[index].position =
                    Position { frame: frame.index + 1, offset: frame.next_offset() };
            }
            if until.is_none() && self.graph.output_bytes() > output_max / OUTPUT_PARTS {
                break;
            }
            if unchecked as u64 >= CHECK_BYTES.min(self.memory_limit / 8) {
                unchecked = 0;
                if self.is_short(until.is_some())? {
                    // The step ends here, and its entry says how many rows are kept from here on.
                    break;
                }
            }
        }
        Ok(())
    }

    /// Pushes a frame to those inputs that read its log, to each with the columns that it needs.
    fn process(&mut self, readers: &[usize], frames: &[Arc<Frame>]) -> Result<()> {
        let frame = &frames[0];
        row_clock::set(frame.ingest_time);
        self.graph.tick(frame.ingest_time)?;
        let mut changes = Vec::new();
        for (index, own) in readers.iter().zip(frames) {
            let counted = *index == readers[0];
            let input = &mut self.inputs[*index];
            let (change, watermark) = input.source.change(own)?;
            // A query that starts at an offset inside a frame skips the rows before it.
            let skip = input.position.offset.saturating_sub(frame.first_offset) as usize;
            let change = change.map(|change| {
                let rows = change.batch.num_rows();
                if skip == 0 { change } else { change.slice(skip.min(rows), rows - skip.min(rows)) }
            });
            let change = match change {
                Some(change) => self.shedding.keep(change, *index, counted)?,
                None => None,
            };
            changes.push((*index, change, EventTime(watermark)));
        }
        if readers.len() > 1 && self.graph.interleaves() {
            self.push_row_by_row(&changes)?;
        } else {
            for (index, change, _) in &mut changes {
                if let Some(change) = change.take() {
                    self.graph.push(*index, change)?;
                }
            }
        }
        for (index, _, watermark) in changes {
            let relation = self.inputs[index].source.relation();
            if frame.kind == FrameKind::Punctuation
                && let Some(punctuation) = (self.read_punctuation)(relation, &frame.meta)
            {
                self.graph.punctuation(index, Arc::new(punctuation))?;
            }
            if watermark != EventTime::MIN {
                self.graph.watermark(index, watermark)?;
            }
        }
        Ok(())
    }

    /// Pushes rows whose answers meet again further up (GROUPING SETS of windows) one by one, each
    /// followed by its watermark: the order of what comes out must not tell how they were cut into
    /// frames.
    fn push_row_by_row(&mut self, changes: &[(usize, Option<Change>, EventTime)]) -> Result<()> {
        let with_rows: Vec<(usize, &Change)> = changes
            .iter()
            .filter_map(|(index, change, _)| Some((*index, change.as_ref()?)))
            .collect();
        let rows = |change: &Change| change.batch.num_rows();
        let most = with_rows.iter().map(|(_, change)| rows(change)).max().unwrap_or(0);
        for row in 0..most {
            for (index, change) in with_rows.iter().filter(|(_, change)| row < rows(change)) {
                self.graph.push(*index, change.slice(row, 1))?;
            }
            for (index, change) in with_rows.iter().filter(|(_, change)| row + 1 < rows(change)) {
                let watermark = change.arrival(row + 1);
                if watermark != EventTime::MIN {
                    self.graph.watermark(*index, watermark)?;
                }
            }
            if row + 1 < most {
                self.graph.frame_end()?;
            }
        }
        Ok(())
    }
}
