//! Says whether a row or something else made a statement of a target fail.

use crate::sinks::sink::SinkError;

/// Why a statement failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A row is at fault: code and reason.
    Row(String, String),
    /// Something else.
    Sink(SinkError),
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Failure {
        Failure::Sink(error)
    }
}

impl Failure {
    /// The error when no row can be at fault.
    pub(crate) fn into_error(self, sink: &str) -> SinkError {
        match self {
            Failure::Row(code, message) => SinkError::Target { sink: sink.into(), code, message },
            Failure::Sink(error) => error,
        }
    }
}
