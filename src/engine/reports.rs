//! Keeps what could not be used as data: dead letters, late rows and the numbers of shed rows, each a
//! log that can be queried.
//!
//! A query that replays reports nothing twice ([`crate::engine::reported`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use parking_lot::{Mutex, RwLock};

use crate::decode::Rejected;
use crate::engine::report_log;
use crate::engine::reported::Reported;
use crate::engine::shed::Shortage;
use crate::engine::stream::StreamState;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::{NewFrame, Position};
use crate::log::log::Log;
use crate::operators::operator::{LateRow, RejectedRow};
use crate::sinks::sink::Refused;
use crate::time::Clock;
use crate::views::changelog::Changelog;

/// The logs, and the streams whose rows they tell of.
pub(super) struct Reports {
    pub clock: Arc<dyn Clock>,
    pub dead_letters: Arc<Log>,
    pub late_rows: Arc<Log>,
    pub shed: Arc<Log>,
    /// Rows shed and not written down yet: per stream and shortage the offset at which the first would
    /// have stood, and their number.
    pub fresh_shed: Mutex<BTreeMap<(String, Shortage), (u64, u64)>>,
    /// Held while they are being written.
    pub writing_shed: Mutex<()>,
    /// Streams by name, to read a late row's content.
    pub streams: RwLock<BTreeMap<String, Arc<StreamState>>>,
    /// Changelogs of queries by name, for the same.
    pub changelogs: RwLock<BTreeMap<String, Arc<Changelog>>>,
    /// The rows of queries that are in these logs.
    pub reported: Mutex<Reported>,
}

/// Rows of a stream that were shed for want of something: the offset at which the first would have stood, and
/// their number.
type FreshShed = ((String, Shortage), (u64, u64));

/// Refused rows that become one frame.
const REJECTED_ROWS: usize = 16_384;

/// Rows of `weir.dead_letters` before they are columns.
#[derive(Default)]
struct DeadLetters {
    relation: Vec<String>,
    offset: Vec<Option<i64>>,
    line: Vec<Option<i64>>,
    code: Vec<&'static str>,
    reason: Vec<String>,
    raw: Vec<Vec<u8>>,
    query: Vec<Option<String>>,
}

impl Reports {
    /// Records rows of a request that were refused.
    pub(super) fn dead_letters(&self, relation: &str, rejected: &[Rejected]) -> Result<()> {
        // In pieces, because each is copied into columns.
        rejected.chunks(REJECTED_ROWS).try_for_each(|rows| self.append_letters(relation, rows))
    }

    fn append_letters(&self, relation: &str, rejected: &[Rejected]) -> Result<()> {
        let mut rows = DeadLetters::default();
        for row in rejected {
            rows.relation.push(relation.into());
            rows.offset.push(None);
            rows.line.push(i64::try_from(row.line).ok());
            rows.code.push(row.code.0);
            rows.reason.push(row.message.clone());
            rows.raw.push(row.raw.clone());
            rows.query.push(None);
        }
        self.append(&self.dead_letters, self.dead_letter_columns(&rows))
    }

    /// Records rows on which a query's expression failed.
    pub(super) fn rejected_rows(&self, query: &str, rows: &[RejectedRow]) {
        let mut letters = DeadLetters::default();
        for row in rows {
            if !self.reported.lock().note(query, &row.relation, row.offset, row.code.0) {
                continue;
            }
            letters.relation.push(row.relation.to_string());
            letters.query.push(Some(query.into()));
            letters.offset.push(i64::try_from(row.offset).ok());
            letters.line.push(None);
            letters.code.push(row.code.0);
            letters.reason.push(row.reason.clone());
            letters.raw.push(self.row_text(&row.relation, row.offset).into_bytes());
        }
        if !letters.relation.is_empty() {
            let appended = self.append(&self.dead_letters, self.dead_letter_columns(&letters));
            log_failure(appended);
        }
    }

