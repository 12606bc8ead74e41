//! Runs `\feed`: sends a file's rows to a stream, at once or at the pace of their event times.

use std::time::Duration;

use serde_json::value::RawValue;

use super::connection::{Failure, Receipt, text_of};
use super::feed_rows::{Chunk, FeedRows, Pace};
use super::session::{Flow, Session};
use super::table::{self, Format};
use crate::time::{Clock, SystemClock};

/// How the command is written.
const USAGE: &str = "write \\feed stream file [speed=10x] [time=COLUMN]";
/// Rows that come due within this time are sent together, in seconds.
const STEP_SECONDS: f64 = 0.1;
/// Refused rows that are shown.
const ERRORS_SHOWN: usize = 5;

/// What the user asked for.
#[derive(Debug, PartialEq)]
struct Request {
    stream: String,
    file: String,
    /// Seconds of event time a second; `None`: as fast as the server takes rows.
    speed: Option<f64>,
    time: Option<String>,
}

/// What became of all rows so far.
#[derive(Debug, Default)]
struct Total {
    accepted: u64,
    rejected: u64,
    errors: Vec<String>,
}

/// Runs `\feed` with what follows it on the line.
pub(super) fn run(session: &mut Session, rest: &str) -> Flow {
    let request = match parse(rest) {
        Ok(request) => request,
        Err(why) => return session.complain(&why),
    };
    let pace = match pace(session, &request) {
        Ok(pace) => pace,
        Err(flow) => return flow,
    };
    let mut rows = match FeedRows::open(&request.file, pace) {
        Ok(rows) => rows,
        Err(why) => return session.complain(&why),
    };
    let mut total = Total::default();
    let flow = send_all(session, &request, &mut rows, &mut total);
    if flow != Flow::Go && total.accepted + total.rejected == 0 {
        // Nothing came of it that the error does not say.
        return flow;
    }
    let shown = report(session, &total);
    if flow == Flow::Go { shown } else { flow }
}

/// Splits the line; a file with blanks in its name stands in quotes.
fn parse(rest: &str) -> Result<Request, String> {
    let mut words = words(rest)?.into_iter();
    let (Some(stream), Some(file)) = (words.next(), words.next()) else {
        return Err(USAGE.into());
    };
    let mut request = Request { stream, file, speed: None, time: None };
    for word in words {
        match word.split_once('=') {
            Some(("speed", speed)) => {
                let factor = speed.trim_end_matches(['x', 'X']).parse::<f64>().ok();
                let factor = factor.filter(|factor| factor.is_finite() && *factor > 0.0);
                let wrong = || format!("\"{speed}\" is not a speed; write one as in speed=10x");
                request.speed = Some(factor.ok_or_else(wrong)?);
            }
            Some(("time", column)) if !column.is_empty() => request.time = Some(column.into()),
            _ => return Err(format!("\"{word}\" is not an option; {USAGE}")),
        }
    }
    // Times are of use for a pace only, so who names them wants one.
    if request.time.is_some() {
        request.speed.get_or_insert(1.0);
    }
    Ok(request)
}

fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            Some(_) | None => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("a quote is not closed; {USAGE}"));
    }
    words.extend(word);
    Ok(words)
}

/// The column and step of a replay; without `time=` the stream's first column of times.
fn pace(session: &mut Session, request: &Request) -> Result<Option<Pace>, Flow> {
    let Some(speed) = request.speed else { return Ok(None) };
    // A float beyond the whole numbers becomes the greatest of them.
    let span = (speed * STEP_SECONDS * 1e6) as i64;
    if let Some(column) = &request.time {
        return Ok(Some(Pace { column: column.clone(), span }));
    }
    let describe = format!("DESCRIBE \"{}\"", request.stream.replace('"', "\"\""));
    let answer = match session.connection.rows(&describe) {
        Ok(answer) => answer,
        Err(failure) => return Err(session.fail(&failure, &describe)),
    };
    let has_time = |row: &&Vec<Box<RawValue>>| {
        let mut types = row.iter().skip(1).filter_map(|value| text_of(value));
        types.any(|text| text.to_ascii_uppercase().starts_with("TIMESTAMP"))
    };
    let column = answer.rows.iter().find(has_time).and_then(|row| text_of(row.first()?));
    match column {
        Some(column) => Ok(Some(Pace { column, span })),
        None => {
            let why = "the stream has no column of times; name one with time=COLUMN";
            Err(session.complain(why))
        }
    }
}

