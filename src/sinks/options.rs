//! Reads INTO … WITH (…) of CREATE SINK, and judges it against what the planner knows of the query.

use std::collections::BTreeSet;
use std::path::Path;

use arrow::datatypes::{Schema, SchemaRef};

use crate::error::SqlState;
use crate::sinks::ddl::{self, TableName};
use crate::sinks::file_format::{FileFormat, in_parquet};
use crate::sinks::given::{Given, bad};
use crate::sinks::option_error::OptionError;
use crate::sinks::progress::PROGRESS;
use crate::sinks::run::SinkSettings;
use crate::sinks::sink::{SinkMode, SinkPlan, SinkTarget};
use crate::sinks::target_options::{Kind, TargetOptions};
use crate::sinks::values::canonical_type;
use crate::sql::statement::OptionItem;

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
    /// Whether columns that an existing table lacks are added to it.
    pub add_columns: bool,
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
            add_columns: self.add_columns,
            history: None,
        }
    }

    /// A target that is not connected yet. `marks` is the server's own folder for the marks of
    /// targets that cannot hold one.
    pub fn open(&self, marks: &Path) -> Box<dyn SinkTarget> {
        self.target.open(marks)
    }

    /// When a transaction is committed.
    pub fn settings(&self) -> SinkSettings {
        self.target.settings()
    }
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
    let kind = Kind::parse(into)?;
    let given = Given::new(options, kind.known())?;
    let target = TargetOptions::read(kind, &given)?;
    let table = match kind.has_table() {
        true => table(kind, &given.required("table")?)?,
        // Only messages name it.
        false => TableName::plain(&given.text("path")?.unwrap_or_default()),
    };
    let mode = mode(kind, &given, append_only)?;
    let key = match (mode, given.text("key")?) {
        (SinkMode::Upsert, wanted) => key(schema, unique_keys, wanted.as_deref())?,
        (_, None) => Vec::new(),
        (_, Some(_)) => return Err(bad("key", "Only mode = 'upsert' has a key.")),
    };
    check_columns(schema, kind, mode)?;
    if let TargetOptions::File { format: FileFormat::Parquet, .. } = target {
        check_parquet(schema)?;
    }
    let (adopt, add_columns) = (given.boolean("adopt")?, given.boolean("add_columns")?);
    Ok(SinkOptions { target, table, mode, key, adopt, add_columns })
}

fn mode(kind: Kind, given: &Given<'_>, append_only: bool) -> Result<SinkMode, OptionError> {
    let written = given.text("mode")?.map(|mode| mode.to_ascii_lowercase());
    Ok(match written.as_deref() {
        Some("append") if !append_only => return Err(OptionError::NotAppendOnly),
        Some("append") => SinkMode::Append,
        Some("upsert") if !kind.has_table() => return Err(OptionError::NoUpsert),
        Some("upsert") => SinkMode::Upsert,
        Some("changelog") => SinkMode::Changelog,
        Some(_) if !kind.has_table() => {
            return Err(bad("mode", "It is one of 'append' and 'changelog'."));
        }
        Some(_) => {
            return Err(bad("mode", "It is one of 'append', 'upsert' and 'changelog'."));
        }
        // A key makes sense for upsert only, so naming one asks for it.
        None if append_only && given.text("key")?.is_none() => SinkMode::Append,
        None if !kind.has_table() => SinkMode::Changelog,
        None => SinkMode::Upsert,
    })
}

/// Reads `table`, `schema.table`, `"Odd Name"`. As in PostgreSQL a plain name without quotes is
/// folded to lower case; any other text without quotes is taken as it stands.
fn table(kind: Kind, written: &str) -> Result<TableName, OptionError> {
    let bad = |detail: &str| bad("table", detail);
    let parts = ddl::split_names(written, '.')
        .ok_or_else(|| bad("It is not a name, or schema.name, with quotes that end."))?;
    let mut parts: Vec<String> = parts
        .into_iter()
        .map(|name| {
            let plain = name.text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if name.quoted || !plain { name.text } else { name.text.to_ascii_lowercase() }
        })
        .collect();
    if let Some(detail) = parts.iter().find_map(|part| name_too_long(kind, part)) {
        return Err(bad(detail));
    }
    let name = parts.pop().expect("a list of names is never empty");
    let schema = parts.pop();
    if !parts.is_empty() {
        return Err(bad("It has more than two parts."));
    }
    if kind == Kind::Sqlite && schema.as_deref().is_some_and(|schema| schema != "main") {
        return Err(bad(
            "A SQLite file has the schema main only; put a name with a dot in quotes.",
        ));
    }
    if name.eq_ignore_ascii_case(PROGRESS) {
        return Err(bad("That table keeps the progress of sinks."));
    }
    Ok(TableName { schema, name })
}

/// What is wrong with a name's length: longer ones would be cut in silence, or refused.
fn name_too_long(kind: Kind, name: &str) -> Option<&'static str> {
    match kind {
        Kind::Postgres if name.len() > 63 => Some("PostgreSQL's names have at most 63 bytes."),
        Kind::Mysql if name.chars().count() > 64 => {
            Some("MySQL's names have at most 64 characters.")
        }
        _ => None,
    }
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

fn check_columns(schema: &Schema, kind: Kind, mode: SinkMode) -> Result<(), OptionError> {
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
        if let Some(detail) = name_too_long(kind, name) {
            return bad(SqlState::PROGRAM_LIMIT, detail.into());
        }
        if kind == Kind::Mysql && (name.ends_with(' ') || name.chars().any(|c| c > '\u{FFFF}')) {
            let detail = "MySQL's names end in no blank and hold no character above U+FFFF.";
            return bad(SqlState::NOT_SUPPORTED, detail.into());
        }
        // SQLite and MySQL take names that differ in case only for the same one.
        let folds = matches!(kind, Kind::Sqlite | Kind::Mysql);
        if !seen.insert(if folds { name.to_ascii_lowercase() } else { name.clone() }) {
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

/// Parquet has no nested intervals.
fn check_parquet(schema: &Schema) -> Result<(), OptionError> {
    match schema.fields().iter().find(|field| in_parquet(field).is_none()) {
        None => Ok(()),
        Some(field) => Err(OptionError::Column {
            column: field.name().clone(),
            code: SqlState::NOT_SUPPORTED,
            detail: format!("Parquet cannot hold its type {}.", field.data_type()),
        }),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
