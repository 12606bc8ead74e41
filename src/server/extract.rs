//! Takes parts of a request's head apart, so that what cannot be read is refused as every other error is.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::error_response::ErrorResponse;
use crate::error::{Error, SqlState};

/// The query string, read into `T`.
pub(crate) struct QueryString<T>(pub(crate) T);

/// The name of an object in the path.
pub(crate) struct Name(pub(crate) String);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for QueryString<T> {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorResponse> {
        let query = Query::from_request_parts(parts, state).await;
        query.map(|Query(read)| QueryString(read)).map_err(|rejection| {
            Error::new(SqlState::INVALID_PARAMETER, "the query string cannot be read")
                .with_detail(rejection.body_text())
                .with_hint("Give each parameter once, and by a name that the call knows.")
                .into()
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = ErrorResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorResponse> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(name)| Name(name)).map_err(|rejection| {
            Error::new(SqlState::PROTOCOL, "the name in the path cannot be read")
                .with_detail(rejection.body_text())
                .with_hint("Percent-encode it as UTF-8.")
                .into()
        })
    }
}
