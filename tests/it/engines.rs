//! Opens engines whose clock only tests move, and asks them: for tests within one process.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use weir::encode::json::write_ndjson;
use weir::engine::{Engine, EngineSettings, Execution, StatementResult};
use weir::time::VirtualClock;

/// When the clock begins.
pub(crate) const NOW: i64 = 1_800_000_000_000_000;

/// Nothing happens by itself.
pub(crate) fn settings(directory: &Path) -> EngineSettings {
    EngineSettings { timers: false, ..EngineSettings::new(directory) }
}

/// An engine whose clock stands still.
pub(crate) fn open(directory: &Path) -> Arc<Engine> {
    open_with(settings(directory), &Arc::new(VirtualClock::new(NOW)))
}

/// An engine with a clock of the test's.
pub(crate) fn open_with(settings: EngineSettings, clock: &Arc<VirtualClock>) -> Arc<Engine> {
    Engine::open(settings, Arc::clone(clock) as _).unwrap()
}

/// Runs statements, none of which may fail.
pub(crate) async fn ok(engine: &Arc<Engine>, sql: &str) -> Execution {
    let execution = engine.execute(sql).await;
    if let Some(error) = &execution.error {
        panic!("{sql}\n{error}");
    }
    execution
}

/// Runs statements, and gives the rows of all of them as NDJSON.
pub(crate) async fn run(engine: &Arc<Engine>, sql: &str) -> String {
    ndjson(&ok(engine, sql).await.results)
}

/// Runs statements, and gives the rows of the last one as NDJSON.
pub(crate) async fn rows(engine: &Arc<Engine>, sql: &str) -> String {
    ndjson(ok(engine, sql).await.results.last())
}

/// The rows of results as NDJSON.
pub(crate) fn ndjson<'a>(results: impl IntoIterator<Item = &'a StatementResult>) -> String {
    let mut out = Vec::new();
    for batch in results.into_iter().flat_map(|result| &result.batches) {
        write_ndjson(batch, &mut out);
    }
    String::from_utf8(out).unwrap()
}

/// Copies a directory with all that is in it, as a killed process leaves it. One that lives may rename or remove a
/// file meanwhile; then the copy begins again.
pub(crate) fn copy(from: &Path, to: &Path) {
    for _ in 0..100 {
        match try_copy(from, to) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            copied => return copied.unwrap(),
        }
    }
    panic!("files of {} do not stay", from.display());
}

fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => try_copy(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}
