//! Reads INTO … WITH (…) of CREATE SINK, and judges it against what the planner knows of the query.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use arrow::datatypes::{Schema, SchemaRef};

use crate::error::SqlState;
use crate::sinks::ddl::{self, TableName};
use crate::sinks::option_error::OptionError;
use crate::sinks::postgres::PostgresTarget;
use crate::sinks::progress::PROGRESS;
use crate::sinks::sink::{SinkMode, SinkPlan, SinkTarget};
use crate::sinks::sqlite::SqliteTarget;
use crate::sinks::values::canonical_type;
use crate::sql::statement::{OptionItem, OptionValue};

/// Bytes of a name in PostgreSQL; longer ones would be cut in silence.
const POSTGRES_NAME_BYTES: usize = 63;

/// Where the rows go.
#[derive(Clone, PartialEq)]
pub enum TargetOptions {
    /// A SQLite file.
    Sqlite {
        /// The file.
        path: PathBuf,
    },
    /// A PostgreSQL database.
    Postgres {
        /// `postgres://…`; may hold a password.
        url: String,
    },
}

/// Leaves the URL out: it may hold a password.
impl fmt::Debug for TargetOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetOptions::Sqlite { path } => write!(f, "Sqlite({})", path.display()),
            TargetOptions::Postgres { .. } => f.write_str("Postgres(…)"),
        }
    }
}

/// The options of a sink.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkOptions {
    /// Where the rows go.
    pub target: TargetOptions,
    /// The table there.
    pub table: TableName,
    /// How changes become rows.
    pub mode: SinkMode,
    /// Columns of the key; empty unless the mode is upsert.
    pub key: Vec<usize>,
    /// Whether a table with another sink's progress may be taken over.
    pub adopt: bool,
}

impl SinkOptions {
    /// The plan of a sink with these options. `id` is minted at CREATE SINK; `changelog` names the
    /// changelog whose offsets are counted.
    pub fn plan(&self, id: &str, name: &str, changelog: &str, schema: SchemaRef) -> SinkPlan {
        SinkPlan {
            id: id.into(),
            name: name.into(),
            changelog: changelog.into(),
            schema,
            table: self.table.clone(),
            mode: self.mode,
            key: self.key.clone(),
            adopt: self.adopt,
        }
    }

    /// A target that is not connected yet.
    pub fn open(&self) -> Box<dyn SinkTarget> {
        match &self.target {
            TargetOptions::Sqlite { path } => Box::new(SqliteTarget::new(path.clone())),
            TargetOptions::Postgres { url } => Box::new(PostgresTarget::new(url.clone())),
        }
    }
}

/// The options as they were written, each at most once.
#[derive(Default)]
struct Written {
    location: Option<String>,
    table: Option<String>,
    mode: Option<String>,
    key: Option<String>,
    adopt: bool,
}

/// Reads the options of CREATE SINK … INTO `into`. `unique_keys` are the sets of columns that
/// identify a row of the query, each on its own (an empty set: it has one row at most).
pub fn parse(
    into: &str,
    options: &[OptionItem],
    schema: &Schema,
    unique_keys: &[Vec<usize>],
    append_only: bool,
) -> Result<SinkOptions, OptionError> {
    let postgres = match into.to_ascii_uppercase().as_str() {
        "POSTGRES" | "POSTGRESQL" => true,
        "SQLITE" => false,
        other => return Err(OptionError::Kind(other.into())),
    };
    let location = if postgres { "url" } else { "path" };
    let written = collect(options, location)?;
    let target = target(postgres, written.location.ok_or(OptionError::Missing(location))?)?;
    let table = table(postgres, &written.table.ok_or(OptionError::Missing("table"))?)?;
    let mode = match written.mode.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("append") if !append_only => return Err(OptionError::NotAppendOnly),
        Some("append") => SinkMode::Append,
        Some("upsert") => SinkMode::Upsert,
        Some("changelog") => SinkMode::Changelog,
        Some(_) => {
            let detail = "It is one of 'append', 'upsert' and 'changelog'.".into();
            return Err(OptionError::Value { name: "mode", detail });
        }
        // A key makes sense for upsert only, so naming one asks for it.
        None if append_only && written.key.is_none() => SinkMode::Append,
        None => SinkMode::Upsert,
    };
    let key = match (mode, written.key) {
        (SinkMode::Upsert, wanted) => key(schema, unique_keys, wanted.as_deref())?,
        (_, None) => Vec::new(),
        (_, Some(_)) => {
            let detail = "Only mode = 'upsert' has a key.".into();
            return Err(OptionError::Value { name: "key", detail });
        }
    };
    check_columns(schema, postgres, mode)?;
    Ok(SinkOptions { target, table, mode, key, adopt: written.adopt })
}

