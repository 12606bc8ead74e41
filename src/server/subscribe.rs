//! Answers `GET /v1/queries/{query}/subscribe` by WebSocket or server-sent events.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures::{SinkExt, StreamExt};
use serde::Deserialize;

use super::accept::{Accepted, accepted};
use super::error_response::HttpResult;
use super::extract::{Name, QueryString};
use super::frames::{Content, Frame, Frames};
use super::listen::App;
use crate::engine::{OnSlow, SubscribeRequest};
use crate::error::{Error, Result, SqlState};
use crate::sql::statement::SubscribeFrom;

/// How often a WebSocket client is pinged, so that routers between keep the connection.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Clients have nothing to say; what they may say at most.
const CLIENT_MESSAGE_BYTES_MAX: usize = 64 << 10;

/// The query string.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    from: Option<String>,
    snapshot: Option<String>,
    on_slow: Option<String>,
    format: Option<String>,
}

/// `GET /v1/queries/{query}/subscribe`.
pub(crate) async fn subscribe(
    State(app): State<Arc<App>>,
    Name(query): Name,
    QueryString(parameters): QueryString<Parameters>,
    headers: HeaderMap,
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> HttpResult {
    let as_json = parameters.as_json()?;
    match upgrade {
        Ok(upgrade) => {
            let feed = app.service.subscribe(&query, parameters.request()?).await?;
            let frames = Frames::new(feed, &app, as_json);
            let guard = app.shutdown.guard();
            let upgrade = upgrade
                .max_message_size(CLIENT_MESSAGE_BYTES_MAX)
                .max_frame_size(CLIENT_MESSAGE_BYTES_MAX);
            Ok(upgrade.on_upgrade(|socket| async move {
                serve_socket(socket, frames).await;
                drop(guard);
            }))
        }
        Err(_) if matches!(accepted(&headers), Ok(Accepted::Events)) => {
            if !as_json {
                let message = "server-sent events carry JSON only";
                return Err(Error::new(SqlState::INVALID_PARAMETER, message)
                    .with_hint("Subscribe by WebSocket for format=arrow.")
                    .into());
            }
            let request = resumed(parameters.request()?, &headers)?;
            let feed = app.service.subscribe(&query, request).await?;
            let frames = Frames::new(feed, &app, true).awaiting_snapshot(request.snapshot);
            Ok(stream(frames, Accepted::Events))
        }
        Err(rejection) => {
            Err(Error::new(SqlState::PROTOCOL, "a subscription needs a connection that lasts")
                .with_detail(rejection.body_text())
                .with_hint("Connect by WebSocket, or send Accept: text/event-stream.")
                .into())
        }
    }
}

impl Parameters {
    fn request(&self) -> Result<SubscribeRequest> {
        Ok(SubscribeRequest {
            from: match self.from.as_deref() {
                None | Some("now") => SubscribeFrom::Now,
                Some("earliest") => SubscribeFrom::Earliest,
                Some(text) => SubscribeFrom::Offset(
                    text.parse().map_err(|_| wrong("from", text, "now, earliest or an offset"))?,
                ),
            },
            snapshot: match self.snapshot.as_deref() {
                None | Some("false") => false,
                Some("true" | "") => true,
                Some(text) => return Err(wrong("snapshot", text, "true or false")),
            },
            on_slow: match self.on_slow.as_deref() {
                None | Some("block") => OnSlow::Block,
                Some("drop") => OnSlow::Drop,
                Some("conflate") => OnSlow::Conflate,
                Some(text) => return Err(wrong("on_slow", text, "block, drop or conflate")),
            },
        })
    }

    fn as_json(&self) -> Result<bool> {
        match self.format.as_deref() {
            None | Some("json") => Ok(true),
            Some("arrow") => Ok(false),
            Some(text) => Err(wrong("format", text, "json or arrow")),
        }
    }
}

fn wrong(parameter: &str, text: &str, choices: &str) -> Error {
    let message = format!("parameter \"{parameter}\" cannot be \"{text}\"");
    Error::new(SqlState::INVALID_PARAMETER, message).with_hint(format!("Write {choices}."))
}

/// A browser that reconnects names the last id it saw: it goes on there, and has its snapshot.
fn resumed(request: SubscribeRequest, headers: &HeaderMap) -> Result<SubscribeRequest> {
    let Some(id) = headers.get("Last-Event-ID") else { return Ok(request) };
    let text = id.to_str().unwrap_or_default();
    let offset = text.parse().map_err(|_| wrong("Last-Event-ID", text, "an offset"))?;
    Ok(SubscribeRequest { from: SubscribeFrom::Offset(offset), snapshot: false, ..request })
}

/// Frames as a body that ends with the subscription: events, or lines of JSON.
pub(crate) fn stream(frames: Frames, accepted: Accepted) -> Response {
    let as_events = accepted == Accepted::Events;
    let pieces = futures::stream::unfold(frames, move |mut frames| async move {
        let frame = frames.next().await?;
        let text = if as_events { event(frame) } else { frame.content.into_json() + "\n" };
        Some((Ok::<_, std::convert::Infallible>(text), frames))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let kind = if as_events { "text/event-stream" } else { "application/x-ndjson" };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn event(frame: Frame) -> String {
    let mut text = format!("event: {}\n", frame.kind);
    if let Some(offset) = frame.next_offset {
        text.push_str(&format!("id: {offset}\n"));
    }
    // JSON has no line ends of its own, so one data line holds it.
    text.push_str("data: ");
    text.push_str(&frame.content.into_json());
    text.push_str("\n\n");
    text
}

async fn serve_socket(socket: WebSocket, mut frames: Frames) {
    let (mut sink, mut source) = socket.split();
    let mut ping = tokio::time::interval(PING_EVERY);
    ping.reset();
    let close = loop {
        let message = tokio::select! {
            frame = frames.next() => match frame {
                Some(frame) => message(frame),
                None => break close_of(&frames),
            },
            heard = source.next() => match heard {
                // Pings are answered by the protocol's own layer.
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
            _ = ping.tick() => Message::Ping(Vec::new().into()),
        };
        if sink.send(message).await.is_err() {
            return;
        }
    };
    if let Err(error) = sink.send(Message::Close(Some(close))).await {
        tracing::debug!("a subscriber left before it was told: {error}");
    }
    // The client's answer to the close; without it some clients report a broken connection.
    let answer = async { while let Some(Ok(_)) = source.next().await {} };
    if tokio::time::timeout(Duration::from_millis(500), answer).await.is_err() {
        tracing::debug!("a subscriber did not answer the close");
    }
}

fn message(frame: Frame) -> Message {
    match frame.content {
        Content::Json(text) => Message::Text(text.into()),
        Content::ArrowIpc(bytes) => Message::Binary(bytes.into()),
    }
}

fn close_of(frames: &Frames) -> CloseFrame {
    let (code, reason) = if frames.is_server_ending() {
        (close_code::AWAY, "the server is shutting down")
    } else {
        (close_code::NORMAL, "the subscription is over")
    };
    CloseFrame { code, reason: Utf8Bytes::from_static(reason) }
}
