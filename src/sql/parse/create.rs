//! Parses CREATE STREAM, TABLE, CONTINUOUS QUERY and SINK, with the clauses that belong to them.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::super::error::ParseError;
use super::super::print::is_reserved_column;
use super::super::statement::{
    ColumnDefinition, CreateQuery, CreateSink, CreateStream, CreateTable, EmitClause, EmitEvery,
    EmitModeClause, Overload, RefinementClause, Statement, WatermarkClause,
};
use super::super::types::arrow_type;
use super::cursor::Cursor;

const WATERMARK: &str = "Write WATERMARK FOR at AS at - INTERVAL '5' SECOND.";
const EMIT: &str = "Write EMIT ON CLOSE, EMIT CHANGES, or EMIT EVERY {INTERVAL '1 second' | 100 \
     ROWS} [ON CLOSE] [LATE EVERY ROW] [RETRACTING | ACCUMULATING | DISCARDING], then ALLOWED \
     LATENESS INTERVAL '2 minutes' [LATE ROWS TO stream].";
const CREATE: &str = "Write CREATE STREAM, CREATE TABLE, CREATE CONTINUOUS QUERY, CREATE \
     MATERIALIZED VIEW or CREATE SINK.";

pub(super) fn create(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    cursor.expect(&["CREATE"])?;
    let or_replace = cursor.accept(&["OR", "REPLACE"]);
    if cursor.accept(&["CONTINUOUS", "QUERY"]) || cursor.accept(&["MATERIALIZED", "VIEW"]) {
        return create_query(cursor, or_replace);
    }
    if or_replace {
        return Err(cursor.unexpected("CONTINUOUS QUERY or MATERIALIZED VIEW").with_hint(
            "Only continuous queries can be replaced; drop the object and create it again.",
        ));
    }
    if cursor.accept(&["STREAM"]) {
        return create_stream(cursor);
    }
    if cursor.accept(&["TABLE"]) {
        return create_table(cursor);
    }
    if cursor.accept(&["SINK"]) {
        return create_sink(cursor);
    }
    let hint = match cursor.word(0).as_deref() {
        Some("VIEW") => {
            "Write CREATE MATERIALIZED VIEW: every query that has a name is kept up to date."
        }
        Some("QUERY") => "Write CREATE CONTINUOUS QUERY.",
        _ => CREATE,
    };
    Err(cursor.unexpected("STREAM, TABLE, CONTINUOUS QUERY or SINK").with_hint(hint))
}

fn if_not_exists(cursor: &mut Cursor) -> bool {
    cursor.accept(&["IF", "NOT", "EXISTS"])
}

/// What stands between the parentheses of CREATE STREAM and CREATE TABLE.
#[derive(Default)]
struct Body {
    columns: Vec<ColumnDefinition>,
    watermark: Option<WatermarkClause>,
    primary_key: Vec<String>,
}

fn create_stream(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    let if_not_exists = if_not_exists(cursor);
    let name = cursor.name()?;
    let at = cursor.position();
    let Body { columns, watermark, primary_key } = body(cursor)?;
    if !primary_key.is_empty() {
        return Err(ParseError::NotSupported {
            what: "PRIMARY KEY of a stream is".to_owned(),
            hint: Some("A stream keeps every row; CREATE TABLE has keys.".to_owned()),
            position: Some(at),
        });
    }
    let options = cursor.with_options()?;
    let overload = overload(cursor)?;
    Ok(Statement::CreateStream(CreateStream {
        name,
        if_not_exists,
        columns,
        watermark,
        options,
        overload,
    }))
}

fn create_table(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    let if_not_exists = if_not_exists(cursor);
    let name = cursor.name()?;
    let at = cursor.position();
    let Body { mut columns, watermark, primary_key } = body(cursor)?;
    if watermark.is_some() {
        return Err(ParseError::NotSupported {
            what: "WATERMARK of a table is".to_owned(),
            hint: Some("Only CREATE STREAM has a watermark.".to_owned()),
            position: Some(at),
        });
    }
    for column in &mut columns {
        column.not_null |= primary_key.contains(&column.name);
    }
    let options = cursor.with_options()?;
    Ok(Statement::CreateTable(CreateTable { name, if_not_exists, columns, primary_key, options }))
}

