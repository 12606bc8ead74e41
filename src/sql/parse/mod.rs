//! Parses a text into statements: the dialect's own by hand, queries and expressions by sqlparser.
//!
//! Every statement is cut off, measured and refused if too long or too deep before anything
//! recursive sees it; see [`super::limits`]. What the catalog stores as text is parsed a second
//! time from its own canonical form, so that nothing is accepted that could not be read back.

mod create;
mod cursor;
mod manage;
mod rows;

use std::ops::Range;

use datafusion::sql::sqlparser::ast::Ident;
use datafusion::sql::sqlparser::tokenizer::TokenWithSpan;

use super::error::ParseError;
use super::limits::{
    self, DEEP_STACK_BYTES, DEPTH_INLINE_MAX, STATEMENT_BYTES_MAX, STATEMENTS_MAX,
};
use super::print::print;
use super::split::{copy_data, piece};
use super::statement::{ExplainTarget, Statement};
use super::tokens;
use cursor::Cursor;

pub use super::split::split_complete;

/// A statement and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// The statement. Spans inside count from the begin of the piece between two `;`.
    pub statement: Statement,
    /// Its bytes in the input, without the `;` and comments around it.
    pub text: Range<usize>,
    /// The rows behind COPY … FROM STDIN.
    pub data: Range<usize>,
}

const STATEMENTS: &str = "Statements are CREATE, ALTER, DROP, SHOW, DESCRIBE, INSERT, UPDATE, DELETE, \
     COPY, SELECT, SUBSCRIBE, EXPLAIN, PAUSE, RESUME, REBUILD, PUNCTUATE and FLUSH.";

/// All statements of a text, or its first error.
pub fn parse_statements(text: &str) -> Result<Vec<Parsed>, ParseError> {
    match parse_prefix(text) {
        (_, Some(error)) => Err(error),
        (parsed, None) => Ok(parsed),
    }
}

/// The one statement of a text.
pub fn parse_statement(text: &str) -> Result<Statement, ParseError> {
    let mut parsed = parse_statements(text)?;
    match parsed.pop() {
        Some(last) if parsed.is_empty() => Ok(last.statement),
        Some(_) => Err(ParseError::NotOneStatement { found: parsed.len() + 1 }),
        None => Err(ParseError::NotOneStatement { found: 0 }),
    }
}

/// The statements before the first error, and that error.
pub fn parse_prefix(text: &str) -> (Vec<Parsed>, Option<ParseError>) {
    let mut parsed = Vec::new();
    let mut from = 0;
    while let Some((piece, next)) = piece(text, from) {
        from = next;
        match parse_piece(&text[piece.clone()], true) {
            Ok(None) => {}
            Ok(Some(_)) if parsed.len() == STATEMENTS_MAX => {
                return (parsed, Some(ParseError::TooManyStatements));
            }
            Ok(Some(Parsed { statement, text: range, .. })) => {
                let range = piece.start + range.start..piece.start + range.end;
                let mut data = from..from;
                if matches!(statement, Statement::Copy { .. }) {
                    (data, from) = copy_data(text, from);
                }
                parsed.push(Parsed { statement, text: range, data });
            }
            Err(error) => {
                let before = text[..piece.start].chars().count();
                return (parsed, Some(error.moved_by(before)));
            }
        }
    }
    (parsed, None)
}

