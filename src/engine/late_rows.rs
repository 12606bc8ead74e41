//! Puts rows that came too late for a query into a stream: LATE ROWS TO.
//!
//! The query is a producer of that stream, and numbers its late rows from its beginning. A replay
//! meets the same rows in the same order, so those that are stored already are passed over.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};

use crate::catalog::record::Kind;
use crate::decode::Decoded;
use crate::engine::ingest::{StreamHandle, stopped};
use crate::engine::producers::Producer;
use crate::engine::registry::{Registry, wrong_kind};
use crate::engine::state::Engine;
use crate::engine::stream::StreamState;
use crate::error::{Error, Result, SqlState};
use crate::fault;
use crate::log::frame::{Frame, Position};
use crate::operators::operator::LateRow;
use crate::pipeline::drive::StepReport;
use crate::pipeline::input::Input;
use crate::planner::physical::{Node, PhysicalPlan};

/// A protocol that no client speaks.
const PROTOCOL: &str = "late rows";

/// Where a query's late rows go.
pub(super) struct LateRows {
    engine: Weak<Engine>,
    pub(super) stream: Arc<StreamState>,
    /// As a producer.
    id: String,
}

impl LateRows {
    /// Checks that the stream can take the rows of every relation that the plan reads.
    ///
    /// # Errors
    /// 42P01 and 42809 for the stream's name; 42703 and 42804 for columns that do not fit; 22023 where
    /// the rows would come back to the query.
    pub(super) fn open(
        engine: &Arc<Engine>,
        registry: &Registry,
        plan: &PhysicalPlan,
        target: &str,
        id: String,
    ) -> Result<LateRows> {
        let Some(stream) = registry.streams.get(target) else {
            return Err(wrong_kind(registry, target, Kind::Stream));
        };
        if registry.comes_back(target, &names(plan)) {
            let message = format!("stream \"{target}\" cannot take late rows of its own");
            return Err(Error::new(SqlState::INVALID_PARAMETER, message)
                .with_detail("Rows that are late there, too, would go round for ever.")
                .with_hint("Name a stream that the query does not read."));
        }
        for name in names(plan) {
            let from = match (registry.streams.get(&name), registry.queries.get(&name)) {
                (Some(stream), _) => Arc::clone(&stream.definition.schema),
                (None, Some(query)) => Arc::clone(query.changelog.schema()),
                (None, None) => continue,
            };
            check_columns(&from, &name, &stream.definition.schema, target)?;
        }
        Ok(LateRows { engine: Arc::downgrade(engine), stream: Arc::clone(stream), id })
    }

    /// Stores a step's late rows. They are written, not synced: after a crash they come again.
    ///
    /// # Errors
    /// The logs'. The step is to be taken again then: no snapshot may stand behind it.
    pub(super) fn append(&self, inputs: &[Input], report: &StepReport) -> Result<()> {
        let engine = self.engine.upgrade().ok_or_else(stopped)?;
        let schema = &self.stream.definition.schema;
        let mut batches = Vec::new();
        let mut rows = Rows::default();
        for late in &report.late {
            if let Some(full) = rows.add(inputs, late)? {
                batches.push(to_columns(&full, schema)?);
            }
        }
        if let Some(full) = rows.take()? {
            batches.push(to_columns(&full, schema)?);
        }
        let Some(first) = batches.first() else { return Ok(()) };
        let batch = concat_batches(&first.schema(), &batches).map_err(broken)?;
        let decoded = Decoded::good(batch);
        let handle = StreamHandle { engine, stream: Arc::clone(&self.stream), of_query: true };
        fault::at("late_rows.append", &self.id);
        let id = self.id.clone();
        let producer = Producer { id, sequence: report.first_late, each_row: true };
        handle.ingest_written(decoded, producer, PROTOCOL)
    }

    /// Whether the engine ends, so that what cannot be stored is no fault of the query.
    pub(super) fn is_stopping(&self) -> bool {
        self.engine.upgrade().is_none_or(|engine| engine.stopping.load(Ordering::Relaxed))
    }
}

