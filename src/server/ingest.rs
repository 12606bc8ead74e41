//! Answers `POST /v1/streams/{stream}`: one request is one atomic piece of the stream's log.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{self, off_the_runtime};
use super::error_response::{ErrorResponse, HttpResult, json_response};
use super::extract::{Name, QueryString};
use super::http::{ARROW_STREAM, content_type, media_type};
use super::listen::App;
use super::service::Intake;
use crate::decode::{self, Format};
use crate::engine::{AckLevel, IngestOrigin, IngestReceipt, Producer};
use crate::error::{Error, Result, SqlState};

/// Refused rows that an answer lists.
const ERRORS_MAX: usize = 1_000;

/// The query string.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    ack: Option<String>,
}

/// `POST /v1/streams/{stream}`.
pub(crate) async fn rows(
    State(app): State<Arc<App>>,
    Name(name): Name,
    QueryString(parameters): QueryString<Parameters>,
    headers: HeaderMap,
    body: Body,
) -> HttpResult {
    // Everything that the head of the request says is judged before its body is read.
    let intake = app.service.stream(&name)?;
    let format = format_of(&headers)?;
    let ack = parameters.ack.as_deref().map(|ack| parse_ack(ack, &*intake)).transpose()?;
    let producer = producer_of(&headers)?;
    let bytes = body::read(&headers, body).await?;

    let spec = intake.decode_spec();
    let decoded = off_the_runtime(bytes.len(), || decode::decoder(format, spec).decode(&bytes, 1));
    drop(bytes);
    let origin = IngestOrigin { protocol: "http", producer };
    let receipt = intake.ingest(decoded, ack, origin).await?;
    if receipt.refused {
        let errors = receipt_errors(&receipt);
        let code = receipt.errors.first().map(|(_, code, _)| *code);
        return Err(refused(&name, receipt.rejected, code, errors));
    }
    let mut answer = json!({
        "accepted": receipt.accepted,
        "rejected": receipt.rejected,
        "first_offset": receipt.first_offset,
        "next_offset": receipt.next_offset,
        "errors": receipt_errors(&receipt),
    });
    if receipt.shed > 0 {
        answer["shed"] = json!(receipt.shed);
    }
    Ok(json_response(StatusCode::OK, &answer))
}

/// How the rows come, by `Content-Type`; without one they are NDJSON.
fn format_of(headers: &HeaderMap) -> HttpResult<Format> {
    let Some(named) = content_type(headers) else { return Ok(Format::NdJson) };
    let without_header =
        || named.split(';').skip(1).any(|part| part.trim().eq_ignore_ascii_case("header=absent"));
    match media_type(named).as_str() {
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok(Format::NdJson),
        // What curl says of a body unless it is told otherwise.
        "application/x-www-form-urlencoded" => Ok(Format::NdJson),
        "application/json" => Ok(Format::Json),
        "text/csv" => Ok(Format::Csv { header: !without_header() }),
        "text/plain" => Ok(Format::Text),
        ARROW_STREAM => Ok(Format::ArrowIpc),
        other => {
            let message = format!("rows cannot be read from content type \"{other}\"");
            let hint =
                format!("Send application/x-ndjson, application/json, text/csv or {ARROW_STREAM}.");
            let error = Error::new(SqlState::INVALID_PARAMETER, message).with_hint(hint);
            Err(ErrorResponse::unknown_media_type(error))
        }
    }
}

/// An ack level, which must not promise more than the stream keeps.
pub(crate) fn parse_ack(text: &str, intake: &dyn Intake) -> Result<AckLevel> {
    let level = match text.to_ascii_lowercase().as_str() {
        "memory" => AckLevel::Memory,
        "written" => AckLevel::Written,
        "durable" => AckLevel::Durable,
        "processed" => AckLevel::Processed,
        _ => {
            let message = format!("\"{text}\" is not an ack level");
            return Err(Error::new(SqlState::INVALID_PARAMETER, message)
                .with_hint("Ask for durable, written, memory or processed."));
        }
    };
    // `processed` means "as durable as the stream asks, and in the results", so any stream has it.
    if level != AckLevel::Processed && level > intake.default_ack() {
        let name = intake.name();
        let message = format!("stream \"{name}\" cannot acknowledge rows as \"{text}\"");
        return Err(Error::new(SqlState::INVALID_PARAMETER, message)
            .with_detail(format!("Its durability is '{}'.", ack_name(intake.default_ack())))
            .with_hint("Ask for less, or create the stream with a higher durability."));
    }
    Ok(level)
}

fn ack_name(level: AckLevel) -> &'static str {
    match level {
        AckLevel::Memory => "memory",
        AckLevel::Written => "written",
        AckLevel::Durable => "durable",
        AckLevel::Processed => "processed",
    }
}

/// The headers of idempotent ingest; one without the other is an error.
fn producer_of(headers: &HeaderMap) -> Result<Option<Producer>> {
    let text = |name: &str| match headers.get(name) {
        None => Ok(None),
        Some(value) => value.to_str().map(|text| Some(text.trim().to_string())).map_err(|_| {
            Error::new(SqlState::INVALID_PARAMETER, format!("header {name} is not plain text"))
        }),
    };
    match (text("Weir-Producer")?, text("Weir-Sequence")?) {
        (None, None) => Ok(None),
        (Some(id), Some(sequence)) => {
            let sequence = parse_sequence(&sequence)?;
            Ok(Some(Producer { id, sequence, each_row: false }))
        }
        (id, _) => {
            let absent = if id.is_some() { "Weir-Sequence" } else { "Weir-Producer" };
            let message = format!("header {absent} is missing");
            Err(Error::new(SqlState::INVALID_PARAMETER, message)
                .with_hint("Send Weir-Producer and Weir-Sequence together, or neither."))
        }
    }
}

/// A producer's sequence.
pub(crate) fn parse_sequence(text: &str) -> Result<u64> {
    text.parse().map_err(|_| {
        let message = format!("\"{text}\" is not a sequence");
        Error::new(SqlState::INVALID_PARAMETER, message)
            .with_hint("A sequence is a whole number that grows with each request.")
    })
}

fn receipt_errors(receipt: &IngestReceipt) -> Vec<Value> {
    let listed = receipt.errors.iter().take(ERRORS_MAX);
    listed
        .map(|(line, code, message)| json!({"line": line, "code": code.0, "message": message}))
        .collect()
}

/// One bad row refuses the whole request; the code is that of the first one.
fn refused(stream: &str, count: u64, code: Option<SqlState>, errors: Vec<Value>) -> ErrorResponse {
    let rows = if count == 1 { "1 row is".to_string() } else { format!("{count} rows are") };
    let message = format!("{rows} not fit for stream \"{stream}\"");
    let error = Error::new(code.unwrap_or(SqlState::INVALID_TEXT), message)
        .with_detail("The stream has on_error = 'reject', so nothing of the request is stored.");
    ErrorResponse::refused_rows(error)
        .with("accepted", json!(0))
        .with("rejected", json!(count))
        .with("errors", Value::Array(errors))
}
