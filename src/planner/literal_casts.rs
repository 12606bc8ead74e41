//! Reads constants by the type that they are cast to, where the types of DataFusion's constants would
//! lose something: digits of a number on its way to NUMERIC, the hexadecimal form of bytes, the words of an
//! INTERVAL. `x AT TIME ZONE z` becomes the function that PostgreSQL makes of it.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DataType as SqlType, Expr, Interval, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};

use crate::data::interval_text::{IntervalParts, parse_interval};
use crate::planner::sql_call::sql_call;

/// Rewrites every such cast below.
pub(super) fn keep_constants(node: &mut impl VisitMut) {
    let walked = VisitMut::visit(node, &mut Casts);
    debug_assert!(walked.is_continue(), "the visitor never breaks off");
}

struct Casts;

impl VisitorMut for Casts {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Cast { expr: value, data_type, .. } => match data_type {
                SqlType::Numeric(_) | SqlType::Decimal(_) | SqlType::Dec(_) => {
                    if let Some(digits) = fraction(value) {
                        **value = Expr::value(Value::SingleQuotedString(digits));
                    }
                }
                SqlType::Interval { .. } => {
                    if let Some(parts) = text_of(value).and_then(interval_parts) {
                        **value = Expr::value(Value::SingleQuotedString(interval_words(parts)));
                    }
                }
                SqlType::Bytea => {
                    if let Expr::Value(ValueWithSpan { value: constant, .. }) = &mut **value {
                        as_bytes(constant);
                    }
                }
                _ => {}
            },
            Expr::TypedString(typed) if matches!(typed.data_type, SqlType::Bytea) => {
                as_bytes(&mut typed.value.value);
                if matches!(typed.value.value, Value::HexStringLiteral(_)) {
                    *expr = Expr::Value(typed.value.clone());
                }
            }
            Expr::Interval(interval) => {
                if let Some(parts) = parts_of(interval) {
                    *interval.value = Expr::value(Value::SingleQuotedString(interval_words(parts)));
                }
            }
            Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => {
                // DataFusion would negate the first of the fields only.
                if let Expr::Interval(interval) = &mut **inner
                    && let Some((months, days, nanos)) = parts_of(interval)
                    && let (Some(months), Some(days), Some(nanos)) =
                        (months.checked_neg(), days.checked_neg(), nanos.checked_neg())
                {
                    let words = interval_words((months, days, nanos));
                    *interval.value = Expr::value(Value::SingleQuotedString(words));
                    *expr = (**inner).clone();
                }
            }
            Expr::AtTimeZone { timestamp, time_zone } => {
                *expr = sql_call("timezone", vec![(**time_zone).clone(), (**timestamp).clone()]);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What an interval that is one text comes to.
fn parts_of(interval: &Interval) -> Option<IntervalParts> {
    let plain = interval.leading_field.is_none() && interval.last_field.is_none();
    text_of(&interval.value).filter(|_| plain).and_then(interval_parts)
}

fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        _ => None,
    }
}

/// A text that we cannot read is left to DataFusion, which knows a few more words.
fn interval_parts(text: &str) -> Option<IntervalParts> {
    parse_interval(text.trim()).ok()
}

/// The parts in words that DataFusion reads.
fn interval_words((months, days, nanos): IntervalParts) -> String {
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    format!("{months} mons {days} days {seconds} secs {rest} nanoseconds")
}

/// The text of a number with a point or an exponent, or of an integer of many digits.
fn fraction(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => {
            let is_short = digits.len() <= 18 && digits.bytes().all(|byte| byte.is_ascii_digit());
            (!is_short).then(|| digits.replace('_', ""))
        }
        Expr::Nested(inner) => fraction(inner),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => fraction(expr)
            .filter(|digits| !digits.starts_with('-'))
            .map(|digits| format!("-{digits}")),
        _ => None,
    }
}

/// `'\x00ff'` as the two bytes. Another text keeps its characters' bytes.
fn as_bytes(value: &mut Value) {
    let digits = match value {
        Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => {
            text.strip_prefix("\\x").map(str::to_string)
        }
        _ => None,
    };
    if let Some(digits) = digits.filter(|digits| {
        digits.len().is_multiple_of(2) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    }) {
        *value = Value::HexStringLiteral(digits);
    }
}
