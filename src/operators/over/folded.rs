//! Computes any aggregate of a frame that has no form of its own here.
//!
//! A frame that begins with the partition is a group that rows are folded into, read after each row.
//! Of a bounded frame the arguments are kept, and every answer folds them afresh: taking rows back is
//! not exact for every function, and this is right for all.
//!
//! # State
//! Unbounded frames: what the aggregate keeps per partition. Bounded ones: the arguments in the frame.

use std::collections::VecDeque;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use std::sync::Arc;

use super::call::Call;
use super::frames::{Frame, Gather, Ordered, Places};
use crate::operators::aggregates::fold::{Evaluated, Fold, FoldRows, Measure};
use crate::operators::aggregates::spec::AggregateSpec;
use crate::operators::operator::EvalError;
use crate::operators::portions::Chosen;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// The arguments of the rows in a bounded frame, as bytes.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    rows: VecDeque<(i64, Box<[u8]>)>,
    heap: usize,
}

impl Stored for Arguments {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.rows.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let rows: VecDeque<(i64, Box<[u8]>)> = from.get()?;
        Ok(Arguments { heap: rows.iter().map(|(_, row)| row.len()).sum(), rows })
    }
}

impl Gather for Arguments {
    type Value = Box<[u8]>;
    type Answer = Vec<Box<[u8]>>;

    fn enter(&mut self, position: i64, value: Box<[u8]>, _: bool) {
        self.heap += value.len();
        self.rows.push_back((position, value));
    }

    fn leave(&mut self, below: i64) {
        while self.rows.front().is_some_and(|(at, _)| *at < below) {
            let (_, row) = self.rows.pop_front().expect("it was looked at just above");
            self.heap -= row.len();
        }
    }

    fn read(&self) -> Vec<Box<[u8]>> {
        self.rows.iter().map(|(_, row)| row.clone()).collect()
    }

    fn held(&self) -> usize {
        self.heap + self.rows.len() * size_of::<(i64, Box<[u8]>)>()
    }
}

/// A running aggregate.
pub(super) struct FoldedCall {
    measure: Measure,
    schema: SchemaRef,
    /// Where the frame is bounded, or ends before the row: its arguments.
    frames: Option<(RowConverter, Places<Arguments>)>,
    frame: Frame,
    slots: usize,
}

impl FoldedCall {
    pub(super) fn new(
        spec: &AggregateSpec,
        frame: Frame,
        schema: &SchemaRef,
    ) -> Result<FoldedCall, EvalError> {
        let mut measure = Measure::new(spec, schema, true)?;
        let mut frames = None;
        if frame.start.is_some() || frame.end != 0 {
            let types = measure.arguments.iter().map(|argument| argument.data_type(schema));
            let fields = types.map(|t| Ok(SortField::new(t?))).collect::<Result<_, EvalError>>()?;
            frames = Some((RowConverter::new(fields)?, Places::new(frame)));
            measure.fold.resize(1);
        }
        Ok(FoldedCall { measure, schema: Arc::clone(schema), frames, frame, slots: 0 })
    }

    /// Frames that begin with their partitions and end with the row.
    fn answer_running(
        &mut self,
        arguments: &[ArrayRef],
        included: Option<&BooleanArray>,
        rows: &Ordered<'_>,
    ) -> Result<Evaluated, EvalError> {
        let (mut columns, mut failed) = (Vec::new(), Vec::new());
        let mut first = 0;
        while first < rows.slots.len() {
            let end = rows.run_end(first, self.frame.by_rows);
            let part: Vec<ArrayRef> =
                arguments.iter().map(|argument| argument.slice(first, end - first)).collect();
            let included = included.map(|mask| mask.slice(first, end - first));
            let groups = &rows.slots[first..end];
            self.measure.fold.update(&FoldRows {
                groups,
                arguments: &part,
                included: included.as_ref(),
                weights: None,
            })?;
            let evaluated = self.measure.fold.evaluate(groups)?;
            columns.push(evaluated.values);
            failed.extend(evaluated.failed.into_iter().map(|(row, c, r)| (first + row, c, r)));
            first = end;
        }
        Ok(Evaluated { values: concat(&columns)?, failed })
    }
}

