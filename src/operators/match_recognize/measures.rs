//! Makes rows of matches: the partition's columns, then what MEASURES computes, for many at once.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::compute::concat;
use datafusion::scalar::ScalarValue;

use super::MatchSpec;
use super::cells::{Aggregation, Cell, row_of};
use super::conditions::{Framed, frame_batch};
use super::partition::Partition;
use super::running::Running;
use crate::error::{Report, SqlState};
use crate::operators::expr::{evaluate, evaluate_in_pieces};
use crate::operators::operator::EvalError;
use crate::operators::origin_buffer::OriginBuffer;

/// A match whose row is still to be made.
#[derive(Debug)]
pub(super) struct Found {
    /// Number in its partition, from 1.
    match_number: i64,
    /// The number of its first row, which has the partition's columns.
    first: u64,
    /// The number of its last row.
    pub last: u64,
    /// The variable of the last row.
    classifier: usize,
    /// The rows that the measures read, in the order of their cells.
    places: Vec<Option<u64>>,
    /// All rows with their variables, where something is computed over them.
    rows: Vec<(u64, usize)>,
}

/// A match without a valid row: the number of its last row, and why.
pub(super) type Refused = (u64, SqlState, String);

/// The measures.
#[derive(Debug)]
pub(super) struct Measures {
    framed: Vec<Framed>,
    aggregates: bool,
}

impl Measures {
    pub(super) fn new(spec: &MatchSpec) -> Result<Measures, EvalError> {
        let framed = Framed::of(&spec.measures, &spec.frame)?;
        let is_aggregate = |cell: &usize| matches!(spec.cells[*cell], Cell::Aggregate(_));
        let aggregates = framed.first().is_some_and(|framed| framed.cells.iter().any(is_aggregate));
        Ok(Measures { framed, aggregates })
    }

    /// The cells that measures read; all share them.
    fn cells(&self) -> &[usize] {
        self.framed.first().map_or(&[], |framed| &framed.cells)
    }

    /// Notes what will be read of a match, whose rows are counted from the partition's start.
    pub(super) fn note(
        &self,
        spec: &MatchSpec,
        partition: &Partition,
        rows: &[(u32, usize)],
    ) -> Option<Found> {
        let number = |row: u32| partition.number_at(row, 0);
        let places = self.cells().iter().filter_map(|cell| match &spec.cells[*cell] {
            Cell::At(place, _) => {
                let row = row_of(rows, place);
                Some(row.and_then(|row| partition.number_at(row, place.back)))
            }
            Cell::Aggregate(_) | Cell::Classifier | Cell::MatchNumber => None,
        });
        let (first, last) = (rows.first()?, rows.last()?);
        let all = rows.iter().filter_map(|&(row, variable)| Some((number(row)?, variable)));
        Some(Found {
            match_number: partition.matches,
            first: number(first.0)?,
            last: number(last.0)?,
            classifier: last.1,
            places: places.collect(),
            rows: if self.aggregates { all.collect() } else { Vec::new() },
        })
    }

