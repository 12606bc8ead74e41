//! States what an error is: a SQLSTATE code, a message, facts, and an action to take.
//!
//! Every layer has an enum of its own *situations* that implements [`Report`]; [`Error`] boxes one
//! of them and is the only error type that crosses [`crate::engine`]. The message law is
//! PostgreSQL's: the primary message is lower case, has no full stop, and names and quotes the
//! object; the detail gives facts; the hint says what to do, with the SQL to type.

use std::fmt;

/// A five-character SQLSTATE code: PostgreSQL's where one fits, else of Weir's own class `WR`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub &'static str);

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState {
            $($(#[$doc])* pub const $name: SqlState = SqlState($code);)*

            /// Every code that Weir raises, in the order of `docs/errors.md`.
            pub const ALL: &'static [SqlState] = &[$(SqlState::$name),*];
        }
    };
}

states! {
    /// The statement does not follow the grammar.
    SYNTAX = "42601";
    /// A stream, table, query or sink of that name does not exist.
    UNDEFINED_RELATION = "42P01";
    /// No such column.
    UNDEFINED_COLUMN = "42703";
    /// A column name fits several columns.
    AMBIGUOUS_COLUMN = "42702";
    /// Types do not go together.
    TYPE_MISMATCH = "42804";
    /// No such function, or not with these arguments.
    UNDEFINED_FUNCTION = "42883";
    /// The name is taken.
    DUPLICATE_RELATION = "42P07";
    /// The column is declared twice.
    DUPLICATE_COLUMN = "42701";
    /// A window is misused.
    WINDOWING = "42P20";
    /// A column must be grouped, or a partition column is missing from GROUP BY.
    GROUPING = "42803";
    /// The statement does not apply to this kind of relation.
    WRONG_OBJECT = "42809";
    /// Not supported.
    NOT_SUPPORTED = "0A000";
    /// An option or parameter has a bad value.
    INVALID_PARAMETER = "22023";
    /// The columns of ON CONFLICT are not the primary key.
    INVALID_COLUMN_REFERENCE = "42P10";
    /// A subquery has several rows where one value is asked for.
    CARDINALITY = "21000";
    /// LIMIT of fewer than no rows.
    INVALID_LIMIT = "2201W";
    /// OFFSET of fewer than no rows.
    INVALID_OFFSET = "2201X";
    /// A regular expression that is none.
    INVALID_REGEX = "2201B";
    /// A text cannot be read as a value of the type.
    INVALID_TEXT = "22P02";
    /// A text cannot be read as a date or time.
    INVALID_DATETIME = "22007";
    /// A date or time out of range.
    DATETIME_RANGE = "22008";
    /// A number out of range.
    NUMERIC_RANGE = "22003";
    /// Division by zero.
    DIVISION_BY_ZERO = "22012";
    /// Null where the column forbids it.
    NOT_NULL_VIOLATION = "23502";
    /// A key that is there already.
    UNIQUE_VIOLATION = "23505";
    /// Something still depends on the object.
    DEPENDENT_OBJECTS = "2BP01";
    /// The object is not in a state that allows this.
    OBJECT_STATE = "55000";
    /// The object is in use by another.
    OBJECT_IN_USE = "55006";
    /// The disk is full.
    DISK_FULL = "53100";
    /// A memory limit is reached.
    OUT_OF_MEMORY = "53200";
    /// Too many connections.
    TOO_MANY_CONNECTIONS = "53300";
    /// A configured limit is reached.
    CONFIGURED_LIMIT = "53400";
    /// A limit of the program is reached: statement size, nesting, number of columns.
    PROGRAM_LIMIT = "54000";
    /// The statement was cancelled or ran into its time limit.
    CANCELLED = "57014";
    /// The server is shutting down.
    SHUTTING_DOWN = "57P01";
    /// A system call for input or output failed.
    IO = "58030";
    /// A connection to another system failed.
    CONNECTION = "08006";
    /// A client broke the protocol.
    PROTOCOL = "08P01";
    /// A broken invariant of Weir.
    INTERNAL = "XX000";
    /// Stored bytes are damaged.
    CORRUPT = "XX001";
    /// A watermark is required.
    WATERMARK_REQUIRED = "WR001";
    /// The state of the query would be unbounded.
    UNBOUNDED_STATE = "WR002";
    /// The input must be append-only.
    APPEND_ONLY_REQUIRED = "WR003";
    /// The offset is no longer retained.
    OFFSET_NOT_RETAINED = "WR004";
    /// The subscriber is too slow.
    SUBSCRIBER_TOO_SLOW = "WR005";
    /// A snapshot or changelog does not fit the plan.
    SNAPSHOT_MISMATCH = "WR006";
    /// The row lies behind a punctuation.
    BEHIND_PUNCTUATION = "WR007";
    /// The row lies too far in the future.
    TOO_FAR_IN_FUTURE = "WR008";
    /// The row is late.
    LATE = "WR009";
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What an error of any layer can say about itself.
pub trait Report: std::error::Error + Send + Sync + 'static {
    /// The SQLSTATE code.
    fn code(&self) -> SqlState;
    /// Facts that help to understand the message.
    fn detail(&self) -> Option<String> {
        None
    }
    /// An action that mends the situation.
    fn hint(&self) -> Option<String> {
        None
    }
    /// Where in the statement's text, in characters from 1.
    fn position(&self) -> Option<usize> {
        None
    }
}

