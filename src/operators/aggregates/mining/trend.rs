//! Finds items that are much more frequent in a window than in the one it is compared with: TREND.
//!
//! The arguments are the columns of an item, then whether the row belongs to the window before. Counts
//! are exact. A null is an item like any other, as in GROUP BY.
//!
//! # State
//! Per group a summary of [`crate::sketches::trend`]: each different item, with two counts.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::row::{RowConverter, SortField};

use super::{KEY_MARK, Miner, Summaries};
use crate::operators::aggregates::accumulator::{Rows, cannot_retract};
use crate::operators::operator::EvalError;
use crate::operators::state::misfit;
use crate::sketches::trend::{Thresholds, Trend, When};

/// What is asked.
#[derive(Debug, Clone)]
pub struct TrendMiner {
    /// What an item must reach.
    pub thresholds: Thresholds,
    /// Types of the columns that make an item. They are the first arguments.
    pub item: Vec<DataType>,
}

impl TrendMiner {
    fn fields(&self) -> Fields {
        let marked = |(i, data_type): (usize, &DataType)| {
            let mark = HashMap::from([(KEY_MARK.to_string(), String::new())]);
            Field::new(format!("item_{i}"), data_type.clone(), true).with_metadata(mark)
        };
        let counts = ["count_before", "count_now", "difference"];
        let counts = counts.map(|name| Field::new(name, DataType::Int64, false));
        let ratios = ["ratio", "ratio_lower", "ratio_upper"];
        let ratios = ratios.map(|name| Field::new(name, DataType::Float64, false));
        self.item.iter().enumerate().map(marked).chain(counts).chain(ratios).collect()
    }

    /// Names of the columns of an answer behind those of the item.
    pub fn columns(&self) -> Vec<String> {
        self.fields()[self.item.len()..].iter().map(|field| field.name().clone()).collect()
    }

    fn converter(&self) -> Result<RowConverter, EvalError> {
        Ok(RowConverter::new(self.item.iter().cloned().map(SortField::new).collect())?)
    }
}

impl Miner for TrendMiner {
    fn name(&self) -> &'static str {
        "trend"
    }

    fn describe(&self) -> String {
        let Thresholds { support, ratio, confidence, difference } = self.thresholds;
        let confidence = confidence.map_or(String::new(), |c| format!(", confidence {c}"));
        format!("min_support {support}, min_ratio {ratio}, min_difference {difference}{confidence}")
    }

    fn result(&self) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(DataType::Struct(self.fields()), true)))
    }

    fn summaries(&self) -> Result<Box<dyn Summaries>, EvalError> {
        let converter = self.converter()?;
        Ok(Box::new(Trends { spec: self.clone(), converter, groups: Vec::new() }))
    }

    fn needs_append_only(&self) -> bool {
        true
    }

    fn merges_slices(&self) -> bool {
        true
    }

    fn bound(&self) -> Option<String> {
        Some("two counts for each different item of a window and of the one before".into())
    }
}

/// A summary per group.
struct Trends {
    spec: TrendMiner,
    converter: RowConverter,
    /// `None`: no rows.
    groups: Vec<Option<Trend>>,
}

impl Summaries for Trends {
    fn resize(&mut self, groups: usize) {
        self.groups.resize_with(groups, || None);
    }

    fn update(&mut self, columns: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError> {
        let (items, before) = columns.split_at(self.spec.item.len());
        let keys = self.converter.convert_columns(items)?;
        let before = before[0].as_boolean();
        let mut retracts = false;
        rows.for_each(None, |row, group, times| match u64::try_from(times) {
            Ok(times) => {
                let is_before = before.is_valid(row) && before.value(row);
                let when = if is_before { When::Before } else { When::Now };
                let trend = self.groups[group].get_or_insert_with(Trend::default);
                trend.add(keys.row(row).data(), when, times);
            }
            Err(_) => retracts = true,
        });
        if retracts { Err(cannot_retract(self.spec.name())) } else { Ok(()) }
    }

    fn merge(&mut self, group: usize, bytes: &[u8]) -> Result<(), EvalError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let read = Trend::from_bytes(bytes).ok_or_else(|| misfit("a trend cannot be read"))?;
        match &mut self.groups[group] {
            Some(trend) => trend.merge(&read),
            empty => *empty = Some(read),
        }
        Ok(())
    }

    fn write(&self, group: usize, out: &mut Vec<u8>) {
        if let Some(trend) = &self.groups[group] {
            out.extend(trend.to_bytes());
        }
    }

    fn answers(&self, groups: &[usize]) -> Result<(ArrayRef, Vec<usize>), EvalError> {
        let (mut items, mut lengths) = (Vec::new(), Vec::with_capacity(groups.len()));
        let (mut counts, mut ratios): ([Vec<i64>; 3], [Vec<f64>; 3]) = Default::default();
        let parser = self.converter.parser();
        for &group in groups {
            let trend = self.groups[group].as_ref();
            let rising = trend.map_or(vec![], |trend| trend.rising(&self.spec.thresholds));
            lengths.push(rising.len());
            for found in rising {
                items.push(parser.parse(found.item));
                let fit = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
                let (before, now) = (fit(found.before), fit(found.now));
                for (column, value) in counts.iter_mut().zip([before, now, now - before]) {
                    column.push(value);
                }
                let bounds = [found.ratio, found.ratio_lower, found.ratio_upper];
                ratios.iter_mut().zip(bounds).for_each(|(column, ratio)| column.push(ratio));
            }
        }
        let mut columns = self.converter.convert_rows(items)?;
        columns.extend(counts.map(|counts| Arc::new(Int64Array::from(counts)) as ArrayRef));
        columns.extend(ratios.map(|ratios| Arc::new(Float64Array::from(ratios)) as ArrayRef));
        let answers = StructArray::try_new(self.spec.fields(), columns, None)?;
        let field = Arc::new(Field::new_list_field(answers.data_type().clone(), true));
        let lengths = OffsetBuffer::from_lengths(lengths);
        let lists = ListArray::try_new(field, lengths, Arc::new(answers), None)?;
        Ok((Arc::new(lists), Vec::new()))
    }

    fn is_empty(&self, group: usize) -> bool {
        self.groups[group].is_none()
    }

    fn clear(&mut self, group: usize) {
        self.groups[group] = None;
    }

    fn keep(&mut self, groups: &[usize]) {
        self.groups = groups.iter().map(|&group| self.groups[group].take()).collect();
    }

    fn size(&self) -> usize {
        let slots = self.groups.capacity() * size_of::<Option<Trend>>();
        slots + self.groups.iter().flatten().map(Trend::size).sum::<usize>()
    }
}
