//! Remembers what exists: streams, tables, queries, sinks, and their definitions.
//!
//! [`definition`] checks what a CREATE statement says; [`persist`] keeps the statements, each in a
//! [`record`], and says no in words of [`error`](mod@error).

pub mod definition;
pub mod error;
mod on_memory;
pub mod options;
mod overload;
pub mod persist;
pub mod record;
