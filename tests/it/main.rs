//! One binary for all integration tests.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "a test that skips says so")]

mod asking;
mod budget;
mod codes;
mod crash;
mod damage;
mod data_questions;
mod demo;
mod docs;
mod edges;
mod engine;
mod engines;
mod epochs;
mod fake;
mod feeds;
mod fuzz_bodies;
mod golden;
mod hostile;
mod isolation;
mod late_rows;
mod limits;
mod memory;
mod mining;
mod mining_picture;
mod nexmark;
mod oracle;
#[path = "../pg/mod.rs"]
#[expect(unreachable_pub, reason = "unit tests include the file as well")]
mod pg;
mod producers;
mod queries;
mod real_server;
mod recordings;
mod reports;
mod restored;
mod scripts;
mod server;
mod shards;
mod shedding;
mod shell;
mod sim;
mod snapshots;
mod tidy;
mod upkeep;
