//! Summaries of streams in little memory whose error is known: which items are frequent.
//!
//! In reading order: [`fraction`] (support and error, exactly), [`items`], [`table`] and [`counts`] (the items
//! that a summary holds, in the order in which they came, and their counts), [`lossy_counting`], [`sticky_sampling`],
//! [`space_saving`] and [`exact_counting`], and [`heavy_hitters`], which asks any of them the same
//! question. Which go together: [`itemsets`] and [`rules`]; which rise: [`trend`]. How many different
//! ones there are: [`distinct`] on [`hash`], also of a [`set_expression`]; and their [`quantile`]s. What chance
//! allows: [`chernoff`]. Nothing here knows columns, time or SQL. No order of hashing ever shows.

pub mod bytes;
pub mod chernoff;
pub mod coins;
pub mod counts;
pub mod distinct;
pub mod exact_counting;
pub mod fraction;
pub mod hash;
pub mod heavy_hitters;
pub mod items;
pub mod itemsets;
pub mod lossy_counting;
pub mod quantile;
pub mod rules;
pub mod set_expression;
pub mod space_saving;
pub mod sticky_sampling;
pub mod table;
pub mod trend;
mod trie;
