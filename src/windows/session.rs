//! Splits the rows of one partition into sessions: by the gap between them and by a longest duration.
//!
//! ```text
//!   gap = 5      a  b c        d e          a,b,c are one session [a, c+5); d and e the next.
//!   -------------+--+-+--------+-+------>   A row between c and d, less than 5 from both, bridges
//!                                           them: one session [a, e+5).
//! ```
//!
//! # Method
//! Sessions ascend by time and never share a time. A *chain* is a run of rows whose neighbours lie
//! less than `gap` apart. Without MAX a chain is a session. With MAX a chain is cut greedily from
//! its first row on: the row at `start + max` or later begins the next session. A new row changes
//! only the session it falls in, or, when it falls between two, the rest of its chain; what lies
//! before it in the chain keeps its cuts, because the cut is greedy.
//! A row behind the last one costs O(log sessions), one in the middle of a chain O(rows after it).
//!
//! # Invariants
//! 1. Within a session neighbours are less than `gap` apart and all rows less than `max` from the
//!    first.
//! 2. Neighbouring sessions are at least `gap` apart, or the second starts at least `max` after the
//!    start of the first.

use std::ops::Range;

use crate::windows::spec::SessionWindow;

/// Rows of one session, never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Event time and number of each row, ascending by both.
    pub rows: Vec<(i64, u64)>,
}

impl Session {
    /// Event time of the first row.
    pub fn start(&self) -> i64 {
        self.rows.first().expect("a session has a row").0
    }
    /// Event time of the last row.
    pub fn last(&self) -> i64 {
        self.rows.last().expect("a session has a row").0
    }
    /// Exclusive end: the last row plus the gap; stays at the end of time.
    pub fn end(&self, window: &SessionWindow) -> i64 {
        self.last().saturating_add(window.gap)
    }
    /// The numbers of the rows, ascending: their order in the log.
    pub fn row_numbers(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self.rows.iter().map(|&(_, row)| row).collect();
        numbers.sort_unstable();
        numbers
    }
}

/// The sessions of one partition, ascending by time.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    sessions: Vec<Session>,
}

/// Where a row goes.
struct Place {
    /// Sessions that it changes, merges or cuts anew.
    reach: Range<usize>,
    /// Whether it lies between the first and the last row of the one session in `reach`.
    inside: bool,
}

impl Sessions {
    /// Sessions that were [`all`](Self::all) there were.
    pub fn of(sessions: Vec<Session>) -> Sessions {
        Sessions { sessions }
    }

    /// All sessions, ascending.
    pub fn all(&self) -> &[Session] {
        &self.sessions
    }

    /// Positions of the sessions that a row at `time` would change, merge or cut anew.
    pub fn reach(&self, window: &SessionWindow, time: i64) -> Range<usize> {
        self.place(window, time).reach
    }

    /// Adds a row; answers with the positions of the sessions that stand where those of
    /// [`Sessions::reach`] stood.
    pub fn insert(&mut self, window: &SessionWindow, time: i64, row: u64) -> Range<usize> {
        let Place { reach, inside } = self.place(window, time);
        let begin = reach.start;
        let in_place = reach.len() == 1 && (inside || self.sessions[begin].last() < time);
        if in_place {
            let rows = &mut self.sessions[begin].rows;
            let at = rows.partition_point(|&other| other < (time, row));
            rows.insert(at, (time, row));
            return reach;
        }
        let mut rows: Vec<(i64, u64)> =
            self.sessions.drain(reach).flat_map(|session| session.rows).collect();
        let at = rows.partition_point(|&other| other < (time, row));
        rows.insert(at, (time, row));
        let cut = cut_chain(window, rows);
        let end = begin + cut.len();
        self.sessions.splice(begin..begin, cut);
        begin..end
    }

    /// The session whose first row is not after `time` and whose last is not before it.
    pub fn holding(&self, time: i64) -> Option<&Session> {
        let right = self.sessions.partition_point(|session| session.start() <= time);
        let session = &self.sessions[right.checked_sub(1)?];
        (time <= session.last()).then_some(session)
    }

