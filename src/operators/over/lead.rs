//! Holds rows until the rows that `lead` asks for have come.
//!
//! A row is put out when its last answer is there: so rows come out in the order of the rows that
//! complete them, which is a function of the log. What no row will ever complete is put out with the
//! default when its partition ends: by a punctuation, or at the end of time.
//!
//! # State
//! Per partition as many rows as the call looks ahead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;

use super::call::{OverFunction, Shift};
use super::cells::{Codec, Encoded};
use crate::operators::operator::EvalError;
use crate::operators::row_buffer::RowBuffer;
use crate::operators::state::{StateReader, StateWriter};

/// An encoded value, or null.
type Cell = Option<Box<[u8]>>;

/// A row without an answer of its own: it failed, and only completes others.
const FAILED: u64 = u64::MAX;

/// One `lead`.
struct Lead {
    /// Its place among the calls.
    call: usize,
    /// Which PARTITION BY it has.
    keying: usize,
    shift: Shift,
    codec: Encoded,
    default: Cell,
    /// Per partition the rows that wait, the oldest first.
    places: Vec<VecDeque<u64>>,
}

/// All rows that wait for a `lead`.
pub(super) struct Leads {
    leads: Vec<Lead>,
    /// Where the columns of calls begin in the output.
    first: usize,
    /// The columns that are known: all but those of the leads.
    rows: RowBuffer,
    /// By number: answers still missing, and those that are there.
    waiting: BTreeMap<u64, (usize, Vec<Cell>)>,
    held: usize,
    /// Complete, in the order of completion.
    done: Vec<(u64, Vec<Cell>)>,
}

impl Leads {
    /// Rows of `schema`, the output's; `calls` with the number of each one's PARTITION BY.
    pub(super) fn new(
        calls: &[(OverFunction, usize)],
        input: &SchemaRef,
        schema: &SchemaRef,
    ) -> Result<Option<Leads>, EvalError> {
        let mut leads = Vec::new();
        for (call, (function, keying)) in calls.iter().enumerate() {
            let OverFunction::Lead(shift) = function else { continue };
            let codec = Encoded::of(input.field(shift.argument).data_type())?;
            let default = codec.read(&shift.default)?.pop().flatten();
            let (shift, places) = (shift.clone(), Vec::new());
            leads.push(Lead { call, keying: *keying, shift, codec, default, places });
        }
        if leads.is_empty() {
            return Ok(None);
        }
        let first = schema.fields().len() - calls.len();
        let is_known = |column: &usize| !leads.iter().any(|lead| first + lead.call == *column);
        let known: Vec<usize> = (0..schema.fields().len()).filter(is_known).collect();
        let rows = RowBuffer::new(Arc::new(schema.project(&known)?));
        Ok(Some(Leads { leads, first, rows, waiting: BTreeMap::new(), held: 0, done: Vec::new() }))
    }

