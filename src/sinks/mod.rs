//! Carries changelogs into other systems, exactly once, and to servers that take them at least once.
//!
//! In reading order: [`sink`] (the contract), [`options`] with `given` and [`target_options`] (WITH (…) of
//! CREATE SINK; [`option_error`]), [`net_effect`] (what a transaction has to do), [`values`] and
//! [`text`] (how a value is written), [`ddl`] (names, types, tables), [`progress`] and `mark_file`
//! (the marks; [`history`]), the targets [`sqlite`], [`postgres`] with [`copy`], [`mysql`] with its own client,
//! [`file`](mod@file) with [`file_format`], [`webhook`], then [`run`] (the loop; in [`turns`] by hand) over [`chunk`]s
//! and [`status`] (its door).

pub mod chunk;
pub mod copy;
pub mod ddl;
mod failure;
pub mod file;
pub mod file_format;
mod given;
pub mod history;
mod mark_file;
pub mod mysql;
mod mysql_login;
mod mysql_rows;
mod mysql_session;
mod mysql_table;
mod mysql_text;
pub mod mysql_url;
mod mysql_wire;
pub mod net_effect;
pub mod option_error;
pub mod options;
pub mod postgres;
mod postgres_session;
mod postgres_table;
mod postgres_tls;
pub mod progress;
pub mod run;
pub mod sink;
pub mod sqlite;
mod sqlite_table;
mod sqlite_value;
pub mod status;
pub mod target_options;
pub mod text;
mod tls;
pub mod turns;
pub mod values;
pub mod webhook;

#[cfg(test)]
mod tests;
