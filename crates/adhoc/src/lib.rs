//! The one facade over DataFusion's async side: answers a logical plan once, within limits.
//!
//! Whatever polls DataFusion's futures is compiled here, so that a change anywhere else does not
//! compile them again: that cuts a release rebuild from about 70 s to 9 s. Callers get a
//! [`BoxFuture`] and never name an async function of DataFusion.

mod sequenced;
mod stop;

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayData, RecordBatch};
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result, TableReference, exec_datafusion_err};
use datafusion::datasource::{MemTable, provider_as_source};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SessionState;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, expr::Alias};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use futures::future::BoxFuture;

pub use sequenced::Sequenced;
pub use stop::Stop;

/// Rows of a batch between operators, unless one of the plan's constants is large.
const BATCH_ROWS: usize = 8_192;
/// Bytes that a constant may take when it is repeated for each row of a batch.
const CONSTANT_BYTES: usize = 16 << 20;

/// Limits of one answer.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes that sorts, joins and aggregates may hold.
    pub memory_bytes: usize,
    /// Rows of the answer.
    pub rows: usize,
    /// Bytes of the answer.
    pub answer_bytes: usize,
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Columns.
    pub schema: SchemaRef,
    /// Rows.
    pub batches: Vec<RecordBatch>,
}

/// Nodes of ours inside a plan, computed from all rows of their inputs at once.
pub trait Materialize: Send + Sync {
    /// Whether the node is one of ours.
    fn is_ours(&self, node: &LogicalPlan) -> bool;
    /// The plan as it is to be executed, once it is optimised.
    fn ready(&self, plan: LogicalPlan) -> Result<LogicalPlan>;
    /// The node's rows, given all rows of each of its inputs in order; columns as the node's schema.
    fn rows(&self, node: &LogicalPlan, inputs: Vec<RecordBatch>) -> Result<RecordBatch>;
}

/// Answers a bound plan: optimises it, computes nodes of ours from the leaves up, and collects.
///
/// # Errors
/// DataFusion's, and `ResourcesExhausted` when a limit is reached; any once `stop` is thrown.
pub fn answer(
    base: &SessionState,
    plan: LogicalPlan,
    limits: Limits,
    ours: Arc<dyn Materialize>,
    stop: Stop,
) -> BoxFuture<'static, Result<Answer>> {
    let base = base.clone();
    Box::pin(async move {
        let runtime = RuntimeEnvBuilder::new().with_memory_limit(limits.memory_bytes, 1.0);
        // One partition: rows keep the order of the log, and the answer repeats.
        let config = base.config().clone().with_target_partitions(1);
        let mut state = SessionStateBuilder::new_from_existing(base)
            .with_config(config)
            .with_runtime_env(runtime.build_arc()?)
            .build();
        // now() is folded to this moment, one for the whole answer.
        let options = Arc::clone(state.config_options());
        state.execution_props_mut().mark_start_execution(options);
        let mut plan = ours.ready(state.optimize(&plan)?)?;
        while let Some(node) = innermost(&plan, ours.as_ref())? {
            let mut inputs = Vec::with_capacity(node.inputs().len());
            for input in node.inputs() {
                let input = collect(&state, input, limits, &stop).await?;
                let rows =
                    datafusion::arrow::compute::concat_batches(&input.schema, &input.batches)?;
                inputs.push(rows);
            }
            let rows = ours.rows(&node, inputs)?;
            plan = replace(plan, &node, &scan_of(&node, rows)?)?;
        }
        collect(&state, &plan, limits, &stop).await
    })
}

/// The first node of ours that has none below it.
fn innermost(plan: &LogicalPlan, ours: &dyn Materialize) -> Result<Option<LogicalPlan>> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        if ours.is_ours(node) {
            found = Some(node.clone());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    // The walk goes down, so the last one found has no other below it on its own path.
    Ok(found)
}

fn replace(plan: LogicalPlan, node: &LogicalPlan, scan: &LogicalPlan) -> Result<LogicalPlan> {
    Ok(plan
        .transform_down_with_subqueries(|candidate| {
            if candidate == *node {
                Ok(Transformed::new(scan.clone(), true, TreeNodeRecursion::Jump))
            } else {
                Ok(Transformed::no(candidate))
            }
        })?
        .data)
}

/// A scan of the rows under the node's own column names and qualifiers.
fn scan_of(node: &LogicalPlan, rows: RecordBatch) -> Result<LogicalPlan> {
    let name = TableReference::bare("__rows");
    // Nodes above were typed by the node's own fields: nullability and metadata must stay.
    let fields = node.schema().fields().iter().enumerate();
    let numbered: Vec<Field> =
        fields.map(|(i, field)| Field::clone(field).with_name(format!("c{i}"))).collect();
    let schema = Arc::new(Schema::new(numbered));
    let rows = RecordBatch::try_new(Arc::clone(&schema), rows.columns().to_vec())?;
    let table = MemTable::try_new(schema, vec![vec![rows]])?;
    let aliases = node.schema().iter().enumerate().map(|(i, (qualifier, field))| {
        let column = Expr::Column(Column::new(Some(name.clone()), format!("c{i}")));
        Expr::Alias(Alias::new(column, qualifier.cloned(), field.name()))
    });
    let aliases: Vec<Expr> = aliases.collect();
    LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?
        .project(aliases)?
        .build()
}

/// Rows of a batch, so that a plan's largest constant does not fill the memory when it is repeated.
fn batch_rows(plan: &LogicalPlan) -> Result<usize> {
    let mut largest = 1;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::Literal(value, _) = part {
                    largest = largest.max(value.size());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok((CONSTANT_BYTES / largest).clamp(1, BATCH_ROWS))
}

async fn collect(
    state: &SessionState,
    plan: &LogicalPlan,
    limits: Limits,
    stop: &Stop,
) -> Result<Answer> {
    let config = state.config().clone().with_batch_size(batch_rows(plan)?);
    let state = SessionStateBuilder::new_from_existing(state.clone()).with_config(config).build();
    let physical = state.query_planner().create_physical_plan(plan, &state).await?;
    let schema = physical.schema();
    let physical = stop::watched(physical, stop)?;
    let mut stream = execute_stream(physical, state.task_ctx())?;
    let mut answer = Answer { schema, batches: vec![] };
    let (mut rows, mut bytes, mut seen) = (0, 0, HashSet::new());
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        rows += batch.num_rows();
        for column in batch.columns() {
            bytes += new_bytes(&column.to_data(), &mut seen);
        }
        if rows > limits.rows || bytes > limits.answer_bytes {
            return Err(exec_datafusion_err!(
                "answer exceeds the limit of {} rows or {} bytes",
                limits.rows,
                limits.answer_bytes
            ));
        }
        answer.batches.push(batch);
        // Other answers on this runtime get their turn, and a cancelled one ends here.
        tokio::task::yield_now().await;
    }
    Ok(answer)
}

/// Bytes of the buffers that were not seen before. Small batches may be pieces of one large buffer,
/// which is held once however many they are.
fn new_bytes(data: &ArrayData, seen: &mut HashSet<usize>) -> usize {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    let mut bytes = 0;
    for buffer in data.buffers().iter().chain(nulls) {
        if seen.insert(buffer.data_ptr().as_ptr() as usize) {
            bytes += buffer.capacity();
        }
    }
    bytes + data.child_data().iter().map(|child| new_bytes(child, seen)).sum::<usize>()
}
