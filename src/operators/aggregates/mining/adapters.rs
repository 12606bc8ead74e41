//! Puts a miner's summaries behind the two contracts of aggregates: in windows, and without one.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};

use super::{Miner, Summaries, state_column};
use crate::error::Report;
use crate::operators::aggregates::accumulator::{GroupedAggregate, Rows};
use crate::operators::aggregates::fold::{Evaluated, Fold, FoldRows};
use crate::operators::operator::EvalError;
use crate::operators::portions::Chosen;
use crate::operators::state::{StateReader, StateWriter, misfit};

/// A miner in windows.
pub(in super::super) struct MiningAggregate {
    miner: Arc<dyn Miner>,
    summaries: Box<dyn Summaries>,
    group_count: usize,
}

impl MiningAggregate {
    pub(in super::super) fn new(miner: Arc<dyn Miner>) -> Result<MiningAggregate, EvalError> {
        Ok(MiningAggregate { summaries: miner.summaries()?, miner, group_count: 0 })
    }

    fn grow(&mut self, group_count: usize) {
        self.group_count = self.group_count.max(group_count);
        self.summaries.resize(self.group_count);
    }

    fn empty(&mut self) -> Result<(), EvalError> {
        *self = MiningAggregate::new(Arc::clone(&self.miner))?;
        Ok(())
    }

    fn answers(&self, groups: &[usize]) -> Result<ArrayRef, EvalError> {
        let (answers, failed) = self.summaries.answers(groups)?;
        if failed.is_empty() {
            return Ok(answers);
        }
        Err(self.summaries.failure())
    }
}

impl GroupedAggregate for MiningAggregate {
    fn update(&mut self, values: &[ArrayRef], rows: &Rows<'_>) -> Result<(), EvalError> {
        self.grow(rows.group_count);
        self.summaries.update(values, rows)
    }

    fn merge(
        &mut self,
        state: &[ArrayRef],
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), EvalError> {
        self.grow(group_count);
        let [summaries] = state else {
            return Err(EvalError::Broken("a summary's state has one column".to_owned()));
        };
        for (bytes, &group) in summaries.as_binary::<i32>().iter().zip(groups) {
            self.summaries.merge(group as usize, bytes.unwrap_or_default())?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        Ok(vec![state_column(self.summaries.as_ref(), 0..self.group_count)])
    }

    fn state_of(&mut self, groups: &[u32]) -> Result<Vec<ArrayRef>, EvalError> {
        let groups = groups.iter().map(|&group| group as usize);
        Ok(vec![state_column(self.summaries.as_ref(), groups)])
    }

    fn take_state(&mut self) -> Result<Vec<ArrayRef>, EvalError> {
        let state = self.state()?;
        self.empty()?;
        Ok(state)
    }

    fn evaluate(&mut self) -> Result<ArrayRef, EvalError> {
        let answers = self.answers(&(0..self.group_count).collect::<Vec<_>>())?;
        self.empty()?;
        Ok(answers)
    }

    fn take_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        let answers = self.evaluate_of(groups)?;
        self.empty()?;
        Ok(answers)
    }

    fn evaluate_of(&mut self, groups: &[u32]) -> Result<ArrayRef, EvalError> {
        self.answers(&groups.iter().map(|&group| group as usize).collect::<Vec<_>>())
    }

    fn can_overflow(&self) -> bool {
        true
    }

    fn group_count(&self) -> usize {
        self.group_count
    }

    fn size(&self) -> usize {
        self.summaries.size()
    }
}

/// A miner without a window.
pub(in super::super) struct MiningFold {
    summaries: Box<dyn Summaries>,
    group_count: usize,
}

impl MiningFold {
    pub(in super::super) fn new(miner: &Arc<dyn Miner>) -> Result<MiningFold, EvalError> {
        Ok(MiningFold { summaries: miner.summaries()?, group_count: 0 })
    }
}

impl Fold for MiningFold {
    fn resize(&mut self, groups: usize) {
        self.group_count = groups;
        self.summaries.resize(groups);
    }

    fn update(&mut self, rows: &FoldRows<'_>) -> Result<(), EvalError> {
        let groups: Vec<u32> = rows.groups.iter().map(|&group| group as u32).collect();
        let rows_of = Rows {
            groups: &groups,
            group_count: self.group_count,
            filter: rows.included,
            weights: rows.weights,
        };
        self.summaries.update(rows.arguments, &rows_of)
    }

    fn evaluate(&mut self, groups: &[usize]) -> Result<Evaluated, EvalError> {
        let (values, failed) = self.summaries.answers(groups)?;
        let failure = self.summaries.failure();
        let reason = |at| (at, failure.code(), failure.to_string());
        Ok(Evaluated { values, failed: failed.into_iter().map(reason).collect() })
    }

    fn is_empty(&self, group: usize) -> bool {
        self.summaries.is_empty(group)
    }

    fn clear(&mut self, group: usize) {
        self.summaries.clear(group);
    }

    fn keep(&mut self, groups: &[usize]) {
        self.group_count = groups.len();
        self.summaries.keep(groups);
    }

    fn bytes(&self) -> usize {
        self.summaries.size()
    }

    fn save(&mut self, chosen: &Chosen, out: &mut StateWriter) -> Result<(), EvalError> {
        let groups = chosen.to_vec().into_iter();
        out.columns(&[state_column(self.summaries.as_ref(), groups)])
    }

    fn restore(&mut self, chosen: &Chosen, from: &mut StateReader<'_>) -> Result<(), EvalError> {
        let columns = from.columns()?;
        let states: Option<&BinaryArray> = columns.first().and_then(|c| c.as_binary_opt());
        let states = states.filter(|states| states.len() == chosen.len());
        let states = states.ok_or_else(|| misfit("a summary is missing"))?;
        for (group, bytes) in chosen.to_vec().into_iter().zip(states) {
            Fold::clear(self, group);
            self.summaries.merge(group, bytes.unwrap_or_default())?;
        }
        Ok(())
    }
}
