//! Speaks HTTP and TCP: turns requests into calls of the engine, and answers into bytes.
//!
//! In reading order: [`service`] (what the server needs of the engine), [`listen`] (sockets, start
//! and stop), [`shutdown`], [`error_response`] (codes to statuses), [`http`] (the table of calls),
//! [`extract`] (what a request's head says), [`body`] (request bodies with limits), [`sql`], [`catalog`], [`metrics`], [`ingest`] (rows by
//! HTTP), [`subscribe`] and [`frames`] (changes to clients), [`tcp`] with [`tcp_header`] and [`tcp_rows`].

mod accept;
mod body;
mod catalog;
mod error_response;
mod extract;
mod frames;
mod http;
mod ingest;
mod listen;
mod metrics;
pub mod service;
mod shutdown;
mod sql;
mod subscribe;
mod tcp;
mod tcp_header;
mod tcp_rows;

pub use listen::{Addresses, Server};
pub use service::Service;
pub use shutdown::{Shutdown, Signals};
#[doc(hidden)]
pub use tcp_rows::rows_of_connection;
