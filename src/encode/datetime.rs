//! Writes dates, times and intervals as text.

use std::io::Write;

pub(crate) use crate::data::interval_text::write_interval;

const DAY_SECONDS: i64 = 86_400;
pub(crate) const DAY_NANOS: i64 = 86_400_000_000_000;

/// Year, month and day of a number of days since 1970-01-01.
/// Source: Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day)
}

/// `YYYY-MM-DD`; years that four digits cannot hold carry a sign.
pub(crate) fn write_date(days: i64, out: &mut Vec<u8>) {
    let (year, month, day) = civil_from_days(days);
    if (0..=9999).contains(&year) {
        let (century, year) = ((year / 100) as u32, (year % 100) as u32);
        pair(century, out);
        pair(year, out);
    } else {
        put(out, format_args!("{year:+05}"));
    }
    out.push(b'-');
    pair(month, out);
    out.push(b'-');
    pair(day, out);
}

/// How the fraction of a second is shown; a zero fraction never is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fraction {
    /// Three, six or nine digits.
    Thousands,
    /// Without trailing zeros.
    Shortest,
}

/// Date and time of day of a moment, `separator` between them.
pub(crate) fn write_timestamp(
    seconds: i64,
    nanos: u32,
    separator: u8,
    fraction: Fraction,
    out: &mut Vec<u8>,
) {
    write_date(seconds.div_euclid(DAY_SECONDS), out);
    out.push(separator);
    write_clock(seconds.rem_euclid(DAY_SECONDS), nanos, fraction, out);
}

/// `HH:MM:SS` and the fraction.
pub(crate) fn write_clock(seconds: i64, nanos: u32, fraction: Fraction, out: &mut Vec<u8>) {
    let (hours, minutes) = (seconds / 3600, (seconds / 60 % 60) as u32);
    if hours < 100 {
        pair(hours as u32, out);
    } else {
        put(out, format_args!("{hours}"));
    }
    out.push(b':');
    pair(minutes, out);
    out.push(b':');
    pair((seconds % 60) as u32, out);
    if nanos == 0 {
        return;
    }
    let start = out.len();
    put(out, format_args!(".{nanos:09}"));
    match fraction {
        Fraction::Thousands if nanos.is_multiple_of(1_000_000) => out.truncate(start + 4),
        Fraction::Thousands if nanos.is_multiple_of(1_000) => out.truncate(start + 7),
        Fraction::Thousands => {}
        Fraction::Shortest => {
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
    }
}

/// A duration as an interval of days and a time of day.
pub(crate) fn write_duration(nanos: i128, out: &mut Vec<u8>) {
    let days = nanos / i128::from(DAY_NANOS);
    let rest = (nanos % i128::from(DAY_NANOS)) as i64;
    // Seconds in 64 bits are more days than an interval holds; such a duration is clamped.
    let days = days.clamp(i128::from(i32::MIN), i128::from(i32::MAX)) as i32;
    write_interval(0, days, rest, out);
}

fn pair(value: u32, out: &mut Vec<u8>) {
    out.push(b'0' + (value / 10 % 10) as u8);
    out.push(b'0' + (value % 10) as u8);
}

/// Formats into bytes.
pub(crate) fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory does not fail");
}
