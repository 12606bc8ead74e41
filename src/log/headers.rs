//! Walks through a log frame by frame without decoding rows.
//!
//! Used at startup, where what counts is where frames end and what their owners noted beside them.

use std::sync::Arc;

use crate::log::error::LogError;
use crate::log::frame::{FrameKind, Position};
use crate::log::log::{Durability, Log};
use crate::log::segment::Segment;

/// A frame without its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameSummary {
    /// What it is.
    pub kind: FrameKind,
    /// Where it stands.
    pub at: Position,
    /// Number of rows.
    pub rows: u64,
    /// Processing time of the append, microseconds.
    pub ingest_time: i64,
    /// What the log's owner keeps with it; empty unless it was asked for.
    pub meta: Vec<u8>,
}

impl Log {
    /// Visible frames of the wanted kinds, with their metas.
    ///
    /// # Errors
    /// XX001 where a frame is damaged, 58030 where the disk fails.
    pub fn summaries(
        &self,
        wanted: impl Fn(FrameKind) -> bool,
    ) -> Result<Vec<FrameSummary>, LogError> {
        self.summaries_from(0, wanted)
    }

    /// The same from a frame on; what is before it is not read.
    ///
    /// # Errors
    /// As [`Log::summaries`].
    pub fn summaries_from(
        &self,
        frame: u64,
        wanted: impl Fn(FrameKind) -> bool,
    ) -> Result<Vec<FrameSummary>, LogError> {
        let mut found = Vec::new();
        self.walk(frame, &wanted, |summary| {
            found.push(summary);
            true
        })?;
        Ok(found)
    }

    /// The first frame appended at or after a processing time; the end if there is none.
    ///
    /// # Errors
    /// As [`Log::summaries`].
    pub fn position_of_time(&self, ingest_time: i64) -> Result<Position, LogError> {
        let mut position = self.visible();
        self.walk(0, &|_| true, |summary| {
            let reached = summary.ingest_time >= ingest_time;
            if reached {
                position = summary.at;
            }
            !reached
        })?;
        Ok(position)
    }

    /// Visits frames from `from` on until `visit` says no.
    fn walk(
        &self,
        from: u64,
        wanted: &impl Fn(FrameKind) -> bool,
        mut visit: impl FnMut(FrameSummary) -> bool,
    ) -> Result<(), LogError> {
        if self.durability() == Durability::Memory {
            return self.walk_memory(from, wanted, visit);
        }
        let (segments, visible) = {
            let shared = self.shared.read();
            (shared.segments.clone(), shared.visible)
        };
        // The segment that holds `from` is the last that does not begin behind it.
        let before = segments.partition_point(|segment| segment.header.first.frame <= from);
        for segment in segments.into_iter().skip(before.saturating_sub(1)) {
            if !self.walk_segment(&segment, (from, visible), wanted, &mut visit)? {
                break;
            }
        }
        Ok(())
    }

    fn walk_memory(
        &self,
        from: u64,
        wanted: &impl Fn(FrameKind) -> bool,
        mut visit: impl FnMut(FrameSummary) -> bool,
    ) -> Result<(), LogError> {
        for frame in self.read(self.start(), usize::MAX)? {
            let at = Position { frame: frame.index, offset: frame.first_offset };
            let (rows, ingest_time) = (frame.rows(), frame.ingest_time);
            let summary =
                FrameSummary { kind: frame.kind, at, rows, ingest_time, meta: frame.meta.clone() };
            if frame.index >= from && wanted(frame.kind) && !visit(summary) {
                break;
            }
        }
        Ok(())
    }

    fn walk_segment(
        &self,
        segment: &Arc<Segment>,
        (from, visible): (u64, Position),
        wanted: &impl Fn(FrameKind) -> bool,
        visit: &mut impl FnMut(FrameSummary) -> bool,
    ) -> Result<bool, LogError> {
        self.open_files.touch(segment);
        let Some(file) = segment.file(&*self.storage)? else { return Ok(true) };
        let mut scanner = segment.seek(file, |next| next.frame <= from)?;
        while scanner.place().at.frame < visible.frame {
            let Some((header, byte)) = scanner.peek_sound()? else { break };
            if wanted(header.kind) {
                let meta = match header.meta_length as usize {
                    0 => vec![],
                    length => {
                        let body = scanner.body(&header)?.ok_or_else(|| {
                            let reason = "the checksum of the frame is wrong";
                            LogError::corrupt(&segment.path, byte, reason)
                        })?;
                        body[..length].to_vec()
                    }
                };
                let summary = FrameSummary {
                    kind: header.kind,
                    at: Position { frame: header.index, offset: header.first_offset },
                    rows: u64::from(header.rows),
                    ingest_time: header.ingest_time,
                    meta,
                };
                if !visit(summary) {
                    return Ok(false);
                }
            }
            scanner.skip(&header);
        }
        Ok(true)
    }
}
