//! Functions that PostgreSQL has and DataFusion means otherwise: lengths of bytes, `now()`, `version()`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array};
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::planner::error::no_function;

/// The functions, each to take the place of DataFusion's of the same name.
pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    let lengths = [Unit::Characters, Unit::Bytes].map(|unit| ScalarUDF::from(Length::new(unit)));
    let now = ScalarUDF::from(Now::new());
    let version = ScalarUDF::from(Version { signature: Signature::nullary(Volatility::Immutable) });
    lengths.into_iter().chain([now, version]).map(Arc::new).collect()
}

/// What a length counts in a text; in bytes it is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Unit {
    Characters,
    Bytes,
}

/// `length(text)`, `length(bytea)`, `octet_length(text)`, `octet_length(bytea)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Length {
    unit: Unit,
    aliases: Vec<String>,
    signature: Signature,
}

impl Length {
    fn new(unit: Unit) -> Length {
        let aliases: &[&str] = match unit {
            Unit::Characters => &["char_length", "character_length"],
            Unit::Bytes => &[],
        };
        Length {
            unit,
            aliases: aliases.iter().map(ToString::to_string).collect(),
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Length {
    fn name(&self) -> &str {
        match self.unit {
            Unit::Characters => "length",
            Unit::Bytes => "octet_length",
        }
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [one] = given else {
            return no_function(self.name(), given);
        };
        let value = match one {
            DataType::Dictionary(_, values) => values,
            other => other,
        };
        match value {
            DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
                Ok(vec![DataType::Utf8View])
            }
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Ok(vec![DataType::Binary]),
            other => no_function(self.name(), std::slice::from_ref(other)),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let values = args.args[0].to_array(args.number_rows)?;
        let count = |text: &str| match self.unit {
            Unit::Characters => text.chars().count(),
            Unit::Bytes => text.len(),
        };
        // A value of two gigabytes and more cannot come: a row has at most one megabyte.
        let lengths: Int32Array = match values.data_type() {
            DataType::Binary => {
                let values = values.as_binary::<i32>();
                values.iter().map(|value| value.map(|bytes| bytes.len() as i32)).collect()
            }
            _ => {
                let values = values.as_string_view();
                values.iter().map(|value| value.map(|text| count(text) as i32)).collect()
            }
        };
        Ok(ColumnarValue::Array(Arc::new(lengths) as ArrayRef))
    }
}

/// `now()` of a SELECT: when it began, in microseconds as every TIMESTAMPTZ.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Now {
    aliases: Vec<String>,
    signature: Signature,
}

impl Now {
    fn new() -> Now {
        let signature = Signature::nullary(Volatility::Stable);
        Now { aliases: vec!["current_timestamp".into()], signature }
    }
}

impl ScalarUDFImpl for Now {
    fn name(&self) -> &str {
        "now"
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
    }

    fn simplify(&self, args: Vec<Expr>, context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(start) = context.query_execution_start_time() else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let micros = Some(start.timestamp_micros());
        let value = ScalarValue::TimestampMicrosecond(micros, Some("UTC".into()));
        Ok(ExprSimplifyResult::Simplified(Expr::Literal(value, None)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("now() has no value before its statement begins")
    }
}

/// `version()`: the program and its version, as `weir --version` says it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Version {
    signature: Signature,
}

impl ScalarUDFImpl for Version {
    fn name(&self) -> &str {
        "version"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let text = concat!("weir ", env!("CARGO_PKG_VERSION"));
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8View(Some(text.into()))))
    }
}
