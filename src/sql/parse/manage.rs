//! Parses the statements that manage objects and watch them.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::super::error::ParseError;
use super::super::statement::{AlterOptions, ObjectKind, Statement, SubscribeFrom};
use super::cursor::Cursor;

pub(super) fn drop(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    cursor.expect(&["DROP"])?;
    let Some(kind) = kind(cursor) else {
        let error = cursor.unexpected("STREAM, TABLE, CONTINUOUS QUERY, MATERIALIZED VIEW or SINK");
        return Err(match cursor.is_word(0, "VIEW") {
            true => error.with_hint("Write DROP MATERIALIZED VIEW."),
            false => error,
        });
    };
    let if_exists = cursor.accept(&["IF", "EXISTS"]);
    let name = cursor.name()?;
    let cascade = cursor.accept(&["CASCADE"]);
    if !cascade {
        cursor.accept(&["RESTRICT"]);
    }
    Ok(Statement::Drop { kind, name, if_exists, cascade })
}

/// ALTER … SET and RESET of options.
pub(super) fn alter(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    cursor.expect(&["ALTER"])?;
    let Some(kind) = kind(cursor) else {
        return Err(cursor.unexpected("STREAM, CONTINUOUS QUERY or MATERIALIZED VIEW"));
    };
    let name = cursor.name()?;
    let (mut set, mut reset) = (Vec::new(), Vec::new());
    if cursor.accept(&["SET"]) {
        set = cursor.options(|cursor| cursor.accept_token(&Token::Eq))?;
    } else if cursor.accept(&["RESET"]) {
        reset = cursor.names()?;
    } else {
        return Err(cursor.unexpected("SET or RESET"));
    }
    Ok(Statement::Alter(AlterOptions { kind, name, set, reset }))
}

/// The kind of an object, if it is written here.
fn kind(cursor: &mut Cursor) -> Option<ObjectKind> {
    let kinds: [(&[&str], ObjectKind); 6] = [
        (&["STREAM"], ObjectKind::Stream),
        (&["TABLE"], ObjectKind::Table),
        (&["CONTINUOUS", "QUERY"], ObjectKind::Query),
        (&["QUERY"], ObjectKind::Query),
        (&["MATERIALIZED", "VIEW"], ObjectKind::Query),
        (&["SINK"], ObjectKind::Sink),
    ];
    kinds.into_iter().find(|(words, _)| cursor.accept(words)).map(|(_, kind)| kind)
}

pub(super) fn show(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    cursor.expect(&["SHOW"])?;
    let kinds: [(&[&str], ObjectKind); 6] = [
        (&["STREAMS"], ObjectKind::Stream),
        (&["TABLES"], ObjectKind::Table),
        (&["QUERIES"], ObjectKind::Query),
        (&["CONTINUOUS", "QUERIES"], ObjectKind::Query),
        (&["MATERIALIZED", "VIEWS"], ObjectKind::Query),
        (&["SINKS"], ObjectKind::Sink),
    ];
    match kinds.into_iter().find(|(words, _)| cursor.accept(words)) {
        Some((_, kind)) => Ok(Statement::Show(kind)),
        None => Err(cursor.unexpected("STREAMS, TABLES, QUERIES or SINKS")),
    }
}

pub(super) fn describe(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    if !cursor.accept(&["DESC"]) {
        cursor.expect(&["DESCRIBE"])?;
    }
    if cursor.is_name(1) {
        kind(cursor);
    }
    // System relations are the only ones with a schema.
    if cursor.is_word(0, "WEIR") && !cursor.is_last(1) {
        cursor.parser.advance_token();
        cursor.expect_token(&Token::Period)?;
        return Ok(Statement::Describe(format!("weir.{}", cursor.name()?)));
    }
    Ok(Statement::Describe(cursor.name()?))
}

/// PAUSE, RESUME and REBUILD of a continuous query; the first two also of a sink.
pub(super) fn run_state(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    let make = if cursor.accept(&["PAUSE"]) {
        Statement::Pause
    } else if cursor.accept(&["RESUME"]) {
        Statement::Resume
    } else {
        cursor.expect(&["REBUILD"])?;
        Statement::Rebuild
    };
    // A query may be named like one of these words.
    if cursor.is_name(1) {
        let kinds: [&[&str]; 4] =
            [&["QUERY"], &["CONTINUOUS", "QUERY"], &["MATERIALIZED", "VIEW"], &["SINK"]];
        kinds.into_iter().find(|words| cursor.accept(words));
    }
    Ok(make(cursor.name()?))
}

pub(super) fn subscribe(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    cursor.expect(&["SUBSCRIBE"])?;
    if cursor.is_word(0, "TO") && cursor.is_name(1) && !cursor.is_word(1, "FROM") {
        cursor.accept(&["TO"]);
    }
    let query = cursor.name()?;
    let from = if !cursor.accept(&["FROM"]) || cursor.accept(&["NOW"]) {
        SubscribeFrom::Now
    } else if cursor.accept(&["EARLIEST"]) {
        SubscribeFrom::Earliest
    } else if cursor.accept(&["OFFSET"]) {
        SubscribeFrom::Offset(cursor.unsigned("offset")?)
    } else {
        return Err(cursor.unexpected("NOW, EARLIEST or OFFSET n"));
    };
    let snapshot = cursor.accept(&["WITH"]);
    if snapshot {
        cursor.expect(&["SNAPSHOT"])?;
    }
    Ok(Statement::Subscribe { query, from, snapshot })
}

pub(super) fn flush(cursor: &mut Cursor) -> Result<Statement, ParseError> {
    cursor.expect(&["FLUSH"])?;
    let sink = match cursor.accept(&["SINK"]) {
        true => Some(cursor.name()?),
        false => None,
    };
    Ok(Statement::Flush { sink })
}
