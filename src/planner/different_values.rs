//! Folds the different values of an aggregate with DISTINCT, one time each, in their order.
//!
//! ```text
//!   x: 3 1 3 null 1 --->  1 3 null  ---> DataFusion's aggregate, without DISTINCT
//! ```
//!
//! Several arguments are one value together: `covar_pop(DISTINCT x, y)` is about the different pairs, as in
//! PostgreSQL. Values ascend, nulls last, so an answer depends on which values there are and on nothing else.
//!
//! # State
//! Per group one entry for each different value, and how often it came: a row that leaves a moving frame takes
//! one of them away. The answer is folded anew when it is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BinaryBuilder, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF,
};

use crate::planner::aggregate_within::as_theirs_but_state;
use crate::planner::once_moving::Recipe;

/// The aggregate that folds different values only.
pub(super) fn of_different_values(theirs: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(Different { theirs }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Different {
    theirs: Arc<AggregateUDF>,
}

impl Different {
    /// Whether DataFusion's own answer is right: whole numbers add up to the same in any order.
    fn leaves(&self, result: &DataType) -> bool {
        matches!(self.theirs.name(), "sum" | "avg") && !result.is_floating()
    }
}

impl AggregateUDFImpl for Different {
    as_theirs_but_state!();

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if self.leaves(args.return_field.data_type()) {
            return self.theirs.state_fields(args);
        }
        let values = DataType::new_list(DataType::Binary, true);
        Ok(vec![Arc::new(Field::new(format!("{}[different]", args.name), values, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if self.leaves(args.return_field.data_type()) {
            return self.theirs.accumulator(args);
        }
        Ok(Box::new(DifferentValues::new(&self.theirs, args)?))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if self.leaves(args.return_field.data_type()) {
            return self.theirs.create_sliding_accumulator(args);
        }
        Ok(Box::new(DifferentValues::new(&self.theirs, args)?))
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.leaves(args.return_field.data_type()) && self.theirs.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.theirs.create_groups_accumulator(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// The different values of a group, and the aggregate that is asked about them.
#[derive(Debug)]
struct DifferentValues {
    recipe: Recipe,
    converter: RowConverter,
    /// How many rows have each value; never 0.
    values: BTreeMap<Box<[u8]>, u64>,
    /// Bytes of the values themselves.
    held: usize,
}

impl DifferentValues {
    fn new(theirs: &AggregateUDF, args: AccumulatorArgs) -> Result<DifferentValues> {
        let ascending = SortOptions { descending: false, nulls_first: false };
        let field =
            |field: &FieldRef| SortField::new_with_options(field.data_type().clone(), ascending);
        let converter = RowConverter::new(args.expr_fields.iter().map(field).collect())?;
        let all = AccumulatorArgs { is_distinct: false, ..args };
        let recipe = Recipe::new(Arc::clone(theirs.inner()), &all);
        // What cannot be made at all says so here.
        recipe.make()?;
        Ok(DifferentValues { recipe, converter, values: BTreeMap::new(), held: 0 })
    }

    fn add(&mut self, value: &[u8]) {
        match self.values.get_mut(value) {
            Some(rows) => *rows += 1,
            None => {
                self.held += value.len();
                self.values.insert(Box::from(value), 1);
            }
        }
    }
}

impl Accumulator for DifferentValues {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let rows = self.converter.convert_columns(arguments)?;
        rows.iter().for_each(|row| self.add(row.as_ref()));
        Ok(())
    }

    fn retract_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let rows = self.converter.convert_columns(arguments)?;
        for row in &rows {
            let value = row.as_ref();
            match self.values.get_mut(value) {
                Some(1) => {
                    self.values.remove(value);
                    self.held -= value.len();
                }
                Some(rows) => *rows -= 1,
                None => return Err(exec_datafusion_err!("a value leaves that never came")),
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut all = self.recipe.make()?;
        if !self.values.is_empty() {
            let parser = self.converter.parser();
            let rows = self.values.keys().map(|value| parser.parse(value));
            all.update_batch(&self.converter.convert_rows(rows)?)?;
        }
        all.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut values = BinaryBuilder::with_capacity(self.values.len(), self.held);
        self.values.keys().for_each(|value| values.append_value(value));
        let lengths = OffsetBuffer::from_lengths([self.values.len()]);
        let item = Arc::new(Field::new_list_field(DataType::Binary, true));
        let list = ListArray::try_new(item, lengths, Arc::new(values.finish()), None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for list in states[0].as_list::<i32>().iter().flatten() {
            list.as_binary::<i32>().iter().flatten().for_each(|value| self.add(value));
        }
        Ok(())
    }

    fn size(&self) -> usize {
        let entry = size_of::<(Box<[u8]>, u64)>();
        size_of_val(self) + self.held + self.values.len() * entry + self.converter.size()
    }
}
