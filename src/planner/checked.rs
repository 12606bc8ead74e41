//! Makes integer arithmetic of a one-off SELECT fail where DataFusion's wraps (22003).
//!
//! A continuous query lowers its expressions itself and checks there. The plan of a SELECT is lowered
//! by DataFusion, which also folds constants, so `+`, `-`, `*` and negation of integers become
//! functions before that.

use std::sync::{Arc, LazyLock};

use arrow::array::ArrayRef;
use arrow::compute::kernels::numeric;
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use crate::planner::expressions::rewrite_named;

/// The rule; it comes after types were coerced.
#[derive(Debug)]
pub struct CheckedArithmetic;

impl AnalyzerRule for CheckedArithmetic {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| {
            let schema = merge_schema(&node.inputs());
            let checked =
                rewrite_named(node, |expr| expr.transform_up(|part| check(part, &schema)))?;
            if checked.transformed {
                checked.map_data(LogicalPlan::recompute_schema)
            } else {
                Ok(checked)
            }
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &str {
        "checked_arithmetic"
    }
}

/// Puts a function in the place of an operation that may wrap.
fn check(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_integer =
        |expr: &Expr| expr.get_type(schema).ok().filter(|data_type| data_type.is_integer());
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let operation = match op {
                Operator::Plus => Operation::Add,
                Operator::Minus => Operation::Subtract,
                Operator::Multiply => Operation::Multiply,
                _ => return Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            };
            // A column of an outer query has no type here; what is not known stays as it is.
            match (is_integer(&left), is_integer(&right)) {
                (Some(a), Some(b)) if a == b => {
                    Ok(Transformed::yes(operation.function().call(vec![*left, *right])))
                }
                _ => Ok(Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right }))),
            }
        }
        Expr::Negative(inner) => match is_integer(&inner) {
            Some(data_type) if data_type.is_signed_integer() => {
                let zero = Expr::Literal(ScalarValue::new_zero(&data_type)?, None);
                Ok(Transformed::yes(Operation::Subtract.function().call(vec![zero, *inner])))
            }
            _ => Ok(Transformed::no(Expr::Negative(inner))),
        },
        other => Ok(Transformed::no(other)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Add,
    Subtract,
    Multiply,
}

impl Operation {
    fn function(self) -> Arc<ScalarUDF> {
        static FUNCTIONS: LazyLock<[Arc<ScalarUDF>; 3]> = LazyLock::new(|| {
            [Operation::Add, Operation::Subtract, Operation::Multiply].map(|operation| {
                let signature = Signature::any(2, Volatility::Immutable);
                Arc::new(ScalarUDF::from(Checked { operation, signature }))
            })
        });
        Arc::clone(&FUNCTIONS[self as usize])
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    operation: Operation,
    signature: Signature,
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Add => "checked_add",
            Operation::Subtract => "checked_subtract",
            Operation::Multiply => "checked_multiply",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let first = arguments.first().cloned();
        first.ok_or_else(|| exec_datafusion_err!("{} takes two arguments", self.name()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let [left, right] = args.arg_fields else {
            return Err(exec_datafusion_err!("{} takes two arguments", self.name()));
        };
        let nullable = left.is_nullable() || right.is_nullable();
        Ok(Arc::new(Field::new(self.name(), left.data_type().clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let compute: fn(&dyn arrow::array::Datum, &dyn arrow::array::Datum) -> Computed =
            match self.operation {
                Operation::Add => numeric::add,
                Operation::Subtract => numeric::sub,
                Operation::Multiply => numeric::mul,
            };
        match (&args.args[0], &args.args[1]) {
            (ColumnarValue::Array(a), ColumnarValue::Array(b)) => {
                Ok(ColumnarValue::Array(compute(a, b)?))
            }
            (ColumnarValue::Array(a), ColumnarValue::Scalar(b)) => {
                Ok(ColumnarValue::Array(compute(a, &b.to_scalar()?)?))
            }
            (ColumnarValue::Scalar(a), ColumnarValue::Array(b)) => {
                Ok(ColumnarValue::Array(compute(&a.to_scalar()?, b)?))
            }
            (ColumnarValue::Scalar(a), ColumnarValue::Scalar(b)) => {
                let value = compute(&a.to_scalar()?, &b.to_scalar()?)?;
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&value, 0)?))
            }
        }
    }
}

type Computed = std::result::Result<ArrayRef, ArrowError>;
