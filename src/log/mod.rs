//! Keeps each relation's rows as one durable, totally ordered log of frames.
//!
//! In reading order: [`storage`] (the disk as a trait), [`frame`] (what is stored), [`payload`]
//! (rows as bytes), `segment` and `mark` (files), [`sequence`] (one order over all logs), [`log`]
//! (one log: append, sync), [`read`], [`append`] (group commit), [`recover`] (after a crash),
//! [`retention`], `size`, `cut`. The bytes of all files are drawn in `docs/file_formats.md`.

pub mod append;
mod compact;
mod cut;
pub mod error;
pub mod frame;
mod frame_bytes;
mod group;
pub mod headers;
mod listeners;
#[expect(clippy::module_inception, reason = "the layer is named after its main thing")]
pub mod log;
mod mark;
pub mod payload;
mod queue;
pub mod read;
pub mod recover;
pub mod retention;
mod scan;
mod schema_text;
mod segment;
pub mod sequence;
mod size;
pub mod storage;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use append::Appender;
pub use error::LogError;
pub use log::{Appended, Durability, Log, LogOptions};
