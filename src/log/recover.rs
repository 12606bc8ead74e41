//! Finds out what a log holds when it is opened, and cuts what a crash left half written.
//!
//! ```text
//!   sealed segments          the marked segment                 maybe one more, from a crash while
//!   ┌───┬──────────────┐     ┌───┬───────────────╎──────┐        the log moved to a new segment
//!   │ H │ frames       │  …  │ H │ frames        ╎ tail │
//!   └───┴──────────────┘     └───┴───────────────╎──────┘
//!   header checked; frames    headers checked    ╎ all checked: kept up to the first bad byte,
//!   when they are read        now, bodies when   ╎ the rest is cut, even if good frames follow
//!                             they are read    mark
//! ```
//! Below the mark a wrong byte is corruption, reported with file and position and never skipped.
//! Above it a wrong byte is a tail that was being written when the power went. Good frames behind it
//! are cut as well: they were never acknowledged, and keeping them would leave a hole in the order.
//! A request whose frames are only partly there is cut as a whole. What is kept of the tail becomes
//! durable before anybody reads it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;

use crate::log::error::LogError;
use crate::log::frame::Position;
use crate::log::mark::{Mark, MarkFile};
use crate::log::scan::{Scanner, Step};
use crate::log::schema_text::schema_text;
use crate::log::segment::{self, Last, Place, Segment, SegmentHeader};
use crate::log::storage::Storage;
use crate::log::writer::{DiskWriter, create_segment};

/// What opening a log found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Frames that the log holds.
    pub frames: u64,
    /// Bytes of unacknowledged frames that were cut.
    pub cut_bytes: u64,
    /// Watermark of the newest frame, `i64::MIN` if there never was one.
    pub last_watermark: i64,
}

/// A log as it was found, ready to be appended to.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) disk: DiskWriter,
    pub(crate) next: Position,
    pub(crate) last: Last,
    pub(crate) recovered: Recovered,
}

/// Refuses to take a log that was there for a new one: a log has a segment and a mark once it was opened.
///
/// # Errors
/// [`LogError::Missing`]; the storage's.
pub fn must_exist(storage: &dyn Storage, directory: &str) -> Result<(), LogError> {
    let names = storage.list(directory);
    let names = names.map_err(|error| LogError::io("open", directory, &error))?;
    match names.iter().any(|name| name == "mark" || segment::number(name).is_some()) {
        true => Ok(()),
        false => Err(LogError::Missing { log: directory.to_owned() }),
    }
}

/// Opens the log in `directory`, creating it if it is missing.
pub(crate) fn recover(
    storage: &dyn Storage,
    directory: &str,
    schema: &SchemaRef,
) -> Result<Recovery, LogError> {
    let schema = schema_text(schema);
    let names = prepare_directory(storage, directory)
        .map_err(|error| LogError::io("open", directory, &error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number(name)).collect();
    numbers.sort_unstable();
    let mark_path = format!("{directory}/mark");
    let (mark_file, mark) = MarkFile::open(storage, mark_path.clone())?;
    let opening = Opening { storage, directory, schema };
    match mark {
        Some(mark) => opening.existing(mark_file, mark, &numbers),
        None if opening.never_used(&numbers)? => opening.fresh(mark_file),
        None => Err(LogError::corrupt(&mark_path, 0, "the mark is missing or damaged")),
    }
}

/// Creates the directory, makes its name durable, and lists it.
fn prepare_directory(storage: &dyn Storage, directory: &str) -> std::io::Result<Vec<String>> {
    storage.create_dir(directory)?;
    let mut path = directory;
    while let Some((parent, _)) = path.rsplit_once('/') {
        storage.sync_dir(parent)?;
        path = parent;
    }
    storage.sync_dir("")?;
    storage.list(directory)
}

struct Opening<'a> {
    storage: &'a dyn Storage,
    directory: &'a str,
    schema: String,
}

/// Up to where the frames of a log are good.
#[derive(Debug, Clone, Copy)]
struct Good {
    place: Place,
    last: Last,
    first_time: Option<i64>,
}

