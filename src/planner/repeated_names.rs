//! Lets the columns of a one-off SELECT share names, as PostgreSQL does and DataFusion does not.
//!
//! `SELECT n, n` and `SELECT max(n), max(n)` are planned with names of our own, and answered with
//! theirs. Names stay apart where something may refer to them: in CREATE, and below the outermost
//! SELECT. There a repeated name is an error.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Ident, Query, Select, SelectItem, SetExpr};

use crate::error::{Report, SqlState};
use crate::planner::error::{PlanError, from_datafusion};

/// The names that the answer has in place of the plan's.
#[derive(Debug, Default)]
pub struct AnswerNames(BTreeMap<String, Option<String>>);

/// Which columns get a name of our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rename {
    /// Those that repeat one before or have no name, so that ORDER BY still finds the others.
    Repeated,
    /// All that are written out.
    All,
}

/// The query with columns that have names of their own, and the names to answer with.
pub(super) fn tell_apart(query: &Query, rename: Rename) -> (Query, AnswerNames) {
    let mut query = query.clone();
    let mut names = AnswerNames::default();
    names.set_expr(&mut query.body, rename);
    (query, names)
}

/// An error of planning a query of which two columns are written out under one name, which DataFusion may find ambiguous.
pub(super) fn told(error: PlanError, query: &Query) -> PlanError {
    if error.code() != SqlState::AMBIGUOUS_COLUMN {
        return error;
    }
    let (_, names) = tell_apart(query, Rename::Repeated);
    match names.0.into_values().flatten().next() {
        Some(name) => PlanError::repeated(&name),
        None => error,
    }
}

impl AnswerNames {
    fn set_expr(&mut self, body: &mut SetExpr, rename: Rename) {
        match body {
            SetExpr::Select(select) => self.select(select, rename),
            SetExpr::Query(query) => self.set_expr(&mut query.body, rename),
            SetExpr::SetOperation { left, right, .. } => {
                self.set_expr(left, rename);
                self.set_expr(right, rename);
            }
            _ => {}
        }
    }

    fn select(&mut self, select: &mut Select, rename: Rename) {
        let beside_star = select.projection.iter().any(|item| {
            matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
        });
        let mut seen = BTreeSet::new();
        for item in &mut select.projection {
            let (expr, name, keeps) = match item {
                SelectItem::ExprWithAlias { expr, alias } => (expr, Some(fold(alias)), true),
                SelectItem::UnnamedExpr(expr) => {
                    let name = match &*expr {
                        SqlExpr::Identifier(name) => Some(fold(name)),
                        SqlExpr::CompoundIdentifier(names) => names.last().map(fold),
                        _ => None,
                    };
                    (expr, name, !beside_star)
                }
                _ => continue,
            };
            let fresh = name.as_ref().is_some_and(|name| seen.insert(name.clone()));
            if fresh && keeps && rename == Rename::Repeated {
                continue;
            }
            let ours = format!("__answer_{}", self.0.len());
            self.0.insert(ours.clone(), name);
            let alias = Ident::with_quote('"', ours);
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
        }
    }

    /// Finds the names of columns that were written without one.
    pub(super) fn read(mut self, plan: &LogicalPlan) -> Result<AnswerNames, PlanError> {
        let walked = plan.apply(|node| {
            for expr in node.expressions() {
                let Expr::Alias(alias) = expr else { continue };
                if let Some(name) = self.0.get_mut(&alias.name)
                    && name.is_none()
                {
                    *name = Some(match *alias.expr {
                        Expr::Column(column) => column.name,
                        other => other.schema_name().to_string(),
                    });
                }
            }
            Ok(TreeNodeRecursion::Continue)
        });
        walked.map_err(from_datafusion)?;
        Ok(self)
    }

    /// The schema under the answer's names.
    pub fn rename(&self, schema: &SchemaRef) -> SchemaRef {
        if self.0.is_empty() {
            return SchemaRef::clone(schema);
        }
        let fields = schema.fields().iter().map(|field| match self.0.get(field.name()) {
            Some(Some(name)) => field.as_ref().clone().with_name(name),
            _ => field.as_ref().clone(),
        });
        SchemaRef::new(Schema::new_with_metadata(
            fields.collect::<Vec<_>>(),
            schema.metadata().clone(),
        ))
    }
}

fn fold(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() }
}
