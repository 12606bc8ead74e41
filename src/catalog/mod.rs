//! Remembers what exists: streams, tables, queries, sinks, and their definitions.
//!
//! [`definition`] checks what a CREATE statement says; [`persist`] keeps the statements.

pub mod definition;
pub mod options;
mod overload;
pub mod persist;
