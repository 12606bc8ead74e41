//! Reads a call of a table function in FROM: each argument under its name, the first one a relation.
//!
//! Window functions and mining functions share it. Positional forms follow Flink and RisingWave; every
//! argument has a name, too.

use datafusion::common::{DFSchema, Result as PlannerResult};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    TableAlias, TableFactor, TableFunctionArgs,
};

use crate::error::SqlState;
use crate::planner::constants;
use crate::planner::error::PlanError;

/// Name, arguments and alias of a relation that is a function call.
pub(super) fn function_call(
    relation: &TableFactor,
) -> Option<(String, Vec<FunctionArg>, Option<TableAlias>)> {
    match relation {
        TableFactor::Table { name, args: Some(args), alias, .. } => {
            Some((function_name(name), args.args.clone(), alias.clone()))
        }
        TableFactor::TableFunction { expr: SqlExpr::Function(call), alias } => {
            Some((function_name(&call.name), arguments_of(call), alias.clone()))
        }
        _ => None,
    }
}

/// The expression that an argument is, with a name or without.
pub(super) fn expression_of(argument: &FunctionArg) -> Option<&SqlExpr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. } => Some(expr),
        _ => None,
    }
}

/// Other names that Flink and DataFusion users write for the same parameter.
fn canonical(name: &str) -> &str {
    match name {
        "data" | "table" | "input" => "relation",
        "timecol" | "at" | "time_column" => "time",
        "partition_by" => "partition",
        "order_by" => "order",
        other => other,
    }
}

/// At the end of the names in positional order: further arguments belong to the parameter before.
pub(super) const REPEATED: &str = "…";

/// Parameter names in positional order, and those that have names only.
pub(super) type Parameters = (&'static [&'static str], &'static [&'static str]);

/// A call with each argument under its parameter's name.
pub(super) struct Call {
    /// The function's name in capitals.
    pub function: String,
    parameters: Parameters,
    arguments: Vec<(String, SqlExpr)>,
}

impl Call {
    /// Gives each argument its name.
    pub(super) fn bind(
        function: &str,
        parameters: Parameters,
        arguments: Vec<FunctionArg>,
    ) -> Result<Call, PlanError> {
        let (positional, named) = parameters;
        let upper = function.to_uppercase();
        let last = positional.len().saturating_sub(1);
        let too_many =
            || misuse(format!("too many positional arguments for {upper}"), positional, named);
        let mut bound: Vec<(String, SqlExpr)> = Vec::new();
        for (index, argument) in arguments.into_iter().enumerate() {
            let (name, value) = match argument {
                FunctionArg::Unnamed(value) => match positional.get(index.min(last)) {
                    Some(&REPEATED) => {
                        if repeat(&mut bound, positional[last - 1], value) {
                            continue;
                        }
                        return Err(too_many());
                    }
                    Some(name) if index <= last => ((*name).to_string(), value),
                    _ => return Err(too_many()),
                },
                FunctionArg::Named { name, arg, .. } => (fold(&name), arg),
                FunctionArg::ExprNamed { name: SqlExpr::Identifier(name), arg, .. } => {
                    (fold(&name), arg)
                }
                FunctionArg::ExprNamed { name, .. } => {
                    let message = format!("argument name {name} of {upper} is not a name");
                    return Err(misuse(message, positional, named));
                }
            };
            let name = canonical(&name).to_string();
            let is_known = |known: &&[&str]| known.contains(&name.as_str());
            if name == REPEATED || !(is_known(&positional) || is_known(&named)) {
                let message = format!("{upper} has no argument \"{name}\"");
                return Err(misuse(message, positional, named));
            }
            if bound.iter().any(|(other, _)| *other == name) {
                let message = format!("argument \"{name}\" of {upper} is given twice");
                return Err(misuse(message, positional, named));
            }
            let FunctionArgExpr::Expr(value) = value else {
                let message = format!("argument \"{name}\" of {upper} is not an expression");
                return Err(misuse(message, positional, named));
            };
            bound.push((name, value));
        }
        Ok(Call { function: upper, parameters, arguments: bound })
    }

