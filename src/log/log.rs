//! Appends frames to one log, makes them durable, and shows them to readers.
//!
//! ```text
//!   append ─▶ encode ─▶ place (index, offset, sequence, ingest time) ─▶ write ─▶ sync ─▶ mark
//!                                                          │             │              │
//!                          visible to readers:          memory        written        durable
//! ```
//! Appending is done by one thread at a time; reading ([`crate::log::read`]) never waits for it.
//!
//! # Invariants
//!
//! 1. Indices and offsets have no holes; sequences increase strictly; ingest times do not fall.
//! 2. A reader never sees a frame before it is as durable as the log's [`Durability`] asks for.
//! 3. A request's frames (those of one [`Log::append`]) survive a crash all or not at all.
//! 4. After a failed write or sync nothing is appended, acknowledged or retried until the log is
//!    opened again: the kernel may have dropped the bytes and called the pages clean, so a second
//!    sync that succeeds says nothing about them.
//! 5. A write for which the disk has no room is cut off again and not acknowledged; the log goes on.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arrow::datatypes::SchemaRef;
use parking_lot::{Mutex, RwLock};

use crate::log::error::LogError;
use crate::log::frame::{Frames, NewFrame, Position};
use crate::log::group::{EncodedFrame, Group, as_one_request};
use crate::log::listeners::Listeners;
use crate::log::payload::{self, Encoder};
use crate::log::read::OpenFiles;
use crate::log::recover::{Recovered, recover};
use crate::log::segment::{Last, Segment};
use crate::log::sequence::Sequencer;
use crate::log::storage::Storage;
use crate::log::tail::Tail;
use crate::log::writer::{DiskWriter, OpenSequence, Pending, Writer};

/// What must have happened to a frame before anybody sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It survives power loss.
    Durable,
    /// It survives the end of the process.
    Written,
    /// It is in memory; nothing is written at all.
    Memory,
}

/// How a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct LogOptions {
    /// See [`Durability`].
    pub durability: Durability,
    /// A segment that would become larger is sealed, and a new one begun.
    pub segment_bytes: u64,
    /// A segment whose first frame is older than this (microseconds) is sealed at the next append,
    /// so that retention by age can remove it.
    pub segment_micros: i64,
    /// Bytes of the newest frames that are kept in memory.
    pub tail_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            durability: Durability::Durable,
            segment_bytes: 64 << 20,
            segment_micros: 24 * 3600 * crate::time::SECOND,
            tail_bytes: 32 << 20,
        }
    }
}

/// Where appended frames came to stand.
#[derive(Debug, Clone)]
pub struct Appended {
    /// Place of the first frame.
    pub first: Position,
    /// Place of the frame after the last one.
    pub next: Position,
    /// The frames.
    pub frames: Frames,
}

/// One relation's frames in one order.
pub struct Log {
    pub(crate) name: String,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) schema: SchemaRef,
    options: LogOptions,
    pub(crate) sequencer: Arc<Sequencer>,
    pub(crate) encoder: Encoder,
    pub(crate) writer: Mutex<Writer>,
    /// Index behind the last appended frame, visible or not.
    appended: AtomicU64,
    pub(crate) shared: RwLock<Shared>,
    pub(crate) open_files: OpenFiles,
    /// Segments that are being removed, oldest first: also those that the storage did not let go.
    pub(crate) retaining: Mutex<VecDeque<Arc<Segment>>>,
    /// Bytes of those.
    pub(crate) leaving_bytes: AtomicU64,
    /// Where readers stand who must not be overtaken by retention, each with its number.
    pub(crate) pins: Mutex<std::collections::BTreeSet<(Position, u64)>>,
    pub(super) listeners: RwLock<Listeners>,
    /// The logs whose frames this one speaks of: they are synced first.
    below: RwLock<Vec<Weak<Log>>>,
    recovered: Recovered,
}

/// What readers see.
#[derive(Debug)]
pub(crate) struct Shared {
    /// In order; empty where nothing is written.
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) tail: Tail,
    pub(crate) start: Position,
    pub(crate) visible: Position,
    pub(crate) last_watermark: i64,
}

