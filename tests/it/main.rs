//! One binary for all integration tests.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod docs;
mod engine;
mod tidy;
