//! Is `percentile_cont`: between two values it goes as far as it is asked to, as PostgreSQL does.
//!
//! DataFusion's own cuts the way between them to millionths: the 0.3 of 0, 10, 20 and 25 is 8.99999 there.
//! All but the answer is DataFusion's business.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::functions_aggregate::percentile_cont::percentile_cont_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification};
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl};
use datafusion::physical_expr::expressions::Literal;

use crate::planner::aggregate_within::as_theirs;

/// The function.
pub(super) fn percentile_cont() -> Arc<AggregateUDF> {
    static PERCENTILE: LazyLock<Arc<AggregateUDF>> = LazyLock::new(|| {
        Arc::new(AggregateUDF::from(Percentile { theirs: percentile_cont_udaf() }))
    });
    Arc::clone(&PERCENTILE)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Percentile {
    theirs: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Percentile {
    as_theirs!();

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (distinct, result) = (args.is_distinct, args.return_field.data_type().clone());
        let is_null = args.expr_fields.first().is_none_or(|field| field.data_type().is_null());
        let fraction = fraction(&args);
        // It judges the fraction, too.
        let theirs = self.theirs.accumulator(args)?;
        let Some(fraction) = fraction.filter(|_| !is_null) else { return Ok(theirs) };
        Ok(Box::new(Between { theirs, fraction, distinct, result }))
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        self.theirs.simplify()
    }
}

/// The constant fraction of a call, from the least value on; `None` where it has none.
pub(super) fn fraction(args: &AccumulatorArgs) -> Option<f64> {
    let literal = args.exprs.get(1)?.downcast_ref::<Literal>()?;
    let ScalarValue::Float64(fraction) = literal.value().cast_to(&DataType::Float64).ok()? else {
        return None;
    };
    let descends = args.order_bys.first().is_some_and(|key| key.options.descending);
    fraction.map(|fraction| if descends { 1.0 - fraction } else { fraction })
}

/// DataFusion's values, and the answer as we compute it.
#[derive(Debug)]
struct Between {
    theirs: Box<dyn Accumulator>,
    fraction: f64,
    distinct: bool,
    result: DataType,
}

impl Accumulator for Between {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.theirs.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.theirs.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.theirs.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.theirs.supports_retract_batch()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.theirs.state()
    }

    fn size(&self) -> usize {
        self.theirs.size()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let state = self.theirs.state()?;
        let [ScalarValue::List(list)] = state.as_slice() else {
            return Err(exec_datafusion_err!("percentile_cont holds no list of values"));
        };
        if !self.distinct {
            // The values went out with the state.
            self.theirs.merge_batch(&[Arc::clone(list) as ArrayRef])?;
        }
        let values = cast(&list.value(0), &DataType::Float64)?;
        let mut values: Vec<f64> = values.as_primitive::<Float64Type>().iter().flatten().collect();
        ScalarValue::Float64(between(&mut values, self.fraction)).cast_to(&self.result)
    }
}

/// The value at a fraction of the way through all values in their order; `None` of none.
fn between(values: &mut [f64], fraction: f64) -> Option<f64> {
    let last = values.len().checked_sub(1)?;
    let place = fraction * last as f64;
    let lower = (place.floor() as usize).min(last);
    let (_, low, above) = values.select_nth_unstable_by(lower, f64::total_cmp);
    let low = *low;
    let rest = place - lower as f64;
    // The value itself, also where the next one is infinite.
    if rest == 0.0 {
        return Some(low);
    }
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    Some(low + rest * (high - low))
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn a_fraction_goes_its_whole_way() {
        let of = |values: &[f64], fraction| between(&mut values.to_vec(), fraction);
        assert_eq!(of(&[], 0.5), None);
        assert_eq!(of(&[7.0], 0.3), Some(7.0));
        assert_eq!(of(&[3e12, 0.0, 2e12, 1e12], 0.3), Some(0.3 * 3.0 * 1e12));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0], 0.5), Some(2.5));
        assert_eq!(of(&[1.0, f64::INFINITY], 0.0), Some(1.0));
        assert_eq!(of(&[1.0, f64::INFINITY], 1.0), Some(f64::INFINITY));
        assert_eq!(of(&[1.0, 1.0 + 1e-9], 1e-7), Some(1.0 + 1e-7 * ((1.0_f64 + 1e-9) - 1.0)));
    }
}
