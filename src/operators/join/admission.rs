//! Takes rows into their side: those that are late stay out, and the others get the numbers of their keys.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};

use super::side::NONE;
use super::{Chains, Join, Lot};
use crate::data::change::Change;
use crate::operators::lateness::{late_row, null_time};
use crate::operators::operator::{Emitter, EvalError};
use crate::windows::columns::event_times;

impl Join {
    /// Puts the rows of a change into its side, without matching them; leaves out those that are late.
    pub(super) fn admit(
        &mut self,
        port: usize,
        change: Change,
        out: &mut Emitter,
    ) -> Result<Option<Lot>, EvalError> {
        let (change, times) = match &self.spec.within {
            Some(within) => {
                let column = within.times[port];
                let times = event_times(change.batch.column(column))?;
                let (lateness, judges) = (within.allowed_lateness, !within.windows);
                let delay = within.delays[port];
                let mut keep = Vec::with_capacity(times.len());
                for row in 0..times.len() {
                    let limit = change.arrival(row).minus(delay).minus(lateness).0;
                    let late = judges && change.weight(row) > 0 && times.value(row) < limit;
                    if times.is_null(row) {
                        out.reject(null_time(&change, row, column));
                    } else if late {
                        out.late(late_row(&change, row, times.value(row), 1));
                    }
                    keep.push(times.is_valid(row) && !late);
                }
                if keep.iter().all(|&keep| keep) {
                    (change, Some(times.values().to_vec()))
                } else {
                    let kept = keep.iter().zip(times.values()).filter(|(keep, _)| **keep);
                    let kept = kept.map(|(_, time)| *time).collect();
                    (change.filter(&keep.into())?, Some(kept))
                }
            }
            None => (change, None),
        };
        if change.batch.num_rows() == 0 {
            return Ok(None);
        }
        let keys = self.numbers(port, &change)?;
        let first = self.sides[port].append(&change.batch, &keys, times.as_deref())?;
        Ok(Some(Lot { port, change, first }))
    }

    /// The number of each row's key, `NONE` where a null keeps it from matching anything.
    pub(super) fn numbers(&mut self, port: usize, change: &Change) -> Result<Vec<u32>, EvalError> {
        let column = |&(left, right): &(usize, usize)| -> ArrayRef {
            Arc::clone(change.batch.column(if port == 0 { left } else { right }))
        };
        let columns: Vec<ArrayRef> = self.spec.keys.iter().map(column).collect();
        let rows = change.batch.num_rows();
        let mut numbers = Vec::with_capacity(rows);
        let nulls = columns.iter().filter_map(|column| column.logical_nulls());
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0).collect::<Vec<_>>();
        if self.spec.nulls_match || nulls.is_empty() {
            self.keys.intern(&columns, rows, &mut numbers)?;
        } else {
            let valid: Vec<bool> =
                (0..rows).map(|row| nulls.iter().all(|nulls| nulls.is_valid(row))).collect();
            let mask = valid.clone().into();
            let whole = columns.iter().map(|column| arrow::compute::filter(column, &mask));
            let whole = whole.collect::<Result<Vec<_>, _>>()?;
            let mut found = Vec::new();
            let count = valid.iter().filter(|valid| **valid).count();
            self.keys.intern(&whole, count, &mut found)?;
            let mut found = found.into_iter();
            numbers.extend(valid.iter().map(|&valid| match valid {
                true => found.next().expect("each whole key has a number"),
                false => NONE,
            }));
        }
        self.chains.resize(self.keys.len(), Chains::EMPTY);
        self.look_up_promises()?;
        Ok(numbers)
    }
}
