//! Speaks MySQL's client protocol as far as a sink needs it: log in, run one statement, read its answer.
//!
//! Blocking, one connection, text protocol (COM_QUERY) only. Values are written into the statement by
//! `mysql_text`. Packets are at most 16 MB each; longer statements are split over several.
//!
//! Logging in knows `mysql_native_password`, `caching_sha2_password` (for a password that the server
//! has not cached: over TLS only) and `mysql_clear_password` (over TLS only).
//!
//! Source: MySQL Internals, "Client/Server Protocol"; MariaDB, "Clientserver protocol".

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::sinks::mysql_login;
use crate::sinks::mysql_url::MysqlUrl;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than the lock wait that a session sets, so that a silent server is one that is away.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a packet that is continued in the next one.
const PACKET_FULL: usize = 0xFF_FFFF;
/// Answers to a sink are small; what claims to be longer is not one.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// utf8mb4_general_ci, which every server knows.
const CHARSET: u8 = 45;
const COM_QUERY: u8 = 3;

/// What a client may ask for at the start.
mod capability {
    pub(super) const LONG_PASSWORD: u32 = 1;
    /// An UPDATE counts the rows that it found, also those that it left as they were.
    pub(super) const FOUND_ROWS: u32 = 2;
    pub(super) const LONG_FLAG: u32 = 4;
    pub(super) const CONNECT_WITH_DB: u32 = 8;
    pub(super) const PROTOCOL_41: u32 = 0x200;
    pub(super) const SSL: u32 = 0x800;
    pub(super) const TRANSACTIONS: u32 = 0x2000;
    pub(super) const SECURE_CONNECTION: u32 = 0x8000;
    pub(super) const PLUGIN_AUTH: u32 = 0x8_0000;
}

/// Why a statement has no good answer.
#[derive(Debug)]
pub(crate) enum WireError {
    /// The connection is gone, or what came over it makes no sense.
    Io(io::Error),
    /// The server refuses: its number, SQLSTATE and message.
    Server(u16, String, String),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> WireError {
        WireError::Io(error)
    }
}

/// The answer to a statement.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Rows that it changed or found.
    pub(crate) affected: u64,
    /// Rows that it answers, as text.
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

enum Stream {
    Plain(BufReader<TcpStream>),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Between the two.
    Gone,
}

