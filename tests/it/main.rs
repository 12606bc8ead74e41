//! One binary for all integration tests.

mod docs;
mod engine;
mod tidy;
