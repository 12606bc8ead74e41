//! Gathers the settings of a server: flags win over environment over `weir.toml` over defaults.

use std::path::PathBuf;

/// Everything that can be set about a server.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Address of HTTP, `127.0.0.1:4880`.
    pub http: String,
    /// Address of TCP ingest, `127.0.0.1:4881`.
    pub tcp: String,
    /// Address of the PostgreSQL protocol, `127.0.0.1:4882`; not served yet.
    pub pg: String,
}
