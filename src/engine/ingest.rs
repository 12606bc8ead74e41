//! Takes rows into a stream: appends what is good, reports what is not, and waits for the ack.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::BoxFuture;

use crate::data::floats::canonical_batch;
use crate::data::punctuation::Punctuation;
use crate::decode::{DecodeSpecRef, Decoded, REJECTED_MAX, Rejected};
use crate::engine::producers::{Known, Producer, Sent};
use crate::engine::state::Engine;
use crate::engine::stream::StreamState;
use crate::engine::{AckLevel, IngestReceipt};
use crate::error::{Error, Result, SqlState};
use crate::log::error::LogError;
use crate::log::log::{Durability, Log};

/// Errors of one request that are listed one by one.
const LISTED_ERRORS: usize = 1_000;

/// Who sent rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IngestOrigin {
    /// `http`, `tcp` …: a producer belongs to one protocol.
    pub protocol: &'static str,
    /// For idempotent ingest.
    pub producer: Option<Producer>,
}

/// The producer of a request that is being stored, in its turn.
struct Sender<'a> {
    known: &'a Known,
    producer: &'a Producer,
    /// The sequence after the request.
    next: u64,
}

fn receipt_of(rejected: &[Rejected]) -> IngestReceipt {
    let listed = rejected.iter().take(LISTED_ERRORS);
    IngestReceipt {
        rejected: rejected.len() as u64,
        errors: listed.map(|row| (row.line, row.code, row.message.clone())).collect(),
        ..IngestReceipt::default()
    }
}

/// Floats come as their senders write them, and are kept in one form, in promises, too.
fn in_one_form(decoded: &mut Decoded) {
    decoded.batch = canonical_batch(decoded.batch.clone());
    for (_, punctuation) in &mut decoded.punctuations {
        punctuation.canonical_floats();
    }
}

/// Refuses what cannot be taken as a piece: what has not its format's form, or too many bad rows.
pub(super) fn check_form(decoded: &Decoded) -> Result<()> {
    if let Some(malformed) = &decoded.malformed {
        return Err(Error::new(SqlState::INVALID_TEXT, "rows are not in a valid JSON document")
            .with_detail(format!("Of the document, {malformed}. Nothing of it is stored."))
            .with_hint("Send it whole; one object a line is application/x-ndjson."));
    }
    if decoded.is_flooded() {
        let first = &decoded.rejected[0];
        let message = format!("request has more than {REJECTED_MAX} bad rows");
        return Err(Error::new(SqlState::PROGRAM_LIMIT, message)
            .with_detail(format!(
                "The first is line {}: {}. Nothing of the request is stored.",
                first.line, first.message
            ))
            .with_hint("Check the format and the columns, or send fewer rows at a time."));
    }
    Ok(())
}

/// The promises of a stream, for looking or for adding to them.
enum Promises<'a> {
    Read(tokio::sync::RwLockReadGuard<'a, Vec<Punctuation>>),
    Write(tokio::sync::RwLockWriteGuard<'a, Vec<Punctuation>>),
}

impl Promises<'_> {
    fn all(&self) -> &[Punctuation] {
        match self {
            Promises::Read(promises) => promises,
            Promises::Write(promises) => promises,
        }
    }

    fn extend(&mut self, more: impl Iterator<Item = Punctuation>) {
        match self {
            // Whoever only looks has nothing to add.
            Promises::Read(_) => debug_assert_eq!(more.count(), 0),
            Promises::Write(promises) => promises.extend(more),
        }
    }
}

/// A stream as those who send rows see it.
#[derive(Clone)]
pub struct StreamHandle {
    pub(super) engine: Arc<Engine>,
    pub(super) stream: Arc<StreamState>,
    /// A query sends its own rows, and is not held back.
    pub(super) of_query: bool,
}