/// The name that an identifier stands for: lower case unless quoted, as DataFusion folds too.
pub(crate) fn fold(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

fn parse_piece(text: &str, verified: bool) -> Result<Option<Parsed>, ParseError> {
    if text.len() > STATEMENT_BYTES_MAX {
        return Err(ParseError::TooLong { bytes: text.len() });
    }
    let tokens = tokens::tokenize(text)?;
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else { return Ok(None) };
    let range = tokens::byte_of(text, first.span.start)..tokens::byte_of(text, last.span.end);
    let statement = match limits::check(&tokens)? {
        0..=DEPTH_INLINE_MAX => parse_tokens(text, tokens, verified),
        _ => on_deep_stack(|| parse_tokens(text, tokens, verified)),
    }?;
    Ok(Some(Parsed { statement, text: range, data: 0..0 }))
}

fn parse_tokens(
    text: &str,
    tokens: Vec<TokenWithSpan>,
    verified: bool,
) -> Result<Statement, ParseError> {
    let statement = cursor::with_cursor(text, tokens, |cursor| {
        let statement = statement(cursor)?;
        cursor.end()?;
        Ok(statement)
    })?;
    if verified && is_stored(&statement) {
        verify(&statement)?;
    }
    Ok(statement)
}

/// Runs on a thread with a large stack, of which only what is used takes memory.
fn on_deep_stack(
    work: impl FnOnce() -> Result<Statement, ParseError> + Send,
) -> Result<Statement, ParseError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("weir-parse".to_owned())
            .stack_size(DEEP_STACK_BYTES)
            .spawn_scoped(scope, work);
        // Where the system has no room for another thread, the statement is too deep for it.
        match thread.map_err(|_| ParseError::TooDeep)?.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn is_stored(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::CreateStream(_)
            | Statement::CreateTable(_)
            | Statement::CreateQuery(_)
            | Statement::CreateSink(_)
    )
}

/// Refuses a definition that would not be the same after a restart.
fn verify(statement: &Statement) -> Result<(), ParseError> {
    let text = print(statement);
    match parse_piece(&text, false) {
        Ok(Some(again)) if again.statement == *statement => Ok(()),
        Err(error @ (ParseError::TooLong { .. } | ParseError::TooManyTokens { .. })) => Err(error),
        _ => Err(ParseError::NotSupported {
            what: "a definition whose text is ambiguous is".to_owned(),
            hint: Some(format!("It would be stored as: {}", shortened(&text, 500))),
            position: None,
        }),
    }
}

/// The first characters of a text, with an ellipsis if there are more.
fn shortened(text: &str, characters: usize) -> String {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn statement(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    let Some(word) = cursor.word(0) else {
        if cursor.is_open_parenthesis() {
            return rows::query_statement(cursor);
        }
        return Err(cursor.unexpected("a statement").with_hint(STATEMENTS));
    };
    match word.as_str() {
        "CREATE" => create::create(cursor),
        "DROP" => manage::drop(cursor),
        "ALTER" => manage::alter(cursor),
        "SHOW" => manage::show(cursor),
        "DESCRIBE" | "DESC" => manage::describe(cursor),
        "PAUSE" | "RESUME" | "REBUILD" => manage::run_state(cursor),
        "SUBSCRIBE" => manage::subscribe(cursor),
        "EXPLAIN" => explain(cursor),
        "FLUSH" => manage::flush(cursor),
        "PUNCTUATE" => rows::punctuate(cursor),
        "INSERT" => rows::insert(cursor),
        "UPDATE" => rows::update(cursor),
        "DELETE" => rows::delete(cursor),
        "COPY" => rows::copy(cursor),
        "SELECT" | "WITH" | "VALUES" => rows::query_statement(cursor),
        _ => Err(cursor.unexpected("a statement").with_hint(STATEMENTS)),
    }
}

fn explain(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    cursor.expect(&["EXPLAIN"])?;
    let analyze = cursor.is_word(0, "ANALYZE") && !cursor.is_last(1);
    if analyze {
        cursor.expect(&["ANALYZE"])?;
    }
    let begins_query = ["SELECT", "WITH", "VALUES"].iter().any(|word| cursor.is_word(0, word));
    let target = if cursor.is_word(0, "CREATE") && !cursor.is_last(1) {
        match create::create(cursor)? {
            Statement::CreateQuery(create) => ExplainTarget::Create(create),
            _ => {
                return Err(ParseError::NotSupported {
                    what: "EXPLAIN of a statement other than a query is".to_owned(),
                    hint: Some("Explain a SELECT, a CREATE CONTINUOUS QUERY or a name.".to_owned()),
                    position: None,
                });
            }
        }
    } else if cursor.is_open_parenthesis() || (begins_query && !cursor.is_last(1)) {
        let query = cursor.query()?;
        let emit = create::emit_clause(cursor)?;
        ExplainTarget::Query(query, emit)
    } else {
        ExplainTarget::Name(cursor.name()?)
    };
    Ok(Statement::Explain { analyze, target })
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
