//! Says which rows of a join are due to leave, by event time.
//!
//! Times go into buckets of one width; only the bucket that the bound has come to is kept sorted. So a
//! row costs O(1) where buckets are passed as a whole, and rows come out in the order of (time, slot)
//! wherever the bounds stand.
//!
//! # State
//! A time and a slot per row, gone rows included until they are due or the side is packed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// Slots by time.
#[derive(Debug)]
pub(super) struct Expiry {
    granule: i64,
    /// Buckets above `front_bucket`.
    buckets: BTreeMap<i64, Vec<(i64, u32)>>,
    /// Rows of the bucket that was added to last, not yet in `buckets`.
    open: Vec<(i64, u32)>,
    open_bucket: i64,
    /// Rows of `front_bucket` and of those before it.
    front: BinaryHeap<Reverse<(i64, u32)>>,
    front_bucket: i64,
    rows: usize,
}

impl Expiry {
    pub(super) fn new(granule: i64) -> Expiry {
        assert!(granule > 0, "a bucket has a width");
        Expiry {
            granule,
            buckets: BTreeMap::new(),
            open: Vec::new(),
            open_bucket: i64::MIN,
            front: BinaryHeap::new(),
            front_bucket: i64::MIN,
            rows: 0,
        }
    }

    #[inline]
    pub(super) fn push(&mut self, time: i64, slot: u32) {
        self.rows += 1;
        let bucket = time.div_euclid(self.granule);
        if bucket <= self.front_bucket {
            self.front.push(Reverse((time, slot)));
            return;
        }
        if bucket != self.open_bucket {
            self.shut();
            self.open_bucket = bucket;
        }
        self.open.push((time, slot));
    }

    fn shut(&mut self) {
        if !self.open.is_empty() {
            self.buckets.entry(self.open_bucket).or_default().append(&mut self.open);
        }
    }

    /// Takes out the rows whose time is below `bound`, in the order of (time, slot) if that is wanted.
    pub(super) fn take_below(&mut self, bound: i64, sorted: bool) -> Vec<(i64, u32)> {
        let mut due = Vec::new();
        self.shut();
        self.open_bucket = i64::MIN;
        loop {
            while self.front.peek().is_some_and(|Reverse((time, _))| *time < bound) {
                due.extend(self.front.pop().map(|Reverse(row)| row));
            }
            let Some(entry) = self.buckets.first_entry().filter(|_| self.front.is_empty()) else {
                break;
            };
            let start = entry.key().saturating_mul(self.granule);
            if start >= bound {
                break;
            }
            let (bucket, mut rows) = entry.remove_entry();
            self.front_bucket = bucket;
            if start.saturating_add(self.granule) <= bound {
                if sorted {
                    rows.sort_unstable();
                }
                due.append(&mut rows);
            } else {
                self.front = rows.into_iter().map(Reverse).collect();
            }
        }
        self.rows -= due.len();
        due
    }

    /// Begins anew with these times, by slot.
    pub(super) fn rebuild(&mut self, times: &[i64]) {
        *self = Expiry::new(self.granule);
        for (slot, &time) in times.iter().enumerate() {
            self.push(time, slot as u32);
        }
    }

    pub(super) fn state_bytes(&self) -> usize {
        (self.rows + self.front.capacity() + self.open.capacity()) * size_of::<(i64, u32)>()
            + self.buckets.len() * 64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn rows_come_out_by_time_and_slot_below_the_bound(
            steps in prop::collection::vec((prop::collection::vec(-50i64..50, 0..6), -60i64..60), 0..30),
            granule in 1i64..20,
        ) {
            let mut expiry = Expiry::new(granule);
            let mut held: Vec<(i64, u32)> = Vec::new();
            let mut next = 0;
            for (times, bound) in steps {
                for time in times {
                    expiry.push(time, next);
                    held.push((time, next));
                    next += 1;
                }
                held.sort_unstable();
                let due = held.partition_point(|(time, _)| *time < bound);
                let expected: Vec<_> = held.drain(..due).collect();
                let mut found = expiry.take_below(bound, bound % 2 == 0);
                if bound % 2 != 0 {
                    found.sort_unstable();
                }
                prop_assert_eq!(found, expected);
            }
            prop_assert_eq!(expiry.rows, held.len());
        }
    }
}
