//! Keeps the rows that satisfy a predicate and computes new columns from them.
//!
//! # Method
//!
//! The predicate makes a mask; only columns that the projection reads are filtered; expressions see
//! only rows that passed. Plain columns are shared, never copied, when nothing is filtered out.
//!
//! # Errors
//!
//! A row fails when its predicate fails, or when it passes and one of its expressions fails: it is
//! reported and left out ([`crate::operators::expr`]). Of a retraction nothing is reported: the
//! insertion that it takes back failed in the same way and was reported then.
//!
//! # State
//!
//! None.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions,
    UInt32Array,
};
use arrow::compute::{self, FilterBuilder};
use arrow::datatypes::{Int64Type, SchemaRef, UInt32Type};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

use crate::data::change::Change;
use crate::data::punctuation::{Punctuation, column_named, name_at};
use crate::operators::expr::{self, Piece, RowFailure};
use crate::operators::operator::{Emitter, EvalError, RejectedRow};
use crate::operators::stateless::Stateless;

/// What to keep and what to compute.
#[derive(Debug, Clone)]
pub struct FilterProjectSpec {
    /// Rows for which it is not true are left out.
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    /// Output columns with their names; `None`: the input's columns.
    pub projection: Option<Vec<(Arc<dyn PhysicalExpr>, String)>>,
    /// Columns of the input.
    pub input_schema: SchemaRef,
    /// Columns of the output.
    pub schema: SchemaRef,
}

impl FilterProjectSpec {
    /// Whether it may say something else of the same row at another time.
    pub fn asks_for_time(&self) -> bool {
        let projected = self.projection.iter().flatten().map(|(expression, _)| expression);
        self.filter.iter().chain(projected).any(expr::is_volatile)
    }
}

/// Runs a [`FilterProjectSpec`].
#[derive(Debug)]
pub struct FilterProject {
    spec: Arc<FilterProjectSpec>,
    /// The predicate, with overflow as an error.
    filter: Option<Arc<dyn PhysicalExpr>>,
    /// Input columns that the outputs read, ascending; the outputs refer to positions in it.
    kept: Vec<usize>,
    outputs: Vec<OutputColumn>,
}

#[derive(Debug)]
enum OutputColumn {
    /// A column of the kept ones as it is.
    Plain(usize),
    /// Computed from the kept ones.
    Computed(Arc<dyn PhysicalExpr>),
}

/// What some rows came to.
struct Selected {
    /// Which of them passed; `None`: all.
    positions: Option<UInt32Array>,
    /// Values of the rows that passed.
    columns: Vec<ArrayRef>,
}

impl FilterProject {
    /// Prepares the expressions of `spec`.
    pub fn new(spec: Arc<FilterProjectSpec>) -> Result<FilterProject, EvalError> {
        let schema = &spec.input_schema;
        let filter = spec.filter.as_ref().map(|f| expr::checked(f, schema)).transpose()?;
        let (kept, outputs) = match &spec.projection {
            None => {
                let all = 0..schema.fields().len();
                (all.clone().collect(), all.map(OutputColumn::Plain).collect())
            }
            Some(projection) => {
                let mut kept: Vec<usize> =
                    projection.iter().flat_map(|(e, _)| expr::columns_of(e)).collect();
                kept.sort_unstable();
                kept.dedup();
                let outputs = projection
                    .iter()
                    .map(|(e, _)| {
                        let moved = expr::over_columns(&expr::checked(e, schema)?, &kept)?;
                        Ok(match expr::as_column(&moved) {
                            Some(column) => OutputColumn::Plain(column),
                            None => OutputColumn::Computed(moved),
                        })
                    })
                    .collect::<Result<_, DataFusionError>>()?;
                (kept, outputs)
            }
        };
        Ok(FilterProject { spec, filter, kept, outputs })
    }

    /// Evaluates rows together; fails if any of them does.
    fn select(&self, batch: &RecordBatch) -> Result<Selected, DataFusionError> {
        let mask = self.filter.as_ref().map(|f| expr::evaluate_mask(f, batch)).transpose()?;
        let mask = mask.filter(|mask| mask.true_count() < batch.num_rows());
        let mut kept = batch.project(&self.kept)?;
        let mut positions = None;
        if let Some(mask) = &mask {
            let chosen = positions_of(mask);
            kept = filter_columns(&kept, mask, chosen.len())?;
            positions = Some(chosen);
        }
        let columns = self
            .outputs
            .iter()
            .map(|output| match output {
                OutputColumn::Plain(column) => Ok(Arc::clone(kept.column(*column))),
                // Expressions over no rows cannot fail and need not run.
                OutputColumn::Computed(e) if kept.num_rows() == 0 => {
                    let data_type = e.data_type(kept.schema_ref())?;
                    Ok(arrow::array::new_empty_array(&data_type))
                }
                OutputColumn::Computed(e) => expr::evaluate(e, &kept),
            })
            .collect::<Result<_, DataFusionError>>()?;
        Ok(Selected { positions, columns })
    }

