//! Writes a schema as one line of JSON, the same in every version of the libraries.
//!
//! A segment's header carries this text. It is compared, never parsed: whoever opens a log knows its
//! columns from the catalog, and a person who finds a lone file can read what is in it.

use arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Value, json};

/// The columns as JSON; equal texts mean that frames of one can be read as frames of the other.
pub(crate) fn schema_text(schema: &Schema) -> String {
    Value::Array(schema.fields().iter().map(|field| column(field)).collect()).to_string()
}

fn column(field: &Field) -> Value {
    json!({
        "name": field.name(),
        "nullable": field.is_nullable(),
        "type": type_text(field.data_type()),
    })
}

fn type_text(data_type: &DataType) -> Value {
    match data_type {
        DataType::List(item) => json!({ "list": column(item) }),
        DataType::LargeList(item) => json!({ "large_list": column(item) }),
        DataType::Struct(fields) => {
            let fields: Vec<Value> = fields.iter().map(|field| column(field)).collect();
            json!({ "struct": fields })
        }
        DataType::Timestamp(unit, zone) => {
            json!({ "timestamp": format!("{unit:?}"), "zone": zone.as_deref() })
        }
        DataType::Decimal128(precision, scale) => json!({ "decimal128": [precision, scale] }),
        DataType::Decimal256(precision, scale) => json!({ "decimal256": [precision, scale] }),
        DataType::Interval(unit) => json!({ "interval": format!("{unit:?}") }),
        leaf => json!(leaf.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::log::tests::all_types;

    /// The text stands in files: if this test fails, the format's version must change.
    #[test]
    fn the_text_of_every_type_stays_as_it_is() {
        let text = schema_text(&all_types(0, 0).schema()).replace("},{", "},\n{");
        expect![[r#""#]].assert_eq(&text);
    }
}