impl Opening<'_> {
    fn first_header(&self) -> SegmentHeader {
        let schema = self.schema.clone();
        SegmentHeader { first: Position::default(), previous: None, before: Last::NONE, schema }
    }

    /// Whether there is at most a first segment without a frame. The mark is written before the
    /// first frame, so without a mark anything more is damage.
    fn never_used(&self, numbers: &[u64]) -> Result<bool, LogError> {
        match numbers {
            [] => Ok(true),
            [0] => {
                let path = segment::path(self.directory, 0);
                let length = self.storage.open(&path).and_then(|file| file.len());
                let length = length.map_err(|error| LogError::io("read", &path, &error))?;
                Ok(length <= self.first_header().to_bytes().len() as u64)
            }
            _ => Ok(false),
        }
    }

    fn fresh(&self, mut mark: MarkFile) -> Result<Recovery, LogError> {
        // Both names are durable before the mark points to the segment.
        let (segment, file) = create_segment(self.storage, self.directory, self.first_header())?;
        let next = Position::default();
        mark.write(Mark { segment: 0, position: segment.length(), next })?;
        let segments = vec![Arc::clone(&segment)];
        let disk = DiskWriter { segment, file, mark, unsynced: false, first_time: None };
        let recovered = Recovered { frames: 0, cut_bytes: 0, last_watermark: i64::MIN };
        Ok(Recovery { segments, disk, next, last: Last::NONE, recovered })
    }

    fn existing(
        &self,
        mut mark_file: MarkFile,
        mark: Mark,
        numbers: &[u64],
    ) -> Result<Recovery, LogError> {
        let (sealed, later) = numbers.split_at(numbers.partition_point(|&n| n <= mark.segment));
        let mut segments = self.sealed(sealed, mark)?;
        let marked = Arc::clone(segments.last().expect("the marked segment is there"));
        let mut scanner = self.below_the_mark(&marked, mark)?;
        let mut good = above_the_mark(&mut scanner)?;
        let mut cut_bytes = self.cut(&marked, good.place.byte, mark)?;
        let mut removed = 0;
        for &number in later {
            let path = segment::path(self.directory, number);
            let open = self.storage.open(&path);
            let file = open.map_err(|error| LogError::io("open", &path, &error))?;
            let length = file.len().map_err(|error| LogError::io("read", &path, &error))?;
            let next = (cut_bytes == 0 && removed == 0)
                .then(|| self.following(&path, &segments, good))
                .transpose()?
                .flatten();
            if let Some(segment) = next {
                let mut scanner = scan_all(&segment, self.storage)?;
                good = above_the_mark(&mut scanner)?;
                cut_bytes += self.cut(&segment, good.place.byte, mark)?;
                segments.push(segment);
            } else {
                cut_bytes += length;
                removed += 1;
                let gone = self.storage.remove(&path);
                gone.map_err(|error| LogError::io("remove", &path, &error))?;
            }
        }
        if removed > 0 {
            let synced = self.storage.sync_dir(self.directory);
            synced.map_err(|error| LogError::io("sync", self.directory, &error))?;
        }
        let segment = Arc::clone(segments.last().expect("at least the marked segment"));
        let next = good.place.at;
        let found = Mark { segment: segment.number(), position: segment.length(), next };
        if found != mark {
            mark_file.write(found)?;
        }
        let file = segment.file(self.storage)?.expect("a segment of an opening log is not removed");
        let recovered = Recovered {
            frames: next.frame - segments[0].number(),
            cut_bytes,
            last_watermark: good.last.watermark,
        };
        let first_time = good.first_time;
        let disk = DiskWriter { segment, file, mark: mark_file, unsynced: false, first_time };
        Ok(Recovery { segments, disk, next, last: good.last, recovered })
    }

    /// Opens the segments up to the marked one; all of them were durable as a whole.
    fn sealed(&self, numbers: &[u64], mark: Mark) -> Result<Vec<Arc<Segment>>, LogError> {
        if numbers.last() != Some(&mark.segment) {
            let path = segment::path(self.directory, mark.segment);
            return Err(LogError::corrupt(&path, 0, "the file is missing"));
        }
        let mut segments: Vec<Arc<Segment>> = Vec::with_capacity(numbers.len());
        for &number in numbers {
            let path = segment::path(self.directory, number);
            let file = self.storage.open(&path);
            let file = file.map_err(|error| LogError::io("open", &path, &error))?;
            let segment = Segment::read(path.clone(), file)?;
            let before = segments.last().map(|segment| segment.number());
            if segment.number() != number {
                return Err(LogError::corrupt(&path, 0, "the file has the name of another"));
            }
            if before.is_some() && segment.header.previous != before {
                return Err(LogError::corrupt(&path, 0, "the segment before it is missing"));
            }
            if segment.header.schema != self.schema {
                let found = segment.header.schema.clone();
                return Err(LogError::SchemaMismatch {
                    path,
                    found,
                    expected: self.schema.clone(),
                });
            }
            segment.close();
            segments.push(Arc::new(segment));
        }
        Ok(segments)
    }

    /// Checks the headers up to the mark, where the scanner then stands.
    fn below_the_mark<'s>(
        &self,
        segment: &'s Segment,
        mark: Mark,
    ) -> Result<Scanner<'s>, LogError> {
        let length = segment.length();
        if length < mark.position {
            let reason = "the file ends before its acknowledged end";
            return Err(LogError::corrupt(&segment.path, length, reason));
        }
        let mut scanner = scan_all(segment, self.storage)?;
        scanner.extend(mark.position);
        while let Some((header, _)) = scanner.peek_sound()? {
            scanner.skip(&header);
            scanner.note_place();
        }
        if scanner.place() != (Place { at: mark.next, byte: mark.position }) {
            let reason = "the frames do not lead to the acknowledged end";
            return Err(LogError::corrupt(&segment.path, mark.position, reason));
        }
        scanner.extend(length);
        Ok(scanner)
    }

    /// Cuts a segment behind its good frames and makes durable what is kept.
    fn cut(&self, segment: &Segment, good: u64, mark: Mark) -> Result<u64, LogError> {
        let length = segment.length();
        let untouched = segment.number() == mark.segment && length == mark.position;
        if untouched {
            return Ok(0);
        }
        let file = segment.file(self.storage)?.expect("a segment of an opening log is not removed");
        if good < length {
            file.set_len(good).map_err(|error| LogError::io("cut", &segment.path, &error))?;
            segment.set_length(good);
        }
        file.sync().map_err(|error| LogError::io("sync", &segment.path, &error))?;
        Ok(length - good)
    }

    /// The segment at `path`, if it follows the last one without a gap.
    fn following(
        &self,
        path: &str,
        segments: &[Arc<Segment>],
        good: Good,
    ) -> Result<Option<Arc<Segment>>, LogError> {
        let expected = SegmentHeader {
            first: good.place.at,
            previous: segments.last().map(|segment| segment.number()),
            before: good.last,
            schema: self.schema.clone(),
        };
        let file = self.storage.open(path).map_err(|error| LogError::io("open", path, &error))?;
        match Segment::read(path.to_owned(), file) {
            Ok(segment) if segment.header == expected => Ok(Some(Arc::new(segment))),
            Ok(_) | Err(LogError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn scan_all<'s>(segment: &'s Segment, storage: &dyn Storage) -> Result<Scanner<'s>, LogError> {
    let file = segment.file(storage)?.expect("a segment of an opening log is not removed");
    Ok(Scanner::new(segment, file, segment.first_place(), segment.length()))
}

/// Walks on to the end of the last request that is whole.
fn above_the_mark(scanner: &mut Scanner<'_>) -> Result<Good, LogError> {
    let last = scanner.last().expect("the scanner came from the segment's start");
    let mut good = Good { place: scanner.place(), last, first_time: scanner.first_time() };
    while let Step::Frame(header) = scanner.peek()? {
        if scanner.body(&header)?.is_none() {
            break;
        }
        scanner.skip(&header);
        if !header.more {
            let last = scanner.last().expect("a frame was passed");
            good = Good { place: scanner.place(), last, first_time: scanner.first_time() };
            scanner.note_place();
        }
    }
    Ok(good)
}
