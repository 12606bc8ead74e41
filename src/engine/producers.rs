//! Knows the producers of streams: what each has sent, so that what is sent again is stored once.
//!
//! ```text
//!   request (producer p, sequence n) ─▶ p's turn ─▶ known? ──yes─▶ the same answer again
//!                                                     └──no──▶ [record of p | rows …] one request of the log
//! ```
//! The record is a control frame in front of the rows and belongs to the same request, so a crash
//! leaves both or neither. At startup the records are read back. Over HTTP a sequence numbers
//! requests and may skip numbers; over TCP it numbers rows, refused ones included, without holes.
//!
//! # Not here
//!
//! Appending ([`super::stream`]); reading headers and first lines (the server).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::decode::{Decoded, Lines};
use crate::engine::IngestReceipt;
use crate::engine::stream::StreamState;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::{FrameKind, NewFrame, Position};
use crate::log::headers::FrameSummary;
use crate::log::log::{Appended, Log};
use crate::log::retention::RetentionRequest;

/// Producers of all streams together.
const PRODUCERS_MAX: usize = 100_000;
/// Bytes of a producer's id.
const ID_BYTES_MAX: usize = 200;
/// A producer that was not heard for so long may be forgotten.
const FORGET_AFTER: i64 = 7 * 24 * 3600 * crate::time::SECOND;
/// Answers that are kept in memory for each producer; others are looked up in the log.
const ANSWERS: usize = 8;
/// An answer that lists more refused rows is not kept in memory.
const ANSWER_ERRORS: usize = 16;

/// Who numbers what it sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub id: String,
    /// The sequence of the request, or of its first row.
    pub sequence: u64,
    /// Whether each row has a sequence of its own.
    pub each_row: bool,
}

/// What a request of a producer left in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    producer: String,
    protocol: String,
    sequence: u64,
    /// The sequence after it.
    next: u64,
    accepted: u64,
    rejected: u64,
    #[serde(default)]
    shed: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<(u64, String, String)>,
    /// Where its rows begin, unless right behind the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_offset: Option<u64>,
}

/// A producer that the server knows.
#[derive(Debug)]
pub(super) struct Known {
    stream: u64,
    pub(super) protocol: String,
    /// Held while one of its requests is being stored: they come one after the other.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The sequence after the last one that is stored.
    next: Option<u64>,
    /// The newest answers, oldest first.
    answers: VecDeque<Sent>,
    /// The newest request without its refused rows, to be written again when its record goes.
    newest: Option<Sent>,
    /// Place and time of the newest record.
    frame: u64,
    heard: i64,
}

/// All producers by id.
#[derive(Debug, Default)]
pub(super) struct Producers {
    known: Mutex<HashMap<String, Arc<Known>>>,
}

impl Sent {
    /// What a request left, as far as it is known before it is stored.
    pub(super) fn new(
        producer: &Producer,
        protocol: &str,
        next: u64,
        receipt: &IngestReceipt,
    ) -> Sent {
        // Over TCP no answer lists them.
        let listed = if producer.each_row { 0 } else { receipt.errors.len() };
        let errors = receipt.errors.iter().take(listed);
        Sent {
            producer: producer.id.clone(),
            protocol: protocol.into(),
            sequence: producer.sequence,
            next,
            accepted: receipt.accepted,
            rejected: receipt.rejected,
            shed: receipt.shed,
            errors: errors.map(|(line, code, text)| (*line, code.0.into(), text.clone())).collect(),
            first_offset: None,
        }
    }

    /// The control record of the log.
    pub(super) fn frame(&self) -> NewFrame {
        let meta = serde_json::to_vec(self).expect("texts and numbers have a form in JSON");
        NewFrame::control(FrameKind::Progress, i64::MIN, meta)
    }

    /// The answer that the request got, or would have got.
    fn receipt(&self) -> IngestReceipt {
        let state = |code: &str| SqlState::ALL.iter().copied().find(|state| state.0 == code);
        let errors = self.errors.iter().map(|(line, code, text)| {
            (*line, state(code).unwrap_or(SqlState::INVALID_TEXT), text.clone())
        });
        let first_offset = self.first_offset.unwrap_or_default();
        IngestReceipt {
            accepted: self.accepted,
            rejected: self.rejected,
            shed: self.shed,
            first_offset,
            next_offset: first_offset + self.accepted,
            errors: errors.collect(),
            refused: false,
            next_sequence: Some(self.next),
        }
    }
}

