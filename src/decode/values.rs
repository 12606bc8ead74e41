//! Reads numbers, booleans and bytes from text, exactly and with PostgreSQL's rounding and ranges.

use super::error::ValueError;
use crate::data::bytes_text;

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// A decimal integer with an optional sign, between `min` and `max`.
#[inline]
pub(crate) fn parse_int(text: &str, min: i64, max: i64) -> Result<i64, ValueError> {
    let (negative, digits) = split_sign(text.as_bytes());
    if digits.is_empty() {
        return Err(ValueError::Syntax);
    }
    let value = if digits.len() <= 18 {
        let mut value = 0i64;
        for &byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return Err(ValueError::Syntax);
            }
            value = value * 10 + i64::from(digit);
        }
        if negative { -value } else { value }
    } else {
        long_int(negative, digits)?
    };
    if value < min || max < value { Err(ValueError::Range) } else { Ok(value) }
}

/// An integer of nineteen digits and more: leading zeros are allowed, overflow is not.
fn long_int(negative: bool, digits: &[u8]) -> Result<i64, ValueError> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(ValueError::Syntax);
    }
    let mut value = 0i64;
    for &byte in digits {
        let digit = i64::from(byte - b'0');
        // Counting downwards for negative numbers reaches i64::MIN without overflow.
        value = value
            .checked_mul(10)
            .and_then(|v| if negative { v.checked_sub(digit) } else { v.checked_add(digit) })
            .ok_or(ValueError::Range)?;
    }
    Ok(value)
}

/// An integer written as a JSON number with a fraction or an exponent, such as `1.0` or `1e3`.
pub(crate) fn integral_number(text: &str, min: i64, max: i64) -> Result<i64, ValueError> {
    let parts = Number::parse(text).ok_or(ValueError::Syntax)?;
    let exact = parts.scaled(0, Rounding::Forbidden)?;
    i64::try_from(exact).ok().filter(|v| min <= *v && *v <= max).ok_or(ValueError::Range)
}

fn split_sign(bytes: &[u8]) -> (bool, &[u8]) {
    match bytes.first() {
        Some(b'-') => (true, &bytes[1..]),
        Some(b'+') => (false, &bytes[1..]),
        _ => (false, bytes),
    }
}

/// A double; `NaN`, `Infinity` and `inf` in any case are values, overflow and underflow are errors.
#[inline]
pub(crate) fn parse_f64(text: &str) -> Result<f64, ValueError> {
    if let Some(value) = short_f64(text.as_bytes()) {
        return Ok(value);
    }
    if let Some(special) = special_float(text) {
        return Ok(special);
    }
    require_digit_start(text)?;
    let value: f64 = text.parse().map_err(|_| ValueError::Syntax)?;
    if value.is_infinite() || (value == 0.0 && has_nonzero_digit(text)) {
        return Err(ValueError::Range);
    }
    Ok(value)
}

/// As [`parse_f64`], rounded once to single precision.
pub(crate) fn parse_f32(text: &str) -> Result<f32, ValueError> {
    if let Some(special) = special_float(text) {
        return Ok(special as f32);
    }
    require_digit_start(text)?;
    let value: f32 = text.parse().map_err(|_| ValueError::Syntax)?;
    if value.is_infinite() || (value == 0.0 && has_nonzero_digit(text)) {
        return Err(ValueError::Range);
    }
    Ok(value)
}

/// The usual short numbers: an integer below 2^53 over a power of ten that a double holds exactly
/// is one division, so one correct rounding (Clinger, "How to read floating point numbers accurately").
#[inline]
fn short_f64(bytes: &[u8]) -> Option<f64> {
    let (negative, digits) = match bytes.first()? {
        b'-' => (true, &bytes[1..]),
        _ => (false, bytes),
    };
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let (mut mantissa, mut point) = (0u64, None);
    for (i, &byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            mantissa = mantissa * 10 + u64::from(digit);
        } else if byte == b'.' && point.is_none() && i > 0 && i + 1 < digits.len() {
            point = Some(i);
        } else {
            return None;
        }
    }
    let value = exact_f64(mantissa, point.map_or(0, |p| digits.len() - p - 1))?;
    Some(if negative { -value } else { value })
}

/// `mantissa` over ten to `fraction`, where one division gives the nearest double.
#[inline]
pub(crate) fn exact_f64(mantissa: u64, fraction: usize) -> Option<f64> {
    let power = POWERS.get(fraction)?;
    (mantissa < 1 << 53).then(|| mantissa as f64 / power)
}

