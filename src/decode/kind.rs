//! Says, for each column, which values it takes and how a text becomes one of them.

use arrow::datatypes::{DataType, Field, IntervalUnit};
use base64::Engine;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};

use super::builders::{Scratch, Slot};
use super::datetime;
use super::error::{RowError, ValueError, excerpt};
use super::values;
use crate::data::{interval_text, schema};
use crate::encode::type_name::sql_type_name;

/// What a column takes; one step coarser than its Arrow type.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Text,
    /// Text that is a JSON document.
    Json,
    Bool,
    /// An integer between two ends.
    Int {
        min: i64,
        max: i64,
    },
    Float32,
    Float64,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Date,
    Timestamp,
    Interval,
    Bytes,
    List(Box<Kind>),
    Struct(Vec<Member>),
    /// Cannot come as text; only null fits.
    Unsupported,
}

/// A named value: a column, or a field of a struct.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) nullable: bool,
    /// The SQL type in lower case, for messages.
    pub(crate) type_name: String,
}

impl Member {
    pub(crate) fn of(field: &Field) -> Member {
        Member {
            name: field.name().clone(),
            kind: Kind::of(field),
            nullable: field.is_nullable(),
            type_name: sql_type_name(field).to_lowercase(),
        }
    }

    /// The error of a value of this column.
    pub(crate) fn error(&self, error: ValueError, text: &str) -> RowError {
        RowError::Value {
            error,
            column: self.name.clone(),
            type_name: self.type_name.clone(),
            text: excerpt(text),
        }
    }
}

fn int(min: impl Into<i64>, max: impl Into<i64>) -> Kind {
    Kind::Int { min: min.into(), max: max.into() }
}

impl Kind {
    /// What the field takes. Types that no SQL type maps to are read as their nearest neighbour.
    pub(crate) fn of(field: &Field) -> Kind {
        match field.data_type() {
            DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8 => {
                if schema::is_json(field) {
                    Kind::Json
                } else {
                    Kind::Text
                }
            }
            DataType::Boolean => Kind::Bool,
            DataType::Int8 => int(i8::MIN, i8::MAX),
            DataType::Int16 => int(i16::MIN, i16::MAX),
            DataType::Int32 => int(i32::MIN, i32::MAX),
            DataType::Int64 => int(i64::MIN, i64::MAX),
            DataType::UInt8 => int(0, u8::MAX),
            DataType::UInt16 => int(0, u16::MAX),
            DataType::UInt32 => int(0, u32::MAX),
            DataType::UInt64 => int(0, i64::MAX),
            DataType::Float32 => Kind::Float32,
            DataType::Float64 => Kind::Float64,
            DataType::Decimal128(precision, scale) => {
                Kind::Decimal { precision: *precision, scale: *scale }
            }
            DataType::Date32 => Kind::Date,
            DataType::Timestamp(_, _) => Kind::Timestamp,
            DataType::Interval(IntervalUnit::MonthDayNano) => Kind::Interval,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Kind::Bytes,
            DataType::List(item) => Kind::List(Box::new(Kind::of(item))),
            DataType::Struct(fields) => {
                Kind::Struct(fields.iter().map(|f| Member::of(f)).collect())
            }
            _ => Kind::Unsupported,
        }
    }

    /// Whether a value is one number, text or moment, without parts.
    pub(crate) fn is_scalar(&self) -> bool {
        !matches!(self, Kind::Json | Kind::List(_) | Kind::Struct(_) | Kind::Unsupported)
    }

    /// The value of a text, for every kind but text, JSON and the nested ones.
    /// Blanks around it do not count, as in PostgreSQL.
    #[inline]
    pub(crate) fn slot_of_text(
        &self,
        text: &str,
        scratch: &mut Scratch,
    ) -> Result<Slot, ValueError> {
        let text = text.trim_ascii();
        match self {
            Kind::Bool => values::parse_bool(text).map(Slot::Bool),
            Kind::Int { min, max } => values::parse_int(text, *min, *max).map(Slot::Int),
            Kind::Float64 => values::parse_f64(text).map(Slot::Float),
            Kind::Float32 => values::parse_f32(text).map(|v| Slot::Float(f64::from(v))),
            Kind::Decimal { precision, scale } => {
                values::parse_decimal(text, *precision, *scale).map(Slot::wide)
            }
            Kind::Date => datetime::parse_date(text)
                .map(|days| Slot::Int(i64::from(days)))
                .map_err(|e| number_or(e, text)),
            Kind::Timestamp => {
                datetime::parse_timestamp(text).map(Slot::Int).map_err(|e| number_or(e, text))
            }
            Kind::Interval => interval_text::parse_interval(text)
                .map(|(m, d, n)| Slot::Interval(m, d, n))
                .map_err(ValueError::from),
            Kind::Bytes => {
                let start = scratch.bytes.len();
                values::parse_hex(text, &mut scratch.bytes)?;
                Ok(Slot::Bytes(start as u32, (scratch.bytes.len() - start) as u32))
            }
            Kind::Unsupported => Err(ValueError::Unsupported),
            Kind::Text | Kind::Json | Kind::List(_) | Kind::Struct(_) => Err(ValueError::Syntax),
        }
    }
}

/// A text of digits is no time: nobody can know its unit.
fn number_or(error: ValueError, text: &str) -> ValueError {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if number && error == ValueError::DatetimeSyntax { ValueError::BareNumber } else { error }
}

/// Base64 in the standard alphabet, padded or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes as JSON carries them: base64, or PostgreSQL's `\x` form.
pub(crate) fn slot_of_base64(text: &str, scratch: &mut Scratch) -> Result<Slot, ValueError> {
    let start = scratch.bytes.len();
    if text.starts_with("\\x") {
        values::parse_hex(text, &mut scratch.bytes)?;
    } else {
        BASE64.decode_vec(text, &mut scratch.bytes).map_err(|_| ValueError::Syntax)?;
    }
    Ok(Slot::Bytes(start as u32, (scratch.bytes.len() - start) as u32))
}
