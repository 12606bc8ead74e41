//! Turns the changes of a query into the frames that subscribers read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::error_response::{broken_invariant, error_json};
use super::listen::App;
use super::service::Feed;
use super::shutdown::shutting_down;
use super::sql::columns_json;
use crate::encode::{arrow_ipc, json};
use crate::engine::{Hello, SubscriptionFrame};
use crate::error::{Error, SqlState};

/// A subscriber hears something at least this often; the promise is five seconds.
const PROGRESS_EVERY: Duration = Duration::from_millis(4_500);

/// Key of the schema metadata that holds a frame's other members in Arrow form.
const ARROW_FRAME: &str = "weir.frame";

/// A frame on its way to a client.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    /// Its `type`.
    pub(crate) kind: &'static str,
    /// Where to go on after it.
    pub(crate) next_offset: Option<u64>,
    /// JSON text, or an Arrow IPC stream.
    pub(crate) content: Content,
}

/// The bytes of a frame.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// One line of JSON without its line end.
    Json(String),
    /// Schema, rows and end mark; `weir.frame` in the schema's metadata holds the other members.
    ArrowIpc(Vec<u8>),
}

impl Content {
    /// As the bytes of a text frame; frames that are asked for as JSON always are.
    pub(crate) fn into_json(self) -> String {
        match self {
            Content::Json(text) => text,
            Content::ArrowIpc(_) => String::new(),
        }
    }
}

