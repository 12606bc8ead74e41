//! Lets a query begin a new epoch where the power took rows that it had answered to.
//!
//! Rows of a stream that is only `written`, and the changelogs that rest on nothing else, may lose their
//! ends, each as the disk happened to write it. A changelog that is left with answers to rows that are gone
//! is cut behind the last entry whose rows are all there; from there on it answers to what comes now.
//! Nothing else that is durable speaks of rows that are not: snapshots, swaps and durable changelogs
//! sync what is below them first.

use std::sync::Arc;

use crate::engine::create::{each_source, readable};
use crate::engine::registry::Registry;
use crate::error::{Error, Result, SqlState};
use crate::log::frame::{FrameKind, Position};
use crate::log::log::Log;
use crate::planner::physical::PhysicalPlan;
use crate::views::changelog::EntryMeta;

/// The first frame of a changelog behind `given` that answers to rows which are gone.
pub(super) fn first_orphan(
    registry: &Registry,
    plan: &PhysicalPlan,
    log: &Log,
    given: u64,
) -> Result<Option<u64>> {
    let ends = ends(registry, plan)?;
    let is_orphan = |meta: &[u8]| {
        let meta = EntryMeta::decode(meta);
        let meta =
            meta.ok_or_else(|| Error::new(SqlState::CORRUPT, "changelog entry has no frontier"))?;
        let places = meta.frontier.iter().zip(&ends);
        Ok::<_, Error>(places.into_iter().any(|(place, end)| place.frame > end.frame))
    };
    // Frontiers never go back: where the last one is covered, all are.
    match log.last_frame()? {
        Some(last) if last.index >= given && is_orphan(&last.meta)? => {}
        _ => return Ok(None),
    }
    let wanted = |kind| matches!(kind, FrameKind::Rows | FrameKind::Progress);
    for entry in log.summaries(wanted)?.iter().filter(|entry| entry.at.frame >= given) {
        if is_orphan(&entry.meta)? {
            return Ok(Some(entry.at.frame));
        }
    }
    Ok(None)
}

/// How far the inputs go now, in the order of the plan.
fn ends(registry: &Registry, plan: &PhysicalPlan) -> Result<Vec<Position>> {
    let mut logs: Vec<Result<Arc<Log>>> = Vec::new();
    each_source(plan, &mut |source| {
        logs.push(readable(registry, source).map(|(readable, _)| Arc::clone(readable.log())));
    });
    logs.into_iter().map(|log| log.map(|log| log.visible())).collect()
}
