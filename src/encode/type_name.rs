//! Names the SQL type of a field.

use arrow::datatypes::{DataType, Field};

use crate::data::schema;

/// The type as it is written in CREATE STREAM: `TEXT`, `BIGINT`, `NUMERIC(10,2)`, `TEXT[]` …
/// Types that SQL cannot write keep Arrow's name.
pub fn sql_type_name(field: &Field) -> String {
    match field.data_type() {
        DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8 if schema::is_json(field) => {
            "JSON".to_string()
        }
        DataType::Dictionary(_, values) => {
            sql_type_name(&field.clone().with_data_type(values.as_ref().clone()))
        }
        DataType::RunEndEncoded(_, values) => sql_type_name(values),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => format!("{}[]", sql_type_name(item)),
        DataType::Struct(fields) => {
            let fields = fields.iter().map(|f| format!("{} {}", f.name(), sql_type_name(f)));
            format!("STRUCT<{}>", fields.collect::<Vec<_>>().join(", "))
        }
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => format!("NUMERIC({p},{s})"),
        other => scalar_name(other),
    }
}

fn scalar_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Utf8View | DataType::Utf8 | DataType::LargeUtf8 => "TEXT",
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => "SMALLINT",
        DataType::UInt16 | DataType::Int32 => "INT",
        DataType::UInt32 | DataType::Int64 => "BIGINT",
        DataType::UInt64 => "NUMERIC(20,0)",
        DataType::Float16 | DataType::Float32 => "REAL",
        DataType::Float64 => "DOUBLE",
        DataType::Date32 | DataType::Date64 => "DATE",
        DataType::Timestamp(_, None) => "TIMESTAMP",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ",
        DataType::Time32(_) | DataType::Time64(_) => "TIME",
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL",
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => "BYTEA",
        other => return other.to_string(),
    };
    name.to_string()
}
