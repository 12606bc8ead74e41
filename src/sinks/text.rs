//! Writes dates, times, intervals and numbers as text, for every value that the types can hold.
//!
//! chrono covers fewer years than an `i64` of microseconds, so the calendar arithmetic is here; it
//! is the proleptic Gregorian one, as in PostgreSQL and ISO 8601.
//! Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.

use std::fmt::Write;

const DAY_MICROS: i64 = 86_400_000_000;

/// How years before 1 are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// PostgreSQL: `0044-03-15 BC`.
    Bc,
    /// ISO 8601: year 0 is 1 BC, `-0043-03-15`.
    Sign,
}

/// A point of time's form.
#[derive(Debug, Clone, Copy)]
pub struct PointForm {
    /// Between date and time.
    pub separator: char,
    /// Behind the time, before an era: `Z`, `+00`, nothing.
    pub zone: &'static str,
    /// How years before 1 are written.
    pub era: Era,
}

/// Year (astronomical), month and day of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let cycle = shifted.div_euclid(146_097);
    let day_of_cycle = shifted.rem_euclid(146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524
        - day_of_cycle / 146_096)
        / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 { month_shifted + 3 } else { month_shifted - 9 };
    (year_of_cycle + cycle * 400 + i64::from(month <= 2), month, day)
}

/// Appends to a string; a `String` takes everything.
macro_rules! put {
    ($out:expr, $($argument:tt)*) => {
        write!($out, $($argument)*).expect("a String takes everything")
    };
}

fn push_day(out: &mut String, days: i64, era: Era) -> bool {
    let (year, month, day) = civil(days);
    let before_christ = year < 1 && era == Era::Bc;
    if before_christ {
        put!(out, "{:04}-{month:02}-{day:02}", 1 - year);
    } else if year < 0 {
        put!(out, "-{:04}-{month:02}-{day:02}", -year);
    } else {
        put!(out, "{year:04}-{month:02}-{day:02}");
    }
    before_christ
}

/// A date, in days since 1970-01-01.
pub fn push_date(out: &mut String, days: i64, era: Era) {
    if push_day(out, days, era) {
        out.push_str(" BC");
    }
}

/// A point of time, in microseconds since 1970-01-01T00:00:00; always six digits of fraction, so
/// that texts of one era sort as the points do.
pub fn push_point(out: &mut String, micros: i64, form: PointForm) {
    let before_christ = push_day(out, micros.div_euclid(DAY_MICROS), form.era);
    out.push(form.separator);
    push_time(out, micros.rem_euclid(DAY_MICROS));
    out.push_str(form.zone);
    if before_christ {
        out.push_str(" BC");
    }
}

/// A time of day, in microseconds.
pub fn push_time(out: &mut String, micros: i64) {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    put!(out, "{hours:02}:{minutes:02}:{:02}.{fraction:06}", seconds % 60);
}

/// An interval as PostgreSQL writes it, down to microseconds: `14 mons -3 days -00:00:01.000001`.
pub fn push_interval_postgres(out: &mut String, months: i32, days: i32, nanos: i64) {
    let micros = nanos / 1_000;
    put!(out, "{months} mons {days} days {}", if micros < 0 { "-" } else { "" });
    // A negation of an i64 of nanoseconds divided by 1000 cannot overflow.
    push_time(out, micros.abs());
}

/// An interval as ISO 8601, down to nanoseconds: `P14M-3DT-1.000001S`.
pub fn push_interval_iso(out: &mut String, months: i32, days: i32, nanos: i64) {
    let (seconds, fraction) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).abs());
    let sign = if nanos < 0 { "-" } else { "" };
    put!(out, "P{months}M{days}DT{sign}{}", seconds.unsigned_abs());
    if fraction != 0 {
        let digits = format!("{fraction:09}");
        put!(out, ".{}", digits.trim_end_matches('0'));
    }
    out.push('S');
}

/// An integer.
pub fn push_integer(out: &mut String, value: i64) {
    let mut digits = [0; 24];
    let written = lexical_core::write(value, &mut digits);
    out.push_str(std::str::from_utf8(written).expect("digits are ASCII"));
}

/// A decimal with exactly `scale` digits behind the point.
pub fn push_decimal(out: &mut String, value: i128, scale: i8) {
    if scale <= 0 {
        put!(out, "{value}");
        if value != 0 {
            out.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
        }
        return;
    }
    let scale = usize::from(scale.unsigned_abs());
    let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    put!(out, "{}{whole}.{fraction}", if value < 0 { "-" } else { "" });
}

