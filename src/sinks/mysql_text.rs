//! Writes values and names as MySQL's literals.
//!
//! | SQL | literal |
//! |---|---|
//! | BOOLEAN, integers, NUMERIC | digits; booleans 1 and 0 |
//! | REAL, DOUBLE | with an exponent, which makes it a DOUBLE; NaN and the infinities have no form |
//! | TEXT, JSON, lists, structs | text in quotes; lists and structs as JSON |
//! | DATE, TIMESTAMP | `'YYYY-MM-DD'`, `'YYYY-MM-DD HH:MM:SS.ffffff'`, years 1 to 9999 |
//! | TIMESTAMPTZ | the same, in UTC |
//! | INTERVAL | ISO 8601 text |
//! | BYTEA | `x'…'` |
//!
//! The session has backslash escapes and `utf8mb4`, whatever the server's defaults are.

use crate::error::SqlState;
use crate::sinks::text::{self, Era, PointForm};
use crate::sinks::values::{self, Value};

/// Days from 1970-01-01 to 0001-01-01 and to 10000-01-01.
const DAYS: std::ops::Range<i64> = -719_162..2_932_897;
const DAY_MICROS: i64 = 86_400_000_000;

/// Why a value has no literal: code and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unfit(pub(crate) &'static str, pub(crate) String);

/// A name in backticks, whatever is in it.
pub(crate) fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as a literal.
pub(crate) fn literal(text: &str) -> String {
    let mut out = Vec::new();
    push_text(&mut out, text);
    String::from_utf8(out).expect("escapes are ASCII")
}

/// Appends a value as a literal.
pub(crate) fn push(out: &mut Vec<u8>, value: &Value<'_>) -> Result<(), Unfit> {
    const POINT: PointForm = PointForm { separator: ' ', zone: "", era: Era::Sign };
    let mut scratch = String::new();
    match value {
        Value::Null => out.extend_from_slice(b"NULL"),
        Value::Boolean(value) => out.push(if *value { b'1' } else { b'0' }),
        Value::Integer(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Float(value, _) if !value.is_finite() => {
            return Err(unfit(SqlState::NUMERIC_RANGE, &format!("the number {value}")));
        }
        // The shortest digits of the single number, not those of the double that holds it.
        Value::Float(value, true) => {
            out.extend_from_slice(format!("{:e}", *value as f32).as_bytes());
        }
        Value::Float(value, false) => out.extend_from_slice(format!("{value:e}").as_bytes()),
        Value::Decimal(value, scale) => {
            text::push_decimal(&mut scratch, *value, *scale);
            out.extend_from_slice(scratch.as_bytes());
        }
        Value::Text(value) | Value::Json(value) => push_text(out, value),
        Value::Date(days) => {
            text::push_date(&mut scratch, *days, Era::Sign);
            check_day(*days, &scratch)?;
            push_text(out, &scratch);
        }
        Value::Timestamp(t) | Value::TimestampTz(t) => {
            text::push_point(&mut scratch, *t, POINT);
            check_day(t.div_euclid(DAY_MICROS), &scratch)?;
            push_text(out, &scratch);
        }
        Value::Time(t) => {
            text::push_time(&mut scratch, *t);
            push_text(out, &scratch);
        }
        Value::Interval(months, days, nanos) => {
            text::push_interval_iso(&mut scratch, *months, *days, *nanos);
            push_text(out, &scratch);
        }
        Value::Bytes(bytes) => {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.extend_from_slice(b"x'");
            for byte in *bytes {
                out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            out.push(b'\'');
        }
        Value::List(..) | Value::Struct(..) => {
            values::push_json(&mut scratch, value);
            push_text(out, &scratch);
        }
    }
    Ok(())
}

fn unfit(code: SqlState, what: &str) -> Unfit {
    Unfit(code.0, format!("{what} has no form in MySQL"))
}

fn check_day(days: i64, text: &str) -> Result<(), Unfit> {
    match DAYS.contains(&days) {
        true => Ok(()),
        false => Err(unfit(SqlState::DATETIME_RANGE, &format!("the time {text}"))),
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'\'');
    for byte in text.bytes() {
        match byte {
            0 => out.extend_from_slice(b"\\0"),
            b'\'' | b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0x1A => out.extend_from_slice(b"\\Z"),
            _ => out.push(byte),
        }
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &Value<'_>) -> Result<String, &'static str> {
        let mut out = Vec::new();
        push(&mut out, value).map_err(|unfit| unfit.0)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn hostile_text_cannot_leave_its_quotes() {
        assert_eq!(literal("'; DROP TABLE t; -- \\"), "'\\'; DROP TABLE t; -- \\\\'");
        assert_eq!(literal("\0\n\r\u{1A}\"💧"), "'\\0\\n\\r\\Z\\\"💧'");
        assert_eq!(quote("a`; DROP"), "`a``; DROP`");
    }

    #[test]
    fn numbers_keep_their_value_and_their_kind() {
        assert_eq!(check(&Value::Float(-0.0, false)).unwrap(), "-0e0");
        assert_eq!(check(&Value::Float(f64::from(0.1_f32), true)).unwrap(), "1e-1");
        assert_eq!(check(&Value::Float(1e300, false)).unwrap(), "1e300");
        assert_eq!(check(&Value::Float(f64::NAN, false)), Err("22003"));
        assert_eq!(check(&Value::Decimal(-5, 3)).unwrap(), "-0.005");
        assert_eq!(check(&Value::Bytes(&[0, 255])).unwrap(), "x'00FF'");
    }

    #[test]
    fn times_outside_of_the_calendar_are_refused_and_not_cut() {
        assert_eq!(check(&Value::Date(-719_162)).unwrap(), "'0001-01-01'");
        assert_eq!(check(&Value::Date(2_932_896)).unwrap(), "'9999-12-31'");
        assert_eq!(check(&Value::Date(-719_163)), Err("22008"));
        assert_eq!(check(&Value::Date(2_932_897)), Err("22008"));
        assert_eq!(check(&Value::Timestamp(i64::MIN)), Err("22008"));
        assert_eq!(check(&Value::Timestamp(-1)).unwrap(), "'1969-12-31 23:59:59.999999'");
    }
}
