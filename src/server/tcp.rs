//! Takes rows in over plain TCP: one header line, then rows, with acks as JSON lines.
//!
//! ```text
//! socket -> Rows (whole rows only) -> decode (here) -> several ingests under way -> Acks -> socket
//! ```
//!
//! Reading goes on while earlier groups wait for the disk, so that one connection is not bound by
//! the disk's latency. Acks are a state, not a queue: a client that does not read them finds the
//! latest one later, and costs no memory meanwhile.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::body::off_the_runtime;
use super::error_response::{broken_invariant, error_json};
use super::ingest::parse_ack;
use super::listen::{App, Open};
use super::service::Intake;
use super::shutdown::shutting_down;
use super::tcp_header::{self, Header};
use super::tcp_rows::Rows;
use crate::decode::{self, Decoded, Decoder};
use crate::engine::{AckLevel, IngestOrigin, IngestReceipt, Producer};
use crate::error::{Error, Result, SqlState};

/// Bytes of the first line.
const HEADER_BYTES_MAX: usize = 8 << 10;
/// How long a client may take for the first line; a person with `nc` types it.
const HEADER_WAIT: Duration = Duration::from_secs(60);
/// Room for one read.
const READ_BYTES: usize = 512 << 10;
/// Groups of rows under way at once.
const IN_FLIGHT_MAX: usize = 8;
/// While this many groups are under way, a smaller one than this waits for more rows: few large
/// frames are cheaper than many small ones, and nothing waits while the disk is idle.
const GROUPS_BUSY: usize = 2;
/// See [`GROUPS_BUSY`].
const GROUP_BYTES: usize = 64 << 10;
/// How long the last line may take to a client that does not read.
const FAREWELL_WAIT: Duration = Duration::from_secs(5);
/// How long a client may go on sending after it was told that its connection ends.
const UNREAD_WAIT: Duration = Duration::from_secs(1);

/// What the client is told: the state after the last settled group.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    next_offset: Option<u64>,
    accepted: u64,
    rejected: u64,
    shed: u64,
    /// Where a producer begins; it is told so before anything else.
    begins: Option<u64>,
    next_sequence: Option<u64>,
}

impl Progress {
    /// An ack; with a producer it says how far that one has come.
    fn line(&self, accepted: Option<u64>) -> Value {
        let mut line = json!({"ack": self.next_offset, "rejected": self.rejected});
        if let Some(accepted) = accepted {
            line["accepted"] = json!(accepted);
        }
        if self.shed > 0 {
            line["shed"] = json!(self.shed);
        }
        if let Some(next) = self.next_sequence {
            line["next_sequence"] = json!(next);
        }
        line
    }
}

/// Serves one connection; `has_place` is false when there are too many.
pub(crate) async fn serve(socket: TcpStream, app: &App, has_place: bool) {
    let _open = Open::new(&app.counters.tcp_connections);
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!("could not set TCP_NODELAY: {error}");
    }
    let (mut reader, mut writer) = socket.into_split();
    if !has_place {
        let error = Error::new(SqlState::TOO_MANY_CONNECTIONS, "too many tcp connections")
            .with_hint("Send from fewer connections, or close idle ones.");
        return say(&mut writer, &json!({"error": error_json(&error)})).await;
    }
    let (sender, receiver) = watch::channel(Progress::default());
    let acks = tokio::spawn(write_acks(writer, receiver));
    let ingested = AssertUnwindSafe(ingest(&mut reader, app, &sender)).catch_unwind().await;
    let outcome = ingested.unwrap_or_else(|_| Err(broken_invariant()));
    farewell(sender, acks, outcome).await;
    // Closing with bytes unread would reset the connection, and the last line might be lost.
    let mut unread = vec![0; 64 << 10];
    let drain = async { while matches!(reader.read(&mut unread).await, Ok(1..)) {} };
    if tokio::time::timeout(UNREAD_WAIT, drain).await.is_err() {
        tracing::debug!("a client goes on sending after its connection ended");
    }
}

/// Everything up to the end of input; an error ends the connection.
async fn ingest(
    reader: &mut OwnedReadHalf,
    app: &App,
    progress: &watch::Sender<Progress>,
) -> Result<()> {
    let mut rows = Rows::default();
    let header = tokio::select! {
        header = tokio::time::timeout(HEADER_WAIT, read_header(reader, &mut rows)) => header,
        () = app.shutdown.begun() => return Err(shutting_down()),
    };
    let line = header
        .map_err(|_| tcp_header::wrong("the first line did not come in time".to_string()))??;
    let header = tcp_header::parse(&line)?;
    let intake = app.service.stream(&header.stream)?;
    let mut connection = Connection::new(&header, &*intake, progress)?;
    if let Some((id, first)) = &header.producer {
        connection.introduce(id, *first).await?;
    }
    rows.begin(header.format, intake.decode_spec().limits.row_bytes);
    Box::pin(connection.run(reader, rows, app)).await
}