fn collect(options: &[OptionItem], location: &'static str) -> Result<Written, OptionError> {
    let mut written = Written::default();
    let mut seen = BTreeSet::new();
    for option in options {
        if !seen.insert(option.name.as_str()) {
            return Err(OptionError::Repeated(option.name.clone()));
        }
        match option.name.as_str() {
            name if name == location => written.location = Some(text(location, &option.value)?),
            "table" => written.table = Some(text("table", &option.value)?),
            "mode" => written.mode = Some(text("mode", &option.value)?),
            "key" => written.key = Some(text("key", &option.value)?),
            "adopt" => written.adopt = boolean("adopt", &option.value)?,
            other => {
                return Err(OptionError::Unknown {
                    name: other.into(),
                    known: format!("{location}, table, mode, key, adopt"),
                });
            }
        }
    }
    Ok(written)
}

fn text(name: &'static str, value: &OptionValue) -> Result<String, OptionError> {
    match value {
        OptionValue::Text(text) if text.contains('\0') => {
            Err(OptionError::Value { name, detail: "It holds a NUL character.".into() })
        }
        OptionValue::Text(text) if !text.trim().is_empty() => Ok(text.clone()),
        OptionValue::Text(_) => Err(OptionError::Value { name, detail: "It is empty.".into() }),
        OptionValue::Number(_) | OptionValue::Boolean(_) => {
            Err(OptionError::Value { name, detail: "It must be a text in quotes.".into() })
        }
    }
}

