//! Reads the `Accept` header: of what the server can write, what the client likes best.

use std::cmp::Reverse;

use axum::http::{HeaderMap, header};

use super::error_response::{ErrorResponse, HttpResult};
use super::http::{ARROW_STREAM, media_type};
use crate::error::{Error, SqlState};

/// What an answer should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    Json,
    Csv,
    NdJson,
    ArrowIpc,
    Events,
}

/// What the server writes; of what is liked equally, what stands first in the header, then here.
const WRITTEN: [(&str, Accepted); 7] = [
    ("application/json", Accepted::Json),
    ("application/x-ndjson", Accepted::NdJson),
    ("application/ndjson", Accepted::NdJson),
    ("application/jsonl", Accepted::NdJson),
    (ARROW_STREAM, Accepted::ArrowIpc),
    ("text/csv", Accepted::Csv),
    ("text/event-stream", Accepted::Events),
];

/// A range of types: how much it is liked, in thousandths.
struct Range {
    name: String,
    liking: u16,
}

impl Range {
    fn of(text: &str) -> Range {
        let parameter = |part: &str| -> Option<f32> {
            let (name, value) = part.split_once('=')?;
            let is_quality = name.trim().eq_ignore_ascii_case("q");
            is_quality.then(|| value.trim().parse().ok())?
        };
        let quality = text.split(';').skip(1).find_map(parameter).unwrap_or(1.0);
        Range { name: media_type(text), liking: (quality.clamp(0.0, 1.0) * 1000.0) as u16 }
    }

    /// How closely it names a type; `None`: not at all.
    fn fits(&self, name: &str) -> Option<u8> {
        let family = name.split('/').next().unwrap_or_default();
        match self.name.strip_suffix("/*") {
            _ if self.name == name => Some(2),
            Some(range) if range == family => Some(1),
            Some("*") => Some(0),
            _ => None,
        }
    }
}

/// What the client likes best of what the server writes; JSON where it does not say.
///
/// # Errors
/// 406 where it takes none of it.
pub(crate) fn accepted(headers: &HeaderMap) -> HttpResult<Accepted> {
    let named = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let named = named.flat_map(|value| value.split(',')).filter(|text| !text.trim().is_empty());
    let ranges: Vec<Range> = named.map(Range::of).collect();
    if ranges.is_empty() {
        return Ok(Accepted::Json);
    }
    let liked = WRITTEN.iter().enumerate().filter_map(|(rank, (name, accepted))| {
        // The range that names a type most closely says how much it is liked.
        let fitting =
            ranges.iter().enumerate().filter_map(|(place, r)| Some((r.fits(name)?, place)));
        let (_, place) = fitting.max_by_key(|(closeness, place)| (*closeness, Reverse(*place)))?;
        let liking = ranges[place].liking;
        (liking > 0).then_some(((liking, Reverse(place), Reverse(rank)), *accepted))
    });
    match liked.max_by_key(|(order, _)| *order) {
        Some((_, accepted)) => Ok(accepted),
        None => {
            let message = "none of the types in Accept can be written";
            let hint = format!(
                "Accept application/json, text/csv, application/x-ndjson or {ARROW_STREAM}."
            );
            let error = Error::new(SqlState::INVALID_PARAMETER, message).with_hint(hint);
            Err(ErrorResponse::not_acceptable(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(accept: &str, expected: Option<Accepted>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        assert_eq!(accepted(&headers).ok(), expected, "{accept}");
    }

    #[test]
    fn what_is_liked_best_is_taken_and_then_what_stands_first() {
        assert_eq!(accepted(&HeaderMap::new()).ok(), Some(Accepted::Json));
        check("", Some(Accepted::Json));
        check("*/*", Some(Accepted::Json));
        check("text/html, application/xhtml+xml, */*;q=0.8", Some(Accepted::Json));
        check("image/png, Text/CSV;q=0.9, */*;q=0.1", Some(Accepted::Csv));
        check("text/csv, */*", Some(Accepted::Csv));
        check("application/json;q=0.1, text/csv;q=0.9", Some(Accepted::Csv));
        check("application/x-ndjson, application/json", Some(Accepted::NdJson));
        check("text/*", Some(Accepted::Csv));
        check("*/*, application/json;q=0", Some(Accepted::NdJson));
        check("text/event-stream; Q=1.0, application/json; q=0.5", Some(Accepted::Events));
        check("text/csv; header=present; q=nonsense", Some(Accepted::Csv));
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        check("image/png", None);
        check("application/json;q=0", None);
        check("image/*, nonsense, /, */", None);
    }
}
