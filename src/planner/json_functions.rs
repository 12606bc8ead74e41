//! Makes the functions of JSON documents, those behind `->`, `->>`, `#>`, `#>>`, `@>`, `?`, `?|` and `?&` among them.
//!
//! A document is a JSON value, or a text that is read as one: a row with another text is an error (22P02). `json_…`
//! and `jsonb_…` are the same here, since documents are texts that are kept as they came.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::data::schema::as_json;
use crate::planner::error::no_function;
use crate::planner::json_columns::{asked, contains};

/// What is asked of a document, the first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum JsonFunction {
    /// Itself, where it is one: `text::JSON`. The flag says whether another text becomes null.
    Checked(bool),
    /// Its characters: `json::TEXT`.
    Characters,
    /// The member of a name or the item of a place: `->`, and as a text: `->>`.
    Get,
    GetText,
    /// The part at the end of a path, each step of it a name or a place: `#>`, and as a text: `#>>`.
    Part,
    PartText,
    /// Whether it contains another one.
    Contains,
    /// Whether it has a name, any of several, all of several.
    Has,
    HasAny,
    HasAll,
    /// What kind of value it is.
    TypeOf,
    /// How many items it has.
    ArrayLength,
    /// A list of its items, of their texts, of its members' names.
    Items,
    ItemTexts,
    Names,
}

use JsonFunction as F;

/// The functions that a statement calls by name.
pub(super) fn all() -> impl Iterator<Item = Arc<ScalarUDF>> {
    let functions =
        [F::Part, F::PartText, F::TypeOf, F::ArrayLength, F::Items, F::ItemTexts, F::Names];
    functions.into_iter().map(JsonFunction::function)
}

/// The function behind one that gives a row for each item, where it is called as UNNEST of that.
pub(super) fn rows_of(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    match name.strip_prefix("jsonb_").or_else(|| name.strip_prefix("json_"))? {
        "array_elements" => Some(F::Items.name()),
        "array_elements_text" => Some(F::ItemTexts.name()),
        "object_keys" => Some(F::Names.name()),
        _ => None,
    }
}

impl JsonFunction {
    /// A call of the function.
    pub(super) fn call(self, arguments: Vec<Expr>) -> Expr {
        self.function().call(arguments)
    }

    fn function(self) -> Arc<ScalarUDF> {
        let aliases = match self {
            F::Part | F::PartText | F::TypeOf | F::ArrayLength => {
                vec![self.name().replacen("json_", "jsonb_", 1)]
            }
            _ => vec![],
        };
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(Call { function: self, aliases, signature }))
    }

    fn name(self) -> &'static str {
        match self {
            F::Checked(_) => "json",
            F::Characters => "json_characters",
            F::Get => "json_get",
            F::GetText => "json_get_text",
            F::Part => "json_extract_path",
            F::PartText => "json_extract_path_text",
            F::Contains => "json_contains",
            F::Has => "json_exists",
            F::HasAny => "json_exists_any",
            F::HasAll => "json_exists_all",
            F::TypeOf => "json_typeof",
            F::ArrayLength => "json_array_length",
            F::Items => "json_items",
            F::ItemTexts => "json_item_texts",
            F::Names => "json_names",
        }
    }

    pub(super) fn field(self) -> Field {
        let list = |item: Field| DataType::List(Arc::new(item));
        let item = Field::new_list_field(DataType::Utf8View, true);
        match self {
            F::Checked(_) | F::Get | F::Part => {
                as_json(Field::new(self.name(), DataType::Utf8View, true))
            }
            F::Characters | F::GetText | F::PartText | F::TypeOf => {
                Field::new(self.name(), DataType::Utf8View, true)
            }
            F::Contains | F::Has | F::HasAny | F::HasAll => {
                Field::new(self.name(), DataType::Boolean, true)
            }
            F::ArrayLength => Field::new(self.name(), DataType::Int32, true),
            F::Items => Field::new(self.name(), list(as_json(item)), true),
            F::ItemTexts | F::Names => Field::new(self.name(), list(item), true),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Call {
    function: JsonFunction,
    aliases: Vec<String>,
    signature: Signature,
}

impl ScalarUDFImpl for Call {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let refused = || no_function(self.name(), given);
        let Some((document, rest)) = given.split_first() else { return refused() };
        let rest: Option<Vec<DataType>> = rest.iter().map(argument_type).collect();
        let (true, Some(rest)) = (is_text(document), rest) else { return refused() };
        let fits = match self.function {
            F::Get | F::GetText => {
                matches!(rest.as_slice(), [DataType::Utf8View | DataType::Int64])
            }
            F::Part | F::PartText => !rest.is_empty() && !rest.contains(&DataType::Int64),
            F::Contains | F::Has => rest == [DataType::Utf8View],
            F::HasAny | F::HasAll => matches!(rest.as_slice(), [DataType::List(_)]),
            _ => rest.is_empty(),
        };
        if !fits {
            return refused();
        }
        Ok([DataType::Utf8View].into_iter().chain(rest).collect())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.function.field().data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(self.function.field()))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let Some((documents, arguments)) = args.args.split_first() else {
            return exec_err!("{} takes an argument", self.name());
        };
        let documents = documents.to_array(rows)?;
        let documents = documents.as_string_view();
        let column = match self.function {
            F::Contains => contains(documents, &arguments[0], rows)?,
            function => {
                let arguments: Vec<ArrayRef> = arguments
                    .iter()
                    .map(|argument| argument.to_array(rows))
                    .collect::<Result<_>>()?;
                asked(function, documents, &arguments)?
            }
        };
        Ok(ColumnarValue::Array(column))
    }
}

/// Whether values of the type are read as documents, or as names.
pub(super) fn is_text(found: &DataType) -> bool {
    found.is_string() || found.is_null()
}

/// What a name, a place or a path comes as.
pub(super) fn argument_type(given: &DataType) -> Option<DataType> {
    match given {
        found if is_text(found) => Some(DataType::Utf8View),
        found if found.is_integer() && *found != DataType::UInt64 => Some(DataType::Int64),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)
            if is_text(item.data_type()) =>
        {
            Some(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true))))
        }
        _ => None,
    }
}
