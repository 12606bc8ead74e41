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
        expect![[r#"
            [{"name":"text","nullable":true,"type":"Utf8View"},
            {"name":"boolean","nullable":true,"type":"Boolean"},
            {"name":"smallint","nullable":true,"type":"Int16"},
            {"name":"int","nullable":true,"type":"Int32"},
            {"name":"bigint","nullable":true,"type":"Int64"},
            {"name":"real","nullable":true,"type":"Float32"},
            {"name":"double","nullable":true,"type":"Float64"},
            {"name":"numeric","nullable":true,"type":{"decimal128":[38,9]}},
            {"name":"price","nullable":true,"type":{"decimal128":[10,2]}},
            {"name":"date","nullable":true,"type":"Date32"},
            {"name":"timestamp","nullable":true,"type":{"timestamp":"Microsecond","zone":null}},
            {"name":"timestamptz","nullable":true,"type":{"timestamp":"Microsecond","zone":"UTC"}},
            {"name":"interval","nullable":true,"type":{"interval":"MonthDayNano"}},
            {"name":"bytea","nullable":true,"type":"Binary"},
            {"name":"json","nullable":true,"type":"Utf8View"},
            {"name":"texts","nullable":true,"type":{"list":{"name":"item","nullable":true,"type":"Utf8View"}}},
            {"name":"pair","nullable":true,"type":{"struct":[{"name":"a","nullable":true,"type":"Int64"},
            {"name":"b","nullable":true,"type":"Utf8View"}]}},
            {"name":"pairs","nullable":true,"type":{"list":{"name":"item","nullable":true,"type":{"struct":[{"name":"a","nullable":true,"type":"Int64"},
            {"name":"b","nullable":true,"type":"Utf8View"}]}}}}]"#]].assert_eq(&text);
    }
}
