//! Holds the counts of a summary's entries: 32 bits each while all of them fit, 64 once one does not.
//!
//! Room grows by a quarter and not by doubling: there may be thousands of small summaries, and what they
//! hold in reserve is what they cost.

use super::bytes;

/// Counts by entry.
#[derive(Debug, Clone)]
pub enum Counts {
    /// All are below 2³².
    Narrow(Vec<u32>),
    /// Some are not, or were not.
    Wide(Vec<u64>),
}

impl Default for Counts {
    fn default() -> Counts {
        Counts::Narrow(Vec::new())
    }
}

/// Appends with little room to spare.
#[inline]
pub(super) fn push_tightly<T>(values: &mut Vec<T>, value: T) {
    if values.len() == values.capacity() {
        make_room(values, 1);
    }
    values.push(value);
}

/// Makes room for `more` values, and for a quarter of what is there.
#[cold]
pub(super) fn make_room<T>(values: &mut Vec<T>, more: usize) {
    values.reserve_exact(more.max(values.len() / 4).max(4));
}

impl Counts {
    /// Number of entries.
    pub fn len(&self) -> usize {
        match self {
            Counts::Narrow(counts) => counts.len(),
            Counts::Wide(counts) => counts.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The count of an entry.
    #[inline]
    pub fn get(&self, entry: usize) -> u64 {
        match self {
            Counts::Narrow(counts) => u64::from(counts[entry]),
            Counts::Wide(counts) => counts[entry],
        }
    }

    /// Adds to the count of an entry.
    #[inline]
    pub fn add(&mut self, entry: usize, more: u64) {
        let sum = self.get(entry).saturating_add(more);
        match self {
            Counts::Narrow(counts) if sum <= u64::from(u32::MAX) => counts[entry] = sum as u32,
            Counts::Wide(counts) => counts[entry] = sum,
            Counts::Narrow(_) => self.set(entry, sum),
        }
    }

    /// Appends an entry.
    #[inline]
    pub fn push(&mut self, count: u64) {
        if let (Counts::Narrow(counts), Ok(count)) = (&mut *self, u32::try_from(count)) {
            push_tightly(counts, count);
            return;
        }
        push_tightly(self.widen(), count);
    }

    /// Replaces the count of an entry.
    pub fn set(&mut self, entry: usize, count: u64) {
        match (&mut *self, u32::try_from(count)) {
            (Counts::Narrow(counts), Ok(count)) => counts[entry] = count,
            _ => self.widen()[entry] = count,
        }
    }

    #[cold]
    fn widen(&mut self) -> &mut Vec<u64> {
        if let Counts::Narrow(counts) = self {
            *self = Counts::Wide(counts.iter().map(|&count| u64::from(count)).collect());
        }
        match self {
            Counts::Wide(counts) => counts,
            Counts::Narrow(_) => unreachable!("they were widened above"),
        }
    }

    /// Keeps the entries with these numbers, which ascend.
    pub fn keep(&mut self, entries: &[u32]) {
        match self {
            Counts::Narrow(counts) => keep(counts, entries),
            Counts::Wide(counts) => keep(counts, entries),
        }
    }

    /// All counts.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        (0..self.len()).map(|entry| self.get(entry))
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        match self {
            Counts::Narrow(counts) => 4 * counts.capacity(),
            Counts::Wide(counts) => 8 * counts.capacity(),
        }
    }

    /// Writes them, without their number.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|count| bytes::put(out, count));
    }

    /// Reads so many.
    pub fn read(from: &mut &[u8], length: usize) -> Option<Counts> {
        if length > from.len() {
            return None;
        }
        let mut counts = Counts::Narrow(Vec::with_capacity(length));
        for _ in 0..length {
            counts.push(bytes::take(from)?);
        }
        Some(counts)
    }
}

fn keep<T: Copy>(counts: &mut Vec<T>, entries: &[u32]) {
    for (place, &entry) in entries.iter().enumerate() {
        counts[place] = counts[entry as usize];
    }
    counts.truncate(entries.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_grow_beyond_32_bits_and_come_back() {
        let mut counts = Counts::default();
        for count in [1, 7, u64::from(u32::MAX)] {
            counts.push(count);
        }
        assert!(matches!(counts, Counts::Narrow(_)));
        counts.add(2, 1);
        counts.add(0, u64::MAX);
        counts.set(1, 9);
        counts.push(1 << 40);
        let all = [u64::MAX, 9, 1 << 32, 1 << 40];
        assert_eq!(counts.iter().collect::<Vec<_>>(), all);
        let mut written = Vec::new();
        counts.write(&mut written);
        let mut from = written.as_slice();
        let read = Counts::read(&mut from, 4).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), all);
        assert!(Counts::read(&mut &written[..3], 4).is_none());
        counts.keep(&[1, 3]);
        assert_eq!(counts.iter().collect::<Vec<_>>(), [9, 1 << 40]);
    }

    #[test]
    fn little_room_is_held_in_reserve() {
        let mut counts = Counts::default();
        (0..1_000).for_each(|count| counts.push(count));
        assert!(counts.size() <= 4 * 1_250, "{}", counts.size());
    }
}