impl Producers {
    /// The producer of that id, made if it is new. It belongs to one stream and one protocol.
    ///
    /// # Errors
    /// 22023 when it belongs to another or its id is none, 54000 when there are too many.
    pub(super) fn enter(
        &self,
        id: &str,
        protocol: &str,
        stream: &StreamState,
        now: i64,
    ) -> Result<Arc<Known>> {
        if id.is_empty() || id.len() > ID_BYTES_MAX || id.chars().any(char::is_control) {
            let message = "producer id is empty, too long or has control characters";
            return Err(Error::new(SqlState::INVALID_PARAMETER, message)
                .with_detail(format!("It may have {ID_BYTES_MAX} bytes.")));
        }
        let mut known = self.known.lock();
        if let Some(found) = known.get(id) {
            if found.stream != stream.record.id || found.protocol != protocol {
                let message = format!("producer \"{id}\" belongs to another stream or protocol");
                return Err(Error::new(SqlState::INVALID_PARAMETER, message)
                    .with_detail(format!("It came over {} before.", found.protocol))
                    .with_hint("Use a producer for one stream and one protocol."));
            }
            return Ok(Arc::clone(found));
        }
        if known.len() >= PRODUCERS_MAX {
            known.retain(|_, other| other.state.lock().heard > now - FORGET_AFTER);
            if known.len() >= PRODUCERS_MAX {
                let message = format!("server cannot know more than {PRODUCERS_MAX} producers");
                return Err(Error::new(SqlState::PROGRAM_LIMIT, message)
                    .with_hint("Let a program keep its producer id when it starts again."));
            }
        }
        let fresh = Arc::new(Known {
            stream: stream.record.id,
            protocol: protocol.into(),
            turn: Arc::default(),
            state: Mutex::new(State { heard: now, ..State::default() }),
        });
        known.insert(id.into(), Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Reads the records of a stream's log back.
    pub(super) fn recall(&self, stream: u64, frames: &[FrameSummary]) {
        let mut known = self.known.lock();
        for frame in frames.iter().filter(|frame| frame.kind == FrameKind::Progress) {
            let Some(sent) = read(&frame.meta, frame.at) else { continue };
            let producer = known.entry(sent.producer.clone()).or_insert_with(|| {
                let (protocol, state) = (sent.protocol.clone(), Mutex::default());
                Arc::new(Known { stream, protocol, turn: Arc::default(), state })
            });
            producer.state.lock().add(sent, frame.at.frame, frame.ingest_time);
        }
    }

    /// Forgets the producers of a stream that is dropped.
    pub(super) fn forget(&self, stream: u64) {
        self.known.lock().retain(|_, producer| producer.stream != stream);
    }

    /// Learns where records that were written again stand now.
    pub(super) fn moved(&self, appended: &Appended) {
        let known = self.known.lock();
        for frame in &appended.frames {
            let at = Position { frame: frame.index, offset: frame.first_offset };
            let producer = read(&frame.meta, at).and_then(|sent| known.get(&sent.producer));
            if let Some(producer) = producer {
                producer.state.lock().frame = frame.index;
            }
        }
    }

    /// Records of producers that a removal would take from the log, to be written again before it.
    pub(super) fn carried(
        &self,
        stream: &StreamState,
        request: RetentionRequest,
        now: i64,
    ) -> Vec<NewFrame> {
        let end = stream.log.removable(request).frame;
        let known = self.known.lock();
        let of_stream = known.values().filter(|producer| producer.stream == stream.record.id);
        of_stream
            .filter_map(|producer| {
                let state = producer.state.lock();
                let goes = state.frame < end && state.heard > now - FORGET_AFTER;
                Some(state.newest.as_ref().filter(|_| goes)?.frame())
            })
            .collect()
    }
}

/// A record of the log; its place says where the rows behind it begin.
fn read(meta: &[u8], at: Position) -> Option<Sent> {
    let mut sent: Sent = serde_json::from_slice(meta).ok()?;
    sent.first_offset = sent.first_offset.or(Some(at.offset));
    Some(sent)
}

impl State {
    fn add(&mut self, sent: Sent, frame: u64, time: i64) {
        self.frame = self.frame.max(frame);
        self.heard = self.heard.max(time);
        if self.next.is_some_and(|next| sent.next <= next) {
            return;
        }
        self.next = Some(sent.next);
        self.newest = Some(Sent { errors: vec![], ..sent.clone() });
        if sent.errors.len() <= ANSWER_ERRORS {
            self.answers.push_back(sent);
        }
        while self.answers.len() > ANSWERS {
            self.answers.pop_front();
        }
    }
}

impl Known {
    /// The sequence after the last one that is stored; `None` while there is none.
    pub(super) fn next(&self) -> Option<u64> {
        self.state.lock().next
    }

    /// Remembers a request that was stored, and completes its answer.
    pub(super) fn stored(&self, mut sent: Sent, appended: &Appended, receipt: &mut IngestReceipt) {
        sent.first_offset = Some(appended.first.offset);
        receipt.next_sequence = Some(sent.next);
        let time = appended.frames.first().map_or(0, |frame| frame.ingest_time);
        self.state.lock().add(sent, appended.first.frame, time);
    }

    /// The answer to a request that is stored already; `None` for a new one.
    ///
    /// # Errors
    /// 22023 for a sequence that was passed over and never stored.
    pub(super) fn answer(&self, producer: &Producer, log: &Log) -> Result<Option<IngestReceipt>> {
        let state = self.state.lock();
        let Some(next) = state.next.filter(|next| producer.sequence < *next) else {
            return Ok(None);
        };
        let found = state.answers.iter().find(|sent| sent.sequence == producer.sequence);
        if let Some(sent) = found {
            return Ok(Some(sent.receipt()));
        }
        drop(state);
        for frame in log.summaries(|kind| kind == FrameKind::Progress)? {
            let sent = read(&frame.meta, frame.at)
                .filter(|sent| sent.producer == producer.id && sent.sequence == producer.sequence);
            if let Some(sent) = sent {
                return Ok(Some(sent.receipt()));
            }
        }
        let (id, sequence) = (&producer.id, producer.sequence);
        let message = format!("sequence {sequence} of producer \"{id}\" comes too late");
        Err(Error::new(SqlState::INVALID_PARAMETER, message)
            .with_detail(format!("{} is stored, and {sequence} is not known to be.", next - 1))
            .with_hint("Send the requests of a producer one after the other."))
    }

    /// Leaves out the rows that are stored already. Gives the sequence after the last row.
    ///
    /// # Errors
    /// 22023 when rows are missing before the first.
    pub(super) fn skip(&self, producer: &mut Producer, decoded: &mut Decoded) -> Result<u64> {
        let rows = (decoded.batch.num_rows() + decoded.rejected.len()) as u64;
        let end = producer.sequence.checked_add(rows).ok_or_else(|| {
            Error::new(SqlState::INVALID_PARAMETER, "sequence of a producer is too large")
        })?;
        let next = self.next().unwrap_or(producer.sequence);
        if producer.sequence > next {
            return Err(gap(&producer.id, producer.sequence, next));
        }
        let skipped = (next - producer.sequence).min(rows);
        skip_rows(decoded, skipped as usize);
        producer.sequence += skipped;
        Ok(end)
    }
}

/// Rows are missing between what is stored and what comes.
pub(super) fn gap(id: &str, sequence: u64, next: u64) -> Error {
    let message = format!("rows of producer \"{id}\" are missing before sequence {sequence}");
    Error::new(SqlState::INVALID_PARAMETER, message)
        .with_detail(format!("Its next sequence is {next}."))
        .with_hint("Send again from the next sequence on.")
}

/// Takes away the first `skipped` rows in the order of their lines, good and refused ones alike.
fn skip_rows(decoded: &mut Decoded, skipped: usize) {
    let rows = decoded.batch.num_rows();
    let (mut good, mut refused) = (0, 0);
    while good + refused < skipped {
        let line = (good < rows).then(|| decoded.lines.line(good));
        let other = decoded.rejected.get(refused).map(|row| row.line);
        match (line, other) {
            (Some(line), other) if other.is_none_or(|other| line < other) => good += 1,
            _ => refused += 1,
        }
    }
    decoded.lines = match std::mem::replace(&mut decoded.lines, Lines::From(1)) {
        Lines::From(first) => Lines::From(first + good as u64),
        Lines::Each(mut lines) => {
            lines.drain(..good.min(lines.len()));
            Lines::Each(lines)
        }
    };
    decoded.batch = decoded.batch.slice(good, rows - good);
    decoded.rejected.drain(..refused);
    decoded.punctuations.retain(|(at, _)| *at >= good);
    decoded.punctuations.iter_mut().for_each(|(at, _)| *at -= good);
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::decode::Rejected;

    fn check(skipped: usize, expected: (Vec<i64>, Vec<u64>, Vec<u64>)) {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 3, 4]));
        let refused = |line| Rejected {
            line,
            code: SqlState::INVALID_TEXT,
            message: String::new(),
            raw: vec![],
        };
        let mut decoded = Decoded {
            batch: RecordBatch::try_from_iter([("n", numbers)]).unwrap(),
            lines: Lines::Each(vec![1, 3, 4]),
            rejected: vec![refused(2), refused(5)],
            punctuations: vec![],
            malformed: None,
        };
        skip_rows(&mut decoded, skipped);
        let left = decoded.batch.column(0).as_primitive::<Int64Type>().values().to_vec();
        let lines = (0..left.len()).map(|row| decoded.lines.line(row)).collect();
        let bad = decoded.rejected.iter().map(|row| row.line).collect();
        assert_eq!((left, lines, bad), expected, "{skipped}");
    }

    #[test]
    fn good_and_refused_rows_are_passed_over_in_the_order_of_their_lines() {
        check(0, (vec![1, 3, 4], vec![1, 3, 4], vec![2, 5]));
        check(1, (vec![3, 4], vec![3, 4], vec![2, 5]));
        check(2, (vec![3, 4], vec![3, 4], vec![5]));
        check(4, (vec![], vec![], vec![5]));
        check(5, (vec![], vec![], vec![]));
    }

    #[test]
    fn a_record_comes_back_with_the_place_of_its_rows() {
        let producer = Producer { id: "p".into(), sequence: 4, each_row: false };
        let error = (2, SqlState::INVALID_TEXT, "no number".to_string());
        let receipt =
            IngestReceipt { accepted: 2, rejected: 1, errors: vec![error], ..Default::default() };
        let sent = Sent::new(&producer, "http", 5, &receipt);
        let back = read(&sent.frame().meta, Position { frame: 9, offset: 70 }).unwrap().receipt();
        let expected =
            IngestReceipt { first_offset: 70, next_offset: 72, next_sequence: Some(5), ..receipt };
        assert_eq!(back, expected);
    }
}
