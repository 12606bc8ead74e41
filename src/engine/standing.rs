//! Answers SELECT with what a query's GROUP BY shows, without summing up the changelog.
//!
//! The groups are copied between two steps, while the changelog ends where they stand; they become rows
//! outside. Filters and projections above the GROUP BY run again over these rows: they say of a row
//! what they said when it was emitted, unless they ask for the time.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::data::change::{Change, Origin};
use crate::engine::query::QueryState;
use crate::error::Result;
use crate::log::frame::Position;
use crate::operators::filter_project::{FilterProject, FilterProjectSpec};
use crate::operators::operator::{Emitter, EvalError, Operator, Output};
use crate::planner::physical::{Node, PhysicalPlan};
use crate::views::result_view::Standing;

/// Groups from which on it is worth it.
const GROUPS_MANY: usize = 10_000;

impl Standing for QueryState {
    fn standing(&self) -> Result<Option<(Vec<RecordBatch>, Position)>> {
        let (above, current, position) = {
            let mut guard = self.run.lock();
            // A swap puts another plan and its operators there together, under this lock.
            let Some(above) = above_groups(&self.shape().plan) else { return Ok(None) };
            while guard.as_ref().is_some_and(|run| run.replaying()) {
                // Until then the groups are behind the changelog.
                if !self.is_running() {
                    return Ok(None);
                }
                self.crew.wait(&self.replayed, &mut guard);
            }
            let Some(run) = guard.as_ref() else { return Ok(None) };
            if self.changelog.log().visible().offset < GROUPS_MANY as u64 {
                return Ok(None);
            }
            let Some(current) = run.graph.current(above.len())? else { return Ok(None) };
            (above, current, self.changelog.log().visible())
        };
        let mut batches = current()?;
        for spec in above.iter().rev() {
            batches = filtered(spec, batches)?;
        }
        Ok(Some((batches, position)))
    }
}

/// The filters and projections above a GROUP BY, the topmost first; `None` for another plan.
fn above_groups(mut plan: &PhysicalPlan) -> Option<Vec<Arc<FilterProjectSpec>>> {
    let mut above = Vec::new();
    loop {
        match &plan.node {
            Node::Aggregate(_) => return Some(above),
            Node::FilterProject(spec) if !spec.asks_for_time() => {
                above.push(Arc::clone(spec));
                plan = plan.inputs.first()?;
            }
            _ => return None,
        }
    }
}

/// What a filter and projection leaves of rows.
fn filtered(
    spec: &Arc<FilterProjectSpec>,
    batches: Vec<RecordBatch>,
) -> std::result::Result<Vec<RecordBatch>, EvalError> {
    let mut operator = FilterProject::new(Arc::clone(spec))?;
    let origin = Origin::nowhere();
    let mut rows = Vec::with_capacity(batches.len());
    for batch in batches {
        let mut out = Emitter::default();
        operator.on_change(0, Change::derived(batch, None, &origin), &mut out)?;
        rows.extend(out.outputs.into_iter().filter_map(|output| match output {
            Output::Change(change) => Some(change.batch),
            Output::Watermark(_) | Output::Punctuation(_) => None,
        }));
    }
    Ok(rows)
}
