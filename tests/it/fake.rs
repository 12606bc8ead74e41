//! Stands in for the engine behind a server, and speaks HTTP to it to the letter.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use weir::decode::{DecodeSpec, DecodeSpecRef, Decoded, Limits};
use weir::engine::{
    AckLevel, Hello, IngestOrigin, IngestReceipt, StatementResult, SubscribeRequest,
    SubscriptionFrame,
};
use weir::error::{Error, Result, SqlState};
use weir::server::service::{Feed, Intake, Outcome};
use weir::server::{Addresses, Server, Service};

use crate::real_server::PATIENCE;

/// One column `n`.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

/// Rows of [`schema`].
pub(crate) fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_new(schema(), vec![column]).unwrap()
}

/// What a fake query tells its subscriber, one after the other.
pub(crate) enum Tell {
    Frame(SubscriptionFrame),
    /// A change every so often, for ever.
    Steadily(std::time::Duration),
    Panic,
    /// Nothing more, and no end.
    Silence,
}

/// First offsets of groups of rows, and the end of the wait of each.
type Waiting = Arc<Mutex<Vec<(u64, oneshot::Sender<()>)>>>;

/// A service that does what it was told. SQL `panic` panics.
#[derive(Default)]
pub(crate) struct Fake {
    /// For each subscription to come, what it is told.
    pub(crate) subscriptions: Mutex<VecDeque<Vec<Tell>>>,
    /// What subscribers asked for.
    pub(crate) requests: Mutex<Vec<SubscribeRequest>>,
    /// For each group of rows that was taken in, its first offset and the end of its wait.
    pub(crate) waiting: Waiting,
    next_offset: Arc<Mutex<u64>>,
}

impl Fake {
    /// Serves it on free ports.
    pub(crate) async fn serve(self: &Arc<Fake>) -> Server {
        let any = "127.0.0.1:0".to_string();
        let addresses = Addresses { http: any.clone(), tcp: any };
        Server::start(Arc::clone(self) as Arc<dyn Service>, &addresses).await.unwrap()
    }
}

impl Service for Fake {
    fn execute<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            assert_ne!(sql, "panic", "as it was asked to");
            let batches = vec![numbers([1])];
            let result = StatementResult { tag: "SELECT 1".into(), schema: schema(), batches };
            Outcome { results: vec![result], error: None, subscription: None }
        })
    }

    fn stream(&self, name: &str) -> Result<Arc<dyn Intake>> {
        let panics = match name {
            "s" => false,
            "panics" => true,
            _ => {
                let message = format!("stream \"{name}\" does not exist");
                return Err(Error::new(SqlState::UNDEFINED_RELATION, message));
            }
        };
        let (waiting, next_offset) = (Arc::clone(&self.waiting), Arc::clone(&self.next_offset));
        Ok(Arc::new(Slow { panics, waiting, next_offset }))
    }

    fn subscribe<'a>(
        &'a self,
        query: &'a str,
        request: SubscribeRequest,
    ) -> BoxFuture<'a, Result<Box<dyn Feed>>> {
        Box::pin(async move {
            self.requests.lock().unwrap().push(request);
            let told = self.subscriptions.lock().unwrap().pop_front().unwrap_or_default();
            let hello =
                Hello { query: query.into(), schema: schema(), append_only: true, offset: 0 };
            Ok(Box::new(Told { hello, told: told.into(), offset: 0 }) as Box<dyn Feed>)
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct Told {
    hello: Hello,
    told: VecDeque<Tell>,
    offset: u64,
}

impl Feed for Told {
    fn hello(&self) -> &Hello {
        &self.hello
    }

    fn next(&mut self) -> BoxFuture<'_, Option<SubscriptionFrame>> {
        Box::pin(async move {
            if let Some(Tell::Steadily(every)) = self.told.front() {
                tokio::time::sleep(*every).await;
                let (offset, batch) = (self.offset, numbers([0]));
                self.offset += 1;
                return Some(SubscriptionFrame::Data { offset, batch, ops: None });
            }
            match self.told.pop_front()? {
                Tell::Frame(frame) => Some(frame),
                Tell::Panic => panic!("as it was asked to"),
                Tell::Silence | Tell::Steadily(_) => std::future::pending().await,
            }
        })
    }
}

/// A stream whose acks wait until the test lets them go.
struct Slow {
    panics: bool,
    waiting: Waiting,
    next_offset: Arc<Mutex<u64>>,
}

impl Intake for Slow {
    fn name(&self) -> &str {
        "s"
    }

    fn decode_spec(&self) -> DecodeSpecRef {
        let limits = Limits::default();
        Arc::new(DecodeSpec { schema: schema(), reject_unknown_fields: false, limits })
    }

    fn default_ack(&self) -> AckLevel {
        AckLevel::Durable
    }

    fn next_sequence<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        first: u64,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move { Ok(first) })
    }

    fn ingest(
        &self,
        decoded: Decoded,
        _: Option<AckLevel>,
        _: IngestOrigin,
    ) -> BoxFuture<'_, Result<IngestReceipt>> {
        assert!(!self.panics, "as it was asked to");
        Box::pin(async move {
            let rows = decoded.batch.num_rows() as u64;
            let (sender, receiver) = oneshot::channel();
            let first_offset = {
                let mut next = self.next_offset.lock().unwrap();
                let first = *next;
                *next += rows;
                self.waiting.lock().unwrap().push((first, sender));
                first
            };
            receiver.await.unwrap();
            let (accepted, rejected) = (rows, decoded.rejected.len() as u64);
            let next_offset = first_offset + rows;
            Ok(IngestReceipt {
                accepted,
                rejected,
                first_offset,
                next_offset,
                ..IngestReceipt::default()
            })
        })
    }
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The error's code, once every member of its shape is there.
    pub(crate) fn error(&self) -> String {
        let answer = self.json();
        let error = answer["error"].as_object().unwrap_or_else(|| panic!("{answer}"));
        let members: Vec<&str> = error.keys().map(String::as_str).collect();
        assert_eq!(members, ["code", "detail", "hint", "message", "position"], "{answer}");
        assert!(!error["message"].as_str().unwrap().is_empty());
        assert!(self.head.to_lowercase().contains("content-type: application/json"));
        error["code"].as_str().unwrap().to_string()
    }
}

/// Sends a request as it is and reads to the end; `{body}` follows the blank line.
pub(crate) fn call(port: u16, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = format!("{line} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request.push_str("Host: localhost\r\n");
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    // A server that refuses by the head need not take the body.
    drop(stream.write_all(body));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end + 4..].to_vec() }
}
