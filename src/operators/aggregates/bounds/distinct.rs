//! `approx_count_distinct_bounds(x)` and `count_distinct_except(x, a, b)`.

use arrow::array::{Array, ArrayRef, AsArray};
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
/// How many different values came with one condition and never with another.
pub const DISTINCT_EXCEPT: &str = "count_distinct_except";

/// `approx_count_distinct_bounds(x)`.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DistinctBounds {
    signature: Signature,
}

/// `count_distinct_except(x, a, b)`: different x of rows where `a` holds, without those where `b` does.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DistinctExcept {
    signature: Signature,
}

impl Default for DistinctBounds {
    fn default() -> DistinctBounds {
        DistinctBounds { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl Default for DistinctExcept {
    fn default() -> DistinctExcept {
        DistinctExcept { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn count_type() -> DataType {
    DataType::Struct(fields(&DataType::Int64))
}

fn count_result(count: CountBounds) -> Result<ScalarValue> {
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

impl AggregateUDFImpl for DistinctExcept {
    fn name(&self) -> &str {
        DISTINCT_EXCEPT
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let is_condition =
            |data_type: &DataType| data_type.is_null() || *data_type == DataType::Boolean;
        match types {
            [values, with, without]
                if is_hashable(values) && is_condition(with) && is_condition(without) =>
            {
                Ok(vec![values.clone(), DataType::Boolean, DataType::Boolean])
            }
            _ => plan_err!("{DISTINCT_EXCEPT} takes a value and two conditions"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(count_type())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(bytes_fields(&args, &["with", "without"]))
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Difference::default()))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// Takes the summaries of a state column.
fn merge(into: &mut Distinct, state: &ArrayRef) -> Result<()> {
    for bytes in bytes_of(state)? {
        into.merge(&Distinct::from_bytes(bytes).ok_or_else(misfit)?);
    }
    Ok(())
}

fn binary(summary: &mut Distinct) -> ScalarValue {
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

/// The different values of one group that came with one condition, and with the other.
#[derive(Debug, Default)]
struct Difference {
    with: Distinct,
    without: Distinct,
}

impl Accumulator for Difference {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let (with, without) = (arguments[1].as_boolean(), arguments[2].as_boolean());
        for (row, hash) in hashes(&arguments[0])?.into_iter().enumerate() {
            let Some(hash) = hash else { continue };
            for (values, condition) in [(&mut self.with, with), (&mut self.without, without)] {
                if condition.is_valid(row) && condition.value(row) {
                    values.add(hash);
                }
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        merge(&mut self.with, &states[0])?;
        merge(&mut self.without, &states[1])
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![binary(&mut self.with), binary(&mut self.without)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        count_result(self.with.count_except(&mut self.without))
    }

    fn size(&self) -> usize {
        size_of::<Difference>() + self.with.size() + self.without.size()
    }
}
