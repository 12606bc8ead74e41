//! Runs every example of the documents as it is written, against a server of its own.
//!
//! Blocks that run, by the words behind their fence: `sql` (must succeed), `sql error CODE` (must
//! fail so), `sh` with `curl` or `nc` (rows or statements that are sent), `json rows` (the last
//! statement's answer, a row a line), `json answer` (the last line that the server said). Anything
//! else is for reading only. A path in a sink's options is moved to a temporary folder.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use weir::engine::{Engine, EngineSettings, Execution};
use weir::server::{Addresses, Server, Service};
use weir::time::{Clock, VirtualClock};

use crate::engines::ndjson;

/// 2026-06-01T00:00:00Z; the examples live in January of that year.
const NOW: i64 = 1_780_272_000_000_000;

/// A fenced block: the line of its fence, the words behind the fence, and what it holds.
struct Block {
    line: usize,
    words: Vec<String>,
    text: String,
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in document.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(words)) => {
                let words = words.split_whitespace().map(str::to_string).collect();
                open = Some(Block { line: index + 1, words, text: String::new() });
            }
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fenced block does not end");
    blocks
}

/// What the last block made, for the block that says what it should be.
#[derive(Default)]
struct Said {
    rows: String,
    answer: String,
}

struct Runner {
    engine: Arc<Engine>,
    http: SocketAddr,
    tcp: SocketAddr,
    folder: tempfile::TempDir,
    said: Said,
}

impl Runner {
    async fn run(&mut self, block: &Block) -> Result<(), String> {
        let words: Vec<&str> = block.words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["sql"] => {
                let execution = self.execute(&block.text).await;
                match &execution.error {
                    Some(error) => return Err(error.to_string()),
                    None => self.said.rows = ndjson(execution.results.last()),
                }
            }
            ["sql", "error", code] => match self.execute(&block.text).await.error {
                Some(error) if error.code().0 == *code => {}
                Some(error) => return Err(format!("expected {code}, got {error}")),
                None => return Err(format!("expected {code}, and it succeeds")),
            },
            ["sh"] => self.said.answer = self.send(&block.text)?,
            ["json", "rows"] => same(&block.text, &self.said.rows)?,
            ["json", "answer"] => same(last_line(&block.text), last_line(&self.said.answer))?,
            _ => {}
        }
        Ok(())
    }

    async fn execute(&self, sql: &str) -> Execution {
        let folder = self.folder.path().display();
        self.engine.execute(&sql.replace("path = '", &format!("path = '{folder}/"))).await
    }

    /// Sends what a shell block would send; blocks that send nothing answer nothing.
    fn send(&self, text: &str) -> Result<String, String> {
        if let Some(start) = text.find("INGEST ") {
            let sent = between(&text[start..], "", "EOF\n").ok_or("the rows do not end")?;
            return self.send_tcp(sent).map_err(|error| error.to_string());
        }
        if let Some(path) = between(text, "127.0.0.1:4880", " ")
            && let Some(body) = between(text, "<<'EOF'\n", "EOF\n")
        {
            let mut headers = String::new();
            let mut rest = text;
            while let Some(header) = between(rest, "-H '", "'") {
                headers.push_str(&format!("{header}\r\n"));
                rest = &rest[rest.find(header).unwrap_or(0) + header.len()..];
            }
            if headers.is_empty() {
                headers.push_str("Content-Type: text/plain\r\n");
            }
            return self.post(path, &headers, body).map_err(|error| error.to_string());
        }
        Ok(String::new())
    }

    fn send_tcp(&self, text: &str) -> std::io::Result<String> {
        let mut socket = TcpStream::connect(self.tcp)?;
        socket.write_all(text.as_bytes())?;
        socket.shutdown(Shutdown::Write)?;
        let mut said = String::new();
        socket.read_to_string(&mut said)?;
        Ok(said)
    }

    fn post(&self, path: &str, headers: &str, body: &str) -> std::io::Result<String> {
        let mut socket = TcpStream::connect(self.http)?;
        write!(
            socket,
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
             {headers}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut said = String::new();
        socket.read_to_string(&mut said)?;
        Ok(said.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_string()))
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let start = text.find(before)? + before.len();
    let end = text[start..].find(after)?;
    Some(&text[start..start + end])
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default()
}

/// Compares; `…` in the document stands for anything.
fn same(expected: &str, got: &str) -> Result<(), String> {
    let (expected, got) = (expected.trim_end(), got.trim_end());
    let mut rest = Some(got);
    for (index, piece) in expected.split('…').enumerate() {
        rest = match (index, rest) {
            (0, Some(rest)) => rest.strip_prefix(piece),
            (_, Some(rest)) => rest.find(piece).map(|at| &rest[at + piece.len()..]),
            (_, None) => None,
        };
    }
    // A document that ends in the mark leaves the rest open.
    match rest {
        Some("") => Ok(()),
        Some(_) if expected.ends_with('…') => Ok(()),
        _ => Err(format!("the document says\n{expected}\nand the server said\n{got}")),
    }
}

/// Runs a document's blocks in order; a block may use what those before it made.
async fn check(document: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(document);
    let text = std::fs::read_to_string(path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(VirtualClock::new(NOW));
    let settings = EngineSettings::new(folder.path().join("data"));
    let engine = Engine::open(EngineSettings { timers: false, ..settings }, clock).unwrap();
    let service: Arc<dyn Service> = Arc::new(Arc::clone(&engine));
    let addresses = Addresses { http: "127.0.0.1:0".into(), tcp: "127.0.0.1:0".into() };
    let server = Server::start(service, &addresses).await.unwrap();
    let (http, tcp) = (server.http(), server.tcp());
    let mut runner = Runner { engine, http, tcp, folder, said: Said::default() };
    let mut wrong = Vec::new();
    let mut statements = 0;
    for block in blocks(&text) {
        statements += usize::from(block.words.first().is_some_and(|word| word == "sql"));
        if let Err(why) = runner.run(&block).await {
            wrong.push(format!("{document}:{}: {why}\n{}", block.line, block.text));
        }
    }
    server.stop().await;
    assert!(statements > 0, "{document} has no examples");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_readme_works() {
    check("README.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_dialect_works() {
    check("docs/sql.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_mining_works() {
    check("docs/mining.md").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_the_ways_through_the_house_works() {
    check("docs/life_of_a_row.md").await;
    check("docs/life_of_a_query.md").await;
}
