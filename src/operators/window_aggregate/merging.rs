//! Puts the answers of several shards together, so that they stand as those of one operator would.
//!
//! Windows come in the order of their ends and starts, and within a window rows in the order of keys. A
//! key is in one shard only, so rows of the same key (a retraction and the insertion behind it) stay
//! neighbours in their order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::compute;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMicrosecondType};

use super::WindowKey;
use super::output::{Answer, Failure, Outbox};
use crate::operators::fork::{self, Sharding};
use crate::operators::keys::ranking::comparator;
use crate::operators::operator::EvalError;

/// What the shards put out, put together.
pub(super) fn merge(boxes: Vec<Outbox>, sharding: &Sharding) -> Result<Outbox, EvalError> {
    let mut answers: BTreeMap<WindowKey, Vec<Answer>> = BTreeMap::new();
    let mut failures: BTreeMap<WindowKey, Vec<Failure>> = BTreeMap::new();
    for outbox in boxes {
        for answer in outbox.answers {
            answers.entry(answer.window).or_default().push(answer);
        }
        for failure in outbox.failures {
            failures.entry(failure.window).or_default().push(failure);
        }
    }
    let mut merged = Outbox::default();
    for failures in failures.into_values() {
        merged.failures.push(one_failure(failures)?);
    }
    for (window, mut answers) in answers {
        if answers.len() == 1 {
            merged.answers.append(&mut answers);
        } else {
            merged.answers.append(&mut interleave(window, answers, sharding)?);
        }
    }
    Ok(merged)
}

/// One report for a window: what is wrong with the first of all keys.
fn one_failure(mut failures: Vec<Failure>) -> Result<Failure, EvalError> {
    let keys = failures.iter().map(|failure| failure.keys).sum();
    let firsts: Vec<&[ArrayRef]> = failures.iter().map(|failure| &failure.first[..]).collect();
    let ends: Vec<usize> = (1..=failures.len()).collect();
    let first = order_of(&join(&firsts)?, &ends)?.first().map_or(0, |&first| first as usize);
    Ok(Failure { keys, ..failures.swap_remove(first) })
}

/// The rows of several shards in the order of their keys; many of them in pieces, which several threads
/// copy at once.
fn interleave(
    window: WindowKey,
    answers: Vec<Answer>,
    sharding: &Sharding,
) -> Result<Vec<Answer>, EvalError> {
    let mut ends = Vec::with_capacity(answers.len());
    for answer in &answers {
        ends.push(ends.last().copied().unwrap_or(0) + answer.rows);
    }
    let keys: Vec<&[ArrayRef]> = answers.iter().map(|answer| &answer.keys[..]).collect();
    let columns: Vec<&[ArrayRef]> = answers.iter().map(|answer| &answer.columns[..]).collect();
    let keys = join(&keys)?;
    let columns = join(&columns)?;
    let mark = answers.iter().map(|answer| answer.mark).max().unwrap_or(i64::MIN);
    let order = UInt32Array::from(order_of(&keys, &ends)?);
    let weights: Option<Vec<&dyn Array>> =
        answers.iter().map(|answer| answer.weights.as_ref().map(|w| w as &dyn Array)).collect();
    let weights = weights.map(|weights| compute::concat(&weights)).transpose()?;
    drop(answers);
    let piece = move |order: UInt32Array| -> Result<Answer, EvalError> {
        let weights = weights.as_ref().map(|w| compute::take(w, &order, None)).transpose()?;
        Ok(Answer {
            window,
            mark,
            rows: order.len(),
            keys: compute::take_arrays(&keys, &order, None)?,
            columns: compute::take_arrays(&columns, &order, None)?,
            weights: weights.map(|w| Int64Array::from(w.to_data())),
        })
    };
    let rows = order.len();
    if rows < sharding.rows.max(2) {
        return Ok(vec![piece(order)?]);
    }
    let length = rows.div_ceil(sharding.shards.max(1));
    let starts = (0..rows).step_by(length);
    let pieces = starts.map(|start| order.slice(start, length.min(rows - start))).collect();
    fork::map(&*sharding.fork, pieces, piece).into_iter().collect()
}

/// Columns of several parts, one below the other.
fn join(parts: &[&[ArrayRef]]) -> Result<Vec<ArrayRef>, EvalError> {
    let width = parts.first().map_or(0, |part| part.len());
    let column = |column: usize| -> Result<ArrayRef, EvalError> {
        let parts: Vec<&dyn Array> = parts.iter().map(|part| part[column].as_ref()).collect();
        Ok(compute::concat(&parts)?)
    };
    (0..width).map(column).collect()
}

/// All rows in the order of keys; the rows up to each of `ends` are in order already.
fn order_of(keys: &[ArrayRef], ends: &[usize]) -> Result<Vec<u32>, EvalError> {
    if let [one] = keys
        && let Some(values) = integers(one)
    {
        return Ok(merge_runs(ends, |a, b| values[a as usize].cmp(&values[b as usize])));
    }
    let compare = comparator(keys)?;
    Ok(merge_runs(ends, |a, b| compare(a as usize, b as usize)))
}

/// The values of a column of plain integers or times.
fn integers(column: &ArrayRef) -> Option<&[i64]> {
    if column.null_count() > 0 {
        return None;
    }
    match column.data_type() {
        DataType::Int64 => Some(column.as_primitive::<Int64Type>().values()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Some(column.as_primitive::<TimestampMicrosecondType>().values())
        }
        _ => None,
    }
}

/// Merges runs of row numbers, two neighbours at a time.
fn merge_runs(ends: &[usize], compare: impl Fn(u32, u32) -> Ordering) -> Vec<u32> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let mut runs: Vec<Vec<u32>> =
        starts.zip(ends).map(|(start, &end)| (start as u32..end as u32).collect()).collect();
    while runs.len() > 1 {
        let mut rest = runs.into_iter();
        let mut merged = Vec::with_capacity(rest.len().div_ceil(2));
        while let Some(left) = rest.next() {
            merged.push(match rest.next() {
                Some(right) => merge_two(&left, &right, &compare),
                None => left,
            });
        }
        runs = merged;
    }
    runs.pop().unwrap_or_default()
}

fn merge_two(left: &[u32], right: &[u32], compare: impl Fn(u32, u32) -> Ordering) -> Vec<u32> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut l, mut r) = (0, 0);
    while l < left.len() && r < right.len() {
        // Which of the two is a coin toss: no branch to guess.
        let is_right = compare(right[r], left[l]).is_lt();
        merged.push(if is_right { right[r] } else { left[l] });
        l += usize::from(!is_right);
        r += usize::from(is_right);
    }
    merged.extend_from_slice(&left[l..]);
    merged.extend_from_slice(&right[r..]);
    merged
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn runs_merge_in_order_and_keep_equal_rows_of_one_together() {
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![1, 1, 7, 2, 3, 3, 0, 9]));
        assert_eq!(
            order_of(&[Arc::clone(&keys)], &[3, 6, 6, 8]).unwrap(),
            [6, 0, 1, 3, 4, 5, 2, 7]
        );
        let nulls: ArrayRef =
            Arc::new(Int64Array::from(vec![Some(5), None, Some(-1), Some(6), Some(7)]));
        assert_eq!(order_of(&[nulls], &[2, 5]).unwrap(), [2, 0, 3, 4, 1], "nulls last");
        assert!(order_of(&[keys], &[]).unwrap().is_empty());
    }
}
