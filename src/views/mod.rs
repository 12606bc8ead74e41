//! Keeps the answers of queries and serves them: as a log of changes, as a relation, as a subscription.
//!
//! [`changelog`] is the durable log, with [`epochs`]; [`result_view`] its sum, the current result;
//! [`subscription`] hands it to clients; [`table_provider`] to SELECT.

pub mod changelog;
pub mod difference;
pub mod epochs;
pub mod result_view;
pub mod subscription;
pub mod table_provider;
