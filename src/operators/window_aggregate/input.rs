//! Names what a batch brings to the aggregates: arguments, filters, weights, keys, and which rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::SchemaRef;

use crate::operators::aggregates::accumulator::{self, GroupedAggregate};
use crate::operators::aggregates::retractable::needs_multiset;
use crate::operators::aggregates::spec::{AggregateSpec, NativeFunction};
use crate::operators::operator::EvalError;

/// The aggregates of the operator, and where among them the rows are counted.
pub(super) struct Aggregates {
    pub(super) specs: Vec<AggregateSpec>,
    /// The aggregate that counts rows by weight: one of the specs', else one of our own at the end.
    pub(super) rows_at: usize,
    /// For each aggregate, whether it keeps its arguments because rows can be taken back.
    multisets: Vec<bool>,
    input: SchemaRef,
}

impl Aggregates {
    pub(super) fn new(
        specs: &[AggregateSpec],
        input: &SchemaRef,
        append_only: bool,
    ) -> Result<Aggregates, EvalError> {
        let rows_at = specs
            .iter()
            .position(|s| s.native == Some(NativeFunction::CountRows) && s.filter.is_none());
        let multisets = specs.iter().map(|spec| Ok(!append_only && needs_multiset(spec, input)?));
        Ok(Aggregates {
            multisets: multisets.collect::<Result<_, EvalError>>()?,
            specs: specs.to_vec(),
            rows_at: rows_at.unwrap_or(specs.len()),
            input: Arc::clone(input),
        })
    }

    /// Whether some aggregate keeps its arguments.
    pub(super) fn keep_arguments(&self) -> bool {
        self.multisets.contains(&true)
    }

    pub(super) fn make(&self) -> Result<Vec<Box<dyn GroupedAggregate>>, EvalError> {
        let make = |(spec, multiset): (&AggregateSpec, &bool)| match multiset {
            true => accumulator::make_retractable(spec, &self.input),
            false => accumulator::make(spec),
        };
        let specs = self.specs.iter().zip(&self.multisets);
        let mut all = specs.map(make).collect::<Result<Vec<_>, EvalError>>()?;
        if self.rows_at == self.specs.len() {
            all.push(accumulator::count_rows());
        }
        Ok(all)
    }

    /// Whether merged slices can be taken out again, exactly, for every aggregate.
    pub(super) fn are_invertible(&self) -> Result<bool, EvalError> {
        Ok(self.make()?.iter().all(|aggregate| aggregate.is_invertible()))
    }

    pub(super) fn specs(&self) -> &[AggregateSpec] {
        &self.specs
    }
}

/// What a batch brings to the aggregates.
pub(super) struct Input {
    /// For each aggregate of the spec its arguments.
    pub(super) arguments: Vec<Vec<ArrayRef>>,
    /// For each aggregate of the spec its filter.
    pub(super) filters: Vec<Option<BooleanArray>>,
    /// Weights, where they are not all one.
    pub(super) weights: Option<Int64Array>,
    /// For each row its key.
    pub(super) ids: Vec<usize>,
}

/// Rows of an input, in order.
#[derive(Clone)]
pub(super) enum RowSet {
    /// Neighbours: first and number.
    Range(usize, usize),
    /// Here and there.
    Scattered(Vec<u32>),
}

impl RowSet {
    /// Adds other rows, at the end for now.
    pub(super) fn merge(&mut self, other: &RowSet) {
        let list = |rows: &RowSet| match rows {
            RowSet::Range(start, len) => (*start as u32..(start + len) as u32).collect(),
            RowSet::Scattered(rows) => rows.clone(),
        };
        let mut all: Vec<u32> = list(self);
        all.extend(list(other));
        *self = RowSet::Scattered(all);
    }

    /// Puts rows in order, and neighbours into a range.
    pub(super) fn sort(&mut self) {
        let RowSet::Scattered(rows) = self else { return };
        rows.sort_unstable();
        let (first, last) = (rows[0], rows[rows.len() - 1]);
        if (last - first) as usize + 1 == rows.len() {
            *self = RowSet::Range(first as usize, rows.len());
        }
    }

    pub(super) fn column(&self, column: &ArrayRef) -> Result<ArrayRef, EvalError> {
        match self {
            RowSet::Range(0, len) if *len == column.len() => Ok(ArrayRef::clone(column)),
            RowSet::Range(start, len) => Ok(column.slice(*start, *len)),
            RowSet::Scattered(rows) => {
                let rows = UInt32Array::from(rows.clone());
                Ok(compute::take(column, &rows, None)?)
            }
        }
    }

    pub(super) fn typed<A: Array + Clone + 'static>(&self, column: &A) -> Result<A, EvalError> {
        let column: ArrayRef = Arc::new(column.clone());
        let cut = self.column(&column)?;
        let typed = cut.as_any().downcast_ref::<A>();
        Ok(typed.expect("cutting rows keeps the type").clone())
    }
}
