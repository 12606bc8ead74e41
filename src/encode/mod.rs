//! Turns batches into the bytes that clients read: JSON, CSV, Arrow IPC and the text of tables.
//!
//! [`cell`] resolves a column's Arrow type once per batch; each format then writes cells.

pub mod arrow_ipc;
pub(crate) mod cell;
pub mod csv;
pub(crate) mod datetime;
pub mod json;
#[cfg(test)]
mod tests;
pub mod text;
pub mod type_name;
