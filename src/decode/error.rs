//! States why a row cannot be read, with the code and the words that its sender sees.

use crate::data::interval_text::IntervalError;
use crate::error::{Report, SqlState};

/// What is wrong with one value, before anybody knows whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValueError {
    /// Not a text of the type.
    Syntax,
    /// A number that the type cannot hold.
    Range,
    /// Not a text of a date or time type.
    DatetimeSyntax,
    /// A month 13, a 30th of February, a year that 64 bits cannot hold.
    DatetimeRange,
    /// A bare number where a time belongs: nobody can know its unit.
    BareNumber,
    /// Text with a NUL character, which no client of PostgreSQL could read back.
    Nul,
    /// Null, or nothing, where the column forbids it.
    Null,
    /// Values of the column's type cannot come as text.
    Unsupported,
}

impl From<IntervalError> for ValueError {
    fn from(error: IntervalError) -> ValueError {
        match error {
            IntervalError::Syntax => ValueError::DatetimeSyntax,
            IntervalError::Range => ValueError::DatetimeRange,
        }
    }
}

/// Why reading JSON stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The text is not JSON: what was expected, and at which byte.
    Json(&'static str, usize),
    /// Nested deeper than allowed.
    Deep,
    /// JSON, but not a value of the column's type.
    Value(ValueError),
}

impl From<ValueError> for Fault {
    fn from(error: ValueError) -> Fault {
        Fault::Value(error)
    }
}

/// Why a row was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum RowError {
    #[error("row is not valid JSON: expected {expected} at byte {at}")]
    Json { expected: &'static str, at: usize },
    #[error("row is not valid CSV: {0}")]
    Csv(&'static str),
    #[error("row has {found} fields, {expected} are expected")]
    FieldCount { found: usize, expected: usize },
    #[error("row is not valid UTF-8")]
    NotUtf8,
    #[error("row is longer than {limit} bytes")]
    TooLong { limit: usize },
    #[error("row nests deeper than {limit} levels")]
    TooDeep { limit: usize },
    #[error("{}", value_message(.error, .column, .type_name, .text))]
    Value { error: ValueError, column: String, type_name: String, text: String },
    #[error("column \"{0}\" of the row does not exist in the stream")]
    UnknownField(String),
    #[error("column \"{0}\" is named more than once in the header")]
    DuplicateColumn(String),
    #[error("column \"{0}\" of the punctuation does not exist in the stream")]
    UnknownPunctuationColumn(String),
    #[error("punctuation is not understood: {0}")]
    Punctuation(&'static str),
    #[error("body is not a valid Arrow IPC stream: {0}")]
    ArrowIpc(String),
}

impl Report for RowError {
    fn code(&self) -> SqlState {
        match self {
            RowError::Json { .. }
            | RowError::Csv(_)
            | RowError::FieldCount { .. }
            | RowError::NotUtf8
            | RowError::Punctuation(_)
            | RowError::ArrowIpc(_) => SqlState::INVALID_TEXT,
            RowError::TooLong { .. } | RowError::TooDeep { .. } => SqlState::PROGRAM_LIMIT,
            RowError::Value { error, .. } => value_code(*error),
            RowError::UnknownField(_) | RowError::UnknownPunctuationColumn(_) => {
                SqlState::UNDEFINED_COLUMN
            }
            RowError::DuplicateColumn(_) => SqlState::DUPLICATE_COLUMN,
        }
    }
}

fn value_code(error: ValueError) -> SqlState {
    match error {
        ValueError::Syntax | ValueError::Nul => SqlState::INVALID_TEXT,
        ValueError::Range => SqlState::NUMERIC_RANGE,
        ValueError::DatetimeSyntax | ValueError::BareNumber => SqlState::INVALID_DATETIME,
        ValueError::DatetimeRange => SqlState::DATETIME_RANGE,
        ValueError::Null => SqlState::NOT_NULL_VIOLATION,
        ValueError::Unsupported => SqlState::NOT_SUPPORTED,
    }
}

fn value_message(error: &ValueError, column: &str, type_name: &str, text: &str) -> String {
    match error {
        ValueError::Syntax | ValueError::DatetimeSyntax => {
            format!("invalid input syntax for type {type_name}: \"{text}\" in column \"{column}\"")
        }
        ValueError::Range => {
            format!("value \"{text}\" of column \"{column}\" is out of range for type {type_name}")
        }
        ValueError::DatetimeRange => {
            format!("date/time field value out of range: \"{text}\" in column \"{column}\"")
        }
        ValueError::BareNumber => format!(
            "column \"{column}\" is of type {type_name} but {text} is a number; \
             send RFC 3339 text or declare the column BIGINT"
        ),
        ValueError::Nul => {
            format!("text of column \"{column}\" holds a NUL character, which is not allowed")
        }
        ValueError::Null => {
            format!("null value in column \"{column}\" violates not-null constraint")
        }
        ValueError::Unsupported => {
            format!("values of type {type_name} of column \"{column}\" cannot come as text")
        }
    }
}

/// The first characters of a value, for a message.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 64;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
