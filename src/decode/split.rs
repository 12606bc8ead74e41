//! Tells how many bytes of what has arrived form whole rows, so that callers can cut streams safely.

use super::Format;
use super::csv;

/// The length of the longest prefix of `bytes` that ends with a row's end. `bytes` must start at a
/// row's start, without a byte order mark. Line ends inside quotes of CSV are no row ends. For formats that only a whole body
/// makes sense of (JSON, Arrow IPC) it is 0: gather the body.
///
/// A caller whose buffer exceeds the row limit while this is 0 should hand the buffer to the decoder
/// anyway: it reports the oversize row without keeping it.
pub fn complete_prefix(format: Format, bytes: &[u8]) -> usize {
    match format {
        Format::NdJson | Format::Text => lines(bytes),
        Format::Csv { .. } => {
            if memchr::memchr(b'"', bytes).is_none() {
                return lines(bytes);
            }
            let mut at = 0;
            while let Some(end) = csv::row_end(bytes, at).filter(|end| end.closed) {
                at = end.next;
            }
            at
        }
        Format::Json | Format::ArrowIpc => 0,
    }
}

fn lines(bytes: &[u8]) -> usize {
    memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1)
}
