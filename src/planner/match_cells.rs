//! Takes navigation and aggregates out of the expressions of MATCH_RECOGNIZE: each becomes a column of the
//! frame.
//!
//! `LAST(a.price, 1) > 1.05 * FIRST(a.price)` is `"__cell_0" > 1.05 * "__cell_1"` over a frame with two
//! cells, both of the operand `price`. A column of a variable, `a.price`, is the one of its last row; a
//! column without a variable is the one of the last row of all.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, DFSchemaRef, Result as PlannerResult};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query,
    VisitMut, VisitorMut,
};

use crate::data::sql_words::type_in_sql_words;
use crate::error::SqlState;
use crate::operators::match_recognize::{Aggregation, Cell, Place, RunningFunction};
use crate::planner::constants;
use crate::planner::error::PlanError;
use crate::planner::match_node::cell_name;

/// How far navigation may skip or go back.
const ROWS_MAX: i64 = 10_000;

/// Collects the cells of all expressions of one MATCH_RECOGNIZE.
pub(super) struct Cells<'a> {
    /// The names of the variables.
    pub variables: &'a [String],
    /// The columns of the input.
    pub schema: &'a DFSchema,
    /// The column that MATCH_ROWTIME() means.
    pub time: Option<Expr>,
    /// What cells read of rows.
    pub operands: Vec<Expr>,
    /// The cells.
    pub cells: Vec<Cell>,
    /// Their types.
    pub types: Vec<DataType>,
}

/// The expression in the types that it will be evaluated in.
pub(super) fn coerced(expr: Expr, schema: &DFSchema) -> PlannerResult<Expr> {
    ExprSimplifier::new(SimplifyContext::default()).coerce(expr, schema)
}

impl Cells<'_> {
    /// The frame, once all expressions are read.
    pub(super) fn frame(&self) -> PlannerResult<DFSchemaRef> {
        let field = |(cell, data_type): (usize, &DataType)| {
            (None, Arc::new(Field::new(cell_name(cell), data_type.clone(), true)))
        };
        let fields = self.types.iter().enumerate().map(field).collect();
        Ok(Arc::new(DFSchema::new_with_metadata(fields, Default::default())?))
    }

    /// Puts cells in the place of what an expression reads of the match.
    pub(super) fn read(
        &mut self,
        expr: &SqlExpr,
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<SqlExpr> {
        let mut expr = expr.clone();
        let mut reader = Reader { cells: self, context };
        match VisitMut::visit(&mut expr, &mut reader) {
            ControlFlow::Continue(()) => Ok(expr),
            ControlFlow::Break(error) => Err(error),
        }
    }

    fn cell(&mut self, cell: Cell, data_type: DataType) -> SqlExpr {
        let known = self.cells.iter().position(|other| *other == cell);
        let index = known.unwrap_or_else(|| {
            self.cells.push(cell);
            self.types.push(data_type);
            self.cells.len() - 1
        });
        SqlExpr::Identifier(Ident::with_quote('"', cell_name(index)))
    }

    fn operand(&mut self, expr: Expr) -> PlannerResult<(usize, DataType)> {
        let data_type = expr.get_type(self.schema)?;
        let known = self.operands.iter().position(|other| *other == expr);
        let index = known.unwrap_or_else(|| {
            self.operands.push(expr);
            self.operands.len() - 1
        });
        Ok((index, data_type))
    }

    fn variable(&self, name: &str) -> Option<usize> {
        self.variables.iter().position(|variable| variable == name)
    }
}

/// Where navigation ends, and what is read there.
struct Target {
    place: Place,
    operand: Expr,
}

struct Reader<'a, 'b> {
    cells: &'a mut Cells<'b>,
    context: &'a mut dyn RelationPlannerContext,
}

