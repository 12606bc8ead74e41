//! Puts out early results of windows that are being filled.

use std::collections::BTreeSet;

use super::CountWindow;
use crate::operators::window_output::{Version, WindowColumns};
use crate::windows::count::FilledWindow;

impl CountWindow {
    /// Early results of the open windows that hold enough rows of the key of the row just counted.
    pub(super) fn put_out_every(&mut self, slot: usize, birth: u64, row: u64) {
        if !self.output.counts(row) {
            return;
        }
        let key = self.output.key_of(row);
        let counter = &self.partitions.entry(slot).state.counter;
        let open = counter.open_counts().filter(|&(_, rows)| rows > 0);
        let due: BTreeSet<u64> =
            open.map(|(id, _)| id).filter(|&id| self.early.count((birth, slot, id), key)).collect();
        if due.is_empty() {
            return;
        }
        for window in counter.open_windows().filter(|window| due.contains(&window.id)) {
            let name = (birth, slot, window.id);
            self.early.put_out((name, Some(key)), self.now, version(window), &mut self.output);
        }
    }

    /// Early results of all windows that have changed.
    pub(super) fn put_out_dirty(&mut self) {
        for (birth, slot) in std::mem::take(&mut self.early.dirty) {
            let Some(entry) = self.partitions.get_born(slot, birth) else { continue };
            for window in entry.state.counter.open_windows() {
                let name = (birth, slot, window.id);
                self.early.put_out((name, None), self.now, version(window), &mut self.output);
            }
        }
    }
}

/// What is put out of a window.
pub(super) fn version(window: FilledWindow) -> Version {
    let columns = WindowColumns {
        id: i64::try_from(window.id).ok(),
        start: window.start,
        end: window.end,
        reason: None,
    };
    Version { columns, rows: window.rows }
}
