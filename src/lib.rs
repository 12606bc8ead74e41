//! Weir: continuous SQL queries over streams, in one binary.
//!
//! In a datum's way: [`server`] takes it in, [`decode`] makes columns of it, [`log`] keeps it,
//! [`pipeline`] pushes it through [`operators`] (which count with [`sketches`]), [`views`] hold the answers, [`sinks`] carry them on.
//! In a statement's way: [`sql`] parses, [`planner`] plans, [`catalog`] remembers, [`engine`] runs.

pub mod catalog;
pub mod client;
pub mod config;
pub mod crew;
pub mod data;
pub mod decode;
pub mod encode;
pub mod engine;
pub mod error;
pub mod fault;
pub mod log;
pub mod operators;
pub mod pipeline;
pub mod planner;
pub mod script;
pub mod server;
pub mod sinks;
pub mod sketches;
pub mod sql;
pub mod time;
pub mod views;
pub mod windows;
