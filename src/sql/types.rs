//! Turns the type of a column as written into the Arrow type that holds it, by the table in
//! [`crate::data::schema`].

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, DataType as SqlType, ExactNumberInfo, StructField, TimezoneInfo,
};

use crate::data::schema::{TIMESTAMP, as_json};

use super::error::ParseError;
use super::parse::fold;
use super::statement::ColumnDefinition;

const PRECISION_MAX: u64 = 38;
const NUMERIC_DEFAULT: DataType = DataType::Decimal128(38, 9);

const TYPES: &str = "Types are TEXT, BOOLEAN, SMALLINT, INT, BIGINT, REAL, DOUBLE, NUMERIC(p,s), \
     DATE, TIMESTAMP, TIMESTAMPTZ, INTERVAL, BYTEA, JSON, T[] and STRUCT<name T, …>.";

/// The field of a column, with the mark of JSON.
pub fn column_field(column: &ColumnDefinition) -> Result<FieldRef, ParseError> {
    field(&column.name, &column.data_type, !column.not_null)
}

/// The Arrow type of a column, and whether it holds JSON documents.
pub fn arrow_type(sql: &SqlType) -> Result<(DataType, bool), ParseError> {
    let plain = match sql {
        SqlType::JSON => return Ok((DataType::Utf8View, true)),
        SqlType::Text
        | SqlType::String(None)
        | SqlType::Varchar(None)
        | SqlType::CharVarying(None)
        | SqlType::CharacterVarying(None) => DataType::Utf8View,
        SqlType::Bool | SqlType::Boolean => DataType::Boolean,
        SqlType::SmallInt(None) | SqlType::Int2(None) => DataType::Int16,
        SqlType::Int(None) | SqlType::Integer(None) | SqlType::Int4(None) => DataType::Int32,
        SqlType::BigInt(None) | SqlType::Int8(None) => DataType::Int64,
        SqlType::Real | SqlType::Float4 => DataType::Float32,
        SqlType::Double(ExactNumberInfo::None)
        | SqlType::DoublePrecision
        | SqlType::Float8
        | SqlType::Float(ExactNumberInfo::None) => DataType::Float64,
        SqlType::Float(ExactNumberInfo::Precision(bits)) => match bits {
            1..=24 => DataType::Float32,
            25..=53 => DataType::Float64,
            _ => return Err(out_of_range(format!("precision of {sql} must be from 1 to 53"))),
        },
        SqlType::Numeric(size) | SqlType::Decimal(size) | SqlType::Dec(size) => decimal(*size)?,
        SqlType::Date => DataType::Date32,
        SqlType::Timestamp(None | Some(6), TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
            TIMESTAMP
        }
        SqlType::Timestamp(None | Some(6), TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        SqlType::Interval { fields: None, precision: None } => {
            DataType::Interval(IntervalUnit::MonthDayNano)
        }
        SqlType::Bytea => DataType::Binary,
        // PostgreSQL takes a size too, and ignores it.
        SqlType::Array(
            ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item),
        ) => DataType::List(field(Field::LIST_FIELD_DEFAULT_NAME, item, true)?),
        SqlType::Struct(fields, _) => structure(fields)?,
        other => return Err(not_supported(other)),
    };
    Ok((plain, false))
}

fn field(name: &str, sql: &SqlType, nullable: bool) -> Result<FieldRef, ParseError> {
    let (data_type, is_json) = arrow_type(sql)?;
    let field = Field::new(name, data_type, nullable);
    Ok(Arc::new(if is_json { as_json(field) } else { field }))
}

fn decimal(size: ExactNumberInfo) -> Result<DataType, ParseError> {
    let (precision, scale) = match size {
        ExactNumberInfo::None => return Ok(NUMERIC_DEFAULT),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let digits = match u8::try_from(precision) {
        Ok(digits) if (1..=PRECISION_MAX).contains(&precision) => digits,
        _ => {
            return Err(out_of_range(format!(
                "NUMERIC precision {precision} must be from 1 to {PRECISION_MAX}"
            )));
        }
    };
    match i8::try_from(scale) {
        Ok(places) if (0..=i64::from(digits)).contains(&scale) => {
            Ok(DataType::Decimal128(digits, places))
        }
        _ => Err(out_of_range(format!(
            "NUMERIC scale {scale} must be from 0 to the precision {precision}"
        ))),
    }
}

fn structure(fields: &[StructField]) -> Result<DataType, ParseError> {
    let mut inner: Vec<FieldRef> = Vec::with_capacity(fields.len());
    for struct_field in fields {
        let Some(name) = struct_field.field_name.as_ref().map(fold) else {
            return Err(ParseError::NotSupported {
                what: "STRUCT field without a name is".to_owned(),
                hint: Some("Write STRUCT<name TEXT, size INT>.".to_owned()),
                position: None,
            });
        };
        if inner.iter().any(|field| *field.name() == name) {
            return Err(ParseError::NotSupported {
                what: format!("STRUCT with two fields \"{name}\" is"),
                hint: None,
                position: None,
            });
        }
        inner.push(field(&name, &struct_field.field_type, true)?);
    }
    if inner.is_empty() {
        return Err(ParseError::NotSupported {
            what: "STRUCT without fields is".to_owned(),
            hint: Some("Write STRUCT<name TEXT, size INT>.".to_owned()),
            position: None,
        });
    }
    Ok(DataType::Struct(inner.into()))
}

fn out_of_range(what: String) -> ParseError {
    ParseError::OutOfRange { what, position: None }
}

fn not_supported(sql: &SqlType) -> ParseError {
    let hint = match sql {
        SqlType::Varchar(_)
        | SqlType::Char(_)
        | SqlType::Character(_)
        | SqlType::CharVarying(_)
        | SqlType::CharacterVarying(_) => "Write TEXT; a length is not enforced.",
        SqlType::Timestamp(..) => "Write TIMESTAMP or TIMESTAMPTZ; both keep microseconds.",
        SqlType::JSONB => "Write JSON.",
        SqlType::Blob(_) | SqlType::Binary(_) | SqlType::Varbinary(_) => "Write BYTEA.",
        SqlType::TinyInt(_) => "Write SMALLINT.",
        _ => TYPES,
    };
    let name = sql.to_string().to_lowercase();
    let name: String = name.chars().take(60).collect();
    ParseError::NotSupported {
        what: format!("type \"{name}\" is"),
        hint: Some(hint.to_owned()),
        position: None,
    }
}