/// The error that crosses the engine's door: a boxed [`Report`].
pub struct Error(Box<dyn Report>);

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The SQLSTATE code.
    pub fn code(&self) -> SqlState {
        self.0.code()
    }
    /// The primary message.
    pub fn message(&self) -> String {
        self.0.to_string()
    }
    /// Facts.
    pub fn detail(&self) -> Option<String> {
        self.0.detail()
    }
    /// An action.
    pub fn hint(&self) -> Option<String> {
        self.0.hint()
    }
    /// Position in the statement, in characters from 1.
    pub fn position(&self) -> Option<usize> {
        self.0.position()
    }
    /// An error built on the spot from its parts; for situations that only one place knows.
    pub fn new(code: SqlState, message: impl Into<String>) -> Error {
        let message = message.into();
        Error(Box::new(Situation { code, message, detail: None, hint: None, position: None }))
    }
    /// The same error at a position in the statement's text, where it has none yet.
    pub fn at(self, position: usize) -> Error {
        let mut parts = self.into_situation();
        parts.position.get_or_insert(position);
        Error(Box::new(parts))
    }
    /// The same error with a detail, when it was built by [`Error::new`]; else wraps it.
    pub fn with_detail(self, detail: impl Into<String>) -> Error {
        let mut parts = self.into_situation();
        parts.detail = Some(detail.into());
        Error(Box::new(parts))
    }
    /// The same error with a hint.
    pub fn with_hint(self, hint: impl Into<String>) -> Error {
        let mut parts = self.into_situation();
        parts.hint = Some(hint.into());
        Error(Box::new(parts))
    }
    fn into_situation(self) -> Situation {
        Situation {
            code: self.code(),
            message: self.message(),
            detail: self.detail(),
            hint: self.hint(),
            position: self.position(),
        }
    }
}

impl<R: Report> From<R> for Error {
    fn from(report: R) -> Error {
        Error(Box::new(report))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// PostgreSQL's form: `ERROR code: message`, then DETAIL and HINT on lines of their own.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERROR {}: {}", self.code(), self.message())?;
        if let Some(detail) = self.detail() {
            write!(f, "\nDETAIL: {detail}")?;
        }
        if let Some(hint) = self.hint() {
            write!(f, "\nHINT: {hint}")?;
        }
        Ok(())
    }
}

/// The parts of an error whose situation only one place knows.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Situation {
    code: SqlState,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    position: Option<usize>,
}

impl Report for Situation {
    fn code(&self) -> SqlState {
        self.code
    }
    fn detail(&self) -> Option<String> {
        self.detail.clone()
    }
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
    fn position(&self) -> Option<usize> {
        self.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_as_postgres_does() {
        let error =
            Error::new(SqlState::WATERMARK_REQUIRED, "window over stream \"s\" needs a watermark")
                .with_detail("\"s\" declares none.")
                .with_hint("Add WATERMARK FOR at AS at.");
        assert_eq!(
            error.to_string(),
            "ERROR WR001: window over stream \"s\" needs a watermark\nDETAIL: \"s\" declares none.\nHINT: Add WATERMARK FOR at AS at."
        );
    }

    #[test]
    fn codes_are_unique_and_have_five_characters() {
        let mut seen = std::collections::BTreeSet::new();
        for state in SqlState::ALL {
            assert_eq!(state.0.len(), 5);
            assert!(seen.insert(state.0), "{state} twice");
        }
    }
}
