//! What was delivered as files or requests, as a table that SQL can be asked of.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value};

use super::fixture::Database;
use crate::encode::json;
use crate::sinks::file::FileTarget;
use crate::sinks::file_format::FileFormat;
use crate::sinks::sink::SinkTarget;
use crate::sinks::webhook::{WebhookSettings, WebhookTarget};

type Row = Map<String, Value>;
/// The rows of each key, in the order of their arrival.
type Taken = Vec<(String, Vec<Row>)>;

/// Asks a table `t` of the rows.
fn query(rows: &[Row], sql: &str) -> Vec<String> {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    let create = "CREATE TABLE t (k TEXT, n BIGINT, weir_offset BIGINT, weir_op BIGINT)";
    connection.execute_batch(create).unwrap();
    for row in rows {
        let text = row["k"].as_str();
        let number = |name: &str| row.get(name).and_then(Value::as_i64);
        let values = (text, number("n"), number("weir_offset"), number("weir_op"));
        connection.execute("INSERT INTO t VALUES (?1, ?2, ?3, ?4)", values).unwrap();
    }
    // As in the databases of the suite, nulls come where it does not matter.
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let line = |row: &rusqlite::Row<'_>| {
        let field = |i| row.get::<_, rusqlite::types::Value>(i).unwrap();
        let text = |i| match field(i) {
            rusqlite::types::Value::Null => "∅".to_owned(),
            rusqlite::types::Value::Integer(value) => value.to_string(),
            rusqlite::types::Value::Text(value) => value,
            other => format!("{other:?}"),
        };
        Ok((0..columns).map(text).collect::<Vec<String>>().join("|"))
    };
    statement.query_map([], line).unwrap().map(Result::unwrap).collect()
}

/// A directory of files of one format.
pub(super) struct Files {
    folder: tempfile::TempDir,
    pub(super) format: FileFormat,
}

impl Files {
    pub(super) fn new(format: FileFormat) -> Files {
        Files { folder: tempfile::tempdir().unwrap(), format }
    }

    /// The directory; it is not there before the sink makes it.
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// The names in the directory, in order.
    pub(super) fn names(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path()) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The rows of all finished files, in the order of their names.
    pub(super) fn rows(&self) -> Vec<Row> {
        let end = format!(".{}", self.format.extension());
        let names = self.names();
        let finished = names.iter().filter(|name| name.ends_with(&end) && !name.starts_with('.'));
        finished.flat_map(|name| read(self.format, &self.path().join(name))).collect()
    }
}

impl Database for Files {
    fn target(&self) -> Box<dyn SinkTarget> {
        Box::new(FileTarget::new(self.path(), self.format))
    }

    fn sql(&self, sql: &str) -> Vec<String> {
        query(&self.rows(), sql)
    }

    fn clear(&self) {
        std::fs::remove_dir_all(self.path()).ok();
    }
}

/// The rows of a file, read by other code than wrote it where there is any.
pub(super) fn read(format: FileFormat, path: &Path) -> Vec<Row> {
    let parse = |line: &str| serde_json::from_str::<Row>(line).unwrap();
    match format {
        FileFormat::Ndjson => std::fs::read_to_string(path).unwrap().lines().map(parse).collect(),
        FileFormat::Csv => {
            let text = std::fs::read_to_string(path).unwrap();
            let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<&str>>());
            let header = lines.next().unwrap();
            let value = |text: &str| match text {
                "" => Value::Null,
                number if number.parse::<i64>().is_ok() => number.parse::<i64>().unwrap().into(),
                text => text.into(),
            };
            let row = |fields: Vec<&str>| {
                let fields = header.iter().zip(fields);
                fields.map(|(name, text)| ((*name).to_owned(), value(text))).collect()
            };
            lines.map(row).collect()
        }
        FileFormat::Parquet => {
            let file = std::fs::File::open(path).unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
            let mut out = Vec::new();
            for batch in reader {
                json::write_ndjson(&batch.unwrap(), &mut out);
            }
            std::str::from_utf8(&out).unwrap().lines().map(parse).collect()
        }
    }
}

/// A request as the receiver saw it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Value,
}

impl Request {
    pub(super) fn key(&self) -> &str {
        &self.headers["idempotency-key"]
    }
}