/// The first line, without its line end. What came behind it stays in `rows`.
async fn read_header(reader: &mut OwnedReadHalf, rows: &mut Rows) -> Result<String> {
    loop {
        if let Some(line) = rows.take_line() {
            if line.len() > HEADER_BYTES_MAX {
                return Err(tcp_header::wrong("the first line is too long".to_string()));
            }
            return String::from_utf8(line)
                .map_err(|_| tcp_header::wrong("the first line is not UTF-8".to_string()));
        }
        if rows.len() > HEADER_BYTES_MAX {
            return Err(tcp_header::wrong("the first line is too long".to_string()));
        }
        if read(reader, rows, HEADER_BYTES_MAX).await? == 0 {
            return Err(tcp_header::wrong("the first line is missing".to_string()));
        }
    }
}

async fn read(reader: &mut OwnedReadHalf, rows: &mut Rows, room: usize) -> Result<usize> {
    reader.read_buf(rows.room(room)).await.map_err(|error| {
        Error::new(SqlState::CONNECTION, "the connection broke").with_detail(error.to_string())
    })
}

/// A connection behind its header.
struct Connection<'a> {
    intake: &'a dyn Intake,
    ack: Option<AckLevel>,
    decoder: Box<dyn Decoder>,
    /// The producer with the sequence of the next row.
    producer: Option<Producer>,
    in_flight: FuturesOrdered<BoxFuture<'a, Result<IngestReceipt>>>,
    told: &'a watch::Sender<Progress>,
}

impl<'a> Connection<'a> {
    fn new(
        header: &Header,
        intake: &'a dyn Intake,
        told: &'a watch::Sender<Progress>,
    ) -> Result<Connection<'a>> {
        let ack = header.ack.as_deref().map(|ack| parse_ack(ack, intake)).transpose()?;
        let decoder = decode::decoder(header.format, intake.decode_spec());
        let in_flight = FuturesOrdered::new();
        Ok(Connection { intake, ack, decoder, producer: None, in_flight, told })
    }

    /// Tells a producer where it goes on; rows must not be missing before its first one.
    async fn introduce(&mut self, id: &str, first: u64) -> Result<()> {
        let next = self.intake.next_sequence(id, "tcp", first).await?;
        self.told.send_modify(|progress| {
            progress.begins = Some(next);
            progress.next_sequence = Some(next);
        });
        if first > next {
            let message = format!("rows of producer \"{id}\" are missing before sequence {first}");
            return Err(Error::new(SqlState::INVALID_PARAMETER, message)
                .with_detail(format!("Its next sequence is {next}."))
                .with_hint("Send again from the next sequence on."));
        }
        self.producer = Some(Producer { id: id.to_string(), sequence: first, each_row: true });
        Ok(())
    }

    /// Reads, decodes and stores until the client ends its input, then waits for what is under way.
    async fn run(mut self, reader: &mut OwnedReadHalf, mut rows: Rows, app: &App) -> Result<()> {
        let mut stop = std::pin::pin!(app.shutdown.begun());
        let mut broken = None;
        loop {
            self.send(&mut rows)?;
            tokio::select! {
                biased;
                Some(receipt) = self.in_flight.next() => self.settle(receipt?)?,
                read = read(reader, &mut rows, READ_BYTES), if self.may_read(&rows) => {
                    match read {
                        Ok(0) => break,
                        Ok(_) => {}
                        Err(error) => { broken = Some(error); break }
                    }
                }
                () = &mut stop => { broken = Some(shutting_down()); break }
            }
        }
        if broken.is_none() {
            rows.end();
        }
        // What came whole is stored even if the connection broke behind it.
        loop {
            self.send(&mut rows)?;
            match self.in_flight.next().await {
                Some(receipt) => self.settle(receipt?)?,
                None => break,
            }
        }
        if broken.is_none() && self.told.borrow().next_offset.is_none() {
            // Nothing came, so no receipt said where the stream stands.
            let nothing = self.decoder.decode(b"", 1);
            let origin = IngestOrigin { protocol: "tcp", producer: None };
            let receipt = self.intake.ingest(nothing, None, origin).await?;
            self.told.send_if_modified(|progress| {
                progress.next_offset = Some(receipt.next_offset);
                false
            });
        }
        broken.map_or(Ok(()), Err)
    }

    /// Reading stops while the disk is behind; then the client's own sending stops too.
    fn may_read(&self, rows: &Rows) -> bool {
        self.in_flight.len() < IN_FLIGHT_MAX
            && rows.len() < READ_BYTES.saturating_add(rows.row_bytes_max())
    }

    /// Decodes the whole rows that are there and puts them under way.
    fn send(&mut self, rows: &mut Rows) -> Result<()> {
        while self.in_flight.len() < IN_FLIGHT_MAX {
            let wait = self.in_flight.len() >= GROUPS_BUSY;
            let Some((bytes, first_line)) = rows.take(if wait { GROUP_BYTES } else { 0 }) else {
                return Ok(());
            };
            let decoder = &mut self.decoder;
            let decoded = off_the_runtime(bytes.len(), || decoder.decode(&bytes, first_line));
            drop(bytes);
            if decoded.batch.num_rows() == 0
                && decoded.rejected.is_empty()
                && decoded.punctuations.is_empty()
            {
                continue;
            }
            self.store(decoded)?;
        }
        Ok(())
    }

    fn store(&mut self, decoded: Decoded) -> Result<()> {
        let origin = IngestOrigin { protocol: "tcp", producer: self.producer.clone() };
        if let Some(producer) = &mut self.producer {
            let rows = decoded.batch.num_rows() + decoded.rejected.len();
            producer.sequence = producer.sequence.saturating_add(rows as u64);
        }
        let mut ingest = self.intake.ingest(decoded, self.ack, origin);
        // The first poll takes the place in the log; groups must take theirs in order.
        let ingest = match (&mut ingest).now_or_never() {
            Some(receipt) => {
                // Nothing behind rows that are refused is sent any more.
                receipt.iter().try_for_each(|receipt| self.check_refused(receipt))?;
                std::future::ready(receipt).boxed()
            }
            None => ingest,
        };
        self.in_flight.push_back(ingest);
        Ok(())
    }

    /// One bad row ends the connection where the stream says so.
    fn check_refused(&self, receipt: &IngestReceipt) -> Result<()> {
        let Some((line, code, message)) = receipt.errors.first().filter(|_| receipt.refused) else {
            return Ok(());
        };
        let stream = self.intake.name();
        let message = format!("line {line} is not fit for stream \"{stream}\": {message}");
        Err(Error::new(*code, message)
            .with_detail("The stream has on_error = 'reject', so its group of rows is not stored."))
    }

    /// Counts a stored group and tells the client.
    fn settle(&mut self, receipt: IngestReceipt) -> Result<()> {
        self.check_refused(&receipt)?;
        self.told.send_modify(|progress| {
            progress.next_offset = Some(receipt.next_offset);
            progress.accepted += receipt.accepted;
            progress.rejected += receipt.rejected;
            progress.shed += receipt.shed;
            progress.next_sequence = receipt.next_sequence;
        });
        Ok(())
    }
}

