//! Summarises what is too much to keep: pure counting, without columns, time or SQL.
//!
//! Each summary takes values, merges with another of its kind, and turns into bytes and back
//! ([`bytes`]); its answers carry bounds. [`distinct`] and [`quantile`] are functions of the set and
//! of the multiset of their values, whatever the order; [`itemsets`] (with its [`trie`], and
//! [`rules`] on top) is a function of the order in which transactions came.

pub mod bytes;
pub mod distinct;
pub mod hash;
pub mod itemsets;
pub mod quantile;
pub mod rules;
pub mod trend;
pub mod share;
mod trie;
