//! Folds rows into partial aggregates, merges them, and evaluates them.
//!
//! [`accumulator`] holds the contract and the factory; `count`, `sum`, `avg` and `min_max` are
//! hand-tuned; `datafusion` wraps everything else; `ordered` sorts for functions that want their
//! input sorted; [`one_shot`] evaluates rows that are all there.

pub mod accumulator;
mod avg;
mod count;
mod datafusion;
mod min_max;
pub mod one_shot;
mod ordered;
pub mod spec;
mod sum;

#[cfg(test)]
mod tests;
