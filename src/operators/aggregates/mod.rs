//! Folds rows into partial aggregates, merges them, and evaluates them.
//!
//! For windows, whose partial results are merged: [`accumulator`] holds the contract and the
//! factory; `count`, `sum`, `avg`, `min_max` and `moments` (variances) and `first_last` are ours; `datafusion` wraps everything else;
//! `ordered` sorts for functions that want their input sorted; [`retractable`] keeps multisets where
//! rows can be taken back; [`one_shot`] evaluates rows that are all there.
//!
//! For groups without a window, which live on and are read again and again, also after rows were
//! taken back: [`fold`] holds the contract and the factory; [`linear`], [`extreme`], [`multiset`] and
//! [`boxed`] implement it.
//!
//! For both, [`mining`]: summaries that answer which items are frequent; and [`bounds`]: functions of
//! DataFusion's kind, distinct counts and quantiles with their bounds.

pub mod accumulator;
mod avg;
pub mod bounds;
pub mod boxed;
mod count;
mod datafusion;
pub mod exact_sum;
pub mod extreme;
mod first_last;
pub mod fold;
pub mod linear;
mod min_max;
pub mod mining;
mod moments;
pub mod multiset;
pub mod one_shot;
mod ordered;
pub mod retractable;
pub mod spec;
mod sum;
mod word;

#[cfg(test)]
mod tests;
