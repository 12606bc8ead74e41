//! Reads request bodies: never more than the limit, never waiting for ever, gzip or plain.

use std::io::Read;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use futures::StreamExt;

use super::error_response::{ErrorResponse, HttpResult};
use crate::error::{Error, SqlState};

/// Bytes of a body, also after decompression.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 20;
/// How long a client may pause inside a body.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// Room that is taken before the first byte is there, whatever a header claims.
const ROOM_MAX: usize = 1 << 20;

/// The whole body.
pub(crate) async fn read(headers: &HeaderMap, body: Body) -> HttpResult<Vec<u8>> {
    let claimed = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<usize>().ok());
    if claimed.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(ErrorResponse::body_too_large(BODY_BYTES_MAX));
    }
    let mut bytes = Vec::with_capacity(claimed.unwrap_or(0).min(ROOM_MAX));
    let mut pieces = body.into_data_stream();
    loop {
        match tokio::time::timeout(BODY_WAIT, pieces.next()).await {
            Err(_) => return Err(ErrorResponse::body_too_slow()),
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                let broken = Error::new(SqlState::PROTOCOL, "the request body broke off");
                return Err(broken.with_detail(error.to_string()).into());
            }
            Ok(Some(Ok(piece))) if bytes.len() + piece.len() > BODY_BYTES_MAX => {
                return Err(ErrorResponse::body_too_large(BODY_BYTES_MAX));
            }
            Ok(Some(Ok(piece))) => bytes.extend_from_slice(&piece),
        }
    }
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => Ok(bytes),
        Some(b"gzip") => off_the_runtime(bytes.len(), || unzip(&bytes, BODY_BYTES_MAX)),
        Some(other) => {
            let name = String::from_utf8_lossy(other);
            let message = format!("the content encoding \"{name}\" is not known");
            let error = Error::new(SqlState::INVALID_PARAMETER, message)
                .with_hint("Send the body plain or with Content-Encoding: gzip.");
            Err(ErrorResponse::unknown_media_type(error))
        }
    }
}

/// A body may unfold to at most `limit` bytes, however small it came.
fn unzip(bytes: &[u8], limit: usize) -> HttpResult<Vec<u8>> {
    let mut plain = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(bytes).take(limit as u64 + 1);
    reader.read_to_end(&mut plain).map_err(|error| {
        Error::new(SqlState::PROTOCOL, "the request body is not gzip")
            .with_detail(error.to_string())
    })?;
    if plain.len() > limit {
        return Err(ErrorResponse::body_too_large(limit));
    }
    Ok(plain)
}

/// Work on so many bytes is worth telling the runtime that this thread is busy.
const BUSY_BYTES: usize = 64 << 10;

/// Runs `work` on this thread, and moves other tasks off it first if the work is long.
pub(crate) fn off_the_runtime<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes < BUSY_BYTES { work() } else { tokio::task::block_in_place(work) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_small_body_cannot_unfold_without_end() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&vec![b' '; 100_000]).unwrap();
        let zipped = encoder.finish().unwrap();
        assert!(zipped.len() < 1_000);
        assert!(unzip(&zipped, 99_999).is_err());
        assert_eq!(unzip(&zipped, 100_000).ok().map(|plain| plain.len()), Some(100_000));
        assert!(unzip(b"no gzip", 100).is_err());
    }
}
