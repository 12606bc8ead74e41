//! Remembers what one input has promised and another input has not, for operators of several inputs.
//!
//! Most promises name values of one column. They stand in a set per column, in order: one is found, added
//! and taken out in the time of a look-up, however many wait, and a range finds those that it speaks of.
//! All others, ranges and those of several columns, are looked through one by one.
//!
//! # State
//! At most [`VALUES_MAX`] values per column and [`PATTERNS_MAX`] other promises. Beyond that the oldest are
//! forgotten, of values the older half at once: that costs state, never an answer. What is forgotten depends
//! on nothing but the promises that came, over a restart, too.
//!
//! In a snapshot all are punctuations: the values of a column are one, a pair where there are older ones, with
//! one that names no value between the two.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use datafusion::scalar::ScalarValue;

use crate::data::punctuation::{Pattern, Punctuation, beyond};
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// Values of a column that wait at most.
const VALUES_MAX: usize = if cfg!(test) { 4_096 } else { 1 << 20 };
/// Other promises that wait at most.
const PATTERNS_MAX: usize = 1_024;

/// The promises of one input.
#[derive(Debug, Default)]
pub struct WaitingPromises {
    /// By the only column that they name.
    values: BTreeMap<String, Values>,
    patterns: VecDeque<Punctuation>,
}

/// Values of a column. The young ones become the old ones, which go, when they are half of what may wait.
#[derive(Debug, Default)]
struct Values {
    old: Generation,
    young: Generation,
}

#[derive(Debug, Default)]
struct Generation {
    values: BTreeSet<Placed>,
    /// Bytes that the values hold beyond themselves.
    bytes: usize,
}

/// A value that has a place in an order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Placed(ScalarValue);

impl Placed {
    /// Lists and structs are not compared by all who compare values.
    fn of(value: &ScalarValue) -> Option<Placed> {
        (!value.data_type().is_nested()).then(|| Placed(value.clone()))
    }

    fn bytes(&self) -> usize {
        beyond(&self.0)
    }
}

impl Ord for Placed {
    fn cmp(&self, other: &Placed) -> Ordering {
        // Values of one column have one type, so they compare.
        let types = || self.0.data_type().to_string().cmp(&other.0.data_type().to_string());
        self.0.partial_cmp(&other.0).unwrap_or_else(types)
    }
}

impl PartialOrd for Placed {
    fn partial_cmp(&self, other: &Placed) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Generation {
    fn add(&mut self, value: Placed) {
        let bytes = value.bytes();
        if self.values.insert(value) {
            self.bytes += bytes;
        }
    }

    fn remove(&mut self, value: &Placed) {
        if let Some(gone) = self.values.take(value) {
            self.bytes -= gone.bytes();
        }
    }

    fn matching(&self, pattern: &Pattern) -> Vec<Placed> {
        let (low, high) = match pattern {
            Pattern::OneOf(values) => {
                let placed = values.iter().filter_map(Placed::of);
                return placed.filter(|value| self.values.contains(value)).collect();
            }
            Pattern::Range { low, high } => (low, high),
        };
        let side = |bound: &Option<(ScalarValue, bool)>| match bound {
            None => Some(Bound::Unbounded),
            Some((bound, true)) => Some(Bound::Included(Placed::of(bound)?)),
            Some((bound, false)) => Some(Bound::Excluded(Placed::of(bound)?)),
        };
        let (Some(low), Some(high)) = (side(low), side(high)) else { return Vec::new() };
        if let (Bound::Included(a) | Bound::Excluded(a), Bound::Included(b) | Bound::Excluded(b)) =
            (&low, &high)
            && a >= b
            && !(a == b && matches!((&low, &high), (Bound::Included(_), Bound::Included(_))))
        {
            return Vec::new();
        }
        let within = self.values.range((low, high));
        within.filter(|value| pattern.matches(&value.0)).cloned().collect()
    }
}

impl Values {
    fn add(&mut self, value: Placed) {
        if self.contains(&value) {
            return;
        }
        if self.young.values.len() == VALUES_MAX / 2 {
            self.age();
        }
        self.young.add(value);
    }

