//! Talks to a server from a terminal: the shell `weir sql`, with psql's habits.
//!
//! In reading order: [`shell`] (arguments, prompt, exit codes), [`input`] (lines to statements),
//! [`session`] (runs them), [`commands`] (backslash commands), [`connection`] (HTTP), [`table`] and
//! [`changes`] (what is shown), [`completion`], [`feed`], [`interrupt`]; [`demo`] is a job of its own.

mod changes;
mod commands;
mod completion;
mod connection;
pub mod demo;
mod feed;
mod feed_rows;
mod help;
mod input;
mod interrupt;
mod session;
mod shell;
mod table;

pub use shell::{EXIT_USAGE, SqlArgs, run};
