//! One binary for all integration tests.

mod engine;
mod fuzz_bodies;
mod hostile;
mod oracle;
