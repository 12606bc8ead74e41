//! Adds floating numbers without any rounding, so that a number can be taken back.
//!
//! A float total drifts when numbers are subtracted from it, and `1e300 + 1 - 1e300` is 0. Here the
//! total is a wide fixed-point number: limb `i` counts units of `2^(32 i - 1074)`. A double touches
//! three limbs. Only the limbs in use are kept: for numbers of like size three to five.
//! The result read is the exact sum, rounded once, whatever the order was.
//! Source: the small superaccumulator of Neal, "Fast exact summation using small and large
//! superaccumulators", 2015.

use crate::operators::operator::EvalError;
use crate::operators::state::{StateReader, StateWriter, Stored};

/// Bits of a limb that count; the others take carries.
const LIMB_BITS: u32 = 32;
/// Additions after which carries must be settled: each adds less than 2^32 to a limb.
const ADDITIONS_MAX: u32 = 1 << 30;
/// Greatest multiplicity of one addition, so that a shifted mantissa fits into 128 bits.
const WEIGHT_MAX: u64 = 1 << 42;

/// An exact sum of doubles with multiplicities.
#[derive(Debug, Clone, Default)]
pub struct ExactSum {
    /// Limbs from `first` on, each in signed form.
    limbs: Vec<i64>,
    first: usize,
    additions: u32,
    /// Multiplicities of the numbers that no total can hold.
    nans: i64,
    infinities: i64,
    negative_infinities: i64,
}

impl ExactSum {
    /// Adds `value` `weight` times; a negative weight takes it back.
    pub fn add(&mut self, value: f64, weight: i64) {
        if value.is_nan() {
            self.nans += weight;
        } else if value == f64::INFINITY {
            self.infinities += weight;
        } else if value == f64::NEG_INFINITY {
            self.negative_infinities += weight;
        } else {
            assert!(weight.unsigned_abs() <= WEIGHT_MAX, "a row counts {weight} times");
            self.add_finite(value, weight);
        }
    }

    fn add_finite(&mut self, value: f64, weight: i64) {
        let bits = value.to_bits();
        let (exponent, fraction) = ((bits >> 52) as usize & 0x7ff, bits & ((1 << 52) - 1));
        // Subnormals have no leading one and share the exponent of the smallest normals.
        let (position, mantissa) =
            if exponent == 0 { (0, fraction) } else { (exponent - 1, fraction | 1 << 52) };
        let negative = (bits >> 63 == 1) != (weight < 0);
        let magnitude = u128::from(mantissa) * u128::from(weight.unsigned_abs());
        if magnitude == 0 {
            return;
        }
        let mut rest = magnitude << (position % LIMB_BITS as usize);
        let mut limb = position / LIMB_BITS as usize;
        while rest > 0 {
            let part = (rest & 0xffff_ffff) as i64;
            if part != 0 {
                *self.limb(limb) += if negative { -part } else { part };
            }
            rest >>= LIMB_BITS;
            limb += 1;
        }
        self.additions += 1;
        if self.additions == ADDITIONS_MAX {
            self.settle();
        }
    }

    /// The limb at `index`, made if it is not there.
    fn limb(&mut self, index: usize) -> &mut i64 {
        if self.limbs.is_empty() {
            self.first = index;
        }
        if index < self.first {
            let missing = self.first - index;
            self.limbs.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = index;
        }
        let at = index - self.first;
        if at >= self.limbs.len() {
            self.limbs.resize(at + 1, 0);
        }
        &mut self.limbs[at]
    }

    /// Moves carries up, so that every limb but the last lies in `0 .. 2^32`.
    fn settle(&mut self) {
        self.additions = 0;
        let mut i = 0;
        while i < self.limbs.len() {
            let carry = self.limbs[i] >> LIMB_BITS;
            let last = i + 1 == self.limbs.len();
            // The sign stays in the last limb.
            if carry != 0 && !(last && carry == -1) {
                self.limbs[i] -= carry << LIMB_BITS;
                if last {
                    self.limbs.push(carry);
                } else {
                    self.limbs[i + 1] += carry;
                }
            }
            i += 1;
        }
    }

    /// Whether everything added has been taken back.
    pub fn is_zero(&self) -> bool {
        let special = [self.nans, self.infinities, self.negative_infinities];
        special == [0; 3] && {
            let mut settled = self.clone();
            settled.settle();
            settled.limbs.iter().all(|limb| *limb == 0)
        }
    }

    /// The sum, rounded to the nearest double.
    pub fn value(&self) -> f64 {
        match (self.nans > 0, self.infinities > 0, self.negative_infinities > 0) {
            (true, _, _) | (false, true, true) => return f64::NAN,
            (false, true, false) => return f64::INFINITY,
            (false, false, true) => return f64::NEG_INFINITY,
            (false, false, false) => {}
        }
        let mut magnitude = self.clone();
        magnitude.settle();
        let negative = magnitude.limbs.last().is_some_and(|last| *last < 0);
        if negative {
            magnitude.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            magnitude.settle();
        }
        let value = magnitude.rounded();
        if negative { -value } else { value }
    }

