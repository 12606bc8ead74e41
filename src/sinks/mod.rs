//! Carries changelogs into other systems, exactly once.
//!
//! In reading order: [`sink`] (the contract), [`options`] (WITH (…) of CREATE SINK; [`option_error`]),
//! [`net_effect`] (what a transaction has to do), [`values`] and [`text`] (how a value is written),
//! [`ddl`] (names, types, tables), [`progress`] (the marks), [`sqlite`], [`postgres`] with [`copy`]
//! (the targets), [`run`] (the loop) and [`status`] (its door).

pub mod copy;
pub mod ddl;
pub mod net_effect;
pub mod option_error;
pub mod options;
pub mod postgres;
mod postgres_session;
mod postgres_table;
pub mod progress;
pub mod run;
pub mod sink;
pub mod sqlite;
mod sqlite_table;
mod sqlite_value;
pub mod status;
pub mod text;
pub mod values;

#[cfg(test)]
mod tests;
