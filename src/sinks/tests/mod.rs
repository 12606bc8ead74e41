//! Tests the contract of sinks against every target: one suite, run on each of them.

mod delivered;
mod encrypted;
mod file_only;
mod fixture;
mod mysql_only;
mod postgres_only;
mod proxy;
mod random;
mod runners;
mod sqlite_only;
mod suite;
mod types;
mod webhook_only;

#[expect(unreachable_pub, reason = "integration tests include the file as well")]
#[path = "../../../tests/mariadb/mod.rs"]
mod mariadb;
#[expect(unreachable_pub, reason = "integration tests include the file as well")]
#[path = "../../../tests/pg/mod.rs"]
mod pg;
