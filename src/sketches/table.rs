//! Finds items by their hash: their numbers in a power of two of places, the next free one taken.
//!
//! Items that a summary lets go leave in one sweep, which numbers the others anew and fills the places
//! afresh; so no place is ever marked as deleted. A place is 16 bits wide in all but large tables: most
//! summaries hold few items, and there may be a summary for each of many groups.

use super::items::{Items, secret};

/// Fewer items than this are looked through one by one.
const FEW: usize = 8;
/// Up to so many places the number of an item fits in 16 bits, because half of them are free.
const NARROW_MAX: usize = 1 << 16;

/// Items that can be found.
#[derive(Debug, Clone)]
pub struct Table<I> {
    items: I,
    secret: u64,
    places: Places,
}

/// Number of an item plus one by place; 0 is free. Never more than half full, so a search ends.
#[derive(Debug, Clone)]
enum Places {
    /// The items are few.
    None,
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

impl Places {
    fn len(&self) -> usize {
        match self {
            Places::None => 0,
            Places::Narrow(places) => places.len(),
            Places::Wide(places) => places.len(),
        }
    }

    fn set(&mut self, place: usize, number: usize) {
        match self {
            Places::None => {}
            Places::Narrow(places) => places[place] = number as u16 + 1,
            Places::Wide(places) => places[place] = number as u32 + 1,
        }
    }

    /// So many places, all free.
    fn clear(&mut self, length: usize) {
        match self {
            Places::Narrow(places) if length <= NARROW_MAX => {
                places.clear();
                places.resize(length, 0);
            }
            Places::Wide(places) if length > NARROW_MAX => {
                places.clear();
                places.resize(length, 0);
            }
            other if length <= NARROW_MAX => *other = Places::Narrow(vec![0; length]),
            other => *other = Places::Wide(vec![0; length]),
        }
    }

    fn size(&self) -> usize {
        match self {
            Places::None => 0,
            Places::Narrow(places) => 2 * places.capacity(),
            Places::Wide(places) => 4 * places.capacity(),
        }
    }
}

impl<I: Items> Default for Table<I> {
    fn default() -> Table<I> {
        Table { items: I::default(), secret: secret(), places: Places::None }
    }
}

/// Where an item is, or where it would be.
enum Found {
    Item(usize),
    Free(usize),
}

impl<I: Items> Table<I> {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The item with a number.
    pub fn get(&self, number: usize) -> Option<I::Value<'_>> {
        self.items.get(number)
    }

    /// The number of an item, if it is there.
    pub fn find(&self, item: Option<I::Value<'_>>) -> Option<usize> {
        match self.search(item) {
            Found::Item(number) => Some(number),
            Found::Free(_) => None,
        }
    }

    #[inline]
    fn search(&self, item: Option<I::Value<'_>>) -> Found {
        match &self.places {
            Places::None => {
                let found = (0..self.items.len()).find(|&number| self.items.is(number, item));
                found.map_or(Found::Free(0), Found::Item)
            }
            Places::Narrow(places) => self.probe(places, item),
            Places::Wide(places) => self.probe(places, item),
        }
    }

    #[inline]
    fn probe<P: Copy + Into<u32>>(&self, places: &[P], item: Option<I::Value<'_>>) -> Found {
        let mask = places.len() - 1;
        let mut place = (I::hash(item, self.secret) >> 20) as usize & mask;
        loop {
            match places[place].into() {
                0 => return Found::Free(place),
                found if self.items.is(found as usize - 1, item) => {
                    return Found::Item(found as usize - 1);
                }
                _ => place = (place + 1) & mask,
            }
        }
    }

    /// The number of an item, and whether it was added just now.
    #[inline]
    pub fn find_or_insert(&mut self, item: Option<I::Value<'_>>) -> (usize, bool) {
        match self.search(item) {
            Found::Item(number) => (number, false),
            Found::Free(place) => (self.insert(item, place), true),
        }
    }

    fn insert(&mut self, item: Option<I::Value<'_>>, place: usize) -> usize {
        let number = self.items.len();
        assert!(number < u32::MAX as usize - 1, "a summary holds fewer than 2^32 items");
        self.items.push(item);
        if number >= FEW && 2 * (number + 1) > self.places.len() {
            self.spread((2 * (number + 1) + 1).next_power_of_two());
        } else {
            self.places.set(place, number);
        }
        number
    }

