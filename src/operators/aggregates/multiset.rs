//! Folds an aggregate over input with retractions, by keeping every argument with its multiplicity.
//!
//! min and max are the ends of the ordered multiset, count(DISTINCT x) its size. Any other aggregate
//! is folded afresh over all arguments when it is read: slow, but right for every function. Equal
//! arguments stand in the order of their arrival; a retraction takes back the latest of them.
//!
//! A retraction may come before its insertion: its multiplicity is negative for a while.
//!
//! # State
//!
//! One entry per distinct argument and group; for functions folded afresh 8 bytes more per row.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, UInt64Array, new_empty_array};
use arrow::compute::{self, SortColumn};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::error::DataFusionError;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::scalar::ScalarValue;

use super::extreme::column_of;
use super::fold::{Evaluated, Fold, FoldRows, is_value};
use crate::operators::expr::row_error;
use crate::operators::operator::EvalError;
use crate::operators::portions::Chosen;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// What is asked of the multiset.
pub enum Question {
    /// Its least value.
    Min,
    /// Its greatest value.
    Max,
    /// How many different values it has.
    CountDistinct,
    /// What a function makes of its values.
    Replay {
        /// The function.
        function: Arc<AggregateFunctionExpr>,
        /// Whether it wants its input sorted by its ORDER BY columns, the last arguments.
        sort: bool,
    },
    /// What a function makes of its different values, which it sees once each, in ascending order.
    ReplayDistinct {
        /// The function.
        function: Arc<AggregateFunctionExpr>,
    },
}

/// A counted multiset of arguments per group.
pub struct MultisetFold {
    question: Question,
    converter: RowConverter,
    groups: Vec<BTreeMap<Box<[u8]>, Instances>>,
    /// Rows seen, which orders arguments by arrival.
    arrivals: u64,
    /// Bytes of all entries.
    entry_bytes: usize,
    /// Entries whose insertion has not come yet, in all groups.
    owed: usize,
}

/// The instances of one argument in one group.
#[derive(Default)]
struct Instances {
    /// Insertions less retractions; never 0.
    count: i64,
    /// When each came, for functions that are folded afresh.
    arrivals: Vec<u64>,
}

impl Stored for Instances {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.count.store(out)?;
        self.arrivals.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(Instances { count: from.get()?, arrivals: from.get()? })
    }
}

impl MultisetFold {
    /// A fold without groups, for arguments of these types.
    pub fn new(question: Question, types: &[DataType]) -> Result<MultisetFold, EvalError> {
        let fields = types.iter().map(|data_type| SortField::new(data_type.clone())).collect();
        let converter = RowConverter::new(fields)?;
        Ok(MultisetFold {
            question,
            converter,
            groups: Vec::new(),
            arrivals: 0,
            entry_bytes: 0,
            owed: 0,
        })
    }

    fn entry_size(key: &[u8], instances: &Instances) -> usize {
        key.len() + instances.arrivals.len() * 8
    }

    /// What a map of so many entries takes: its nodes have eleven places, and are filled by two thirds
    /// where there are many.
    fn map_size(entries: usize) -> usize {
        const NODE: usize = 11 * size_of::<(Box<[u8]>, Instances)>() + 16;
        match entries {
            0 => 0,
            1..=11 => NODE,
            many => many.div_ceil(7) * (NODE + 16),
        }
    }

    fn add(&mut self, group: usize, key: &[u8], weight: i64) {
        let replay = matches!(self.question, Question::Replay { .. });
        let entries = &mut self.groups[group];
        let before = Self::map_size(entries.len());
        if !entries.contains_key(key) {
            entries.insert(Box::from(key), Instances::default());
            self.entry_bytes += Self::entry_size(key, &Instances::default());
        }
        let Some(instances) = entries.get_mut(key) else { return };
        self.entry_bytes -= Self::entry_size(key, instances);
        self.owed -= usize::from(instances.count < 0);
        instances.count += weight;
        self.owed += usize::from(instances.count < 0);
        if replay {
            instances.arrivals.resize(instances.count.max(0) as usize, self.arrivals);
        }
        if instances.count == 0 {
            entries.remove(key);
        } else {
            self.entry_bytes += Self::entry_size(key, instances);
        }
        self.entry_bytes = self.entry_bytes + Self::map_size(entries.len()) - before;
    }

