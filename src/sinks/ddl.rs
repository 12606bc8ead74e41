//! Writes the SQL that targets run: names, column types, tables.
//!
//! Names go into the text only through [`quote`]; values never do, they are parameters or COPY data.

use std::fmt;

use arrow::datatypes::{DataType, Field, Schema};

use crate::data::schema::is_json;
use crate::sinks::sink::{SinkMode, SinkPlan};
use crate::sinks::values::canonical_type;

/// Column of changelog tables: the change's offset.
pub const CHANGE_OFFSET: &str = "weir_offset";
/// Column of changelog tables: +1 insertion, −1 retraction.
pub const CHANGE_OPERATION: &str = "weir_op";

/// A name as SQL text, whatever is in it.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The name of a table, perhaps with its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// The schema.
    pub schema: Option<String>,
    /// The table.
    pub name: String,
}

impl TableName {
    /// A table without a schema.
    pub fn plain(name: &str) -> TableName {
        TableName { schema: None, name: name.into() }
    }
    /// The name as SQL text.
    pub fn sql(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.name)),
            None => quote(&self.name),
        }
    }
}

/// For messages.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A name out of a list, and whether it was written in quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub text: String,
    /// Whether it was quoted.
    pub quoted: bool,
}

/// Splits `a, "b,""c"` at `separator`; `None` when a name is empty or its quotes do not end.
pub fn split_names(list: &str, separator: char) -> Option<Vec<Name>> {
    let mut names = Vec::new();
    let mut rest = list.trim();
    loop {
        let (name, behind) = match rest.strip_prefix('"') {
            Some(inside) => quoted_name(inside)?,
            None => {
                let end = rest.find(separator).unwrap_or(rest.len());
                let name = Name { text: rest[..end].trim_end().into(), quoted: false };
                (name, &rest[end..])
            }
        };
        if name.text.is_empty() {
            return None;
        }
        names.push(name);
        let behind = behind.trim_start();
        if behind.is_empty() {
            return Some(names);
        }
        rest = behind.strip_prefix(separator)?.trim_start();
    }
}

/// The name up to its closing quote, and what follows.
fn quoted_name(inside: &str) -> Option<(Name, &str)> {
    let mut text = String::new();
    let mut rest = inside;
    loop {
        let end = rest.find('"')?;
        text.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(more) => {
                text.push('"');
                rest = more;
            }
            None => return Some((Name { text, quoted: true }, rest)),
        }
    }
}

/// A database's SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// PostgreSQL.
    Postgres,
    /// SQLite.
    Sqlite,
}

/// A column's type; the field's type has a canonical form.
pub fn column_type(flavour: Flavour, field: &Field) -> String {
    let canonical = canonical_type(field.data_type()).unwrap_or(DataType::Utf8View);
    let integer_beyond_bigint = *field.data_type() == DataType::UInt64;
    match flavour {
        Flavour::Postgres => postgres_type(&canonical, is_json(field)),
        // The decimal that UInt64 becomes is an integer: SQLite keeps those up to i64::MAX as such.
        Flavour::Sqlite if integer_beyond_bigint => "BIGINT".into(),
        Flavour::Sqlite => sqlite_type(&canonical).into(),
    }
}

fn postgres_type(canonical: &DataType, json: bool) -> String {
    let fixed = match canonical {
        DataType::Boolean => "BOOLEAN",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INTEGER",
        DataType::Int64 => "BIGINT",
        DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE PRECISION",
        DataType::Decimal128(precision, scale) if *scale >= 0 => {
            return format!("NUMERIC({precision},{scale})");
        }
        DataType::Decimal128(..) => "NUMERIC",
        DataType::Date32 => "DATE",
        DataType::Timestamp(_, None) => "TIMESTAMP",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ",
        DataType::Time64(_) => "TIME",
        DataType::Interval(_) => "INTERVAL",
        DataType::Binary => "BYTEA",
        DataType::List(item) if is_array_item(item.data_type()) => {
            return format!("{}[]", postgres_type(item.data_type(), is_json(item)));
        }
        DataType::List(_) | DataType::Struct(_) => "JSONB",
        _ if json => "JSONB",
        _ => "TEXT",
    };
    fixed.into()
}

/// Whether PostgreSQL's arrays can hold the items: lists of lists need not be rectangular.
pub fn is_array_item(canonical: &DataType) -> bool {
    !matches!(canonical, DataType::List(_) | DataType::Struct(_))
}

/// SQLite's column types give affinities: TEXT keeps NUMERIC's digits, and BIGINT (unlike INTEGER)
/// never turns a key into the rowid, which would number nulls.
fn sqlite_type(canonical: &DataType) -> &'static str {
    match canonical {
        DataType::Boolean => "BOOLEAN",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::Float32 | DataType::Float64 => "REAL",
        DataType::Binary => "BLOB",
        _ => "TEXT",
    }
}

/// Names of the table's columns: the query's, and in changelog mode two more.
pub fn column_names(plan: &SinkPlan) -> Vec<String> {
    let own = plan.schema.fields().iter().map(|field| field.name().clone());
    let extra: &[&str] = match plan.mode {
        SinkMode::Changelog => &[CHANGE_OFFSET, CHANGE_OPERATION],
        SinkMode::Append | SinkMode::Upsert => &[],
    };
    own.chain(extra.iter().map(|name| (*name).into())).collect()
}

/// CREATE TABLE for the plan. `key_clause` is `PRIMARY KEY` or its like.
pub fn create_table(flavour: Flavour, plan: &SinkPlan, table: &str, key_clause: &str) -> String {
    let mut parts: Vec<String> = plan
        .schema
        .fields()
        .iter()
        .map(|field| format!("{} {}", quote(field.name()), column_type(flavour, field)))
        .collect();
    if plan.mode == SinkMode::Changelog {
        parts.push(format!("{} BIGINT NOT NULL", quote(CHANGE_OFFSET)));
        parts.push(format!("{} SMALLINT NOT NULL", quote(CHANGE_OPERATION)));
    }
    if plan.mode == SinkMode::Upsert {
        parts.push(format!("{key_clause} ({})", names(&plan.schema, &plan.key).join(", ")));
    }
    format!("CREATE TABLE {table} ({})", parts.join(", "))
}

/// Quoted names of some columns.
pub fn names(schema: &Schema, columns: &[usize]) -> Vec<String> {
    columns.iter().map(|&column| quote(schema.field(column).name())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_stays_a_name() {
        assert_eq!(quote("a\"; DROP TABLE t; --"), "\"a\"\"; DROP TABLE t; --\"");
        let table = TableName { schema: Some("a.b".into()), name: "c\"d".into() };
        assert_eq!(table.sql(), "\"a.b\".\"c\"\"d\"");
    }

    #[test]
    fn name_lists_follow_the_lexical_rules() {
        let split = |list: &str, separator| {
            split_names(list, separator)
                .map(|names| names.into_iter().map(|name| name.text).collect::<Vec<_>>())
        };
        assert_eq!(split("a, b c ,d", ','), Some(vec!["a".into(), "b c".into(), "d".into()]));
        assert_eq!(split("\"x,\"\"y\" , z", ','), Some(vec!["x,\"y".into(), "z".into()]));
        assert_eq!(split("s.\"odd.name\"", '.'), Some(vec!["s".into(), "odd.name".into()]));
        for bad in ["", "a,", ",a", "\"a", "\"\"", "\"a\"b", "a,,b"] {
            assert_eq!(split(bad, ','), None, "{bad:?}");
        }
    }
}
