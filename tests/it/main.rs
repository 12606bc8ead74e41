//! One binary for all integration tests.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod docs;
mod engine;
mod tidy;
mod data_questions;
mod demo;
mod engine;
mod queries;
mod recordings;
mod scripts;
