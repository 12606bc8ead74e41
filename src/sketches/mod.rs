//! Summaries of streams in little memory whose error is known: which items are frequent.
//!
//! In reading order: [`fraction`] (support and error, exactly), [`items`] and [`table`] (the items that a
//! summary holds, in the order in which they came), [`lossy_counting`], [`sticky_sampling`],
//! [`space_saving`] and [`exact_counting`], and [`heavy_hitters`], which asks any of them the same
//! question. Nothing here knows columns, time or SQL. No order of hashing ever shows.

pub mod bytes;
pub mod coins;
pub mod exact_counting;
pub mod fraction;
pub mod heavy_hitters;
pub mod items;
pub mod lossy_counting;
pub mod space_saving;
pub mod sticky_sampling;
pub mod table;
