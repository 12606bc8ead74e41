//! Opens connections to PostgreSQL for sinks, and judges what its errors mean.

use std::error::Error as _;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Connection, NoTls, Statement};

use crate::sinks::failure::Failure;
use crate::sinks::postgres_table::Statements;
use crate::sinks::postgres_tls::MakeTls;
use crate::sinks::sink::{SinkError, SinkPlan};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long without an answer from the other machine the connection counts as broken.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// What values and errors must not depend on; and locks are not waited for without end, so that the
/// sink can be stopped. `synchronous_commit = off` could lose rows that the changelog has forgotten.
const SESSION: &str = "SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; \
    SET timezone = 'UTC'; SET client_encoding = 'UTF8'; SET client_min_messages = 'warning'; \
    SET lock_timeout = '30s'; SET idle_in_transaction_session_timeout = '60s'; \
    SELECT set_config('synchronous_commit', 'on', false) \
        WHERE current_setting('synchronous_commit') = 'off'";

/// A connection that is set up.
pub(crate) struct Session {
    /// The connection.
    pub(crate) client: Client,
    /// Moves the mark.
    pub(crate) advance: Statement,
}

/// Whether a row, the connection or a statement is at fault.
pub(crate) fn judge(sink: &str, error: &tokio_postgres::Error) -> Failure {
    let Some(report) = error.as_db_error() else {
        let mut cause = error.to_string();
        let mut source = error.source();
        while let Some(inner) = source {
            cause = format!("{cause}: {inner}");
            source = inner.source();
        }
        return Failure::Sink(SinkError::Unavailable { sink: sink.into(), cause });
    };
    let code = report.code().code().to_owned();
    let mut message = report.message().to_owned();
    if let Some(detail) = report.detail() {
        message = format!("{message} ({detail})");
    }
    // Cardinality, data, integrity, WITH CHECK OPTION, RAISE in a trigger; a row too large for an
    // index or a page.
    let of_a_row = matches!(&code[..2], "21" | "22" | "23" | "44" | "P0") || code == "54000";
    match &code[..2] {
        _ if of_a_row => Failure::Row(code, message),
        // Connection, shutdown: the session is gone or going.
        "08" | "57" => Failure::Sink(SinkError::Unavailable { sink: sink.into(), cause: message }),
        _ => Failure::Sink(SinkError::Target { sink: sink.into(), code, message }),
    }
}

/// Connects and sets the session up.
pub(crate) async fn connect(
    url: &str,
    tls_ca: Option<&Path>,
    sink: &str,
) -> Result<Client, Failure> {
    let failed = |error| judge(sink, &error);
    let mut config: Config = url.parse().map_err(failed)?;
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_application_name().is_none() {
        config.application_name("weir");
    }
    config.tcp_user_timeout(SILENCE_TIMEOUT).keepalives_idle(SILENCE_TIMEOUT / 2);
    // Without a word about TLS there is none, so that nobody thinks that a certificate was checked.
    let client = if config.get_ssl_mode() == SslMode::Require {
        let tls = MakeTls::new(tls_ca)
            .map_err(|cause| SinkError::Unavailable { sink: sink.into(), cause })?;
        let (client, connection) = config.connect(tls).await.map_err(failed)?;
        drive(connection);
        client
    } else {
        let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
        drive(connection);
        client
    };
    client.batch_execute(SESSION).await.map_err(failed)?;
    Ok(client)
}

/// Lets a connection work in the background until it ends.
fn drive<S, T>(connection: Connection<S, T>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection of a sink ended");
        }
    });
}

impl Session {
    /// A session for the plan on a fresh connection.
    pub(crate) async fn open(
        client: Client,
        plan: &SinkPlan,
        statements: &Statements,
    ) -> Result<Session, Failure> {
        if let Some(upsert) = &statements.upsert {
            upsert.open(&client, plan).await?;
        }
        let advance = client.prepare(&statements.advance).await;
        Ok(Session { advance: advance.map_err(|error| judge(&plan.name, &error))?, client })
    }
}
