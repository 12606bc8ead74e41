//! Are `approx_median` and `approx_percentile_cont`: functions of the values alone.
//!
//! DataFusion's t-digest answers otherwise when the same rows come in other batches. Ours counts values
//! ([`Quantiles`]): up to 1,024 different ones answers are those of `percentile_cont`, beyond that each of the two
//! values between which an answer lies is at most 1/128 of itself away. The number of centroids, which a call may
//! name, has no meaning here. `approx_percentile_cont_with_weight` stays DataFusion's.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::functions_aggregate::approx_median::approx_median_udaf;
use datafusion::functions_aggregate::approx_percentile_cont::approx_percentile_cont_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ReversedUDAF};

use crate::planner::aggregate_within::as_theirs_but_state;
use crate::planner::percentile::fraction;
use crate::sketches::quantile::{Quantiles, Scale, from_float, to_float};

/// The functions.
pub(super) fn all() -> [Arc<AggregateUDF>; 2] {
    [approx_median_udaf(), approx_percentile_cont_udaf()]
        .map(|theirs| Arc::new(AggregateUDF::from(Steady { theirs })))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Steady {
    theirs: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Steady {
    as_theirs_but_state!();

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let name = format!("{}[values]", args.name);
        Ok(vec![Arc::new(Field::new(name, DataType::Binary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let fraction = fraction(&args).unwrap_or(0.5);
        let result = args.return_field.data_type().clone();
        // It judges types and the fraction.
        self.theirs.accumulator(args)?;
        Ok(Box::new(Counted { values: Quantiles::new(Scale::Floats), fraction, result }))
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
struct Counted {
    values: Quantiles,
    fraction: f64,
    result: DataType,
}

impl Counted {
    /// The value at the fraction of the way through all values in their order; `None` of none.
    fn between(&mut self) -> Option<f64> {
        let last = self.values.count().checked_sub(1)?;
        let place = self.fraction * last as f64;
        let lower = (place.floor() as u64).min(last);
        let mut value = |place: u64| Some(to_float(self.values.ranked(place + 1)?.estimate));
        let (low, rest) = (value(lower)?, place - lower as f64);
        // The value itself, also where the next one is infinite.
        if rest == 0.0 {
            return Some(low);
        }
        let high = value((lower + 1).min(last))?;
        Some(low + rest * (high - low))
    }
}

impl Accumulator for Counted {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let numbers = cast(&arguments[0], &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        numbers.iter().flatten().for_each(|number| self.values.add(from_float(number)));
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in states[0].as_binary::<i32>().iter().flatten() {
            let other = Quantiles::from_bytes(Scale::Floats, bytes);
            let other = other.ok_or_else(|| exec_datafusion_err!("the bytes are no values"))?;
            self.values.merge(&other);
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.values.to_bytes()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        match self.between() {
            None => ScalarValue::try_from(&self.result),
            answer => ScalarValue::Float64(answer).cast_to(&self.result),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self) - size_of::<Quantiles>() + self.values.size()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;

    /// What is at the fraction, of values that come in batches of so many, half of them as a partial result.
    fn answer(values: &[f64], fraction: f64, batch: usize) -> Option<f64> {
        let counted = || Counted {
            values: Quantiles::new(Scale::Floats),
            fraction,
            result: DataType::Float64,
        };
        let (mut early, mut late) = (counted(), counted());
        let (first, second) = values.split_at(values.len() / 2);
        for (part, into) in [(first, &mut early), (second, &mut late)] {
            for values in part.chunks(batch) {
                into.update_batch(&[Arc::new(Float64Array::from(values.to_vec()))]).unwrap();
            }
        }
        let state = late.state().unwrap();
        early.merge_batch(&[state[0].to_array().unwrap()]).unwrap();
        early.between()
    }

    #[test]
    fn batches_and_partial_results_do_not_show() {
        let values: Vec<f64> =
            (0..20_000).map(|i| f64::from((i * 7919) % 20_011).powi(3)).collect();
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        for fraction in [0.0, 0.1, 0.5, 0.987, 1.0] {
            let at_once = answer(&values, fraction, values.len()).unwrap();
            let exact = sorted[(fraction * 19_999.0) as usize];
            assert!((at_once - exact).abs() <= exact / 64.0, "{fraction}: {at_once}, {exact}");
            for batch in [1, 137, 8192] {
                assert_eq!(answer(&values, fraction, batch), Some(at_once));
            }
        }
    }

    #[test]
    fn a_thousand_values_are_answered_exactly() {
        let values: Vec<f64> = (0..1000).map(f64::from).collect();
        assert_eq!(answer(&values, 0.5, 10), Some(499.5));
        assert_eq!(answer(&values, 0.25, 1000), Some(249.75));
        assert_eq!(answer(&[1.0, f64::INFINITY], 0.0, 1), Some(1.0));
        assert_eq!(answer(&[1.0, f64::INFINITY], 1.0, 1), Some(f64::INFINITY));
        assert_eq!(answer(&[], 0.5, 1), None);
    }
}
