//! Is `sum` of a one-off SELECT: integers and decimals accumulate in 256 bits and never wrap.
//!
//! DataFusion's own `sum` adds in the width of its result and wraps there. Here only the result has to
//! fit, as in a continuous query; what does not is an error (22003). Other types, DISTINCT included,
//! are DataFusion's business, but for floats of a moving frame; a distinct sum of integers is ours, too.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Decimal256Array, Int64Array,
    PrimitiveArray, UInt64Array,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal128Type, Decimal256Type, Field, FieldRef, Int64Type,
    UInt64Type, i256,
};
use arrow::error::ArrowError;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};

use crate::planner::once_moving::{self, Moving, Recipe};

/// What a total is stored as between two stages of a plan.
const TOTAL: DataType = DataType::Decimal256(76, 0);

/// `sum` as a one-off SELECT means it.
pub(super) fn wide_sum() -> Arc<AggregateUDF> {
    static SUM: LazyLock<Arc<AggregateUDF>> =
        LazyLock::new(|| Arc::new(AggregateUDF::from(WideSum { theirs: Sum::new() })));
    Arc::clone(&SUM)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WideSum {
    theirs: Sum,
}

/// Whether a sum of this type is ours.
fn is_ours(result: &DataType) -> bool {
    matches!(result, DataType::Int64 | DataType::UInt64 | DataType::Decimal128(..))
}

impl AggregateUDFImpl for WideSum {
    fn name(&self) -> &str {
        self.theirs.name()
    }

    fn signature(&self) -> &Signature {
        self.theirs.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.theirs.return_type(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let result = args.return_field.data_type().clone();
        match (is_ours(&result), args.is_distinct) {
            (false, _) => self.theirs.accumulator(args),
            (true, false) => Ok(Box::new(Total { result, sum: i256::ZERO, count: 0 })),
            (true, true) => Ok(Box::new(DistinctTotal { result, values: BTreeSet::new() })),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !is_ours(args.return_type()) {
            return self.theirs.state_fields(args);
        }
        let name = |what| format_state_name(args.name, what);
        if args.is_distinct {
            let item = Field::new_list_field(TOTAL, true);
            return Ok(vec![Arc::new(Field::new_list(name("values"), item, false))]);
        }
        let sum = Field::new(name("sum"), TOTAL, true);
        Ok(vec![Arc::new(sum), Arc::new(Field::new(name("count"), DataType::Int64, true))])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let result = args.return_field.data_type().clone();
        if !is_ours(&result) {
            return self.theirs.create_groups_accumulator(args);
        }
        Ok(Box::new(GroupTotals { result, sums: vec![], counts: vec![] }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if is_ours(args.return_field.data_type()) && !args.is_distinct {
            return self.accumulator(args);
        }
        if once_moving::is_about_floats(&args) {
            return Ok(Box::new(Moving::new(Recipe::new(Arc::new(Sum::new()), &args))?));
        }
        self.theirs.create_sliding_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The values of an argument, widened; `None` for null.
fn values(array: &ArrayRef) -> Result<Box<dyn Iterator<Item = Option<i256>> + '_>> {
    fn of<'a, T: ArrowPrimitiveType>(
        array: &'a ArrayRef,
        widen: impl Fn(T::Native) -> i256 + 'a,
    ) -> Box<dyn Iterator<Item = Option<i256>> + 'a> {
        let array: &PrimitiveArray<T> = array.as_primitive();
        Box::new(array.iter().map(move |value| value.map(&widen)))
    }
    Ok(match array.data_type() {
        DataType::Int64 => of::<Int64Type>(array, |value| i256::from_i128(value.into())),
        DataType::UInt64 => of::<UInt64Type>(array, |value| i256::from_i128(value.into())),
        DataType::Decimal128(..) => of::<Decimal128Type>(array, i256::from_i128),
        DataType::Decimal256(..) => of::<Decimal256Type>(array, |value| value),
        other => return Err(exec_datafusion_err!("sum of {other} is not ours")),
    })
}

/// Totals as a column of the result's type; a total that does not fit is an error.
fn results(totals: impl Iterator<Item = Option<i256>>, result: &DataType) -> Result<ArrayRef> {
    let too_large = |total: i256| {
        let text = format!("sum {total}");
        DataFusionError::ArrowError(Box::new(ArrowError::ArithmeticOverflow(text)), None)
    };
    let narrow = |total: i256| total.to_i128().ok_or_else(|| too_large(total));
    Ok(match result {
        DataType::Int64 => {
            let fit = |total| i64::try_from(narrow(total)?).map_err(|_| too_large(total));
            Arc::new(
                totals.map(|total| total.map(fit).transpose()).collect::<Result<Int64Array>>()?,
            )
        }
        DataType::UInt64 => {
            let fit = |total| u64::try_from(narrow(total)?).map_err(|_| too_large(total));
            Arc::new(
                totals.map(|total| total.map(fit).transpose()).collect::<Result<UInt64Array>>()?,
            )
        }
        DataType::Decimal128(precision, scale) => {
            let array: Decimal128Array =
                totals.map(|total| total.map(narrow).transpose()).collect::<Result<_>>()?;
            let array = array.with_precision_and_scale(*precision, *scale)?;
            array.validate_decimal_precision(*precision).map_err(|error| {
                let text = error.to_string();
                DataFusionError::ArrowError(Box::new(ArrowError::ArithmeticOverflow(text)), None)
            })?;
            Arc::new(array)
        }
        other => return Err(exec_datafusion_err!("sum as {other} is not ours")),
    })
}

fn total_column(totals: impl Iterator<Item = i256>) -> Result<ArrayRef> {
    let array: Decimal256Array = totals.map(Some).collect();
    Ok(Arc::new(array.with_precision_and_scale(76, 0)?))
}

/// The total of one group or frame.
#[derive(Debug)]
struct Total {
    result: DataType,
    sum: i256,
    count: i64,
}

impl Accumulator for Total {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        for value in values(&arguments[0])?.flatten() {
            self.sum = self.sum.wrapping_add(value);
            self.count += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        for value in values(&arguments[0])?.flatten() {
            self.sum = self.sum.wrapping_sub(value);
            self.count -= 1;
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let total = (self.count > 0).then_some(self.sum);
        ScalarValue::try_from_array(&results(std::iter::once(total), &self.result)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sum = ScalarValue::Decimal256(Some(self.sum), 76, 0);
        Ok(vec![sum, ScalarValue::Int64(Some(self.count))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for sum in values(&states[0])?.flatten() {
            self.sum = self.sum.wrapping_add(sum);
        }
        self.count += states[1].as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        Ok(())
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// The total of the different values of one group.
#[derive(Debug)]
struct DistinctTotal {
    result: DataType,
    values: BTreeSet<i256>,
}

impl Accumulator for DistinctTotal {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        self.values.extend(values(&arguments[0])?.flatten());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let total = self.values.iter().fold(i256::ZERO, |sum, value| sum.wrapping_add(*value));
        let total = (!self.values.is_empty()).then_some(total);
        ScalarValue::try_from_array(&results(std::iter::once(total), &self.result)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<ScalarValue> =
            self.values.iter().map(|value| ScalarValue::Decimal256(Some(*value), 76, 0)).collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &TOTAL))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for list in states[0].as_list::<i32>().iter().flatten() {
            self.values.extend(values(&list)?.flatten());
        }
        Ok(())
    }

    fn size(&self) -> usize {
        // A node of the tree holds its values and some room.
        size_of_val(self) + self.values.len() * 2 * size_of::<i256>()
    }
}

/// The totals of all groups.
struct GroupTotals {
    result: DataType,
    sums: Vec<i256>,
    counts: Vec<i64>,
}

impl GroupsAccumulator for GroupTotals {
    fn update_batch(
        &mut self,
        arguments: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        self.sums.resize(group_count, i256::ZERO);
        self.counts.resize(group_count, 0);
        let counts = |row: usize| filter.is_none_or(|mask| mask.is_valid(row) && mask.value(row));
        for (row, value) in values(&arguments[0])?.enumerate() {
            if let Some(value) = value.filter(|_| counts(row)) {
                let sum = &mut self.sums[groups[row]];
                *sum = sum.wrapping_add(value);
                self.counts[groups[row]] += 1;
            }
        }
        Ok(())
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        groups: &[usize],
        group_count: usize,
    ) -> Result<()> {
        self.sums.resize(group_count, i256::ZERO);
        self.counts.resize(group_count, 0);
        let counts = states[1].as_primitive::<Int64Type>();
        for (row, sum) in values(&states[0])?.enumerate() {
            if let Some(sum) = sum {
                let total = &mut self.sums[groups[row]];
                *total = total.wrapping_add(sum);
                self.counts[groups[row]] += counts.value(row);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let sums = emit_to.take_needed(&mut self.sums);
        let counts = emit_to.take_needed(&mut self.counts);
        let totals = sums.into_iter().zip(counts).map(|(sum, count)| (count > 0).then_some(sum));
        results(totals, &self.result)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = total_column(emit_to.take_needed(&mut self.sums).into_iter())?;
        Ok(vec![sums, Arc::new(Int64Array::from(emit_to.take_needed(&mut self.counts)))])
    }

    fn convert_to_state(
        &self,
        arguments: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let counts = |row: usize| filter.is_none_or(|mask| mask.is_valid(row) && mask.value(row));
        let kept: Vec<Option<i256>> = values(&arguments[0])?
            .enumerate()
            .map(|(row, value)| value.filter(|_| counts(row)))
            .collect();
        let sums = total_column(kept.iter().map(|value| value.unwrap_or(i256::ZERO)))?;
        let counts = kept.iter().map(|value| i64::from(value.is_some()));
        Ok(vec![sums, Arc::new(Int64Array::from_iter_values(counts))])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i256>() + self.counts.capacity() * size_of::<i64>()
    }
}
