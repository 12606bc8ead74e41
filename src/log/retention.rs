//! Removes the oldest segments once nobody needs them any more.
//!
//! Only whole sealed segments go, oldest first, so that a crash in between leaves a log without holes: a file
//! that the storage does not let go keeps those that follow it. The newest frame always stays: its owner learns
//! the state of the stream from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::fault;
use crate::log::error::LogError;
use crate::log::frame::Position;
use crate::log::log::{Log, Shared};
use crate::log::segment::Segment;

/// Which part of a log may go. A segment is expired if it is too old or the log too large.
#[derive(Debug, Clone, Copy, Default)]
pub struct RetentionRequest {
    /// Frames appended before this are expired (microseconds).
    pub older_than_ingest_time: Option<i64>,
    /// The oldest segments are expired while the log is larger.
    pub max_bytes: Option<u64>,
    /// The slowest reader's position: nothing from here on is removed, expired or not.
    pub needed_from: Option<Position>,
}

/// What [`Log::retain`] removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Frames.
    pub frames: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// What is the earliest position now.
    pub earliest: Position,
}

impl RetentionRequest {
    /// Whether a stretch of the log may go.
    fn allows(&self, end: Position, newest_time: i64, log_bytes: u64) -> bool {
        let needed = self.needed_from.is_some_and(|from| from.frame < end.frame);
        let old = self.older_than_ingest_time.is_some_and(|time| newest_time < time);
        let large = self.max_bytes.is_some_and(|limit| log_bytes > limit);
        !needed && (old || large)
    }
}

/// Keeps everything that a log held at one moment, for as long as it lives: a SELECT sees all of it.
#[derive(Debug)]
pub struct Pin {
    log: Arc<Log>,
    pin: (Position, u64),
    /// The end at that moment.
    pub end: Position,
}

impl Pin {
    /// Where the log began at that moment.
    pub fn start(&self) -> Position {
        self.pin.0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.log.pins.lock().remove(&self.pin);
    }
}

impl Log {
    /// Keeps retention from what is there now until the pin is dropped.
    pub fn pin(self: &Arc<Log>) -> Pin {
        static PINS: AtomicU64 = AtomicU64::new(0);
        // Under this lock nothing is removed.
        let shared = self.shared.read();
        let pin = (shared.start, PINS.fetch_add(1, Ordering::Relaxed));
        self.pins.lock().insert(pin);
        Pin { log: Arc::clone(self), pin, end: shared.visible }
    }

    /// The request with those who have pinned the log among the readers.
    fn with_pins(&self, request: RetentionRequest) -> RetentionRequest {
        let pinned = self.pins.lock().first().map(|(from, _)| *from);
        let needed_from = request.needed_from.into_iter().chain(pinned).min();
        RetentionRequest { needed_from, ..request }
    }

    /// Bytes of the log: of its segments, with those whose files are not gone yet, or of the frames in memory
    /// where nothing is written.
    pub fn bytes(&self) -> u64 {
        let shared = self.shared.read();
        bytes(&shared) + self.leaving_bytes.load(Ordering::Acquire)
    }

    /// Whether there is nothing that [`Log::retain`] could ever remove, whoever needs it.
    pub fn is_newest_only(&self) -> bool {
        let all = RetentionRequest { max_bytes: Some(0), ..RetentionRequest::default() };
        expired_segments(&self.shared.read(), all) == 0
    }

    /// Up to where [`Log::retain`] would remove frames now.
    pub fn removable(&self, request: RetentionRequest) -> Position {
        let shared = self.shared.read();
        let count = expired_segments(&shared, self.with_pins(request));
        shared.segments.get(count).map_or(shared.start, |segment| segment.header.first)
    }

    /// Removes what the request allows. A reader below the new start gets
    /// [`LogError::NotRetained`].
    ///
    /// # Errors
    /// The storage's. Frames that it did not let go are gone for readers; the next call tries again.
    pub fn retain(&self, request: RetentionRequest) -> Result<Removed, LogError> {
        let mut leaving = self.retaining.lock();
        let (removed, segments) = {
            let mut shared = self.shared.write();
            let start = shared.start;
            let request = self.with_pins(request);
            // The newest segment grows meanwhile, without this lock: only what goes is measured.
            let (segments, bytes) = if shared.segments.is_empty() {
                let size = shared.tail.bytes();
                drop_frames(&mut shared, request);
                (Vec::new(), (size - shared.tail.bytes()) as u64)
            } else {
                let segments = take_segments(&mut shared, request);
                let bytes = segments.iter().map(|segment| segment.length()).sum();
                // Under the lock, so that no look at the size misses them.
                self.leaving_bytes.fetch_add(bytes, Ordering::AcqRel);
                (segments, bytes)
            };
            let removed = Removed {
                frames: shared.start.frame - start.frame,
                rows: shared.start.offset - start.offset,
                bytes,
                earliest: shared.start,
            };
            (removed, segments)
        };
        segments.iter().for_each(|segment| self.open_files.forget(segment));
        leaving.extend(segments);
        let any = !leaving.is_empty();
        while let Some(oldest) = leaving.front() {
            oldest.remove(&*self.storage)?;
            self.leaving_bytes.fetch_sub(oldest.length(), Ordering::AcqRel);
            leaving.pop_front();
            fault::at("log.removed", &self.name);
        }
        if any {
            let synced = self.storage.sync_dir(&self.name);
            synced.map_err(|error| LogError::io("sync", &self.name, &error))?;
        }
        Ok(removed)
    }
}

fn bytes(shared: &Shared) -> u64 {
    if shared.segments.is_empty() {
        shared.tail.bytes() as u64
    } else {
        shared.segments.iter().map(|segment| segment.length()).sum()
    }
}

/// The number of segments that the request allows to remove.
fn expired_segments(shared: &Shared, request: RetentionRequest) -> usize {
    let mut size = bytes(shared);
    let mut count = 0;
    for pair in shared.segments.windows(2) {
        let (segment, next) = (&pair[0], &pair[1].header);
        let holds_newest = next.first.frame >= shared.visible.frame;
        if holds_newest || !request.allows(next.first, next.before.ingest_time, size) {
            break;
        }
        size -= segment.length();
        count += 1;
    }
    count
}

fn take_segments(shared: &mut Shared, request: RetentionRequest) -> Vec<Arc<Segment>> {
    let count = expired_segments(shared, request);
    let taken = shared.segments.drain(..count).collect();
    shared.start = shared.segments[0].header.first;
    taken
}

fn drop_frames(shared: &mut Shared, request: RetentionRequest) {
    while shared.tail.len() > 1
        && let Some(oldest) = shared.tail.oldest()
    {
        let end = Position { frame: oldest.index + 1, offset: oldest.next_offset() };
        if !request.allows(end, oldest.ingest_time, shared.tail.bytes() as u64) {
            break;
        }
        shared.start = end;
        shared.tail.pop();
    }
}
