//! Writes the statements that carry rows and predicates back as text.

use std::fmt::{self, Display, Formatter, Write};

use datafusion::sql::sqlparser::ast::Expr;

use super::print::{list, names, options, quote_name};
use super::statement::{ConflictUpdate, OnConflict, Statement};

/// The statements that carry rows and predicates.
pub(super) fn print_rows(f: &mut Formatter<'_>, statement: &Statement) -> fmt::Result {
    match statement {
        Statement::Punctuate { stream, predicate } => {
            write!(f, "PUNCTUATE {} WHERE {predicate}", quote_name(stream))
        }
        Statement::Insert { target, columns, source, on_conflict } => {
            write!(f, "INSERT INTO {} ", quote_name(target))?;
            if !columns.is_empty() {
                names(f, columns)?;
                f.write_char(' ')?;
            }
            source.fmt(f)?;
            on_conflict.as_ref().map_or(Ok(()), |on_conflict| conflict_clause(f, on_conflict))
        }
        Statement::Update { target, assignments, predicate } => {
            write!(f, "UPDATE {} ", quote_name(target))?;
            set_clause(f, assignments, predicate.as_ref())
        }
        Statement::Delete { target, predicate } => {
            write!(f, "DELETE FROM {}", quote_name(target))?;
            where_clause(f, predicate.as_ref())
        }
        Statement::Copy { target, options: items } => {
            write!(f, "COPY {} FROM STDIN", quote_name(target))?;
            match items.is_empty() {
                true => Ok(()),
                false => {
                    f.write_char(' ')?;
                    options(f, items, " ")
                }
            }
        }
        Statement::Query(query) => query.fmt(f),
        _ => unreachable!("every other statement is printed by its caller"),
    }
}

fn conflict_clause(f: &mut Formatter<'_>, on_conflict: &OnConflict) -> fmt::Result {
    f.write_str(" ON CONFLICT ")?;
    if !on_conflict.columns.is_empty() {
        names(f, &on_conflict.columns)?;
        f.write_char(' ')?;
    }
    match &on_conflict.update {
        None => f.write_str("DO NOTHING"),
        Some(ConflictUpdate { assignments, predicate }) => {
            f.write_str("DO UPDATE ")?;
            set_clause(f, assignments, predicate.as_ref())
        }
    }
}

fn set_clause(
    f: &mut Formatter<'_>,
    assignments: &[(String, Expr)],
    predicate: Option<&Expr>,
) -> fmt::Result {
    f.write_str("SET ")?;
    list(f, assignments, |f, (column, value)| write!(f, "{} = {value}", quote_name(column)))?;
    where_clause(f, predicate)
}

fn where_clause(f: &mut Formatter<'_>, predicate: Option<&impl Display>) -> fmt::Result {
    match predicate {
        Some(predicate) => write!(f, " WHERE {predicate}"),
        None => Ok(()),
    }
}
