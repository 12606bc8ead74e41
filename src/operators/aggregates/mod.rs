//! Folds rows into partial aggregates, merges them, and evaluates them.

pub mod boxed;
pub mod exact_sum;
pub mod extreme;
pub mod fold;
pub mod linear;
pub mod multiset;
pub mod spec;
