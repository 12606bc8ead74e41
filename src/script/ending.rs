//! Checks what must hold after every script: the last watermark closes everything, once.
//!
//! Every watermarked stream gets a punctuation at the end of time. After it each operator that closes
//! windows by event time has emitted all it will ever emit, so a second one must bring nothing more.
//! Its `state_bytes` count room that is allocated, not rows that are held, so that they are not zero
//! then; what is checked is that they have not grown beyond [`ROOM`].

use std::sync::Arc;

use arrow::datatypes::DataType;

use crate::error::{Error, Result, SqlState};
use crate::planner::window_call::EVENT_TIME_MARK;
use crate::script::session::Session;
use crate::script::show;

/// Bytes that an operator without rows may keep allocated.
const ROOM: u64 = 65_536;

/// Closes everything and looks at what is left.
pub(super) fn check(session: &mut Session) -> Result<()> {
    close_all(session, 0)?;
    let before = offsets(session)?;
    close_all(session, 1)?;
    let after = offsets(session)?;
    if before != after {
        return Err(broken(format!(
            "changes came after the last watermark: next offsets were {before:?}, then {after:?}"
        )));
    }
    let left = rows(
        session,
        "SELECT query, operator, state_bytes FROM weir.operators
         WHERE operator IN ('WindowAggregate', 'SessionAggregate', 'Join') ORDER BY query, node",
    )?;
    for row in left {
        if row[2].parse::<u64>().is_ok_and(|bytes| bytes > ROOM) {
            return Err(broken(format!("state is left after the last watermark: {row:?}")));
        }
    }
    Ok(())
}

fn rows(session: &mut Session, sql: &str) -> Result<Vec<Vec<String>>> {
    Ok(session.sql(sql)?.batches.iter().flat_map(show::rows).collect())
}

/// The next offsets of the queries that run.
fn offsets(session: &mut Session) -> Result<Vec<Vec<String>>> {
    let sql = "SELECT name, next_offset FROM weir.queries WHERE status = 'running' ORDER BY name";
    rows(session, sql)
}

/// Brings the watermark of every stream to the end of time, plus `more`.
fn close_all(session: &mut Session, more: i64) -> Result<()> {
    for row in rows(session, "SHOW STREAMS")? {
        let stream = row[0].replace('"', "\"\"");
        let schema = Arc::clone(&session.engine().stream(&row[0])?.decode_spec().schema);
        let event_time =
            schema.fields().iter().find(|f| f.metadata().contains_key(EVENT_TIME_MARK));
        let Some(field) = event_time else { continue };
        let column = field.name().replace('"', "\"\"");
        let end = match field.data_type() {
            DataType::Timestamp(..) => format!("TIMESTAMP '9999-12-31 00:00:0{more}'"),
            DataType::Date32 => format!("DATE '9999-12-3{more}'"),
            DataType::Int16 => (i64::from(i16::MAX) - 1 + more).to_string(),
            DataType::Int32 => (i64::from(i32::MAX) - 1 + more).to_string(),
            _ => (i64::MAX / 2 + more).to_string(),
        };
        session.sql(&format!("PUNCTUATE \"{stream}\" WHERE \"{column}\" < {end}"))?;
    }
    session.flush()
}

fn broken(message: String) -> Error {
    Error::new(SqlState::INTERNAL, message)
}
