//! Answers SELECT once, through DataFusion, with limits on time, memory and rows.
//!
//! Windows inside a SELECT are computed from all rows of their input at once: every retained row
//! counts and every window closes.

use std::sync::Arc;
use std::time::Duration;

use adhoc::{Limits, Materialize};
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::common::{DFSchema, Result as DataFusionResult, exec_datafusion_err};
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::create_physical_expr;
use datafusion::sql::sqlparser::ast::Query;

use crate::data::schema::INGEST_TIME;
use crate::data::sql_words::tidy_message;
use crate::engine::StatementResult;
use crate::engine::registry::{Registry, Scanning};
use crate::engine::state::Engine;
use crate::engine::system;
use crate::engine::{select_asof, select_match, select_union};
use crate::error::{Error, Report, Result, SqlState};
use crate::log::error::LogError;
use crate::pipeline::source::full_rows;
use crate::planner::bind;
use crate::planner::error::{PlanError, from_datafusion, not_implemented};
use crate::planner::functions;
use crate::planner::guards::guard_conditions;
use crate::planner::large_stack;
use crate::planner::relations::{RelationInfo, RelationKind};
use crate::planner::repeated_names::AnswerNames;
use crate::planner::window_node::{WindowKind, WindowNode, window_time_type};
use crate::views::table_provider::{log_provider, rows_provider};
use crate::windows::batch::{BatchWindow, RowTimes, assign_batch};

/// One-off answers that are computed at once; others wait.
pub(super) const SELECTS_MAX: usize = 64;
/// Plans are walked recursively; only what is used takes memory.
const SELECT_STACK_BYTES: usize = 16 << 20;

/// Stops an answer for which nobody waits any more.
struct StopOnDrop(adhoc::Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.throw();
    }
}

impl Engine {
    /// Answers a query once.
    ///
    /// # Errors
    /// The planner's, 57014 when it takes too long, 53200 and 53400 when a limit is reached.
    pub async fn select(&self, query: &Query) -> Result<StatementResult> {
        let (plan, names) = self.bind_once(query)?;
        let answer = self.answer(plan).await?;
        let schema = names.rename(&answer.schema);
        let batches = answer.batches.into_iter().map(|batch| {
            RecordBatch::try_new_with_options(
                Arc::clone(&schema),
                batch.columns().to_vec(),
                &RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
            )
            .expect("the schema has the same columns under other names")
        });
        let batches: Vec<RecordBatch> = batches.collect();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        Ok(StatementResult { tag: format!("SELECT {rows}"), schema, batches })
    }

    pub(super) fn bind_once(&self, query: &Query) -> Result<(LogicalPlan, AnswerNames)> {
        let registry = self.registry.read();
        let scanning =
            Scanning { engine: self, registry: &registry, failure: parking_lot::Mutex::new(None) };
        let bound = large_stack::on_large_stack(|| bind::bind_once(query, &scanning));
        match scanning.failure.into_inner() {
            Some(error) => Err(error),
            None => Ok(bound?),
        }
    }

    async fn answer(&self, plan: LogicalPlan) -> Result<adhoc::Answer> {
        let time = Duration::from_micros(self.settings.select_time.unsigned_abs());
        let timed = tokio::time::timeout(time, self.answer_apart(plan));
        timed.await.unwrap_or_else(|_| {
            Err(Error::new(SqlState::CANCELLED, "statement took too long and was cancelled")
                .with_hint("Ask for fewer rows, or register a continuous query."))
        })
    }

