//! Waits until what is in the logs now is in the results of all running queries, and in a sink's target.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::catalog::record::Kind;
use crate::engine::query::reached;
use crate::engine::registry::wrong_kind;
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::log::log::Log;

/// How long FLUSH SINK waits.
const FLUSH_TIME: Duration = Duration::from_secs(60);

impl Engine {
    /// FLUSH: returns when every row that was acknowledged at the call is in the results of every running
    /// query. Closes no window.
    ///
    /// # Errors
    /// 57P01 when the engine stops meanwhile.
    pub async fn flush(&self) -> Result<()> {
        let mut ends = self.late_rows_ends().await?;
        self.flush_once().await?;
        // Rows dropped as too late on the way may be input of other queries, and those may drop rows.
        for _ in 0..ends.len() {
            let now = self.late_rows_ends().await?;
            if now == ends {
                break;
            }
            ends = now;
            self.flush_once().await?;
        }
        Ok(())
    }

    /// How far the streams are that take late rows; all that is there is visible.
    async fn late_rows_ends(&self) -> Result<Vec<u64>> {
        let streams: Vec<_> = {
            let registry = self.registry.read();
            registry.queries.values().filter_map(|query| query.late_rows_to()).collect()
        };
        let mut ends = Vec::new();
        for stream in streams {
            let log = Arc::clone(&stream.log);
            if log.visible().frame < log.appended() {
                let log = Arc::clone(&log);
                // A log that cannot be synced gives up what is not visible.
                drop(self.crew.apart(move || log.sync()).await);
            }
            ends.push(log.visible().frame);
        }
        Ok(ends)
    }

    async fn flush_once(&self) -> Result<()> {
        let mut targets: BTreeMap<String, (Arc<Log>, u64)> = {
            let registry = self.registry.read();
            let streams = registry.streams.iter().map(|(name, stream)| (name, &stream.log));
            let tables = registry.tables.iter().map(|(name, t)| (name, t.changelog.log()));
            // Rows that were acknowledged as written may not be visible yet.
            let target = |log: &Arc<Log>| (Arc::clone(log), log.appended());
            streams.chain(tables).map(|(name, log)| (name.clone(), target(log))).collect()
        };
        let queries = self.registry.read().queries_in_order();
        for query in queries {
            let sources = query.sources();
            // A log that has failed gives up what was not visible.
            let wanted = || -> Vec<u64> {
                let target = |name: &Arc<str>| targets.get(&**name);
                let frame = |name| target(name).map_or(0, |(log, end)| log.appended().min(*end));
                sources.iter().map(frame).collect()
            };
            loop {
                let stepped = self.stepped.notified();
                tokio::pin!(stepped);
                // Armed before looking, so that a step in between is not missed.
                stepped.as_mut().enable();
                // Without input, too, a query has a result (an aggregate over no rows), from its first step.
                let begun = query.figures.steps.load(Ordering::Relaxed) > 0;
                if !query.is_running() || (begun && reached(&query.processed.lock(), &wanted())) {
                    break;
                }
                if self.stopping.load(Ordering::Relaxed) {
                    return Err(Error::new(SqlState::SHUTTING_DOWN, "server is shutting down"));
                }
                if query.figures.stalled.load(Ordering::Relaxed) {
                    return Err(full(query.name()));
                }
                query.wake();
                let again = std::time::Duration::from_millis(200);
                // Either way the figures are looked at again.
                drop(tokio::time::timeout(again, stepped).await);
            }
            let log = Arc::clone(query.changelog.log());
            let end = log.appended();
            targets.insert(query.name().to_string(), (log, end));
        }
        Ok(())
    }

    /// FLUSH SINK: waits until the sink has committed what its query has answered so far.
    pub(super) async fn flush_sink(&self, name: &str) -> Result<()> {
        let (sink, offset) = {
            let registry = self.registry.read();
            let Some(sink) = registry.sinks.get(name) else {
                return Err(wrong_kind(&registry, name, Kind::Sink));
            };
            sink.at_rest()?;
            registry.check_whole(&sink.from)?;
            let query = registry.queries.get(&sink.from);
            let offset = query.map_or(0, |query| query.changelog.log().visible().offset);
            (Arc::clone(sink), offset)
        };
        let waiting = Arc::clone(&sink);
        let waited =
            tokio::task::spawn_blocking(move || waiting.wait_committed(offset, FLUSH_TIME));
        match waited.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => {
                // It may have been paused meanwhile, or lost its query's changelog.
                sink.at_rest()?;
                let message = format!("sink \"{name}\" did not commit everything in time");
                let error = Error::new(SqlState::CANCELLED, message)
                    .with_hint("SELECT * FROM weir.sinks shows what it is doing.");
                Err(match sink.figures().error {
                    Some(why) => error.with_detail(format!("{why}.")),
                    None => error,
                })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(SqlState::SHUTTING_DOWN, "server is shutting down")),
        }
    }
}

fn full(query: &str) -> Error {
    let message = format!("continuous query \"{query}\" waits for room on the disk");
    Error::new(SqlState::DISK_FULL, message)
        .with_hint("Make room: the query goes on by itself within seconds.")
}
