//! Plays recordings of real events through a server of its own and shows the answers: `weir demo`.
//!
//! In reading order: [`example`] (the files of `queries/`), [`answer`] (tables, and whether two are the
//! same), [`recording`] (rows into streams), `bundle` (what the program carries with it), `play` (the
//! job), `screen` (what is drawn), `place` (the data directory), `database` (what the sink wrote).

pub mod answer;
mod bundle;
mod database;
pub mod example;
mod place;
mod play;
pub mod recording;
mod screen;

use std::io::Write;
use std::path::PathBuf;

use crate::error::{Error, Result, SqlState};

pub use play::play;

/// The arguments of `weir demo`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DemoArgs {
    /// Full speed: print the final answers beside the known ones, and end.
    #[arg(long)]
    pub fast: bool,
    /// Where to keep the data; a temporary directory that is removed in the end, if not given.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Runs the demo on a runtime of its own; Ctrl-C ends it.
///
/// # Errors
/// The engine's, and XX000 when an answer is not the known one.
pub fn run(args: &DemoArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("weir-io")
        .build()
        .map_err(|error| cannot("start the threads", &error))?;
    let outcome = runtime.block_on(play(args, &mut std::io::stdout()));
    runtime.shutdown_background();
    outcome
}

fn cannot(what: &str, why: &dyn std::fmt::Display) -> Error {
    Error::new(SqlState::IO, format!("could not {what}")).with_detail(why.to_string())
}

fn say(out: &mut (dyn Write + Send), text: &str) -> Result<()> {
    writeln!(out, "{text}").map_err(|error| cannot("write to the terminal", &error))
}