impl Log {
    /// Opens the log in `directory`, creating it if it is missing, and tells `sequencer` of the
    /// newest frame. What a crash left half written is cut, see [`crate::log::recover`].
    pub fn open(
        storage: Arc<dyn Storage>,
        directory: &str,
        schema: SchemaRef,
        options: LogOptions,
        sequencer: Arc<Sequencer>,
    ) -> Result<Log, LogError> {
        if let Some((column, data_type)) = payload::unsupported(&schema) {
            let log = directory.to_owned();
            return Err(LogError::UnsupportedType { log, column, data_type });
        }
        let mut writer = Writer {
            next: Position::default(),
            last: Last::NONE,
            disk: None,
            pending: Vec::new(),
            seal_at: (options.segment_bytes, options.segment_micros),
            failed: None,
        };
        let mut recovered = Recovered { frames: 0, cut_bytes: 0, last_watermark: i64::MIN };
        let mut segments = Vec::new();
        if options.durability != Durability::Memory {
            let found = recover(&*storage, directory, &schema)?;
            sequencer.observe(found.last.sequence, found.last.ingest_time);
            (writer.next, writer.last, writer.disk) = (found.next, found.last, Some(found.disk));
            (recovered, segments) = (found.recovered, found.segments);
        }
        let in_memory = options.durability == Durability::Memory;
        let shared = Shared {
            start: segments.first().map_or(Position::default(), |segment| segment.header.first),
            segments,
            tail: Tail::new((!in_memory).then_some(options.tail_bytes)),
            visible: writer.next,
            last_watermark: writer.last.watermark,
        };
        Ok(Log {
            name: directory.to_owned(),
            storage,
            schema,
            options,
            sequencer,
            encoder: Encoder::default(),
            appended: AtomicU64::new(writer.next.frame),
            writer: Mutex::new(writer),
            shared: RwLock::new(shared),
            open_files: OpenFiles::default(),
            retaining: Mutex::default(),
            leaving_bytes: AtomicU64::new(0),
            pins: Mutex::default(),
            listeners: RwLock::default(),
            below: RwLock::default(),
            recovered,
        })
    }

    /// The directory.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// When frames become visible.
    pub fn durability(&self) -> Durability {
        self.options.durability
    }

    /// What opening found.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// Watermark of the newest visible frame, `i64::MIN` if there never was one.
    pub fn last_watermark(&self) -> i64 {
        self.shared.read().last_watermark
    }

    /// The index behind the last frame that was appended; those not synced yet are not visible.
    pub fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// From now on segments are sealed at so many bytes and microseconds.
    pub fn seal_at(&self, bytes: u64, micros: i64) {
        self.writer.lock().seal_at = (bytes, micros);
    }

    /// Why the log takes no more frames, if so.
    pub fn failure(&self) -> Option<LogError> {
        self.writer.lock().failed.clone()
    }

    /// Appends frames as one request. With `sync` they are durable when this returns; without, a
    /// [`Durability::Durable`] log shows them only after [`Log::sync`].
    pub fn append(&self, frames: Vec<NewFrame>, sync: bool) -> Result<Appended, LogError> {
        let mut encoded =
            frames.into_iter().map(|frame| self.encode(frame)).collect::<Result<Vec<_>, _>>()?;
        as_one_request(&mut encoded);
        self.append_encoded(encoded, sync)
    }

