//! Writes a frame's header and reads it back, trusting no byte.
//!
//! ```text
//!      0        4          8      9       10     12     16
//!      ┌────────┬──────────┬──────┬───────┬──────┬──────┬──────────────┐
//!      │ length │ body crc │ kind │ flags │  0   │ rows │ index        │
//!   16+├────────┴──────────┴──────┼───────┴──────┴──────┼──────────────┤ 24
//!      │ first offset 24..32      │ sequence 32..40     │ ingest time  │ 48
//!   48+├──────────────────────────┼─────────────┬───────┴──────────────┤
//!      │ watermark 48..56         │ meta length │ header crc           │ 64
//!   64+├──────────────────────────┴─────────────┴──────────────────────┤
//!      │ meta, zeros to a multiple of 8, payload (see `payload`)       │ 64 + length
//!      └───────────────────────────────────────────────────────────────┘
//! ```
//! Little-endian. The length counts the bytes behind the header. The header has a checksum of its
//! own, so that a reader may hop from header to header without reading the bodies; the other one
//! covers the body. Both are CRC-32C.

use crate::log::frame::FrameKind;

/// Bytes of a frame's header.
pub(crate) const HEADER_BYTES: usize = 64;
/// Bytes that may follow a frame's header.
pub(crate) const BODY_LIMIT: u64 = 256 << 20;

/// The frame has a batch.
const FLAG_BATCH: u8 = 1;
/// The next frame belongs to the same request: both are kept or none.
const FLAG_MORE: u8 = 2;

/// Everything about a frame but its meta and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) length: u32,
    pub(crate) body_crc: u32,
    pub(crate) kind: FrameKind,
    pub(crate) has_batch: bool,
    pub(crate) more: bool,
    pub(crate) rows: u32,
    pub(crate) index: u64,
    pub(crate) first_offset: u64,
    pub(crate) sequence: u64,
    pub(crate) ingest_time: i64,
    pub(crate) watermark: i64,
    pub(crate) meta_length: u32,
}

impl FrameHeader {
    /// Bytes of the frame, header included.
    pub(crate) fn total(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.length)
    }

    /// The offset after the frame's last row.
    pub(crate) fn next_offset(&self) -> u64 {
        self.first_offset + u64::from(self.rows)
    }

    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[8] = self.kind as u8;
        bytes[9] = u8::from(self.has_batch) * FLAG_BATCH + u8::from(self.more) * FLAG_MORE;
        bytes[12..16].copy_from_slice(&self.rows.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.index.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_offset.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.ingest_time.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.watermark.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.meta_length.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header; the reason says what is wrong with it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<FrameHeader, &'static str> {
        if bytes.len() < HEADER_BYTES {
            return Err("the frame's header is cut off");
        }
        if crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err("the checksum of the frame's header is wrong");
        }
        let kind = match bytes[8] {
            0 => FrameKind::Rows,
            1 => FrameKind::Punctuation,
            2 => FrameKind::Tick,
            3 => FrameKind::Progress,
            4 => FrameKind::Void,
            _ => return Err("the frame is of an unknown kind"),
        };
        if bytes[9] & !(FLAG_BATCH | FLAG_MORE) != 0 || bytes[10..12] != [0, 0] {
            return Err("the frame has an unknown flag");
        }
        let header = FrameHeader {
            length: u32_at(bytes, 0),
            body_crc: u32_at(bytes, 4),
            kind,
            has_batch: bytes[9] & FLAG_BATCH != 0,
            more: bytes[9] & FLAG_MORE != 0,
            rows: u32_at(bytes, 12),
            index: u64_at(bytes, 16),
            first_offset: u64_at(bytes, 24),
            sequence: u64_at(bytes, 32),
            ingest_time: u64_at(bytes, 40).cast_signed(),
            watermark: u64_at(bytes, 48).cast_signed(),
            meta_length: u32_at(bytes, 56),
        };
        header.check_limits()?;
        Ok(header)
    }

    fn check_limits(&self) -> Result<(), &'static str> {
        if u64::from(self.length) > BODY_LIMIT {
            return Err("the frame is longer than any frame may be");
        }
        if padded(self.meta_length as usize) > self.length as usize {
            return Err("the frame's meta is longer than the frame");
        }
        let void = self.kind == FrameKind::Void;
        if self.rows > 0 && self.has_batch == void {
            return Err("the frame counts rows but has none");
        }
        if self.first_offset.checked_add(u64::from(self.rows)).is_none() {
            return Err("the frame's offset is out of range");
        }
        Ok(())
    }
}

/// The length rounded up to a multiple of 8.
pub(crate) fn padded(length: usize) -> usize {
    length.next_multiple_of(8)
}

/// The little-endian number at `position`; the caller has checked the length.
pub(crate) fn u32_at(bytes: &[u8], position: usize) -> u32 {
    u32::from_le_bytes(bytes[position..position + 4].try_into().expect("four bytes"))
}

/// The little-endian number at `position`; the caller has checked the length.
pub(crate) fn u64_at(bytes: &[u8], position: usize) -> u64 {
    u64::from_le_bytes(bytes[position..position + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            length: 40,
            body_crc: 7,
            kind: FrameKind::Rows,
            has_batch: true,
            more: true,
            rows: 3,
            index: 11,
            first_offset: 30,
            sequence: 99,
            ingest_time: -5,
            watermark: i64::MIN,
            meta_length: 9,
        }
    }

    #[test]
    fn a_header_comes_back_as_it_was_written() {
        use FrameKind::{Progress, Punctuation, Rows, Tick, Void};
        for kind in [Rows, Punctuation, Tick, Progress, Void] {
            let header = FrameHeader { kind, has_batch: kind != Void, ..header() };
            assert_eq!(FrameHeader::parse(&header.to_bytes()), Ok(header));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_in_a_header_is_seen() {
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = header().to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHeader::parse(&bytes).is_err(), "bit {bit}");
        }
        assert!(FrameHeader::parse(&[0; 64]).is_err(), "zeros are no frame");
        assert!(FrameHeader::parse(&[]).is_err());
    }

    #[test]
    fn numbers_out_of_range_are_refused_even_with_a_good_checksum() {
        let cases = [
            FrameHeader { length: u32::MAX, ..header() },
            FrameHeader { meta_length: u32::MAX, ..header() },
            FrameHeader { meta_length: 41, ..header() },
            FrameHeader { has_batch: false, ..header() },
            FrameHeader { first_offset: u64::MAX, ..header() },
        ];
        for case in cases {
            assert!(FrameHeader::parse(&case.to_bytes()).is_err(), "{case:?}");
        }
    }
}
