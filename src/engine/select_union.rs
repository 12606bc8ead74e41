//! Answers UNION ALL of streams in a one-off SELECT whose rows are asked for in the order in which they came.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::interleave;
use arrow::datatypes::{Decimal128Type, Schema};
use datafusion::common::{Result, exec_datafusion_err};
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNodeCore};

use crate::planner::once_union::OrderedUnion;

/// The node, if it is such a union.
pub(super) fn node(plan: &LogicalPlan) -> Option<&OrderedUnion> {
    let LogicalPlan::Extension(extension) = plan else { return None };
    extension.node.as_any().downcast_ref::<OrderedUnion>()
}

/// The node's rows. A row that came into several inputs comes into each before the next one does.
pub(super) fn rows(node: &OrderedUnion, inputs: &[RecordBatch]) -> Result<RecordBatch> {
    let mut places: Vec<(i128, usize, usize)> = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        let own = input.columns().last().and_then(|c| c.as_primitive_opt::<Decimal128Type>());
        let own = own.ok_or_else(|| exec_datafusion_err!("an input brings no places along"))?;
        places.extend(own.values().iter().enumerate().map(|(row, place)| (*place, index, row)));
    }
    // Inputs are sorted already, so this merges them; of one place they follow each other.
    places.sort_by_key(|(place, ..)| *place);
    let places: Vec<(usize, usize)> =
        places.into_iter().map(|(_, index, row)| (index, row)).collect();
    let fields = node.schema().as_arrow().fields().iter();
    let columns = (0..fields.len()).map(|column| {
        let parts: Vec<&dyn Array> =
            inputs.iter().map(|input| input.column(column).as_ref()).collect();
        Ok(interleave(&parts, &places)?)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let fields = fields.zip(&columns).map(|(field, column)| {
        field.as_ref().clone().with_data_type(column.data_type().clone()).with_nullable(true)
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let counted = RecordBatchOptions::new().with_row_count(Some(places.len()));
    Ok(RecordBatch::try_new_with_options(schema, columns, &counted)?)
}
