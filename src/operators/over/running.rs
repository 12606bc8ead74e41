//! Runs the functions of an OVER over rows that come in the order of answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
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
use crate::operators::state::{StateReader, StateWriter, misfit};

/// Rows without a valid answer, and why.
pub(super) type Failed = BTreeMap<usize, (SqlState, String)>;

/// Per row of a batch the slot of its partition, and its number there.
type Placed = (Vec<usize>, Vec<i64>);

/// The functions with their partitions.
pub(super) struct Running {
    spec: Arc<OverSpec>,
    keyings: Vec<Keying>,
    /// Per function the number of its keying, and what computes it; `None`: a `lead`.
    calls: Vec<(usize, Option<Box<dyn Call>>)>,
    leads: Option<Leads>,
    /// How far frames reach beyond their rows.
    ahead: i64,
    /// Where frames reach ahead, per keying slot and number of the rows that entered and are not
    /// answered yet.
    entered: Vec<VecDeque<(usize, i64)>>,
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
        let frames = spec.calls.iter().filter_map(|call| call.function.frame());
        let ahead = frames.map(|frame| frame.ahead()).max().unwrap_or(0);
        let entered = vec![VecDeque::new(); partitions.len()];
        Ok(Running { spec: Arc::clone(spec), keyings, calls, leads, ahead, entered })
    }

    /// How far frames reach beyond their rows.
    pub(super) fn ahead(&self) -> i64 {
        self.ahead
    }

    /// Shows rows, in order, to frames that reach ahead. All do that are answered later.
    pub(super) fn enter(&mut self, batch: &RecordBatch, times: &[i64]) -> Result<(), EvalError> {
        let mut placed = Vec::with_capacity(self.keyings.len());
        for (keying, entered) in self.keyings.iter_mut().zip(&mut self.entered) {
            let (slots, numbers) = keying.place(batch, times)?;
            entered.extend(slots.iter().copied().zip(numbers.iter().copied()));
            placed.push((slots, numbers));
        }
        for (function, (keying, call)) in self.spec.calls.iter().zip(&mut self.calls) {
            let reaches = function.function.frame().is_some_and(|frame| frame.ahead() > 0);
            if let Some(call) = call
                && reaches
            {
                let (slots, numbers) = &placed[*keying];
                call.resize(self.keyings[*keying].slot_count());
                call.enter(batch.columns(), &Ordered { slots, times, numbers })?;
            }
        }
        Ok(())
    }

    /// Slot and number of each row under each keying.
    fn placed(&mut self, batch: &RecordBatch, times: &[i64]) -> Result<Vec<Placed>, EvalError> {
        if self.ahead > 0 {
            let first = |entered: &mut VecDeque<_>| entered.drain(..times.len()).unzip();
            return Ok(self.entered.iter_mut().map(first).collect());
        }
        self.keyings.iter_mut().map(|keying| keying.place(batch, times)).collect()
    }

    /// Takes rows in order. Gives them with their answers, and which failed; rows that wait for a
    /// `lead` are kept, and come with [`completed`](Self::completed).
    pub(super) fn answer(
        &mut self,
        batch: &RecordBatch,
        times: &[i64],
    ) -> Result<(Option<RecordBatch>, Failed), EvalError> {
        let placed = self.placed(batch, times)?;
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

    /// Whether the watermark ends partitions whose rows wait for a `lead`.
    pub(super) fn ends_partitions(&self) -> bool {
        self.leads.is_some() && self.keyings.iter().any(Keying::has_end)
    }

    /// The time behind which the next partition ends whose rows wait for a `lead`.
    pub(super) fn next_ending(&self) -> Option<i64> {
        self.leads.as_ref()?;
        self.keyings.iter().filter_map(Keying::next_ending).min()
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
            + self.entered.iter().map(VecDeque::len).sum::<usize>() * size_of::<(usize, i64)>()
            + calls.map(|call| call.bytes()).sum::<usize>()
            + self.leads.as_ref().map_or(0, Leads::bytes)
    }

    pub(super) fn restores_exactly(&self) -> bool {
        self.calls.iter().filter_map(|(_, call)| call.as_ref()).all(|c| c.restores_exactly())
    }

    pub(super) fn save(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.keyings.iter().try_for_each(|keying| keying.save(out))?;
        out.put(&self.entered)?;
        for call in self.calls.iter_mut().filter_map(|(_, call)| call.as_mut()) {
            call.save(out)?;
        }
        self.leads.as_ref().map_or(Ok(()), |leads| leads.save(out))
    }

    pub(super) fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.keyings.iter_mut().try_for_each(|keying| keying.restore(from))?;
        self.entered = from.get()?;
        if self.entered.len() != self.keyings.len() {
            return Err(misfit("rows entered under other partitions"));
        }
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
        | OverFunction::Aggregate(_, frame) => {
            frame.start.filter(|_| !frame.by_rows).map(|start| start.max(0))
        }
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