fn body(cursor: &mut Cursor) -> Result<Body, ParseError> {
    let mut body = Body::default();
    cursor.expect_token(&Token::LParen)?;
    loop {
        if cursor.is_word(0, "WATERMARK") && cursor.is_word(1, "FOR") {
            if body.watermark.is_some() {
                return Err(cursor.unexpected("one WATERMARK only"));
            }
            let clause = watermark(cursor);
            body.watermark = Some(clause.map_err(|error| error.with_hint(WATERMARK))?);
        } else if cursor.is_word(0, "PRIMARY") && cursor.is_word(1, "KEY") {
            if !body.primary_key.is_empty() {
                return Err(cursor.unexpected("one PRIMARY KEY only"));
            }
            cursor.expect(&["PRIMARY", "KEY"])?;
            body.primary_key = cursor.names()?;
        } else {
            let is_watermark = cursor.is_word(0, "WATERMARK");
            column(cursor, &mut body).map_err(|error| match is_watermark {
                true => error.with_hint(WATERMARK),
                false => error,
            })?;
            if is_watermark && cursor.is_word(0, "AS") {
                return Err(cursor.unexpected("\",\" or \")\"").with_hint(WATERMARK));
            }
        }
        if !cursor.accept_token(&Token::Comma) {
            break;
        }
    }
    cursor.expect_token(&Token::RParen)?;
    Ok(body)
}

fn watermark(cursor: &mut Cursor) -> Result<WatermarkClause, ParseError> {
    cursor.expect(&["WATERMARK", "FOR"])?;
    let column = cursor.column_name()?;
    cursor.expect(&["AS"])?;
    let expression = cursor.expression()?;
    Ok(WatermarkClause { column, expression })
}

fn column(cursor: &mut Cursor, body: &mut Body) -> Result<(), ParseError> {
    if let Some(word) = cursor.word(0).map(|word| word.to_ascii_lowercase())
        && is_reserved_column(&word)
    {
        let hint = format!("The word is reserved; in quotes it is a name: \"{word}\".");
        return Err(cursor.unexpected("a name").with_hint(&hint));
    }
    let name = cursor.column_name()?;
    let at = cursor.location();
    let data_type = cursor.parser.parse_data_type();
    let data_type = cursor.lift(data_type)?;
    arrow_type(&data_type).map_err(|error| error.at(cursor.position_at(at)))?;
    let mut not_null = false;
    loop {
        if cursor.accept(&["NOT", "NULL"]) {
            not_null = true;
        } else if cursor.is_word(0, "PRIMARY") && body.primary_key.is_empty() {
            cursor.expect(&["PRIMARY", "KEY"])?;
            body.primary_key.push(name.clone());
            not_null = true;
        } else if not_null || !cursor.accept(&["NULL"]) {
            break;
        }
    }
    if let Some(word @ ("DEFAULT" | "UNIQUE" | "CHECK" | "REFERENCES" | "GENERATED")) =
        cursor.word(0).as_deref()
    {
        return Err(ParseError::NotSupported {
            what: format!("{word} of a column is"),
            hint: Some("A column has a type, and may be NOT NULL or PRIMARY KEY.".to_owned()),
            position: Some(cursor.position()),
        });
    }
    body.columns.push(ColumnDefinition { name, data_type, not_null });
    Ok(())
}

fn overload(cursor: &mut Cursor) -> Result<Option<Overload>, ParseError> {
    if !cursor.accept(&["ON"]) {
        return Ok(None);
    }
    cursor.expect(&["OVERLOAD"])?;
    Ok(Some(if cursor.accept(&["BLOCK"]) {
        Overload::Block
    } else if cursor.accept(&["DROP", "OLDEST"]) {
        Overload::DropOldest
    } else if cursor.accept(&["SHED", "RANDOM"]) {
        Overload::ShedRandom
    } else if cursor.accept(&["SHED", "KEYS"]) {
        Overload::ShedKeys(cursor.names()?)
    } else {
        return Err(cursor.unexpected("BLOCK, DROP OLDEST, SHED RANDOM or SHED KEYS (columns)"));
    }))
}

