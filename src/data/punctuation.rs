//! States a promise about a stream: no later row matches the pattern.
//!
//! A pattern has one entry per constrained column; columns that are absent match anything. A
//! watermark is the punctuation `at < t`.
//!
//! Within a query columns may share a name: those of a join do. A promise calls the first one by its name and
//! the others by name and place ([`name_at`], [`column_named`]), so none is taken for another.
//! Source: Tucker, Maier, Sheard, Fegaras, "Exploiting punctuation semantics in continuous data
//! streams", TKDE 2003.

use std::cmp::Ordering;

use arrow::datatypes::Schema;
use datafusion::scalar::ScalarValue;

use crate::data::floats::canonical_scalar;

/// A bound of a range, and whether it belongs to the range.
type Bound = Option<(ScalarValue, bool)>;

/// What a column must satisfy for a row to match.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// Any of these values (one value: a constant).
    OneOf(Vec<ScalarValue>),
    /// A range; each bound with whether it is included.
    Range {
        /// Lower bound and whether it belongs to the range.
        low: Bound,
        /// Upper bound and whether it belongs to the range.
        high: Bound,
    },
}

/// A promise that no later row matches all of `columns`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Punctuation {
    /// Column name and its pattern; values have the column's type.
    pub columns: Vec<(String, Pattern)>,
}

impl Pattern {
    /// Whether a value of the column satisfies the pattern; null satisfies none.
    pub fn matches(&self, value: &ScalarValue) -> bool {
        if value.is_null() {
            return false;
        }
        match self {
            Pattern::OneOf(values) => values.contains(value),
            Pattern::Range { low, high } => {
                let above = low
                    .as_ref()
                    .is_none_or(|(bound, included)| value > bound || (*included && value == bound));
                let below = high
                    .as_ref()
                    .is_none_or(|(bound, included)| value < bound || (*included && value == bound));
                above && below
            }
        }
    }

    /// What satisfies this pattern and another; `None` where nothing does.
    pub fn and(&self, other: &Pattern) -> Option<Pattern> {
        match (self, other) {
            (Pattern::OneOf(values), pattern) | (pattern, Pattern::OneOf(values)) => {
                let values = values.iter().filter(|value| pattern.matches(value));
                let values: Vec<ScalarValue> = values.cloned().collect();
                (!values.is_empty()).then_some(Pattern::OneOf(values))
            }
            (Pattern::Range { low, high }, Pattern::Range { low: a, high: b }) => {
                let low = narrower(low, a, Ordering::Greater)?;
                let high = narrower(high, b, Ordering::Less)?;
                let there = match (&low, &high) {
                    (Some((low, from)), Some((high, to))) => match low.partial_cmp(high)? {
                        Ordering::Less => true,
                        Ordering::Equal => *from && *to,
                        Ordering::Greater => false,
                    },
                    _ => true,
                };
                there.then_some(Pattern::Range { low, high })
            }
        }
    }
}

/// The narrower of two bounds, which is on this side of the other; `None` where they do not compare.
fn narrower(a: &Bound, b: &Bound, side: Ordering) -> Option<Bound> {
    let bound = match (a, b) {
        (None, bound) | (bound, None) => bound.clone(),
        (Some((x, with_x)), Some((y, with_y))) => match x.partial_cmp(y)? {
            Ordering::Equal => Some((x.clone(), *with_x && *with_y)),
            order if order == side => a.clone(),
            _ => b.clone(),
        },
    };
    Some(bound)
}

/// Stands between a name and a place: a name holds none.
const PLACE: char = '\0';

/// What promises call a column.
pub fn name_at(schema: &Schema, column: usize) -> String {
    let name = schema.field(column).name();
    match schema.index_of(name) {
        Ok(first) if first != column => format!("{name}{PLACE}{column}"),
        _ => name.clone(),
    }
}

/// The column that promises call so.
pub fn column_named(schema: &Schema, name: &str) -> Option<usize> {
    let Some((first, place)) = name.rsplit_once(PLACE) else { return schema.index_of(name).ok() };
    let column = place.parse::<usize>().ok()?;
    let field = schema.fields().get(column)?;
    (field.name() == first).then_some(column)
}

