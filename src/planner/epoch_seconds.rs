//! `to_timestamp(seconds)`: the moment so many seconds after 1970, in microseconds as every TIMESTAMP.
//!
//! DataFusion counts nanoseconds, which end in 2262, and takes what lies behind for the end. Texts are its own.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use datafusion::common::Result;
use datafusion::functions::datetime::to_timestamp;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

const MICROS: i64 = 1_000_000;

/// The function, to take the place of DataFusion's.
pub(super) fn function() -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    ScalarUDF::from(EpochSeconds { of_texts: to_timestamp(&Default::default()), signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct EpochSeconds {
    of_texts: Arc<ScalarUDF>,
    signature: Signature,
}

impl ScalarUDFImpl for EpochSeconds {
    fn name(&self) -> &str {
        "to_timestamp"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        Ok(match given {
            [DataType::UInt64] => vec![DataType::Float64],
            [one] if one.is_integer() => vec![DataType::Int64],
            [one] if one.is_numeric() => vec![DataType::Float64],
            others => others.to_vec(),
        })
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match given {
            [DataType::Int64 | DataType::Float64] => {
                Ok(DataType::Timestamp(TimeUnit::Microsecond, None))
            }
            others => self.of_texts.return_type(others),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let moments: TimestampMicrosecondArray = match args.args.as_slice() {
            [seconds] if seconds.data_type() == DataType::Int64 => {
                let seconds = seconds.to_array(args.number_rows)?;
                seconds.as_primitive::<Int64Type>().try_unary(of_whole)?
            }
            [seconds] if seconds.data_type() == DataType::Float64 => {
                let seconds = seconds.to_array(args.number_rows)?;
                seconds.as_primitive::<Float64Type>().try_unary(of_fractions)?
            }
            _ => return self.of_texts.invoke_with_args(args),
        };
        Ok(ColumnarValue::Array(Arc::new(moments) as ArrayRef))
    }
}

fn of_whole(seconds: i64) -> Result<i64, ArrowError> {
    seconds.checked_mul(MICROS).ok_or_else(|| out_of_range(&seconds.to_string()))
}

fn of_fractions(seconds: f64) -> Result<i64, ArrowError> {
    let micros = (seconds * MICROS as f64).round();
    // The least BIGINT is a float exactly; the greatest is not, and the next float is one too many.
    match micros >= i64::MIN as f64 && micros < -(i64::MIN as f64) {
        true => Ok(micros as i64),
        false => Err(out_of_range(&seconds.to_string())),
    }
}

fn out_of_range(seconds: &str) -> ArrowError {
    ArrowError::ComputeError(format!("timestamp out of range: {seconds} seconds after 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_become_microseconds_or_are_out_of_range() {
        assert_eq!(of_whole(-1).unwrap(), -1_000_000);
        assert_eq!(of_fractions(1.5).unwrap(), 1_500_000);
        assert_eq!(of_fractions(1_767_225_600.123_456).unwrap(), 1_767_225_600_123_456);
        assert!(of_whole(i64::MAX / 1_000_000 + 1).is_err());
        for seconds in [1e30, -1e30, f64::NAN, f64::INFINITY, 9_223_372_036_855.0] {
            assert!(of_fractions(seconds).is_err(), "{seconds}");
        }
    }
}
