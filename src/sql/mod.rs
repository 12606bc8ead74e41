//! Reads and writes the dialect. Knows no catalog and no plans.

mod canonical;
mod dialect;
pub mod error;
pub mod limits;
pub mod locate;
pub mod parse;
pub mod print;
mod print_rows;
pub mod split;
pub mod statement;
mod tokens;
pub mod types;
