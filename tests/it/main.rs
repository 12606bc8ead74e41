//! One binary for all integration tests.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod engine;
