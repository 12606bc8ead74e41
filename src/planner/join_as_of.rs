//! Brings `ASOF JOIN … MATCH_CONDITION` and `FOR SYSTEM_TIME AS OF` past DataFusion's planner.
//!
//! It knows neither. So before it binds the query each becomes a plain join with one more condition: a
//! call of a function that means nothing but this ([`AsOf`]), over a column of each side, so that the
//! optimiser leaves it where it stands. The translation takes it out again ([`take_marker`]); of a one-off
//! SELECT a node of ours does, before anything is optimised ([`super::join_once`]).

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::Result as PlannerResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF, Volatility};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr as SqlExpr, Function, Ident, Join, JoinConstraint, JoinOperator, Query,
    Select, TableFactor, TableVersion, VisitMut, VisitorMut,
};

use crate::planner::bind::Purpose;
use crate::planner::error::PlanError;
use crate::planner::marker::Marker;
use crate::planner::relations::RelationLookup;
use crate::planner::selects::selects;
use crate::planner::sql_call::{binary, sql_call};

/// What a join with a marker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AsOf {
    /// ASOF JOIN with the condition `first >= second`.
    AtLeast,
    /// ASOF JOIN with the condition `first > second`.
    Above,
    /// The second side as it is when a row of the first comes.
    Now,
}

impl AsOf {
    const ALL: [AsOf; 3] = [AsOf::AtLeast, AsOf::Above, AsOf::Now];

    fn marker(self) -> Marker {
        let name = match self {
            AsOf::AtLeast => "__asof_at_least",
            AsOf::Above => "__asof_above",
            AsOf::Now => "__as_of_now",
        };
        Marker { name, arguments: 2, volatility: Volatility::Volatile, is_transparent: false }
    }
}

/// The function of a marker, by its name.
pub(super) fn marker_function(name: &str) -> Option<Arc<ScalarUDF>> {
    let mut markers = AsOf::ALL.into_iter().map(AsOf::marker);
    markers.find(|marker| marker.name == name).map(Marker::function)
}

/// What the condition says of its join, if it is a marker.
pub(super) fn marker(condition: &Expr) -> Option<AsOf> {
    AsOf::ALL.into_iter().find(|as_of| as_of.marker().arguments_of(condition).is_some())
}

