//! Brings the rows of a SELECT's UNION ALL of streams into the order in which they came, where that matters.
//!
//! A continuous query reads its inputs in the order in which rows came, so `COUNT_WINDOW((a UNION ALL b), 2)`
//! counts rows of both as they came. DataFusion reads one input after the other. So below what depends on the
//! order of rows (count and punctuation windows, summaries, `array_agg` and its like, OVER) a node of ours takes
//! the place of the union; each input brings along which place its rows have in the order of all logs.
//!
//! # Not here
//! Unions with an input that is not made of single rows of a log: groups, joins, tables and results that take rows
//! back.

use std::fmt;
use std::sync::Arc;

use adhoc::Sequenced;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchemaRef, Result};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::{
    Aggregate, Expr, Extension, Filter, LogicalPlan, LogicalPlanBuilder, Projection, Union,
    UserDefinedLogicalNodeCore,
};
use datafusion::optimizer::AnalyzerRule;

use crate::planner::window_node::{WindowKind, WindowNode};

/// What an input calls the place of its rows.
const PLACE: &str = "__place";

/// Aggregates that depend on the order of rows.
const IN_ORDER: [&str; 9] = [
    "array_agg",
    "string_agg",
    "first_value",
    "last_value",
    "nth_value",
    "heavy_hitters",
    "frequent_itemsets",
    "association_rules",
    "trend",
];

/// Rows of several logs, in the order in which they came.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OrderedUnion {
    /// Columns alike, and at the end of each the places of its rows.
    pub inputs: Vec<LogicalPlan>,
    schema: DFSchemaRef,
}

/// The rule; it comes when the columns of unions have their types.
#[derive(Debug)]
pub(super) struct OnceUnions;

impl AnalyzerRule for OnceUnions {
    fn name(&self) -> &str {
        "once_unions"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        ordered(plan, false).map(|plan| plan.data)
    }
}

/// Puts nodes in the place of unions; `matters` says whether something above asks for the order of rows.
fn ordered(plan: LogicalPlan, matters: bool) -> Result<Transformed<LogicalPlan>> {
    if let (true, LogicalPlan::Union(union)) = (matters, &plan)
        && let Some(node) = ordered_union(union)?
    {
        return Ok(Transformed::yes(node));
    }
    let below = match &plan {
        LogicalPlan::Aggregate(aggregate) => takes_in_order(aggregate),
        LogicalPlan::Window(_) => true,
        LogicalPlan::Extension(extension) => {
            let window = extension.node.as_any().downcast_ref::<WindowNode>();
            matters || window.is_some_and(|window| is_numbered(&window.kind))
        }
        LogicalPlan::Join(_) | LogicalPlan::Distinct(_) => false,
        _ => matters,
    };
    plan.map_children(|child| ordered(child, below))?
        .transform_data(|plan| plan.map_subqueries(|subquery| ordered(subquery, false)))
}

fn is_numbered(kind: &WindowKind) -> bool {
    matches!(kind, WindowKind::Count(_) | WindowKind::Punctuation(_))
}

fn takes_in_order(aggregate: &Aggregate) -> bool {
    aggregate.aggr_expr.iter().any(|expr| {
        let call = expr.exists(|part| match part {
            Expr::AggregateFunction(call) => Ok(IN_ORDER.contains(&call.func.name())),
            _ => Ok(false),
        });
        call.unwrap_or(false)
    })
}

fn ordered_union(union: &Union) -> Result<Option<LogicalPlan>> {
    let inputs = union.inputs.iter().map(|input| with_place(input));
    let Some(inputs) = inputs.collect::<Result<Option<Vec<_>>>>()? else { return Ok(None) };
    let node = OrderedUnion { inputs, schema: Arc::clone(&union.schema) };
    Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
}

/// The plan with one more column, the last: the place of each row. `None` where its rows are not those of a log.
fn with_place(plan: &LogicalPlan) -> Result<Option<LogicalPlan>> {
    let last = |plan: &LogicalPlan| {
        let (relation, field) = plan.schema().iter().last()?;
        Some(Expr::Column(Column::new(relation.cloned(), field.name())))
    };
    Ok(match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source)?;
            let Some(table) = provider.downcast_ref::<Sequenced>() else { return Ok(None) };
            let source = provider_as_source(Arc::clone(&table.sequenced));
            let wider = LogicalPlanBuilder::scan(scan.table_name.clone(), source, None)?.build()?;
            let columns = scan.projected_schema.columns().into_iter().map(Expr::Column);
            let columns = columns.chain(last(&wider).map(|place| place.alias(PLACE))).collect();
            Some(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(wider))?))
        }
        LogicalPlan::SubqueryAlias(alias) => match with_place(&alias.input)? {
            Some(input) => {
                Some(LogicalPlanBuilder::from(input).alias(alias.alias.clone())?.build()?)
            }
            None => None,
        },
        LogicalPlan::Projection(projection) => match with_place(&projection.input)? {
            Some(input) => {
                let place = last(&input).map(|place| place.alias(PLACE));
                let columns = projection.expr.iter().cloned().chain(place).collect();
                Some(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(input))?))
            }
            None => None,
        },
        LogicalPlan::Union(union) => {
            let inputs = union.inputs.iter().map(|input| Ok(with_place(input)?.map(Arc::new)));
            match inputs.collect::<Result<Option<Vec<_>>>>()? {
                Some(inputs) => Some(LogicalPlan::Union(Union::try_new(inputs)?)),
                None => None,
            }
        }
        LogicalPlan::Filter(filter) => match with_place(&filter.input)? {
            Some(input) => {
                let filter = Filter::try_new(filter.predicate.clone(), Arc::new(input))?;
                Some(LogicalPlan::Filter(filter))
            }
            None => None,
        },
        _ => None,
    })
}

impl UserDefinedLogicalNodeCore for OrderedUnion {
    fn name(&self) -> &str {
        "UNION ALL"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.inputs.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("UNION ALL: in the order of ingest")
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(OrderedUnion { inputs, schema: Arc::clone(&self.schema) })
    }
}

impl PartialOrd for OrderedUnion {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.inputs.partial_cmp(&other.inputs)
    }
}
