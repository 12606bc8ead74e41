//! States what an operator is and what every operator owes its neighbours.
//!
//! # Contract
//!
//! 1. Emit what a watermark completes before forwarding it; forward it last.
//! 2. Never emit below a watermark already forwarded, except corrections within allowed lateness.
//! 3. Equal input sequence, equal output sequence: no hash order, thread count or, where the
//!    planner says so ([`crate::planner::physical`]), batch cut may show in the output.
//! 4. Memory is bounded by the formula in the file's `# State` section.
//! 5. No input or output, no clock, no lock, no thread.
//! 6. The *spec* (immutable, what EXPLAIN prints) and the *state* are separate types.
//!
//! Rows that an operator has to refuse go to [`Emitter::reject`] or [`Emitter::late`]; they never
//! end the query.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;

use crate::data::change::Change;
use crate::data::punctuation::Punctuation;
use crate::error::{Report, SqlState};
use crate::operators::state::{StateReader, StateWriter};
use crate::time::EventTime;

/// One node of a pipeline, running inside one query, on one thread at a time.
pub trait Operator: Send {
    /// The name in EXPLAIN, metrics and `weir.operators`: the file's name in CamelCase.
    fn name(&self) -> &'static str;

    /// Takes rows on an input port.
    fn on_change(
        &mut self,
        port: usize,
        change: Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError>;

    /// Takes the promise that no row below `watermark` follows on this port, except late ones.
    fn on_watermark(
        &mut self,
        port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError>;

    /// Takes a punctuation: no row that matches it follows on this port, neither an insertion nor a
    /// retraction. Forwards it where that still holds for the output: an operator that takes back what it has
    /// put out first forgets the groups of which the punctuation speaks.
    fn on_punctuation(
        &mut self,
        _port: usize,
        _punctuation: &Punctuation,
        _out: &mut Emitter,
    ) -> Result<(), EvalError> {
        Ok(())
    }

    /// Ends a frame of a log, once every source that reads the log has had it. Operators that wait for
    /// a frame's rows on all of their ports take them now. Not called where a query has one source.
    fn on_frame_end(&mut self, _out: &mut Emitter) -> Result<(), EvalError> {
        Ok(())
    }

    /// Whether its output shows in which order rows came on its ports.
    fn interleaves(&self) -> bool {
        false
    }

    /// Learns that processing time has come to `now` (microseconds, never goes back). Called before
    /// every frame with the frame's ingest time, and for tick records. Whatever a timeout makes due
    /// takes effect at the computed time, not at `now`.
    fn on_tick(&mut self, _now: i64, _out: &mut Emitter) -> Result<(), EvalError> {
        Ok(())
    }

    /// The processing time at which this operator wants a tick even if no row comes.
    fn next_tick(&self) -> Option<i64> {
        None
    }

    /// Ends a step: operators that coalesce changes (EMIT CHANGES) emit them now.
    fn on_step_end(&mut self, _out: &mut Emitter) -> Result<(), EvalError> {
        Ok(())
    }

    /// Bytes of state held.
    fn state_bytes(&self) -> usize;

    /// How many rows, groups, windows or partitions it holds: what stands behind the bytes, without the room
    /// that is kept for more.
    fn held(&self) -> usize {
        0
    }

    /// Rows of a change that it takes in one call: few, where it makes many rows of each, so that those are gone before more are made.
    fn rows_at_once(&self) -> usize {
        usize::MAX
    }

    /// Into how many shards its keys are split at the moment.
    fn shards(&self) -> usize {
        1
    }

    /// Whether an operator that [`restore`](Self::restore)s goes on to the bit as this one would.
    /// Where it does not, the query has no snapshots and replays its log instead.
    fn restores_exactly(&self) -> bool {
        false
    }

    /// Writes everything that later output depends on. Called between steps only, where
    /// [`restores_exactly`](Self::restores_exactly).
    fn save(&mut self, _out: &mut StateWriter) -> Result<(), EvalError> {
        Err(EvalError::Broken(format!("{} cannot be saved", self.name())))
    }

    /// Begins to write the same, as it is at this moment; `true`: the rest follows by
    /// [`save_more`](Self::save_more), while the operator goes on. An operator whose state may be
    /// large does not write all of it at once.
    fn save_begin(&mut self, out: &mut StateWriter) -> Result<bool, EvalError> {
        self.save(out).map(|()| false)
    }

    /// Writes about so many bytes more of what [`save_begin`](Self::save_begin) began with; whether
    /// there is still more. Called between steps only.
    fn save_more(&mut self, _bytes: usize, _out: &mut StateWriter) -> Result<bool, EvalError> {
        Ok(false)
    }

    /// Learns that nobody will ask for the rest.
    fn save_abandon(&mut self) {}

    /// Takes over what [`save`](Self::save) of an operator with an equal spec wrote, or the next
    /// part of what [`save_begin`](Self::save_begin) and [`save_more`](Self::save_more) wrote. Called
    /// on a new operator only.
    fn restore(&mut self, _from: &mut StateReader<'_>) -> Result<(), EvalError> {
        Err(EvalError::Broken(format!("{} cannot be restored", self.name())))
    }

    /// The rows that the operator's output sums to at this moment, where it knows them: made of what is
    /// copied now, later and elsewhere. Called between steps only.
    fn current(&self) -> Result<Option<Current>, EvalError> {
        Ok(None)
    }

    /// Learns that everything was handed to [`restore`](Self::restore).
    fn restored(&mut self) -> Result<(), EvalError> {
        Ok(())
    }
}

/// Makes the rows of a result of what was copied of it.
pub type Current = Box<dyn FnOnce() -> Result<Vec<RecordBatch>, EvalError> + Send>;

/// What flows out of an operator, in order.
#[expect(
    clippy::large_enum_variant,
    reason = "outputs are moved a few times per batch, not per row"
)]
#[derive(Debug, Clone)]
pub enum Output {
    /// Rows.
    Change(Change),
    /// A watermark.
    Watermark(EventTime),
    /// A punctuation.
    Punctuation(Arc<Punctuation>),
}

