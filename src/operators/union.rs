//! Puts the rows of several inputs into one stream, in the order in which they come: UNION ALL.
//!
//! The output's watermark is the least of the inputs'. A row keeps its own stream's watermark at its
//! arrival, which judges lateness; how far the query had come (`progress`, which closes windows) is
//! lowered to what the other inputs had promised.
//!
//! A promise holds for the output as far as every input has made it.
//!
//! # Order
//!
//! Where several inputs read one log, a frame's rows come on all of them, one input after the other. They
//! are put out row by row, for one row the lower port first, as if each had come alone: else the order
//! would tell how rows were cut into frames. Where such inputs pass each row on at once, or say of what
//! they make of rows which watermark made it due ([`Sharing::Merged`]), a frame is held until all have had
//! it, and merged by [`Turn`](crate::data::change::Turn); else the whole query is given its rows one by one
//! ([`Operator::interleaves`]).
//!
//! # State
//!
//! A watermark per input, and the punctuations that some other input has not made yet
//! ([`WaitingPromises`]). Nothing is held between two frames.

use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute;
use arrow::datatypes::SchemaRef;

use crate::data::change::{Change, Marks, Origin, Turn};
use crate::data::punctuation::{Punctuation, column_named, name_at};
use crate::operators::operator::{Emitter, EvalError, Operator, Output};
use crate::operators::state::{StateReader, StateWriter};
use crate::operators::waiting_promises::WaitingPromises;
use crate::time::EventTime;

/// Punctuations that one makes go on at most, where it meets so many of other inputs.
const SHARED_MAX: usize = 1_024;

/// What inputs have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// No log: rows come in the order of the logs.
    Apart,
    /// A log, and each row's mark says which one made it due.
    Merged,
    /// A log, and of some of them rows come at moments that no watermark tells.
    Interleaved,
}

/// Runs UNION ALL.
#[derive(Debug)]
pub struct Union {
    schema: SchemaRef,
    inputs: Vec<Input>,
    sharing: Sharing,
    /// How far each input's watermark trails that of the log which they share.
    trails: Vec<i64>,
    /// What came with the frame under way, where it is merged.
    held: Vec<(usize, Output)>,
    /// The watermark forwarded last: the least of the inputs'.
    forwarded: EventTime,
}

#[derive(Debug)]
struct Input {
    schema: SchemaRef,
    watermark: EventTime,
    /// Promises in the output's column names that not every input has made.
    promises: WaitingPromises,
}

impl Union {
    /// A union of inputs with these columns; types agree by position, names are `schema`'s.
    pub fn new(inputs: Vec<SchemaRef>, schema: SchemaRef, sharing: Sharing) -> Union {
        assert!(!inputs.is_empty());
        assert!(inputs.iter().all(|input| input.fields().len() == schema.fields().len()));
        let trails = vec![0; inputs.len()];
        let inputs = inputs
            .into_iter()
            .map(|schema| Input {
                schema,
                watermark: EventTime::MIN,
                promises: WaitingPromises::default(),
            })
            .collect();
        Union { schema, inputs, sharing, trails, held: Vec::new(), forwarded: EventTime::MIN }
    }

    /// The same, of inputs whose watermarks trail that of the log which they share by so much.
    pub fn trailing(self, trails: Vec<i64>) -> Union {
        assert_eq!(trails.len(), self.inputs.len());
        Union { trails, ..self }
    }

    /// The least watermark of the inputs other than `port`.
    fn others(&self, port: usize) -> EventTime {
        let others = self.inputs.iter().enumerate().filter(|(i, _)| *i != port);
        others.map(|(_, input)| input.watermark).min().unwrap_or(EventTime::MAX)
    }

    /// The rows under the output's names.
    fn named(&self, batch: &RecordBatch) -> Result<RecordBatch, EvalError> {
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let (schema, columns) = (Arc::clone(&self.schema), batch.columns().to_vec());
        Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
    }