fn special_float(text: &str) -> Option<f64> {
    let (negative, word) = split_sign(text.as_bytes());
    let infinite = word.eq_ignore_ascii_case(b"infinity") || word.eq_ignore_ascii_case(b"inf");
    if infinite {
        return Some(if negative { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    text.eq_ignore_ascii_case("nan").then_some(f64::NAN)
}

/// Rust's parser knows more words than PostgreSQL's: a number starts with a digit or a point.
fn require_digit_start(text: &str) -> Result<(), ValueError> {
    match split_sign(text.as_bytes()).1.first() {
        Some(byte) if byte.is_ascii_digit() || *byte == b'.' => Ok(()),
        _ => Err(ValueError::Syntax),
    }
}

/// Whether the mantissa is not zero, so that a zero result is an underflow.
fn has_nonzero_digit(text: &str) -> bool {
    text.bytes().take_while(|b| !matches!(b, b'e' | b'E')).any(|b| (b'1'..=b'9').contains(&b))
}

/// NUMERIC(precision, scale) as the unscaled integer; rounds half away from zero as PostgreSQL.
pub(crate) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Result<i128, ValueError> {
    let number = Number::parse(text).ok_or(ValueError::Syntax)?;
    let value = number.scaled(i64::from(scale), Rounding::HalfAwayFromZero)?;
    let bound = 10u128.pow(u32::from(precision.min(38)));
    if value.unsigned_abs() >= bound { Err(ValueError::Range) } else { Ok(value) }
}

/// What to do with digits behind the scale.
#[derive(Clone, Copy, PartialEq)]
enum Rounding {
    HalfAwayFromZero,
    Forbidden,
}

/// A decimal number taken apart, of any length.
struct Number<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Number<'a> {
    fn parse(text: &'a str) -> Option<Number<'a>> {
        let (negative, rest) = split_sign(text.as_bytes());
        let whole = take_digits(rest);
        let mut rest = &rest[whole.len()..];
        let mut fraction: &[u8] = &[];
        if rest.first() == Some(&b'.') {
            fraction = take_digits(&rest[1..]);
            rest = &rest[1 + fraction.len()..];
        }
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut exponent = 0i64;
        if matches!(rest.first(), Some(b'e' | b'E')) {
            let (negative, digits) = split_sign(&rest[1..]);
            if digits.is_empty() || take_digits(digits).len() != digits.len() {
                return None;
            }
            // A billion is far outside every range, so larger exponents need not be told apart.
            for &byte in digits {
                exponent = (exponent * 10 + i64::from(byte - b'0')).min(1_000_000_000);
            }
            exponent = if negative { -exponent } else { exponent };
            rest = &[];
        }
        rest.is_empty().then_some(Number { negative, whole, fraction, exponent })
    }

    /// The number times ten to `scale`, as an integer.
    fn scaled(&self, scale: i64, rounding: Rounding) -> Result<i128, ValueError> {
        let digits = || self.whole.iter().chain(self.fraction).map(|b| i128::from(b - b'0'));
        let zeros = digits().take_while(|d| *d == 0).count();
        let significant = self.whole.len() + self.fraction.len() - zeros;
        if significant == 0 {
            return Ok(0);
        }
        let shift = self.exponent.saturating_add(scale) - self.fraction.len() as i64;
        let kept = significant as i64 + shift;
        if kept > 38 {
            return Err(ValueError::Range);
        }
        let (mut value, mut up) = (0i128, false);
        for (i, digit) in digits().skip(zeros).enumerate() {
            if (i as i64) < kept {
                value = value * 10 + digit;
                continue;
            }
            if rounding == Rounding::Forbidden && digit != 0 {
                return Err(ValueError::Syntax);
            }
            // Half away from zero needs the first dropped digit only.
            up |= i as i64 == kept && digit >= 5;
        }
        for _ in significant as i64..kept {
            value *= 10;
        }
        value += i128::from(up);
        Ok(if self.negative { -value } else { value })
    }
}

fn take_digits(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|b| !b.is_ascii_digit()).unwrap_or(bytes.len());
    &bytes[..end]
}

/// PostgreSQL's words for true and false, in any case.
pub(crate) fn parse_bool(text: &str) -> Result<bool, ValueError> {
    const TRUE: [&str; 6] = ["true", "t", "1", "yes", "y", "on"];
    const FALSE: [&str; 6] = ["false", "f", "0", "no", "n", "off"];
    if TRUE.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        Ok(true)
    } else if FALSE.iter().any(|word| text.eq_ignore_ascii_case(word)) {
        Ok(false)
    } else {
        Err(ValueError::Syntax)
    }
}

/// Bytes as `\x` and hexadecimal digits, appended to `out`.
pub(crate) fn parse_hex(text: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
    bytes_text::parse_hex(text, out).ok_or(ValueError::Syntax)
}

/// Bytes in either form of PostgreSQL ([`bytes_text`]).
pub(crate) fn parse_bytea(text: &str, out: &mut Vec<u8>) -> Result<(), ValueError> {
    bytes_text::parse_bytea(text, out).ok_or(ValueError::Syntax)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(text: &str) -> Result<i64, ValueError> {
        parse_int(text, i64::MIN, i64::MAX)
    }

    #[test]
    fn integers_reach_both_ends_and_not_further() {
        assert_eq!(int("9223372036854775807"), Ok(i64::MAX));
        assert_eq!(int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(int("9223372036854775808"), Err(ValueError::Range));
        assert_eq!(int("-9223372036854775809"), Err(ValueError::Range));
        assert_eq!(int("00000000000000000000000012"), Ok(12));
        assert_eq!(parse_int("32768", -32768, 32767), Err(ValueError::Range));
        for bad in ["", "-", "+", "1.0", "1e3", "0x10", " 1", "1_000", "٣"] {
            assert_eq!(int(bad), Err(ValueError::Syntax), "{bad}");
        }
    }

    #[test]
    fn whole_numbers_may_be_written_with_a_fraction_or_an_exponent() {
        let number = |text| integral_number(text, i64::MIN, i64::MAX);
        assert_eq!(number("1.0"), Ok(1));
        assert_eq!(number("-25e2"), Ok(-2500));
        assert_eq!(number("1200e-2"), Ok(12));
        assert_eq!(number("1.5"), Err(ValueError::Syntax));
        assert_eq!(number("1e30"), Err(ValueError::Range));
        assert_eq!(number("0e999999999999"), Ok(0));
    }

    #[test]
    fn floats_know_their_ends() {
        assert_eq!(parse_f64("-0.1"), Ok(-0.1));
        assert_eq!(parse_f64("1e308"), Ok(1e308));
        assert_eq!(parse_f64("1e309"), Err(ValueError::Range));
        assert_eq!(parse_f64("1e-400"), Err(ValueError::Range));
        assert_eq!(parse_f64("0e-400"), Ok(0.0));
        assert_eq!(parse_f64("-INF"), Ok(f64::NEG_INFINITY));
        assert!(parse_f64("NaN").unwrap().is_nan());
        assert_eq!(parse_f32("1e39"), Err(ValueError::Range));
        for bad in ["", ".", "-", "1e", "1..2", "abc", "nano", "0x1p3"] {
            assert_eq!(parse_f64(bad), Err(ValueError::Syntax), "{bad}");
        }
    }

    #[test]
    fn numerics_round_half_away_from_zero() {
        let numeric = |text| parse_decimal(text, 5, 2);
        assert_eq!(numeric("1.005"), Ok(101));
        assert_eq!(numeric("-1.005"), Ok(-101));
        assert_eq!(numeric("1.00499999999999999999999999999999999999999999"), Ok(100));
        assert_eq!(numeric("999.994"), Ok(99_999));
        assert_eq!(numeric("999.995"), Err(ValueError::Range));
        assert_eq!(numeric("1e2"), Ok(10_000));
        assert_eq!(numeric("5e-3"), Ok(1));
        assert_eq!(numeric("4e-3"), Ok(0));
        assert_eq!(numeric("1e-999999999999"), Ok(0));
        assert_eq!(numeric("1e999999999999"), Err(ValueError::Range));
        assert_eq!(numeric("NaN"), Err(ValueError::Syntax));
        let nines = "9".repeat(38);
        assert_eq!(parse_decimal(&nines, 38, 0), Ok(10i128.pow(38) - 1));
        assert_eq!(parse_decimal(&format!("{nines}.5"), 38, 0), Err(ValueError::Range));
    }

    proptest::proptest! {
        #[test]
        fn short_floats_equal_the_standard_parser(text in "-?[0-9]{1,12}(\\.[0-9]{1,8})?") {
            let expected: f64 = text.parse().unwrap();
            proptest::prop_assert_eq!(parse_f64(&text).unwrap().to_bits(), expected.to_bits());
        }

        #[test]
        fn floats_print_and_parse_back(bits: u64) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                let back = parse_f64(&format!("{value:e}")).unwrap();
                proptest::prop_assert_eq!(back.to_bits(), bits);
            }
        }
    }

    #[test]
    fn hexadecimal_bytes_come_in_pairs() {
        let mut out = Vec::new();
        assert_eq!(parse_hex("\\xDEad", &mut out), Ok(()));
        assert_eq!(out, [0xde, 0xad]);
        for bad in ["dead", "\\xabc", "\\xzz"] {
            assert_eq!(parse_hex(bad, &mut Vec::new()), Err(ValueError::Syntax));
        }
    }

    #[test]
    fn booleans_have_words_and_digits() {
        assert_eq!(parse_bool("T"), Ok(true));
        assert_eq!(parse_bool("0"), Ok(false));
        assert_eq!(parse_bool("2"), Err(ValueError::Syntax));
    }
}
