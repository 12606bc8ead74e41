//! Lets rows that are equal in ORDER BY of a SELECT stand in the order in which they came: log order.
//!
//! DataFusion's sorts are not stable, and several sorts may stand on one another. So the rows are numbered below
//! the lowest of them, the number goes up with its row, and every sort has it for a last key:
//!
//! ```text
//!   Sort [v, t]                      Projection [n, v, t]                   no number in the answer
//!     Window … ORDER BY t     =>       Sort [v, t, number]
//!       Sort [t]                         Projection [n, t, v, number]       a window adds its columns at the end
//!         Scan                             Window … ORDER BY t
//!                                            Sort [t, number]
//!                                              Numbered
//!                                                Scan
//! ```
//!
//! The orders of aggregates (`array_agg(v ORDER BY t)`) get the same last key: of several, DataFusion sorts for one.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

use crate::planner::once_barrier::Barrier;
use crate::planner::once_rule::OnceRule;

/// The column that holds the number of a row.
const NUMBER: &str = "__number";

/// Gives every sort the number of the row as its last key. Comes after all rules that move sorts.
pub(super) const ONCE_TIES: OnceRule = OnceRule { name: "once_ties", rewrite: untied };

/// Whether the node hands on rows of its only input, and each at most once, so that their numbers can stay with them.
pub(super) fn keeps_rows(node: &dyn ExecutionPlan) -> bool {
    calls_over(node).is_some()
        || node.is::<SortExec>()
        || node.is::<ProjectionExec>()
        || node.is::<FilterExec>()
        || node.is::<GlobalLimitExec>()
        || node.is::<LocalLimitExec>()
        || node.is::<CooperativeExec>()
        || node.is::<Barrier>()
}

/// The calls with OVER that the node computes; `None` if it is none that does.
pub(super) fn calls_over(node: &dyn ExecutionPlan) -> Option<&[Arc<dyn WindowExpr>]> {
    let bounded = node.downcast_ref::<BoundedWindowAggExec>().map(|node| node.window_expr());
    bounded.or_else(|| node.downcast_ref::<WindowAggExec>().map(|node| node.window_expr()))
}

/// Gives the orders of aggregates the number of the row as their last key. Comes before all rules that make sorts.
pub(super) const ONCE_AGGREGATE_TIES: OnceRule =
    OnceRule { name: "once_aggregate_ties", rewrite: tied_aggregates };

fn tied_aggregates(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let aggregate = node.downcast_ref::<AggregateExec>();
        let ordered = aggregate.is_some_and(|node| node.aggr_expr().iter().any(is_ordered));
        let Some(aggregate) = aggregate.filter(|_| ordered) else {
            return Ok(Transformed::no(node));
        };
        let ordered = match aggregate.input().downcast_ref::<AggregateExec>() {
            Some(partial) if *partial.mode() == AggregateMode::Partial => {
                second_stage(aggregate, partial)
            }
            _ => first_stage(aggregate),
        };
        // Orders that cannot all be had at once stay as they were.
        Ok(ordered.map_or_else(|_| Transformed::no(node), |new| Transformed::yes(new as _)))
    })
    .data()
}

/// Whether ties matter to a call. DISTINCT may only be ordered by what is distinct.
fn is_ordered(call: &Arc<AggregateFunctionExpr>) -> bool {
    !call.order_bys().is_empty() && !call.is_distinct()
}

fn first_stage(aggregate: &AggregateExec) -> Result<Arc<AggregateExec>> {
    let input = numbered(Arc::clone(aggregate.input()))?;
    let schema = input.schema();
    let number = Arc::new(Column::new(NUMBER, schema.fields().len() - 1));
    let calls = aggregate.aggr_expr().iter().map(|call| {
        if !is_ordered(call) {
            return Ok(Arc::clone(call));
        }
        // What is taken in reverse is numbered in reverse.
        let options = SortOptions { descending: call.is_reversed(), nulls_first: false };
        let last = PhysicalSortExpr::new(Arc::clone(&number) as _, options);
        let keys = call.order_bys().iter().cloned().chain([last]).collect();
        let mut made = AggregateExprBuilder::new(Arc::new(call.fun().clone()), call.expressions());
        if let Some(shown) = call.human_display() {
            made = made.human_display(shown);
        }
        if let Some(alias) = call.human_display_alias() {
            made = made.human_display_alias(alias);
        }
        made.schema(Arc::clone(&schema))
            .alias(call.name())
            .order_by(keys)
            .with_reversed(call.is_reversed())
            .with_ignore_nulls(call.ignore_nulls())
            .build()
            .map(Arc::new)
    });
    let new = AggregateExec::try_new(
        *aggregate.mode(),
        aggregate.group_expr().clone(),
        calls.collect::<Result<Vec<_>>>()?,
        aggregate.filter_expr().to_vec(),
        input,
        schema,
    )?;
    Ok(Arc::new(new))
}