    /// Says whose frames this log speaks of.
    pub fn rests_on<'a>(&self, below: impl Iterator<Item = &'a Arc<Log>>) {
        *self.below.write() = below.map(Arc::downgrade).collect();
    }

    /// Makes everything durable that was appended, and before that what it rests on, down to the bottom.
    pub fn sync(&self) -> Result<(), LogError> {
        self.sync_below()?;
        let more = {
            let mut writer = self.writer.lock();
            self.check(&writer)?;
            let next = writer.next;
            let synced = writer.disk.as_mut().map_or(Ok(()), |disk| disk.sync(next));
            self.settle(&mut writer, synced)?;
            self.publish(&mut writer)
        };
        if more {
            self.notify();
        }
        Ok(())
    }

    /// Makes everything durable that this log rests on.
    pub fn sync_below(&self) -> Result<(), LogError> {
        let below = self.below.read().clone();
        below.iter().filter_map(Weak::upgrade).try_for_each(|log| log.sync())
    }

    /// Appends frames that [`Log::encode`] made, as one group.
    pub(crate) fn append_encoded(
        &self,
        frames: Vec<EncodedFrame>,
        sync: bool,
    ) -> Result<Appended, LogError> {
        let (appended, more) = {
            let mut writer = self.writer.lock();
            self.check(&writer)?;
            let (first, last, pending) = (writer.next, writer.last, writer.pending.len());
            let mut written = self.write(&mut writer, frames, sync);
            if written.as_ref().is_err_and(LogError::found_no_room) {
                match writer.disk.as_ref().map_or(Ok(()), DiskWriter::cut_back) {
                    Ok(()) => {
                        (writer.next, writer.last) = (first, last);
                        writer.pending.truncate(pending);
                        return written.map(|frames| Appended { first, next: first, frames });
                    }
                    Err(error) => written = Err(error),
                }
            }
            let frames = self.settle(&mut writer, written)?;
            self.appended.store(writer.next.frame, Ordering::Release);
            let visible = match self.options.durability {
                Durability::Durable => sync,
                Durability::Written | Durability::Memory => true,
            };
            let more = visible && self.publish(&mut writer);
            (Appended { first, next: writer.next, frames }, more)
        };
        if more {
            self.notify();
        }
        Ok(appended)
    }

    fn check(&self, writer: &Writer) -> Result<(), LogError> {
        match &writer.failed {
            Some(cause) => {
                let (log, cause) = (self.name.clone(), Box::new(cause.clone()));
                Err(LogError::Refusing { log, cause })
            }
            None => Ok(()),
        }
    }

    /// Remembers a failure: from then on the log refuses, and gives up what is not visible yet.
    fn settle<T>(&self, writer: &mut Writer, result: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(error) = &result {
            writer.failed = Some(error.clone());
            writer.pending.clear();
            self.appended.store(self.shared.read().visible.frame, Ordering::Release);
        }
        result
    }

    fn write(
        &self,
        writer: &mut Writer,
        frames: Vec<EncodedFrame>,
        sync: bool,
    ) -> Result<Frames, LogError> {
        let group_bytes: usize = frames.iter().map(EncodedFrame::total).sum();
        let begun: Vec<_> = frames.iter().map(|_| OpenSequence::begin(&self.sequencer)).collect();
        if let Some((_, _, now)) = begun.first() {
            self.rotate_if_due(writer, group_bytes as u64, *now)?;
        }
        let mut group = Group::new(writer, group_bytes);
        for (frame, (open, sequence, ingest_time)) in frames.into_iter().zip(begun) {
            let frame = group.place(writer, frame, sequence, ingest_time);
            writer.pending.push(Pending { frame, _open: open });
        }
        if let Some(disk) = &mut writer.disk {
            if !group.bytes.is_empty() {
                disk.write(&group.bytes, &group.places)?;
            }
            if sync {
                disk.sync(writer.next)?;
            }
        }
        Ok(group.frames)
    }

    fn rotate_if_due(&self, writer: &mut Writer, more: u64, now: i64) -> Result<(), LogError> {
        let (bytes_max, micros_max) = writer.seal_at;
        let Some(disk) = &mut writer.disk else { return Ok(()) };
        // An empty one has the name that a new one would have: it may be one whose first frames found no room.
        let is_empty = disk.segment.number() == writer.next.frame;
        let Some(first_time) = disk.first_time.filter(|_| !is_empty) else {
            disk.first_time = Some(now);
            return Ok(());
        };
        let full = disk.segment.length().saturating_add(more) > bytes_max;
        let old = now.saturating_sub(first_time) >= micros_max;
        if full || old {
            disk.rotate(&*self.storage, &self.name, writer.next, writer.last)?;
            disk.first_time = Some(now);
            let segment = Arc::clone(&disk.segment);
            self.shared.write().segments.push(segment);
        }
        Ok(())
    }

    /// Shows what is pending; whether there was anything.
    fn publish(&self, writer: &mut Writer) -> bool {
        if writer.pending.is_empty() {
            return false;
        }
        let mut shared = self.shared.write();
        for pending in &writer.pending {
            shared.last_watermark = pending.frame.watermark;
            shared.tail.push(Arc::clone(&pending.frame));
        }
        shared.visible = writer.next;
        drop(shared);
        // Sequences are finished only now: whoever sees them complete finds the frames.
        writer.pending.clear();
        true
    }
}

#[cfg(test)]
impl Log {
    pub(crate) fn sequencer_complete(&self) -> u64 {
        self.sequencer.complete_through()
    }

    /// The last sequence given out; takes one itself to learn it.
    pub(crate) fn sequencer_last(&self) -> u64 {
        let (sequence, _) = self.sequencer.begin();
        self.sequencer.finish(sequence);
        sequence - 1
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("name", &self.name).finish_non_exhaustive()
    }
}
