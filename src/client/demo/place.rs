//! Finds an empty directory for the demo, and removes the one that it made.

use std::path::{Path, PathBuf};

use super::{DemoArgs, cannot};
use crate::error::{Error, Result, SqlState};

/// Temporary names tried before giving up.
const TRIES: u32 = 1_000;

/// A directory for the demo's data.
pub(super) struct Place {
    path: PathBuf,
    is_temporary: bool,
}

impl Place {
    /// The directory that was asked for, which must be empty, or a new temporary one.
    pub(super) fn find(args: &DemoArgs) -> Result<Place> {
        let Some(path) = &args.data_dir else { return Place::temporary() };
        std::fs::create_dir_all(path)
            .map_err(|error| cannot(&format!("create \"{}\"", path.display()), &error))?;
        let mut entries = std::fs::read_dir(path)
            .map_err(|error| cannot(&format!("read \"{}\"", path.display()), &error))?;
        if entries.next().is_some() {
            let message = format!("data directory \"{}\" is not empty", path.display());
            return Err(Error::new(SqlState::INVALID_PARAMETER, message)
                .with_detail("Recordings on top of other rows would give other answers.")
                .with_hint("Name a new directory, or leave --data-dir out."));
        }
        Ok(Place { path: path.clone(), is_temporary: false })
    }

    fn temporary() -> Result<Place> {
        let parent = std::env::temp_dir();
        for number in 0..TRIES {
            let path = parent.join(format!("weir-demo-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Place { path, is_temporary: true }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(cannot(&format!("create \"{}\"", path.display()), &error));
                }
            }
        }
        Err(cannot("find a temporary directory", &"every name is taken"))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            tracing::warn!("could not remove \"{}\": {error}", self.path.display());
        }
    }
}