    /// Forgets the old ones and takes the young ones for old.
    fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
    }

    fn contains(&self, value: &Placed) -> bool {
        self.old.values.contains(value) || self.young.values.contains(value)
    }

    fn remove(&mut self, value: &Placed) {
        self.old.remove(value);
        self.young.remove(value);
    }

    fn matching(&self, pattern: &Pattern) -> Vec<Placed> {
        let mut found = self.old.matching(pattern);
        found.extend(self.young.matching(pattern));
        found
    }

    fn len(&self) -> usize {
        self.old.values.len() + self.young.values.len()
    }
}

/// All values.
const ANY: Pattern = Pattern::Range { low: None, high: None };

impl WaitingPromises {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.patterns.is_empty()
    }

    /// What a promise of another input says that this input has promised, too.
    pub fn shared(&self, promise: &Punctuation) -> Vec<Punctuation> {
        if let [(column, Pattern::OneOf(values))] = promise.columns.as_slice() {
            let several = self.patterns.iter().filter(|waiting| waiting.columns.len() > 1);
            let mut shared = promise.and_any(several);
            let made = values.iter().filter(|value| self.has(column, value));
            shared.extend(of_values(&[], column, made.cloned().collect()));
            return shared;
        }
        let mut shared = promise.and_any(&self.patterns);
        for (column, values) in &self.values {
            let pattern = match promise.pattern(column) {
                Some(pattern) => pattern,
                None if promise.columns.is_empty() => &ANY,
                None => continue,
            };
            let both = values.matching(pattern).into_iter().map(|value| value.0).collect();
            shared.extend(of_values(&promise.columns, column, both));
        }
        shared
    }

    /// Whether no row with this value of a column comes any more.
    fn has(&self, column: &str, value: &ScalarValue) -> bool {
        let is_placed = |values: &Values| Placed::of(value).is_some_and(|v| values.contains(&v));
        let says = |(name, pattern): &(String, Pattern)| name == column && pattern.matches(value);
        self.values.get(column).is_some_and(is_placed)
            || self.patterns.iter().any(|waiting| waiting.columns.iter().all(says))
    }

    /// Whether no row comes any more that has these values of columns.
    pub fn covers<'a>(&self, value_of: impl Fn(&str) -> Option<&'a ScalarValue>) -> bool {
        let by_value = |(column, values): (&String, &Values)| {
            let value = value_of(column).and_then(Placed::of);
            value.is_some_and(|value| values.contains(&value))
        };
        let says = |(column, pattern): &(String, Pattern)| {
            value_of(column).is_some_and(|value| pattern.matches(value))
        };
        self.values.iter().any(by_value)
            || self.patterns.iter().any(|waiting| waiting.columns.iter().all(says))
    }

    /// Lets a promise wait.
    pub fn hold(&mut self, promise: &Punctuation) {
        if let [(column, Pattern::OneOf(values))] = promise.columns.as_slice() {
            let new = values.iter().filter(|value| !value.is_null() && !self.has(column, value));
            let new: Vec<ScalarValue> = new.cloned().collect();
            let (placed, others): (Vec<_>, Vec<_>) =
                new.into_iter().partition(|value| !value.data_type().is_nested());
            if !placed.is_empty() {
                let waiting = self.values.entry(column.clone()).or_default();
                placed.into_iter().for_each(|value| waiting.add(Placed(value)));
            }
            of_values(&[], column, others).into_iter().for_each(|other| self.hold_pattern(other));
        } else if !self.patterns.iter().any(|waiting| waiting.covers(promise)) {
            self.release(promise);
            self.hold_pattern(promise.clone());
        }
    }

    fn hold_pattern(&mut self, promise: Punctuation) {
        if self.patterns.len() == PATTERNS_MAX {
            self.patterns.pop_front();
        }
        self.patterns.push_back(promise);
    }

    /// Forgets what a promise says that every input has made.
    pub fn release(&mut self, said: &Punctuation) {
        self.patterns.retain(|waiting| !said.covers(waiting));
        let released = |column: &String, values: &mut Values| {
            let pattern = match said.columns.as_slice() {
                [] => &ANY,
                [(name, pattern)] if name == column => pattern,
                _ => return,
            };
            values.matching(pattern).iter().for_each(|value| values.remove(value));
        };
        self.values.retain(|column, values| {
            released(column, values);
            values.len() > 0
        });
    }

    /// How many promises wait: each value is one.
    pub fn len(&self) -> usize {
        self.patterns.len() + self.values.values().map(Values::len).sum::<usize>()
    }

    /// Bytes of state.
    pub fn state_bytes(&self) -> usize {
        let values = |values: &Values| {
            values.len() * size_of::<ScalarValue>() + values.old.bytes + values.young.bytes
        };
        let patterns = self.patterns.iter().map(Punctuation::bytes_beyond).sum::<usize>();
        self.values.values().map(values).sum::<usize>()
            + self.patterns.len() * size_of::<Punctuation>()
            + patterns
    }
}

