//! Waits until what is in the logs now is in the results of all running queries.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::engine::query::reached;
use crate::engine::state::Engine;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::Position;

impl Engine {
    /// FLUSH: returns when every row that was visible at the call is in the results of every running
    /// query. Closes no window.
    ///
    /// # Errors
    /// 57P01 when the engine stops meanwhile.
    pub async fn flush(&self) -> Result<()> {
        let mut targets: BTreeMap<String, Position> = {
            let registry = self.registry.read();
            let streams =
                registry.streams.iter().map(|(name, stream)| (name.clone(), stream.log.visible()));
            let tables = registry
                .tables
                .iter()
                .map(|(name, table)| (name.clone(), table.changelog.log().visible()));
            streams.chain(tables).collect()
        };
        let queries = self.registry.read().queries_in_order();
        for query in queries {
            let wanted: Vec<Position> = query
                .sources()
                .iter()
                .map(|name| targets.get(&**name).copied().unwrap_or_default())
                .collect();
            loop {
                let stepped = self.stepped.notified();
                tokio::pin!(stepped);
                // Armed before looking, so that a step in between is not missed.
                stepped.as_mut().enable();
                // Without input, too, a query has a result (an aggregate over no rows), from its first step.
                let begun = query.figures.steps.load(Ordering::Relaxed) > 0;
                if !query.is_running() || (begun && reached(&query.processed.lock(), &wanted)) {
                    break;
                }
                if self.stopping.load(Ordering::Relaxed) {
                    return Err(Error::new(SqlState::SHUTTING_DOWN, "server is shutting down"));
                }
                query.wake();
                let again = std::time::Duration::from_millis(200);
                // Either way the figures are looked at again.
                drop(tokio::time::timeout(again, stepped).await);
            }
            targets.insert(query.name().to_string(), query.changelog.log().visible());
        }
        Ok(())
    }
}
