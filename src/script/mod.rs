//! Runs streaming test scripts: SQL, feeds and expected emissions, with virtual time.
//!
//! A script is a sqllogictest file. Beside SQL its statements may be (`session.rs`):
//!
//! ```text
//! feed <stream>          rows follow, one a line, in the forms of `feed.rs`
//! emissions <query>      the changes since the last `emissions` of that query, as rows `+|- columns`
//! advance <duration>     moves the clock and runs the timers
//! restart                shuts the engine down and opens it again over the same directory
//! ```
//!
//! Every statement is followed by FLUSH, so a script is one line of events. The clock stands at
//! 2026-01-01 00:00:00 at first and moves only by `advance` and `!tick`. Times of that day are
//! written and shown short, as `mm:ss` or `hh:mm:ss`.
//!
//! Each script runs in five [`Mode`]s; emissions must not depend on the mode. So every script is a
//! test of recovery and of batch cuts, too.

mod ending;
mod feed;
mod mode;
mod session;
mod show;
mod validate;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use sqllogictest::Runner;

pub use mode::Mode;
use session::{Handle, Session};

use crate::error::{Error, Result, SqlState};

/// A script that did not hold.
#[derive(Debug, thiserror::Error)]
#[error("{file} ({mode}): {reason}")]
pub struct ScriptFailure {
    /// The file.
    pub file: String,
    /// How it was run.
    pub mode: Mode,
    /// What did not hold, and where.
    pub reason: String,
}

/// Runs every script in every mode, says on standard output how each went, and fails if one did not
/// hold.
///
/// # Errors
/// 55000 when a script did not hold, 58030 when nothing can be written.
pub fn run(files: &[PathBuf]) -> Result<()> {
    let mut failed = 0;
    for file in files {
        let in_all_modes = || Mode::ALL.iter().try_for_each(|mode| run_file(file, *mode));
        let outcome = catch_unwind(AssertUnwindSafe(in_all_modes)).unwrap_or_else(|_| {
            let (file, mode) = (file.display().to_string(), Mode::ALL[0]);
            Err(ScriptFailure { file, mode, reason: "it broke the runner of scripts".into() })
        });
        let line = match &outcome {
            Ok(()) => format!("ok    {}", file.display()),
            Err(failure) => format!("FAIL  {failure}"),
        };
        writeln!(std::io::stdout(), "{line}").map_err(|error| {
            Error::new(SqlState::IO, format!("standard output cannot be written: {error}"))
        })?;
        failed += usize::from(outcome.is_err());
    }
    if failed == 0 {
        return Ok(());
    }
    let message = format!("{failed} of {} scripts did not hold", files.len());
    Err(Error::new(SqlState::OBJECT_STATE, message))
}

/// Runs one script in one mode.
///
/// # Errors
/// What did not hold, the file that cannot be read included.
pub fn run_file(file: &Path, mode: Mode) -> Result<(), ScriptFailure> {
    let name = file.display().to_string();
    let failure = |reason: String| ScriptFailure { file: name.clone(), mode, reason };
    let script = std::fs::read_to_string(file).map_err(|error| failure(error.to_string()))?;
    run_script(&name, &script, mode).map_err(failure)
}

fn run_script(name: &str, script: &str, mode: Mode) -> Result<(), String> {
    let session = Session::begin(mode).map_err(|error| error.to_string())?;
    let session = std::sync::Arc::new(Mutex::new(session));
    let mut runner = Runner::new(|| {
        let session = std::sync::Arc::clone(&session);
        async move { Ok(Handle(session)) }
    });
    runner.with_validator(validate::validate);
    // The library's own way of running a text panics when it cannot be read.
    let records = sqllogictest::parse_with_name(script, name).map_err(|error| error.to_string());
    let held = records
        .and_then(|records| runner.run_multi(records).map(drop).map_err(|error| error.to_string()));
    let mut session = session.lock();
    let ended = held.and_then(|()| ending::check(&mut session).map_err(|e| e.to_string()));
    session.end();
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_script_fails_and_the_next_one_runs() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = [
            file("words.slt", b"this is no script\n"),
            file("bytes.slt", b"\xff\xfe\x00"),
            file("query.slt", b"query I\nSELECT 1\n----\n1\n"),
        ];
        let error = run(&files).unwrap_err();
        assert_eq!(error.message(), "2 of 3 scripts did not hold");
    }
}
