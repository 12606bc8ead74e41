//! Answers `POST /v1/sql`: statements in, results out as JSON, CSV, NDJSON or Arrow IPC.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::accept::{Accepted, accepted};
use super::body::{self, off_the_runtime};
use super::error_response::{ErrorResponse, HttpResult, bytes_response};
use super::frames::Frames;
use super::http::{ARROW_STREAM, content_type, media_type};
use super::listen::App;
use super::subscribe;
use crate::encode::{arrow_ipc, csv, json, type_name::sql_type_name};
use crate::engine::StatementResult;
use crate::error::{Error, SqlState};

/// `POST /v1/sql`.
pub(crate) async fn run(State(app): State<Arc<App>>, headers: HeaderMap, body: Body) -> HttpResult {
    // Before anything runs whose answer the client would not take.
    let accepted = accepted(&headers)?;
    let text = statements(&headers, body::read(&headers, body).await?)?;
    let outcome = app.service.execute(&text).await;
    if let Some(error) = outcome.error {
        let mut ran = Vec::new();
        write_results(&outcome.results, &mut ran);
        let ran = serde_json::from_slice::<Value>(&ran).unwrap_or(Value::Null);
        return Err(ErrorResponse::from(error).with("results", ran["results"].clone()));
    }
    match outcome.subscription {
        Some(feed) => {
            let mut frames = Frames::new(feed, &app, true);
            for result in &outcome.results {
                frames = frames.after(result_frame(result));
            }
            Ok(subscribe::stream(frames, accepted))
        }
        None => answer(&outcome.results, accepted),
    }
}

/// The body is the text itself, or `{"sql": text}`. No statement starts with a brace, so the form
/// is known even where a client names the wrong type.
fn statements(headers: &HeaderMap, body: Vec<u8>) -> HttpResult<String> {
    let named_json = content_type(headers).is_some_and(|t| media_type(t) == "application/json");
    let wrong = |message: &str| {
        Error::new(SqlState::PROTOCOL, message.to_string())
            .with_hint("Send the SQL text itself, or {\"sql\": \"…\"} as application/json.")
    };
    if named_json || body.trim_ascii_start().starts_with(b"{") {
        let value: Value = serde_json::from_slice(&body).map_err(|error| {
            wrong("the request body is not valid JSON").with_detail(error.to_string())
        })?;
        let Some(text) = value.get("sql").and_then(Value::as_str) else {
            return Err(wrong("the request body has no text \"sql\"").into());
        };
        return Ok(text.to_string());
    }
    String::from_utf8(body).map_err(|_| wrong("the request body is not valid UTF-8").into())
}

/// All results as JSON; in another format those that have columns, one after the other.
fn answer(results: &[StatementResult], accepted: Accepted) -> HttpResult {
    let cells: usize = results.iter().flat_map(|result| &result.batches).map(cells).sum();
    // A cell becomes some ten bytes.
    off_the_runtime(cells.saturating_mul(10), || {
        let with_rows = || results.iter().filter(|result| !result.schema.fields().is_empty());
        let mut out = Vec::new();
        let kind = match accepted {
            Accepted::Json | Accepted::Events => {
                write_results(results, &mut out);
                out.push(b'\n');
                "application/json"
            }
            Accepted::Csv => {
                for (number, result) in with_rows().enumerate() {
                    if number > 0 {
                        out.extend_from_slice(b"\r\n");
                    }
                    csv::write_header(&result.schema, &mut out);
                    result.batches.iter().for_each(|batch| csv::write_rows(batch, &mut out));
                }
                "text/csv; charset=utf-8"
            }
            Accepted::NdJson => {
                let batches = with_rows().flat_map(|result| &result.batches);
                batches.for_each(|batch| json::write_ndjson(batch, &mut out));
                "application/x-ndjson"
            }
            Accepted::ArrowIpc => {
                for result in with_rows() {
                    out.extend(arrow_stream(&result.schema, &result.batches)?);
                }
                if out.is_empty() {
                    out = arrow_stream(&Arc::new(Schema::empty()), &[])?;
                }
                ARROW_STREAM
            }
        };
        Ok::<Response, ErrorResponse>(bytes_response(StatusCode::OK, kind, out))
    })
}

fn arrow_stream(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, Error> {
    arrow_ipc::stream_bytes(schema, batches).map_err(|error| {
        Error::new(SqlState::INTERNAL, "the answer could not be written as Arrow IPC")
            .with_detail(error.to_string())
    })
}

fn cells(batch: &RecordBatch) -> usize {
    batch.num_rows().saturating_mul(batch.num_columns().max(1))
}

/// `{"results":[{"tag","columns":[{"name","type"}],"rows":[[…]]}]}`.
fn write_results(results: &[StatementResult], out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"results\":[");
    for (i, result) in results.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",{" } else { b"{" });
        write_result(result, out);
    }
    out.extend_from_slice(b"]}");
}

/// A result that came before a subscription in the same text, as a frame of its own.
fn result_frame(result: &StatementResult) -> String {
    let mut out = br#"{"type":"result","#.to_vec();
    write_result(result, &mut out);
    String::from_utf8(out).expect("results are written as UTF-8")
}

/// `"tag":…,"columns":[…],"rows":[[…]]}`, behind its opening brace.
fn write_result(result: &StatementResult, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"tag\":");
    json::write_string(&result.tag, out);
    out.extend_from_slice(b",\"columns\":");
    out.extend_from_slice(columns_json(&result.schema).to_string().as_bytes());
    out.extend_from_slice(b",\"rows\":[");
    let mut first = true;
    for batch in &result.batches {
        let writer = json::RowWriter::new(batch);
        for row in 0..batch.num_rows() {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            writer.array(row, out);
        }
    }
    out.extend_from_slice(b"]}");
}

/// `[{"name","type"}]`.
pub(crate) fn columns_json(schema: &Schema) -> Value {
    let column = |field: &Arc<arrow::datatypes::Field>| json!({"name": field.name(), "type": sql_type_name(field)});
    Value::Array(schema.fields().iter().map(column).collect())
}
