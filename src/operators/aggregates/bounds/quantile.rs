//! `approx_quantile_bounds(x, q)`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, FieldRef, Float64Type, Int64Type, Schema};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDFImpl, ColumnarValue, ReversedUDAF, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;

use super::{bytes_fields, bytes_of, fields, misfit, result};
use crate::sketches::quantile::{Quantiles, Scale, from_float, to_float};

/// The value of a rank.
pub const QUANTILE_BOUNDS: &str = "approx_quantile_bounds";

/// `approx_quantile_bounds(x, q)`: the least x that at least the fraction q of all do not exceed.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct QuantileBounds {
    signature: Signature,
}

impl Default for QuantileBounds {
    fn default() -> QuantileBounds {
        QuantileBounds { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The constant q of a call.
pub(super) fn fraction(arguments: &[Arc<dyn PhysicalExpr>]) -> Result<f64, String> {
    let constant = arguments
        .get(1)
        .and_then(|q| q.evaluate(&RecordBatch::new_empty(Arc::new(Schema::empty()))).ok());
    match constant {
        Some(ColumnarValue::Scalar(ScalarValue::Float64(Some(q)))) if (0.0..=1.0).contains(&q) => {
            Ok(q)
        }
        _ => Err(format!("second argument of {QUANTILE_BOUNDS} must be a constant from 0 to 1")),
    }
}

impl AggregateUDFImpl for QuantileBounds {
    fn name(&self) -> &str {
        QUANTILE_BOUNDS
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [values, q] = types else {
            return plan_err!("{QUANTILE_BOUNDS} takes a number and a fraction");
        };
        if !(q.is_numeric() || q.is_null()) {
            return plan_err!(
                "second argument of {QUANTILE_BOUNDS} must be a constant from 0 to 1"
            );
        }
        let values = match values {
            DataType::UInt64 => DataType::Float64,
            values if values.is_integer() => DataType::Int64,
            values if values.is_numeric() || values.is_null() => DataType::Float64,
            _ => return plan_err!("first argument of {QUANTILE_BOUNDS} must be a number"),
        };
        Ok(vec![values, DataType::Float64])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fields(&types[0])))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(bytes_fields(&args, &["bins"]))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let q = fraction(args.exprs).map_err(|reason| exec_datafusion_err!("{reason}"))?;
        if args.is_distinct {
            return plan_err!("{QUANTILE_BOUNDS} of DISTINCT values is not supported");
        }
        let scale = match args.expr_fields[0].data_type() {
            DataType::Int64 => Scale::Integers,
            _ => Scale::Floats,
        };
        Ok(Box::new(Ranked { scale, q, values: Quantiles::new(scale) }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }
}

/// The values of one group.
#[derive(Debug)]
struct Ranked {
    scale: Scale,
    q: f64,
    values: Quantiles,
}

impl Accumulator for Ranked {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        match self.scale {
            Scale::Integers => {
                let numbers = arguments[0].as_primitive::<Int64Type>();
                numbers.iter().flatten().for_each(|number| self.values.add(number));
            }
            Scale::Floats => {
                let numbers = arguments[0].as_primitive::<Float64Type>();
                numbers.iter().flatten().for_each(|number| self.values.add(from_float(number)));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in bytes_of(&states[0])? {
            self.values.merge(&Quantiles::from_bytes(self.scale, bytes).ok_or_else(misfit)?);
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.values.to_bytes()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let found = self.values.quantile(self.q);
        let exact = found.is_none_or(|found| found.lower == found.upper);
        let bounds = found.map(|found| [found.estimate, found.lower, found.upper]);
        match self.scale {
            Scale::Integers => {
                let value = |value| ScalarValue::Int64(Some(value));
                result(&DataType::Int64, bounds.map(|bounds| bounds.map(value)), exact)
            }
            Scale::Floats => {
                let value = |value| ScalarValue::Float64(Some(to_float(value)));
                result(&DataType::Float64, bounds.map(|bounds| bounds.map(value)), exact)
            }
        }
    }

    fn size(&self) -> usize {
        size_of::<Ranked>() + self.values.size()
    }
}
