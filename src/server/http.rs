//! Holds the table of HTTP calls, and what is true of every one of them.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::FutureExt;
use serde_json::json;

use super::error_response::{
    ErrorResponse, HttpResult, broken_invariant, bytes_response, json_response,
};
use super::listen::App;
use super::shutdown::shutting_down;
use super::{catalog, ingest, metrics, sql, subscribe};

/// The hand-written description of the calls below.
const OPENAPI: &str = include_str!("openapi.json");

/// The calls of PRODUCT's table.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(catalog::page))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi))
        .route("/v1/sql", post(sql::run))
        .route("/v1/streams", get(catalog::streams))
        .route("/v1/streams/{stream}", get(catalog::stream).post(ingest::rows))
        .route("/v1/queries", get(catalog::queries))
        .route("/v1/queries/{query}", get(catalog::query))
        .route("/v1/queries/{query}/subscribe", get(subscribe::subscribe))
        .route("/v1/tables", get(catalog::tables))
        .route("/v1/tables/{table}", get(catalog::table_of))
        .route("/v1/sinks", get(catalog::sinks))
        .route("/v1/sinks/{sink}", get(catalog::sink))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), every_call))
        .with_state(app)
}

/// Refuses pages of other sites, turns a panic into an answer, and counts.
async fn every_call(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let response = match check_origin(request.headers()) {
        Err(refused) => refused.into_response(),
        Ok(()) => match AssertUnwindSafe(next.run(request)).catch_unwind().await {
            Ok(response) => response,
            Err(_) => ErrorResponse::from(broken_invariant()).into_response(),
        },
    };
    let class = usize::from(response.status().as_u16() / 100);
    if let Some(counter) = app.counters.answers.get(class) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    response
}

/// The server trusts whoever reaches its loopback address, and a browser reaches it for any page.
/// So a page must come from the server itself, and under a name that no one else can point here.
fn check_origin(headers: &HeaderMap) -> HttpResult<()> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    if !host.is_empty() && !is_local_name(host) {
        let detail = format!("The request names the host \"{host}\"; use localhost or 127.0.0.1.");
        return Err(ErrorResponse::foreign_origin(detail));
    }
    match text(header::ORIGIN) {
        Some(origin) if origin.strip_prefix("http://") != Some(host) => {
            Err(ErrorResponse::foreign_origin(format!("The request comes from \"{origin}\".")))
        }
        _ => Ok(()),
    }
}

/// Whether a Host header is `localhost` or an address, with or without a port.
fn is_local_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

async fn unknown_path(request: Request) -> ErrorResponse {
    ErrorResponse::unknown_path(request.uri().path())
}

async fn unknown_method(request: Request) -> ErrorResponse {
    ErrorResponse::unknown_method(request.method().as_str(), request.uri().path())
}

async fn healthz() -> Response {
    json_response(StatusCode::OK, &json!({"status": "ok"}))
}

async fn readyz(State(app): State<Arc<App>>) -> HttpResult {
    if app.shutdown.has_begun() {
        return Err(shutting_down().into());
    }
    Ok(json_response(StatusCode::OK, &json!({"status": "ready"})))
}

async fn openapi() -> Response {
    bytes_response(StatusCode::OK, "application/json", OPENAPI.as_bytes().to_vec())
}

/// The type of Arrow IPC streams.
pub(crate) const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

/// `Text/CSV; header=present` is `text/csv`.
pub(crate) fn media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The type of the request's body, with its parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::CONTENT_TYPE).and_then(|value: &HeaderValue| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_point_here_are_local() {
        for host in ["localhost", "LOCALHOST:4880", "127.0.0.1:4880", "[::1]:4880", "[::1]"] {
            assert!(is_local_name(host), "{host}");
        }
        for host in ["evil.example", "evil.example:4880", "localhost.evil.example", ""] {
            assert!(!is_local_name(host), "{host}");
        }
    }
}
