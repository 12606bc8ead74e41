//! Brings numbers into the order of their keys, the order of emissions.

use std::cmp::Ordering;

use arrow::array::{ArrayRef, make_comparator};
use arrow::compute::{self, SortOptions};

use super::{Index, KeyDictionary};
use crate::operators::operator::EvalError;

/// Ascending, nulls behind everything.
const ASCENDING: SortOptions = SortOptions { descending: false, nulls_first: false };

impl KeyDictionary {
    /// All numbers in the order of their keys, ascending, nulls last; and the place of each number
    /// in that order.
    pub fn ranking(&mut self) -> Result<(&[u32], &[u32]), EvalError> {
        self.rank_all()?;
        Ok((&self.order, &self.rank))
    }

    /// Sorts numbers by their keys, ascending, nulls last.
    pub fn sort_ids(&mut self, ids: &mut Vec<u32>) -> Result<(), EvalError> {
        if ids.len() < 2 {
            return Ok(());
        }
        self.rank_all()?;
        if ids.len() * 8 < self.len {
            ids.sort_unstable_by_key(|&id| self.rank[id as usize]);
            return Ok(());
        }
        // Most keys are asked for: walk all of them in order. Numbers asked for twice stay double.
        let mut wanted = vec![0_u32; self.len];
        for &id in ids.iter() {
            wanted[id as usize] += 1;
        }
        ids.clear();
        for &id in &self.order {
            ids.extend(std::iter::repeat_n(id, wanted[id as usize] as usize));
        }
        Ok(())
    }

    /// Brings `order` and `rank` up to date: sorts what is new and merges it in.
    fn rank_all(&mut self) -> Result<(), EvalError> {
        let known = self.order.len();
        if known == self.len {
            return Ok(());
        }
        if let Index::Single = self.index {
            self.order = vec![0];
        } else if let Index::Direct(direct) = &self.index
            && direct.span() <= 16 * self.len
        {
            direct.in_order(&mut self.order);
        } else {
            self.merge_new(known)?;
        }
        self.rank.resize(self.len, 0);
        for (rank, &id) in self.order.iter().enumerate() {
            self.rank[id as usize] = rank as u32;
        }
        Ok(())
    }

    /// Sorts the numbers from `known` on by their keys, and puts them among the others.
    fn merge_new(&mut self, known: usize) -> Result<(), EvalError> {
        let len = self.len;
        let columns = self.columns()?.to_vec();
        let compare = comparator(&columns)?;
        let new: Vec<u32> = match columns.as_slice() {
            [one] if !one.data_type().is_nested() => {
                let fresh = one.slice(known, len - known);
                let sorted = compute::sort_to_indices(&fresh, Some(ASCENDING), None)?;
                sorted.values().iter().map(|&i| i + known as u32).collect()
            }
            _ => {
                let mut all: Vec<u32> = (known as u32..len as u32).collect();
                all.sort_unstable_by(|&a, &b| compare(a as usize, b as usize));
                all
            }
        };
        let mut merged = Vec::with_capacity(len);
        let mut old = self.order.as_slice();
        let few = new.len() * 16 < old.len();
        for id in new {
            let is_less = |&o: &u32| compare(o as usize, id as usize).is_lt();
            let before = match few {
                true => old.partition_point(is_less),
                false => old.iter().take_while(|&o| is_less(o)).count(),
            };
            let (less, rest) = old.split_at(before);
            merged.extend_from_slice(less);
            merged.push(id);
            old = rest;
        }
        merged.extend_from_slice(old);
        self.order = merged;
        Ok(())
    }
}

/// Compares rows of key columns: ascending, nulls last.
pub fn comparator(columns: &[ArrayRef]) -> Result<impl Fn(usize, usize) -> Ordering, EvalError> {
    let comparators = columns
        .iter()
        .map(|column| make_comparator(column, column, ASCENDING))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(move |a, b| {
        let different = comparators.iter().map(|compare| compare(a, b));
        different.into_iter().find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
    })
}