    /// Takes what came with a frame on several ports.
    fn release(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        if self.held.is_empty() {
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        held.sort_by_key(|(port, _)| *port);
        // A port that heard nothing reads another log, or has come as far as the rows before.
        let silent = |port: usize| held.iter().all(|(other, _)| *other != port);
        let silent = self.inputs.iter().enumerate().filter(|(port, _)| silent(*port));
        let limit = silent.map(|(_, input)| input.watermark).min().unwrap_or(EventTime::MAX);
        let mut changes = Vec::new();
        let mut others = Vec::new();
        for (port, output) in held {
            match output {
                Output::Change(change) => {
                    changes.push((port, self.at_the_pace_of_all(port, change)))
                }
                other => others.push((port, other)),
            }
        }
        self.merge(&changes, limit, out)?;
        for (port, other) in others {
            match other {
                Output::Watermark(watermark) => self.take_watermark(port, watermark, out),
                Output::Punctuation(promise) => self.take_punctuation(port, &promise, out),
                Output::Change(_) => unreachable!("changes were taken out"),
            }
        }
        Ok(())
    }

    /// Rows of an input as those of the whole: the query has come as far as the input that trails most.
    fn at_the_pace_of_all(&self, port: usize, change: Change) -> Change {
        let most = self.trails.iter().copied().max().unwrap_or(0);
        let behind = most - self.trails[port];
        if behind == 0 {
            return change;
        }
        let origin = Origin {
            relation: Arc::clone(&change.origin.relation),
            first_offset: change.origin.first_offset,
            ingest_time: change.origin.ingest_time,
            arrival: change.origin.arrival.clone(),
            progress: change.origin.progress.held_back(behind),
            derived: change.origin.derived,
        };
        Change { origin: Arc::new(origin), ..change }
    }

    /// Puts out rows of one frame in the order in which they came about; of one turn, in that of the
    /// changes.
    fn merge(
        &self,
        changes: &[(usize, Change)],
        limit: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        let mut order = Vec::with_capacity(changes.iter().map(|(_, c)| c.batch.num_rows()).sum());
        for (index, (port, change)) in changes.iter().enumerate() {
            let turn = |row| change.turn(row, self.trails[*port]);
            order.extend((0..change.batch.num_rows()).map(|row| (turn(row), index, row)));
        }
        order.sort_unstable();
        let changes: Vec<&Change> = changes.iter().map(|(_, change)| change).collect();
        let alike = |(_, a, _): &(Turn, usize, usize), (_, b, _): &(Turn, usize, usize)| {
            a == b || changes[*a].origin.is_judged_as(&changes[*b].origin)
        };
        for part in order.chunk_by(alike) {
            let origin = &changes[part[0].1].origin;
            let places: Vec<_> = part.iter().map(|(_, index, row)| (*index, *row)).collect();
            let weights = changes.iter().any(|change| change.weights.is_some());
            let weight = |&(index, row): &(usize, usize)| changes[index].weight(row);
            let place = |&(_, index, row): &(Turn, usize, usize)| changes[index].place(row) as u32;
            out.change(Change {
                batch: self.interleaved(&changes, &places)?,
                weights: weights.then(|| places.iter().map(weight).collect()),
                rows: Some(UInt32Array::from_iter_values(part.iter().map(place))),
                origin: lowered(origin, limit),
            });
        }
        Ok(())
    }

    fn interleaved(
        &self,
        changes: &[&Change],
        places: &[(usize, usize)],
    ) -> Result<RecordBatch, EvalError> {
        let column = |column: usize| {
            let parts: Vec<&dyn Array> =
                changes.iter().map(|change| change.batch.column(column).as_ref()).collect();
            compute::interleave(&parts, places)
        };
        let columns = (0..self.schema.fields().len()).map(column).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?)
    }

    fn take_watermark(&mut self, port: usize, watermark: EventTime, out: &mut Emitter) {
        debug_assert!(watermark >= self.inputs[port].watermark, "a watermark never goes back");
        self.inputs[port].watermark = watermark;
        let least = watermark.min(self.others(port));
        if least > self.forwarded {
            self.forwarded = least;
            out.watermark(least);
        }
    }

    fn take_punctuation(&mut self, port: usize, punctuation: &Punctuation, out: &mut Emitter) {
        let Some(promise) = self.renamed(port, punctuation) else { return };
        let mut shared = vec![promise.clone()];
        for (_, other) in self.inputs.iter().enumerate().filter(|(i, _)| *i != port) {
            let with_other = |promise: &Punctuation| other.promises.shared(promise);
            shared = shared.iter().flat_map(with_other).take(SHARED_MAX).collect();
        }
        self.inputs[port].promises.hold(&promise);
        for input in &mut self.inputs {
            // All that they say has gone on.
            shared.iter().for_each(|said| input.promises.release(said));
        }
        shared.into_iter().for_each(|promise| out.punctuation(Arc::new(promise)));
    }

    /// The punctuation with the output's column names.
    fn renamed(&self, port: usize, punctuation: &Punctuation) -> Option<Punctuation> {
        punctuation.renamed(|name| {
            let index = column_named(&self.inputs[port].schema, name)?;
            Some(name_at(&self.schema, index))
        })
    }
}

