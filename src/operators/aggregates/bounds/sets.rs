//! `count_distinct_where(x, …)` and `count_distinct_except(x, a, b)`: different values by the conditions that
//! they came with.
//!
//! A condition makes a set: the values of the rows where it is true. Which of the values in these sets are
//! counted says a [`SetExpression`]. Each set is a summary of its own, so one that is small is known exactly
//! however large the others are.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, ReversedUDAF, Signature, Volatility,
};

use super::bytes_fields;
use super::distinct::{binary, count_result, count_type, merge};
use super::hashes::{hashes, is_hashable};
use crate::sketches::distinct::Distinct;
use crate::sketches::set_expression::SetExpression;

/// How many different values came with one condition and never with another.
pub const DISTINCT_EXCEPT: &str = "count_distinct_except";
/// How many different values there are for which an expression of conditions holds.
pub const DISTINCT_WHERE: &str = "count_distinct_where";

/// Counts the different values of the first argument for which the expression holds; set i is made by
/// argument i + 1.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct DistinctSets {
    name: &'static str,
    expression: SetExpression,
    sets: usize,
    signature: Signature,
}

impl DistinctSets {
    /// `count_distinct_except(x, a, b)`: different x of rows where `a` holds, without those where `b` does.
    pub(super) fn except() -> DistinctSets {
        let expression = SetExpression::set(0).and(SetExpression::set(1).not());
        DistinctSets { name: DISTINCT_EXCEPT, ..DistinctSets::of(expression, 2) }
    }

    /// `count_distinct_where` of an expression over so many sets.
    pub fn of(expression: SetExpression, sets: usize) -> DistinctSets {
        let signature = Signature::user_defined(Volatility::Immutable);
        DistinctSets { name: DISTINCT_WHERE, expression, sets, signature }
    }

    /// The type of the result.
    pub fn result() -> DataType {
        count_type()
    }

    /// Whether values of a type can be counted.
    pub fn takes(values: &DataType) -> bool {
        is_hashable(values)
    }
}

impl AggregateUDFImpl for DistinctSets {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let is_condition =
            |data_type: &DataType| data_type.is_null() || *data_type == DataType::Boolean;
        match types {
            [values, conditions @ ..]
                if is_hashable(values)
                    && conditions.len() == self.sets
                    && conditions.iter().all(is_condition) =>
            {
                let conditions = conditions.iter().map(|_| DataType::Boolean);
                Ok([values.clone()].into_iter().chain(conditions).collect())
            }
            _ if self.sets == 2 => plan_err!("{} takes a value and two conditions", self.name),
            _ => plan_err!("{} takes a value and conditions", self.name),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(count_type())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let names: Vec<String> = (0..self.sets).map(|set| format!("set_{set}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(bytes_fields(&args, &names))
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let sets = vec![Distinct::default(); self.sets];
        Ok(Box::new(Sets { sets, expression: self.expression.clone() }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// The different values of one group that came with each condition.
#[derive(Debug)]
struct Sets {
    sets: Vec<Distinct>,
    expression: SetExpression,
}

impl Accumulator for Sets {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let hashes = hashes(&arguments[0])?;
        for (values, condition) in self.sets.iter_mut().zip(&arguments[1..]) {
            let condition = condition.as_boolean();
            let holds = |row: &usize| condition.is_valid(*row) && condition.value(*row);
            (0..hashes.len()).filter(holds).for_each(|row| {
                if let Some(hash) = hashes[row] {
                    values.add(hash);
                }
            });
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.sets.iter_mut().zip(states).try_for_each(|(set, state)| merge(set, state))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(self.sets.iter_mut().map(binary).collect())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        count_result(Distinct::count_where(&mut self.sets, &self.expression))
    }

    fn size(&self) -> usize {
        size_of::<Sets>() + self.sets.iter().map(Distinct::size).sum::<usize>()
    }
}
