//! Tells every connection that the server stops, and hears the signals that ask for it.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Error, Result, SqlState};

/// A switch that is thrown once; clones share it.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Sender<bool>);

impl Shutdown {
    /// A switch that is not thrown.
    pub(crate) fn new() -> Shutdown {
        Shutdown(watch::Sender::new(false))
    }
    /// Throws it.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
    /// Whether it is thrown.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }
    /// Returns once it is thrown.
    pub async fn begun(&self) {
        let mut receiver = self.0.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        if receiver.wait_for(|begun| *begun).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
    /// A mark that a connection is open; [`Shutdown::drained`] waits for its end.
    pub(crate) fn guard(&self) -> Guard {
        Guard { _open: self.0.subscribe() }
    }
    /// Returns once no guard is left.
    pub(crate) async fn drained(&self) {
        self.0.closed().await;
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Guard {
    _open: watch::Receiver<bool>,
}

/// The error that clients see while the server stops.
pub(crate) fn shutting_down() -> Error {
    Error::new(SqlState::SHUTTING_DOWN, "the server is shutting down")
        .with_hint("Connect again in a moment.")
}

/// Hears the signals that ask the server to stop. Made before the server can be reached: who finds it
/// running may end it in good order.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to hear them.
    ///
    /// # Errors
    /// 58030 when the system gives no handler.
    pub fn hear() -> Result<Signals> {
        let hear = |kind| {
            signal(kind).map_err(|error| {
                let error = error.to_string();
                Error::new(SqlState::IO, "could not listen for signals").with_detail(error)
            })
        };
        let terminate = hear(SignalKind::terminate())?;
        Ok(Signals { terminate, interrupt: hear(SignalKind::interrupt())? })
    }

    /// Returns the name of the first one.
    pub async fn first(mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
