//! Holds a fraction as its decimal digits say, so that `0.07` of 100 is 7 and not a little more.

/// A fraction of a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    numerator: u64,
    denominator: u64,
}

impl Share {
    /// The fraction that the shortest decimal form of `number` names; `None` unless it is between 0
    /// and 1, and at least 10⁻¹⁵.
    pub fn new(number: f64) -> Option<Share> {
        if !(1e-15..=1.0).contains(&number) {
            return None;
        }
        let text = number.to_string();
        let (whole, digits) = text.split_once('.').unwrap_or((&text, ""));
        let denominator = 10_u64.checked_pow(u32::try_from(digits.len()).ok()?)?;
        let numerator = format!("{whole}{digits}").parse().ok()?;
        Some(Share { numerator, denominator })
    }

    /// Whether `part` is at least this fraction of `whole`.
    pub fn is_reached(self, part: u64, whole: u64) -> bool {
        u128::from(part) * u128::from(self.denominator)
            >= u128::from(whole) * u128::from(self.numerator)
    }

    /// One divided by it, rounded up: how many things one bucket of lossy counting holds.
    pub fn bucket_width(self) -> u64 {
        self.denominator.div_ceil(self.numerator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_count_not_bits() {
        let share = Share::new(0.07).unwrap();
        assert!(share.is_reached(7, 100) && !share.is_reached(6, 100));
        assert!(share.is_reached(u64::MAX / 10, u64::MAX / 10));
        assert_eq!(Share::new(0.2).unwrap().bucket_width(), 5);
        assert_eq!(Share::new(0.0003).unwrap().bucket_width(), 3334);
        assert_eq!(Share::new(1.0).unwrap().bucket_width(), 1);
    }

    #[test]
    fn what_is_no_fraction_is_refused() {
        for number in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY, 1e-300] {
            assert_eq!(Share::new(number), None);
        }
        assert!(Share::new(1.0 / 3.0).is_some());
    }
}