/// A floating number that reads back to the same bits; `NaN`, `Infinity`, `-Infinity`.
pub fn push_float(out: &mut String, value: f64, single: bool) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    } else if single {
        put!(out, "{:?}", value as f32);
    } else {
        put!(out, "{value:?}");
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const BC: PointForm = PointForm { separator: ' ', zone: "+00", era: Era::Bc };
    const ISO: PointForm = PointForm { separator: 'T', zone: "Z", era: Era::Sign };

    fn check(write: impl FnOnce(&mut String), expected: Expect) {
        let mut out = String::new();
        write(&mut out);
        expected.assert_eq(&out);
    }

    #[test]
    fn points_before_1970_and_before_christ_are_written() {
        check(|o| push_point(o, 0, BC), expect!["1970-01-01 00:00:00.000000+00"]);
        check(|o| push_point(o, -1, ISO), expect!["1969-12-31T23:59:59.999999Z"]);
        check(|o| push_date(o, -719_528, Era::Bc), expect!["0001-01-01 BC"]);
        check(|o| push_date(o, -719_528, Era::Sign), expect!["0000-01-01"]);
        check(|o| push_date(o, -719_529, Era::Sign), expect!["-0001-12-31"]);
        check(|o| push_date(o, 19_782, Era::Bc), expect!["2024-02-29"]);
    }

    #[test]
    fn the_ends_of_time_are_written() {
        check(|o| push_point(o, i64::MAX, BC), expect!["294247-01-10 04:00:54.775807+00"]);
        check(|o| push_point(o, i64::MIN, BC), expect!["290309-12-21 19:59:05.224192+00 BC"]);
        check(|o| push_point(o, i64::MIN, ISO), expect!["-290308-12-21T19:59:05.224192Z"]);
        check(|o| push_date(o, i32::MAX.into(), Era::Bc), expect!["5881580-07-11"]);
        check(|o| push_date(o, i32::MIN.into(), Era::Bc), expect!["5877642-06-23 BC"]);
    }

    #[test]
    fn every_day_of_800_years_follows_the_one_before() {
        let mut previous = civil(-146_098);
        for days in -146_097..146_097 {
            let (year, month, day) = civil(days);
            let next_month = if previous.1 == 12 { 1 } else { previous.1 + 1 };
            let follows = (year, month, day) == (previous.0, previous.1, previous.2 + 1)
                || (day == 1 && month == next_month && (27..=31).contains(&previous.2));
            assert!(follows, "{previous:?} then {year}-{month}-{day}");
            previous = (year, month, day);
        }
    }

    #[test]
    fn intervals_keep_the_sign_of_each_part() {
        let micro = -1_000_001_000;
        check(
            |o| push_interval_postgres(o, 14, -3, micro),
            expect!["14 mons -3 days -00:00:01.000001"],
        );
        check(|o| push_interval_iso(o, 14, -3, micro), expect!["P14M-3DT-1.000001S"]);
        check(
            |o| push_interval_postgres(o, i32::MIN, i32::MIN, i64::MIN),
            expect!["-2147483648 mons -2147483648 days -2562047:47:16.854775"],
        );
        check(
            |o| push_interval_iso(o, i32::MIN, i32::MIN, i64::MIN),
            expect!["P-2147483648M-2147483648DT-9223372036.854775808S"],
        );
    }

    #[test]
    fn decimals_have_exactly_their_scale() {
        check(|o| push_decimal(o, -5, 3), expect!["-0.005"]);
        check(|o| push_decimal(o, 1_500, 2), expect!["15.00"]);
        check(|o| push_decimal(o, 15, -2), expect!["1500"]);
        check(|o| push_decimal(o, 0, -2), expect!["0"]);
        check(
            |o| push_decimal(o, i128::MIN, 38),
            expect!["-1.70141183460469231731687303715884105728"],
        );
    }

    #[test]
    fn floats_read_back_to_the_same_bits() {
        check(|o| push_float(o, 0.1, false), expect!["0.1"]);
        check(|o| push_float(o, f64::from(0.1_f32), true), expect!["0.1"]);
        check(|o| push_float(o, -0.0, false), expect!["-0.0"]);
        check(|o| push_float(o, 1e300, false), expect!["1e300"]);
        check(|o| push_float(o, f64::NEG_INFINITY, false), expect!["-Infinity"]);
        check(|o| push_float(o, -f64::NAN, false), expect!["NaN"]);
    }
}
