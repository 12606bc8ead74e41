//! Adds the functions that DataFusion lacks or that mean something else in a continuous query.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray, ListBuilder, StringViewBuilder};
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::catalog::TableFunctionArgs;
use datafusion::common::{DFSchema, Result, ScalarValue, exec_datafusion_err};
use datafusion::datasource::provider_as_source;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TableSource,
    TypeSignature, Volatility,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::optimizer::{Analyzer, AnalyzerRule, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;

use crate::error::SqlState;
use crate::operators::aggregates::bounds;
use crate::operators::row_clock;
use crate::planner::after_coercion::AfterCoercion;
use crate::planner::aggregate_calls::AggregateCalls;
use crate::planner::amended::amended;
use crate::planner::approx_percentile;
use crate::planner::before_coercion::BeforeCoercion;
use crate::planner::checked::CheckedArithmetic;
use crate::planner::epoch_seconds;
use crate::planner::error::PlanError;
use crate::planner::guards::GuardedArguments;
use crate::planner::heavy_hitters_call;
use crate::planner::interval_scaling::IntervalScaling;
use crate::planner::json_functions;
use crate::planner::json_operators::JsonOperators;
use crate::planner::once_barrier::ONCE_BARRIERS;
use crate::planner::once_keys::OnceKeys;
use crate::planner::once_order::OnceOrder;
use crate::planner::once_ties::{ONCE_AGGREGATE_TIES, ONCE_TIES};
use crate::planner::once_union::OnceUnions;
use crate::planner::percentile::percentile_cont;
use crate::planner::postgres_functions;
use crate::planner::push_down;
use crate::planner::set_count_call;
use crate::planner::signed_numbers::ranking;
use crate::planner::time_zone;
use crate::planner::truth::TruthTests;
use crate::planner::wide_sum::wide_sum;

/// DataFusion's functions and planners, and ours; built once.
pub fn state() -> &'static SessionState {
    static STATE: LazyLock<SessionState> = LazyLock::new(|| {
        let mut config = SessionConfig::new().with_information_schema(false);
        config.options_mut().sql_parser.map_string_types_to_utf8view = true;
        // The check compares nullability, too, which DataFusion's rules change: of
        // `SELECT 1 … INTERSECT ALL SELECT (SELECT count(*) …)`.
        config.options_mut().execution.skip_physical_aggregate_schema_check = true;
        let mut builder = SessionStateBuilder::new().with_config(config).with_default_features();
        if let Some(functions) = builder.scalar_functions() {
            for function in functions.iter_mut() {
                if let Some(amended) = amended(function) {
                    *function = amended;
                }
            }
            functions.push(Arc::new(ScalarUDF::from(RegexpExtractAll::new())));
            functions.extend(postgres_functions::all());
            functions.push(Arc::new(epoch_seconds::function()));
            functions.extend(json_functions::all());
            functions.push(time_zone::function());
            functions.push(set_count_call::ever());
        }
        if let Some(functions) = builder.window_functions() {
            for function in functions.iter_mut() {
                if let Some(signed) = ranking(function) {
                    *function = signed;
                }
            }
        }
        if let Some(functions) = builder.aggregate_functions() {
            let ours = [wide_sum(), percentile_cont()].into_iter().chain(approx_percentile::all());
            for function in ours {
                functions.retain(|theirs| theirs.name() != function.name());
                functions.push(function);
            }
            functions.extend(bounds::functions());
            functions.push(heavy_hitters_call::aggregate());
            functions.push(set_count_call::aggregate());
        }
        if let Some(planners) = builder.expr_planners() {
            planners.insert(0, Arc::new(Extract));
            planners.insert(1, Arc::new(JsonOperators));
            planners.insert(2, Arc::new(IntervalScaling));
            planners.insert(3, Arc::new(AggregateCalls));
        }
        builder.build()
    });
    &STATE
}

/// The same for a plan that DataFusion executes: its integer arithmetic does not wrap, its orders say what
/// they mean, and its conditions stay where they mean the same. Once columns are numbers, conditions are not moved any more: on
/// that way DataFusion takes columns of equal names for each other.
pub fn once_state() -> &'static SessionState {
    static STATE: LazyLock<SessionState> = LazyLock::new(|| {
        SessionStateBuilder::new_from_existing(state().clone())
            .with_analyzer_rules(once_analyzer_rules())
            .with_optimizer_rules(once_rules())
            .with_physical_optimizer_rules(once_physical_rules())
            .build()
    });
    &STATE
}

/// DataFusion's rules that find types, with ours before and after them.
pub(super) fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(BeforeCoercion)];
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(AfterCoercion));
    rules.push(Arc::new(GuardedArguments));
    rules
}

fn once_analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules = analyzer_rules();
    rules.push(Arc::new(CheckedArithmetic));
    rules.push(Arc::new(TruthTests));
    rules.push(Arc::new(OnceUnions));
    rules
}

/// Ours first, while columns still have the names that the SELECT gives them.
fn once_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut rules = push_down::rules();
    // It takes the columns of UNION's second part by their names in the first.
    rules.retain(|rule| rule.name() != "propagate_empty_relation");
    rules.insert(0, Arc::new(OnceOrder));
    rules.insert(1, Arc::new(OnceKeys));
    rules
}