    /// Computes an answer on a thread of its own: one that hogs it hurts no one else. Dropping the
    /// future stops the answer.
    async fn answer_apart(&self, plan: LogicalPlan) -> Result<adhoc::Answer> {
        let places = Arc::clone(&self.select_places);
        let shut = |_| Error::new(SqlState::SHUTTING_DOWN, "server is shutting down");
        let place = places.acquire_owned().await.map_err(shut)?;
        let limits = Limits {
            memory_bytes: self.settings.select_memory,
            rows: self.settings.select_rows,
            answer_bytes: self.settings.select_memory.saturating_mul(4),
        };
        let stop = adhoc::Stop::default();
        let _stopped = StopOnDrop(stop.clone());
        let work = adhoc::answer(functions::once_state(), plan, limits, Arc::new(Windows), stop);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let thread = self.crew.once("select", SELECT_STACK_BYTES, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let answer = runtime
                .map_err(|error| DataFusionError::External(Box::new(error)))
                .and_then(|runtime| runtime.block_on(work));
            drop(place);
            // Nobody waits any more for an answer that was cancelled.
            drop(sender.send(answer));
        });
        if let Err(error) = thread {
            let message = "the system has no thread for the statement";
            return Err(Error::new(SqlState::OUT_OF_MEMORY, message).with_detail(error.to_string()));
        }
        match receiver.await {
            Ok(answer) => answer.map_err(execution_error),
            // The thread panicked; its own message is in the log.
            Err(_) => Err(Error::new(SqlState::INTERNAL, "statement broke while it was executed")),
        }
    }

    /// What scans a relation as it stands now.
    pub(super) fn provider(
        &self,
        registry: &Registry,
        info: &RelationInfo,
    ) -> Result<Arc<dyn TableProvider>> {
        match info.kind {
            RelationKind::Stream => {
                let stream =
                    registry.streams.get(&*info.name).ok_or_else(|| gone(registry, info))?;
                let definition = Arc::clone(&stream.definition);
                let schema = Arc::clone(&stream.full_schema);
                let rows = {
                    let schema = Arc::clone(&schema);
                    Arc::new(move |frame: &crate::log::frame::Frame| {
                        full_rows(&definition, &schema, frame).ok().flatten()
                    })
                };
                log_provider(&stream.log, schema, rows)
            }
            RelationKind::Table => {
                let table = registry.tables.get(&*info.name).ok_or_else(|| gone(registry, info))?;
                rows_provider(nullable(&info.schema), table.view.snapshot()?.0)
            }
            RelationKind::Query => {
                let query =
                    registry.queries.get(&*info.name).ok_or_else(|| gone(registry, info))?;
                registry.check_whole(query.name())?;
                if query.changelog.append_only() && query.changelog.kept().is_none() {
                    let changelog = Arc::clone(&query.changelog);
                    let schema = nullable(&info.schema);
                    let wanted = Arc::clone(&schema);
                    let rows = Arc::new(move |frame: &crate::log::frame::Frame| {
                        let entry = changelog.entry(frame)?;
                        entry.batch.with_schema(Arc::clone(&wanted)).ok()
                    });
                    return log_provider(query.changelog.log(), schema, rows);
                }
                rows_provider(nullable(&info.schema), query.view.snapshot()?.0)
            }
            RelationKind::System => {
                let batches = system::rows(self, registry, &info.name)?;
                rows_provider(Arc::clone(&info.schema), batches)
            }
        }
    }
}

