//! Amends functions of DataFusion: bounds what they make, keeps fractions of seconds, hides what nulls hold, and
//! counts in BIGINT.

use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type, TimeUnit};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

use crate::planner::bounded::{Grows, growth_of};
use crate::planner::signed_numbers::{OF_LISTS, signed_field, signed_type};
use crate::planner::wide_trunc;

/// The function as we mean it; `None` where DataFusion's is right as it is.
pub(super) fn amended(function: &Arc<ScalarUDF>) -> Option<Arc<ScalarUDF>> {
    let amendment = match growth_of(function.name()) {
        Some(growth) => Amendment::Bounded(growth),
        None if function.name() == "date_part" => Amendment::ExactEpoch,
        None if function.name() == "date_trunc" => Amendment::TamedNulls,
        None if OF_LISTS.contains(&function.name()) => Amendment::Signed,
        None => return None,
    };
    Some(Arc::new(ScalarUDF::from(Amended { theirs: Arc::clone(function), amendment })))
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Amendment {
    /// Refuses what would be too large.
    Bounded(Grows),
    /// `date_part('epoch', t1 - t2)` has fractions, as PostgreSQL's; DataFusion's drops them.
    ExactEpoch,
    /// Counts in BIGINT.
    Signed,
    /// `date_trunc` computes with what stands in the places of nulls, too, and overflows on it; and in nanoseconds.
    TamedNulls,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Amended {
    theirs: Arc<ScalarUDF>,
    amendment: Amendment,
}

/// Seconds of the difference of two times; `None` for any other call of `date_part`.
fn exact_epoch(args: &ScalarFunctionArgs) -> Result<Option<ColumnarValue>> {
    let [ColumnarValue::Scalar(part), times] = args.args.as_slice() else { return Ok(None) };
    let is_epoch = part
        .try_as_str()
        .flatten()
        .is_some_and(|part| part.trim_matches('\'').eq_ignore_ascii_case("epoch"));
    let data_type = times.data_type();
    if !is_epoch || !matches!(data_type, DataType::Duration(_)) {
        return Ok(None);
    }
    let array = match times {
        ColumnarValue::Array(array) => Arc::clone(array),
        ColumnarValue::Scalar(value) => value.to_array()?,
    };
    let per_second = match data_type {
        DataType::Duration(TimeUnit::Second) => 1.0,
        DataType::Duration(TimeUnit::Millisecond) => 1e3,
        DataType::Duration(TimeUnit::Microsecond) => 1e6,
        _ => 1e9,
    };
    let units = cast(&array, &DataType::Int64)?;
    let units = units.as_primitive::<Int64Type>();
    let seconds: Float64Array =
        units.iter().map(|units| units.map(|units| units as f64 / per_second)).collect();
    Ok(Some(match times {
        ColumnarValue::Array(_) => ColumnarValue::Array(Arc::new(seconds)),
        ColumnarValue::Scalar(_) => {
            let value = seconds.is_valid(0).then(|| seconds.value(0));
            ColumnarValue::Scalar(ScalarValue::Float64(value))
        }
    }))
}

/// Puts zeros in the places of nulls.
fn tamed(mut args: ScalarFunctionArgs) -> Result<ScalarFunctionArgs> {
    for arg in &mut args.args {
        let ColumnarValue::Array(array) = arg else { continue };
        let data_type = array.data_type().clone();
        if array.null_count() > 0 && matches!(data_type, DataType::Timestamp(..)) {
            let values = cast(array, &DataType::Int64)?;
            let tame: Int64Array = values.as_primitive::<Int64Type>().iter().collect();
            *array = cast(&tame, &data_type)?;
        }
    }
    Ok(args)
}

impl ScalarUDFImpl for Amended {
    fn name(&self) -> &str {
        self.theirs.name()
    }
    fn aliases(&self) -> &[String] {
        self.theirs.aliases()
    }
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.theirs.schema_name(args)
    }
    fn signature(&self) -> &Signature {
        self.theirs.signature()
    }
    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let theirs = self.theirs.return_type(arguments)?;
        Ok(if self.amendment == Amendment::Signed { signed_type(&theirs) } else { theirs })
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let theirs = self.theirs.return_field_from_args(args)?;
        Ok(if self.amendment == Amendment::Signed { signed_field(&theirs) } else { theirs })
    }
    fn is_strict(&self) -> bool {
        self.theirs.is_strict()
    }
    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &self.amendment {
            Amendment::Bounded(growth) => growth.check(self.name(), &args)?,
            Amendment::ExactEpoch => {
                if let Some(seconds) = exact_epoch(&args)? {
                    return Ok(seconds);
                }
            }
            Amendment::Signed => {
                let signed = Arc::clone(&args.return_field);
                let counts = self.theirs.inner().invoke_with_args(args)?;
                return counts.cast_to(signed.data_type(), None);
            }
            Amendment::TamedNulls => {
                if let Some(truncated) = wide_trunc::date_trunc(&args)? {
                    return Ok(truncated);
                }
                args = tamed(args)?;
            }
        }
        self.theirs.invoke_with_args(args)
    }
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.theirs.simplify(args, info)
    }
    fn preimage(
        &self,
        args: &[Expr],
        literal: &Expr,
        info: &SimplifyContext,
    ) -> Result<PreimageResult> {
        self.theirs.inner().preimage(args, literal, info)
    }
    fn short_circuits(&self) -> bool {
        self.theirs.short_circuits()
    }
    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.theirs.coerce_types(arguments)
    }
    fn documentation(&self) -> Option<&Documentation> {
        self.theirs.documentation()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::TimestampMicrosecondArray;
    use arrow::buffer::NullBuffer;
    use arrow::datatypes::Field;
    use datafusion::config::ConfigOptions;
    use datafusion::functions::datetime::date_trunc;

    use super::*;

    #[test]
    fn a_null_over_the_least_of_all_numbers_stays_null() {
        let function = amended(&date_trunc()).unwrap();
        let nulls = Some(NullBuffer::from(vec![false, true]));
        let times = TimestampMicrosecondArray::new(vec![i64::MIN, 61_000_000].into(), nulls);
        let field = Arc::new(Field::new("t", times.data_type().clone(), true));
        let text = Arc::new(Field::new("part", DataType::Utf8, false));
        let args = ScalarFunctionArgs {
            args: vec![
                ColumnarValue::Scalar(ScalarValue::from("minute")),
                ColumnarValue::Array(Arc::new(times)),
            ],
            arg_fields: vec![text, Arc::clone(&field)],
            number_rows: 2,
            return_field: field,
            config_options: Arc::new(ConfigOptions::default()),
        };
        let ColumnarValue::Array(result) = function.invoke_with_args(args).unwrap() else {
            panic!("it is a column")
        };
        let result: Vec<Option<i64>> =
            cast(&result, &DataType::Int64).unwrap().as_primitive::<Int64Type>().iter().collect();
        assert_eq!(result, [None, Some(60_000_000)]);
    }
}
