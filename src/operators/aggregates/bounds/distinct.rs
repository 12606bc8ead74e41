//! `approx_count_distinct_bounds(x)`.

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, ReversedUDAF, Signature, Volatility,
};

use super::hashes::{hashes, is_hashable};
use super::{bytes_fields, bytes_of, fields, misfit, result};
use crate::sketches::distinct::{CountBounds, Distinct};

/// How many different values there are.
pub const DISTINCT_BOUNDS: &str = "approx_count_distinct_bounds";

/// `approx_count_distinct_bounds(x)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DistinctBounds {
    signature: Signature,
}

impl Default for DistinctBounds {
    fn default() -> DistinctBounds {
        DistinctBounds { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The type of a count with bounds.
pub(super) fn count_type() -> DataType {
    DataType::Struct(fields(&DataType::Int64))
}

/// A count with bounds.
pub(super) fn count_result(count: CountBounds) -> Result<ScalarValue> {
    let value = |count: u64| ScalarValue::Int64(Some(i64::try_from(count).unwrap_or(i64::MAX)));
    let bounds = [value(count.estimate), value(count.lower), value(count.upper)];
    result(&DataType::Int64, Some(bounds), count.is_exact())
}

impl AggregateUDFImpl for DistinctBounds {
    fn name(&self) -> &str {
        DISTINCT_BOUNDS
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [values] if is_hashable(values) => Ok(types.to_vec()),
            _ => plan_err!("{DISTINCT_BOUNDS} takes one argument of a type with an order"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(count_type())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(bytes_fields(&args, &["hashes"]))
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Counted::default()))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// Takes the summaries of a state column.
pub(super) fn merge(into: &mut Distinct, state: &ArrayRef) -> Result<()> {
    for bytes in bytes_of(state)? {
        into.merge(&Distinct::from_bytes(bytes).ok_or_else(misfit)?);
    }
    Ok(())
}

/// A summary in a state column.
pub(super) fn binary(summary: &mut Distinct) -> ScalarValue {
    ScalarValue::Binary(Some(summary.to_bytes()))
}

/// The different values of one group.
#[derive(Debug, Default)]
struct Counted {
    values: Distinct,
}

impl Accumulator for Counted {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        hashes(&arguments[0])?.into_iter().flatten().for_each(|hash| self.values.add(hash));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        merge(&mut self.values, &states[0])
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![binary(&mut self.values)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        count_result(self.values.count())
    }

    fn size(&self) -> usize {
        size_of::<Counted>() + self.values.size()
    }
}
