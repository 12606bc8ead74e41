//! Writes statements back as text, one canonical form each: parsing it gives the same statement.

use std::fmt::{self, Display, Formatter, Write};

use super::print_rows::print_rows;
use super::statement::{
    ColumnDefinition, CreateQuery, CreateSink, CreateStream, CreateTable, EmitClause, EmitEvery,
    EmitModeClause, ExplainTarget, ObjectKind, OptionItem, OptionValue, Overload, RefinementClause,
    Statement, SubscribeFrom,
};

/// The canonical text of a statement, without `;`.
pub fn print(statement: &Statement) -> String {
    statement.to_string()
}

/// A name as it must be written: in quotes only where it would not be read as itself.
pub fn quote_name(name: &str) -> String {
    match is_plain(name) && !RESERVED.contains(&name) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Whether the lexer reads the name as one word and changes nothing.
fn is_plain(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && bytes.all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'$')
        })
}

/// What SQL and we reserve. Names of relations need no quotes in our own statements; queries and readers do.
const RESERVED: [&str; 65] = [
    "all",
    "allowed",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asof",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "constraint",
    "create",
    "cross",
    "default",
    "desc",
    "distinct",
    "else",
    "emit",
    "end",
    "except",
    "exists",
    "false",
    "fetch",
    "for",
    "from",
    "full",
    "group",
    "having",
    "in",
    "inner",
    "intersect",
    "interval",
    "into",
    "is",
    "join",
    "lateral",
    "left",
    "like",
    "limit",
    "natural",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "outer",
    "primary",
    "right",
    "select",
    "table",
    "then",
    "to",
    "true",
    "union",
    "unique",
    "using",
    "values",
    "when",
    "where",
    "window",
    "with",
];

/// Whether a word without quotes cannot name a column, as in PostgreSQL.
pub(super) fn is_reserved_column(word: &str) -> bool {
    // The first three are no words of PostgreSQL, which takes the others as names of columns.
    const NAMES: [&str; 6] = ["allowed", "asof", "emit", "exists", "interval", "values"];
    RESERVED.contains(&word) && !NAMES.contains(&word)
}

/// A text literal.
struct Literal<'a>(&'a str);

impl Display for Literal<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('\'')?;
        for part in self.0.split_inclusive('\'') {
            f.write_str(part)?;
            if part.ends_with('\'') {
                f.write_char('\'')?;
            }
        }
        f.write_char('\'')
    }
}

/// Items with commas between them.
pub(super) fn list<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    mut item: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, each) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        item(f, each)?;
    }
    Ok(())
}

pub(super) fn names(f: &mut Formatter<'_>, names: &[String]) -> fmt::Result {
    f.write_char('(')?;
    list(f, names, |f, name| f.write_str(&quote_name(name)))?;
    f.write_char(')')
}

pub(super) fn options(f: &mut Formatter<'_>, options: &[OptionItem], between: &str) -> fmt::Result {
    f.write_char('(')?;
    list(f, options, |f, OptionItem { name, value }| {
        // No word is reserved here.
        match is_plain(name) {
            true => write!(f, "{name}{between}"),
            false => write!(f, "{}{between}", quoted(name)),
        }?;
        match value {
            OptionValue::Text(text) => write!(f, "{}", Literal(text)),
            OptionValue::Number(number) => f.write_str(number),
            OptionValue::Boolean(value) => write!(f, "{value}"),
        }
    })?;
    f.write_char(')')
}

fn with_options(f: &mut Formatter<'_>, items: &[OptionItem]) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    f.write_str(" WITH ")?;
    options(f, items, " = ")
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Statement::CreateStream(create) => create.fmt(f),
            Statement::CreateTable(create) => create.fmt(f),
            Statement::CreateQuery(create) => create.fmt(f),
            Statement::CreateSink(create) => create.fmt(f),
            Statement::Drop { kind, name, if_exists, cascade } => {
                let kind = match kind {
                    ObjectKind::Stream => "STREAM",
                    ObjectKind::Table => "TABLE",
                    ObjectKind::Query => "CONTINUOUS QUERY",
                    ObjectKind::Sink => "SINK",
                };
                let if_exists = if *if_exists { "IF EXISTS " } else { "" };
                let cascade = if *cascade { " CASCADE" } else { "" };
                write!(f, "DROP {kind} {if_exists}{}{cascade}", quote_name(name))
            }
            Statement::Alter(alter) => {
                let kind = match alter.kind {
                    ObjectKind::Stream => "STREAM",
                    ObjectKind::Table => "TABLE",
                    ObjectKind::Query => "CONTINUOUS QUERY",
                    ObjectKind::Sink => "SINK",
                };
                write!(f, "ALTER {kind} {} ", quote_name(&alter.name))?;
                if alter.reset.is_empty() {
                    f.write_str("SET ")?;
                    return options(f, &alter.set, " = ");
                }
                f.write_str("RESET ")?;
                names(f, &alter.reset)
            }
            Statement::Show(kind) => f.write_str(match kind {
                ObjectKind::Stream => "SHOW STREAMS",
                ObjectKind::Table => "SHOW TABLES",
                ObjectKind::Query => "SHOW QUERIES",
                ObjectKind::Sink => "SHOW SINKS",
            }),
            Statement::Describe(name) => match name.strip_prefix("weir.") {
                Some(relation) => write!(f, "DESCRIBE weir.{}", quote_name(relation)),
                None if name == "weir" => f.write_str("DESCRIBE \"weir\""),
                None => write!(f, "DESCRIBE {}", quote_name(name)),
            },
            Statement::Pause(name) => write!(f, "PAUSE CONTINUOUS QUERY {}", quote_name(name)),
            Statement::Resume(name) => write!(f, "RESUME CONTINUOUS QUERY {}", quote_name(name)),
            Statement::Rebuild(name) => write!(f, "REBUILD CONTINUOUS QUERY {}", quote_name(name)),
            Statement::Subscribe { query, from, snapshot } => {
                write!(f, "SUBSCRIBE {}", quote_name(query))?;
                match from {
                    SubscribeFrom::Now => Ok(()),
                    SubscribeFrom::Earliest => f.write_str(" FROM EARLIEST"),
                    SubscribeFrom::Offset(offset) => write!(f, " FROM OFFSET {offset}"),
                }?;
                f.write_str(if *snapshot { " WITH SNAPSHOT" } else { "" })
            }
            Statement::Explain { analyze, target } => {
                f.write_str(if *analyze { "EXPLAIN ANALYZE " } else { "EXPLAIN " })?;
                match target {
                    ExplainTarget::Query(query, emit) => write!(f, "{query}{emit}"),
                    ExplainTarget::Create(create) => create.fmt(f),
                    ExplainTarget::Name(name) => f.write_str(&quote_name(name)),
                }
            }
            Statement::Flush { sink: None } => f.write_str("FLUSH"),
            Statement::Flush { sink: Some(sink) } => write!(f, "FLUSH SINK {}", quote_name(sink)),
            rows => print_rows(f, rows),
        }
    }
}