    /// Takes out a row; answers with the end that its session had, and the positions of the sessions
    /// that stand where it and the rest of its chain stood.
    pub fn remove(
        &mut self,
        window: &SessionWindow,
        time: i64,
        row: u64,
    ) -> (Option<i64>, Range<usize>) {
        let right = self.sessions.partition_point(|session| session.start() <= time);
        // Sessions never share a time, so the row is in this one or in none.
        let Some(begin) = right.checked_sub(1) else { return (None, 0..0) };
        let Ok(at) = self.sessions[begin].rows.binary_search(&(time, row)) else {
            return (None, begin..begin);
        };
        let before = self.sessions[begin].end(window);
        let mut end = begin + 1;
        while end < self.sessions.len()
            && near(window, self.sessions[end - 1].last(), self.sessions[end].start())
        {
            end += 1;
        }
        let mut rows: Vec<(i64, u64)> =
            self.sessions.drain(begin..end).flat_map(|session| session.rows).collect();
        rows.remove(at);
        let mut cut: Vec<Session> = Vec::new();
        for chain in rows.chunk_by(|a, b| near(window, a.0, b.0)) {
            cut.extend(cut_chain(window, chain.to_vec()));
        }
        let end = begin + cut.len();
        self.sessions.splice(begin..begin, cut);
        (Some(before), begin..end)
    }

    /// Takes out the sessions, from the earliest on, whose end is at or below `time`.
    pub fn take_ended(&mut self, window: &SessionWindow, time: i64) -> Vec<Session> {
        let ended = self.sessions.partition_point(|session| session.end(window) <= time);
        self.sessions.drain(..ended).collect()
    }

    /// Bytes held.
    pub fn state_bytes(&self) -> usize {
        let rows: usize = self.sessions.iter().map(|session| session.rows.capacity()).sum();
        rows * size_of::<(i64, u64)>() + self.sessions.capacity() * size_of::<Session>()
    }

    fn place(&self, window: &SessionWindow, time: i64) -> Place {
        let right = self.sessions.partition_point(|session| session.start() <= time);
        let left = right.checked_sub(1).map(|index| &self.sessions[index]);
        if left.is_some_and(|session| time <= session.last()) {
            return Place { reach: right - 1..right, inside: true };
        }
        let joins_left = left.is_some_and(|session| {
            near(window, session.last(), time) && !too_long(window, session.start(), time)
        });
        let begin = if joins_left { right - 1 } else { right };
        let mut end = right;
        let mut last = time;
        while end < self.sessions.len() && near(window, last, self.sessions[end].start()) {
            last = self.sessions[end].last();
            end += 1;
        }
        Place { reach: begin..end, inside: false }
    }
}

/// Whether two times, the first not after the second, belong to one chain. Distances beyond the
/// range of an `i64` saturate, and no gap is greater than that.
fn near(window: &SessionWindow, earlier: i64, later: i64) -> bool {
    later.saturating_sub(earlier) < window.gap
}

/// Whether a row at `time` lies too far behind the session's first row.
fn too_long(window: &SessionWindow, start: i64, time: i64) -> bool {
    window.max.is_some_and(|max| time.saturating_sub(start) >= max)
}