    fn change_of(&self, change: &Change, selected: Selected) -> Result<Change, EvalError> {
        let rows = selected.positions.as_ref().map_or(change.batch.num_rows(), |p| p.len());
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(
            Arc::clone(&self.spec.schema),
            selected.columns,
            &options,
        )?;
        let Some(positions) = selected.positions else {
            return Ok(change.with_batch(batch));
        };
        Ok(Change {
            batch,
            weights: change.weights.as_ref().map(|w| take_weights(w, &positions)).transpose()?,
            rows: Some(match &change.rows {
                Some(rows) => {
                    compute::take(rows, &positions, None)?.as_primitive::<UInt32Type>().clone()
                }
                None => positions,
            }),
            origin: Arc::clone(&change.origin),
        })
    }

    /// The rows that did not fail, put together again.
    fn join(&self, pieces: Vec<Piece<Selected>>) -> Result<Option<Selected>, EvalError> {
        if pieces.is_empty() {
            return Ok(None);
        }
        let mut positions = Vec::new();
        for piece in &pieces {
            let start = piece.start as u32;
            match &piece.value.positions {
                Some(chosen) => positions.extend(chosen.values().iter().map(|p| start + p)),
                None => positions.extend(start..start + piece.length as u32),
            }
        }
        let columns = (0..self.outputs.len())
            .map(|i| {
                let parts: Vec<&dyn Array> =
                    pieces.iter().map(|piece| piece.value.columns[i].as_ref()).collect();
                compute::concat(&parts)
            })
            .collect::<Result<_, _>>()?;
        Ok(Some(Selected { positions: Some(UInt32Array::from(positions)), columns }))
    }
}

/// Rows of the mask that are true; the mask has no nulls.
fn positions_of(mask: &BooleanArray) -> UInt32Array {
    let mut positions = Vec::with_capacity(mask.true_count());
    positions.extend(mask.values().set_indices_u32());
    UInt32Array::from(positions)
}

fn filter_columns(
    batch: &RecordBatch,
    mask: &BooleanArray,
    chosen: usize,
) -> Result<RecordBatch, DataFusionError> {
    let mut filter = FilterBuilder::new(mask);
    if batch.num_columns() > 1 {
        filter = filter.optimize();
    }
    let filter = filter.build();
    let columns = batch.columns().iter().map(|c| filter.filter(c)).collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(chosen));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

fn take_weights(weights: &Int64Array, positions: &UInt32Array) -> Result<Int64Array, EvalError> {
    Ok(compute::take(weights, positions, None)?.as_primitive::<Int64Type>().clone())
}

/// Reports rows of `change` that failed, unless they are retractions.
pub(crate) fn reject_rows(change: &Change, failures: Vec<RowFailure>, out: &mut Emitter) {
    for failure in failures {
        if change.weight(failure.row) > 0 {
            out.reject(RejectedRow {
                relation: Arc::clone(&change.origin.relation),
                offset: change.offset(failure.row),
                code: failure.code,
                reason: failure.reason,
            });
        }
    }
}

impl Stateless for FilterProject {
    const NAME: &'static str = "FilterProject";

    fn pass(&self, change: Change, out: &mut Emitter) -> Result<(), EvalError> {
        let (mut pieces, failures) =
            expr::evaluate_in_pieces(&change.batch, |part| self.select(part));
        let selected = if pieces.len() == 1 && failures.is_empty() {
            pieces.pop().map(|piece| piece.value)
        } else {
            self.join(pieces)?
        };
        reject_rows(&change, failures, out);
        if let Some(selected) = selected {
            out.change(self.change_of(&change, selected)?);
        }
        Ok(())
    }