    /// How many rows were seen: a later one has a greater arrival.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// The arguments of a group, how often each counts, and when its instances came, if that matters.
    pub(super) fn entries(&self, group: usize) -> impl Iterator<Item = (&[u8], i64, &[u64])> {
        let entries = self.groups[group].iter();
        entries.map(|(key, instances)| (&key[..], instances.count, &instances.arrivals[..]))
    }

    /// Adds instances of an argument that another fold has seen.
    pub(super) fn insert(&mut self, group: usize, key: &[u8], count: i64, came: Vec<u64>) {
        self.arrivals = came.iter().copied().max().unwrap_or_default().max(self.arrivals);
        let held = self.groups[group].get(key).map_or(0, |instances| instances.arrivals.len());
        self.add(group, key, count);
        let Some(instances) = self.groups[group].get_mut(key) else { return };
        // A retraction that was owed has taken the last ones.
        for (place, at) in instances.arrivals.iter_mut().skip(held).zip(came) {
            *place = at;
        }
    }

    /// The value at one end of each group.
    fn ends(&self, groups: &[usize], max: bool) -> Result<ArrayRef, EvalError> {
        let ends: Vec<Option<&[u8]>> = groups
            .iter()
            .map(|group| {
                let mut entries = self.groups[*group].iter();
                let end = if max {
                    entries.rfind(|(_, instances)| instances.count > 0)
                } else {
                    entries.find(|(_, instances)| instances.count > 0)
                };
                end.map(|(key, _)| &key[..])
            })
            .collect();
        column_of(&self.converter, &ends)
    }

    /// The different arguments of a group as columns, ascending.
    fn distinct_arguments(&self, group: usize) -> Result<Vec<ArrayRef>, EvalError> {
        let entries = self.groups[group].iter().filter(|(_, instances)| instances.count > 0);
        let parser = self.converter.parser();
        Ok(self.converter.convert_rows(entries.map(|(key, _)| parser.parse(key)))?)
    }

    /// The arguments of a group as columns, in the order in which the function wants them.
    fn arguments(&self, group: usize, sort_by: &[SortColumn]) -> Result<Vec<ArrayRef>, EvalError> {
        let mut rows: Vec<(u64, &[u8])> = Vec::new();
        for (key, instances) in &self.groups[group] {
            rows.extend(instances.arrivals.iter().map(|arrival| (*arrival, &key[..])));
        }
        rows.sort_by_key(|(arrival, _)| *arrival);
        let parser = self.converter.parser();
        let columns = self.converter.convert_rows(rows.iter().map(|(_, row)| parser.parse(row)))?;
        if sort_by.is_empty() || rows.is_empty() {
            return Ok(columns);
        }
        let first = columns.len() - sort_by.len();
        let mut order: Vec<SortColumn> = columns[first..]
            .iter()
            .zip(sort_by)
            .map(|(column, by)| SortColumn { values: Arc::clone(column), options: by.options })
            .collect();
        let arrivals = UInt64Array::from_iter_values(0..rows.len() as u64);
        order.push(SortColumn { values: Arc::new(arrivals), options: None });
        let indices = compute::lexsort_to_indices(&order, None)?;
        Ok(columns.iter().map(|c| compute::take(c, &indices, None)).collect::<Result<_, _>>()?)
    }

    /// Columns to sort by, without their rows.
    fn sort_by(function: &AggregateFunctionExpr) -> Vec<SortColumn> {
        let empty: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
        let column = |options| SortColumn { values: Arc::clone(&empty), options: Some(options) };
        function.order_bys().iter().map(|by| column(by.options)).collect()
    }

