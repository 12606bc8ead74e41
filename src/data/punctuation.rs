//! States a promise about a stream: no later row matches the pattern.
//!
//! A pattern has one entry per constrained column; columns that are absent match anything. A
//! watermark is the punctuation `at < t`.
//! Source: Tucker, Maier, Sheard, Fegaras, "Exploiting punctuation semantics in continuous data
//! streams", TKDE 2003.

use arrow::datatypes::FieldRef;
use datafusion::scalar::ScalarValue;

use crate::data::floats::canonical_scalar;

/// What a column must satisfy for a row to match.
#[derive(Debug, Clone, PartialEq)]
pub enum Pattern {
    /// Any of these values (one value: a constant).
    OneOf(Vec<ScalarValue>),
    /// A range; each bound with whether it is included.
    Range {
        /// Lower bound and whether it belongs to the range.
        low: Option<(ScalarValue, bool)>,
        /// Upper bound and whether it belongs to the range.
        high: Option<(ScalarValue, bool)>,
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

    /// Whether it speaks of these columns only.
    pub fn is_about(&self, columns: &[FieldRef]) -> bool {
        self.columns.iter().all(|(name, _)| columns.iter().any(|field| field.name() == name))
    }

    /// The punctuation with every column under the name that `name_of` gives it, `None` when one of
    /// them has none: what it says cannot be said without that column.
    pub fn renamed(&self, name_of: impl Fn(&str) -> Option<String>) -> Option<Punctuation> {
        let rename = |(name, pattern): &(String, Pattern)| Some((name_of(name)?, pattern.clone()));
        let columns = self.columns.iter().map(rename).collect::<Option<_>>()?;
        Some(Punctuation { columns })
    }

    /// The exclusive upper bound `t` when the punctuation is the watermark `column < t`.
    pub fn as_watermark(&self, column: &str) -> Option<&ScalarValue> {
        match self.columns.as_slice() {
            [(name, Pattern::Range { low: None, high: Some((bound, false)) })]
                if name == column =>
            {
                Some(bound)
            }
            _ => None,
        }
    }
}
