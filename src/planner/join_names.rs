//! Says USING and NATURAL with ON, and the columns that they merge by what they stand for.
//!
//! ```text
//!   SELECT * FROM z LEFT JOIN y USING (id) WHERE id > 1
//!   SELECT z.id, z.* EXCLUDE (id), y.* EXCLUDE (id) FROM z LEFT JOIN y ON z.id = y.id WHERE z.id > 1
//! ```
//!
//! A merged column is the left one in an inner and a left join, the right one in a right join and
//! `coalesce(l, r)` in a full join. `*` shows the merged columns first, each once. DataFusion takes the left one
//! always in expressions, in `*` the one whose relation's name comes first, and finds them ambiguous in WHERE.
//!
//! The hidden columns of two streams have the same names: NATURAL joins by columns that both sides show.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Join, JoinConstraint, JoinOperator, Query, Select, SetExpr,
    TableAlias, TableFactor, TableWithJoins, Value, VisitMut, VisitorMut,
};

use crate::planner::error::PlanError;
use crate::planner::hidden::{fold, name_of};
use crate::planner::join_sides::{Output, Side};
use crate::planner::merged_names::Merged;
use crate::planner::relation_call::{expression_of, function_call};
use crate::planner::relation_columns::Relations;
use crate::planner::relations::RelationLookup;
use crate::planner::selects::selects;
use crate::planner::sql_call::{binary, sql_call};
use crate::planner::window_call::window_columns;

/// Rewrites the joins of a query.
pub(super) fn normalize(query: &mut Query, lookup: &dyn RelationLookup) -> Result<(), PlanError> {
    if VisitMut::visit(query, &mut Finder).is_continue() {
        return Ok(());
    }
    let mut normalizer = Normalizer { relations: Relations::new(lookup), aliases: 0 };
    match VisitMut::visit(query, &mut normalizer) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Breaks off at the first USING or NATURAL.
struct Finder;

impl VisitorMut for Finder {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        match select.from.iter().any(merges) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

/// Whether a join of a FROM merges columns.
fn merges(from: &TableWithJoins) -> bool {
    let nested = |factor: &TableFactor| match factor {
        TableFactor::NestedJoin { table_with_joins, .. } => merges(table_with_joins),
        _ => false,
    };
    let is_named = |join: &Join| {
        let constraint = constraint_of(&join.join_operator);
        matches!(constraint, Some((JoinConstraint::Natural | JoinConstraint::Using(_), _)))
    };
    nested(&from.relation) || from.joins.iter().any(|join| is_named(join) || nested(&join.relation))
}

/// Which value a merged column has.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Left,
    Right,
    Either,
}

fn constraint_of(operator: &JoinOperator) -> Option<(&JoinConstraint, Kept)> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint) => Some((constraint, Kept::Left)),
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
            Some((constraint, Kept::Right))
        }
        JoinOperator::FullOuter(constraint) => Some((constraint, Kept::Either)),
        _ => None,
    }
}

fn constraint_mut(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => Some(constraint),
        _ => None,
    }
}

struct Normalizer<'a> {
    relations: Relations<'a>,
    /// Relations that were given a name.
    aliases: usize,
}

impl VisitorMut for Normalizer<'_> {
    type Break = PlanError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<PlanError> {
        self.relations.enter(query);
        match self.query(query) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<PlanError> {
        self.relations.leave();
        ControlFlow::Continue(())
    }
}

