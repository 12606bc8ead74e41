//! Binds the addresses, serves them, and stops within a few seconds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::service::Service;
use super::shutdown::Shutdown;
use super::{http, tcp};
use crate::error::{Error, Result, SqlState};

/// How long open connections may go on once the server stops.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// How long the engine may take to write down what it holds.
const ENGINE_WAIT: Duration = Duration::from_millis(2_500);
/// TCP ingest connections at once.
const TCP_CONNECTIONS_MAX: usize = 1_000;

/// Where the server listens, as `host:port`; port 0 takes a free one.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// HTTP.
    pub http: String,
    /// TCP ingest.
    pub tcp: String,
}

/// What every connection shares.
pub(crate) struct App {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) shutdown: Shutdown,
    pub(crate) counters: Counters,
    pub(crate) http: SocketAddr,
    pub(crate) tcp: SocketAddr,
}

/// What the server counts about itself.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// HTTP answers by the first digit of their status.
    pub(crate) answers: [AtomicU64; 6],
    /// Open TCP ingest connections.
    pub(crate) tcp_connections: AtomicU64,
    /// Open subscriptions.
    pub(crate) subscriptions: AtomicU64,
}

/// Counts something up while it lives.
pub(crate) struct Open<'a>(&'a AtomicU64);

impl<'a> Open<'a> {
    pub(crate) fn new(counter: &'a AtomicU64) -> Open<'a> {
        counter.fetch_add(1, Ordering::Relaxed);
        Open(counter)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A running server.
pub struct Server {
    app: Arc<App>,
}

impl Server {
    /// Binds both addresses and serves them in the background.
    pub async fn start(service: Arc<dyn Service>, addresses: &Addresses) -> Result<Server> {
        let http_listener = bind("http", &addresses.http).await?;
        let tcp_listener = bind("tcp", &addresses.tcp).await?;
        let local = |listener: &TcpListener| {
            listener.local_addr().map_err(|error| cannot_bind("", &error.to_string()))
        };
        let app = Arc::new(App {
            service,
            shutdown: Shutdown::new(),
            counters: Counters::default(),
            http: local(&http_listener)?,
            tcp: local(&tcp_listener)?,
        });
        tokio::spawn(serve_http(http_listener, Arc::clone(&app)));
        tokio::spawn(serve_tcp(tcp_listener, Arc::clone(&app)));
        tracing::info!("http listens on http://{}", app.http);
        tracing::info!("tcp ingest listens on {}", app.tcp);
        Ok(Server { app })
    }

    /// The address of HTTP.
    pub fn http(&self) -> SocketAddr {
        self.app.http
    }

    /// The address of TCP ingest.
    pub fn tcp(&self) -> SocketAddr {
        self.app.tcp
    }

    /// The switch that [`Server::stop`] throws.
    pub fn shutdown(&self) -> Shutdown {
        self.app.shutdown.clone()
    }

    /// Ends every connection, then the engine; takes at most five seconds.
    pub async fn stop(self) {
        self.app.shutdown.begin();
        if tokio::time::timeout(DRAIN_WAIT, self.app.shutdown.drained()).await.is_err() {
            tracing::warn!("some connections did not end in time and are cut");
        }
        if tokio::time::timeout(ENGINE_WAIT, self.app.service.shutdown()).await.is_err() {
            // Every acknowledged row is in the log by now; recovery replays the rest.
            tracing::warn!("the engine did not stop in time");
        }
    }
}

async fn serve_http(listener: TcpListener, app: Arc<App>) {
    let _guard = app.shutdown.guard();
    // Answers and frames are small and must not wait for Nagle's algorithm.
    let listener = listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!("could not set TCP_NODELAY: {error}");
        }
    });
    let shutdown = app.shutdown.clone();
    let stop = async move { shutdown.begun().await };
    let serving = axum::serve(listener, http::router(app)).with_graceful_shutdown(stop);
    if let Err(error) = serving.await {
        tracing::error!("http stopped: {error}");
    }
}

async fn serve_tcp(listener: TcpListener, app: Arc<App>) {
    let places = Arc::new(Semaphore::new(TCP_CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = app.shutdown.begun() => return,
        };
        match accepted {
            Ok((socket, _)) => {
                let place = Arc::clone(&places).try_acquire_owned().ok();
                let app = Arc::clone(&app);
                tokio::spawn(async move {
                    let _guard = app.shutdown.guard();
                    tcp::serve(socket, &app, place.is_some()).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Usually too many open files: others must close before this can go on.
                tracing::warn!("could not accept a tcp connection: {error}");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Binds `address`, which must be a loopback address: there are no credentials yet.
async fn bind(what: &str, address: &str) -> Result<TcpListener> {
    let resolved = tokio::net::lookup_host(address).await.map_err(|error| {
        Error::new(
            SqlState::INVALID_PARAMETER,
            format!("\"{address}\" is not an address for {what}"),
        )
        .with_detail(error.to_string())
        .with_hint("Write host:port, as in 127.0.0.1:4880.")
    })?;
    let resolved: Vec<SocketAddr> = resolved.collect();
    if let Some(public) = resolved.iter().find(|address| !address.ip().is_loopback()) {
        let message = format!("{what} must not listen on the public address \"{address}\"");
        return Err(Error::new(SqlState::INVALID_PARAMETER, message)
            .with_detail(format!("No credentials are configured, and {public} is no loopback."))
            .with_hint("Listen on 127.0.0.1 and put a proxy that checks credentials before it."));
    }
    TcpListener::bind(resolved.as_slice())
        .await
        .map_err(|error| cannot_bind(&format!("{what} on \"{address}\""), &error.to_string()))
}

fn cannot_bind(what: &str, why: &str) -> Error {
    Error::new(SqlState::IO, format!("could not listen for {what}"))
        .with_detail(why.to_string())
        .with_hint("Another server may run there already; choose another port.")
}
