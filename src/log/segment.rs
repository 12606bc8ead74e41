//! Keeps a stretch of a log in one file: a header, then frames one behind the other.
//!
//! ```text
//!   00000000000000000000.seg   00000000000000004711.seg          named by the index of the first frame
//!   ┌────────┬───────┬───────┐ ┌────────┬───────┬─────
//!   │ header │ frame │ frame │ │ header │ frame │ …                each starts at a multiple of 8
//!   └────────┴───────┴───────┘ └────────┴───────┴─────
//!
//!   header
//!   0          8         12       16      24       32         40         48            56          64
//!   ├──────────┼─────────┼────────┼───────┼────────┼──────────┼──────────┼─────────────┼───────────┤
//!   │ WEIRSEGM │ version │ length │ first │ first  │ previous │ sequence │ ingest time │ watermark │
//!   │          │         │        │ frame │ offset │ segment  │ before   │ before      │ before    │
//!   ├──────────┴─────────┼────────┴───────┴────────┴──────────┴──────────┴─────────────┴───────────┤
//!   │ schema length      │ schema as JSON, zeros so that the crc ends at a multiple of 8, crc      │
//!   └────────────────────┴─────────────────────────────────────────────────────────────────────────┘
//! ```
//! Only the header is read when a log is opened. Where a frame lies is found with a sparse index, one
//! entry per 64 KiB, that appending fills and reading completes; it is never stored.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::log::error::LogError;
use crate::log::frame::Position;
use crate::log::frame_bytes::{padded, u32_at, u64_at};
use crate::log::scan::Scanner;
use crate::log::storage::{Storage, StorageFile};

const MAGIC: &[u8; 8] = b"WEIRSEGM";
const VERSION: u32 = 1;
const FIXED_BYTES: usize = 68;
/// Bytes that a header may take; the schema is most of it.
const HEADER_LIMIT: usize = 16 << 20;
/// Distance of the index's entries in bytes.
const INDEX_DISTANCE: u64 = 64 << 10;
/// "There is no segment before."
const NONE: u64 = u64::MAX;

/// What a log knows about its newest frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) sequence: u64,
    pub(crate) ingest_time: i64,
    pub(crate) watermark: i64,
}

impl Last {
    /// Before the first frame of a log.
    pub(crate) const NONE: Last = Last { sequence: 0, ingest_time: i64::MIN, watermark: i64::MIN };
}

/// What stands at the front of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The segment's first frame and row.
    pub(crate) first: Position,
    /// Number of the segment before.
    pub(crate) previous: Option<u64>,
    /// The newest frame before this segment.
    pub(crate) before: Last,
    /// See [`crate::log::schema_text`].
    pub(crate) schema: String,
}