impl StreamHandle {
    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.stream.definition.name
    }

    /// What a decoder needs to know.
    pub fn decode_spec(&self) -> DecodeSpecRef {
        Arc::clone(&self.stream.options.read().decode_spec)
    }

    /// The ack level that the stream's durability gives.
    pub fn default_ack(&self) -> AckLevel {
        self.stream.default_ack()
    }

    /// Whether one bad row refuses its whole request. A query's own rows are never refused together: who
    /// would be told?
    fn rejects_requests(&self) -> bool {
        self.stream.options.read().reject_requests && !self.of_query
    }

    /// Stores the good rows as one piece of the log and the bad ones as dead letters, and waits for
    /// the ack. With `on_error = 'reject'` and a bad row nothing is stored, which the receipt says. What
    /// a producer sends again is answered again and stored once, whatever its rows are worth by now.
    ///
    /// # Errors
    /// 22023 when the ack level is above the stream's durability, and for a sequence that does not
    /// follow; 22P02 for a body without the form of its format; 54000 for more bad rows than are told of;
    /// the log's.
    pub async fn ingest(
        &self,
        decoded: Decoded,
        ack: Option<AckLevel>,
        origin: IngestOrigin,
    ) -> Result<IngestReceipt> {
        let ack = self.check_ack(ack)?;
        let receipt = match origin.producer {
            None => self.store(decoded, ack, None).await?,
            Some(producer) => {
                let known = self.known(&producer.id, origin.protocol)?;
                let turn = Arc::clone(&known.turn).lock_owned().await;
                let stream = self.clone();
                // Goes on when the client leaves: what is stored must be known to be.
                let work = async move {
                    let _turn = turn;
                    stream.store_once(&known, producer, decoded, ack).await
                };
                self.engine.crew.to_its_end(work).await.map_err(|_| {
                    Error::new(SqlState::SHUTTING_DOWN, "request was not stored to its end")
                })??
            }
        };
        if ack == AckLevel::Processed {
            self.engine.flush().await?;
        }
        Ok(receipt)
    }

    /// As [`StreamHandle::ingest`] of a producer, for threads of no runtime; returns when the rows are
    /// written.
    pub(super) fn ingest_written(
        &self,
        decoded: Decoded,
        producer: Producer,
        protocol: &str,
    ) -> Result<()> {
        let known = self.known(&producer.id, protocol)?;
        let stored = async {
            let _turn = known.turn.lock().await;
            self.store_once(&known, producer, decoded, AckLevel::Written).await
        };
        self.engine.crew.block_on(stored).map(drop)
    }

    /// The sequence that a producer of rows sends next; a new one begins where it says.
    ///
    /// # Errors
    /// 22023 when the producer belongs to another stream or protocol.
    pub async fn next_sequence(&self, id: &str, protocol: &str, first: u64) -> Result<u64> {
        let known = self.known(id, protocol)?;
        let _turn = known.turn.lock().await;
        Ok(known.next().unwrap_or(first))
    }

    fn known(&self, id: &str, protocol: &str) -> Result<Arc<Known>> {
        self.engine.producers.enter(id, protocol, &self.stream, self.engine.clock.now())
    }

    /// Stores what of a producer's request is not stored yet.
    async fn store_once(
        &self,
        known: &Known,
        mut producer: Producer,
        mut decoded: Decoded,
        ack: AckLevel,
    ) -> Result<IngestReceipt> {
        let log = &self.stream.log;
        let next = if producer.each_row {
            check_form(&decoded)?;
            known.skip(&mut producer, &mut decoded)?
        } else {
            if let Some(receipt) = known.answer(&producer, log)? {
                self.keep(ack).await?;
                return Ok(receipt);
            }
            producer.sequence.checked_add(1).ok_or_else(|| {
                Error::new(SqlState::INVALID_PARAMETER, "sequence of a producer is too large")
            })?
        };
        let empty = decoded.batch.num_rows() == 0 && decoded.rejected.is_empty();
        if producer.each_row && empty && decoded.punctuations.is_empty() {
            self.keep(ack).await?;
            let offset = log.visible().offset;
            return Ok(IngestReceipt {
                first_offset: offset,
                next_offset: offset,
                next_sequence: known.next(),
                ..IngestReceipt::default()
            });
        }
        let sender = Sender { known, producer: &producer, next };
        self.store(decoded, ack, Some(sender)).await
    }

    /// Waits until what was written before is as durable as an ack at this level says.
    async fn keep(&self, ack: AckLevel) -> Result<()> {
        let log = Arc::clone(&self.stream.log);
        if ack >= AckLevel::Durable && log.visible().frame < log.appended() {
            let synced = self.engine.crew.apart(move || log.sync()).await;
            synced.map_err(|_| stopped())??;
        }
        Ok(())
    }

    async fn store(
        &self,
        mut decoded: Decoded,
        ack: AckLevel,
        sender: Option<Sender<'_>>,
    ) -> Result<IngestReceipt> {
        let stream = &self.stream;
        check_form(&decoded)?;
        if !decoded.rejected.is_empty() && self.rejects_requests() {
            return Ok(self.was_refused(receipt_of(&decoded.rejected)));
        }
        let _room = self.room(&decoded).await?;
        let now = self.engine.clock.now();
        // Held until the rows are appended: what is behind a promise in the log was checked against it.
        let mut promises = if decoded.punctuations.is_empty() {
            Promises::Read(stream.punctuations.read().await)
        } else {
            Promises::Write(stream.punctuations.write().await)
        };
        in_one_form(&mut decoded);
        stream.check(&mut decoded, now, promises.all())?;
        let mut receipt = receipt_of(&decoded.rejected);
        if receipt.rejected > 0 && self.rejects_requests() {
            return Ok(self.was_refused(receipt));
        }
        stream.rows_rejected.fetch_add(receipt.rejected, Ordering::Relaxed);
        // Before the good ones, so that a crash in between loses none of them from sight.
        self.engine.reports.dead_letters(self.name(), &decoded.rejected)?;
        receipt.shed = self.engine.shed(stream, &mut decoded)?;
        let told = self.reports_synced(&receipt, ack);
        receipt.accepted = decoded.batch.num_rows() as u64;
        let mut frames = stream.frames(&decoded);
        let sent = sender.as_ref().map(|sender| {
            Sent::new(sender.producer, &sender.known.protocol, sender.next, &receipt)
        });
        if let Some(sent) = &sent {
            frames.insert(0, sent.frame());
        }
        if frames.is_empty() {
            let next = stream.log.visible().offset;
            (receipt.first_offset, receipt.next_offset) = (next, next);
        } else {
            stream.last_arrival.store(now, Ordering::Relaxed);
            let early = ack == AckLevel::Written;
            let appended = match stream.appender.submit_async(frames, early).await {
                Err(LogError::Shed { .. }) => {
                    told.await?;
                    let receipt = self.was_shed(receipt);
                    self.reports_synced(&receipt, ack).await?;
                    return Ok(receipt);
                }
                appended => appended?,
            };
            promises.extend(decoded.punctuations.drain(..).map(|(_, promise)| promise));
            drop(promises);
            receipt.first_offset = appended.first.offset;
            receipt.next_offset = appended.next.offset;
            if let (Some(sent), Some(sender)) = (sent, &sender) {
                sender.known.stored(sent, &appended, &mut receipt);
            }
        }
        told.await?;
        Ok(receipt)
    }

    /// Begins to sync the dead letters of a request and the number of its shed rows, and is done when they
    /// are as durable as its rows: the answer tells of all. Begun and not waited for, because requests take
    /// their places in the log in the order in which they are polled first.
    fn reports_synced(
        &self,
        receipt: &IngestReceipt,
        ack: AckLevel,
    ) -> BoxFuture<'static, Result<()>> {
        let durable = self.stream.definition.durability == Durability::Durable;
        let reports = &self.engine.reports;
        let told = [(receipt.rejected, &reports.dead_letters), (receipt.shed, &reports.shed)];
        let told: Vec<Arc<Log>> = told
            .into_iter()
            .filter(|(rows, _)| *rows > 0)
            .map(|(_, log)| Arc::clone(log))
            .collect();
        if told.is_empty() || !durable || ack == AckLevel::Written {
            return Box::pin(std::future::ready(Ok(())));
        }
        let synced = self.engine.crew.apart(move || told.iter().try_for_each(|log| log.sync()));
        Box::pin(async { Ok(synced.await.map_err(|_| stopped())??) })
    }

    /// The answer to a request that its bad rows refuse.
    fn was_refused(&self, receipt: IngestReceipt) -> IngestReceipt {
        let next = self.stream.log.visible().offset;
        IngestReceipt { refused: true, first_offset: next, next_offset: next, ..receipt }
    }

    /// The answer to a request that gave way to newer ones while it waited.
    fn was_shed(&self, receipt: IngestReceipt) -> IngestReceipt {
        let next = self.stream.log.visible().offset;
        IngestReceipt {
            shed: receipt.shed + receipt.accepted,
            accepted: 0,
            first_offset: next,
            next_offset: next,
            ..receipt
        }
    }

    fn check_ack(&self, ack: Option<AckLevel>) -> Result<AckLevel> {
        let default = self.default_ack();
        let ack = ack.unwrap_or(default);
        if ack != AckLevel::Processed && ack > default {
            let level = |level| match level {
                AckLevel::Memory => "memory",
                AckLevel::Written => "written",
                AckLevel::Durable => "durable",
                AckLevel::Processed => "processed",
            };
            return Err(Error::new(
                SqlState::INVALID_PARAMETER,
                format!("stream \"{}\" cannot acknowledge at level '{}'", self.name(), level(ack)),
            )
            .with_detail(format!("Its durability is '{}'.", level(default)))
            .with_hint("Leave ack out, or create the stream with a higher durability."));
        }
        Ok(ack)
    }
}

pub(super) fn stopped() -> Error {
    Error::new(SqlState::SHUTTING_DOWN, "server is shutting down")
}

impl Engine {
    /// The stream of that name, for sending rows.
    ///
    /// # Errors
    /// 42P01 if there is none, 42809 if the name is another kind of object.
    pub fn stream(self: &Arc<Engine>, name: &str) -> Result<StreamHandle> {
        let stream = self.stream_state(name)?;
        Ok(StreamHandle { engine: Arc::clone(self), stream, of_query: false })
    }
}
