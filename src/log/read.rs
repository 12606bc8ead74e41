//! Reads a log from any position: from memory where the reader keeps up, else from the segments.
//!
//! A read never waits for the disk's syncs: it takes a shared lock for as long as it copies pointers.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::log::error::LogError;
use crate::log::frame::{Frame, Frames, Position};
use crate::log::log::{Log, Shared};
use crate::log::segment::Segment;
use crate::log::tail::Budget;

/// Files of segments that are kept open for readers that are behind.
const OPEN_FILES: usize = 16;

/// Bytes of frames after which a read stops: what it gives is still near when it is worked on.
const READ_BYTES: u64 = 2 << 20;

/// The segments that were read last; older ones close their files.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles(Mutex<VecDeque<Arc<Segment>>>);

impl OpenFiles {
    pub(crate) fn touch(&self, segment: &Arc<Segment>) {
        let mut recent = self.0.lock();
        recent.retain(|known| !Arc::ptr_eq(known, segment));
        recent.push_back(Arc::clone(segment));
        if recent.len() > OPEN_FILES
            && let Some(oldest) = recent.pop_front()
        {
            oldest.close();
        }
    }

    pub(crate) fn forget(&self, segment: &Arc<Segment>) {
        self.0.lock().retain(|known| !Arc::ptr_eq(known, segment));
    }
}

/// What a read asks for.
struct Wanted<'a> {
    from: Position,
    rows_max: usize,
    columns: Option<&'a Arc<[usize]>>,
}

impl Log {
    /// The earliest position that is kept.
    pub fn start(&self) -> Position {
        self.shared.read().start
    }

    /// The position behind the last frame that readers may see.
    pub fn visible(&self) -> Position {
        self.shared.read().visible
    }

    /// Whether the visible frame at a position has to be read from a file.
    pub fn is_in_file(&self, from: Position) -> bool {
        let shared = self.shared.read();
        from.frame < shared.visible.frame
            && shared.tail.oldest().is_none_or(|oldest| from.frame < oldest.index)
    }

    /// Visible frames from `from` on, about `rows_max` rows of them (control records count as one)
    /// and at least one frame; none at the end of the log. A read may stop earlier, where a segment
    /// ends or after some megabytes: whoever wants all reads until there is nothing.
    pub fn read(&self, from: Position, rows_max: usize) -> Result<Frames, LogError> {
        self.read_columns(from, rows_max, None)
    }

    /// As [`Log::read`]; where frames have to be decoded, only `columns` of them are, ascending places of
    /// the log's schema. [`Frame::columns`] tells which those are.
    pub fn read_columns(
        &self,
        from: Position,
        rows_max: usize,
        columns: Option<&Arc<[usize]>>,
    ) -> Result<Frames, LogError> {
        let (segment, visible) = {
            let shared = self.shared.read();
            self.check_inside(&shared, from)?;
            if from.frame == shared.visible.frame {
                return Ok(Frames::new());
            }
            if let Some(frames) = shared.tail.read(from.frame, rows_max) {
                return Ok(frames);
            }
            let behind = shared.segments.partition_point(|s| s.number() <= from.frame);
            (Arc::clone(&shared.segments[behind - 1]), shared.visible)
        };
        self.read_segment(&segment, visible, &Wanted { from, rows_max, columns })
    }

    /// The newest visible frame.
    pub fn last_frame(&self) -> Result<Option<Arc<Frame>>, LogError> {
        let (start, visible) = {
            let shared = self.shared.read();
            (shared.start, shared.visible)
        };
        if start.frame == visible.frame {
            return Ok(None);
        }
        let last = Position { frame: visible.frame - 1, offset: visible.offset };
        Ok(self.read(last, 1)?.pop())
    }

    /// The place of the frame that holds the row at `offset`; for the next offset to come, the end.
    pub fn position_of_offset(&self, offset: u64) -> Result<Position, LogError> {
        let segment = {
            let shared = self.shared.read();
            let from = Position { frame: shared.start.frame, offset };
            if offset < shared.start.offset {
                let (log, earliest) = (self.name.clone(), shared.start);
                return Err(LogError::NotRetained { log, from, earliest });
            }
            if offset == shared.visible.offset {
                return Ok(shared.visible);
            }
            if offset > shared.visible.offset {
                let (log, end) = (self.name.clone(), shared.visible);
                return Err(LogError::PastEnd { log, from, end });
            }
            if let Some(frame) = shared.tail.holding(offset) {
                return Ok(Position { frame: frame.index, offset: frame.first_offset });
            }
            let behind = shared.segments.partition_point(|s| s.header.first.offset <= offset);
            Arc::clone(&shared.segments[behind - 1])
        };
        self.open_files.touch(&segment);
        let Some(file) = segment.file(&*self.storage)? else {
            return Err(self.not_retained(Position { frame: segment.number(), offset }));
        };
        let scanner = segment.seek(file, |next| next.offset <= offset)?;
        Ok(scanner.place().at)
    }

    fn check_inside(&self, shared: &Shared, from: Position) -> Result<(), LogError> {
        let log = || self.name.clone();
        if from.frame < shared.start.frame {
            return Err(LogError::NotRetained { log: log(), from, earliest: shared.start });
        }
        if from.frame > shared.visible.frame {
            return Err(LogError::PastEnd { log: log(), from, end: shared.visible });
        }
        Ok(())
    }

    fn not_retained(&self, from: Position) -> LogError {
        LogError::NotRetained { log: self.name.clone(), from, earliest: self.start() }
    }

    fn read_segment(
        &self,
        segment: &Arc<Segment>,
        visible: Position,
        wanted: &Wanted<'_>,
    ) -> Result<Frames, LogError> {
        let Wanted { from, rows_max, columns } = *wanted;
        self.open_files.touch(segment);
        let Some(file) = segment.file(&*self.storage)? else {
            return Err(self.not_retained(from));
        };
        let mut scanner = segment.seek(file, |next| next.frame <= from.frame)?;
        let mut frames = Frames::new();
        let mut budget = Budget::new(rows_max);
        let begin = scanner.place().byte;
        while scanner.place().at.frame < visible.frame {
            let Some((header, byte)) = scanner.peek_sound()? else { break };
            if byte - begin > READ_BYTES || !budget.take(u64::from(header.rows)) {
                break;
            }
            frames.push(Arc::new(scanner.frame(&header, &self.schema, columns)?));
            scanner.skip(&header);
            scanner.note_place();
        }
        if frames.is_empty() {
            let reason = "frames are missing at the end of the segment";
            return Err(LogError::corrupt(&segment.path, segment.length(), reason));
        }
        Ok(frames)
    }
}
