//! Holds a fraction as a person writes it, such as 0.01, and computes with it without rounding.

use std::fmt;

/// Digits behind the point.
const DIGITS_MAX: u32 = 18;

/// A fraction of at least 0 with at most 18 digits behind the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fraction {
    numerator: u64,
    /// Digits behind the point.
    digits: u32,
}

impl Fraction {
    /// Reads `0.01`, `1e-3` or `1`; `None` where it is negative, no number, or has more digits.
    pub fn parse(text: &str) -> Option<Fraction> {
        let text = text.trim();
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + behind.len() == 0 || !is_number(whole) || !is_number(behind) {
            return None;
        }
        let mut numerator: u64 = 0;
        let mut digits = i64::try_from(behind.len()).ok()? - i64::from(exponent);
        for digit in whole.bytes().chain(behind.bytes()) {
            numerator = numerator.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        }
        while digits > 0 && numerator.is_multiple_of(10) {
            numerator /= 10;
            digits -= 1;
        }
        while digits < 0 && numerator > 0 {
            numerator = numerator.checked_mul(10)?;
            digits += 1;
        }
        let digits = u32::try_from(digits.max(0)).ok().filter(|digits| *digits <= DIGITS_MAX)?;
        Some(Fraction { numerator, digits })
    }

    /// A tenth of it; `None` where that has too many digits.
    pub fn tenth(self) -> Option<Fraction> {
        if self.numerator.is_multiple_of(10) {
            return Some(Fraction { numerator: self.numerator / 10, ..self });
        }
        let digits = self.digits + 1;
        (digits <= DIGITS_MAX).then_some(Fraction { numerator: self.numerator, digits })
    }

    /// Whether it is 0.
    pub fn is_zero(self) -> bool {
        self.numerator == 0
    }

    /// The next float.
    pub fn as_f64(self) -> f64 {
        self.numerator as f64 / 10_f64.powi(self.digits as i32)
    }

    /// The least integer that is at least 1 / self. Not of 0.
    pub fn reciprocal(self) -> u64 {
        assert!(!self.is_zero(), "0 has no reciprocal");
        10_u64.pow(self.digits).div_ceil(self.numerator)
    }

    /// Both over the same power of ten.
    fn aligned(self, other: Fraction) -> (u128, u128, u32) {
        let digits = self.digits.max(other.digits);
        let scaled =
            |part: Fraction| u128::from(part.numerator) * 10_u128.pow(digits - part.digits);
        (scaled(self), scaled(other), digits)
    }

    /// Whether it is greater than another.
    pub fn exceeds(self, other: Fraction) -> bool {
        let (left, right, _) = self.aligned(other);
        left > right
    }

    /// The least count that is at least (self − less) of `total`.
    pub fn share(self, less: Fraction, total: u64) -> u64 {
        self.part(less, total, u128::div_ceil)
    }

    /// The greatest count that is at most this part of `total`.
    pub fn share_at_most(self, total: u64) -> u64 {
        self.part(Fraction::ZERO, total, |product, unit| product / unit)
    }

    fn part(self, less: Fraction, total: u64, divide: fn(u128, u128) -> u128) -> u64 {
        let (all, less, digits) = self.aligned(less);
        let part = all.saturating_sub(less);
        let share = match part.checked_mul(u128::from(total)) {
            Some(product) => divide(product, 10_u128.pow(digits)),
            // More than 1 of a large total.
            None => u128::MAX,
        };
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// Nothing.
    pub const ZERO: Fraction = Fraction { numerator: 0, digits: 0 };
    /// All.
    pub const ONE: Fraction = Fraction { numerator: 1, digits: 0 };
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.digits == 0 {
            return write!(f, "{}", self.numerator);
        }
        let unit = 10_u64.pow(self.digits);
        let (whole, behind) = (self.numerator / unit, self.numerator % unit);
        write!(f, "{whole}.{behind:0width$}", width = self.digits as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Fraction {
        Fraction::parse(text).unwrap()
    }

    #[test]
    fn what_is_written_is_what_is_held() {
        for (text, shown) in
            [("0.01", "0.01"), ("1e-3", "0.001"), ("0.10", "0.1"), ("1", "1"), ("2.5E1", "25")]
        {
            assert_eq!(parse(text).to_string(), shown);
        }
        for text in ["", ".", "-1", "NaN", "inf", "1e-30", "99999999999999999999", "0x1", "1e99"] {
            assert_eq!(Fraction::parse(text), None, "{text}");
        }
        assert!(parse("0e5").is_zero());
    }

    #[test]
    fn shares_are_exact() {
        assert_eq!(parse("0.2").reciprocal(), 5);
        assert_eq!(parse("0.3").reciprocal(), 4);
        assert_eq!(parse("0.1").share(Fraction::ZERO, 30), 3);
        assert_eq!(parse("0.1").share(parse("0.01"), 100), 9);
        assert_eq!(parse("0.1").share(parse("0.01"), 101), 10);
        assert_eq!(parse("0.01").tenth(), Some(parse("0.001")));
        assert_eq!(parse("0.000000000000000001").tenth(), None);
        assert!(parse("0.1").exceeds(parse("0.099999")));
        assert_eq!(Fraction::ONE.share(Fraction::ZERO, u64::MAX), u64::MAX);
    }
}
