//! One binary for all integration tests.

mod data_questions;
mod demo;
mod engine;
mod queries;
mod recordings;