    /// The rows of some matches, and those that have none.
    pub(super) fn rows(
        &self,
        spec: &MatchSpec,
        found: &[Found],
        held: &OriginBuffer,
    ) -> Result<(RecordBatch, Vec<Refused>), EvalError> {
        let mut refused: Vec<Refused> = Vec::new();
        let mut columns = Vec::with_capacity(self.cells().len());
        let mut overflown = vec![false; found.len()];
        let mut place = 0;
        for &cell in self.cells() {
            columns.push(match &spec.cells[cell] {
                Cell::At(_, column) => {
                    let numbers: Vec<Option<u64>> =
                        found.iter().map(|found| found.places[place]).collect();
                    place += 1;
                    held.gather_column(*column, &numbers)?
                }
                Cell::Aggregate(aggregation) => {
                    let (column, failed) = aggregate(aggregation, found, held)?;
                    for (index, error) in failed {
                        if !std::mem::replace(&mut overflown[index], true) {
                            refused.push((found[index].last, error.code(), error.to_string()));
                        }
                    }
                    column
                }
                Cell::Classifier => {
                    let names = found.iter().map(|found| &*spec.variables[found.classifier]);
                    Arc::new(StringViewArray::from_iter_values(names))
                }
                Cell::MatchNumber => {
                    let numbers = found.iter().map(|found| found.match_number);
                    Arc::new(Int64Array::from_iter_values(numbers))
                }
            });
        }
        let good: Vec<usize> = (0..found.len()).filter(|index| !overflown[*index]).collect();
        let (measured, good) = self.evaluate(found, columns, good, &mut refused)?;
        let firsts: Vec<Option<u64>> = good.iter().map(|index| Some(found[*index].first)).collect();
        let partition = spec.partition.iter().map(|column| held.gather_column(*column, &firsts));
        let mut columns = partition.collect::<Result<Vec<_>, _>>()?;
        columns.extend(measured);
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(good.len()));
        let schema = Arc::clone(&spec.schema);
        Ok((RecordBatch::try_new_with_options(schema, columns, &options)?, refused))
    }

    /// The measures of the good matches, and which of them are good still.
    fn evaluate(
        &self,
        found: &[Found],
        columns: Vec<ArrayRef>,
        good: Vec<usize>,
        refused: &mut Vec<Refused>,
    ) -> Result<(Vec<ArrayRef>, Vec<usize>), EvalError> {
        let Some(first) = self.framed.first() else { return Ok((vec![], good)) };
        let frame = frame_batch(&first.schema, columns, found.len())?;
        let frame = match good.len() == found.len() {
            true => frame,
            false => {
                let good = good.iter().map(|index| *index as u32);
                let good = arrow::array::UInt32Array::from_iter_values(good);
                arrow::compute::take_record_batch(&frame, &good)?
            }
        };
        let (pieces, failures) = evaluate_in_pieces(&frame, |part| {
            self.framed
                .iter()
                .map(|framed| evaluate(&framed.expr, part))
                .collect::<Result<Vec<_>, _>>()
        });
        let kept = pieces.iter().flat_map(|piece| piece.start..piece.start + piece.length);
        let kept: Vec<usize> = kept.map(|row| good[row]).collect();
        for failure in failures {
            refused.push((found[good[failure.row]].last, failure.code, failure.reason));
        }
        let mut measured = Vec::with_capacity(self.framed.len());
        for measure in 0..self.framed.len() {
            let parts: Vec<&dyn arrow::array::Array> =
                pieces.iter().map(|piece| &*piece.value[measure]).collect();
            measured.push(match parts.as_slice() {
                [] => {
                    let empty = frame.slice(0, 0);
                    evaluate(&self.framed[measure].expr, &empty)?
                }
                parts => concat(parts)?,
            });
        }
        Ok((measured, kept))
    }
}

/// An aggregate over each match, and the matches for which it has no value.
fn aggregate(
    aggregation: &Aggregation,
    found: &[Found],
    held: &OriginBuffer,
) -> Result<(ArrayRef, Vec<(usize, EvalError)>), EvalError> {
    let counts = |variable: usize| aggregation.of.is_none_or(|of| of == variable);
    let rows_of = |found: &Found| {
        let numbers = found.rows.iter().filter(|(_, variable)| counts(*variable));
        numbers.map(|(number, _)| Some(*number)).collect::<Vec<_>>()
    };
    let (mut values, mut failed) = (Vec::with_capacity(found.len()), Vec::new());
    for (index, found) in found.iter().enumerate() {
        let numbers = rows_of(found);
        let mut running = Running::Empty;
        match aggregation.column {
            None => numbers.iter().for_each(|_| running.fold(aggregation.function, None)),
            Some(column) => {
                let column = held.gather_column(column, &numbers)?;
                for row in 0..numbers.len() {
                    let value = ScalarValue::try_from_array(&column, row)?;
                    running.fold(aggregation.function, Some(value));
                }
            }
        }
        values.push(match running.value(aggregation.function, &aggregation.data_type) {
            Ok(value) => value,
            Err(error) if error.is_of_one_group() => {
                failed.push((index, error));
                ScalarValue::try_from(&aggregation.data_type)?
            }
            Err(error) => return Err(error),
        });
    }
    Ok((ScalarValue::iter_to_array(values)?, failed))
}
