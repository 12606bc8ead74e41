//! Finds sets of items that often come together, and the rules that follow: FREQUENT_ITEMSETS and
//! ASSOCIATION_RULES.
//!
//! The argument is a list, one transaction a row. A null list is no transaction, an empty one is; null
//! items are left out. Items are held as `arrow::row` writes them, which sort like the values.
//!
//! # State
//! Per group a summary of [`crate::sketches::itemsets`], or one for each slice of windows that share rows.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, ListArray, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Fields};
use arrow::row::{RowConverter, SortField};

use super::pieces::{Groups, Slicer};
use super::{KEY_MARK, Miner, Summaries};
use crate::operators::aggregates::accumulator::{Rows, cannot_retract};
use crate::operators::operator::EvalError;
use crate::operators::state::misfit;
use crate::sketches::fraction::Fraction;
use crate::sketches::itemsets::{ANSWERS_MAX, Frequent, ItemsetOptions, Itemsets, SETS_MAX};
use crate::sketches::rules::{Rule, rules};
use crate::windows::spec::TimeWindow;

/// What is asked.
#[derive(Debug, Clone)]
pub struct ItemsetMiner {
    /// A set is frequent that is in at least this share of the transactions.
    pub support: Fraction,
    /// Counts are short by at most this share of the transactions.
    pub error: Fraction,
    /// Items in a set, at most.
    pub size_max: u32,
    /// Asks for rules that hold in at least this share of the transactions with their antecedent.
    pub confidence: Option<Fraction>,
    /// Type of an item.
    pub item: DataType,
    /// The windows where they overlap: transactions are counted by slice. A second argument is the row's
    /// time, in the units of the windows.
    pub slices: Option<TimeWindow>,
}

impl ItemsetMiner {
    /// The type of the items of a list that can be compared.
    pub fn item_of(list: &DataType) -> Option<DataType> {
        let (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) =
            list
        else {
            return None;
        };
        let item = item.data_type();
        RowConverter::supports_fields(&[SortField::new(item.clone())]).then(|| item.clone())
    }

    /// The type of a set.
    fn set_type(&self) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(self.item.clone(), true)))
    }

    fn fields(&self) -> Fields {
        let set = |name: &str| {
            let mark = HashMap::from([(KEY_MARK.to_string(), String::new())]);
            Field::new(name, self.set_type(), true).with_metadata(mark)
        };
        let number = |name: &str| Field::new(name, DataType::Int64, false);
        let share = |name: &str| Field::new(name, DataType::Float64, false);
        if self.confidence.is_some() {
            return Fields::from(vec![
                set("antecedent"),
                set("consequent"),
                share("support_lower"),
                share("support_estimate"),
                share("support_upper"),
                share("confidence_lower"),
                share("confidence_estimate"),
                share("confidence_upper"),
                share("lift"),
            ]);
        }
        Fields::from(vec![
            set("items"),
            number("size"),
            number("count_lower"),
            number("count_estimate"),
            number("count_upper"),
            Field::new("guaranteed", DataType::Boolean, false),
            number("group_rows"),
        ])
    }

    /// Names of the columns of an answer, in order.
    pub fn columns(&self) -> Vec<String> {
        self.fields().iter().map(|field| field.name().clone()).collect()
    }
}

impl Miner for ItemsetMiner {
    fn name(&self) -> &'static str {
        if self.confidence.is_some() { "association_rules" } else { "frequent_itemsets" }
    }

    fn describe(&self) -> String {
        let ItemsetMiner { support, error, size_max, confidence, .. } = self;
        let confidence = confidence.map_or(String::new(), |c| format!(", confidence {c}"));
        let slices = if self.slices.is_some() { ", by slice" } else { "" };
        format!("support {support}, error {error}, max_size {size_max}{confidence}{slices}")
    }

    fn result(&self) -> DataType {
        DataType::List(Arc::new(Field::new_list_field(DataType::Struct(self.fields()), true)))
    }

    fn summaries(&self) -> Result<Box<dyn Summaries>, EvalError> {
        let converter = RowConverter::new(vec![SortField::new(self.item.clone())])?;
        let options = ItemsetOptions::new(self.error, self.size_max);
        let slicer = self.slices.as_ref().map(Slicer::new);
        Ok(Box::new(Sets {
            spec: self.clone(),
            converter,
            options,
            groups: Groups::default(),
            slicer,
        }))
    }

    fn needs_append_only(&self) -> bool {
        true
    }

    fn merges_slices(&self) -> bool {
        self.slices.is_some()
    }

    fn bound(&self) -> Option<String> {
        let of = if self.slices.is_some() { "slice and group" } else { "group" };
        let buffered = ItemsetOptions::new(self.error, self.size_max).buffer_transactions();
        Some(format!(
            "{buffered} transactions, counted exactly, and at most {SETS_MAX} sets of up to {} items per {of}",
            self.size_max
        ))
    }
}

/// A summary per group.
struct Sets {
    spec: ItemsetMiner,
    converter: RowConverter,
    options: ItemsetOptions,
    groups: Groups<Itemsets>,
    slicer: Option<Slicer>,
}

/// What all answers hold, column by column.
#[derive(Default)]
struct Answers {
    /// Texts of the items of each set, and where each set ends. Rules have two columns of sets.
    sets: [SetColumn; 2],
    integers: [Vec<i64>; 5],
    guaranteed: Vec<bool>,
    shares: [Vec<f64>; 7],
    lengths: Vec<usize>,
}

#[derive(Default)]
struct SetColumn {
    texts: Vec<Box<[u8]>>,
    lengths: Vec<usize>,
}

impl SetColumn {
    fn push(&mut self, frequent: &Frequent, items: &[u32]) {
        self.lengths.push(items.len());
        self.texts.extend(items.iter().map(|item| frequent.items[*item as usize].clone()));
    }