impl Stream {
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.read_exact(buffer),
            Stream::Tls(stream) => stream.read_exact(buffer),
            Stream::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.get_mut().write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Stream::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

/// A connection that is logged in.
pub(crate) struct Connection {
    stream: Stream,
    sequence: u8,
    /// What the server calls itself, such as `10.11.6-MariaDB`.
    pub(crate) version: String,
}

/// What the server says first.
struct Greeting {
    version: String,
    capabilities: u32,
    nonce: Vec<u8>,
    plugin: String,
}

impl Connection {
    /// Connects and logs in; `tls` must be there if the URL asks for it.
    pub(crate) fn open(
        url: &MysqlUrl,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Connection, WireError> {
        let stream = Stream::Plain(BufReader::new(connect(url)?));
        let mut connection = Connection { stream, sequence: 0, version: String::new() };
        let greeting = connection.greeting()?;
        connection.version.clone_from(&greeting.version);
        let mut wanted = capability::LONG_PASSWORD
            | capability::FOUND_ROWS
            | capability::LONG_FLAG
            | capability::CONNECT_WITH_DB
            | capability::PROTOCOL_41
            | capability::TRANSACTIONS
            | capability::SECURE_CONNECTION
            | capability::PLUGIN_AUTH;
        if greeting.capabilities & capability::PROTOCOL_41 == 0 {
            return Err(nonsense("a server older than MySQL 4.1").into());
        }
        if let Some(config) = tls {
            if greeting.capabilities & capability::SSL == 0 {
                return Err(nonsense("the server has no TLS").into());
            }
            wanted |= capability::SSL;
            connection.write(&head(wanted))?;
            connection.encrypt(&url.host, config)?;
        }
        let mut hello = head(wanted);
        hello.extend_from_slice(url.user.as_bytes());
        hello.push(0);
        let secret = mysql_login::first(&greeting.plugin, &url.password, &greeting.nonce);
        hello.push(u8::try_from(secret.len()).expect("a digest is short"));
        hello.extend_from_slice(&secret);
        for text in [&url.database, &greeting.plugin] {
            hello.extend_from_slice(text.as_bytes());
            hello.push(0);
        }
        connection.write(&hello)?;
        connection.log_in(&url.password, greeting.nonce)?;
        Ok(connection)
    }

    fn greeting(&mut self) -> Result<Greeting, WireError> {
        let packet = self.read()?;
        let mut reader = Reader(&packet);
        match reader.byte()? {
            10 => {}
            0xFF => return Err(server_error(&packet)),
            _ => return Err(nonsense("the server does not speak MySQL's protocol").into()),
        }
        let version = reader.text()?;
        reader.take(4)?;
        let mut nonce = reader.take(8)?.to_vec();
        reader.take(1)?;
        let low = reader.integer(2)?;
        reader.take(3)?;
        let high = reader.integer(2)?;
        let length = usize::from(reader.byte()?);
        reader.take(10)?;
        nonce.extend_from_slice(reader.take(length.saturating_sub(8).max(13))?);
        nonce.truncate(20);
        let plugin = reader.text().unwrap_or_else(|_| "mysql_native_password".into());
        let capabilities = u32::try_from(low | high << 16).expect("four bytes");
        Ok(Greeting { version, capabilities, nonce, plugin })
    }

    fn encrypt(&mut self, host: &str, config: Arc<ClientConfig>) -> io::Result<()> {
        let Stream::Plain(plain) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return Err(nonsense("TLS inside TLS"));
        };
        if !plain.buffer().is_empty() {
            return Err(nonsense("something was sent before TLS began"));
        }
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let client = ClientConnection::new(config, name).map_err(io::Error::other)?;
        self.stream = Stream::Tls(Box::new(StreamOwned::new(client, plain.into_inner())));
        Ok(())
    }

    fn log_in(&mut self, password: &str, mut nonce: Vec<u8>) -> Result<(), WireError> {
        let encrypted = matches!(self.stream, Stream::Tls(_));
        loop {
            let packet = self.read()?;
            match packet.first() {
                Some(0) => return Ok(()),
                Some(0xFF) => return Err(server_error(&packet)),
                Some(0xFE) => {
                    let mut reader = Reader(&packet[1..]);
                    let plugin = reader.text()?;
                    nonce = reader.0.strip_suffix(&[0]).unwrap_or(reader.0).to_vec();
                    let answer = mysql_login::answer(&plugin, password, &nonce, encrypted)?;
                    self.write(&answer)?;
                }
                // caching_sha2_password: 3, the digest was right; 4, the password itself is wanted.
                Some(1) if packet.get(1) == Some(&3) => {}
                Some(1) if packet.get(1) == Some(&4) => {
                    let answer =
                        mysql_login::answer("mysql_clear_password", password, &nonce, encrypted)?;
                    self.write(&answer)?;
                }
                _ => return Err(nonsense("an unknown step of logging in").into()),
            }
        }
    }

