//! States what OVER asks of a function, and chooses the one that computes it.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, SchemaRef};

use super::cells::{Codec, Encoded, Words};
use super::counts::CountFunction;
use super::folded::FoldedCall;
use super::frames::{Frame, Ordered};
use super::lag::LagCall;
use super::ranks::RankCall;
use super::totals::{DecimalSum, FloatSum, IntegerSum, TotalFunction};
use super::values::{Choice, First, Greatest, Last, Least, ValueFunction};
use crate::operators::aggregates::fold::Evaluated;
use crate::operators::aggregates::spec::{AggregateSpec, NativeFunction};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter};

/// One function with its OVER clause, apart from PARTITION BY.
#[derive(Debug, Clone)]
pub enum OverFunction {
    /// `row_number()`.
    RowNumber,
    /// `rank()`.
    Rank,
    /// `dense_rank()`.
    DenseRank,
    /// `first_value(x)`: of the frame.
    First(usize, Frame),
    /// `last_value(x)`: of the frame.
    Last(usize, Frame),
    /// `lag(x, n, default)`.
    Lag(Shift),
    /// `lead(x, n, default)`: known once the n-th row behind has come.
    Lead(Shift),
    /// An aggregate of the rows in the frame.
    Aggregate(AggregateSpec, Frame),
}

/// What `lag` and `lead` look at.
#[derive(Debug, Clone)]
pub struct Shift {
    /// The column.
    pub argument: usize,
    /// How many rows away.
    pub rows: usize,
    /// One value of the column's type: what is answered where there is no such row.
    pub default: ArrayRef,
    /// Whether rows with a null are passed over (lag only).
    pub ignore_nulls: bool,
}

/// A running function over the partitions of one PARTITION BY.
pub(super) trait Call: Send {
    /// Makes room for `slots` partitions.
    fn resize(&mut self, slots: usize);
    /// Takes rows that frames which reach ahead will hold; they are answered later.
    fn enter(&mut self, columns: &[ArrayRef], rows: &Ordered<'_>) -> Result<(), EvalError>;
    /// Takes rows and answers for each of them.
    fn answer(&mut self, columns: &[ArrayRef], rows: &Ordered<'_>) -> Result<Evaluated, EvalError>;
    /// Forgets a partition.
    fn forget(&mut self, slot: usize);
    /// Forgets all partitions.
    fn clear(&mut self);
    /// Bytes of state.
    fn bytes(&self) -> usize;
    /// Whether a call that [`restore`](Self::restore)s goes on to the bit as this one would.
    fn restores_exactly(&self) -> bool {
        true
    }
    /// Writes the state of all partitions.
    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError>;
    /// Reads what [`save`](Self::save) wrote.
    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError>;
}

/// The running form of a function; `None` for `lead`, which is answered by later rows.
pub(super) fn call_of(
    function: &OverFunction,
    schema: &SchemaRef,
) -> Result<Option<Box<dyn Call>>, EvalError> {
    let type_of = |column: usize| schema.field(column).data_type();
    Ok(Some(match function {
        OverFunction::RowNumber | OverFunction::Rank | OverFunction::DenseRank => {
            Box::new(RankCall::new(function))
        }
        OverFunction::Lead(_) => return Ok(None),
        OverFunction::Lag(shift) => match Words::of(type_of(shift.argument)) {
            Some(words) => Box::new(LagCall::new(shift, words)?),
            None => Box::new(LagCall::new(shift, Encoded::of(type_of(shift.argument))?)?),
        },
        OverFunction::First(column, frame) => match Words::of(type_of(*column)) {
            Some(words) => end::<_, First>(*column, *frame, words),
            None => end::<_, First>(*column, *frame, Encoded::of(type_of(*column))?),
        },
        OverFunction::Last(column, frame) => match Words::of(type_of(*column)) {
            Some(words) => end::<_, Last>(*column, *frame, words),
            None => end::<_, Last>(*column, *frame, Encoded::of(type_of(*column))?),
        },
        OverFunction::Aggregate(spec, frame) => aggregate(spec, *frame, schema)?,
    }))
}

/// first_value or last_value.
fn end<C: Codec + 'static, P: Choice + 'static>(
    column: usize,
    frame: Frame,
    codec: C,
) -> Box<dyn Call> {
    Box::new(ValueFunction::<C, P>::of_all(column, frame, codec))
}

/// min or max.
fn extreme<C: Codec + 'static>(column: usize, frame: Frame, codec: C, max: bool) -> Box<dyn Call> {
    match max {
        true => Box::new(ValueFunction::<C, Greatest>::of_values(column, frame, codec)),
        false => Box::new(ValueFunction::<C, Least>::of_values(column, frame, codec)),
    }
}

/// The running form of an aggregate: one of ours by type, else DataFusion's.
fn aggregate(
    spec: &AggregateSpec,
    frame: Frame,
    schema: &SchemaRef,
) -> Result<Box<dyn Call>, EvalError> {
    let arguments = spec.function.expressions();
    let plain = match arguments.as_slice() {
        [argument] => crate::operators::expr::as_column(argument),
        _ => None,
    };
    let general = || Ok(Box::new(FoldedCall::new(spec, frame, schema)?) as Box<dyn Call>);
    if spec.filter.is_some() {
        return general();
    }
    let result = spec.output.data_type();
    let (native, column) = match (spec.native, plain) {
        (Some(NativeFunction::CountRows), _) => {
            return Ok(Box::new(CountFunction::over(None, frame)));
        }
        (Some(native), Some(column)) => (native, column),
        _ => return general(),
    };
    let data_type = schema.field(column).data_type();
    Ok(match native {
        NativeFunction::CountRows | NativeFunction::Count => {
            Box::new(CountFunction::over(Some(column), frame))
        }
        NativeFunction::Min | NativeFunction::Max => {
            let max = native == NativeFunction::Max;
            match Words::of(data_type) {
                Some(words) => extreme(column, frame, words, max),
                None if crate::operators::expr::is_sortable(data_type) => {
                    extreme(column, frame, Encoded::of(data_type)?, max)
                }
                None => return general(),
            }
        }
        NativeFunction::Sum | NativeFunction::Avg => match (data_type, result) {
            (DataType::Int64, DataType::Int64 | DataType::Float64) => {
                Box::new(TotalFunction::<IntegerSum>::over(column, frame, result))
            }
            (DataType::Float64, DataType::Float64) => {
                let average = native == NativeFunction::Avg;
                Box::new(TotalFunction::<FloatSum>::of_floats(column, frame, average))
            }
            (DataType::Decimal128(..), DataType::Decimal128(..))
                if native == NativeFunction::Sum =>
            {
                Box::new(TotalFunction::<DecimalSum>::over(column, frame, result))
            }
            _ => return general(),
        },
    })
}

/// Whether some row may have no valid answer.
pub(super) fn may_fail(function: &OverFunction) -> bool {
    matches!(function, OverFunction::Aggregate(..))
}

/// A column of the input.
pub(super) fn column(columns: &[ArrayRef], index: usize) -> ArrayRef {
    Arc::clone(&columns[index])
}
