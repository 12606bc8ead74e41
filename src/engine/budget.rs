//! Holds senders back while a stream with ON OVERLOAD BLOCK is as large as it may be.
//!
//! ```text
//!   bytes of the log + bytes reserved by others + bytes of this request <= retention_bytes ─▶ reserve, go on
//!     no  ─▶ remove what nobody needs ─▶ still no ─▶ ask the queries that need it for snapshots, wait
//! ```
//! A request reserves what it can come to before it takes its place, and gives that back once it is written,
//! so that many senders together keep to the budget. They wait in the order in which they came. Nobody waits
//! who alone is left: where only the newest piece of the log is there, nothing will ever go, and one request
//! at a time is taken, however large.
//!
//! # Not held back
//!
//! What the server itself writes: ticks, records of producers that are carried over, late rows of queries. A
//! query that waits here could be the one that has to go on before there is room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::catalog::definition::OnOverload;
use crate::decode::Decoded;
use crate::engine::ingest::{StreamHandle, stopped};
use crate::engine::state::Engine;
use crate::engine::stream::StreamState;
use crate::error::Result;
use crate::log::log::Durability;

/// What senders of a stream have reserved of its budget.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Senders are let in one after the other.
    turn: tokio::sync::Mutex<()>,
    reserved: AtomicU64,
    /// Senders that wait.
    pub waiting: AtomicU64,
}

/// Bytes of a budget that a request may take, until it is written.
pub(super) struct Reserved {
    stream: Arc<StreamState>,
    room: Arc<Notify>,
    bytes: u64,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.stream.budget.reserved.fetch_sub(self.bytes, Ordering::AcqRel);
        self.room.notify_waiters();
    }
}

/// A sender that waits, for as long as it does.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn begin(senders: &'a AtomicU64) -> Waiting<'a> {
        senders.fetch_add(1, Ordering::Relaxed);
        Waiting(senders)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl StreamHandle {
    /// Waits until there is room for a request where the stream asks its senders to, and reserves it.
    ///
    /// # Errors
    /// 57P01 when the server shuts down meanwhile.
    pub(super) async fn room(&self, decoded: &Decoded) -> Result<Option<Reserved>> {
        let stream = &self.stream;
        let definition = &stream.definition;
        let blocks = definition.overload == OnOverload::Block
            && definition.durability != Durability::Memory
            && stream.options.read().retention_bytes.is_some();
        if !blocks || self.of_query {
            return Ok(None);
        }
        // Each punctuation is a frame, and ends one.
        let frames = 2 * decoded.punctuations.len() as u64;
        let frame = stream.log.bytes_max(&decoded.batch.slice(0, 0));
        let bytes = stream.log.bytes_max(&decoded.batch) + frames * frame;
        let waiting = Waiting::begin(&stream.budget.waiting);
        let _turn = stream.budget.turn.lock().await;
        loop {
            let changed = self.engine.room.notified();
            tokio::pin!(changed);
            // Registered before the look, so that room made in between is not missed.
            changed.as_mut().enable();
            if let Some(reserved) = self.reserve(bytes) {
                drop(waiting);
                return Ok(Some(reserved));
            }
            if self.engine.stopping.load(Ordering::Relaxed) {
                return Err(stopped());
            }
            if stream.appender.is_closed() {
                // The append says so.
                return Ok(None);
            }
            let (engine, of) = (Arc::clone(&self.engine), Arc::clone(stream));
            let made = self.engine.crew.apart(move || engine.make_room(&of, bytes)).await;
            made.map_err(|_| stopped())??;
            if let Some(reserved) = self.reserve(bytes) {
                return Ok(Some(reserved));
            }
            changed.await;
        }
    }

    /// Reserves so many bytes if they fit, or if waiting would not help.
    fn reserve(&self, bytes: u64) -> Option<Reserved> {
        let stream = &self.stream;
        let reserved = stream.budget.reserved.load(Ordering::Acquire);
        let fits = stream.options.read().retention_bytes.is_none_or(|limit| {
            stream.log.bytes().saturating_add(reserved).saturating_add(bytes) <= limit
        });
        if !fits && (reserved > 0 || !stream.log.is_newest_only()) {
            return None;
        }
        // One at a time comes here, so that nothing was reserved in between.
        stream.budget.reserved.fetch_add(bytes, Ordering::AcqRel);
        let (stream, room) = (Arc::clone(stream), Arc::clone(&self.engine.room));
        Some(Reserved { stream, room, bytes })
    }
}

impl Engine {
    /// Removes what nobody needs, so that so many bytes more fit into a stream; asks those who need the rest
    /// for snapshots. Blocks: not for the threads of an async runtime.
    fn make_room(&self, stream: &Arc<StreamState>, bytes: u64) -> Result<()> {
        {
            // While a query is being rebuilt, its inputs stay as they are.
            let Ok(_no_statement) = self.ddl.try_lock() else { return Ok(()) };
            let reserved = stream.budget.reserved.load(Ordering::Acquire);
            self.retain_stream(stream, self.clock.now(), bytes.saturating_add(reserved))?;
        }
        let registry = self.registry.read();
        for query in registry.queries.values().filter(|query| query.is_running()) {
            if query.reads(&stream.definition.name) {
                query.snapshots.ask();
                query.wake();
            }
        }
        Ok(())
    }

    /// Lets senders look again that wait for room: time has passed, which may be all that they wait for.
    pub(super) fn wake_senders(&self) {
        let registry = self.registry.read();
        if registry.streams.values().any(|s| s.budget.waiting.load(Ordering::Relaxed) > 0) {
            self.room.notify_waiters();
        }
    }
}