/// The aggregate of some rows, over a fold of one group that is empty between calls.
fn read_afresh(
    fold: &mut dyn Fold,
    converter: &RowConverter,
    frame: &[Box<[u8]>],
) -> Result<Evaluated, EvalError> {
    let parser = converter.parser();
    let arguments = converter.convert_rows(frame.iter().map(|row| parser.parse(row)))?;
    fold.update(&FoldRows {
        groups: &vec![0; frame.len()],
        arguments: &arguments,
        included: None,
        weights: None,
    })?;
    let evaluated = fold.evaluate(&[0])?;
    fold.clear(0);
    Ok(evaluated)
}

fn concat(columns: &[ArrayRef]) -> Result<ArrayRef, EvalError> {
    let columns: Vec<&dyn Array> = columns.iter().map(|column| column.as_ref()).collect();
    Ok(compute::concat(&columns)?)
}

impl Call for FoldedCall {
    fn resize(&mut self, slots: usize) {
        self.slots = slots.max(self.slots);
        match &mut self.frames {
            Some((_, places)) => places.resize(slots),
            None => self.measure.fold.resize(self.slots),
        }
    }

    fn enter(&mut self, columns: &[ArrayRef], rows: &Ordered<'_>) -> Result<(), EvalError> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns.to_vec())?;
        let measures = std::slice::from_ref(&self.measure);
        let (arguments, included) =
            Measure::inputs(measures, &batch)?.pop().expect("one measure, one input");
        if let Some((converter, places)) = &mut self.frames {
            let encoded = converter.convert_columns(&arguments)?;
            places.enter(rows, |row| {
                let enters = included.as_ref().is_none_or(|included| included.value(row));
                enters.then(|| Box::from(encoded.row(row).as_ref()))
            });
        }
        Ok(())
    }

    fn answer(&mut self, columns: &[ArrayRef], rows: &Ordered<'_>) -> Result<Evaluated, EvalError> {
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns.to_vec())?;
        let measures = std::slice::from_ref(&self.measure);
        let (arguments, included) =
            Measure::inputs(measures, &batch)?.pop().expect("one measure, one input");
        let Some((converter, places)) = &mut self.frames else {
            return self.answer_running(&arguments, included.as_ref(), rows);
        };
        let encoded = converter.convert_columns(&arguments)?;
        let fold = &mut self.measure.fold;
        let (mut answers, mut failed) = (Vec::with_capacity(rows.slots.len()), Vec::new());
        let mut broken = None;
        places.answer(
            rows,
            |row| {
                let enters = included.as_ref().is_none_or(|included| included.value(row));
                enters.then(|| Box::from(encoded.row(row).as_ref()))
            },
            |row, frame| match read_afresh(fold.as_mut(), converter, &frame) {
                Ok(evaluated) => {
                    answers.push(evaluated.values);
                    failed.extend(evaluated.failed.into_iter().map(|(_, c, r)| (row, c, r)));
                }
                Err(error) => broken = Some(error),
            },
        );
        match broken {
            Some(error) => Err(error),
            None => Ok(Evaluated { values: concat(&answers)?, failed }),
        }
    }

    fn forget(&mut self, slot: usize) {
        match &mut self.frames {
            Some((_, places)) => places.forget(slot),
            None if slot < self.slots => self.measure.fold.clear(slot),
            None => {}
        }
    }

    fn clear(&mut self) {
        self.slots = 0;
        match &mut self.frames {
            Some((_, places)) => places.clear(),
            None => self.measure.fold.keep(&[]),
        }
    }

    fn bytes(&self) -> usize {
        let places = self.frames.as_ref().map_or(0, |(_, places)| places.bytes());
        places + self.measure.fold.bytes()
    }

    fn restores_exactly(&self) -> bool {
        self.frames.is_some() || self.measure.fold.restores_exactly()
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        match &self.frames {
            Some((_, places)) => places.save(out),
            None => {
                out.put(&self.slots)?;
                self.measure.fold.save_head(out)?;
                self.measure.fold.save(&Chosen::Run(0..self.slots), out)
            }
        }
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        match &mut self.frames {
            Some((_, places)) => places.restore(from),
            None => {
                self.slots = from.get()?;
                self.measure.fold.resize(self.slots);
                self.measure.fold.restore_head(from)?;
                self.measure.fold.restore(&Chosen::Run(0..self.slots), from)
            }
        }
    }
}
