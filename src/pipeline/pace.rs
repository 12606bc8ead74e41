//! Sets how many rows a query's steps take, so that others get their turn in time.
//!
//! Answers do not depend on it: a step ends at a frontier that is recorded, wherever that is.

use crate::pipeline::drive::QueryRun;

/// A step that takes longer (microseconds) is followed by smaller ones.
const STEP_TIME_MAX: i64 = 20_000;

impl QueryRun {
    /// Learns that a step of so many rows took so long, in microseconds: one that takes long is
    /// followed by a smaller one, a full one that is quick by a larger one.
    pub fn pace(&mut self, rows: u64, took: i64) {
        if took > STEP_TIME_MAX {
            self.step_rows = (self.step_rows / 2).max(1);
        } else if took < STEP_TIME_MAX / 4 && rows as usize >= self.step_rows {
            self.step_rows = self.step_rows.saturating_mul(2).min(self.step_rows_max);
        }
    }
}