    fn replay(
        function: &AggregateFunctionExpr,
        groups: &[usize],
        arguments: impl Fn(usize) -> Result<Vec<ArrayRef>, EvalError>,
    ) -> Result<Evaluated, EvalError> {
        let data_type = function.field().data_type().clone();
        if groups.is_empty() {
            return Ok(Evaluated::all(new_empty_array(&data_type)));
        }
        let (mut scalars, mut failed) = (Vec::with_capacity(groups.len()), Vec::new());
        for (i, group) in groups.iter().enumerate() {
            let arguments = arguments(*group)?;
            scalars.push(match fold_afresh(function, &arguments) {
                Ok(scalar) => scalar,
                Err(error) => {
                    let (code, reason) = row_error(&error);
                    failed.push((i, code, reason));
                    ScalarValue::try_from(&data_type)?
                }
            });
        }
        Ok(Evaluated { values: ScalarValue::iter_to_array(scalars)?, failed })
    }
}

fn fold_afresh(
    function: &AggregateFunctionExpr,
    arguments: &[ArrayRef],
) -> Result<ScalarValue, DataFusionError> {
    let mut accumulator = function.create_accumulator()?;
    if arguments.first().is_none_or(|argument| !argument.is_empty()) {
        accumulator.update_batch(arguments)?;
    }
    accumulator.evaluate()
}

impl Fold for MultisetFold {
    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, BTreeMap::new);
    }

    fn update(&mut self, rows: &FoldRows<'_>) -> Result<(), EvalError> {
        let keys = self.converter.convert_columns(rows.arguments)?;
        // Functions that are folded afresh judge nulls themselves; the others pass them over.
        let skips_nulls =
            !matches!(self.question, Question::Replay { .. } | Question::ReplayDistinct { .. });
        let is_value = is_value(&rows.arguments[0]);
        for (row, &group) in rows.groups.iter().enumerate() {
            self.arrivals += 1;
            let weight = rows.weight(row);
            if weight != 0 && (!skips_nulls || is_value(row)) {
                self.add(group, keys.row(row).as_ref(), weight);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, groups: &[usize]) -> Result<Evaluated, EvalError> {
        match &self.question {
            Question::Min => Ok(Evaluated::all(self.ends(groups, false)?)),
            Question::Max => Ok(Evaluated::all(self.ends(groups, true)?)),
            Question::CountDistinct => {
                let present = |group: &usize| match &self.groups[*group] {
                    entries if self.owed == 0 => entries.len() as i64,
                    entries => entries.values().filter(|i| i.count > 0).count() as i64,
                };
                let counts = Int64Array::from_iter_values(groups.iter().map(present));
                Ok(Evaluated::all(Arc::new(counts)))
            }
            Question::Replay { function, sort } => {
                let sort_by = if *sort { Self::sort_by(function) } else { Vec::new() };
                Self::replay(function, groups, |group| self.arguments(group, &sort_by))
            }
            Question::ReplayDistinct { function } => {
                Self::replay(function, groups, |group| self.distinct_arguments(group))
            }
        }
    }

    fn is_empty(&self, group: usize) -> bool {
        self.groups[group].is_empty()
    }

    fn clear(&mut self, group: usize) {
        self.entry_bytes -= Self::map_size(self.groups[group].len());
        for (key, instances) in std::mem::take(&mut self.groups[group]) {
            self.entry_bytes -= Self::entry_size(&key, &instances);
            self.owed -= usize::from(instances.count < 0);
        }
    }

    fn keep(&mut self, groups: &[usize]) {
        self.groups = groups.iter().map(|g| std::mem::take(&mut self.groups[*g])).collect();
    }

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<BTreeMap<Box<[u8]>, Instances>>() + self.entry_bytes
    }

    fn save_head(&mut self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.put(&self.arrivals)
    }

    fn restore_head(&mut self, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        self.arrivals = from.get()?;
        Ok(())
    }

    fn save(&mut self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError> {
        chosen.put(&self.groups, out)
    }

    fn restore(&mut self, chosen: &Chosen, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let groups = chosen.to_vec();
        groups.iter().for_each(|&group| self.clear(group));
        chosen.get(&mut self.groups, from)?;
        let sizes = groups.iter().map(|&group| Self::map_size(self.groups[group].len()));
        self.entry_bytes += sizes.sum::<usize>();
        for (key, instances) in groups.iter().flat_map(|&group| &self.groups[group]) {
            self.entry_bytes += Self::entry_size(key, instances);
            self.owed += usize::from(instances.count < 0);
        }
        Ok(())
    }
}
