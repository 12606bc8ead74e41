//! Gives columns that a correlated condition compares names of their own, where their names are not.
//!
//! DataFusion takes such a condition out of its subquery and asks it of a join. On the way up the columns lose their
//! relation, and of two that are called `k` it takes the first, or finds the name ambiguous:
//!
//! ```text
//!   EXISTS (SELECT 1 FROM b, c WHERE b.k = s.k AND c.k > s.v AND …)
//!   EXISTS (SELECT b.x AS k FROM b WHERE b.k = s.k)
//!   s.t IN (SELECT CAST(b.k AS TEXT) FROM b WHERE b.k = s.k)
//! ```
//!
//! (Names leave casts out.) So below the condition each of its columns stands once more, under a name that nothing
//! else has; behind it the columns are those of before:
//!
//! ```text
//!   Filter: b.k = outer.k     ->     Projection: b.k, …
//!                                      Filter: __own_0 = outer.k
//!                                        Projection: b.k, …, b.k AS __own_0
//! ```

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, Result};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, Filter, LogicalPlan, LogicalPlanBuilder, Subquery};

use crate::planner::expressions::{is_correlated, rewrite_named, subquery_in};

/// Does so in every subquery of a plan that was just bound.
pub(super) fn give(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut names = Names { given: 0 };
    let given = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Subquery(mut subquery) => {
            let changed = names.subquery(&mut subquery)?;
            Ok(Transformed::new_transformed(LogicalPlan::Subquery(subquery), changed))
        }
        node => rewrite_named(node, |expr| {
            expr.transform_up(|mut part| {
                let subquery = subquery_in(&mut part);
                let changed = subquery.map_or(Ok(false), |subquery| names.subquery(subquery))?;
                Ok(Transformed::new_transformed(part, changed))
            })
        }),
    })?;
    Ok(given.data)
}

struct Names {
    given: usize,
}

impl Names {
    /// Whether a subquery has other names now.
    fn subquery(&mut self, subquery: &mut Subquery) -> Result<bool> {
        let mut seen = Seen::default();
        seen.look_at(&subquery.subquery)?;
        if !seen.are_alike() {
            return Ok(false);
        }
        let plan = LogicalPlan::clone(&subquery.subquery).transform_up(|node| match node {
            LogicalPlan::Filter(filter) if !compared(&filter)?.is_empty() => {
                Ok(Transformed::yes(self.filter(filter)?))
            }
            node => Ok(Transformed::no(node)),
        })?;
        subquery.subquery = Arc::new(plan.data);
        Ok(true)
    }

    fn filter(&mut self, filter: Filter) -> Result<LogicalPlan> {
        let columns = filter.input.schema().columns();
        let columns = || columns.iter().cloned().map(Expr::Column);
        let own: Vec<(Column, Column)> = compared(&filter)?
            .into_iter()
            .map(|column| {
                let name = format!("__own_{}", self.given);
                self.given += 1;
                (column, Column::from_name(name))
            })
            .collect();
        let named = |(column, name): &(Column, Column)| {
            Expr::Column(column.clone()).alias(name.name.clone())
        };
        let input = LogicalPlanBuilder::new_from_arc(filter.input)
            .project(columns().chain(own.iter().map(named)))?;
        let mut conditions = Vec::new();
        for condition in split_conjunction(&filter.predicate) {
            conditions.push(if is_correlated(condition)? {
                renamed(condition.clone(), &own)?
            } else {
                condition.clone()
            });
        }
        let predicate = conditions.into_iter().reduce(Expr::and).unwrap_or(filter.predicate);
        input.filter(predicate)?.project(columns())?.build()
    }
}

fn renamed(condition: Expr, own: &[(Column, Column)]) -> Result<Expr> {
    let condition = condition.transform_up(|part| {
        let name = match &part {
            Expr::Column(column) => own.iter().find(|(other, _)| other == column),
            _ => None,
        };
        Ok(match name {
            Some((_, name)) => Transformed::yes(Expr::Column(name.clone())),
            None => Transformed::no(part),
        })
    })?;
    Ok(condition.data)
}

/// What a subquery has to do with names.
#[derive(Default)]
struct Seen {
    /// Its own columns that correlated conditions compare.
    compared: Vec<Column>,
    /// The columns of the nodes above such conditions.
    passed: Vec<Column>,
    /// The names of what projections there compute.
    made: Vec<String>,
}

impl Seen {
    /// Looks at a node and those below; whether one of them has a correlated condition.
    fn look_at(&mut self, node: &LogicalPlan) -> Result<bool> {
        let mut below = false;
        for input in node.inputs() {
            below |= self.look_at(input)?;
        }
        if let LogicalPlan::Filter(filter) = node {
            let compared = compared(filter)?;
            below |= !compared.is_empty();
            self.compared.extend(compared);
        } else if below {
            self.passed.extend(node.schema().columns());
            if let LogicalPlan::Projection(projection) = node {
                let made = projection.expr.iter().filter(|expr| !matches!(expr, Expr::Column(_)));
                self.made.extend(made.map(|expr| expr.schema_name().to_string()));
            }
        }
        Ok(below)
    }

    /// Whether a column that is compared has the name of another one.
    fn are_alike(&self) -> bool {
        let is_made = |column: &Column| {
            self.made.iter().any(|name| *name == column.name || *name == column.flat_name())
        };
        if self.compared.iter().any(is_made) {
            return true;
        }
        let mut others = self.compared.iter().chain(&self.passed);
        others.any(|other| {
            self.compared.iter().any(|column| column.name == other.name && column != other)
        })
    }
}

/// The columns that a filter compares with those of the query outside.
fn compared(filter: &Filter) -> Result<Vec<Column>> {
    let mut columns: Vec<Column> = Vec::new();
    for condition in split_conjunction(&filter.predicate) {
        if is_correlated(condition)? {
            columns.extend(condition.column_refs().into_iter().cloned());
        }
    }
    // The names that they get must not depend on the order of a hash table.
    columns.sort();
    columns.dedup();
    Ok(columns)
}
