//! Parses the statements that bring rows in, change them and ask for them.

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::super::error::ParseError;
use super::super::statement::{ConflictUpdate, OnConflict, Statement};
use super::cursor::Cursor;

pub(super) fn query_statement(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    Ok(Statement::Query(cursor.query()?))
}

pub(super) fn punctuate(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    cursor.expect(&["PUNCTUATE"])?;
    let stream = cursor.name()?;
    if !cursor.accept(&["WHERE"]) {
        return Err(cursor
            .unexpected("WHERE")
            .with_hint("Say what no later row matches: PUNCTUATE bids WHERE auction = 17."));
    }
    let predicate = cursor.expression()?;
    Ok(Statement::Punctuate { stream, predicate })
}

pub(super) fn insert(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    cursor.expect(&["INSERT", "INTO"])?;
    let target = cursor.name()?;
    let nested_query = ["SELECT", "WITH", "VALUES"].iter().any(|word| cursor.is_word(1, word))
        && !matches!(
            cursor.parser.peek_nth_token_ref(2).token,
            Token::Comma | Token::RParen | Token::EOF
        );
    let nested_twice = cursor.parser.peek_nth_token_ref(1).token == Token::LParen;
    let columns = match cursor.is_open_parenthesis() && !nested_query && !nested_twice {
        true => cursor.names()?,
        false => vec![],
    };
    if cursor.is_word(0, "DEFAULT") {
        return Err(ParseError::NotSupported {
            what: "DEFAULT VALUES is".to_owned(),
            hint: Some("Write VALUES (…): columns that are left out are NULL.".to_owned()),
            position: Some(cursor.position()),
        });
    }
    let source = cursor.query()?;
    let on_conflict = match cursor.accept(&["ON", "CONFLICT"]) {
        true => Some(on_conflict(cursor)?),
        false => None,
    };
    if cursor.is_word(0, "RETURNING") {
        return Err(ParseError::NotSupported {
            what: "RETURNING in INSERT is".to_owned(),
            hint: Some("Ask for the rows with SELECT.".to_owned()),
            position: Some(cursor.position()),
        });
    }
    Ok(Statement::Insert { target, columns, source, on_conflict })
}

fn on_conflict(cursor: &mut Cursor) -> Result<OnConflict, ParseError> {
    let columns = match cursor.is_open_parenthesis() {
        true => cursor.names()?,
        false => vec![],
    };
    cursor.expect(&["DO"])?;
    if cursor.accept(&["NOTHING"]) {
        return Ok(OnConflict { columns, update: None });
    }
    if columns.is_empty() {
        return Err(cursor.unexpected("the columns of the primary key before DO UPDATE"));
    }
    cursor.expect(&["UPDATE", "SET"])?;
    let (assignments, predicate) = (assignments(cursor)?, predicate(cursor)?);
    Ok(OnConflict { columns, update: Some(ConflictUpdate { assignments, predicate }) })
}

pub(super) fn update(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    cursor.expect(&["UPDATE"])?;
    let target = cursor.name()?;
    cursor.expect(&["SET"])?;
    let (assignments, predicate) = (assignments(cursor)?, predicate(cursor)?);
    Ok(Statement::Update { target, assignments, predicate })
}

fn assignments(cursor: &mut Cursor) -> Result<Vec<(String, Expr)>, ParseError> {
    let mut assignments = Vec::new();
    loop {
        let column = cursor.column_name()?;
        cursor.expect_token(&Token::Eq)?;
        assignments.push((column, cursor.expression()?));
        if !cursor.accept_token(&Token::Comma) {
            return Ok(assignments);
        }
    }
}

pub(super) fn delete(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    cursor.expect(&["DELETE", "FROM"])?;
    let target = cursor.name()?;
    let predicate = predicate(cursor)?;
    Ok(Statement::Delete { target, predicate })
}

fn predicate(cursor: &mut Cursor) -> Result<Option<Expr>, ParseError> {
    match cursor.accept(&["WHERE"]) {
        true => Ok(Some(cursor.expression()?)),
        false => Ok(None),
    }
}

pub(super) fn copy(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    cursor.expect(&["COPY"])?;
    let target = cursor.name()?;
    cursor.expect(&["FROM"])?;
    if !cursor.accept(&["STDIN"]) {
        return Err(cursor
            .unexpected("STDIN")
            .with_hint("The server reads no files; the client sends the rows."));
    }
    cursor.accept(&["WITH"]);
    let options = match cursor.is_last(0) {
        true => vec![],
        false => cursor.options(|cursor| {
            !matches!(cursor.parser.peek_token_ref().token, Token::Comma | Token::RParen)
        })?,
    };
    Ok(Statement::Copy { target, options })
}
