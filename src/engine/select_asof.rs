//! Answers ASOF JOIN of a one-off SELECT: for each row of one side the newest of the other that is not
//! after it, by a search in the sorted rows of its key.
//!
//! The left side's rows keep their order. Of rows of one time the one that comes last in the log is the
//! newest. A null key or time matches nothing.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{DFSchema, Result, exec_datafusion_err};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::create_physical_expr;

use crate::data::floats::canonical;
use crate::operators::expr::{checked, evaluate};
use crate::planner::join_once::AsofNode;
use crate::windows::columns::event_times;

/// The node, if it is an ASOF JOIN.
pub(super) fn node(plan: &LogicalPlan) -> Option<&AsofNode> {
    let LogicalPlan::Extension(extension) = plan else { return None };
    extension.node.as_any().downcast_ref::<AsofNode>()
}

/// The node's rows.
pub(super) fn rows(node: &AsofNode, inputs: Vec<RecordBatch>) -> Result<RecordBatch> {
    let [left, right] = <[RecordBatch; 2]>::try_from(inputs)
        .map_err(|_| exec_datafusion_err!("ASOF JOIN has two sides"))?;
    let columns = [key_columns(node, 0, &left)?, key_columns(node, 1, &right)?];
    let types = columns[0].iter().map(|column| SortField::new(column.data_type().clone()));
    let converter = match columns[0].is_empty() {
        true => None,
        false => Some(RowConverter::new(types.collect())?),
    };
    let [own, other] = [
        Keyed::of(node, (0, &left), &columns[0], converter.as_ref())?,
        Keyed::of(node, (1, &right), &columns[1], converter.as_ref())?,
    ];
    let mut versions: HashMap<&[u8], Vec<(i64, u32)>> = HashMap::new();
    for row in 0..right.num_rows() {
        if let Some(key) = other.key(row) {
            let row = u32::try_from(row).map_err(|_| exec_datafusion_err!("too many rows"))?;
            versions.entry(key).or_default().push((other.times.value(row as usize), row));
        }
    }
    versions.values_mut().for_each(|rows| rows.sort_unstable());
    let newest = |row: usize| {
        let (rows, time) = (versions.get(own.key(row)?)?, own.times.value(row));
        let is_before = |&(t, _): &(i64, u32)| if node.strict { t < time } else { t <= time };
        rows[..rows.partition_point(is_before)].last().map(|(_, row)| *row)
    };
    let (mut kept, mut found) = (Vec::new(), Vec::new());
    for row in 0..left.num_rows() {
        let newest = newest(row);
        if newest.is_some() || node.keeps_left {
            kept.push(u32::try_from(row).map_err(|_| exec_datafusion_err!("too many rows"))?);
            found.push(newest);
        }
    }
    joined(node, &left, &right, (UInt32Array::from(kept), UInt32Array::from(found)))
}

/// The rows of both sides beside each other.
fn joined(
    node: &AsofNode,
    left: &RecordBatch,
    right: &RecordBatch,
    (kept, found): (UInt32Array, UInt32Array),
) -> Result<RecordBatch> {
    let own = left.columns().iter().map(|column| take(column, &kept, None));
    let others = right.columns().iter().map(|column| take(column, &found, None));
    let columns = own.chain(others).collect::<Result<Vec<ArrayRef>, _>>()?;
    let fields = UserDefinedLogicalNodeCore::schema(node).fields().iter().zip(&columns);
    let fields: Vec<Field> = fields
        .map(|(field, column)| {
            let field = field.as_ref().clone().with_data_type(column.data_type().clone());
            field.with_nullable(true)
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(kept.len()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)?)
}

/// What rows of one side are joined by.
struct Keyed {
    times: Int64Array,
    keys: Option<Rows>,
    /// Whether a row matches nothing.
    is_null: Vec<bool>,
}

impl Keyed {
    fn of(
        node: &AsofNode,
        (side, batch): (usize, &RecordBatch),
        columns: &[ArrayRef],
        converter: Option<&RowConverter>,
    ) -> Result<Keyed> {
        let times = column(&node.times[side], node.sides[side].schema(), batch)?;
        let nulls = |row: usize| times.is_null(row) || columns.iter().any(|c| c.is_null(row));
        let is_null = (0..batch.num_rows()).map(nulls).collect();
        let keys = converter.map(|converter| converter.convert_columns(columns)).transpose()?;
        Ok(Keyed { times: event_times(&times)?, keys, is_null })
    }

    /// The key of a row; `None` where it matches nothing.
    fn key(&self, row: usize) -> Option<&[u8]> {
        let key = || self.keys.as_ref().map_or(&[][..], |keys| keys.row(row).data());
        (!self.is_null[row]).then(key)
    }
}

fn key_columns(node: &AsofNode, side: usize, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let names = node.sides[side].schema();
    let key = |pair: &[Expr; 2]| Ok(canonical(&column(&pair[side], names, batch)?));
    node.keys.iter().map(key).collect()
}

fn column(expr: &Expr, names: &DFSchema, batch: &RecordBatch) -> Result<ArrayRef> {
    let planning = PhysicalPlanningContext::default();
    let expr = create_physical_expr(expr, names, &ExecutionProps::new(), &planning)?;
    evaluate(&checked(&expr, &batch.schema())?, batch)
}
