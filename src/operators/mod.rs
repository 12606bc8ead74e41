//! Runs one step of a query each: synchronous, deterministic, in columns.
//!
//! [`operator`] holds the contract; [`emit`] the modes of EMIT; then one file per operator.

pub mod aggregate;
pub mod aggregates;
mod compact;
pub mod count_window;
pub mod delay;
pub mod early;
pub mod emission;
pub mod emit;
pub mod expr;
pub mod filter_project;
pub mod fork;
#[cfg(test)]
pub(crate) mod held;
pub mod held_promises;
pub mod join;
pub mod keys;
pub mod lateness;
pub mod match_recognize;
pub mod operator;
pub mod origin_buffer;
pub mod over;
pub mod over_changes;
pub mod partitions;
pub mod pending;
pub mod portions;
pub mod punctuation_window;
pub mod ranking;
pub mod row_buffer;
pub mod row_clock;
pub mod row_keys;
#[cfg(test)]
pub(crate) mod row_trial;
pub mod session_aggregate;
pub mod state;
pub mod stateless;
mod stored;
pub mod touched;
pub mod union;
pub mod unnest;
pub mod waiting_promises;
pub mod window_aggregate;
pub mod window_answer;
pub mod window_assign;
pub mod window_ends;
pub mod window_output;
#[cfg(test)]
pub(crate) mod window_trial;