/// A row that arrived after its window was dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct LateRow {
    /// Name of the stream whose log holds the row.
    pub relation: Arc<str>,
    /// The row's offset there.
    pub offset: u64,
    /// The row's event time.
    pub event_time: EventTime,
    /// The stream's watermark when the row arrived.
    pub watermark: EventTime,
    /// How many of the row's windows were already dropped.
    pub windows_dropped: usize,
}

/// A row on which an expression failed.
#[derive(Debug, Clone, PartialEq)]
pub struct RejectedRow {
    /// Name of the stream whose log holds the row.
    pub relation: Arc<str>,
    /// The row's offset there.
    pub offset: u64,
    /// Why, as a code.
    pub code: SqlState,
    /// Why, in words.
    pub reason: String,
}

/// Collects what an operator puts out during one call.
#[derive(Debug)]
pub struct Emitter {
    /// Output in order.
    pub outputs: Vec<Output>,
    /// Rows that were dropped as too late.
    pub late: Vec<LateRow>,
    /// Rows that were refused.
    pub rejected: Vec<RejectedRow>,
    /// Bytes of the rows that are there, as [`bytes_of`] counts them: in `outputs`, and before the call.
    pub bytes: u64,
    /// So many of them do not count.
    pub given: u64,
    /// How many there may be.
    pub bytes_max: u64,
}

impl Default for Emitter {
    fn default() -> Emitter {
        Emitter {
            outputs: Vec::new(),
            late: Vec::new(),
            rejected: Vec::new(),
            bytes: 0,
            given: 0,
            bytes_max: u64::MAX,
        }
    }
}

/// Bytes of a change's rows, roughly: eight for a row and for each plain value. Texts are views of bytes that
/// are shared with the rows from which they were made; BYTEA and lists are copied, and count as long as they are.
pub fn bytes_of(change: &Change) -> u64 {
    let columns: usize = change.batch.columns().iter().map(bytes_of_column).sum();
    (8 * change.batch.num_rows() + columns) as u64
}

