//! Keeps the digits of numbers that a statement writes into columns.
//!
//! In an expression a number with a point or an exponent is a DOUBLE, which holds some 15 digits. One
//! that stands alone where a column gets its value is read as that column's type instead.

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as SqlType, ExactNumberInfo, Expr, Query, SelectItem, SetExpr,
    UnaryOperator, Value, ValueWithSpan,
};

use crate::decode::number_for;
use crate::error::{Error, Result};

/// Reads the numbers of the rows of an INSERT. `columns` has the place in `schema` of each value.
///
/// # Errors
/// 22003 for a number that its column cannot hold.
pub(super) fn in_rows(query: &mut Query, schema: &Schema, columns: &[usize]) -> Result<()> {
    in_set(&mut query.body, schema, columns)
}

fn in_set(body: &mut SetExpr, schema: &Schema, columns: &[usize]) -> Result<()> {
    let field = |place: usize| columns.get(place).map(|column| schema.field(*column));
    match body {
        SetExpr::Values(values) => {
            for row in &mut values.rows {
                for (place, expr) in row.content.iter_mut().enumerate() {
                    field(place).map_or(Ok(()), |field| in_value(expr, field))?;
                }
            }
        }
        SetExpr::Select(select) => {
            for (place, item) in select.projection.iter_mut().enumerate() {
                match item {
                    SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                        field(place).map_or(Ok(()), |field| in_value(expr, field))?;
                    }
                    // Behind a wildcard nobody knows yet which column comes.
                    _ => break,
                }
            }
        }
        SetExpr::SetOperation { left, right, .. } => {
            in_set(left, schema, columns)?;
            in_set(right, schema, columns)?;
        }
        SetExpr::Query(query) => in_set(&mut query.body, schema, columns)?,
        _ => {}
    }
    Ok(())
}

/// Reads the number that an expression is, if it is one, as a value of the field.
///
/// # Errors
/// 22003 for a number that the field cannot hold.
pub(super) fn in_value(expr: &mut Expr, field: &Field) -> Result<()> {
    if let (Expr::Array(array), DataType::List(item)) = (&mut *expr, field.data_type()) {
        let item = item.as_ref().clone().with_name(field.name());
        return array.elem.iter_mut().try_for_each(|element| in_value(element, &item));
    }
    let Some(written) = number(expr) else { return Ok(()) };
    let read = number_for(field, &written);
    let read = read.map_err(|misfit| Error::new(misfit.code, misfit.message))?;
    match field.data_type() {
        DataType::Decimal128(precision, scale) => {
            let size = ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale));
            *expr = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(Expr::value(Value::SingleQuotedString(read))),
                data_type: SqlType::Numeric(size),
                array: false,
                format: None,
            };
        }
        data_type if data_type.is_integer() && read != written => {
            let digits = read.trim_start_matches('-').to_string();
            let value = Expr::value(Value::Number(digits, false));
            *expr = if read.starts_with('-') {
                Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(value) }
            } else {
                value
            };
        }
        _ => {}
    }
    Ok(())
}

/// The text of a number that stands alone, with its sign.
fn number(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::Number(digits, _), .. }) => {
            Some(digits.replace('_', ""))
        }
        Expr::Nested(inner) => number(inner),
        Expr::UnaryOp { op: UnaryOperator::Plus, expr } => number(expr),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            let digits = number(expr)?;
            let positive = digits.strip_prefix('-').map(str::to_string);
            Some(positive.unwrap_or_else(|| format!("-{digits}")))
        }
        _ => None,
    }
}