/// The frames of one subscription: hello first, progress when nothing else happens, an error last.
pub(crate) struct Frames {
    app: Arc<App>,
    changes: mpsc::Receiver<SubscriptionFrame>,
    /// Reads the feed; a task of its own, so that waiting here can stop without losing a change.
    pump: JoinHandle<()>,
    hello: Hello,
    as_json: bool,
    awaits_snapshot: bool,
    greeted: bool,
    ended: bool,
    /// What is said before hello: the answers of statements before the subscription.
    before: VecDeque<String>,
    /// What the last frame said.
    watermark: Value,
    offset: u64,
    /// When the next progress frame is due, whatever else comes.
    progress_due: Instant,
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.pump.abort();
        self.app.counters.subscriptions.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Frames {
    /// The frames of `feed`; rows as JSON or else as Arrow IPC.
    pub(crate) fn new(mut feed: Box<dyn Feed>, app: &Arc<App>, as_json: bool) -> Frames {
        app.counters.subscriptions.fetch_add(1, Ordering::Relaxed);
        let hello = feed.hello().clone();
        // One frame under way: a slow client lags in the changelog, not in memory.
        let (sender, changes) = mpsc::channel(1);
        let pump = tokio::spawn(async move {
            while let Some(frame) = feed.next().await {
                if sender.send(frame).await.is_err() {
                    return;
                }
            }
        });
        Frames {
            app: Arc::clone(app),
            changes,
            pump,
            offset: hello.offset,
            hello,
            as_json,
            awaits_snapshot: false,
            greeted: false,
            ended: false,
            before: VecDeque::new(),
            watermark: Value::Null,
            progress_due: Instant::now() + PROGRESS_EVERY,
        }
    }

    /// The same, of a subscriber that asked for a snapshot.
    pub(crate) fn awaiting_snapshot(mut self, awaits: bool) -> Frames {
        self.awaits_snapshot = awaits;
        self
    }

    /// The same, behind the answer of a statement that ran before it.
    pub(crate) fn after(mut self, answer: String) -> Frames {
        self.before.push_back(answer);
        self
    }

    /// The next frame; `None` when the subscription is over.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        if self.ended {
            return None;
        }
        if let Some(answer) = self.before.pop_front() {
            return Some(Frame {
                kind: "result",
                next_offset: None,
                content: Content::Json(answer),
            });
        }
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(self.hello_frame());
        }
        if Instant::now() >= self.progress_due {
            return Some(self.progress());
        }
        let shutdown = self.app.shutdown.clone();
        let frame = tokio::select! {
            frame = tokio::time::timeout_at(self.progress_due, self.changes.recv()) => frame,
            () = shutdown.begun() => {
                self.ended = true;
                return Some(error_frame(&shutting_down()));
            }
        };
        match frame {
            Ok(Some(frame)) => Some(self.frame(frame)),
            Ok(None) => {
                self.ended = true;
                let broke = (&mut self.pump).await.is_err_and(|error| error.is_panic());
                broke.then(|| error_frame(&broken_invariant()))
            }
            Err(_) => Some(self.progress()),
        }
    }

    /// Whether the whole server stops, not only this subscription.
    pub(crate) fn is_server_ending(&self) -> bool {
        self.app.shutdown.has_begun()
    }

    fn hello_frame(&self) -> Frame {
        let hello = &self.hello;
        let text = format!(
            r#"{{"type":"hello","query":{},"columns":{},"append_only":{},"offset":{}}}"#,
            Value::from(hello.query.as_str()),
            columns_json(&hello.schema),
            hello.append_only,
            hello.offset
        );
        // A client that is cut off before its snapshot must not go on behind it.
        let next_offset = (!self.awaits_snapshot).then_some(hello.offset);
        Frame { kind: "hello", next_offset, content: Content::Json(text) }
    }

    fn progress(&mut self) -> Frame {
        self.progress_due = Instant::now() + PROGRESS_EVERY;
        let (watermark, offset) = (&self.watermark, self.offset);
        let text = format!(r#"{{"type":"progress","watermark":{watermark},"offset":{offset}}}"#);
        Frame { kind: "progress", next_offset: Some(offset), content: Content::Json(text) }
    }

    fn frame(&mut self, frame: SubscriptionFrame) -> Frame {
        match frame {
            SubscriptionFrame::Snapshot { batches, offset } => {
                self.offset = offset;
                let head = Head { kind: "snapshot", offset, ops: None };
                self.rows(&head, &batches)
            }
            SubscriptionFrame::Data { offset, batch, ops } => {
                self.offset = offset + batch.num_rows() as u64;
                let head = Head { kind: "data", offset, ops: ops.map(|ops| signs(&ops)) };
                self.rows(&head, &[batch])
            }
            SubscriptionFrame::Progress { watermark, offset } => {
                (self.watermark, self.offset) = (watermark, offset);
                self.progress()
            }
            SubscriptionFrame::Gap { from, to, reason } => {
                self.offset = to;
                let reason = Value::from(reason);
                let text = format!(r#"{{"type":"gap","from":{from},"to":{to},"reason":{reason}}}"#);
                Frame { kind: "gap", next_offset: Some(to), content: Content::Json(text) }
            }
            SubscriptionFrame::Error(error) => {
                self.ended = true;
                error_frame(&error)
            }
        }
    }

    /// A frame with rows.
    fn rows(&mut self, head: &Head, batches: &[RecordBatch]) -> Frame {
        let next_offset = Some(self.offset);
        if self.as_json {
            let content = Content::Json(head.with_rows(batches));
            return Frame { kind: head.kind, next_offset, content };
        }
        match head.with_arrow(&self.hello.schema, batches) {
            Ok(bytes) => Frame { kind: head.kind, next_offset, content: Content::ArrowIpc(bytes) },
            Err(error) => {
                self.ended = true;
                error_frame(&error)
            }
        }
    }
}

/// What a frame with rows says besides its rows.
struct Head {
    kind: &'static str,
    offset: u64,
    ops: Option<String>,
}

impl Head {
    /// `{"type":"snapshot","rows":[{…}],"offset":n}` or
    /// `{"type":"data","offset":n,"rows":[{…}],"ops":"+-"}`.
    fn with_rows(&self, batches: &[RecordBatch]) -> String {
        let mut out = format!(r#"{{"type":"{}","offset":{},"rows":["#, self.kind, self.offset);
        let mut rows = Vec::new();
        for batch in batches {
            let writer = json::RowWriter::new(batch);
            for row in 0..batch.num_rows() {
                if !rows.is_empty() {
                    rows.push(b',');
                }
                writer.object(row, &mut rows);
            }
        }
        out.push_str(&String::from_utf8(rows).expect("rows are written as UTF-8"));
        out.push(']');
        if let Some(ops) = &self.ops {
            out.push_str(&format!(r#","ops":"{ops}""#));
        }
        out.push('}');
        out
    }

    /// The rows as an Arrow IPC stream whose schema carries the rest as metadata.
    fn with_arrow(&self, schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, Error> {
        let mut members = json!({"type": self.kind, "offset": self.offset});
        if let Some(ops) = &self.ops {
            members["ops"] = Value::from(ops.as_str());
        }
        let mut metadata = schema.metadata().clone();
        metadata.insert(ARROW_FRAME.to_string(), members.to_string());
        // A changelog's rows may hold nulls wherever the plan could not exclude them.
        let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let fields: Vec<_> = fields.collect();
        let schema: SchemaRef = Arc::new(Schema::new_with_metadata(fields, metadata));
        let named = |batch: &RecordBatch| {
            RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec())
        };
        let batches: Result<Vec<RecordBatch>, _> = batches.iter().map(named).collect();
        batches.and_then(|batches| arrow_ipc::stream_bytes(&schema, &batches)).map_err(|error| {
            Error::new(SqlState::INTERNAL, "changes could not be written as Arrow IPC")
                .with_detail(error.to_string())
        })
    }
}

/// One sign for each row.
fn signs(ops: &[i8]) -> String {
    ops.iter().map(|op| if *op < 0 { '-' } else { '+' }).collect()
}

fn error_frame(error: &Error) -> Frame {
    let mut members = error_json(error);
    members["type"] = Value::from("error");
    Frame { kind: "error", next_offset: None, content: Content::Json(members.to_string()) }
}
