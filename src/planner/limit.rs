//! Translates ORDER BY … LIMIT.

use std::sync::Arc;

use datafusion::logical_expr::expr::Sort as SortExpr;
use datafusion::logical_expr::{FetchType, Limit, LogicalPlan, SkipType, lit};

use crate::planner::error::{PlanError, from_datafusion};
use crate::planner::ranking::unnumber;
use crate::planner::translate::{Built, Translator};

impl Translator {
    /// ORDER BY … LIMIT, and LIMIT alone.
    pub(super) fn limit(&self, limit: &Limit, outermost: bool) -> Result<Built, PlanError> {
        let hint = "Write constant numbers.";
        let skip = match limit.get_skip_type().map_err(from_datafusion)? {
            SkipType::Literal(skip) => skip,
            SkipType::UnsupportedExpr => return Err(PlanError::unsupported("OFFSET", hint)),
        };
        let fetch = match limit.get_fetch_type().map_err(from_datafusion)? {
            FetchType::Literal(fetch) => fetch,
            FetchType::UnsupportedExpr => return Err(PlanError::unsupported("LIMIT", hint)),
        };
        match limit.input.as_ref() {
            LogicalPlan::Sort(sort) => {
                let built = self.build(&sort.input, outermost)?;
                let sorted = sort.fetch.map(|sorted| sorted.saturating_sub(skip));
                let fetch = fetch.into_iter().chain(sorted).min();
                self.first_rows(built, &sort.expr, skip, fetch)
            }
            input if carries_order(input) => {
                self.build(&swap(limit).map_err(from_datafusion)?, outermost)
            }
            input => {
                let built = self.build(input, outermost)?;
                self.first_rows(built, &[], skip, fetch)
            }
        }
    }

    /// ORDER BY with the LIMIT that the optimiser has put into it.
    pub(super) fn sort(
        &self,
        sort: &datafusion::logical_expr::Sort,
        outermost: bool,
    ) -> Result<Built, PlanError> {
        let Some(fetch) = sort.fetch else {
            return Err(PlanError::unsupported(
                "ORDER BY without LIMIT",
                "A result has no order of its own: order when you ask, SELECT … FROM query ORDER BY …, \
                 or add LIMIT n to keep the first n rows.",
            ));
        };
        let built = self.build(&sort.input, outermost)?;
        self.first_rows(built, &sort.expr, 0, Some(fetch))
    }

    fn first_rows(
        &self,
        built: Built,
        sorts: &[SortExpr],
        skip: usize,
        fetch: Option<usize>,
    ) -> Result<Built, PlanError> {
        let built = self.materialize(built)?;
        if fetch == Some(0) {
            return self.filter(built, &lit(false));
        }
        let schema = Arc::clone(&built.schema);
        let (mut plan, slots) = self.rank(built, &[], sorts, (skip, fetch))?;
        unnumber(&mut plan);
        Ok(Built { plan, schema, slots, pending: None })
    }
}

/// Whether the rows come in the order of a Sort, which the optimiser has left below a projection.
pub(super) fn carries_order(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Projection(projection) => carries_order(&projection.input),
        LogicalPlan::SubqueryAlias(alias) => carries_order(&alias.input),
        _ => false,
    }
}

/// The projection of the limited rows, in place of the limit of the projected ones.
pub(super) fn swap(limit: &Limit) -> datafusion::common::Result<LogicalPlan> {
    let inputs = limit.input.inputs().into_iter().map(|input| {
        let (skip, fetch) = (limit.skip.clone(), limit.fetch.clone());
        LogicalPlan::Limit(Limit { skip, fetch, input: Arc::new(input.clone()) })
    });
    let inputs = inputs.collect();
    limit.input.with_new_exprs(limit.input.expressions(), inputs)
}
