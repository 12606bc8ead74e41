//! States what the unwindowed GROUP BY asks of an aggregate: fold in, take back, read without consuming.
//!
//! Groups here live on for ever and change at any time, so an aggregate must be readable as often
//! as wanted, must take retractions where its input has them, and must be able to forget a group.
//! Aggregates of windows are folded once and read once; they have an interface of their own.
//!
//! | aggregate | append-only input | input with retractions |
//! |---|---|---|
//! | count, sum and avg of integers, sum of decimals | a total | a total |
//! | sum and avg of floats | a total in log order | an exact total ([`super::exact_sum`]) |
//! | variances, covariances, correlation | central moments in log order | a multiset, folded afresh when read |
//! | first_value, last_value with ORDER BY | the best row so far | a multiset, folded afresh when read |
//! | min, max | the best so far | a counted multiset |
//! | others of different values (`sum(DISTINCT x)`) | one DataFusion accumulator per group | a multiset, whose values are folded afresh when read, once each |
//! | any other | one DataFusion accumulator per group | a multiset, folded afresh when read |

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt64Type};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::physical_expr::PhysicalExpr;

use super::boxed::BoxedFold;
use super::extreme::extreme_fold;
use super::first_last::FirstLastFold;
use super::linear::{
    CountFold, DecimalTotal, ExactTotal, FloatTotal, IntegerTotal, Reading, SumFold,
};
use super::mining::{MiningFold, miner_of};
use super::moments::MomentsFold;
use super::multiset::{MultisetFold, Question};
use super::spec::{AggregateSpec, NativeFunction};
use crate::data::sql_words::type_in_sql_words;
use crate::error::SqlState;
use crate::operators::expr;
use crate::operators::operator::EvalError;
use crate::operators::portions::Chosen;
use crate::operators::state::{StateReader, StateWriter};

/// One aggregate over all groups. Groups are dense indices.
pub trait Fold: Send {
    /// Makes room for `groups` groups; new ones are empty.
    fn resize(&mut self, groups: usize);
    /// Folds rows in.
    fn update(&mut self, rows: &FoldRows<'_>) -> Result<(), EvalError>;
    /// Reads the results of `groups`, in that order.
    fn evaluate(&mut self, groups: &[usize]) -> Result<Evaluated, EvalError>;
    /// Whether the group is as if it had never had a row.
    fn is_empty(&self, group: usize) -> bool;
    /// Forgets a group's rows.
    fn clear(&mut self, group: usize);
    /// Renumbers: group `groups[i]` becomes `i`, all others go. `groups` ascends.
    fn keep(&mut self, groups: &[usize]);
    /// Bytes of state.
    fn bytes(&self) -> usize;
    /// Whether a fold that [`restore`](Self::restore)s goes on to the bit as this one would.
    fn restores_exactly(&self) -> bool {
        true
    }
    /// Writes what belongs to no group.
    fn save_head(&mut self, _out: &mut StateWriter) -> Result<(), EvalError> {
        Ok(())
    }
    /// Reads what [`save_head`](Self::save_head) wrote, into a new fold.
    fn restore_head(&mut self, _from: &mut StateReader<'_>) -> Result<(), EvalError> {
        Ok(())
    }
    /// Writes the state of some groups.
    fn save(&mut self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError>;
    /// Reads what [`save`](Self::save) wrote, into a fold that has the groups.
    fn restore(&mut self, chosen: &Chosen, from: &mut StateReader<'_>) -> Result<(), EvalError>;
}

/// Rows on their way into a fold.
pub struct FoldRows<'a> {
    /// The group of each row.
    pub groups: &'a [usize],
    /// The arguments, one value per row.
    pub arguments: &'a [ArrayRef],
    /// Rows that FILTER lets in, without nulls; `None`: all.
    pub included: Option<&'a BooleanArray>,
    /// Weight of each row; `None`: all 1.
    pub weights: Option<&'a Int64Array>,
}

impl FoldRows<'_> {
    /// How often the row counts; 0 for a row that FILTER keeps out.
    pub fn weight(&self, row: usize) -> i64 {
        if self.included.is_some_and(|included| !included.value(row)) {
            return 0;
        }
        self.weights.map_or(1, |weights| weights.value(row))
    }
}

/// Results read from a fold.
pub struct Evaluated {
    /// One value per group asked for.
    pub values: ArrayRef,
    /// Indices, into the groups asked for, of those without a valid result; their value is null.
    pub failed: Vec<(usize, SqlState, String)>,
}

impl Evaluated {
    /// Results of which none failed.
    pub fn all(values: ArrayRef) -> Evaluated {
        Evaluated { values, failed: Vec::new() }
    }
}

/// The error of a result that its type cannot hold.
pub(super) fn out_of_range(index: usize, data_type: &DataType) -> (usize, SqlState, String) {
    let data_type = type_in_sql_words(data_type);
    (index, SqlState::NUMERIC_RANGE, format!("aggregate is out of range for type {data_type}"))
}

/// For each aggregate the arguments, and the filter if it keeps any row out.
pub type Inputs = Vec<(Vec<ArrayRef>, Option<BooleanArray>)>;

/// An aggregate with the expressions that feed it.
pub struct Measure {
    /// Its state.
    pub fold: Box<dyn Fold>,
    /// Arguments, and behind them the ORDER BY within the aggregate.
    pub arguments: Vec<Arc<dyn PhysicalExpr>>,
    /// FILTER.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
}

impl Measure {
    /// Chooses the fold for an aggregate.
    pub fn new(
        spec: &AggregateSpec,
        schema: &SchemaRef,
        append_only: bool,
    ) -> Result<Measure, EvalError> {
        let order = spec.function.order_bys().iter().map(|sort| Arc::clone(&sort.expr));
        let arguments = spec.function.expressions().into_iter().chain(order);
        let arguments =
            arguments.map(|e| expr::checked(&e, schema)).collect::<Result<Vec<_>, _>>()?;
        let types = arguments.iter().map(|e| e.data_type(schema)).collect::<Result<Vec<_>, _>>()?;
        let fold = match native_fold(spec, &types, append_only)? {
            Some(fold) => fold,
            None => general_fold(spec, &types, append_only)?,
        };
        let filter = spec.filter.as_ref().map(|f| expr::checked(f, schema)).transpose()?;
        Ok(Measure { fold, arguments, filter })
    }

