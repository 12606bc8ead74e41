//! Plans IS TRUE, IS FALSE and IS UNKNOWN of a one-off SELECT as what is never null.
//!
//! DataFusion's logical plan knows that they are not, but it executes comparisons, which may be; where a column
//! is made of one, the two no longer agree and it refuses the plan. Conditions make no columns, and stay.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{not, prep_null_mask_filter};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;

use crate::planner::expressions::rewrite_named;

/// The rule; it comes after types were coerced.
#[derive(Debug)]
pub(super) struct TruthTests;

impl AnalyzerRule for TruthTests {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let plan = plan.transform_up_with_subqueries(|node| {
            if matches!(node, LogicalPlan::Filter(_) | LogicalPlan::Join(_)) {
                return Ok(Transformed::no(node));
            }
            let rewritten = rewrite_named(node, |expr| expr.transform_up(test))?;
            match rewritten.transformed {
                true => rewritten.map_data(LogicalPlan::recompute_schema),
                false => Ok(rewritten),
            }
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &str {
        "truth_tests"
    }
}

fn test(expr: Expr) -> Result<Transformed<Expr>> {
    let call = |test: Test, operand: Box<Expr>| test.function().call(vec![*operand]);
    Ok(Transformed::yes(match expr {
        Expr::IsTrue(operand) => call(Test::True, operand),
        Expr::IsNotTrue(operand) => Expr::Not(Box::new(call(Test::True, operand))),
        Expr::IsFalse(operand) => call(Test::False, operand),
        Expr::IsNotFalse(operand) => Expr::Not(Box::new(call(Test::False, operand))),
        Expr::IsUnknown(operand) => Expr::IsNull(operand),
        Expr::IsNotUnknown(operand) => Expr::IsNotNull(operand),
        other => return Ok(Transformed::no(other)),
    }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Test {
    True,
    False,
}

impl Test {
    fn function(self) -> Arc<ScalarUDF> {
        static FUNCTIONS: LazyLock<[Arc<ScalarUDF>; 2]> = LazyLock::new(|| {
            [Test::True, Test::False].map(|test| {
                let signature = Signature::exact(vec![DataType::Boolean], Volatility::Immutable);
                Arc::new(ScalarUDF::from(Truth { test, signature }))
            })
        });
        Arc::clone(&FUNCTIONS[self as usize])
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Truth {
    test: Test,
    signature: Signature,
}

impl ScalarUDFImpl for Truth {
    fn name(&self) -> &str {
        match self.test {
            Test::True => "is_true",
            Test::False => "is_false",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Boolean, false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match &args.args[0] {
            ColumnarValue::Scalar(value) => {
                let wanted = ScalarValue::Boolean(Some(self.test == Test::True));
                Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(*value == wanted))))
            }
            ColumnarValue::Array(values) => Ok(ColumnarValue::Array(self.test.of(values)?)),
        }
    }
}

impl Test {
    fn of(self, values: &ArrayRef) -> Result<ArrayRef> {
        let values = values.as_boolean();
        let wanted = match self {
            Test::True => values.clone(),
            Test::False => not(values)?,
        };
        let found = if wanted.null_count() > 0 { prep_null_mask_filter(&wanted) } else { wanted };
        Ok(Arc::new(found))
    }
}