    /// The value of settled limbs of which none is negative.
    fn rounded(&self) -> f64 {
        let Some(top) = self.limbs.iter().rposition(|limb| *limb != 0) else { return 0.0 };
        let lowest = top.saturating_sub(3);
        let leading = self.limbs[lowest..=top]
            .iter()
            .rev()
            .fold(0u128, |sum, limb| (sum << LIMB_BITS) | *limb as u128);
        // Whatever lies below decides ties only: one bit stands for it.
        let sticky = self.limbs[..lowest].iter().any(|limb| *limb != 0);
        let exponent = LIMB_BITS as i32 * (self.first + lowest) as i32 - 1074;
        // In two steps, because 2^exponent alone may be below the smallest double.
        let half = exponent / 2;
        (leading | u128::from(sticky)) as f64 * 2f64.powi(half) * 2f64.powi(exponent - half)
    }

    /// Bytes held beside the struct itself.
    pub fn bytes(&self) -> usize {
        self.limbs.capacity() * size_of::<i64>()
    }
}

impl Stored for ExactSum {
    fn store(&self, out: &mut StateWriter) -> Result<(), EvalError> {
        out.put(&self.limbs)?;
        out.put(&(self.first, self.additions))?;
        out.put(&(self.nans, self.infinities, self.negative_infinities))
    }

    fn load(from: &mut StateReader<'_>) -> Result<Self, EvalError> {
        let limbs = from.get()?;
        let (first, additions) = from.get()?;
        let (nans, infinities, negative_infinities) = from.get()?;
        Ok(ExactSum { limbs, first, additions, nans, infinities, negative_infinities })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(values: &[(f64, i64)]) -> ExactSum {
        let mut sum = ExactSum::default();
        values.iter().for_each(|(value, weight)| sum.add(*value, *weight));
        sum
    }

    #[test]
    fn nothing_is_lost_between_numbers_of_different_size() {
        assert_eq!(sum(&[(1e300, 1), (1.0, 1), (1e300, -1)]).value(), 1.0);
        assert_eq!(sum(&[(0.1, 10)]).value(), 1.0);
        let tiny = f64::from_bits(1);
        assert_eq!(sum(&[(tiny, 3), (-1.0, 1), (1.0, 1)]).value(), tiny * 3.0);
        assert_eq!(sum(&[(f64::MAX, 2)]).value(), f64::INFINITY);
        assert_eq!(sum(&[(f64::MAX, 2), (f64::MAX, -1)]).value(), f64::MAX);
        assert_eq!(sum(&[(-2.5, 3)]).value(), -7.5);
    }

    #[test]
    fn numbers_that_are_not_finite_can_be_taken_back() {
        let mut total = sum(&[(f64::INFINITY, 1), (2.0, 1)]);
        assert_eq!(total.value(), f64::INFINITY);
        total.add(f64::NEG_INFINITY, 1);
        assert!(total.value().is_nan());
        total.add(f64::INFINITY, -1);
        assert_eq!(total.value(), f64::NEG_INFINITY);
        total.add(f64::NEG_INFINITY, -1);
        assert_eq!(total.value(), 2.0);
        total.add(2.0, -1);
        assert!(total.is_zero());
    }

    #[test]
    fn ties_are_rounded_to_even_by_what_lies_far_below() {
        let one_and_a_half_bits = [(1.0, 1), (2f64.powi(-53), 1)];
        assert_eq!(sum(&one_and_a_half_bits).value(), 1.0);
        let above = [(1.0, 1), (2f64.powi(-53), 1), (2f64.powi(-1000), 1)];
        assert_eq!(sum(&above).value(), 1.0 + f64::EPSILON);
        let below = [(1.0, 1), (2f64.powi(-53), 1), (2f64.powi(-1000), -1)];
        assert_eq!(sum(&below).value(), 1.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn two_numbers_add_as_the_processor_adds_them(a in any::<f64>(), b in any::<f64>()) {
            let (found, expected) = (sum(&[(a, 1), (b, 1)]).value(), a + b);
            prop_assert!(found == expected || (found.is_nan() && expected.is_nan()));
        }

        #[test]
        fn what_is_taken_back_leaves_the_rest_exactly(
            kept in prop::collection::vec(-1e6f64..1e6, 0..20),
            gone in prop::collection::vec(any::<f64>(), 0..20),
        ) {
            let mut all = ExactSum::default();
            gone.iter().for_each(|v| all.add(*v, 1));
            kept.iter().for_each(|v| all.add(*v, 1));
            gone.iter().for_each(|v| all.add(*v, -1));
            let alone = sum(&kept.iter().map(|v| (*v, 1)).collect::<Vec<_>>());
            prop_assert_eq!(all.value(), alone.value());
            kept.iter().for_each(|v| all.add(*v, -1));
            prop_assert!(all.is_zero());
        }
    }
}