    /// Holds for the output under the columns' new names, if none of its columns went away.
    fn punctuation(&self, punctuation: &Punctuation) -> Option<Punctuation> {
        punctuation.renamed(|name| {
            let input = column_named(&self.spec.input_schema, name)?;
            let output = self.outputs.iter().position(
                |o| matches!(o, OutputColumn::Plain(kept) if self.kept[*kept] == input),
            )?;
            Some(name_at(&self.spec.schema, output))
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::buffer::ScalarBuffer;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::logical_expr::Operator as Op;
    use datafusion::physical_expr::expressions::{binary, col, lit};
    use datafusion::scalar::ScalarValue;
    use proptest::prelude::*;

    use super::*;
    use crate::data::change::{Marks, Origin};
    use crate::data::punctuation::Pattern;
    use crate::error::SqlState;
    use crate::operators::operator::{Operator, Output};
    use crate::time::EventTime;

    type Row = (Option<i64>, Option<i64>, i64);
    type Pair = (Option<i64>, Option<i64>);

    fn xy() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("x", DataType::Int64, true),
            Field::new("y", DataType::Int64, true),
        ]))
    }

    fn change(rows: &[Row]) -> Change {
        let x: Int64Array = rows.iter().map(|row| row.0).collect();
        let y: Int64Array = rows.iter().map(|row| row.1).collect();
        let batch = RecordBatch::try_new(xy(), vec![Arc::new(x), Arc::new(y)]).unwrap();
        let origin = Origin {
            relation: Arc::from("s"),
            first_offset: 100,
            ingest_time: 0,
            arrival: Marks::Rows(ScalarBuffer::from(vec![7; rows.len()])),
            progress: Marks::All(7),
            derived: false,
        };
        let weights = Some(Int64Array::from_iter_values(rows.iter().map(|row| row.2)));
        Change { batch, weights, origin: Arc::new(origin), rows: None }
    }

    fn of(
        left: Arc<dyn PhysicalExpr>,
        op: Op,
        right: Arc<dyn PhysicalExpr>,
    ) -> Arc<dyn PhysicalExpr> {
        binary(left, op, right, &xy()).unwrap()
    }

    fn x() -> Arc<dyn PhysicalExpr> {
        col("x", &xy()).unwrap()
    }

    fn y() -> Arc<dyn PhysicalExpr> {
        col("y", &xy()).unwrap()
    }

    fn operator(
        filter: Option<Arc<dyn PhysicalExpr>>,
        projection: Option<Vec<(Arc<dyn PhysicalExpr>, String)>>,
    ) -> FilterProject {
        let schema = projection.as_ref().map_or_else(xy, |outputs| {
            let fields: Vec<Field> = outputs
                .iter()
                .map(|(e, name)| Field::new(name, e.data_type(&xy()).unwrap(), true))
                .collect();
            Arc::new(Schema::new(fields))
        });
        let spec = FilterProjectSpec { filter, projection, input_schema: xy(), schema };
        FilterProject::new(Arc::new(spec)).unwrap()
    }

    fn run(operator: &mut FilterProject, change: Change) -> (Option<Change>, Vec<RejectedRow>) {
        let mut out = Emitter::default();
        operator.on_change(0, change, &mut out).unwrap();
        let change = out.outputs.pop().map(|output| match output {
            Output::Change(change) => change,
            other => panic!("expected rows, found {other:?}"),
        });
        assert!(out.outputs.is_empty());
        (change, out.rejected)
    }

    #[test]
    fn plain_columns_are_shared_and_not_copied() {
        let mut swap = operator(None, Some(vec![(y(), "b".to_owned()), (x(), "a".to_owned())]));
        let input = change(&[(Some(1), Some(2), 1)]);
        let (output, _) = run(&mut swap, input.clone());
        let output = output.unwrap();
        assert!(Arc::ptr_eq(output.batch.column(0), input.batch.column(1)));
        assert!(Arc::ptr_eq(output.batch.column(1), input.batch.column(0)));
        assert_eq!(output.offset(0), 100);
    }

    #[test]
    fn kept_rows_remember_their_offset_weight_and_arrival() {
        let mut positive = operator(Some(of(x(), Op::Gt, lit(0i64))), None);
        let rows = [(Some(0), None, 1), (Some(1), None, -1), (None, None, 1), (Some(2), None, 1)];
        let (output, rejected) = run(&mut positive, change(&rows));
        let output = output.unwrap();
        assert_eq!((output.offset(0), output.weight(0)), (101, -1));
        assert_eq!((output.offset(1), output.weight(1)), (103, 1));
        assert_eq!(output.arrival(1), EventTime(7));
        assert!(rejected.is_empty());
        // A second filter counts positions from the frame, not from the first one's output.
        let mut two = operator(Some(of(x(), Op::Gt, lit(1i64))), None);
        assert_eq!(run(&mut two, output).0.unwrap().offset(0), 103);
    }

    #[test]
    fn a_projection_fails_only_for_rows_that_pass_the_filter() {
        let quotient = of(lit(10i64), Op::Divide, y());
        let mut op =
            operator(Some(of(x(), Op::Gt, lit(0i64))), Some(vec![(quotient, "q".to_owned())]));
        let rows = [(Some(0), Some(0), 1), (Some(1), Some(0), 1), (Some(1), Some(5), 1)];
        let (output, rejected) = run(&mut op, change(&rows));
        assert_eq!(output.unwrap().batch.column(0).as_primitive::<Int64Type>().values(), &[2]);
        assert_eq!(rejected.len(), 1);
        assert_eq!((rejected[0].offset, rejected[0].code), (101, SqlState::DIVISION_BY_ZERO));
        assert_eq!(rejected[0].reason, "division by zero");
    }

    #[test]
    fn a_projection_to_no_columns_keeps_the_number_of_rows() {
        let mut none = operator(Some(of(x(), Op::Gt, lit(0i64))), Some(vec![]));
        let (output, _) = run(&mut none, change(&[(Some(1), None, 1), (Some(0), None, 1)]));
        assert_eq!(output.unwrap().batch.num_rows(), 1);
    }

    #[test]
    fn nothing_is_emitted_for_rows_that_all_fail_or_for_none() {
        let mut op = operator(None, Some(vec![(of(lit(1i64), Op::Divide, y()), "q".to_owned())]));
        let (output, rejected) = run(&mut op, change(&[(None, Some(0), 1), (None, Some(0), -1)]));
        assert!(output.is_none());
        assert_eq!(rejected.len(), 1, "the retraction is not reported again");
        assert!(run(&mut op, change(&[])).0.is_none());
    }

    #[test]
    fn punctuations_follow_plain_columns_and_end_at_computed_ones() {
        let seven = Pattern::OneOf(vec![ScalarValue::Int64(Some(7))]);
        let sum = of(x(), Op::Plus, y());
        let mut op = operator(None, Some(vec![(sum, "s".to_owned()), (y(), "b".to_owned())]));
        let mut forwarded = |columns: &[&str]| {
            let columns = columns.iter().map(|c| ((*c).to_owned(), seven.clone())).collect();
            let mut out = Emitter::default();
            op.on_punctuation(0, &Punctuation { columns }, &mut out).unwrap();
            match out.outputs.pop() {
                Some(Output::Punctuation(found)) => Some(found.columns[0].0.clone()),
                _ => None,
            }
        };
        assert_eq!(forwarded(&["y"]), Some("b".to_owned()));
        assert_eq!(forwarded(&["x"]), None);
        assert_eq!(forwarded(&["y", "x"]), None);
    }

    /// What `WHERE x <> 0 AND 12 / x > 2`, `SELECT 100 / y, x` means for one row.
    fn naive(row: &Row) -> Result<Option<Pair>, ()> {
        let (x, y, _) = row;
        let passes = match x {
            Some(0) | None => false,
            Some(x) => 12 / x > 2,
        };
        match (passes, y) {
            (false, _) => Ok(None),
            (true, Some(0)) => Err(()),
            (true, y) => Ok(Some((y.map(|y| 100 / y), *x))),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn output_and_failures_equal_evaluation_row_by_row(
            rows in prop::collection::vec(
                (
                    prop::option::weighted(0.9, -3i64..8),
                    prop::option::weighted(0.9, 0i64..6),
                    prop::sample::select(vec![-1i64, 1]),
                ),
                0..60,
            ),
        ) {
            let quotient = of(of(lit(12i64), Op::Divide, x()), Op::Gt, lit(2i64));
            let filter = of(of(x(), Op::NotEq, lit(0i64)), Op::And, quotient);
            let outputs =
                vec![(of(lit(100i64), Op::Divide, y()), "q".to_owned()), (x(), "x".to_owned())];
            let (output, rejected) = run(&mut operator(Some(filter), Some(outputs)), change(&rows));
            let mut found = Vec::new();
            if let Some(change) = output {
                let values = |column: usize, row: usize| {
                    let column = change.batch.column(column).as_primitive::<Int64Type>();
                    column.is_valid(row).then(|| column.value(row))
                };
                for row in 0..change.batch.num_rows() {
                    let pair = (values(0, row), values(1, row));
                    found.push((change.offset(row), pair, change.weight(row)));
                }
            }
            let (mut expected, mut failed) = (Vec::new(), Vec::new());
            for (offset, row) in (100..).zip(&rows) {
                match naive(row) {
                    Ok(Some(pair)) => expected.push((offset, pair, row.2)),
                    Err(()) if row.2 > 0 => failed.push(offset),
                    _ => {}
                }
            }
            prop_assert_eq!(found, expected);
            prop_assert_eq!(rejected.iter().map(|r| r.offset).collect::<Vec<_>>(), failed);
        }
    }
}
