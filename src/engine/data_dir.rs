//! Keeps a data directory for one server.

use crate::engine::EngineSettings;
use crate::error::{Error, Result, SqlState};

/// Keeps other servers off the directory as long as the file is open.
pub(super) fn lock(settings: &EngineSettings) -> Result<std::fs::File> {
    let path = settings.data_dir.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|e| io(settings, &e))?;
    file.try_lock().map_err(|_| {
        Error::new(
            SqlState::OBJECT_IN_USE,
            format!(
                "data directory \"{}\" is in use by another server",
                settings.data_dir.display()
            ),
        )
        .with_hint("Stop the other server, or give this one a --data-dir of its own.")
    })?;
    Ok(file)
}

/// What the system says of the directory.
pub(super) fn io(settings: &EngineSettings, error: &std::io::Error) -> Error {
    let directory = settings.data_dir.display();
    Error::new(SqlState::IO, format!("data directory \"{directory}\" cannot be used: {error}"))
}
