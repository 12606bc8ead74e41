//! Reads dates, times and intervals in the forms of RFC 3339, ISO 8601 and PostgreSQL.
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
        let second = if self.eat(b':') { self.digits(2, 2)? } else { 0 };
        let micros = if self.eat(b'.') || self.eat(b',') { self.fraction()? } else { 0 };
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

/// Months, days and nanoseconds of an INTERVAL.
pub(crate) type IntervalParts = (i32, i32, i64);

/// An INTERVAL: `1 day 02:03:04`, `90 seconds`, `1 year 2 mons -3 days ago`, `P1DT2H`.
pub(crate) fn parse_interval(text: &str) -> Result<IntervalParts, ValueError> {
    let mut sum = IntervalSum::default();
    match text.strip_prefix(['P', 'p']) {
        Some(iso) => sum.iso(iso)?,
        None => sum.words(text)?,
    }
    sum.parts()
}

/// The sum of an interval's pieces; wide enough that pieces in range cannot overflow it.
#[derive(Default)]
struct IntervalSum {
    months: i128,
    days: i128,
    nanos: i128,
}

impl IntervalSum {
    fn parts(&self) -> Result<IntervalParts, ValueError> {
        let range = |_| ValueError::DatetimeRange;
        Ok((
            i32::try_from(self.months).map_err(range)?,
            i32::try_from(self.days).map_err(range)?,
            i64::try_from(self.nanos).map_err(range)?,
        ))
    }

    /// PostgreSQL's verbose form: numbers with units, a time of day, `ago` at the end.
    fn words(&mut self, text: &str) -> Result<(), ValueError> {
        let mut any = false;
        let mut words = text.strip_prefix('@').unwrap_or(text).split_ascii_whitespace().peekable();
        while let Some(word) = words.next() {
            if any && words.peek().is_none() && word.eq_ignore_ascii_case("ago") {
                (self.months, self.days, self.nanos) = (-self.months, -self.days, -self.nanos);
                return Ok(());
            }
            any = true;
            if word.contains(':') {
                self.clock(word)?;
                continue;
            }
            let split = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
            let (number, mut unit) = word.split_at(split);
            if unit.is_empty() {
                // A bare number at the end is seconds, as in PostgreSQL.
                unit = words.next().unwrap_or("seconds");
            }
            self.add(number, &unit.to_ascii_lowercase())?;
        }
        if any { Ok(()) } else { Err(ValueError::DatetimeSyntax) }
    }

    /// `[-]HH:MM[:SS[.fraction]]`.
    fn clock(&mut self, word: &str) -> Result<(), ValueError> {
        let (sign, clock) = match word.as_bytes()[0] {
            b'-' => (-1, &word[1..]),
            b'+' => (1, &word[1..]),
            _ => (1, word),
        };
        let mut pieces = clock.split(':');
        let (hours, minutes) = (pieces.next().unwrap_or(""), pieces.next().unwrap_or(""));
        let seconds = pieces.next().unwrap_or("0");
        if pieces.next().is_some() || [hours, minutes, seconds].iter().any(|p| !is_plain(p)) {
            return Err(ValueError::DatetimeSyntax);
        }
        let before = self.nanos;
        self.nanos = 0;
        self.add(hours, "hour")?;
        self.add(minutes, "minute")?;
        self.add(seconds, "second")?;
        self.nanos = before + sign * self.nanos;
        Ok(())
    }

    /// ISO 8601 behind the `P`: `1Y2M3W4DT5H6M7.5S`.
    fn iso(&mut self, text: &str) -> Result<(), ValueError> {
        let (mut time, mut any, mut start) = (false, false, 0);
        for (i, letter) in text.char_indices().filter(|(_, c)| c.is_ascii_alphabetic()) {
            let number = &text[start..i];
            start = i + 1;
            let unit = match (time, letter.to_ascii_uppercase()) {
                (false, 'T') if number.is_empty() => {
                    time = true;
                    continue;
                }
                (false, 'Y') => "year",
                (false, 'M') => "month",
                (false, 'W') => "week",
                (false, 'D') => "day",
                (true, 'H') => "hour",
                (true, 'M') => "minute",
                (true, 'S') => "second",
                _ => return Err(ValueError::DatetimeSyntax),
            };
            self.add(number, unit)?;
            any = true;
        }
        if any && start == text.len() { Ok(()) } else { Err(ValueError::DatetimeSyntax) }
    }

