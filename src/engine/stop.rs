//! Stops an engine: in order, within bounds, and whoever hangs holds up nobody else.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::engine::state::Engine;

impl Engine {
    /// Stops everything: takes no more rows, ends queries after their step, and joins every thread. Whoever
    /// gives up waiting leaves the work to a thread of its own.
    pub async fn shutdown(self: &Arc<Engine>) {
        let engine = Arc::clone(self);
        if self.crew.apart(move || engine.stop()).await.is_err() {
            tracing::error!("the engine broke while it stopped");
        }
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stepped.notify_waiters();
        self.room.notify_waiters();
        if let Some(timer) = self.timer.lock().take() {
            timer.thread().unpark();
            // It only looks at figures; a panic there was logged and there is nothing left to undo.
            drop(timer.join());
        }
        let (streams, sinks, late): (Vec<_>, Vec<_>, Vec<_>) = {
            let registry = self.registry.read();
            let streams = registry.streams.values().map(Arc::clone).collect();
            let late = registry.queries.values().filter_map(|query| query.late_rows_to());
            (streams, registry.sinks.values().map(Arc::clone).collect(), late.collect())
        };
        sinks.iter().for_each(|sink| sink.ask_to_stop());
        // Last steps of queries may have late rows, which are taken yet.
        let takes_late = |stream: &Arc<_>| late.iter().any(|late| Arc::ptr_eq(late, stream));
        let (last, first): (Vec<_>, Vec<_>) = streams.into_iter().partition(takes_late);
        first.iter().for_each(|stream| stream.appender.shut_down());
        self.scheduler.stop();
        last.iter().for_each(|stream| stream.appender.shut_down());
        self.take_last_snapshots();
        if self.sync_everything()
            && let Err(error) = self.end_run()
        {
            tracing::warn!("the end is not noted: {}", error.message());
        }
        // Last, because a target that hangs holds its sink up.
        sinks.iter().for_each(|sink| sink.stop());
        // Whoever still holds the engine, a SELECT that ends, say, writes nothing any more.
        drop(self.lock.lock().take());
        self.select_places.close();
    }

    /// What was only written survives power loss, too, after an orderly end.
    /// Whether all of it is.
    fn sync_everything(&self) -> bool {
        let registry = self.registry.read();
        let streams = registry.streams.values().map(|stream| &stream.log);
        let queries = registry.queries.values().map(|query| query.changelog.log());
        let reports = [&self.reports.dead_letters, &self.reports.late_rows, &self.reports.shed];
        let mut whole = true;
        for log in streams.chain(queries).chain(reports) {
            if let Err(error) = log.sync() {
                tracing::warn!("after the last rows: {error}");
                whole = false;
            }
        }
        whole
    }
}
