//! Reads the arguments of HEAVY_HITTERS, in FROM and as an aggregate.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray};
use arrow::compute;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result, exec_datafusion_err, not_impl_err};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Expr, ExprSchemable, LogicalPlan,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, cast,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Value, ValueWithSpan};

use crate::data::schema::OFFSET;
use crate::error::SqlState;
use crate::operators::aggregates::mining::heavy_hitters::{Form, HeavyHitters};
use crate::operators::aggregates::mining::{Miner, MiningFunction};
use crate::planner::constants;
use crate::planner::error::PlanError;
use crate::planner::mining_call::{Mining, comparable, expression, expressions, mine, overlapping};
use crate::planner::relation_call::{Call, Parameters};
use crate::sketches::fraction::Fraction;
use crate::sketches::heavy_hitters::{Algorithm, Mode, Question};

/// Arguments of HEAVY_HITTERS.
pub(super) const PARAMETERS: Parameters = (
    &["relation", "item"],
    &["by", "support", "error", "algorithm", "failure", "mode", "weight", "seed"],
);

/// The failure probability of sticky sampling where none is given.
const FAILURE: &str = "0.01";

/// Plans a call in FROM.
pub(super) fn plan(call: &Call, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    let input = context.plan(call.relation()?)?;
    let schema = Arc::clone(input.schema());
    call.required("item")?;
    let items = expressions(call, "item", &schema, context)?;
    let by = expressions(call, "by", &schema, context)?;
    let types = comparable(call, &items, &schema, HeavyHitters::takes)?;
    comparable(call, &by, &schema, HeavyHitters::takes)?;
    let question = question(call, context)?;
    let mut arguments: Vec<Expr> = items.iter().map(|item| item.expr.clone()).collect();
    let weight = call.argument("weight").cloned();
    let weighted = weight.is_some();
    let is_sampled = question.algorithm == Algorithm::StickySampling;
    if let Some(weight) = weight {
        let weight = expression(weight, &schema, context)?;
        if !weight.expr.get_type(&schema)?.is_integer() {
            return Err(PlanError::Window {
                code: SqlState::TYPE_MISMATCH,
                message: format!("weight of {} must be an integer", call.function),
                hint: Some("Cast it to BIGINT, in a unit that makes it whole.".into()),
            }
            .into());
        }
        arguments.push(checked_weight().call(vec![cast(weight.expr, DataType::Int64)]));
    }
    // The coins of a row are those of its place in the log, where it has one.
    let place = Column::new_unqualified(OFFSET);
    let place = schema.maybe_index_of_column(&place).filter(|_| is_sampled);
    let place = place.map(|at| Expr::Column(Column::from(schema.qualified_field(at))));
    let placed = place.is_some();
    arguments.extend(place);
    let (slices, time) = overlapping(&input, &schema)?.unzip();
    arguments.extend(time);
    let question = Question { in_parts: slices.is_some(), ..question };
    let form = Form::Relation;
    let miner = HeavyHitters { question, item: types, weighted, placed, slices, form };
    let mut columns: Vec<String> = items.into_iter().map(|item| item.name).collect();
    columns.extend(
        ["count_lower", "count_estimate", "count_upper", "guaranteed", "group_rows"]
            .map(String::from),
    );
    mine(input, Mining { miner: Arc::new(miner), arguments, by, columns })
}

fn question(call: &Call, context: &mut dyn RelationPlannerContext) -> Result<Question> {
    let support = fraction(call, "support", context)?.ok_or_else(|| call.missing("support"))?;
    let error = fraction(call, "error", context)?;
    let (support, error) = checked_fractions(&call.function, support, error)?;
    let algorithms = ["lossy_counting", "sticky_sampling", "space_saving", "exact"];
    let algorithm = match call.choice("algorithm", &algorithms, context)? {
        "sticky_sampling" => Algorithm::StickySampling,
        "space_saving" => Algorithm::SpaceSaving,
        "exact" => Algorithm::Exact,
        _ => Algorithm::LossyCounting,
    };
    let modes = ["no_false_negatives", "no_false_positives"];
    let mode = match call.choice("mode", &modes, context)? {
        "no_false_positives" => Mode::NoFalsePositives,
        _ => Mode::NoFalseNegatives,
    };
    let failure = fraction(call, "failure", context)?.or_else(|| Fraction::parse(FAILURE));
    let failure = failure.filter(|failure| !failure.is_zero() && Fraction::ONE.exceeds(*failure));
    let failure = failure.ok_or_else(|| call.bad("failure", "between 0 and 1"))?;
    let seed = match call.literal("seed", context)? {
        None => 0,
        Some(value) => {
            let seed = constants::integer(&value).ok_or_else(|| call.bad("seed", "an integer"))?;
            seed as u64
        }
    };
    Ok(Question { support, error, algorithm, mode, failure, seed, in_parts: false })
}

/// A constant number of at least 0, exactly as it is written.
pub(super) fn fraction(
    call: &Call,
    name: &str,
    context: &mut dyn RelationPlannerContext,
) -> Result<Option<Fraction>> {
    // As a value it would be a float, which has 15 digits.
    let read = match call.argument(name) {
        Some(SqlExpr::Value(ValueWithSpan { value: Value::Number(digits, _), .. })) => {
            Fraction::parse(digits)
        }
        _ => {
            let Some(value) = call.literal(name, context)? else { return Ok(None) };
            read_fraction(&value)
        }
    };
    Ok(Some(read.ok_or_else(|| call.bad(name, "a fraction with at most 18 digits"))?))
}

fn read_fraction(value: &ScalarValue) -> Option<Fraction> {
    if !value.data_type().is_numeric() {
        return None;
    }
    match value.cast_to(&DataType::Utf8) {
        Ok(ScalarValue::Utf8(Some(text))) => Fraction::parse(&text),
        _ => None,
    }
}

