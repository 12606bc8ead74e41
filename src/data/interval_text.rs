//! Reads intervals in PostgreSQL's words and in ISO 8601, and writes them in those words.

/// Months, days and nanoseconds of an INTERVAL.
pub type IntervalParts = (i32, i32, i64);

/// Why a text is no interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntervalError {
    /// Not the text of one.
    Syntax,
    /// More than an INTERVAL holds.
    Range,
}

/// An INTERVAL: `1 day 02:03:04`, `90 seconds`, `1 year 2 mons -3 days ago`, `P1DT2H`.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_interval(text: &str) -> Result<IntervalParts, IntervalError> {
    let mut sum = IntervalSum::default();
    match text.strip_prefix(['P', 'p']) {
        Some(iso) => sum.iso(iso)?,
        None => sum.words(text)?,
    }
    sum.parts()
}

/// PostgreSQL's form: `1 year 2 mons -3 days 04:05:06.5`.
pub fn write_interval(months: i32, days: i32, nanos: i64, out: &mut Vec<u8>) {
    let mut pieces: Vec<String> = Vec::with_capacity(4);
    // What is above zero says so behind what is below it.
    let mut below = false;
    let mut piece = |count: i32, one: &str, many: &str| {
        if count != 0 {
            let sign = if below && count > 0 { "+" } else { "" };
            below = count < 0;
            pieces.push(format!("{sign}{count} {}", if count == 1 { one } else { many }));
        }
    };
    piece(months / 12, "year", "years");
    piece(months % 12, "mon", "mons");
    piece(days, "day", "days");
    if nanos != 0 || pieces.is_empty() {
        let size = nanos.unsigned_abs();
        let (seconds, rest) = (size / 1_000_000_000, size % 1_000_000_000);
        let sign = match (nanos < 0, below && nanos > 0) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let mut clock = format!("{sign}{hours:02}:{minutes:02}:{seconds:02}");
        if rest > 0 {
            clock.push_str(format!(".{rest:09}").trim_end_matches('0'));
        }
        pieces.push(clock);
    }
    out.extend_from_slice(pieces.join(" ").as_bytes());
}

/// The sum of an interval's pieces; wide enough that pieces in range cannot overflow it.
#[derive(Default)]
struct IntervalSum {
    months: i128,
    days: i128,
    nanos: i128,
}

impl IntervalSum {
    fn parts(&self) -> Result<IntervalParts, IntervalError> {
        let range = |_| IntervalError::Range;
        Ok((
            i32::try_from(self.months).map_err(range)?,
            i32::try_from(self.days).map_err(range)?,
            i64::try_from(self.nanos).map_err(range)?,
        ))
    }

    /// PostgreSQL's verbose form: numbers with units, a time of day, `ago` at the end.
    fn words(&mut self, text: &str) -> Result<(), IntervalError> {
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
        if any { Ok(()) } else { Err(IntervalError::Syntax) }
    }

    /// `[-]HH:MM[:SS[.fraction]]`.
    fn clock(&mut self, word: &str) -> Result<(), IntervalError> {
        let (sign, clock) = match word.as_bytes()[0] {
            b'-' => (-1, &word[1..]),
            b'+' => (1, &word[1..]),
            _ => (1, word),
        };
        let mut pieces = clock.split(':');
        let (hours, minutes) = (pieces.next().unwrap_or(""), pieces.next().unwrap_or(""));
        let seconds = pieces.next().unwrap_or("0");
        if pieces.next().is_some() || [hours, minutes, seconds].iter().any(|p| !is_plain(p)) {
            return Err(IntervalError::Syntax);
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
    fn iso(&mut self, text: &str) -> Result<(), IntervalError> {
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
                _ => return Err(IntervalError::Syntax),
            };
            self.add(number, unit)?;
            any = true;
        }
        if any && start == text.len() { Ok(()) } else { Err(IntervalError::Syntax) }
    }

    /// Adds `number` times `unit`. A fraction of a month or day spills into the smaller fields as
    /// in PostgreSQL: a month is 30 days there, a day 24 hours.
    fn add(&mut self, number: &str, unit: &str) -> Result<(), IntervalError> {
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
            _ => return Err(IntervalError::Syntax),
        }
        Ok(())
    }
}

const BILLION: i128 = 1_000_000_000;

/// A decimal number times 10^9; at most fifteen digits before the point, so that sums stay small.
fn billionths(number: &str) -> Result<i128, IntervalError> {
    let (sign, digits) = match number.as_bytes().first() {
        Some(b'-') => (-1, &number[1..]),
        Some(b'+') => (1, &number[1..]),
        _ => (1, number),
    };
    if !is_plain(digits) {
        return Err(IntervalError::Syntax);
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.contains('.') {
        return Err(IntervalError::Syntax);
    }
    if whole.trim_start_matches('0').len() > 15 {
        return Err(IntervalError::Range);
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
            assert_eq!(parse_interval(bad), Err(IntervalError::Syntax), "{bad}");
        }
        assert_eq!(parse_interval("99999999999 years"), Err(IntervalError::Range));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}|P?[-0-9.:TYMWDHS ]{0,20}") {
            let parts = parse_interval(&text);
            proptest::prop_assert!(parts.is_err() || text.bytes().any(|b| b.is_ascii_digit()));
        }
    }
}
