//! Lists the situations in which a query cannot be planned.

use arrow::datatypes::DataType;
use datafusion::common::{SchemaError, plan_err};
use datafusion::error::DataFusionError;

use crate::data::sql_words::{in_sql_words, invalid_regex, tidy_message, undefined_function};
use crate::error::{Report, SqlState};
use crate::operators::expr::row_error;
use crate::sql::print::quote_name;

/// Why a query cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A relation of that name does not exist.
    #[error("relation \"{name}\" does not exist")]
    UndefinedRelation {
        /// The name.
        name: String,
        /// A name that looks alike.
        similar: Option<String>,
    },
    /// A window is over a column that no watermark bounds.
    #[error("window over {relation} needs a watermark")]
    WatermarkRequired {
        /// What the window is over, with its kind and quoted.
        relation: String,
        /// The column that the window is over.
        column: String,
    },
    /// The answer would need rows that are never retracted.
    #[error("{what} needs append-only input")]
    AppendOnlyRequired {
        /// What needs it.
        what: String,
        /// Why the input is not.
        detail: String,
    },
    /// `require_bounded_state` is set and the state is not.
    #[error("state of continuous query would be unbounded")]
    UnboundedState {
        /// Which node, and why.
        detail: String,
    },
    /// Not supported.
    #[error("{what} is not supported in a continuous query")]
    NotSupported {
        /// What.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// A window function is called wrongly.
    #[error("{message}")]
    Window {
        /// The code: 42P20, 22023, 42803, 42601.
        code: SqlState,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// DataFusion's planner refused.
    #[error("{message}")]
    Refused {
        /// The code that fits.
        code: SqlState,
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl PlanError {
    /// A misuse of a window function.
    pub fn window(code: SqlState, message: impl Into<String>) -> PlanError {
        PlanError::Window { code, message: message.into(), hint: None }
    }

    /// Something that a one-off SELECT does not do.
    pub fn unsupported_once(what: &str, hint: &str) -> PlanError {
        PlanError::Refused {
            code: SqlState::NOT_SUPPORTED,
            message: format!("{what} is not supported in a one-off SELECT"),
            hint: Some(hint.to_owned()),
        }
    }

    /// The same for a one-off SELECT, which is no continuous query.
    pub fn asked_once(self) -> PlanError {
        match self {
            PlanError::NotSupported { what, hint } => PlanError::refused(&what, &hint),
            other => other,
        }
    }

    /// Two columns of a result have one name.
    pub fn repeated(name: &str) -> PlanError {
        PlanError::Refused {
            code: SqlState::DUPLICATE_COLUMN,
            message: format!("column \"{name}\" specified more than once"),
            hint: Some("Give the columns different names with AS.".into()),
        }
    }

    /// Something that neither a SELECT nor a continuous query does.
    pub fn refused(what: &str, hint: &str) -> PlanError {
        PlanError::Refused {
            code: SqlState::NOT_SUPPORTED,
            message: format!("{what} is not supported"),
            hint: Some(hint.to_owned()),
        }
    }

    /// Something that this version does not do.
    pub fn unsupported(what: impl Into<String>, hint: impl Into<String>) -> PlanError {
        PlanError::NotSupported { what: what.into(), hint: hint.into() }
    }
}

/// A function that is called with other types than it takes; in the words that DataFusion has for it.
pub(super) fn no_function<T>(name: &str, given: &[DataType]) -> Result<T, DataFusionError> {
    plan_err!(
        "No function matches the given name and argument types '{name}({})'",
        given.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    )
}

impl Report for PlanError {
    fn code(&self) -> SqlState {
        match self {
            PlanError::UndefinedRelation { .. } => SqlState::UNDEFINED_RELATION,
            PlanError::WatermarkRequired { .. } => SqlState::WATERMARK_REQUIRED,
            PlanError::AppendOnlyRequired { .. } => SqlState::APPEND_ONLY_REQUIRED,
            PlanError::UnboundedState { .. } => SqlState::UNBOUNDED_STATE,
            PlanError::NotSupported { .. } => SqlState::NOT_SUPPORTED,
            PlanError::Window { code, .. } | PlanError::Refused { code, .. } => *code,
        }
    }

    fn detail(&self) -> Option<String> {
        match self {
            PlanError::WatermarkRequired { column, .. } => Some(format!(
                "No watermark bounds column \"{column}\", so no window over it could ever close."
            )),
            PlanError::AppendOnlyRequired { detail, .. } | PlanError::UnboundedState { detail } => {
                Some(detail.clone())
            }
            PlanError::UndefinedRelation { .. }
            | PlanError::NotSupported { .. }
            | PlanError::Window { .. }
            | PlanError::Refused { .. } => None,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            PlanError::UndefinedRelation { similar, .. } => {
                similar.as_ref().map(|name| format!("Perhaps you meant \"{name}\".")).or_else(
                    || Some("SHOW STREAMS, SHOW TABLES and SHOW QUERIES list what exists.".into()),
                )
            }
            PlanError::WatermarkRequired { column, .. } => {
                let column = quote_name(column);
                Some(format!(
                    "Add WATERMARK FOR {column} AS {column} - INTERVAL '5' SECOND to the stream, \
                     or accept unbounded state with EMIT CHANGES."
                ))
            }
            PlanError::AppendOnlyRequired { .. } => Some(
                "Use an input that is append-only, such as a stream or a query with EMIT ON CLOSE."
                    .into(),
            ),
            PlanError::UnboundedState { .. } => Some(
                "Group by a time window over a watermarked column, or drop require_bounded_state."
                    .into(),
            ),
            PlanError::NotSupported { hint, .. } => Some(hint.clone()),
            PlanError::Window { hint, .. } | PlanError::Refused { hint, .. } => hint.clone(),
        }
    }
}

impl From<PlanError> for DataFusionError {
    fn from(error: PlanError) -> DataFusionError {
        DataFusionError::External(Box::new(error))
    }
}

/// Finds the code that fits an error of DataFusion's planner; our own errors come back unchanged.
pub fn from_datafusion(error: DataFusionError) -> PlanError {
    match error {
        DataFusionError::External(inner) => match inner.downcast::<PlanError>() {
            Ok(ours) => *ours,
            Err(other) => match invalid_regex(&other.to_string()) {
                Some(reason) => refused(SqlState::INVALID_REGEX, &reason),
                None => refused(SqlState::INTERNAL, &other.to_string()),
            },
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            from_datafusion(*inner)
        }
        DataFusionError::Collection(mut errors) if !errors.is_empty() => {
            from_datafusion(errors.swap_remove(0))
        }
        DataFusionError::SchemaError(schema_error, _) => schema(*schema_error),
        DataFusionError::NotImplemented(text) => not_implemented(&text),
        DataFusionError::ResourcesExhausted(text) => refused(SqlState::PROGRAM_LIMIT, &text),
        // A constant, which is computed while the query is planned.
        other if matches!(other.find_root(), DataFusionError::ArrowError(..)) => {
            let (code, message) = row_error(&other);
            PlanError::Refused { code, message, hint: None }
        }
        other => {
            let text = other.strip_backtrace();
            known(&text)
                .or_else(|| in_our_words(&text))
                .unwrap_or_else(|| refused(code_of(&text), &text))
        }
    }
}

/// What DataFusion does not do. Parts of the grammar that it does not know it prints as trees; we name them
/// as they are written.
pub fn not_implemented(text: &str) -> PlanError {
    if let Some((_, left_over)) =
        text.split_once("hysical plan does not support logical expression ")
    {
        return left_in_place(left_over);
    }
    let Some(tree) = text.strip_prefix("Unsupported ast node ") else {
        return refused(SqlState::NOT_SUPPORTED, text);
    };
    let mut words = String::new();
    for letter in tree.chars().take_while(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push('_');
        }
        words.push(letter.to_ascii_uppercase());
    }
    PlanError::unsupported(words, "docs/sql.md lists what a query may hold.")
}

/// An expression that every plan would have made something else of.
fn left_in_place(expression: &str) -> PlanError {
    let (what, hint) = if expression.starts_with("ScalarSubquery") {
        (
            "a correlated subquery of this form",
            "Let it stand in WHERE or in the select list, compare with = only where it reads the query around it, \
             without LIMIT; or write a join with GROUP BY.",
        )
    } else if expression.starts_with("OuterReferenceColumn") || expression.starts_with("Exists") {
        (
            "a subquery of this form that reads the query around it",
            "Write a join; for the first rows of each, row_number() OVER (PARTITION BY … ORDER BY …) <= n.",
        )
    } else {
        ("an expression in this place", "Compute it in a subquery in FROM.")
    };
    PlanError::refused(what, hint)
}

/// Situations whose message can be put into our own words.
fn known(text: &str) -> Option<PlanError> {
    let between = |before: &str, after: &str| {
        let rest = &text[text.find(before)? + before.len()..];
        Some(&rest[..rest.find(after)?])
    };
    if text.contains("require unique expression names") {
        let expression = between("expression \"", "\" at position")?;
        return Some(PlanError::repeated(name_of(expression)));
    }
    if let Some((_, name)) = text.split_once("Invalid qualifier ") {
        return Some(PlanError::Refused {
            code: SqlState::UNDEFINED_RELATION,
            message: format!("relation \"{}\" is not in FROM", name.trim()),
            hint: None,
        });
    }
    if let Some(name) = between("Invalid function '", "'") {
        let similar = between("Did you mean '", "'");
        return Some(PlanError::Refused {
            code: SqlState::UNDEFINED_FUNCTION,
            message: format!("function \"{name}\" does not exist"),
            hint: similar.map(|similar| format!("Perhaps you meant \"{similar}\".")),
        });
    }
    None
}

/// The name of a result column that is computed so: its alias, or the column, which may be cast.
fn name_of(expression: &str) -> &str {
    let column = |text: &str| text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    let cast = expression.strip_prefix("CAST(").and_then(|inner| inner.rsplit_once(" AS "));
    let name = match (cast, expression.rsplit_once(" AS ")) {
        (Some((inner, _)), _) if column(inner) => inner,
        (None, Some((_, alias))) => alias,
        _ => expression,
    };
    if column(name) { name.rsplit('.').next().unwrap_or(name) } else { name }
}

/// Messages of DataFusion's planner that name its own parts, said as PostgreSQL says them.
fn in_our_words(text: &str) -> Option<PlanError> {
    if let Some((_, data_type)) = text
        .rsplit_once("non-boolean predicate")
        .and_then(|(_, rest)| rest.lines().next().unwrap_or(rest).rsplit_once(" returning "))
    {
        let data_type = in_sql_words(data_type.trim()).to_lowercase();
        return Some(PlanError::Refused {
            code: SqlState::TYPE_MISMATCH,
            message: format!(
                "argument of WHERE or HAVING must be type boolean, not type {data_type}"
            ),
            hint: Some("Compare it with something.".into()),
        });
    }
    if text.contains("orrelated scalar subquery can only be used in") {
        let what = "a correlated subquery for a value in this place";
        return Some(PlanError::refused(
            what,
            "Compute it in the select list of a subquery in FROM.",
        ));
    }
    Some(PlanError::Refused {
        code: SqlState::UNDEFINED_FUNCTION,
        message: undefined_function(text)?,
        hint: Some("Cast the arguments to types that the function takes.".into()),
    })
}

fn schema(error: SchemaError) -> PlanError {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => PlanError::Refused {
            code: SqlState::UNDEFINED_COLUMN,
            message: format!("column \"{}\" does not exist", field.name),
            hint: (!valid_fields.is_empty()).then(|| {
                let mut names: Vec<String> = Vec::new();
                for name in valid_fields.iter().map(|field| quote_name(&field.name)) {
                    if !names.contains(&name) {
                        names.push(name);
                    }
                }
                format!("Columns are: {}.", names.join(", "))
            }),
        },
        SchemaError::AmbiguousReference { field } => PlanError::Refused {
            code: SqlState::AMBIGUOUS_COLUMN,
            message: format!("column reference \"{}\" is ambiguous", field.name),
            hint: Some("Qualify the column with the name of its relation.".into()),
        },
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => PlanError::repeated(&name),
    }
}

/// DataFusion has no codes: parts of its messages tell the situation.
const CODES: &[(&[&str], SqlState)] = &[
    (
        &[
            "must appear in the GROUP BY",
            "must be in GROUP BY",
            "in the SELECT list must",
            "ggregate functions are not allowed",
            "is not in grouping columns",
        ],
        SqlState::GROUPING,
    ),
    (
        &[
            "Invalid function",
            "No function matches",
            "does not support zero arguments",
            "Failed to coerce arguments",
        ],
        SqlState::UNDEFINED_FUNCTION,
    ),
    (&["Divide by zero", "DivideByZero"], SqlState::DIVISION_BY_ZERO),
    (
        &["coerce", "Cannot cast", "ncompatible", "Cannot infer common", "must be boolean type"],
        SqlState::TYPE_MISMATCH,
    ),
    (&["LIMIT must be", "Expected LIMIT"], SqlState::INVALID_LIMIT),
    (&["OFFSET must be"], SqlState::INVALID_OFFSET),
    (&["Percentile value must"], SqlState::INVALID_PARAMETER),
    (&["Parser error", "parse"], SqlState::INVALID_TEXT),
    (&["Overflow", "overflow"], SqlState::NUMERIC_RANGE),
    (&["not supported", "Unsupported", "not implemented"], SqlState::NOT_SUPPORTED),
];

fn code_of(text: &str) -> SqlState {
    let fits = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    CODES.iter().find(|(parts, _)| fits(parts)).map_or(SqlState::SYNTAX, |(_, code)| *code)
}

fn refused(code: SqlState, text: &str) -> PlanError {
    PlanError::Refused { code, message: tidy_message(text), hint: None }
}
