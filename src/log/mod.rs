//! Keeps each relation's rows as one durable, totally ordered log of frames.
//!
//! In reading order: [`storage`] (the disk as a trait), [`frame`] (what is stored), [`segment`]
//! (bytes on disk), [`sequence`] (one order over all logs), [`log`] (one log: append, sync, read),
//! [`append`] (group commit), `recover` (after a crash), `retention`.

pub mod frame;
pub mod sequence;
pub mod storage;