/// A promise of values of a column beside what it says of others; none without values.
fn of_values(
    others: &[(String, Pattern)],
    column: &str,
    values: Vec<ScalarValue>,
) -> Option<Punctuation> {
    if values.is_empty() {
        return None;
    }
    let others = others.iter().filter(|(name, _)| name != column).cloned();
    let columns = others.chain([(column.to_owned(), Pattern::OneOf(values))]).collect();
    Some(Punctuation { columns })
}

impl Stored for WaitingPromises {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        let mut all: VecDeque<Punctuation> = VecDeque::new();
        for (column, values) in &self.values {
            let mut put = |generation: &Generation| {
                let values = generation.values.iter().map(|value| value.0.clone()).collect();
                let columns = vec![(column.clone(), Pattern::OneOf(values))];
                all.push_back(Punctuation { columns });
            };
            if !values.old.values.is_empty() {
                put(&values.old);
                put(&Generation::default());
            }
            put(&values.young);
        }
        all.extend(self.patterns.iter().cloned());
        out.put(&all)
    }

    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let mut waiting = WaitingPromises::default();
        let all: VecDeque<Punctuation> = from.get()?;
        for promise in all {
            match promise.columns.as_slice() {
                [(column, Pattern::OneOf(values))] if values.is_empty() => {
                    if let Some(values) = waiting.values.get_mut(column) {
                        values.age();
                    }
                }
                [(_, Pattern::OneOf(_))] => waiting.hold(&promise),
                _ => waiting.hold_pattern(promise),
            }
        }
        Ok(waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(low: i64, high: i64) -> Pattern {
        let bound = |value: i64, included| Some((ScalarValue::from(value), included));
        Pattern::Range { low: bound(low, true), high: bound(high, false) }
    }

    fn one_of(values: impl IntoIterator<Item = i64>) -> Pattern {
        Pattern::OneOf(values.into_iter().map(ScalarValue::from).collect())
    }

    fn promise(columns: &[(&str, Pattern)]) -> Punctuation {
        let columns = columns.iter().map(|(name, pattern)| ((*name).to_owned(), pattern.clone()));
        Punctuation { columns: columns.collect() }
    }

    fn restored(waiting: &WaitingPromises) -> WaitingPromises {
        let mut out = StateWriter::default();
        out.put(waiting).unwrap();
        let bytes = out.finish();
        let mut from = StateReader::new(&bytes);
        let restored = from.get().unwrap();
        from.end().unwrap();
        restored
    }

    #[test]
    fn values_wait_in_thousands_and_go_once_they_are_released() {
        let mut waiting = WaitingPromises::default();
        for k in 0..1_500 {
            waiting.hold(&promise(&[("k", one_of([k]))]));
        }
        let mut waiting = restored(&waiting);
        assert_eq!(waiting.len(), 1_500);
        for k in 0..1_500 {
            let promise = promise(&[("k", one_of([k]))]);
            assert_eq!(waiting.shared(&promise), std::slice::from_ref(&promise));
            waiting.release(&promise);
        }
        assert!(waiting.is_empty() && waiting.state_bytes() == 0);
    }

    #[test]
    fn the_older_half_is_forgotten_when_there_are_too_many_also_after_a_restart() {
        let (mut waiting, mut other) = (WaitingPromises::default(), WaitingPromises::default());
        let half = VALUES_MAX as i64 / 2;
        for k in 0..5 * half / 2 {
            waiting.hold(&promise(&[("k", one_of([k]))]));
            other.hold(&promise(&[("k", one_of([k]))]));
            if k % 1_500 == 0 {
                other = restored(&other);
            }
        }
        assert_eq!(waiting.len() as i64, 3 * half / 2);
        let all = promise(&[("k", range(i64::MIN, i64::MAX))]);
        assert_eq!(waiting.shared(&all), [promise(&[("k", one_of(half..5 * half / 2))])]);
        assert_eq!(other.shared(&all), waiting.shared(&all));
        assert_eq!(other.state_bytes(), waiting.state_bytes());
    }

    #[test]
    fn other_promises_are_bounded() {
        let mut waiting = WaitingPromises::default();
        for k in 0..3_000 {
            waiting.hold(&promise(&[("k", one_of([k])), ("v", one_of([0]))]));
        }
        assert_eq!(waiting.len(), PATTERNS_MAX);
    }

    #[test]
    fn ranges_and_values_meet() {
        let mut waiting = WaitingPromises::default();
        waiting.hold(&promise(&[("k", one_of([1, 5, 9]))]));
        waiting.hold(&promise(&[("k", range(20, 30))]));
        let shared = |waiting: &WaitingPromises, columns: &[(&str, Pattern)]| {
            waiting.shared(&promise(columns))
        };
        let five = promise(&[("k", one_of([5]))]);
        assert_eq!(shared(&waiting, &[("k", range(5, 9))]), [five]);
        assert_eq!(shared(&waiting, &[("k", one_of([2, 25]))]), [promise(&[("k", one_of([25]))])]);
        assert_eq!(shared(&waiting, &[("k", range(9, 5))]), []);
        assert_eq!(shared(&waiting, &[("k", range(5, 5))]), []);
        let parts = [promise(&[("k", range(20, 22))]), promise(&[("k", one_of([9]))])];
        assert_eq!(shared(&waiting, &[("k", range(9, 22))]), parts);
        waiting.hold(&promise(&[("k", range(0, 6))]));
        assert_eq!(waiting.len(), 3, "the range says what two of the values did");
        let k = |k: i64| {
            let k = ScalarValue::from(k);
            waiting.covers(|name| (name == "k").then_some(&k))
        };
        assert_eq!(
            [0, 5, 6, 9, 19, 20, 29, 30].map(k),
            [true, true, false, true, false, true, true, false]
        );
    }

    #[test]
    fn promises_of_other_columns_share_no_more_than_what_both_say() {
        let mut waiting = WaitingPromises::default();
        waiting.hold(&promise(&[("v", range(4, 9))]));
        waiting.hold(&promise(&[("w", one_of([1]))]));
        waiting.hold(&promise(&[("k", one_of([5])), ("v", one_of([3]))]));
        let both = promise(&[("k", one_of([5])), ("v", one_of([3]))]);
        assert_eq!(waiting.shared(&promise(&[("k", one_of([5, 6]))])), [both]);
        let one = promise(&[("k", one_of([6])), ("w", range(0, 2))]);
        let shared = waiting.shared(&one);
        assert_eq!(shared, [promise(&[("k", one_of([6])), ("w", one_of([1]))])]);
        assert_eq!(waiting.shared(&promise(&[])).len(), 3);
        waiting.release(&promise(&[]));
        assert!(waiting.is_empty());
    }
}