fn once_physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let mut projections_moved = false;
    rules.retain(|rule| match rule.name() {
        // A constant has one distinct value by its statistics, also where there are no rows.
        "aggregate_statistics" => false,
        // It follows the key of a LIMIT by its name, also through a projection that computes it anew.
        "LimitAggregation" => false,
        // The first time gives a filter a projection of its own. The second time takes the columns behind that
        // for those before it, where both have the same names and places.
        "ProjectionPushdown" => !std::mem::replace(&mut projections_moved, true),
        name => !name.starts_with("FilterPushdown"),
    });
    rules.insert(0, Arc::new(ONCE_BARRIERS));
    rules.insert(1, Arc::new(ONCE_AGGREGATE_TIES));
    rules.push(Arc::new(ONCE_TIES));
    rules
}

/// What a table function such as `generate_series(1, 10)` gives, for constant arguments.
pub(super) fn table_function(name: &str, args: Vec<Expr>) -> Result<Arc<dyn TableSource>> {
    let function = state().table_functions().get(name).ok_or_else(|| {
        let message = format!("function \"{name}\" does not exist");
        let code = SqlState::UNDEFINED_FUNCTION;
        DataFusionError::from(PlanError::Refused { code, message, hint: None })
    })?;
    let simplifier = ExprSimplifier::new(SimplifyContext::default());
    let schema = DFSchema::empty();
    let folded = |arg| simplifier.simplify(simplifier.coerce(arg, &schema)?);
    let args = args.into_iter().map(folded).collect::<Result<Vec<_>>>()?;
    let args = TableFunctionArgs::new(&args, state());
    Ok(provider_as_source(function.create_table_provider_with_args(args)?))
}

/// EXTRACT is `date_part` as we mean it.
#[derive(Debug)]
struct Extract;

impl ExprPlanner for Extract {
    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(match state().scalar_functions().get("date_part") {
            Some(function) => PlannerResult::Planned(function.call(args)),
            None => PlannerResult::Original(args),
        })
    }
}

/// `now()` and its kin as a continuous query means them; `None` for any other name.
pub fn row_clock_function(name: &str) -> Option<Arc<ScalarUDF>> {
    static NOW: LazyLock<[Arc<ScalarUDF>; 3]> = LazyLock::new(|| {
        [Moment::Now, Moment::Date, Moment::Time]
            .map(|moment| Arc::new(ScalarUDF::from(RowClock::new(moment))))
    });
    let index = match name {
        "now" | "current_timestamp" => 0,
        "current_date" | "today" => 1,
        "current_time" => 2,
        _ => return None,
    };
    Some(Arc::clone(&NOW[index]))
}

/// Whether the function is one of [`row_clock_function`]'s.
pub fn is_row_clock(function: &ScalarUDF) -> bool {
    (function.inner().as_ref() as &dyn Any).is::<RowClock>()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Moment {
    Now,
    Date,
    Time,
}

/// The row's ingest time. Volatile, so that it is neither folded nor shared.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RowClock {
    moment: Moment,
    signature: Signature,
}

impl RowClock {
    fn new(moment: Moment) -> RowClock {
        RowClock { moment, signature: Signature::nullary(Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for RowClock {
    fn name(&self) -> &str {
        match self.moment {
            Moment::Now => "now",
            Moment::Date => "current_date",
            Moment::Time => "current_time",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.moment {
            Moment::Now => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Moment::Date => DataType::Date32,
            Moment::Time => DataType::Time64(TimeUnit::Microsecond),
        })
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let now = row_clock::get();
        let day = 86_400_000_000;
        let value = match self.moment {
            Moment::Now => ScalarValue::TimestampMicrosecond(Some(now), Some("UTC".into())),
            Moment::Date => {
                ScalarValue::Date32(Some(i32::try_from(now.div_euclid(day)).unwrap_or(i32::MAX)))
            }
            Moment::Time => ScalarValue::Time64Microsecond(Some(now.rem_euclid(day))),
        };
        Ok(ColumnarValue::Scalar(value))
    }
}

/// `regexp_extract_all(text, pattern) -> TEXT[]`: every match, or of each match the first group if
/// the pattern has one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RegexpExtractAll {
    signature: Signature,
}

impl RegexpExtractAll {
    fn new() -> RegexpExtractAll {
        let texts = TypeSignature::Exact(vec![DataType::Utf8View, DataType::Utf8View]);
        RegexpExtractAll { signature: Signature::new(texts, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for RegexpExtractAll {
    fn name(&self) -> &str {
        "regexp_extract_all"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true))))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let texts = args.args[0].to_array(rows)?;
        let patterns = args.args[1].to_array(rows)?;
        let (texts, patterns) = (texts.as_string_view(), patterns.as_string_view());
        let mut compiled: Option<(String, regex::Regex)> = None;
        let mut list = ListBuilder::new(StringViewBuilder::new());
        for row in 0..rows {
            if texts.is_null(row) || patterns.is_null(row) {
                list.append_null();
                continue;
            }
            let pattern = patterns.value(row);
            if compiled.as_ref().is_none_or(|(text, _)| text != pattern) {
                let regex = regex::Regex::new(pattern)
                    .map_err(|_| exec_datafusion_err!("invalid regular expression '{pattern}'"))?;
                compiled = Some((pattern.to_string(), regex));
            }
            let Some((_, regex)) = &compiled else { unreachable!("compiled just above") };
            for captures in regex.captures_iter(texts.value(row)) {
                let wanted = captures.get(1).or_else(|| captures.get(0));
                list.values().append_option(wanted.map(|found| found.as_str()));
            }
            list.append(true);
        }
        Ok(ColumnarValue::Array(Arc::new(list.finish())))
    }
}
