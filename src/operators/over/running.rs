//! Runs the functions of an OVER over rows that come in the order of answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};

use super::call::{Call, OverFunction, call_of};
use super::frames::{Frame, Ordered};
use super::keying::Keying;
use super::lead::Leads;
use super::{OverOrder, OverSpec};
use crate::data::punctuation::Punctuation;
use crate::error::SqlState;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter};

/// Rows without a valid answer, and why.
pub(super) type Failed = BTreeMap<usize, (SqlState, String)>;

/// The functions with their partitions.
pub(super) struct Running {
    spec: Arc<OverSpec>,
    keyings: Vec<Keying>,
    /// Per function the number of its keying, and what computes it; `None`: a `lead`.
    calls: Vec<(usize, Option<Box<dyn Call>>)>,
    leads: Option<Leads>,
}

impl Running {
    pub(super) fn new(spec: &Arc<OverSpec>) -> Result<Running, EvalError> {
        let mut partitions: Vec<&[usize]> = Vec::new();
        let mut places = Vec::new();
        for call in &spec.calls {
            let known = partitions.iter().position(|columns| *columns == call.partition);
            places.push(known.unwrap_or_else(|| {
                partitions.push(&call.partition);
                partitions.len() - 1
            }));
        }
        let keyings = partitions.iter().map(|columns| {
            let functions = spec.calls.iter().filter(|call| call.partition == *columns);
            let widths = functions.map(|call| width(&call.function));
            let width = match spec.order {
                OverOrder::Time(_) => widths.reduce(|a, b| Some(a?.max(b?))).flatten(),
                OverOrder::Log => None,
            };
            let mut functions = spec.calls.iter().filter(|call| call.partition == *columns);
            let ends = functions.find_map(|call| call.ends);
            Keying::new(&spec.input_schema, columns, width, ends)
        });
        let keyings = keyings.collect::<Result<_, _>>()?;
        let functions = spec.calls.iter().map(|call| call.function.clone());
        let named: Vec<_> = functions.zip(places.iter().copied()).collect();
        let leads = Leads::new(&named, &spec.input_schema, &spec.schema)?;
        let calls = named
            .iter()
            .map(|(function, keying)| Ok((*keying, call_of(function, &spec.input_schema)?)))
            .collect::<Result<_, EvalError>>()?;
        Ok(Running { spec: Arc::clone(spec), keyings, calls, leads })
    }

    /// Takes rows in order. Gives them with their answers, and which failed; rows that wait for a
    /// `lead` are kept, and come with [`completed`](Self::completed).
    pub(super) fn answer(
        &mut self,
        batch: &RecordBatch,
        times: &[i64],
    ) -> Result<(Option<RecordBatch>, Failed), EvalError> {
        let mut placed = Vec::with_capacity(self.keyings.len());
        for keying in &mut self.keyings {
            placed.push(keying.place(batch, times)?);
        }
        let input = batch.columns();
        let mut columns: Vec<ArrayRef> = input[..self.spec.kept].to_vec();
        let mut failed = Failed::new();
        for (keying, call) in &mut self.calls {
            let Some(call) = call else { continue };
            let (slots, numbers) = &placed[*keying];
            call.resize(self.keyings[*keying].slot_count());
            let evaluated = call.answer(input, &Ordered { slots, times, numbers })?;
            for (row, code, reason) in evaluated.failed {
                failed.entry(row).or_insert((code, reason));
            }
            columns.push(evaluated.values);
        }
        let Some(leads) = &mut self.leads else {
            let batch = RecordBatch::try_new(Arc::clone(&self.spec.schema), columns)?;
            return Ok((Some(batch), failed));
        };
        let slots: Vec<Vec<usize>> = placed.into_iter().map(|(slots, _)| slots).collect();
        let rows: BTreeSet<usize> = failed.keys().copied().collect();
        leads.push(columns, input, &slots, &rows)?;
        Ok((None, failed))
    }