/// The answer with TEXT in place of columns that are null whatever the rows are.
pub(super) fn without_null_type(answer: StatementResult) -> StatementResult {
    let is_null = |field: &Arc<Field>| *field.data_type() == DataType::Null;
    if !answer.schema.fields().iter().any(is_null) {
        return answer;
    }
    let fields = answer.schema.fields().iter().map(|field| match is_null(field) {
        true => Arc::new(Field::new(field.name(), DataType::Utf8View, true)),
        false => Arc::clone(field),
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batches = answer.batches.into_iter().map(|batch| {
        let columns = schema.fields().iter().zip(batch.columns());
        let columns = columns.map(|(field, column)| match *column.data_type() {
            DataType::Null => new_null_array(field.data_type(), column.len()),
            _ => Arc::clone(column),
        });
        RecordBatch::try_new(Arc::clone(&schema), columns.collect())
            .expect("the columns have the types and lengths that they had")
    });
    StatementResult { batches: batches.collect(), tag: answer.tag, schema }
}

/// Answers of queries may hold nulls wherever the plan could not exclude them.
fn nullable(schema: &arrow::datatypes::SchemaRef) -> arrow::datatypes::SchemaRef {
    let fields: Vec<_> =
        schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(arrow::datatypes::Schema::new(fields))
}

fn gone(registry: &Registry, info: &RelationInfo) -> Error {
    if let Some(resting) = registry.resting.get(&*info.name) {
        return resting.error();
    }
    let kind = info.kind.noun();
    Error::new(SqlState::UNDEFINED_RELATION, format!("{kind} \"{}\" does not exist", info.name))
}

/// Finds the code of an error that came up while a statement ran.
pub(super) fn execution_error(error: DataFusionError) -> Error {
    if let DataFusionError::External(inner) = error.find_root()
        && let Some(failed) = inner.downcast_ref::<LogError>()
    {
        return Error::from(failed.clone());
    }
    if let DataFusionError::External(inner) = error.find_root()
        && let Some(refused) = inner.downcast_ref::<PlanError>()
    {
        let error = Error::new(refused.code(), refused.to_string());
        return match refused.hint() {
            Some(hint) => error.with_hint(hint),
            None => error,
        };
    }
    if let DataFusionError::External(inner) = error.find_root()
        && let Some(failed) = inner.downcast_ref::<std::io::Error>()
    {
        return Error::new(SqlState::IO, "statement met a failure of the system")
            .with_detail(failed.to_string());
    }
    if let DataFusionError::ResourcesExhausted(text) = error.find_root() {
        return Error::new(SqlState::OUT_OF_MEMORY, "statement needs more memory than it may use")
            .with_detail(tidy_message(text));
    }
    if let DataFusionError::ArrowError(inner, _) = error.find_root()
        && let ArrowError::MemoryError(text) = &**inner
    {
        return Error::new(SqlState::OUT_OF_MEMORY, "statement needs more memory than it may use")
            .with_detail(text.clone())
            .with_hint("Ask for fewer rows, or for windows that overlap less.");
    }
    if let DataFusionError::NotImplemented(text) = error.find_root() {
        return not_implemented(text).into();
    }
    // What DataFusion's rules refuse, which a continuous query is told when it is planned.
    if matches!(error.find_root(), DataFusionError::Plan(_) | DataFusionError::SchemaError(..)) {
        return from_datafusion(error).into();
    }
    let text = error.strip_backtrace();
    if text.contains("answer exceeds the limit") {
        return Error::new(SqlState::CONFIGURED_LIMIT, tidy_message(&text))
            .with_hint("Add LIMIT, or aggregate.");
    }
    let (code, reason) = crate::operators::expr::row_error(&error);
    Error::new(code, reason)
}

/// Computes window functions over rows that are all there.
struct Windows;

impl Windows {
    fn node(plan: &LogicalPlan) -> Option<&WindowNode> {
        let LogicalPlan::Extension(extension) = plan else { return None };
        extension.node.as_any().downcast_ref::<WindowNode>()
    }
}

impl Materialize for Windows {
    fn is_ours(&self, node: &LogicalPlan) -> bool {
        Self::node(node).is_some()
            || select_match::node(node).is_some()
            || select_asof::node(node).is_some()
            || select_union::node(node).is_some()
    }

    fn ready(&self, plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
        guard_conditions(plan)
    }

    fn rows(&self, plan: &LogicalPlan, inputs: Vec<RecordBatch>) -> DataFusionResult<RecordBatch> {
        if let Some(node) = select_asof::node(plan) {
            return select_asof::rows(node, inputs);
        }
        if let Some(node) = select_union::node(plan) {
            return select_union::rows(node, &inputs);
        }
        let input = inputs.into_iter().next().ok_or_else(|| exec_datafusion_err!("no input"))?;
        if let Some(node) = select_match::node(plan) {
            return select_match::rows(node, input);
        }
        let node = Self::node(plan).ok_or_else(|| exec_datafusion_err!("not a window"))?;
        window_rows(node, input)
    }
}

/// The rows of a window function's input, each once per window that holds it.
fn window_rows(node: &WindowNode, input: RecordBatch) -> DataFusionResult<RecordBatch> {
    let names = node.input.schema();
    let mut columns = input.columns().to_vec();
    let mut fields: Vec<_> = input.schema().fields().iter().map(Arc::clone).collect();
    let place = |expr: &Expr| -> DataFusionResult<usize> {
        let Expr::Column(column) = expr else {
            return Err(exec_datafusion_err!("window argument {expr} is not a column"));
        };
        names.index_of_column(column)
    };
    let mut time = node.time.as_ref().map(place).transpose()?;
    let partition = node.partition.iter().map(place).collect::<DataFusionResult<Vec<_>>>()?;
    let start = node.start.as_ref().map(|e| mask(e, names, &input)).transpose()?;
    let end = node.end.as_ref().map(|e| mask(e, names, &input)).transpose()?;
    if let Some(column) = time {
        let wanted = window_time_type(columns[column].data_type());
        if *columns[column].data_type() != wanted {
            let cast = arrow::compute::cast(&columns[column], &wanted)?;
            let field = arrow::datatypes::Field::new("__time", wanted, true);
            columns.push(cast);
            fields.push(Arc::new(field));
            time = Some(columns.len() - 1);
        }
    }
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    // A count of rows may need none of their columns.
    let counted = RecordBatchOptions::new().with_row_count(Some(input.num_rows()));
    let widened = RecordBatch::try_new_with_options(schema, columns, &counted)?;
    let ingest_column = names.index_of_column_by_name(None, INGEST_TIME);
    let times = |time_column| RowTimes { time_column, ingest_column };
    let required = || time.ok_or_else(|| exec_datafusion_err!("window needs a time column"));
    let window = match &node.kind {
        WindowKind::Time(window) => {
            BatchWindow::Time { window: window.clone(), time_column: required()? }
        }
        WindowKind::Session(window) => {
            BatchWindow::Session { window: window.clone(), time_column: required()?, partition }
        }
        WindowKind::Count(window) => {
            BatchWindow::Count { window: window.clone(), times: times(time), partition }
        }
        WindowKind::Punctuation(window) => BatchWindow::Punctuation {
            window: window.clone(),
            times: times(time),
            partition,
            start,
            end,
        },
    };
    let (rows, added) = assign_batch(&window, &widened)
        .map_err(|error| DataFusionError::External(Box::new(error)))?;
    let mut columns = arrow::compute::take_arrays(input.columns(), &rows, None)?;
    columns.extend(added);
    use datafusion::logical_expr::UserDefinedLogicalNodeCore;
    let schema = UserDefinedLogicalNodeCore::schema(node).as_arrow();
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| {
            let field = field.as_ref().clone().with_data_type(column.data_type().clone());
            field.with_nullable(true)
        })
        .collect();
    Ok(RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns)?)
}

fn mask(expr: &Expr, names: &DFSchema, input: &RecordBatch) -> DataFusionResult<BooleanArray> {
    let properties = ExecutionProps::new();
    let physical =
        create_physical_expr(expr, names, &properties, &PhysicalPlanningContext::default())?;
    let array = physical.evaluate(input)?.into_array(input.num_rows())?;
    Ok(array.as_boolean().clone())
}
