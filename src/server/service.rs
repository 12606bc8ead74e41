//! States what the server needs of the engine, so that it can be tested without one.

use std::sync::Arc;

use futures::future::BoxFuture;

use crate::decode::{DecodeSpecRef, Decoded};
use crate::engine::{
    AckLevel, Engine, Hello, IngestOrigin, IngestReceipt, StatementResult, StreamHandle,
    SubscribeRequest, Subscription, SubscriptionFrame,
};
use crate::error::{Error, Result};

/// What a text of statements answered.
pub struct Outcome {
    /// One for each statement that ran, in order.
    pub results: Vec<StatementResult>,
    /// What stopped the text.
    pub error: Option<Error>,
    /// The answer of SUBSCRIBE, which ends a text.
    pub subscription: Option<Box<dyn Feed>>,
}

/// The engine as the server sees it.
pub trait Service: Send + Sync + 'static {
    /// Runs statements in order up to the first error.
    fn execute<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Outcome>;
    /// A stream by its name.
    fn stream(&self, name: &str) -> Result<Arc<dyn Intake>>;
    /// Follows a query.
    fn subscribe<'a>(
        &'a self,
        query: &'a str,
        request: SubscribeRequest,
    ) -> BoxFuture<'a, Result<Box<dyn Feed>>>;
    /// Writes down what is in memory and stops.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}

/// A stream that takes rows in.
pub trait Intake: Send + Sync {
    /// The stream's name.
    fn name(&self) -> &str;
    /// How its rows are read.
    fn decode_spec(&self) -> DecodeSpecRef;
    /// The ack that its durability stands for.
    fn default_ack(&self) -> AckLevel;
    /// The sequence that a producer of rows sends next; a new one begins with `first`.
    fn next_sequence<'a>(
        &'a self,
        id: &'a str,
        protocol: &'a str,
        first: u64,
    ) -> BoxFuture<'a, Result<u64>>;
    /// Stores the good rows as one frame, the bad ones as dead letters, and waits for the ack.
    ///
    /// Calls take their places in the log in the order in which their futures are first polled:
    /// a TCP connection has several under way at once.
    fn ingest(
        &self,
        decoded: Decoded,
        ack: Option<AckLevel>,
        origin: IngestOrigin,
    ) -> BoxFuture<'_, Result<IngestReceipt>>;
}

/// The changes of a query as they come. Dropping it ends the subscription.
pub trait Feed: Send {
    /// What the subscriber learns first.
    fn hello(&self) -> &Hello;
    /// The next frame; `None`: the query is gone. Dropping the future loses nothing.
    fn next(&mut self) -> BoxFuture<'_, Option<SubscriptionFrame>>;
}

impl Service for Arc<Engine> {
    fn execute<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            let execution = Engine::execute(self, sql).await;
            Outcome {
                results: execution.results,
                error: execution.error,
                subscription: execution.subscription.map(|feed| Box::new(feed) as Box<dyn Feed>),
            }
        })
    }
    fn stream(&self, name: &str) -> Result<Arc<dyn Intake>> {
        Engine::stream(self, name).map(|stream| Arc::new(stream) as Arc<dyn Intake>)
    }
    fn subscribe<'a>(
        &'a self,
        query: &'a str,
        request: SubscribeRequest,
    ) -> BoxFuture<'a, Result<Box<dyn Feed>>> {
        Box::pin(async move {
            let feed = Engine::subscribe(self, query, request)?;
            Ok(Box::new(feed) as Box<dyn Feed>)
        })
    }
    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(Engine::shutdown(self))
    }
}

impl Intake for StreamHandle {
    fn name(&self) -> &str {
        StreamHandle::name(self)
    }
    fn decode_spec(&self) -> DecodeSpecRef {
        StreamHandle::decode_spec(self)
    }
    fn default_ack(&self) -> AckLevel {
        StreamHandle::default_ack(self)
    }
    fn next_sequence<'a>(
        &'a self,
        id: &'a str,
        protocol: &'a str,
        first: u64,
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(StreamHandle::next_sequence(self, id, protocol, first))
    }
    fn ingest(
        &self,
        decoded: Decoded,
        ack: Option<AckLevel>,
        origin: IngestOrigin,
    ) -> BoxFuture<'_, Result<IngestReceipt>> {
        Box::pin(StreamHandle::ingest(self, decoded, ack, origin))
    }
}

impl Feed for Subscription {
    fn hello(&self) -> &Hello {
        Subscription::hello(self)
    }
    fn next(&mut self) -> BoxFuture<'_, Option<SubscriptionFrame>> {
        Box::pin(Subscription::next(self))
    }
}
