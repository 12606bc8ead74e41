//! Names what a batch brings to the aggregates: arguments, filters, weights, keys, and which rows.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::{Int64Type, SchemaRef};

use crate::operators::aggregates::accumulator::{self, GroupedAggregate, is_order_sensitive};
use crate::operators::aggregates::retractable::needs_multiset;
use crate::operators::aggregates::spec::{AggregateSpec, NativeFunction};
use crate::operators::emit::EmitMode;
use crate::operators::operator::EvalError;

/// The aggregates of the operator, and which of them slices fold: those that count the rows of a
/// key are answered by the slice, which counts them anyway.
pub(super) struct Aggregates {
    specs: Vec<AggregateSpec>,
    /// Positions among the specs, ascending.
    pub(super) folded: Vec<usize>,
    /// For each aggregate, whether it keeps its arguments because rows can be taken back.
    multisets: Vec<bool>,
    input: SchemaRef,
    /// Whether merged slices can be taken out again, exactly, for every aggregate.
    pub(super) are_invertible: bool,
    /// Whether a group without rows costs next to nothing, for every aggregate.
    pub(super) are_dense: bool,
    /// Whether the partial results of some groups can be read without touching the others.
    pub(super) read_groups: bool,
    /// Whether partial results can be written and read back without a change.
    pub(super) restore_exactly: bool,
}

impl Aggregates {
    pub(super) fn new(
        specs: &[AggregateSpec],
        input: &SchemaRef,
        append_only: bool,
    ) -> Result<Aggregates, EvalError> {
        let counts_rows = |spec: &AggregateSpec| {
            spec.native == Some(NativeFunction::CountRows) && spec.filter.is_none()
        };
        let folded = (0..specs.len()).filter(|&i| !counts_rows(&specs[i])).collect();
        let multisets = specs.iter().map(|spec| Ok(!append_only && needs_multiset(spec, input)?));
        let mut all = Aggregates {
            multisets: multisets.collect::<Result<_, EvalError>>()?,
            specs: specs.to_vec(),
            folded,
            input: Arc::clone(input),
            are_invertible: false,
            are_dense: false,
            read_groups: false,
            restore_exactly: false,
        };
        let made = all.make()?;
        all.are_invertible = made.iter().all(|aggregate| aggregate.is_invertible());
        all.are_dense = made.iter().all(|aggregate| aggregate.is_dense());
        all.read_groups = made.iter().all(|aggregate| aggregate.reads_groups());
        all.restore_exactly = made.iter().all(|aggregate| aggregate.restores_exactly());
        Ok(all)
    }

    /// Empty accumulators of those that are folded.
    pub(super) fn make(&self) -> Result<Vec<Box<dyn GroupedAggregate>>, EvalError> {
        let make = |&i: &usize| match self.multisets[i] {
            true => accumulator::make_retractable(&self.specs[i], &self.input),
            false => accumulator::make(&self.specs[i]),
        };
        self.folded.iter().map(make).collect()
    }

    pub(super) fn specs(&self) -> &[AggregateSpec] {
        &self.specs
    }

    /// The columns of all specs: those that were folded, and the number of rows for the others.
    pub(super) fn in_place(&self, folded: Vec<ArrayRef>, rows: Int64Array) -> Vec<ArrayRef> {
        let rows: ArrayRef = Arc::new(rows);
        let mut folded = folded.into_iter();
        let mut at = self.folded.iter().peekable();
        let place = |i: usize| match at.next_if(|&&next| next == i) {
            Some(_) => folded.next().expect("there is a column for each that is folded"),
            None => Arc::clone(&rows),
        };
        (0..self.specs.len()).map(place).collect()
    }
}

/// Whether windows of time share slices; where they do not, each is a slice of its own.
pub fn shares_slices(
    mode: EmitMode,
    aggregates: &[AggregateSpec],
    input: &SchemaRef,
    append_only: bool,
) -> Result<bool, EvalError> {
    if mode != EmitMode::OnClose {
        return Ok(false);
    }
    for aggregate in aggregates {
        let keeps_arguments = !append_only && needs_multiset(aggregate, input)?;
        if keeps_arguments || is_order_sensitive(aggregate) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a batch brings to keys and aggregates.
pub(super) struct Columns {
    pub(super) keys: Vec<ArrayRef>,
    /// For each aggregate of the spec its arguments.
    pub(super) arguments: Vec<Vec<ArrayRef>>,
    /// For each aggregate of the spec its filter.
    pub(super) filters: Vec<Option<BooleanArray>>,
    /// Weights, where they are not all one.
    pub(super) weights: Option<Int64Array>,
}

impl Columns {
    /// The rows at `rows`, which ascend.
    pub(super) fn at(&self, rows: &UInt32Array) -> Result<Columns, EvalError> {
        let take = |column: &dyn Array| compute::take(column, rows, None);
        let cut = |columns: &Vec<ArrayRef>| columns.iter().map(|column| take(column)).collect();
        let filter = |filter: &Option<BooleanArray>| {
            let taken = filter.as_ref().map(|filter| take(filter)).transpose()?;
            Ok(taken.map(|filter| filter.as_boolean().clone()))
        };
        let weights = self.weights.as_ref().map(|weights| take(weights)).transpose()?;
        Ok(Columns {
            keys: cut(&self.keys)?,
            arguments: self.arguments.iter().map(cut).collect::<Result<_, _>>()?,
            filters: self.filters.iter().map(filter).collect::<Result<_, EvalError>>()?,
            weights: weights.map(|weights| weights.as_primitive::<Int64Type>().clone()),
        })
    }
}

/// Rows on their way into slices.
pub(super) struct Input {
    pub(super) columns: Columns,
    /// For each row its key.
    pub(super) ids: Vec<u32>,
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
    pub(super) fn len(&self) -> usize {
        match self {
            RowSet::Range(_, len) => *len,
            RowSet::Scattered(rows) => rows.len(),
        }
    }

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

    /// The numbers that belong to the rows.
    pub(super) fn of<'a>(&self, numbers: &'a [u32]) -> Cow<'a, [u32]> {
        match self {
            RowSet::Range(start, len) => Cow::Borrowed(&numbers[*start..start + len]),
            RowSet::Scattered(rows) => rows.iter().map(|&row| numbers[row as usize]).collect(),
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
