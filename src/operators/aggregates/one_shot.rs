//! Evaluates aggregates over rows that are all there: windows that keep their rows until they close.

use arrow::array::{ArrayRef, RecordBatch};

use crate::operators::aggregates::accumulator::{Rows, arguments, filter, make};
use crate::operators::aggregates::spec::AggregateSpec;
use crate::operators::operator::EvalError;

/// The results of every aggregate, one row per group. Rows of `input` are in log order, row `i`
/// belongs to `groups[i]`.
pub fn evaluate_rows(
    aggregates: &[AggregateSpec],
    input: &RecordBatch,
    groups: &[usize],
    group_count: usize,
) -> Result<Vec<ArrayRef>, EvalError> {
    let groups: Vec<u32> = groups.iter().map(|&group| group as u32).collect();
    aggregates
        .iter()
        .map(|spec| {
            let filter = filter(spec, input)?;
            let rows = Rows { filter: filter.as_ref(), ..Rows::all(&groups, group_count) };
            let mut aggregate = make(spec)?;
            aggregate.update(&arguments(spec, input)?, &rows)?;
            aggregate.evaluate()
        })
        .collect()
}