    /// The rows whose `lead` has come since the last time.
    pub(super) fn completed(&mut self) -> Result<Option<RecordBatch>, EvalError> {
        self.leads.as_mut().map_or(Ok(None), |leads| leads.take(&self.spec.schema))
    }

    /// Whether rows wait for a `lead`.
    pub(super) fn waits(&self) -> bool {
        self.leads.as_ref().is_some_and(|leads| !leads.is_empty())
    }

    /// Drops the partitions that no frame of a row at or above `time` reaches.
    pub(super) fn drop_below(&mut self, time: i64) {
        for keying in 0..self.keyings.len() {
            let dropped = self.keyings[keying].drop_below(time);
            self.end(keying, &dropped);
        }
    }

    /// Ends the partitions to which a punctuation lets no row come any more.
    pub(super) fn end_covered(&mut self, punctuation: &Punctuation) -> Result<(), EvalError> {
        for keying in 0..self.keyings.len() {
            let dropped = self.keyings[keying].drop_covered(punctuation)?;
            self.end(keying, &dropped);
        }
        Ok(())
    }

    /// Completes every `lead`: no row comes any more.
    pub(super) fn end_all(&mut self) {
        if let Some(leads) = &mut self.leads {
            (0..self.keyings.len()).for_each(|keying| leads.end(keying, |_| true));
        }
    }

    fn end(&mut self, keying: usize, slots: &[usize]) {
        if slots.is_empty() {
            return;
        }
        if let Some(leads) = &mut self.leads {
            let ended: BTreeSet<usize> = slots.iter().copied().collect();
            leads.end(keying, |slot| ended.contains(&slot));
        }
        let is_empty = self.keyings[keying].is_empty();
        let calls = self.calls.iter_mut().filter(|(other, _)| *other == keying);
        for call in calls.filter_map(|(_, call)| call.as_mut()) {
            match is_empty {
                true => call.clear(),
                false => slots.iter().for_each(|slot| call.forget(*slot)),
            }
        }
    }

    /// Number of partitions, where there are columns that tell them apart.
    pub(super) fn partitions(&self) -> usize {
        self.keyings.iter().map(Keying::len).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        let calls = self.calls.iter().filter_map(|(_, call)| call.as_ref());
        self.keyings.iter().map(Keying::bytes).sum::<usize>()
            + calls.map(|call| call.bytes()).sum::<usize>()
            + self.leads.as_ref().map_or(0, Leads::bytes)
    }

    pub(super) fn restores_exactly(&self) -> bool {
        self.calls.iter().filter_map(|(_, call)| call.as_ref()).all(|c| c.restores_exactly())
    }

    pub(super) fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.keyings.iter().try_for_each(|keying| keying.save(out))?;
        for call in self.calls.iter_mut().filter_map(|(_, call)| call.as_mut()) {
            call.save(out)?;
        }
        self.leads.as_ref().map_or(Ok(()), |leads| leads.save(out))
    }

    pub(super) fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.keyings.iter_mut().try_for_each(|keying| keying.restore(from))?;
        for call in self.calls.iter_mut().filter_map(|(_, call)| call.as_mut()) {
            call.restore(from)?;
        }
        self.leads.as_mut().map_or(Ok(()), |leads| leads.restore(from))
    }
}

/// How far back a function looks in time; `None`: it has no such bound.
fn width(function: &OverFunction) -> Option<i64> {
    match function {
        OverFunction::First(_, frame)
        | OverFunction::Last(_, frame)
        | OverFunction::Aggregate(_, frame) => frame.start.filter(|_| !frame.by_rows),
        OverFunction::RowNumber
        | OverFunction::Rank
        | OverFunction::DenseRank
        | OverFunction::Lag(_)
        | OverFunction::Lead(_) => None,
    }
}

impl OverFunction {
    /// The frame, where the function has one.
    pub fn frame(&self) -> Option<Frame> {
        match self {
            OverFunction::First(_, frame)
            | OverFunction::Last(_, frame)
            | OverFunction::Aggregate(_, frame) => Some(*frame),
            _ => None,
        }
    }
}