fn names(plan: &PhysicalPlan) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![plan];
    while let Some(node) = open.pop() {
        if let Node::Source(source) = &node.node {
            names.push(source.relation.to_string());
        }
        open.extend(&node.inputs);
    }
    names
}

/// Columns go by name and have the same types, so that no row can be refused for its columns.
fn check_columns(from: &SchemaRef, source: &str, to: &SchemaRef, target: &str) -> Result<()> {
    for field in from.fields() {
        let Ok(other) = to.field_with_name(field.name()) else {
            let message = format!("column \"{}\" of \"{target}\" does not exist", field.name());
            return Err(Error::new(SqlState::UNDEFINED_COLUMN, message).with_detail(format!(
                "Late rows of \"{source}\" go to \"{target}\", column by column."
            )));
        };
        if other.data_type() != field.data_type() {
            let message = format!(
                "column \"{}\" of \"{target}\" has another type than in \"{source}\"",
                field.name()
            );
            return Err(Error::new(SqlState::TYPE_MISMATCH, message)
                .with_hint("Give it the type that the late rows have."));
        }
    }
    for field in to.fields().iter().filter(|field| !field.is_nullable()) {
        if from.field_with_name(field.name()).is_ok_and(|from| !from.is_nullable()) {
            continue;
        }
        let message = format!("column \"{}\" of \"{target}\" is NOT NULL", field.name());
        return Err(Error::new(SqlState::TYPE_MISMATCH, message)
            .with_detail(format!("Late rows of \"{source}\" may have no value for it."))
            .with_hint("Leave NOT NULL out."));
    }
    Ok(())
}

/// Late rows of one frame, until another frame's come.
#[derive(Default)]
struct Rows {
    frame: Option<(Arc<str>, Arc<Frame>, RecordBatch)>,
    rows: Vec<u32>,
}

impl Rows {
    /// Adds a row; gives those of the frame before, if this is another one.
    fn add(&mut self, inputs: &[Input], late: &LateRow) -> Result<Option<RecordBatch>> {
        let holds =
            |frame: &Frame| (frame.first_offset..frame.next_offset()).contains(&late.offset);
        let same = self
            .frame
            .as_ref()
            .is_some_and(|(relation, frame, _)| *relation == late.relation && holds(frame));
        let mut full = None;
        if !same {
            full = self.take()?;
            let input = inputs.iter().find(|input| *input.source.relation() == late.relation);
            let Some(input) = input else { return Ok(full) };
            let log = input.source.log();
            let at: Position = log.position_of_offset(late.offset)?;
            let frames = log.read(at, 1)?;
            let found = frames.into_iter().find(|frame| holds(frame));
            let Some(frame) = found else { return Ok(full) };
            let Some(batch) = input.source.visible_rows(&frame) else { return Ok(full) };
            self.frame = Some((Arc::clone(&late.relation), frame, batch));
        }
        if let Some((_, frame, _)) = &self.frame {
            self.rows.push((late.offset - frame.first_offset) as u32);
        }
        Ok(full)
    }

    fn take(&mut self) -> Result<Option<RecordBatch>> {
        let rows = UInt32Array::from(std::mem::take(&mut self.rows));
        match self.frame.take() {
            Some((_, _, batch)) => take_record_batch(&batch, &rows).map(Some).map_err(broken),
            None => Ok(None),
        }
    }
}

/// The rows with the columns of the stream, by name; nulls where there is none.
fn to_columns(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let column = |name: &str| rows.column_by_name(name).map(Arc::clone);
    let columns: Vec<ArrayRef> = schema
        .fields()
        .iter()
        .map(|field| {
            column(field.name())
                .unwrap_or_else(|| new_null_array(field.data_type(), rows.num_rows()))
        })
        .collect();
    let loose = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let loose = Arc::new(Schema::new(loose.collect::<Vec<_>>()));
    RecordBatch::try_new(loose, columns).map_err(broken)
}

fn broken(error: arrow::error::ArrowError) -> Error {
    Error::new(SqlState::INTERNAL, format!("late rows cannot be stored: {error}"))
}