    /// Records rows of a query that the target of a sink refused; one that comes again after a crash is
    /// not recorded again. Where it cannot be written, it counts as not told.
    pub(super) fn refused_rows(&self, sink: &str, query: &str, rows: &[Refused]) -> Result<()> {
        let mut letters = DeadLetters::default();
        let mut noted = Vec::new();
        for row in rows {
            let code = known_state(&row.code).0;
            if !self.reported.lock().note(query, sink, row.offset, code) {
                continue;
            }
            noted.push((row.offset, code));
            letters.relation.push(sink.into());
            letters.query.push(Some(query.into()));
            letters.offset.push(i64::try_from(row.offset).ok());
            letters.line.push(None);
            letters.code.push(code);
            letters.reason.push(row.reason.clone());
            letters.raw.push(row.row.clone().into_bytes());
        }
        if noted.is_empty() {
            return Ok(());
        }
        self.append(&self.dead_letters, self.dead_letter_columns(&letters)).inspect_err(|_| {
            let mut reported = self.reported.lock();
            for (offset, code) in noted {
                reported.take_back(query, sink, offset, code);
            }
        })
    }

    /// Records rows that came after their window was dropped.
    pub(super) fn late_rows(&self, query: &str, rows: &[LateRow]) {
        let fresh: Vec<&LateRow> = rows
            .iter()
            .filter(|row| {
                let code = SqlState::LATE.0;
                self.reported.lock().note(query, &row.relation, row.offset, code)
            })
            .collect();
        if fresh.is_empty() {
            return;
        }
        let count = fresh.len();
        let texts = |text: &dyn Fn(&LateRow) -> String| -> ArrayRef {
            Arc::new(StringViewArray::from_iter_values(fresh.iter().map(|row| text(row))))
        };
        let times = |time: &dyn Fn(&LateRow) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(fresh.iter().map(|row| time(row))))
        };
        let now = self.clock.now();
        let columns: Vec<ArrayRef> = vec![
            texts(&|_| query.to_string()),
            texts(&|row| row.relation.to_string()),
            Arc::new(Int64Array::from_iter_values(fresh.iter().map(|row| row.offset as i64))),
            times(&|row| row.event_time.0),
            times(&|row| row.watermark.0),
            texts(&|row| self.row_text(&row.relation, row.offset)),
            Arc::new(TimestampMicrosecondArray::from_value(now, count)),
            Arc::new(Int64Array::from_iter_values(
                fresh.iter().map(|row| row.windows_dropped as i64),
            )),
        ];
        log_failure(self.append(&self.late_rows, columns));
    }

    /// Counts rows that are about to be shed, and writes that down: whoever is told of them finds them
    /// again. Where it cannot be written they are not counted.
    pub(super) fn shed(&self, stream: &str, offset: u64, rows: u64, why: Shortage) -> Result<()> {
        self.count_shed(stream, offset, rows, why);
        self.write_shed().inspect_err(|_| {
            let mut fresh = self.fresh_shed.lock();
            if let Some((_, count)) = fresh.get_mut(&(stream.to_string(), why)) {
                *count = count.saturating_sub(rows);
            }
        })
    }

    /// Counts rows that are shed already: where it cannot be written now, it is later.
    pub(super) fn shed_already(&self, stream: &str, offset: u64, rows: u64, why: Shortage) {
        self.count_shed(stream, offset, rows, why);
        log_failure(self.write_shed());
    }

    fn count_shed(&self, stream: &str, offset: u64, rows: u64, why: Shortage) {
        let mut fresh = self.fresh_shed.lock();
        fresh.entry((stream.to_string(), why)).or_insert((offset, 0)).1 += rows;
    }

    /// Writes down what was shed and is not written yet: one writes for all who have counted until then,
    /// and who comes next finds its own written. What cannot be written stays counted.
    pub(super) fn write_shed(&self) -> Result<()> {
        let _one_at_a_time = self.writing_shed.lock();
        let mut fresh = std::mem::take(&mut *self.fresh_shed.lock());
        fresh.retain(|_, (_, rows)| *rows > 0);
        if fresh.is_empty() {
            return Ok(());
        }
        let fresh: Vec<_> = fresh.into_iter().collect();
        self.append_shed(&fresh).inspect_err(|_| {
            let mut later = self.fresh_shed.lock();
            for (key, (offset, rows)) in fresh {
                let (first, count) = later.entry(key).or_insert((offset, 0));
                (*first, *count) = (offset.min(*first), *count + rows);
            }
        })
    }

    fn append_shed(&self, fresh: &[FreshShed]) -> Result<()> {
        let numbers = |number: &dyn Fn(&(u64, u64)) -> u64| -> ArrayRef {
            Arc::new(Int64Array::from_iter_values(fresh.iter().map(|(_, c)| number(c) as i64)))
        };
        let texts = |text: &dyn Fn(&(String, Shortage)) -> String| -> ArrayRef {
            Arc::new(StringViewArray::from_iter_values(fresh.iter().map(|(key, _)| text(key))))
        };
        let columns = vec![
            texts(&|(stream, _)| stream.clone()),
            numbers(&|(offset, _)| *offset),
            numbers(&|(_, rows)| *rows),
            texts(&|(_, shortage)| shortage.name().to_string()),
            Arc::new(TimestampMicrosecondArray::from_value(self.clock.now(), fresh.len())),
        ];
        self.append(&self.shed, columns)
    }

    /// Reads back what earlier runs recorded, so that a replay does not record it again.
    pub(super) fn remember(&self) -> Result<()> {
        let mut reported = self.reported.lock();
        for (log, is_late) in [(&self.late_rows, true), (&self.dead_letters, false)] {
            let mut position = log.start();
            while position.frame < log.visible().frame {
                let frames = log.read(position, 65_536)?;
                let Some(last) = frames.last() else { break };
                position = Position { frame: last.index + 1, offset: last.next_offset() };
                for batch in frames.iter().filter_map(|frame| frame.batch.as_ref()) {
                    report_log::each_report(batch, is_late, |query, relation, offset, code| {
                        reported.note(query, relation, offset, code);
                    });
                }
            }
        }
        Ok(())
    }

    fn dead_letter_columns(&self, rows: &DeadLetters) -> Vec<ArrayRef> {
        let raw = rows.raw.iter().map(Vec::as_slice);
        let count = rows.relation.len();
        vec![
            Arc::new(StringViewArray::from_iter_values(&rows.relation)),
            Arc::new(Int64Array::from(rows.offset.clone())),
            Arc::new(Int64Array::from(rows.line.clone())),
            Arc::new(StringViewArray::from_iter_values(&rows.code)),
            Arc::new(StringViewArray::from_iter_values(&rows.reason)),
            Arc::new(BinaryArray::from_iter_values(raw)),
            Arc::new(TimestampMicrosecondArray::from_value(self.clock.now(), count)),
            Arc::new(rows.query.iter().map(Option::as_deref).collect::<StringViewArray>()),
        ]
    }

    /// Writes rows down, with as many of their columns as the log was begun with.
    fn append(&self, log: &Log, columns: Vec<ArrayRef>) -> Result<()> {
        let schema = log.schema();
        let kept = columns.into_iter().take(schema.fields().len()).collect();
        let batch = RecordBatch::try_new(Arc::clone(schema), kept).map_err(|error| {
            Error::new(SqlState::INTERNAL, format!("report cannot be written: {error}"))
        })?;
        log.append(vec![NewFrame::rows(batch, i64::MIN)], false)?;
        Ok(())
    }

    /// A row of a stream as JSON; empty when the log no longer holds it.
    fn row_text(&self, relation: &str, offset: u64) -> String {
        let stream = self.streams.read().get(relation).map(Arc::clone);
        let changelog = self.changelogs.read().get(relation).map(Arc::clone);
        let read = || -> Option<String> {
            let log = match (&stream, &changelog) {
                (Some(stream), _) => &stream.log,
                (None, Some(changelog)) => changelog.log(),
                (None, None) => return None,
            };
            let position = log.position_of_offset(offset).ok()?;
            let frame = log.read(position, 1).ok()?.into_iter().next()?;
            let row = usize::try_from(offset.checked_sub(frame.first_offset)?).ok()?;
            let batch = match &changelog {
                Some(changelog) if stream.is_none() => changelog.entry(&frame)?.batch,
                _ => frame.batch.clone()?,
            };
            let batch = Some(&batch).filter(|batch| row < batch.num_rows())?;
            let mut text = Vec::new();
            crate::encode::json::write_row_object(batch, row, &mut text);
            String::from_utf8(text).ok()
        };
        read().unwrap_or_default()
    }
}

/// A target's code as one of ours; a code that Weir does not know counts as a bad value.
fn known_state(code: &str) -> SqlState {
    SqlState::ALL.iter().copied().find(|state| state.0 == code).unwrap_or(SqlState::INVALID_TEXT)
}

fn log_failure(result: Result<()>) {
    if let Err(error) = result {
        tracing::error!("report was lost: {}", error.message());
    }
}