/// The same frame, for a query that had come no further than `limit`.
pub(super) fn lowered(origin: &Arc<Origin>, limit: EventTime) -> Arc<Origin> {
    // Derived rows may carry marks in any order, so all of them are looked at.
    let above = match &origin.progress {
        Marks::All(progress) => *progress > limit.0,
        Marks::Rows(progress) => progress.iter().any(|p| *p > limit.0),
    };
    if !above {
        return Arc::clone(origin);
    }
    let progress = match &origin.progress {
        Marks::All(progress) => Marks::All((*progress).min(limit.0)),
        Marks::Rows(progress) => {
            Marks::Rows(progress.iter().map(|p| (*p).min(limit.0)).collect::<ScalarBuffer<i64>>())
        }
    };
    Arc::new(Origin {
        relation: Arc::clone(&origin.relation),
        first_offset: origin.first_offset,
        ingest_time: origin.ingest_time,
        arrival: origin.arrival.clone(),
        progress,
        derived: origin.derived,
    })
}

impl Operator for Union {
    fn name(&self) -> &'static str {
        "Union"
    }

    fn interleaves(&self) -> bool {
        self.sharing == Sharing::Interleaved
    }

    fn on_change(
        &mut self,
        port: usize,
        change: Change,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        if self.sharing == Sharing::Merged {
            self.held.push((port, Output::Change(change)));
            return Ok(());
        }
        let batch = self.named(&change.batch)?;
        let origin = lowered(&change.origin, self.others(port));
        out.change(Change { batch, origin, weights: change.weights, rows: change.rows });
        Ok(())
    }

    fn on_watermark(
        &mut self,
        port: usize,
        watermark: EventTime,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        match self.sharing {
            Sharing::Merged => self.held.push((port, Output::Watermark(watermark))),
            _ => self.take_watermark(port, watermark, out),
        }
        Ok(())
    }

    fn on_punctuation(
        &mut self,
        port: usize,
        punctuation: &Punctuation,
        out: &mut Emitter,
    ) -> Result<(), EvalError> {
        match self.sharing {
            Sharing::Merged => {
                self.held.push((port, Output::Punctuation(Arc::new(punctuation.clone()))));
            }
            _ => self.take_punctuation(port, punctuation, out),
        }
        Ok(())
    }

    fn on_frame_end(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        self.release(out)
    }

    fn on_step_end(&mut self, out: &mut Emitter) -> Result<(), EvalError> {
        self.release(out)
    }

    fn state_bytes(&self) -> usize {
        let promises = self.inputs.iter().map(|input| input.promises.state_bytes());
        self.inputs.len() * size_of::<Input>() + promises.sum::<usize>()
    }

    fn restores_exactly(&self) -> bool {
        true
    }

    fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        for input in &self.inputs {
            out.put(&input.watermark)?;
            out.put(&input.promises)?;
        }
        out.put(&self.forwarded)
    }

    fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        for input in &mut self.inputs {
            (input.watermark, input.promises) = (from.get()?, from.get()?);
        }
        self.forwarded = from.get()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::{DataType, Field, Schema};
    use datafusion::scalar::ScalarValue;

    use super::*;
    use crate::data::punctuation::Pattern;

    fn schema(name: &str) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, true)]))
    }

    fn union(ports: usize) -> Union {
        let names = ["a", "b", "c"];
        let inputs = names[..ports].iter().map(|name| schema(name)).collect();
        Union::new(inputs, schema("a"), Sharing::Apart)
    }

    fn outputs(call: impl FnOnce(&mut Emitter) -> Result<(), EvalError>) -> Vec<Output> {
        let mut out = Emitter::default();
        call(&mut out).unwrap();
        out.outputs
    }

    fn watermark(union: &mut Union, port: usize, t: i64) -> Option<EventTime> {
        outputs(|out| union.on_watermark(port, EventTime(t), out)).pop().map(
            |output| match output {
                Output::Watermark(watermark) => watermark,
                other => panic!("expected a watermark, found {other:?}"),
            },
        )
    }

    #[test]
    fn the_watermark_is_the_least_of_the_inputs_and_moves_only_forward() {
        let mut union = union(3);
        assert_eq!(watermark(&mut union, 0, 10), None);
        assert_eq!(watermark(&mut union, 1, 5), None);
        assert_eq!(watermark(&mut union, 2, 7), Some(EventTime(5)));
        assert_eq!(watermark(&mut union, 2, 20), None);
        assert_eq!(watermark(&mut union, 1, i64::MAX), Some(EventTime(10)));
    }

    #[test]
    fn progress_is_lowered_to_the_other_inputs_and_arrival_stays() {
        let mut union = union(2);
        watermark(&mut union, 1, 4);
        let batch = RecordBatch::try_new(schema("b"), vec![Arc::new(Int64Array::from(vec![1, 2]))]);
        let origin = Origin {
            relation: Arc::from("s"),
            first_offset: 0,
            ingest_time: 0,
            arrival: Marks::Rows(ScalarBuffer::from(vec![3, 9])),
            progress: Marks::Rows(ScalarBuffer::from(vec![3, 9])),
            derived: false,
        };
        let change =
            Change { batch: batch.unwrap(), weights: None, origin: Arc::new(origin), rows: None };
        let of_port = |union: &mut Union, port| match outputs(|out| {
            union.on_change(port, change.clone(), out)
        })
        .pop()
        {
            Some(Output::Change(change)) => change,
            other => panic!("expected rows, found {other:?}"),
        };
        let found = of_port(&mut union, 0);
        assert_eq!((found.arrival(1), found.progress(1)), (EventTime(9), EventTime(4)));
        assert_eq!(found.progress(0), EventTime(3));
        assert_eq!(found.batch.schema(), schema("a"), "names are the output's");
        // Input 0 has promised nothing yet, so rows of input 1 close nothing.
        assert_eq!(of_port(&mut union, 1).progress(1), EventTime::MIN);
    }

    #[test]
    fn a_frame_on_several_ports_comes_out_row_by_row() {
        let inputs = ["a", "b", "c"].map(schema).to_vec();
        let mut union = Union::new(inputs, schema("a"), Sharing::Merged);
        let change = |rows: &[(u32, i64)]| {
            let values: Int64Array = rows.iter().map(|row| row.1).collect();
            let origin = Origin {
                relation: Arc::from("s"),
                first_offset: 7,
                ingest_time: 0,
                arrival: Marks::Rows(ScalarBuffer::from(vec![3, 9, 9])),
                progress: Marks::Rows(ScalarBuffer::from(vec![3, 9, 9])),
                derived: false,
            };
            Change {
                batch: RecordBatch::try_new(schema("b"), vec![Arc::new(values)]).unwrap(),
                weights: None,
                origin: Arc::new(origin),
                rows: Some(rows.iter().map(|row| row.0).collect()),
            }
        };
        // Port 2 reads another log, and has come to 5.
        outputs(|out| union.on_watermark(2, EventTime(5), out));
        outputs(|out| union.on_frame_end(out));
        let held = outputs(|out| {
            union.on_change(1, change(&[(1, 20), (1, 21), (2, 30)]), out)?;
            union.on_watermark(1, EventTime(9), out)?;
            union.on_change(0, change(&[(0, 1), (1, 2)]), out)?;
            union.on_watermark(0, EventTime(9), out)
        });
        assert!(held.is_empty());
        let out = outputs(|out| union.on_frame_end(out));
        let [Output::Change(rows), Output::Watermark(watermark)] = out.as_slice() else {
            panic!("expected rows and a watermark, found {out:?}");
        };
        let values: Int64Array = rows.batch.column(0).to_data().into();
        assert_eq!(values.values(), &[1, 2, 20, 21, 30]);
        let offsets: Vec<u64> = (0..5).map(|row| rows.offset(row)).collect();
        assert_eq!(offsets, [7, 8, 8, 8, 9]);
        let progress = [0, 4].map(|row| rows.progress(row));
        assert_eq!((progress, *watermark), ([EventTime(3), EventTime(5)], EventTime(5)));
        assert!(outputs(|out| union.on_step_end(out)).is_empty(), "nothing is held any more");
    }

    #[test]
    fn a_promise_is_forwarded_once_every_input_has_made_it() {
        let mut union = union(2);
        let mut promise = |port, name: &str, value| {
            let pattern = Pattern::OneOf(vec![ScalarValue::Int64(Some(value))]);
            let punctuation = Punctuation { columns: vec![(name.to_owned(), pattern)] };
            match outputs(|out| union.on_punctuation(port, &punctuation, out)).pop() {
                Some(Output::Punctuation(found)) => Some(found.columns[0].0.clone()),
                _ => None,
            }
        };
        assert_eq!(promise(0, "a", 1), None);
        assert_eq!(promise(0, "a", 1), None, "the same input again is no second one");
        assert_eq!(promise(1, "b", 2), None);
        assert_eq!(promise(1, "b", 1), Some("a".to_owned()));
        assert_eq!(promise(1, "b", 1), None, "it was used up");
    }

    #[test]
    fn thousands_of_promises_wait_for_the_other_input() {
        let mut union = union(2);
        let promise = |name: &str, value: i64| Punctuation {
            columns: vec![(name.to_owned(), Pattern::OneOf(vec![ScalarValue::from(value)]))],
        };
        for value in 0..3_000 {
            let promise = promise("a", value);
            assert!(outputs(|out| union.on_punctuation(0, &promise, out)).is_empty());
        }
        for value in 0..3_000 {
            let promise = promise("b", value);
            assert_eq!(outputs(|out| union.on_punctuation(1, &promise, out)).len(), 1);
        }
        assert!(union.inputs.iter().all(|input| input.promises.is_empty()));
    }
}
