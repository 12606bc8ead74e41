//! Makes functions that mark a place in a query: to DataFusion conditions of which it knows nothing, to the
//! planner what it reads and takes out again, so that none is ever asked of rows.

use std::any::Any;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Result, not_impl_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// A function that marks a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Marker {
    /// The function's name.
    pub name: &'static str,
    /// How many arguments it takes, of any type.
    pub arguments: usize,
    /// Calls of a volatile one stay where they stand, and are neither shared nor folded.
    pub volatility: Volatility,
    /// Whether it has its first argument's value, where DataFusion tries conditions out; else none.
    pub is_transparent: bool,
}

impl Marker {
    /// The function.
    pub(super) fn function(self) -> Arc<ScalarUDF> {
        let signature = Signature::any(self.arguments, self.volatility);
        Arc::new(ScalarUDF::from(MarkerFunction { marker: self, signature }))
    }

    /// The arguments of an expression that is a call of it.
    pub(super) fn arguments_of(self, expr: &Expr) -> Option<&[Expr]> {
        let Expr::ScalarFunction(call) = expr else { return None };
        let function: &dyn Any = call.func.inner().as_ref();
        let function = function.downcast_ref::<MarkerFunction>()?;
        (function.marker == self).then_some(call.args.as_slice())
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct MarkerFunction {
    marker: Marker,
    signature: Signature,
}

impl ScalarUDFImpl for MarkerFunction {
    fn name(&self) -> &str {
        self.marker.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.marker.is_transparent {
            true => Ok(args.args.swap_remove(0)),
            false => not_impl_err!("{}() in this place is not supported", self.marker.name),
        }
    }
}