    /// Runs one statement.
    pub(crate) fn query(&mut self, sql: &[u8]) -> Result<Answer, WireError> {
        self.sequence = 0;
        let mut packet = Vec::with_capacity(sql.len() + 1);
        packet.push(COM_QUERY);
        packet.extend_from_slice(sql);
        self.write(&packet)?;
        let first = self.read()?;
        let mut reader = Reader(&first);
        match first.first() {
            Some(0) => {
                reader.take(1)?;
                return Ok(Answer { affected: reader.length()?, rows: Vec::new() });
            }
            Some(0xFF) => return Err(server_error(&first)),
            Some(0xFB) | None => return Err(nonsense("the server wants a file").into()),
            Some(_) => {}
        }
        let columns = reader.length()?;
        // Their descriptions and the end of them: the asker knows what it asked for.
        for _ in 0..=columns {
            self.read()?;
        }
        let mut rows = Vec::new();
        loop {
            let packet = self.read()?;
            match packet.first() {
                Some(0xFF) => return Err(server_error(&packet)),
                Some(0xFE) if packet.len() < 9 => return Ok(Answer { affected: 0, rows }),
                _ => {}
            }
            let mut reader = Reader(&packet);
            let row: io::Result<_> = (0..columns).map(|_| reader.field()).collect();
            rows.push(row?);
        }
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut payload = Vec::new();
        loop {
            let mut header = [0; 4];
            self.stream.read_exact(&mut header)?;
            let [a, b, c, sequence] = header;
            if sequence != self.sequence {
                return Err(nonsense("a packet out of order"));
            }
            self.sequence = sequence.wrapping_add(1);
            let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
            let start = payload.len();
            if start + length > ANSWER_BYTES_MAX {
                return Err(nonsense("an answer that is too long"));
            }
            payload.resize(start + length, 0);
            self.stream.read_exact(&mut payload[start..])?;
            if length < PACKET_FULL {
                return Ok(payload);
            }
        }
    }

    fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut rest = payload;
        loop {
            let length = rest.len().min(PACKET_FULL);
            let bytes = (length as u32).to_le_bytes();
            let mut packet = Vec::with_capacity(length + 4);
            packet.extend_from_slice(&[bytes[0], bytes[1], bytes[2], self.sequence]);
            packet.extend_from_slice(&rest[..length]);
            self.stream.write_all(&packet)?;
            self.sequence = self.sequence.wrapping_add(1);
            rest = &rest[length..];
            // A full packet is followed by another one, be it empty.
            if length < PACKET_FULL {
                return Ok(());
            }
        }
    }
}

fn connect(url: &MysqlUrl) -> io::Result<TcpStream> {
    let mut last = nonsense("the host has no address");
    for address in (url.host.as_str(), url.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(SILENCE_TIMEOUT))?;
                stream.set_write_timeout(Some(SILENCE_TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What both the wish for TLS and the login begin with.
fn head(capabilities: u32) -> Vec<u8> {
    let mut head = capabilities.to_le_bytes().to_vec();
    head.extend_from_slice(&(1_u32 << 24).to_le_bytes());
    head.push(CHARSET);
    head.extend_from_slice(&[0; 23]);
    head
}

fn server_error(packet: &[u8]) -> WireError {
    let number = packet.get(1..3).map_or(0, |bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    let rest = packet.get(3..).unwrap_or_default();
    let (state, message) = match rest {
        [b'#', rest @ ..] if rest.len() >= 5 => rest.split_at(5),
        _ => (&b"HY000"[..], rest),
    };
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    WireError::Server(number, text(state), text(message))
}

pub(super) fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Reads a packet's parts; one that is too short is an error, not a panic.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| nonsense("a packet that is too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> io::Result<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn integer(&mut self, bytes: usize) -> io::Result<u64> {
        let taken = self.take(bytes)?;
        Ok(taken.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A text that ends with NUL.
    fn text(&mut self) -> io::Result<String> {
        let end = self.0.iter().position(|&byte| byte == 0);
        let text = self.take(end.ok_or_else(|| nonsense("a text without an end"))?)?;
        self.take(1)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// A number whose first byte says how long it is.
    fn length(&mut self) -> io::Result<u64> {
        match self.byte()? {
            0xFC => self.integer(2),
            0xFD => self.integer(3),
            0xFE => self.integer(8),
            0xFB | 0xFF => Err(nonsense("a length that is none")),
            small => Ok(small.into()),
        }
    }

    /// A field of a row.
    fn field(&mut self) -> io::Result<Option<String>> {
        if self.0.first() == Some(&0xFB) {
            self.take(1)?;
            return Ok(None);
        }
        let length = usize::try_from(self.length()?).map_err(io::Error::other)?;
        Ok(Some(String::from_utf8_lossy(self.take(length)?).into_owned()))
    }
}