    /// Adds `number` times `unit`. A fraction of a month or day spills into the smaller fields as
    /// in PostgreSQL: a month is 30 days there, a day 24 hours.
    fn add(&mut self, number: &str, unit: &str) -> Result<(), ValueError> {
        let billionths = billionths(number)?;
        let (whole, rest) = (billionths / BILLION, billionths % BILLION);
        let day = 86_400 * BILLION;
        match unit {
            "y" | "yr" | "yrs" | "year" | "years" => {
                self.months += whole * 12 + rest * 12 / BILLION;
            }
            "mon" | "mons" | "month" | "months" => {
                self.months += whole;
                let spilled = rest * 30;
                self.days += spilled / BILLION;
                self.nanos += (spilled % BILLION) * day / BILLION;
            }
            "w" | "week" | "weeks" => {
                self.days += whole * 7 + rest * 7 / BILLION;
                self.nanos += (rest * 7 % BILLION) * day / BILLION;
            }
            "d" | "day" | "days" => {
                self.days += whole;
                self.nanos += rest * day / BILLION;
            }
            "h" | "hr" | "hrs" | "hour" | "hours" => self.nanos += billionths * 3600,
            "m" | "min" | "mins" | "minute" | "minutes" => self.nanos += billionths * 60,
            "s" | "sec" | "secs" | "second" | "seconds" => self.nanos += billionths,
            "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => {
                self.nanos += billionths / 1_000;
            }
            "us" | "usec" | "usecs" | "microsecond" | "microseconds" => {
                self.nanos += billionths / 1_000_000;
            }
            "ns" | "nanosecond" | "nanoseconds" => self.nanos += whole,
            _ => return Err(ValueError::DatetimeSyntax),
        }
        Ok(())
    }
}

const BILLION: i128 = 1_000_000_000;

/// A decimal number times 10^9; at most fifteen digits before the point, so that sums stay small.
fn billionths(number: &str) -> Result<i128, ValueError> {
    let (sign, digits) = match number.as_bytes().first() {
        Some(b'-') => (-1, &number[1..]),
        Some(b'+') => (1, &number[1..]),
        _ => (1, number),
    };
    if !is_plain(digits) {
        return Err(ValueError::DatetimeSyntax);
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.contains('.') {
        return Err(ValueError::DatetimeSyntax);
    }
    if whole.trim_start_matches('0').len() > 15 {
        return Err(ValueError::DatetimeRange);
    }
    let mut value = 0i128;
    let nine = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    for byte in whole.bytes().chain(nine) {
        value = value * 10 + i128::from(byte - b'0');
    }
    Ok(sign * value)
}

/// Whether the text is digits with at most one point.
fn is_plain(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
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

    #[test]
    fn intervals_come_in_words_clocks_and_iso() {
        let second = 1_000_000_000;
        let cases = [
            ("1 day 02:03:04.5", (0, 1, (2 * 3600 + 3 * 60 + 4) * second + second / 2)),
            ("90 seconds", (0, 0, 90 * second)),
            ("5", (0, 0, 5 * second)),
            ("1 year 2 mons -3 days", (14, -3, 0)),
            ("1.5 days", (0, 1, 12 * 3600 * second)),
            ("1 month ago", (-1, 0, 0)),
            ("-00:00:01", (0, 0, -second)),
            ("P1Y2M3W4DT5H6M7.5S", (14, 25, (5 * 3600 + 6 * 60 + 7) * second + second / 2)),
            ("10ms", (0, 0, 10_000_000)),
        ];
        for (text, parts) in cases {
            assert_eq!(parse_interval(text), Ok(parts), "{text}");
        }
        for bad in ["", "day", "1 parsec", "2h30m", "P", "P1", "PT", "1:2:3:4", "ago", "1..5 days"]
        {
            assert_eq!(parse_interval(bad), Err(ValueError::DatetimeSyntax), "{bad}");
        }
        assert_eq!(parse_interval("99999999999 years"), Err(ValueError::DatetimeRange));
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
            let _parts = parse_interval(&text);
        }
    }
}