    fn finish(self, converter: &RowConverter, item: &DataType) -> Result<ArrayRef, EvalError> {
        let parser = converter.parser();
        let rows = self.texts.iter().map(|text| parser.parse(text));
        let items = converter.convert_rows(rows)?.swap_remove(0);
        let field = Arc::new(Field::new_list_field(item.clone(), true));
        let lengths = OffsetBuffer::from_lengths(self.lengths);
        Ok(Arc::new(ListArray::try_new(field, lengths, items, None)?))
    }
}

impl Answers {
    fn push_sets(&mut self, frequent: &Frequent, support: Fraction) {
        let enough = support.share(Fraction::ZERO, frequent.transactions);
        for set in &frequent.sets {
            self.sets[0].push(frequent, &set.items);
            let size = set.items.len() as u64;
            let numbers = [size, set.lower, set.estimate, set.upper, frequent.transactions];
            for (column, number) in self.integers.iter_mut().zip(numbers) {
                column.push(i64::try_from(number).unwrap_or(i64::MAX));
            }
            self.guaranteed.push(set.lower >= enough);
        }
        self.lengths.push(frequent.sets.len());
    }

    fn push_rules(&mut self, frequent: &Frequent, rules: &[Rule]) {
        for rule in rules {
            self.sets[0].push(frequent, &rule.antecedent);
            self.sets[1].push(frequent, &rule.consequent);
            let (support, confidence) = (rule.support, rule.confidence);
            let shares = [
                support.lower,
                support.estimate,
                support.upper,
                confidence.lower,
                confidence.estimate,
                confidence.upper,
                rule.lift,
            ];
            self.shares.iter_mut().zip(shares).for_each(|(column, share)| column.push(share));
        }
        self.lengths.push(rules.len());
    }
}

impl Sets {
    fn answer(&self, frequent: &Frequent, answers: &mut Answers) {
        match self.spec.confidence {
            None => answers.push_sets(frequent, self.spec.support),
            Some(confidence) => answers.push_rules(frequent, &rules(frequent, confidence)),
        }
    }

    fn finish(&self, answers: Answers) -> Result<ArrayRef, EvalError> {
        let Answers { sets: [left, right], integers, guaranteed, shares, lengths } = answers;
        let mut columns = vec![left.finish(&self.converter, &self.spec.item)?];
        if self.spec.confidence.is_some() {
            columns.push(right.finish(&self.converter, &self.spec.item)?);
            columns.extend(shares.map(|share| Arc::new(Float64Array::from(share)) as ArrayRef));
        } else {
            let mut integers = integers.map(|n| Arc::new(Int64Array::from(n)) as ArrayRef).to_vec();
            integers.insert(4, Arc::new(BooleanArray::from(guaranteed)));
            columns.extend(integers);
        }
        let answers = StructArray::try_new(self.spec.fields(), columns, None)?;
        let field = Arc::new(Field::new_list_field(answers.data_type().clone(), true));
        let lengths = OffsetBuffer::from_lengths(lengths);
        Ok(Arc::new(ListArray::try_new(field, lengths, Arc::new(answers), None)?))
    }
}

impl Summaries for Sets {
    fn resize(&mut self, groups: usize) {
        self.groups.resize(groups);
    }

    fn update(&mut self, columns: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError> {
        let lists = arrow::compute::cast(&columns[0], &self.spec.set_type())?;
        let lists = lists.as_list::<i32>();
        let items = lists.values();
        let keys = self.converter.convert_columns(std::slice::from_ref(items))?;
        let nulls = items.logical_nulls();
        let is_item = |item: &usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*item));
        let offsets = lists.value_offsets();
        let slices = match (&self.slicer, columns.get(1)) {
            (Some(slicer), Some(times)) => slicer.starts(times)?,
            _ => Vec::new(),
        };
        let options = self.options;
        let mut retracts = false;
        rows.for_each(lists.nulls(), |row, group, times| {
            retracts |= times < 0;
            let range = offsets[row] as usize..offsets[row + 1] as usize;
            let slice = slices.get(row).copied().unwrap_or_default();
            let itemsets = self.groups[group].at(slice, &options);
            for _ in 0..times {
                itemsets.add(range.clone().filter(is_item).map(|item| keys.row(item).data()));
            }
        });
        if retracts { Err(cannot_retract(self.spec.name())) } else { Ok(()) }
    }

    fn merge(&mut self, group: usize, bytes: &[u8]) -> Result<(), EvalError> {
        let merged = self.groups[group].merge(bytes, &self.options);
        merged.ok_or_else(|| misfit("a summary of itemsets cannot be read"))
    }

    fn write(&self, group: usize, out: &mut Vec<u8>) {
        self.groups[group].write(out);
    }

    fn answers(&self, groups: &[usize]) -> Result<(ArrayRef, Vec<usize>), EvalError> {
        let (mut answers, mut failed) = (Answers::default(), Vec::new());
        for (position, &group) in groups.iter().enumerate() {
            match self.groups[group].merged().map(|sets| sets.frequent(self.spec.support)) {
                Some(Ok(frequent)) => self.answer(&frequent, &mut answers),
                Some(Err(_)) => {
                    failed.push(position);
                    answers.lengths.push(0);
                }
                None => answers.lengths.push(0),
            }
        }
        Ok((self.finish(answers)?, failed))
    }

    fn failure(&self) -> EvalError {
        let function = self.spec.name().to_uppercase();
        EvalError::TooLarge(format!(
            "{function} would know more than {SETS_MAX} sets, or answer with more than {ANSWERS_MAX}: raise SUPPORT or ERROR, or lower MAX_SIZE"
        ))
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
