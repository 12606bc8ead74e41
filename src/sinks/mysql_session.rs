//! Opens connections to MySQL and MariaDB for sinks, and judges what their errors mean.

use std::path::Path;

use crate::error::SqlState;
use crate::sinks::failure::Failure;
use crate::sinks::mysql_url::MysqlUrl;
use crate::sinks::mysql_wire::{Answer, Connection, WireError};
use crate::sinks::sink::SinkError;
use crate::sinks::tls;

/// What values and errors must not depend on; and locks are not waited for without end, so that the
/// sink can be stopped. Strict: a value that does not fit is refused, never cut.
const SESSION: [&str; 3] = [
    "SET NAMES utf8mb4",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00', \
     autocommit = 1, innodb_lock_wait_timeout = 30, foreign_key_checks = 1, unique_checks = 1",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
];
/// Bytes of a statement that say nothing about rows.
const PACKET_SPARE: usize = 64 << 10;

/// A connection that is set up.
pub(crate) struct Session {
    connection: Connection,
    sink: String,
    /// Bytes that a statement may have.
    pub(crate) statement_bytes_max: usize,
}

impl Session {
    /// Connects and sets the session up.
    pub(crate) fn open(
        url: &MysqlUrl,
        tls_ca: Option<&Path>,
        sink: &str,
    ) -> Result<Session, Failure> {
        let away = |cause: String| SinkError::Unavailable { sink: sink.into(), cause };
        let tls = url.tls.then(|| tls::client(tls_ca)).transpose().map_err(away)?;
        let connection = Connection::open(url, tls).map_err(|error| judge(sink, error))?;
        let mut session =
            Session { connection, sink: sink.into(), statement_bytes_max: PACKET_SPARE };
        for sql in SESSION {
            session.run(sql)?;
        }
        let packet = session.value("SELECT @@max_allowed_packet")?;
        let packet = packet.and_then(|bytes| bytes.parse::<usize>().ok()).unwrap_or(1 << 20);
        session.statement_bytes_max = packet.saturating_sub(PACKET_SPARE).max(packet / 2);
        Ok(session)
    }

    /// Whether the server is MariaDB.
    pub(crate) fn is_mariadb(&self) -> bool {
        self.connection.version.contains("MariaDB")
    }

    /// The collation that compares texts byte by byte, trailing blanks included.
    pub(crate) fn collation(&self) -> &'static str {
        let major = self.connection.version.split('.').next().and_then(|v| v.parse::<u32>().ok());
        match (self.is_mariadb(), major) {
            (true, _) => "utf8mb4_nopad_bin",
            (false, Some(8..)) => "utf8mb4_0900_bin",
            // Older servers have none that tells trailing blanks apart.
            (false, _) => "utf8mb4_bin",
        }
    }

    /// Runs a statement; answers how many rows it changed or found.
    pub(crate) fn run(&mut self, sql: impl AsRef<[u8]>) -> Result<u64, Failure> {
        self.ask(sql).map(|answer| answer.affected)
    }

    /// Runs a statement that answers rows.
    pub(crate) fn rows(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Failure> {
        self.ask(sql).map(|answer| answer.rows)
    }

    /// The one value that a statement answers.
    pub(crate) fn value(&mut self, sql: &str) -> Result<Option<String>, Failure> {
        Ok(self.rows(sql)?.into_iter().next().and_then(|row| row.into_iter().next()).flatten())
    }

    fn ask(&mut self, sql: impl AsRef<[u8]>) -> Result<Answer, Failure> {
        self.connection.query(sql.as_ref()).map_err(|error| judge(&self.sink, error))
    }
}

/// Whether a row, the connection or a statement is at fault.
fn judge(sink: &str, error: WireError) -> Failure {
    let (number, state, message) = match error {
        WireError::Io(error) => {
            let cause = error.to_string();
            return Failure::Sink(SinkError::Unavailable { sink: sink.into(), cause });
        }
        WireError::Server(number, state, message) => (number, state, message),
    };
    let row = |code: &str, message| Failure::Row(code.into(), message);
    match number {
        1048 | 1364 if state.starts_with("23") => row(SqlState::NOT_NULL_VIOLATION.0, message),
        1062 | 1586 => row(SqlState::UNIQUE_VIOLATION.0, message),
        1216 | 1217 | 1451 | 1452 => row("23503", message),
        3819 | 4025 => row("23514", message),
        // Values that do not fit their column, in servers that give a general SQLSTATE or a warning's;
        // and a row that is too large.
        1265 | 1366 => row(SqlState::INVALID_TEXT.0, message),
        // A table that is not there, in MySQL's own state.
        1146 => Failure::Sink(SinkError::Target {
            sink: sink.into(),
            code: SqlState::UNDEFINED_RELATION.0.into(),
            message: format!("{message} (error {number})"),
        }),
        1118 | 139 => row(SqlState::PROGRAM_LIMIT.0, message),
        // A deadlock and a lock that is not had in time end the transaction, which may succeed later.
        1205 | 1213 => Failure::Sink(SinkError::Unavailable { sink: sink.into(), cause: message }),
        // Too many connections, going down, killed, gone.
        1040 | 1053 | 1077 | 1079 | 1152..=1161 | 1203 | 1927 => {
            Failure::Sink(SinkError::Unavailable { sink: sink.into(), cause: message })
        }
        _ => match &state[..2] {
            // Cardinality, data, integrity, WITH CHECK OPTION, SIGNAL in a trigger.
            "21" | "22" | "23" | "44" | "45" => row(&state, message),
            "08" => Failure::Sink(SinkError::Unavailable { sink: sink.into(), cause: message }),
            _ => Failure::Sink(SinkError::Target {
                sink: sink.into(),
                code: state,
                message: format!("{message} (error {number})"),
            }),
        },
    }
}