impl VisitorMut for Reader<'_, '_> {
    type Break = DataFusionError;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<DataFusionError> {
        ControlFlow::Break(refused("a subquery in MATCH_RECOGNIZE", "Join its result before."))
    }

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<DataFusionError> {
        let read = match expr {
            SqlExpr::Function(call) => self.call(&call.clone()),
            SqlExpr::Identifier(name) if name.value.starts_with("__cell_") => Ok(None),
            SqlExpr::Identifier(_) | SqlExpr::CompoundIdentifier(_) => {
                self.place_of(&expr.clone()).and_then(|target| self.at(target)).map(Some)
            }
            _ => Ok(None),
        };
        match read {
            Ok(Some(cell)) => *expr = cell,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

impl Reader<'_, '_> {
    /// What a call reads of the match; `None` for an ordinary function.
    fn call(&mut self, call: &Function) -> PlannerResult<Option<SqlExpr>> {
        let name = call.name.to_string().to_lowercase();
        let cell = match name.as_str() {
            "first" | "last" | "prev" => {
                let target = self.navigate(&name, call)?;
                self.at(target)?
            }
            "next" => {
                let hint = "Ask it of the following variable, with PREV.";
                return Err(refused("NEXT in MATCH_RECOGNIZE", hint));
            }
            "classifier" => {
                arguments(call, 0, 0)?;
                self.cells.cell(Cell::Classifier, DataType::Utf8View)
            }
            "match_number" => {
                arguments(call, 0, 0)?;
                self.cells.cell(Cell::MatchNumber, DataType::Int64)
            }
            "match_rowtime" => {
                arguments(call, 0, 1)?;
                let Some(operand) = self.cells.time.clone() else {
                    return Err(misuse("MATCH_ROWTIME() needs an ORDER BY of the event time"));
                };
                self.at(Target { place: last_of(None), operand })?
            }
            "count" => self.aggregate(RunningFunction::Count, call)?,
            "sum" => self.aggregate(RunningFunction::Sum, call)?,
            "avg" | "mean" => self.aggregate(RunningFunction::Average, call)?,
            "min" => self.aggregate(RunningFunction::Least, call)?,
            "max" => self.aggregate(RunningFunction::Greatest, call)?,
            other if self.context.context_provider().get_aggregate_meta(other).is_some() => {
                let hint = "Use count, sum, avg, min or max.";
                return Err(refused(format!("aggregate {other}() in MATCH_RECOGNIZE"), hint));
            }
            _ => return Ok(None),
        };
        Ok(Some(cell))
    }

    /// FIRST, LAST and PREV, and one of the former in the latter.
    fn navigate(&mut self, name: &str, call: &Function) -> PlannerResult<Target> {
        let arguments = arguments(call, 1, 2)?;
        let rows = match arguments.get(1) {
            Some(rows) => self.rows(name, rows)?,
            None => usize::from(name == "prev"),
        };
        let inner = match &arguments[0] {
            SqlExpr::Function(inner) if name == "prev" => {
                let name = inner.name.to_string().to_lowercase();
                matches!(name.as_str(), "first" | "last").then_some((name, inner))
            }
            _ => None,
        };
        let mut target = match inner {
            Some((inner_name, inner)) => self.navigate(&inner_name, inner)?,
            None => self.place_of(&arguments[0])?,
        };
        match name {
            "prev" => target.place.back = rows,
            _ => (target.place.from_first, target.place.skip) = (name == "first", rows),
        }
        Ok(target)
    }

    /// A number of rows.
    fn rows(&mut self, function: &str, rows: &SqlExpr) -> PlannerResult<usize> {
        let value = constants::fold(self.context.sql_to_expr(rows.clone(), &DFSchema::empty())?)?;
        let rows =
            value.as_ref().and_then(constants::integer).filter(|n| (0..=ROWS_MAX).contains(n));
        rows.and_then(|rows| usize::try_from(rows).ok()).ok_or_else(|| {
            let message = format!(
                "second argument of {} must be a constant from 0 to {ROWS_MAX}",
                function.to_uppercase()
            );
            PlanError::window(SqlState::INVALID_PARAMETER, message).into()
        })
    }

    /// An argument: the variable whose last row it means, and what is read there.
    fn place_of(&mut self, argument: &SqlExpr) -> PlannerResult<Target> {
        let mut argument = argument.clone();
        let mut qualifiers = Qualifiers { cells: self.cells, found: Vec::new() };
        let walked: ControlFlow<()> = VisitMut::visit(&mut argument, &mut qualifiers);
        debug_assert!(walked.is_continue(), "the visitor never breaks off");
        let mut found = qualifiers.found;
        found.dedup();
        let of = match found.as_slice() {
            [] => None,
            [of] => *of,
            _ => return Err(misuse("one argument reads the rows of several pattern variables")),
        };
        let operand = self.context.sql_to_expr(argument, self.cells.schema)?;
        let operand = coerced(operand, self.cells.schema)?;
        Ok(Target { place: last_of(of), operand })
    }

    fn at(&mut self, target: Target) -> PlannerResult<SqlExpr> {
        let (operand, data_type) = self.cells.operand(target.operand)?;
        Ok(self.cells.cell(Cell::At(target.place, operand), data_type))
    }

    fn aggregate(&mut self, function: RunningFunction, call: &Function) -> PlannerResult<SqlExpr> {
        let name = function.name();
        let (of, operand) = match argument_of(call)? {
            FunctionArgExpr::Expr(expr) => {
                let target = self.place_of(&expr)?;
                (target.place.of, Some(target.operand))
            }
            FunctionArgExpr::Wildcard if name == "count" => (None, None),
            FunctionArgExpr::QualifiedWildcard(variable) if name == "count" => {
                let ident = match variable.0.as_slice() {
                    [part] => part.as_ident().map(super::hidden::fold),
                    _ => None,
                };
                let of = ident.and_then(|name| self.cells.variable(&name));
                let of = of.ok_or_else(|| misuse(format!("{variable} is no pattern variable")))?;
                (Some(of), None)
            }
            _ => return Err(misuse(format!("{name}() takes one argument"))),
        };
        let (column, data_type) = match operand {
            None => (None, DataType::Int64),
            Some(operand) => {
                let given = operand.get_type(self.cells.schema)?;
                let (argument, result) = function.types(&given).ok_or_else(|| {
                    let given = type_in_sql_words(&given);
                    let message = format!("{name}() in MATCH_RECOGNIZE does not take type {given}");
                    DataFusionError::from(PlanError::window(SqlState::TYPE_MISMATCH, message))
                })?;
                let operand = operand.cast_to(&argument, self.cells.schema)?;
                (Some(self.cells.operand(operand)?.0), result)
            }
        };
        let aggregation = Aggregation { function, column, of, data_type: data_type.clone() };
        Ok(self.cells.cell(Cell::Aggregate(aggregation), data_type))
    }
}

/// The last row of a variable, or of all.
fn last_of(of: Option<usize>) -> Place {
    Place { of, from_first: false, skip: 0, back: 0 }
}

/// Takes the variables off the columns of an argument.
struct Qualifiers<'a, 'b> {
    cells: &'a Cells<'b>,
    found: Vec<Option<usize>>,
}

impl VisitorMut for Qualifiers<'_, '_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
        match expr {
            SqlExpr::Identifier(_) => self.note(None),
            SqlExpr::CompoundIdentifier(parts) => {
                let variable = self.cells.variable(&super::hidden::fold(&parts[0]));
                self.note(variable);
                if variable.is_some() {
                    let mut rest = parts.split_off(1);
                    *expr = match (rest.pop(), rest.is_empty()) {
                        (Some(only), true) => SqlExpr::Identifier(only),
                        (Some(last), false) => {
                            rest.push(last);
                            SqlExpr::CompoundIdentifier(rest)
                        }
                        (None, _) => return ControlFlow::Continue(()),
                    };
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Qualifiers<'_, '_> {
    fn note(&mut self, variable: Option<usize>) {
        if !self.found.contains(&variable) {
            self.found.push(variable);
        }
    }
}

/// The arguments of a plain call.
fn arguments(call: &Function, least: usize, most: usize) -> PlannerResult<Vec<SqlExpr>> {
    let given = match &call.args {
        FunctionArguments::List(list) if is_plain(call) => {
            list.args.iter().map(expression).collect()
        }
        FunctionArguments::None => Some(vec![]),
        FunctionArguments::List(_) | FunctionArguments::Subquery(_) => None,
    };
    let fits = |given: &Vec<SqlExpr>| (least..=most).contains(&given.len());
    given.filter(fits).ok_or_else(|| {
        let name = call.name.to_string().to_uppercase();
        let wanted = match (least, most) {
            (0, 0) => "takes no argument",
            (1, 2) => "takes an expression and, after a comma, a number of rows",
            _ => "takes one argument",
        };
        misuse(format!("{name} in MATCH_RECOGNIZE {wanted}"))
    })
}

fn expression(argument: &FunctionArg) -> Option<SqlExpr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    }
}

/// The one argument of an aggregate.
fn argument_of(call: &Function) -> PlannerResult<FunctionArgExpr> {
    let name = call.name.to_string().to_lowercase();
    match &call.args {
        FunctionArguments::List(list) if is_plain(call) => match list.args.as_slice() {
            [FunctionArg::Unnamed(argument)] => Ok(argument.clone()),
            _ => Err(misuse(format!("{name}() takes one argument"))),
        },
        _ => Err(refused(
            format!("{name}() with DISTINCT, ORDER BY, FILTER or OVER in MATCH_RECOGNIZE"),
            "Leave it out, or compute it over the rows of the match in another query.",
        )),
    }
}

fn is_plain(call: &Function) -> bool {
    let list_is_plain = match &call.args {
        FunctionArguments::List(list) => {
            list.duplicate_treatment.is_none() && list.clauses.is_empty()
        }
        FunctionArguments::None => true,
        FunctionArguments::Subquery(_) => false,
    };
    list_is_plain
        && call.filter.is_none()
        && call.over.is_none()
        && call.null_treatment.is_none()
        && call.within_group.is_empty()
}

/// The error of what is not done.
pub(super) fn refused(what: impl Into<String>, hint: &str) -> DataFusionError {
    let message = format!("{} is not supported", what.into());
    let (code, hint) = (SqlState::NOT_SUPPORTED, Some(hint.into()));
    PlanError::Refused { code, message, hint }.into()
}

/// The error of what means nothing.
pub(super) fn misuse(message: impl Into<String>) -> DataFusionError {
    PlanError::window(SqlState::WINDOWING, message).into()
}