fn boolean(name: &'static str, value: &OptionValue) -> Result<bool, OptionError> {
    match value {
        OptionValue::Boolean(value) => Ok(*value),
        OptionValue::Text(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        OptionValue::Text(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        OptionValue::Text(_) | OptionValue::Number(_) => {
            Err(OptionError::Value { name, detail: "It is true or false.".into() })
        }
    }
}

fn target(postgres: bool, location: String) -> Result<TargetOptions, OptionError> {
    if postgres {
        // The parser's own message never holds the URL, which may hold a password.
        if let Err(error) = location.parse::<tokio_postgres::Config>() {
            return Err(OptionError::Value { name: "url", detail: format!("{error}.") });
        }
        return Ok(TargetOptions::Postgres { url: location });
    }
    if location == ":memory:" {
        let detail = "A database in memory would not outlive the server.".into();
        return Err(OptionError::Value { name: "path", detail });
    }
    Ok(TargetOptions::Sqlite { path: PathBuf::from(location) })
}

/// Reads `table`, `schema.table`, `"Odd Name"`. As in PostgreSQL a plain name without quotes is
/// folded to lower case; any other text without quotes is taken as it stands.
fn table(postgres: bool, written: &str) -> Result<TableName, OptionError> {
    let bad = |detail: &str| OptionError::Value { name: "table", detail: detail.into() };
    let parts = ddl::split_names(written, '.')
        .ok_or_else(|| bad("It is not a name, or schema.name, with quotes that end."))?;
    let mut parts: Vec<String> = parts
        .into_iter()
        .map(|name| {
            let plain = name.text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if name.quoted || !plain { name.text } else { name.text.to_ascii_lowercase() }
        })
        .collect();
    if postgres && parts.iter().any(|part| part.len() > POSTGRES_NAME_BYTES) {
        return Err(bad("PostgreSQL's names have at most 63 bytes."));
    }
    let name = parts.pop().expect("a list of names is never empty");
    let schema = parts.pop();
    if !parts.is_empty() {
        return Err(bad("It has more than two parts."));
    }
    if !postgres && schema.as_deref().is_some_and(|schema| schema != "main") {
        return Err(bad(
            "A SQLite file has the schema main only; put a name with a dot in quotes.",
        ));
    }
    if name.eq_ignore_ascii_case(PROGRESS) {
        return Err(bad("That table keeps the progress of sinks."));
    }
    Ok(TableName { schema, name })
}

/// The columns of the key. Any columns that include a unique key are one too; a query with one row
/// at most (an empty key) is identified by all its columns together.
fn key(
    schema: &Schema,
    unique: &[Vec<usize>],
    wanted: Option<&str>,
) -> Result<Vec<usize>, OptionError> {
    let first = unique.first().ok_or(OptionError::NoKey)?;
    let Some(wanted) = wanted else {
        let all = (0..schema.fields().len()).collect();
        return Ok(if first.is_empty() { all } else { first.clone() });
    };
    let names = ddl::split_names(wanted, ',').ok_or_else(|| OptionError::Value {
        name: "key",
        detail: "It is not a list of column names.".into(),
    })?;
    let mut key = Vec::with_capacity(names.len());
    for name in names {
        let column = schema
            .index_of(&name.text)
            .or_else(|error| match name.quoted {
                true => Err(error),
                false => schema.index_of(&name.text.to_ascii_lowercase()),
            })
            .map_err(|_| OptionError::KeyColumn(name.text.clone()))?;
        if key.contains(&column) {
            let detail = format!("It names the column \"{}\" twice.", name.text);
            return Err(OptionError::Value { name: "key", detail });
        }
        key.push(column);
    }
    if !unique.iter().any(|unique| unique.iter().all(|column| key.contains(column))) {
        let columns: Vec<&str> = first.iter().map(|&c| schema.field(c).name().as_str()).collect();
        return Err(OptionError::NotUnique {
            key: wanted.into(),
            detail: format!("The query's rows are identified by ({}).", columns.join(", ")),
        });
    }
    Ok(key)
}

fn check_columns(schema: &Schema, postgres: bool, mode: SinkMode) -> Result<(), OptionError> {
    if schema.fields().is_empty() {
        return Err(OptionError::NoColumns);
    }
    let mut seen = BTreeSet::new();
    for field in schema.fields() {
        let name = field.name();
        let bad =
            |code, detail: String| Err(OptionError::Column { column: name.clone(), code, detail });
        if name.is_empty() || name.contains('\0') {
            return bad(SqlState::INVALID_PARAMETER, "Its name is empty or holds NUL.".into());
        }
        if postgres && name.len() > POSTGRES_NAME_BYTES {
            let detail = "PostgreSQL's names have at most 63 bytes.".into();
            return bad(SqlState::PROGRAM_LIMIT, detail);
        }
        // SQLite takes names that differ in case only for the same one.
        if !seen.insert(if postgres { name.clone() } else { name.to_ascii_lowercase() }) {
            return bad(SqlState::DUPLICATE_COLUMN, "The query has the name twice.".into());
        }
        let added = [ddl::CHANGE_OFFSET, ddl::CHANGE_OPERATION];
        if mode == SinkMode::Changelog && added.iter().any(|a| name.eq_ignore_ascii_case(a)) {
            let detail = "mode = 'changelog' adds a column of that name.".into();
            return bad(SqlState::DUPLICATE_COLUMN, detail);
        }
        if canonical_type(field.data_type()).is_none() {
            let detail = format!("No sink can hold its type {}.", field.data_type());
            return bad(SqlState::NOT_SUPPORTED, detail);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
