//! Answers MATCH_RECOGNIZE of a one-off SELECT: the operator of a continuous query over rows that are all
//! there.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::SortOptions;
use arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, Result, exec_datafusion_err};
use datafusion::error::DataFusionError;
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use crate::data::schema::OFFSET;
use crate::operators::expr::{checked, evaluate};
use crate::operators::match_recognize::{self, MatchOrder};
use crate::operators::operator::EvalError;
use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::match_node::MatchNode;
use crate::planner::match_recognize::{MatchColumns, check_within, spec_of};

/// The node, if it is MATCH_RECOGNIZE.
pub(super) fn node(plan: &LogicalPlan) -> Option<&MatchNode> {
    let LogicalPlan::Extension(extension) = plan else { return None };
    extension.node.as_any().downcast_ref::<MatchNode>()
}

/// The node's rows.
pub(super) fn rows(node: &MatchNode, input: RecordBatch) -> Result<RecordBatch> {
    let names = node.input.schema();
    let mut added = Added { names, columns: vec![], fields: vec![], input };
    let columns = MatchColumns {
        partition: added.places(&node.partition)?,
        order: added.places(&node.order)?,
        operands: added.places(&node.operands)?,
    };
    let rows = added.finish()?;
    let first = columns.order[0];
    let (order, rows) = ordered(node, &columns, rows)?;
    if let MatchOrder::Time(_) = order {
        check_within(&node.search, rows.schema().field(first).data_type())?;
    }
    let spec = spec_of(node, &columns, order, &rows.schema(), &lower)?;
    match match_recognize::answer(Arc::new(spec), rows).map_err(eval_error)? {
        Ok(answer) => Ok(answer),
        Err(refused) => {
            let (code, message) = (refused.code, refused.reason);
            Err(PlanError::Refused { code, message, hint: None }.into())
        }
    }
}

fn eval_error(error: EvalError) -> DataFusionError {
    match error {
        EvalError::DataFusion(error) => error,
        EvalError::Arrow(error) => error.into(),
        other => DataFusionError::ResourcesExhausted(other.to_string()),
    }
}

fn lower(expr: &Expr, names: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, PlanError> {
    let planning = PhysicalPlanningContext::default();
    create_physical_expr(expr, names, &ExecutionProps::new(), &planning).map_err(from_datafusion)
}

/// The rows in an order that the operator takes, and which that is. By a time it sorts itself; rows
/// without one are in no order and left out. In any other order they are sorted first.
fn ordered(
    node: &MatchNode,
    columns: &MatchColumns,
    rows: RecordBatch,
) -> Result<(MatchOrder, RecordBatch)> {
    let first = columns.order[0];
    let field = rows.schema().field(first).clone();
    if matches!(&node.order[0], Expr::Column(column) if column.name == OFFSET)
        && node.search.within.is_none()
        && !node.sorts[0].descending
    {
        return Ok((MatchOrder::Log, rows));
    }
    let is_time = field.data_type().is_temporal() || field.data_type().is_integer();
    if is_time && !node.sorts[0].descending {
        let column = rows.column(first);
        if column.null_count() == 0 {
            return Ok((MatchOrder::Time(first), rows));
        }
        let valid: BooleanArray = (0..column.len()).map(|row| Some(column.is_valid(row))).collect();
        return Ok((MatchOrder::Time(first), arrow::compute::filter_record_batch(&rows, &valid)?));
    }
    if node.search.within.is_some() {
        return Err(exec_datafusion_err!("WITHIN needs an ORDER BY of a time, ascending"));
    }
    let by: Vec<(usize, SortOptions)> =
        columns.order.iter().copied().zip(node.sorts.iter().copied()).collect();
    Ok((MatchOrder::Log, match_recognize::sorted(&rows, &by).map_err(eval_error)?))
}

/// The input with columns that are computed of it.
struct Added<'a> {
    names: &'a DFSchema,
    columns: Vec<arrow::array::ArrayRef>,
    fields: Vec<Field>,
    input: RecordBatch,
}

impl Added<'_> {
    fn places(&mut self, exprs: &[Expr]) -> Result<Vec<usize>> {
        exprs.iter().map(|expr| self.place(expr)).collect()
    }

    fn place(&mut self, expr: &Expr) -> Result<usize> {
        if let Expr::Column(column) = expr {
            return self.names.index_of_column(column);
        }
        let expr = checked(&lower(expr, self.names)?, &self.input.schema())?;
        let column = evaluate(&expr, &self.input)?;
        let place = self.input.num_columns() + self.columns.len();
        self.fields.push(Field::new(format!("__column_{place}"), column.data_type().clone(), true));
        self.columns.push(column);
        Ok(place)
    }

    fn finish(self) -> Result<RecordBatch> {
        let schema = self.input.schema();
        let fields = schema.fields().iter().map(|field| field.as_ref().clone());
        let schema = Arc::new(Schema::new(fields.chain(self.fields).collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(self.input.num_rows()));
        let columns = self.input.columns().iter().cloned().chain(self.columns).collect();
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }
}
