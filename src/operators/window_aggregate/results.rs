//! Reads the results of a slice's groups, and finds those that do not fit their type.

use arrow::array::{ArrayRef, Int64Array};

use super::input::Aggregates;
use super::slice::Slice;
use crate::operators::operator::EvalError;

/// What a window shows.
#[derive(Default)]
pub(super) struct Results {
    /// Keys of the dictionary.
    pub(super) ids: Vec<u32>,
    /// A column per aggregate, one row per key.
    pub(super) columns: Vec<ArrayRef>,
    /// Keys that are left out: their results do not fit the type.
    pub(super) failed: Option<Failed>,
}

/// Why keys of a window are left out.
pub(super) struct Failed {
    /// What is wrong with the first of them.
    pub(super) error: EvalError,
    pub(super) first: u32,
    /// How many there are.
    pub(super) keys: usize,
}

impl Slice {
    /// The results of the groups asked for, which have these keys. Keys whose results do not fit
    /// their type are left out.
    pub(super) fn read(
        &mut self,
        aggregates: &Aggregates,
        ids: Vec<u32>,
        groups: &[u32],
        last: bool,
    ) -> Result<Results, EvalError> {
        match self.columns(aggregates, groups, last) {
            Ok(columns) => Ok(Results { ids, columns, failed: None }),
            Err(error) if error.is_of_one_group() => self.read_one_by_one(aggregates, &ids, groups),
            Err(error) => Err(error),
        }
    }

    /// A column per aggregate, one row per group asked for.
    fn columns(
        &mut self,
        aggregates: &Aggregates,
        groups: &[u32],
        last: bool,
    ) -> Result<Vec<ArrayRef>, EvalError> {
        let rows = groups.iter().map(|&group| self.rows[group as usize]);
        let rows = Int64Array::from_iter_values(rows);
        let all = self.open(aggregates)?;
        // Those that can fail go first and keep what they hold, for a second look.
        let mut columns: Vec<Option<ArrayRef>> = vec![None; all.len()];
        for (column, aggregate) in columns.iter_mut().zip(all.iter_mut()) {
            if aggregate.can_overflow() {
                *column = Some(aggregate.evaluate_of(groups)?);
            }
        }
        for (column, aggregate) in columns.iter_mut().zip(all) {
            if column.is_none() {
                *column = Some(match last {
                    true => aggregate.take_of(groups)?,
                    false => aggregate.evaluate_of(groups)?,
                });
            }
        }
        Ok(aggregates.in_place(columns.into_iter().flatten().collect(), rows))
    }

    /// The same group by group, to find those whose results do not fit.
    fn read_one_by_one(
        &mut self,
        aggregates: &Aggregates,
        ids: &[u32],
        groups: &[u32],
    ) -> Result<Results, EvalError> {
        let (mut kept_ids, mut kept, mut failed) = (Vec::new(), Vec::new(), None);
        for (&id, &group) in ids.iter().zip(groups) {
            match self.columns(aggregates, &[group], false) {
                Ok(_) => {
                    kept_ids.push(id);
                    kept.push(group);
                }
                Err(error) if error.is_of_one_group() => {
                    let failed = failed.get_or_insert(Failed { error, first: id, keys: 0 });
                    failed.keys += 1;
                }
                Err(error) => return Err(error),
            }
        }
        let columns = self.columns(aggregates, &kept, false)?;
        Ok(Results { ids: kept_ids, columns, failed })
    }
}
