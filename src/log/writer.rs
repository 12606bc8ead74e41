//! Writes groups of frames to the newest segment, moves to a new one, and keeps the mark.

use std::io;
use std::sync::Arc;

use crate::fault;
use crate::log::error::LogError;
use crate::log::frame::{Frame, Position};
use crate::log::mark::{Mark, MarkFile};
use crate::log::segment::{self, Last, Place, Segment, SegmentHeader};
use crate::log::sequence::Sequencer;
use crate::log::storage::{Storage, StorageFile};

/// What only the thread that appends may touch.
#[derive(Debug)]
pub(crate) struct Writer {
    /// The place of the next frame.
    pub(crate) next: Position,
    /// The newest frame.
    pub(crate) last: Last,
    /// `None` where nothing is written at all.
    pub(crate) disk: Option<DiskWriter>,
    /// Written, but not yet as durable as readers may rely on.
    pub(crate) pending: Vec<Pending>,
    /// Bytes and microseconds at which a segment is sealed.
    pub(crate) seal_at: (u64, i64),
    /// The first failure; since then nobody knows what the file holds.
    pub(crate) failed: Option<LogError>,
}

/// A frame that readers do not see yet.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) frame: Arc<Frame>,
    /// Finishes the sequence when it is dropped.
    pub(crate) _open: OpenSequence,
}

/// Holds a begun sequence open until the frame is visible or given up.
#[derive(Debug)]
pub(crate) struct OpenSequence {
    sequencer: Arc<Sequencer>,
    sequence: u64,
}

impl OpenSequence {
    /// Begins a sequence; returns it with its ingest time.
    pub(crate) fn begin(sequencer: &Arc<Sequencer>) -> (OpenSequence, u64, i64) {
        let (sequence, ingest_time) = sequencer.begin();
        (OpenSequence { sequencer: Arc::clone(sequencer), sequence }, sequence, ingest_time)
    }
}

impl Drop for OpenSequence {
    fn drop(&mut self) {
        self.sequencer.finish(self.sequence);
    }
}

/// The newest segment and the mark.
#[derive(Debug)]
pub(crate) struct DiskWriter {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) mark: MarkFile,
    /// Something was written since the last sync.
    pub(crate) unsynced: bool,
    /// Ingest time of the segment's first frame.
    pub(crate) first_time: Option<i64>,
}

impl DiskWriter {
    /// Writes a group of frames whose places are `places`; the last one is where the next will be.
    pub(crate) fn write(&mut self, group: &[u8], places: &[Place]) -> Result<(), LogError> {
        let start = self.segment.length();
        self.unsynced = true;
        let path = &self.segment.path;
        fault::after("log.torn", path, || {
            drop(self.file.write_at(&group[..group.len() / 2], start))
        });
        fault::io("log.write", path)
            .and_then(|()| self.file.write_at(group, start))
            .map_err(|error| LogError::io("write", path, &error))?;
        fault::at("log.written", path);
        for place in places {
            self.segment.note(*place);
        }
        self.segment.set_length(start + group.len() as u64);
        Ok(())
    }

    /// Cuts off what a write left that found no room.
    pub(crate) fn cut_back(&self) -> Result<(), LogError> {
        let cut = self.file.set_len(self.segment.length());
        cut.map_err(|error| LogError::io("cut", &self.segment.path, &error))
    }

    /// Makes all that was written durable, then the mark behind it.
    pub(crate) fn sync(&mut self, next: Position) -> Result<(), LogError> {
        if !self.unsynced {
            return Ok(());
        }
        let path = &self.segment.path;
        fault::io("log.sync", path)
            .and_then(|()| self.file.sync())
            .map_err(|error| LogError::io("sync", path, &error))?;
        fault::at("log.synced", path);
        self.mark.write(Mark {
            segment: self.segment.number(),
            position: self.segment.length(),
            next,
        })?;
        self.unsynced = false;
        fault::at("log.marked", path);
        Ok(())
    }

    /// Goes on in a new segment. What was written before is durable then: so damage in a sealed
    /// segment is always corruption, and only the newest one can have a torn tail.
    pub(crate) fn rotate(
        &mut self,
        storage: &dyn Storage,
        directory: &str,
        next: Position,
        last: Last,
    ) -> Result<(), LogError> {
        self.sync(next)?;
        let header = SegmentHeader {
            first: next,
            previous: Some(self.segment.number()),
            before: last,
            schema: self.segment.header.schema.clone(),
        };
        fault::at("log.rotate.begun", directory);
        let (segment, file) = match create_segment(storage, directory, header) {
            Ok(created) => created,
            Err(error) => {
                // If there was no room, the log may go on in the old segment and begin another one later:
                // what is there of this one would stand between them.
                let path = segment::path(directory, next.frame);
                match storage.remove(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(LogError::io("remove", &path, &error));
                    }
                    _ => return Err(error),
                }
            }
        };
        fault::at("log.rotate.created", directory);
        self.mark.write(Mark { segment: segment.number(), position: segment.length(), next })?;
        fault::at("log.rotate.marked", directory);
        self.segment = segment;
        self.file = file;
        self.first_time = None;
        Ok(())
    }
}

/// Creates a segment that is durable, name and header.
pub(crate) fn create_segment(
    storage: &dyn Storage,
    directory: &str,
    header: SegmentHeader,
) -> Result<(Arc<Segment>, Arc<dyn StorageFile>), LogError> {
    let path = segment::path(directory, header.first.frame);
    let bytes = header.to_bytes();
    let file = storage.open(&path).map_err(|error| LogError::io("create", &path, &error))?;
    file.set_len(0).map_err(|error| LogError::io("create", &path, &error))?;
    file.write_at(&bytes, 0).map_err(|error| LogError::io("write", &path, &error))?;
    file.sync().map_err(|error| LogError::io("sync", &path, &error))?;
    storage.sync_dir(directory).map_err(|error| LogError::io("sync", directory, &error))?;
    let segment = Segment::new(header, path, bytes.len() as u64, Arc::clone(&file));
    Ok((Arc::new(segment), file))
}