    /// Fills `length` places afresh.
    fn spread(&mut self, length: usize) {
        self.places.clear(length);
        match &mut self.places {
            Places::None => {}
            Places::Narrow(places) => fill(&self.items, self.secret, places, |n| n as u16),
            Places::Wide(places) => fill(&self.items, self.secret, places, |n| n as u32),
        }
    }

    /// Keeps the items with these numbers, which ascend.
    pub fn keep(&mut self, numbers: &[u32]) {
        if numbers.len() == self.items.len() {
            return;
        }
        self.items.keep(numbers);
        if self.places.len() > 0 {
            self.spread(self.places.len());
        }
    }

    /// Gives back memory that is not needed.
    pub fn shrink(&mut self) {
        let length = match self.items.len() {
            0..=FEW => 0,
            items => (2 * items + 2).next_power_of_two(),
        };
        if length < self.places.len() {
            self.places = Places::None;
            if length > 0 {
                self.spread(length);
            }
        }
    }

    /// Numbers of all items, in the order of the items.
    pub fn in_order(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..self.len() as u32).collect();
        numbers.sort_unstable_by(|&a, &b| I::order(self.get(a as usize), self.get(b as usize)));
        numbers
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        self.items.size() + self.places.size()
    }

    /// Writes all items in the order of their numbers.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.items.write(out);
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn read(from: &mut &[u8]) -> Option<Table<I>> {
        let items = I::read(from)?;
        let mut table = Table { items, ..Table::default() };
        if table.items.len() > FEW {
            table.spread((2 * table.items.len() + 2).next_power_of_two());
        }
        Some(table)
    }
}

/// Puts the number of each item, plus one, in the first free place from that of its hash.
#[inline]
fn fill<I: Items, P: Copy + Default + PartialEq>(
    items: &I,
    secret: u64,
    places: &mut [P],
    narrowed: impl Fn(usize) -> P,
) {
    let mask = places.len() - 1;
    for number in 0..items.len() {
        let mut place = (I::hash(items.get(number), secret) >> 20) as usize & mask;
        while places[place] != P::default() {
            place = (place + 1) & mask;
        }
        places[place] = narrowed(number + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sketches::items::{Numbers, Texts};

    fn check<I: Items>(all: &[Option<I::Value<'_>>]) {
        let mut table = Table::<I>::default();
        for (number, item) in all.iter().enumerate() {
            assert_eq!(table.find(*item), None);
            assert_eq!(table.find_or_insert(*item), (number, true));
            for (earlier, item) in all[..=number].iter().enumerate().rev().take(20) {
                assert_eq!(table.find(*item), Some(earlier));
            }
        }
        let kept: Vec<u32> = (0..all.len() as u32).filter(|number| number % 3 == 1).collect();
        table.keep(&kept);
        table.shrink();
        let mut bytes = Vec::new();
        table.write(&mut bytes);
        let read = Table::<I>::read(&mut bytes.as_slice()).unwrap();
        for (number, item) in all.iter().enumerate() {
            let wanted = kept.binary_search(&(number as u32)).ok();
            assert_eq!(table.find(*item), wanted);
            assert_eq!(read.find(*item), wanted);
        }
        for cut in 0..bytes.len() {
            assert!(Table::<I>::read(&mut &bytes[..cut]).is_none());
        }
    }

    #[test]
    fn items_are_found_until_they_are_let_go() {
        let numbers: Vec<Option<u64>> = (0..100).map(Some).chain([None, Some(u64::MAX)]).collect();
        check::<Numbers>(&numbers);
        check::<Numbers>(&[None, Some(0)]);
        let many: Vec<Option<u64>> = (0..40_000).map(|number| Some(number * number)).collect();
        let mut table = Table::<Numbers>::default();
        for (number, item) in many.iter().enumerate() {
            assert_eq!(table.find_or_insert(*item), (number, true));
        }
        assert!(matches!(table.places, Places::Wide(_)));
        for (number, item) in many.iter().enumerate() {
            assert_eq!(table.find(*item), Some(number));
        }
        let texts: Vec<String> = (0..200).map(|i| "x".repeat(i)).collect();
        let texts: Vec<Option<&[u8]>> =
            [None].into_iter().chain(texts.iter().map(|text| Some(text.as_bytes()))).collect();
        check::<Texts>(&texts);
    }
}