/// What the receiver answers to a request: a status and a text; `None`: it takes the rows and hangs up.
pub(super) type Behaviour = Box<dyn FnMut(&Request) -> Option<(u16, &'static str)> + Send>;

/// A server that takes POST requests and keeps the rows of each key once.
pub(super) struct Receiver {
    pub(super) url: String,
    pub(super) marks: tempfile::TempDir,
    /// Every request, also repeated ones.
    pub(super) requests: Arc<Mutex<Vec<Request>>>,
    taken: Arc<Mutex<Taken>>,
    behaviour: Arc<Mutex<Behaviour>>,
}

impl Receiver {
    pub(super) fn new() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Receiver {
            url: format!("http://{}/hook", listener.local_addr().unwrap()),
            marks: tempfile::tempdir().unwrap(),
            requests: Arc::default(),
            taken: Arc::default(),
            behaviour: Arc::new(Mutex::new(Box::new(|_| Some((200, ""))))),
        };
        let (requests, taken, behaviour) = (
            Arc::clone(&receiver.requests),
            Arc::clone(&receiver.taken),
            Arc::clone(&receiver.behaviour),
        );
        std::thread::Builder::new()
            .spawn(move || {
                for client in listener.incoming() {
                    serve(&client.unwrap(), &requests, &taken, &behaviour);
                }
            })
            .unwrap();
        receiver
    }

    /// Changes what it answers.
    pub(super) fn behave(
        &self,
        behaviour: impl FnMut(&Request) -> Option<(u16, &'static str)> + Send + 'static,
    ) {
        *self.behaviour.lock() = Box::new(behaviour);
    }

    /// The keys of all requests, in order, without the sink's id.
    pub(super) fn keys(&self) -> Vec<String> {
        let requests = self.requests.lock();
        requests.iter().map(|r| r.key().split_once(':').unwrap().1.to_owned()).collect()
    }
}

/// One request a connection.
fn serve(
    mut client: &TcpStream,
    requests: &Mutex<Vec<Request>>,
    taken: &Mutex<Taken>,
    behaviour: &Mutex<Behaviour>,
) {
    let mut reader = BufReader::new(client);
    let (mut headers, mut line) = (BTreeMap::new(), String::new());
    while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        line.clear();
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() || length == 0 {
        return;
    }
    let request = Request { headers, body: serde_json::from_slice(&body).unwrap() };
    requests.lock().push(request.clone());
    let answer = behaviour.lock()(&request);
    if answer.is_none_or(|(status, _)| status < 300) {
        let mut taken = taken.lock();
        if !taken.iter().any(|(key, _)| key == request.key()) {
            taken.push((request.key().to_owned(), rows_of(&request.body)));
        }
    }
    if let Some((status, text)) = answer {
        let length = text.len();
        let head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {length}");
        write!(client, "{head}\r\n\r\n{text}").ok();
    }
}

/// The rows of a body, in changelog mode with offsets (which the suite's changes have in a row) and signs.
fn rows_of(body: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    let ops = body.get("ops").and_then(Value::as_str);
    for (index, row) in body["rows"].as_array().unwrap().iter().enumerate() {
        let mut row = row.as_object().unwrap().clone();
        if let Some(ops) = ops {
            let sign = if &ops[index..=index] == "-" { -1 } else { 1 };
            row.insert("weir_op".into(), sign.into());
            row.insert(
                "weir_offset".into(),
                (body["offset"].as_u64().unwrap() + index as u64).into(),
            );
        }
        rows.push(row);
    }
    rows
}

impl Database for Receiver {
    fn target(&self) -> Box<dyn SinkTarget> {
        let settings = WebhookSettings {
            url: self.url.clone(),
            authorization: Some("Bearer open sesame".into()),
            timeout: Duration::from_secs(10),
            tls_ca: None,
        };
        Box::new(WebhookTarget::new(settings, self.marks.path().join("sinks")))
    }

    fn sql(&self, sql: &str) -> Vec<String> {
        let rows: Vec<Row> = self.taken.lock().iter().flat_map(|(_, rows)| rows.clone()).collect();
        query(&rows, sql)
    }

    fn clear(&self) {
        std::fs::remove_dir_all(self.marks.path().join("sinks")).ok();
        self.taken.lock().clear();
        self.requests.lock().clear();
    }
}
