//! Is a stream that runs: its log, its writer, and the checks that each row has to pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::scalar::ScalarValue;
use parking_lot::RwLock;

use crate::catalog::definition::StreamDefinition;
use crate::catalog::record::Record;
use crate::data::punctuation::Punctuation;
use crate::decode::{DecodeSpec, DecodeSpecRef, Decoded, Limits, Lines, Rejected};
use crate::engine::AckLevel;
use crate::engine::budget::Budget;
use crate::engine::punctuation_meta::punctuation_bytes;
use crate::error::{Error, Result, SqlState};
use crate::log::append::Appender;
use crate::log::frame::{FrameKind, NewFrame};
use crate::log::log::{Durability, Log};
use crate::pipeline::source::event_times;
use crate::planner::physical::EventTimeColumn;
use crate::planner::relations::{RelationInfo, RelationKind};

/// A stream that runs.
pub(super) struct StreamState {
    pub record: Record,
    pub definition: Arc<StreamDefinition>,
    /// Visible columns, then the hidden ones.
    pub full_schema: SchemaRef,
    pub log: Arc<Log>,
    pub appender: Appender,
    /// What ALTER changes; in `definition` these are as they were when the stream was opened.
    pub options: RwLock<StreamOptions>,
    /// Promises made so far. Held for writing while one is made, for reading while rows are checked and
    /// queued, so that a row behind a promise in the log was checked against it.
    pub punctuations: tokio::sync::RwLock<Vec<Punctuation>>,
    /// Processing time of the last append.
    pub last_arrival: AtomicI64,
    /// The watermark after the last row; `i64::MIN` while there is none.
    pub watermark: Arc<AtomicI64>,
    pub rows_rejected: AtomicU64,
    pub rows_shed: AtomicU64,
    /// What senders have reserved.
    pub budget: Budget,
    /// Last arrival and the watermark then, while the stream is idle.
    pub idle_base: parking_lot::Mutex<Option<(i64, i64)>>,
}

/// The options of a stream that may change while it runs.
pub(super) struct StreamOptions {
    /// CREATE STREAM with the options as they are now.
    pub sql: String,
    pub decode_spec: DecodeSpecRef,
    /// How long rows are kept, microseconds of processing time.
    pub retention: i64,
    /// How many bytes are kept.
    pub retention_bytes: Option<u64>,
    /// After how long without rows the watermark follows the clock, microseconds.
    pub idle_timeout: Option<i64>,
    /// How far event time may run ahead of the clock, microseconds.
    pub max_future_skew: i64,
    /// Whether one bad row refuses its whole request.
    pub reject_requests: bool,
}

impl StreamOptions {
    pub(super) fn of(definition: &StreamDefinition, sql: String) -> StreamOptions {
        let decode_spec = DecodeSpec {
            schema: Arc::clone(&definition.schema),
            reject_unknown_fields: definition.reject_unknown_fields,
            limits: Limits::default(),
        };
        StreamOptions {
            sql,
            decode_spec: Arc::new(decode_spec),
            retention: definition.retention,
            retention_bytes: definition.retention_bytes,
            idle_timeout: definition.idle_timeout,
            max_future_skew: definition.max_future_skew,
            reject_requests: definition.reject_requests,
        }
    }
}

impl StreamState {
    pub(super) fn info(&self) -> RelationInfo {
        stream_info(&self.definition, &self.full_schema)
    }

    /// Whether its event time is a plain number.
    pub(super) fn is_logical(&self) -> bool {
        self.definition.watermark.as_ref().is_some_and(|watermark| {
            self.definition.schema.field(watermark.column).data_type().is_integer()
        })
    }

    pub(super) fn default_ack(&self) -> AckLevel {
        match self.definition.durability {
            Durability::Durable => AckLevel::Durable,
            Durability::Written => AckLevel::Written,
            Durability::Memory => AckLevel::Memory,
        }
    }

    /// Checks rows one by one against what the schema alone cannot say; gives the good ones.
    pub(super) fn check(
        &self,
        decoded: &mut Decoded,
        now: i64,
        promises: &[Punctuation],
    ) -> Result<()> {
        let rows = decoded.batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        let mut bad: Vec<(usize, SqlState, String)> = Vec::new();
        if let Some(watermark) = &self.definition.watermark {
            let field = self.definition.schema.field(watermark.column);
            let times = event_times(decoded.batch.column(watermark.column))?;
            let timed = field.data_type().is_temporal();
            let limit = now.saturating_add(self.options.read().max_future_skew);
            let highest = arrow::compute::max(&times).unwrap_or(i64::MIN);
            if times.null_count() > 0 || (timed && highest > limit) {
                for row in 0..rows {
                    if times.is_null(row) {
                        let message =
                            format!("null value in event-time column \"{}\"", field.name());
                        bad.push((row, SqlState::NOT_NULL_VIOLATION, message));
                    } else if timed && times.value(row) > limit {
                        let message = format!(
                            "event time in column \"{}\" is too far ahead of the clock",
                            field.name()
                        );
                        bad.push((row, SqlState::TOO_FAR_IN_FUTURE, message));
                    }
                }
            }
        }
        if !promises.is_empty() || !decoded.punctuations.is_empty() {
            for row in 0..rows {
                // A promise inside the request binds the rows behind it, as if they came later.
                let inside = decoded.punctuations.iter().filter(|(at, _)| *at <= row);
                let given = promises.iter().chain(inside.map(|(_, promise)| promise));
                if bad.iter().all(|(other, ..)| *other != row)
                    && breaks_promise(&decoded.batch, row, given)?
                {
                    let message = "row matches a punctuation that was given before".to_string();
                    bad.push((row, SqlState::BEHIND_PUNCTUATION, message));
                }
            }
        }
        if bad.is_empty() { Ok(()) } else { remove_rows(decoded, &bad) }
    }