    /// The argument of that name, if it was given.
    pub(super) fn argument(&self, name: &str) -> Option<&SqlExpr> {
        self.arguments.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// The argument of that name.
    pub(super) fn required(&self, name: &str) -> Result<&SqlExpr, PlanError> {
        self.argument(name).ok_or_else(|| {
            let (positional, named) = self.parameters;
            misuse(format!("{} needs argument \"{name}\"", self.function), positional, named)
        })
    }

    /// The first argument as a relation: a name, a subquery, or another window function.
    pub(super) fn relation(&self) -> Result<TableFactor, PlanError> {
        let table = |name: ObjectName, args: Option<Vec<FunctionArg>>| TableFactor::Table {
            name,
            alias: None,
            args: args.map(|args| TableFunctionArgs { args, settings: None }),
            with_hints: vec![],
            version: None,
            with_ordinality: false,
            partitions: vec![],
            json_path: None,
            sample: None,
            index_hints: vec![],
        };
        match self.required("relation")? {
            SqlExpr::Identifier(name) => Ok(table(ObjectName::from(vec![name.clone()]), None)),
            SqlExpr::CompoundIdentifier(names) => Ok(table(ObjectName::from(names.clone()), None)),
            SqlExpr::Subquery(query) => Ok(TableFactor::Derived {
                lateral: false,
                subquery: query.clone(),
                alias: None,
                sample: None,
            }),
            SqlExpr::Nested(inner) if matches!(**inner, SqlExpr::Subquery(_)) => {
                let SqlExpr::Subquery(query) = &**inner else { unreachable!("just matched") };
                Ok(TableFactor::Derived {
                    lateral: false,
                    subquery: query.clone(),
                    alias: None,
                    sample: None,
                })
            }
            SqlExpr::Function(call) => Ok(table(call.name.clone(), Some(arguments_of(call)))),
            other => Err(PlanError::window(
                SqlState::WINDOWING,
                format!("first argument of {} must be a relation, not {other}", self.function),
            )),
        }
    }

    /// An argument that may be several, in parentheses: `(a, b)`.
    pub(super) fn list(&self, name: &str) -> Vec<SqlExpr> {
        match self.argument(name).cloned() {
            None => vec![],
            Some(SqlExpr::Tuple(items)) => items,
            Some(SqlExpr::Nested(inner)) => vec![*inner],
            Some(single) => vec![single],
        }
    }

    /// An argument that is a constant.
    pub(super) fn literal(
        &self,
        name: &str,
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<Option<ScalarValue>> {
        let Some(argument) = self.argument(name).cloned() else { return Ok(None) };
        Ok(Some(self.constant(name, argument, context)?))
    }

    /// The constants of an argument that may be several.
    pub(super) fn literals(
        &self,
        name: &str,
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<Vec<ScalarValue>> {
        self.list(name).into_iter().map(|item| self.constant(name, item, context)).collect()
    }

    fn constant(
        &self,
        name: &str,
        argument: SqlExpr,
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<ScalarValue> {
        // `SLIDE => m` and the like may be written bare; a column cannot be a constant.
        let expr = context.sql_to_expr(argument, &DFSchema::empty())?;
        let value = constants::fold(expr)?;
        Ok(value.ok_or_else(|| self.bad(name, "a constant"))?)
    }

    /// An argument that is one of some words; the first is the default.
    pub(super) fn choice<'c>(
        &self,
        name: &str,
        choices: &[&'c str],
        context: &mut dyn RelationPlannerContext,
    ) -> PlannerResult<&'c str> {
        let Some(value) = self.literal(name, context)? else { return Ok(choices[0]) };
        let text = constants::text(&value).unwrap_or_default().to_lowercase();
        let found = choices.iter().find(|choice| **choice == text);
        Ok(found
            .copied()
            .ok_or_else(|| self.bad(name, &format!("one of {}", choices.join(", "))))?)
    }

    /// The error of an argument that is something else.
    pub(super) fn bad(&self, name: &str, wanted: &str) -> PlanError {
        let message = format!("argument \"{name}\" of {} must be {wanted}", self.function);
        PlanError::window(SqlState::INVALID_PARAMETER, message)
    }

    /// The error of an argument that is missing.
    pub(super) fn missing(&self, name: &str) -> PlanError {
        self.required(name).err().unwrap_or_else(|| self.bad(name, "given"))
    }
}

/// Adds one more value to an argument that is there. False where it is not, or the value is none.
fn repeat(bound: &mut [(String, SqlExpr)], name: &str, value: FunctionArgExpr) -> bool {
    let known = bound.iter_mut().find(|(other, _)| other == name);
    let (Some((_, known)), FunctionArgExpr::Expr(value)) = (known, value) else { return false };
    match known {
        SqlExpr::Tuple(values) => values.push(value),
        single => {
            let first = std::mem::replace(single, SqlExpr::Tuple(vec![]));
            *single = SqlExpr::Tuple(vec![first, value]);
        }
    }
    true
}

fn misuse(message: String, positional: &[&str], named: &[&str]) -> PlanError {
    let mut names: Vec<String> = positional.iter().map(|name| (*name).to_string()).collect();
    names.extend(named.iter().map(|name| format!("{} => …", name.to_uppercase())));
    PlanError::Window {
        code: SqlState::WINDOWING,
        message,
        hint: Some(format!("Arguments are ({}).", names.join(", "))),
    }
}

fn function_name(name: &ObjectName) -> String {
    match name.0.as_slice() {
        [part] => part.as_ident().map(|ident| ident.value.to_lowercase()).unwrap_or_default(),
        _ => String::new(),
    }
}

fn fold(ident: &Ident) -> String {
    ident.value.to_lowercase()
}

fn arguments_of(call: &Function) -> Vec<FunctionArg> {
    match &call.args {
        FunctionArguments::List(list) => list.args.clone(),
        FunctionArguments::None | FunctionArguments::Subquery(_) => vec![],
    }
}
