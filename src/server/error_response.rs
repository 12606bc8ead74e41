//! Maps an error to an HTTP status and to JSON; nothing else in the project knows statuses.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::error::{Error, SqlState};

/// An error on its way to an HTTP client.
pub(crate) struct ErrorResponse {
    status: StatusCode,
    error: Error,
    /// Members beside `error` in the answer.
    extra: Map<String, Value>,
}

/// What a handler returns.
pub(crate) type HttpResult<T = Response> = Result<T, ErrorResponse>;

impl ErrorResponse {
    /// The same error with another member beside `error`.
    pub(crate) fn with(mut self, name: &str, value: Value) -> ErrorResponse {
        self.extra.insert(name.to_string(), value);
        self
    }
    /// The error of a request whose rows were refused together.
    pub(crate) fn refused_rows(error: Error) -> ErrorResponse {
        ErrorResponse::of(StatusCode::UNPROCESSABLE_ENTITY, error)
    }
    /// No call has this path.
    pub(crate) fn unknown_path(path: &str) -> ErrorResponse {
        let error = Error::new(SqlState::PROTOCOL, format!("there is nothing at \"{path}\""))
            .with_hint("GET /openapi.json lists the calls.");
        ErrorResponse::of(StatusCode::NOT_FOUND, error)
    }
    /// The path exists, the method does not.
    pub(crate) fn unknown_method(method: &str, path: &str) -> ErrorResponse {
        let message = format!("\"{path}\" does not answer {method}");
        let error =
            Error::new(SqlState::PROTOCOL, message).with_hint("GET /openapi.json lists the calls.");
        ErrorResponse::of(StatusCode::METHOD_NOT_ALLOWED, error)
    }
    /// The body's type is not one that the call reads.
    pub(crate) fn unknown_media_type(error: Error) -> ErrorResponse {
        ErrorResponse::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, error)
    }
    /// The client takes nothing that the call can write.
    pub(crate) fn not_acceptable(error: Error) -> ErrorResponse {
        ErrorResponse::of(StatusCode::NOT_ACCEPTABLE, error)
    }
    /// The body is larger than the limit.
    pub(crate) fn body_too_large(limit: usize) -> ErrorResponse {
        let error = Error::new(SqlState::PROGRAM_LIMIT, "the request body is too large")
            .with_detail(format!("The limit is {limit} bytes."))
            .with_hint("Send several requests, or use TCP ingest.");
        ErrorResponse::of(StatusCode::PAYLOAD_TOO_LARGE, error)
    }
    /// A page of another site asks.
    pub(crate) fn foreign_origin(detail: String) -> ErrorResponse {
        let error = Error::new(SqlState::PROTOCOL, "requests from other sites are refused")
            .with_detail(detail);
        ErrorResponse::of(StatusCode::FORBIDDEN, error)
    }
    /// The body did not come in time.
    pub(crate) fn body_too_slow() -> ErrorResponse {
        let error = Error::new(SqlState::CANCELLED, "the request body did not arrive in time");
        ErrorResponse::of(StatusCode::REQUEST_TIMEOUT, error)
    }
    fn of(status: StatusCode, error: Error) -> ErrorResponse {
        ErrorResponse { status, error, extra: Map::new() }
    }
}

impl From<Error> for ErrorResponse {
    fn from(error: Error) -> ErrorResponse {
        ErrorResponse::of(status_of(error.code()), error)
    }
}

impl IntoResponse for ErrorResponse {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(code = self.error.code().0, "{}", self.error.message());
        }
        let mut members = Map::new();
        members.insert("error".into(), error_json(&self.error));
        members.extend(self.extra);
        json_response(self.status, &Value::Object(members))
    }
}

/// An answer of JSON.
pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response {
    bytes_response(status, "application/json", format!("{value}\n").into_bytes())
}

/// An answer of bytes.
pub(crate) fn bytes_response(status: StatusCode, kind: &'static str, bytes: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let value = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, value);
    response
}

/// The error of a handler that panicked.
pub(crate) fn broken_invariant() -> Error {
    Error::new(SqlState::INTERNAL, "the request ran into a broken invariant")
        .with_hint("The server's log has the place; please report it.")
}

/// `{"code","message","detail","hint","position"}`; what an error does not have is null.
pub(crate) fn error_json(error: &Error) -> Value {
    json!({
        "code": error.code().0,
        "message": error.message(),
        "detail": error.detail(),
        "hint": error.hint(),
        "position": error.position(),
    })
}

/// The HTTP status that fits a code.
fn status_of(code: SqlState) -> StatusCode {
    match code.0 {
        "42P01" => StatusCode::NOT_FOUND,
        "42P07" | "42701" | "2BP01" | "55000" | "55006" | "23505" => StatusCode::CONFLICT,
        "0A000" => StatusCode::NOT_IMPLEMENTED,
        "WR004" => StatusCode::GONE,
        "53100" => StatusCode::INSUFFICIENT_STORAGE,
        "53200" | "53300" | "53400" | "57014" | "57P01" => StatusCode::SERVICE_UNAVAILABLE,
        "08006" => StatusCode::BAD_GATEWAY,
        "58030" | "XX000" | "XX001" => StatusCode::INTERNAL_SERVER_ERROR,
        // The rest is the statement's or the request's own fault: 22…, 23…, 42…, 08P01, WR….
        _ => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_status_of_an_error() {
        for code in SqlState::ALL {
            let status = status_of(*code);
            assert!(status.is_client_error() || status.is_server_error(), "{code}");
        }
        assert_eq!(status_of(SqlState::UNDEFINED_RELATION), StatusCode::NOT_FOUND);
        assert_eq!(status_of(SqlState::SYNTAX), StatusCode::BAD_REQUEST);
        assert_eq!(status_of(SqlState::INTERNAL), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