/// Support and error with its default; 1 >= SUPPORT > ERROR > 0.
pub(super) fn checked_fractions(
    function: &str,
    support: Fraction,
    error: Option<Fraction>,
) -> Result<(Fraction, Fraction), PlanError> {
    let refused = |message: String| {
        let hint = "Write for example SUPPORT => 0.01, ERROR => 0.001: 1 >= SUPPORT > ERROR > 0.";
        let code = SqlState::INVALID_PARAMETER;
        PlanError::Window { code, message, hint: Some(hint.into()) }
    };
    if support.is_zero() || support.exceeds(Fraction::ONE) {
        let message = format!("support {support} of {function} must be above 0 and at most 1");
        return Err(refused(message));
    }
    let Some(error) = error.or_else(|| support.tenth()) else {
        return Err(refused(format!("support {support} of {function} has too many digits")));
    };
    if error.is_zero() || !support.exceeds(error) {
        let message =
            format!("error {error} of {function} must be above 0 and below its support {support}");
        return Err(refused(message));
    }
    Ok((support, error))
}

/// Refuses a negative weight; the row alone, in a continuous query.
fn checked_weight() -> Arc<ScalarUDF> {
    static CHECKED: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
        let signature = Signature::exact(vec![DataType::Int64], Volatility::Immutable);
        Arc::new(ScalarUDF::from(CheckedWeight { signature }))
    });
    Arc::clone(&CHECKED)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedWeight {
    signature: Signature,
}

impl ScalarUDFImpl for CheckedWeight {
    fn name(&self) -> &str {
        "heavy_hitters_weight"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let column: ArrayRef = args.args[0].to_array(args.number_rows)?;
        let weights = column.as_primitive::<Int64Type>();
        match compute::min(weights) {
            Some(least) if least < 0 => {
                Err(exec_datafusion_err!("weight {least} of HEAVY_HITTERS is negative"))
            }
            _ => Ok(ColumnarValue::Array(column)),
        }
    }
}

/// `heavy_hitters(item, support, error)` until it is known of which type the item is and how much
/// support is asked for.
pub(super) fn aggregate() -> Arc<AggregateUDF> {
    let signature = Signature::any(3, Volatility::Immutable);
    Arc::new(AggregateUDF::from(Unread { signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Unread {
    signature: Signature,
}

impl AggregateUDFImpl for Unread {
    fn name(&self) -> &str {
        "heavy_hitters"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let question = Question {
            support: Fraction::ONE,
            error: Fraction::ONE,
            algorithm: Algorithm::LossyCounting,
            mode: Mode::NoFalseNegatives,
            failure: Fraction::ONE,
            seed: 0,
            in_parts: false,
        };
        Ok(of_aggregate(question, arguments[0].clone()).result())
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("heavy_hitters() OVER a window is not supported")
    }
}

fn of_aggregate(question: Question, item: DataType) -> HeavyHitters {
    let (item, form) = (vec![item], Form::Aggregate);
    HeavyHitters { question, item, weighted: false, placed: false, slices: None, form }
}

/// Reads the calls of the aggregate in a plan.
pub(super) fn read_aggregates(plan: LogicalPlan) -> Result<LogicalPlan> {
    let read = plan.transform_up_with_subqueries(|node| {
        let LogicalPlan::Aggregate(aggregate) = &node else { return Ok(Transformed::no(node)) };
        let schema = Arc::clone(aggregate.input.schema());
        let names = NamePreserver::new_for_projection();
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            let read = expr.transform_up(|part| match part {
                Expr::AggregateFunction(call) if is_unread(&call) => {
                    Ok(Transformed::yes(Expr::AggregateFunction(read_call(call, &schema)?)))
                }
                other => Ok(Transformed::no(other)),
            })?;
            Ok(read.update_data(|expr| name.restore(expr)))
        })
    })?;
    Ok(read.data)
}

fn is_unread(call: &AggregateFunction) -> bool {
    (call.func.inner().as_ref() as &dyn Any).is::<Unread>()
}

fn read_call(mut call: AggregateFunction, schema: &DFSchema) -> Result<AggregateFunction> {
    let function = "heavy_hitters()";
    if call.params.distinct || !call.params.order_by.is_empty() {
        let hint = "Select the rows first, in a subquery.";
        let what = format!("{function} with DISTINCT or ORDER BY");
        return Err(PlanError::unsupported(what, hint).into());
    }
    let constant = |expr: &Expr, name: &str| -> Result<Fraction> {
        let value = constants::fold(expr.clone()).ok().flatten();
        Ok(value.as_ref().and_then(read_fraction).ok_or_else(|| {
            let message = format!("{name} of {function} must be a constant fraction");
            PlanError::window(SqlState::INVALID_PARAMETER, message)
        })?)
    };
    let [item, support, error] = call.params.args.as_slice() else {
        return Ok(call);
    };
    let (support, error) = (constant(support, "support")?, constant(error, "error")?);
    let (support, error) = checked_fractions(function, support, Some(error))?;
    let data_type = item.get_type(schema)?;
    if !HeavyHitters::takes(&data_type) {
        let message = format!("item of {function} cannot be compared");
        return Err(PlanError::window(SqlState::TYPE_MISMATCH, message).into());
    }
    let question = Question {
        support,
        error,
        algorithm: Algorithm::LossyCounting,
        mode: Mode::NoFalseNegatives,
        failure: Fraction::parse(FAILURE).expect("a constant of this file"),
        seed: 0,
        in_parts: false,
    };
    call.func = MiningFunction::of(Arc::new(of_aggregate(question, data_type)));
    call.params.args.truncate(1);
    Ok(call)
}