    /// Whether no row waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes answered rows: the columns that are known, the input's, per PARTITION BY the slot of
    /// each row, and the rows that failed, ascending.
    pub(super) fn push(
        &mut self,
        known: Vec<ArrayRef>,
        input: &[ArrayRef],
        slots: &[Vec<usize>],
        failed: &BTreeSet<usize>,
    ) -> Result<(), EvalError> {
        let batch = RecordBatch::try_new(Arc::clone(self.rows.schema()), known)?;
        let first = self.rows.push(&batch)?;
        let dropped: Vec<u64> = failed.iter().map(|row| first + *row as u64).collect();
        self.rows.release(&dropped)?;
        let values = self.leads.iter().map(|lead| lead.codec.read(&input[lead.shift.argument]));
        let mut values: Vec<Vec<Cell>> = values.collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            let number = if failed.contains(&row) { FAILED } else { first + row as u64 };
            if number != FAILED {
                let missing = vec![None; self.leads.len()];
                self.held += missing.len() * size_of::<Cell>();
                self.waiting.insert(number, (missing.len(), missing));
            }
            for (index, values) in values.iter_mut().enumerate() {
                let lead = &mut self.leads[index];
                let slot = slots[lead.keying][row];
                if lead.places.len() <= slot {
                    lead.places.resize_with(slot + 1, VecDeque::new);
                }
                let place = &mut lead.places[slot];
                place.push_back(number);
                if place.len() > lead.shift.rows {
                    let answered = place.pop_front().expect("a row was added just above");
                    self.complete(answered, index, values[row].take());
                }
            }
        }
        Ok(())
    }

    fn complete(&mut self, number: u64, lead: usize, value: Cell) {
        // A failed row is not there.
        let Some((missing, values)) = self.waiting.get_mut(&number) else { return };
        self.held += value.as_ref().map_or(0, |value| value.len());
        values[lead] = value;
        *missing -= 1;
        if *missing == 0 {
            let (_, values) = self.waiting.remove(&number).expect("it was found just above");
            let heap = values.iter().flatten().map(|value| value.len()).sum::<usize>();
            self.held -= heap + values.len() * size_of::<Cell>();
            self.done.push((number, values));
        }
    }

    /// Ends partitions: their rows get the defaults, in the order in which they came.
    pub(super) fn end(&mut self, keying: usize, is_ended: impl Fn(usize) -> bool) {
        let mut ended = Vec::new();
        for (index, lead) in self.leads.iter_mut().enumerate() {
            if lead.keying != keying {
                continue;
            }
            for (slot, place) in lead.places.iter_mut().enumerate() {
                if is_ended(slot) {
                    ended.extend(std::mem::take(place).into_iter().map(|number| (number, index)));
                }
            }
        }
        ended.sort_unstable();
        for (number, lead) in ended {
            self.complete(number, lead, self.leads[lead].default.clone());
        }
    }

    /// The rows that are complete, with all columns.
    pub(super) fn take(&mut self, schema: &SchemaRef) -> Result<Option<RecordBatch>, EvalError> {
        let done = std::mem::take(&mut self.done);
        if done.is_empty() {
            return Ok(None);
        }
        let numbers: Vec<u64> = done.iter().map(|(number, _)| *number).collect();
        let known = self.rows.gather(&numbers)?;
        self.rows.release(&numbers)?;
        let mut columns = known.columns().to_vec();
        // Leads ascend by call, so that each insertion finds its place.
        let mut values: Vec<Vec<Cell>> = vec![Vec::with_capacity(done.len()); self.leads.len()];
        for (_, row) in done {
            row.into_iter().zip(&mut values).for_each(|(cell, values)| values.push(cell));
        }
        for (lead, cells) in self.leads.iter().zip(values) {
            columns.insert(self.first + lead.call, lead.codec.write(cells)?);
        }
        Ok(Some(RecordBatch::try_new(Arc::clone(schema), columns)?))
    }

    /// Bytes of state.
    pub(super) fn bytes(&self) -> usize {
        let places: usize = self.leads.iter().map(|lead| lead.places.capacity()).sum();
        self.rows.state_bytes()
            + self.held
            + self.waiting.len() * (size_of::<(u64, (usize, Vec<Cell>))>() + size_of::<u64>())
            + places * size_of::<VecDeque<u64>>()
    }

    pub(super) fn save(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.leads.iter().try_for_each(|lead| out.put(&lead.places))?;
        self.rows.save(out)?;
        out.put(&self.waiting)
    }

    pub(super) fn restore(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        for lead in &mut self.leads {
            lead.places = from.get()?;
        }
        self.rows.restore(from)?;
        self.waiting = from.get()?;
        let values = self.waiting.values().map(|(_, values)| values);
        self.held = values
            .map(|values| {
                let heap = values.iter().flatten().map(|value| value.len()).sum::<usize>();
                heap + values.len() * size_of::<Cell>()
            })
            .sum();
        Ok(())
    }
}