fn if_not_exists(given: bool) -> &'static str {
    if given { "IF NOT EXISTS " } else { "" }
}

impl Display for ColumnDefinition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let not_null = if self.not_null { " NOT NULL" } else { "" };
        write!(f, "{} {}{not_null}", quote_name(&self.name), self.data_type)
    }
}

impl Display for CreateStream {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = quote_name(&self.name);
        write!(f, "CREATE STREAM {}{name} (", if_not_exists(self.if_not_exists))?;
        list(f, &self.columns, |f, column| column.fmt(f))?;
        if let Some(watermark) = &self.watermark {
            let between = if self.columns.is_empty() { "" } else { ", " };
            let column = quote_name(&watermark.column);
            write!(f, "{between}WATERMARK FOR {column} AS {}", watermark.expression)?;
        }
        f.write_char(')')?;
        with_options(f, &self.options)?;
        match &self.overload {
            None => Ok(()),
            Some(Overload::Block) => f.write_str(" ON OVERLOAD BLOCK"),
            Some(Overload::DropOldest) => f.write_str(" ON OVERLOAD DROP OLDEST"),
            Some(Overload::ShedRandom) => f.write_str(" ON OVERLOAD SHED RANDOM"),
            Some(Overload::ShedKeys(columns)) => {
                f.write_str(" ON OVERLOAD SHED KEYS ")?;
                names(f, columns)
            }
        }
    }
}

impl Display for CreateTable {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = quote_name(&self.name);
        write!(f, "CREATE TABLE {}{name} (", if_not_exists(self.if_not_exists))?;
        list(f, &self.columns, |f, column| column.fmt(f))?;
        if !self.primary_key.is_empty() {
            f.write_str(if self.columns.is_empty() { "PRIMARY KEY " } else { ", PRIMARY KEY " })?;
            names(f, &self.primary_key)?;
        }
        f.write_char(')')?;
        with_options(f, &self.options)
    }
}

impl Display for CreateQuery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let or_replace = if self.or_replace { "OR REPLACE " } else { "" };
        let if_not_exists = if_not_exists(self.if_not_exists);
        let name = quote_name(&self.name);
        write!(f, "CREATE {or_replace}CONTINUOUS QUERY {if_not_exists}{name}")?;
        with_options(f, &self.options)?;
        write!(f, " AS {}{}", self.query, self.emit)
    }
}

impl Display for CreateSink {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (name, from) = (quote_name(&self.name), quote_name(&self.from));
        let if_not_exists = if_not_exists(self.if_not_exists);
        write!(f, "CREATE SINK {if_not_exists}{name} FROM {from} INTO {}", self.into)?;
        with_options(f, &self.options)
    }
}

/// With a blank before each part, so that it can follow a query.
impl Display for EmitClause {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.mode {
            None => {}
            Some(EmitModeClause::OnClose) => f.write_str(" EMIT ON CLOSE")?,
            Some(EmitModeClause::Changes) => f.write_str(" EMIT CHANGES")?,
            Some(EmitModeClause::Every { every, on_close, late_every_row, refinement }) => {
                match every {
                    EmitEvery::Interval(interval) => write!(f, " EMIT EVERY {interval}")?,
                    EmitEvery::Rows(rows) => write!(f, " EMIT EVERY {rows} ROWS")?,
                }
                f.write_str(if *on_close { " ON CLOSE" } else { "" })?;
                f.write_str(if *late_every_row { " LATE EVERY ROW" } else { "" })?;
                f.write_str(match refinement {
                    None => "",
                    Some(RefinementClause::Retracting) => " RETRACTING",
                    Some(RefinementClause::Accumulating) => " ACCUMULATING",
                    Some(RefinementClause::Discarding) => " DISCARDING",
                })?;
            }
        }
        if let Some(lateness) = &self.allowed_lateness {
            write!(f, " ALLOWED LATENESS {lateness}")?;
        }
        match &self.late_rows_to {
            Some(stream) => write!(f, " LATE ROWS TO {}", quote_name(stream)),
            None => Ok(()),
        }
    }
}
