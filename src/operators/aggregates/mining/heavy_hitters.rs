//! Finds the items that make up more than a share of a group's rows, with bounds for each.
//!
//! # State
//! Per group the summary that its algorithm promises: [`crate::sketches::heavy_hitters`].

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, ListArray, PrimitiveArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields, Int64Type};

use super::items::{Codec, Encoding, is_comparable, naturals};
use super::pieces::{Groups, Slicer};
use super::{KEY_MARK, Miner, Summaries};
use crate::operators::aggregates::accumulator::{Rows, cannot_retract};
use crate::operators::operator::EvalError;
use crate::operators::state::misfit;
use crate::sketches::heavy_hitters::{Algorithm, Mode, Question, Summary};
use crate::sketches::items::Items;
use crate::windows::spec::TimeWindow;

/// What is asked, of which columns.
#[derive(Debug, Clone)]
pub struct HeavyHitters {
    /// What is asked.
    pub question: Question,
    /// Types of the columns that make an item. They are the first arguments.
    pub item: Vec<DataType>,
    /// Whether an argument of type BIGINT follows that says how often a row counts.
    pub weighted: bool,
    /// Whether an argument follows that says at which offset of the log a row stands.
    pub placed: bool,
    /// The windows where they overlap: rows are counted by slice. A last argument is the row's time,
    /// in the units of the windows.
    pub slices: Option<TimeWindow>,
    /// What an answer holds.
    pub form: Form,
}

/// What an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The columns of HEAVY_HITTERS in FROM.
    Relation,
    /// The fields of the aggregate heavy_hitters.
    Aggregate,
}

impl HeavyHitters {
    /// Whether a column of this type can be (part of) an item.
    pub fn takes(data_type: &DataType) -> bool {
        is_comparable(data_type)
    }

    fn fields(&self) -> Fields {
        let marked = |name: String, data_type: &DataType| {
            let mark = HashMap::from([(KEY_MARK.to_string(), String::new())]);
            Field::new(name, data_type.clone(), true).with_metadata(mark)
        };
        let items = self.item.iter().enumerate().map(|(i, data_type)| match self.form {
            Form::Relation => marked(format!("item_{i}"), data_type),
            Form::Aggregate => marked("item".to_string(), data_type),
        });
        let names = match self.form {
            Form::Relation => ["count_lower", "count_estimate", "count_upper"],
            Form::Aggregate => ["lower", "estimate", "upper"],
        };
        let counts = names.map(|name| Field::new(name, DataType::Int64, false));
        let guaranteed = Field::new("guaranteed", DataType::Boolean, false);
        let group_rows =
            (self.form == Form::Relation).then(|| Field::new("group_rows", DataType::Int64, false));
        items.chain(counts).chain([guaranteed]).chain(group_rows).collect()
    }
}

impl Miner for HeavyHitters {
    fn name(&self) -> &'static str {
        "heavy_hitters"
    }

    fn describe(&self) -> String {
        let Question { support, error, algorithm, mode, failure, seed, in_parts: _ } =
            self.question;
        let algorithm = match algorithm {
            Algorithm::LossyCounting => format!("error {error}, lossy_counting"),
            Algorithm::StickySampling => {
                format!("error {error}, sticky_sampling, failure {failure}, seed {seed}")
            }
            Algorithm::SpaceSaving => format!("error {error}, space_saving"),
            Algorithm::Exact => "exact".to_string(),
        };
        let mode = match mode {
            Mode::NoFalseNegatives => "no_false_negatives",
            Mode::NoFalsePositives => "no_false_positives",
        };
        let weighted = if self.weighted { ", weighted" } else { "" };
        let slices = if self.slices.is_some() { ", by slice" } else { "" };
        format!("support {support}, {algorithm}, {mode}{weighted}{slices}")
    }

    fn result(&self) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(DataType::Struct(self.fields()), true)))
    }

    fn summaries(&self) -> Result<Box<dyn Summaries>, EvalError> {
        Ok(match Encoding::of(&self.item)? {
            Encoding::Numbers(codec) => Box::new(Hitters::new(self.clone(), codec)),
            Encoding::Texts(codec) => Box::new(Hitters::new(self.clone(), codec)),
            Encoding::Rows(codec) => Box::new(Hitters::new(self.clone(), codec)),
        })
    }

    fn needs_append_only(&self) -> bool {
        self.question.algorithm != Algorithm::Exact
    }

    fn merges_slices(&self) -> bool {
        self.slices.is_some()
    }

    fn bound(&self) -> Option<String> {
        let error = self.question.error;
        Some(match self.question.algorithm {
            Algorithm::LossyCounting => {
                format!("at most (1/e)*log(e*N) entries per group of N rows, e = {error}")
            }
            Algorithm::StickySampling => {
                let entries = self.question.expected_entries();
                let of = if self.slices.is_some() { "slice and group" } else { "group" };
                format!("{entries} entries per {of} expected")
            }
            Algorithm::SpaceSaving => {
                let counters = error.reciprocal().saturating_mul(2);
                format!("at most {counters} counters per group")
            }
            Algorithm::Exact => return None,
        })
    }
}