fn bytes_of_column(column: &ArrayRef) -> usize {
    let plain = 8 * column.len();
    match column.data_type() {
        DataType::Binary => {
            let offsets = column.as_binary::<i32>().value_offsets();
            plain + span(offsets).len()
        }
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            let items = span(list.value_offsets());
            plain + bytes_of_column(&list.values().slice(items.start, items.len()))
        }
        DataType::Struct(_) => column.as_struct().columns().iter().map(bytes_of_column).sum(),
        _ => plain,
    }
}

/// The items that offsets speak of.
fn span(offsets: &[i32]) -> Range<usize> {
    let place = |offset: Option<&i32>| offset.map_or(0, |offset| *offset as usize);
    place(offsets.first())..place(offsets.last())
}

impl Emitter {
    /// Emits rows; an empty change is swallowed.
    pub fn change(&mut self, change: Change) {
        if change.batch.num_rows() > 0 {
            self.bytes = self.bytes.saturating_add(bytes_of(&change));
            self.outputs.push(Output::Change(change));
        }
    }
    /// Whether there is room for more rows: asked by operators that make many of few.
    ///
    /// # Errors
    /// [`EvalError::NoRoom`] when there is none.
    pub fn check_room(&self) -> Result<(), EvalError> {
        check_room(self.bytes.saturating_sub(self.given), self.bytes_max)
    }
    /// Forwards a watermark.
    pub fn watermark(&mut self, watermark: EventTime) {
        self.outputs.push(Output::Watermark(watermark));
    }
    /// Forwards a punctuation.
    pub fn punctuation(&mut self, punctuation: Arc<Punctuation>) {
        self.outputs.push(Output::Punctuation(punctuation));
    }
    /// Reports a row dropped as too late.
    pub fn late(&mut self, row: LateRow) {
        self.late.push(row);
    }
    /// Reports a row on which an expression failed.
    pub fn reject(&mut self, row: RejectedRow) {
        self.rejected.push(row);
    }
}

/// Whether so many bytes of rows may come out.
///
/// # Errors
/// [`EvalError::NoRoom`] when they may not.
pub fn check_room(bytes: u64, bytes_max: u64) -> Result<(), EvalError> {
    if bytes > bytes_max { Err(EvalError::NoRoom { bytes_max }) } else { Ok(()) }
}

/// An error that ends the query (never one that a single row can cause).
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// An expression or aggregate failed as a whole.
    #[error("{0}")]
    DataFusion(#[from] datafusion::error::DataFusionError),
    /// A kernel failed.
    #[error("{0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A group's integer result does not fit its type.
    #[error("{function} is out of range for type {data_type}")]
    Overflow {
        /// The aggregate.
        function: String,
        /// The result type.
        data_type: String,
    },
    /// A group's result is larger than a result may be.
    #[error("{0}")]
    TooLarge(String),
    /// The rows of one request make more rows than there is memory for.
    #[error("query puts out more than {bytes_max} bytes of rows at once")]
    NoRoom {
        /// Four times the query's memory limit, or more.
        bytes_max: u64,
    },
    /// An invariant does not hold.
    #[error("{0}")]
    Broken(String),
    /// Bytes of state that no operator of this plan wrote.
    #[error("state in the snapshot does not fit the plan: {0}")]
    Misfit(String),
}

impl EvalError {
    /// Whether only the result of one group is at fault, which is then left out.
    pub fn is_of_one_group(&self) -> bool {
        matches!(self, EvalError::Overflow { .. } | EvalError::TooLarge(_))
    }
}

impl Report for EvalError {
    fn code(&self) -> SqlState {
        match self {
            EvalError::Overflow { .. } => SqlState::NUMERIC_RANGE,
            EvalError::TooLarge(_) => SqlState::PROGRAM_LIMIT,
            EvalError::Misfit(_) => SqlState::SNAPSHOT_MISMATCH,
            EvalError::NoRoom { .. } => SqlState::OUT_OF_MEMORY,
            EvalError::DataFusion(_) | EvalError::Arrow(_) | EvalError::Broken(_) => {
                SqlState::INTERNAL
            }
        }
    }

    fn hint(&self) -> Option<String> {
        let EvalError::NoRoom { .. } = self else { return None };
        Some(
            "Let a row make fewer rows, as by a narrower condition of a join, or raise memory_limit in WITH (…)."
                .into(),
        )
    }
}
