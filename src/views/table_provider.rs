//! Lets SELECT scan relations: logs are read in chunks as the scan goes on, results as they stand.

use std::sync::Arc;

use adhoc::Sequenced;
use arrow::array::{ArrayRef, Decimal128Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{MemTable, TableProvider};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;

use crate::error::{Error, Result, SqlState};
use crate::log::frame::{Frame, Position};
use crate::log::log::Log;
use crate::log::retention::Pin;

/// The column more of a log that is scanned with the places of its rows: the sequence of the frame, which no two
/// frames of a server share, times 2^64, and the row in it.
const PLACE: &str = "__place";
const PLACE_TYPE: DataType = DataType::Decimal128(38, 0);

/// Rows read from a log at a time.
const READ_ROWS: usize = 65_536;

/// Makes the rows that a frame shows, in the relation's schema.
pub type FrameRows = Arc<dyn Fn(&Frame) -> Option<RecordBatch> + Send + Sync>;

/// The rows of a log up to where it is visible now.
pub fn log_provider(
    log: &Arc<Log>,
    schema: SchemaRef,
    rows: FrameRows,
) -> Result<Arc<dyn TableProvider>> {
    let pin = Arc::new(log.pin());
    let table = |schema: SchemaRef, rows| -> Result<Arc<dyn TableProvider>> {
        let (log, pin) = (Arc::clone(log), Arc::clone(&pin));
        let scan = LogScan { log, pin, schema: Arc::clone(&schema), rows };
        let table = StreamingTable::try_new(schema, vec![Arc::new(scan)]).map_err(internal)?;
        Ok(Arc::new(table))
    };
    let place = Arc::new(Field::new(PLACE, PLACE_TYPE, false));
    let fields: Vec<_> = schema.fields().iter().cloned().chain([place]).collect();
    let wider = Arc::new(Schema::new(fields));
    let (shown, wanted) = (Arc::clone(&rows), Arc::clone(&wider));
    let with_places: FrameRows = Arc::new(move |frame| {
        let batch = shown(frame)?;
        let rows = 0..batch.num_rows() as i128;
        let first = i128::from(frame.sequence) << 64;
        let places: Decimal128Array = rows.map(|row| Some(first + row)).collect();
        let places = places.with_data_type(PLACE_TYPE);
        let columns =
            batch.columns().iter().cloned().chain([Arc::new(places) as ArrayRef]).collect();
        RecordBatch::try_new(Arc::clone(&wanted), columns).ok()
    });
    let (plain, sequenced) = (table(schema, rows)?, table(wider, with_places)?);
    Ok(Arc::new(Sequenced { plain, sequenced }))
}

/// Rows that are in memory already.
pub fn rows_provider(
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
) -> Result<Arc<dyn TableProvider>> {
    let batches = batches
        .into_iter()
        .map(|batch| batch.with_schema(Arc::clone(&schema)))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| internal(error.into()))?;
    Ok(Arc::new(MemTable::try_new(schema, vec![batches]).map_err(internal)?))
}

fn internal(error: DataFusionError) -> Error {
    Error::new(
        SqlState::INTERNAL,
        format!("relation cannot be scanned: {}", error.strip_backtrace()),
    )
}

struct LogScan {
    log: Arc<Log>,
    /// What the statement sees: retention may wait for it.
    pin: Arc<Pin>,
    schema: SchemaRef,
    rows: FrameRows,
}

impl std::fmt::Debug for LogScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogScan").field("end", &self.pin.end).finish_non_exhaustive()
    }
}

impl PartitionStream for LogScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (log, pin, rows) =
            (Arc::clone(&self.log), Arc::clone(&self.pin), Arc::clone(&self.rows));
        let (mut position, end) = (pin.start(), pin.end);
        let mut ready: std::collections::VecDeque<RecordBatch> = Default::default();
        let next = move || -> Option<DataFusionResult<RecordBatch>> {
            let _kept = &pin;
            loop {
                if let Some(batch) = ready.pop_front() {
                    return Some(Ok(batch));
                }
                if position.frame >= end.frame {
                    return None;
                }
                match log.read(position, READ_ROWS) {
                    Err(error) => {
                        position = end;
                        return Some(Err(DataFusionError::External(Box::new(error))));
                    }
                    Ok(frames) => {
                        let last = frames.last()?;
                        position = Position { frame: last.index + 1, offset: last.next_offset() };
                        let seen = frames.iter().filter(|frame| frame.index < end.frame);
                        ready.extend(seen.filter_map(|frame| rows(frame)));
                    }
                }
            }
        };
        let stream = futures::stream::iter(std::iter::from_fn(next));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream))
    }
}