fn send_all(
    session: &mut Session,
    request: &Request,
    rows: &mut FeedRows,
    total: &mut Total,
) -> Flow {
    let start = SystemClock.now();
    let mut first_time = None;
    loop {
        let chunk = match rows.next_chunk() {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Flow::Go,
            Err(why) => return session.complain(&why),
        };
        if let (Some(time), Some(speed)) = (chunk.time, request.speed) {
            let first = *first_time.get_or_insert(time);
            let due = time.saturating_sub(first) as f64 / 1e6 / speed;
            let passed = SystemClock.now().saturating_sub(start) as f64 / 1e6;
            // A wait beyond what a duration holds is one until Ctrl-C.
            let wait = Duration::try_from_secs_f64((due - passed).max(0.0));
            if session.interrupt.wait(wait.unwrap_or(Duration::MAX)) {
                return session.complain("the file is not sent to its end");
            }
        }
        match send(session, request, rows.kind().content_type(), chunk) {
            None => return session.complain("the file is not sent to its end"),
            Some(Ok((chunk, receipt))) => total.add(&chunk, &receipt),
            Some(Err(failure)) => return session.fail(&failure, ""),
        }
    }
}

/// Sends one chunk; `None` when Ctrl-C came first.
fn send(
    session: &Session,
    request: &Request,
    kind: &'static str,
    chunk: Chunk,
) -> Option<Result<(Chunk, Receipt), Failure>> {
    let (connection, stream) = (session.connection.clone(), request.stream.clone());
    session
        .interrupt
        .run(move || connection.send(&stream, kind, &chunk.bytes).map(|receipt| (chunk, receipt)))
}

impl Total {
    fn add(&mut self, chunk: &Chunk, receipt: &Receipt) {
        self.accepted += receipt.accepted;
        self.rejected += receipt.rejected;
        let room = ERRORS_SHOWN.saturating_sub(self.errors.len());
        self.errors.extend(receipt.errors.iter().take(room).map(|error| {
            format!("line {}: {}", chunk.line_of_file(error.line), table::visible(&error.message))
        }));
    }
}

/// Refused rows are told on standard error; the count is for people.
fn report(session: &mut Session, total: &Total) -> Flow {
    for error in &total.errors {
        session.complain(error);
    }
    if session.settings.format != Format::Table {
        return Flow::Go;
    }
    session.show(|out| match total.rejected {
        0 => writeln!(out, "FEED {}", total.accepted),
        rejected => writeln!(out, "FEED {} ({rejected} rejected)", total.accepted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_stream_file_and_pace() {
        let request = parse("clicks 'my file.csv' speed=10x time=at").unwrap();
        let expected = Request {
            stream: "clicks".into(),
            file: "my file.csv".into(),
            speed: Some(10.0),
            time: Some("at".into()),
        };
        assert_eq!(request, expected);
        assert_eq!(parse("a b").unwrap().speed, None);
        assert_eq!(parse("a b time=at").unwrap().speed, Some(1.0));
        assert_eq!(parse("a b speed=0.5").unwrap().speed, Some(0.5));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for text in ["", "clicks", "a b speed=0", "a b speed=-1x", "a b speed=NaN", "a b c", "a 'b"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("a b fast=1").unwrap_err().contains("\"fast=1\" is not an option"));
    }
}