/// Cuts the rows of a chain, ascending, into sessions no longer than MAX.
fn cut_chain(window: &SessionWindow, rows: Vec<(i64, u64)>) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::with_capacity(1);
    for (time, row) in rows {
        match sessions.last_mut() {
            Some(session) if !too_long(window, session.start(), time) => {
                session.rows.push((time, row));
            }
            _ => sessions.push(Session { rows: vec![(time, row)] }),
        }
    }
    sessions
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(gap: i64, max: Option<i64>, times: &[i64]) -> Vec<(i64, i64, usize)> {
        let window = SessionWindow { gap, max };
        let mut sessions = Sessions::default();
        for (row, &time) in times.iter().enumerate() {
            let reach = sessions.reach(&window, time);
            let untouched_before = sessions.all()[..reach.start].to_vec();
            let untouched_after = sessions.all()[reach.end..].to_vec();
            let changed = sessions.insert(&window, time, row as u64);
            assert_eq!(sessions.all()[..changed.start], untouched_before);
            assert_eq!(sessions.all()[changed.end..], untouched_after);
        }
        let all = sessions.all().iter();
        all.map(|session| (session.start(), session.end(&window), session.rows.len())).collect()
    }

    /// The definition, word by word, over all rows in order.
    fn oracle(gap: i64, max: Option<i64>, times: &[i64]) -> Vec<(i64, i64, usize)> {
        let mut sorted: Vec<i128> = times.iter().map(|&t| i128::from(t)).collect();
        sorted.sort_unstable();
        let mut sessions: Vec<Vec<i128>> = Vec::new();
        for time in sorted {
            let joins = sessions.last().is_some_and(|session| {
                time - session[session.len() - 1] < i128::from(gap)
                    && max.is_none_or(|max| time - session[0] < i128::from(max))
            });
            if joins {
                sessions.last_mut().expect("just seen").push(time);
            } else {
                sessions.push(vec![time]);
            }
        }
        let clamp = |t: i128| i64::try_from(t).unwrap_or(i64::MAX);
        let bounds =
            |s: &Vec<i128>| (clamp(s[0]), clamp(s[s.len() - 1] + i128::from(gap)), s.len());
        sessions.iter().map(bounds).collect()
    }

    #[test]
    fn a_row_at_a_distance_of_exactly_the_gap_starts_a_new_session() {
        assert_eq!(check(5, None, &[0, 4, 9]), [(0, 9, 2), (9, 14, 1)]);
        assert_eq!(check(5, None, &[9, 4]), [(4, 9, 1), (9, 14, 1)]);
    }

    #[test]
    fn a_row_between_two_sessions_bridges_them() {
        assert_eq!(check(5, None, &[0, 8, 4]), [(0, 13, 3)]);
    }

    #[test]
    fn the_row_at_start_plus_max_begins_the_next_session() {
        assert_eq!(check(5, Some(10), &[0, 4, 8, 10, 14]), [(0, 13, 3), (10, 19, 2)]);
    }

    #[test]
    fn an_earlier_row_moves_every_cut_of_its_chain() {
        assert_eq!(check(5, Some(6), &[4, 8, 10, 13]), [(4, 13, 2), (10, 18, 2)]);
        assert_eq!(check(5, Some(6), &[4, 8, 10, 13, 0]), [(0, 9, 2), (8, 18, 3)]);
    }

    #[test]
    fn the_two_ends_of_time_are_far_apart() {
        let far = check(i64::MAX, Some(i64::MAX), &[i64::MIN, i64::MAX, 0]);
        assert_eq!(far, oracle(i64::MAX, Some(i64::MAX), &[i64::MIN, i64::MAX, 0]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn rows_that_are_taken_back_leave_the_sessions_of_the_others(
            times in prop::collection::vec(-40i64..40, 0..40),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
            gap in 1i64..8,
            max in prop::option::of(1i64..20),
        ) {
            let window = SessionWindow { gap, max };
            let mut sessions = Sessions::default();
            for (row, &time) in times.iter().enumerate() {
                sessions.insert(&window, time, row as u64);
            }
            let mut left: Vec<(usize, i64)> = times.iter().copied().enumerate().collect();
            for index in gone {
                if left.is_empty() { break; }
                let (row, time) = left.remove(index.index(left.len()));
                prop_assert!(sessions.remove(&window, time, row as u64).0.is_some());
                prop_assert_eq!(sessions.remove(&window, time, row as u64).0, None);
            }
            let all = sessions.all().iter();
            let found: Vec<_> =
                all.map(|s| (s.start(), s.end(&window), s.rows.len())).collect();
            let times: Vec<i64> = left.iter().map(|row| row.1).collect();
            prop_assert_eq!(found, oracle(gap, max, &times));
        }

        #[test]
        fn the_order_of_arrival_does_not_matter(
            times in prop::collection::vec(-40i64..40, 0..40),
            gap in 1i64..8,
            max in prop::option::of(1i64..20),
        ) {
            prop_assert_eq!(check(gap, max, &times), oracle(gap, max, &times));
        }
    }
}