/// A summary per group.
struct Hitters<C: Codec> {
    spec: HeavyHitters,
    codec: C,
    groups: Groups<Summary<C::Items>>,
    slicer: Option<Slicer>,
}

/// What the rows of a batch are counted with.
struct Counting {
    weights: Option<PrimitiveArray<Int64Type>>,
    places: Option<PrimitiveArray<Int64Type>>,
    /// For each row where its slice starts.
    slices: Option<Vec<i64>>,
}

impl Counting {
    /// How often a row counts; NULL is not at all.
    fn weight(&self, row: usize) -> u64 {
        let weight = |weights: &Int64Array| {
            if weights.is_null(row) { 0 } else { weights.value(row).max(0) as u64 }
        };
        self.weights.as_ref().map_or(1, weight)
    }

    fn slice(&self, row: usize) -> i64 {
        self.slices.as_ref().map_or(0, |slices| slices[row])
    }

    /// The one slice of all rows, if there is one.
    fn only_slice(&self) -> Option<i64> {
        let Some(slices) = &self.slices else { return Some(0) };
        let (&first, rest) = slices.split_first()?;
        rest.iter().all(|&slice| slice == first).then_some(first)
    }

    /// Where a row stands in the log, if that is known.
    fn place(&self, row: usize) -> u64 {
        let places = self.places.as_ref().filter(|places| places.is_valid(row));
        places.map_or(0, |places| places.value(row) as u64)
    }
}

impl<C: Codec> Hitters<C> {
    fn new(spec: HeavyHitters, codec: C) -> Hitters<C> {
        let slicer = spec.slices.as_ref().map(Slicer::new);
        Hitters { spec, codec, groups: Groups::default(), slicer }
    }

    /// Every row counts once and all are of one group: the loop that must be fast.
    fn add_all(
        &mut self,
        (group, slice): (usize, i64),
        items: &C::Batch,
        length: usize,
        counting: &Counting,
    ) {
        match self.groups[group].at(slice, &self.spec.question) {
            Summary::Lossy(lossy) => (0..length).for_each(|row| lossy.add(C::item(items, row), 1)),
            Summary::Saving(saving) => {
                (0..length).for_each(|row| saving.add(C::item(items, row), 1));
            }
            Summary::Exact(exact) => (0..length).for_each(|row| exact.add(C::item(items, row), 1)),
            Summary::Sticky(sticky) => {
                (0..length).for_each(|row| sticky.add(C::item(items, row), 1, counting.place(row)))
            }
        }
    }

    fn add_one(
        &mut self,
        (group, slice): (usize, i64),
        item: Option<<C::Items as Items>::Value<'_>>,
        weight: u64,
        place: u64,
    ) {
        if weight == 0 {
            return;
        }
        match self.groups[group].at(slice, &self.spec.question) {
            Summary::Lossy(lossy) => lossy.add(item, weight),
            Summary::Saving(saving) => saving.add(item, weight),
            Summary::Exact(exact) => exact.add(item, weight),
            Summary::Sticky(sticky) => sticky.add(item, weight, place),
        }
    }
}

/// The one group of all rows, if there is one.
fn only_group(rows: &Rows<'_>) -> Option<usize> {
    let (&first, rest) = rows.groups.split_first()?;
    (rows.group_count == 1 || rest.iter().all(|&group| group == first)).then_some(first as usize)
}