fn second_stage(aggregate: &AggregateExec, partial: &AggregateExec) -> Result<Arc<AggregateExec>> {
    let new = AggregateExec::try_new(
        *aggregate.mode(),
        aggregate.group_expr().clone(),
        partial.aggr_expr().to_vec(),
        aggregate.filter_expr().to_vec(),
        Arc::clone(aggregate.input()),
        partial.input_schema(),
    )?;
    Ok(Arc::new(new))
}

/// The plan with numbers below its sorts, and the columns that it had.
fn untied(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if plan.downcast_ref::<SortExec>().is_some_and(|sort| !is_untied(sort)) {
        let numbered = numbered(Arc::clone(&plan))?;
        let columns = plan.schema().fields().len();
        return projected(numbered, 0..columns);
    }
    let children = plan.children().into_iter().map(|child| untied(Arc::clone(child)));
    let children = children.collect::<Result<Vec<_>>>()?;
    replace_children_if_necessary(plan, children)
}

/// Whether the number is the last key already.
fn is_untied(sort: &SortExec) -> bool {
    let last = sort.expr().last().and_then(|key| key.expr.downcast_ref::<Column>());
    last.is_some_and(|last| last.name() == NUMBER)
}

/// The plan with one more column, the last: each row's number.
fn numbered(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    if !keeps_rows(&*plan) {
        return Ok(Arc::new(Numbered::new(untied(plan)?)));
    }
    let child = numbered(Arc::clone(plan.children()[0]))?;
    let number = child.schema().fields().len() - 1;
    let column = || Arc::new(Column::new(NUMBER, number)) as Arc<dyn PhysicalExpr>;
    if let Some(sort) = plan.downcast_ref::<SortExec>() {
        let ascending = SortOptions { descending: false, nulls_first: false };
        let last = PhysicalSortExpr::new(column(), ascending);
        let keys = LexOrdering::new(sort.expr().iter().cloned().chain([last]));
        let keys = keys.expect("a sort has keys");
        let sort = SortExec::new(keys, child)
            .with_fetch(sort.fetch())
            .with_preserve_partitioning(sort.preserve_partitioning());
        return Ok(Arc::new(sort));
    }
    if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        let number = ProjectionExpr { expr: column(), alias: NUMBER.into() };
        let exprs = projection.expr().iter().cloned().chain([number]);
        return Ok(Arc::new(ProjectionExec::try_new(exprs.collect::<Vec<_>>(), child)?));
    }
    if let Some(filter) = plan.downcast_ref::<FilterExec>()
        && let Some(kept) = filter.projection()
    {
        let kept = kept.iter().copied().chain([number]).collect();
        let filter = FilterExecBuilder::new(Arc::clone(filter.predicate()), child)
            .with_default_selectivity(filter.default_selectivity())
            .with_batch_size(filter.batch_size())
            .with_fetch(filter.fetch())
            .apply_projection(Some(kept))?;
        return Ok(Arc::new(filter.build()?));
    }
    let window = calls_over(&*plan).is_some();
    let plan = replace_children_if_necessary(plan, vec![child])?;
    if !window {
        return Ok(plan);
    }
    let columns = plan.schema().fields().len();
    projected(plan, (0..number).chain(number + 1..columns).chain([number]))
}

fn projected(
    plan: Arc<dyn ExecutionPlan>,
    columns: impl Iterator<Item = usize>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let column = |index: usize| {
        let name = schema.field(index).name();
        ProjectionExpr { expr: Arc::new(Column::new(name, index)), alias: name.clone() }
    };
    Ok(Arc::new(ProjectionExec::try_new(columns.map(column).collect::<Vec<_>>(), plan)?))
}

/// Adds to the rows of its input their numbers, from 0.
#[derive(Debug)]
struct Numbered {
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl Numbered {
    fn new(input: Arc<dyn ExecutionPlan>) -> Numbered {
        let known = input.properties();
        let mut fields = input.schema().fields().to_vec();
        fields.push(Arc::new(Field::new(NUMBER, DataType::UInt64, false)));
        let schema = Schema::new_with_metadata(fields, input.schema().metadata().clone());
        let order = known.eq_properties.oeq_class().iter().cloned();
        let mut facts = EquivalenceProperties::new_with_orderings(Arc::new(schema), order);
        let equal = known.eq_properties.eq_group().clone();
        facts.add_equivalence_group(equal).expect("the input's columns are where they were");
        let properties = PlanProperties::new(
            facts,
            known.partitioning.clone(),
            known.emission_type,
            known.boundedness,
        );
        Numbered { input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for Numbered {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbered")
    }
}

impl ExecutionPlan for Numbered {
    fn name(&self) -> &'static str {
        "Numbered"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.into_iter().next().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(Arc::new(Numbered::new(input)))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let schema = self.schema();
        let batches = self.input.execute(partition, context)?;
        let (wanted, mut next) = (Arc::clone(&schema), 0);
        let batches = batches.map(move |batch| number(&batch?, &wanted, &mut next));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

fn number(batch: &RecordBatch, schema: &SchemaRef, next: &mut u64) -> Result<RecordBatch> {
    let first = *next;
    *next += batch.num_rows() as u64;
    let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(first..*next));
    let columns = batch.columns().iter().cloned().chain([numbers]).collect();
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
