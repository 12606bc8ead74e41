//! Numbers integers that lie close together: the value is the place in a table.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute;
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};

use super::Numbers;
use crate::operators::operator::EvalError;

/// Marks an integer that is no key.
const NONE: u32 = u32::MAX;
/// The largest table, in entries.
const SPAN_MAX: i128 = 1 << 24;

/// A table from integer to number, for integers within a span not much larger than their number.
#[derive(Default)]
pub(super) struct DirectIndex {
    /// The integer of the first entry.
    base: i64,
    /// Number of each integer from `base` on, [`NONE`] where there is none.
    table: Vec<u32>,
    /// Number of the null key.
    null: Option<u32>,
}

impl DirectIndex {
    pub(super) fn supports(data_type: &DataType) -> bool {
        matches!(data_type, DataType::Int64 | DataType::Int32 | DataType::Int16)
    }

    /// The least and the greatest of these keys, if they are integers.
    pub(super) fn ends_of(keys: &ArrayRef) -> Option<(i64, i64)> {
        fn ends<T: ArrowPrimitiveType>(keys: &ArrayRef) -> Option<(i64, i64)>
        where
            T::Native: Into<i64>,
        {
            let keys = keys.as_primitive::<T>();
            Some((compute::min(keys)?.into(), compute::max(keys)?.into()))
        }
        match keys.data_type() {
            DataType::Int64 => ends::<Int64Type>(keys),
            DataType::Int32 => ends::<Int32Type>(keys),
            DataType::Int16 => ends::<Int16Type>(keys),
            _ => None,
        }
    }

    /// Whether a table for so many keys may reach from the least to the greatest.
    pub(super) fn reaches((least, greatest): (i64, i64), keys: usize) -> bool {
        let span = i128::from(greatest) - i128::from(least) + 1;
        span <= SPAN_MAX && span <= 4_096.max(64 * keys as i128)
    }

    /// Entries of the table.
    pub(super) fn span(&self) -> usize {
        self.table.len()
    }

    pub(super) fn size(&self) -> usize {
        self.table.capacity() * size_of::<u32>()
    }

    /// All numbers in the order of their keys, null last.
    pub(super) fn in_order(&self, order: &mut Vec<u32>) {
        order.clear();
        order.extend(self.table.iter().copied().filter(|&id| id != NONE));
        order.extend(self.null);
    }

    /// Numbers the rows, or returns false when the keys lie too far apart; then this index and the
    /// numbers are of no use any more.
    pub(super) fn intern(
        &mut self,
        keys: &ArrayRef,
        numbers: &mut Numbers<'_>,
    ) -> Result<bool, EvalError> {
        match keys.data_type() {
            DataType::Int64 => Ok(self.intern_typed(keys.as_primitive::<Int64Type>(), numbers)),
            DataType::Int32 => Ok(self.intern_typed(keys.as_primitive::<Int32Type>(), numbers)),
            DataType::Int16 => Ok(self.intern_typed(keys.as_primitive::<Int16Type>(), numbers)),
            other => Err(EvalError::Broken(format!("a key column changed its type to {other}"))),
        }
    }

    fn intern_typed<T>(&mut self, keys: &PrimitiveArray<T>, numbers: &mut Numbers<'_>) -> bool
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64>,
    {
        let rows = keys.len();
        numbers.ids.resize(rows, NONE);
        if keys.null_count() > 0 {
            return self.intern_nullable(keys, numbers);
        }
        let values = keys.values();
        let mut row = self.known(values, 0, numbers);
        while row < rows {
            // A key beyond the table: make it reach to all that are left.
            let (mut least, mut greatest) = (i64::MAX, i64::MIN);
            for &key in &values[row..] {
                (least, greatest) = (least.min(key.into()), greatest.max(key.into()));
            }
            if !self.cover(least, greatest, numbers.next as usize + rows) {
                return false;
            }
            row = self.known(values, row, numbers);
        }
        true
    }

    /// Numbers the rows from `from` on up to the first whose key lies beyond the table; gives its row.
    fn known<N: Copy + Into<i64>>(
        &mut self,
        keys: &[N],
        from: usize,
        numbers: &mut Numbers<'_>,
    ) -> usize {
        let base = self.base;
        let table = self.table.as_mut_slice();
        let mut ids = std::mem::take(numbers.ids);
        let mut end = keys.len();
        for (row, (id, &key)) in ids[from..].iter_mut().zip(&keys[from..]).enumerate() {
            let key: i64 = key.into();
            // Below the base the difference wraps to something larger than any table.
            let Some(entry) = table.get_mut(key.wrapping_sub(base) as u64 as usize) else {
                end = from + row;
                break;
            };
            if *entry == NONE {
                *entry = numbers.give(from + row);
            }
            *id = *entry;
        }
        *numbers.ids = ids;
        end
    }

    fn intern_nullable<T>(&mut self, keys: &PrimitiveArray<T>, numbers: &mut Numbers<'_>) -> bool
    where
        T: ArrowPrimitiveType,
        T::Native: Into<i64>,
    {
        if let (Some(least), Some(greatest)) = (compute::min(keys), compute::max(keys))
            && !self.cover(least.into(), greatest.into(), numbers.next as usize + keys.len())
        {
            return false;
        }
        for (row, key) in keys.iter().enumerate() {
            let id = match key {
                Some(key) => {
                    let entry = &mut self.table[key.into().wrapping_sub(self.base) as usize];
                    if *entry == NONE {
                        *entry = numbers.give(row);
                    }
                    *entry
                }
                None => *self.null.get_or_insert_with(|| numbers.give(row)),
            };
            numbers.ids[row] = id;
        }
        true
    }

    /// Makes the table reach from `least` to `greatest`, unless that is too far.
    fn cover(&mut self, least: i64, greatest: i64, keys: usize) -> bool {
        let (mut low, mut high) = (i128::from(least), i128::from(greatest) + 1);
        if !self.table.is_empty() {
            let base = i128::from(self.base);
            low = low.min(base);
            high = high.max(base + self.table.len() as i128);
        }
        let span = high - low;
        if span == self.table.len() as i128 {
            return true;
        }
        if !Self::reaches((low as i64, (high - 1) as i64), keys) {
            return false;
        }
        // Keys often grow row by row: half as much room again, on the side that grows, keeps the
        // copying in proportion. Below, it must not reach beyond the least integer.
        let old_length = self.table.len();
        let (mut below, mut above) = (0, 0);
        if old_length > 0 {
            let room = (span / 2).min(SPAN_MAX - span);
            let grows_down = low < i128::from(self.base);
            below = (i128::from(self.base) - low) as usize;
            if grows_down {
                let room = room.min(low - i128::from(i64::MIN));
                low -= room;
                below += room as usize;
            } else {
                above = room as usize;
            }
        }
        let mut table = vec![NONE; (high - low) as usize + above];
        table[below..below + old_length].copy_from_slice(&self.table);
        (self.base, self.table) = (low as i64, table);
        true
    }
}
