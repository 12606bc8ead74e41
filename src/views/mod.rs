//! Keeps the answers of queries and serves them: as a log of changes, as a relation, as a subscription.
//!
//! [`changelog`] is the durable log, with [`entry_meta`] (what entries say beside their rows) and [`epochs`]; [`result_view`] its sum, the current result;
//! [`subscription`] hands it to clients (`net_effect` to slow ones); [`table_provider`] to SELECT.

pub mod changelog;
pub mod difference;
pub mod entry_meta;
pub mod epochs;
mod net_effect;
pub mod result_view;
pub mod subscription;
pub mod table_provider;