impl Normalizer<'_> {
    fn query(&mut self, query: &mut Query) -> Result<(), PlanError> {
        // Above UNION, ORDER BY knows the columns of the answer only.
        let order = match *query.body {
            SetExpr::Select(_) => query.order_by.as_mut(),
            _ => None,
        };
        let mut order = order.map(|order| &mut order.kind);
        for select in selects(&mut query.body) {
            if !select.from.iter().any(merges) {
                continue;
            }
            let mut all = Side::default();
            for from in &mut select.from {
                all.0.extend(self.joined(from)?.0);
            }
            all.spell_stars(&mut select.projection)?;
            let names = all.merged();
            let mut merged = Merged::new(&names, &mut self.relations);
            merged.say_in_select(select);
            if let Some(order) = &mut order {
                merged.say_in_order(order, select);
            }
        }
        Ok(())
    }

    fn joined(&mut self, from: &mut TableWithJoins) -> Result<Side, PlanError> {
        let mut side = self.side(&mut from.relation)?;
        for join in &mut from.joins {
            let right = self.side(&mut join.relation)?;
            side = self.join(side, right, &mut join.join_operator)?;
        }
        Ok(side)
    }

    fn side(&mut self, factor: &mut TableFactor) -> Result<Side, PlanError> {
        if let TableFactor::NestedJoin { table_with_joins, alias: None } = factor {
            return self.joined(table_with_joins);
        }
        self.give_name(factor);
        let columns = self.relations.of_factor(factor);
        Ok(Side(vec![Output::Relation { name: name_of(factor), columns, without: vec![] }]))
    }

    /// Names a subquery or function that has no name: a window function after its input, as its columns are.
    fn give_name(&mut self, factor: &mut TableFactor) {
        let of_input = function_call(factor).and_then(|(function, arguments, _)| {
            window_columns(&function)?;
            match expression_of(arguments.first()?)? {
                Expr::Identifier(name) => Some(name.clone()),
                _ => None,
            }
        });
        let (TableFactor::Table { args: Some(_), alias, .. }
        | TableFactor::TableFunction { alias, .. }
        | TableFactor::Derived { alias, .. }) = factor
        else {
            return;
        };
        if alias.is_none() {
            self.aliases += 1;
            let name = of_input.unwrap_or_else(|| Ident::new(format!("__from_{}", self.aliases)));
            *alias = Some(TableAlias { explicit: true, name, columns: vec![], at: None });
        }
    }

    fn join(
        &mut self,
        mut left: Side,
        mut right: Side,
        operator: &mut JoinOperator,
    ) -> Result<Side, PlanError> {
        match operator {
            JoinOperator::Semi(_)
            | JoinOperator::LeftSemi(_)
            | JoinOperator::Anti(_)
            | JoinOperator::LeftAnti(_) => return Ok(left),
            JoinOperator::RightSemi(_) | JoinOperator::RightAnti(_) => return Ok(right),
            _ => {}
        }
        let kept = constraint_of(operator).map(|(_, kept)| kept);
        let (Some(kept), Some(constraint)) = (kept, constraint_mut(operator)) else {
            left.0.append(&mut right.0);
            return Ok(left);
        };
        let names = match constraint {
            JoinConstraint::Using(names) => names
                .iter()
                .map(|name| name.0.last().and_then(|part| part.as_ident()).map(fold))
                .collect::<Option<Vec<String>>>()
                .unwrap_or_default(),
            JoinConstraint::Natural => left.common(&right)?,
            JoinConstraint::On(condition) => {
                left.0.append(&mut right.0);
                Merged::new(&left.merged(), &mut self.relations).say(condition);
                return Ok(left);
            }
            JoinConstraint::None => vec![],
        };
        let mut outputs = Vec::new();
        let mut conditions: Option<Expr> = None;
        for name in names {
            let (l, r) = (left.take(&name, "left")?, right.take(&name, "right")?);
            let equal = binary(l.clone(), BinaryOperator::Eq, r.clone());
            conditions = Some(match conditions {
                Some(before) => binary(before, BinaryOperator::And, equal),
                None => equal,
            });
            let expr = match kept {
                Kept::Left => l,
                Kept::Right => r,
                Kept::Either => sql_call("coalesce", vec![l, r]),
            };
            outputs.push(Output::Column { name, expr: Box::new(expr) });
        }
        *constraint = match (conditions, &*constraint) {
            (Some(conditions), _) => JoinConstraint::On(conditions),
            // No column that both sides have: all pairs of rows.
            (None, JoinConstraint::Natural) => {
                JoinConstraint::On(Expr::value(Value::Boolean(true)))
            }
            (None, _) => JoinConstraint::None,
        };
        outputs.append(&mut left.0);
        outputs.append(&mut right.0);
        Ok(Side(outputs))
    }
}
