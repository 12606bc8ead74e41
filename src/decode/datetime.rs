//! Reads dates and times in the forms of RFC 3339, ISO 8601 and PostgreSQL.
//!
//! Years before 0000 and after 9999 carry a sign and up to seven digits, as [`crate::encode`] writes
//! them. A time without an offset is UTC. More than six digits of fraction round to microseconds.

use super::error::ValueError;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar.
/// Source: Hinnant, "chrono-Compatible Low-Level Date Algorithms".
#[inline]
fn days_from_civil(year: i64, month: u32, day: u32) -> i64 {
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let month_from_march = i64::from((month + 9) % 12);
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[inline]
fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// A DATE as days since 1970-01-01; a time of day behind it is checked and cut off.
pub(crate) fn parse_date(text: &str) -> Result<i32, ValueError> {
    let mut cursor = Cursor { bytes: text.as_bytes(), at: 0 };
    let days = cursor.date()?;
    if cursor.at < cursor.bytes.len() {
        cursor.rest_of_timestamp(days)?;
    }
    i32::try_from(days).map_err(|_| ValueError::DatetimeRange)
}

/// A TIMESTAMP or TIMESTAMPTZ as microseconds since 1970-01-01T00:00:00Z.
#[inline]
pub(crate) fn parse_timestamp(text: &str) -> Result<i64, ValueError> {
    if let Some((micros, length)) = usual_timestamp(text.as_bytes())
        && length == text.len()
    {
        return Ok(micros);
    }
    let mut cursor = Cursor { bytes: text.as_bytes(), at: 0 };
    let days = cursor.date()?;
    if cursor.at == cursor.bytes.len() {
        return days.checked_mul(DAY).ok_or(ValueError::DatetimeRange);
    }
    cursor.rest_of_timestamp(days)
}

/// `YYYY-MM-DDTHH:MM:SS`, up to six digits of fraction, and `Z` or nothing: what nearly every
/// sender writes. Answers the moment and how long its text is. What follows the text is for the
/// caller to judge; anything in another form, errors included, is for the general parser.
#[inline]
pub(crate) fn usual_timestamp(bytes: &[u8]) -> Option<(i64, usize)> {
    let head: &[u8; 19] = bytes.first_chunk()?;
    let separators = head[4] == b'-'
        && head[7] == b'-'
        && (head[10] == b'T' || head[10] == b' ')
        && head[13] == b':'
        && head[16] == b':';
    let mut wrong = 0u8;
    let mut pair = |at: usize| {
        let (tens, ones) = (head[at].wrapping_sub(b'0'), head[at + 1].wrapping_sub(b'0'));
        wrong |= u8::from(tens > 9) | u8::from(ones > 9);
        u32::from(tens) * 10 + u32::from(ones)
    };
    let year = i64::from(pair(0) * 100 + pair(2));
    let (month, day) = (pair(5), pair(8));
    let (hour, minute, second) = (pair(11), pair(14), pair(17));
    if !separators || wrong != 0 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
        return None;
    }
    let (mut length, mut micros) = (19, 0i64);
    if bytes.get(length) == Some(&b'.') {
        length += 1;
        let mut place = 100_000;
        while let Some(digit) = bytes.get(length).map(|b| b.wrapping_sub(b'0')).filter(|d| *d <= 9)
        {
            // A place of zero has more digits than microseconds hold: they would have to round.
            if place == 0 {
                return None;
            }
            micros += i64::from(digit) * place;
            place /= 10;
            length += 1;
        }
        if length == 20 {
            return None;
        }
    }
    length += usize::from(bytes.get(length) == Some(&b'Z'));
    let seconds = i64::from(hour * 3600 + minute * 60 + second);
    Some((days_from_civil(year, month, day) * DAY + seconds * 1_000_000 + micros, length))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Between `least` and `most` digits as a number.
    fn digits(&mut self, least: usize, most: usize) -> Result<i64, ValueError> {
        let start = self.at;
        let mut value = 0i64;
        while self.at - start < most && self.peek().is_some_and(|b| b.is_ascii_digit()) {
            value = value * 10 + i64::from(self.bytes[self.at] - b'0');
            self.at += 1;
        }
        if self.at - start < least { Err(ValueError::DatetimeSyntax) } else { Ok(value) }
    }

    fn date(&mut self) -> Result<i64, ValueError> {
        let (minus, plus) = (self.eat(b'-'), self.eat(b'+'));
        if minus && plus {
            return Err(ValueError::DatetimeSyntax);
        }
        let year = self.digits(4, 7)?;
        let year = if minus { -year } else { year };
        self.expect(b'-')?;
        let month = self.digits(1, 2)? as u32;
        self.expect(b'-')?;
        let day = self.digits(1, 2)? as u32;
        if !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
            return Err(ValueError::DatetimeRange);
        }
        Ok(days_from_civil(year, month, day))
    }

    fn expect(&mut self, byte: u8) -> Result<(), ValueError> {
        if self.eat(byte) { Ok(()) } else { Err(ValueError::DatetimeSyntax) }
    }

    /// Time of day and offset behind a date of `days`.
    fn rest_of_timestamp(&mut self, days: i64) -> Result<i64, ValueError> {
        if !self.eat(b'T') && !self.eat(b't') && !self.eat(b' ') {
            return Err(ValueError::DatetimeSyntax);
        }
        let hour = self.digits(1, 2)?;
        self.expect(b':')?;
        let minute = self.digits(2, 2)?;
        let (mut second, mut micros) = (0, 0);
        if self.eat(b':') {
            second = self.digits(2, 2)?;
            if self.eat(b'.') || self.eat(b',') {
                micros = self.fraction()?;
            }
        }
        let time = (hour * 3600 + minute * 60 + second) * 1_000_000 + micros;
        // PostgreSQL takes 24:00:00 and a leap second for the start of what follows them.
        if hour > 24 || minute > 59 || second > 60 || time > DAY {
            return Err(ValueError::DatetimeRange);
        }
        let offset = self.offset()?;
        if self.at < self.bytes.len() {
            return Err(ValueError::DatetimeSyntax);
        }
        // The first day that 64 bits reach begins before they do, so the sum is taken in 128.
        let micros = i128::from(days) * i128::from(DAY) + i128::from(time - offset * 1_000_000);
        i64::try_from(micros).map_err(|_| ValueError::DatetimeRange)
    }

    /// Digits behind the point, rounded to microseconds; 1,000,000 when all are nines.
    fn fraction(&mut self) -> Result<i64, ValueError> {
        let start = self.at;
        let (mut micros, mut place) = (0i64, 100_000i64);
        let mut up = false;
        while let Some(byte) = self.peek().filter(u8::is_ascii_digit) {
            micros += i64::from(byte - b'0') * place;
            up |= self.at - start == 6 && byte >= b'5';
            place /= 10;
            self.at += 1;
        }
        if self.at == start { Err(ValueError::DatetimeSyntax) } else { Ok(micros + i64::from(up)) }
    }

    /// Seconds east of UTC: `Z`, `UTC`, `+HH`, `+HHMM`, `+HH:MM`, `+HH:MM:SS`, or nothing.
    fn offset(&mut self) -> Result<i64, ValueError> {
        while self.eat(b' ') {}
        let rest = &self.bytes[self.at..];
        if rest.eq_ignore_ascii_case(b"z") || rest.eq_ignore_ascii_case(b"utc") {
            self.at = self.bytes.len();
            return Ok(0);
        }
        let sign = match self.peek() {
            None => return Ok(0),
            Some(b'+') => 1,
            Some(b'-') => -1,
            Some(_) => return Err(ValueError::DatetimeSyntax),
        };
        self.at += 1;
        let hours = self.digits(2, 2)?;
        let (mut minutes, mut seconds) = (0, 0);
        if self.eat(b':') || self.peek().is_some() {
            minutes = self.digits(2, 2)?;
            if self.eat(b':') {
                seconds = self.digits(2, 2)?;
            }
        }
        if hours > 15 || minutes > 59 || seconds > 59 {
            return Err(ValueError::DatetimeRange);
        }
        Ok(sign * (hours * 3600 + minutes * 60 + seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> i64 {
        parse_timestamp(text).unwrap_or_else(|e| panic!("{text}: {e:?}"))
    }

    #[test]
    fn every_form_of_one_moment_is_that_moment() {
        let moment = 1_767_225_600_123_456;
        for text in [
            "2026-01-01T00:00:00.123456Z",
            "2026-01-01 00:00:00.123456",
            "2026-01-01t00:00:00.123456z",
            "2026-01-01 00:00:00.123456+00",
            "2026-01-01 00:00:00.123456 UTC",
            "2026-01-01T01:00:00.123456+01:00",
            "2025-12-31T18:30:00.123456-0530",
            "2026-01-01T00:00:00.1234561Z",
            "2026-01-01T00:00:00.1234555000",
        ] {
            assert_eq!(micros(text), moment, "{text}");
        }
        assert_eq!(micros("2026-01-01"), 1_767_225_600_000_000);
        assert_eq!(micros("2026-01-01 00:00"), 1_767_225_600_000_000);
        assert_eq!(micros("2025-12-31 24:00:00"), 1_767_225_600_000_000);
        assert_eq!(micros("1969-12-31T23:59:59.999999Z"), -1);
        assert_eq!(micros("0000-03-01"), -62_162_035_200_000_000);
        assert_eq!(micros("-0001-03-01"), micros("0000-03-01") - 366 * DAY);
    }

    #[test]
    fn what_the_calendar_does_not_have_is_out_of_range() {
        for text in [
            "2026-13-01",
            "2026-02-29",
            "1900-02-29",
            "2026-01-00",
            "2026-01-01T25:00:00Z",
            "2026-01-01T24:00:01Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:00+99:00",
            "+999999-01-01",
        ] {
            assert_eq!(parse_timestamp(text), Err(ValueError::DatetimeRange), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "2026-01-01T00:00.5Z",
            "",
            "x",
            "2026",
            "1767225600",
            "2026-01",
            "2026-01-01T",
            "2026-01-01T00",
            "infinity",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00Zz",
            "2026-01-01T00:00:00+1",
            "26-01-01",
            "2026-01-01T00:00:00Z ",
            "-+2026-01-01",
        ] {
            assert_eq!(parse_timestamp(text), Err(ValueError::DatetimeSyntax), "{text}");
        }
    }

    #[test]
    fn a_date_cuts_the_time_of_day_off() {
        assert_eq!(parse_date("1970-01-02"), Ok(1));
        assert_eq!(parse_date("1969-12-31T23:00:00Z"), Ok(-1));
        assert_eq!(parse_date("1970-01-02x"), Err(ValueError::DatetimeSyntax));
    }

    proptest::proptest! {
        #[test]
        fn dates_count_days_as_chrono_does(days in -2_000_000i32..2_000_000) {
            let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
            let date = epoch + chrono::Duration::days(i64::from(days));
            proptest::prop_assert_eq!(parse_date(&date.to_string()), Ok(days));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let refused = parse_timestamp(&text).is_err();
            proptest::prop_assert!(refused || text.contains('-'));
        }
    }
}