impl SegmentHeader {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let length = padded(FIXED_BYTES + self.schema.len() + 4);
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        bytes.extend_from_slice(&self.first.frame.to_le_bytes());
        bytes.extend_from_slice(&self.first.offset.to_le_bytes());
        bytes.extend_from_slice(&self.previous.unwrap_or(NONE).to_le_bytes());
        bytes.extend_from_slice(&self.before.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.before.ingest_time.to_le_bytes());
        bytes.extend_from_slice(&self.before.watermark.to_le_bytes());
        bytes.extend_from_slice(&(self.schema.len() as u32).to_le_bytes());
        bytes.extend_from_slice(self.schema.as_bytes());
        bytes.resize(length - 4, 0);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header and its length; the text says what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(SegmentHeader, u64), &'static str> {
        let length = SegmentHeader::length(bytes)?;
        let bytes = bytes.get(..length).ok_or("the segment's header is cut off")?;
        if crc32c::crc32c(&bytes[..length - 4]) != u32_at(bytes, length - 4) {
            return Err("the checksum of the segment's header is wrong");
        }
        let schema_end = FIXED_BYTES + u32_at(bytes, 64) as usize;
        let schema = bytes[..length - 4].get(FIXED_BYTES..schema_end);
        let schema = schema.and_then(|text| String::from_utf8(text.to_vec()).ok());
        let header = SegmentHeader {
            first: Position { frame: u64_at(bytes, 16), offset: u64_at(bytes, 24) },
            previous: Some(u64_at(bytes, 32)).filter(|&number| number != NONE),
            before: Last {
                sequence: u64_at(bytes, 40),
                ingest_time: u64_at(bytes, 48).cast_signed(),
                watermark: u64_at(bytes, 56).cast_signed(),
            },
            schema: schema.ok_or("the segment's schema is cut off")?,
        };
        Ok((header, length as u64))
    }

    /// The version of a header that a newer program wrote; a version that is merely damaged is none.
    fn newer(bytes: &[u8]) -> Option<u32> {
        if bytes.len() < FIXED_BYTES || &bytes[..8] != MAGIC || u32_at(bytes, 8) <= VERSION {
            return None;
        }
        let mut mended = bytes.to_vec();
        mended[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let damaged = SegmentHeader::parse(&mended).is_ok();
        (!damaged).then(|| u32_at(bytes, 8))
    }

    fn length(bytes: &[u8]) -> Result<usize, &'static str> {
        if bytes.len() < FIXED_BYTES || &bytes[..8] != MAGIC {
            return Err("the file does not begin as a segment does");
        }
        if u32_at(bytes, 8) != VERSION {
            return Err("the segment is of an unknown version");
        }
        let length = u32_at(bytes, 12) as usize;
        if !(FIXED_BYTES + 4..=HEADER_LIMIT).contains(&length) || !length.is_multiple_of(8) {
            return Err("the length of the segment's header is out of range");
        }
        Ok(length)
    }
}

/// Where a frame lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The frame and its first row.
    pub(crate) at: Position,
    /// Its first byte.
    pub(crate) byte: u64,
}

/// One file of a log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    pub(crate) path: String,
    /// Bytes that hold whole frames.
    length: AtomicU64,
    handle: Mutex<Handle>,
    index: Mutex<Vec<Place>>,
}

#[derive(Debug)]
enum Handle {
    Closed,
    Open(Arc<dyn StorageFile>),
    /// Retention took the file; opening it would create an empty one.
    Removed,
}

/// The path of a segment's file.
pub(crate) fn path(directory: &str, number: u64) -> String {
    format!("{directory}/{number:020}.seg")
}

/// The number in a segment's file name.
pub(crate) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let sound = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if sound { digits.parse().ok() } else { None }
}

impl Segment {
    /// A segment whose header takes `header_bytes` and whose file is open.
    pub(crate) fn new(
        header: SegmentHeader,
        path: String,
        header_bytes: u64,
        file: Arc<dyn StorageFile>,
    ) -> Segment {
        let first = Place { at: header.first, byte: header_bytes };
        Segment {
            header,
            path,
            length: AtomicU64::new(header_bytes),
            handle: Mutex::new(Handle::Open(file)),
            index: Mutex::new(vec![first]),
        }
    }

    /// Reads the header of an existing file.
    pub(crate) fn read(path: String, file: Arc<dyn StorageFile>) -> Result<Segment, LogError> {
        let failed = |error: std::io::Error| LogError::io("read", &path, &error);
        let start = file.read_at(0, 4096).map_err(failed)?;
        let is_known = start.len() < 12 || u32_at(&start, 8) <= VERSION;
        if !is_known
            && let Some(found) =
                SegmentHeader::newer(&file.read_at(0, HEADER_LIMIT).map_err(failed)?)
        {
            return Err(LogError::Version { path, found, known: VERSION });
        }
        let length =
            SegmentHeader::length(&start).map_err(|reason| LogError::corrupt(&path, 0, reason))?;
        let bytes =
            if length > start.len() { file.read_at(0, length).map_err(failed)? } else { start };
        let (header, header_bytes) =
            SegmentHeader::parse(&bytes).map_err(|reason| LogError::corrupt(&path, 0, reason))?;
        let length = file.len().map_err(failed)?;
        let segment = Segment::new(header, path, header_bytes, file);
        segment.set_length(length);
        Ok(segment)
    }