fn create_query(cursor: &mut Cursor, or_replace: bool) -> Result<Statement, ParseError> {
    let if_not_exists = if_not_exists(cursor);
    let name = cursor.name()?;
    let options = cursor.with_options()?;
    cursor.expect(&["AS"])?;
    let query = cursor.query()?;
    let emit = emit_clause(cursor)?;
    // A misspelt EMIT was taken for an alias of the last table.
    let stray = ["CHANGES", "CLOSE", "EVERY", "ON", "LATE", "LATENESS"];
    if let Some(word) = cursor.word(0)
        && (stray.contains(&word.as_str()) || word.starts_with("EMIT"))
    {
        return Err(cursor.unexpected("the end of the statement").with_hint(EMIT));
    }
    Ok(Statement::CreateQuery(Box::new(CreateQuery {
        name,
        if_not_exists,
        or_replace,
        options,
        query,
        emit,
    })))
}

/// EMIT …, ALLOWED LATENESS … and LATE ROWS TO …, as far as they stand here.
pub(super) fn emit_clause(cursor: &mut Cursor) -> Result<EmitClause, ParseError> {
    let clause = emit_parts(cursor);
    clause.map_err(|error| error.with_hint(EMIT))
}

fn emit_parts(cursor: &mut Cursor) -> Result<EmitClause, ParseError> {
    let mode = match cursor.accept(&["EMIT"]) {
        true => Some(emit_mode(cursor)?),
        false => None,
    };
    let allowed_lateness = match cursor.accept(&["ALLOWED"]) {
        true => {
            cursor.expect(&["LATENESS"])?;
            Some(cursor.expression()?)
        }
        false => None,
    };
    let late_rows_to = match cursor.accept(&["LATE", "ROWS"]) {
        true => {
            cursor.expect(&["TO"])?;
            Some(cursor.name()?)
        }
        false => None,
    };
    Ok(EmitClause { mode, allowed_lateness, late_rows_to })
}

fn emit_mode(cursor: &mut Cursor) -> Result<EmitModeClause, ParseError> {
    if cursor.accept(&["ON", "CLOSE"]) {
        return Ok(EmitModeClause::OnClose);
    }
    if cursor.accept(&["CHANGES"]) {
        return Ok(EmitModeClause::Changes);
    }
    if !cursor.accept(&["EVERY"]) {
        return Err(cursor.unexpected("ON CLOSE, CHANGES or EVERY"));
    }
    let every = emit_every(cursor)?;
    let on_close = cursor.accept(&["ON", "CLOSE"]);
    let late_every_row = cursor.accept(&["LATE", "EVERY", "ROW"]);
    let refinement = if cursor.accept(&["RETRACTING"]) {
        Some(RefinementClause::Retracting)
    } else if cursor.accept(&["ACCUMULATING"]) {
        Some(RefinementClause::Accumulating)
    } else if cursor.accept(&["DISCARDING"]) {
        Some(RefinementClause::Discarding)
    } else {
        None
    };
    Ok(EmitModeClause::Every { every, on_close, late_every_row, refinement })
}

fn emit_every(cursor: &mut Cursor) -> Result<EmitEvery, ParseError> {
    if !matches!(cursor.parser.peek_token_ref().token, Token::Number(..)) {
        return Ok(EmitEvery::Interval(cursor.expression()?));
    }
    let at = cursor.position();
    let rows = cursor.unsigned("number of rows")?;
    if rows == 0 {
        return Err(ParseError::OutOfRange {
            what: "EMIT EVERY needs at least 1 row".to_owned(),
            position: Some(at),
        });
    }
    if !cursor.accept(&["ROW"]) {
        cursor.expect(&["ROWS"])?;
    }
    Ok(EmitEvery::Rows(rows))
}

fn create_sink(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    let if_not_exists = if_not_exists(cursor);
    let name = cursor.name()?;
    cursor.expect(&["FROM"])?;
    let from = cursor.name()?;
    cursor.expect(&["INTO"])?;
    let Some(into) = cursor.word(0) else {
        return Err(cursor.unexpected("POSTGRES, SQLITE, MYSQL, FILE or WEBHOOK"));
    };
    if !["POSTGRES", "SQLITE", "MYSQL", "FILE", "WEBHOOK"].contains(&into.as_str()) {
        return Err(cursor
            .unexpected("POSTGRES, SQLITE, MYSQL, FILE or WEBHOOK")
            .with_hint("Write CREATE SINK s FROM q INTO POSTGRES WITH (url = '…', table = '…')."));
    }
    cursor.expect(&[&into])?;
    let options = cursor.with_options()?;
    Ok(Statement::CreateSink(CreateSink { name, if_not_exists, from, into, options }))
}
