//! Tests the contract of sinks against every target: one suite, run on SQLite and on PostgreSQL.

mod fixture;
mod postgres_only;
mod random;
mod sqlite_only;
mod suite;
mod types;

#[expect(unreachable_pub, reason = "integration tests include the file as well")]
#[path = "../../../tests/pg/mod.rs"]
mod pg;