/// The number of joins that have a marker. The optimiser may copy one to where it says nothing; if it
/// took one away from its join, there would be fewer.
pub(super) fn count_markers(plan: &LogicalPlan) -> PlannerResult<usize> {
    let mut count = 0;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Join(join) = node {
            let conditions = join.filter.iter().flat_map(split_conjunction);
            count += usize::from(conditions.into_iter().any(|c| marker(c).is_some()));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(count)
}

/// Takes the marker out of the conditions of a join, with its two arguments.
pub(super) fn take_marker(conditions: &mut Vec<Expr>) -> Option<(AsOf, Expr, Expr)> {
    let at = conditions.iter().position(|condition| marker(condition).is_some())?;
    let found = marker(&conditions[at])?;
    let Expr::ScalarFunction(call) = conditions.remove(at) else { return None };
    let [first, second] = <[Expr; 2]>::try_from(call.args).ok()?;
    Some((found, first, second))
}

/// Rewrites the joins of a query.
pub(super) fn normalize(
    query: &mut Query,
    lookup: &dyn RelationLookup,
    purpose: Purpose,
) -> Result<(), PlanError> {
    let mut rewriter = Rewriter { lookup, purpose };
    match VisitMut::visit(query, &mut rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Rewriter<'a> {
    lookup: &'a dyn RelationLookup,
    purpose: Purpose,
}

impl VisitorMut for Rewriter<'_> {
    type Break = PlanError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<PlanError> {
        match selects(&mut query.body).into_iter().try_for_each(|select| self.select(select)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Rewriter<'_> {
    fn select(&self, select: &mut Select) -> Result<(), PlanError> {
        for from in &mut select.from {
            if version_of(&mut from.relation).is_some() {
                return Err(PlanError::unsupported(
                    "FOR SYSTEM_TIME AS OF outside of a join",
                    "Write it behind the table that a stream is joined with.",
                ));
            }
            for join in &mut from.joins {
                self.as_of(join)?;
                self.as_of_now(&from.relation, join)?;
            }
        }
        Ok(())
    }

    /// `ASOF JOIN r MATCH_CONDITION (a >= b) ON c` is `JOIN r ON c AND marker(a, b)`.
    fn as_of(&self, join: &mut Join) -> Result<(), PlanError> {
        let JoinOperator::AsOf { match_condition, constraint } = &join.join_operator else {
            return Ok(());
        };
        let mut condition = match_condition;
        while let SqlExpr::Nested(inner) = condition {
            condition = inner;
        }
        let SqlExpr::BinaryOp { left, op, right } = condition else { return Err(odd_condition()) };
        let (as_of, first, second) = match op {
            BinaryOperator::GtEq => (AsOf::AtLeast, left, right),
            BinaryOperator::Gt => (AsOf::Above, left, right),
            BinaryOperator::LtEq => (AsOf::AtLeast, right, left),
            BinaryOperator::Lt => (AsOf::Above, right, left),
            _ => return Err(odd_condition()),
        };
        let sides = vec![*first.clone(), *second.clone()];
        let call = sql_call(as_of.marker().name, sides);
        let constraint = with(constraint, call)?;
        join.join_operator = match std::mem::take(&mut join.global) {
            true => JoinOperator::LeftOuter(constraint),
            false => JoinOperator::Inner(constraint),
        };
        Ok(())
    }

    /// `JOIN t FOR SYSTEM_TIME AS OF s.at ON c` is `JOIN t ON c AND marker(s.at, t.first)`.
    fn as_of_now(&self, first: &TableFactor, join: &mut Join) -> Result<(), PlanError> {
        let Some(version) = version_of(&mut join.relation) else { return Ok(()) };
        let TableVersion::ForSystemTimeAsOf(time) = version else {
            return Err(PlanError::unsupported(
                "a version of a table other than FOR SYSTEM_TIME AS OF",
                "Write FOR SYSTEM_TIME AS OF.",
            ));
        };
        if self.purpose == Purpose::Once {
            return Err(PlanError::unsupported_once(
                "FOR SYSTEM_TIME AS OF",
                "A SELECT sees the table as it is now; leave it out.",
            ));
        }
        let anchor = match time {
            SqlExpr::Identifier(_) | SqlExpr::CompoundIdentifier(_) => Some(time),
            SqlExpr::Function(call) if is_now(&call) => self.first_column(first),
            _ => None,
        };
        let (Some(left), Some(right)) = (anchor, self.first_column(&join.relation)) else {
            return Err(PlanError::unsupported(
                "this form of FOR SYSTEM_TIME AS OF",
                "Write t FOR SYSTEM_TIME AS OF s.at, with a table and the time column of the stream.",
            ));
        };
        let call = sql_call(AsOf::Now.marker().name, vec![left, right]);
        join.join_operator = match &join.join_operator {
            JoinOperator::Join(on) | JoinOperator::Inner(on) => {
                JoinOperator::Inner(with(on, call)?)
            }
            JoinOperator::Left(on) | JoinOperator::LeftOuter(on) => {
                JoinOperator::LeftOuter(with(on, call)?)
            }
            _ => {
                return Err(PlanError::unsupported(
                    "FOR SYSTEM_TIME AS OF in a join that is neither inner nor left",
                    "Write JOIN or LEFT JOIN, with the table on the right.",
                ));
            }
        };
        Ok(())
    }

    /// Some column of a relation, under its name in the query.
    fn first_column(&self, factor: &TableFactor) -> Option<SqlExpr> {
        let TableFactor::Table { name, alias, args: None, .. } = factor else { return None };
        let parts: Vec<Ident> =
            name.0.iter().map(|part| part.as_ident().cloned()).collect::<Option<_>>()?;
        let folded: Vec<String> = parts.iter().map(super::hidden::fold).collect();
        let info = self.lookup.relation(&folded.join("."))?;
        let column = Ident::with_quote('"', info.schema.fields().first()?.name());
        let qualifier = match alias {
            Some(alias) => vec![alias.name.clone()],
            None => parts,
        };
        Some(SqlExpr::CompoundIdentifier(qualifier.into_iter().chain([column]).collect()))
    }
}

fn odd_condition() -> PlanError {
    PlanError::unsupported(
        "this MATCH_CONDITION",
        "Write MATCH_CONDITION (l.at >= r.at) or (l.at > r.at).",
    )
}

/// Takes the version out of a relation.
fn version_of(factor: &mut TableFactor) -> Option<TableVersion> {
    match factor {
        TableFactor::Table { version, .. } => version.take(),
        _ => None,
    }
}

fn is_now(call: &Function) -> bool {
    let name = call.name.to_string().to_lowercase();
    name == "now" || name == "current_timestamp"
}

/// The condition of a join with one more conjunct.
fn with(constraint: &JoinConstraint, more: SqlExpr) -> Result<JoinConstraint, PlanError> {
    match constraint {
        JoinConstraint::None => Ok(JoinConstraint::On(more)),
        JoinConstraint::On(condition) => {
            let condition = SqlExpr::Nested(Box::new(condition.clone()));
            Ok(JoinConstraint::On(binary(condition, BinaryOperator::And, more)))
        }
        JoinConstraint::Using(_) | JoinConstraint::Natural => Err(PlanError::unsupported(
            "USING or NATURAL of an as-of join",
            "Write the condition with ON.",
        )),
    }
}
