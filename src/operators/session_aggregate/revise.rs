//! Brings what a session aggregate has put out to what its sessions have become.
//!
//! Sessions merge, grow and are cut anew, so no single session is followed. What was put out is
//! kept by bounds instead, and compared with what there is: bounds that are gone are taken back, new
//! ones are put out, and under equal bounds only the keys whose rows differ are replaced.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bounds, Published, SessionAggregate};
use crate::operators::early::refinement;
use crate::operators::emit::{EmitMode, Refinement};
use crate::operators::window_output::{Version, WindowColumns, difference, symmetric_difference};

/// Which sessions of a partition are put out besides those that have ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Early {
    /// None.
    Published,
    /// What the one that holds this time has of a key.
    At(i64, u32),
    /// All.
    All,
}

/// What changes about the sessions with the same bounds: rows before and rows after.
#[derive(Debug, Default)]
struct Revision {
    before: Vec<u64>,
    after: Vec<u64>,
    slots: Vec<usize>,
    /// Whether they end now, and each key's final row stands beside the early one, equal or not.
    ends: bool,
}

/// What is put out of a partition, by bounds and number of the key.
type Shown = BTreeMap<(Bounds, u32), Published>;

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
    ///
    /// What was put out early stays as it is until its session ends, its key is due, or no session
    /// holds its first row any more; what will be retracted, at most until the watermark comes to
    /// its end, below which nothing may be emitted.
    fn revise(&mut self, slot: usize, early: Early, revisions: &mut BTreeMap<Bounds, Revision>) {
        let stale = self.stale(slot);
        let new = self.shown_now(slot, early, &stale);
        let (window, watermark) = (&self.spec.window, self.watermark.0);
        let stands_beside = refinement(self.spec.emit.mode) == Refinement::Accumulating
            && self.output.gives_groups();
        let state = &mut self.partitions.entry_mut(slot).state;
        let sessions = &state.sessions;
        let stays = |&((_, start), key): &(Bounds, u32), published: &Published| {
            let Some(session) = sessions.holding(start) else { return false };
            if stale.contains(&(session.start(), key)) {
                return false;
            }
            let is_due = match early {
                Early::Published => false,
                Early::At(time, due) => {
                    key == due && session.start() <= time && time <= session.last()
                }
                Early::All => true,
            };
            !published.is_final && !is_due && session.end(window) > watermark
        };
        let (kept, mut old): (Shown, Shown) =
            std::mem::take(&mut state.published).into_iter().partition(|(n, p)| stays(n, p));
        state.published = kept;
        self.published_rows -= old.values().map(|published| published.rows.len()).sum::<usize>();
        self.published_rows += new.values().map(|published| published.rows.len()).sum::<usize>();
        let given = self.given(&old, &new);
        let state = &mut self.partitions.entry_mut(slot).state;
        for (name, after) in new {
            let before = old.remove(&name);
            let ends = stands_beside
                && after.is_final
                && before.as_ref().is_some_and(|before| !before.is_final);
            let before = before.map(|published| published.rows).unwrap_or_default();
            if ends || before != after.rows {
                if let Some(sharing) = &mut self.sharing {
                    sharing.entry(name.0).or_default().insert(slot);
                }
                let revision = revisions.entry(name.0).or_default();
                revision.add(slot, before, after.rows.clone());
                revision.ends |= ends;
            }
            state.published.insert(name, after);
        }
        for ((bounds, _), before) in old {
            if let Some(sharing) = &mut self.sharing {
                leave(sharing, bounds, slot);
            }
            revisions.entry(bounds).or_default().add(slot, before.rows, Vec::new());
        }
        self.keep_given(slot, &given);
        self.let_go(slot);
    }

    /// The rows that were put out, are not put out now, and must not be put out again.
    fn given(&self, old: &Shown, new: &Shown) -> BTreeSet<u64> {
        if refinement(self.spec.emit.mode) != Refinement::Discarding {
            return BTreeSet::new();
        }
        let rows = |shown: &Shown| -> BTreeSet<u64> {
            shown.values().flat_map(|published| &published.rows).copied().collect()
        };
        &rows(old) - &rows(new)
    }

    /// Takes rows as an early result of what their sessions have become: an ended session that a late row
    /// has merged with an open one has given its rows.
    fn keep_given(&mut self, slot: usize, given: &BTreeSet<u64>) {
        if given.is_empty() {
            return;
        }
        let state = &self.partitions.entry(slot).state;
        let mut kept = Vec::new();
        for session in state.sessions.all() {
            let mut rows = session.row_numbers();
            rows.retain(|row| given.contains(row));
            let bounds = (session.end(&self.spec.window), session.start());
            for (key, rows) in self.output.split(rows).into_iter().filter(|(_, r)| !r.is_empty()) {
                kept.push(((bounds, key), rows));
            }
        }
        self.published_rows += kept.iter().map(|(_, rows)| rows.len()).sum::<usize>();
        let published = &mut self.partitions.entry_mut(slot).state.published;
        for (name, rows) in kept {
            let nothing = || Published { rows: Vec::new(), is_final: false };
            let early = published.entry(name).or_insert_with(nothing);
            early.rows.extend(rows);
            early.rows.sort_unstable();
        }
    }

    /// Early results to be retracted whose bounds the watermark has passed: session and key.
    fn stale(&self, slot: usize) -> BTreeSet<(i64, u32)> {
        if !self.retracts_early() {
            return BTreeSet::new();
        }
        let state = &self.partitions.entry(slot).state;
        let passed = state.published.iter().take_while(|((b, _), _)| b.0 <= self.watermark.0);
        let early = passed.filter(|(_, published)| !published.is_final);
        let open = early.filter_map(|(&((_, start), key), _)| {
            state.sessions.holding(start).map(|session| (session.start(), key))
        });
        open.collect()
    }

    /// Whether early results are put out, and taken back later.
    pub(super) fn retracts_early(&self) -> bool {
        let mode = self.spec.emit.mode;
        mode != EmitMode::OnClose && refinement(mode) == Refinement::Retracting
    }

    /// What of a partition is to be put out.
    fn shown_now(&self, slot: usize, early: Early, stale: &BTreeSet<(i64, u32)>) -> Shown {
        let (window, watermark) = (&self.spec.window, self.watermark.0);
        let mut shown = BTreeMap::new();
        for session in self.partitions.entry(slot).state.sessions.all() {
            let (start, last, end) = (session.start(), session.last(), session.end(window));
            let is_final = end <= watermark;
            let due = match early {
                Early::At(time, key) if start <= time && time <= last => Some(key),
                Early::At(..) | Early::All | Early::Published => None,
            };
            let whole = is_final || matches!(early, Early::All);
            let is_stale = stale.range((start, 0)..=(start, u32::MAX)).next().is_some();
            if !whole && due.is_none() && !is_stale {
                continue;
            }
            for (key, rows) in self.output.split(session.row_numbers()) {
                if whole || due == Some(key) || stale.contains(&(start, key)) {
                    shown.insert(((end, start), key), Published { rows, is_final });
                }
            }
        }
        shown
    }

    /// Adds the rows that other partitions have put out under the same bounds.
    fn join_others(&self, bounds: Bounds, revision: &mut Revision) {
        let Some(slots) = self.sharing.as_ref().and_then(|sharing| sharing.get(&bounds)) else {
            return;
        };
        for slot in slots.iter().filter(|slot| !revision.slots.contains(slot)) {
            if let Some(shown) = self.partitions.entry(*slot).state.published.get(&(bounds, 0)) {
                revision.before.extend(&shown.rows);
                revision.after.extend(&shown.rows);
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
        let both = !self.ends && !self.before.is_empty() && !self.after.is_empty();
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
