//! Holds punctuations back, for operators that hold rows: each speaks of the rows before it, so it may be
//! acted upon and go on once the rows that were held when it came have gone.
//!
//! # State
//! At most [`PROMISES_MAX`] punctuations; beyond that the oldest is forgotten, which costs state, never
//! an answer.

use std::collections::VecDeque;

use crate::data::punctuation::Punctuation;
use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// Punctuations that wait at most: none is looked through, so only memory and snapshots bound them.
const PROMISES_MAX: usize = 65_536;

/// Punctuations with the latest time of the rows that were held when they came: these times never fall.
#[derive(Debug, Default)]
pub struct HeldPromises {
    waiting: VecDeque<(i64, Punctuation)>,
    /// Bytes that they hold beyond themselves.
    bytes: usize,
}

impl HeldPromises {
    /// Holds one until the rows up to `last`, included, have gone.
    pub fn hold(&mut self, last: i64, punctuation: Punctuation) {
        if self.waiting.len() == PROMISES_MAX {
            self.take_due(None);
        }
        self.bytes += punctuation.bytes_beyond();
        self.waiting.push_back((last, punctuation));
    }

    /// The latest time of the rows that the first one waits for.
    pub fn next_time(&self) -> Option<i64> {
        self.waiting.front().map(|(last, _)| *last)
    }

    /// Takes out the first one, where no row below `end` (`None`: no row at all) is held any more that it
    /// waits for.
    pub fn take_due(&mut self, end: Option<i64>) -> Option<Punctuation> {
        let (_, punctuation) =
            self.waiting.pop_front_if(|(last, _)| end.is_none_or(|end| *last < end))?;
        self.bytes -= punctuation.bytes_beyond();
        Some(punctuation)
    }

    /// Bytes of state.
    pub fn state_bytes(&self) -> usize {
        self.waiting.len() * size_of::<(i64, Punctuation)>() + self.bytes
    }
}

impl Stored for HeldPromises {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        self.waiting.store(out)
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let waiting: VecDeque<(i64, Punctuation)> = from.get()?;
        let bytes = waiting.iter().map(|(_, punctuation)| punctuation.bytes_beyond()).sum();
        Ok(HeldPromises { waiting, bytes })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::scalar::ScalarValue;

    use super::*;
    use crate::data::punctuation::Pattern;

    fn promise(value: i64) -> Punctuation {
        let pattern = Pattern::OneOf(vec![ScalarValue::Int64(Some(value))]);
        Punctuation { columns: vec![("a".to_owned(), pattern)] }
    }

    #[test]
    fn promises_come_out_once_the_rows_before_them_have_gone() {
        let mut promises = HeldPromises::default();
        for (last, value) in [(5, 1), (5, 2), (9, 3)] {
            promises.hold(last, promise(value));
        }
        assert_eq!(promises.next_time(), Some(5));
        assert_eq!(promises.take_due(Some(5)), None);
        assert_eq!(promises.take_due(Some(6)), Some(promise(1)));
        assert_eq!(promises.take_due(Some(6)), Some(promise(2)));
        assert_eq!(promises.take_due(Some(6)), None);
        assert_eq!(promises.take_due(None), Some(promise(3)));
        assert_eq!((promises.take_due(None), promises.state_bytes()), (None, 0));
    }

    #[test]
    fn the_oldest_promise_is_forgotten_when_there_are_too_many() {
        let mut promises = HeldPromises::default();
        for value in 0..=PROMISES_MAX as i64 {
            promises.hold(value, promise(value));
        }
        assert_eq!(promises.take_due(None), Some(promise(1)));
    }
}
