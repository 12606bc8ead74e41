//! Says what is wrong with a sink's options, and what to write instead.

use crate::error::{Report, SqlState};

/// What is wrong with a sink's options.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum OptionError {
    /// A kind of target that Weir does not write.
    #[error("sinks into {0} are not supported")]
    Kind(String),
    /// An option that this kind of sink does not have.
    #[error("unknown sink option \"{name}\"")]
    Unknown {
        /// The option.
        name: String,
        /// Those it has.
        known: String,
    },
    /// An option given twice.
    #[error("sink option \"{0}\" is given more than once")]
    Repeated(String),
    /// An option that must be there.
    #[error("sink option \"{0}\" is missing")]
    Missing(&'static str),
    /// A value that the option cannot take.
    #[error("sink option \"{name}\" has a bad value")]
    Value {
        /// The option.
        name: &'static str,
        /// Why.
        detail: String,
    },
    /// Append, but rows may be retracted.
    #[error("sink mode \"append\" needs an append-only query")]
    NotAppendOnly,
    /// Upsert into something that holds no rows to replace.
    #[error("sink mode \"upsert\" needs a table")]
    NoUpsert,
    /// Upsert, but the columns do not identify a row.
    #[error("sink key \"{key}\" is not a unique key of the query")]
    NotUnique {
        /// The columns of the key, as written or by default.
        key: String,
        /// What the query's key is.
        detail: String,
    },
    /// Upsert by default or wish, but no key is known.
    #[error("sink mode \"upsert\" needs a unique key of the query")]
    NoKey,
    /// A key column that the query does not have.
    #[error("column \"{0}\" of the sink's key does not exist")]
    KeyColumn(String),
    /// A column that cannot be a column of the table.
    #[error("column \"{column}\" cannot be a column of the sink's table")]
    Column {
        /// The column.
        column: String,
        /// Code.
        code: SqlState,
        /// Why.
        detail: String,
    },
    /// A query without columns.
    #[error("sink needs a query with at least one column")]
    NoColumns,
}

impl Report for OptionError {
    fn code(&self) -> SqlState {
        match self {
            OptionError::Kind(_) | OptionError::NoUpsert => SqlState::NOT_SUPPORTED,
            OptionError::NotAppendOnly => SqlState::APPEND_ONLY_REQUIRED,
            OptionError::KeyColumn(_) => SqlState::UNDEFINED_COLUMN,
            OptionError::Column { code, .. } => *code,
            OptionError::Unknown { .. }
            | OptionError::Repeated(_)
            | OptionError::Missing(_)
            | OptionError::Value { .. }
            | OptionError::NotUnique { .. }
            | OptionError::NoKey
            | OptionError::NoColumns => SqlState::INVALID_PARAMETER,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            OptionError::Value { detail, .. }
            | OptionError::NotUnique { detail, .. }
            | OptionError::Column { detail, .. } => Some(detail.clone()),
            OptionError::NotAppendOnly => {
                Some("The query retracts rows that it has put out before.".into())
            }
            OptionError::NoUpsert => {
                Some("What is in a file or was sent cannot be replaced.".into())
            }
            OptionError::NoKey => Some(
                "The query may put out several equal rows, so no columns identify one of them."
                    .into(),
            ),
            _ => None,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            OptionError::Kind(_) => "Use INTO POSTGRES, SQLITE, MYSQL, FILE or WEBHOOK.".into(),
            OptionError::Unknown { known, .. } => format!("The options are {known}."),
            OptionError::Missing(name) => format!("Add {name} = '…' to WITH."),
            OptionError::NoUpsert => {
                "Use mode = 'changelog': weir_op says what is inserted and what retracted.".into()
            }
            OptionError::NotAppendOnly => {
                "Use mode = 'upsert' or mode = 'changelog', or EMIT ON CLOSE in the query.".into()
            }
            OptionError::NotUnique { .. } => {
                "Leave out the option key, or name at least the columns of the query's key.".into()
            }
            OptionError::NoKey => "Use mode = 'changelog', or group the query by a key.".into(),
            OptionError::Column { .. } => "Give the column another name or type with AS.".into(),
            OptionError::Repeated(_)
            | OptionError::Value { .. }
            | OptionError::KeyColumn(_)
            | OptionError::NoColumns => return None,
        })
    }
}
