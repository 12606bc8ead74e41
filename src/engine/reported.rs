//! Remembers which rows of a query were reported, so that a replay reports nothing twice.
//!
//! Rows are not refused in the order of their offsets: an operator may hold a row back and fail on it
//! after a later one failed further down. So it is not enough to know the last one.

use std::collections::{BTreeMap, BTreeSet};

/// A code: five letters.
type Code = [u8; 5];

/// Rows remembered per query and relation. Of more than these the oldest count as reported.
const ROWS_MAX: usize = 1 << 18;

/// What was reported of all queries.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// By query and relation.
    rows: BTreeMap<(String, String), Rows>,
}

/// The rows of a query and a relation.
#[derive(Debug, Default)]
struct Rows {
    /// All rows below this offset are reported.
    floor: u64,
    /// Offset and code of those above.
    seen: BTreeSet<(u64, Code)>,
}

impl Reported {
    /// Notes a row; whether it is new. A row may be reported with several codes, once with each.
    pub(super) fn note(&mut self, query: &str, relation: &str, offset: u64, code: &str) -> bool {
        let mut letters = Code::default();
        letters.iter_mut().zip(code.bytes()).for_each(|(letter, byte)| *letter = byte);
        let rows = self.rows.entry((query.into(), relation.into())).or_default();
        if offset < rows.floor || !rows.seen.insert((offset, letters)) {
            return false;
        }
        if rows.seen.len() > ROWS_MAX
            && let Some((oldest, _)) = rows.seen.pop_first()
        {
            rows.floor = oldest + 1;
        }
        true
    }

    /// Takes the note of a row back that could not be reported.
    pub(super) fn take_back(&mut self, query: &str, relation: &str, offset: u64, code: &str) {
        let mut letters = Code::default();
        letters.iter_mut().zip(code.bytes()).for_each(|(letter, byte)| *letter = byte);
        if let Some(rows) = self.rows.get_mut(&(query.into(), relation.into())) {
            rows.seen.remove(&(offset, letters));
        }
    }

    /// Forgets what a sink's target refused: one that is made anew by the same name reports everything.
    pub(super) fn forget_sink(&mut self, sink: &str) {
        self.rows.retain(|(_, relation), _| relation != sink);
    }

    /// Forgets a query: one that is made anew by the same name reports everything.
    pub(super) fn forget(&mut self, query: &str) {
        self.rows.retain(|(known, _), _| known != query);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_new_once_with_each_code_whatever_came_before() {
        let mut reported = Reported::default();
        let mut note = |query: &str, offset, code| reported.note(query, "s", offset, code);
        assert!(note("q", 7, "22003"));
        assert!(note("q", 3, "22003"), "a row before one that is known");
        assert!(note("q", 7, "WR009"));
        assert!(note("other", 7, "WR009"));
        assert!(!note("q", 7, "22003"));
        assert!(!note("q", 3, "22003"));
        reported.take_back("q", "s", 3, "22003");
        assert!(reported.note("q", "s", 3, "22003"), "it was not reported after all");
        reported.forget("q");
        assert!(reported.note("q", "s", 7, "WR009"));
        assert!(!reported.note("other", "s", 7, "WR009"));
        reported.forget_sink("s");
        assert!(reported.note("other", "s", 7, "WR009"));
    }

    #[test]
    fn of_very_many_rows_the_oldest_count_as_reported() {
        let mut reported = Reported::default();
        for offset in 0..=ROWS_MAX as u64 {
            assert!(reported.note("q", "s", 2 * offset, "WR009"));
        }
        assert!(!reported.note("q", "s", 0, "WR009"));
        assert!(reported.note("q", "s", 1, "WR009"));
    }
}
