//! Brings what a session aggregate has put out to what its sessions have become.
//!
//! Sessions merge, grow and are cut anew, so no single session is followed. What was put out is
//! kept by bounds instead, and compared with what there is: bounds that are gone are taken back, new
//! ones are put out, and under equal bounds only the keys whose rows differ are replaced.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bounds, SessionAggregate};
use crate::operators::early::refinement;
use crate::operators::emit::{EmitMode, Refinement};
use crate::operators::window_output::{Version, WindowColumns, difference, symmetric_difference};
use crate::windows::session::Session;

/// Which sessions of a partition are put out besides those that have ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Early {
    /// None but those that were put out before and have changed.
    Published,
    /// Also the one that holds this time.
    At(i64),
    /// All.
    All,
}

/// What changes about the sessions with the same bounds: rows before and rows after.
#[derive(Debug, Default)]
struct Revision {
    before: Vec<u64>,
    after: Vec<u64>,
    slots: Vec<usize>,
}

impl SessionAggregate {
    /// Brings what is put out of some partitions to what their sessions are now.
    pub(super) fn reconcile(&mut self, slots: &[usize], early: Early) {
        let mut revisions: BTreeMap<Bounds, Revision> = BTreeMap::new();
        for &slot in slots {
            self.revise(slot, early, &mut revisions);
        }
        let refinement = refinement(self.spec.emit.mode);
        let mut put_out: Vec<u64> = Vec::new();
        for (bounds, revision) in &mut revisions {
            self.join_others(*bounds, revision);
            revision.before.sort_unstable();
            revision.after.sort_unstable();
            put_out.extend(&revision.before);
        }
        put_out.sort_unstable();
        if refinement == Refinement::Retracting {
            for (&bounds, revision) in &revisions {
                let changed = revision.changed();
                self.output.retract(self.now, version(bounds, revision.before.clone()), changed);
            }
        }
        for (bounds, revision) in revisions {
            let changed = revision.changed();
            let rows = match refinement {
                Refinement::Discarding => difference(&revision.after, &put_out),
                Refinement::Retracting | Refinement::Accumulating => revision.after,
            };
            self.output.insert(self.now, version(bounds, rows), changed);
        }
    }

    /// Notes what of one partition differs from what was put out, and takes it as put out.
    fn revise(&mut self, slot: usize, early: Early, revisions: &mut BTreeMap<Bounds, Revision>) {
        let window = &self.spec.window;
        let watermark = self.watermark.0;
        let may_be_early = self.spec.emit.mode != EmitMode::OnClose;
        let state = &mut self.partitions.entry_mut(slot).state;
        let old = &state.published;
        let visible = |session: &&Session| {
            let (start, last) = (session.start(), session.last());
            let put_out_before =
                || may_be_early && old.keys().any(|&(_, first)| start <= first && first <= last);
            session.end(window) <= watermark
                || match early {
                    Early::Published => put_out_before(),
                    Early::At(time) => (start <= time && time <= last) || put_out_before(),
                    Early::All => true,
                }
        };
        let new: BTreeMap<Bounds, Vec<u64>> = (state.sessions.all().iter())
            .filter(visible)
            .map(|session| ((session.end(window), session.start()), session.row_numbers()))
            .collect();
        let mut old = std::mem::take(&mut state.published);
        self.published_rows -= old.values().map(Vec::len).sum::<usize>();
        self.published_rows += new.values().map(Vec::len).sum::<usize>();
        for (&bounds, after) in &new {
            let before = old.remove(&bounds).unwrap_or_default();
            if before != *after {
                if let Some(sharing) = &mut self.sharing {
                    sharing.entry(bounds).or_default().insert(slot);
                }
                revisions.entry(bounds).or_default().add(slot, before, after.clone());
            }
        }
        for (bounds, before) in old {
            if let Some(sharing) = &mut self.sharing {
                leave(sharing, bounds, slot);
            }
            revisions.entry(bounds).or_default().add(slot, before, Vec::new());
        }
        self.partitions.entry_mut(slot).state.published = new;
    }

    /// Adds the rows that other partitions have put out under the same bounds.
    fn join_others(&self, bounds: Bounds, revision: &mut Revision) {
        let Some(slots) = self.sharing.as_ref().and_then(|sharing| sharing.get(&bounds)) else {
            return;
        };
        for slot in slots.iter().filter(|slot| !revision.slots.contains(slot)) {
            if let Some(rows) = self.partitions.entry(*slot).state.published.get(&bounds) {
                revision.before.extend(rows);
                revision.after.extend(rows);
            }
        }
    }
}

impl Revision {
    fn add(&mut self, slot: usize, before: Vec<u64>, after: Vec<u64>) {
        self.before.extend(before);
        self.after.extend(after);
        self.slots.push(slot);
    }

    /// The rows that make the difference, where there is a before and an after to tell apart.
    fn changed(&self) -> Option<Vec<u64>> {
        let both = !self.before.is_empty() && !self.after.is_empty();
        both.then(|| symmetric_difference(&self.before, &self.after))
    }
}

fn version((end, start): Bounds, rows: Vec<u64>) -> Version {
    let columns = WindowColumns { start: Some(start), end: Some(end), ..WindowColumns::default() };
    Version { columns, rows }
}

pub(super) fn leave(sharing: &mut BTreeMap<Bounds, BTreeSet<usize>>, bounds: Bounds, slot: usize) {
    if let Some(slots) = sharing.get_mut(&bounds) {
        slots.remove(&slot);
        if slots.is_empty() {
            sharing.remove(&bounds);
        }
    }
}
