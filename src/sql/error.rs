//! Names every way in which a text can fail to be a statement.

use crate::error::{Report, SqlState};

use super::limits;

/// Why a text is not a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A token where the grammar has no place for it.
    #[error("syntax error at or near \"{near}\"")]
    UnexpectedToken {
        /// The token as written, shortened.
        near: String,
        /// What the grammar would have taken, if that is known.
        detail: Option<String>,
        /// What to type instead.
        hint: Option<String>,
        /// Characters from 1.
        position: usize,
    },
    /// The text ends within a statement.
    #[error("syntax error at end of input")]
    UnexpectedEnd {
        /// What the grammar would have taken, if that is known.
        detail: Option<String>,
        /// What to type instead.
        hint: Option<String>,
        /// Characters from 1: behind the last token.
        position: usize,
    },
    /// A quoted text or comment without its end.
    #[error("{what}")]
    BadToken {
        /// Such as `unterminated string literal`.
        what: String,
        /// Characters from 1.
        position: usize,
    },
    /// Understood, but not supported.
    #[error("{what} not supported")]
    NotSupported {
        /// The subject with its verb, such as `type "uuid" is`.
        what: String,
        /// What to type instead.
        hint: Option<String>,
        /// Characters from 1, where the parser saw the text.
        position: Option<usize>,
    },
    /// A number in the statement is out of its range.
    #[error("{what}")]
    OutOfRange {
        /// The number and its bounds.
        what: String,
        /// Characters from 1, where the parser saw the text.
        position: Option<usize>,
    },
    /// An option is given twice.
    #[error("option \"{name}\" is given twice")]
    DuplicateOption {
        /// The option.
        name: String,
        /// Characters from 1.
        position: usize,
    },
    /// A name that no object can have.
    #[error("\"{name}\" cannot be a name")]
    BadName {
        /// The name, shortened.
        name: String,
        /// Why not.
        reason: &'static str,
        /// Characters from 1.
        position: usize,
    },
    /// The statement has too many bytes.
    #[error("statement is too long: {bytes} bytes")]
    TooLong {
        /// Its bytes.
        bytes: usize,
    },
    /// The statement has too many tokens.
    #[error("statement is too long: {tokens} tokens")]
    TooManyTokens {
        /// Its tokens.
        tokens: usize,
    },
    /// The statement is nested too deeply, or chains too many operators.
    #[error("statement is nested too deeply")]
    TooDeep,
    /// Trying the possible readings of the statement takes too long.
    #[error("statement is too complex")]
    TooComplex,
    /// The text holds too many statements.
    #[error("text holds more than {max} statements", max = limits::STATEMENTS_MAX)]
    TooManyStatements,
    /// One statement was asked for.
    #[error("expected one statement, found {found}")]
    NotOneStatement {
        /// How many there are.
        found: usize,
    },
}

impl ParseError {
    /// The same error with a hint, where the situation takes one and has none yet.
    pub(crate) fn with_hint(mut self, text: &str) -> ParseError {
        if let ParseError::UnexpectedToken { hint, .. }
        | ParseError::UnexpectedEnd { hint, .. }
        | ParseError::NotSupported { hint, .. } = &mut self
        {
            hint.get_or_insert_with(|| text.to_owned());
        }
        self
    }

    /// The same error at a position, where the situation has none yet.
    pub(crate) fn at(mut self, at: usize) -> ParseError {
        if let ParseError::NotSupported { position, .. } | ParseError::OutOfRange { position, .. } =
            &mut self
        {
            position.get_or_insert(at);
        }
        self
    }

    /// The same error in a text that has so many more characters before the statement.
    pub(crate) fn moved_by(mut self, characters: usize) -> ParseError {
        match &mut self {
            ParseError::UnexpectedToken { position, .. }
            | ParseError::UnexpectedEnd { position, .. }
            | ParseError::BadToken { position, .. }
            | ParseError::DuplicateOption { position, .. }
            | ParseError::BadName { position, .. } => *position += characters,
            ParseError::NotSupported { position, .. } | ParseError::OutOfRange { position, .. } => {
                *position = position.map(|position| position + characters);
            }
            ParseError::TooLong { .. }
            | ParseError::TooManyTokens { .. }
            | ParseError::TooDeep
            | ParseError::TooComplex
            | ParseError::TooManyStatements
            | ParseError::NotOneStatement { .. } => {}
        }
        self
    }
}

impl Report for ParseError {
    fn code(&self) -> SqlState {
        match self {
            ParseError::UnexpectedToken { .. }
            | ParseError::UnexpectedEnd { .. }
            | ParseError::BadToken { .. }
            | ParseError::DuplicateOption { .. }
            | ParseError::BadName { .. }
            | ParseError::NotOneStatement { .. } => SqlState::SYNTAX,
            ParseError::NotSupported { .. } => SqlState::NOT_SUPPORTED,
            ParseError::OutOfRange { .. } => SqlState::INVALID_PARAMETER,
            ParseError::TooLong { .. }
            | ParseError::TooManyTokens { .. }
            | ParseError::TooDeep
            | ParseError::TooComplex
            | ParseError::TooManyStatements => SqlState::PROGRAM_LIMIT,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            ParseError::UnexpectedToken { detail, .. }
            | ParseError::UnexpectedEnd { detail, .. } => detail.clone(),
            ParseError::BadName { reason, .. } => Some((*reason).to_owned()),
            ParseError::TooLong { .. } => {
                Some(format!("A statement has at most {} bytes.", limits::STATEMENT_BYTES_MAX))
            }
            ParseError::TooManyTokens { .. } => {
                Some(format!("A statement has at most {} tokens.", limits::TOKENS_MAX))
            }
            ParseError::TooDeep => Some(format!(
                "An expression chains at most {} operators; every subquery, function call and \
                 pair of parentheses around them counts as several.",
                limits::DEPTH_MAX
            )),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            ParseError::UnexpectedToken { hint, .. }
            | ParseError::UnexpectedEnd { hint, .. }
            | ParseError::NotSupported { hint, .. } => hint.clone(),
            ParseError::TooLong { .. } | ParseError::TooManyTokens { .. } => {
                Some("Split it, or load many rows with COPY … FROM STDIN.".to_owned())
            }
            ParseError::TooDeep => Some(
                "Write IN (…) instead of a chain of OR, a table instead of a long CASE, and move \
                 parts into continuous queries of their own."
                    .to_owned(),
            ),
            ParseError::TooComplex => {
                Some("Look for an unbalanced parenthesis, or nest less deeply.".to_owned())
            }
            ParseError::TooManyStatements => Some("Send it in parts.".to_owned()),
            _ => None,
        }
    }

    fn position(&self) -> Option<usize> {
        match self {
            ParseError::UnexpectedToken { position, .. }
            | ParseError::UnexpectedEnd { position, .. }
            | ParseError::BadToken { position, .. }
            | ParseError::DuplicateOption { position, .. }
            | ParseError::BadName { position, .. } => Some(*position),
            ParseError::NotSupported { position, .. } | ParseError::OutOfRange { position, .. } => {
                *position
            }
            _ => None,
        }
    }
}
