//! Unpacks recordings and feeds them into streams, in pieces, as a client would send them.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use flate2::read::GzDecoder;

use crate::decode::{Decoder, Format, decoder};
use crate::engine::{Engine, IngestOrigin, StreamHandle};
use crate::error::{Error, Result, SqlState};

/// Bytes of one piece at full speed.
pub const PIECE: usize = 256 << 10;

/// A recording on its way into a stream.
pub struct Recording {
    /// The stream.
    pub stream: StreamHandle,
    decoder: Box<dyn Decoder>,
    bytes: Vec<u8>,
    at: usize,
    line: u64,
    /// Rows stored so far.
    pub accepted: u64,
    /// Rows refused so far.
    pub rejected: u64,
}

impl Recording {
    /// Prepares the content of `file` for `stream`. The name tells the format: `.csv` has a header,
    /// `.ndjson` an object a line, `.txt` a text a line; with `.gz` behind it is unpacked.
    ///
    /// # Errors
    /// 42P01 when there is no such stream, 22023 for other names, 58030 when it cannot be unpacked.
    pub fn open(
        engine: &Arc<Engine>,
        stream: &str,
        file: &str,
        content: &[u8],
    ) -> Result<Recording> {
        let stream = engine.stream(stream)?;
        let plain = file.strip_suffix(".gz").unwrap_or(file);
        let format = match Path::new(plain).extension().and_then(|end| end.to_str()) {
            Some("csv") => Format::Csv { header: true },
            Some("ndjson") => Format::NdJson,
            Some("txt") => Format::Text,
            _ => {
                let message = format!("format of \"{file}\" is not known");
                return Err(Error::new(SqlState::INVALID_PARAMETER, message)
                    .with_hint("Names end in .csv, .ndjson or .txt, and in .gz when packed."));
            }
        };
        let mut bytes = Vec::new();
        if plain == file {
            bytes.extend_from_slice(content);
        } else {
            GzDecoder::new(content).read_to_end(&mut bytes).map_err(|error| {
                Error::new(SqlState::IO, format!("\"{file}\" cannot be unpacked"))
                    .with_detail(error.to_string())
            })?;
        }
        let decoder = decoder(format, stream.decode_spec());
        Ok(Recording { stream, decoder, bytes, at: 0, line: 1, accepted: 0, rejected: 0 })
    }

    /// Bytes in all, unpacked.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes sent.
    pub fn sent(&self) -> usize {
        self.at
    }

    /// Sends whole lines up to about `end`, at least one; `false` when there is nothing left.
    ///
    /// # Errors
    /// The stream's.
    pub async fn send_to(&mut self, end: usize) -> Result<bool> {
        if self.at == self.bytes.len() {
            return Ok(false);
        }
        let end = end.clamp(self.at, self.bytes.len());
        let rest = memchr::memchr(b'\n', &self.bytes[end..]);
        let end = rest.map_or(self.bytes.len(), |length| end + length + 1);
        let piece = &self.bytes[self.at..end];
        let decoded = self.decoder.decode(piece, self.line);
        self.line += memchr::memchr_iter(b'\n', piece).count() as u64;
        self.at = end;
        let receipt = self.stream.ingest(decoded, None, IngestOrigin::default()).await?;
        self.accepted += receipt.accepted;
        self.rejected += receipt.rejected;
        Ok(true)
    }

    /// Sends all that is left at full speed.
    ///
    /// # Errors
    /// The stream's.
    pub async fn send_all(&mut self) -> Result<()> {
        while self.send_to(self.at + PIECE).await? {}
        Ok(())
    }
}
