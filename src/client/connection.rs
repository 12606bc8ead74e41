//! Calls the server over HTTP and reads what it answers.

use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use ureq::{Agent, Body, http};

/// How long a connection may take to come about.
const CONNECT_WAIT: Duration = Duration::from_secs(5);

/// A server.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    base: String,
    agent: Agent,
}

/// A column of an answer.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Column {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) type_name: String,
}

/// What one statement answered.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Answer {
    pub(super) tag: String,
    #[serde(default)]
    pub(super) columns: Vec<Column>,
    /// Values as the server wrote them: to read them would lose digits and the order of keys.
    #[serde(default)]
    pub(super) rows: Vec<Vec<Box<RawValue>>>,
}

/// The characters of a value that is a text.
pub(super) fn text_of(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// What `POST /v1/sql` answered.
#[derive(Debug)]
pub(super) enum Reply {
    /// All results.
    Answers(Vec<Answer>),
    /// Frames of a subscription, one a line.
    Frames(Frames),
}

/// The lines of a subscription.
pub(super) struct Frames(BufReader<ureq::BodyReader<'static>>);

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Frames")
    }
}

impl Iterator for Frames {
    type Item = String;
    fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        matches!(self.0.read_line(&mut line), Ok(1..)).then_some(line)
    }
}

/// What the server says is wrong.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct SqlError {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
    pub(super) position: Option<usize>,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// No server answers there.
    Unreachable(String),
    /// The server refused.
    Sql(SqlError),
}

/// What became of rows that were sent.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Receipt {
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    #[serde(default)]
    pub(super) errors: Vec<RowError>,
}

/// A row that was refused.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RowError {
    pub(super) line: u64,
    pub(super) message: String,
}

#[derive(Deserialize)]
struct Results {
    results: Vec<Answer>,
}

#[derive(Deserialize)]
struct Refusal {
    error: SqlError,
}

impl Connection {
    /// The server at an address; nothing is sent yet.
    pub(super) fn new(host: &str, port: u16) -> Connection {
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_WAIT))
            .proxy(None)
            .build();
        Connection { base: format!("http://{host}:{port}"), agent: Agent::new_with_config(config) }
    }

    /// Where it is.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Runs statements.
    pub(super) fn sql(&self, text: &str) -> Result<Reply, Failure> {
        let call = self.agent.post(format!("{}/v1/sql", self.base)).content_type("text/plain");
        let response = accept(call.send(text))?;
        let kind = response.headers().get(http::header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-ndjson")) {
            return Ok(Reply::Frames(Frames(BufReader::new(unlimited(response)))));
        }
        read::<Results>(response).map(|results| Reply::Answers(results.results))
    }

    /// Runs statements that answer rows, and gives the last answer.
    pub(super) fn rows(&self, text: &str) -> Result<Answer, Failure> {
        let nothing = Answer { tag: String::new(), columns: Vec::new(), rows: Vec::new() };
        match self.sql(text)? {
            Reply::Answers(mut answers) => Ok(answers.pop().unwrap_or(nothing)),
            Reply::Frames(_) => Ok(nothing),
        }
    }

    /// What a path answers.
    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        read(accept(self.agent.get(format!("{}{path}", self.base)).call())?)
    }

    /// Sends rows.
    pub(super) fn send(&self, stream: &str, kind: &str, rows: &[u8]) -> Result<Receipt, Failure> {
        let url = format!("{}/v1/streams/{}", self.base, path_segment(stream));
        read(accept(self.agent.post(url).content_type(kind).send(rows))?)
    }
}

/// A name as a part of a path.
pub(super) fn path_segment(name: &str) -> String {
    let mut out = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Sorts out errors of the connection and of the server.
fn accept(
    sent: Result<http::Response<Body>, ureq::Error>,
) -> Result<http::Response<Body>, Failure> {
    let response = sent.map_err(|error| Failure::Unreachable(error.to_string()))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let text = std::io::read_to_string(unlimited(response))
        .map_err(|error| Failure::Unreachable(error.to_string()))?;
    let refusal = serde_json::from_str::<Refusal>(&text);
    Err(Failure::Sql(refusal.map(|refusal| refusal.error).unwrap_or_else(|_| SqlError {
        code: "08P01".into(),
        message: format!("the server answered status {status}"),
        hint: Some("Is it a Weir server that listens there?".into()),
        ..SqlError::default()
    })))
}

fn unlimited(response: http::Response<Body>) -> ureq::BodyReader<'static> {
    response.into_body().into_with_config().limit(u64::MAX).reader()
}

fn read<T: serde::de::DeserializeOwned>(response: http::Response<Body>) -> Result<T, Failure> {
    let reader = BufReader::new(unlimited(response));
    serde_json::from_reader(reader).map_err(|error| {
        Failure::Sql(SqlError {
            code: "08P01".into(),
            message: "the server's answer cannot be read".into(),
            detail: Some(error.to_string()),
            ..SqlError::default()
        })
    })
}
