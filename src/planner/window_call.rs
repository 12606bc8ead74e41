//! Reads the arguments of window functions in FROM: positional and named, checked one by one.
//!
//! Positional forms follow Flink and RisingWave. Every argument has a name, too; the first one is the
//! relation. What a name means is said in `docs/sql.md`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use chrono_tz::Tz;
use datafusion::common::{Column, DFSchema, Result as PlannerResult};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, cast};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, TableFactor, Value};

use crate::data::schema::INGEST_TIME;
use crate::data::sql_words::type_in_sql_words;
use crate::error::SqlState;
use crate::planner::constants;
use crate::planner::error::PlanError;
use crate::planner::nested_windows::set_aside;
use crate::planner::relation_call::{Call, Parameters, REPEATED, function_call};
use crate::planner::window_node::{WindowKind, WindowNode};
use crate::windows::spec::{
    CountWindow, Include, PunctuationWindow, SessionWindow, TimeWindow, TimeWindowKind,
};

/// Field metadata key: the column carries its stream's watermark. Count and punctuation windows, which
/// name no time column, take their bounds from the first column that has it.
pub const EVENT_TIME_MARK: &str = "weir.event_time";

/// Turns calls of window functions in FROM into [`WindowNode`]s.
#[derive(Debug)]
pub struct WindowPlanner;

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<RelationPlanning> {
        let Some((name, arguments, alias)) = function_call(&relation) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let Some(parameters) = parameters(&name) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let call = Call::bind(&name, parameters, arguments)?;
        let input = context.plan(call.relation()?)?;
        let node = plan(&call, input, context)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// Parameter names of a window function in positional order; those behind `;` have names only.
fn parameters(function: &str) -> Option<Parameters> {
    Some(match function {
        "tumble" => (&["relation", "time", "size"], &["offset", "timezone"]),
        "hop" => (&["relation", "time", "slide", "size", REPEATED], &["offset", "timezone"]),
        "cumulate" => (&["relation", "time", "step", "size"], &["offset", "timezone"]),
        "session" => (&["relation", "time", "gap"], &["partition", "max"]),
        "landmark" => (&["relation", "time"], &["since"]),
        "count_window" => {
            (&["relation", "size"], &["slide", "partition", "order", "ties", "timeout", "partial"])
        }
        "punctuation_window" => (
            &["relation"],
            &[
                "partition",
                "start",
                "end",
                "include",
                "max_rows",
                "max_duration",
                "min_rows",
                "idle",
                "order",
            ],
        ),
        _ => return None,
    })
}

/// The columns that a window function adds.
pub(super) fn window_columns(function: &str) -> Option<&'static [&'static str]> {
    let function = function.to_lowercase();
    parameters(&function)?;
    Some(match function.as_str() {
        "count_window" => &["window_start", "window_end", "window_id"],
        "punctuation_window" => &["window_start", "window_end", "window_id", "window_reason"],
        _ => &["window_start", "window_end"],
    })
}

fn plan(
    call: &Call,
    input: LogicalPlan,
    context: &mut dyn RelationPlannerContext,
) -> PlannerResult<WindowNode> {
    let schema = Arc::clone(input.schema());
    let mut reader = Reader { call, schema: &schema, context };
    let kind = reader.kind()?;
    let time = reader.time()?;
    let partition = reader.partition()?;
    let start = reader.predicate("start")?;
    let end = reader.predicate("end")?;
    let (input, renamed) = set_aside(input, kind.columns())?;
    let rename = |expr: Option<Expr>| expr.map(&renamed).transpose();
    let partition = partition.into_iter().map(&renamed).collect::<PlannerResult<_>>()?;
    WindowNode::new(input, kind, rename(time)?, partition, (rename(start)?, rename(end)?))
}

/// Reads the arguments of one call against the input's columns.
pub(super) struct Reader<'a> {
    pub(super) call: &'a Call,
    pub(super) schema: &'a DFSchema,
    pub(super) context: &'a mut dyn RelationPlannerContext,
}

