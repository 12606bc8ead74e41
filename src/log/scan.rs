//! Walks through the frames of a segment, checking that each continues the one before.

use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;

use crate::log::error::LogError;
use crate::log::frame::{Frame, Position};
use crate::log::frame_bytes::{FrameHeader, HEADER_BYTES, padded};
use crate::log::payload;
use crate::log::segment::{Last, Place, Segment};
use crate::log::storage::StorageFile;

/// Bytes fetched at once when frames are small.
const CHUNK_BYTES: usize = 256 << 10;

/// What stands at a scanner's place.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// A sound header of a frame that lies in the file as a whole.
    Frame(FrameHeader),
    /// The end of the segment.
    End,
    /// Bytes that are no frame, or not the next one.
    Damaged(String),
}

/// A place in a segment that moves from frame to frame.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    segment: &'a Segment,
    file: Arc<dyn StorageFile>,
    end: u64,
    place: Place,
    /// The frame before, where it is known.
    last: Option<Last>,
    /// Ingest time of the first frame that was passed.
    first_time: Option<i64>,
    chunk: Buffer,
    chunk_start: u64,
    /// Whether the frame that was passed last is larger than a chunk.
    large: bool,
}

impl<'a> Scanner<'a> {
    /// Starts at `place`, which must be the start of a frame; reads nothing from `end` on.
    pub(crate) fn new(
        segment: &'a Segment,
        file: Arc<dyn StorageFile>,
        place: Place,
        end: u64,
    ) -> Scanner<'a> {
        let last = (place == segment.first_place()).then_some(segment.header.before);
        let chunk = Buffer::from_vec(Vec::<u8>::new());
        Scanner {
            segment,
            file,
            end,
            place,
            last,
            first_time: None,
            chunk,
            chunk_start: 0,
            large: false,
        }
    }

    /// Where the next frame lies.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// The frame that was passed last.
    pub(crate) fn last(&self) -> Option<Last> {
        self.last
    }

    /// Ingest time of the first frame that was passed.
    pub(crate) fn first_time(&self) -> Option<i64> {
        self.first_time
    }

    /// Lets the segment's index learn of this place.
    pub(crate) fn note_place(&self) {
        self.segment.note(self.place);
    }

    /// Lets the scanner go on to `end`.
    pub(crate) fn extend(&mut self, end: u64) {
        self.end = end;
    }

    /// Looks at what comes next.
    pub(crate) fn peek(&mut self) -> Result<Step, LogError> {
        let rest = self.end.saturating_sub(self.place.byte);
        if rest == 0 {
            return Ok(Step::End);
        }
        if rest < HEADER_BYTES as u64 {
            return Ok(Step::Damaged("the frame's header is cut off".to_owned()));
        }
        let bytes = self.bytes(self.place.byte, HEADER_BYTES)?;
        let header = match FrameHeader::parse(&bytes) {
            Ok(header) => header,
            Err(reason) => return Ok(Step::Damaged(reason.to_owned())),
        };
        if header.total() > rest {
            return Ok(Step::Damaged("the frame is cut off".to_owned()));
        }
        let at = Position { frame: header.index, offset: header.first_offset };
        if at != self.place.at {
            return Ok(Step::Damaged("the frame does not follow the one before".to_owned()));
        }
        let in_order = self.last.is_none_or(|last| {
            header.sequence > last.sequence && header.ingest_time >= last.ingest_time
        });
        if !in_order {
            return Ok(Step::Damaged("the frame's sequence goes back".to_owned()));
        }
        Ok(Step::Frame(header))
    }

    /// Looks at what comes next where all bytes are known to be durable or written by this process:
    /// damage is an error. Also tells the frame's first byte.
    pub(crate) fn peek_sound(&mut self) -> Result<Option<(FrameHeader, u64)>, LogError> {
        match self.peek()? {
            Step::Frame(header) => Ok(Some((header, self.place.byte))),
            Step::End => Ok(None),
            Step::Damaged(reason) => {
                Err(LogError::corrupt(&self.segment.path, self.place.byte, reason))
            }
        }
    }

    /// Moves behind the frame that [`Scanner::peek`] showed.
    pub(crate) fn skip(&mut self, header: &FrameHeader) {
        self.first_time = self.first_time.or(Some(header.ingest_time));
        self.large = header.total() > CHUNK_BYTES as u64;
        self.last = Some(Last {
            sequence: header.sequence,
            ingest_time: header.ingest_time,
            watermark: header.watermark,
        });
        let at = Position { frame: header.index + 1, offset: header.next_offset() };
        self.place = Place { at, byte: self.place.byte + header.total() };
    }

    /// The bytes behind the header of the frame at this place; `None` if their checksum is wrong.
    pub(crate) fn body(&mut self, header: &FrameHeader) -> Result<Option<Buffer>, LogError> {
        // One read for header and body, where the chunk does not hold them yet.
        let frame = self.bytes(self.place.byte, header.total() as usize)?;
        let body = frame.slice(HEADER_BYTES);
        Ok((crc32c::crc32c(&body) == header.body_crc).then_some(body))
    }

    /// Decodes the frame at this place, with some columns of the log or all.
    pub(crate) fn frame(
        &mut self,
        header: &FrameHeader,
        schema: &SchemaRef,
        columns: Option<&Arc<[usize]>>,
    ) -> Result<Frame, LogError> {
        let byte = self.place.byte;
        let damaged = |reason: String| LogError::corrupt(&self.segment.path, byte, reason);
        let body = self.body(header)?;
        let body = body.ok_or_else(|| damaged("the checksum of the frame is wrong".to_owned()))?;
        decode(header, &body, schema, columns).map_err(damaged)
    }

    fn bytes(&mut self, position: u64, length: usize) -> Result<Buffer, LogError> {
        let known = position
            .checked_sub(self.chunk_start)
            .and_then(|start| usize::try_from(start).ok())
            .filter(|start| start.saturating_add(length) <= self.chunk.len());
        let start = match known {
            Some(start) => start,
            None => {
                let rest = usize::try_from(self.end - position).unwrap_or(usize::MAX);
                // Of a large frame a chunk with its header would be read once more with the frame.
                let chunk = if self.large { HEADER_BYTES } else { CHUNK_BYTES };
                let wanted = length.max(chunk.min(rest));
                let bytes = self
                    .file
                    .read_at(position, wanted)
                    .map_err(|error| LogError::io("read", &self.segment.path, &error))?;
                if bytes.len() < length {
                    let path = &self.segment.path;
                    return Err(LogError::corrupt(path, position, "the file ends too early"));
                }
                self.chunk = Buffer::from_vec(bytes);
                self.chunk_start = position;
                0
            }
        };
        Ok(self.chunk.slice_with_length(start, length))
    }
}

fn decode(
    header: &FrameHeader,
    body: &Buffer,
    schema: &SchemaRef,
    columns: Option<&Arc<[usize]>>,
) -> Result<Frame, String> {
    let meta_length = header.meta_length as usize;
    let batch = if header.has_batch {
        let payload = body.slice(padded(meta_length));
        Some(payload::decode(schema, header.rows, &payload, columns.map(|columns| &**columns))?)
    } else {
        None
    };
    Ok(Frame {
        kind: header.kind,
        index: header.index,
        first_offset: header.first_offset,
        sequence: header.sequence,
        ingest_time: header.ingest_time,
        watermark: header.watermark,
        meta: body[..meta_length].to_vec(),
        batch,
        columns: columns.cloned(),
        passed_over: if header.has_batch { 0 } else { header.rows },
    })
}
