//! Keeps the digits of numbers that a statement writes into columns, and gives texts beside other values
//! their column's type.
//!
//! In an expression a number with a point or an exponent is a DOUBLE, which holds some 15 digits. One
//! that stands alone where a column gets its value is read as that column's type instead. So is a text in
//! VALUES, where another row has something else in its place: rows of one VALUES have one type.

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as SqlType, ExactNumberInfo, Expr, Query, SelectItem, SetExpr, TimezoneInfo,
    UnaryOperator, Value, ValueWithSpan,
};

use crate::decode::{column_of_texts, number_for};
use crate::encode::text::display;
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
            let width = values.rows.iter().map(|row| row.content.len()).max().unwrap_or(0);
            for place in 0..width {
                let column = values.rows.iter_mut().filter_map(|row| row.content.get_mut(place));
                let column: Vec<&mut Expr> = column.collect();
                field(place).map_or(Ok(()), |field| texts_beside_others(column, field))?;
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

/// Casts the texts among the values of a column to its type, where there are others.
fn texts_beside_others(mut column: Vec<&mut Expr>, field: &Field) -> Result<()> {
    let is_null =
        |expr: &Expr| matches!(expr, Expr::Value(ValueWithSpan { value: Value::Null, .. }));
    let mixed = column.iter().any(|expr| text(expr).is_some())
        && column.iter().any(|expr| text(expr).is_none() && !is_null(expr));
    let Some(to) = sql_type(field.data_type()).filter(|_| mixed) else { return Ok(()) };
    for expr in &mut column {
        let Some(written) = text(expr) else { continue };
        let values = column_of_texts(field, &[Some(written.to_owned())])
            .map_err(|misfit| Error::new(misfit.code, misfit.message))?;
        // The form in which we write values, which a cast reads, too.
        let read = display(&values, 0, field);
        **expr = Expr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(Expr::value(Value::SingleQuotedString(read))),
            data_type: to.clone(),
            array: false,
            format: None,
        };
    }
    Ok(())
}

/// The type of a column in SQL; none for one whose values are texts, or are made of others.
fn sql_type(data_type: &DataType) -> Option<SqlType> {
    Some(match data_type {
        DataType::Boolean => SqlType::Boolean,
        DataType::Int16 => SqlType::SmallInt(None),
        DataType::Int32 => SqlType::Int(None),
        DataType::Int64 => SqlType::BigInt(None),
        DataType::Float32 => SqlType::Real,
        DataType::Float64 => SqlType::DoublePrecision,
        DataType::Decimal128(precision, scale) => SqlType::Numeric(
            ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale)),
        ),
        DataType::Date32 => SqlType::Date,
        DataType::Timestamp(_, None) => SqlType::Timestamp(None, TimezoneInfo::None),
        DataType::Timestamp(_, Some(_)) => SqlType::Timestamp(None, TimezoneInfo::Tz),
        DataType::Interval(_) => SqlType::Interval { fields: None, precision: None },
        DataType::Binary => SqlType::Bytea,
        _ => return None,
    })
}

fn text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) => Some(text),
        Expr::Nested(inner) => text(inner),
        _ => None,
    }
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