impl<C: Codec> Summaries for Hitters<C> {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups);
    }

    fn update(&mut self, columns: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError> {
        let mut others = columns[self.spec.item.len()..].iter();
        let mut next = |wanted: bool| match wanted {
            true => others.next().map(naturals).transpose(),
            false => Ok(None),
        };
        let weights = next(self.spec.weighted)?;
        let places = next(self.spec.placed)?;
        let slices = match (&self.slicer, others.next()) {
            (Some(slicer), Some(times)) => Some(slicer.starts(times)?),
            _ => None,
        };
        let counting = Counting { weights, places, slices };
        let items = self.codec.read(&columns[..self.spec.item.len()])?;
        if counting.weights.is_none()
            && rows.plain(None)
            && let (Some(group), Some(slice)) = (only_group(rows), counting.only_slice())
        {
            self.add_all((group, slice), &items, rows.groups.len(), &counting);
            return Ok(());
        }
        let mut retracts = false;
        rows.for_each(None, |row, group, times| match u64::try_from(times) {
            Ok(times) => {
                let weight = counting.weight(row).saturating_mul(times);
                let at = (group, counting.slice(row));
                self.add_one(at, C::item(&items, row), weight, counting.place(row));
            }
            Err(_) => retracts = true,
        });
        if retracts { Err(cannot_retract(self.spec.name())) } else { Ok(()) }
    }

    fn merge(&mut self, group: usize, bytes: &[u8]) -> Result<(), EvalError> {
        let merged = self.groups[group].merge(bytes, &self.spec.question);
        merged.ok_or_else(|| misfit("a summary is of another kind"))
    }

    fn write(&self, group: usize, out: &mut Vec<u8>) {
        self.groups[group].write(out);
    }

    fn answers(&self, groups: &[usize]) -> Result<(ArrayRef, Vec<usize>), EvalError> {
        let merged: Vec<_> = groups.iter().map(|&group| self.groups[group].merged()).collect();
        let (mut items, mut failed) = (Vec::new(), Vec::new());
        let (mut lengths, mut guaranteed) = (Vec::with_capacity(groups.len()), Vec::new());
        let mut counts: [Vec<i64>; 4] = Default::default();
        for (position, summary) in merged.iter().enumerate() {
            let total = summary.as_ref().map_or(0, |summary| summary.total());
            let (Some(summary), Ok(total)) = (summary, i64::try_from(total)) else {
                if summary.is_some() {
                    failed.push(position);
                }
                lengths.push(0);
                continue;
            };
            let answers = summary.answers(&self.spec.question);
            lengths.push(answers.len());
            for answer in answers {
                items.push(summary.item(answer.entry));
                // Bounds lie below the total, which fits, but for the slack of an upper one.
                let fit = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
                let row = [answer.lower, answer.estimate, answer.upper].map(fit);
                for (column, value) in counts.iter_mut().zip(row.into_iter().chain([total])) {
                    column.push(value);
                }
                guaranteed.push(answer.guaranteed);
            }
        }
        let mut columns = self.codec.columns(&items)?;
        let [lower, estimate, upper, total] =
            counts.map(|c| Arc::new(Int64Array::from(c)) as ArrayRef);
        columns.extend([lower, estimate, upper, Arc::new(BooleanArray::from(guaranteed))]);
        if self.spec.form == Form::Relation {
            columns.push(total);
        }
        let answers = StructArray::try_new(self.spec.fields(), columns, None)?;
        let field = Arc::new(Field::new_list_field(answers.data_type().clone(), true));
        let lists = ListArray::try_new(
            field,
            OffsetBuffer::from_lengths(lengths),
            Arc::new(answers),
            None,
        )?;
        Ok((Arc::new(lists), failed))
    }

    fn is_empty(&self, group: usize) -> bool {
        self.groups[group].is_empty()
    }

    fn clear(&mut self, group: usize) {
        self.groups.clear(group);
    }

    fn keep(&mut self, groups: &[usize]) {
        self.groups.keep(groups);
    }

    fn size(&self) -> usize {
        self.groups.size()
    }
}