/// Bytes that a value holds beyond itself.
pub fn beyond(value: &ScalarValue) -> usize {
    value.size().saturating_sub(size_of::<ScalarValue>())
}

impl Punctuation {
    /// The pattern of a column, `None` for any value.
    pub fn pattern(&self, column: &str) -> Option<&Pattern> {
        self.columns.iter().find(|(name, _)| name == column).map(|(_, pattern)| pattern)
    }

    /// Gives the floats that it names the form that those of rows have.
    pub fn canonical_floats(&mut self) {
        for (_, pattern) in &mut self.columns {
            match pattern {
                Pattern::OneOf(values) => values.iter_mut().for_each(canonical_scalar),
                Pattern::Range { low, high } => {
                    let bounds = low.iter_mut().chain(high);
                    bounds.for_each(|(bound, _)| canonical_scalar(bound));
                }
            }
        }
    }

    /// The rows of which this promise speaks and another, where one of them names all columns that the other
    /// names; `None` where there is no such row.
    pub fn and(&self, other: &Punctuation) -> Option<Punctuation> {
        let (fewer, more) = match self.columns.len() <= other.columns.len() {
            true => (self, other),
            false => (other, self),
        };
        let mut columns = more.columns.clone();
        for (name, pattern) in &fewer.columns {
            let (_, own) = columns.iter_mut().find(|(other, _)| other == name)?;
            *own = own.and(pattern)?;
        }
        Some(Punctuation { columns })
    }