    /// The frames of a request: its rows, cut where punctuations stand.
    pub(super) fn frames(&self, decoded: &Decoded) -> Vec<NewFrame> {
        let rows = |start: usize, end: usize| {
            NewFrame::rows(decoded.batch.slice(start, end - start), i64::MIN)
        };
        let mut frames = Vec::with_capacity(1 + 2 * decoded.punctuations.len());
        let mut start = 0;
        for (at, punctuation) in &decoded.punctuations {
            if *at > start {
                frames.push(rows(start, *at));
                start = *at;
            }
            frames.push(self.punctuation_frame(punctuation));
        }
        if decoded.batch.num_rows() > start {
            frames.push(rows(start, decoded.batch.num_rows()));
        }
        frames
    }

    /// A punctuation as a control record; `at < t` moves the watermark to t, `at <= t` to the time behind it.
    pub(super) fn punctuation_frame(&self, punctuation: &Punctuation) -> NewFrame {
        let watermark = self.definition.watermark.as_ref().and_then(|watermark| {
            let field = self.definition.schema.field(watermark.column);
            let (bound, included) = punctuation.as_watermark(field.name())?;
            let times = event_times(&bound.to_array().ok()?).ok()?;
            Some(times.value(0).saturating_add(i64::from(included)))
        });
        let meta = punctuation_bytes(punctuation);
        NewFrame::control(FrameKind::Punctuation, watermark.unwrap_or(i64::MIN), meta)
    }
}

/// What the planner needs to know of a stream.
pub(super) fn stream_info(definition: &StreamDefinition, full_schema: &SchemaRef) -> RelationInfo {
    let visible = definition.schema.fields().len();
    let (event_times, processing_time) = match &definition.watermark {
        Some(watermark) => (vec![EventTimeColumn { column: watermark.column, delay: 0 }], false),
        // `_ingest_time` never goes back: it is its own watermark.
        None => (vec![EventTimeColumn { column: visible + 1, delay: 0 }], true),
    };
    RelationInfo {
        name: Arc::clone(&definition.name),
        kind: RelationKind::Stream,
        schema: Arc::clone(full_schema),
        append_only: true,
        event_times,
        processing_time,
        unique_keys: vec![vec![visible]],
    }
}

fn breaks_promise<'a>(
    batch: &RecordBatch,
    row: usize,
    promises: impl Iterator<Item = &'a Punctuation>,
) -> Result<bool> {
    let schema = batch.schema();
    for promise in promises {
        let mut matches = !promise.columns.is_empty();
        for (name, pattern) in &promise.columns {
            let Ok(column) = schema.index_of(name) else { return Ok(false) };
            let value =
                ScalarValue::try_from_array(batch.column(column), row).map_err(|error| {
                    Error::new(SqlState::INTERNAL, format!("value cannot be read: {error}"))
                })?;
            matches &= pattern.matches(&value);
        }
        if matches {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Moves rows from the good to the bad, keeping lines and the places of punctuations right.
fn remove_rows(decoded: &mut Decoded, bad: &[(usize, SqlState, String)]) -> Result<()> {
    let rows = decoded.batch.num_rows();
    let mut keep = vec![true; rows];
    for (row, code, message) in bad {
        keep[*row] = false;
        let mut raw = Vec::new();
        crate::encode::json::write_row_object(&decoded.batch, *row, &mut raw);
        decoded.rejected.push(Rejected {
            line: decoded.lines.line(*row),
            code: *code,
            message: message.clone(),
            raw,
        });
    }
    decoded.rejected.sort_by_key(|rejected| rejected.line);
    keep_rows(decoded, keep)
}

/// Leaves only some of the good rows, keeping lines and the places of punctuations right.
pub(super) fn keep_rows(decoded: &mut Decoded, keep: Vec<bool>) -> Result<()> {
    let kept = (0..keep.len()).filter(|row| keep[*row]);
    decoded.lines = Lines::Each(kept.map(|row| decoded.lines.line(row)).collect());
    for (at, _) in &mut decoded.punctuations {
        *at = keep[..*at].iter().filter(|kept| **kept).count();
    }
    decoded.batch = filter_record_batch(&decoded.batch, &BooleanArray::from(keep))
        .map_err(|error| Error::new(SqlState::INTERNAL, format!("rows cannot be kept: {error}")))?;
    Ok(())
}