impl Reader<'_> {
    fn kind(&mut self) -> PlannerResult<WindowKind> {
        Ok(match self.call.function.as_str() {
            "TUMBLE" => {
                let size = self.span("size")?;
                WindowKind::Time(self.time_window(TimeWindowKind::Tumble { size })?)
            }
            "HOP" => {
                let kind = self.hop()?;
                WindowKind::Time(self.time_window(kind)?)
            }
            "CUMULATE" => {
                let (step, size) = (self.span("step")?, self.span("size")?);
                self.check_steps(step, size)?;
                WindowKind::Time(self.time_window(TimeWindowKind::Cumulate { step, size })?)
            }
            "LANDMARK" => {
                let since = self.since()?;
                WindowKind::Time(self.time_window(TimeWindowKind::Landmark { since })?)
            }
            "SESSION" => {
                let gap = self.fixed("gap")?.ok_or_else(|| self.missing("gap"))?;
                WindowKind::Session(SessionWindow { gap, max: self.fixed("max")? })
            }
            "COUNT_WINDOW" => WindowKind::Count(self.count()?),
            _ => WindowKind::Punctuation(self.punctuation()?),
        })
    }

    fn time_window(&mut self, kind: TimeWindowKind) -> PlannerResult<TimeWindow> {
        let timezone = self.timezone()?;
        let offset = match self.literal("offset")? {
            None => 0,
            Some(value) => constants::signed_width(&value)
                .ok_or_else(|| self.bad("offset", "an interval without months, or an integer"))?,
        };
        let kind = if timezone.is_none() { self.in_utc(kind)? } else { kind };
        let window = TimeWindow { kind, offset, timezone };
        self.check_overlap(&window)?;
        Ok(window)
    }

    fn timezone(&mut self) -> PlannerResult<Option<Tz>> {
        let Some(value) = self.literal("timezone")? else { return Ok(None) };
        let name = constants::text(&value).ok_or_else(|| self.bad("timezone", "a text"))?;
        if name.eq_ignore_ascii_case("utc") {
            return Ok(None);
        }
        let zone: Tz = name.parse().map_err(|_| PlanError::Window {
            code: SqlState::INVALID_PARAMETER,
            message: format!("time zone \"{name}\" is not known"),
            hint: Some("Use a name of the IANA data base, such as 'Europe/Paris'.".into()),
        })?;
        Ok(Some(zone))
    }

    fn since(&mut self) -> PlannerResult<i64> {
        let value = self.literal("since")?.ok_or_else(|| self.missing("since"))?;
        Ok(constants::instant(&value)
            .ok_or_else(|| self.bad("since", "a timestamp, or an integer for logical time"))?)
    }

    fn count(&mut self) -> PlannerResult<CountWindow> {
        let size = self.rows("size")?.ok_or_else(|| self.missing("size"))?;
        let ties = self.choice("ties", &["arrival", "together"])?;
        let ordered = self.call.argument("order").is_some();
        if ties == "together" && !ordered {
            let message = "TIES => 'together' of COUNT_WINDOW needs ORDER";
            return Err(PlanError::window(SqlState::INVALID_PARAMETER, message).into());
        }
        Ok(CountWindow {
            size,
            slide: self.rows("slide")?.unwrap_or(size),
            partial: self.flag("partial")?,
            ties_together: ties == "together",
            ordered,
            timeout: self.fixed("timeout")?,
        })
    }

    fn punctuation(&mut self) -> PlannerResult<PunctuationWindow> {
        let include = match self.choice("include", &["both", "start", "end", "none"])? {
            "start" => Include::Start,
            "end" => Include::End,
            "none" => Include::None,
            _ => Include::Both,
        };
        Ok(PunctuationWindow {
            include,
            max_rows: self.rows("max_rows")?,
            max_duration: self.fixed("max_duration")?,
            min_rows: self.rows("min_rows")?,
            idle: self.fixed("idle")?,
        })
    }

    fn time(&mut self) -> PlannerResult<Option<Expr>> {
        let name = if self.call.argument("order").is_some() { "order" } else { "time" };
        let Some(argument) = self.call.argument(name).cloned() else {
            return match self.call.function.as_str() {
                "COUNT_WINDOW" | "PUNCTUATION_WINDOW" => Ok(self.default_time()),
                _ => Err(self.missing("time").into()),
            };
        };
        let expr = self.context.sql_to_expr(argument, self.schema)?;
        let Expr::Column(_) = &expr else {
            return Err(PlanError::Window {
                code: SqlState::WINDOWING,
                message: format!("time of {} must be a column", self.call.function),
                hint: Some("Compute the time in a subquery, and give that as the relation.".into()),
            }
            .into());
        };
        use datafusion::logical_expr::ExprSchemable;
        let data_type = expr.get_type(self.schema)?;
        if !data_type.is_temporal() && !data_type.is_integer() {
            return Err(PlanError::Window {
                code: SqlState::TYPE_MISMATCH,
                message: format!(
                    "time of {} must be a timestamp, a date or an integer",
                    self.call.function
                ),
                hint: Some("Cast the column in a subquery, and give that as the relation.".into()),
            }
            .into());
        }
        self.check_units(&data_type)?;
        Ok(Some(expr))
    }

    /// The event-time column, else the ingest time, else none.
    fn default_time(&self) -> Option<Expr> {
        let column = |found: fn(&Field) -> bool| {
            let index = self.schema.fields().iter().position(|field| found(field))?;
            Some(Expr::Column(Column::from(self.schema.qualified_field(index))))
        };
        column(|field| field.metadata().contains_key(EVENT_TIME_MARK))
            .or_else(|| column(|field| field.name() == INGEST_TIME))
    }

    /// Sizes are intervals over timestamps and integers over logical time.
    fn check_units(&mut self, time: &arrow::datatypes::DataType) -> PlannerResult<()> {
        for name in ["size", "slide", "step", "gap", "max", "offset", "max_duration"] {
            if matches!(self.call.function.as_str(), "COUNT_WINDOW") && name != "max_duration" {
                continue;
            }
            for value in self.literals(name)? {
                let is_interval = value.data_type().is_temporal();
                if is_interval == time.is_integer() {
                    let wanted = if time.is_integer() { "an integer" } else { "an interval" };
                    return Err(self.bad(name, wanted).into());
                }
            }
        }
        Ok(())
    }

    fn partition(&mut self) -> PlannerResult<Vec<Expr>> {
        let items = self.call.list("partition");
        items.into_iter().map(|item| self.column(item, "partition")).collect()
    }

    fn column(&mut self, item: SqlExpr, parameter: &str) -> PlannerResult<Expr> {
        let expr = self.context.sql_to_expr(item, self.schema)?;
        match expr {
            Expr::Column(_) => Ok(expr),
            _ => Err(PlanError::Window {
                code: SqlState::WINDOWING,
                message: format!("\"{parameter}\" of {} must be a column", self.call.function),
                hint: Some("Compute it in a subquery, and give that as the relation.".into()),
            }
            .into()),
        }
    }

    fn predicate(&mut self, name: &str) -> PlannerResult<Option<Expr>> {
        if self.call.function != "PUNCTUATION_WINDOW" {
            return Ok(None);
        }
        let Some(argument) = self.call.argument(name).cloned() else { return Ok(None) };
        let condition = self.context.sql_to_expr(argument, self.schema)?;
        match condition.get_type(self.schema)? {
            DataType::Boolean => Ok(Some(condition)),
            DataType::Null => Ok(Some(cast(condition, DataType::Boolean))),
            other => Err(PlanError::Window {
                code: SqlState::TYPE_MISMATCH,
                message: format!(
                    "argument \"{name}\" of {} must be of type BOOLEAN, not {}",
                    self.call.function,
                    type_in_sql_words(&other)
                ),
                hint: None,
            }
            .into()),
        }
    }

    pub(super) fn literal(&mut self, name: &str) -> PlannerResult<Option<ScalarValue>> {
        self.call.literal(name, self.context)
    }

    pub(super) fn literals(&mut self, name: &str) -> PlannerResult<Vec<ScalarValue>> {
        self.call.literals(name, self.context)
    }

    fn fixed(&mut self, name: &str) -> PlannerResult<Option<i64>> {
        let Some(value) = self.literal(name)? else { return Ok(None) };
        match constants::signed_width(&value) {
            Some(width) if width > 0 => Ok(Some(width)),
            _ => Err(self
                .bad(name, "a positive interval without months, or a positive integer")
                .into()),
        }
    }

    fn rows(&mut self, name: &str) -> PlannerResult<Option<u64>> {
        let Some(value) = self.literal(name)? else { return Ok(None) };
        match constants::integer(&value).and_then(|n| u64::try_from(n).ok()) {
            Some(rows) if rows > 0 => Ok(Some(rows)),
            _ => Err(self.bad(name, "a positive number of rows").into()),
        }
    }

    fn choice<'c>(&mut self, name: &str, choices: &[&'c str]) -> PlannerResult<&'c str> {
        self.call.choice(name, choices, self.context)
    }

    fn flag(&mut self, name: &str) -> PlannerResult<bool> {
        match self.call.argument(name) {
            None => Ok(false),
            Some(SqlExpr::Value(value)) => match value.value {
                Value::Boolean(flag) => Ok(flag),
                _ => Err(self.bad(name, "true or false").into()),
            },
            Some(_) => Err(self.bad(name, "true or false").into()),
        }
    }

    pub(super) fn bad(&self, name: &str, wanted: &str) -> PlanError {
        self.call.bad(name, wanted)
    }

    pub(super) fn missing(&self, name: &str) -> PlanError {
        self.call.missing(name)
    }
}
