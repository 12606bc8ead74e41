//! Opens and reads the logs of reports. A log keeps the columns that it was begun with: where a later version
//! added one, its rows have null there, and no more is written than it takes.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, new_null_array};
use arrow::datatypes::{Int64Type, SchemaRef};

use crate::engine::EngineSettings;
use crate::engine::open::log_options;
use crate::engine::system::{SHED, broken, schema_of};
use crate::error::{Result, SqlState};
use crate::log::error::LogError;
use crate::log::frame::Position;
use crate::log::log::{Durability, Log, LogOptions};
use crate::log::sequence::Sequencer;
use crate::log::storage::Storage;

/// Opens the log of the report that this system relation shows.
///
/// # Errors
/// The log's.
pub(super) fn open(
    name: &str,
    settings: &EngineSettings,
    storage: &Arc<dyn Storage>,
    sequencer: &Arc<Sequencer>,
) -> Result<Arc<Log>> {
    let defaults = log_options(settings);
    // Only whole segments go, so that one holds a small part of what is kept.
    let segment_bytes = defaults.segment_bytes.min((settings.report_bytes / 8).max(16 << 10));
    let options = LogOptions { durability: Durability::Written, segment_bytes, ..defaults };
    let directory = name.replacen("weir.", "system/", 1);
    let open =
        |schema| Log::open(Arc::clone(storage), &directory, schema, options, Arc::clone(sequencer));
    let schema = columns_of(name)?;
    let former = schema.project(&(0..schema.fields().len() - 1).collect::<Vec<_>>());
    let opened = match (open(schema), former) {
        // It was begun before the last column was added.
        (Err(LogError::SchemaMismatch { .. }), Ok(former)) => open(Arc::new(former)),
        (opened, _) => opened,
    };
    Ok(Arc::new(opened?))
}

/// The columns of a report's log today. What queries shed is not in it: their runs know.
fn columns_of(name: &str) -> Result<SchemaRef> {
    let schema = schema_of(name).ok_or_else(|| broken("no such report"))?;
    let columns = schema.fields().len() - usize::from(name == SHED);
    schema.project(&(0..columns).collect::<Vec<_>>()).map(Arc::new).map_err(broken)
}

/// The rows of a report.
pub(super) fn rows(log: &Log, name: &str) -> Result<Vec<RecordBatch>> {
    let schema = columns_of(name)?;
    let whole = |batch: &RecordBatch| {
        let mut columns = batch.columns().to_vec();
        let missing = &schema.fields()[columns.len()..];
        columns.extend(missing.iter().map(|f| new_null_array(f.data_type(), batch.num_rows())));
        RecordBatch::try_new(Arc::clone(&schema), columns).map_err(broken)
    };
    let end = log.visible();
    let mut position = log.start();
    let mut batches = Vec::new();
    while position.frame < end.frame {
        let frames = log.read(position, 65_536)?;
        let Some(last) = frames.last() else { break };
        position = Position { frame: last.index + 1, offset: last.next_offset() };
        for batch in frames.iter().filter_map(|frame| frame.batch.as_ref()) {
            batches.push(whole(batch)?);
        }
    }
    Ok(batches)
}

/// Calls `each` with (query, relation, offset, code) for every row of a report that has an offset.
pub(super) fn each_report(
    batch: &RecordBatch,
    is_late: bool,
    mut each: impl FnMut(&str, &str, u64, &str),
) {
    let (query_at, relation_at, offset_at) = if is_late { (0, 1, 2) } else { (7, 0, 1) };
    let queries = batch.column(query_at).as_string_view();
    let relations = batch.column(relation_at).as_string_view();
    let offsets = batch.column(offset_at).as_primitive::<Int64Type>();
    let codes = (!is_late).then(|| batch.column(3).as_string_view());
    for row in 0..batch.num_rows() {
        if offsets.is_null(row) || queries.is_null(row) {
            continue;
        }
        if let Ok(offset) = u64::try_from(offsets.value(row)) {
            let code = codes.map_or(SqlState::LATE.0, |codes| codes.value(row));
            each(queries.value(row), relations.value(row), offset, code);
        }
    }
}
