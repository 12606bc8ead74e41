//! Refuses what a continuous query could not join right, and says NATURAL in columns.
//!
//! The hidden columns of two streams have the same names, so NATURAL would join by them: here it becomes
//! USING with the columns that both sides show. This is done for one-off SELECTs, too.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Ident, JoinConstraint, JoinOperator, ObjectName, Query, Select, TableFactor, VisitMut,
    VisitorMut,
};

use crate::data::schema::is_hidden;
use crate::planner::bind::Purpose;
use crate::planner::error::PlanError;
use crate::planner::hidden::fold;
use crate::planner::relations::{RelationKind, RelationLookup};
use crate::planner::selects::selects;

/// Rewrites the joins of a query.
pub(super) fn normalize(
    query: &mut Query,
    lookup: &dyn RelationLookup,
    purpose: Purpose,
) -> Result<(), PlanError> {
    let mut normalizer = Normalizer { lookup, purpose, shadowed: BTreeSet::new() };
    match VisitMut::visit(query, &mut normalizer) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Normalizer<'a> {
    lookup: &'a dyn RelationLookup,
    purpose: Purpose,
    /// Names of CTEs: they hide relations of the same name.
    shadowed: BTreeSet<String>,
}

impl VisitorMut for Normalizer<'_> {
    type Break = PlanError;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<PlanError> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.shadowed.extend(ctes.map(|cte| fold(&cte.alias.name)));
        match selects(&mut query.body).into_iter().try_for_each(|select| self.select(select)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

impl Normalizer<'_> {
    fn select(&self, select: &mut Select) -> Result<(), PlanError> {
        for from in &mut select.from {
            let mut before = vec![from.relation.clone()];
            for join in &mut from.joins {
                self.constraint(&before, &join.relation, &mut join.join_operator)?;
                before.push(join.relation.clone());
            }
        }
        Ok(())
    }

    fn constraint(
        &self,
        before: &[TableFactor],
        relation: &TableFactor,
        operator: &mut JoinOperator,
    ) -> Result<(), PlanError> {
        let keeps_right = matches!(
            operator,
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_)
        );
        let constraint = match operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint) => constraint,
            _ => return Ok(()),
        };
        let named = matches!(constraint, JoinConstraint::Natural | JoinConstraint::Using(_));
        if named && keeps_right && self.purpose == Purpose::Continuous {
            return Err(PlanError::unsupported(
                "USING or NATURAL of a RIGHT or FULL join",
                "Write the condition with ON, and coalesce(a.k, b.k) for the column.",
            ));
        }
        if !matches!(constraint, JoinConstraint::Natural) {
            return Ok(());
        }
        let hides = |factor: &TableFactor| match factor {
            TableFactor::Table { args: None, .. } => {
                self.shown(factor).is_some_and(|(_, hides)| hides)
            }
            TableFactor::Table { .. } | TableFactor::TableFunction { .. } => true,
            _ => false,
        };
        if !hides(relation) || !before.iter().any(hides) {
            return Ok(());
        }
        let sides: Option<Vec<Vec<String>>> =
            before.iter().map(|factor| Some(self.shown(factor)?.0)).collect();
        let (Some(before), Some((own, _))) = (sides, self.shown(relation)) else {
            return Err(PlanError::unsupported(
                "NATURAL JOIN of a subquery with a stream",
                "Name the columns with USING (…).",
            ));
        };
        let mut common: Vec<String> = Vec::new();
        for name in before.concat() {
            if own.contains(&name) && !common.contains(&name) {
                common.push(name);
            }
        }
        let column = |name: &String| ObjectName::from(vec![Ident::with_quote('"', name)]);
        *constraint = match common.is_empty() {
            true => JoinConstraint::None,
            false => JoinConstraint::Using(common.iter().map(column).collect()),
        };
        Ok(())
    }

    /// The columns that `*` shows of a relation, and whether it has others.
    fn shown(&self, factor: &TableFactor) -> Option<(Vec<String>, bool)> {
        let TableFactor::Table { name, args: None, .. } = factor else { return None };
        let parts: Vec<String> =
            name.0.iter().map(|part| part.as_ident().map(fold)).collect::<Option<_>>()?;
        if self.shadowed.contains(&parts.join(".")) {
            return None;
        }
        let info = self.lookup.relation(&parts.join("."))?;
        let is_stream = info.kind == RelationKind::Stream;
        let names = info.schema.fields().iter().map(|field| field.name().clone());
        Some((names.filter(|name| !is_stream || !is_hidden(name)).collect(), is_stream))
    }
}