    /// Index of the first frame, which is also the segment's name.
    pub(crate) fn number(&self) -> u64 {
        self.header.first.frame
    }

    pub(crate) fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    pub(crate) fn set_length(&self, length: u64) {
        self.length.store(length, Ordering::Release);
    }

    /// The open file; `None` once retention has taken it.
    pub(crate) fn file(
        &self,
        storage: &dyn Storage,
    ) -> Result<Option<Arc<dyn StorageFile>>, LogError> {
        let mut handle = self.handle.lock();
        match &*handle {
            Handle::Open(file) => Ok(Some(Arc::clone(file))),
            Handle::Removed => Ok(None),
            Handle::Closed => {
                let file = storage
                    .open(&self.path)
                    .map_err(|error| LogError::io("open", &self.path, &error))?;
                *handle = Handle::Open(Arc::clone(&file));
                Ok(Some(file))
            }
        }
    }

    /// Lets go of the file; the next reader opens it again.
    pub(crate) fn close(&self) {
        let mut handle = self.handle.lock();
        if matches!(*handle, Handle::Open(_)) {
            *handle = Handle::Closed;
        }
    }

    /// Removes the file, if it is there. Readers that have it open read on.
    pub(crate) fn remove(&self, storage: &dyn Storage) -> Result<(), LogError> {
        let mut handle = self.handle.lock();
        *handle = Handle::Removed;
        match storage.remove(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LogError::io("remove", &self.path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Where the first frame lies.
    pub(crate) fn first_place(&self) -> Place {
        self.index.lock()[0]
    }

    /// Learns where a frame lies; keeps it if the last entry is far enough away.
    pub(crate) fn note(&self, place: Place) {
        let mut index = self.index.lock();
        if index.last().is_none_or(|last| place.byte >= last.byte + INDEX_DISTANCE) {
            index.push(place);
        }
    }

    /// A scanner that stands at the first frame for which `passed` is false, or at the end.
    ///
    /// `passed` is told the position behind a frame, and must not turn true again.
    pub(crate) fn seek(
        &self,
        file: Arc<dyn StorageFile>,
        passed: impl Fn(Position) -> bool,
    ) -> Result<Scanner<'_>, LogError> {
        let start = {
            let index = self.index.lock();
            // An entry is behind a frame; if that frame is passed, so are all before it.
            let behind = index[1..].partition_point(|place| passed(place.at));
            index[behind]
        };
        let mut scanner = Scanner::new(self, file, start, self.length());
        while let Some((header, _)) = scanner.peek_sound()? {
            let next = Position { frame: header.index + 1, offset: header.next_offset() };
            if !passed(next) {
                break;
            }
            scanner.skip(&header);
            scanner.note_place();
        }
        Ok(scanner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            first: Position { frame: 4711, offset: 99 },
            previous: Some(12),
            before: Last { sequence: 5, ingest_time: -1, watermark: i64::MIN },
            schema: "[]".to_owned(),
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was_written() {
        for schema in ["", "[]", "[{\"name\":\"ü\"}]"] {
            for previous in [None, Some(12)] {
                let header = SegmentHeader { schema: schema.to_owned(), previous, ..header() };
                let bytes = header.to_bytes();
                assert_eq!(bytes.len() % 8, 0);
                assert_eq!(SegmentHeader::parse(&bytes), Ok((header, bytes.len() as u64)));
            }
        }
    }

    #[test]
    fn a_flipped_bit_or_a_cut_in_a_header_is_seen() {
        let whole = header().to_bytes();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::parse(&bytes).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            assert!(SegmentHeader::parse(&whole[..length]).is_err());
        }
    }

    #[test]
    fn only_names_of_segments_are_taken_for_segments() {
        assert_eq!(number("00000000000000004711.seg"), Some(4711));
        assert_eq!(path("d", 4711), "d/00000000000000004711.seg");
        for name in ["4711.seg", "mark", "0000000000000000471x.seg", "99999999999999999999.seg"] {
            assert_eq!(number(name), None, "{name}");
        }
    }
}
