//! Answers with bounds from summaries of bounded size: distinct counts, also of unions,
//! intersections and differences, and quantiles.
//!
//! These are functions of DataFusion's kind, so they work wherever an aggregate does, in a one-off
//! SELECT and in a continuous query. Their summaries depend on the rows and not on their order or
//! cuts ([`crate::sketches::distinct`], [`crate::sketches::quantile`]), so slices merge exactly, a
//! SELECT and a continuous query give the same bytes, and a restored state goes on to the bit.
//!
//! Each result is a struct of `estimate`, `lower`, `upper` and `exact`.

mod distinct;
mod hashes;
mod quantile;
mod sets;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StructArray};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::AggregateUDF;
use datafusion::logical_expr::function::StateFieldsArgs;
use datafusion::logical_expr::utils::format_state_name;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

pub use distinct::DISTINCT_BOUNDS;
pub use quantile::QUANTILE_BOUNDS;
pub use sets::{DISTINCT_EXCEPT, DISTINCT_WHERE, DistinctSets};

/// The functions of this family that need no reading of their arguments.
pub fn functions() -> Vec<Arc<AggregateUDF>> {
    vec![
        Arc::new(AggregateUDF::from(distinct::DistinctBounds::default())),
        Arc::new(AggregateUDF::from(DistinctSets::except())),
        Arc::new(AggregateUDF::from(quantile::QuantileBounds::default())),
    ]
}

/// Whether the function is of this family: its partial results merge exactly, and in any order.
pub fn is_bounds(name: &str) -> bool {
    [DISTINCT_BOUNDS, DISTINCT_EXCEPT, DISTINCT_WHERE, QUANTILE_BOUNDS].contains(&name)
}

/// Checks the constant arguments of a call; the text of the error says what is wrong.
pub fn check(function: &AggregateFunctionExpr) -> Result<(), String> {
    match function.fun().name() {
        QUANTILE_BOUNDS if function.is_distinct() => {
            Err(format!("{QUANTILE_BOUNDS} of DISTINCT values has no meaning"))
        }
        QUANTILE_BOUNDS => quantile::fraction(&function.expressions()).map(drop),
        _ => Ok(()),
    }
}

/// The fields of a result whose values are of a type.
fn fields(values: &DataType) -> Fields {
    let value = |name| Field::new(name, values.clone(), true);
    Fields::from(vec![
        value("estimate"),
        value("lower"),
        value("upper"),
        Field::new("exact", DataType::Boolean, true),
    ])
}

/// A result: a struct, null where there is none.
fn result(values: &DataType, bounds: Option<[ScalarValue; 3]>, exact: bool) -> Result<ScalarValue> {
    let Some(bounds) = bounds else {
        return ScalarValue::try_from(&DataType::Struct(fields(values)));
    };
    let columns = bounds.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>>>()?;
    let exact: ArrayRef = Arc::new(BooleanArray::from(vec![exact]));
    let columns = columns.into_iter().chain([exact]).collect();
    Ok(ScalarValue::Struct(Arc::new(StructArray::try_new(fields(values), columns, None)?)))
}

/// State columns that hold bytes of summaries.
fn bytes_fields(args: &StateFieldsArgs<'_>, names: &[&str]) -> Vec<FieldRef> {
    let field = |name| Field::new(format_state_name(args.name, name), DataType::Binary, true);
    names.iter().map(|name| Arc::new(field(name))).collect()
}

/// The summaries in a state column.
fn bytes_of(state: &ArrayRef) -> Result<impl Iterator<Item = &[u8]>> {
    let bytes = state.as_binary_opt::<i32>();
    let bytes = bytes.ok_or_else(|| exec_datafusion_err!("a summary's state is not binary"))?;
    Ok((0..bytes.len()).filter(|row| bytes.is_valid(*row)).map(|row| bytes.value(row)))
}

/// The error of bytes that no summary wrote.
fn misfit() -> datafusion::error::DataFusionError {
    exec_datafusion_err!("the bytes are of no summary")
}

#[cfg(test)]
mod tests;
