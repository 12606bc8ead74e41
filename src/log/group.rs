//! Makes frames of batches, and one run of bytes of the frames that are written together.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::log::compact::compact;
use crate::log::error::LogError;
use crate::log::frame::{Frame, Frames, NewFrame, Position};
use crate::log::frame_bytes::{BODY_LIMIT, FrameHeader, HEADER_BYTES, padded};
use crate::log::log::{Appended, Durability, Log};
use crate::log::segment::{Last, Place};
use crate::log::writer::Writer;

/// A frame whose rows are encoded.
#[derive(Debug)]
pub(crate) struct EncodedFrame {
    pub(crate) frame: NewFrame,
    payload: Vec<u8>,
    /// The next frame belongs to the same request.
    more: bool,
}

impl EncodedFrame {
    /// Bytes behind the frame's header.
    fn body_bytes(&self) -> usize {
        padded(self.frame.meta.len()) + self.payload.len()
    }

    /// Bytes of the frame in a segment.
    pub(crate) fn total(&self) -> usize {
        HEADER_BYTES + self.body_bytes()
    }
}

impl Log {
    /// Checks and encodes a frame; needs no lock, so that several threads can prepare frames.
    pub(crate) fn encode(&self, mut frame: NewFrame) -> Result<EncodedFrame, LogError> {
        let mut payload = Vec::new();
        if let Some(batch) = frame.batch.take() {
            let batch = self.fit(&batch)?;
            if self.durability() != Durability::Memory {
                let encoded = self.encoder.encode(&batch, self.sequencer.now());
                payload = encoded.map_err(|error| self.wrong(error.to_string()))?;
            }
            frame.batch = Some(batch);
        }
        let encoded = EncodedFrame { frame, payload, more: false };
        self.check_size(&encoded)?;
        Ok(encoded)
    }

    /// Whether a frame keeps to the format's limit, which readers insist on.
    pub(crate) fn check_size(&self, encoded: &EncodedFrame) -> Result<(), LogError> {
        let bytes = encoded.body_bytes() as u64;
        if bytes > BODY_LIMIT {
            let log = self.name.clone();
            return Err(LogError::TooLarge { log, bytes, limit: BODY_LIMIT });
        }
        Ok(())
    }

    /// The batch with the log's own schema and without foreign bytes.
    fn fit(&self, batch: &RecordBatch) -> Result<RecordBatch, LogError> {
        let rows = batch.num_rows();
        if u32::try_from(rows).is_err() {
            return Err(self.wrong(format!("it has {rows} rows")));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let columns = batch.columns().iter().map(compact).collect();
        RecordBatch::try_new_with_options(SchemaRef::clone(&self.schema), columns, &options)
            .map_err(|error| self.wrong(error.to_string()))
    }

    fn wrong(&self, reason: String) -> LogError {
        LogError::WrongColumns { log: self.name.clone(), reason }
    }
}

/// Marks the frames as belonging together.
pub(crate) fn as_one_request(frames: &mut [EncodedFrame]) {
    if let Some((_, others)) = frames.split_last_mut() {
        for frame in others {
            frame.more = true;
        }
    }
}

/// Where the frames of each request came to stand; `counts` are their numbers.
pub(crate) fn shares(appended: &Appended, counts: &[usize]) -> Vec<Appended> {
    let mut rest = appended.frames.as_slice();
    let mut first = appended.first;
    let mut shares = Vec::with_capacity(counts.len());
    for &count in counts {
        let (own, others) = rest.split_at(count);
        rest = others;
        let next = own.last().map_or(first, |frame| Position {
            frame: frame.index + 1,
            offset: frame.next_offset(),
        });
        shares.push(Appended { first, next, frames: own.to_vec() });
        first = next;
    }
    shares
}

/// Frames that are written at once.
pub(crate) struct Group {
    pub(crate) bytes: Vec<u8>,
    /// The place behind each frame.
    pub(crate) places: Vec<Place>,
    pub(crate) frames: Frames,
    start: u64,
}

impl Group {
    pub(crate) fn new(writer: &Writer, bytes: usize) -> Group {
        let (capacity, start) =
            writer.disk.as_ref().map_or((0, 0), |disk| (bytes, disk.segment.length()));
        Group { bytes: Vec::with_capacity(capacity), places: Vec::new(), frames: Vec::new(), start }
    }

    /// Gives a frame its place and, where there is a disk, its bytes.
    pub(crate) fn place(
        &mut self,
        writer: &mut Writer,
        encoded: EncodedFrame,
        sequence: u64,
        ingest_time: i64,
    ) -> Arc<Frame> {
        let EncodedFrame { frame, payload, more } = encoded;
        let NewFrame { kind, batch, watermark, meta, passed_over } = frame;
        let Position { frame: index, offset: first_offset } = writer.next;
        let frame = Arc::new(Frame {
            kind,
            index,
            first_offset,
            sequence,
            ingest_time,
            watermark,
            meta,
            batch,
            columns: None,
            passed_over,
        });
        writer.next = Position { frame: index + 1, offset: frame.next_offset() };
        writer.last = Last { sequence, ingest_time, watermark };
        if writer.disk.is_some() {
            self.push(&frame, &payload, more);
            let byte = self.start + self.bytes.len() as u64;
            self.places.push(Place { at: writer.next, byte });
        }
        self.frames.push(Arc::clone(&frame));
        frame
    }

    fn push(&mut self, frame: &Frame, payload: &[u8], more: bool) {
        let meta_bytes = padded(frame.meta.len());
        let padding = &[0; 8][..meta_bytes - frame.meta.len()];
        let crc = crc32c::crc32c(&frame.meta);
        let crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, padding), payload);
        let header = FrameHeader {
            length: u32::try_from(meta_bytes + payload.len()).expect("encode checked the limit"),
            body_crc: crc,
            kind: frame.kind,
            has_batch: frame.batch.is_some(),
            more,
            rows: match frame.passed_over {
                0 => u32::try_from(frame.rows()).expect("encode checked the limit"),
                passed_over => passed_over,
            },
            index: frame.index,
            first_offset: frame.first_offset,
            sequence: frame.sequence,
            ingest_time: frame.ingest_time,
            watermark: frame.watermark,
            meta_length: u32::try_from(frame.meta.len()).expect("encode checked the limit"),
        };
        self.bytes.extend_from_slice(&header.to_bytes());
        self.bytes.extend_from_slice(&frame.meta);
        self.bytes.extend_from_slice(padding);
        self.bytes.extend_from_slice(payload);
    }
}