/// Writes the latest progress whenever it changes, and hands the socket back at the end.
async fn write_acks(
    mut writer: OwnedWriteHalf,
    mut progress: watch::Receiver<Progress>,
) -> OwnedWriteHalf {
    let mut introduced = false;
    while progress.changed().await.is_ok() {
        let now = *progress.borrow_and_update();
        let mut lines = String::new();
        if let Some(next) = now.begins.filter(|_| !std::mem::replace(&mut introduced, true)) {
            lines.push_str(&format!("{}\n", json!({"next_sequence": next})));
        }
        if now.next_offset.is_some() {
            lines.push_str(&format!("{}\n", now.line(None)));
        }
        if writer.write_all(lines.as_bytes()).await.is_err() {
            // The client no longer listens; what it sends counts all the same.
            break;
        }
    }
    writer
}

/// The summary at the end of input, or the error.
async fn farewell(
    sender: watch::Sender<Progress>,
    acks: JoinHandle<OwnedWriteHalf>,
    outcome: Result<()>,
) {
    let now = *sender.borrow();
    drop(sender);
    let last = match outcome {
        Ok(()) => now.line(Some(now.accepted)),
        Err(error) => {
            tracing::debug!("a tcp connection ends: {}", error.message());
            json!({"error": error_json(&error)})
        }
    };
    let abort = acks.abort_handle();
    let said = tokio::time::timeout(FAREWELL_WAIT, async move {
        if let Ok(mut writer) = acks.await {
            say(&mut writer, &last).await;
        }
    });
    if said.await.is_err() {
        abort.abort();
    }
}

async fn say(writer: &mut OwnedWriteHalf, line: &Value) {
    let written = writer.write_all(format!("{line}\n").as_bytes()).await;
    if let Err(error) = match written {
        Ok(()) => writer.shutdown().await,
        Err(error) => Err(error),
    } {
        tracing::debug!("a client left before it was told: {error}");
    }
}