    /// What this promise and any of several others speak of; values of one column together.
    pub fn and_any<'a>(
        &self,
        others: impl IntoIterator<Item = &'a Punctuation>,
    ) -> Vec<Punctuation> {
        let mut shared: Vec<Punctuation> = Vec::new();
        let mut values: Vec<ScalarValue> = Vec::new();
        for both in others.into_iter().filter_map(|other| self.and(other)) {
            match both.columns.as_slice() {
                // There is but one column: that of this promise.
                [(_, Pattern::OneOf(some))] => {
                    values.extend(
                        some.iter()
                            .filter(|value| !values.contains(value))
                            .cloned()
                            .collect::<Vec<_>>(),
                    );
                }
                _ if !shared.contains(&both) => shared.push(both),
                _ => {}
            }
        }
        if let (false, [(name, _)]) = (values.is_empty(), self.columns.as_slice()) {
            let columns = vec![(name.clone(), Pattern::OneOf(values))];
            shared.push(Punctuation { columns });
        }
        shared
    }

    /// Whether it speaks of no other rows than this one.
    pub fn covers(&self, other: &Punctuation) -> bool {
        self.columns.len() <= other.columns.len() && self.and(other).as_ref() == Some(other)
    }

    /// Bytes that it holds beyond itself.
    pub fn bytes_beyond(&self) -> usize {
        let bound = |bound: &Bound| bound.as_ref().map_or(0, |(value, _)| beyond(value));
        let column = |(name, pattern): &(String, Pattern)| {
            let pattern = match pattern {
                Pattern::OneOf(values) => values.iter().map(ScalarValue::size).sum(),
                Pattern::Range { low, high } => bound(low) + bound(high),
            };
            size_of::<(String, Pattern)>() + name.len() + pattern
        };
        self.columns.iter().map(column).sum()
    }

    /// Whether it speaks of the first `count` columns only.
    pub fn is_about(&self, schema: &Schema, count: usize) -> bool {
        let column = |(name, _): &(String, Pattern)| column_named(schema, name);
        self.columns.iter().all(|named| column(named).is_some_and(|column| column < count))
    }

    /// The punctuation with every column under the name that `name_of` gives it, `None` when one of
    /// them has none: what it says cannot be said without that column.
    pub fn renamed(&self, name_of: impl Fn(&str) -> Option<String>) -> Option<Punctuation> {
        let rename = |(name, pattern): &(String, Pattern)| Some((name_of(name)?, pattern.clone()));
        let columns = self.columns.iter().map(rename).collect::<Option<_>>()?;
        Some(Punctuation { columns })
    }

    /// The upper bound `t`, and whether it is included, when the punctuation is the watermark `column < t` or `column <= t`.
    pub fn as_watermark(&self, column: &str) -> Option<(&ScalarValue, bool)> {
        match self.columns.as_slice() {
            [(name, Pattern::Range { low: None, high: Some((bound, included)) })]
                if name == column =>
            {
                Some((bound, *included))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn range(low: Option<(i64, bool)>, high: Option<(i64, bool)>) -> Pattern {
        let bound = |(value, included)| (ScalarValue::Int64(Some(value)), included);
        Pattern::Range { low: low.map(bound), high: high.map(bound) }
    }

    fn one_of(values: &[i64]) -> Pattern {
        Pattern::OneOf(values.iter().map(|value| ScalarValue::Int64(Some(*value))).collect())
    }

    fn promise(columns: &[(&str, Pattern)]) -> Punctuation {
        let columns = columns.iter().map(|(name, pattern)| ((*name).to_owned(), pattern.clone()));
        Punctuation { columns: columns.collect() }
    }

    #[test]
    fn what_two_promises_share_are_the_rows_that_match_both() {
        let patterns = [
            one_of(&[1]),
            one_of(&[5, 2, 9]),
            one_of(&[7, 9]),
            range(Some((5, true)), None),
            range(Some((5, false)), Some((9, true))),
            range(None, Some((5, true))),
            range(None, Some((9, false))),
            range(Some((2, true)), Some((5, false))),
        ];
        for a in &patterns {
            for b in &patterns {
                let both = a.and(b);
                for value in 0..12 {
                    let value = ScalarValue::Int64(Some(value));
                    let wanted = a.matches(&value) && b.matches(&value);
                    let found = both.as_ref().is_some_and(|both| both.matches(&value));
                    assert_eq!(found, wanted, "{a:?} and {b:?}: {value}");
                }
                let (a, b) = (promise(&[("k", a.clone())]), promise(&[("k", b.clone())]));
                let values = |p: &Punctuation| {
                    let matches = |v: &i64| p.columns[0].1.matches(&ScalarValue::Int64(Some(*v)));
                    (-1..13).filter(matches).collect::<Vec<i64>>()
                };
                if a.covers(&b) {
                    assert!(values(&b).iter().all(|value| values(&a).contains(value)));
                }
            }
        }
    }

    #[test]
    fn columns_of_one_name_are_called_by_their_places() {
        let names = ["k", "v", "k", "k"];
        let fields = names.map(|name| Field::new(name, DataType::Int64, true));
        let schema = Schema::new(fields.to_vec());
        let called: Vec<String> = (0..4).map(|column| name_at(&schema, column)).collect();
        assert_eq!(called, ["k", "v", "k\u{0}2", "k\u{0}3"]);
        let columns: Vec<_> = called.iter().map(|name| column_named(&schema, name)).collect();
        assert_eq!(columns, [0, 1, 2, 3].map(Some));
        for name in ["w", "k\u{0}1", "k\u{0}9", "v\u{0}", "\u{0}"] {
            assert_eq!(column_named(&schema, name), None);
        }
        let last = promise(&[("v", one_of(&[1])), (&called[3], one_of(&[1]))]);
        assert!(last.is_about(&schema, 4) && !last.is_about(&schema, 3));
    }

    #[test]
    fn promises_of_other_columns_share_nothing_that_could_be_said_of_either() {
        let key = promise(&[("k", one_of(&[1, 2]))]);
        let time = promise(&[("at", range(None, Some((9, false))))]);
        let both = promise(&[("at", range(None, Some((5, false)))), ("k", one_of(&[2, 3]))]);
        assert_eq!(key.and(&time), None);
        let narrow = promise(&[("at", range(None, Some((5, false)))), ("k", one_of(&[2]))]);
        assert_eq!(key.and(&both), Some(narrow.clone()));
        assert!(key.covers(&narrow) && !key.covers(&both) && !narrow.covers(&key));
        assert_eq!(key.and_any([&time, &both]), [narrow]);
        let others = [1, 2, 3].map(|value| promise(&[("k", one_of(&[value]))]));
        assert_eq!(key.and_any(&others), [key]);
    }
}