    /// Evaluates filters and arguments of several aggregates; arguments only where the filter lets
    /// a row in.
    pub fn inputs(measures: &[Measure], batch: &RecordBatch) -> Result<Inputs, DataFusionError> {
        measures
            .iter()
            .map(|measure| {
                let included =
                    measure.filter.as_ref().map(|f| expr::evaluate_mask(f, batch)).transpose()?;
                let included = included.filter(|mask| mask.true_count() < mask.len());
                let arguments = measure
                    .arguments
                    .iter()
                    .map(|argument| match &included {
                        None => expr::evaluate(argument, batch),
                        Some(mask) => {
                            argument.evaluate_selection(batch, mask)?.into_array(batch.num_rows())
                        }
                    })
                    .collect::<Result<_, _>>()?;
                Ok((arguments, included))
            })
            .collect()
    }
}

/// The fold of our own for an aggregate, if there is one for its type.
fn native_fold(
    spec: &AggregateSpec,
    types: &[DataType],
    append_only: bool,
) -> Result<Option<Box<dyn Fold>>, EvalError> {
    let Some(native) = spec.native else { return Ok(None) };
    let reading = match native {
        NativeFunction::CountRows => return Ok(Some(Box::new(CountFold::of_rows()))),
        NativeFunction::Count => return Ok(Some(Box::new(CountFold::of_values()))),
        NativeFunction::Min | NativeFunction::Max => {
            let max = native == NativeFunction::Max;
            let [data_type] = types else { return Ok(None) };
            if append_only {
                return Ok(extreme_fold(data_type, max));
            }
            let question = if max { Question::Max } else { Question::Min };
            return Ok(Some(Box::new(MultisetFold::new(question, types)?)));
        }
        NativeFunction::Sum => Reading::Sum(spec.output.data_type().clone()),
        NativeFunction::Avg => Reading::Average,
    };
    let result = spec.output.data_type();
    Ok(match (types, result) {
        ([DataType::Int64], DataType::Int64 | DataType::Float64) => {
            Some(Box::new(SumFold::<IntegerTotal<Int64Type>>::new(reading)))
        }
        ([DataType::UInt64], DataType::UInt64 | DataType::Float64) => {
            Some(Box::new(SumFold::<IntegerTotal<UInt64Type>>::new(reading)))
        }
        ([DataType::Decimal128(..)], DataType::Decimal128(..)) if native == NativeFunction::Sum => {
            Some(Box::new(SumFold::<DecimalTotal>::new(reading)))
        }
        ([DataType::Float64], DataType::Float64) if append_only => {
            Some(Box::new(SumFold::<FloatTotal>::new(reading)))
        }
        ([DataType::Float64], DataType::Float64) => {
            Some(Box::new(SumFold::<ExactTotal>::new(reading)))
        }
        _ => None,
    })
}

/// A fold for any aggregate that DataFusion has.
fn general_fold(
    spec: &AggregateSpec,
    types: &[DataType],
    append_only: bool,
) -> Result<Box<dyn Fold>, EvalError> {
    let function = &spec.function;
    if let Some(moments) = MomentsFold::of(function).filter(|_| append_only) {
        return Ok(Box::new(moments));
    }
    if let Some(ends) = FirstLastFold::of(function).filter(|_| append_only) {
        return Ok(Box::new(ends));
    }
    if append_only && let Some(miner) = miner_of(function) {
        return Ok(Box::new(MiningFold::new(miner)?));
    }
    if append_only && !wants_sorted_input(spec) {
        return Ok(Box::new(BoxedFold::new(Arc::clone(function))));
    }
    Ok(Box::new(MultisetFold::new(question_of(spec, types), types)?))
}

/// What an aggregate without a fold of its own asks of the multiset of its arguments.
pub(super) fn question_of(spec: &AggregateSpec, types: &[DataType]) -> Question {
    let function = &spec.function;
    if function.is_distinct() && function.fun().name() == "count" && types.len() == 1 {
        return Question::CountDistinct;
    }
    if function.is_distinct() && function.order_bys().is_empty() {
        return Question::ReplayDistinct { function: Arc::clone(function) };
    }
    Question::Replay { function: Arc::clone(function), sort: wants_sorted_input(spec) }
}

fn wants_sorted_input(spec: &AggregateSpec) -> bool {
    let function = &spec.function;
    !function.order_bys().is_empty()
        && function.order_sensitivity() == AggregateOrderSensitivity::HardRequirement
}

/// The values of `array` that are valid, as a test by row.
pub(super) fn is_value(array: &ArrayRef) -> impl Fn(usize) -> bool + '_ {
    let nulls = array.logical_nulls();
    move |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
}
