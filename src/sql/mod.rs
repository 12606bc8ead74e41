//! Reads and writes the dialect. Knows no catalog and no plans.

pub mod statement;
