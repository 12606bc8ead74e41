//! Folds rows into partial aggregates, merges them, and evaluates them.

pub mod spec;
