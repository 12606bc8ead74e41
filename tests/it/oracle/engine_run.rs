//! Runs an engine that a case may stop and open again, and answers as sorted lines.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weir::engine::{Engine, EngineSettings};
use weir::error::Error;
use weir::time::VirtualClock;

use super::rng::Rng;
use crate::engines::{NOW, ndjson, settings};

/// A run that takes longer hangs. The slowest takes 40 seconds in a debug build, more where others work beside it.
const PATIENCE: Duration = Duration::from_secs(600);

/// An engine over a directory of its own.
pub(super) struct EngineRun<'a> {
    directory: &'a Path,
    pub(super) clock: Arc<VirtualClock>,
    /// None only while it restarts: a directory has one engine.
    engine: Option<Arc<Engine>>,
    /// Which engine of its directory comes next.
    next: usize,
    pub(super) rng: Rng,
}

impl EngineRun<'_> {
    /// Opens the engine. Some take a snapshot after every step, the others none: so a restart goes on from
    /// the last state, from an older one, or from nothing. Each has another number of shards than the last.
    pub(super) fn open(&mut self) -> Result<(), String> {
        let shards = 1 + self.next % 3;
        self.next += 1;
        let chosen = EngineSettings {
            query_threads: 2,
            shards,
            shards_from: (0, 0),
            snapshot_interval: if self.rng.one_in(2) { 0 } else { i64::MAX },
            ..settings(self.directory)
        };
        let clock = Arc::clone(&self.clock) as _;
        self.engine = Some(Engine::open(chosen, clock).map_err(|error| format!("open: {error}"))?);
        Ok(())
    }

    /// Ends the engine in good order and opens it again.
    pub(super) async fn restart(&mut self) -> Result<(), String> {
        if let Some(engine) = self.engine.take() {
            engine.shutdown().await;
        }
        self.open()
    }

    pub(super) fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().expect("it is open")
    }

    /// The rows of the last statement as JSON, sorted; the statements and the error where one fails.
    pub(super) async fn execute(&self, sql: &str) -> Result<Vec<String>, String> {
        self.ask(sql).await.map_err(|error| format!("{sql}\n{error}"))
    }

    /// The same, with the error itself.
    pub(super) async fn ask(&self, sql: &str) -> Result<Vec<String>, Error> {
        let text = self.text(sql).await?;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        Ok(lines)
    }

    /// The rows of the last statement as JSON, in their order.
    pub(super) async fn text(&self, sql: &str) -> Result<String, Error> {
        let execution = self.engine().execute(sql).await;
        if let Some(error) = execution.error {
            return Err(error);
        }
        Ok(ndjson(execution.results.last()))
    }

    /// Waits for the results, and fails where a query has stopped.
    pub(super) async fn settle(&self) -> Result<(), String> {
        self.execute("FLUSH").await?;
        let stopped = "SELECT name, error FROM weir.queries WHERE status <> 'running'";
        let stopped = self.execute(stopped).await?;
        if stopped.is_empty() { Ok(()) } else { Err(format!("not all is well: {stopped:?}")) }
    }
}

/// Runs `work` on an engine that is not open yet. Panics where it hangs: to make that smaller would take hours.
pub(super) fn with_engine<T>(
    seed: u64,
    work: impl AsyncFnOnce(&mut EngineRun<'_>) -> Result<T, String>,
) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let clock = Arc::new(VirtualClock::new(NOW));
    let mut run = EngineRun {
        directory: directory.path(),
        clock,
        engine: None,
        next: seed as usize % 3,
        rng: Rng::new(seed),
    };
    let bounded = async { tokio::time::timeout(PATIENCE, work(&mut run)).await };
    let outcome = runtime.block_on(bounded);
    {
        // An engine may hold a runtime of its own.
        let _inside = runtime.enter();
        drop(run);
    }
    runtime.shutdown_background();
    outcome.unwrap_or_else(|_| panic!("seed {seed} hangs"))
}
