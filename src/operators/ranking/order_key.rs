//! Where a row stands in its group's order: bytes that compare like the columns of ORDER BY.
//!
//! The first sixteen bytes are held in place, as one number. One column of numbers or times takes nine,
//! so most comparisons look nowhere else and most keys have no memory of their own.

use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// Bytes held in place.
const HEAD: usize = size_of::<u128>();

/// A key. No key is the beginning of another ([`arrow::row`] sees to that), so the zeros behind a short
/// one decide nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OrderKey {
    head: u128,
    tail: Box<[u8]>,
    length: usize,
}

impl OrderKey {
    /// How it compares with a key that is not held.
    pub(super) fn cmp_bytes(&self, other: &[u8]) -> std::cmp::Ordering {
        let (head, tail) = split(other);
        self.head.cmp(&head).then_with(|| (*self.tail).cmp(tail))
    }

    /// Bytes beside the key itself.
    pub(super) fn held(&self) -> usize {
        self.tail.len()
    }
}

impl From<&[u8]> for OrderKey {
    fn from(bytes: &[u8]) -> OrderKey {
        let (head, tail) = split(bytes);
        OrderKey { head, tail: tail.into(), length: bytes.len() }
    }
}

impl Stored for OrderKey {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        let head = &self.head.to_be_bytes()[..self.length.min(HEAD)];
        out.raw(&[head, &self.tail].concat());
        Ok(())
    }
    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        Ok(OrderKey::from(from.raw()?))
    }
}

fn split(bytes: &[u8]) -> (u128, &[u8]) {
    let (begin, tail) = bytes.split_at(bytes.len().min(HEAD));
    let mut head = [0; HEAD];
    head[..begin.len()].copy_from_slice(begin);
    (u128::from_be_bytes(head), tail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A length in front keeps any key from being the beginning of another.
        #[test]
        fn keys_compare_as_their_bytes_and_come_back(
            left in proptest::collection::vec(0_u8..3, 0..40),
            right in proptest::collection::vec(0_u8..3, 0..40),
        ) {
            let bytes = |rest: Vec<u8>| [vec![rest.len() as u8], rest].concat();
            let (left, right) = (bytes(left), bytes(right));
            let key = OrderKey::from(&left[..]);
            prop_assert_eq!(key.cmp(&OrderKey::from(&right[..])), left.cmp(&right));
            prop_assert_eq!(key.cmp_bytes(&right), left.cmp(&right));
            let mut out = StateWriter::default();
            out.put(&key).unwrap();
            let bytes = out.finish();
            prop_assert_eq!(StateReader::new(&bytes).get::<OrderKey>().unwrap(), key);
            prop_assert_eq!(StateReader::new(&bytes).raw().unwrap(), &left[..]);
        }
    }
}
