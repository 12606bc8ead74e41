//! Lists the situations in which a log says no.

use std::io;

use crate::error::{Report, SqlState};
use crate::log::frame::Position;

/// Why a log could not do what it was asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LogError {
    /// A call to the operating system failed.
    #[error("could not {action} \"{path}\": {reason}")]
    Io {
        /// What was tried: `write`, `sync`, `open` …
        action: &'static str,
        /// The file or directory.
        path: String,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// The system's words.
        reason: String,
    },
    /// Stored bytes that were acknowledged are not what was written.
    #[error("file \"{path}\" is damaged at byte {position}: {reason}")]
    Corrupt {
        /// The segment or mark file.
        path: String,
        /// Where in the file.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
    /// No file of a log is there that something speaks of.
    #[error("log \"{log}\" is missing")]
    Missing {
        /// Its directory.
        log: String,
    },
    /// A newer program wrote the file.
    #[error("file \"{path}\" has version {found}, and this program reads version {known}")]
    Version {
        /// The file.
        path: String,
        /// Its version.
        found: u32,
        /// The newest version that this program reads.
        known: u32,
    },
    /// An earlier write or sync failed; what the disk holds since then is unknown.
    #[error("log \"{log}\" takes no more rows: {cause}")]
    Refusing {
        /// The log's directory.
        log: String,
        /// The first failure.
        cause: Box<LogError>,
    },
    /// The reader's position was removed by retention.
    #[error("offset {} of log \"{log}\" is no longer kept", from.offset)]
    NotRetained {
        /// The log's directory.
        log: String,
        /// Where the reader wanted to read.
        from: Position,
        /// The first position that is kept.
        earliest: Position,
    },
    /// The position lies behind everything that the log shows.
    #[error("offset {} of log \"{log}\" lies behind its end", from.offset)]
    PastEnd {
        /// The log's directory.
        log: String,
        /// Where the reader wanted to read.
        from: Position,
        /// The end.
        end: Position,
    },
    /// A frame would be larger than the format allows.
    #[error("a batch for log \"{log}\" is too large")]
    TooLarge {
        /// The log's directory.
        log: String,
        /// Bytes of the frame.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A batch does not have the log's columns.
    #[error("a batch does not fit log \"{log}\": {reason}")]
    WrongColumns {
        /// The log's directory.
        log: String,
        /// How it differs.
        reason: String,
    },
    /// A column type that logs do not store.
    #[error("column \"{column}\" of log \"{log}\" has type {data_type}, which cannot be stored")]
    UnsupportedType {
        /// The log's directory.
        log: String,
        /// The column.
        column: String,
        /// Its type.
        data_type: String,
    },
    /// A segment was written with other columns than the relation has.
    #[error("file \"{path}\" was written with other columns")]
    SchemaMismatch {
        /// The segment.
        path: String,
        /// The columns in the file.
        found: String,
        /// The relation's columns.
        expected: String,
    },
    /// The request gave way to newer ones.
    #[error("rows for log \"{log}\" were shed")]
    Shed {
        /// The log's directory.
        log: String,
    },
    /// The log is being closed.
    #[error("log \"{log}\" is shutting down")]
    Closed {
        /// The log's directory.
        log: String,
    },
}

impl LogError {
    pub(crate) fn io(action: &'static str, path: &str, error: &io::Error) -> LogError {
        let (path, reason) = (path.to_owned(), error.to_string());
        LogError::Io { action, path, kind: error.kind(), reason }
    }

    /// Whether the disk had no room for what was to be written: nothing that was there before is in doubt.
    /// A sync, of a file or of the mark, that finds no room says nothing of the kind.
    pub(crate) fn found_no_room(&self) -> bool {
        matches!(self, LogError::Io { action, .. } if *action != "sync")
            && self.code() == SqlState::DISK_FULL
    }

    pub(crate) fn corrupt(path: &str, position: u64, reason: impl Into<String>) -> LogError {
        LogError::Corrupt { path: path.to_owned(), position, reason: reason.into() }
    }
}

impl Report for LogError {
    fn code(&self) -> SqlState {
        match self {
            LogError::Io {
                kind:
                    io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::FileTooLarge,
                ..
            } => SqlState::DISK_FULL,
            LogError::Io { .. } => SqlState::IO,
            LogError::Corrupt { .. }
            | LogError::Missing { .. }
            | LogError::SchemaMismatch { .. } => SqlState::CORRUPT,
            LogError::Version { .. } => SqlState::NOT_SUPPORTED,
            LogError::Refusing { cause, .. } => cause.code(),
            LogError::NotRetained { .. } => SqlState::OFFSET_NOT_RETAINED,
            LogError::PastEnd { .. } => SqlState::INVALID_PARAMETER,
            LogError::TooLarge { .. } => SqlState::PROGRAM_LIMIT,
            LogError::WrongColumns { .. } => SqlState::INTERNAL,
            LogError::UnsupportedType { .. } => SqlState::NOT_SUPPORTED,
            LogError::Shed { .. } => SqlState::CONFIGURED_LIMIT,
            LogError::Closed { .. } => SqlState::SHUTTING_DOWN,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            LogError::NotRetained { earliest, .. } => {
                Some(format!("The earliest offset kept is {}.", earliest.offset))
            }
            LogError::PastEnd { end, .. } => Some(format!("The next offset is {}.", end.offset)),
            LogError::TooLarge { bytes, limit, .. } => {
                Some(format!("It takes {bytes} bytes; {limit} are allowed."))
            }
            LogError::SchemaMismatch { found, expected, .. } => {
                Some(format!("The file has {found}, the relation has {expected}."))
            }
            LogError::Refusing { .. } => Some(
                "After a failed write nobody knows what the disk holds, so nothing is retried on \
                 that file. Reading goes on."
                    .to_owned(),
            ),
            LogError::Corrupt { .. } => Some(
                "These bytes were acknowledged as durable, so they are not skipped.".to_owned(),
            ),
            LogError::Missing { .. } => {
                Some("The catalog speaks of it, and its directory holds no file.".to_owned())
            }
            LogError::Version { .. } => Some("Nothing was changed.".to_owned()),
            LogError::Io { .. }
            | LogError::WrongColumns { .. }
            | LogError::UnsupportedType { .. }
            | LogError::Shed { .. }
            | LogError::Closed { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            LogError::Refusing { .. } => {
                Some("Mend the disk or make room on it, then restart the server.".to_owned())
            }
            LogError::Corrupt { .. } => {
                Some("Restore the file from a backup; check the disk and the memory.".to_owned())
            }
            LogError::Missing { .. } => {
                Some("Restore the directory from a backup, or drop what is missing.".to_owned())
            }
            LogError::Version { .. } => {
                Some("Start the version of the program that wrote it, or a newer one.".to_owned())
            }
            LogError::NotRetained { .. } => {
                Some("Start from EARLIEST, or give the relation a longer retention.".to_owned())
            }
            LogError::TooLarge { .. } => Some("Send fewer rows in one request.".to_owned()),
            LogError::UnsupportedType { .. } => {
                Some("Cast the column to a type of the dialect.".to_owned())
            }
            LogError::Io { .. }
            | LogError::PastEnd { .. }
            | LogError::WrongColumns { .. }
            | LogError::SchemaMismatch { .. }
            | LogError::Shed { .. }
            | LogError::Closed { .. } => None,
        }
    }
}
