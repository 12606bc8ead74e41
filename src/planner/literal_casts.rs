//! Reads constants by the type that they are cast to, where the types of DataFusion's constants would
//! lose something: digits of a number on its way to NUMERIC, the hexadecimal form of bytes.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    DataType as SqlType, Expr, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};

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
            _ => {}
        }
        ControlFlow::Continue(())
    }
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
