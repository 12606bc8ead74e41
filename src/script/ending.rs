//! Checks what must hold after every script: the last watermark closes everything, once, and nothing stays.
//!
//! Every watermarked stream gets a punctuation at the end of time, and the clock goes on for years. After it
//! each operator that closes windows by time has emitted all it will ever emit, so a second one must
//! bring nothing more. An operator of which EXPLAIN says that its rows leave when the watermark passes
//! holds none then. Its bytes are those of room that is allocated: not zero, but at most [`ROOM`].
//!
//! What EXPLAIN calls unbounded, or bounded by something else (one group, so many rows, a table as it is
//! now), may stay.

use std::sync::Arc;

use arrow::datatypes::DataType;

use crate::error::{Error, Result, SqlState};
use crate::planner::window_call::EVENT_TIME_MARK;
use crate::script::session::Session;
use crate::script::show;
use crate::time::SECOND;

/// Bytes that an operator without rows may keep allocated.
const ROOM: u64 = 65_536;

/// How far the clock goes on.
const YEARS: i64 = 3_000 * 86_400 * SECOND;

/// Closes everything and looks at what is left.
pub(super) fn check(session: &mut Session) -> Result<()> {
    close_all(session, 0)?;
    session.advance(YEARS)?;
    let before = offsets(session)?;
    close_all(session, 1)?;
    session.advance(SECOND)?;
    let after = offsets(session)?;
    if before != after {
        return Err(broken(format!(
            "changes came after the last watermark: next offsets were {before:?}, then {after:?}"
        )));
    }
    before.iter().try_for_each(|query| check_state(session, &query[0]))
}

/// Whether the operators of a query hold what should have left.
fn check_state(session: &mut Session, query: &str) -> Result<()> {
    let plan = rows(session, &format!("EXPLAIN \"{}\"", query.replace('"', "\"\"")))?;
    let plan: Vec<&str> = plan.iter().map(|row| row[0].trim_start()).collect();
    // A node's line, that of its state and that of its output; sources are no operators.
    let nodes = plan.chunks(3).filter(|lines| !lines[0].starts_with("Source"));
    let leaves = nodes.map(|lines| lines.get(1).is_some_and(|state| leaves_with_time(state)));
    let held = rows(
        session,
        &format!(
            "SELECT operator, held, state_bytes FROM weir.operators WHERE query = '{}' ORDER BY node",
            query.replace('\'', "''")
        ),
    )?;
    for (operator, leaves) in held.iter().zip(leaves) {
        let bytes = operator[2].parse().unwrap_or(u64::MAX);
        if leaves && (operator[1] != "0" || bytes > ROOM) {
            return Err(broken(format!(
                "state is left in query \"{query}\" after the last watermark: {operator:?}"
            )));
        }
    }
    Ok(())
}

/// Whether all of what is held leaves with the watermark, by the words of EXPLAIN.
fn leaves_with_time(state: &str) -> bool {
    state.starts_with("state bounded") && state.contains("watermark passes")
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
